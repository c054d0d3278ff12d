package wasm_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/wedge-cloud/wedge/wasm"
)

const goProgram = `package main

import (
	"os"
	"strings"
)

type shape interface{ area() int }
type square int

func (s square) area() int { return int(s * s) }

func main() {
	m := map[string]int{}
	for i, w := range strings.Fields("the quick brown fox jumps over the lazy dog") {
		m[w] += i
	}
	sum := 0
	for w, i := range m {
		sum += len(w) * i
	}
	var s shape = square(7)
	done := make(chan int)
	go func() { done <- s.area() }()
	sum += <-done + int(make([]byte, 1<<20)[4])
	out := []byte{}
	for i := range 40 {
		out = append(out, byte('a'+(sum>>(i%8)+i)%26))
	}
	os.Stdout.WriteString(string(out) + "\n")
	defer func() {
		if recover() != nil {
			os.Stdout.WriteString("recovered\n")
		}
	}()
	var none []int
	_ = none[sum]
}
`

// TestRealProgram splits what the Go toolchain makes of a program: tens of thousands of data
// segments, thousands of functions. CI sets WEDGE_TOOLCHAINS, and then it must be there.
func TestRealProgram(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles a program")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(goProgram), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "guest.wasm")
	cmd := exec.Command("go", "build", "-o", out, "main.go")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=", "GO111MODULE=off", "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		if os.Getenv("WEDGE_TOOLCHAINS") != "" {
			t.Fatalf("go build: %v\n%s", err, msg)
		}
		t.Skipf("go build: %v\n%s", err, msg)
	}
	src, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	p := mustSplit(t, src, wasm.Options{})
	if p.Unpooled != "" || p.Checks < 1000 {
		t.Errorf("Unpooled %q, %d checks", p.Unpooled, p.Checks)
	}
	var printed [2]string
	w := newWorld(t)
	for i := range printed { // as it is, then with every check calling in
		w.stdout.Reset()
		mod := w.split(p)
		if i == 1 {
			ring(mod)
		}
		_ = w.run(p, mod) // proc_exit
		printed[i] = w.stdout.String()
	}
	if w.checks == 0 {
		t.Error("no check called in")
	}
	w.stdout.Reset()
	mod, err := w.original(src)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = mod.ExportedFunction(wasm.EntryName).Call(t.Context())
	if got := w.stdout.String(); len(got) < 50 || got != printed[0] || got != printed[1] {
		t.Errorf("the original printed\n%s\nsplit\n%s\nwith checks calling in\n%s", got, printed[0], printed[1])
	}
}
