package node

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

// deployed makes v the version that serves, with the cache as it is.
func (s *served) deployed(t *testing.T, v *wedge.Version) {
	t.Helper()
	*s.version = *v
	if err := s.deploy(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestIsolation: two services on one node with the same hosts, paths and surrogate keys have nothing of each other.
func TestIsolation(t *testing.T) {
	origin := func(name string) *watched {
		return watch(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=600")
			w.Header().Set("Surrogate-Key", "k1 k2")
			io.WriteString(w, name)
		})
	}
	origins := map[string]*watched{"a": origin("a"), "b": origin("b")}
	a, b := version(t, origins["a"].URL), version(t, origins["b"].URL)
	a.APIKeys, b.Service, b.APIKeys = []wedge.Secret{wedge.Secret("key of a")}, "rival", []wedge.Secret{wedge.Secret("key of b")}
	first := *a
	s := serve(t, Config{}, &first)
	purge := func(key string, fields ...string) string {
		return s.ask(t, strings.Replace(get("/x", append(fields, "Fastly-Key: "+key)...), "GET", "PURGE", 1)).status
	}
	hits := func(name string, want bool) {
		t.Helper()
		for _, got := range []answered{s.ask(t, get("/x")), s.get2(t, "/x")} {
			if got.body != name {
				t.Errorf("%s: got %q", name, got.body)
			}
		}
		waitForFlights(t, s) // a soft purge has it asked for behind the client's back
		for name, o := range origins {
			if n := len(o.saw()); want && n > 0 || n > 1 {
				t.Errorf("%s is asked %d times", name, n)
			}
		}
	}
	hits("a", false)
	s.deployed(t, b)
	hits("b", false)
	for _, fields := range [][]string{nil, {"Surrogate-Key: k1"}, {"Wedge-Purge: all"}, {"Wedge-Purge: soft"}, {"Fastly-Soft-Purge: 1", "Surrogate-Key: k2"}} {
		if got := purge("key of a", fields...); got != "403" {
			t.Errorf("%q: the key of another service: got %s", fields, got)
		}
		hits("b", true)
		if got := purge("key of b", fields...); got != "200" {
			t.Errorf("%q: got %s", fields, got)
		}
		hits("b", false)
		s.deployed(t, a)
		hits("a", true)
		s.deployed(t, b)
	}
}

// TestPurgeAuth: without one of the service's keys nothing is purged, whoever sends it however.
func TestPurgeAuth(t *testing.T) {
	o := watch(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Surrogate-Key", "k")
		io.WriteString(w, "page")
	})
	for _, keys := range [][]wedge.Secret{nil, {wedge.Secret("")}, {wedge.Secret("good key")}} {
		v := version(t, o.URL)
		v.APIKeys = keys
		s := serve(t, Config{}, v)
		s.ask(t, get("/a"))
		waitForFlights(t, s)
		o.saw()
		for _, auth := range []string{"X: y", "Authorization:", "Authorization: Bearer", "Authorization: Bearer ", "Authorization: Bearer wrong", "Authorization: good key", "Authorization: Basic good key",
			"Authorization: bearer good key", "Authorization: Bearer good key ,", "Authorization: Bearer good ke", "Fastly-Key:", "Fastly-Key: wrong", "Fastly-Key: Bearer good key", "Fastly-Key: good keyy",
			"Fastly-Key: wrong\r\nFastly-Key: good key", "Fastly-Key: good key\r\nAuthorization: Bearer wrong"} {
			for _, what := range []string{"X: y", "Surrogate-Key: k", "Wedge-Purge: all", "Wedge-Purge: soft"} {
				raw := strings.Replace(get("/a", auth, what), "GET", "PURGE", 1)
				if a := s.ask(t, raw); a.status != "403" {
					t.Errorf("%q: got %s", raw, a.status)
				}
				if got := s.talk(t, get("/a")+raw, get("/a"), last); strings.Count(got, "\r\n\r\npage") != 3 || strings.Count(got, "HTTP/1.1 403") != 1 {
					t.Errorf("%q behind a hit: got %q", raw, got)
				}
			}
		}
		if a := s.ask2(t, "", ":method", "PURGE", ":scheme", "http", ":authority", "shop.example", ":path", "/a", "wedge-purge", "all"); a.status != "403" {
			t.Errorf("in HTTP/2: got %s", a.status)
		}
		// What only looks like PURGE is a request for the origin.
		for _, method := range []string{"purge", "GET"} {
			s.ask(t, strings.Replace(get("/a?b", "X-HTTP-Method-Override: PURGE", "Wedge-Purge: all", "Surrogate-Key: k"), "GET", method, 1))
		}
		if a := s.ask(t, get("/a")); !a.hit() {
			t.Error("it is purged")
		}
		for _, seen := range o.saw() {
			if strings.HasPrefix(seen, "PURGE") || strings.HasSuffix(seen, "/a") {
				t.Errorf("the origin saw %s", seen)
			}
		}
	}
}

