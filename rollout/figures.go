package rollout

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/wedge-cloud/wedge/control"
)

// Figures are what a version's requests came to at a PoP, since the node's start.
type Figures struct {
	Requests uint64 `json:"requests"`
	Errors   uint64 `json:"errors"` // answered 5xx, or cut
	Runs     uint64 `json:"runs,omitempty"`
	Traps    uint64 `json:"traps,omitempty"` // runs of the guest that it did not end itself: traps, limits

	Shadowed uint64 `json:"shadowed,omitempty"` // copies of requests that it has answered to nobody
	Differed uint64 `json:"differed,omitempty"` // of these, where it did not do as the version before
	Example  string `json:"example,omitempty"`  // how, the last time

	Latency Histogram `json:"latency,omitempty"` // of requests, until the response's end
	CPU     Histogram `json:"cpu,omitempty"`     // of runs
}

// Histogram counts durations. Two of its buckets are a doubling.
type Histogram []uint64

const (
	buckets = 50
	finest  = 50 * time.Microsecond // what the first bucket has is shorter
)

// limitOf returns what durations in a bucket are shorter than.
func limitOf(bucket int) time.Duration {
	d := finest << (bucket / 2)
	if bucket%2 == 1 {
		d = d * 181 / 128 // the root of 2
	}
	return d
}

// Add counts a duration.
func (h *Histogram) Add(d time.Duration) {
	b := 0
	if d >= finest {
		b = 2*bits.Len64(uint64(d/finest)) - 1
		if d < limitOf(b-1) {
			b--
		} else if d >= limitOf(b) {
			b++
		}
	}
	b = min(b, buckets-1)
	for len(*h) <= b {
		*h = append(*h, 0)
	}
	(*h)[b]++
}

// merge adds another's counts. What a PoP says is bounded: it may be anybody's.
func (h *Histogram) merge(g Histogram) {
	for i, n := range g[:min(len(g), buckets)] {
		if i == len(*h) {
			*h = append(*h, 0)
		}
		(*h)[i] += min(n, 1<<40)
	}
}

func (h Histogram) total() (n uint64) {
	for _, c := range h {
		n += c
	}
	return n
}

// above returns how many are in buckets after one.
func (h Histogram) above(bucket int) uint64 { return h[min(bucket+1, len(h)):].total() }

// below returns the first bucket up to whose end at least a share of all is.
func (h Histogram) below(share float64) (bucket int) {
	sum, all := uint64(0), h.total()
	for i, n := range h {
		if sum += n; float64(sum) >= share*float64(all) {
			return i
		}
	}
	return len(h)
}

// Clone returns a copy.
func (f *Figures) Clone() Figures {
	g := *f
	g.Latency, g.CPU = slices.Clone(f.Latency), slices.Clone(f.CPU)
	return g
}

func (f *Figures) add(g Figures) {
	f.Requests += min(g.Requests, 1<<40)
	f.Errors += min(g.Errors, g.Requests, 1<<40)
	f.Runs += min(g.Runs, 1<<40)
	f.Traps += min(g.Traps, g.Runs, 1<<40)
	f.Shadowed += min(g.Shadowed, 1<<40)
	f.Differed += min(g.Differed, g.Shadowed, 1<<40)
	if g.Example != "" {
		f.Example = g.Example[:min(len(g.Example), maxExample)]
	}
	f.Latency.merge(g.Latency)
	f.CPU.merge(g.CPU)
}

// sample is how many of some were bad.
type sample struct{ bad, all uint64 }

func (s sample) share() float64 { return float64(s.bad) / float64(max(s.all, 1)) }

// A version is stopped if it does worse by one of the gates than the version before at the same PoPs. Each is the
// same question, whether a share of bad ones is larger: of requests that failed, of runs that trapped, of requests that took longer than
// all but one in a hundred of the old version's, of runs that used more processor time than nine in ten of them. That is a one-sided
// test of two proportions, at a level which, though it is asked every second for as long as a rollout takes, a version
// that is no worse passes nearly always.
const (
	minRequests = 30
	level       = 4.0 // standard deviations
)

// gate is one comparison.
type gate struct {
	name   string
	excess float64                                     // that much more, or it is not worth a rollback
	count  func(fresh, old *Figures) (bad, was sample) // was.all is 0 if there is nothing to compare with
	text   func(share float64, all uint64, old *Figures) string
}

const (
	slowest = 0.99 // of the old version's requests were faster
	dearest = 0.90 // of its runs used less
)

