package merge

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

// samples returns values and deltas of a kind.
func samples(t fataler, k Kind) (all []*Value) {
	if k == Stock {
		m := newMarket(ClockError, rand.New(rand.NewPCG(1, 2)).IntN)
		for range 60 {
			m.step()
		}
		return append(m.sent, m.sellers[0].v)
	}
	f := newFleet(k, 3, rand.New(rand.NewPCG(1, 2)).IntN)
	for range 60 {
		f.step(t, func(r *replica) Op { return f.anyOp(k, r) })
	}
	for _, m := range f.sent {
		all = append(all, m.delta)
	}
	return append(all, f.writers[0].v)
}

func FuzzDecode(f *testing.F) {
	for k := Grow; k < endKinds; k++ {
		for _, v := range samples(f, k) {
			f.Add(v.Encode())
		}
	}
	me := Stamp{Instant{Wall: 1_700_000_000_000}, Writer{"me", 1}, 0}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Decode(b)
		if err != nil {
			if wedge.KindOf(err) != wedge.Invalid {
				t.Fatal(err)
			}
			return
		}
		v.encoded = nil
		if !bytes.Equal(v.Encode(), b) {
			t.Fatalf("read %x, wrote %x", b, v.Encode())
		}
		if s := show(v); !json.Valid([]byte(s)) {
			t.Fatalf("no JSON: %s", s)
		}
		_ = v.Collect(Instant{Wall: maxWall}).Removals()
		_ = v.Check(me.Writer, time.UnixMilli(me.Wall), v)
		_ = v.Left(me.Writer, me.Instant)
		for _, op := range []Op{{Op: "add", By: 1, Value: []byte("1")}, {Op: "set", Value: []byte("1")}, {Op: "append", Value: []byte("1"), Keep: 2},
			{Op: "clear"}, {Op: "stock"}, {Op: "spend"}, {Op: "settle"}, {Op: "add", Path: []string{"a", "b"}, Kind: Counter}} {
			next, delta, err := v.Apply(op, me)
			if err != nil || delta == nil {
				continue
			}
			for _, w := range []*Value{next, delta} {
				w.encoded = nil
				if _, err := Decode(w.Encode()); err != nil {
					t.Fatalf("%v after %v: %x", err, op, w.Encode())
				}
			}
			if again, _, _ := Join(next, delta); !bytes.Equal(again.Encode(), next.Encode()) {
				t.Fatalf("joined twice: %s %s", show(again), show(next))
			}
		}
	})
}

// FuzzJoin joins what any two senders may have made up.
func FuzzJoin(f *testing.F) {
	for k := Grow; k < endKinds; k++ {
		all := samples(f, k)
		for i := range 12 {
			f.Add(all[i%len(all)].Encode(), all[len(all)-1-i%7].Encode())
		}
	}
	f.Fuzz(func(t *testing.T, x, y []byte) {
		a, err := Decode(x)
		if err != nil {
			return
		}
		b, err := Decode(y)
		if err != nil || a.Kind() != b.Kind() {
			return
		}
		ab, _, _ := Join(a, b)
		ba, _, _ := Join(b, a)
		twice, _, _ := Join(ab, b)
		if !bytes.Equal(ab.Encode(), ba.Encode()) || !bytes.Equal(ab.Encode(), twice.Encode()) {
			t.Fatalf("%s\n%s\n%s\n%x\n%x", show(ab), show(ba), show(twice), ab.Encode(), ba.Encode())
		}
		if _, err := Decode(ab.Encode()); err != nil {
			t.Fatalf("%v: %x", err, ab.Encode())
		}
	})
}

