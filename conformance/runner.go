package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Config says what to run against. Proxy and Origin must be set.
type Config struct {
	Proxy    string       // URL of the proxy under test; its path stands before every path asked for
	Origin   net.Listener // where the proxy forwards to; Run answers there, and closes it
	Target   string       // the field of RFC 9213 that the proxy reads besides CDN-Cache-Control; may be ""
	Parallel int          // cases at a time; 0: 64. Most of a run is waiting for things to expire
	Filter   func(*Case) bool
	Anyway   bool          // run cases also if what they need has failed
	Gap      time.Duration // between two exchanges of a case, for proxies that store after they have answered; 0: 20 ms
	Tries    int           // how often to run a case that fails while the machine is slow; 0: once
}

// Outcome is how a case ended. For level Check, Pass and Fail mean yes and no.
type Outcome string

const (
	Pass Outcome = "pass"
	Fail Outcome = "fail"
	Skip Outcome = "skip" // something it needs has failed
)

// Result is what became of one case.
type Result struct {
	*Case
	Outcome    Outcome       `json:"outcome"`
	Reason     string        `json:"reason,omitempty"`     // why it failed or was skipped
	Transcript string        `json:"transcript,omitempty"` // what was sent and seen, for people
	Took       time.Duration `json:"took"`                 // in JSON, nanoseconds
}

// Run runs the suite. Results are in the order of [Cases]. An error means that there are none:
// the suite is wrong, the proxy cannot be reached, or ctx has ended.
func Run(ctx context.Context, cfg Config) ([]Result, error) {
	defer cfg.Origin.Close()
	proxy, err := url.Parse(strings.TrimRight(cfg.Proxy, "/"))
	if err != nil || proxy.Host == "" || proxy.Scheme != "http" && proxy.Scheme != "https" {
		return nil, fmt.Errorf("run against proxy %q: this is not a URL such as http://127.0.0.1:8080", cfg.Proxy)
	}
	cases, err := Cases(cfg.Target)
	if err != nil {
		return nil, fmt.Errorf("read the suite: %w", err)
	}
	r := &runner{cfg: cfg, client: &client{proxy}, origin: newOrigin()}
	r.vars = neutral().with(map[string]string{"host": proxy.Host, "path": proxy.Path})
	return r.run(ctx, chosen(cases, cfg.Filter))
}

// chosen returns the cases that filter wants and those they need.
func chosen(cases []*Case, filter func(*Case) bool) []*Case {
	if filter == nil {
		return cases
	}
	wanted := map[string]bool{}
	var out []*Case
	for i := len(cases) - 1; i >= 0; i-- { // what is needed stands before
		c := cases[i]
		if !wanted[c.Name] && !filter(c) {
			continue
		}
		for _, name := range c.Needs {
			wanted[name] = true
		}
		out = append([]*Case{c}, out...)
	}
	return out
}

type runner struct {
	cfg    Config
	client *client
	origin *origin
	vars   vars
}

func (r *runner) run(ctx context.Context, cases []*Case) ([]Result, error) {
	conn, err := r.client.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("reach the proxy: %w", err)
	}
	conn.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	var served sync.WaitGroup
	defer served.Wait()
	defer cancel(nil)
	served.Go(func() {
		if err := r.origin.serve(ctx, r.cfg.Origin); err != nil {
			cancel(err)
		}
	})
	results := r.all(ctx, cases)
	return results, context.Cause(ctx)
}

