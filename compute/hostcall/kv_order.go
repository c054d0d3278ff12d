package hostcall

import "context"

// kvKey names a key of a store; an empty key stands for all of them.
type kvKey struct{ store, key string }

// kvOp is an operation on a key.
type kvOp struct {
	kvKey
	write bool
	skip  func() // if set, called in place of an operation whose sandbox ended before its turn came
}

// kvOrder lets the KV operations of one sandbox see its earlier writes: each waits for those of
// the same key that the guest began before it. Guests count on it: the JavaScript SDK, for one,
// never waits for the insert of a stream. Only the guest's goroutine uses it.
type kvOrder map[kvKey]chan struct{} // closed when the last write of that key is over

// maxKVOrder is how many keys are remembered before those whose writes are over are forgotten.
const maxKVOrder = 64

// before returns what an operation on k has to wait for.
func (o kvOrder) before(k kvKey) (writes []<-chan struct{}) {
	if k.key != "" {
		if w := o[k]; w != nil {
			writes = append(writes, w)
		}
		return writes
	}
	for other, w := range o {
		if other.store == k.store {
			writes = append(writes, w)
		}
	}
	return writes
}

// write notes a write of k, which is over when the returned channel is closed.
func (o *kvOrder) write(k kvKey) chan struct{} {
	if *o == nil {
		*o = kvOrder{}
	}
	if len(*o) >= maxKVOrder {
		for k, w := range *o {
			if over(w) {
				delete(*o, k)
			}
		}
	}
	w := make(chan struct{})
	(*o)[k] = w
	return w
}

func over(w <-chan struct{}) bool {
	select {
	case <-w:
		return true
	default:
		return false
	}
}

// finish waits for the writes that the guest left behind, or for ctx.
func (o kvOrder) finish(ctx context.Context) {
	for _, w := range o {
		select {
		case <-w:
		case <-ctx.Done():
			return
		}
	}
}
