package cache

import (
	"context"
	"hash/maphash"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge"
)

// Config says how a Cache works. Next must be given; other zero fields have useful defaults.
type Config struct {
	Next      http.RoundTripper // reaches the origin, or a shield
	Name      string            // of this cache in Cache-Status; "": Wedge
	Memory    int64             // bytes of objects kept; 0: 256 MiB
	MaxObject int64             // largest object kept, in bytes; 0: a quarter of Memory, at most 64 MiB
	Grace     time.Duration     // how long past freshness an object may stand in for an origin out of reach; 0: a day
	Now       func() time.Time  // nil: time.Now

	// Invalidated is told what unsafe requests and the answers to them have made unusable here (RFC 9111 section 4.4,
	// RFC 9875 section 3), for other caches to do the same; nil: nobody is.
	Invalidated func(wedge.Purge)

	Dir  string       // where objects lie below memory, this cache's alone; "": nowhere
	Disk int64        // bytes of them; 0: none, and what Dir has of them goes
	Log  *slog.Logger // what goes wrong with Dir; nil: slog.Default

	files files // instead of Dir's, in tests
}

// Cache is an http.RoundTripper that answers from what it has stored, and stores what Next
// answers. What it does for a request is said by the wedge.Caching of the request's context; one
// without goes straight to Next. It belongs to the node, outlives versions, and is safe for concurrent use.
type Cache struct {
	cfg     Config
	shards  [shards]shard
	storage storage
	purges  purges
	disk    *disk        // nil: none
	coming  atomic.Int64 // bytes of bodies that are not whole yet
	asked   askedTable   // for Peek
	stats   Stats
}

// Stats are a cache's counters since it began.
type Stats struct {
	Hits, Misses, Stale, Passes, Collapsed atomic.Int64
	Fetches, Evicted, Purges               atomic.Int64

	DiskHits, DiskWrites, DiskEvicted atomic.Int64 // objects read back, written, and gone for lack of room
	DiskDropped                       atomic.Int64 // not written, for there was too much to write
	DiskErrors                        atomic.Int64 // the alarm: files that failed or were damaged
}

// New returns a Cache that has in memory nothing, and on disk what was there when an earlier one ended.
// A directory that is of no use is no error: there is memory.
func New(cfg Config) *Cache {
	if cfg.Name == "" {
		cfg.Name = "Wedge"
	}
	if cfg.Memory == 0 {
		cfg.Memory = 256 << 20
	}
	if cfg.MaxObject == 0 {
		cfg.MaxObject = min(cfg.Memory/4, 64<<20)
	}
	if cfg.Grace == 0 {
		cfg.Grace = 24 * time.Hour
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c := &Cache{cfg: cfg, purges: purges{named: map[purgeName]purgeSeqs{}}}
	c.storage.limit = cfg.Memory
	c.asked.seed = maphash.MakeSeed()
	seed := maphash.MakeSeed()
	for i := range c.shards {
		c.shards[i].entries, c.shards[i].storage, c.shards[i].seed = map[uint64]*entry{}, &c.storage, seed
	}
	c.openDisk()
	return c
}

// Stats returns the counters, to be read at any time.
func (c *Cache) Stats() *Stats { return &c.stats }

// Used returns the bytes that whole objects take, and their number.
func (c *Cache) Used() (bytes int64, objects int) {
	c.storage.mu.Lock()
	defer c.storage.mu.Unlock()
	return c.storage.used, c.storage.count
}

var buffers = sync.Pool{New: func() any { b := make([]byte, chunkSize); return &b }}

// StaleError is how a fetch fails whose stored response must not be used without asking the
// origin, which could not be asked (RFC 9111 section 5.2.2.2). A client is to be told 504.
type StaleError struct{ Err error }

func (e *StaleError) Error() string {
	return "what is stored must be validated first: " + e.Err.Error()
}

// Unwrap returns the fetch's own error.
func (e *StaleError) Unwrap() error { return e.Err }

// RoundTrip implements http.RoundTripper. Errors are those of Next, perhaps in a [StaleError], or
// that of req's context.
func (c *Cache) RoundTrip(req *http.Request) (*http.Response, error) {
	pol := wedge.CachingFrom(req.Context())
	if pol == nil {
		return c.cfg.Next.RoundTrip(req)
	}
	if why, fwd := unanswerable(req, pol); why != "" {
		return c.forward(req, pol, fwd, why)
	}
	x := &exchange{c: c, req: req, pol: pol, key: keyOf(req, pol)}
	if lines := req.Header["Range"]; len(lines) > 0 && req.Method == http.MethodGet {
		x.ranges, _ = parseRange(lines)
	}
	return x.answer()
}

// unanswerable returns why a request is not for the cache, and the word for it in Cache-Status.
func unanswerable(req *http.Request, pol *wedge.Caching) (why, fwd string) {
	switch {
	case req.Method != http.MethodGet && req.Method != http.MethodHead:
		return "method", "method"
	case pol.Pass:
		return "pass", "bypass"
	case req.Header["Upgrade"] != nil:
		return "upgrade", "bypass"
	case req.Header["If-Match"] != nil || req.Header["If-Unmodified-Since"] != nil:
		return "precondition", "request"
	case req.Body != nil && req.Body != http.NoBody && req.ContentLength != 0:
		return "body", "bypass" // it would be an input that the key does not have
	}
	return "", ""
}

// forward sends a request on and changes nothing but what an unsafe one invalidates.
func (c *Cache) forward(req *http.Request, pol *wedge.Caching, fwd, why string) (*http.Response, error) {
	c.stats.Passes.Add(1)
	resp, err := c.cfg.Next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	c.invalidate(req, resp, pol)
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, nil
	}
	out := outcome{fwd: fwd}
	if why != fwd {
		out.detail = why
	}
	if resp.Header == nil {
		resp.Header = http.Header{}
	}
	out.append(resp.Header, c.cfg.Name)
	return resp, nil
}

