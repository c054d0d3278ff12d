package node

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/compute"
	"github.com/wedge-cloud/wedge/compute/hostcall"
	"github.com/wedge-cloud/wedge/front"
	"github.com/wedge-cloud/wedge/manifest"
	"github.com/wedge-cloud/wedge/trace"
)

// versionHandler answers a version's requests: a hostcall.Handler or hostcall.CGI with its guest, or a cdn without.
type versionHandler interface {
	http.Handler
	Wait(context.Context) error
	Close()
}

// deployment is a version made ready to serve.
type deployment struct {
	app     *manifest.App
	version *wedge.Version
	module  *compute.Module // nil: the version has no guest
	handler versionHandler
}

// deploy loads the app, makes it ready and swaps it in. The version that served until now
// goes on until its last request has ended. On an error it simply goes on.
func (n *Node) deploy(ctx context.Context) error {
	app, err := n.cfg.Load(ctx)
	if err != nil {
		return err
	}
	app.Version.Number = n.number + 1 // before prepare: guests are told it
	d, err := n.prepare(ctx, app)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.forgetOrigins(d.version); err != nil {
		d.discard()
		return err
	}
	n.number++
	table, err := front.NewTable(n.number, n.routes(d))
	if err != nil {
		d.discard()
		return err
	}
	n.fetch.Watch(d.version.Backends)
	old := n.current
	n.current = d
	ended := n.front.Swap(table)
	if old != nil {
		n.retired.Go(func() {
			<-ended
			ctx, cancel := context.WithTimeout(context.Background(), n.cfg.DrainTimeout)
			defer cancel()
			old.retire(ctx)
		})
	}
	return nil
}

// routes sends the version's hosts to it, and with none given every host.
func (n *Node) routes(d *deployment) map[string]front.Route {
	handler := &purger{Handler: d.handler, version: d.version, purge: n.Purge, log: n.console.purged}
	r := front.Route{Service: d.version.Service, Version: d.version.Number, Handler: handler}
	if c, ok := d.handler.(*cdn); ok && plainHits(d.version) {
		r.Hit = c.hit
	}
	hosts := d.version.Hosts
	if len(hosts) == 0 {
		hosts = []string{"*"}
	}
	table := map[string]front.Route{}
	for _, h := range hosts {
		table[h] = r
	}
	return table
}

// prepare makes an app ready to serve.
func (n *Node) prepare(ctx context.Context, app *manifest.App) (*deployment, error) {
	if v := &app.Version; v.Guest == nil {
		if len(v.Rules) == 0 {
			v.Rules = []wedge.Rule{{Backends: []wedge.Share{{Backend: v.Backends[0].Name}}}}
		}
		return &deployment{app: app, version: &app.Version, handler: newCDN(v, n.cache, &balancer{health: n.fetch.Health}, n.cfg.Log)}, nil
	}
	return n.prepareGuest(ctx, app)
}

// prepareGuest compiles the guest, unless some version brought the same code, and binds its host.
func (n *Node) prepareGuest(ctx context.Context, app *manifest.App) (*deployment, error) {
	d := &deployment{app: app, version: &app.Version}
	v := d.version
	host := n.host(v)
	cfg := hostcall.Config{
		Host:    host,
		Run:     func(ctx context.Context, sb *compute.Sandbox) error { return n.runGuest(ctx, d, sb) },
		OnError: n.console.guestError,
	}
	if n.cfg.Trace {
		cfg.Observer = func(sb *compute.Sandbox) compute.Observer {
			return compute.Tracer{Trace: &trace.Trace{ID: sb.TraceID, Service: v.Service, Version: v.Number, Start: time.Now()}}
		}
	}
	h := hostcall.New(cfg)
	done := n.console.progress("compiling " + v.Service)
	m, err := n.engine.Load(ctx, v.Guest, compute.Options{
		Name: v.Service, Limits: v.Limits, Start: v.Start, Concurrency: v.Concurrency, Template: h.Template,
	})
	done()
	if err != nil {
		h.Close()
		return nil, err
	}
	d.module, d.handler = m, h
	if m.Info.CGI && !n.printing {
		d.handler = hostcall.NewCGI(cfg)
	}
	for _, stub := range m.Info.Stubs {
		n.cfg.Log.Debug("hostcall not implemented", "service", v.Service, "call", stub)
	}
	return d, nil
}

// runGuest is what a handler runs a sandbox with.
func (n *Node) runGuest(ctx context.Context, d *deployment, sb *compute.Sandbox) error {
	err := d.module.Run(ctx, sb)
	if t, ok := sb.Observer.(compute.Tracer); ok {
		outcome := "ok"
		if err != nil {
			outcome = err.Error()
		}
		t.Trace.End(outcome)
		n.console.trace(t.Trace)
	}
	return err
}

// host is everything that v's sandboxes can touch.
func (n *Node) host(v *wedge.Version) *compute.Host {
	name, err := os.Hostname()
	if err != nil {
		name = "localhost"
	}
	began := time.Now()
	return &compute.Host{
		Version: v, Fetch: n.cache, Health: n.fetch.Health, Purge: n.Purge, Cache: guestCache{n.cache}, KV: n.kv.For(v.Service, v.KVStores),
		Log: n.console.log, Output: n.console.output,
		Now: time.Now, Monotonic: func() int64 { return int64(time.Since(began)) }, Rand: rand.Reader,
		Hostname: name, PoP: n.pop(), Region: "local",
	}
}

// retire waits for guests that still run, then frees everything.
func (d *deployment) retire(ctx context.Context) {
	_ = d.handler.Wait(ctx) // those that ctx did not wait for are ended by Close
	d.discard()
}

func (d *deployment) discard() {
	d.handler.Close()
	_ = d.handler.Wait(context.Background())
	if d.module != nil {
		d.module.Close()
	}
}

// watch deploys anew when a file of the app has changed since the time given. A failure is
// shown, and the version that serves goes on serving.
func (n *Node) watch(ctx context.Context, since time.Time) {
	n.mu.Lock()
	app := n.current.app
	n.mu.Unlock()
	seen, _ := app.Modified()
	if seen.After(since) {
		seen = since
	}
	t := time.NewTicker(reloadPause)
	defer t.Stop()
	for again := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now, err := app.Modified()
		if err != nil || !now.After(seen) {
			continue
		}
		seen = now
		if err := n.deploy(ctx); ctx.Err() != nil {
			return
		} else if err != nil {
			n.console.failure("reload failed, the old version serves on", err)
			continue
		}
		n.mu.Lock()
		app = n.current.app
		n.mu.Unlock()
		n.console.say(fmt.Sprintf("reloaded %s: version %d", app.Version.Service, app.Version.Number))
		// What changed meanwhile was saved by the author, and not seen, or written by the
		// build itself, which would never end. So it is built once more, and no more.
		if now, err := app.Modified(); err != nil || !now.After(seen) {
			again = false
		} else if again = !again; !again {
			seen = now
		}
	}
}
