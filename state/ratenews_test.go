package state

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wedge-cloud/wedge/internal/recent"
)

// TestRateNews: what one PoP is told by another it counts, and does not tell again.
func TestRateNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := NewRates(), NewRates()
		here, there := a.For("s"), b.For("s")
		here.Add("c", "k", 5)
		if a.News(10) != nil {
			t.Error("who shares with nobody has news")
		}
		a.Share()
		b.Share()
		for range 3 {
			here.Add("c", "k", 2)
		}
		here.Add("c", "few", 1)
		here.Penalize("b", "k", 90*time.Second)
		list := a.News(10)
		if len(list) != 3 || list[0].Box != 90*time.Second || list[1].N != 6 || list[2].N != 1 || a.News(10) != nil {
			t.Fatalf("%+v", list)
		}
		for i := range list {
			b.Hear(&list[i])
		}
		if n := there.Count("c", "k", 10*time.Second); n != 6 || !there.Penalized("b", "k") || there.Penalized("b", "few") {
			t.Errorf("%d counted", n)
		}
		if again := b.News(10); again != nil {
			t.Errorf("told again: %+v", again)
		}
		b.Hear(&RateNews{Service: "s", Key: here.id("b", "k"), Box: time.Second}) // what is shorter lets nobody out
		b.Hear(&RateNews{Service: "s", Key: here.id("b", "few"), Box: 1 << 60})
		time.Sleep(80 * time.Second)
		if !there.Penalized("b", "k") {
			t.Error("out of the box too soon")
		}
		time.Sleep(time.Hour)
		if there.Penalized("b", "few") {
			t.Error("in the box for ever")
		}
		for range 20 { // a key that is punished with each request is told of seldom
			here.Penalize("b", "k", time.Minute)
			time.Sleep(500 * time.Millisecond)
		}
		if list := a.News(10); len(list) != 1 {
			t.Errorf("%+v", list)
		}
	})
}

// TestRateNewsFlood: a service that is flooded with keys has the others' told, and takes no more room than there is.
func TestRateNewsFlood(t *testing.T) {
	r := newRates(1 << 10)
	r.Share()
	r.For("good").Add("c", "k", 3)
	r.For("good").Penalize("c", "k", time.Minute)
	for i := range 20_000 {
		r.For("bad").Add("c", fmt.Sprint(i), 1)
		r.For("bad").Penalize("c", fmt.Sprint(i), time.Minute)
	}
	if n := r.news.adds.Len() + r.news.boxes.Len(); n > 2*maxNews {
		t.Errorf("%d keys wait", n)
	}
	told := map[string]int{}
	for i := 0; ; i++ {
		list := r.News(100)
		if len(list) > 200 || i > 2*maxNews {
			t.Fatalf("%d at once, %d times", len(list), i)
		}
		if list == nil {
			break
		}
		for _, one := range list {
			told[one.Service]++
		}
	}
	if told["good"] != 2 || told["bad"] == 0 {
		t.Errorf("%v", told)
	}
	for i := range 1 << 13 {
		r.Hear(&RateNews{Service: "bad", Key: recent.Key{byte(i), byte(i >> 8), byte(i >> 16)}, N: 1, Box: time.Minute})
	}
	if r.tally.Len() > 1<<10 || r.boxes.Len() > 1<<10 {
		t.Errorf("%d and %d keys", r.tally.Len(), r.boxes.Len())
	}
}
