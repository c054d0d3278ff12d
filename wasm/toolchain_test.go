package wasm_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/wedge-cloud/wedge/wasm"
)

const goProgram = `package main

import (
	"fmt"
	"sort"
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
	keys := []string{}
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	var s shape = square(7)
	done := make(chan int)
	go func() { done <- s.area() }()
	defer func() { fmt.Println("recovered", recover() != nil) }()
	fmt.Println(keys, m, <-done, make([]byte, 1<<20)[4] == 0)
	var none []int
	_ = none[len(keys)]
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
	var printed [2]bytes.Buffer
	for i, rung := range []bool{false, true} {
		w := newWorld(t)
		mod := w.split(p)
		if rung {
			ring(mod)
			w.stopAfter = 0
		}
		_ = w.run(p, mod) // proc_exit
		printed[i] = w.stdout
		if rung && w.checks == 0 {
			t.Error("no check called in")
		}
	}
	w := newWorld(t)
	mod, err := w.original(src)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = mod.ExportedFunction(wasm.EntryName).Call(t.Context())
	if got := w.stdout.String(); len(got) < 100 || got != printed[0].String() || got != printed[1].String() {
		t.Errorf("the original printed\n%s\nsplit\n%s\nwith checks calling in\n%s", got, printed[0].String(), printed[1].String())
	}
}
