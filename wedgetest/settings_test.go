package wedgetest

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/control"
	"github.com/wedge-cloud/wedge/node"
	"github.com/wedge-cloud/wedge/seal"
	fleet "github.com/wedge-cloud/wedge/world"
)

// TestSettings: config and secrets that are written while a version runs are what its guests get, at all PoPs, and nothing but sealed secrets
// lies in a secret store.
func TestSettings(t *testing.T) {
	t.Parallel()
	quiet, ctx := slog.New(slog.DiscardHandler), t.Context()
	w, err := fleet.Open(ctx, fleet.Config{PoPs: fleet.Cities[:2], Dir: t.TempDir(), Flat: true, Log: quiet, Node: func(wedge.PoP) node.Config {
		return node.Config{HTTP: []string{"127.0.0.1:0"}, Quiet: true, Log: quiet, CacheDisk: -1, DrainTimeout: 5 * time.Second}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Start(ctx); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(w.Core())
	defer server.Close()
	operator := api.Client{URL: server.URL, Token: w.Core().AdminToken()}
	key, err := operator.SealingKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	app, err := App{Guest: GoGuest(t, Guest("go")), Manifest: bindings() + "\n[stores.settings]\nscope = \"core\"\n[stores.keys]\nscope = \"core\"\n"}.Load(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	app.Version.Service, app.Version.Hosts = "shop", []string{"shop.example"}
	chunks := control.OpenChunks(t.TempDir())
	a, err := control.Pack(&app.Version, &key, chunks.Keep)
	if err == nil {
		_, _, err = operator.Upload(ctx, a, chunks)
	}
	if err == nil {
		_, err = operator.NewVersion(ctx, "shop", "", api.NewVersion{Artifact: a})
	}
	if err == nil {
		_, err = operator.Release(ctx, "shop", "", api.Pick{Version: 1})
	}
	if err != nil {
		t.Fatal(err)
	}
	pops := []string{"lhr", "nyc"}
	says := func(greeting, token string) func() bool {
		want := fmt.Sprintf("[%q,%q,\"ALLOW\",true,\"San Francisco\",\"Test Phone\"]\n", greeting, token)
		return func() bool {
			for i := range pops {
				req, err := http.NewRequestWithContext(ctx, "GET", w.Status()[i].URL+"/stores", nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Host = "shop.example"
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				b, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if string(b) != want {
					return false
				}
			}
			return true
		}
	}
	Eventually(t, "both run it", says("good morning", "s3cret"))
	do := func(method, path string, body []byte, header map[string]string) error {
		t.Helper()
		list, err := operator.State(ctx, "shop", api.StateRequest{PoP: "lhr", Method: method, Path: path, Body: body, Header: header})
		return errors.Join(err, list[0].Fault())
	}
	sealed := func(key *seal.Public, name, secret string) []byte {
		t.Helper()
		b, err := key.Seal(wedge.SecretPlace("shop", "keys", name), []byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if err := errors.Join(do("PUT", "/settings/greeting", []byte("good evening"), nil), do("PUT", "/keys/token", sealed(&key, "token", "hush"), nil)); err != nil {
		t.Fatal(err)
	}
	Eventually(t, "both have what was written", says("good evening", "hush"))
	if err := errors.Join(do("DELETE", "/settings/greeting", nil, nil), do("PUT", "/settings/greeting", []byte("good night"), nil), do("DELETE", "/keys/token", nil, nil)); err != nil {
		t.Fatal(err)
	}
	Eventually(t, "both have the version's own secret again", says("good night", "s3cret"))
	foreign := seal.NewRoot()
	theirs, err := foreign.Ring(0).Public()
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		method, path string
		body         []byte
		header       map[string]string
		kind         wedge.Kind
	}{
		"an open secret":              {"PUT", "/keys/token", []byte("hush"), nil, wedge.Invalid},
		"another name's":              {"PUT", "/keys/other", sealed(&key, "token", "x"), nil, wedge.Invalid},
		"another fleet's":             {"PUT", "/keys/token", sealed(&theirs, "token", "x"), nil, wedge.Invalid},
		"of an epoch that will be":    {"PUT", "/keys/token", sealed(&seal.Public{Epoch: 7, Key: key.Key}, "token", "x"), nil, wedge.Unavailable},
		"a piece of one":              {"PUT", "/keys/token", sealed(&key, "token", "x"), map[string]string{"Wedge-Mode": "append"}, wedge.Invalid},
		"a counter among the secrets": {"POST", "/keys/token?kind=counter", []byte(`{"op":"add","by":1}`), nil, wedge.Invalid},
		"a secret read":               {"GET", "/keys/token", nil, nil, wedge.Denied},
		"a config value too large":    {"PUT", "/settings/greeting", make([]byte, wedge.MaxConfigValue+1), nil, wedge.Invalid},
		"no text":                     {"PUT", "/settings/greeting", []byte{0xff}, nil, wedge.Invalid},
	} {
		if err := do(c.method, c.path, c.body, c.header); wedge.KindOf(err) != c.kind || err == nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if !says("good night", "s3cret")() {
		t.Error("what was refused has changed something")
	}
}
