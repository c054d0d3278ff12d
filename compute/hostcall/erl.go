package hostcall

import (
	"context"
	"math"
	"time"

	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// erlCalls count and punish: edge rate limiting, in Fastly's words.
var erlCalls = calls{
	"check_rate":               checkRate,
	"ratecounter_increment":    counterIncrement,
	"ratecounter_lookup_rate":  counterRate,
	"ratecounter_lookup_count": counterCount,
	"penaltybox_add":           boxAdd,
	"penaltybox_has":           boxHas,
}

// maxRateName bounds the names of counters and boxes, and the keys in them, in bytes: each is hashed while the guest holds its slot.
const maxRateName = 4096

// checkRate: counter, key, delta, window, limit, box, ttl, *blocked. It counts also what it blocks.
func checkRate(c *compute.Call) abi.Status {
	rates, counter, key, box := rates(c), rateName(c, 0), rateName(c, 2), rateName(c, 7)
	window, limit, ttl := rateWindow(c, 5), uint64(c.U32(6)), penalty(c, 9)
	c.Read(c.U32(10), 4)
	over, wait := rates.Over(counter, key, c.U32(4), window, limit*uint64(window/time.Second))
	if wait != nil {
		c.Block(func(ctx context.Context) { over = wait(ctx) })
	}
	if over {
		rates.Penalize(box, key, ttl)
	}
	c.PutU32(c.U32(10), flag(over || rates.Penalized(box, key)))
	return abi.OK
}

func counterIncrement(c *compute.Call) abi.Status {
	rates(c).Add(rateName(c, 0), rateName(c, 2), c.U32(4))
	return abi.OK
}

// counterRate gives events a second, rounded up: less than one a second is not none.
func counterRate(c *compute.Call) abi.Status {
	rates, counter, key, window := rates(c), rateName(c, 0), rateName(c, 2), rateWindow(c, 4)
	secs := uint64(window / time.Second)
	return putCount(c, 5, (rates.Count(counter, key, window)+secs-1)/secs)
}

func counterCount(c *compute.Call) abi.Status {
	rates, counter, key, secs := rates(c), rateName(c, 0), rateName(c, 2), c.U32(4)
	if secs < 10 || secs > 60 || secs%10 != 0 {
		return abi.Inval
	}
	return putCount(c, 5, rates.Count(counter, key, time.Duration(secs)*time.Second))
}

func boxAdd(c *compute.Call) abi.Status {
	rates(c).Penalize(rateName(c, 0), rateName(c, 2), penalty(c, 4))
	return abi.OK
}

func boxHas(c *compute.Call) abi.Status {
	in := rates(c).Penalized(rateName(c, 0), rateName(c, 2))
	c.PutU32(c.U32(4), flag(in))
	return abi.OK
}

func rates(c *compute.Call) compute.Rates {
	r := c.Sandbox.Host.Rates
	if r == nil {
		c.Fail(abi.Unsupported)
	}
	return r
}

// rateName reads the name of a counter or box, or a key, at words i and i+1: any bytes.
func rateName(c *compute.Call, i int) string {
	if c.U32(i+1) > maxRateName {
		c.Fail(abi.Inval)
	}
	return c.String(i)
}

// rateWindow reads the window of a rate: 1, 10 or 60 s.
func rateWindow(c *compute.Call, i int) time.Duration {
	switch secs := c.U32(i); secs {
	case 1, 10, 60:
		return time.Duration(secs) * time.Second
	}
	c.Fail(abi.Inval)
	return 0
}

// penalty reads how long a key stays in a box: a minute to an hour, in seconds, of which whole minutes count.
func penalty(c *compute.Call, i int) time.Duration {
	secs := c.U32(i)
	if secs < 60 || secs > 3600 {
		c.Fail(abi.Inval)
	}
	return (time.Duration(secs) * time.Second).Truncate(time.Minute)
}

func putCount(c *compute.Call, i int, n uint64) abi.Status {
	c.PutU32(c.U32(i), uint32(min(n, math.MaxUint32)))
	return abi.OK
}