// all runs each case once those that it needs are done, so many at a time. Cases in which the
// origin breaks off come last: a proxy may then think that the origin is ill, and spare it.
func (r *runner) all(ctx context.Context, cases []*Case) []Result {
	parallel := r.cfg.Parallel
	if parallel == 0 {
		parallel = 64
	}
	slots := make(chan struct{}, parallel)
	results := make([]Result, len(cases))
	done := map[string]*pending{}
	var wg, calm sync.WaitGroup
	for i, c := range cases {
		me := &pending{result: &results[i], done: make(chan struct{})}
		done[c.Name] = me
		me.rough = c.breaksOff()
		var needs []*pending
		for _, name := range c.Needs {
			needs = append(needs, done[name])
			me.rough = me.rough || done[name].rough
		}
		if !me.rough {
			calm.Add(1)
		}
		wg.Go(func() {
			defer close(me.done)
			if me.rough {
				calm.Wait()
			} else {
				defer calm.Done()
			}
			reason := await(needs)
			slots <- struct{}{}
			defer func() { <-slots }()
			results[i] = r.one(ctx, c, reason)
		})
	}
	wg.Wait()
	return results
}

type pending struct {
	result *Result
	done   chan struct{}
	rough  bool // it, or what it needs, breaks connections off
}

// await waits for all of needs, and says which of them failed.
func await(needs []*pending) string {
	reason := ""
	for _, n := range needs {
		<-n.done
		if n.result.Outcome != Pass && reason == "" {
			reason = fmt.Sprintf("needs %s, which is a %s", n.result.Name, n.result.Outcome)
		}
	}
	return reason
}

// one runs a case. Lifetimes are seconds, so one that fails says nothing if it took much longer than it is meant to: then it
// may be run again.
func (r *runner) one(ctx context.Context, c *Case, skip string) Result {
	if skip != "" && !r.cfg.Anyway {
		return Result{Case: c, Outcome: Skip, Reason: skip}
	}
	meant := 500 * time.Millisecond
	for i, x := range c.exchanges {
		meant += r.gap(i+1) + x.request.wait + x.answer.delay
	}
	for tries := 1; ; tries++ {
		if res := r.try(ctx, c); res.Outcome == Pass || res.Took < meant || tries >= r.cfg.Tries {
			return res
		}
	}
}

func (r *runner) try(ctx context.Context, c *Case) Result {
	res := Result{Case: c, Outcome: Pass}
	p := newPlay(c, r.vars)
	r.origin.add(p)
	for n := 1; n <= len(c.exchanges); n++ {
		if err := r.exchange(ctx, p, n); err != nil {
			res.Outcome, res.Reason = Fail, err.Error()
			break
		}
	}
	res.Took = time.Since(p.vars.now)
	res.Transcript = p.transcript()
	return res
}

func (r *runner) exchange(ctx context.Context, p *play, n int) error {
	x := &p.c.exchanges[n-1]
	if err := pause(ctx, r.gap(n)+x.request.wait); err != nil {
		return err
	}
	p.begin(n)
	text := p.text(n)
	p.note("%d client sends\n%s", n, indent(text))
	h := heard{n: n}
	resp, err := r.client.do(ctx, x.request.method, text, func() { h.asked, h.answered = p.asked(n) })
	if err != nil {
		p.note("  client: %v\n", err)
		return fmt.Errorf("%s:%d, exchange %d: %w", p.c.File, x.line, n, err)
	}
	h.resp = resp
	p.note("  client got %d\n%s        %q\n", resp.status, dump(resp.fields, "        "), shorten(resp.body.text))
	if x.expect.source == background && len(h.asked) == 0 {
		h.asked = r.later(ctx, p, n)
	}
	return p.judge(h)
}

func (r *runner) gap(n int) time.Duration {
	switch {
	case n == 1:
		return 0
	case r.cfg.Gap > 0:
		return r.cfg.Gap
	}
	return 20 * time.Millisecond
}

// later waits for a request that the proxy makes on its own, for a while.
func (r *runner) later(ctx context.Context, p *play, n int) []*seen {
	for range 60 {
		if asked, _ := p.asked(n); len(asked) > 0 || pause(ctx, 50*time.Millisecond) != nil {
			return asked
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return errors.New("the run was ended")
	}
}

func indent(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return "        " + strings.Join(lines, "\n        ") + "\n"
}
