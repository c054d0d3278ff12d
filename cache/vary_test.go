package cache

import (
	"net/http"
	"testing"
)

// TestVariant: what makes a difference and what does not.
func TestVariant(t *testing.T) {
	h := func(name string, lines ...string) http.Header {
		if lines == nil {
			return http.Header{}
		}
		return http.Header{http.CanonicalHeaderKey(name): lines}
	}
	for _, c := range []struct {
		name string
		a, b []string
		same bool
	}{
		{"x", []string{"a"}, []string{"a"}, true}, {"x", []string{"a"}, []string{"A"}, false}, {"x", []string{"a, b"}, []string{"a", "b"}, true},
		{"x", []string{"a,b"}, []string{"a ,  b"}, true}, {"x", []string{"a,b"}, []string{"b,a"}, false}, {"x", nil, []string{""}, false}, {"x", nil, nil, true},
		{"accept-language", []string{"de, en;q=0.5"}, []string{"DE,en; q=0.5"}, true}, {"accept-language", []string{"de"}, []string{"en"}, false},
		{"accept-encoding", []string{"gzip, deflate, br"}, []string{"br;q=0.1, GZIP, deflate;q=0.9"}, true}, {"accept-encoding", []string{"x-gzip"}, []string{"gzip"}, true},
		{"accept-encoding", []string{"gzip, br;q=0"}, []string{"gzip"}, true}, {"accept-encoding", []string{"gzip, br;q=0.0"}, []string{"gzip, br;q=0.01"}, false},
		{"accept-encoding", []string{"gzip"}, []string{"gzip, identity;q=0"}, false}, {"accept-encoding", []string{"gzip"}, []string{"gzip, *;q=0"}, false},
		{"accept-encoding", []string{"gzip"}, []string{"gzip, br"}, false}, {"accept-encoding", nil, []string{"identity"}, false}, {"accept-encoding", nil, []string{""}, false},
	} {
		if got := variant(c.name, h(c.name, c.a...)) == variant(c.name, h(c.name, c.b...)); got != c.same {
			t.Errorf("%s: %q and %q are the same: %v", c.name, c.a, c.b, got)
		}
	}
}
