package cache

import (
	"crypto/sha256"
	"hash/maphash"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge"
)

// Query is a request for a whole representation that nothing but what is said here bears on: no
// conditions, no range, no body.
type Query struct {
	Policy     *wedge.Caching
	Scheme     string
	Host       []byte // in normal form: lower case, no port that the scheme implies
	Target     []byte // path and query as sent, spelled as net/url would write them
	Head       bool   // the method is HEAD
	Directives bool   // it has Cache-Control or Pragma
	Fields     interface {
		Lines(name string) [][]byte // the values of a field, one for each line; good until the next call
	}
}

// Hit is a stored response as HTTP/1.1 has it. Its slices are appended to.
type Hit struct {
	Status int
	Head   []byte   // from the status line to the empty line
	Body   [][]byte // never changes
}

// Peek answers a query if that takes nothing but a fresh object, whole and in memory, and then
// counts the hit as RoundTrip does. What a client gets is what net/http makes of RoundTrip's
// response. It returns false, and has done nothing, if there is anything else to do or to think about.
// A hit allocates nothing.
func (c *Cache) Peek(q *Query, h *Hit) bool {
	if q.Policy.Pass || q.Policy.Key != "" || q.Policy.Space != "" || q.Policy.Compress || q.Directives && q.Policy.Profile == wedge.CacheStrict {
		return false
	}
	now := c.cfg.Now()
	o := c.peek(q, now)
	if o == nil {
		return false
	}
	if o.is(unfit) {
		return false
	}
	body, size, whole := o.body.pieces(h.Body)
	if !whole || q.Head && !o.fields.sized(size) {
		return false
	}
	age := o.ageAt(now)
	says := hitHead{status: o.status(), cache: c.cfg.Name, age: age, ttl: o.lifetime - age, length: size}
	if o.is(ahead) {
		says.detail = "; detail=prefetched"
	}
	h.Status = says.status
	h.Head = o.fields.append(h.Head, &says)
	if !q.Head {
		h.Body = body
	}
	o.hits.Add(1)
	o.set(visited)
	c.stats.Hits.Add(1)
	return true
}

// peek returns the fresh object for a query if it is the only one that matches.
func (c *Cache) peek(q *Query, now time.Time) *object {
	k := q.key()
	s := &c.shards[k[0]%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.find(&k)
	if e == nil {
		return nil
	}
	var found *object
	for _, o := range e.objects {
		if o.part() != nil {
			continue
		}
		matches, sure := c.answers(o, q)
		if !sure || matches && found != nil {
			return nil
		}
		if matches {
			found = o
		}
	}
	if found == nil || c.dead(found, q.Policy.Service) || found.is(noCache|stale) || found.lifetime <= found.ageAt(now) {
		return nil
	}
	return found
}

// key is keyOf for queries. SHA-256 takes a hundredth of what a hit takes in all.
func (q *Query) key() key {
	b := make([]byte, 0, 512)
	b = append(append(b, q.Policy.Service...), 0, 0, 'u', 0) // no space of its own: see keyOf
	b = append(append(b, q.Scheme...), "://"...)
	return shortened(sha256.Sum256(append(append(b, q.Host...), q.Target...)))
}

// inVary are the fields of Vary that Peek knows: those that nothing between client and cache changes.
var inVary = []string{"accept", "accept-encoding", "accept-language", "origin"}

// asked is what requests said in the fields of a Vary, and what that comes to when normalised. Clients
// of one kind say the same, so the cache remembers some.
type asked struct{ vary, raw, variant string }

// askedTable has a place for each hash of what requests say; the latest is in it.
type askedTable struct {
	seed maphash.Seed
	at   [512]atomic.Pointer[asked]
}

const maxAskedRaw = 128

// answers reports whether o matches the query, if that can be said.
func (c *Cache) answers(o *object, q *Query) (matches, sure bool) {
	k := o.kind.Value()
	if k.vary == "" {
		return true, true
	}
	raw, ok := q.said(make([]byte, 0, maxAskedRaw+64), k.vary)
	if !ok {
		return false, false
	}
	at := &c.asked.at[maphash.Bytes(c.asked.seed, raw)%uint64(len(c.asked.at))]
	if a := at.Load(); a != nil && a.vary == k.vary && a.raw == string(raw) {
		return a.variant == k.variant, true
	}
	v := variant(k.vary, q.header(k.vary))
	if len(raw) <= maxAskedRaw {
		at.Store(&asked{k.vary, string(raw), v})
	}
	return v == k.variant, true
}

// said appends the lines that a Vary is about, apart from each other.
func (q *Query) said(b []byte, vary string) ([]byte, bool) {
	for name := range strings.SplitSeq(vary, ",") {
		if !slices.Contains(inVary, name) {
			return nil, false
		}
		for _, line := range q.Fields.Lines(name) {
			b = append(append(b, line...), '\n')
		}
		b = append(b, 0)
	}
	return b, true
}

// header returns the fields that a Vary is about.
func (q *Query) header(vary string) http.Header {
	h := http.Header{}
	for name := range strings.SplitSeq(vary, ",") {
		for _, line := range q.Fields.Lines(name) {
			name := textproto.CanonicalMIMEHeaderKey(name)
			h[name] = append(h[name], string(line))
		}
	}
	return h
}

// maxPieces bounds the body of a hit; those of larger ones gain nothing by it.
const maxPieces = 32

// pieces appends all of a body that is whole and in memory, and returns how long it is.
func (s *spool) pieces(to [][]byte) (_ [][]byte, size int64, whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.long == nil {
		return append(to, s.only), s.size, true
	}
	if !s.isWhole() || s.long.large || s.long.disk != nil || len(s.long.chunks) > maxPieces {
		return to, 0, false
	}
	return append(to, s.long.chunks...), s.size, true
}
