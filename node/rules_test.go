package node

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

func TestLike(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"/a", "/a", true}, {"/a", "/ab", false}, {"/a*", "/a", true}, {"/a*", "/a/b/c", true}, {"*", "/x", true},
		{"*.css", "/s/x.css", true}, {"*.css", "/s/x.css2", false}, {"/a*b*c", "/a-b-c", true}, {"/a*b*c", "/a-c-b", false},
		{"/a*a", "/a", false}, {"**", "/", true}, {"/*/x", "/a/b/x", true}, {"", "/", false},
	} {
		if got := like(c.pattern, c.s); got != c.want {
			t.Errorf("like(%q, %q) = %v", c.pattern, c.s, got)
		}
	}
}

func TestHasOneReading(t *testing.T) {
	for path, want := range map[string]bool{
		"/": true, "/a/b.css": true, "/a...b/.well-known/x": true, "/a%20b/caf%C3%A9": true, "/~a/(b)": true, "/a/": true,
		"/a//b": false, "//": false, "/./a": false, "/a/..": false, "/a/../b": false, "/a;b": false, "/a%2Fb": false, "/a%5cb": false, "/a%2e": false, "/%2E%2e/": false,
		"/a%3bb": false, "/a%00": false, "/a%0a": false, "/a%7f": false, "/a%3F": false, "/a%23": false, "/a%252f": false, "/%61": false, "/%5A": false, "/%7e": false, "/%39": false,
	} {
		if got := hasOneReading(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

func TestKept(t *testing.T) {
	for raw, want := range map[string]string{
		"": "", "a=1": "", "page=2&a=1": "page=2", "size=3&page=2&page=1": "page=2&page=1&size=3", "p%61ge=1": "p%61ge=1", "%zz=1&page": "page",
	} {
		if got := kept(&wedge.Query{Keep: []string{"page", "size"}}, raw); got != want {
			t.Errorf("kept(%q) = %q, want %q", raw, got, want)
		}
	}
}

func TestPlan(t *testing.T) {
	v := &wedge.Version{Service: "shop", Rules: []wedge.Rule{
		{Backends: []wedge.Share{{Backend: "a"}}},
		{Path: "/s/*", Backends: []wedge.Share{{Backend: "b"}}, Pass: true},
		{Hosts: []string{"*.example.com"}, Methods: []string{"POST"}, Redirect: "https://x.example$path$query", Status: 308},
	}}
	r := httptest.NewRequest("GET", "http://www.example.com:8080/s/x?a=1", nil)
	p := planFor(v, r)
	if p.shares[0].Backend != "b" || !p.caching.Pass || p.redirect != nil || p.caching.Service != "shop" {
		t.Errorf("%+v", p)
	}
	r.Method = http.MethodPost
	if p = planFor(v, r); p.redirect == nil || location(p.redirect, r) != "https://x.example/s/x?a=1" {
		t.Errorf("%+v", p)
	}
	r.Host = "example.com"
	if p = planFor(v, r); p.redirect != nil {
		t.Error("a host that is not below matched")
	}
}

func TestBalance(t *testing.T) {
	v := &wedge.Version{Backends: []wedge.Backend{{Name: "a"}, {Name: "b"}, {Name: "c"}}}
	sick := map[string]bool{"b": true}
	b := &balancer{health: func(be *wedge.Backend) wedge.Health {
		if sick[be.Name] {
			return wedge.Unhealthy
		}
		return wedge.HealthUnknown
	}}
	turns := []wedge.Share{{Backend: "a"}, {Backend: "b"}, {Backend: "c"}}
	seen := map[string]int{}
	for range 30 {
		be, split := b.choose(v, turns, "")
		if seen[be.Name]++; split {
			t.Fatal("taking turns is no split")
		}
	}
	if seen["b"] != 0 || seen["a"] < 5 || seen["c"] < 5 {
		t.Errorf("turns %v", seen)
	}
	sick["a"], sick["c"] = true, true
	if be, _ := b.choose(v, turns, ""); be == nil {
		t.Error("with all sick none is chosen")
	}
	shares := []wedge.Share{{Backend: "a", Percent: 90}, {Backend: "b", Percent: 10}}
	seen = map[string]int{}
	for i := range 10_000 {
		client := httptest.NewRequest("GET", "/", nil).RemoteAddr + string(rune('a'+i%26)) + string(rune(i))
		one, split := b.choose(v, shares, client)
		two, _ := b.choose(v, shares, client)
		if seen[one.Name]++; !split || one != two {
			t.Fatal("a client does not stay")
		}
	}
	if n := seen["b"]; n < 500 || n > 1500 {
		t.Errorf("of 10,000 clients %d got the share of a tenth", n)
	}
}

func TestPurgeOrder(t *testing.T) {
	r := httptest.NewRequest("PURGE", "http://shop.example/a?b", nil)
	if p := purgeOrder(r, "shop", time.Now()); p.URL != "http://shop.example/a?b" || p.All || p.Soft || len(p.ID) != 32 {
		t.Errorf("%+v", p)
	}
	r.Header.Set("Surrogate-Key", "x y")
	r.Header.Set("Wedge-Purge", "soft")
	if p := purgeOrder(r, "shop", time.Now()); p.URL != "" || !p.Soft || !slices.Equal(p.Keys, []string{"x", "y"}) {
		t.Errorf("%+v", p)
	}
}

// TestPlainHits: rules that change what a hit looks like, or whether it is one, keep hits on the long way.
func TestPlainHits(t *testing.T) {
	origin := []wedge.Share{{Backend: "origin"}}
	minute := time.Minute
	for i, c := range []struct {
		rule  wedge.Rule
		plain bool
	}{
		{wedge.Rule{}, true}, {wedge.Rule{Path: "/x", TTL: &minute, SWR: &minute}, true}, {wedge.Rule{Backends: []wedge.Share{{Backend: "a"}, {Backend: "b"}}}, true},
		{wedge.Rule{Pass: true}, false}, {wedge.Rule{Redirect: "/"}, false}, {wedge.Rule{Query: &wedge.Query{}}, false},
		{wedge.Rule{Backends: []wedge.Share{{Backend: "a", Percent: 100}}}, false},
		{wedge.Rule{Request: wedge.HeaderEdit{Remove: []string{"Accept"}}}, false}, {wedge.Rule{Response: wedge.HeaderEdit{Set: map[string]string{"A": "b"}}}, false},
	} {
		v := &wedge.Version{Rules: []wedge.Rule{{Backends: origin}, c.rule}}
		if got := plainHits(v); got != c.plain {
			t.Errorf("rule %d: %v", i, got)
		}
		if v.Compress = true; plainHits(v) {
			t.Errorf("rule %d: compressed hits are plain", i)
		}
	}
}