// TestNothingInward: what an origin says to caches no client gets to see, on whatever way, nor what things are
// called in the cache.
func TestNothingInward(t *testing.T) {
	o := watch(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		inward := func() {
			h.Set("Surrogate-Key", "inward-key")
			h.Set("Surrogate-Control", "max-age=600, x=inward-control")
		}
		h.Set("Cache-Control", "max-age=600")
		inward()
		h.Set("Etag", `"v"`)
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(304)
			return
		}
		switch r.URL.Path {
		case "/trailer":
			h.Del("Surrogate-Key")
			h.Set("Trailer", "Surrogate-Key, X-Sum")
			io.WriteString(w, "chunked")
			w.(http.Flusher).Flush()
			inward()
			h.Set("X-Sum", "1")
			h.Set(http.TrailerPrefix+"Surrogate-Control", "inward-late")
			return
		case "/hint":
			w.WriteHeader(103)
			h.Del("Surrogate-Control")
		case "/pass":
			h.Set("Surrogate-Control", "no-store, x=inward-control")
		case "/stale":
			h.Set("Surrogate-Control", "max-age=0, x=inward-control")
		case "/404", "/410", "/500", "/503", "/301", "/204":
			status := 0
			fmt.Sscanf(r.URL.Path, "/%d", &status)
			w.WriteHeader(status)
			if status == 204 {
				return
			}
		case "/big":
			w.Write(bytes.Repeat([]byte("big."), 50<<10))
		case "/cut":
			h.Set("Content-Length", "100")
		}
		io.WriteString(w, "page")
	})
	hour := time.Hour
	for _, cfg := range []Config{{}, {NoHits: true}} {
		v := version(t, o.URL)
		v.APIKeys = []wedge.Secret{wedge.Secret("a key")}
		if cfg.NoHits { // other ways through the cache
			v.Compress = true
			v.Rules = []wedge.Rule{{Backends: []wedge.Share{{Backend: "origin"}}}, {Path: "/rule", TTL: &hour}, {Path: "/pass", Pass: true}}
		}
		s := serve(t, cfg, v)
		for _, target := range []string{"/a", "/rule", "/trailer", "/hint", "/pass", "/stale", "/404", "/410", "/500", "/503", "/301", "/204", "/big", "/cut"} {
			for _, fields := range [][]string{nil, nil, {"Accept-Encoding: gzip"}, {`If-None-Match: "v"`}, {"Range: bytes=0-1"}, {"Range: bytes=0-0,2-3"}, {"Range: bytes=900000-"}, {"Cache-Control: no-cache"},
				{"Cache-Control: only-if-cached"}, {"TE: trailers"}, {"Wedge-Shield: 1.2"}, {fmt.Sprintf("Wedge-Shield: %d.00", time.Now().Unix())}, {"Surrogate-Capability: x=\"Surrogate/1.0\""},
				{"Fastly-Debug: 1"}, {"Pragma: akamai-x-get-cache-key"}, {"CDN-Loop: wedge, wedge, wedge"}} {
				for _, method := range []string{"GET", "HEAD", "POST"} {
					got := s.talk(t, strings.Replace(get(target, append(fields, "Connection: close")...), "GET", method, 1))
					two := s.ask2(t, "", append([]string{":method", method, ":scheme", "http", ":authority", "shop.example", ":path", target}, lowered(fields)...)...)
					if said := got + fmt.Sprint(two.hints, two.header, two.trailer); strings.Contains(strings.ToLower(said), "surrogate-") || strings.Contains(said, "inward") {
						t.Fatalf("%s %s %q: got %.700q", method, target, fields, said)
					}
					if status := two.header.Get("Cache-Status"); strings.Contains(status, "key") || longHex.MatchString(status) {
						t.Errorf("%s %s: Cache-Status says %s", method, target, status)
					}
				}
			}
			// As the hit path sends it, after anything.
			if got := s.talk(t, get(target)+get(target), last); strings.Contains(strings.ToLower(got), "surrogate-") {
				t.Errorf("%s: got %.700q", target, got)
			}
		}
	}
}

var longHex = regexp.MustCompile(`[0-9a-f]{16}`)

func lowered(fields []string) (all []string) {
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		all = append(all, strings.ToLower(name), value)
	}
	return all
}
