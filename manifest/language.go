package manifest

import (
	"errors"
	"os"
	"path/filepath"
	"sort"

	"github.com/BurntSushi/toml"

	"github.com/wedge-cloud/wedge"
)

// languages gives for each language the steps that build an app without a command of its own.
var languages = map[string]func(*App) ([]step, error){
	"go":   goSteps,
	"js":   jsSteps,
	"rust": rustSteps,
	"c":    cSteps,
}

// tools says how to get what a step runs.
var tools = map[string]string{
	"go":    "Install Go: https://go.dev/dl/",
	"npm":   "Install Node.js, which brings npm: https://nodejs.org/",
	"npx":   "Install Node.js, which brings npx: https://nodejs.org/",
	"cargo": "Install Rust: https://rustup.rs/ and then run: rustup target add wasm32-wasip1",
	"clang": "Install clang, lld and wasi-libc (Debian: apt install clang lld wasi-libc libclang-rt-dev-wasm32), or the WASI SDK and set WASI_SDK_PATH.",
}

func goSteps(a *App) ([]step, error) {
	return []step{{
		// A guest has no sockets, and HTTP/2 in net/http costs each start some 0.1 ms.
		argv: []string{"go", "build", "-tags", "nethttpomithttp2", "-o", a.fromDir(a.GuestPath), "."},
		env:  []string{"GOOS=wasip1", "GOARCH=wasm"},
		text: "go build",
	}}, nil
}

func jsSteps(a *App) ([]step, error) {
	entry, err := a.source("src/index.js", "index.js")
	if err != nil {
		return nil, err
	}
	return append(installSteps(a), step{
		// --no: never fetch and run a package that just happens to have that name.
		argv: []string{"npx", "--no", "js-compute-runtime", entry, a.fromDir(a.GuestPath)},
		text: "js-compute-runtime",
		hint: "Its own messages are above. If it is missing, run: npm install @fastly/js-compute",
	}), nil
}

// installSteps fetches the packages of a JavaScript app that has none yet.
func installSteps(a *App) []step {
	if a.Build.Language != "js" || !a.exists("package.json") || a.exists("node_modules") {
		return nil
	}
	verb := "install"
	if a.exists("package-lock.json") {
		verb = "ci"
	}
	return []step{{argv: []string{"npm", verb, "--no-fund", "--no-audit"}, text: "npm " + verb}}
}

func rustSteps(a *App) ([]step, error) {
	return []step{{
		argv: []string{"cargo", "build", "--target", "wasm32-wasip1", "--release"},
		text: "cargo build",
	}}, nil
}

// collectRust copies what cargo built to where the guest belongs, unless that is the place.
func (a *App) collectRust() error {
	built := a.rustArtifact()
	if built == "" || filepath.Clean(built) == filepath.Clean(a.GuestPath) {
		return nil
	}
	data, err := readBounded(built, MaxGuest)
	if err != nil {
		return err
	}
	if err := os.WriteFile(a.GuestPath, data, 0o644); err != nil {
		return fileError("write", a.GuestPath, err, "")
	}
	return nil
}

// rustArtifact returns the package's program, or the newest one there is; "" if none.
func (a *App) rustArtifact() string {
	target := os.Getenv("CARGO_TARGET_DIR")
	if target == "" {
		target = filepath.Join(a.Dir, "target")
	} else if !filepath.IsAbs(target) {
		target = filepath.Join(a.Dir, target)
	}
	var found []string
	for _, triple := range []string{"wasm32-wasip1", "wasm32-wasi"} {
		m, _ := filepath.Glob(filepath.Join(target, triple, "release", "*.wasm"))
		found = append(found, m...)
	}
	var cargo struct{ Package struct{ Name string } }
	if data, err := readBounded(filepath.Join(a.Dir, "Cargo.toml"), maxManifest); err == nil {
		_ = toml.Unmarshal(data, &cargo) // cargo has read it; all we lose is the name
	}
	rank := func(file string) (named bool, mod int64) {
		if info, err := os.Stat(file); err == nil {
			mod = info.ModTime().UnixNano()
		}
		return filepath.Base(file) == cargo.Package.Name+".wasm", mod
	}
	sort.SliceStable(found, func(i, j int) bool {
		ni, mi := rank(found[i])
		nj, mj := rank(found[j])
		if ni != nj {
			return ni
		}
		return mi > mj
	})
	if len(found) == 0 {
		return ""
	}
	return found[0]
}

func cSteps(a *App) ([]step, error) {
	var sources []string
	for _, pattern := range []string{"*.c", "src/*.c"} {
		m, _ := filepath.Glob(filepath.Join(a.Dir, filepath.FromSlash(pattern)))
		for _, file := range m {
			sources = append(sources, a.fromDir(file))
		}
	}
	if len(sources) == 0 {
		_, err := a.source("main.c", "src/main.c")
		return nil, err
	}
	clang := "clang"
	if sdk := os.Getenv("WASI_SDK_PATH"); sdk != "" {
		clang = filepath.Join(sdk, "bin", "clang")
	}
	argv := []string{clang, "--target=wasm32-wasi", "-O2", "-o", a.fromDir(a.GuestPath)}
	return []step{{argv: append(argv, sources...), text: "clang"}}, nil
}

// source returns the first of the files that is there.
func (a *App) source(names ...string) (string, error) {
	for _, name := range names {
		if a.exists(name) {
			return name, nil
		}
	}
	return "", &wedge.Error{Op: "build", What: a.Version.Service, Kind: wedge.NotExist, Err: errors.New("no " + names[0]),
		Hint: "Write it, or set build to the command that makes the guest."}
}

func (a *App) exists(name string) bool {
	_, err := os.Stat(filepath.Join(a.Dir, filepath.FromSlash(name)))
	return err == nil
}

// fromDir names file for a command that runs in the app's directory.
func (a *App) fromDir(file string) string {
	if rel, err := filepath.Rel(a.Dir, file); err == nil {
		return rel
	}
	return file
}
