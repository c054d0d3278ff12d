package merge

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wedge-cloud/wedge"
)

// Kind is what a value is. The numbers are on disk and on the wire: add new kinds at the end.
type Kind uint8

// The kinds.
const (
	Grow       Kind = iota + 1 // a counter that only grows
	Counter                    // a counter that goes up and down
	Stock                      // a counter of something scarce, which never goes below zero
	Register                   // one JSON value: of writes that knew nothing of each other the latest is shown
	Multi                      // one JSON value, or several: of such writes all are shown
	AddWins                    // a set of JSON values: of an addition and a removal at the same time the addition holds
	RemoveWins                 // a set where the removal does
	Map                        // values of these kinds, but Stock, under names
	List                       // JSON values in an order
	endKinds
)

// Outranks reports whether a value of kind k stays when the same key was made one of kind o elsewhere. A register stays always: only what was
// cleared becomes one.
func (k Kind) Outranks(o Kind) bool {
	return k == Register || o != Register && k > o
}

var kindNames = [endKinds]string{"", "grow", "counter", "stock", "register", "multi", "add-wins", "remove-wins", "map", "list"}

// String returns the kind's name.
func (k Kind) String() string {
	if k >= endKinds {
		return ""
	}
	return kindNames[k]
}

// MarshalText implements [encoding.TextMarshaler].
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (k *Kind) UnmarshalText(b []byte) error {
	i := slices.Index(kindNames[:], string(b))
	if i < 1 {
		return refuse(wedge.Invalid, fmt.Errorf("%q is no kind of value", b),
			"Use grow, counter, stock, register, multi, add-wins, remove-wins, map or list.")
	}
	*k = Kind(i)
	return nil
}

// Limits of what [Value.Apply] makes. What joins make of such values may be larger.
const (
	MaxSize  = 1 << 20  // bytes of an encoded value
	MaxValue = 32 << 10 // bytes of one JSON value in it
	MaxName  = 1 << 10  // bytes of a name in a map, and of Op.Who
	MaxRows  = 16 << 10 // fields of a map, elements of a set, shares of a stock; items of a list with those removed and not collected
	MaxDepth = 8        // maps in maps
)

// Value is a mergeable value, or a delta: what one change made of one, itself a value, to be joined with others'. It is
// never changed: Apply, Join and Collect make new ones. It may be used by many goroutines.
type Value struct {
	body    body
	seen    seen
	removed Instant // of the latest change that only took away; zero: there was none

	encoded []byte // nil if it was not made yet
}

// body is what a value holds, without what it has seen: in a map the fields share that.
type body interface {
	kind() Kind
	empty() bool
	// join joins with another of the same kind.
	join(o body, j *joining) body
	// apply returns the delta of an operation, nil if it changes nothing.
	apply(op *Op, c *change) (body, error)
	// dots names all that is there; mentions names the writers of whatever else there is.
	dots(f func(dot))
	mentions(f func(Writer))
	newest() Instant
	// collect says in c which dots are kept only for those who had not seen removals from before then.
	collect(before Instant, c *change)
	write(e *encoder)
	render() any
}

// blank returns an empty body of the kind.
func (k Kind) blank() body {
	switch k {
	case Grow, Counter:
		return counter{grow: k == Grow}
	case Stock:
		return stock{}
	case Register, Multi:
		return register{multi: k == Multi}
	case AddWins, RemoveWins:
		return set{strict: k == RemoveWins}
	case Map:
		return fields{}
	case List:
		return list{}
	}
	return nil
}

// New returns an empty value of a kind, which must be one of the constants.
func New(k Kind) *Value {
	b := k.blank()
	if b == nil {
		panic("merge: no such kind")
	}
	return &Value{body: b}
}

// Kind returns what the value is.
func (v *Value) Kind() Kind { return v.body.kind() }

// Empty reports whether nothing is there: nothing ever was, or all is gone.
func (v *Value) Empty() bool { return v.body.empty() }

// Bare reports whether there is nothing to be seen in the value. One that is not empty may still keep that something was removed.
func (v *Value) Bare() bool { return bare(v.body) }

func bare(b body) bool {
	switch b := b.(type) {
	case list:
		return !slices.ContainsFunc(b.items, func(r row[dot, item]) bool { return !b.gone.has(r.key) })
	case set:
		return !slices.ContainsFunc(b.elements, func(e row[text, table[dot, mark]]) bool { return in(e.val) })
	case fields:
		return !slices.ContainsFunc(b.rows, func(f row[field, body]) bool { return !bare(f.val) })
	}
	return b.empty()
}

