package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
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
	guest   hostcall.Config // what its handler was made with
	host    *compute.Host
	handler versionHandler
	state   *stateAPI      // answers it at state.wedge.internal
	session http.Handler   // and at session.wedge.internal
	calls   sync.WaitGroup // of other services, by name

	allowance *allowance // of its tenant; nil: nothing is bounded
	earlier   int        // see control.Service
}

// deploy loads the apps, makes them ready and swaps them in together. The versions that served until now
// go on until their last request has ended. On an error they simply go on.
func (n *Node) deploy(ctx context.Context) error {
	if n.cfg.Load == nil {
		return n.swap(map[string]*deployment{}, nil)
	}
	apps, err := n.cfg.Load(ctx)
	if err != nil {
		return err
	}
	fresh := map[string]*deployment{}
	discard := func() {
		for _, d := range fresh {
			d.discard()
		}
	}
	for _, app := range apps {
		if fresh[app.Version.Service] != nil {
			discard()
			return &wedge.Error{Op: "deploy", What: app.Version.Service, Kind: wedge.Conflict, Err: errors.New("two apps have this name"), Hint: "Give one of them another name in its wedge.toml."}
		}
		app.Version.Number = n.number + 1 // before prepare: guests are told it
		d, err := n.prepare(ctx, app)
		if err != nil {
			discard()
			return err
		}
		fresh[app.Version.Service] = d
	}
	if err := n.swap(fresh, nil); err != nil {
		discard()
		return err
	}
	return nil
}

// swap makes what serves what is given, all at once. What has a key made by besideOf gets the requests that the split of its
// service says.
func (n *Node) swap(fresh map[string]*deployment, splits map[string]split) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var backends []wedge.Backend
	var moved []string // services with other backends than before
	for key, d := range fresh {
		name, beside := serviceOf(key)
		if beside || n.deployed[name] == d {
			backends = append(backends, d.version.Backends...)
			continue
		}
		changed, err := n.forgetOrigins(d)
		if err != nil {
			return err
		}
		if changed {
			moved = append(moved, name)
		}
		backends = append(backends, d.version.Backends...)
	}
	routes, err := n.routes(fresh, splits)
	if err != nil {
		return err
	}
	table, err := front.NewTable(n.number+1, routes)
	if err != nil {
		return err
	}
	n.number++
	n.fetch.Watch(backends)
	old := n.deployed
	n.deployed, n.splits = fresh, splits
	for _, name := range moved { // what began before is settled on the side of the purge, and what begins now is not stored
		if was := old[name]; was != nil {
			was.version.Superseded.Store(true)
		}
		if err := n.purgeAll(name); err != nil {
			n.cfg.Log.Error("purge what came from other backends", "service", name, "err", err)
		}
	}
	ended := n.front.Swap(table)
	for name, d := range fresh {
		n.noteShields(name, d.version)
	}
	n.retired.Go(func() {
		<-ended
		ctx, cancel := context.WithTimeout(context.Background(), n.cfg.DrainTimeout)
		defer cancel()
		stay := map[*deployment]bool{}
		for _, d := range fresh {
			stay[d] = true
		}
		for _, d := range old {
			if !stay[d] {
				d.retire(ctx)
			}
		}
	})
	return nil
}

// routes sends each version's hosts to it. One with none given has every host that no other has.
func (n *Node) routes(all map[string]*deployment, splits map[string]split) (map[string]front.Route, error) {
	table := map[string]front.Route{}
	for key, d := range all {
		if _, beside := serviceOf(key); beside {
			continue
		}
		l := d.version.Limits.WithDefaults()
		r := front.Route{Service: d.version.Service, Version: d.version.Number, Handler: n.purging(d),
			Bounds: front.Bounds{URI: l.URIBytes, HeaderBytes: l.HeaderBytes, HeaderLines: l.HeaderLines}}
		if b := all[besideOf(key)]; b != nil && splits[key].shadow > 0 {
			r.Handler = n.purgingBefore(d, &shadower{Handler: d.handler, node: n, live: d, beside: b, share: splits[key].shadow})
		} else if b != nil {
			r.Handler = &splitter{split: splits[key], live: r.Handler, beside: n.purging(b), number: b.version.Number}
		} else if c, ok := d.handler.(*cdn); ok && plainHits(d.version) {
			r.Hit = c.hit
		}
		hosts := d.version.Hosts
		if len(hosts) == 0 {
			hosts = []string{"*"}
		}
		for _, h := range hosts {
			if other, taken := table[h]; taken {
				if n.fleet != nil { // whose it is may be nothing to who reads this
					return nil, &wedge.Error{Op: "deploy", What: "host " + h, Kind: wedge.Conflict, Err: errors.New("another service answers for it"), Hint: "Leave it out of hosts in wedge.toml."}
				}
				return nil, &wedge.Error{Op: "deploy", What: "host " + h, Kind: wedge.Conflict,
					Err: fmt.Errorf("both %s and %s have it", min(other.Service, r.Service), max(other.Service, r.Service)), Hint: "Give each app hosts of its own in its wedge.toml."}
			}
			table[h] = r
		}
	}
	return table, nil
}

