package hostcall

import (
	"context"
	"time"

	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

var httpBody = calls{
	"append":             bodyAppend,
	"new":                bodyNew,
	"read":               bodyRead,
	"write":              bodyWrite,
	"close":              bodyClose,
	"abandon":            bodyAbandon,
	"trailer_append":     trailerAppend,
	"trailer_names_get":  trailerNames,
	"trailer_value_get":  trailerValue,
	"trailer_values_get": trailerValues,
	"known_length":       bodyKnownLength,
}

// putBody opens a handle for b and accounts what it holds; without room for either the call
// ends with limitexceeded.
func putBody(c *compute.Call, b *body) uint32 {
	if !b.adopt(&ex(c).account) {
		b.leave()
		c.Fail(abi.LimitExceeded)
	}
	return putItem(c, b)
}

// getBody returns the body that h names, streaming or not; otherwise the call ends with badf.
func getBody(c *compute.Call, h uint32) *body { return getItem[*body](c, h) }

// takeBody returns the readable body that h names and closes the handle. A streaming body
// cannot be given away: badf.
func takeBody(c *compute.Call, h uint32) *body {
	b := getBody(c, h)
	if b.isStreaming() {
		c.Fail(abi.BadHandle)
	}
	ex(c).items.take(h)
	return b
}

func bodyNew(c *compute.Call) abi.Status {
	c.PutU32(c.U32(0), putBody(c, newBody(nil)))
	return abi.OK
}

func bodyAppend(c *compute.Call) abi.Status {
	dest := getBody(c, c.U32(0))
	if c.U32(0) == c.U32(1) {
		return abi.BadHandle
	}
	getBody(c, c.U32(1))
	if dest.isStreaming() {
		ex(c).await(c, dest) // may unwind the guest: src must still have its handle
	}
	return dest.append(takeBody(c, c.U32(1)))
}

func bodyRead(c *compute.Call) abi.Status {
	b := getBody(c, c.U32(0))
	if b.isStreaming() {
		return abi.BadHandle
	}
	dst := c.Writable(c.U32(1), c.U32(2))
	c.Read(c.U32(3), 4)
	if len(dst) == 0 {
		c.PutU32(c.U32(3), 0)
		return abi.OK
	}
	ex(c).await(c, b)
	n, err := b.read(dst)
	if err != nil {
		return fetchStatus(err)
	}
	c.Wrote(c.U32(1), uint32(n))
	c.PutU32(c.U32(3), uint32(n))
	return abi.OK
}

func bodyWrite(c *compute.Call) abi.Status {
	b := getBody(c, c.U32(0))
	p := c.Bytes(1)
	end := c.U32(3)
	c.Read(c.U32(4), 4)
	if end > 1 {
		return abi.Inval
	}
	if b.isStreaming() && end == 0 {
		ex(c).await(c, b)
	}
	if s := b.write(p, end == 1); s != abi.OK {
		return s
	}
	c.PutU32(c.U32(4), uint32(len(p)))
	return abi.OK
}

func bodyClose(c *compute.Call) abi.Status {
	b := takeItem[*body](c, c.U32(0))
	if !b.isStreaming() {
		b.leave()
		return abi.OK
	}
	b.finish(nil)
	if b.taken != nil && !b.reading() {
		ex(c).settle(c, b.taken)
	}
	return abi.OK
}

// settleTime bounds how long a guest that inserted something waits until it is there whole.
const settleTime = time.Second

// settle lets the cache come to terms with what the guest inserted, so that the guest's next lookup is about all of it.
func (e *exec) settle(c *compute.Call, it item) {
	if it.ready() {
		return
	}
	c.Block(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, settleTime)
		defer cancel()
		e.sleepOn(ctx, it)
	})
}

func bodyAbandon(c *compute.Call) abi.Status {
	b := takeItem[*body](c, c.U32(0))
	b.drop()
	if b.taken != nil && !b.reading() {
		ex(c).settle(c, b.taken)
	}
	return abi.OK
}

func bodyKnownLength(c *compute.Call) abi.Status {
	n, ok := getBody(c, c.U32(0)).size()
	if !ok {
		return abi.None
	}
	c.PutU64(c.U32(1), uint64(n))
	return abi.OK
}

func trailerAppend(c *compute.Call) abi.Status {
	b := getBody(c, c.U32(0))
	name, value, s := newField(c, 1)
	if s != abi.OK {
		return s
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.trailers.append(name, value, &ex(c).limits)
}

// trailersOf returns the trailers of the body that word 0 names, if they are known yet.
func trailersOf(c *compute.Call) (*headers, abi.Status) {
	b := getBody(c, c.U32(0))
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.streaming:
		return nil, abi.Inval
	case !b.atEnd:
		return nil, abi.Again
	}
	return &b.trailers, abi.OK
}

func trailerNames(c *compute.Call) abi.Status {
	h, s := trailersOf(c)
	if s != abi.OK {
		return s
	}
	return namesGet(c, h, 1)
}

func trailerValue(c *compute.Call) abi.Status {
	h, s := trailersOf(c)
	if s != abi.OK {
		return s
	}
	return valueGet(c, h, 1)
}

func trailerValues(c *compute.Call) abi.Status {
	h, s := trailersOf(c)
	if s != abi.OK {
		return s
	}
	return valuesGet(c, h, 1)
}
