package main

import (
	"encoding/json"
	"math"
	"slices"
	"time"
)

// samples are durations of one thing done many times.
type samples []time.Duration

// percentile returns the sample that a share p, 0 to 1, of all do not pass; 0 if there is none.
func (s samples) percentile(p float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	s = slices.Clone(s)
	slices.Sort(s)
	return s[min(len(s)-1, int(float64(len(s))*p))]
}

// compare makes a row of Wedge's samples and those of the alternative, in the given unit.
func compare(name string, unit time.Duration, ours, theirs samples, against string) Row {
	in := func(s samples, p float64) float64 { return float64(s.percentile(p)) / float64(unit) }
	r := Row{Name: name, P50: in(ours, .5), P99: in(ours, .99), Unit: unitName(unit),
		Against: against, AgainstP50: in(theirs, .5), AgainstP99: in(theirs, .99)}
	if r.P50 > 0 {
		r.Ratio = r.AgainstP50 / r.P50
	}
	return r
}

func unitName(d time.Duration) string {
	switch d {
	case time.Microsecond:
		return "us"
	case time.Millisecond:
		return "ms"
	}
	return "s"
}

// histogram counts durations in buckets that are 1 % wide: small enough to pass from process to
// process, whatever the number of requests.
type histogram map[int]int

const bucketWidth = 1.01

func (h histogram) add(d time.Duration) {
	h[int(math.Log(float64(max(d, 1)))/math.Log(bucketWidth))]++
}

func (h histogram) merge(other histogram) {
	for b, n := range other {
		h[b] += n
	}
}

func (h histogram) count() (n int) {
	for _, c := range h {
		n += c
	}
	return n
}

func (h histogram) percentile(p float64) time.Duration {
	buckets := make([]int, 0, len(h))
	for b := range h {
		buckets = append(buckets, b)
	}
	slices.Sort(buckets)
	left := int(float64(h.count()) * p)
	for _, b := range buckets {
		if left -= h[b]; left < 0 {
			return time.Duration(math.Pow(bucketWidth, float64(b)+.5))
		}
	}
	return 0
}

// load is what a load generator reports.
type load struct {
	Requests int
	Failed   int // no answer, or not the expected one
	Why      string
	Seconds  float64
	Latency  histogram
}

func (l *load) join(other load) {
	l.Requests += other.Requests
	l.Failed += other.Failed
	l.Why = max(l.Why, other.Why)
	l.Seconds = max(l.Seconds, other.Seconds)
	if l.Latency == nil {
		l.Latency = histogram{}
	}
	l.Latency.merge(other.Latency)
}

func (l load) String() string {
	b, _ := json.Marshal(l)
	return string(b)
}
