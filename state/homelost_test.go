package state

import (
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state/merge"
)

// TestHomeGone: another PoP becomes the home of what is at home at one that is a member no more. What that one has answered and not said to the log counts
// nowhere: who knows of it has again what was there before, and apologises; so does the lost home, if it comes back.
func TestHomeGone(t *testing.T) {
	l := newHomesLab(t, "lhr", "nyc", "nrt")
	lhr, nyc, nrt := l.pops[0], l.pops[1], l.pops[2]
	var gone atomic.Bool
	writer := lhr.share.Writer()
	l.keys.end = func(of string) (uint64, bool, error) { // l.mu is held
		if of != writer || !gone.Load() {
			return 0, false, nil
		}
		heard := uint64(0)
		for _, e := range l.log {
			if e.Writer == of {
				heard = e.First + uint64(len(e.Items)) - 1
			}
		}
		end, last := EndOf(heard)
		l.log = append(l.log, wedge.Entry{Seq: uint64(len(l.log) + 1), Writer: of, First: end, Items: [][]byte{EndItem()}, At: time.Now()})
		return last, true, nil
	}
	for _, p := range l.pops {
		p.share.Gone = func(pop string) bool { return pop == "lhr" && gone.Load() }
	}
	write := func(p *homePoP, key, value string) {
		t.Helper()
		if _, err := p.s.Put(bg, "s", wedge.KVPut{Key: key, Value: []byte(value), Mode: wedge.KVAppend}); err != nil {
			t.Fatal(err)
		}
	}
	write(lhr, "k", "a")
	write(nyc, "kept", "kept")
	if err := nyc.share.Await(bg, lhr.share.Token(wedge.ScopeHome)); err != nil {
		t.Fatal(err)
	}
	lhr.mute.Store(true)
	write(nyc, "k", "1")
	write(nyc, "k", "2")
	write(nyc, "new", "x")
	write(lhr, "k", "3")
	write(lhr, "own", "y")
	if got := nyc.get("k"); got != "a12" {
		t.Errorf("who wrote reads %q", got)
	}
	u := unitOf("shop", "s", "/", "k")
	r, seq, err := nrt.share.home(u)
	if err != nil {
		t.Fatal(err)
	}
	if err := nrt.share.setHome(bg, u, seq, r.next(nrt.share.Writer(), 0, time.Now())); wedge.KindOf(err) != wedge.Denied {
		t.Errorf("the home of a member is taken: %v", err)
	}

	gone.Store(true)
	write(nrt, "k", "b")
	write(nyc, "k", "c")
	if r, _, err = nrt.share.home(u); err != nil || r.pop() != "nrt" || r.Epoch != 2 || r.Before[0].Home != writer {
		t.Fatalf("%+v, %v", r, err)
	}
	all := []string{"k", "kept", "new", "own"}
	want := map[string]string{"k": "abc", "kept": "kept", "new": "not_exist", "own": "not_exist"}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		same := true
		for _, key := range all {
			same = same && nyc.get(key) == want[key] && nrt.get(key) == want[key]
		}
		if same && lhr.kv.Forked() {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("nyc has %q %q, nrt %q; lhr knows: %v", nyc.get("k"), nyc.get("new"), nrt.get("k"), lhr.kv.Forked())
		}
	}
	for p, keys := range map[*homePoP][]string{nrt: nil, nyc: {"k", "new"}, lhr: {"k", "k", "k", "new", "own"}} {
		list, err := p.kv.Apologies(bg, "shop", 100)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range list {
			if a.Reason != merge.Rewound || a.Writer.String() != writer || len(a.Value) == 0 {
				t.Errorf("at %s: %+v", p.name, a)
			}
			got = append(got, a.Key)
		}
		if len(got) != len(keys) {
			t.Errorf("%s apologises for %v, not %v", p.name, got, keys)
		}
	}

	_, refused, _ := nrt.share.Counts()
	item, err := headed(coreKey{Service: "shop", Store: "s", Key: []byte("k")}, []byte("late"))
	if err != nil {
		t.Fatal(err)
	}
	item = append(binary.AppendUvarint(named(itemHome, "/"), 1<<homeBits|1<<30), item...)
	if err := nrt.share.Take(wedge.Entry{Seq: 1000, Writer: writer, First: r.Before[0].Last + 1, Items: [][]byte{item}, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if _, now, _ := nrt.share.Counts(); now != refused+1 || nrt.get("k") != "abc" {
		t.Errorf("what the lost home says late: %d refused, and %q is there", now-refused, nrt.get("k"))
	}

	l.close(lhr)
	lhr.mu.Lock()
	lhr.sent, lhr.next, lhr.keysAt = 0, 0, 0
	lhr.mute.Store(false)
	gone.Store(false)
	l.open(lhr)
	lhr.mu.Unlock()
	if lhr.share.Writer() == writer {
		t.Error("it goes on under the same name")
	}
	l.agree(all)
	write(lhr, "k", "d")
	l.agree(all)
	if got := nrt.get("k"); got != "abcd" {
		t.Errorf("it is %q", got)
	}
}