// gates are in the order of control.Gates.
var gates = []gate{
	{"failures", 0.01, func(fresh, old *Figures) (bad, was sample) {
		return sample{fresh.Errors, fresh.Requests}, sample{old.Errors, old.Requests}
	}, func(share float64, all uint64, _ *Figures) string {
		return fmt.Sprintf("%.1f %% of %d requests failed", 100*share, all)
	}},
	{"traps", 0.005, func(fresh, old *Figures) (bad, was sample) {
		return sample{fresh.Traps, fresh.Runs}, sample{old.Traps, old.Runs}
	}, func(share float64, all uint64, _ *Figures) string {
		return fmt.Sprintf("%.1f %% of %d runs of the guest were ended", 100*share, all)
	}},
	{"latency", 0.03, func(fresh, old *Figures) (bad, was sample) {
		return slower(fresh.Latency, old.Latency, old.slow())
	}, func(share float64, all uint64, old *Figures) string {
		return fmt.Sprintf("%.1f %% of %d requests took longer than %v", 100*share, all, limitOf(old.slow()).Round(10*time.Microsecond))
	}},
	{"cpu", 0.2, func(fresh, old *Figures) (bad, was sample) {
		return slower(fresh.CPU, old.CPU, old.CPU.below(dearest))
	},
		func(share float64, all uint64, old *Figures) string {
			return fmt.Sprintf("%.1f %% of %d runs used more than %v of processor time", 100*share, all, limitOf(old.CPU.below(dearest)).Round(10*time.Microsecond))
		}},
	// That one in a hundred differs is taken for chance: two requests at the same time may see each other's writes, and guests measure time.
	{"shadow", 0.01, func(fresh, _ *Figures) (bad, was sample) {
		return sample{fresh.Differed, fresh.Shadowed}, sample{fresh.Shadowed / 100, fresh.Shadowed}
	}, func(share float64, all uint64, _ *Figures) string {
		return fmt.Sprintf("%.1f %% of %d copies of requests were not answered as the version before did", 100*share, all)
	}},
}

// maxExample bounds what a PoP may say of a difference, in bytes.
const maxExample = 200

// unnoticed is how long a request may take that nobody calls slow. Files from memory take a tenth of a millisecond, and much longer at all versions while
// the machine is busy.
const unnoticed = 5 * time.Millisecond

// slow returns the bucket above which requests are slow, by this version's.
func (f *Figures) slow() int {
	var h Histogram
	h.Add(unnoticed)
	return max(f.Latency.below(slowest), len(h)-1)
}

// slower counts what is above a bucket.
func slower(fresh, old Histogram, b int) (bad, was sample) {
	if old.total() < minRequests {
		return bad, was
	}
	return sample{fresh.above(b), fresh.total()}, sample{old.above(b), old.total()}
}

// worse says why the version is worse than the one before, "" if it is not, or that cannot be told.
func worse(r *control.Release, reports map[string]Report) string {
	var fresh, old Figures
	for _, pop := range r.PoPs {
		f := reports[pop].Figures
		fresh.add(f[r.Version])
		old.add(f[r.Previous])
	}
	for _, g := range gates {
		if slices.Contains(r.Ungated, g.name) {
			continue
		}
		bad, was := g.count(&fresh, &old)
		if r.Previous == 0 || was.all < minRequests { // nothing to compare with
			if was = (sample{bad.all / 10, bad.all}); g.name != "failures" && g.name != "traps" {
				continue
			}
		}
		if bad.all < minRequests || bad.share()-was.share() < g.excess || deviations(bad, was) < level {
			continue
		}
		text := g.text(bad.share(), bad.all, &old)
		if g.name == "shadow" {
			text += ", the last of them " + fresh.Example
		} else if r.Previous != 0 && was != (sample{bad.all / 10, bad.all}) {
			text += fmt.Sprintf(", of version %d there it was %.1f %% of %d", r.Previous, 100*was.share(), was.all)
		}
		return text
	}
	return ""
}

// deviations returns by how many standard deviations a's share is above b's: the root of the likelihood ratio's statistic, which
// keeps what it promises also where few of many are bad, as the usual quotient does not.
func deviations(a, b sample) float64 {
	if a.share() <= b.share() {
		return 0
	}
	both := sample{a.bad + b.bad, a.all + b.all}.share()
	return math.Sqrt(2 * (a.surprise(both) + b.surprise(both)))
}

// surprise is by how much likelier a sample is by its own share than by another, as a logarithm.
func (s sample) surprise(share float64) (sum float64) {
	for _, part := range []struct {
		n          uint64
		own, other float64
	}{{s.bad, s.share(), share}, {s.all - s.bad, 1 - s.share(), 1 - share}} {
		if part.n > 0 {
			sum += float64(part.n) * math.Log(part.own/part.other)
		}
	}
	return sum
}
