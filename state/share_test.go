package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state/merge"
)

// pops are databases that share a store, with a log between them that the test carries.
type pops struct {
	t   *testing.T
	now atomic.Int64
	all []*testPoP
	log []wedge.Entry
}

type testPoP struct {
	name  string
	dir   string
	kv    *KV
	share *Share
	s     *Stores
	sent  uint64 // items in the log
	next  int    // entries taken
	anew  bool   // it is not told that it has all that the log has
}

func newPoPs(t *testing.T, names ...string) *pops {
	f := &pops{t: t}
	f.now.Store(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	for _, name := range names {
		p := &testPoP{name: name, dir: t.TempDir()}
		f.all = append(f.all, p)
		f.open(p)
		t.Cleanup(func() { p.kv.Close() })
	}
	return f
}

func (f *pops) open(p *testPoP) {
	var err error
	if p.kv, err = Open(p.dir, Options{PoP: p.name, MinFree: 1, Now: func() time.Time { return time.Unix(0, f.now.Load()) }}); err == nil {
		p.share, err = p.kv.Share("")
	}
	if err != nil {
		f.t.Fatal(err)
	}
	p.share.Known()
	if !p.anew {
		p.share.renew()
	}
	p.s = p.kv.For("shop", map[string][]wedge.KVSeed{"s": {{Key: "seed", Value: []byte("planted")}}}, nil)
}

// send moves what a PoP wrote to the log.
func (f *pops) send(p *testPoP) {
	f.now.Add(int64(time.Millisecond))
	for {
		items, err := p.share.Box().Next(p.sent, 7)
		if err != nil {
			f.t.Fatal(err)
		}
		if len(items) == 0 {
			return
		}
		f.log = append(f.log, wedge.Entry{Seq: uint64(len(f.log) + 1), Writer: p.share.Writer(), First: p.sent + 1, Items: items, At: time.Unix(0, f.now.Load())})
		p.sent += uint64(len(items))
	}
}

// take has a PoP take up to n entries.
func (f *pops) take(p *testPoP, n int) {
	for ; n > 0 && p.next < len(f.log); n-- {
		if err := p.share.Take(f.log[p.next]); err != nil {
			f.t.Fatal(err)
		}
		p.next++
	}
}

func (f *pops) settle() {
	for _, p := range f.all {
		f.send(p)
	}
	for _, p := range f.all {
		f.take(p, len(f.log))
	}
}

func (p *testPoP) get(key string) string {
	v, err := p.s.Get(bg, "s", key)
	if err != nil {
		return wedge.KindOf(err).String()
	}
	return string(v.Value)
}

func (f *pops) same(key, want string) {
	f.t.Helper()
	for _, p := range f.all {
		if got := p.get(key); got != want {
			f.t.Errorf("%s has %.40q at %q, want %.40q", p.name, got, key, want)
		}
	}
}

func (f *pops) put(p *testPoP, key, value string) {
	f.t.Helper()
	f.now.Add(int64(time.Millisecond))
	if _, err := p.s.Put(bg, "s", wedge.KVPut{Key: key, Value: []byte(value)}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *pops) change(p *testPoP, key string, kind merge.Kind, op merge.Op) {
	f.t.Helper()
	if _, err := p.s.Change(bg, "s", key, kind, op); err != nil {
		f.t.Fatal(err)
	}
}

// TestShared: what is written at one PoP is there at the others, whatever its size, and what is deleted is gone.
func TestShared(t *testing.T) {
	f := newPoPs(t, "lhr", "nyc", "nrt")
	lhr, nyc, nrt := f.all[0], f.all[1], f.all[2]
	f.same("seed", "planted")
	for i, n := range []int{0, 3, inlineMax + 1, pieceSize, pieceSize + 1, 3*pieceSize + 5, 2} {
		value := strings.Repeat(fmt.Sprint(i), n)
		f.put(f.all[i%3], "k", value)
		f.settle()
		f.same("k", value)
	}
	g, err := nyc.s.Get(bg, "s", "k")
	h, err2 := nrt.s.Get(bg, "s", "k")
	if err != nil || err2 != nil || g.Generation != h.Generation {
		t.Errorf("generations %d and %d, %v, %v", g.Generation, h.Generation, err, err2)
	}
	if err := nrt.s.Delete(bg, "s", "seed"); err != nil {
		t.Fatal(err)
	}
	f.change(nyc, "n", merge.Counter, merge.Op{Op: "add", By: 3})
	f.change(lhr, "n", merge.Counter, merge.Op{Op: "add", By: 4})
	f.settle()
	f.same("seed", "not_exist")
	f.same("n", "7")
	if n := countRecords(t, nyc.kv, contentSpace) + countRecords(t, nyc.kv, pieceSpace); n > 0 {
		t.Errorf("%d pieces of content are left over", n)
	}
	if keys, _, err := nrt.s.List(bg, "s", wedge.KVList{}); err != nil || fmt.Sprint(keys) != "[k n]" {
		t.Errorf("keys %v, %v", keys, err)
	}
	if _, err := nrt.s.Put(bg, "s", wedge.KVPut{Key: "n"}); wedge.KindOf(err) != wedge.Conflict {
		t.Errorf("a put over a counter: %v", err)
	}
	if _, refused, _ := nrt.share.Counts(); refused > 0 {
		t.Errorf("%d refused", refused)
	}
}

// TestOverwritten: of two writes at the same time the later is there everywhere, large or small, and the PoP of the other has an apology, until it
// is answered.
func TestOverwritten(t *testing.T) {
	f := newPoPs(t, "lhr", "nyc")
	lhr, nyc := f.all[0], f.all[1]
	large := strings.Repeat("large", inlineMax)
	f.put(lhr, "k", "from london")
	f.put(nyc, "k", large)
	f.put(lhr, "other", large)
	f.put(nyc, "other", "from new york")
	f.settle()
	f.same("k", large)
	f.same("other", "from new york")
	sorry, err := lhr.kv.Apologies(bg, "shop", 10)
	if err != nil || len(sorry) != 2 || sorry[0].Key != "k" || string(sorry[0].Value) != `"from london"` || !strings.HasPrefix(string(sorry[1].Value), `"sha256:`) {
		t.Fatalf("apologies %+v, %v", sorry, err)
	}
	if other, err := nyc.kv.Apologies(bg, "", 10); err != nil || len(other) > 0 {
		t.Errorf("apologies of who won: %+v, %v", other, err)
	}
	if err := lhr.kv.Answered(&sorry[0]); err != nil {
		t.Fatal(err)
	}
	lhr.next = 0
	f.take(lhr, len(f.log)) // again
	if sorry, err = lhr.kv.Apologies(bg, "shop", 10); err != nil || len(sorry) != 1 {
		t.Errorf("apologies %+v, %v", sorry, err)
	}
	f.put(lhr, "k", "small")
	f.settle()
	f.same("k", "small")
	if n := countRecords(t, lhr.kv, contentSpace); n > 1 {
		t.Errorf("%d large contents are kept", n)
	}
}

// TestShareConverges: whatever is written where, and however often entries come again, all PoPs end with the same.
func TestShareConverges(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		f := newPoPs(t, "a", "b", "c")
		for range 60 {
			p, key := f.all[rnd.IntN(3)], fmt.Sprint(rnd.IntN(4))
			switch rnd.IntN(7) {
			case 0:
				if err := p.s.Delete(bg, "s", key); err != nil && wedge.KindOf(err) != wedge.NotExist {
					t.Fatal(err)
				}
			case 1:
				f.send(p)
			case 2:
				f.take(p, rnd.IntN(5))
			case 3:
				p.next = max(0, p.next-rnd.IntN(4)) // entries come again
			case 4:
				f.change(p, "count", merge.Counter, merge.Op{Op: "add", By: 1})
			case 5:
				p.kv.Close()
				f.open(p)
			default:
				ttl := time.Duration(rnd.IntN(2)) * time.Hour
				if _, err := p.s.Put(bg, "s", wedge.KVPut{Key: key, Value: make([]byte, rnd.IntN(2*inlineMax)), TTL: ttl}); err != nil {
					t.Fatal(err)
				}
				f.now.Add(int64(1500 * time.Microsecond))
			}
		}
		f.settle()
		want := dump(t, f.all[0].kv)
		for _, p := range f.all[1:] {
			if got := dump(t, p.kv); got != want {
				t.Fatalf("%s differs from %s", p.name, f.all[0].name)
			}
		}
	}
}

// dump returns all values, heads and contents.
func dump(t *testing.T, kv *KV) string {
	var b strings.Builder
	it, err := kv.db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if k := it.Key(); bytes.IndexByte([]byte{headSpace, mergedSpace, contentSpace, expirySpace, valueSpace}, k[0]) >= 0 {
			fmt.Fprintf(&b, "%q %q\n", k, it.Value())
		}
	}
	return b.String()
}

