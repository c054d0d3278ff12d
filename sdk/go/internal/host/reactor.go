package host

import (
	"context"
	"runtime"
	"time"

	"github.com/wedge-cloud/wedge/sdk/go/internal/abi"
)

// A wasm guest has one thread: a hostcall that blocks stops every goroutine. So whoever
// wants to wait for a handle while others could run registers it here, and one of the
// waiting goroutines, the leader, waits for all of them with one async_io.select.
//
// The leader first yields. Go on wasm never preempts, so when a goroutine that yielded
// runs again, every other one has run until it blocked; it yields twice because the
// scheduler looks at its global queue, where yielding goroutines stand, first on every
// 61st turn. After that only timers can make a goroutine runnable, and the runtime does
// not tell when the next is due. So select gets a time limit that grows with the time
// waited: no timer is late by more than the shortest limit or an eighth of the wait,
// and a guest that waits for half a minute wakes about 90 times.

const (
	shortest = 1 * time.Millisecond  // first limit if some goroutine is blocked elsewhere, maybe on a timer
	calm     = 10 * time.Millisecond // first limit if all goroutines wait here: only AfterFuncs can be due
	longest  = 1 * time.Second
	share    = 8 // the limit is this part of the time waited so far
)

type signal bool

const (
	ready signal = false
	lead  signal = true
)

type waiter struct {
	h    abi.Handle
	ctx  context.Context
	wake chan signal // buffered, so that waking never yields
}

var (
	waiting []*waiter
	led     bool // some waiter leads, or was told to
)

// Wait returns when a hostcall on h would not block, or when ctx ends, with its cause.
//
// If this is the only goroutine and ctx cannot end, Wait returns at once and the caller's
// own hostcall does the waiting: one crossing of the boundary instead of three. A
// time.AfterFunc of the program is then delayed until that call is over.
func Wait(ctx context.Context, h abi.Handle) error {
	done := ctx.Done()
	if done == nil && runtime.NumGoroutine() == 1 {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var is uint32
	if st := abi.IsReady(h, &is); st != abi.OK || is != 0 {
		return nil // if h is bad, the caller's own call says so
	}
	w := &waiter{h, ctx, make(chan signal, 1)}
	waiting = append(waiting, w)
	if !led {
		return w.lead()
	}
	select {
	case s := <-w.wake:
		if s == lead {
			return w.lead()
		}
		return nil
	case <-done:
		return w.giveUp()
	}
}

// giveUp leaves the queue because the waiter's context ended.
func (w *waiter) giveUp() error {
	w.leave()
	select {
	case s := <-w.wake:
		if s == lead {
			pass()
		}
	default:
	}
	return context.Cause(w.ctx)
}

// lead waits for everybody until w itself is ready.
func (w *waiter) lead() error {
	led = true
	start := time.Now()
	for {
		runtime.Gosched()
		runtime.Gosched()
		if w.ctx.Err() != nil {
			w.leave()
			pass()
			return context.Cause(w.ctx)
		}
		first, st := selectReady(limit(start))
		switch {
		case st != abi.OK: // a handle is bad: let each one's own call find out
			for _, other := range waiting {
				if other != w {
					other.wake <- ready
				}
			}
			waiting, led = nil, false
			return nil
		case first == nil:
			continue
		case first == w:
			w.leave()
			pass()
			return nil
		}
		first.leave()
		first.wake <- ready
		start = time.Now()
	}
}

// pass hands the lead to the one who has waited longest.
func pass() {
	led = len(waiting) > 0
	if led {
		waiting[0].wake <- lead
	}
}

func (w *waiter) leave() {
	for i, other := range waiting {
		if other == w {
			waiting = append(waiting[:i], waiting[i+1:]...)
			return
		}
	}
}

// selectReady waits for any of the waiting handles; nil: the time is up.
func selectReady(d time.Duration) (*waiter, abi.Status) {
	var few [8]abi.Handle
	hs := few[:0]
	for _, w := range waiting {
		hs = append(hs, w.h)
	}
	index := ^uint32(0)
	st := abi.Select(&hs[0], uint32(len(hs)), uint32(d/time.Millisecond), &index)
	if st != abi.OK || int64(index) >= int64(len(waiting)) {
		return nil, st
	}
	return waiting[index], st
}

// limit says how long the next select may last, in whole milliseconds and never 0, which
// would mean for ever.
func limit(start time.Time) time.Duration {
	now := time.Now()
	first := shortest
	if runtime.NumGoroutine() <= len(waiting) {
		first = calm
	}
	d := min(max(now.Sub(start)/share, first), longest)
	for _, w := range waiting {
		if deadline, ok := w.ctx.Deadline(); ok {
			d = min(d, deadline.Sub(now)+time.Millisecond) // rounding down must not wake us just before it
		}
	}
	return max(d, time.Millisecond)
}
