package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/manifest"
	"github.com/wedge-cloud/wedge/node"
	"github.com/wedge-cloud/wedge/world"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"wedge": func() { os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs the transcripts in testdata. Besides the usual commands they have
//
//	exits CODE wedge ARGS...   which wants just that exit code
//	core                       which starts a core that wedge then speaks with, as its operator
//	world DIR...               which starts a world with these apps, without round-trip times, to which $CONTROL leads
//	token                      which has wedge use the token that was printed last
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata",
		Cmds:  map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "core": startCore, "world": startWorld, "token": useToken},
		Setup: goEnv,
		Condition: func(cond string) (bool, error) {
			return wasiLibc(), nil // the only condition of ours: [wasi-libc]
		},
		UpdateScripts: *update,
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARGS...")
	}
	code := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if want, _ := strconv.Atoi(args[0]); code != want {
		ts.Fatalf("exit code %d, want %d\n%s", code, want, ts.ReadFile("stderr"))
	}
}

func startCore(ts *testscript.TestScript, _ bool, _ []string) {
	c, err := node.OpenCore(context.Background(), node.CoreConfig{Dir: ts.MkAbs("core"), Log: slog.New(slog.DiscardHandler)})
	ts.Check(err)
	ts.Defer(c.Close)
	server := httptest.NewServer(c)
	ts.Defer(server.Close)
	ts.Setenv("WEDGE_API", server.URL)
	ts.Setenv("WEDGE_TOKEN", c.AdminToken())
	ts.Setenv("OPERATOR", c.AdminToken())
}

func startWorld(ts *testscript.TestScript, _ bool, dirs []string) {
	for i := range dirs {
		dirs[i] = ts.MkAbs(dirs[i])
	}
	apps, err := loadApps(context.Background(), io.Discard, dirs)
	ts.Check(err)
	w, err := world.Open(context.Background(), world.Config{Dir: ts.MkAbs("world"), Flat: true, Log: slog.New(slog.DiscardHandler), Node: func(wedge.PoP) node.Config {
		return node.Config{Load: func(context.Context) ([]*manifest.App, error) { return copies(apps), nil }, HTTP: []string{"127.0.0.1:0"}, Quiet: true, Log: slog.New(slog.DiscardHandler)}
	}})
	ts.Check(err)
	ts.Defer(w.Close)
	ts.Check(w.Start(context.Background()))
	mux := http.NewServeMux()
	mux.Handle("/world", w)
	mux.Handle("/v1/", w.Core())
	server := httptest.NewServer(mux)
	ts.Defer(server.Close)
	ts.Setenv("WEDGE_API", server.URL)
	ts.Setenv("WEDGE_TOKEN", w.Core().AdminToken())
	ts.Setenv("CONTROL", strings.TrimPrefix(server.URL, "http://"))
	all := len(w.Status())
	met := func() bool {
		pops, err := (&api.Client{URL: server.URL, Token: w.Core().AdminToken()}).PoPs(context.Background())
		for _, s := range w.Status() {
			if err != nil || len(pops) < all || len(w.Node(s.PoP.Name).PoPs()) < all {
				return false
			}
		}
		return true
	}
	for patience := time.Now().Add(10 * time.Second); !met(); time.Sleep(10 * time.Millisecond) { // they say that they are there once a second
		if time.Now().After(patience) {
			ts.Fatalf("the PoPs do not hear of each other")
		}
	}
}

func useToken(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Setenv("WEDGE_TOKEN", strings.TrimSpace(ts.ReadFile("stdout")))
}

// goEnv lets the go command work in a script: with the cache of this test's own and, so
// that nothing depends on the network, without a proxy.
func goEnv(env *testscript.Env) error {
	cache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		return nil // no go: the scripts that need it say so
	}
	env.Setenv("GOCACHE", string(cache[:len(cache)-1]))
	env.Setenv("GOPROXY", "off")
	env.Setenv("GOFLAGS", "-buildvcs=false")
	env.Setenv("WASI_SDK_PATH", os.Getenv("WASI_SDK_PATH"))
	return nil
}

// wasiLibc reports whether clang here can make WASI programs.
func wasiLibc() bool {
	dir, err := os.MkdirTemp("", "wedge")
	if err != nil {
		return false
	}
	defer os.RemoveAll(dir)
	src := filepath.Join(dir, "x.c")
	if err := os.WriteFile(src, []byte("#include <stdio.h>\nint main(void) { return 0; }\n"), 0o644); err != nil {
		return false
	}
	return exec.Command("clang", "--target=wasm32-wasi", "-o", filepath.Join(dir, "x.wasm"), src).Run() == nil
}

// TestExitCodesOfDoc sees that docs/cli.md gives each kind its exit code.
func TestExitCodesOfDoc(t *testing.T) {
	doc, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	for k := wedge.Internal; k.String() != wedge.Internal.String() || k == wedge.Internal; k++ {
		want := "| " + strconv.Itoa(k.ExitCode()) + " | " + k.String()
		if !bytes.Contains(doc, []byte(want)) {
			t.Errorf("docs/cli.md lacks %q", want)
		}
	}
}
