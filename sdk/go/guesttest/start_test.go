package guesttest

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// BenchmarkStart measures what a Go guest pays per request in a fresh instance: the run of
// _start including one answer, the pages of memory it changes, and its size.
//
//	go test -run - -bench Start
func BenchmarkStart(b *testing.B) {
	const examples = "../../../examples/"
	for _, g := range []struct {
		name, dir string
		req       func() *http.Request
	}{
		{"hello", examples + "hello/go", func() *http.Request { return request("GET", "/", "") }},
		{"lean", examples + "hello/lean", func() *http.Request { return request("GET", "/", "") }},
		{"markdown", examples + "markdown/go", func() *http.Request {
			return request("POST", "/render", strings.Repeat("# Hello\n\nSome *text* with a [link](https://edge.test).\n\n- one\n- two\n\n", 10))
		}},
	} {
		b.Run(g.name, func(b *testing.B) {
			ctx := context.Background()
			code := buildModule(b, g.dir)
			r := wazero.NewRuntime(ctx)
			defer r.Close(ctx)
			wasi_snapshot_preview1.MustInstantiate(ctx, r)
			m, err := r.CompileModule(ctx, code)
			if err != nil {
				b.Fatal(err)
			}
			h := &host{}
			h.instantiate(ctx, b, r, m)
			var dirty int
			for b.Loop() {
				b.StopTimer()
				*h = host{req: g.req()}
				mod, err := r.InstantiateModule(ctx, m, wazero.NewModuleConfig().WithName("").WithStartFunctions().
					WithSysNanotime().WithSysWalltime().WithArgs("compute-app"))
				if err != nil {
					b.Fatal(err)
				}
				before, _ := mod.Memory().Read(0, mod.Memory().Size())
				before = append([]byte(nil), before...)
				b.StartTimer()
				mod.ExportedFunction("_start").Call(ctx)
				b.StopTimer()
				after, _ := mod.Memory().Read(0, mod.Memory().Size())
				dirty = changed(before, after)
				mod.Close(ctx)
				if len(h.answers) != 1 || h.answers[0].status != 200 {
					b.Fatal("no good answer")
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(dirty), "pages")
			b.ReportMetric(float64(len(h.calls)), "hostcalls")
			b.ReportMetric(float64(len(code))/1e6, "MB")
		})
	}
}

// buildModule is build for a directory with a module of its own.
func buildModule(b *testing.B, dir string) []byte {
	out := filepath.Join(b.TempDir(), "guest.wasm")
	cmd := exec.Command("go", "build", "-tags", "nethttpomithttp2", "-ldflags", "-s -w", "-o", out, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if text, err := cmd.CombinedOutput(); err != nil {
		b.Skipf("build %s: %v\n%s", dir, err, text)
	}
	code, err := os.ReadFile(out)
	if err != nil {
		b.Fatal(err)
	}
	return code
}

// changed counts the 4 KiB pages of after that differ from before; new ones count if not zero.
func changed(before, after []byte) (n int) {
	const page = 4096
	var zero [page]byte
	for at := 0; at < len(after); at += page {
		old := zero[:]
		if at < len(before) {
			old = before[at : at+page]
		}
		if string(old) != string(after[at:at+page]) {
			n++
		}
	}
	return n
}