// Write is one write to a register that nobody has replaced who had seen it.
type Write struct {
	ID    string
	Value json.RawMessage
}

// Writes returns what a register holds; the first is what a Register shows. Of other kinds: nil.
func (v *Value) Writes() []Write {
	r, ok := v.body.(register)
	if !ok {
		return nil
	}
	all := make([]Write, len(r.rows))
	for i, w := range r.rows {
		all[i] = Write{w.key.String(), json.RawMessage(w.val.value)}
	}
	if i := r.shown(); i > 0 {
		all[0], all[i] = all[i], all[0]
	}
	return all
}

// change is one operation while it is applied.
type change struct {
	by      Writer
	at      Instant
	seq     uint64 // of the last dot given out
	covered []dot  // what the delta has seen: the new dots, and those that go
	depth   int
	margin  time.Duration // of shares: ClockError
}

// dot gives out a new dot.
func (c *change) dot() dot {
	c.seq++
	d := dot{c.by, c.seq}
	c.covers(d)
	return d
}

func (c *change) covers(d dot) { c.covered = append(c.covered, d) }

// after makes the change later than what it replaces, whatever the clock said.
func (c *change) after(i Instant) {
	if c.at.compare(i) <= 0 {
		c.at = i.next()
	}
}

func (c *change) seen() (s seen) {
	slices.SortFunc(c.covered, dot.compare)
	for _, d := range c.covered {
		if n := len(s); n == 0 || s[n-1].writer != d.writer {
			s = append(s, track{writer: d.writer})
		}
		t := &s[len(s)-1]
		if n := len(t.spans); n > 0 && d.seq <= t.spans[n-1].to+1 {
			t.spans[n-1].to = d.seq
		} else {
			t.spans = append(t.spans, span{d.seq, d.seq})
		}
	}
	return s
}

// Apply carries out an operation at the writer of the stamp. It returns what the value is then, and the delta for
// the others; the delta is nil where nothing changes. A writer takes a stamp, applies the operation and keeps the outcome before
// it takes the next stamp for that value, or tells others what the value is: else it would give a dot twice, or spend of a share after it
// had told the granter what it spent. Errors are of kind Invalid, NotExist, Conflict (the field is of another kind) or Exhausted.
func (v *Value) Apply(op Op, at Stamp) (next, delta *Value, err error) {
	return v.apply(op, at, ClockError)
}

func (v *Value) apply(op Op, at Stamp, margin time.Duration) (next, delta *Value, err error) {
	if !at.Writer.valid() || at.Wall < 0 {
		return v, nil, refuse(wedge.Invalid, fmt.Errorf("a stamp %v of writer %q", at.Instant, at.Writer), "")
	}
	c := &change{by: at.Writer, at: at.Instant, seq: v.seen.last(at.Writer), margin: margin}
	if c.seq == 0 {
		c.seq = at.Past
	}
	b, err := v.body.apply(&op, c)
	if err != nil || b == nil {
		return v, nil, err
	}
	if c.seq > maxSeq || c.at.Wall > maxWall {
		return v, nil, full("changes")
	}
	delta = &Value{body: b, seen: c.seen()}
	if b.empty() && v.Kind() != Stock {
		c.after(v.removed)
		delta.removed = c.at
	}
	if k := v.Kind(); k == Register || k == Multi {
		delta.seen = delta.seen.union(v.seen) // it replaces also what came and was replaced, or is still to come, of what this writer saw
	}
	if next, _, err = Join(v, delta); err != nil {
		return v, nil, err
	}
	next.encoded = next.Encode()
	if n := len(next.encoded); n > MaxSize && n > len(v.Encode()) {
		return v, nil, full("bytes")
	}
	return next, delta, nil
}

func full(of string) error {
	return refuse(wedge.Exhausted, errors.New("the value holds as many "+of+" as it may"), "Spread what it holds over several values.")
}

// joining is one join while it is under way.
type joining struct {
	mine, theirs seen
	path         []string
	out          []Apology
}

