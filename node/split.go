package node

import (
	"fmt"
	"hash/fnv"
	"net/http"
	"strings"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/control"
)

// While a release has but a share of requests, two versions of a service run beside each other. A client stays with
// one of them: which one follows from its address, and from its header or cookie if the plan says so.

// besideOf is what the version that runs beside a service's own is found by. No service has such a name.
func besideOf(service string) string { return service + "~" }

// serviceOf undoes besideOf.
func serviceOf(key string) (service string, beside bool) { return strings.CutSuffix(key, "~") }

// split says which requests go to the version beside.
type split struct {
	share  float64 // in percent of clients
	shadow float64 // in percent of requests, that it gets copies of and nobody sees the answers to
	match  control.Match
	salt   string // the same clients are not always the first
}

// String says it to the operator.
func (s split) String() string {
	if s.shadow > 0 {
		return fmt.Sprintf("copies of %v %% of requests", s.shadow)
	}
	text := fmt.Sprintf("%v %% of clients", s.share)
	switch {
	case s.match.Header != "":
		text += ", and those with the header " + s.match.Header
	case s.match.Cookie != "":
		text += ", and those with the cookie " + s.match.Cookie
	}
	return text
}

// picks reports whether a request goes to the version beside.
func (s split) picks(r *http.Request) bool {
	if m := s.match; m.Header != "" {
		for _, v := range r.Header.Values(m.Header) {
			if m.Value == "" || v == m.Value {
				return true
			}
		}
	} else if m.Cookie != "" {
		for _, c := range r.CookiesNamed(m.Cookie) {
			if m.Value == "" || c.Value == m.Value {
				return true
			}
		}
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(s.salt))
	if c := wedge.ClientFrom(r.Context()); c != nil {
		b, _ := c.Remote.Addr().MarshalBinary()
		_, _ = h.Write(b)
	}
	x := h.Sum64()
	x ^= x >> 33 // addresses that differ in their last byte differ in few bits of it
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x%10_000) < s.share*100
}

// splitter answers with one of two versions.
type splitter struct {
	split
	live, beside http.Handler
	number       int // of the version beside
}

// ServeHTTP implements http.Handler.
func (s *splitter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.picks(r) {
		s.live.ServeHTTP(w, r)
		return
	}
	if c := wedge.ClientFrom(r.Context()); c != nil {
		c.Version = s.number
	}
	s.beside.ServeHTTP(w, r)
}
