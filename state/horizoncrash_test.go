package state

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state/merge"
)

// shown is a value as it is read, without the names of incarnations.
func (p *testPoP) shown(key string) string { return incarnation.ReplaceAllString(p.get(key), "") }

// TestDeclaredOutlastsPower: what a PoP has declared to have seen it has seen after the machine's power went, too, and what it writes then is
// later than it has declared, whatever its clock says.
func TestDeclaredOutlastsPower(t *testing.T) {
	for _, back := range []time.Duration{0, 365 * 24 * time.Hour} {
		t.Run(fmt.Sprint(back), func(t *testing.T) {
			f := newPoPs(t, "core", "lhr")
			disk := vfs.NewCrashableMem()
			late := time.Duration(0)
			nrt := &testPoP{name: "nrt"}
			open := func() {
				var err error
				if nrt.kv, err = Open("state", Options{PoP: "nrt", MinFree: 1, fs: disk, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Unix(0, f.now.Load()).Add(-late) }}); err == nil {
					nrt.share, err = nrt.kv.Share("")
				}
				if err != nil {
					t.Fatal(err)
				}
				nrt.share.Known()
				nrt.share.renew()
				nrt.s = nrt.kv.For("shop", map[string][]wedge.KVSeed{"s": nil}, nil)
			}
			cursor := func() int {
				n, err := nrt.kv.Cursor("log")
				if err != nil {
					t.Fatal(err)
				}
				return int(n)
			}
			settle := func() {
				f.settle()
				if err := nrt.kv.SetCursor("log", uint64(nrt.next)); err != nil {
					t.Fatal(err)
				}
			}
			open()
			f.all = append(f.all, nrt)
			f.put(nrt, "other", "so that its database is there")
			f.change(f.all[1], "set", merge.RemoveWins, merge.Op{Op: "add", Value: []byte("1")})
			settle()
			f.put(nrt, "other", "and what it has taken till now")
			f.change(f.all[1], "set", merge.RemoveWins, merge.Op{Op: "remove", Value: []byte("1")})
			settle()
			a := &Agreement{}
			f.now.Add(int64(time.Minute))
			f.agree(a, f.all...)
			f.agree(a, f.all...)

			disk, late = disk.CrashClone(vfs.CrashCloneCfg{RNG: rand.New(rand.NewPCG(1, 0))}), back
			nrt.kv.Close()
			open()
			t.Cleanup(func() { nrt.kv.Close() })
			f.now.Add(int64(time.Second))
			f.change(nrt, "set", merge.RemoveWins, merge.Op{Op: "remove", Value: []byte("2")})
			f.change(nrt, "set", merge.RemoveWins, merge.Op{Op: "add", Value: []byte("1")})
			f.change(f.all[1], "set", merge.RemoveWins, merge.Op{Op: "add", Value: []byte("2")})
			nrt.next = cursor()
			settle()
			for range 6 {
				f.now.Add(int64(time.Minute))
				f.agree(a, f.all...)
				settle()
			}
			for _, p := range f.all {
				f.sweep(p)
				if got, want := p.shown("set"), f.all[0].shown("set"); got != want {
					t.Errorf("%s has %s, %s %s", p.name, got, f.all[0].name, want)
				}
			}
		})
	}
}

// TestForkReads: a PoP whose database was set back reads the log anew, from before horizons that it had come to, and has what the others have.
func TestForkReads(t *testing.T) {
	f := newPoPs(t, "core", "lhr", "nrt")
	lhr, nrt := f.all[1], f.all[2]
	f.change(lhr, "set", merge.RemoveWins, merge.Op{Op: "add", Value: []byte("1")})
	f.put(lhr, "k", "old")
	f.settle()
	f.put(nrt, "k", "unheard")
	f.change(nrt, "set", merge.RemoveWins, merge.Op{Op: "add", Value: []byte("1")})
	f.now.Add(int64(time.Millisecond))
	if err := lhr.s.Delete(bg, "s", "k"); err != nil {
		t.Fatal(err)
	}
	f.change(lhr, "set", merge.RemoveWins, merge.Op{Op: "remove", Value: []byte("1")})
	f.settle()
	a := &Agreement{}
	f.forgetAll(a)
	f.same("k", "not_exist")
	f.same("set", "not_exist")
	if err := lhr.kv.Fork(); err != nil {
		t.Fatal(err)
	}
	lhr.kv.Close()
	f.open(lhr)
	lhr.sent, lhr.next = 0, 0
	f.settle()
	f.same("k", "not_exist")
	f.same("set", "not_exist")
	f.forgetAll(a)
	f.same("k", "not_exist")
	f.same("set", "not_exist")
	if n := countRecords(t, lhr.kv, mergedSpace); n != 0 {
		t.Errorf("%d records are left", n)
	}
}

