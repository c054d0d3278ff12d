package merge

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

// pops are some writers that send each other all they change, unless they are told to do so at once.
type pops struct {
	t  *testing.T
	v  map[string]*Value
	at int64
}

func newPops(t *testing.T, k Kind, names ...string) *pops {
	p := &pops{t, map[string]*Value{}, 1_700_000_000_000}
	for _, n := range names {
		p.v[n] = New(k)
	}
	return p
}

func (p *pops) try(name, op string) (*Value, error) {
	p.t.Helper()
	o, err := ParseOp([]byte(op))
	if err != nil {
		p.t.Fatal(err)
	}
	p.at++
	next, delta, err := p.v[name].Apply(o, Stamp{Instant{Wall: p.at}, Writer{name, 1}, 0})
	p.v[name] = next
	return delta, err
}

func (p *pops) do(name, op string) *Value {
	p.t.Helper()
	delta, err := p.try(name, op)
	if err != nil {
		p.t.Fatalf("%s at %s: %v", op, name, err)
	}
	return delta
}

// meet joins all with all.
func (p *pops) meet() (sorry []Apology) {
	p.t.Helper()
	for range 2 {
		for a := range p.v {
			for b := range p.v {
				v, s, err := Join(p.v[a], p.v[b])
				if err != nil {
					p.t.Fatal(err)
				}
				p.v[a], sorry = v, append(sorry, s...)
			}
		}
	}
	return sorry
}

func (p *pops) want(want string) {
	p.t.Helper()
	for name, v := range p.v {
		if got := show(v); got != want {
			p.t.Errorf("%s has %s, want %s", name, got, want)
		}
	}
}

func TestCounter(t *testing.T) {
	p := newPops(t, Counter, "a", "b")
	p.do("a", `{"op":"add"}`)
	p.do("a", `{"op":"add","by":10}`)
	p.do("b", `{"op":"add","by":-3}`)
	p.meet()
	p.want("8")
	p.do("a", `{"op":"clear"}`)
	p.do("b", `{"op":"add","by":-1}`) // a writer's count is one number: clearing it and adding to it at once keeps it
	p.meet()
	p.want("-4")
}

func TestRegister(t *testing.T) {
	p := newPops(t, Register, "a", "b", "c")
	p.want("null")
	p.do("a", `{"op":"set","value":"first"}`)
	p.meet()
	p.do("a", `{"op":"set","value":{"z":1,"a":[1.50]},"who":"user 17"}`)
	p.do("b", `{"op":"set","value":"later"}`)
	sorry := p.meet()
	p.want(`"later"`)
	for _, s := range sorry {
		b, _ := json.Marshal(s)
		if want := `{"id":"a.0000000000000001:2","reason":"overwritten","writer":"a.0000000000000001","who":"user 17","at":"2023-11-14T22:13:20.002Z",` +
			`"value":{"a":[1.50],"z":1},"instead":"later"}`; string(b) != want {
			t.Errorf("apology %s", b)
		}
	}
	if len(sorry) == 0 {
		t.Error("no apology")
	}
	p.do("c", `{"op":"set","value":"all seen"}`)
	if sorry := p.meet(); len(sorry) > 0 {
		t.Errorf("apologies for what was seen: %v", sorry)
	}
	p.want(`"all seen"`)
}

// A register takes no orders from a clock that is wrong: who has seen a value replaces it.
func TestRegisterClockAhead(t *testing.T) {
	p := newPops(t, Register, "a", "b")
	other, _, _ := New(Register).Apply(Op{Op: "set", Value: []byte(`"elsewhere"`)}, Stamp{Instant{Wall: p.at + 9}, Writer{"c", 1}, 0})
	p.at += 365 * 24 * time.Hour.Milliseconds()
	p.do("a", `{"op":"set","value":"from next year"}`)
	p.at -= 365 * 24 * time.Hour.Milliseconds()
	p.meet()
	p.do("b", `{"op":"set","value":"now"}`)
	p.v["c"] = other
	p.meet()
	p.want(`"now"`) // what it replaced would have won, and so does it
}

// Apologies are made once, and not for what the same writer replaced, though what is between is missing.
func TestApologies(t *testing.T) {
	p := newPops(t, Map, "a", "b", "c")
	var deltas []*Value
	for i := range 3 {
		deltas = append(deltas, p.do("a", fmt.Sprintf(`{"op":"set","path":["n"],"kind":"register","value":%d}`, i)))
	}
	deltas = append(deltas, p.do("b", `{"op":"set","path":["n"],"kind":"register","value":3}`))
	for _, step := range []struct{ delta, want int }{{2, 0}, {0, 0}, {2, 0}, {3, 1}, {2, 0}, {3, 0}, {1, 0}} {
		v, sorry, err := Join(p.v["c"], deltas[step.delta])
		if err != nil || len(sorry) != step.want {
			t.Errorf("write %d: %v, %+v", step.delta, err, sorry)
		}
		p.v["c"] = v
	}
}

