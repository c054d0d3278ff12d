package manifest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wedge-cloud/wedge"
)

// project writes an app of the given files and loads it.
func project(t *testing.T, files map[string]string) *App {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	app, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return app
}

func needShell(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the commands of this test are for a POSIX shell")
	}
}

// fakeTool puts a script before all else in PATH that logs its name and arguments, and
// then does what body says.
func fakeTool(t *testing.T, name, body string) {
	t.Helper()
	needShell(t)
	dir := t.TempDir()
	script := "#!/bin/sh\necho " + name + " \"$@\"\n" + body + "\n"
	if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
}

func TestBuildCommand(t *testing.T) {
	needShell(t)
	for _, c := range []struct {
		name, command string
		kind          wedge.Kind
		out, text     string // in the output, in the error; no text: no error
		hint          string
	}{
		{name: "good", command: "echo to stdout; echo to stderr >&2; echo x > .wedge/guest.wasm", out: "to stdout\nto stderr\n"},
		{name: "fails", command: "echo sorry; exit 3", kind: wedge.Invalid, out: "sorry\n", text: "exit status 3", hint: "messages are above"},
		{name: "makes nothing", command: "true", kind: wedge.NotExist, text: "made no", hint: "set guest"},
		{name: "no such tool", command: "no-such-tool-at-all", kind: wedge.Invalid, text: "exit status 127", hint: "did not find"},
		{name: "rust target", command: "echo 'the `wasm32-wasip1` target may not be installed'; exit 1", kind: wedge.Invalid, text: "exit status 1", hint: "rustup target add"},
	} {
		t.Run(c.name, func(t *testing.T) {
			app := project(t, map[string]string{"wedge.toml": `name = "x"` + "\nbuild = \"\"\"" + c.command + "\"\"\""})
			var out bytes.Buffer
			err := Build(t.Context(), app, &out)
			if !strings.Contains(out.String(), c.out) {
				t.Errorf("output %q", out.String())
			}
			if c.text == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.text) || wedge.KindOf(err) != c.kind || !strings.Contains(wedge.HintOf(err), c.hint) {
				t.Errorf("got %v (%v), hint %q", err, wedge.KindOf(err), wedge.HintOf(err))
			}
		})
	}
}

func TestBuildMissingTool(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("WASI_SDK_PATH", "")
	for lang, files := range map[string]map[string]string{
		"go": {}, "rust": {}, "js": {"src/index.js": "", "package.json": "{}"}, "c": {"main.c": ""},
	} {
		files["wedge.toml"] = `language = "` + lang + `"`
		err := Build(t.Context(), project(t, files), new(bytes.Buffer))
		if wedge.KindOf(err) != wedge.NotExist || !strings.Contains(wedge.HintOf(err), "Install") {
			t.Errorf("%s: got %v, hint %q", lang, err, wedge.HintOf(err))
		}
	}
}

// TestBuildDefaults sees which commands each language's default runs.
func TestBuildDefaults(t *testing.T) {
	t.Setenv("WASI_SDK_PATH", "")
	t.Setenv("CARGO_TARGET_DIR", "")
	fakeTool(t, "go", `echo $GOOS/$GOARCH; echo x > "$5"`)
	fakeTool(t, "npm", "mkdir node_modules")
	fakeTool(t, "npx", `for last; do :; done; echo x > "$last"`)
	fakeTool(t, "cargo", "mkdir -p target/wasm32-wasip1/release; cd target/wasm32-wasip1/release; echo x > my.wasm; echo y > other.wasm")
	fakeTool(t, "clang", `echo x > .wedge/guest.wasm`)
	for _, c := range []struct {
		files map[string]string
		want  string
	}{
		{map[string]string{"wedge.toml": `language = "go"`}, "go build -tags nethttpomithttp2 -o .wedge/guest.wasm .\nwasip1/wasm\n"},
		{map[string]string{"fastly.toml": `language = "go"`}, "go build -tags nethttpomithttp2 -o bin/main.wasm .\nwasip1/wasm\n"},
		{map[string]string{"wedge.toml": `language = "js"`, "src/index.js": "", "package.json": "{}"},
			"npm install --no-fund --no-audit\nnpx --no js-compute-runtime src/index.js .wedge/guest.wasm\n"},
		{map[string]string{"wedge.toml": `language = "js"`, "index.js": "", "package.json": "{}", "package-lock.json": "{}"},
			"npm ci --no-fund --no-audit\nnpx --no js-compute-runtime index.js .wedge/guest.wasm\n"},
		{map[string]string{"wedge.toml": `language = "js"`, "index.js": "", "package.json": "{}", "node_modules/x": ""},
			"npx --no js-compute-runtime index.js .wedge/guest.wasm\n"},
		{map[string]string{"wedge.toml": `language = "rust"`, "Cargo.toml": "[package]\nname = \"my\""}, "cargo build --target wasm32-wasip1 --release\n"},
		{map[string]string{"wedge.toml": `language = "c"`, "main.c": "", "src/more.c": ""},
			"clang --target=wasm32-wasi -O2 -o .wedge/guest.wasm main.c src/more.c\n"},
		{map[string]string{"fastly.toml": "language = \"javascript\"\n[scripts]\nbuild = \"echo $X; echo x > bin/main.wasm\"\nenv_vars = [\"X=y\"]", "package.json": "{}"},
			"npm install --no-fund --no-audit\ny\n"},
		{map[string]string{"wedge.toml": `guest = "x.wasm"`}, ""},
	} {
		app := project(t, c.files)
		var out bytes.Buffer
		if err := Build(t.Context(), app, &out); err != nil {
			t.Errorf("%v: %v", c.files, err)
		}
		if out.String() != c.want {
			t.Errorf("%v:\ngot  %q\nwant %q", c.files, out.String(), c.want)
		}
		if got, _ := os.ReadFile(app.GuestPath); !app.Build.none() && string(got) != "x\n" {
			t.Errorf("%v: guest is %q", c.files, got)
		}
	}
}

