package node

import (
	"context"
	"crypto/sha256"
	"strconv"
	"time"

	"github.com/wedge-cloud/wedge/internal/recent"
	"github.com/wedge-cloud/wedge/rate"
	"github.com/wedge-cloud/wedge/state"
)

// checks are the rate counters and penalty boxes of a service at a PoP of a fleet. They count what all PoPs tell each other, some half a
// second late; near its limit a rate is decided by the keeper of its key.
type checks struct {
	*state.ServiceRates
	service string
	by      *rating
}

// Over implements compute.Rates. As long as the PoPs have counted no more than half of what may be, and this one no more than its part, nobody is asked.
func (c *checks) Over(counter, key string, n uint32, window time.Duration, most uint64) (over bool, wait func(context.Context) bool) {
	over, _ = c.ServiceRates.Over(counter, key, n, window, most)
	if over || n == 0 {
		return over, nil
	}
	rule := &rate.Rule{Service: c.service, Limit: int64(most), Window: window}
	k, g := checkKey(c.service, counter, key, window, most), c.by
	if 2*c.Count(counter, key, window) <= most && g.limiter.Add(rule, k, int64(n), g.now()) {
		return false, nil
	}
	decided := func(d *rate.Decision) bool {
		if d.OK && n > 1 {
			g.limiter.More(k, int64(n-1), g.now())
		}
		return !d.OK
	}
	d, out := g.limiter.Take(rule, k, g.now(), false)
	if out != nil {
		g.behind(out)
	}
	if !d.Wait {
		return decided(&d), nil
	}
	g.stats.checks.Add(1)
	return false, func(ctx context.Context) bool {
		answer := make(chan bool, 1)
		go func() { // no longer than a request waits for a rate
			d, _ := g.take(rule, k, true)
			answer <- decided(&d)
		}()
		select {
		case over := <-answer:
			return over
		case <-ctx.Done():
			return true
		}
	}
}

// checkKey stands for what a guest checks. No rate of wedge.toml has it: those have no empty name.
func checkKey(service, counter, key string, window time.Duration, most uint64) recent.Key {
	b := make([]byte, 0, 256)
	for _, part := range [...]string{service, "", counter, window.String(), strconv.FormatUint(most, 10)} {
		b = appendPart(b, part)
	}
	sum := sha256.Sum256(append(b, key...))
	return recent.Key(sum[:16])
}
