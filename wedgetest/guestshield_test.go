package wedgetest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/manifest"
	"github.com/wedge-cloud/wedge/node"
	fleet "github.com/wedge-cloud/wedge/world"
)

// TestGuestShield: a guest sends requests through itself at another PoP, whose cache alone asks the origin.
func TestGuestShield(t *testing.T) {
	guest := JSGuest(t, Guest("jsshield"))
	var asked atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprintf(w, "%s %d", r.URL.Path, asked.Add(1))
	}))
	defer origin.Close()
	u, err := url.Parse(origin.URL)
	if err != nil {
		t.Fatal(err)
	}
	pops := []wedge.PoP{{Name: "fra"}, {Name: "lhr"}, {Name: "nyc"}}
	w, err := fleet.Open(t.Context(), fleet.Config{PoPs: pops, Dir: t.TempDir(), Flat: true, Log: slog.New(slog.DiscardHandler), Node: func(wedge.PoP) node.Config {
		app := &manifest.App{Version: wedge.Version{Service: "shop", Guest: guest, Limits: wedge.DefaultLimits, Backends: []wedge.Backend{{Name: "origin", URL: u, AllowPrivateAddr: true}}}}
		return node.Config{HTTP: []string{"127.0.0.1:0"}, Quiet: true, CacheDisk: -1, DrainTimeout: time.Second, Log: slog.New(slog.DiscardHandler),
			Load: node.One(func(context.Context) (*manifest.App, error) { return app, nil })}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	addr := map[string]string{}
	for _, s := range w.Status() {
		addr[s.PoP.Name] = s.URL
		eventually(t, s.PoP.Name+" knows all", func() bool { return len(w.Node(s.PoP.Name).PoPs()) == len(pops) })
	}
	ask := func(pop, path string) (status int, body, ran string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", addr[pop]+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "shop.example"
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b), strings.Join(resp.Header["X-Ran"], ",")
	}
	for _, c := range []struct{ pop, path, body, ran string }{
		{"fra", "/page", "/page 1", "fra"}, {"lhr", "/page", "/page 1", "fra, lhr"}, {"nyc", "/page", "/page 1", "fra, nyc"},
		{"lhr", "/plain", "/plain 2", "fra, lhr"}, {"lhr", "/unknown", "unknown", ""},
	} {
		status, body, ran := ask(c.pop, c.path)
		if status != 200 || body != c.body || ran != c.ran {
			t.Errorf("%s%s: %d %q, ran at %q", c.pop, c.path, status, body, ran)
		}
	}
	if err := w.Cut("fra"); err != nil {
		t.Fatal(err)
	}
	if status, _, _ := ask("nyc", "/other"); status < 500 {
		t.Errorf("without the shield: %d", status)
	}
}
