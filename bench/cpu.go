package main

import (
	"context"
	"fmt"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/compute"
	"github.com/wedge-cloud/wedge/compute/hostcall"
	"github.com/wedge-cloud/wedge/node"
)

// cpuBound: what interrupt checks cost a guest that only computes.
func cpuBound(ctx context.Context, l *lab) (rows []Row, err error) {
	app, err := l.app(ctx, "bench/testdata/cpu")
	if missing(err) {
		return []Row{skipped("cpu-bound", err.Error())}, nil
	}
	if err != nil {
		return nil, err
	}
	v := &app.Version
	v.Limits = wedge.Limits{CPU: time.Minute, Memory: 512 << 20}
	checked, err := newWorker(ctx, v, compute.Config{})
	if err != nil {
		return nil, err
	}
	defer checked.close()
	bare, err := newWorker(ctx, v, compute.Config{NoInterruptChecks: true})
	if err != nil {
		return nil, err
	}
	defer bare.close()
	for _, task := range []string{"fib", "sort", "json", "sha256", "bytes"} {
		var with, without samples
		for n := range 10 {
			a, err := checked.do(ctx, task)
			b, err2 := bare.do(ctx, task)
			if err != nil || err2 != nil {
				return nil, fmt.Errorf("%s: %v, %v", task, err, err2)
			}
			if n > 1 { // the first two warm up
				with, without = append(with, a), append(without, b)
			}
		}
		r := compare("cpu-bound/"+task, time.Millisecond, with, without, "no checks")
		r.Ratio = r.P50 / r.AgainstP50
		r.Target, r.Note = "<= 1.15", "ratio: with checks / without"
		rows = append(rows, r)
	}
	return rows, nil
}

// worker runs a plain WASI program with arguments.
type worker struct {
	engine  *compute.Engine
	module  *compute.Module
	handler *hostcall.Handler
}

func newWorker(ctx context.Context, v *wedge.Version, cfg compute.Config) (*worker, error) {
	cfg.CacheDir = node.DefaultCacheDir()
	w := &worker{engine: newEngine(cfg), handler: hostcall.New(hostcall.Config{Host: newHost(v)})}
	var err error
	w.module, err = w.engine.Load(ctx, v.Guest, compute.Options{Name: v.Service, Limits: v.Limits})
	return w, err
}

// do runs the program once and returns how long that took.
func (w *worker) do(ctx context.Context, task string) (time.Duration, error) {
	sb := w.handler.Template()
	sb.Args = []string{"cpu", task}
	start := time.Now()
	err := w.module.Run(ctx, sb)
	return time.Since(start), err
}

func (w *worker) close() {
	w.handler.Close()
	w.module.Close()
	w.engine.Close()
}
