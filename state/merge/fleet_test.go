package merge

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestMain(m *testing.M) {
	_ = flag.Set("rapid.checks", "220") // for each of sixteen properties; a flag of the command line comes later and wins
	flag.Parse()
	os.Exit(m.Run())
}

// picker draws numbers below n: from rapid, or from a seed.
type picker func(n int) int

func drawn(t *rapid.T) picker {
	return func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "n") }
}

// fleet is some writers of one value, and all that they have sent each other.
type fleet struct {
	pick    picker
	now     time.Time
	writers []*replica
	sent    []message
	apart   map[string]bool // ids of apologies
	calm    Instant         // all had everything then
	gone    []Writer
	lax     bool // apologies are not checked
}

type replica struct {
	clock *Clock
	skew  time.Duration
	v     *Value
	knows map[int]bool // messages whose change it knows
}

// message is a delta on its way: it may come twice, late, or after those sent later.
type message struct {
	by    Writer
	op    Op
	id    string // of what it made: a write, an item
	at    Instant
	delta *Value
	past  map[int]bool // what its writer knew
}

func newFleet(k Kind, n int, pick picker) *fleet {
	f := &fleet{pick: pick, now: time.UnixMilli(1_700_000_000_000), apart: map[string]bool{}}
	for i := range n {
		w := Writer{fmt.Sprintf("pop%d", i), uint64(i) << 60}
		f.writers = append(f.writers, &replica{NewClock(w), time.Duration(pick(400)-200) * time.Millisecond, New(k), map[int]bool{}})
	}
	return f
}

func (f *fleet) write(r *replica, op Op) error {
	f.collect(r)
	next, delta, err := r.v.Apply(op, r.clock.Now(f.now.Add(r.skew)))
	if err == nil {
		f.send(r, op, next, delta)
	}
	return err
}

func (f *fleet) send(r *replica, op Op, next, delta *Value) {
	if delta == nil {
		return
	}
	m := message{by: r.clock.writer, op: op, delta: delta, at: delta.Newest(), past: map[int]bool{}}
	for i := range r.knows {
		m.past[i] = true
	}
	delta.body.dots(func(d dot) { m.id = d.String() })
	r.v = next
	r.knows[len(f.sent)] = true
	f.sent = append(f.sent, m)
}

// collect is done before anything else, once all have agreed: see Value.Collect.
func (f *fleet) collect(r *replica) {
	v := r.v.Collect(f.calm)
	r.v, _, _ = Join(v, New(v.Kind()), f.gone...)
}

func (f *fleet) join(t fataler, r *replica, v *Value) {
	f.collect(r)
	b := v.Encode()
	d, err := Decode(b)
	if err != nil {
		t.Fatalf("%v: %x", err, b)
	}
	_ = r.clock.See(d.Newest(), f.now.Add(r.skew))
	next, sorry, err := Join(r.v, d, f.gone...)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range sorry {
		f.apart[a.ID] = true
	}
	r.v = next
}

func (f *fleet) deliver(t fataler, r *replica, i int) {
	f.join(t, r, f.sent[i].delta)
	r.knows[i] = true
}

// heal delivers all to all, in any order, some twice.
func (f *fleet) heal(t fataler) {
	calm := f.calm
	for _, r := range f.writers {
		all := make([]int, 0, len(f.sent)+3)
		for i := range f.sent {
			all = slices.Insert(all, f.pick(len(all)+1), i)
		}
		for range min(3, len(f.sent)) {
			all = append(all, f.pick(len(f.sent)))
		}
		for _, i := range all {
			f.deliver(t, r, i)
		}
		calm = maxInstant(calm, r.clock.Now(f.now.Add(r.skew)).Instant)
	}
	f.calm = calm
	for _, r := range f.writers {
		_ = r.clock.See(f.calm, f.now.Add(time.Hour)) // in earnest: what they write later comes after
	}
}

// step does one thing at one replica.
func (f *fleet) step(t fataler, op func(r *replica) Op) {
	r := f.writers[f.pick(len(f.writers))]
	f.now = f.now.Add(time.Duration(f.pick(50)) * time.Millisecond)
	switch n := f.pick(16); {
	case n < 7:
		_ = f.write(r, op(r))
	case n < 13 && len(f.sent) > 0:
		f.deliver(t, r, f.pick(len(f.sent)))
	case n == 13: // a whole value
		o := f.writers[f.pick(len(f.writers))]
		f.collect(o)
		f.join(t, r, o.v)
		for i := range o.knows {
			r.knows[i] = true
		}
	case n == 14:
		f.collect(r)
	case n == 15 && f.pick(4) == 0:
		f.heal(t)
	}
}