// exchange is one request on its way through the cache.
type exchange struct {
	c      *Cache
	req    *http.Request
	pol    *wedge.Caching
	key    key
	ranges []byteRange
	fwd    string // why it was not answered from storage
	tries  int
	plain  bool // ask for all of it, not whether something is still good

	late <-chan time.Time // tells that it has waited for others long enough; nil: it has not waited, or never will have
}

// maxTries bounds how often a request waits for a response that then is not for it.
const maxTries = 4

// answer finds an object or a flight for the request, or begins one.
func (x *exchange) answer() (*http.Response, error) {
	for ; ; x.tries++ {
		resp, err := x.attempt()
		if err == errGone && x.tries < 2*maxTries {
			continue // too large to be kept, and its beginning is gone already
		}
		if resp != nil || err != nil {
			return resp, err
		}
	}
}

// attempt returns nothing if the request waited for a response that is not for it.
func (x *exchange) attempt() (*http.Response, error) {
	resp, f, leader, err := x.look()
	if f == nil {
		return resp, err
	}
	if leader {
		go f.run()
	} else if p := x.pol.Patience; p != nil && x.late == nil {
		x.late = time.After(*p)
	}
	select {
	case <-f.landed:
	case <-x.late:
		x.tries = maxTries // it goes by itself
		return nil, nil
	case <-x.req.Context().Done():
		if leader {
			go f.drop()
		}
		return nil, context.Cause(x.req.Context())
	}
	if f.dead && f.obj == nil && f.err == nil && !(leader && f.rest != nil) { // what was to be validated was purged, or is unknown
		x.plain = true
		return nil, nil
	}
	if leader {
		defer f.release()
		return x.land(f, true)
	}
	if f.err == nil && (f.obj == nil || f.dead || f.own || !f.obj.answers(x.req.Header, x.ranges)) {
		return nil, nil
	}
	x.c.stats.Collapsed.Add(1)
	return x.land(f, false)
}

// look answers from storage, or returns the flight to wait for.
func (x *exchange) look() (resp *http.Response, f *flight, leader bool, err error) {
	c, now := x.c, x.c.cfg.Now()
	e, o := x.find(now)
	if o != nil && o.part() != nil && !ifRange(x.req, &o.fields) {
		o = nil
	}
	var fresh *freshness
	if o != nil {
		fresh = o.freshnessAt(now, strings.Contains(o.fields.get("Cache-Control"), "immutable"))
	}
	switch d := decide(x.req, fresh, x.pol); d {
	case hit, revalidate:
		if d == revalidate && o.body.whole() && e.joinable(x.req.Header, x.ranges) == nil {
			f := c.newFlight(e, x.validating(e, o), x.req.Header, o, x.pol, true)
			f.asks = true
			go f.background()
		}
		e.unlock(now)
		resp, err = x.hit(o, now, d == revalidate, "")
		return resp, nil, false, err
	case refuse:
		e.unlock(now)
		return gatewayTimeout(x.req, c.cfg.Name), nil, false, nil
	case validate:
		if why := e.spared(now); why != "" && x.pol.Profile == wedge.CacheSafe && x.excuses(o, fresh, why) {
			e.unlock(now)
			resp, err = x.hit(o, now, true, why)
			return resp, nil, false, err
		}
		x.fwd = "stale"
		if fresh.lifetime > fresh.age && !fresh.noCache && !fresh.purged {
			x.fwd = "request"
		}
	case miss:
		x.fwd = missing(e, o)
	}
	f, leader = x.flight(e, o)
	e.unlock(now)
	return nil, f, leader, nil
}

