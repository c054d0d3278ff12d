package rollout

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/control"
)

// named returns PoPs with these names.
func named(names string) (pops []wedge.PoP) {
	for _, n := range strings.Fields(names) {
		pops = append(pops, wedge.PoP{Name: n})
	}
	return pops
}

// TestSpread lets a rollout go where nothing happens.
func TestSpread(t *testing.T) {
	var pops []wedge.PoP
	for i := range 50 {
		pops = append(pops, wedge.PoP{Name: fmt.Sprintf("p%02d", i)})
	}
	now := time.Unix(0, 0)
	for hold, want := range map[int64][]int{1000: {1, 2, 3, 6, 12, 24, 2}, 0: {1, 49}} {
		r := &control.Release{Version: 2, Previous: 1, State: control.Running, Share: 100, Plan: control.Plan{HoldMS: hold}}
		reports := map[string]Report{}
		var stages []int
		for range 200 {
			now = now.Add(100 * time.Millisecond)
			d := Next(r, pops, reports, now)
			if d.Done || d.Abort {
				if d.Abort || len(r.PoPs) != 50 {
					t.Errorf("%+v after %d PoPs", d, len(r.PoPs))
				}
				break
			}
			if len(d.Join) == 0 {
				continue
			}
			stages = append(stages, len(d.Join))
			r.PoPs, r.StageAt = append(r.PoPs, d.Join...), now
			r.Stages++
			for _, p := range d.Join {
				reports[p] = Report{PoP: p, Version: 2, Wanted: 2}
			}
		}
		if !slices.Equal(stages, want) {
			t.Errorf("hold %d: stages of %v, not %v", hold, stages, want)
		}
	}
}

