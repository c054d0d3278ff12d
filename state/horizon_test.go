package state

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state/merge"
)

// agree has some PoPs declare, and the core, which is the first PoP, find a horizon.
func (f *pops) agree(a *Agreement, declare ...*testPoP) (found bool) {
	for _, p := range declare {
		a.Heard(p.name, f.declare(p))
	}
	core := f.all[0]
	var names []string
	for _, p := range f.all {
		names = append(names, p.name)
	}
	h, _ := a.Next(names, core.share.Heard, uint64(core.next), time.Unix(0, f.now.Load()))
	if h == (merge.Instant{}) {
		return false
	}
	f.log = append(f.log, wedge.Entry{Seq: uint64(len(f.log) + 1), Writer: HorizonWriter, First: uint64(h.Wall), Items: [][]byte{HorizonItem(h)}, At: time.Unix(0, f.now.Load())})
	return true
}

func (f *pops) declare(p *testPoP) Declaration {
	f.t.Helper()
	d, err := p.share.Declare(uint64(p.next))
	if err != nil {
		f.t.Fatal(err)
	}
	return d
}

func (f *pops) sweep(p *testPoP) {
	f.t.Helper()
	_, err := p.kv.Sweep(bg, 1000)
	if err == nil {
		err = p.kv.sweepRemovals(bg)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// forgetAll has everything seen by everybody, and swept.
func (f *pops) forgetAll(a *Agreement) {
	f.t.Helper()
	for found := 0; found < 2; {
		f.settle()
		f.now.Add(int64(time.Millisecond))
		if f.agree(a, f.all...) {
			found++
		}
	}
	f.settle()
	for _, p := range f.all {
		f.sweep(p)
	}
}

// TestForgotten: what was removed leaves nothing once all have seen that, not before, and can be there again.
func TestForgotten(t *testing.T) {
	f := newPoPs(t, "lhr", "nyc", "nrt")
	lhr, nyc, nrt := f.all[0], f.all[1], f.all[2]
	list := func(p *testPoP) (ids []string) {
		v, err := p.s.Value(bg, "s", "list")
		if err != nil {
			t.Fatal(err)
		}
		var items []struct{ ID string }
		b, _ := json.Marshal(v)
		if err := json.Unmarshal(b, &items); err != nil {
			t.Fatal(err)
		}
		for _, it := range items {
			ids = append(ids, it.ID)
		}
		return ids
	}
	round := func(n int) {
		f.put(lhr, "k", strings.Repeat(fmt.Sprint(n), 2*inlineMax))
		f.change(lhr, "count", merge.Counter, merge.Op{Op: "add", By: 3})
		f.change(nyc, "set", merge.RemoveWins, merge.Op{Op: "add", Value: []byte("1")})
		f.change(nyc, "list", merge.List, merge.Op{Op: "append", Value: []byte("1")})
		f.change(nyc, "list", merge.List, merge.Op{Op: "append", Value: []byte("2")})
		if _, err := nrt.s.Put(bg, "s", wedge.KVPut{Key: "soon", Value: []byte("gone"), TTL: time.Second}); err != nil {
			t.Fatal(err)
		}
		f.settle()
		f.same("count", "3")
		for _, key := range []string{"k", "count", "seed"} {
			if err := nrt.s.Delete(bg, "s", key); err != nil && (n == 0 || key != "seed") {
				t.Fatal(err)
			}
		}
		f.change(lhr, "set", merge.RemoveWins, merge.Op{Op: "remove", Value: []byte("1")})
		f.change(lhr, "list", merge.List, merge.Op{Op: "remove", ID: list(lhr)[0]})
		f.now.Add(int64(2 * time.Second))
		f.settle()
	}
	a := &Agreement{}
	for n := range 3 {
		round(n)
		for range 5 { // one PoP is silent
			f.agree(a, lhr, nyc)
			f.settle()
		}
		f.sweep(nyc)
		if got := countRecords(t, nyc.kv, mergedSpace); n == 0 && got != 6 {
			t.Errorf("%d records while a PoP is away, want 6", got)
		}
		f.forgetAll(a)
		for _, key := range []string{"k", "count", "soon", "seed"} {
			f.same(key, "not_exist")
		}
		for _, p := range f.all {
			if got := countRecords(t, p.kv, mergedSpace); got != 2 { // the list, and the deletion that hides the seed
				t.Errorf("%s has %d records, want 2", p.name, got)
			}
			if got := countRecords(t, p.kv, removedSpace) + countRecords(t, p.kv, contentSpace) + countRecords(t, p.kv, expirySpace); got != 0 {
				t.Errorf("%s has %d records of what is gone", p.name, got)
			}
			if got := len(list(p)); got != n+1 {
				t.Errorf("%s has %d items of the list", p.name, got)
			}
		}
	}
	lhr.kv.Close()
	f.open(lhr) // it gives no number twice
	round(3)
	f.same("count", "not_exist")
	if v, err := lhr.s.Value(bg, "s", "list"); err != nil || v.Removals() != true {
		t.Error("nothing was removed that can be seen", err)
	}
}

// TestForgottenHides: a value that one PoP has forgotten is written anew by it, and by others that had not forgotten it, and all have the same.
func TestForgottenHides(t *testing.T) {
	f := newPoPs(t, "lhr", "nyc", "nrt")
	lhr, nyc, nrt := f.all[0], f.all[1], f.all[2]
	for range 5 {
		f.put(lhr, "k", "old")
	}
	f.put(nrt, "k", "older")
	f.settle()
	if err := nyc.s.Delete(bg, "s", "k"); err != nil {
		t.Fatal(err)
	}
	a := &Agreement{}
	for found := false; !found; {
		f.settle()
		found = f.agree(a, f.all...)
	}
	f.take(lhr, len(f.log)) // the others have not heard of it
	f.sweep(lhr)
	if n := countRecords(t, lhr.kv, mergedSpace); n != 0 {
		t.Fatalf("%d records", n)
	}
	f.put(nyc, "k", "over what lhr has forgotten")
	f.put(lhr, "k", "anew") // with no number that the others remember
	f.settle()
	f.same("k", "anew")
	f.put(nrt, "k", "elsewhere")
	f.settle()
	f.same("k", "elsewhere")
	if err := nrt.s.Delete(bg, "s", "k"); err != nil {
		t.Fatal(err)
	}
	f.settle()
	f.same("k", "not_exist")
	for _, p := range f.all {
		if taken, refused, _ := p.share.Counts(); taken == 0 || refused > 0 {
			t.Errorf("%s took %d, refused %d", p.name, taken, refused)
		}
	}
}

// TestHorizonChangesNothing: whatever is written where, and whenever what is gone is forgotten, what is read is what would be read if nothing ever were.
func TestHorizonChangesNothing(t *testing.T) {
	seeds, horizons := uint64(4), 0
	if os.Getenv("WEDGE_SOAK") != "" {
		seeds = 2000
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			kept, _ := horizonRun(t, seed, false)
			shown, n := horizonRun(t, seed, true)
			if horizons += n; shown != kept {
				t.Errorf("kept       %s\nforgotten  %s", kept, shown)
			}
		})
	}
	if horizons < int(seeds) {
		t.Errorf("%d horizons in %d runs", horizons, seeds)
	}
}

