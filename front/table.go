package front

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/wedge-cloud/wedge"
)

// Route is what answers for a host: the live version of a service.
type Route struct {
	Service string
	Version int
	Handler http.Handler

	Bounds Bounds // of requests for this route

	// Hit, if not nil, puts into the answer what Handler would send for the request, and counts it
	// as Handler would, or returns false and has done nothing. It must not wait.
	Hit func(*Plain, *Answer) bool
}

// Bounds are what a route wants requests to keep to, besides the front's bounds. 0: the front's own.
type Bounds struct {
	URI         int // bytes of the request target; may be more than the front's, as far as its MaxHeaderBytes goes
	HeaderBytes int // of the header section
	HeaderLines int
}

// lower reports whether a request that the front lets in may be too much.
func (b Bounds) lower(cfg *Config) bool {
	return b.URI > 0 && b.URI < cfg.MaxURI || b.HeaderBytes > 0 && b.HeaderBytes < cfg.MaxHeaderBytes || b.HeaderLines > 0 && b.HeaderLines < cfg.MaxHeaderLines
}

// Table is an immutable routing table. Make one with [NewTable] and give it to [Front.Swap].
type Table struct {
	number   int
	exact    map[string]*Route
	wildcard map[string]*Route // by suffix, without the "*."
	fallback *Route
}

// NewTable builds a table from routes by host: a name ("shop.example"), a wildcard
// ("*.shop.example", for names of any depth below) or "*" for every other host. An exact name
// wins over a wildcard, and a longer wildcard over a shorter one. number tells tables apart in
// logs. A malformed or repeated host, or a route without handler, is an error of kind Invalid.
func NewTable(number int, routes map[string]Route) (*Table, error) {
	t := &Table{number: number, exact: map[string]*Route{}, wildcard: map[string]*Route{}}
	for pattern, route := range routes {
		if err := t.add(pattern, route); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *Table) add(pattern string, route Route) error {
	fail := func(why string) error {
		return &wedge.Error{Op: "build table", What: fmt.Sprintf("host %q", pattern), Kind: wedge.Invalid, Err: fmt.Errorf("%s", why),
			Hint: `Name hosts without port, like "shop.example", "*.shop.example" or "*".`}
	}
	if route.Handler == nil {
		return fail("route has no handler")
	}
	if pattern == "*" {
		t.fallback = &route
		return nil
	}
	into, name := t.exact, pattern
	if suffix, ok := strings.CutPrefix(pattern, "*."); ok {
		into, name = t.wildcard, suffix
	}
	host, port, ok := splitHost(name)
	if !ok || port || host == "" {
		return fail("not a host name")
	}
	if into[host] != nil {
		return fail("named twice")
	}
	into[host] = &route
	return nil
}

// Number returns the number that the table was built with.
func (t *Table) Number() int { return t.number }

// Lookup returns the route for a host as a client wrote it, with or without port.
func (t *Table) Lookup(host string) (Route, bool) {
	name, _, ok := splitHost(host)
	if !ok {
		return Route{}, false
	}
	if r := t.find(name); r != nil {
		return *r, true
	}
	return Route{}, false
}

// find wants a name as splitHost returns it.
func (t *Table) find(name string) *Route {
	if r := t.exact[name]; r != nil {
		return r
	}
	if len(t.wildcard) > 0 {
		for rest := name; ; {
			var ok bool
			if _, rest, ok = strings.Cut(rest, "."); !ok {
				break
			}
			if r := t.wildcard[rest]; r != nil {
				return r
			}
		}
	}
	return t.fallback
}

// generation is a table in use: refs counts the requests on it, and one for being current.
type generation struct {
	table *Table
	refs  atomic.Int64
	ended chan struct{}
}

func (g *generation) release() {
	if g.refs.Add(-1) == 0 {
		close(g.ended)
	}
}

// retain takes a reference, unless the generation has ended already.
func (g *generation) retain() bool {
	for {
		n := g.refs.Load()
		if n == 0 {
			return false
		}
		if g.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Swap makes t the current table; nil means no table, answered 503. Requests that began on
// the old table finish on it; the returned channel is closed when the last of them has ended,
// including connections they hijacked. Then its handlers may be closed.
func (f *Front) Swap(t *Table) (ended <-chan struct{}) {
	var next *generation
	if t != nil {
		next = &generation{table: t, ended: make(chan struct{})}
		next.refs.Store(1)
	}
	old := f.current.Swap(next)
	if old == nil {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	old.release()
	return old.ended
}

// acquire returns the current generation with a reference taken, or nil if there is none.
func (f *Front) acquire() *generation {
	for {
		g := f.current.Load()
		if g == nil || g.retain() {
			return g
		}
	}
}
