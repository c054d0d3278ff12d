package node

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge/compute"
	"github.com/wedge-cloud/wedge/rate"
	"github.com/wedge-cloud/wedge/state"
)

// check does so many checks of a key at each of some PoPs, all at once, and returns how many were not over.
func (l *peerLab) check(key string, most uint64, each int, pops ...string) int {
	var w sync.WaitGroup
	var in atomic.Int64
	for _, pop := range pops {
		r := l.nodes[pop].ratesOf("shop")
		for range each {
			w.Go(func() {
				over, wait := r.Over("rc", key, 1, time.Hour, most) // longer than guests can, so that none ends meanwhile
				if wait != nil {
					over = wait(l.t.Context())
				}
				if !over {
					in.Add(1)
				}
			})
		}
	}
	w.Wait()
	return int(in.Load())
}

// TestChecks: guests' rate counters and penalty boxes are those of the fleet.
func TestChecks(t *testing.T) {
	l := ratedLab(t)
	all := []string{"fra1", "lhr1", "nyc1"}
	at := map[string]compute.Rates{}
	for _, pop := range all {
		at[pop] = l.nodes[pop].ratesOf("shop")
		at[pop].Add("rc", "counted", 10)
	}
	began := time.Now()
	at["fra1"].Penalize("pb", "bad", time.Minute)
	for _, pop := range all {
		eventually(t, pop+" knows who is in the box, and what all have counted", func() bool {
			return at[pop].Penalized("pb", "bad") && at[pop].Count("rc", "counted", time.Minute) == 30
		})
	}
	t.Logf("all knew after %v", time.Since(began).Round(time.Millisecond))

	if over, wait := at["fra1"].Over("rc", "some", 1, time.Minute, 60); over || wait != nil {
		t.Error("far below the limit another PoP is waited for")
	}
	if n := l.check("burst", 60, 40, all...); n > 60+2*15 || n < 40 {
		t.Errorf("%d of 120 at once were not over, the limit is 60", n)
	}
	eventually(t, "all know of the burst", func() bool {
		return at["fra1"].Count("rc", "burst", time.Minute)+at["lhr1"].Count("rc", "burst", time.Minute)+at["nyc1"].Count("rc", "burst", time.Minute) == 3*120
	})
	if n := l.check("burst", 60, 5, all...); n > 0 {
		t.Errorf("%d more were not", n)
	}
	if over, wait := at["lhr1"].Over("rc", "none", 1, time.Second, 0); !over || wait != nil {
		t.Error("of a limit of none something is let in")
	}
	if over, _ := at["lhr1"].Over("rc", "nobody", 0, time.Second, 0); over {
		t.Error("a check that adds nothing is over")
	}
}

// TestChecksAlone: guests at a PoP that reaches no other are told what it knows itself, and no check waits for longer than its sandbox may.
func TestChecksAlone(t *testing.T) {
	l := ratedLab(t)
	for name := range l.nodes {
		l.isolate(name, true)
	}
	if n := l.check("alone", 60, 60, "fra1", "lhr1", "nyc1"); n < 60 || n > 3*(15+20)+60 {
		t.Errorf("%d were not over at three PoPs that are alone", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 1000 {
		_, wait := l.nodes["fra1"].ratesOf("shop").Over("rc", fmt.Sprint("ended", i), 2, time.Hour, 2)
		if wait != nil {
			wait(ctx)
			break
		}
	}
	for name := range l.nodes {
		l.isolate(name, false)
	}
	l.nodes["fra1"].ratesOf("shop").Penalize("pb", "later", time.Minute)
	eventually(t, "a box is told again", func() bool { return l.nodes["nyc1"].ratesOf("shop").Penalized("pb", "later") })
}

// FuzzRatesSaid: whatever a PoP says of rates, it is bounded, and nobody stays in a box for longer than guests can have it.
func FuzzRatesSaid(f *testing.F) {
	f.Add([]byte(`{"kept":[{"key":"01000000000000000000000000000000","epoch":1,"left":1000000000}],"news":[{"s":"shop","k":"02000000000000000000000000000000","n":4294967295,"box":9223372036854775807}]}`))
	f.Add([]byte(`{"kept":[{"key":"01000000000000000000000000000000","epoch":18446744073709551615,"left":-1}],"news":[{"s":"none","k":"","n":-1}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		g := newRating("a", time.Now())
		g.limiter.See([]string{"b"}, true, g.now())
		fl := &fleet{rating: g, rates: state.NewRates(), runs: func(s string) bool { return s == "shop" }}
		defer g.end()
		fl.cfg.PoP.Name = "a"
		fl.hearRates(ratesSubject+"b", data)
		fl.hearRates(ratesSubject+"a", data)
		if d, _ := g.limiter.Take(&rate.Rule{Service: "shop", Limit: 8, Window: time.Hour}, rate.Key{1}, g.now(), false); d.Left > 8 {
			t.Errorf("%+v", d)
		}
		g.done.Wait()
	})
}
