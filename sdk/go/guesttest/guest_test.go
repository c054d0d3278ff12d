package guesttest

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

// build compiles a guest and returns its bytes.
func build(t testing.TB, dir string) []byte {
	out := filepath.Join(t.TempDir(), "guest.wasm")
	cmd := exec.Command("go", "build", "-tags", "nethttpomithttp2", "-ldflags", "-s -w", "-o", out, dir)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", dir, err, text)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type rig struct {
	t    *testing.T
	code []byte
	conf wazero.RuntimeConfig
}

// run lets a fresh instance serve the host's request and returns what it wrote to stderr.
func (g *rig) run(h *host, args ...string) string {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r := wazero.NewRuntimeWithConfig(ctx, g.conf)
	defer r.Close(ctx)
	wasi_snapshot_preview1.MustInstantiate(ctx, r)
	m, err := r.CompileModule(ctx, g.code)
	if err != nil {
		g.t.Fatal(err)
	}
	h.instantiate(ctx, g.t, r, m)
	var stderr bytes.Buffer
	_, err = r.InstantiateModule(ctx, m, wazero.NewModuleConfig().WithStderr(&stderr).WithSysNanotime().
		WithSysWalltime().WithSysNanosleep().WithArgs(append([]string{"compute-app"}, args...)...))
	var exit *sys.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 0) {
		g.t.Fatalf("%v\n%s", err, stderr.String())
	}
	return stderr.String()
}

func request(method, target, body string) *http.Request {
	return httptest.NewRequest(method, target, strings.NewReader(body))
}

func origin(meet chan struct{}) func(*sent) *reply {
	return func(s *sent) *reply {
		_, path, _ := strings.Cut(s.uri, "origin.test")
		out := &reply{status: 200, header: http.Header{}}
		switch {
		case strings.HasPrefix(path, "/meet"):
			select { // both requests must be under way
			case meet <- struct{}{}:
			case <-meet:
			}
			out.body = newStream("", false)
			go func() {
				time.Sleep(3 * time.Millisecond)
				out.body.write([]byte(path))
				out.body.close(false)
			}()
		case path == "/never":
			select {}
		case path == "/slow":
			time.Sleep(60 * time.Millisecond)
			out.body = newStream("", true)
		case path == "/echo":
			kind := "whole:"
			if s.streamed {
				kind = "streamed:"
			}
			text := kind + s.body.all()
			out.body = newStream(text, true)
			out.header.Set("Content-Length", strconv.Itoa(len(text)))
		case path == "/chunks":
			out.body = newStream("", false)
			go func() {
				time.Sleep(30 * time.Millisecond) // the guest is gone by now
				out.body.write([]byte("late"))
				out.body.close(false)
			}()
		case path == "/fail":
			out.fail = 7
		}
		return out
	}
}

