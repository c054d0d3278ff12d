// Package rollout takes a release to all PoPs, as an epidemic spreads: one PoP first, and when that has run it for a while,
// twice as many each time. What happens next is one pure function of what is known, [Next]; it stops by itself
// when the new version does worse than the one before.
package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/control"
)

// Report is what a PoP says of a service.
type Report struct {
	PoP     string          `json:"pop"`
	Service string          `json:"service"`
	Version int             `json:"version"`           // that it runs; 0: none
	Beside  int             `json:"beside,omitempty"`  // that it runs for some requests only; 0: none
	Share   float64         `json:"share,omitempty"`   // of requests, in percent
	Wanted  int             `json:"wanted"`            // that it is to run, or to run beside
	Failed  string          `json:"failed,omitempty"`  // why it does not run that
	Release int             `json:"release,omitempty"` // the one that was under way when it failed; 0: a PoP that does not say
	Figures map[int]Figures `json:"figures,omitempty"` // by version
	At      time.Time       `json:"-"`                 // when it came
}

// Decision is what to do about a rollout; nothing: wait.
type Decision struct {
	Join  []string // PoPs that run it from now on
	Share float64  // of requests that go to it, in percent; 0: as before
	Hold  bool     // the plan has nothing more
	Done  bool     // all run it
	Abort bool     // none does any more
	Why   string   // in a sentence
}

// Patience is how long a PoP may take to run a version before the rollout goes on without it, and how long
// without any PoP a rollout waits.
const Patience = 30 * time.Second

// Next decides about a rollout that is under way or holds. present are the PoPs that can be reached, in the order in which they
// join; reports are the latest of each about the service.
func Next(r *control.Release, present []wedge.PoP, reports map[string]Report, now time.Time) Decision {
	for _, pop := range r.PoPs {
		// A report of an earlier try may come late: only what failed of this very release ends it.
		if p := reports[pop]; p.Wanted == r.Version && p.Failed != "" && (p.Release == r.ID || p.Release == 0) {
			return Decision{Abort: true, Why: fmt.Sprintf("%s cannot run version %d: %s", pop, r.Version, p.Failed)}
		}
	}
	if why := worse(r, reports); why != "" {
		return Decision{Abort: true, Why: why}
	}
	where, _ := control.ParseWhere(r.Where) // it was checked when it was decided on
	var waiting, rest []string
	for i := range present {
		p := &present[i]
		switch {
		case slices.Contains(r.PoPs, p.Name):
			if !runs(reports[p.Name], r) {
				waiting = append(waiting, p.Name)
			}
		case where.Fits(p, present):
			rest = append(rest, p.Name)
		}
	}
	since := now.Sub(r.StageAt)
	holding := r.State == control.Holding
	if !holding && (len(waiting) > 0 && since < Patience || r.Stages > 0 && since < time.Duration(r.HoldMS)*time.Millisecond) {
		return Decision{}
	}
	switch {
	case len(rest) > 0:
		return join(r, rest)
	case r.Stages == 0 || holding:
		return Decision{} // nobody is there, or it waits to be promoted
	case r.Share < 100 && len(r.Shares) > 0:
		return more(r)
	case len(r.Where) > 0 || r.Share < 100:
		return Decision{Hold: true, Why: fmt.Sprintf("%s it as planned; promote it, or roll it back", count(len(r.PoPs), "runs", "run"))}
	}
	return Decision{Done: true, Why: fmt.Sprintf("%s it in %d stages", count(len(r.PoPs), "ran", "ran"), r.Stages)}
}

// runs reports whether a PoP does what the release says.
func runs(p Report, r *control.Release) bool {
	if r.Share == 100 {
		return p.Version == r.Version && p.Beside == 0
	}
	return p.Beside == r.Version && p.Share == r.Share
}

// join lets more PoPs run the version: all of them if it gets but a share of requests, else about as many as do already.
func join(r *control.Release, rest []string) Decision {
	n := max(1, len(r.PoPs))
	if r.Stages > 0 {
		n = max(2, len(r.PoPs))
	}
	d := Decision{}
	if r.HoldMS == 0 && r.Stages > 0 || r.Shadow > 0 || len(r.Shares) > 0 || r.Match != "" || r.State == control.Holding {
		n = len(rest) // there is nothing to wait for
	}
	d.Join = rest[:min(n, len(rest))]
	d.Why = fmt.Sprintf("stage %d: %s", r.Stages+1, strings.Join(d.Join, ", "))
	if r.Stages == 0 && r.Shadow > 0 {
		d.Why = fmt.Sprintf("stage 1: copies of %v %% of requests at %s", r.Shadow, strings.Join(d.Join, ", "))
	} else if r.Stages == 0 && len(r.Shares) > 0 {
		d.Share = r.Shares[0]
		d.Why = fmt.Sprintf("stage 1: %v %% of requests at %s", d.Share, strings.Join(d.Join, ", "))
	}
	return d
}

// more lets the version have the next share of requests.
func more(r *control.Release) Decision {
	share := 100.0
	for _, s := range slices.Backward(r.Shares) {
		if s > r.Share {
			share = s
		}
	}
	return Decision{Share: share, Why: fmt.Sprintf("stage %d: %v %% of requests", r.Stages+1, share)}
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 PoP " + one
	}
	return fmt.Sprintf("%d PoPs %s", n, many)
}

// Order sorts PoPs as they join a rollout: by chance, the same for each who asks, so that it is not always the same who go first.
func Order(pops []wedge.PoP, seed string) []wedge.PoP {
	pops = slices.Clone(pops)
	slices.SortFunc(pops, func(a, b wedge.PoP) int {
		return cmp.Compare(control.DigestOf([]byte(seed+a.Name)), control.DigestOf([]byte(seed+b.Name)))
	})
	return pops
}
