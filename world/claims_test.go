package world

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge/state"
)

// spend has a PoP sell one unit, and reports what came of it.
func (l stateLab) spend(pop, path string) (sold, local bool) {
	status, body, h := l.ask("POST", pop, path+"?kind=stock", `{"op":"spend"}`)
	if status != http.StatusOK && status != http.StatusTooManyRequests {
		l.t.Errorf("%s: %d %s", pop, status, body)
	}
	return status == http.StatusOK, !strings.Contains(h.Get("Wedge-State"), "asked")
}

// TestSeats: a hundred seats that one PoP has are sold from three at once, one of which is cut off while it holds a share. Never are more
// sold than there are, in the end all are, and most sales ask nobody.
func TestSeats(t *testing.T) {
	l := newStateLab(t)
	every := []string{"lhr", "nyc", "nrt"}
	const seats = 100
	if status, body, _ := l.ask("POST", "lhr", "/book/seats?kind=stock", fmt.Sprintf(`{"op":"stock","by":%d}`, seats)); status != 200 {
		t.Fatal(status, body)
	}
	l.becomes("all know the seats", 5*time.Second, func() bool {
		for _, pop := range every {
			if status, _, _ := l.ask("GET", pop, "/book/seats", ""); status != 200 {
				return false
			}
		}
		return true
	})
	var mu sync.Mutex
	sold, local := map[string]int{}, 0
	total := func() int { return sold["lhr"] + sold["nyc"] + sold["nrt"] }
	sell := func(pop string, n int) {
		for range n {
			ok, alone := l.spend(pop, "/book/seats")
			mu.Lock()
			if ok {
				sold[pop]++
			}
			if ok && alone {
				local++
			}
			mu.Unlock()
		}
	}
	sellAll := func(n int) {
		var w sync.WaitGroup
		for _, pop := range every {
			w.Go(func() { sell(pop, n) })
		}
		w.Wait()
	}
	for _, pop := range every[1:] { // it may not have heard of lhr's peers yet
		l.becomes(pop+" sells", 10*time.Second, func() bool { sell(pop, 1); return sold[pop] > 0 })
	}
	sellAll(15)
	if total() != 47 {
		t.Errorf("sold %v while all can be reached", sold)
	}
	if err := l.Cut("nrt"); err != nil {
		t.Fatal(err)
	}
	before := sold["nrt"]
	sell("nrt", 1)
	if sold["nrt"] != before+1 {
		t.Error("cut off with a share, nrt sells nothing")
	}
	sellAll(20)
	if err := l.Heal("nrt"); err != nil {
		t.Fatal(err)
	}
	l.becomes("all are sold", 10*time.Second, func() bool { sellAll(1); return total() >= seats })
	sellAll(5)
	if total() != seats {
		t.Errorf("%d of %d seats were sold: %v", total(), seats, sold)
	}
	t.Logf("%v, %d asked nobody", sold, local)
	if local < seats*3/4 {
		t.Errorf("%d of %d sales asked nobody", local, seats)
	}
	for _, pop := range every {
		l.becomes(pop+" knows that all are sold", 10*time.Second, func() bool {
			_, got, _ := l.ask("GET", pop, "/book/seats", "")
			return strings.HasPrefix(got, fmt.Sprintf(`{"total":%d,"spent":%d,`, seats, seats))
		})
	}
	status, body, _ := l.ask("POST", "nyc", "/book/seats?kind=stock", `{"op":"spend"}`)
	if status == 200 || !strings.Contains(body, "sold out") {
		t.Errorf("sold out: %d %s", status, body)
	}
}

// TestSeatsOfTheLost: what a PoP held whose disk is lost is sold by who granted it once the share has ended, but for what it had sold.
func TestSeatsOfTheLost(t *testing.T) {
	l := newStateLab(t)
	if status, body, _ := l.ask("POST", "lhr", "/book/seats?kind=stock", `{"op":"stock","by":40}`); status != 200 {
		t.Fatal(status, body)
	}
	l.becomes("nyc knows the seats", 5*time.Second, func() bool { status, _, _ := l.ask("GET", "nyc", "/book/seats", ""); return status == 200 })
	l.becomes("nyc sells", 10*time.Second, func() bool { sold, _ := l.spend("nyc", "/book/seats"); return sold })
	l.becomes("lhr knows", 5*time.Second, func() bool {
		_, got, _ := l.ask("GET", "lhr", "/book/seats", "")
		return strings.HasPrefix(got, `{"total":40,"spent":1,`)
	})
	if err := l.Kill("nyc"); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(l.cfg.Dir, "nyc")); err != nil {
		t.Fatal(err)
	}
	sold := 0
	sell := func() int {
		for ok := true; ok; sold++ {
			if ok, _ = l.spend("lhr", "/book/seats"); !ok {
				break
			}
		}
		return sold
	}
	if n := sell(); n >= 39 {
		t.Fatalf("London sold %d while nyc held some", n)
	}
	if err := l.Start(t.Context(), "nyc"); err != nil {
		t.Fatal(err)
	}
	if err := l.Skew(state.ShareTime+time.Minute, "lhr"); err != nil {
		t.Fatal(err)
	}
	l.becomes("London sold all but what nyc had", 20*time.Second, func() bool { return sell() == 39 })
}
