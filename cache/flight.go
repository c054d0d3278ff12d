package cache

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/wedge-cloud/wedge"
)

// A flight is one fetch under way. Requests for the same thing share it: who began it, the leader,
// and who came while it was under way. It runs in a goroutine of its own, so that nobody is
// stranded when the leader leaves.
type flight struct {
	c      *Cache
	pol    *wedge.Caching
	entry  *entry
	req    *http.Request // as it goes out
	fields http.Header   // of the leader's request, which the response's Vary is about
	key    key
	seq    uint64
	base   *object // being validated
	prefix *object // of which only the rest was asked for
	listed bool    // in entry.flights
	asks   bool    // whether something stored is still good
	behind bool    // nobody leads it
	guest  bool    // a guest leads it, see Transaction; nobody's fetch waits for it
	by     any     // which one
	cancel context.CancelCauseFunc

	landed chan struct{} // closed when what follows is set
	obj    *object       // for everybody whom it matches
	err    error
	status int    // the origin's, if obj has another
	detail string // why nothing was stored
	stored bool
	own    bool           // what obj says beyond what is stored is for the leader alone
	dead   bool           // it was purged while under way: who came later must ask anew
	took   time.Duration  // until it failed, if obj stands in for what it was to bring
	rest   *http.Response // for the leader alone: a response that must not be shared
}

// Why an object stands in for what the origin should have said, in Cache-Status.
const (
	unreachable  = "origin-unreachable"
	failedItself = "stale-if-error"
)

// errUnwanted is what the fetch of a response ends with that nobody wants.
var errUnwanted = errors.New("nobody waits for this response any more")

// newFlight makes the flight for req; the entry is locked.
func (c *Cache) newFlight(e *entry, req *http.Request, fields http.Header, base *object, pol *wedge.Caching, listed bool) *flight {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(req.Context()))
	f := &flight{c: c, pol: pol, entry: e, req: req.WithContext(ctx), fields: fields, key: e.key, seq: c.purges.last.Load(),
		base: base, listed: listed, cancel: cancel, landed: make(chan struct{})}
	e.busy().active++
	if listed {
		e.traffic.flights = append(e.traffic.flights, f)
	}
	return f
}

// run fetches and tells everybody who waits.
func (f *flight) run() {
	asked := f.c.cfg.Now()
	resp, err := f.next()
	came := f.c.cfg.Now()
	f.c.stats.Fetches.Add(1)
	if err == nil && f.prefix != nil {
		resp = f.completed(resp)
		if resp.StatusCode == http.StatusPartialContent || resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
			resp.Body.Close() // a part that does not fit, of something nobody asked a part of
			f.dead = true
			f.land(nil, came)
			return
		}
	}
	switch {
	case err == errChanged:
		f.err = err
		f.cancel(err)
		f.land(nil, came)
	case err != nil:
		f.failed(err, came, came.Sub(asked))
	case resp.StatusCode == http.StatusNotModified && f.asks:
		resp.Body.Close()
		f.validated(resp, asked, came)
	case resp.StatusCode >= 500 && f.forgiven(came, 0, true):
		resp.Body.Close()
		f.obj, f.status, f.detail, f.took = f.base, resp.StatusCode, failedItself, max(came.Sub(asked), 1)
		f.land(nil, came)
	default:
		f.answered(resp, asked, came)
	}
}

// failed lands a flight that brought nothing: a stale object may have to do.
func (f *flight) failed(err error, now time.Time, took time.Duration) {
	if f.forgiven(now, f.c.cfg.Grace, false) {
		f.obj, f.detail, f.took = f.base, unreachable, max(took, 1)
	} else {
		f.err = err
		if f.base != nil && f.base.is(noStale) {
			f.err = &StaleError{err}
		}
	}
	f.cancel(err)
	f.land(nil, now)
}

// forgiven reports whether the object being validated may stand in for an origin that fails.
func (f *flight) forgiven(now time.Time, grace time.Duration, answered bool) bool {
	return f.base != nil && forgiving(f.base.freshnessAt(now, false), f.base.sie.duration(), grace, answered) && !f.gone(f.base)
}

// gone reports whether o was purged.
func (f *flight) gone(o *object) bool {
	e := f.c.entry(f.key)
	defer e.unlock(time.Time{})
	return e.purgedSince(f.c, o, f.pol.Service)
}

