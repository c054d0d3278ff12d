package backend

import (
	"sync/atomic"

	"github.com/wedge-cloud/wedge"
)

// numFailures is one more than the greatest wedge.FetchFailure.
const numFailures = int(wedge.FailureH2) + 1

type counters struct {
	requests, dials, reused, retries, upgrades, poisoned, forgotten, probes atomic.Uint64
	failures                                                                [numFailures]atomic.Uint64
}

func (c *counters) failed(f wedge.FetchFailure) {
	if int(f) < numFailures {
		c.failures[f].Add(1)
	}
}

// Stats are a Transport's counters since its start, and gauges of now.
type Stats struct {
	Requests  uint64 // RoundTrip calls
	Dials     uint64 // connections tried
	Reused    uint64 // attempts on a connection that had served before
	Retries   uint64 // attempts after the first
	Upgrades  uint64 // connections switched to another protocol
	Poisoned  uint64 // connections dropped because the origin sent what nobody asked for
	Forgotten uint64 // pools given up for others
	Probes    uint64 // health checks made

	Failures [numFailures]uint64 // requests that failed before the head, by wedge.FetchFailure

	Pools, Open, Idle, Waiting int // at the moment; Waiting requests are those without a connection yet
}

// Stats returns the present counters.
func (t *Transport) Stats() Stats {
	c := &t.stats
	s := Stats{
		Requests: c.requests.Load(), Dials: c.dials.Load(), Reused: c.reused.Load(), Retries: c.retries.Load(),
		Upgrades: c.upgrades.Load(), Poisoned: c.poisoned.Load(), Forgotten: c.forgotten.Load(), Probes: c.probes.Load(),
	}
	for i := range c.failures {
		s.Failures[i] = c.failures[i].Load()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s.Pools, s.Open, s.Idle = len(t.pools), t.open, t.idle.Len()
	for _, p := range t.pools {
		s.Waiting += p.users
	}
	return s
}
