package manifest

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/wedge-cloud/wedge"
)

func seeds(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.txtar")
	for _, file := range files {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, sub := range ar.Files {
			if filepath.Ext(sub.Name) == ".toml" {
				f.Add(string(sub.Data))
			}
		}
	}
	if sample, err := os.ReadFile("testdata/sample/wedge.toml"); err == nil {
		f.Add(string(sample))
	}
	f.Add("a.b.\"c d\" = [1, {x = 'y'}]\n[[t]]\nk = \"\"\"\n#\"\"\"\"\n[[t.u]]\nv = {a.b = [[1],[2]]}\n[[t]]\n[t.w]\n")
}

func FuzzWedge(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, text string) { check(t, parseWedge, text) })
}

func FuzzFastly(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, text string) { check(t, parseFastly, text) })
}

// check parses twice: there must be an app or an error, the same both times, and no
// fault of Wedge itself.
func check(t *testing.T, parse func(file, text string) (*App, error), text string) {
	file := filepath.Join("testdata", "none", "x.toml") // no files there to be read
	app, err := parse(file, text)
	again, errAgain := parse(file, text)
	switch {
	case err == nil && errAgain == nil:
		if !reflect.DeepEqual(app, again) {
			t.Errorf("two readings differ:\n%+v\n%+v", app, again)
		}
		if !nameRule.MatchString(app.Version.Service) {
			t.Errorf("bad service name %q", app.Version.Service)
		}
	case err == nil || errAgain == nil || err.Error() != errAgain.Error():
		t.Errorf("two readings differ:\n%v\n%v", err, errAgain)
	case wedge.KindOf(err) == wedge.Internal:
		// Odd paths make the system give odd errors; they are still ours.
		if _, ok := unjoin(err)[0].(*wedge.Error); !ok {
			t.Errorf("not a wedge.Error: %v", err)
		}
	}
}

// FuzzLines holds the line index against the real parser: it must know every value of
// every text that is TOML, and only lines that exist.
func FuzzLines(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, text string) {
		lines := lineIndex(text) // must end and not panic, TOML or not
		var root map[string]any
		if _, err := toml.Decode(text, &root); err != nil {
			return
		}
		count := 1
		for _, c := range text {
			if c == '\n' {
				count++
			}
		}
		walk(value{v: root}, func(v value) {
			if line := lines[v.path.id()]; line < 1 || line > count {
				t.Errorf("%s: line %d of %d in\n%s", v.path, line, count, text)
			}
		})
	})
}

func walk(v value, f func(value)) {
	if len(v.path) > 0 {
		f(v)
	}
	switch x := v.v.(type) {
	case map[string]any:
		for k, e := range x {
			walk(value{path: v.path.add(k), v: e}, f)
		}
	case []any, []map[string]any:
		list, _ := v.list()
		for _, e := range list {
			walk(e, f)
		}
	}
}