// validated lands a flight whose origin said that what is stored is still good.
func (f *flight) validated(resp *http.Response, asked, came time.Time) {
	defer f.cancel(errUnwanted)
	base := f.tagged(resp.Header.Get("Etag"))
	if base == nil || f.gone(base) {
		f.dead = true
		f.land(nil, came)
		return
	}
	header := freshened(base.fields.header(), resp.Header, nil)
	v := judge(f.req, base.status(), header, asked, came, f.pol)
	f.superseded(&v)
	for _, name := range v.strip { // such as a cookie for who led the flight
		delete(header, name)
	}
	vary := base.kind.Value().vary
	about := facts{
		vary: vary, variant: variant(vary, f.fields), status: base.status(), header: header, part: base.part(), trailer: base.trailer(),
		asked: asked, came: came, age: v.age, lifetime: v.lifetime, swr: v.swr, sie: v.sie, noStale: v.noStale, noCache: v.noCache,
		keys: surrogateKeys(header, f.req, f.pol), seq: f.seq, hits: base.hits.Load(), length: base.sliced(),
		service: f.pol.Service, sensitive: f.pol.Sensitive || base.is(sensitive),
	}
	if ds := resp.Header["Date"]; ds == nil {
		header.Set("Date", came.UTC().Format(http.TimeFormat))
	}
	fresh := about.object(base.body)
	fresh.bytes = base.bytes
	fresh.takeCoded(base)
	f.obj, f.status, f.stored = fresh, http.StatusNotModified, v.store
	if !v.store { // a cookie, say, came with the 304
		f.detail, f.own = v.detail, true
		f.land(nil, came)
		return
	}
	f.land(fresh, came)
	f.c.keep(fresh)
	f.supersede(fresh)
	f.c.store(fresh)
}

// superseded has a response not stored, nor shared, that came for a version which has been superseded. The purge that goes with that takes what
// began before it.
func (f *flight) superseded(v *verdict) {
	if f.pol.Superseded != nil && f.pol.Superseded.Load() {
		v.store, v.share, v.detail = false, false, "superseded"
	}
}

// tagged returns the stored object that a 304 with that entity tag speaks of (RFC 9111 section 4.3.4).
func (f *flight) tagged(etag string) (found *object) {
	if f.base != nil && (etag == "" || etag == f.base.fields.get("Etag")) {
		return f.base
	}
	e := f.c.entry(f.key)
	defer e.unlock(time.Time{})
	for _, o := range e.objects {
		if o.part() == nil && o.body.whole() && (o.fields.get("Etag") == etag || etag == "" && len(e.objects) == 1) {
			return o
		}
	}
	return f.base
}

// answered lands a flight with a response and brings its body in.
func (f *flight) answered(resp *http.Response, asked, came time.Time) {
	v := judge(f.req, resp.StatusCode, resp.Header, asked, came, f.pol)
	f.superseded(&v)
	length, large := f.c.sliceable(f.req, resp)
	if v.store && large {
		f.keepSliced(resp, &v, length, asked, came)
		return
	}
	if v.store && resp.ContentLength > f.c.cfg.MaxObject {
		v.store, v.share, v.detail = false, false, "too-large"
	}
	if v.store && f.req.Method != http.MethodGet {
		v.store, v.share, v.detail = false, false, "method"
	}
	f.detail = v.detail
	if !v.store && !(v.share && f.listed) {
		f.rest = resp
		f.land(nil, came)
		return
	}
	about := f.facts(resp, &v, asked, came)
	if resp.StatusCode == http.StatusPartialContent {
		about.part, _ = parsePart(resp.Header)
	}
	delete(resp.Trailer, "Set-Cookie")
	for name := range resp.Trailer {
		about.trailer = append(about.trailer, name)
	}
	o := about.object(newSpool(!f.behind))
	f.obj, f.stored = o, v.store
	keep := o
	if !v.store {
		keep = nil
	}
	f.land(keep, came)
	err := f.c.fill(o, resp, v.store)
	f.cancel(errUnwanted)
	if !v.store {
		return
	}
	if err != nil || !f.c.keep(o) {
		f.c.discard(o)
		return
	}
	f.supersede(o)
	f.c.store(o)
	f.combine(o)
}

// facts describes a response that is to be stored.
func (f *flight) facts(resp *http.Response, v *verdict, asked, came time.Time) facts {
	about := newFacts(f.req, resp, v, asked, came)
	about.variant, about.ahead = variant(about.vary, f.fields), f.pol.Ahead
	about.keys, about.seq = surrogateKeys(resp.Header, f.req, f.pol), f.seq
	about.service, about.sensitive = f.pol.Service, f.pol.Sensitive
	return about
}

