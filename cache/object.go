package cache

import (
	"net/http"
	"sync/atomic"
	"time"
	"unique"
)

// An object is a stored response, one variant. All but its counters and what its entry guards is
// fixed once others see it: a validated object is a new one with the same body.
//
// There may be tens of millions, so it is made small: see TestObjectsAreSmall for what one takes
// with all that belongs to it. What many have in common they share, what few have is in more, the
// fields are one string, and what they mean is kept beside them only as far as each hit needs it.
type object struct {
	fields         fields
	kind           unique.Handle[kind]
	body           *spool
	more           atomic.Pointer[more] // nil: nothing
	entry          *entry
	previous, next *object // storage's list

	came          int64 // when the response came, in nanoseconds since 1970
	age, lifetime time.Duration
	bytes         int64         // what it is accounted for
	seq           uint64        // of its fetch's beginning, to be compared with purges
	checked       atomic.Uint64 // the last purge known not to concern it
	waited        uint32        // microseconds from the request to the response
	swr, sie      span
	hits          atomic.Uint32
	state         atomic.Uint32 // the status code and flags
}

// kind is what many objects have in common.
type kind struct {
	service string
	vary    string // field names, see varies
	variant string // what a request must agree with
}

// more is what few objects have.
type more struct {
	keys     []string // surrogate keys
	part     *part    // which bytes of the representation the body is; nil: all
	trailer  []string // names of trailer fields to come
	metadata []byte   // a guest's own
	length   int64    // of a file that is kept in slices; 0: the body is here
	coded    coded
}

// Flags of an object. Those in the first line are fixed, those in the second the entry's shard guards.
const (
	noStale uint32 = 1 << (16 + iota)
	noCache
	validator // it can be validated
	strong    // its entity tag is strong
	sensitive // it must not lie on disk
	ahead     // it was fetched before anybody asked
	unfit     // net/http has to send it

	dropped // no longer in its entry
	settled // disk has it
	evicted // dropped for lack of room alone

	stale   // softly purged
	visited // since storage last looked
)

func (o *object) is(flag uint32) bool { return o.state.Load()&flag != 0 }

// set sets a flag, with no write to what many processors read if it is set already.
func (o *object) set(flag uint32) {
	if !o.is(flag) {
		o.state.Or(flag)
	}
}

func (o *object) unset(flag uint32) { o.state.And(^flag) }

func (o *object) status() int { return int(o.state.Load() & 0xffff) }

func (o *object) asked() int64 { return o.came - int64(o.waited)*int64(time.Microsecond) }

func (o *object) part() *part {
	if m := o.more.Load(); m != nil {
		return m.part
	}
	return nil
}

func (o *object) keys() []string {
	if m := o.more.Load(); m != nil {
		return m.keys
	}
	return nil
}

func (o *object) trailer() []string {
	if m := o.more.Load(); m != nil {
		return m.trailer
	}
	return nil
}

// sliced returns the length of a file that is kept in slices, 0 of any other object.
func (o *object) sliced() int64 {
	if m := o.more.Load(); m != nil {
		return m.length
	}
	return 0
}

func (o *object) metadata() []byte {
	if m := o.more.Load(); m != nil {
		return m.metadata
	}
	return nil
}

// coded is where what was derived of the object is.
func (o *object) coded() *coded {
	if m := o.more.Load(); m != nil {
		return &m.coded
	}
	o.more.CompareAndSwap(nil, new(more))
	return &o.more.Load().coded
}

// A span is a time in sixteenths of a second, rounded up: it reaches for eight years.
type span uint32

func spanOf(d time.Duration) span {
	const unit = time.Second / 16
	return span(min(max(0, d+unit-1)/unit, 1<<32-1))
}

func (s span) duration() time.Duration { return time.Duration(s) * (time.Second / 16) }

// facts are all that is known of an object, to make one of, or to be read from one.
type facts struct {
	service, vary, variant string
	status                 int
	header                 http.Header
	part                   *part
	trailer                []string
	keys                   []string
	metadata               []byte
	length                 int64

	asked, came             time.Time // when the request went out and the response came
	age, lifetime, swr, sie time.Duration
	seq                     uint64
	noStale, noCache        bool
	sensitive, ahead        bool
	hits                    uint32
}

