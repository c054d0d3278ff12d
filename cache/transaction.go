package cache

import (
	"context"
	"crypto/sha256"
	"net/http"
	"time"

	"github.com/wedge-cloud/wedge"
)

// A Transaction is one lookup of a guest that keeps things in the cache itself, bytes under keys of
// its own or responses by the rules of HTTP: what it found, and perhaps the obligation to insert
// what is missing. The obligation is a flight that the guest leads: others wait for it to land, with
// an object or empty-handed, and of the latter one gets the obligation. A Transaction is for one
// goroutine at a time.
type Transaction struct {
	c      *Cache
	pol    *wedge.Caching
	req    *http.Request // nil: it is about an object under a key of its own
	fields http.Header
	key    key
	mode   wedge.CacheMode
	by     any       // who looks; nil: it does not matter
	asked  time.Time // when the request for what is missing went out

	found   *object
	state   wedge.CacheState
	flight  *flight // the obligation; nil: none, or no more
	awaited *spool  // waits for this one to begin reading
}

// ownKey returns the key of what a guest keeps under a name of its own. No request's key is the same.
func ownKey(service, name string) key {
	h := append(append(make([]byte, 0, 256), service...), 0, 0, 'c', 0)
	return shortened(sha256.Sum256(append(h, name...)))
}