var incarnation = regexp.MustCompile(`\.[0-9a-f]{16}:\d+`)

func horizonRun(t *testing.T, seed uint64, forget bool) (shown string, horizons int) {
	f := newPoPs(t, "a", "b", "c")
	rnd, a := rand.New(rand.NewPCG(seed, 7)), &Agreement{}
	kinds := map[string]merge.Kind{"count": merge.Counter, "adds": merge.AddWins, "removes": merge.RemoveWins, "map": merge.Map, "list": merge.List}
	names := []string{"adds", "count", "k1", "k2", "list", "map", "removes", "seed"}
	for range 700 {
		f.now.Add(int64(time.Millisecond))
		p, key, value := f.all[rnd.IntN(3)], names[rnd.IntN(len(names))], []byte(fmt.Sprint(rnd.IntN(3)))
		kind, merged := kinds[key]
		pick, n := rnd.IntN(28), rnd.IntN(6)
		switch {
		case pick < 5:
			f.send(p)
		case pick < 9:
			for n *= 2; n > 0 && p.next < len(f.log); f.take(p, 1) {
				if f.log[p.next].Writer != HorizonWriter {
					n--
				}
			}
		case pick < 12 || pick == 23 || pick == 24:
			d := f.declare(p)
			f.send(p)
			f.take(f.all[0], len(f.log))
			if a.Heard(p.name, d); forget && f.agree(a) {
				horizons++
			}
		case pick == 12 || pick == 20 || pick == 22:
			if forget {
				f.sweep(p)
			}
		case pick == 13:
			p.kv.Close()
			f.open(p)
		case pick == 14 || pick > 25:
			if err := p.s.Delete(bg, "s", key); err != nil && wedge.KindOf(err) != wedge.NotExist {
				t.Fatal(err)
			}
		case merged:
			op := merge.Op{Op: "add", By: 1, Value: value}
			switch {
			case kind == merge.List:
				op.Op = "append"
				if v, err := p.s.Value(bg, "s", key); err == nil && n > 1 {
					var items []struct{ ID string }
					b, _ := json.Marshal(v)
					if err := json.Unmarshal(b, &items); err != nil {
						t.Fatal(err)
					}
					if len(items) > 0 {
						op.Op, op.ID = []string{"insert", "remove", "remove"}[n%3], items[len(items)/2].ID
					}
				}
			case kind == merge.Map:
				op.Path, op.Kind = []string{string(value)}, merge.RemoveWins
				if n == 0 {
					op.Op = "drop"
				}
				fallthrough
			case kind != merge.Counter && n > 3:
				if op.Op == "add" && n > 3 {
					op.Op = "remove"
				}
			}
			if _, err := p.s.Change(bg, "s", key, kind, op); err != nil && wedge.KindOf(err) != wedge.NotExist {
				t.Fatal(key, op, err)
			}
		default:
			put := wedge.KVPut{Key: key, Value: slices.Repeat(value, 1+n*inlineMax/4)}
			if n == 0 {
				put.TTL = 40 * time.Millisecond
			}
			if _, err := p.s.Put(bg, "s", put); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.now.Add(int64(time.Second))
	if forget {
		f.forgetAll(a)
	}
	f.settle()
	var all []string
	for _, p := range f.all {
		there := 0
		text := ""
		for _, key := range names {
			got := p.get(key)
			if got != "not_exist" && (kinds[key] != 0 || key != "seed" || got != "planted") {
				there++
			}
			text += fmt.Sprintf("%s=%.300s ", key, incarnation.ReplaceAllString(got, ""))
		}
		if all = append(all, text); text != all[0] {
			t.Fatalf("seed %d: %s has %s, %s", seed, p.name, text, all[0])
		}
		if n := countRecords(t, p.kv, mergedSpace); forget && n > there+1 { // the seed's deletion
			t.Errorf("seed %d: %s has %d records for %d keys: %s", seed, p.name, n, there, text)
		}
	}
	return all[0], horizons
}

// TestSnapshotForgets: a PoP whose database was set back learns from a snapshot what was forgotten meanwhile, unless who gives it lacks something itself.
func TestSnapshotForgets(t *testing.T) {
	for _, lacks := range []bool{false, true} {
		f := newPoPs(t, "core", "lhr", "nrt")
		core, lhr, nrt := f.all[0], f.all[1], f.all[2]
		f.put(lhr, "gone", strings.Repeat("x", 2*inlineMax))
		f.put(lhr, "kept", "kept")
		f.change(lhr, "count", merge.Counter, merge.Op{Op: "add", By: 1})
		f.settle()
		if err := nrt.kv.Fork(); err != nil {
			t.Fatal(err)
		}
		nrt.kv.Close()
		f.open(nrt)
		nrt.sent = 0
		f.put(nrt, "own", "its own")
		for _, key := range []string{"gone", "count"} {
			if err := core.s.Delete(bg, "s", key); err != nil {
				t.Fatal(err)
			}
		}
		f.all = f.all[:2]
		f.forgetAll(&Agreement{})
		if lacks {
			if err := core.share.Lack(); err != nil {
				t.Fatal(err)
			}
		}
		nrt.next = len(f.log) // it never gets these
		for at, done := (Place{}), false; !done; {
			horizon := core.share.Complete()
			items, next, last, err := core.share.Snapshot(at)
			if err == nil {
				err = nrt.share.TakeSnapshot(items)
			}
			if err == nil {
				err = nrt.share.DropAbsent(items, at, next, last, horizon)
			}
			if err != nil {
				t.Fatal(err)
			}
			at, done = next, last
		}
		want := map[string]string{"gone": "not_exist", "count": "not_exist", "kept": "kept", "own": "its own"}
		if lacks {
			want["gone"], want["count"] = strings.Repeat("x", 2*inlineMax), "1"
		}
		for key, value := range want {
			if got := nrt.get(key); got != value {
				t.Errorf("lacks %v: %s is %.20q, want %.20q", lacks, key, got, value)
			}
		}
		if n := countRecords(t, nrt.kv, contentSpace); !lacks && n > 0 {
			t.Errorf("%d contents are left over", n)
		}
	}
}