func TestMulti(t *testing.T) {
	p := newPops(t, Multi, "a", "b")
	p.do("a", `{"op":"set","value":1}`)
	p.do("b", `{"op":"set","value":2}`)
	if sorry := p.meet(); len(sorry) > 0 {
		t.Error("an apology for what is shown")
	}
	p.want("[1,2]")
	p.do("b", `{"op":"set","value":3}`)
	p.meet()
	p.want("[3]")
}

func TestSets(t *testing.T) {
	for k, want := range map[Kind]string{AddWins: `["x","y"]`, RemoveWins: `["y"]`} {
		p := newPops(t, k, "a", "b")
		p.do("a", `{"op":"add","value":"x"}`)
		p.do("a", `{"op":"add","value":"y"}`)
		p.do("a", `{"op":"add","value":"z"}`)
		p.meet()
		p.do("a", `{"op":"remove","value":"x"}`)
		p.do("a", `{"op":"remove","value":"z"}`)
		p.do("b", `{"op":"add","value":"x"}`)
		p.meet()
		p.want(want)
		p.do("a", `{"op":"add","value":"x"}`)
		p.meet()
		p.want(`["x","y"]`)
		p.do("b", `{"op":"clear"}`)
		p.meet()
		p.want(`[]`)
	}
}

func TestMap(t *testing.T) {
	p := newPops(t, Map, "a", "b")
	p.do("a", `{"op":"add","path":["likes"],"kind":"counter","by":2}`)
	p.do("b", `{"op":"add","path":["likes"],"kind":"counter"}`)
	p.do("a", `{"op":"set","path":["by","name"],"kind":"register","value":"Ann"}`)
	p.do("b", `{"op":"set","path":["by","name"],"kind":"register","value":"Bob"}`)
	sorry := p.meet()
	p.want(`{"by":{"name":"Bob"},"likes":3}`)
	if len(sorry) == 0 || fmt.Sprint(sorry[0].Path) != "[by name]" {
		t.Errorf("%+v", sorry)
	}
	p.do("a", `{"op":"drop","path":["likes"]}`)
	p.do("b", `{"op":"add","path":["by","tags"],"kind":"add-wins","value":"x"}`)
	p.do("a", `{"op":"drop","path":["by"]}`)
	p.meet()
	p.want(`{"by":{"tags":["x"]}}`)
	p.do("a", `{"op":"set","path":["n"],"kind":"register","value":1}`)
	p.do("b", `{"op":"add","path":["n"],"kind":"grow"}`)
	p.meet()
	p.want(`{"by":{"tags":["x"]},"n":1,"n:register":1}`)
	if _, err := p.try("a", `{"op":"add","path":["by"],"kind":"counter"}`); wedge.KindOf(err) != wedge.Conflict {
		t.Error(err)
	}
	if _, err := p.try("a", `{"op":"add","path":["new"]}`); wedge.KindOf(err) != wedge.NotExist {
		t.Error(err)
	}
	if _, err := p.try("a", `{"op":"stock","path":["seats"],"kind":"stock"}`); wedge.KindOf(err) != wedge.Invalid {
		t.Error(err)
	}
	if _, err := p.try("a", `{"op":"add","kind":"counter","path":["1","2","3","4","5","6","7","8","9"]}`); wedge.KindOf(err) != wedge.Invalid {
		t.Error(err)
	}
	p.do("a", `{"op":"add","kind":"counter","path":["1","2","3","4","5","6","7","8"]}`)
	if _, err := Decode(p.v["a"].Encode()); err != nil {
		t.Error(err)
	}
}

// values shows only the values of a list.
func values(t *testing.T, v *Value) string {
	var items []shownItem
	if err := json.Unmarshal([]byte(show(v)), &items); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, i := range items {
		b.Write(i.Value)
	}
	return b.String()
}

