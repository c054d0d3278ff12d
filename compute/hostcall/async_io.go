package hostcall

import (
	"context"
	"time"

	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

var asyncIO = calls{
	"select":   asyncSelect,
	"is_ready": asyncIsReady,
}

// timedOut is the index that select gives when no item was ready in time.
const timedOut = 0xFFFFFFFF

// handleList reads the handles at words i (pointer) and i+1 (count).
func handleList(c *compute.Call, i int) []uint32 {
	n := c.U32(i + 1)
	if n > maxHandles {
		c.Fail(abi.Inval)
	}
	c.Read(c.U32(i), 4*n)
	hs := make([]uint32, n)
	for k := range hs {
		hs[k] = c.ReadU32(c.U32(i) + 4*uint32(k))
	}
	return hs
}

func asyncSelect(c *compute.Call) abi.Status {
	hs := handleList(c, 0)
	timeout := time.Duration(c.U32(2)) * time.Millisecond
	c.Read(c.U32(3), 4)
	if len(hs) == 0 && timeout == 0 {
		return abi.Inval
	}
	items := make([]item, len(hs))
	for i, h := range hs {
		items[i] = getItem[item](c, h)
	}
	c.PutU32(c.U32(3), selectItem(c, items, timeout))
	return abi.OK
}

// selectItem blocks until one of items is ready and returns the lowest such index, or
// timedOut after timeout (0: never).
func selectItem(c *compute.Call, items []item, timeout time.Duration) uint32 {
	if i, ok := firstReady(items); ok {
		return i
	}
	e, found := ex(c), uint32(timedOut)
	c.Block(func(ctx context.Context) {
		if timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		for {
			for _, it := range items {
				it.notify(e.wake)
			}
			if i, ok := firstReady(items); ok {
				found = i
				return
			}
			select {
			case <-e.wake:
			case <-ctx.Done():
				return
			}
		}
	})
	return found
}

func firstReady(items []item) (uint32, bool) {
	for i, it := range items {
		if it.ready() {
			return uint32(i), true
		}
	}
	return 0, false
}

func asyncIsReady(c *compute.Call) abi.Status {
	ready := getItem[item](c, c.U32(0)).ready()
	c.PutU32(c.U32(1), flag(ready))
	return abi.OK
}

// flag returns the ABI's boolean.
func flag(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