func TestGuest(t *testing.T) {
	g := &rig{t: t, code: build(t, "./guest"), conf: wazero.NewRuntimeConfig().WithCompilationCache(wazero.NewCompilationCache())}
	for _, c := range []struct {
		name, method, target, body string
		status                     int
		want                       string
		streamed                   bool
		check                      func(t *testing.T, h *host, a answer, stderr string)
	}{
		{name: "hello", target: "/hello", want: "Hello, edge!\n", check: func(t *testing.T, h *host, a answer, _ string) {
			if ct := a.header.Get("Content-Type"); ct != "text/plain; charset=utf-8" {
				t.Errorf("content type %q", ct)
			}
			if len(h.calls) > 10 {
				t.Errorf("%d hostcalls for a hello: %v", len(h.calls), h.calls)
			}
		}},
		{name: "request", method: "POST", target: "http://shop.test/request?a=b", body: "in", status: 201, want: "in", check: func(t *testing.T, _ *host, a answer, _ string) {
			if got := a.header.Get("X-Saw"); got != "POST shop.test /request a=b 192.0.2.7:0 false one 2 -1" {
				t.Errorf("the guest saw %q", got)
			}
		}},
		{name: "stream", target: "/stream", want: "part 0\npart 1\npart 2\n", streamed: true},
		{name: "long", target: "/long", want: strings.Repeat("x", 40<<10), streamed: true},
		{name: "two", target: "/two", want: "/meet?0/meet?1"},
		{name: "cancel", target: "/cancel", want: "true false"},
		{name: "timer", target: "/timer", want: "true"},
		{name: "upload", target: "/upload", want: "streamed:upupup whole:whole"},
		{name: "proxy", method: "POST", target: "/proxy", body: "body", want: "whole:body", streamed: true, check: func(t *testing.T, h *host, a answer, stderr string) {
			for _, name := range h.calls {
				if name == "read" {
					t.Error("the bytes went through the guest")
				}
			}
			if stderr != "copied 10\n" || a.header.Get("Content-Length") != "10" {
				t.Errorf("%q, length %q", stderr, a.header.Get("Content-Length"))
			}
		}},
		{name: "forward", target: "/forward", want: "late"},
		{name: "reverse", method: "POST", target: "/reverse", body: "up", want: "streamed:up"},
		{name: "failure", target: "/failure", want: `true Get "http://origin.test/fail": fetch from backend origin: connection refused`},
		{name: "panic", target: "/panic", status: 500, check: func(t *testing.T, _ *host, _ answer, stderr string) {
			if !strings.Contains(stderr, "panic serving GET /panic: oops") || !strings.Contains(stderr, "main.go") {
				t.Errorf("stderr %q", stderr)
			}
		}},
		{name: "hints", target: "/hints", want: "done", check: func(t *testing.T, h *host, a answer, _ string) {
			if len(h.hints) != 1 || h.hints[0].Get("Link") == "" || a.header.Get("Link") != "" {
				t.Errorf("hints %v, header %v", h.hints, a.header)
			}
		}},
		{name: "trailers", target: "/trailers", want: "body", check: func(t *testing.T, _ *host, a answer, _ string) {
			if a.body.trailer.Get("X-Sum") != "42" || a.body.trailer.Get("X-Late") != "yes" || a.header.Get("X-Sum") != "" {
				t.Errorf("trailers %v, header %v", a.body.trailer, a.header)
			}
		}},
		{name: "kv", target: "/kv", want: "true value meta 101 true true key k1 key k2 key after azI="},
		{name: "none", target: "/none", status: 204},
		{name: "head", method: "HEAD", target: "/hello", check: func(t *testing.T, _ *host, a answer, _ string) {
			if n := a.header.Get("Content-Length"); n != "13" {
				t.Errorf("content length %q", n)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.method == "" {
				c.method = "GET"
			}
			g := &rig{t: t, code: g.code, conf: g.conf}
			h := &host{req: request(c.method, c.target, c.body), origin: origin(make(chan struct{})), kv: map[string]*entry{}}
			if c.name == "request" {
				h.req.Header = http.Header{"X-Two": {"one", "two"}, "X-A": {"1"}, "X-B": {"2"}, "X-C": {"3"}}
			}
			stderr := g.run(h)
			if len(h.answers) != 1 {
				t.Fatalf("%d answers; calls %v", len(h.answers), h.calls)
			}
			a := h.answers[0]
			if want := max(c.status, 200); a.status != want || a.streamed != c.streamed {
				t.Errorf("status %d, streamed %v; want %d, %v\n%s", a.status, a.streamed, want, c.streamed, stderr)
			}
			if got := a.body.all(); got != c.want {
				t.Errorf("body %q, want %q\n%s", got, c.want, stderr)
			}
			if c.check != nil {
				c.check(t, h, a, stderr)
			}
		})
	}
	t.Run("many", func(t *testing.T) {
		h := &host{req: request("GET", "/hello", ""), more: []*http.Request{request("GET", "/stream", ""), request("GET", "/hello", "")}}
		g := &rig{t: t, code: g.code, conf: g.conf}
		g.run(h, "many")
		if len(h.answers) != 3 {
			t.Errorf("%d answers", len(h.answers))
		}
	})
}

func TestLean(t *testing.T) {
	g := &rig{t: t, code: build(t, "./lean"), conf: wazero.NewRuntimeConfig().WithCompilationCache(wazero.NewCompilationCache())}
	for _, c := range []struct {
		target, want string
		status       int
		streamed     bool
	}{
		{"/hello", "Hello /hello", 200, false},
		{"/fetch?x=1", "x=1 whole:in", 201, true},
		{"/forward", "late", 200, false},
	} {
		h := &host{req: request("POST", c.target, "in"), origin: origin(nil)}
		(&rig{t: t, code: g.code, conf: g.conf}).run(h)
		if len(h.answers) != 1 {
			t.Fatalf("%s: %d answers", c.target, len(h.answers))
		}
		if a := h.answers[0]; a.status != c.status || a.streamed != c.streamed || a.body.all() != c.want {
			t.Errorf("%s: status %d, streamed %v", c.target, a.status, a.streamed)
		}
	}
}
