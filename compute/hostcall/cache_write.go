package hostcall

import (
	"context"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// Bits of cache_write_options_mask.
const (
	writeHeaders   = 1 << 1
	writeVary      = 1 << 2
	writeAge       = 1 << 3
	writeSWR       = 1 << 4
	writeKeys      = 1 << 5
	writeLength    = 1 << 6
	writeMetadata  = 1 << 7
	writeSensitive = 1 << 8
	writeEdgeAge   = 1 << 9
	writeServiceID = 1 << 10
	writeMask      = 1<<11 - 1
)

// record reads the fields of an option struct that its mask names.
type record struct {
	c        *compute.Call
	mask, at uint32
}

func (o record) has(bit uint32) bool { return o.mask&bit != 0 }

// duration reads nanoseconds; more than any cache cares to remember are as good as a century.
func (o record) duration(off uint32) time.Duration {
	const century = 100 * 365 * 24 * time.Hour
	return time.Duration(min(o.c.ReadU64(o.at+off), uint64(century)))
}

func (o record) bytes(off, limit uint32) []byte {
	n := o.c.ReadU32(o.at + off + 4)
	if n > limit {
		o.c.Fail(abi.Inval)
	}
	return o.c.Read(o.c.ReadU32(o.at+off), n)
}

func (o record) length(off uint32) int64 {
	n := o.c.ReadU64(o.at + off)
	if n > math.MaxInt64 {
		o.c.Fail(abi.Inval)
	}
	return int64(n)
}

// maxVary bounds a rule, in bytes: each look-up compares what requests say in these fields.
const maxVary = 1024

// vary reads names of fields with spaces or commas between.
func (o record) vary(off uint32) []string {
	names := strings.FieldsFunc(string(o.bytes(off, maxVary)), func(r rune) bool { return r == ' ' || r == ',' })
	for _, name := range names {
		if !validToken([]byte(name)) {
			o.c.Fail(abi.Inval)
		}
	}
	return names
}

// keys reads surrogate keys with spaces between.
func (o record) keys(off uint32) []string {
	keys := strings.Fields(string(o.bytes(off, wedge.MaxSurrogateKeys)))
	for _, k := range keys {
		if !validSurrogateKey(k) {
			o.c.Fail(abi.Inval)
		}
	}
	return keys
}

// writeArgs reads cache_write_options: the mask at word i and the struct at the next. In a transaction the
// lookup gave the request's fields.
func writeArgs(c *compute.Call, i int, transaction bool) wedge.CacheWrite {
	o := record{c, maskArg(c, i, writeMask), c.U32(i + 1)}
	if o.has(writeServiceID) {
		c.Fail(abi.Unsupported)
	}
	w := wedge.CacheWrite{MaxAge: o.duration(0), Length: -1, Sensitive: o.has(writeSensitive)}
	if o.has(writeHeaders) {
		if transaction {
			c.Fail(abi.Inval)
		}
		w.Header = getRequest(c, c.ReadU32(o.at+8)).headers.toHTTP(nil)
	}
	if o.has(writeVary) {
		w.Vary = o.vary(12)
	}
	if o.has(writeAge) {
		w.InitialAge = o.duration(24)
	}
	if o.has(writeSWR) {
		w.SWR = o.duration(32)
	}
	if o.has(writeKeys) {
		w.SurrogateKeys = o.keys(40)
	}
	if o.has(writeLength) {
		w.Length = o.length(48)
	}
	if o.has(writeMetadata) {
		w.Metadata = append([]byte{}, o.bytes(56, wedge.MaxCacheMetadata)...)
	}
	if o.has(writeEdgeAge) && o.duration(64) > w.MaxAge {
		c.Fail(abi.Inval)
	}
	return w
}

func cacheInsert(c *compute.Call) abi.Status {
	l := lookupArgs(c, wedge.CacheReplace)
	w := writeArgs(c, 2, false)
	c.Read(c.U32(4), 4)
	l.Header = w.Header
	tx, err := cacheOf(c).Look(ex(c).ctx, l.CacheLookup) // there is nobody to wait for
	if err != nil {
		return abi.Error
	}
	defer tx.Close()
	return (&cached{tx: tx}).insert(c, w, 4, -1)
}

func cacheTransactionInsert(c *compute.Call, d *cached) abi.Status {
	return d.insert(c, writeArgs(c, 1, true), 3, -1)
}

func cacheInsertAndStreamBack(c *compute.Call, d *cached) abi.Status {
	return d.insert(c, writeArgs(c, 1, true), 3, 4)
}

func cacheReplaceInsert(c *compute.Call, d *cached) abi.Status {
	return d.insert(c, writeArgs(c, 1, false), 3, -1)
}

func cacheUpdate(c *compute.Call, d *cached) abi.Status {
	return d.update(c, writeArgs(c, 1, true), -1)
}

// insert begins to keep what the guest will write into a streaming body, whose handle goes to word
// out. If back is a word it gets the handle of a lookup that reads it.
func (d *cached) insert(c *compute.Call, w wedge.CacheWrite, out, back int) abi.Status {
	e := ex(c)
	c.Read(c.U32(out), 4)
	if back >= 0 {
		c.Read(c.U32(back), 4)
	}
	hold(c, len(w.Metadata))
	b := newBody(nil)
	b.makeStreaming()
	b.account = &e.account
	src := newInserting(e, b, len(w.Metadata))
	b.taken = &src.taken
	fresh, err := d.tx.Insert(w, src, back >= 0)
	if err != nil {
		src.Close()
		return cacheStatus(err)
	}
	c.PutU32(c.U32(out), putItem(c, b)) // without room it is dropped, and nothing is kept
	if back < 0 {
		fresh.Close()
		return abi.OK
	}
	c.PutU32(c.U32(back), openFresh(c, fresh, d))
	return abi.OK
}

// update changes all but the body of what was found. If back is a word it gets the handle of a lookup of that.
func (d *cached) update(c *compute.Call, w wedge.CacheWrite, back int) abi.Status {
	if back >= 0 {
		c.Read(c.U32(back), 4)
	}
	fresh, err := d.tx.Update(w)
	if err != nil {
		return cacheStatus(err)
	}
	if back < 0 {
		fresh.Close()
		return abi.OK
	}
	c.PutU32(c.U32(back), openFresh(c, fresh, d))
	return abi.OK
}

// patience is how long a body that a guest left behind may give nothing before it is given up.
const patience = time.Minute

// inserting lets the cache read what the guest inserts. Until all is there it counts against the sandbox.
type inserting struct {
	bodyReader
	account *account
	held    int
	taken   future[struct{}] // until the cache has all it takes

	mu    sync.Mutex
	timer *time.Timer // runs once the guest has ended
	stop  func() bool
}

func newInserting(e *exec, b *body, held int) *inserting {
	r := &inserting{bodyReader: bodyReader{ctx: context.Background(), body: b, most: math.MaxInt64}, account: &e.account, held: held}
	r.stop = context.AfterFunc(e.ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.timer = time.AfterFunc(patience, b.leave)
	})
	return r
}

func (r *inserting) Read(p []byte) (int, error) {
	n, err := r.bodyReader.Read(p)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer.Reset(patience)
	}
	if !r.account.hold(n) {
		return 0, errNoRoom
	}
	r.held += n
	return n, err
}

// Close drops what is still written: the guest need not know that it is not kept.
func (r *inserting) Close() error {
	r.stop()
	r.body.mute()
	defer r.taken.resolve(struct{}{}, nil)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer.Stop()
	}
	r.account.release(r.held)
	r.held = 0
	return nil
}
