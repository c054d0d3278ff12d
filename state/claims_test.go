package state

import (
	"errors"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state/merge"
)

// stall is a stock at some PoPs.
type stall struct{ *pops }

func newStall(t *testing.T, units int64, names ...string) stall {
	f := stall{newPoPs(t, names...)}
	f.do(f.all[0], merge.Op{Op: "stock", By: units})
	f.send(f.all[0])
	for _, p := range f.all {
		f.take(p, 100)
	}
	return f
}

func (f stall) try(p *testPoP, op merge.Op) error {
	_, err := p.s.Change(f.t.Context(), "s", "seats", merge.Stock, op)
	return err
}

func (f stall) do(p *testPoP, op merge.Op) {
	f.t.Helper()
	if err := f.try(p, op); err != nil {
		f.t.Fatal(err)
	}
}

func (f stall) value(p *testPoP) *merge.Value {
	f.t.Helper()
	v, err := p.s.Value(f.t.Context(), "s", "seats")
	if err != nil {
		f.t.Fatal(err)
	}
	return v
}

func (f stall) left(p *testPoP) int64 { return p.s.Left(f.value(p)) }

// tell gives one PoP what another has done with the stock, and not by the log.
func (f stall) tell(to, from *testPoP) {
	f.t.Helper()
	part, writer, err := from.s.Part(f.t.Context(), "s", "seats")
	if err == nil {
		err = to.s.TakePart(f.t.Context(), "s", "seats", writer, part)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f stall) grant(from, to *testPoP, need int64) int64 {
	f.t.Helper()
	n, err := from.s.Grant(f.t.Context(), "s", "seats", to.kv.writer, need)
	if err != nil {
		f.t.Fatal(err)
	}
	f.tell(to, from)
	return n
}

// TestGrant: what is granted can be spent before the log says so; who asks again soon gets more, and nobody more than half.
func TestGrant(t *testing.T) {
	f := newStall(t, 1000, "lhr", "nrt", "nyc")
	lhr, nrt, nyc := f.all[0], f.all[1], f.all[2]
	if err := f.try(nrt, merge.Op{Op: "spend"}); !errors.Is(err, merge.ErrScarce) {
		t.Fatalf("spent what is another's: %v", err)
	}
	if n := f.grant(lhr, nrt, 2); n != 125 || f.left(nrt) != 125 {
		t.Errorf("granted %d, left %d", n, f.left(nrt))
	}
	f.do(nrt, merge.Op{Op: "spend", By: 125})
	f.tell(lhr, nrt)
	if n := f.grant(lhr, nrt, 1); n != 875/4 {
		t.Errorf("asked again: granted %d", n)
	}
	for _, need := range []int64{0, 1000, 1 << 50, 1} {
		f.grant(lhr, nrt, need)
	}
	if got := f.left(nrt); got != 438 || f.left(lhr) != 437 {
		t.Errorf("it asked for all and has %d, with %d left", got, f.left(lhr))
	}
	if n := f.grant(lhr, nyc, 3); n != 437/8 {
		t.Errorf("another was granted %d", n)
	}
	for _, h := range nyc.s.Elsewhere(f.value(nyc)) {
		if h.Writer.PoP == "nyc" || h.Left() == 0 {
			t.Errorf("elsewhere: %+v", h)
		}
	}
	if _, err := lhr.s.Grant(t.Context(), "s", "seats", nrt.kv.writer, -1); wedge.KindOf(err) != wedge.Invalid {
		t.Errorf("fewer than nothing: %v", err)
	}
}

// TestLastUnits: what little there is goes to whoever needs it, from who holds it, and is there once.
func TestLastUnits(t *testing.T) {
	f := newStall(t, 6, "lhr", "nrt", "nyc")
	lhr, nrt, nyc := f.all[0], f.all[1], f.all[2]
	if n := f.grant(lhr, nrt, 6); n != 6 {
		t.Fatalf("granted %d", n)
	}
	if n := f.grant(nrt, nyc, 0); n != 0 {
		t.Errorf("%d were given to who needs none", n)
	}
	if n := f.grant(nrt, nyc, 2); n != 2 || f.left(nyc) != 2 {
		t.Fatalf("moved %d, left %d", n, f.left(nyc))
	}
	f.tell(nyc, lhr)
	for p, want := range map[*testPoP]int64{lhr: 0, nrt: 4, nyc: 2} {
		if got := f.left(p); got != want {
			t.Errorf("%s has %d, want %d", p.name, got, want)
		}
	}
}

// TestReclaim: what is left of a share goes back before its end; or its granter takes it back once the holder was heard, and not before.
func TestReclaim(t *testing.T) {
	f := newStall(t, 80, "lhr", "nrt")
	lhr, nrt := f.all[0], f.all[1]
	if n := f.grant(lhr, nrt, 0); n != 10 {
		t.Fatalf("granted %d", n)
	}
	f.do(nrt, merge.Op{Op: "spend", By: 3})
	f.now.Add(int64(ShareTime - merge.ClockError - returnBefore - time.Second))
	if c := nrt.s.ChoresOf(f.value(nrt)); c.Return != 0 || !c.Later {
		t.Errorf("long before the end: %+v", c)
	}
	f.now.Add(int64(2 * time.Second))
	if c := nrt.s.ChoresOf(f.value(nrt)); c.Return != 7 {
		t.Errorf("shortly before the end: %+v", c)
	}
	f.now.Add(int64(time.Minute)) // it did not do that
	if err := f.try(nrt, merge.Op{Op: "spend"}); !errors.Is(err, merge.ErrScarce) {
		t.Errorf("spent of a share that has ended: %v", err)
	}
	c := lhr.s.ChoresOf(f.value(lhr))
	if len(c.Hear) != 1 || c.Hear[0] != nrt.kv.writer || c.Settle {
		t.Fatalf("after the end: %+v", c)
	}
	reclaim := func(asked time.Time) {
		if err := lhr.s.Reclaim(t.Context(), "s", "seats", nrt.kv.writer, asked); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Unix(0, f.now.Load())
	reclaim(now.Add(-2 * time.Minute))
	if got := f.left(lhr); got != 70 {
		t.Errorf("reclaimed what was not heard of: %d", got)
	}
	f.tell(lhr, nrt)
	reclaim(now)
	if got := f.left(lhr); got != 77 {
		t.Errorf("left %d, want 77", got)
	}
	if c := lhr.s.ChoresOf(f.value(lhr)); !c.Settle || len(c.Hear) > 0 {
		t.Errorf("when it was reclaimed: %+v", c)
	}
	f.do(lhr, merge.Op{Op: "settle"})
	if c := lhr.s.ChoresOf(f.value(lhr)); c.Later || f.left(lhr) != 77 {
		t.Errorf("settled: %+v, left %d", c, f.left(lhr))
	}
	var names []string
	last, err := []byte(nil), error(nil)
	for first := true; first || last != nil; first = false {
		if last, err = lhr.kv.Stocks(last, 1, func(service, store, key string) { names = append(names, service+store+key) }); err != nil {
			t.Fatal(err)
		}
	}
	if len(names) != 1 || names[0] != "shopsseats" {
		t.Errorf("stocks %q", names)
	}
}

// TestForeignPart: a PoP says what it did itself, of stocks that are known.
func TestForeignPart(t *testing.T) {
	f := newStall(t, 80, "lhr", "nrt", "nyc")
	lhr, nrt, nyc := f.all[0], f.all[1], f.all[2]
	part, _, err := lhr.s.Part(t.Context(), "s", "seats")
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		from merge.Writer
		key  string
		part []byte
		want wedge.Kind
	}{
		"another's":         {nrt.kv.writer, "seats", part, wedge.Denied},
		"its reader's own":  {nyc.kv.writer, "seats", part, wedge.Invalid},
		"of no stock":       {lhr.kv.writer, "other", part, wedge.NotExist},
		"of another kind":   {lhr.kv.writer, "seats", merge.New(merge.Counter).Encode(), wedge.Invalid},
		"what is no value":  {lhr.kv.writer, "seats", []byte("?"), wedge.Invalid},
		"nothing, unparsed": {lhr.kv.writer, "seats", nil, wedge.Invalid},
	} {
		if err := nyc.s.TakePart(t.Context(), "s", c.key, c.from, c.part); wedge.KindOf(err) != c.want || err == nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}
