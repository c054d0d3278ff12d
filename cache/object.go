package cache

import (
	"net/http"
	"sync/atomic"
	"time"
)

// An object is a stored response, one variant. All but its counters is fixed once others see it:
// a validated object is a new one with the same body.
type object struct {
	vary    string // field names, see varies
	variant string // what a request must agree with
	status  int
	header  http.Header
	body    *spool
	part    *part    // which bytes of the representation the body is; nil: all
	trailer []string // names of trailer fields to come

	metadata  []byte // a guest's own
	sensitive bool   // must not lie on disk

	asked, came       time.Time // when the request went out and the response came
	age               time.Duration
	lifetime          time.Duration
	swr, sie          time.Duration
	noStale, noCache  bool
	validator, strong bool

	seq     uint64 // of its fetch's beginning, to be compared with purges
	keys    []string
	bytes   int64 // what it is accounted for
	hits    atomic.Int64
	checked atomic.Uint64 // the last purge known not to concern it
	stale   atomic.Bool   // softly purged
	dropped bool          // no longer in its entry
	visited atomic.Bool   // since storage last looked

	service string // whose it is
	settled bool   // disk has it
	evicted bool   // dropped for lack of room alone

	entry    *entry
	coded    coded
	ahead    bool       // fetched before anybody asked
	rendered renderOnce // for Peek
	previous *object    // storage's list
	next     *object
}

// ageAt returns how old the object is.
func (o *object) ageAt(now time.Time) time.Duration { return o.age + max(0, now.Sub(o.came)) }

// freshnessAt returns what decide needs.
func (o *object) freshnessAt(now time.Time, immutable bool) *freshness {
	return &freshness{age: o.ageAt(now), lifetime: o.lifetime, swr: o.swr, noStale: o.noStale, noCache: o.noCache,
		validator: o.validator, immutable: immutable, purged: o.stale.Load()}
}

// overhead is what an object costs apart from its body and fields, in bytes, estimated.
const overhead = 512

func headerBytes(h http.Header) (n int64) {
	for name, values := range h {
		n += int64(len(name)) + 32
		for _, v := range values {
			n += int64(len(v)) + 16
		}
	}
	return n
}

// cost is what an object with a body of that size is accounted for. Guests choose much of what is not its body.
// The fields count twice, for they are kept as they go out too: see render.
func (o *object) cost(size int64) int64 {
	size += 2*headerBytes(o.header) + int64(len(o.metadata)+len(o.vary)+len(o.variant)) + overhead
	for _, k := range o.keys {
		size += int64(len(k)) + 16
	}
	return size
}

// newObject makes an object of a response that v lets be stored.
func newObject(req *http.Request, resp *http.Response, v *verdict, asked, came time.Time) *object {
	o := &object{
		vary: varies(resp.Header), status: resp.StatusCode, header: storedFields(resp.Header, v.strip),
		asked: asked, came: came, age: v.age, lifetime: v.lifetime, swr: v.swr, sie: v.sie,
		noStale: v.noStale, noCache: v.noCache,
	}
	o.variant = variant(o.vary, req.Header)
	if o.header["Date"] == nil {
		o.header.Set("Date", came.UTC().Format(http.TimeFormat))
	}
	o.validators()
	return o
}

func (o *object) validators() {
	etag := o.header.Get("Etag")
	o.strong = isStrong(etag)
	o.validator = etag != "" || o.header["Last-Modified"] != nil
}

// matches reports whether the object answers a request with these fields.
func (o *object) matches(h http.Header) bool {
	return o.vary == "" || variant(o.vary, h) == o.variant
}