func TestList(t *testing.T) {
	p := newPops(t, List, "a", "b")
	same := func(want string) {
		t.Helper()
		p.meet()
		for name, v := range p.v {
			if got := values(t, v); got != want {
				t.Errorf("%s has %s, want %s", name, got, want)
			}
		}
	}
	id := func(n int) string { return fmt.Sprintf("a.0000000000000001:%d", n) }
	for _, n := range []int{1, 2, 3} {
		p.do("a", fmt.Sprintf(`{"op":"append","value":%d}`, n))
	}
	p.do("a", `{"op":"prepend","value":0}`)
	same("0123")
	p.do("a", `{"op":"append","value":4}`) // at the same time, by turns: the order of time
	p.do("b", `{"op":"append","value":5}`)
	p.do("a", `{"op":"append","value":6}`)
	p.do("a", `{"op":"prepend","value":7}`)
	p.do("b", `{"op":"prepend","value":8}`)
	same("870123456")
	p.do("a", fmt.Sprintf(`{"op":"insert","id":%q,"value":9}`, id(2)))
	p.do("b", fmt.Sprintf(`{"op":"remove","id":%q}`, id(2)))
	same("870193456") // what was put behind an item stays where it was
	p.do("b", `{"op":"append","value":1,"keep":3}`)
	same("561")
	p.do("b", `{"op":"prepend","value":2,"keep":3}`)
	same("256")
	if _, err := p.try("a", fmt.Sprintf(`{"op":"remove","id":%q}`, id(99))); wedge.KindOf(err) != wedge.NotExist {
		t.Error(err)
	}
	rows := len(p.v["a"].body.(list).items)
	p.v["a"] = p.v["a"].Collect(Instant{Wall: p.at + 1})
	if n := len(p.v["a"].body.(list).items); rows != 12 || n != 3 {
		t.Errorf("%d rows, %d when collected", rows, n)
	}
	same("256")
	p.do("a", `{"op":"clear"}`)
	same("")
}

// An item whose place never comes is shown all the same.
func TestListGap(t *testing.T) {
	p := newPops(t, List, "a", "b")
	place := p.do("a", `{"op":"append","value":1}`)
	behind := p.do("a", `{"op":"insert","id":"a.0000000000000001:1","value":2}`)
	gone := p.do("a", `{"op":"remove","id":"a.0000000000000001:1"}`)
	p.do("b", `{"op":"append","value":3}`)
	for _, step := range []struct {
		v    *Value
		want string
	}{{behind, "23"}, {gone, "23"}, {place, "23"}, {place, "23"}} {
		p.v["b"], _, _ = Join(p.v["b"], step.v)
		if got := values(t, p.v["b"]); got != step.want {
			t.Errorf("%s, want %s", got, step.want)
		}
	}
}

// Items whose senders claim that each is behind the other are shown.
func TestListCircle(t *testing.T) {
	a, b := dot{Writer{"a", 1}, 1}, dot{Writer{"b", 1}, 1}
	v := New(List)
	for _, d := range [][2]dot{{a, b}, {b, a}} {
		v, _, _ = Join(v, &Value{body: list{items: single(d[0], item{d[1], Instant{Wall: 1}, `"x"`})}, seen: seen{{d[0].writer, []span{{1, 1}}}}})
	}
	if got := values(t, v); got != `"x""x"` {
		t.Error(got)
	}
}

func TestJoinKinds(t *testing.T) {
	if _, _, err := Join(New(Counter), New(Grow)); wedge.KindOf(err) != wedge.Conflict {
		t.Error(err)
	}
}

func TestRefuses(t *testing.T) {
	for k, ops := range map[Kind][]string{
		Grow:       {`{"op":"add","by":-1}`, `{"op":"clear"}`, `{"op":"set","value":1}`, `{"op":"add","by":9007199254740993}`},
		Counter:    {`{"op":"subtract"}`, `{"op":""}`},
		Register:   {`{"op":"set"}`, `{"op":"add"}`, `{"op":"set","value":1,"who":"` + strings.Repeat("x", MaxName+1) + `"}`},
		AddWins:    {`{"op":"add"}`, `{"op":"add","value":"` + strings.Repeat("x", MaxValue) + `"}`, `{"op":"add","value":` + strings.Repeat("[", 1001) + strings.Repeat("]", 1001) + `}`},
		Map:        {`{"op":"add"}`, `{"op":"add","path":["` + strings.Repeat("x", MaxName+1) + `"],"kind":"grow"}`},
		List:       {`{"op":"insert","value":1}`, `{"op":"remove","id":"x"}`, `{"op":"append","value":1,"keep":-1}`},
		RemoveWins: {`{"op":"prepend","value":1}`},
	} {
		for _, op := range ops {
			p := newPops(t, k, "a")
			if delta, err := p.try("a", op); err == nil || wedge.KindOf(err) == wedge.Internal {
				t.Errorf("%v %.80s: %v %v", k, op, delta, err)
			}
		}
	}
	for _, op := range []string{`{"op":"adopt"}`, `{"op":"reclaim"}`} {
		if _, err := ParseOp([]byte(op)); wedge.KindOf(err) != wedge.Denied {
			t.Errorf("%s: %v", op, err)
		}
	}
	for _, op := range []string{``, `{}x`, `{"op":"add","bye":1}`, `[]`, `{"op":"add","kind":"tree"}`, `{"op":"grant","to":"fra1"}`, `{"op":"add"}{"op":"add"}`,
		`{"op":"add","heard":"2023-11-14T22:13:20Z"}`, `{"op":"reclaim","Force":true}`} {
		if got, err := ParseOp([]byte(op)); wedge.KindOf(err) != wedge.Invalid || err == nil {
			t.Errorf("%s: %+v, %v", op, got, err)
		}
	}
}

