package hostcall

import "github.com/wedge-cloud/wedge/abi"

// maxHandles is how many handles of one table may be open at a time.
const maxHandles = 1 << 14

// table gives handles to values of one kind. Numbers start at 0, rise and are never used
// again, so a guest that keeps a closed handle gets badf, not somebody else's value.
// Only the guest's goroutine uses it. The zero table is empty.
type table[T any] struct {
	rows []row[T] // by rising number; closed ones stay until half are closed
	next uint32
	dead int
}

type row[T any] struct {
	num  uint32
	open bool
	val  T
}

// put adds v; it reports false when too many handles are open.
func (t *table[T]) put(v T) (uint32, bool) {
	if len(t.rows)-t.dead >= maxHandles || t.next >= abi.InvalidHandle {
		return abi.InvalidHandle, false
	}
	n := t.next
	t.next++
	t.rows = append(t.rows, row[T]{n, true, v})
	return n, true
}

// find returns the open row of that number, or nil.
func (t *table[T]) find(num uint32) *row[T] {
	lo, hi := 0, len(t.rows)
	for lo < hi {
		if mid := int(uint(lo+hi) / 2); t.rows[mid].num < num {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(t.rows) && t.rows[lo].num == num && t.rows[lo].open {
		return &t.rows[lo]
	}
	return nil
}

// get returns the value that num names.
func (t *table[T]) get(num uint32) (v T, ok bool) {
	if r := t.find(num); r != nil {
		return r.val, true
	}
	return v, false
}

// take returns the value that num names and closes the handle.
func (t *table[T]) take(num uint32) (v T, ok bool) {
	r := t.find(num)
	if r == nil {
		return v, false
	}
	v = r.val
	*r = row[T]{num: num}
	t.dead++
	if t.dead > 32 && t.dead > len(t.rows)/2 {
		t.compact()
	}
	return v, true
}

func (t *table[T]) compact() {
	kept := t.rows[:0]
	for _, r := range t.rows {
		if r.open {
			kept = append(kept, r)
		}
	}
	clear(t.rows[len(kept):])
	t.rows, t.dead = kept, 0
}

// drain closes every handle and calls f for each value.
func (t *table[T]) drain(f func(T)) {
	rows := t.rows
	t.rows, t.dead = nil, 0
	for _, r := range rows {
		if r.open {
			f(r.val)
		}
	}
}