func (f *fleet) same(t fataler) {
	for _, r := range f.writers {
		f.collect(r)
		if a, b := f.writers[0].v.Encode(), r.v.Encode(); !bytes.Equal(a, b) {
			t.Fatalf("not the same:\n%s\n%s\n%x\n%x", show(f.writers[0].v), show(r.v), a, b)
		}
	}
}

func show(v *Value) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// anyOp makes operations that suit a kind; the values are few, for them to meet.
func (f *fleet) anyOp(k Kind, r *replica) Op {
	value := json.RawMessage(fmt.Sprint(f.pick(4)))
	choose := func(ops ...string) string { return ops[f.pick(len(ops))] }
	switch k {
	case Grow:
		return Op{Op: "add", By: int64(f.pick(9))}
	case Counter:
		return Op{Op: "add", By: int64(f.pick(19) - 9)}
	case Register, Multi:
		return Op{Op: "set", Value: value}
	case AddWins, RemoveWins:
		return Op{Op: choose("add", "add", "remove"), Value: value}
	case List:
		op := Op{Op: choose("append", "prepend", "insert", "insert", "remove"), Value: value}
		if l := r.v.body.(list); len(l.items) > 0 {
			op.ID = l.items[f.pick(len(l.items))].key.String()
		}
		return op
	case Map:
		inner := []Kind{Grow, Counter, Register, Multi, AddWins, RemoveWins, List, Map}[f.pick(8)]
		name := []string{"a", "b"}[f.pick(2)]
		if f.pick(6) == 0 {
			return Op{Op: choose("drop", "drop", "clear", "drop"), Path: []string{name}}
		}
		op := Op{Op: "add", Path: []string{name, "c"}, Kind: Counter}
		if inner == Map {
			return op
		}
		if b, ok := r.v.body.(fields).rows.get(field{name, inner}); ok {
			op = f.anyOp(inner, &replica{v: &Value{body: b}})
		} else {
			op = f.anyOp(inner, &replica{v: New(inner)})
		}
		op.Path, op.Kind = []string{name}, inner
		return op
	}
	return Op{Op: "stock", By: 3}
}

