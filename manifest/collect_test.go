package manifest

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

func loadCollect(t *testing.T, text string) ([]wedge.Collect, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "wedge.toml")
	text = "name = \"shop\"\n[backends.origin]\nurl = \"https://origin.example\"\n" + text
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	app, err := parseWedge(file, text)
	if err != nil {
		return nil, err
	}
	return app.Version.Collect, nil
}

func TestCollect(t *testing.T) {
	t.Setenv("SINK_TOKEN", "secret")
	got, err := loadCollect(t, `
[collect.rum]
path = "/rum"
window = "2s"
sample = 0.5
by = ["page", "@pop"]
id = "id"
sink = { backend = "origin", path = "/raw?x=1", token = { env = "SINK_TOKEN" } }
[collect.rum.where]
type = "vitals"
lcp = { min = 0, max = 1.5 }
[collect.rum.metrics]
lcp = "quantiles"
users = { field = "u.id", kind = "distinct" }
[collect.errors]
sink = { name = "lake" }
`)
	if err != nil {
		t.Fatal(err)
	}
	lo, hi := 0.0, 1.5
	want := []wedge.Collect{{Name: "errors", Path: "/.well-known/collect", Window: 10 * time.Second, Sample: 1, Series: 500, Sink: wedge.CollectSink{Name: "lake"}}, {Name: "rum", Path: "/rum",
		Window: 2 * time.Second, Sample: 0.5, ID: "id", By: []string{"page", "@pop"}, Series: 500,
		Sink:    wedge.CollectSink{Backend: "origin", Path: "/raw?x=1", Token: wedge.Secret("secret")},
		Where:   []wedge.CollectWhere{{Field: "lcp", Min: &lo, Max: &hi}, {Field: "type", Equals: []string{"vitals"}}},
		Metrics: []wedge.CollectMetric{{Name: "lcp", Field: "lcp", Kind: wedge.CollectQuantiles}, {Name: "users", Field: "u.id", Kind: wedge.CollectDistinct}}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	for text, says := range map[string]string{
		"[collect.a]\nwindow = \"1m\"": "window", "[collect.a]\nsample = 0": "sample", "[collect.a]\nby = [\"@nobody\"]": "no field",
		"[collect.a]\n[collect.b]": "has the path", "[collect.A]": "bad name", "[collect.a.metrics]\nx = \"median\"": "unknown metric",
		"[collect.a]\nsink = {}": "a sink is", "[collect.a]\nsink = { backend = \"none\" }": "no backend", "[collect.a]\nsink = { name = \"../x\" }": "bad sink",
		"[collect.a]\nsink = { backend = \"origin\", path = \"x\" }": "bad path", "[collect.a]\nsink = { name = \"a\", backend = \"origin\" }": "a sink is",
		"[collect.a]\nfoo = 1": "unknown key", "[collect.a]\norigins = [\"shop\"]": "no origin", "[collect.a]\npath = \"rum\"": "bad path",
	} {
		if _, err := loadCollect(t, text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