// excuses reports whether o may stand in for an origin that failed like that.
func (x *exchange) excuses(o *object, fresh *freshness, failure string) bool {
	answered := failure == failedItself
	grace := x.c.cfg.Grace
	if answered {
		grace = 0
	}
	return o.body.whole() && forgiving(fresh, o.sie.duration(), grace, answered)
}

// missing returns the word for why nothing stored could be used.
func missing(e *entry, o *object) string {
	switch {
	case o != nil:
		return "stale"
	case len(e.objects) > 0:
		return "vary-miss"
	}
	return "uri-miss"
}

// get returns the request as a GET for the whole representation.
func (x *exchange) get() *http.Request {
	if x.req.Method == http.MethodGet {
		return x.req
	}
	out := *x.req
	out.Method = http.MethodGet
	return &out
}

// validating returns the request that asks whether o is still good.
func (x *exchange) validating(e *entry, o *object) *http.Request {
	out := conditional(x.get(), e.tags(x.c, x.pol.Service, o), o.fields.get("Last-Modified"))
	if o.part() != nil {
		out.Header["Range"] = x.req.Header["Range"]
	}
	return out
}

// flight returns the flight that the request waits for. What must not be shared gets its own.
func (x *exchange) flight(e *entry, o *object) (f *flight, leader bool) {
	c, req := x.c, x.req
	if o != nil && !o.body.whole() {
		o = nil
	}
	pass := e.passes(c.cfg.Now()) || o == nil && req.Header["Authorization"] != nil
	alone := pass || req.Method == http.MethodHead && (o == nil || !o.is(validator)) || len(x.ranges) > 0 && o == nil
	if f := e.joinable(req.Header, x.ranges); f != nil && !pass && x.tries < maxTries {
		return f, false
	}
	out, asks := withoutConditions(req), false
	var prefix *object
	switch {
	case x.plain:
	case o != nil && o.is(validator) && !(req.Method == http.MethodHead && pass):
		out, asks = x.validating(e, o), true
	case alone:
		out = req
	case o == nil && len(e.objects) > 0: // none matches, and yet one may be what this request would get
		if prefix = e.beginning(c, x.pol.Service, req.Header); prefix != nil {
			out = theRest(req, prefix)
		} else if tags := e.tags(c, x.pol.Service, nil); len(tags) > 0 {
			out, asks = conditional(req, tags, ""), true
		}
	}
	f = c.newFlight(e, out, req.Header, o, x.pol, !alone)
	f.asks, f.prefix = asks, prefix
	return f, true
}

// drop closes a response that was for a leader who left, or for nobody.
func (f *flight) drop() {
	<-f.landed
	f.release()
	if f.rest != nil {
		f.cancel(errUnwanted)
		f.rest.Body.Close()
	}
}

// release lets the body go on that was to wait for its leader to begin reading.
func (f *flight) release() {
	if f.obj != nil {
		f.obj.body.release()
	}
}

// background runs a flight that nobody leads.
func (f *flight) background() {
	f.behind = true
	f.run()
	f.drop()
}

// land answers with what the flight brought.
func (x *exchange) land(f *flight, leader bool) (*http.Response, error) {
	out := outcome{fwd: x.fwd, status: f.status, detail: f.detail, stored: f.stored, collapsed: !leader}
	x.c.stats.Misses.Add(1)
	switch {
	case f.err != nil:
		return nil, f.err
	case f.obj != nil:
		if f.detail != "" && f.obj == f.base {
			x.c.stats.Stale.Add(1)
		}
		return x.respond(f.obj, &out)
	}
	return x.passOn(f, &out)
}

// passOn gives the leader a response that nobody else may have.
func (x *exchange) passOn(f *flight, out *outcome) (*http.Response, error) {
	resp := f.rest
	if resp.Header == nil {
		resp.Header = http.Header{}
	}
	out.append(resp.Header, x.c.cfg.Name)
	resp.Request = x.req
	body := resp.Body
	resp.Body = &ownBody{readCloser: body, stop: context.AfterFunc(x.req.Context(), func() { f.cancel(context.Cause(x.req.Context())) }), cancel: f.cancel}
	if f.req.Header["If-None-Match"] == nil && f.req.Header["If-Modified-Since"] == nil && notModified(x.req, resp.StatusCode, mapped(resp.Header)) {
		return x.unmodified(resp), nil
	}
	return resp, nil
}

// ownBody ends the flight's context with the body.
type ownBody struct {
	readCloser
	stop   func() bool
	cancel context.CancelCauseFunc
}

type readCloser interface {
	Read([]byte) (int, error)
	Close() error
}

func (b *ownBody) Close() error {
	b.stop()
	b.cancel(errUnwanted)
	return b.readCloser.Close()
}
