package wedge

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/wedge-cloud/wedge"

// vocabulary lists the packages that any package may import; they import the standard
// library only (internal packages also each other).
var vocabulary = map[string]bool{"": true, "trace": true, "abi": true}

// arrows lists every other permitted import inside the module, each with why.
// An arrow not listed here does not exist. Adding one is a design change.
var arrows = map[string]map[string]string{
	"cmd/wedge": {
		"node":     "wedge run",
		"manifest": "reads wedge.toml and fastly.toml into a version",
		"api":      "the CLI is a client of the control API",
		"control":  "packs what is deployed",
		"collect":  "shows what was collected",
		"compute":  "a guest's exit code is wedge run --once's own",
		"front":    "wedge run names the certificates",
		"dns":      "wedge node says what is answered",
		"handover": "wedge run and wedge node have successors",
		"wasm":     "wedge inspect reads a module's sections",
		"world":    "wedge world",

		"compute/hostcall": "wedge inspect says which hostcalls are offered",
	},
	"node":             {"*": "the composition root: the only package that sees all others"},
	"compute":          {"wasm": "prepares programs with it"},
	"compute/hostcall": {"compute": "handles live in a sandbox", "picture": "the image optimizer's work"},
	"api":              {"control": "puts on the wire what it decides", "collect": "and what was collected", "seal": "and the key for secrets"},
	"control":          {"seal": "closes the secrets of versions"},
	"rollout":          {"control": "decides about its releases"},
	"picture":          {"wasm": "puts interrupt checks into the codecs of WebP and AVIF, so that no collection waits for it"},
	"conformance/run":  {"conformance": "prints what it found"},
	"state":            {"state/merge": "keeps mergeable values"},
	"world":            {"node": "its PoPs and its core are real ones"},
}

// gates lists modules that only the named packages may import.
var gates = map[string][]string{
	"github.com/nats-io/":           {"bus"},
	"github.com/tetratelabs/wazero": {"compute", "compute/hostcall", "picture", "bench"},
	"github.com/prometheus/":        {"node"},
	"github.com/cockroachdb/pebble": {"state", "bench"},
	"github.com/BurntSushi/toml":    {"manifest"},
	"github.com/ua-parser/":         {"compute/hostcall"},
	"github.com/fxamacker/":         {"control"},
	"github.com/kovidgoyal/":        {"picture"},
	"github.com/DataDog/":           {"collect"},
	"github.com/axiomhq/":           {"collect"},
	"github.com/oschwald/":          {"dns", "compute/hostcall"},
	"golang.org/x/image":            {"picture"},
	"github.com/restic/":            {"control"},
	"github.com/miekg/dns":          {"dns"},
	"github.com/coreos/":            {"handover"},
	"pgregory.net/":                 {}, // tests only
}

// bench and wedgetest assemble what they measure or drive, as tests do.
var harness = map[string]bool{"bench": true, "wedgetest": true}

// TestArchitecture reads the imports of every file in process: a child's reads
// (go list) would not reach go test's cache, which would then keep a stale pass.
func TestArchitecture(t *testing.T) {
	used := map[string]bool{}
	comments := map[string]bool{}
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); file != "." && (name[0] == '.' || name == "testdata" || name == "node_modules" || hasOwnModule(file)) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") {
			return nil
		}
		checkFile(t, filepath.ToSlash(file), used, comments)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg, ok := range comments {
		if !ok {
			t.Errorf("package %q has no package comment: say in a sentence what a newcomer finds there", pkg)
		}
	}
	for from, tos := range arrows {
		for to := range tos {
			if to != "*" && !used[from+" -> "+to] {
				t.Errorf("arrow %s -> %s is listed and nobody uses it", from, to)
			}
		}
	}
}

func hasOwnModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil && dir != "."
}

func checkFile(t *testing.T, file string, used, comments map[string]bool) {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		t.Error(err)
		return
	}
	pkg := strings.TrimPrefix(path.Dir(file), ".")
	test := strings.HasSuffix(file, "_test.go")
	if !test {
		comments[pkg] = comments[pkg] || f.Doc != nil
	}
	for _, spec := range f.Imports {
		imp := strings.Trim(spec.Path.Value, `"`)
		if to, ok := strings.CutPrefix(imp, module); ok {
			to = strings.TrimPrefix(to, "/")
			used[pkg+" -> "+to] = true
			if !test && !harness[pkg] && !allowed(pkg, to) {
				t.Errorf("%s: %q may not import %q; see arrows in arch_test.go", file, pkg, to)
			}
			continue
		}
		outside := strings.Contains(strings.Split(imp, "/")[0], ".")
		if outside && !test && (vocabulary[pkg] || strings.HasPrefix(pkg, "internal/")) {
			t.Errorf("%s: %q may import the standard library only, not %s", file, pkg, imp)
		}
		for gate, who := range gates {
			if strings.HasPrefix(imp, gate) && !test && !contains(who, pkg) {
				t.Errorf("%s: only %v may import %s", file, who, gate)
			}
		}
	}
}

func allowed(from, to string) bool {
	if strings.HasPrefix(from, "internal/") {
		return strings.HasPrefix(to, "internal/")
	}
	if vocabulary[from] {
		return false
	}
	_, any := arrows[from]["*"]
	_, listed := arrows[from][to]
	return any || listed || vocabulary[to] || strings.HasPrefix(to, "internal/")
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
