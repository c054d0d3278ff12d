package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/wedge-cloud/wedge"
)

// Names of the files Load looks for in a directory, the first one first.
const (
	WedgeFile  = "wedge.toml"
	FastlyFile = "fastly.toml"
)

// MaxGuest is the largest guest in bytes, that of Fastly's packages.
const MaxGuest = 100 << 20

// App is an author's program as it lies on disk: what it is made from, how, and the
// version it becomes, without the guest's bytes.
type App struct {
	Dir       string // where it lies; relative paths of its manifest start here
	File      string // the wedge.toml, fastly.toml or .wasm it was read from
	Version   wedge.Version
	Build     Recipe
	GuestPath string   // where the built guest lies; "": the service has none
	Watch     []string // files and directories that make the app; for directories see Ignored
	Warnings  []string // doubtful things that did not stop Load, a sentence each
}

// A Recipe says how the guest is made. The zero value means it is not: it is just there.
type Recipe struct {
	Language string   // go, js, rust, c or ""
	Command  string   // for the system's shell, in the app's directory; "": the language's default
	Env      []string // "NAME=value", added to the environment of the command
}

// Load reads the app at path: a directory (wedge.toml there, else fastly.toml), a .toml
// file (a fastly.toml by that name or by its keys, any other is read as wedge.toml), or a .wasm file, which
// is a guest without any bindings. Errors are *[wedge.Error] or several of them joined.
func Load(path string) (*App, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fileError("load", path, err, "Give a directory with a wedge.toml or fastly.toml, or a .wasm file.")
	}
	if info.IsDir() {
		return loadDir(path)
	}
	switch filepath.Ext(path) {
	case ".wasm":
		return bareGuest(path), nil
	case ".toml":
		return loadFile(path)
	}
	return nil, &wedge.Error{Op: "load", What: path, Kind: wedge.Invalid, Err: errors.New("neither a .toml nor a .wasm file"),
		Hint: "Give a directory with a wedge.toml or fastly.toml, or a .wasm file."}
}

func loadDir(dir string) (*App, error) {
	for _, name := range []string{WedgeFile, FastlyFile} {
		file := filepath.Join(dir, name)
		if _, err := os.Stat(file); err == nil {
			return loadFile(file)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fileError("load", file, err, "")
		}
	}
	return nil, &wedge.Error{Op: "load", What: dir, Kind: wedge.NotExist, Err: errors.New("no wedge.toml and no fastly.toml there"),
		Hint: "Begin a project with: wedge new --lang go DIR"}
}

func loadFile(file string) (*App, error) {
	data, err := readBounded(file, maxManifest)
	if err != nil {
		return nil, err
	}
	if filepath.Base(file) == FastlyFile || filepath.Base(file) != WedgeFile && speaksFastly(string(data)) {
		return parseFastly(file, string(data))
	}
	return parseWedge(file, string(data))
}

// speaksFastly reports whether a file of any name has what only a fastly.toml has.
func speaksFastly(text string) bool {
	var top struct {
		Version any `toml:"manifest_version"`
		Local   any `toml:"local_server"`
	}
	_, err := toml.Decode(text, &top)
	return err == nil && (top.Version != nil || top.Local != nil)
}

func bareGuest(file string) *App {
	name := strings.TrimSuffix(filepath.Base(file), ".wasm")
	return &App{
		Dir:       filepath.Dir(file),
		File:      file,
		Version:   wedge.Version{Service: ServiceName(name)},
		GuestPath: file,
		Watch:     []string{file},
	}
}

var (
	coreMagic      = []byte("\x00asm\x01\x00\x00\x00")
	componentMagic = []byte("\x00asm\x0d\x00\x01\x00")
)

// ReadGuest reads the built guest, at most [MaxGuest] bytes, and checks that it begins as
// a core Wasm module does. Kinds of error: NotExist (not built yet), Exhausted (too
// large), Unsupported (a component), Invalid (no Wasm).
func (a *App) ReadGuest() ([]byte, error) {
	const op = "read guest"
	if a.GuestPath == "" {
		return nil, &wedge.Error{Op: op, What: a.File, Kind: wedge.NotExist, Err: errors.New("the service has no guest"), Hint: `Add language = "go" (or js, rust, c), or guest = "app.wasm".`}
	}
	data, err := readBounded(a.GuestPath, MaxGuest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &wedge.Error{Op: op, What: a.GuestPath, Kind: wedge.NotExist, Err: errors.New("no such file"), Hint: a.buildHint()}
	}
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(data, coreMagic) {
		return data, nil
	}
	e := &wedge.Error{Op: op, What: a.GuestPath, Kind: wedge.Invalid, Err: errors.New("not a wasm module"),
		Hint: "The guest must be a core Wasm module as a compiler writes it."}
	if bytes.HasPrefix(data, componentMagic) {
		e.Kind = wedge.Unsupported
		e.Err = errors.New("a component, not a core module")
		e.Hint = "Build for wasm32-wasip1 (not wasip2) and leave out the componentize step."
	} else if bytes.HasPrefix(data, coreMagic[:4]) && len(data) >= 8 {
		e.Err = fmt.Errorf("wasm of unknown version %x", data[4:8])
	}
	return nil, e
}

func (a *App) buildHint() string {
	if a.File == a.GuestPath {
		return "Check the path."
	}
	if a.Build.none() {
		return `Put the wasm file there, or set language or build in the manifest so that "wedge build" can make it.`
	}
	return "Run: wedge build " + a.Dir
}

func (b Recipe) none() bool { return b.Language == "" && b.Command == "" }

// ServiceName makes a name fit for a service from a title or directory: lower-case
// letters, digits and dashes, at most 63.
func ServiceName(s string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() == 63 {
			break
		}
	}
	if name := strings.Trim(b.String(), "-"); name != "" {
		return name
	}
	return "app"
}