// Look returns what there is. While another has it to insert, Look waits, until ctx ends; with
// NoWait it returns nil. The Transaction must be closed.
func (c *Cache) Look(ctx context.Context, l wedge.CacheLookup) (*Transaction, error) {
	t := c.transaction(&l)
	c.lift(ctx, t.key, t.pol.Service, t.fields)
	for {
		f := t.attempt()
		if f == nil {
			return t, nil
		}
		if l.NoWait {
			return nil, nil
		}
		select {
		case <-f.landed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if t.share(f) {
			return t, nil
		}
	}
}

func (c *Cache) transaction(l *wedge.CacheLookup) *Transaction {
	t := &Transaction{c: c, req: l.Request, fields: l.Header, mode: l.Mode, by: l.By, asked: c.cfg.Now()}
	if t.req == nil {
		t.pol, t.key = &wedge.Caching{Service: l.Service}, ownKey(l.Service, l.Key)
		return t
	}
	t.pol, t.fields = policy(t.req), t.req.Header
	t.key = keyOf(t.req, t.pol)
	return t
}

// policy returns what a request's context says about caching.
func policy(req *http.Request) *wedge.Caching {
	if pol := wedge.CachingFrom(req.Context()); pol != nil {
		return pol
	}
	return &wedge.Caching{}
}

// Cacheable reports whether responses to a request may be kept at all.
func (c *Cache) Cacheable(req *http.Request) bool {
	why, _ := unanswerable(req, policy(req))
	return why == ""
}

// RequestKey names what requests for the same resource have in common.
func (c *Cache) RequestKey(req *http.Request) []byte {
	sum := sumOf(req, policy(req))
	return sum[:]
}

// attempt settles the lookup, or returns the flight to wait for.
func (t *Transaction) attempt() *flight {
	now := t.c.cfg.Now()
	e := t.c.entry(t.key)
	defer func() { e.unlock(now) }()
	o := e.match(t.c, t.pol.Service, t.fields, nil)
	if o != nil && o.sliced() > 0 {
		o = nil // a guest reads bodies
	}
	d := t.judge(o, now)
	switch t.mode {
	case wedge.CacheRead:
		t.find(o, d)
		return nil
	case wedge.CacheCollapse:
		return t.collapse(e, o, d, now)
	}
	return t.replace(e, o, d)
}

// judge decides on an object that matches.
func (t *Transaction) judge(o *object, now time.Time) decision {
	switch {
	case o == nil:
		return miss
	case t.req == nil && o.is(stale) && o.swr.duration() == 0: // purged softly, and its guest lets it be stale for no time
		return miss
	case t.req == nil:
		return usable(o.freshnessAt(now, false), noDirectives(), t.pol)
	}
	return decide(t.req, o.freshnessAt(now, false), t.pol)
}

// stateOf returns the state of a lookup that ends with d.
func stateOf(d decision) wedge.CacheState {
	switch d {
	case hit:
		return wedge.CacheFound | wedge.CacheUsable
	case revalidate:
		return wedge.CacheFound | wedge.CacheUsable | wedge.CacheStale
	}
	return 0
}

// find takes o for what was found, if it may be used.
func (t *Transaction) find(o *object, d decision) {
	switch t.state = stateOf(d); {
	case t.state == 0:
		t.c.stats.Misses.Add(1)
		return
	case d == hit:
		t.c.stats.Hits.Add(1)
	default:
		t.c.stats.Stale.Add(1)
	}
	t.found = o
	o.hits.Add(1)
	o.set(visited)
}

// collapse finds something to use, waits for who inserts it, or takes the obligation.
func (t *Transaction) collapse(e *entry, o *object, d decision, now time.Time) *flight {
	whole := o != nil && o.body.whole()
	if d != hit && d != revalidate {
		alone := !whole && t.fields["Authorization"] != nil && t.req != nil
		if e.passes(now) { // nobody waits, and whoever finds that it can be kept may do so
			t.c.stats.Passes.Add(1)
			alone = true
		}
		f := e.led(t)
		alone = alone || f != nil && f.by != nil && f.by == t.by
		if f != nil && !alone {
			return f
		}
		t.find(o, d)
		t.oblige(e, !alone)
		if whole && t.req != nil {
			t.validate(o, now)
		}
		return nil
	}
	if t.find(o, d); d == revalidate && whole && e.led(t) == nil {
		t.oblige(e, true)
	}
	return nil
}

// validate says of a stale response what it can still be used for.
func (t *Transaction) validate(o *object, now time.Time) {
	forgiven := forgiving(o.freshnessAt(now, false), o.sie.duration(), 0, true)
	if !o.is(validator) && !forgiven {
		return
	}
	t.found = o
	t.state |= wedge.CacheFound | wedge.CacheStale
	if forgiven {
		t.state |= wedge.CacheUsableIfError
	}
}

// replace finds what is to be replaced, and sees to it that others wait or are waited for.
func (t *Transaction) replace(e *entry, o *object, d decision) *flight {
	if t.mode == wedge.CacheReplaceWait {
		if f := e.led(t); f != nil {
			return f
		}
	}
	if t.state = stateOf(d); t.state != 0 {
		t.found = o
	}
	if t.mode == wedge.CacheReplaceMiss && o != nil {
		e.remove(o)
	}
	state := t.state
	t.oblige(e, t.mode != wedge.CacheReplace)
	t.state = state // it may be inserted, and need not
	return nil
}

// led returns a flight that t may wait for, a guest's or a fetch.
func (e *entry) led(t *Transaction) *flight {
	if e.traffic == nil {
		return nil
	}
	vary := e.vary()
	for _, f := range e.traffic.flights {
		if variant(vary, f.fields) == variant(vary, t.fields) && e.purged().hard <= f.seq {
			return f
		}
	}
	return nil
}

// oblige makes t the leader of a flight, for which others wait if it is listed.
func (t *Transaction) oblige(e *entry, listed bool) {
	t.flight = &flight{c: t.c, pol: t.pol, entry: e, fields: t.fields, key: t.key, seq: t.c.purges.last.Load(),
		listed: listed, guest: true, by: t.by, landed: make(chan struct{})}
	e.busy().active++
	t.state |= wedge.CacheMustInsert
	if listed {
		e.traffic.flights = append(e.traffic.flights, t.flight)
	}
}

// share takes what a flight brought, if it is for everybody who waited.
func (t *Transaction) share(f *flight) bool {
	if t.mode != wedge.CacheCollapse || f.err != nil || f.dead || f.own || f.obj == nil || f.obj.part() != nil || !f.obj.matches(t.fields) {
		return false
	}
	t.c.stats.Collapsed.Add(1)
	t.found, t.state = f.obj, wedge.CacheFound|wedge.CacheUsable
	if f.obj.ageAt(t.c.cfg.Now()) >= f.obj.lifetime {
		t.state |= wedge.CacheStale
	}
	return true
}

// errNoObligation is what ends an operation for which a transaction lacks the obligation, or the object.
var errNoObligation error = &wedge.Error{Op: "end cache transaction", Kind: wedge.Conflict,
	Hint: "Insert, update and cancel once, and only if the lookup's state says must insert or update."}

// claim ends the obligation and returns its flight, which is to be landed.
func (t *Transaction) claim() (*flight, error) {
	f := t.flight
	if f == nil {
		return nil, errNoObligation
	}
	t.flight = nil
	t.state &^= wedge.CacheMustInsert
	return f, nil
}

// Cancel gives the obligation up: of those who wait one gets it.
func (t *Transaction) Cancel() error {
	f, err := t.claim()
	if err != nil {
		return err
	}
	f.land(nil, t.c.cfg.Now())
	return nil
}

// Close gives up everything.
func (t *Transaction) Close() {
	_ = t.Cancel() // there may be nothing to give up
	t.reading()
}

// reading lets a body go on that waited for this one to read it.
func (t *Transaction) reading() {
	if t.awaited != nil {
		t.awaited.release()
		t.awaited = nil
	}
}

// State says what came of the lookup.
func (t *Transaction) State() wedge.CacheState { return t.state }
