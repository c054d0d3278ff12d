package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"pgregory.net/rapid"

	"github.com/wedge-cloud/wedge"
)

// sessionPoP opens the database of a PoP in memory.
func sessionPoP(t testing.TB, name string, now func() time.Time) *KV {
	t.Helper()
	kv, err := Open("mem", Options{PoP: name, Memory: true, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func begun(t testing.TB, kv *KV, data string) *Session {
	t.Helper()
	s, err := kv.BeginSession(Session{Service: "shop", Expires: time.Now().Add(time.Hour), Data: []byte(data)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func session(t testing.TB, kv *KV, id wedge.SessionID) *Session {
	t.Helper()
	s, err := kv.Session(context.Background(), "shop", id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSessionGivenAgain: a giver that crashes after it gave, and a taker that crashes before it took, leave a session that the same taker
// gets again, byte for byte, and no other.
func TestSessionGivenAgain(t *testing.T) {
	dir := t.TempDir()
	a, err := Open(dir, Options{PoP: "a"})
	if err != nil {
		t.Fatal(err)
	}
	s := begun(t, a, "what it holds")
	first, given, err := a.GiveSession("shop", s.ID, "b")
	if err != nil || !given || first.Epoch != 2 || first.Home != "b" || string(first.Data) != "what it holds" {
		t.Fatalf("%+v, %v, %v", first, given, err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if a, err = Open(dir, Options{PoP: "a"}); err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if other, given, err := a.GiveSession("shop", s.ID, "c"); err != nil || given || other.Home != "b" || other.Epoch != 2 {
		t.Errorf("another PoP gets it, too: %+v, %v, %v", other, given, err)
	}
	if _, err := a.WriteSession("shop", s.ID, 1, "", func(*Session) {}); !errors.Is(err, ErrElsewhere) {
		t.Errorf("who gave it writes: %v", err)
	}
	again, given, err := a.GiveSession("shop", s.ID, "b")
	if err != nil || !given {
		t.Fatal(given, err)
	}
	x, _ := EncodeSession(first)
	y, _ := EncodeSession(again)
	if !bytes.Equal(x, y) {
		t.Errorf("%s, and again %s", x, y)
	}
	b := sessionPoP(t, "b", nil)
	defer b.Close()
	if _, installed, err := b.TakeSession(*first, "a"); err != nil || !installed {
		t.Fatal(installed, err)
	}
	if _, err := b.WriteSession("shop", s.ID, 2, "", func(s *Session) { s.Data = []byte("more") }); err != nil {
		t.Fatal(err)
	}
	if now, installed, err := b.TakeSession(*again); err != nil || installed || string(now.Data) != "more" {
		t.Errorf("taken twice: %+v, %v, %v", now, installed, err)
	}
	told := session(t, b, s.ID)
	if list, _, err := b.Untold("", 10); err != nil || len(list) != 1 || list[0].Tell[0] != "a" {
		t.Fatalf("%v, %v", list, err)
	}
	if now, _, err := a.HearSession("b", *told); err != nil || now.Spare || len(now.Data) > 0 || now.Home != "b" {
		t.Errorf("the old copy is still there: %+v, %v", now, err)
	}
	if err := b.ToldSession(told, "a"); err != nil {
		t.Fatal(err)
	}
	if list, _, err := b.Untold("", 10); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// TestSessionOneWriter: whatever is lost on the way between PoPs, comes twice or late, no two of them are a session's home, and the last
// write is there in the end.
func TestSessionOneWriter(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		names := []string{"a", "b", "c"}
		pops := map[string]*KV{}
		for _, name := range names {
			pops[name] = sessionPoP(t, name, nil)
			defer pops[name].Close()
		}
		s := begun(t, pops["a"], "0")
		written, epochs := 0, map[uint64]string{}
		var wire []*Session
		pop := rapid.SampledFrom(names)
		r.Repeat(map[string]func(*rapid.T){
			"ask": func(r *rapid.T) {
				if got, given, err := pops[pop.Draw(r, "from")].GiveSession("shop", s.ID, pop.Draw(r, "to")); err != nil {
					r.Fatal(err)
				} else if given {
					wire = append(wire, got)
				}
			},
			"arrive": func(r *rapid.T) {
				if len(wire) > 0 {
					m := rapid.SampledFrom(wire).Draw(r, "message")
					if _, _, err := pops[m.Home].TakeSession(*m); err != nil {
						r.Fatal(err)
					}
				}
			},
			"tell": func(r *rapid.T) {
				from, to := pop.Draw(r, "from"), pop.Draw(r, "to")
				if n := session(t, pops[from], s.ID); n != nil && n.Home == from && from != to {
					if _, fenced, err := pops[to].HearSession(from, *n); err != nil || fenced {
						r.Fatal(fenced, err)
					}
				}
			},
			"write": func(r *rapid.T) {
				name, epoch := pop.Draw(r, "pop"), rapid.Uint64Range(1, 6).Draw(r, "epoch")
				_, err := pops[name].WriteSession("shop", s.ID, epoch, "", func(n *Session) { n.Data = fmt.Append(nil, written+1) })
				if err != nil {
					return
				}
				written++
				if before, known := epochs[epoch]; known && before != name {
					r.Fatalf("%s and %s wrote in epoch %d", before, name, epoch)
				}
				epochs[epoch] = name
			},
			"": func(r *rapid.T) {
				homes := 0
				for _, name := range names {
					if n := session(t, pops[name], s.ID); n != nil && n.Home == name {
						homes++
					}
				}
				if homes > 1 {
					r.Fatalf("%d homes", homes)
				}
			},
		})
		last := session(t, pops["a"], s.ID)
		for _, name := range names {
			if n := session(t, pops[name], s.ID); n != nil && last.Newer(n.Epoch, n.Home) {
				last = n
			}
		}
		for _, name := range names { // who gave it last gives it again
			if n, given, err := pops[name].GiveSession("shop", s.ID, last.Home); err == nil && given && n.Epoch == last.Epoch {
				if _, _, err := pops[last.Home].TakeSession(*n); err != nil {
					r.Fatal(err)
				}
			}
		}
		if n := session(t, pops[last.Home], s.ID); n == nil || n.Home != last.Home || string(n.Data) != fmt.Sprint(written) {
			r.Fatalf("after %d writes: %+v", written, n)
		}
	})
}

// TestSessionCopies: of two that went on from copies one counts everywhere, and what the other wrote is apologised for.
func TestSessionCopies(t *testing.T) {
	a, b, c := sessionPoP(t, "a", nil), sessionPoP(t, "b", nil), sessionPoP(t, "c", nil)
	for _, kv := range []*KV{a, b, c} {
		defer kv.Close()
	}
	s := begun(t, a, "one")
	copied := *s
	copied.Standby = "b"
	if _, _, err := b.HearSession("a", copied); err != nil {
		t.Fatal(err)
	}
	copied.Standby = "c"
	if _, _, err := c.HearSession("a", copied); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.HearSession("b", copied); wedge.KindOf(err) != wedge.Denied {
		t.Errorf("a PoP speaks for another: %v", err)
	}
	for _, kv := range []*KV{b, c} {
		n, err := kv.PromoteSession("shop", s.ID, 3)
		if err != nil || string(n.Data) != "one" || n.Epoch != 1+promotion || n.Write != 3 {
			t.Fatalf("%+v, %v", n, err)
		}
	}
	if _, err := b.WriteSession("shop", s.ID, 1+promotion, "", func(*Session) {}); err != nil {
		t.Fatal(err)
	}
	atB, atC := session(t, b, s.ID), session(t, c, s.ID)
	if _, fenced, err := c.HearSession("b", *atB); err != nil || fenced {
		t.Errorf("the later name is fenced: %v", err)
	}
	if now, fenced, err := b.HearSession("c", *atC); err != nil || !fenced || now.Home != "c" {
		t.Errorf("the other is not: %+v, %v", now, err)
	}
	if _, fenced, err := a.HearSession("c", *atC); err != nil || !fenced {
		t.Errorf("nor is the old home: %v", err)
	}
	for kv, want := range map[*KV][]int64{a: nil, b: {1, 2}, c: {2}} {
		all, err := kv.Apologies(context.Background(), "shop", 10)
		var amounts []int64
		for _, x := range all {
			amounts = append(amounts, x.Amount)
		}
		if len(amounts) == 2 && amounts[0] > amounts[1] {
			amounts[0], amounts[1] = amounts[1], amounts[0]
		}
		if err != nil || fmt.Sprint(amounts) != fmt.Sprint(want) {
			t.Errorf("%s is sorry for %v, not %v; %v", kv.opts.PoP, amounts, want, err)
		}
	}
}

// TestSessionEnds: what has expired is gone, and nothing of it stays.
func TestSessionEnds(t *testing.T) {
	now := time.Now()
	kv := sessionPoP(t, "a", func() time.Time { return now })
	defer kv.Close()
	s := begun(t, kv, "x")
	if _, err := kv.WriteSession("shop", s.ID, 1, "", func(s *Session) { s.Expires, s.Standby = now.Add(2*time.Hour), "b" }); err != nil {
		t.Fatal(err)
	}
	for _, wait := range []time.Duration{90 * time.Minute, time.Hour} {
		now = now.Add(wait)
		if _, err := kv.Sweep(t.Context(), 100); err != nil {
			t.Fatal(err)
		}
		it, err := kv.db.NewIter(nil)
		if err != nil {
			t.Fatal(err)
		}
		kept := ""
		for ok := it.First(); ok; ok = it.Next() {
			if strings.IndexByte("eyn", it.Key()[0]) >= 0 {
				kept += string(it.Key()[:1])
			}
		}
		if err := it.Close(); err != nil {
			t.Fatal(err)
		}
		if want := map[bool]string{true: "eny"}[wait > time.Hour]; kept != want || (session(t, kv, s.ID) != nil) != (want != "") {
			t.Errorf("kept %q, not %q", kept, want)
		}
	}
	if _, err := kv.WriteSession("shop", s.ID, 1, "", func(*Session) {}); wedge.KindOf(err) != wedge.NotExist {
		t.Error(err)
	}
}

func FuzzDecodeSession(f *testing.F) {
	for _, s := range []*Session{{Service: "shop", Home: "a", Epoch: 1, Expires: time.Unix(1, 0)}, {Service: "shop", Home: "a", Epoch: 3, Write: 2, Known: 1, Tell: []string{"b"}, Standby: "b", Spare: true, Data: []byte("x"), Metadata: []byte{0xff}}} {
		b, err := EncodeSession(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeSession(b)
		if err != nil {
			return
		}
		kv := sessionPoP(t, "b", func() time.Time { return time.Unix(0, 0) })
		defer kv.Close()
		if _, _, err := kv.HearSession(s.Home, *s); err != nil && wedge.KindOf(err) != wedge.Invalid && wedge.KindOf(err) != wedge.Denied {
			t.Error(err)
		}
		if it, err := kv.db.NewIter(&pebble.IterOptions{}); err != nil || it.Close() != nil {
			t.Error(err)
		}
	})
}