func TestNext(t *testing.T) {
	now := time.Unix(1000, 0)
	base := control.Release{Version: 2, Previous: 1, State: control.Running, Share: 100, Plan: control.Plan{HoldMS: 10_000}, Stages: 1, PoPs: []string{"lhr"}, StageAt: now.Add(-11 * time.Second)}
	figures := func(requests, errors, oldRequests, oldErrors uint64) map[string]Report {
		return map[string]Report{"lhr": {PoP: "lhr", Version: 2, Wanted: 2, Figures: map[int]Figures{2: {Requests: requests, Errors: errors}, 1: {Requests: oldRequests, Errors: oldErrors}}}}
	}
	for _, test := range []struct {
		name    string
		change  func(*control.Release)
		reports map[string]Report
		present string
		want    string // join, wait, done, or words of why it is aborted
	}{
		{"well", nil, figures(1000, 3, 1000, 2), "lhr nyc nrt", "join nyc nrt"},
		{"nobody asks", nil, figures(0, 0, 1000, 2), "lhr nyc nrt", "join nyc nrt"},
		{"too soon", func(r *control.Release) { r.StageAt = now.Add(-time.Second) }, figures(1000, 3, 1000, 2), "lhr nyc nrt", "wait"},
		{"not there yet", nil, map[string]Report{"lhr": {Version: 1, Wanted: 2}}, "lhr nyc", "wait"},
		{"never there", func(r *control.Release) { r.StageAt = now.Add(-time.Minute) }, map[string]Report{"lhr": {Version: 1, Wanted: 2}}, "lhr nyc", "join nyc"},
		{"away", nil, map[string]Report{"lhr": {Version: 1, Wanted: 2}}, "nyc", "join nyc"},
		{"all", nil, figures(10, 0, 10, 0), "lhr", "done"},
		{"first", func(r *control.Release) { r.Stages, r.PoPs = 0, nil }, nil, "lhr nyc", "join lhr"},
		{"nobody", func(r *control.Release) { r.Stages, r.PoPs = 0, nil }, nil, "", "wait"},
		{"cannot run", nil, map[string]Report{"lhr": {Version: 1, Wanted: 2, Failed: "unknown imports"}}, "lhr nyc", "lhr cannot run version 2: unknown imports"},
		{"failed of an earlier release", func(r *control.Release) { r.ID = 5 }, map[string]Report{"lhr": {Version: 1, Wanted: 2, Failed: "x", Release: 4}}, "lhr nyc", "wait"},
		{"failed of this one", func(r *control.Release) { r.ID = 5 }, map[string]Report{"lhr": {Version: 1, Wanted: 2, Failed: "x", Release: 5}}, "lhr nyc", "lhr cannot run version 2: x"},
		{"shadow", func(r *control.Release) { r.Stages, r.PoPs, r.Share, r.Shadow = 0, nil, 0, 5 }, nil, "lhr nyc", "join lhr nyc"},
		{"shadow well", func(r *control.Release) { r.Share, r.Shadow = 0, 5 },
			map[string]Report{"lhr": {Version: 1, Beside: 2, Wanted: 2, Figures: map[int]Figures{2: {Shadowed: 500, Differed: 2}}}}, "lhr", "hold"},
		{"shadow differs", func(r *control.Release) { r.Share, r.Shadow = 0, 5 },
			map[string]Report{"lhr": {Version: 1, Beside: 2, Wanted: 2, Figures: map[int]Figures{2: {Shadowed: 500, Differed: 50, Example: "GET /cart: status 500 instead of 200"}}}}, "lhr",
			"10.0 % of 500 copies of requests were not answered as the version before did, the last of them GET /cart: status 500 instead of 200"},
		{"failed another", nil, map[string]Report{"lhr": {Version: 2, Wanted: 1, Failed: "x"}}, "lhr nyc", "join nyc"},
		{"bad", func(r *control.Release) { r.StageAt = now.Add(-time.Second) }, figures(200, 40, 10_000, 20), "lhr nyc", "20.0 % of 200 requests failed, of version 1 there it was 0.2 % of 10000"},
		{"few", nil, figures(29, 29, 10_000, 20), "lhr nyc", "join nyc"},
		{"a little worse", nil, figures(100_000, 500, 100_000, 0), "lhr nyc", "join nyc"},
		{"chance", nil, figures(100, 3, 10_000, 100), "lhr nyc", "join nyc"},
		{"as bad as before", nil, figures(1000, 300, 1000, 300), "lhr nyc", "join nyc"},
		{"first version broken", func(r *control.Release) { r.Previous = 0 }, figures(100, 90, 0, 0), "lhr nyc", "90.0 % of 100 requests failed"},
		{"lies", nil, figures(100, 1<<60, 1000, 1<<60), "lhr nyc", "join nyc"},
	} {
		r := base
		if test.change != nil {
			test.change(&r)
		}
		d := Next(&r, named(test.present), test.reports, now)
		got := "wait"
		switch {
		case d.Abort:
			got = d.Why
		case d.Done:
			got = "done"
		case d.Hold:
			got = "hold"
		case len(d.Join) > 0:
			got = "join " + strings.Join(d.Join, " ")
		}
		if got != test.want {
			t.Errorf("%s: %s, not %s", test.name, got, test.want)
		}
	}
}

