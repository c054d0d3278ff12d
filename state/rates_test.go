package state

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wedge-cloud/wedge/internal/recent"
)

// TestRatesWindows compares the estimates with the truth for even and for random traffic.
func TestRatesWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewRates().For("svc")
		r := rand.New(rand.NewPCG(1, 2))
		began := time.Now()
		var events []time.Duration
		for range 4000 {
			time.Sleep(time.Duration(r.IntN(50)) * time.Millisecond)
			s.Add("c", "k", 1)
			events = append(events, time.Since(began))
			for _, w := range []time.Duration{time.Second, 10 * time.Second, 60 * time.Second} {
				truth := 0
				for i := len(events) - 1; i >= 0 && events[i] > time.Since(began)-w; i-- {
					truth++
				}
				// What is not known is how the one second is spread in which the window begins: about 40 events.
				if got := int(s.Count("c", "k", w)); got < truth-25 || got > truth+25 {
					t.Fatalf("%v: %d within %v, really %d", time.Since(began), got, w, truth)
				}
			}
		}
	})
}

func TestRatesEstimates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewRates().For("svc")
		is := func(want ...uint64) {
			t.Helper()
			for i, w := range []int{1, 10, 20, 60} {
				if got := s.Count("c", "k", time.Duration(w)*time.Second); got != want[i] {
					t.Errorf("%d within %d s, want %d", got, w, want[i])
				}
			}
		}
		is(0, 0, 0, 0)
		s.Add("c", "k", 100)
		s.Add("c", "other", 7)
		s.Add("other", "k", 7)
		is(100, 100, 100, 100)
		time.Sleep(1250 * time.Millisecond)
		is(75, 100, 100, 100)
		time.Sleep(9 * time.Second) // 10.25 s
		s.Add("c", "k", 1)
		is(1, 76, 101, 101)
		time.Sleep(50 * time.Second) // 60.25 s
		is(0, 0, 0, 76)              // the one of 10.25 s is in the second in which the window of 50 s would begin
		time.Sleep(12 * time.Second)
		is(0, 0, 0, 0)
		s.Add("c", "k", math.MaxUint32)
		s.Add("c", "k", 5)
		is(math.MaxUint32, math.MaxUint32, math.MaxUint32, math.MaxUint32)
		time.Sleep(1000 * time.Hour)
		is(0, 0, 0, 0)
	})
}

func TestPenaltyBox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := NewRates()
		s := all.For("svc")
		s.Penalize("box", "k", time.Minute)
		if !s.Penalized("box", "k") || s.Penalized("box", "j") || s.Penalized("bo", "xk") || all.For("sv").Penalized("box", "k") {
			t.Error("the wrong ones are in the box")
		}
		time.Sleep(59 * time.Second)
		s.Penalize("box", "j", time.Hour)
		time.Sleep(time.Second)
		if s.Penalized("box", "k") || !s.Penalized("box", "j") {
			t.Error("after a minute the first is out and the other is in")
		}
		s.Penalize("box", "k", time.Minute)
		s.Penalize("box", "k", 2*time.Minute)
		time.Sleep(time.Minute)
		if !s.Penalized("box", "k") {
			t.Error("a second penalty counts from its own beginning")
		}
	})
}

// TestRatesAreBounded floods the counters from one service. It loses keys of its own; another keeps its few.
func TestRatesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const room = 8 * recent.Shards
		all := newRates(room)
		flood, quiet := all.For("flood"), all.For("quiet")
		for i := range 20 {
			quiet.Add("c", fmt.Sprint(i), 1)
		}
		for i := range 20 * room {
			flood.Add("c", fmt.Sprint(i), 1)
			flood.Add("c", "often", 1)
		}
		if all.tally.Len() != room {
			t.Errorf("%d rows, there is room for %d", all.tally.Len(), room)
		}
		for i := range 20 {
			if quiet.Count("c", fmt.Sprint(i), time.Minute) != 1 {
				t.Errorf("the flood drove key %d of another service out", i)
			}
		}
		if n := flood.Count("c", "often", time.Minute); n != 20*room {
			t.Errorf("a key that is added to all the time was forgotten: %d", n)
		}
		time.Sleep(2 * time.Minute)
		for i := range room {
			flood.Add("c", fmt.Sprint("new", i), 1)
			time.Sleep(time.Second) // so that few are of use at once
		}
		if n := all.tally.Len(); n > room/2 {
			t.Errorf("%d rows after the flood is over", n)
		}
	})
}

func TestRatesAtOnce(t *testing.T) {
	all := newRates(recent.Shards)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s := all.For(fmt.Sprint(i % 3))
			for j := range 2000 {
				s.Add("c", fmt.Sprint(j%40), 1)
				s.Count("c", fmt.Sprint(j%50), time.Minute)
				s.Penalize("b", fmt.Sprint(j%40), time.Minute)
				s.Penalized("b", "1")
			}
		})
	}
	wg.Wait()
}

func BenchmarkRatesAdd(b *testing.B) {
	all := NewRates()
	keys := make([]string, 1<<12)
	for i := range keys {
		keys[i] = fmt.Sprint("203.0.113.", i)
	}
	var who atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		s, i := all.For("shop"), int(who.Add(1))*977
		for pb.Next() {
			i++
			s.Add("requests", keys[i%len(keys)], 1)
		}
	})
}

func BenchmarkRatesCheck(b *testing.B) {
	s := NewRates().For("shop")
	for b.Loop() {
		s.Add("requests", "203.0.113.7", 1)
		s.Count("requests", "203.0.113.7", 60*time.Second)
		s.Penalized("box", "203.0.113.7")
	}
}

// BenchmarkRatesFlood has a new key every time, with all room taken by a hundred services.
func BenchmarkRatesFlood(b *testing.B) {
	all := newRates(1 << 14)
	for i := range 1 << 14 {
		all.For(fmt.Sprint(i%100)).Add("c", fmt.Sprint(i), 1)
	}
	s, i := all.For("shop"), 0
	for b.Loop() {
		i++
		s.Add("requests", fmt.Sprint("x", i), 1)
	}
}
