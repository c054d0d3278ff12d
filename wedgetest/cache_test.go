package wedgetest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge/conformance"
	"github.com/wedge-cloud/wedge/node"
)

// knownFailures are the cases that a profile does not pass, each with why.
var knownFailures = map[string][]string{
	"safe": {
		"heuristic-405", "heuristic-414", "heuristic-501", // errors that a client can provoke are not stored
		"store-status-400", "store-status-405", "store-status-414", "store-status-501",
	},
	"rfc-strict": nil,
}

// TestCacheConformance runs the cache suite against a node with a service without a guest.
func TestCacheConformance(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	for profile, known := range knownFailures {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			origin, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			n := Start(t, App{Manifest: fmt.Sprintf("[cache]\nprofile = %q\n[backends.origin]\nurl = \"http://%s\"\n", profile, origin.Addr())},
				func(c *node.Config) { c.Ephemeral, c.DataDir = profile == "rfc-strict", t.TempDir() }) // one with a disk tier, one without
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			results, err := conformance.Run(ctx, conformance.Config{Proxy: n.URL, Origin: origin, Target: "Wedge-Cache-Control", Tries: 3})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range results {
				if r.Level == conformance.Check {
					continue
				}
				switch expected := slices.Contains(known, r.Name); {
				case r.Outcome != conformance.Pass && !expected:
					t.Errorf("%s (%s, RFC %s): %s\n%s", r.Name, r.Level, r.Section, r.Reason, r.Transcript)
				case r.Outcome == conformance.Pass && expected:
					t.Errorf("%s passes now: take it off the list", r.Name)
				}
			}
		})
	}
}

// TestCacheSurvives: a node finds the responses that the one before it stored, and not those that were purged.
func TestCacheSurvives(t *testing.T) {
	var fetches atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		fmt.Fprint(w, r.URL.Path, " ", fetches.Add(1))
		_, _ = io.WriteString(w, strings.Repeat("x", len(r.URL.Path)*20_000))
	}))
	defer origin.Close()
	dir := t.TempDir()
	keep := func(c *node.Config) { c.Ephemeral, c.DataDir = false, dir }
	app := App{Manifest: "api_keys = [\"k\"]\n[backends.origin]\nurl = \"" + origin.URL + "\"\n"}
	first := Start(t, app, keep)
	send := func(n *Node, method, path string) Response {
		t.Helper()
		req, err := http.NewRequest(method, n.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "shop.example" // the nodes' addresses are not the same
		req.Header.Set("Fastly-Key", "k")
		return Do(t, n.Client, req)
	}
	ask := func(n *Node, path string, fetch int) {
		t.Helper()
		send(n, http.MethodGet, path).is(t, 200, fmt.Sprint(path, " ", fetch, strings.Repeat("x", len(path)*20_000)))
	}
	ask(first, "/a", 1)
	ask(first, "/b-of-some-length", 2)
	ask(first, "/c", 3)
	Eventually(t, "they are on disk", func() bool { return first.Node.CacheStats().DiskWrites.Load() == 3 })
	if r := send(first, "PURGE", "/c"); r.StatusCode != 200 {
		t.Fatal(r.Text)
	}
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	second := Start(t, app, keep)
	ask(second, "/a", 1)
	ask(second, "/b-of-some-length", 2)
	ask(second, "/c", 4)
}