// A value at its limit can still be read, joined and made smaller.
func TestLimit(t *testing.T) {
	v := New(List)
	big := json.RawMessage(`"` + strings.Repeat("x", MaxValue-2) + `"`)
	at := Stamp{Instant{Wall: 1}, Writer{"a", 1}, 0}
	var err error
	for err == nil {
		v, _, err = v.Apply(Op{Op: "append", Value: big}, at)
	}
	if wedge.KindOf(err) != wedge.Exhausted || len(v.Encode()) > MaxSize || len(v.Encode()) < MaxSize-2*MaxValue {
		t.Fatalf("%v at %d bytes", err, len(v.Encode()))
	}
	if v, _, err = v.Apply(Op{Op: "append", Value: big, Keep: 2}, at); err != nil || len(v.Encode()) > 3*MaxValue {
		t.Fatalf("%v, %d bytes", err, len(v.Encode()))
	}
}

func TestCheck(t *testing.T) {
	p := newPops(t, Register, "a", "b")
	first := p.do("a", `{"op":"set","value":1}`)
	p.meet()
	delta := p.do("b", `{"op":"set","value":2}`)
	now, b := time.UnixMilli(p.at), Writer{"b", 1}
	for _, c := range []struct {
		from  Writer
		limit time.Time
		known *Value
		kind  wedge.Kind
	}{
		{b, now, first, 0}, {b, now, nil, 0},
		{b, now.Add(-time.Second), first, wedge.Invalid},
		{Writer{"a", 1}, now, first, wedge.Denied},
		{b, now, New(Register), wedge.Denied},
	} {
		if err := delta.Check(c.from, c.limit, c.known); wedge.KindOf(err) != c.kind {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if err := delta.Check(b, now, New(Register), Writer{"a", 1}); err != nil {
		t.Errorf("what a writer that is gone wrote was seen: %v", err)
	}
}

func TestClock(t *testing.T) {
	c, noon := NewClock(Writer{"a", 1}), time.UnixMilli(1_700_000_000_000)
	last := c.Now(noon).Instant
	later := func(wall time.Time) {
		t.Helper()
		if s := c.Now(wall).Instant; s.compare(last) <= 0 {
			t.Errorf("%v after %v", s, last)
		} else {
			last = s
		}
	}
	later(noon)
	later(noon.Add(-time.Hour)) // the time of day may be set back
	later(noon.Add(time.Second))
	ahead := Instant{noon.Add(time.Second + MaxAhead).UnixMilli(), 7}
	if err := c.See(ahead, noon.Add(time.Second)); err != nil {
		t.Error(err)
	}
	last = ahead
	later(noon.Add(time.Second))
	mad := Instant{Wall: noon.Add(365 * 24 * time.Hour).UnixMilli()}
	if err := c.See(mad, noon.Add(time.Second)); wedge.KindOf(err) != wedge.Invalid || !errors.Is(err, errAhead) {
		t.Error(err)
	}
	if s := c.Now(noon.Add(time.Second)); s.compare(mad) >= 0 {
		t.Error("the clock followed one that is a year ahead")
	}
}

func TestWriter(t *testing.T) {
	w := Writer{"fra1", 0xabc}
	if got, err := ParseWriter(w.String()); err != nil || got != w {
		t.Errorf("%v, %v", got, err)
	}
	for _, s := range []string{"", "fra1", "fra1.abc", ".0000000000000abc", "fra1.0000000000000ABC", "fra1.0000000000000abcd", strings.Repeat("x", 32) + ".0000000000000abc"} {
		if got, err := ParseWriter(s); wedge.KindOf(err) != wedge.Invalid || err == nil {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
}

// What was removed is collected when it was removed before the instant, and no earlier.
func TestCollect(t *testing.T) {
	for k, ops := range map[Kind][]string{
		List:       {`{"op":"append","value":1}`, `{"op":"remove","id":"a.0000000000000001:1"}`},
		RemoveWins: {`{"op":"add","value":1}`, `{"op":"remove","value":1}`},
		Map:        {`{"op":"add","path":["s"],"kind":"remove-wins","value":1}`, `{"op":"remove","path":["s"],"value":1}`},
	} {
		p := newPops(t, k, "a")
		for _, op := range ops {
			p.do("a", op)
		}
		if v := p.v["a"].Collect(Instant{Wall: p.at}); v != p.v["a"] || !v.Removals() {
			t.Errorf("%v: collected too early", k)
		}
		if v := p.v["a"].Collect(Instant{Wall: p.at + 1}); !v.Empty() || v.Removals() {
			t.Errorf("%v: not collected: %s", k, show(v))
		}
	}
}
