package node

import (
	"encoding/hex"
	"hash/fnv"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strings"
	"sync/atomic"

	"github.com/wedge-cloud/wedge"
)

// plan is what the rules of a service say of one request.
type plan struct {
	caching  wedge.Caching
	shares   []wedge.Share
	query    *wedge.Query
	redirect *wedge.Rule
	request  []*wedge.HeaderEdit
	response []*wedge.HeaderEdit
	inside   bool // for another PoP, not for a client
}

// planFor applies the rules that match, in order. The first rule of a version without a guest says
// for all requests where responses come from.
func planFor(v *wedge.Version, r *http.Request) *plan {
	p := &plan{caching: *cachingOf(v)}
	for i := range v.Rules {
		if rule := &v.Rules[i]; matches(rule.Path, rule.Hosts, rule.Methods, r) {
			p.apply(rule)
		}
	}
	if p.caching.TTL != nil && !hasOneReading(r.URL.EscapedPath()) {
		p.caching.TTL = nil
	}
	return p
}

// hasOneReading reports whether a path means the same to the rules and to an origin, whatever that makes of
// encoded slashes, dots and parameters. A rule about /static/* must not have /static/..%2Faccount stored: how
// long something with such a path is kept the origin says, or nobody.
func hasOneReading(path string) bool {
	if strings.ContainsAny(path, ";\\") || strings.Contains(path, "//") {
		return false
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == "." || part == ".." {
			return false
		}
	}
	for i := strings.IndexByte(path, '%'); i >= 0 && i+2 < len(path); i++ {
		if path[i] != '%' {
			continue
		}
		b, err := hex.DecodeString(path[i+1 : i+3])
		if c := append(b, 0)[0]; err != nil || c < ' ' || c == 0x7f || strings.IndexByte(`/\;?#%-._~`, c) >= 0 ||
			'0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z' {
			return false
		}
	}
	return true
}

// matches reports whether a request is one that a rule is about.
func matches(path string, hosts, methods []string, r *http.Request) bool {
	host := hostOf(r)
	return (path == "" || like(path, r.URL.EscapedPath())) &&
		(len(methods) == 0 || slices.Contains(methods, r.Method)) &&
		(len(hosts) == 0 || slices.ContainsFunc(hosts, func(p string) bool {
			return p == host || strings.HasPrefix(p, "*.") && strings.HasSuffix(host, p[1:])
		}))
}

// like reports whether s is pattern with some text in the place of each star. It takes no longer
// than the product of the lengths, whatever a client sends.
func like(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	s, ok := strings.CutPrefix(s, parts[0])
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(s, part)
		if !ok || i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return ok && strings.HasSuffix(s, parts[len(parts)-1])
}

func (p *plan) apply(rule *wedge.Rule) {
	c := &p.caching
	c.Pass = c.Pass || rule.Pass
	if rule.TTL != nil {
		c.TTL = rule.TTL
	}
	if rule.SWR != nil {
		c.SWR = rule.SWR
	}
	if rule.Backends != nil {
		p.shares = rule.Backends
	}
	if rule.Query != nil {
		p.query = rule.Query
	}
	if rule.Redirect != "" {
		p.redirect = rule
	}
	p.request = append(p.request, &rule.Request)
	p.response = append(p.response, &rule.Response)
}

// kept returns the query with the parameters that count, in order of their names.
func kept(q *wedge.Query, raw string) string {
	var keep []string
	for pair := range strings.SplitSeq(raw, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if name, err := url.QueryUnescape(name); err == nil && slices.Contains(q.Keep, name) {
			keep = append(keep, pair)
		}
	}
	sort.SliceStable(keep, func(i, j int) bool {
		a, _, _ := strings.Cut(keep[i], "=")
		b, _, _ := strings.Cut(keep[j], "=")
		return a < b
	})
	return strings.Join(keep, "&")
}

// location is where a redirect leads.
func location(rule *wedge.Rule, r *http.Request) string {
	query := ""
	if r.URL.RawQuery != "" {
		query = "?" + r.URL.RawQuery
	}
	return strings.NewReplacer("$path", r.URL.EscapedPath(), "$query", query).Replace(rule.Redirect)
}

func edit(h http.Header, edits []*wedge.HeaderEdit) {
	for _, e := range edits {
		for _, name := range e.Remove {
			h.Del(name)
		}
		for name, value := range e.Set {
			h.Set(name, value)
		}
	}
}

// balancer chooses backends.
type balancer struct {
	turn   atomic.Uint64
	health func(*wedge.Backend) wedge.Health
}

// choose returns the backend for a client. split says that others get another one for the same URL.
func (b *balancer) choose(v *wedge.Version, shares []wedge.Share, client string) (chosen *wedge.Backend, split bool) {
	name := shares[0].Backend
	total := 0
	for _, s := range shares {
		total += s.Percent
	}
	switch {
	case total > 0:
		name, split = portion(shares, client), true
	case len(shares) > 1:
		name = b.next(v, shares)
	}
	chosen, _ = v.Backend(name)
	return chosen, split
}

// portion divides clients by their addresses, so that each one stays where it is.
func portion(shares []wedge.Share, client string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(client))
	at := int(h.Sum32() % 100)
	for _, s := range shares {
		if at -= s.Percent; at < 0 {
			return s.Backend
		}
	}
	return shares[len(shares)-1].Backend
}

// next takes the backends in turn and leaves out those known to be sick, unless all are.
func (b *balancer) next(v *wedge.Version, shares []wedge.Share) string {
	turn := b.turn.Add(1)
	for i := range shares {
		s := shares[(turn+uint64(i))%uint64(len(shares))]
		if be, ok := v.Backend(s.Backend); ok && (be.Dir != "" || b.health(be) != wedge.Unhealthy) {
			return s.Backend
		}
	}
	return shares[turn%uint64(len(shares))].Backend
}
