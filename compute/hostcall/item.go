package hostcall

import (
	"context"
	"sync"

	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// An item is something a guest can wait for with async_io: a body, a pending request, a
// pending KV operation, a lookup in the cache, a promise of another request. All items share one handle table.
type item interface {
	// ready reports whether an operation on the item would not block. Asking may start
	// what makes it ready.
	ready() bool
	// notify makes the item send to ch once, without blocking, when it becomes ready.
	notify(ch chan<- struct{})
	// drop lets go of the item because its handle was closed or the sandbox ended.
	drop()
}

// waiters are the channels to wake when an item changes; its owner's lock guards it.
type waiters []chan<- struct{}

// add registers ch once, however often it is added.
func (w *waiters) add(ch chan<- struct{}) {
	for _, have := range *w {
		if have == ch {
			return
		}
	}
	*w = append(*w, ch)
}

// wake sends to each channel and forgets them all. A full channel has a wake-up waiting already.
func (w *waiters) wake() {
	for i, ch := range *w {
		select {
		case ch <- struct{}{}:
		default:
		}
		(*w)[i] = nil
	}
	*w = (*w)[:0]
}

// A future is an item whose result another goroutine delivers.
type future[T any] struct {
	mu      sync.Mutex
	done    bool
	val     T
	err     error
	waiters waiters
	cancel  context.CancelFunc // ends the work; may be nil
}

// start runs f in a goroutine of its own and returns its result to come. f's context ends
// when the sandbox does or the handle is closed.
func start[T any](e *exec, f func(context.Context) (T, error)) *future[T] {
	ctx, cancel := context.WithCancel(e.ctx)
	fut := &future[T]{cancel: cancel}
	go func() {
		defer cancel()
		v, err := f(ctx)
		fut.resolve(v, err)
	}()
	return fut
}

// resolve delivers the result; only the first counts, which it reports.
func (f *future[T]) resolve(v T, err error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done {
		return false
	}
	f.done, f.val, f.err = true, v, err
	f.waiters.wake()
	return true
}

func (f *future[T]) ready() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.done
}

func (f *future[T]) notify(ch chan<- struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiters.add(ch)
}

func (f *future[T]) drop() {
	if f.cancel != nil {
		f.cancel()
	}
}

// wait blocks the guest until the result is there.
func (f *future[T]) wait(c *compute.Call) (T, error) {
	ex(c).await(c, f)
	return f.result()
}

// result returns the result of a ready future.
func (f *future[T]) result() (T, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.val, f.err
}

// await blocks the guest until it is ready.
func (e *exec) await(c *compute.Call, it item) {
	if it.ready() {
		return
	}
	c.Block(func(ctx context.Context) { e.sleepOn(ctx, it) })
}

// sleepOn returns when it is ready or ctx ends.
func (e *exec) sleepOn(ctx context.Context, it item) {
	for {
		it.notify(e.wake)
		if it.ready() {
			return
		}
		select {
		case <-e.wake:
		case <-ctx.Done():
			return
		}
	}
}

// putItem opens a handle for it; too many end the call with limitexceeded.
func putItem(c *compute.Call, it item) uint32 {
	h, ok := ex(c).items.put(it)
	if !ok {
		it.drop()
		c.Fail(abi.LimitExceeded)
	}
	return h
}

// getItem returns the item of type T that h names; another type or none ends the call with badf.
func getItem[T item](c *compute.Call, h uint32) T {
	it, _ := ex(c).items.get(h)
	v, ok := it.(T)
	if !ok {
		c.Fail(abi.BadHandle)
	}
	return v
}

// takeItem is getItem that also closes the handle.
func takeItem[T item](c *compute.Call, h uint32) T {
	v := getItem[T](c, h)
	ex(c).items.take(h)
	return v
}
