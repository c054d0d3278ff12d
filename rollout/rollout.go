// Package rollout takes a release to all PoPs, as an epidemic spreads: one PoP first, and when that has run it for a while,
// twice as many each time. What happens next is one pure function of what is known, [Next]; it stops by itself
// when the new version does worse than the one before.
package rollout

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge/control"
)

// Report is what a PoP says of a service.
type Report struct {
	PoP     string          `json:"pop"`
	Service string          `json:"service"`
	Version int             `json:"version"`           // that it runs; 0: none
	Wanted  int             `json:"wanted"`            // that it is to run
	Failed  string          `json:"failed,omitempty"`  // why it does not run that
	Figures map[int]Figures `json:"figures,omitempty"` // by version
	At      time.Time       `json:"-"`                 // when it came
}

// Figures are what a version's requests came to at a PoP, since the node's start.
type Figures struct {
	Requests uint64 `json:"requests"`
	Errors   uint64 `json:"errors"` // answered 5xx, or cut
}

// Decision is what to do about a rollout; nothing: wait.
type Decision struct {
	Join  []string // PoPs that run it from now on
	Done  bool     // all do
	Abort bool     // none does any more
	Why   string   // in a sentence
}

// Patience is how long a PoP may take to run a version before the rollout goes on without it, and how long
// without any PoP a rollout waits.
const Patience = 30 * time.Second

// Next decides about a rollout that is running. present are the PoPs that can be reached, in the order in which they
// join; reports are the latest of each about the service.
func Next(r *control.Release, present []string, reports map[string]Report, now time.Time) Decision {
	for _, pop := range r.PoPs {
		if p := reports[pop]; p.Wanted == r.Version && p.Failed != "" {
			return Decision{Abort: true, Why: fmt.Sprintf("%s cannot run version %d: %s", pop, r.Version, p.Failed)}
		}
	}
	if why := worse(r, reports); why != "" {
		return Decision{Abort: true, Why: why}
	}
	since := now.Sub(r.StageAt)
	var waiting []string
	for _, pop := range r.PoPs {
		if slices.Contains(present, pop) && reports[pop].Version != r.Version {
			waiting = append(waiting, pop)
		}
	}
	if len(waiting) > 0 && since < Patience || r.Stages > 0 && since < time.Duration(r.HoldMS)*time.Millisecond {
		return Decision{}
	}
	var rest []string
	for _, pop := range present {
		if !slices.Contains(r.PoPs, pop) {
			rest = append(rest, pop)
		}
	}
	if len(rest) == 0 {
		if r.Stages == 0 {
			return Decision{} // nobody is there
		}
		return Decision{Done: true, Why: fmt.Sprintf("%s ran it in %d stages", count(len(r.PoPs)), r.Stages)}
	}
	n := max(1, len(r.PoPs))
	if r.Stages > 0 {
		n = max(2, len(r.PoPs))
	}
	if r.HoldMS == 0 && r.Stages > 0 {
		n = len(rest) // there is nothing to wait for
	}
	join := rest[:min(n, len(rest))]
	return Decision{Join: join, Why: fmt.Sprintf("stage %d: %s", r.Stages+1, strings.Join(join, ", "))}
}

func count(n int) string {
	if n == 1 {
		return "1 PoP"
	}
	return fmt.Sprintf("%d PoPs", n)
}

// A version is stopped if its requests fail more often than those of the version before at the same PoPs. That is a
// one-sided test of two proportions, at a level which, though it is asked every second for as long as a rollout takes, a
// version that is no worse passes nearly always.
const (
	minRequests = 30
	minExcess   = 0.01 // that much more often, or it is not worth a rollback
	level       = 4.0  // standard deviations
)

// worse says why the version is worse than the one before, "" if it is not, or that cannot be told.
func worse(r *control.Release, reports map[string]Report) string {
	var fresh, old Figures
	for _, pop := range r.PoPs {
		f := reports[pop].Figures
		fresh.add(f[r.Version])
		old.add(f[r.Previous])
	}
	if fresh.Requests < minRequests {
		return ""
	}
	before := old
	if r.Previous == 0 || old.Requests < minRequests { // nothing to compare with: it is to answer at all
		before = Figures{Requests: fresh.Requests, Errors: fresh.Requests / 10}
	}
	if excess := fresh.share() - before.share(); excess < minExcess || deviations(fresh, before) < level {
		return ""
	}
	text := fmt.Sprintf("%.1f %% of %d requests failed", 100*fresh.share(), fresh.Requests)
	if r.Previous != 0 && old.Requests >= minRequests {
		text += fmt.Sprintf(", of version %d there it was %.1f %% of %d", r.Previous, 100*old.share(), old.Requests)
	}
	return text
}

func (f *Figures) add(g Figures) {
	f.Requests += g.Requests
	f.Errors += min(g.Errors, g.Requests)
}

func (f Figures) share() float64 { return float64(f.Errors) / float64(max(f.Requests, 1)) }

// deviations returns by how many standard deviations a's share is above b's.
func deviations(a, b Figures) float64 {
	n, m := float64(a.Requests), float64(b.Requests)
	p := (float64(a.Errors) + float64(b.Errors) + 1) / (n + m + 2) // pooled, and never 0 or 1
	return (a.share() - b.share()) / math.Sqrt(p*(1-p)*(1/n+1/m))
}

// Order sorts PoPs as they join a rollout: by chance, the same for each who asks, so that it is not always the same who go first.
func Order(pops []string, seed string) []string {
	pops = slices.Clone(pops)
	slices.SortFunc(pops, func(a, b string) int {
		return cmp.Compare(control.DigestOf([]byte(seed+a)), control.DigestOf([]byte(seed+b)))
	})
	return pops
}