// TestPlans: releases go as far as their plans say, and for whom.
func TestPlans(t *testing.T) {
	fleet := []wedge.PoP{
		{Name: "fra", Tier: wedge.TierMetro, Lat: 50.1, Lon: 8.7, Jurisdictions: []string{"eu"}},
		{Name: "ber", Tier: wedge.TierFar, Lat: 52.5, Lon: 13.4, Jurisdictions: []string{"eu"}},
		{Name: "nyc", Tier: wedge.TierFar, Lat: 40.7, Lon: -74, Jurisdictions: []string{"us"}},
	}
	for _, test := range []struct {
		name  string
		plan  control.Plan
		steps string
	}{
		{"all", control.Plan{}, "+fra | +ber nyc | done"},
		{"shares", control.Plan{HoldMS: 1000, Shares: []float64{1, 25}}, "+fra ber nyc 1% | 25% | 100% | done"},
		{"a tier", control.Plan{Where: []string{"tier=far"}}, "+ber | +nyc | hold | promote | +fra | done"},
		{"a tier within a border", control.Plan{Where: []string{"tier=far", "jurisdiction=eu"}}, "+ber | hold | promote | +fra nyc | done"},
		{"near", control.Plan{Where: []string{"near=fra:600", "near=nyc:1"}}, "+fra | +ber nyc | hold | promote | done"},
		{"some requests", control.Plan{Match: "header:X-Canary=1"}, "+fra ber nyc | hold | promote | done"},
		{"some requests, and shares", control.Plan{Match: "cookie:beta", Shares: []float64{50}}, "+fra ber nyc 50% | 100% | done"},
		{"shares at some PoPs", control.Plan{Where: []string{"pop=nyc"}, Shares: []float64{50}}, "+nyc 50% | 100% | hold | promote | +fra ber | done"},
	} {
		s := control.NewState()
		must := func(e control.Event) {
			t.Helper()
			if err := s.Apply(e); err != nil {
				t.Fatalf("%s: %v", test.name, err)
			}
		}
		for v := 1; v <= 2; v++ {
			a := &control.Artifact{Parts: []control.Part{{Name: "version", Size: int64(v), Chunks: []control.Chunk{{Digest: control.DigestOf([]byte{byte(v)}), Size: v}}}}}
			ev, err := s.NewVersion(control.Draft{Service: "shop", Artifact: a})
			if err != nil {
				t.Fatal(err)
			}
			must(ev)
		}
		must(control.Event{Kind: control.EventRelease, Service: "shop", Version: 1, Plan: &control.Plan{}})
		must(control.Event{Kind: control.EventDone, Service: "shop", Release: 1})
		ev, err := s.NewRelease("shop", 2, test.plan)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		must(ev)
		var steps []string
		now := time.Unix(1000, 0)
		reports := map[string]Report{}
		for range 30 {
			now = now.Add(2 * time.Second)
			r := s.Services["shop"].Rolling()
			if r == nil {
				break
			}
			for _, p := range fleet {
				rep := Report{PoP: p.Name}
				v, beside, of := s.Services["shop"].At(p.Name)
				if rep.Version = v.Number; beside != nil {
					rep.Beside, rep.Share = beside.Number, of.Share
				}
				reports[p.Name] = rep
			}
			d, e := Next(r, fleet, reports, now), control.Event{Service: "shop", Release: r.ID, At: now}
			switch e.PoPs, e.Share, e.Why = d.Join, d.Share, d.Why; {
			case d.Abort:
				t.Fatalf("%s: %s", test.name, d.Why)
			case d.Done:
				e.Kind = control.EventDone
				steps = append(steps, "done")
			case d.Hold:
				e.Kind = control.EventHold
				steps = append(steps, "hold")
			case len(d.Join) > 0 || d.Share > 0:
				e.Kind = control.EventStage
				step := ""
				if len(d.Join) > 0 {
					step = "+" + strings.Join(d.Join, " ")
				}
				if d.Share > 0 {
					step += fmt.Sprintf(" %v%%", d.Share)
				}
				steps = append(steps, strings.TrimSpace(step))
			case r.State == control.Holding:
				if e, err = s.NewPromotion("shop"); err != nil {
					t.Fatal(err)
				}
				e.At = now
				steps = append(steps, "promote")
			default:
				continue
			}
			must(e)
		}
		if got := strings.Join(steps, " | "); got != test.steps {
			t.Errorf("%s: %s, not %s", test.name, got, test.steps)
		}
	}
}

// hist counts durations.
func hist(counts map[time.Duration]int) (h Histogram) {
	for d, n := range counts {
		for range n {
			h.Add(d)
		}
	}
	return h
}

