package rate

import (
	"testing"
	"time"
)

// TestSmallAlone: a rule that fails open lets something in when nobody can be asked, however small its limit is.
func TestSmallAlone(t *testing.T) {
	for _, closed := range []bool{false, true} {
		l, r, k := New("a"), &Rule{Service: "shop", Limit: 3, Window: time.Hour, Closed: closed}, Key{}
		l.See([]string{"b", "c", "d", "e"}, true, start)
		for ; ; k[8]++ {
			d, out := l.Take(r, k, start, false)
			if out == nil {
				continue // this PoP is the referee
			}
			l.Answered(out, Answer{}, false, start)
			if d, _ = l.Take(r, k, start, d.Wait); d.OK == closed || !d.Fallback {
				t.Errorf("closed %v: %+v", closed, d)
			}
			break
		}
	}
}

// TestUnsent: an ask for which there was no room has its own key decided alone for a while, and no other.
func TestUnsent(t *testing.T) {
	l, r, k := New("a"), &Rule{Service: "shop", Limit: 3, Window: time.Hour}, Key{}
	l.See([]string{"b"}, true, start)
	asks := func() (out *Sent) {
		for ; out == nil; k[8]++ {
			_, out = l.Take(r, k, start, false)
		}
		return out
	}
	out := asks()
	l.Unsent(out, start)
	if d, again := l.Take(r, out.Ask.Key, start, true); !d.Fallback || again != nil {
		t.Errorf("the key: %+v, %v", d, again)
	}
	if next := asks(); next.To != "b" {
		t.Errorf("another key: %v", next)
	}
}

// TestLateWord: who is asked as a key's keeper before it hears that it is answers as that, or the key would have two.
func TestLateWord(t *testing.T) {
	l, r, k := New("a"), &Rule{Service: "shop", Limit: 3, Window: time.Hour}, Key{}
	l.See([]string{"b", "c"}, true, start)
	for l.view.Load().referee(k) != "b" {
		k[8]++
	}
	_, out := l.Take(r, k, start, false)
	ans, _ := l.Asked("c", Ask{Key: k, Keeper: "a", Epoch: 1, Window: out.Ask.Window, Total: 1, Want: 1, Seq: 1}, start)
	if ans.Keeper != "a" || ans.Upto != 2 {
		t.Errorf("%+v", ans)
	}
	l.Answered(out, Answer{Keeper: "a", Epoch: 1}, true, start)
	for in := range 2 {
		if d, _ := l.Take(r, k, start, in == 0); d.OK != (in == 0) {
			t.Errorf("request %d: %+v", in, d)
		}
	}
}

// TestYields: a keeper that hears of one that holds against it gives way, and tells that one what each PoP has let in.
func TestYields(t *testing.T) {
	l, r, k := New("a"), &Rule{Service: "shop", Limit: 100, Window: time.Hour}, Key{}
	l.See([]string{"b", "c", "d"}, true, start)
	for l.view.Load().referee(k) != "a" {
		k[8]++
	}
	for range 10 {
		l.Take(r, k, start, false)
	}
	window := int64(0)
	l.rows.Look(k, start, func(w *row) { window = w.window })
	l.Asked("c", Ask{Key: k, Keeper: "a", Epoch: 1, Window: window, Total: 5, Seq: 1}, start)
	ans, more := l.Asked("d", Ask{Key: k, Keeper: "b", Epoch: 7, Word: true}, start)
	if ans.Keeper != "b" || more == nil || more.To != "b" || more.Ask.Total != 10 || len(more.Ask.Parts) != 1 || more.Ask.Parts[0] != (Part{"c", 5}) {
		t.Fatalf("%+v, %+v", ans, more)
	}

	other := New("b") // it is told the same twice, and what it knew itself
	other.See([]string{"a", "c", "d"}, true, start)
	_, out := other.Take(r, k, start, false)
	for out == nil {
		_, out = other.Take(r, k, start, false)
	}
	other.Answered(out, Answer{Keeper: "b", Epoch: 7}, true, start)
	other.Asked("c", Ask{Key: k, Keeper: "b", Epoch: 7, Window: window, Total: 6, Seq: 2}, start)
	for range 2 {
		more.Ask.Seq++
		ans, _ = other.Asked("a", more.Ask, start)
	}
	if own := Free(r.Limit, 4); ans.Count != 10+6+own {
		t.Errorf("%d were let in", ans.Count)
	}
}