func FuzzParseOp(f *testing.F) {
	for _, s := range []string{`{"op":"add","by":3}`, `{"op":"set","path":["a"],"kind":"register","value":{"b":[1,"x"]},"who":"me"}`,
		`{"op":"insert","id":"fra1.0000000000000001:3","value":1,"keep":9}`, `{"op":"grant","to":"fra1.0000000000000001","by":2,"for":60000}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		op, err := ParseOp(b)
		if err != nil {
			return
		}
		for k := Grow; k < endKinds; k++ {
			v, _, err := New(k).Apply(op, Stamp{Writer: Writer{"me", 1}})
			if err != nil {
				continue
			}
			if _, err := Decode(v.Encode()); err != nil {
				t.Fatalf("%v after %s", err, b)
			}
		}
	})
}

// TestDecodeRefuses has bytes that are nearly right.
func TestDecodeRefuses(t *testing.T) {
	w := func(pop string) string { return string(rune(len(pop))) + pop + "\x00\x00\x00\x00\x00\x00\x00\x01" }
	head := func(k Kind, rest string) string { return "\x01" + string(rune(k)) + rest }
	ok := head(Grow, "\x01"+w("a")+"\x01\x00\x00"+"\x01\x00\x01\x05")
	if v, err := Decode([]byte(ok)); err != nil || show(v) != "5" {
		t.Fatalf("%v: the cases below mean nothing", err)
	}
	for name, s := range map[string]string{
		"empty":                  "",
		"another format":         "\x02" + ok[1:],
		"no kind":                head(0, ok[2:]),
		"unknown kind":           head(endKinds, ok[2:]),
		"bytes left over":        ok + "\x00",
		"a long number":          strings.Replace(ok, "\x01\x00\x01\x05", "\x01\x00\x01\x85\x00", 1),
		"a change not seen":      head(Grow, "\x01"+w("a")+"\x00"+"\x01\x00\x01\x05"),
		"an unknown writer":      head(Grow, "\x01"+w("a")+"\x01\x00\x00"+"\x01\x01\x01\x05"),
		"a writer of no use":     head(Grow, "\x02"+w("a")+w("b")+"\x01\x00\x00\x00"+"\x01\x00\x01\x05"),
		"writers out of order":   head(Grow, "\x02"+w("b")+w("a")+"\x01\x00\x00\x01\x00\x00"+"\x00"),
		"a writer twice":         head(Grow, "\x02"+w("a")+w("a")+"\x01\x00\x00\x01\x00\x00"+"\x00"),
		"rows out of order":      head(Grow, "\x01"+w("a")+"\x01\x00\x01"+"\x02\x00\x02\x05\x00\x01\x05"),
		"change number 0":        head(Grow, "\x01"+w("a")+"\x01\x00\x00"+"\x01\x00\x00\x05"),
		"no JSON":                head(Multi, "\x01"+w("a")+"\x01\x00\x00"+"\x01\x00\x01\x05\x00\x01x\x00"),
		"an element nobody adds": head(AddWins, "\x00"+"\x01\x011\x00"),
		"a stock in a map":       head(Map, "\x00"+"\x01\x01a\x03\x00\x00\x00"),
		"an empty field":         head(Map, "\x00"+"\x01\x01a\x01\x00"),
		"maps without end":       head(Map, "\x00"+strings.Repeat("\x01\x01a\x08", 20)+"\x00"),
	} {
		if v, err := Decode([]byte(s)); wedge.KindOf(err) != wedge.Invalid || err == nil {
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
}

// TestDecodeMemory promises many rows in few bytes: no room is made for what cannot be there.
func TestDecodeMemory(t *testing.T) {
	for k := Grow; k < endKinds; k++ {
		for _, lie := range []uint64{1 << 10, 1 << 20, 1 << 24, 1 << 62} {
			b := append([]byte{format, byte(k), 0}, binary.AppendUvarint(nil, lie)...)
			b = append(b, make([]byte, 1000)...)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Decode(b)
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; err == nil || n > 100*uint64(len(b)) {
				t.Errorf("%v, %d rows in %d bytes: %v, took %d bytes", k, lie, len(b), err, n)
			}
		}
	}
}

// TestSizes keeps the figures in the package's documentation true.
func TestSizes(t *testing.T) {
	at := Stamp{Instant{Wall: 1_700_000_000_000}, Writer{"fra1", 0x0123456789abcdef}, 0}
	to := Writer{"nyc1", 1}
	post := json.RawMessage(`"a line of about forty bytes, as in a feed"`)
	for _, c := range []struct {
		kind Kind
		ops  []Op
		want int // bytes of the last one's delta
	}{
		{Counter, []Op{{Op: "add"}, {Op: "add", By: 1000}}, 25},
		{Register, []Op{{Op: "set", Value: post}, {Op: "set", Value: post}}, 74},
		{AddWins, []Op{{Op: "add", Value: []byte(`"red"`)}}, 29},
		{AddWins, []Op{{Op: "add", Value: []byte(`"red"`)}, {Op: "remove", Value: []byte(`"red"`)}}, 27},
		{RemoveWins, []Op{{Op: "remove", Value: []byte(`"red"`)}}, 37},
		{Map, []Op{{Op: "add", Path: []string{"likes"}, Kind: Counter}}, 32},
		{List, []Op{{Op: "append", Value: post}}, 75},
		{Stock, []Op{{Op: "stock", By: 100}, {Op: "grant", By: 10, To: to, For: 60_000}}, 49},
		{Stock, []Op{{Op: "stock", By: 100}, {Op: "spend", By: 2}}, 28},
	} {
		v, delta := New(c.kind), (*Value)(nil)
		for _, op := range c.ops {
			var err error
			if v, delta, err = v.Apply(op, at); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(delta.Encode()); n != c.want {
			t.Errorf("%v, %s: %d bytes, not %d: say so in doc.go", c.kind, c.ops[len(c.ops)-1].Op, n, c.want)
		}
	}
}
