package cache

import (
	"bytes"
	"crypto/sha256"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
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
	r := c.rendering(o)
	if r.unfit || q.Head && !r.length {
		return false
	}
	body, whole := o.body.pieces(h.Body)
	if !whole {
		return false
	}
	h.Status = o.status
	h.Head = r.append(h.Head, o, now)
	if !q.Head {
		h.Body = body
	}
	o.hits.Add(1)
	if !o.visited.Load() {
		o.visited.Store(true)
	}
	c.stats.Hits.Add(1)
	return true
}

// peek returns the fresh object for a query if it is the only one that matches.
func (c *Cache) peek(q *Query, now time.Time) *object {
	k := q.key()
	s := &c.shards[k[0]%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[k]
	if e == nil {
		return nil
	}
	var found *object
	for _, o := range e.objects {
		if o.part != nil {
			continue
		}
		matches, sure := e.answers(o, q)
		if !sure || matches && found != nil {
			return nil
		}
		if matches {
			found = o
		}
	}
	if found == nil || c.dead(found, q.Policy.Service) || found.noCache || found.stale.Load() || found.lifetime <= found.ageAt(now) {
		return nil
	}
	return found
}

// key is keyOf for queries. SHA-256 takes a hundredth of what a hit takes in all.
func (q *Query) key() key {
	b := make([]byte, 0, 512)
	b = append(append(b, q.Policy.Service...), 0, 0, 'u', 0) // no space of its own: see keyOf
	b = append(append(b, q.Scheme...), "://"...)
	return sha256.Sum256(append(append(b, q.Host...), q.Target...))
}

// inVary are the fields of Vary that Peek knows: those that nothing between client and cache changes.
var inVary = []string{"accept", "accept-encoding", "accept-language", "origin"}

// asked is what requests said in the fields of a Vary, and what that comes to when normalised. An
// entry remembers a few, for clients of one kind say the same.
type asked struct{ vary, raw, variant string }

const (
	maxAsked    = 4
	maxAskedRaw = 128
)

// answers reports whether o matches the query, if that can be said.
func (e *entry) answers(o *object, q *Query) (matches, sure bool) {
	if o.vary == "" {
		return true, true
	}
	raw, ok := q.said(make([]byte, 0, maxAskedRaw+64), o.vary)
	if !ok {
		return false, false
	}
	for i := range e.asked {
		if a := &e.asked[i]; a.vary == o.vary && a.raw == string(raw) {
			return a.variant == o.variant, true
		}
	}
	v := variant(o.vary, q.header(o.vary))
	if v == o.variant && len(raw) <= maxAskedRaw {
		if len(e.asked) == maxAsked {
			e.asked = slices.Delete(e.asked, 0, 1)
		}
		e.asked = append(e.asked, asked{o.vary, string(raw), v})
	}
	return v == o.variant, true
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

// rendering is an object's head as it goes out, but for the two values that each hit has anew: Age,
// and ttl in Cache-Status.
type rendering struct {
	unfit                  bool // net/http has to send it
	length                 bool // its Content-Length is known to answers to HEAD too
	before, between, after []byte
}

// append writes the head of a hit.
func (r *rendering) append(b []byte, o *object, now time.Time) []byte {
	age := o.ageAt(now)
	b = strconv.AppendInt(append(b, r.before...), int64(age/time.Second), 10)
	b = strconv.AppendInt(append(b, r.between...), int64((o.lifetime-age)/time.Second), 10)
	return append(b, r.after...)
}

// renderOnce is where an object keeps its rendering.
type renderOnce = atomic.Pointer[rendering]

func (c *Cache) rendering(o *object) *rendering {
	r := o.rendered.Load()
	if r == nil {
		r = o.render(c.cfg.Name, c.cfg.Hidden)
		o.rendered.Store(r)
	}
	return r
}

// render makes the head that net/http would send: the fields in order of their names.
func (o *object) render(name string, hidden []string) *rendering {
	h := maps.Clone(o.header)
	for _, name := range hidden {
		delete(h, name)
	}
	size := strconv.FormatInt(o.body.length(), 10)
	r := &rendering{length: slices.Equal(h["Content-Length"], []string{size})}
	h["Content-Length"] = []string{size}
	if r.unfit = !o.renders(h); r.unfit {
		return r
	}
	earlier := append(slices.Clone(h["Cache-Status"]), name+"; hit; ttl=")
	delete(h, "Age")
	delete(h, "Cache-Status")
	head := "HTTP/1.1 " + strconv.Itoa(o.status) + " " + http.StatusText(o.status) + "\r\n"
	r.before = []byte(head + fields(h, "", "Age") + "Age: ")
	r.between = []byte("\r\n" + fields(h, "Age", "Cache-Status") + "Cache-Status: " + strings.Join(earlier, ", "))
	detail := ""
	if o.ahead {
		detail = "; detail=prefetched"
	}
	r.after = []byte(detail + "\r\n" + fields(h, "Cache-Status", "") + "\r\n")
	return r
}

// renders reports whether net/http would send an object with these fields as they are. It adds a Date
// where there is none, and has rules of its own for some status codes.
func (o *object) renders(h http.Header) bool {
	for name := range h {
		if hopByHop[name] {
			return false
		}
	}
	odd := o.status < 200 || o.status == http.StatusNoContent || o.status == http.StatusNotModified || http.StatusText(o.status) == ""
	return !odd && h["Date"] != nil && len(o.trailer) == 0
}

// fields writes those fields whose names are between two others; "" is no bound.
func fields(h http.Header, after, before string) string {
	some := http.Header{}
	for name, values := range h {
		if name > after && (before == "" || name < before) {
			some[name] = values
		}
	}
	var b bytes.Buffer
	_ = some.Write(&b)
	return b.String()
}

func (s *spool) length() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

// maxPieces bounds the body of a hit; those of larger ones gain nothing by it.
const maxPieces = 32

// pieces appends all of a body that is whole and in memory.
func (s *spool) pieces(to [][]byte) ([][]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended || s.err != nil || s.large || len(s.chunks) > maxPieces {
		return to, false
	}
	left := s.size
	for _, c := range s.chunks {
		to = append(to, c)
		left -= int64(len(c))
	}
	return to, left == 0
}
