package hostcall

import (
	"context"
	"io"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// cacheHandles are a sandbox's lookups in the cache: each kind has numbers of its own.
type cacheHandles struct {
	items, replaces, responses table[*cached]

	looked compute.CacheEntry // came while the guest was blocked, which perhaps must end
	passes int                // recorded for the request in hand
}

// end gives up what is open, obligations first of all.
func (h *cacheHandles) end() {
	for _, t := range []*table[*cached]{&h.items, &h.replaces, &h.responses} {
		t.drain(func(d *cached) { d.entry.Close() })
	}
	if h.looked != nil {
		h.looked.Close()
	}
}

// A cached is a lookup that a guest has a handle for.
type cached struct {
	entry  compute.CacheEntry
	always bool     // ranges are heeded though the length is not known
	req    *request // whose response it is about; nil: it is about an item
	size   int      // what it counts

	body *body // the last one opened
	num  uint32
}

func itemTable(e *exec) *table[*cached]     { return &e.cache.items }
func replaceTable(e *exec) *table[*cached]  { return &e.cache.replaces }
func responseTable(e *exec) *table[*cached] { return &e.cache.responses }

// on makes a call about the lookup that word 0 names.
func on(in func(*exec) *table[*cached], f func(*compute.Call, *cached) abi.Status) compute.Func {
	return func(c *compute.Call) abi.Status {
		cacheOf(c)
		d, ok := in(ex(c)).get(c.U32(0))
		if !ok {
			return abi.BadHandle
		}
		return f(c, d)
	}
}

func itemEntry(f func(*compute.Call, *cached) abi.Status) compute.Func { return on(itemTable, f) }

func replaceEntry(f func(*compute.Call, *cached) abi.Status) compute.Func { return on(replaceTable, f) }

// putCached opens a handle for what l found and writes it to word i.
func putCached(c *compute.Call, in func(*exec) *table[*cached], i int, entry compute.CacheEntry, l *lookup) abi.Status {
	return openCached(c, in, i, &cached{entry: entry, always: l.always, size: l.size})
}

func openCached(c *compute.Call, in func(*exec) *table[*cached], i int, d *cached) abi.Status {
	e := ex(c)
	if !e.account.hold(d.size) {
		d.entry.Close()
		return abi.LimitExceeded
	}
	h, ok := in(e).put(d)
	if !ok {
		d.entry.Close()
		e.account.release(d.size)
		return abi.LimitExceeded
	}
	c.PutU32(c.U32(i), h)
	return abi.OK
}

func closeCached(in func(*exec) *table[*cached]) compute.Func {
	return func(c *compute.Call) abi.Status {
		cacheOf(c)
		d, ok := in(ex(c)).take(c.U32(0))
		if !ok {
			return abi.BadHandle
		}
		d.entry.Close()
		ex(c).account.release(d.size)
		return abi.OK
	}
}

// cacheStatus returns the status of an operation on a lookup.
func cacheStatus(err error) abi.Status {
	switch {
	case err == nil:
		return abi.OK
	case wedge.KindOf(err) == wedge.Conflict:
		return abi.BadHandle // it lacks the obligation
	}
	return abi.Error
}

func cachedCancel(_ *compute.Call, d *cached) abi.Status { return cacheStatus(d.entry.Cancel()) }

func cachedState(c *compute.Call, d *cached) abi.Status {
	c.PutU32(c.U32(1), uint32(d.entry.State()))
	return abi.OK
}

// found returns what was found; otherwise the call ends with none.
func (d *cached) found(c *compute.Call) wedge.CacheItem {
	item, ok := d.entry.Item()
	if !ok {
		c.Fail(abi.None)
	}
	return item
}

func cachedMetadata(c *compute.Call, d *cached) abi.Status {
	return c.PutBuf(1, 3, string(d.found(c).Metadata))
}

func cachedLength(c *compute.Call, d *cached) abi.Status {
	n := d.found(c).Length
	if n < 0 {
		return abi.None
	}
	c.PutU64(c.U32(1), uint64(n))
	return abi.OK
}

func putDuration(c *compute.Call, d time.Duration) abi.Status {
	c.PutU64(c.U32(1), uint64(max(0, d)))
	return abi.OK
}

func cachedMaxAge(c *compute.Call, d *cached) abi.Status { return putDuration(c, d.found(c).MaxAge) }
func cachedSWR(c *compute.Call, d *cached) abi.Status    { return putDuration(c, d.found(c).SWR) }
func cachedSIE(c *compute.Call, d *cached) abi.Status    { return putDuration(c, d.found(c).SIE) }
func cachedAge(c *compute.Call, d *cached) abi.Status    { return putDuration(c, d.found(c).Age) }

func cachedHits(c *compute.Call, d *cached) abi.Status {
	c.PutU64(c.U32(1), d.found(c).Hits)
	return abi.OK
}

// Bits of cache_get_body_options_mask.
const (
	bodyFrom = 1 << 1
	bodyTo   = 1 << 2
	bodyMask = 1<<3 - 1
)

// cachedBody opens the body of what was found, or a range of it. One may be open at a time.
func cachedBody(c *compute.Call, d *cached) abi.Status {
	from, n := d.wanted(c)
	c.Read(c.U32(3), 4)
	if it, ok := ex(c).items.get(d.num); ok && d.body != nil && it == item(d.body) {
		return abi.BadHandle
	}
	found := d.found(c)
	ctx, cancel := context.WithCancel(context.Background()) // it may go on when the guest has ended
	src, err := d.entry.Open(ctx, from, n)
	if err != nil {
		cancel()
		return abi.None // it is too large to be kept, and its beginning is gone
	}
	length := n
	if n < 0 && found.Length >= 0 {
		length = found.Length - from
	}
	d.body = storedBody(src, length, found.Whole, cancel)
	d.num = putBody(c, d.body)
	c.PutU32(c.U32(3), d.num)
	return abi.OK
}

// wanted reads which bytes of the body the guest wants. Of a range that is none, or whose place is not
// known, it gets all.
func (d *cached) wanted(c *compute.Call) (from, n int64) {
	mask, at := maskArg(c, 1, bodyMask), c.U32(2)
	length := d.found(c).Length
	if mask&(bodyFrom|bodyTo) == 0 || length < 0 && !d.always {
		return 0, -1
	}
	first, last := uint64(0), uint64(1<<62)
	if mask&bodyFrom != 0 {
		first = c.ReadU64(at)
	}
	if mask&bodyTo != 0 {
		last = min(last, c.ReadU64(at+8))
	}
	if length >= 0 {
		last = min(last, uint64(max(length-1, 0)))
	}
	switch {
	case first > last:
		return 0, -1
	case last == 1<<62:
		return int64(first), -1
	}
	return int64(first), int64(last-first) + 1
}

// storedBody makes a body of what is read from the cache; done ends the reading. A small one that
// is all there needs no stream.
func storedBody(src io.ReadCloser, length int64, whole bool, done func()) *body {
	if whole && length >= 0 && length <= chunkSize {
		b := make([]byte, length)
		_, err := io.ReadFull(src, b)
		src.Close()
		done()
		if err == nil {
			return newBody(b)
		}
	}
	return newStreamBody(newStream(&respBody{src, done}, length, nil))
}
