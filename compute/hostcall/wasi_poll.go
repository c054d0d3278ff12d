package hostcall

import (
	"context"
	"math"
	"time"

	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// maxSubscriptions is how many things one poll_oneoff may wait for.
const maxSubscriptions = 4096

// Layout of a subscription and an event, and the numbers in them.
const (
	subscriptionSize = 48
	subTag           = 8
	subFD            = 16
	subClock         = 16
	subTimeout       = 24
	subClockFlags    = 40
	absoluteTime     = 1

	eventSize  = 32
	eventError = 8
	eventType  = 10

	eventClock   = 0
	eventFDRead  = 1
	eventFDWrite = 2
)

// A subscription is one thing that a guest waits for.
type subscription struct {
	userdata uint64
	kind     uint8
	wait     time.Duration // until it happens; 0 and less: it has
	errno    abi.Status    // what its event says
}

// wasiPoll waits until the earliest of its subscriptions happens and reports all that have.
// A standard stream is always ready, as far as can be known.
func wasiPoll(c *compute.Call) abi.Status {
	in, out, n := c.U32(0), c.U32(1), c.U32(2)
	if n == 0 || n > maxSubscriptions {
		return abi.EInval
	}
	c.Read(in, n*subscriptionSize)
	c.Read(out, n*eventSize)
	c.Read(c.U32(3), 4)
	subs := make([]subscription, n)
	earliest := time.Duration(math.MaxInt64)
	for i := range subs {
		subs[i] = readSubscription(c, in+uint32(i)*subscriptionSize)
		earliest = min(earliest, subs[i].wait)
	}
	if earliest > 0 {
		c.Block(func(ctx context.Context) { sleep(ctx, earliest) })
	}
	events := uint32(0)
	for _, s := range subs {
		if s.wait <= max(earliest, 0) {
			writeEvent(c, out+events*eventSize, s)
			events++
		}
	}
	c.PutU32(c.U32(3), events)
	return abi.ESuccess
}

func readSubscription(c *compute.Call, at uint32) subscription {
	s := subscription{userdata: c.ReadU64(at), kind: c.Read(at+subTag, 1)[0]}
	switch s.kind {
	case eventClock:
		s.wait, s.errno = clockWait(c, c.ReadU32(at+subClock), c.ReadU64(at+subTimeout), c.ReadU16(at+subClockFlags))
	case eventFDRead, eventFDWrite:
		stream, ok := streamOf(c, c.ReadU32(at+subFD))
		if !ok || (stream == stdin) != (s.kind == eventFDRead) {
			s.errno = abi.EBadf
		}
	default:
		c.Fail(abi.EInval)
	}
	return s
}

// clockWait returns how long it is until a clock subscription happens.
func clockWait(c *compute.Call, id uint32, timeout uint64, flags uint16) (time.Duration, abi.Status) {
	if id != clockRealtime && id != clockMonotonic {
		return 0, abi.EInval
	}
	if flags&absoluteTime != 0 {
		now, _ := readClock(c, id)
		if timeout <= now {
			return 0, abi.ESuccess
		}
		timeout -= now
	}
	return time.Duration(min(timeout, math.MaxInt64)), abi.ESuccess
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func writeEvent(c *compute.Call, at uint32, s subscription) {
	c.Write(at, make([]byte, eventSize))
	c.PutU64(at, s.userdata)
	c.PutU16(at+eventError, uint16(s.errno))
	c.PutU8(at+eventType, s.kind)
}
