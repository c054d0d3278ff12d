package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/compute"
	"github.com/wedge-cloud/wedge/node"
)

// greeting is what every hello of the examples answers.
const greeting = "Hello, edge!\n"

// jsDeploy is a first JavaScript app in an engine that has never seen the SDK.
type jsDeploy struct {
	engine *compute.Engine
	hello  *deployed
	took   time.Duration // from its bytes to its first answer
}

// firstJS deploys the hello example in JavaScript to a new engine without a code cache.
func (l *lab) firstJS(ctx context.Context) (*jsDeploy, error) {
	if l.js != nil {
		return l.js, nil
	}
	app, err := l.app(ctx, "examples/hello/js")
	if err != nil {
		return nil, err
	}
	js := &jsDeploy{engine: newEngine(compute.Config{})}
	l.atEnd(js.engine.Close)
	began := time.Now()
	if js.hello, err = deploy(ctx, js.engine, &app.Version, greeting); err != nil {
		return nil, err
	}
	l.atEnd(js.hello.close)
	if _, err := newClient().get(js.hello.subject); err != nil {
		return nil, err
	}
	js.took = time.Since(began)
	l.js = js
	return js, nil
}

// secondDeploy: a further app with the same SDK compiles nothing.
func secondDeploy(ctx context.Context, l *lab) ([]Row, error) {
	const name = "second-deploy"
	second, err := l.app(ctx, "examples/markdown/js")
	if missing(err) {
		return []Row{skipped(name, err.Error())}, nil
	}
	if err != nil {
		return nil, err
	}
	first, err := l.firstJS(ctx)
	if err != nil {
		return nil, err
	}
	var again samples
	shared := true
	for range 20 {
		began := time.Now()
		d, err := deploy(ctx, first.engine, &second.Version, "")
		if err != nil {
			return nil, err
		}
		if _, err := newClient().get(d.subject); err != nil {
			return nil, err
		}
		again = append(again, time.Since(began))
		shared = shared && d.module.Info.Shared
		d.close()
	}
	r := compare(name, time.Millisecond, again, samples{first.took}, "first deploy")
	r.Target = ">= 20"
	r.Note = fmt.Sprintf("load to first answer; shared code: %v", shared)
	return []Row{r}, nil
}

// jsHello: the JavaScript example.
func jsHello(ctx context.Context, l *lab) ([]Row, error) {
	js, err := l.firstJS(ctx)
	if missing(err) {
		return []Row{skipped("js-hello-fresh", err.Error())}, nil
	}
	if err != nil {
		return nil, err
	}
	app, err := l.app(ctx, "examples/hello/js")
	if err != nil {
		return nil, err
	}
	return l.against(ctx, &app.Version, greeting, 3*time.Second, contender{"js-hello-fresh", js.hello.subject, ">= 60"})
}

// goHello: the Go example, started anew and from its snapshot.
func goHello(ctx context.Context, l *lab) ([]Row, error) {
	app, err := l.app(ctx, "examples/hello/go")
	if missing(err) {
		return []Row{skipped("go-hello", err.Error())}, nil
	}
	if err != nil {
		return nil, err
	}
	e := newEngine(compute.Config{CacheDir: node.DefaultCacheDir()})
	defer e.Close()
	fresh, err := deploy(ctx, e, &app.Version, greeting)
	if err != nil {
		return nil, err
	}
	defer fresh.close()
	v := app.Version
	v.Start = wedge.StartSnapshot
	snap, err := deploy(ctx, e, &v, greeting)
	if err != nil {
		return nil, err
	}
	defer snap.close()
	return l.against(ctx, &app.Version, greeting, 4*time.Second,
		contender{"go-hello-fresh", fresh.subject, ">= 8"}, contender{"go-hello-snapshot", snap.subject, ">= 80"})
}

// contender is a subject measured against the obvious way to run the same guest.
type contender struct {
	name string
	*subject
	target string
}

// against measures contenders one request at a time, and with a client for each processor.
func (l *lab) against(ctx context.Context, v *wedge.Version, want string, total time.Duration, c ...contender) (rows []Row, err error) {
	subjects := []*subject{}
	for _, x := range c {
		subjects = append(subjects, x.subject)
	}
	if !l.alone {
		o, err := newObvious(ctx, v, want)
		if err != nil {
			return nil, err
		}
		defer o.close()
		subjects = append(subjects, o.subject)
	}
	procs := runtime.NumCPU()
	one, err := l.inTurns(ctx, total, 1, subjects...)
	many, err2 := l.inTurns(ctx, total, procs, subjects...)
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	if l.alone {
		one, many = append(one, nil), append(many, nil)
	}
	last := len(c) // the obvious way
	for n, x := range c {
		r := compare(x.name, time.Microsecond, answers(one[n]), answers(one[last]), instantiate)
		r.Target, r.Note = x.target, "until the answer is out"
		whole := compare(x.name+"/cycle", time.Microsecond, cycles(one[n]), cycles(one[last]), instantiate)
		whole.Note = "until the sandbox is gone, too"
		busy := compare(x.name+"/busy", time.Microsecond, answers(many[n]), answers(many[last]), instantiate)
		busy.Note = fmt.Sprintf("%d clients at once", procs)
		all := compare(x.name+"/busy-cycle", time.Microsecond, cycles(many[n]), cycles(many[last]), instantiate)
		rows = append(rows, r, whole, busy, all)
	}
	return rows, nil
}
