package rate

import (
	"encoding/json"
	"math"
	"testing"
	"time"
)

// FuzzAsked: whatever a PoP says, it changes its own count only: who has let in nothing is still told the truth of the rest, and
// nobody is let in more than the limit.
func FuzzAsked(f *testing.F) {
	f.Add([]byte(`{"key":"01000000000000000000000000000000","total":9223372036854775807,"want":1048576,"seq":1}`))
	f.Add([]byte(`{"key":"01000000000000000000000000000000","total":3,"back":true,"seq":18446744073709551615}`))
	f.Add([]byte(`{"key":"01000000000000000000000000000000","keeper":"b","epoch":1125899906842624,"window":-1,"seq":2}`))
	f.Add([]byte(`{"key":"01000000000000000000000000000000","keeper":"a","epoch":9,"count":9223372036854775807,"parts":[{"pop":"c","sum":9223372036854775807},{"pop":"a","sum":1}],"seq":3}`))
	f.Add([]byte(`{"key":"01000000000000000000000000000000","keeper":"b","epoch":1125899906842624,"new":true,"want":3,"seq":3}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, k := &Rule{Service: "shop", Limit: 100, Window: time.Minute}, Key{1}
		l := newLimiter("a", 1<<10)
		l.See([]string{"b", "c"}, true, start)
		own := int64(0)
		for range 40 {
			if d, _ := l.Take(r, k, start, false); d.OK {
				own++
			}
		}
		var a Ask
		if json.Unmarshal(text, &a) != nil {
			return
		}
		for range 3 {
			ans, _ := l.Asked("b", a, start)
			if ans.Keeper == "a" && (ans.Upto > 2*r.Limit || ans.Left < 0 || ans.Left > r.Window || ans.Count < 0) {
				t.Fatalf("%+v", ans)
			}
			a.Seq++
		}
		for range 200 {
			if d, _ := l.Take(r, k, start+1, false); d.OK {
				own++
			}
		}
		if own > r.Limit {
			t.Fatalf("%d were let in here", own)
		}
	})
}

// TestHostileAnswers: an answer that makes no sense is none.
func TestHostileAnswers(t *testing.T) {
	for _, a := range []Answer{{}, {Keeper: "nobody", Epoch: 9}, {Keeper: "b", Epoch: math.MaxUint64, Upto: 1000}, {Keeper: "b", Upto: -1}, {Keeper: "b", Left: -1}, {Keeper: "b", Also: make([]string, 100)}, {None: true}} {
		r, l := &Rule{Service: "shop", Limit: 1000, Window: time.Minute, Closed: true}, New("a")
		l.See([]string{"b"}, true, start)
		k := Key{1}
		for l.view.Load().referee(k) != "b" {
			k[9]++
		}
		for range 1000 {
			d, out := l.Take(r, k, start, false)
			if out == nil {
				continue
			}
			l.Answered(out, a, true, start)
			if d, _ = l.Take(r, k, start, d.Wait); d.OK || !d.Fallback {
				t.Errorf("%+v was believed: %+v", a, d)
			}
			break
		}
	}
}

// TestFlood: keys without end take no more room than there is.
func TestFlood(t *testing.T) {
	l := newLimiter("a", 1<<10)
	l.See([]string{"b"}, true, start)
	r := &Rule{Service: "shop", Limit: 10, Window: time.Hour}
	for i := range 20_000 {
		k := Key{byte(i), byte(i >> 8), byte(i >> 16), 1}
		l.Take(r, k, start, false)
		l.Asked("b", Ask{Key: k, Seq: 1, Keep: time.Hour}, start)
	}
	if l.Keys() > 1<<10 || l.homes.Len() > 1<<10 {
		t.Error(l.Keys(), l.homes.Len())
	}
}

func BenchmarkTake(b *testing.B) {
	l, r := New("a"), &Rule{Service: "shop", Limit: 1 << 40, Window: time.Hour}
	for i := 0; b.Loop(); i++ {
		l.Take(r, Key{byte(i), byte(i >> 8)}, start, false)
	}
}
