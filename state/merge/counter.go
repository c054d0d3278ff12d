package merge

import (
	"fmt"
	"math"

	"github.com/wedge-cloud/wedge"
)

// maxSum is how far one writer may count: JSON readers take numbers up to it exactly.
const maxSum = 1 << 53

// counter has for each writer what it has counted in all. Each change replaces the writer's row by one with a new dot.
// While changes between are missing there may be several rows of one writer; the last counts.
type counter struct {
	rows table[dot, sums]
	grow bool
}

type sums struct{ up, down uint64 }

func (s sums) join(o sums) sums { return sums{max(s.up, o.up), max(s.down, o.down)} }

// total returns the counter's value, which stays at the ends of int64.
func (c counter) total() int64 {
	var up, down uint64
	for s := range lastRows(c.rows) {
		up, down = addUp(up, s.up), addUp(down, s.down)
	}
	if up >= down {
		return int64(min(up-down, math.MaxInt64))
	}
	return -int64(min(down-up, math.MaxInt64))
}

func addUp(a, b uint64) uint64 {
	if a+b < a {
		return math.MaxUint64
	}
	return a + b
}

// lastRows goes through the last row of each writer.
func lastRows[V any](t table[dot, V]) func(yield func(V) bool) {
	return func(yield func(V) bool) {
		for i := range t {
			if i+1 < len(t) && t[i+1].key.writer == t[i].key.writer {
				continue
			}
			if !yield(t[i].val) {
				return
			}
		}
	}
}

// rowsOf returns the rows of one writer.
func rowsOf[V any](t table[dot, V], w Writer) table[dot, V] {
	from, _ := t.find(dot{writer: w})
	to, _ := t.find(dot{w, math.MaxUint64})
	return t[from:to]
}

// lastOf returns the last row of a writer, and says in c that it goes with those before it.
func lastOf[V any](t table[dot, V], w Writer, c *change) (v V) {
	for _, r := range rowsOf(t, w) {
		c.covers(r.key)
		v = r.val
	}
	return v
}

func (c counter) apply(op *Op, ch *change) (body, error) {
	switch {
	case op.Op == "clear" && !c.grow:
		return clearAll(c, ch), nil
	case op.Op == "adopt":
		return c.adopt(op.From, ch)
	case op.Op != "add":
		return nil, unknownOp(c.kind(), op.Op)
	case op.By < 0 && c.grow:
		return nil, refuse(wedge.Invalid, fmt.Errorf("by %d", op.By), "This counter only grows; use one of kind counter.")
	}
	mine := lastOf(c.rows, ch.by, ch)
	add := &mine.up
	if op.By < 0 {
		op.By, add = -op.By, &mine.down
	}
	n, err := op.by()
	if err != nil {
		return nil, err
	}
	if *add += n; *add > maxSum {
		return nil, full("units")
	}
	return counter{single(ch.dot(), mine), c.grow}, nil
}

// adopt counts what a writer that is gone has counted as this one's.
func (c counter) adopt(from Writer, ch *change) (body, error) {
	theirs := rowsOf(c.rows, from)
	if len(theirs) == 0 || from == ch.by {
		return nil, nil
	}
	mine, old := lastOf(c.rows, ch.by, ch), lastOf(c.rows, from, ch)
	mine.up, mine.down = mine.up+old.up, mine.down+old.down
	if max(mine.up, mine.down) > maxSum {
		return nil, full("units")
	}
	return counter{single(ch.dot(), mine), c.grow}, nil
}

// clearAll removes all that is there now.
func clearAll(b body, c *change) body {
	if b.empty() {
		return nil
	}
	b.dots(c.covers)
	return b.kind().blank()
}

func (c counter) kind() Kind {
	if c.grow {
		return Grow
	}
	return Counter
}

func (c counter) join(o body, j *joining) body {
	return counter{joinDots(c.rows, o.(counter).rows, j, sums.join), c.grow}
}

func (c counter) empty() bool              { return len(c.rows) == 0 }
func (c counter) dots(f func(dot))         { c.rows.each(f) }
func (c counter) mentions(func(Writer))    {}
func (c counter) newest() Instant          { return Instant{} }
func (c counter) collect(Instant, *change) {}
func (c counter) render() any              { return c.total() }
