package main

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/wedge-cloud/wedge"
)

func TestParseRun(t *testing.T) {
	for _, c := range []struct {
		args string
		want runOptions // Addr "" stands for the default
		err  string
	}{
		{args: "", want: runOptions{Path: "."}},
		{args: "app", want: runOptions{Path: "app"}},
		{args: "app --watch --trace", want: runOptions{Path: "app", Watch: true, Trace: true}},
		{args: "-watch app -json", want: runOptions{Path: "app", Watch: true, JSON: true}},
		{args: "fastly.toml --once --ephemeral", want: runOptions{Path: "fastly.toml", Once: true, Ephemeral: true}},
		{args: "--data d --addr :0", want: runOptions{Path: ".", DataDir: "d", Addr: ":0"}},
		{args: "--cache-disk 512MiB", want: runOptions{Path: ".", CacheDisk: 512 << 20}},
		{args: "--cache-disk 0", want: runOptions{Path: ".", CacheDisk: -1}},
		{args: "--tls-addr [::1]:443 --cert c --key k", want: runOptions{Path: ".", TLSAddr: "[::1]:443", Cert: "c", Key: "k"}},
		{args: "--tls-addr :0 --cert c --key k --client-ca a --require-client-cert", want: runOptions{Path: ".", TLSAddr: ":0", Cert: "c", Key: "k", ClientCA: "a", NeedCert: true}},
		{args: "--client-ca a", err: "of no use without"},
		{args: "--tls-addr :0 --cert c --key k --require-client-cert", err: "needs --client-ca"},
		{args: "--addr :0 --tls-addr :0 --cert c --key k", want: runOptions{Path: ".", Addr: ":0", TLSAddr: ":0", Cert: "c", Key: "k"}},
		{args: "app.wasm", want: runOptions{Path: "app.wasm"}},
		{args: "--once app.wasm --addr x -- y", want: runOptions{Path: "app.wasm", Once: true, Args: []string{"--addr", "x", "--", "y"}}},
		{args: "-C fastly.toml prog.wasm a --b", want: runOptions{Manifest: "fastly.toml", Path: "prog.wasm", Args: []string{"a", "--b"}}},
		{args: "--once -C fastly.toml pkg.test -test.v -C x", want: runOptions{Manifest: "fastly.toml", Path: "pkg.test", Once: true, Args: []string{"-test.v", "-C", "x"}}},
		{args: "-C fastly.toml", want: runOptions{Manifest: "fastly.toml"}},
		{args: "app -- --a b", want: runOptions{Path: "app", Args: []string{"--a", "b"}}},
		{args: "app -- x.wasm", want: runOptions{Path: "app", Args: []string{"x.wasm"}}},
		{args: "-- x.wasm -- y", want: runOptions{Path: "x.wasm", Args: []string{"--", "y"}}},
		{args: "-- x", want: runOptions{Path: ".", Args: []string{"x"}}},
		{args: "--once -C fastly.toml -- deps/unit-1.wasm --exact a", want: runOptions{Manifest: "fastly.toml", Path: "deps/unit-1.wasm", Once: true, Args: []string{"--exact", "a"}}},
		{args: "-C fastly.toml -- --a b", want: runOptions{Manifest: "fastly.toml", Args: []string{"--a", "b"}}},

		{args: "--cache-disk much", err: "a size such as"},
		{args: "--cache-disk -1MiB", err: "a size such as"},
		{args: "a b", err: `unexpected argument "b"`},
		{args: "--nope", err: "not defined"},
		{args: "--addr 80", err: "--addr: \"80\" is not HOST:PORT"},
		{args: "--addr :70000", err: "not a port"},
		{args: "--addr :http", err: "not a port"},
		{args: "--tls-addr x", err: "--tls-addr"},
		{args: "--tls-addr :1", err: "needs --cert and --key"},
		{args: "--cert c", err: "go together"},
		{args: "--cert c --key k", err: "of no use"},
		{args: "--addr :1 --tls-addr :1 --cert c --key k", err: "the same"},
		{args: "--ephemeral --data d", err: "contradict"},
		{args: "--once --watch", err: "contradict"},
		{args: "--watch=perhaps", err: "invalid boolean"},
	} {
		got, err := parseRun(strings.Fields(c.args))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) || wedge.KindOf(err) != wedge.Invalid || wedge.HintOf(err) == "" {
				t.Errorf("%q: got %v, want %q", c.args, err, c.err)
			}
			continue
		}
		if c.want.Addr == "" {
			c.want.Addr = defaultAddr
		}
		if len(got.Args) == 0 {
			got.Args = nil
		}
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q:\ngot  %+v, %v\nwant %+v", c.args, got, err, c.want)
		}
	}
}

// TestRunLoad sees which guest, bindings and arguments the drop-in form has.
func TestRunLoad(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "fastly.toml")
	if err := os.WriteFile(file, []byte("name = \"x\"\nlanguage = \"go\"\nstray = 1\n[local_server.backends.b]\nurl = \"http://a.example\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	wasm := filepath.Join(dir, "prog.wasm")
	if err := os.WriteFile(wasm, []byte("\x00asm\x01\x00\x00\x00"), 0o644); err != nil {
		t.Fatal(err)
	}
	o, err := parseRun([]string{"-C", file, wasm, "a", "--b"})
	if err != nil {
		t.Fatal(err)
	}
	var talk bytes.Buffer
	app, err := o.prepare(t.Context(), &talk)
	if err != nil {
		t.Fatal(err)
	}
	v := app.Version
	if app.GuestPath != wasm || len(v.Guest) != 8 || len(v.Backends) != 1 || !reflect.DeepEqual(v.Args, []string{"compute-app", "a", "--b"}) {
		t.Errorf("got %+v", app)
	}
	if !strings.Contains(talk.String(), "wedge: warning: ") || strings.Contains(talk.String(), "building") {
		t.Errorf("talk %q", talk.String())
	}
}
