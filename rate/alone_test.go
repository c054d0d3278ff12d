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