// keepSliced lands a flight with a response that is too large to be an object: the leader gets it, and of whoever
// comes next the file is known.
func (f *flight) keepSliced(resp *http.Response, v *verdict, length int64, asked, came time.Time) {
	about := f.facts(resp, v, asked, came)
	about.sliced(length)
	o := about.object(wholeBody())
	o.bytes = o.cost(0)
	f.rest, f.detail = resp, "sliced"
	f.land(o, came)
	if f.c.keep(o) {
		f.supersede(o)
		f.c.store(o)
	}
}

// supersede takes out of the entry what o replaces.
func (f *flight) supersede(o *object) {
	e := f.c.entry(f.key)
	defer e.unlock(f.c.cfg.Now())
	switch {
	case o.is(dropped):
	case f.c.dead(o, f.pol.Service):
		e.remove(o)
	default:
		e.supersede(o, f.fields)
	}
}

// land makes keep, if given, an object of the entry, and lets everybody go on who waits.
func (f *flight) land(keep *object, now time.Time) {
	e := f.c.entry(f.key)
	e.traffic.active--
	if f.listed {
		e.land(f)
	}
	switch {
	case keep == nil && f.obj != nil:
		if f.dead && f.listed {
			e.traffic.pass = now.Add(passTime)
		}
		f.dead = f.dead || e.purgedSince(f.c, f.obj, f.pol.Service)
		if f.took > 0 && !f.dead {
			e.fails(now, f.took, f.detail)
		}
		if f.own && f.listed {
			e.traffic.pass = now.Add(passTime)
		}
	case keep != nil && e.purged().hard <= f.seq && !f.c.dead(keep, f.pol.Service):
		if e.purged().soft > f.seq {
			keep.set(stale)
		}
		e.add(keep)
		e.traffic.pass, e.traffic.sick = time.Time{}, time.Time{}
	case keep != nil:
		f.dead = true
		keep.set(dropped)
	case f.rest != nil && f.listed:
		e.traffic.pass = now.Add(passTime)
		// What was stored is no longer what the origin says, unless it says that to this client only.
		if f.base != nil && f.rest.StatusCode < 500 && !ownError(f.pol, f.rest.StatusCode) {
			e.remove(f.base)
		}
	}
	e.unlock(now)
	close(f.landed)
}

// passTime is how long it is remembered that requests for a key cannot share a response.
const passTime = 2 * time.Minute

// fill brings a response's body into its object.
func (c *Cache) fill(o *object, resp *http.Response, keep bool) error {
	defer resp.Body.Close()
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	size, limit := int64(0), c.cfg.MaxObject
	if !keep {
		limit = 2 * chunkSize
	}
	counted := int64(0) // of it in c.coming
	defer func() { c.coming.Add(-counted) }()
	for {
		n, err := resp.Body.Read(*buf)
		size += int64(n)
		if keep {
			counted += int64(n)
			// Bodies that come are bounded together, too: what comes when there are too many is not kept.
			if c.coming.Add(int64(n)) > c.cfg.Memory/2 && size > 2*chunkSize {
				limit = 0
			}
		}
		if size > limit {
			o.body.outgrow()
			if keep {
				keep = false
				c.discard(o)
				c.coming.Add(-counted)
				counted = 0
			}
		}
		if werr := o.body.write((*buf)[:n]); werr != nil {
			c.discard(o)
			o.body.end(werr)
			return werr
		}
		if err == io.EOF && resp.ContentLength > 0 && size != resp.ContentLength {
			err = io.ErrUnexpectedEOF
		}
		if err == io.EOF {
			o.bytes = o.cost(size)
			delete(resp.Trailer, "Set-Cookie") // has no place there, and is for one client at most
			o.body.finish(resp.Trailer)
			if !keep {
				return errGone
			}
			return nil
		}
		if err != nil {
			c.discard(o) // before anybody sees it break, and comes back
			o.body.end(err)
			return err
		}
	}
}

// keep accounts for a whole object; what has to go for it is taken out.
func (c *Cache) keep(o *object) bool {
	if o.entry == nil { // purged on its way
		return true
	}
	out, ok := c.storage.add(o)
	for _, old := range out {
		c.evict(old)
		c.stats.Evicted.Add(1)
	}
	if !ok {
		return false
	}
	// It may have been superseded before storage knew of it.
	s := &c.shards[o.entry.key[0]%shards]
	s.mu.Lock()
	gone := o.is(dropped)
	s.mu.Unlock()
	if gone {
		c.storage.drop(o)
	}
	return true
}

// discard takes an object out of its entry.
func (c *Cache) discard(o *object) {
	if o.entry == nil {
		return
	}
	e := c.entry(o.entry.key)
	if e == o.entry || slices.Contains(e.objects, o) {
		e.remove(o)
	}
	e.unlock(c.cfg.Now())
	c.storage.drop(o)
}
