package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/wedge-cloud/wedge"
)

// rival is a server measured end to end.
type rival struct {
	name string
	*process
	rates  []float64 // requests a second, each round
	load   load
	cpu    time.Duration
	missed string // why it is not there
}

// rivals starts the servers of the rows rps and steady: workerd first.
func (l *lab) rivals(ctx context.Context, names ...string) (all []*rival, stop func(), err error) {
	stop = func() {
		for _, r := range all {
			if r.process != nil {
				r.end()
			}
		}
	}
	for _, name := range names {
		r := &rival{name: name}
		all = append(all, r)
		r.process, err = l.startRival(ctx, name)
		if missing(err) {
			r.missed, err = err.Error(), nil
		}
		if err != nil {
			stop()
			return nil, nil, fmt.Errorf("start %s: %w", name, err)
		}
	}
	return all, stop, nil
}

func (l *lab) startRival(ctx context.Context, name string) (*process, error) {
	dirs := map[string]string{"js": "examples/hello/js", "go": "examples/hello/go", "go-snapshot": "examples/hello/go"}
	if name == "workerd" {
		return l.startWorkerd(ctx)
	}
	task := nodeTask{Dir: filepath.Join(l.root, dirs[name])}
	if name == "go-snapshot" {
		task.Start = wedge.StartSnapshot
	}
	if _, err := l.app(ctx, dirs[name]); err != nil {
		return nil, err
	}
	return l.startNode(ctx, name, task)
}

// round sends load to a rival and notes what came of it.
func (r *rival) round(ctx context.Context, task loadTask, note bool) error {
	task.Addr, task.Want = r.addr, greeting
	before, err := cpuTime(r.cmd.Process.Pid)
	if err != nil {
		return err
	}
	got, err := generate(ctx, task)
	if err != nil {
		return err
	}
	after, err := cpuTime(r.cmd.Process.Pid)
	if err != nil {
		return err
	}
	if got.Failed > 0 {
		return fmt.Errorf("%s: %d of %d requests failed: %s", r.name, got.Failed, got.Requests, got.Why)
	}
	if note {
		r.rates = append(r.rates, float64(got.Requests)/got.Seconds)
		r.load.join(got)
		r.cpu += after - before
	}
	return nil
}

// rounds gives every rival its turns, the first a warm-up.
func rounds(ctx context.Context, all []*rival, n int, task loadTask) error {
	for i := range n + 1 {
		for _, r := range all {
			if r.missed != "" {
				continue
			}
			t := task
			if i == 0 {
				t.Seconds = 1
			}
			if err := r.round(ctx, t, i > 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// throughput: as many requests as will go, over loopback.
func throughput(ctx context.Context, l *lab) (rows []Row, err error) {
	all, stop, err := l.rivals(ctx, "workerd", "js", "go", "go-snapshot")
	if err != nil {
		return nil, err
	}
	defer stop()
	if err := rounds(ctx, all, 4, loadTask{Connections: 32, Seconds: 2}); err != nil {
		return nil, err
	}
	for _, r := range all[1:] {
		rows = append(rows, rateRows("rps-"+r.name, r, all[0])...)
	}
	return rows, nil
}

func rateRows(name string, ours, theirs *rival) []Row {
	for _, r := range []*rival{ours, theirs} {
		if r.missed != "" {
			return []Row{skipped(name, r.missed)}
		}
	}
	rate := Row{Name: name, Unit: "req/s", Against: theirs.name, Target: "> 1", Note: "median and worst round; ratio: Wedge / workerd"}
	rate.P50, rate.P99 = middle(ours.rates), slices.Min(ours.rates)
	rate.AgainstP50, rate.AgainstP99 = middle(theirs.rates), slices.Min(theirs.rates)
	rate.Ratio = rate.P50 / rate.AgainstP50
	cpu := Row{Name: name + "/cpu", P50: ours.cpuEach(), Unit: "us", Against: theirs.name, AgainstP50: theirs.cpuEach(), Note: "processor time of the server for each request"}
	cpu.Ratio = cpu.AgainstP50 / cpu.P50
	return []Row{rate, latencyRow(name+"/latency", ours, theirs), cpu}
}

func latencyRow(name string, ours, theirs *rival) Row {
	in := func(r *rival, p float64) float64 {
		return float64(r.load.Latency.percentile(p)) / float64(time.Microsecond)
	}
	r := Row{Name: name, P50: in(ours, .5), P99: in(ours, .99), Unit: "us", Against: theirs.name, AgainstP50: in(theirs, .5), AgainstP99: in(theirs, .99)}
	r.Ratio = r.AgainstP50 / r.P50
	return r
}

func (r *rival) cpuEach() float64 {
	return float64(r.cpu) / float64(time.Microsecond) / float64(r.load.Requests)
}

func middle(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// steadyRate is the load of the row steady-p99, in requests a second: what the machine bears easily.
const steadyRate = 1000

// steady: requests at fixed times, and how much longer than most the slowest take.
func steady(ctx context.Context, l *lab) ([]Row, error) {
	const name = "steady-p99"
	all, stop, err := l.rivals(ctx, "workerd", "js")
	if err != nil {
		return nil, err
	}
	defer stop()
	if err := rounds(ctx, all, 4, loadTask{Connections: 64, Seconds: 3, Rate: steadyRate}); err != nil {
		return nil, err
	}
	workerd, js := all[0], all[1]
	if js.missed != "" || workerd.missed != "" {
		return []Row{skipped(name, js.missed+workerd.missed)}, nil
	}
	r := latencyRow(name, js, workerd)
	r.Ratio, r.Target = r.P99/r.P50, "< 10"
	r.Note = fmt.Sprintf("%d req/s at fixed times, from when due; ratio: p99 / p50 (workerd %.1f)", steadyRate, r.AgainstP99/r.AgainstP50)
	return []Row{r}, nil
}