// object makes an object of f with a body.
func (f *facts) object(body *spool) *object {
	o := &object{
		kind: unique.Make(kind{f.service, f.vary, f.variant}), body: body, seq: f.seq,
		came: f.came.UnixNano(), age: f.age, lifetime: f.lifetime, swr: spanOf(f.swr), sie: spanOf(f.sie),
		waited: uint32(min(max(0, f.came.Sub(f.asked)/time.Microsecond), 1<<32-1)),
	}
	flags := uint32(f.status)
	etag := f.header.Get("Etag")
	for _, is := range []struct {
		flag uint32
		set  bool
	}{{noStale, f.noStale}, {noCache, f.noCache}, {sensitive, f.sensitive}, {ahead, f.ahead}, {strong, isStrong(etag)},
		{validator, etag != "" || f.header["Last-Modified"] != nil}, {unfit, !f.renders() || f.length > 0}} {
		if is.set {
			flags |= is.flag
		}
	}
	o.state.Store(flags)
	o.hits.Store(f.hits)
	o.fields = packFields(f.header)
	if o.fields.long() {
		o.set(unfit)
	}
	if f.part != nil || len(f.keys) > 0 || len(f.trailer) > 0 || f.metadata != nil || f.length > 0 {
		o.more.Store(&more{keys: f.keys, part: f.part, trailer: f.trailer, metadata: f.metadata, length: f.length})
	}
	return o
}

// facts returns what o was made of.
func (o *object) facts() facts {
	k := o.kind.Value()
	return facts{
		service: k.service, vary: k.vary, variant: k.variant, status: o.status(), header: o.fields.header(),
		part: o.part(), trailer: o.trailer(), keys: o.keys(), metadata: o.metadata(), length: o.sliced(),
		asked: time.Unix(0, o.asked()), came: time.Unix(0, o.came), age: o.age, lifetime: o.lifetime,
		swr: o.swr.duration(), sie: o.sie.duration(), seq: o.seq,
		noStale: o.is(noStale), noCache: o.is(noCache), sensitive: o.is(sensitive), ahead: o.is(ahead), hits: o.hits.Load(),
	}
}

// ageAt returns how old the object is.
func (o *object) ageAt(now time.Time) time.Duration {
	resident := time.Duration(now.UnixNano() - o.came)
	if resident < -maxAhead {
		return unknownAge
	}
	return o.age + max(0, resident)
}

// An object that came later than it is now came before the clock was set back, and nobody knows its age: it is taken for
// old. What was asked for before another's answer came is no sign of that.
const (
	maxAhead   = time.Minute
	unknownAge = 100 * 365 * 24 * time.Hour
)

// freshnessAt returns what decide needs.
func (o *object) freshnessAt(now time.Time, immutable bool) *freshness {
	return &freshness{age: o.ageAt(now), lifetime: o.lifetime, swr: o.swr.duration(), noStale: o.is(noStale), noCache: o.is(noCache),
		validator: o.is(validator), immutable: immutable, purged: o.is(stale)}
}

// overhead is what an object takes apart from its body, its fields, and what guests choose, in bytes; its entry and its
// place in the table of entries included. See TestObjectsAreSmall.
const overhead = 300

// cost is what an object with a body of that size is accounted for.
func (o *object) cost(size int64) int64 {
	k := o.kind.Value()
	size += int64(len(o.fields.lines)+len(k.variant)) + overhead
	if m := o.more.Load(); m != nil {
		size += int64(len(m.metadata)) + 160
		for _, k := range m.keys {
			size += int64(len(k)) + 16
		}
	}
	return size
}

// newFacts describes a response that v lets be stored.
func newFacts(req *http.Request, resp *http.Response, v *verdict, asked, came time.Time) facts {
	f := facts{
		vary: varies(resp.Header), status: resp.StatusCode, header: storedFields(resp.Header, v.strip),
		asked: asked, came: came, age: v.age, lifetime: v.lifetime, swr: v.swr, sie: v.sie,
		noStale: v.noStale, noCache: v.noCache,
	}
	f.variant = variant(f.vary, req.Header)
	f.date()
	return f
}

// date sees to it that the fields have a Date (RFC 9110 section 6.6.1).
func (f *facts) date() {
	if f.header["Date"] == nil {
		f.header.Set("Date", f.came.UTC().Format(http.TimeFormat))
	}
}

// matches reports whether the object answers a request with these fields.
func (o *object) matches(h http.Header) bool {
	k := o.kind.Value()
	return k.vary == "" || variant(k.vary, h) == k.variant
}

// date returns when the origin made the response.
func (o *object) date() time.Time {
	return dateOf(http.Header{"Date": o.fields.values("Date")}, time.Unix(0, o.came))
}
