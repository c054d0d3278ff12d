package world

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
)

// lab is a world before an origin whose answers are numbered.
type lab struct {
	*World
	t      *testing.T
	origin *httptest.Server
	n      atomic.Int64
}

func newLab(t *testing.T, cfg Config) *lab { return newLabOf(t, cfg, func(*wedge.Version) {}) }

// newLabOf has PoPs that serve a version as edited; nil: nothing yet.
func newLabOf(t *testing.T, cfg Config, edit func(*wedge.Version)) *lab {
	t.Helper()
	l := &lab{t: t}
	l.origin = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("Surrogate-Key", "all "+strings.Trim(r.URL.Path, "/"))
		fmt.Fprint(w, l.n.Add(1))
	}))
	t.Cleanup(l.origin.Close)
	u, err := url.Parse(l.origin.URL)
	if err != nil {
		t.Fatal(err)
	}
	drain := time.Second
	if cfg.Twist != nil {
		drain = 20 * time.Second // what goes through a black path is given up after half of that, and then asked for elsewhere
	}
	cfg.Dir, cfg.Log = t.TempDir(), slog.New(slog.DiscardHandler)
	cfg.Node = func(wedge.PoP) node.Config {
		app := &manifest.App{Version: wedge.Version{Service: "shop", APIKeys: []wedge.Secret{wedge.Secret("secret")},
			Backends: []wedge.Backend{{Name: "origin", URL: u, AllowPrivateAddr: true}}}}
		own := node.Config{HTTP: []string{"127.0.0.1:0"}, Quiet: true, Log: cfg.Log, CacheDisk: 16 << 20, DrainTimeout: drain}
		if edit != nil {
			edit(&app.Version)
			own.Load = node.One(func(context.Context) (*manifest.App, error) { return app, nil })
		}
		return own
	}
	if l.World, err = Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *lab) originURL() *url.URL {
	u, err := url.Parse(l.origin.URL)
	if err != nil {
		l.t.Fatal(err)
	}
	return u
}

// url returns the address of a PoP.
func (l *lab) url(pop string) string {
	for _, s := range l.Status() {
		if s.PoP.Name == pop {
			return s.URL
		}
	}
	l.t.Fatal("no such PoP: " + pop)
	return ""
}

func (l *lab) do(method, pop, path string, lines ...string) (body string, h http.Header) {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.t.Context(), method, l.url(pop)+path, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	req.Host = "shop.example"
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return string(b), resp.Header
}

func (l *lab) get(pop, path string) string {
	l.t.Helper()
	body, _ := l.do("GET", pop, path)
	return body
}

func (l *lab) purge(pop, path string, lines ...string) {
	l.t.Helper()
	if body, _ := l.do("PURGE", pop, path, append(lines, "Authorization: Bearer secret")...); !strings.Contains(body, `"ok"`) {
		l.t.Fatal(body)
	}
}

// becomes waits until a condition holds.
func (l *lab) becomes(what string, within time.Duration, ok func() bool) {
	l.t.Helper()
	began := time.Now()
	for !ok() {
		if time.Since(began) > within {
			l.t.Fatalf("%s: not within %v", what, within)
		}
		time.Sleep(2 * time.Millisecond)
	}
	l.t.Logf("%s: after %v", what, time.Since(began).Round(time.Millisecond))
}

// TestPurgeEverywhere: what one PoP purges all have purged soon, however they were cut off or stopped meanwhile.
func TestPurgeEverywhere(t *testing.T) {
	l := newLab(t, Config{})
	pops := []string{"lhr", "nyc", "nrt"}
	held := map[string]string{}
	fill := func(path string) {
		for _, p := range pops {
			held[p+path] = l.get(p, path)
			if again := l.get(p, path); again != held[p+path] {
				t.Fatalf("%s%s is not stored", p, path)
			}
		}
	}
	gone := func(pop, path string) func() bool {
		return func() bool { return l.get(pop, path) != held[pop+path] }
	}
	for path, lines := range map[string][]string{"/url": nil, "/key": {"Surrogate-Key: key"}, "/soft": {"Surrogate-Key: soft", "Wedge-Purge: soft"}, "/all": {"Wedge-Purge: all"}} {
		fill(path)
		l.purge("lhr", path, lines...)
		if at := gone("lhr", path); path == "/soft" { // it is used once more while it is validated
			l.becomes("lhr purged /soft", time.Second, at)
		} else if !at() {
			t.Errorf("%s: not purged where it was accepted", path)
		}
		for _, p := range pops[1:] {
			l.becomes(p+" purged "+path, 2*time.Second, gone(p, path))
		}
	}

	fill("/cut")
	if err := l.Cut("nrt"); err != nil {
		t.Fatal(err)
	}
	l.purge("nyc", "/cut")
	l.becomes("lhr purged /cut", 2*time.Second, gone("lhr", "/cut"))
	if gone("nrt", "/cut")() {
		t.Error("a PoP that is cut off has heard of a purge")
	}
	fill("/here")
	l.purge("nrt", "/here") // cut off, it purges here, and tells the others later
	if !gone("nrt", "/here")() {
		t.Error("a PoP that is cut off does not purge")
	}
	if err := l.Heal("nrt"); err != nil {
		t.Fatal(err)
	}
	l.becomes("nrt healed", 5*time.Second, gone("nrt", "/cut"))
	l.becomes("lhr heard what nrt had purged", 5*time.Second, gone("lhr", "/here"))

	fill("/down")
	if err := l.Stop("nyc"); err != nil {
		t.Fatal(err)
	}
	l.purge("lhr", "/down")
	if err := l.Start(t.Context(), "nyc"); err != nil {
		t.Fatal(err)
	}
	l.becomes("nyc came back", 5*time.Second, gone("nyc", "/down"))
	l.becomes("all are there", 10*time.Second, func() bool { return len(l.Node("nrt").PoPs()) == 3 })
}

// TestInvalidationTravels: an unsafe request makes what is stored unusable everywhere.
func TestInvalidationTravels(t *testing.T) {
	l := newLab(t, Config{Flat: true})
	lhr, nrt := l.get("lhr", "/page"), l.get("nrt", "/page")
	if lhr == nrt || l.get("nrt", "/page") != nrt {
		t.Fatal("not stored")
	}
	l.do("POST", "lhr", "/page")
	if l.get("lhr", "/page") == lhr {
		t.Error("not invalidated where it came")
	}
	l.becomes("nrt", 2*time.Second, func() bool { return l.get("nrt", "/page") != nrt })
}

// TestWorldErrors: what is asked of PoPs that are not there is an error that says which are.
func TestWorldErrors(t *testing.T) {
	l := newLab(t, Config{Flat: true})
	if err := l.Cut("fra"); wedge.KindOf(err) != wedge.NotExist || !strings.Contains(wedge.HintOf(err), "lhr, nyc, nrt") {
		t.Error(err, wedge.HintOf(err))
	}
	if _, err := Open(t.Context(), Config{PoPs: []wedge.PoP{{Name: "a"}, {Name: "a"}}}); wedge.KindOf(err) != wedge.Invalid {
		t.Error(err)
	}
	if _, err := Open(t.Context(), Config{PoPs: []wedge.PoP{{Name: "Not A Name"}}}); wedge.KindOf(err) != wedge.Invalid {
		t.Error(err)
	}
}