// purging is a deployment's handler, with what comes before it: purges by request, then rates, then what clients report.
func (n *Node) purging(d *deployment) http.Handler { return n.purgingBefore(d, d.handler) }

func (n *Node) purgingBefore(d *deployment, h http.Handler) http.Handler {
	if len(d.version.Collect) > 0 {
		b := &beacons{Handler: h, version: d.version}
		if n.fleet != nil {
			b.to = n.fleet.collect
			n.fleet.sinks.wanted(d.version)
		}
		h = b
	}
	if len(d.version.Rates) > 0 {
		h = newRated(h, d.version, n.rating)
	}
	p := &purger{Handler: h, version: d.version, purge: n.Purge, now: n.cfg.Now, log: n.console.purged}
	if n.fleet != nil {
		p.fleet = n
	}
	return p
}

// prepare makes an app ready to serve.
func (n *Node) prepare(ctx context.Context, app *manifest.App) (*deployment, error) {
	v := &app.Version
	v.Superseded = new(atomic.Bool)
	for i := range v.Rates {
		if err := v.Rates[i].Check(); err != nil {
			return nil, err
		}
	}
	if v.Guest == nil {
		if len(v.Rules) == 0 {
			v.Rules = []wedge.Rule{{Backends: []wedge.Share{{Backend: v.Backends[0].Name}}}}
		}
		return &deployment{app: app, version: &app.Version, state: n.stateOf(v), session: n.sessionsOf(v), handler: newCDN(v, n.cache, &balancer{health: n.fetch.Health}, n.cfg.Now, n.cfg.Log)}, nil
	}
	return n.prepareGuest(ctx, app)
}

// prepareGuest compiles the guest, unless some version brought the same code, and binds its host.
func (n *Node) prepareGuest(ctx context.Context, app *manifest.App) (*deployment, error) {
	d := &deployment{app: app, version: &app.Version, state: n.stateOf(&app.Version), session: n.sessionsOf(&app.Version)}
	v := d.version
	host := n.host(v)
	if v.GeoDatabase != nil {
		db, err := hostcall.OpenGeo(v.GeoDatabase)
		if err != nil {
			return nil, err
		}
		host.Geo = db
	}
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
	d.guest, d.host = cfg, host
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
	if err := d.allowance.enter(); err != nil {
		return err
	}
	defer d.allowance.leave()
	err := d.module.Run(ctx, sb)
	if n.fleet != nil {
		n.fleet.applier.ran(d.version, sb.CPU(), err != nil && ctx.Err() == nil)
	}
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
	h := &compute.Host{
		Version: v, Fetch: uncached{n.calls, n.cache, v.Service}, Health: n.fetch.Health, Purge: n.Purge, Cache: guestCache{n.cache}, KV: &awayKV{n.kv.For(v.Service, v.KVStores, v.Stores), n.stateOf(v), n.cfg.Now}, Rates: n.ratesOf(v.Service),
		Log: n.console.log, Output: n.console.output,
		Now: n.cfg.Now, Monotonic: func() int64 { return int64(time.Since(began)) }, Rand: rand.Reader,
		Hostname: name, PoP: n.cfg.pop(), Region: "local", Loops: n.fleet != nil,
	}
	if s := n.settingsOf(v); s != nil {
		h.Setting = s.get
	}
	if n.fleet != nil && n.fleet.peers != nil {
		h.Shield = func(name string) (here, known bool) { return n.shieldFor(v.Service, name) }
	}
	return h
}

// retire waits for guests that still run, then frees everything.
func (d *deployment) retire(ctx context.Context) {
	called := make(chan struct{})
	go func() {
		d.calls.Wait() // no new ones come: it is in no table any more
		close(called)
	}()
	select {
	case <-called:
	case <-ctx.Done():
	}
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

// watched returns the app whose files are looked at: the only one there is.
func (n *Node) watched() *manifest.App {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, d := range n.deployed {
		return d.app
	}
	return nil
}

// watch deploys anew when a file of the app has changed since the time given. A failure is
// shown, and the version that serves goes on serving.
func (n *Node) watch(ctx context.Context, since time.Time) {
	app := n.watched()
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
		app = n.watched()
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
