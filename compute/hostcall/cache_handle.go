package hostcall

import (
	"context"
	"io"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// cacheKind is what a handle of a lookup is for.
type cacheKind uint8

const (
	objectHandle cacheKind = iota
	busyHandle
	replaceHandle
	responseHandle
)

// A cached is a lookup that a guest has a handle for. It may still have to wait for what another
// inserts; SDKs then wait for the handle as they do for other items.
type cached struct {
	future[compute.CacheTransaction]
	kind    cacheKind
	tx      compute.CacheTransaction // val, once it was waited for
	always  bool                     // ranges are heeded though the length is not known
	req     *request                 // whose response it is about; nil: it is about an object under a key
	size    int                      // what it counts
	account *account
	dropped bool // mu guards it

	body *body // the last one opened
	num  uint32
	rule string // for Vary, of what the guest inserted with it, in its own words
}

// look begins to look, and returns a handle.
func look(c *compute.Call, l *lookup, kind cacheKind, req *request) uint32 {
	e := ex(c)
	d := &cached{kind: kind, always: l.always, req: req}
	d.hold(c, l.size)
	l.By = e
	if kind == busyHandle { // the guest need not wait, and may insert before it does
		l.By = d
	}
	now := l.CacheLookup
	now.NoWait = true
	if tx, err := e.host.Cache.Look(e.ctx, now); tx != nil || err != nil {
		d.settle(tx, err)
		return putItem(c, d)
	}
	ctx, cancel := context.WithCancel(e.ctx)
	d.cancel = cancel
	go func() {
		defer cancel()
		d.settle(e.host.Cache.Look(ctx, l.CacheLookup))
	}()
	return putItem(c, d)
}

// openFresh opens a handle for what was inserted or updated.
func openFresh(c *compute.Call, tx compute.CacheTransaction, of *cached) uint32 {
	d := &cached{kind: of.kind, always: true, req: of.req, rule: of.rule}
	d.val, d.done = tx, true
	defer func() {
		if d.account == nil { // there was no room
			tx.Close()
		}
	}()
	d.hold(c, lookSize)
	return putItem(c, d)
}

func (d *cached) hold(c *compute.Call, n int) {
	hold(c, n)
	d.size, d.account = n, &ex(c).account
}

// settle delivers the transaction, or gives it up if nobody wants it any more.
func (d *cached) settle(tx compute.CacheTransaction, err error) {
	d.resolve(tx, err)
	d.mu.Lock()
	dropped := d.dropped
	d.mu.Unlock()
	if dropped && tx != nil {
		tx.Close()
	}
}

// drop gives up the transaction, there or to come, with the obligation that it may have.
func (d *cached) drop() {
	d.future.drop()
	d.account.release(d.size)
	d.mu.Lock()
	d.dropped = true
	done, tx := d.done, d.val
	d.mu.Unlock()
	if done && tx != nil {
		tx.Close()
	}
}

// getCached returns the lookup that word 0 names; a handle of another kind ends the call with badf.
func getCached(c *compute.Call, kind cacheKind) *cached {
	cacheOf(c)
	d := getItem[*cached](c, c.U32(0))
	if d.kind != kind {
		c.Fail(abi.BadHandle)
	}
	return d
}

// on makes a call about the lookup that word 0 names, once it is done.
func on(kind cacheKind, f func(*compute.Call, *cached) abi.Status) compute.Func {
	return func(c *compute.Call) (s abi.Status) {
		d := getCached(c, kind)
		var err error
		if d.tx, err = d.wait(c); err != nil || d.tx == nil {
			return abi.Error // only when the sandbox ends
		}
		return f(c, d)
	}
}

func onKept(f func(*compute.Call, *cached) abi.Status) compute.Func { return on(objectHandle, f) }

func onReplaced(f func(*compute.Call, *cached) abi.Status) compute.Func {
	return on(replaceHandle, f)
}

func closeCached(kind cacheKind) compute.Func {
	return func(c *compute.Call) abi.Status {
		d := getCached(c, kind)
		ex(c).items.take(c.U32(0))
		d.drop()
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

func cachedCancel(_ *compute.Call, d *cached) abi.Status { return cacheStatus(d.tx.Cancel()) }

func cachedState(c *compute.Call, d *cached) abi.Status {
	c.PutU32(c.U32(1), uint32(d.tx.State()))
	return abi.OK
}

// found returns what was found; otherwise the call ends with none.
func (d *cached) found(c *compute.Call) wedge.CacheObject {
	o, ok := d.tx.Object()
	if !ok {
		c.Fail(abi.None)
	}
	return o
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
	src, err := d.tx.Open(ctx, from, n)
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

// wanted reads which bytes of the body the guest wants: from the first to the last, both included, or if it names no first
// one, as many from the end. Of a range that goes beyond the body, or whose place is not known, it gets all.
func (d *cached) wanted(c *compute.Call) (from, n int64) {
	mask, at := maskArg(c, 1, bodyMask), c.U32(2)
	length := d.found(c).Length
	end := uint64(1 << 62)
	if length >= 0 {
		end = uint64(length)
	} else if !d.always {
		return 0, -1
	}
	switch mask & (bodyFrom | bodyTo) {
	case bodyTo:
		if n := c.ReadU64(at + 8); length >= 0 && 0 < n && n <= end {
			return int64(end - n), int64(n)
		}
	case bodyFrom:
		if first := c.ReadU64(at); first < end {
			return int64(first), -1
		}
	case bodyFrom | bodyTo:
		if first, last := c.ReadU64(at), c.ReadU64(at+8); first <= last && last < end {
			return int64(first), int64(last-first) + 1
		}
	}
	return 0, -1
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