// TestGates: a version that is slower, dearer or traps is stopped; one that is as good as the one before hardly ever.
func TestGates(t *testing.T) {
	ms := time.Millisecond
	old := Figures{Requests: 1000, Runs: 1000, Latency: hist(map[time.Duration]int{5 * ms: 985, 40 * ms: 15}), CPU: hist(map[time.Duration]int{2 * ms: 1000})}
	for _, test := range []struct {
		name    string
		fresh   Figures
		ungated []string
		want    string
	}{
		{"slower", Figures{Requests: 300, Latency: hist(map[time.Duration]int{5 * ms: 260, 400 * ms: 40})}, nil, "13.3 % of 300 requests took longer than 51.2ms, of version 1 there it was 0.0 % of 1000"},
		{"slower, which does not count", Figures{Requests: 300, Latency: hist(map[time.Duration]int{5 * ms: 260, 400 * ms: 40})}, []string{"latency"}, ""},
		{"a few slow ones at first", Figures{Requests: 300, Latency: hist(map[time.Duration]int{5 * ms: 295, 400 * ms: 5})}, nil, ""},
		{"all a little slower", Figures{Requests: 300, Latency: hist(map[time.Duration]int{9 * ms: 300})}, nil, ""},
		{"dearer", Figures{Requests: 100, Runs: 100, CPU: hist(map[time.Duration]int{2 * ms: 40, 5 * ms: 60})}, nil, "60.0 % of 100 runs used more than 2.26ms of processor time, of version 1 there it was 0.0 % of 1000"},
		{"traps", Figures{Requests: 500, Runs: 500, Traps: 20}, nil, "4.0 % of 500 runs of the guest were ended, of version 1 there it was 0.0 % of 1000"},
		{"the same", old, nil, ""},
		{"nothing yet", Figures{}, nil, ""},
		{"lies", Figures{Requests: 1 << 60, Runs: 1 << 60, Latency: slices.Repeat(Histogram{1 << 62}, 200), CPU: Histogram{1 << 63}}, nil, "98.0 % of 54975581388800 requests"},
	} {
		r := &control.Release{Version: 2, Previous: 1, PoPs: []string{"lhr"}, Plan: control.Plan{Ungated: test.ungated}}
		got := worse(r, map[string]Report{"lhr": {Figures: map[int]Figures{2: test.fresh, 1: old}}})
		if got != test.want && !(test.name == "lies" && strings.Contains(got, "took longer")) {
			t.Errorf("%s: %q, not %q", test.name, got, test.want)
		}
	}
}

// TestChance: a version that is no worse is hardly ever stopped, though it is looked at after each few requests; one that is, soon.
func TestChance(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	draw := func(f *Figures, n int, fails, slow float64) {
		for range n {
			f.Requests++
			f.Runs++
			if rng.Float64() < fails {
				f.Errors++
			}
			d := time.Duration(rng.ExpFloat64() * float64(5*time.Millisecond))
			if rng.Float64() < slow {
				d += time.Second
			}
			f.Latency.Add(d)
			f.CPU.Add(d / 10)
		}
	}
	stopped := func(fails, slow float64) (n int, after uint64) {
		for range 100 {
			var fresh, old Figures
			draw(&old, 2000, 0.02, 0.002)
			for range 200 {
				draw(&fresh, 10, fails, slow)
				draw(&old, 30, 0.02, 0.002)
				if worse(&control.Release{Version: 2, Previous: 1, PoPs: []string{"lhr"}}, map[string]Report{"lhr": {Figures: map[int]Figures{2: fresh, 1: old}}}) != "" {
					n++
					after += fresh.Requests
					break
				}
			}
		}
		return n, after / max(1, uint64(n))
	}
	for _, test := range []struct {
		fails, slow float64
		least, most int
	}{{0.02, 0.002, 0, 1}, {0.10, 0.002, 99, 100}, {0.02, 0.10, 99, 100}} {
		n, after := stopped(test.fails, test.slow)
		t.Logf("%v %% fail, %v %% are slow: %d of 100 stopped, after %d requests", 100*test.fails, 100*test.slow, n, after)
		if n < test.least || n > test.most {
			t.Errorf("stopped %d, not from %d to %d", n, test.least, test.most)
		}
	}
}

// TestHistogram: durations are counted below the limit of their bucket and above that of the one before.
func TestHistogram(t *testing.T) {
	for d := time.Duration(1); d < time.Hour; d = d*21/20 + 1 {
		var h Histogram
		h.Add(d)
		b := len(h) - 1
		if b < buckets-1 && d >= limitOf(b) || b > 0 && d < limitOf(b-1) {
			t.Fatalf("%v is in the bucket from %v to %v", d, limitOf(b-1), limitOf(b))
		}
	}
}

// TestNobodyNotices: a request is slow when it takes longer than nearly all of the old version's, and long enough for somebody to notice.
func TestNobodyNotices(t *testing.T) {
	quick, slow := Figures{Latency: hist(map[time.Duration]int{100 * time.Microsecond: 1000})}, Figures{Latency: hist(map[time.Duration]int{50 * time.Millisecond: 1000})}
	if d := limitOf(quick.slow()); d < unnoticed || d > 2*unnoticed {
		t.Errorf("beside requests of 100 µs one is slow after %v", d)
	}
	if d := limitOf(slow.slow()); d < 50*time.Millisecond || d > 100*time.Millisecond {
		t.Errorf("beside requests of 50 ms one is slow after %v", d)
	}
}