// Join returns what two values, or deltas, come to together: whatever the order, and however often one of them is joined, it
// is the same. It also returns what became known thereby that cannot be kept. Values of different kinds give an
// error of kind Conflict.
//
// Writers that are gone leave nothing behind in a once nothing is left of what they wrote. For that a must have all
// that they ever wrote: what b says of them and a does not have was removed.
func Join(a, b *Value, gone ...Writer) (*Value, []Apology, error) {
	if a.Kind() != b.Kind() {
		return nil, nil, &wedge.Error{Op: "join values", Kind: wedge.Conflict, Err: fmt.Errorf("a %v and a %v", a.Kind(), b.Kind()),
			Hint: "Use another key: this one holds a value of another kind."}
	}
	j := &joining{mine: a.seen, theirs: b.seen}
	for _, w := range gone {
		j.mine = j.mine.union(seen{{w, []span{{1, maxSeq}}}})
	}
	v := &Value{body: a.body.join(b.body, j), seen: j.mine.union(j.theirs), removed: maxInstant(a.removed, b.removed)}
	for _, w := range gone {
		if !v.mentions(w) {
			v.seen = v.seen.without(w)
		}
	}
	return v, j.out, nil
}

// Has reports whether something in the value is a writer's.
func (v *Value) Has(w Writer) (found bool) {
	v.body.dots(func(d dot) { found = found || d.writer == w })
	return found
}

func (v *Value) mentions(w Writer) (found bool) {
	v.body.dots(func(d dot) { found = found || d.writer == w })
	v.body.mentions(func(o Writer) { found = found || o == w })
	return found
}

// Collect returns the value without what it kept only for those who had not yet seen a removal: all that was removed before that
// instant. Nobody is told: all do it by themselves, before they apply or join what was written by anybody who has done it. All have to know that
// all writers that are not gone have seen whatever was written before that instant, and to have whatever any of them wrote until it had seen that. If that
// is not so, an element that was removed may be there again, or an item be at the end of its list, and not everywhere.
func (v *Value) Collect(before Instant) *Value {
	c := &change{}
	if v.body.collect(before, c); len(c.covered) == 0 {
		return v
	}
	next, _, _ := Join(v, &Value{body: v.Kind().blank(), seen: c.seen()}) // of one kind
	return next
}

// Removals reports whether there is something that Collect may take, then or later.
func (v *Value) Removals() bool { return removals(v.body) }

func removals(b body) bool {
	switch b := b.(type) {
	case list:
		return len(b.gone) > 0
	case set:
		return b.strict && slices.ContainsFunc(b.elements, func(e row[text, table[dot, mark]]) bool { return !in(e.val) })
	case fields:
		return slices.ContainsFunc(b.rows, func(f row[field, body]) bool { return removals(f.val) })
	}
	return false
}

// Last returns how many changes of the value a writer has made, as far as the value knows; it may have left numbers out. Who forgets a value has its
// clock know that of its own: see [Clock.Past].
func (v *Value) Last(w Writer) uint64 { return v.seen.last(w) }

// Past returns the value with all of a writer's changes up to that number seen. It is for that writer, who had forgotten the value and
// is told of it again by one who had not.
func (v *Value) Past(w Writer, n uint64) *Value {
	if n == 0 || v.seen.last(w) >= n {
		return v
	}
	return &Value{body: v.body, seen: v.seen.union(seen{{w, []span{{1, n}}}}), removed: v.removed}
}

// Newest returns the latest instant in the value, for the caller's clock to see.
func (v *Value) Newest() Instant { return maxInstant(v.body.newest(), v.removed) }

// Check finds what a delta from a writer may not have: changes by others, which only their writers may send; instants later
// than a limit; and changes by others which it claims to have seen, and known, the value that it is to be joined with, has not (nil:
// not checked). For whoever knows what is still to be written can keep it from ever being. Whoever takes
// deltas from a log takes the limit from when the log stored them, so that all who follow it decide alike; and has known all
// that stands before in the log. The error is of kind Denied or Invalid.
func (v *Value) Check(from Writer, limit time.Time, known *Value, gone ...Writer) (err error) {
	if at := v.Newest(); at.Wall > limit.UnixMilli() {
		return tooLate(at, limit)
	}
	denied := func(why error) {
		err = &wedge.Error{Op: "check delta", What: from.String(), Kind: wedge.Denied, Err: why,
			Hint: "Find out what that PoP runs, and take away its pass if it should not be there."}
	}
	v.body.dots(func(d dot) {
		if d.writer != from {
			denied(fmt.Errorf("it speaks for %v", d.writer))
		}
	})
	if known != nil && !v.seen.within(known.seen, append(gone, from)...) {
		denied(errors.New("it has seen what was not written yet"))
	}
	return err
}
