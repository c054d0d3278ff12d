package world

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge/control"
)

// TestDeployLosesNothing: twenty deploys, one after the other, under constant load at every PoP. No request fails, and no PoP
// goes back to an earlier version.
func TestDeployLosesNothing(t *testing.T) {
	l := newFleetLab(t)
	every := []string{"lhr", "nyc", "nrt"}
	l.becomes("all are there", 5*time.Second, func() bool {
		pops, err := l.client.PoPs(t.Context())
		return err == nil && len(pops) == 3
	})
	page := func(n int) string { return fmt.Sprintf("page %04d", n) }
	l.version(l.site(page(1)))
	l.release(1, 0)
	l.becomes("all run it", 5*time.Second, l.all(page(1), every...))
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	var count atomic.Int64
	for i := range 9 {
		pop := every[i%3]
		wg.Go(func() {
			for last := page(1); ctx.Err() == nil; count.Add(1) {
				got := l.get(pop, "/")
				if len(got) != len(last) || got < last {
					t.Errorf("%s: %q after %q", pop, got, last)
					return
				}
				last = got
			}
		})
	}
	for n := 2; n <= 21; n++ {
		l.version(l.site(page(n)))
		if r := l.releaseAs(n, control.Plan{Ungated: control.Gates}); r.State != control.Done {
			t.Errorf("%+v", r)
		}
	}
	l.becomes("all run the last one", 5*time.Second, l.all(page(21), every...))
	stop()
	wg.Wait()
	t.Logf("%d requests", count.Load())
}