// TestSnapshot: a PoP that comes late gets by pages what the log does not have any more, joins it with what it wrote itself, and
// has then what the others have.
func TestSnapshot(t *testing.T) {
	f := newPoPs(t, "core", "lhr", "nrt")
	core, lhr, late := f.all[0], f.all[1], f.all[2]
	for i := range 40 {
		f.put(lhr, fmt.Sprint("k", i), strings.Repeat(fmt.Sprint(i), i*200))
	}
	f.put(core, "huge", strings.Repeat("core", pieceSize))
	f.put(lhr, "huge", strings.Repeat("lhr", pieceSize)) // at the same time
	for i := range 60 {
		f.change(lhr, "set", merge.AddWins, merge.Op{Op: "add", Value: []byte(fmt.Sprintf(`"element %d %s"`, i, strings.Repeat("x", 10_000)))})
	}
	if err := lhr.s.Delete(bg, "s", "k7"); err != nil {
		t.Fatal(err)
	}
	if err := lhr.s.Delete(bg, "s", "seed"); err != nil {
		t.Fatal(err)
	}
	f.put(late, "k3", "late's own")
	f.put(late, "own", "late's own, too")
	f.send(core)
	f.send(lhr)
	f.take(core, len(f.log))
	f.take(lhr, len(f.log))
	late.next = len(f.log) // it never gets these
	pages := 0
	for at, done := (Place{}), false; !done; pages++ {
		items, next, last, err := core.share.Snapshot(at)
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range items {
			if len(it) > 400<<10 {
				t.Fatalf("an item of %d bytes", len(it))
			}
		}
		if err := late.share.TakeSnapshot(items); err != nil {
			t.Fatal(err)
		}
		at, done = next, last
	}
	if err := late.share.EndSnapshot(); err != nil {
		t.Fatal(err)
	}
	f.settle()
	want := dump(t, core.kv)
	for _, p := range f.all[1:] {
		if got := dump(t, p.kv); got != want {
			t.Errorf("%s differs from the core", p.name)
		}
	}
	if pages < 5 || late.get("own") != "late's own, too" || late.get("k3") != "late's own" || late.get("k7") != "not_exist" || late.get("seed") != "not_exist" {
		t.Errorf("%d pages, %q, %q, %q, %q", pages, late.get("own"), late.get("k3"), late.get("k7"), late.get("seed"))
	}
	if n := countRecords(t, late.kv, pieceSpace); n > 0 {
		t.Errorf("%d pieces are left over", n)
	}
	if err := late.share.Take(wedge.Entry{Writer: lhr.share.Writer(), First: 1, Items: [][]byte{named(itemWhole, "shop", "s", "k")}}); err != nil {
		t.Fatal(err)
	}
	if _, refused, _ := late.share.Counts(); refused != 1 {
		t.Error("a PoP says whole values by the log, and is believed")
	}
	v, _, err := merge.New(merge.Counter).Apply(merge.Op{Op: "add", By: 5}, merge.NewClock(merge.Writer{PoP: "core", Incarnation: 1}).Now(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	b := v.Encode()
	small := append(binary.AppendUvarint(named(itemSmall, "shop", "s", "lie"), uint64(len(b))), b...)
	if err := late.share.Take(wedge.Entry{Writer: lhr.share.Writer(), First: 2, Items: [][]byte{small}}); err != nil {
		t.Fatal(err)
	}
	if _, refused, _ := late.share.Counts(); refused != 2 || late.get("lie") != "not_exist" {
		t.Error("a PoP says a small whole value by the log, and is believed")
	}
}

// TestLies: a PoP that says what only another may say, or what cannot be, is refused, and changes nothing.
func TestLies(t *testing.T) {
	f := newPoPs(t, "lhr", "nyc", "nrt")
	lhr, nyc, nrt := f.all[0], f.all[1], f.all[2]
	f.put(lhr, "k", "true")
	f.put(lhr, "large", strings.Repeat("x", pieceSize+1))
	f.send(lhr)
	honest := f.log
	f.log = nil
	for _, e := range honest {
		e.Writer = nyc.share.Writer()
		if err := nrt.share.Take(e); err != nil {
			t.Fatal(err)
		}
		e.Writer = lhr.share.Writer()
		early := e
		early.At = e.At.Add(-time.Hour) // stamped an hour after it was stored
		if err := nrt.share.Take(early); err != nil {
			t.Fatal(err)
		}
		for i := range e.Items { // content that is not what was written
			item := bytes.Clone(e.Items[i])
			item[len(item)-1] ^= 1
			e.Items = append([][]byte{}, e.Items...)
			e.Items[i] = item
		}
		if err := nrt.share.Take(e); err != nil {
			t.Fatal(err)
		}
	}
	if nrt.get("k") != "not_exist" || nrt.get("large") != "not_exist" {
		t.Errorf("a lie was believed: %q, %.10q", nrt.get("k"), nrt.get("large"))
	}
	for _, e := range honest {
		if err := nrt.share.Take(e); err != nil {
			t.Fatal(err)
		}
	}
	if nrt.get("k") != "true" || len(nrt.get("large")) != pieceSize+1 {
		t.Errorf("the truth was not believed: %q", nrt.get("k"))
	}
}

// TestAwait: a read can ask for what another PoP has written, and gets it or an error.
func TestAwait(t *testing.T) {
	f := newPoPs(t, "lhr", "nyc")
	lhr, nyc := f.all[0], f.all[1]
	f.put(lhr, "k", "v")
	token := lhr.share.Token(wedge.ScopeMerge)
	ctx, cancel := context.WithCancel(bg)
	cancel()
	if err := nyc.share.Await(ctx, token); wedge.KindOf(err) != wedge.Timeout {
		t.Errorf("before it came: %v", err)
	}
	came := make(chan error)
	go func() { came <- nyc.share.Await(bg, token) }()
	f.settle()
	if err := <-came; err != nil {
		t.Error(err)
	}
	if err := lhr.share.Await(ctx, token); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "lhr", "lhr.0:1", token + "x"} {
		if err := nyc.share.Await(bg, bad); wedge.KindOf(err) != wedge.Invalid {
			t.Errorf("token %q: %v", bad, err)
		}
	}
	if err := nyc.share.AwaitFresh(ctx, wedge.ScopeMerge, time.Now()); wedge.KindOf(err) != wedge.Timeout {
		t.Errorf("not up to date: %v", err)
	}
	nyc.share.Fresh(wedge.ScopeMerge, time.Now())
	if err := nyc.share.AwaitFresh(ctx, wedge.ScopeMerge, time.Now().Add(-time.Second)); err != nil {
		t.Error(err)
	}
}

// FuzzReadChange: items come from other PoPs, which may be in anybody's hands.
func FuzzReadChange(f *testing.F) {
	v, delta, err := merge.New(merge.Counter).Apply(merge.Op{Op: "add"}, merge.NewClock(merge.Writer{PoP: "lhr", Incarnation: 1}).Now(time.Unix(1, 0)))
	if err != nil || v == nil {
		f.Fatal(err)
	}
	s := &Share{}
	for _, it := range s.items(&store{service: "shop", name: "s"}, "k", delta, nil) {
		f.Add(it[1:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := readChange(b)
		if err != nil {
			return
		}
		var apart *large
		if len(c.content) > 0 {
			apart = &large{value: c.content}
		}
		if again := s.items(&store{service: c.service, name: c.store}, c.key, c.delta, apart); len(again) != 1 || len(again[0]) > len(b)+1 {
			t.Errorf("%d items from one of %d bytes", len(again), len(b))
		}
	})
}

// TestTwoKinds: a key that was made two kinds of value at two PoPs at the same time becomes one of them at all, in whatever order they hear of it, and who
// wrote to the other gets an apology.
func TestTwoKinds(t *testing.T) {
	add := func(f *pops, p *testPoP) { f.change(p, "k", merge.Counter, merge.Op{Op: "add", By: 3}) }
	join := func(f *pops, p *testPoP) {
		f.change(p, "k", merge.AddWins, merge.Op{Op: "add", Value: json.RawMessage(`"x"`)})
	}
	put := func(f *pops, p *testPoP) { f.put(p, "k", "text") }
	for what, c := range map[string]struct {
		first, second func(*pops, *testPoP) // at lhr and at nyc
		want          string
		sorry         int // of which the write is lost
	}{
		"a counter and a set":     {add, join, `["x"]`, 0},
		"a set and a counter":     {join, add, `["x"]`, 1},
		"a counter and a text":    {add, put, "text", 0},
		"a text and a set":        {put, join, "text", 1},
		"two counters, no matter": {add, add, "6", -1},
	} {
		for _, lhrFirst := range []bool{true, false} {
			f := newPoPs(t, "lhr", "nyc", "nrt")
			lhr, nyc := f.all[0], f.all[1]
			c.first(f, lhr)
			c.second(f, nyc)
			if lhrFirst {
				f.send(lhr)
			}
			f.send(nyc)
			f.settle()
			f.same("k", c.want)
			for i, p := range []*testPoP{lhr, nyc} {
				list, err := p.kv.Apologies(bg, "shop", 10)
				if err != nil {
					t.Fatal(err)
				}
				if want := map[bool]int{true: 1}[i == c.sorry]; len(list) != want || want == 1 && (list[0].Reason != merge.Displaced || len(list[0].Value) == 0) {
					t.Errorf("%s: %s has %d apologies: %+v", what, p.name, len(list), list)
				}
			}
			// It goes on: who lost goes on with what there is.
			if c.want == `["x"]` {
				f.change(f.all[c.sorry], "k", merge.AddWins, merge.Op{Op: "add", Value: json.RawMessage(`"y"`)})
				f.settle()
				f.same("k", `["x","y"]`)
			}
			if _, refused, _ := lhr.share.Counts(); refused > 0 {
				t.Errorf("%s: %d are refused", what, refused)
			}
		}
	}
}

// TestClearedBecomesText: a value that was cleared, and put to as a whole then, is a text everywhere.
func TestClearedBecomesText(t *testing.T) {
	f := newPoPs(t, "lhr", "nyc", "nrt")
	lhr, nyc := f.all[0], f.all[1]
	f.change(lhr, "k", merge.Counter, merge.Op{Op: "add", By: 3})
	f.settle()
	if err := lhr.s.Delete(bg, "s", "k"); err != nil {
		t.Fatal(err)
	}
	f.change(nyc, "k", merge.Counter, merge.Op{Op: "add", By: 1}) // meanwhile
	f.put(lhr, "k", "text")
	f.settle()
	f.same("k", "text")
}
