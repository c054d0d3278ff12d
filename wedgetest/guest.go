package wedgetest

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// A recipe says how a guest is made from a directory of source.
type recipe struct {
	dirs []string // whose files decide what comes out
	argv func(out string) []string
	in   string // the command's working directory
	env  []string
}

// GoGuest returns the Wasm module of the Go program in dir.
func GoGuest(t testing.TB, dir string) []byte {
	t.Helper()
	Need(t, "go")
	return build(t, recipe{
		dirs: []string{dir, Root("sdk", "go")}, in: dir, env: []string{"GOOS=wasip1", "GOARCH=wasm", "GOFLAGS="},
		argv: func(out string) []string {
			return []string{"go", "build", "-tags", "nethttpomithttp2", "-ldflags", "-s -w", "-o", out, "."}
		},
	})
}

// JSGuest returns the Wasm module of the JavaScript program dir/index.js, made with the npm
// package @fastly/js-compute that the examples use.
func JSGuest(t testing.TB, dir string, flags ...string) []byte {
	t.Helper()
	Need(t, "node")
	found, _ := filepath.Glob(Root("examples", "*", "js", "node_modules", "@fastly", "js-compute"))
	if len(found) == 0 {
		Missing(t, "@fastly/js-compute is not installed (make js)")
	}
	sdk := found[0]
	tool := filepath.Join(sdk, "..", "..", ".bin", "js-compute-runtime")
	return build(t, recipe{
		dirs: []string{dir, filepath.Join(sdk, "package.json")}, in: dir,
		argv: func(out string) []string { return append(append([]string{tool}, flags...), "index.js", out) },
	})
}

// CGuest returns the Wasm module of the C program dir/main.c.
func CGuest(t testing.TB, dir string) []byte {
	t.Helper()
	Need(t, "clang")
	if sysroots, _ := filepath.Glob("/usr/include/wasm32-wasi*"); len(sysroots) == 0 && os.Getenv("WASI_SDK_PATH") == "" {
		Missing(t, "wasi-libc is not installed")
	}
	clang := "clang"
	if sdk := os.Getenv("WASI_SDK_PATH"); sdk != "" {
		clang = filepath.Join(sdk, "bin", "clang")
	}
	return build(t, recipe{
		dirs: []string{dir}, in: dir,
		argv: func(out string) []string { return []string{clang, "--target=wasm32-wasi", "-O2", "-o", out, "main.c"} },
	})
}

var (
	guestsMu sync.Mutex
	guests   = map[string][]byte{}
)

// build makes a guest, unless this process or one before it made the same one.
func build(t testing.TB, r recipe) []byte {
	t.Helper()
	guestsMu.Lock()
	defer guestsMu.Unlock()
	key, err := r.digest()
	if err != nil {
		t.Fatal(err)
	}
	if b := guests[key]; b != nil {
		return b
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	file := filepath.Join(cache, "wedge", "guests", key+".wasm")
	b, err := os.ReadFile(file)
	if err != nil {
		b = r.run(t, file)
	}
	guests[key] = b
	return b
}

// run executes the recipe; the file appears whole or not at all.
func (r recipe) run(t testing.TB, file string) []byte {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "guest.wasm")
	argv := r.argv(out)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = r.in
	cmd.Env = append(os.Environ(), r.env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the guest in %s: %v\n%s", r.in, err, text)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	part, err := os.CreateTemp(filepath.Dir(file), "part")
	if err == nil {
		_, err = part.Write(b)
		part.Close()
	}
	if err == nil {
		err = os.Rename(part.Name(), file)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// digest names what the recipe makes: by its command, by the tool's own version where that is
// this process's, and by every source file.
func (r recipe) digest() (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, r.argv("out"), r.env, runtime.Version())
	for _, dir := range r.dirs {
		err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name := d.Name()
			if d.IsDir() && file != dir && (name[0] == '.' || name == "testdata" || name == "node_modules" || name == "guesttest") {
				return fs.SkipDir
			}
			if d.IsDir() || strings.HasSuffix(name, "_test.go") {
				return nil
			}
			b, err := os.ReadFile(file)
			fmt.Fprintln(h, name, len(b))
			h.Write(b)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:16]), nil
}

// Root returns a path below the root of the repository.
func Root(path ...string) string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(append([]string{filepath.Dir(filepath.Dir(file))}, path...)...)
}

// Guest returns the directory of one of this package's own guests.
func Guest(name string) string { return Root("wedgetest", "testdata", "guests", name) }
