package rollout

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge/control"
)

// TestSpread lets a rollout go where nothing happens.
func TestSpread(t *testing.T) {
	var pops []string
	for i := range 50 {
		pops = append(pops, fmt.Sprintf("p%02d", i))
	}
	now := time.Unix(0, 0)
	for hold, want := range map[int64][]int{1000: {1, 2, 3, 6, 12, 24, 2}, 0: {1, 49}} {
		r := &control.Release{Version: 2, Previous: 1, State: control.Running, HoldMS: hold}
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
	base := control.Release{Version: 2, Previous: 1, State: control.Running, HoldMS: 10_000, Stages: 1, PoPs: []string{"lhr"}, StageAt: now.Add(-11 * time.Second)}
	figures := func(requests, errors, oldRequests, oldErrors uint64) map[string]Report {
		return map[string]Report{"lhr": {PoP: "lhr", Version: 2, Wanted: 2, Figures: map[int]Figures{2: {requests, errors}, 1: {oldRequests, oldErrors}}}}
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
		d := Next(&r, strings.Fields(test.present), test.reports, now)
		got := "wait"
		switch {
		case d.Abort:
			got = d.Why
		case d.Done:
			got = "done"
		case len(d.Join) > 0:
			got = "join " + strings.Join(d.Join, " ")
		}
		if got != test.want {
			t.Errorf("%s: %s, not %s", test.name, got, test.want)
		}
	}
}