// TestBuildIsStopped ends a build that would hang, with the processes of its shell.
func TestBuildIsStopped(t *testing.T) {
	needShell(t)
	app := project(t, map[string]string{"wedge.toml": `build = "echo started; sleep 600 & wait"`})
	ctx, cancel := context.WithCancel(t.Context())
	out := &signalWriter{want: "started", found: cancel}
	start := time.Now()
	err := Build(ctx, app, out)
	if wedge.KindOf(err) != wedge.Unavailable || !strings.Contains(err.Error(), "stopped") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("took %v", took)
	}
}

type signalWriter struct {
	want  string
	found func()
}

func (w *signalWriter) Write(b []byte) (int, error) {
	if strings.Contains(string(b), w.want) {
		w.found()
	}
	return len(b), nil
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		o := &output{w: &out}
		stop := progress(t.Context(), o, "building shop")
		time.Sleep(17 * time.Second)
		o.Write([]byte("compiling"))
		time.Sleep(16 * time.Second)
		stop()
		want := "building shop ... 1s\nbuilding shop ... 2s\nbuilding shop ... 4s\nbuilding shop ... 8s\nbuilding shop ... 16s\ncompiling\nbuilding shop ... 32s\n"
		if out.String() != want {
			t.Errorf("got %q", out.String())
		}
	})
}

func TestStale(t *testing.T) {
	app := project(t, map[string]string{"wedge.toml": `language = "go"`, "main.go": "package main", "target/made": "x", "src/bin/tool.rs": ""})
	past := time.Now().Add(-time.Hour)
	date := func(at time.Time, names ...string) {
		for _, name := range names {
			if err := os.Chtimes(filepath.Join(app.Dir, name), at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	stale := func(want bool, when string) {
		t.Helper()
		if got, err := Stale(app); got != want || err != nil {
			t.Errorf("%s: stale = %v, %v", when, got, err)
		}
	}
	stale(true, "no guest")
	if err := os.MkdirAll(filepath.Dir(app.GuestPath), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(app.GuestPath, coreMagic, 0o644); err != nil {
		t.Fatal(err)
	}
	date(past, "wedge.toml", "main.go", "src/bin/tool.rs")
	stale(false, "guest is newest")
	date(past.Add(-time.Hour), ".wedge/guest.wasm")
	stale(true, "sources are newer")
	date(past.Add(-2*time.Hour), "wedge.toml", "main.go", "src/bin/tool.rs")
	stale(false, "only target is newer")
	date(past, "src/bin/tool.rs")
	stale(true, "a program's source is newer")
	app.Build = Recipe{}
	stale(false, "not built at all")
}

// TestBuildForReal compiles with the Go that runs this test.
func TestBuildForReal(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil || testing.Short() {
		t.Skip("needs go, and takes seconds")
	}
	app := project(t, map[string]string{
		"wedge.toml": `language = "go"`,
		"go.mod":     "module x\n\ngo 1.26\n",
		"main.go":    "package main\n\nfunc main() { println(1) }\n",
	})
	if err := Build(t.Context(), app, os.Stderr); err != nil {
		t.Fatal(err)
	}
	if _, err := app.ReadGuest(); err != nil {
		t.Error(err)
	}
	if stale, err := Stale(app); stale || err != nil {
		t.Errorf("stale at once: %v, %v", stale, err)
	}
}