// TestReady: a PoP that is new, or whose database was set back, changes nothing that is shared until it has what was written before, after another start,
// too: what it makes of what all others have forgotten would not come to the same everywhere.
func TestReady(t *testing.T) {
	for _, fresh := range []bool{false, true} {
		f := newPoPs(t, "core", "lhr", "nrt")
		lhr, nrt := f.all[1], f.all[2]
		f.change(lhr, "set", merge.RemoveWins, merge.Op{Op: "add", Value: []byte("1")})
		f.settle()
		if err := nrt.kv.Fork(); err != nil { // as a copy of now
			t.Fatal(err)
		}
		nrt.kv.Close()
		f.change(lhr, "set", merge.RemoveWins, merge.Op{Op: "remove", Value: []byte("1")})
		f.all = f.all[:2]
		a := &Agreement{}
		f.forgetAll(a)
		if fresh {
			nrt.dir = t.TempDir()
		}
		f.all = append(f.all, nrt)
		add := merge.Op{Op: "add", Value: []byte("1")}
		for range 2 {
			nrt.anew = true
			f.open(nrt)
			ended, end := context.WithTimeout(bg, time.Millisecond)
			if _, err := nrt.s.Change(ended, "s", "set", merge.RemoveWins, add); wedge.KindOf(err) != wedge.Unavailable && wedge.KindOf(err) != wedge.Timeout {
				t.Fatal(err)
			}
			end()
			nrt.kv.Close()
		}
		f.open(nrt)
		nrt.sent, nrt.next = 0, 0
		f.settle()
		nrt.share.Fresh(wedge.ScopeMerge, time.Unix(0, f.now.Load()))
		f.change(nrt, "set", merge.RemoveWins, add)
		nrt.kv.Close()
		f.open(nrt)
		f.change(nrt, "set", merge.RemoveWins, merge.Op{Op: "add", Value: []byte("2")})
		f.forgetAll(a)
		for _, p := range f.all {
			if got := p.shown("set"); got != "[1,2]" {
				t.Errorf("%s has %s", p.name, got)
			}
		}
	}
}

// TestOldDeletions: deletions of keys with a seed that a Wedge wrote which did not say so hide the seed still.
func TestOldDeletions(t *testing.T) {
	f := newPoPs(t, "core", "lhr", "nrt")
	lhr := f.all[1]
	stamp := merge.Instant{Wall: time.Unix(0, f.now.Load()).UnixMilli()}
	for i, text := range []string{`{"t":true}`, fmt.Sprintf(`{"v":"YQ==","x":%d}`, stamp.Wall+1)} {
		_, delta, err := merge.New(merge.Register).Apply(merge.Op{Op: "set", Value: []byte(text), Kept: true}, merge.Stamp{Instant: stamp, Writer: merge.Writer{PoP: "old", Incarnation: 7}})
		if err != nil {
			t.Fatal(err)
		}
		key := []string{"seed", "seed2"}[i]
		f.log = append(f.log, wedge.Entry{Seq: uint64(len(f.log) + 1), Writer: "old.0000000000000007", First: uint64(i + 1), Items: lhr.share.items(&store{service: "shop", name: "s"}, key, delta, nil), At: time.Unix(0, f.now.Load())})
	}
	for _, p := range f.all {
		p.s = p.kv.For("shop", map[string][]wedge.KVSeed{"s": {{Key: "seed", Value: []byte("planted")}, {Key: "seed2", Value: []byte("planted")}}}, nil)
	}
	f.settle()
	f.now.Add(int64(time.Second))
	f.same("seed", "not_exist")
	f.same("seed2", "not_exist")
	f.forgetAll(&Agreement{})
	f.same("seed", "not_exist")
	f.same("seed2", "not_exist")
}

// TestSnapshotDamaged: what a snapshot leaves out because it is damaged where the snapshot is made is not taken for gone.
func TestSnapshotDamaged(t *testing.T) {
	f := newPoPs(t, "core", "lhr", "nrt")
	core, lhr, nrt := f.all[0], f.all[1], f.all[2]
	f.put(lhr, "k", "kept")
	f.change(lhr, "count", merge.Counter, merge.Op{Op: "add", By: 1})
	f.settle()
	f.forgetAll(&Agreement{})
	st := core.s.named["s"]
	for _, key := range []string{"k", "count"} {
		if err := core.kv.db.Set(inSpace(mergedSpace, st.id(key)), []byte("damaged"), nil); err != nil {
			t.Fatal(err)
		}
	}
	items, next, done, err := core.share.Snapshot(Place{})
	if err != nil || !done {
		t.Fatal(done, err)
	}
	if err := nrt.share.TakeSnapshot(items); err != nil {
		t.Fatal(err)
	}
	if err := nrt.share.DropAbsent(items, Place{}, next, done, core.share.Complete()); err != nil {
		t.Fatal(err)
	}
	if k, n := nrt.get("k"), nrt.get("count"); k != "kept" || n != "1" {
		t.Errorf("%s, %s", k, n)
	}
}

// TestSweepDamaged: a damaged record does not keep others from being forgotten.
func TestSweepDamaged(t *testing.T) {
	f := newPoPs(t, "core", "lhr")
	lhr := f.all[1]
	for _, key := range []string{"a", "b"} {
		f.put(lhr, key, "x")
		if err := lhr.s.Delete(bg, "s", key); err != nil {
			t.Fatal(err)
		}
	}
	if err := lhr.kv.db.Set(inSpace(headSpace, lhr.s.named["s"].id("a")), []byte("damaged"), nil); err != nil {
		t.Fatal(err)
	}
	f.forgetAll(&Agreement{})
	if n := countRecords(t, lhr.kv, mergedSpace) + countRecords(t, lhr.kv, removedSpace) + countRecords(t, lhr.kv, headSpace); n != 0 {
		t.Errorf("%d records are left", n)
	}
}