// laws checks that joins do not care for order, grouping or repetition, for any three values, deltas or joins of some.
func (f *fleet) laws(t fataler) {
	any := func() *Value {
		if len(f.sent) > 0 && f.pick(2) == 0 {
			return f.sent[f.pick(len(f.sent))].delta
		}
		return f.writers[f.pick(len(f.writers))].v
	}
	a, b, c := any(), any(), any()
	join := func(a, b *Value) *Value {
		v, _, err := Join(a, b)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, p := range [][2]*Value{
		{a, join(a, a)}, {join(a, b), join(b, a)}, {join(join(a, b), c), join(a, join(b, c))}, {join(join(a, b), b), join(a, b)},
	} {
		if !bytes.Equal(p[0].Encode(), p[1].Encode()) {
			t.Fatalf("%s\n%s\na %s\nb %s\nc %s", show(p[0]), show(p[1]), show(a), show(b), show(c))
		}
	}
}

func TestConverges(t *testing.T) {
	for k := Grow; k < endKinds; k++ {
		t.Run(k.String(), rapid.MakeCheck(func(t *rapid.T) {
			f := newFleet(k, 2+drawn(t)(3), drawn(t))
			for range f.pick(30) {
				f.step(t, func(r *replica) Op { return f.anyOp(k, r) })
			}
			f.laws(t)
			f.heal(t)
			f.same(t)
			f.agrees(t, k)
		}))
	}
}

// TestGone lets a writer leave. What it counted goes on; what it wrote comes again; of itself nothing stays.
func TestGone(t *testing.T) {
	for _, k := range []Kind{Counter, Register, AddWins, RemoveWins, List, Map} {
		t.Run(k.String(), rapid.MakeCheck(func(t *rapid.T) {
			f := newFleet(k, 3, drawn(t))
			chaos := func() {
				for range f.pick(15) {
					f.step(t, func(r *replica) Op { return f.anyOp(k, r) })
				}
				f.heal(t)
			}
			chaos()
			left := f.writers[2].clock.writer
			f.writers, f.gone = f.writers[:2], []Writer{left}
			f.lax = true // what replaced its writes may come after what replaced that: an apology too many
			_ = f.write(f.writers[0], Op{Op: "adopt", From: left})
			chaos()
			f.same(t)
			f.agrees(t, k)
			v := f.writers[0].v
			if len(v.seen.of(left)) > 0 && (k == Counter || !v.mentions(left)) {
				t.Fatalf("%v is still there: %v", left, v.seen)
			}
		}))
	}
}

// agrees compares the value with what follows from who knew what.
func (f *fleet) agrees(t fataler, k Kind) {
	got, want := show(f.writers[0].v), ""
	switch k {
	case Grow, Counter:
		sum := int64(0)
		for _, m := range f.sent {
			if sum += m.op.By; m.op.Op == "add" && m.op.By == 0 {
				sum++
			}
		}
		want = fmt.Sprint(sum)
	case Register, Multi:
		want = f.writes(t, k)
	case AddWins, RemoveWins:
		want = f.elements(k)
	case List:
		got, want = f.items()
	default:
		return
	}
	if got != want {
		t.Fatalf("%s, and should be %s", got, want)
	}
}

// left returns those messages that no other one knew which replaces them.
func (f *fleet) left(replaces func(by, m message) bool) (out []message) {
	for i, m := range f.sent {
		if !slices.ContainsFunc(f.sent, func(o message) bool { return o.past[i] && replaces(o, m) }) {
			out = append(out, m)
		}
	}
	return out
}

// writes also checks apologies: each write that is lost to one that knew nothing of it has one, and none that is not.
func (f *fleet) writes(t fataler, k Kind) string {
	left := f.left(func(_, _ message) bool { return true })
	if k == Multi {
		slices.SortFunc(left, func(a, b message) int {
			x, _ := parseDot(a.id)
			y, _ := parseDot(b.id)
			return x.compare(y)
		})
		all := []string{}
		for _, m := range left {
			all = append(all, string(m.op.Value))
		}
		return "[" + strings.Join(all, ",") + "]"
	}
	if len(left) == 0 {
		return "null"
	}
	later := func(a, b message) int {
		if c := a.at.compare(b.at); c != 0 {
			return c
		}
		return a.by.compare(b.by)
	}
	won := slices.MaxFunc(left, later)
	for i, m := range f.sent {
		must := slices.ContainsFunc(left, func(l message) bool { return l.id == m.id }) && m.id != won.id
		may := slices.ContainsFunc(f.sent, func(o message) bool { return !o.past[i] && later(o, m) > 0 })
		if got := f.apart[m.id]; !f.lax && (must && !got || got && !may) {
			t.Fatalf("write %s: apology %t, must %t, may %t", m.id, got, must, may)
		}
	}
	return string(won.op.Value)
}

func (f *fleet) elements(k Kind) string {
	left := f.left(func(by, m message) bool { return string(by.op.Value) == string(m.op.Value) })
	all := []string{}
	for _, v := range []string{"0", "1", "2", "3"} {
		adds, removes := 0, 0
		for _, m := range left {
			if string(m.op.Value) == v && m.op.Op == "add" {
				adds++
			} else if string(m.op.Value) == v {
				removes++
			}
		}
		if adds > 0 && (k == AddWins || removes == 0) {
			all = append(all, v)
		}
	}
	return "[" + strings.Join(all, ",") + "]"
}

// items compares what a list has with what was put in and not removed, but for the order.
func (f *fleet) items() (got, want string) {
	var have, should []string
	for _, i := range f.writers[0].v.body.render().([]shownItem) {
		have = append(have, i.ID)
	}
	for _, m := range f.sent {
		if m.op.Op != "remove" && !slices.ContainsFunc(f.sent, func(o message) bool { return o.op.Op == "remove" && o.op.ID == m.id }) {
			should = append(should, m.id)
		}
	}
	slices.Sort(have)
	slices.Sort(should)
	return fmt.Sprint(have), fmt.Sprint(should)
}

// fataler is a test or one case of rapid's.
type fataler interface {
	Fatal(...any)
	Fatalf(string, ...any)
}
