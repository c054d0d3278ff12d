package world

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/node"
)

// Config says what a world is made of.
type Config struct {
	PoPs []wedge.PoP // none: [Cities]
	Core wedge.PoP   // where the core is; none: Frankfurt
	Dir  string      // of everybody's data
	Flat bool        // no round-trip times

	// Node returns what a PoP's node is to be like, without the fleet and what World sets itself (DataDir, Started).
	Node func(wedge.PoP) node.Config
	Log  *slog.Logger

	// Twist is given each message that a PoP hears on the bus, and passes it on, as bus.LinkConfig says. nil: all come as they came.
	Twist func(pop, subject string, pass func())

	SweepAge time.Duration // see node.CoreConfig
	HomePace time.Duration // see node.Config

	DeclarePace time.Duration // see node.Config

	Ordered func(Order) // told what another process had the world do; nil: nobody is
}

// Cities are the PoPs of a world for which no map is given.
var Cities = []wedge.PoP{
	{Name: "lhr", City: "London", Lat: 51.5, Lon: -0.1, Tier: wedge.TierMetro, Provider: "world", Jurisdictions: []string{"uk"}},
	{Name: "nyc", City: "New York", Lat: 40.7, Lon: -74, Tier: wedge.TierMetro, Provider: "world", Jurisdictions: []string{"us"}},
	{Name: "nrt", City: "Tokyo", Lat: 35.7, Lon: 139.7, Tier: wedge.TierMetro, Provider: "world", Jurisdictions: []string{"jp"}},
}

var frankfurt = wedge.PoP{Name: "core", City: "Frankfurt", Lat: 50.1, Lon: 8.7, Tier: wedge.TierCore}

// World is a fleet in this process. Its methods are safe for concurrent use.
type World struct {
	cfg  Config
	core *node.Core

	pops map[string]*place
	ends sync.WaitGroup
}

// place is a PoP of a world.
type place struct {
	pop  wedge.PoP
	path *path
	cfg  node.Config
	skew atomic.Int64 // how far its clock is ahead, in nanoseconds
	full atomic.Bool  // its disk is said to be

	mu   sync.Mutex
	peer string     // where its node listens for peers, once it has
	node *node.Node // nil: it is down
	stop func(error)
	done chan struct{} // closed when the node has ended
	err  error         // how
}

// Open builds a world and starts its core. None of its PoPs runs yet.
func Open(ctx context.Context, cfg Config) (*World, error) {
	if len(cfg.PoPs) == 0 {
		cfg.PoPs = Cities
	}
	if cfg.Core.Name == "" {
		cfg.Core = frankfurt
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	w := &World{cfg: cfg, pops: map[string]*place{}}
	for _, p := range cfg.PoPs {
		if err := p.Check(); err != nil {
			return nil, err
		}
		if w.pops[p.Name] != nil {
			return nil, &wedge.Error{Op: "open world", What: p.Name, Kind: wedge.Invalid, Err: errors.New("two PoPs have this name")}
		}
		w.pops[p.Name] = &place{pop: p, path: w.path(&p)}
	}
	if err := w.open(ctx); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *World) path(p *wedge.PoP) *path {
	if w.cfg.Flat {
		return newPath(0)
	}
	return newPath(oneWay(p, &w.cfg.Core))
}

// peer returns how a PoP of the world connects to another.
func (w *World) peer(from *place) func(context.Context, *wedge.PoP) (net.Conn, error) {
	return func(ctx context.Context, to *wedge.PoP) (net.Conn, error) {
		far := w.pops[to.Name]
		if far == nil || far == from {
			return nil, errCut
		}
		delay := time.Duration(0)
		if !w.cfg.Flat {
			delay = oneWay(&from.pop, &far.pop)
		}
		return from.path.leg(delay, false, far.path.leg(0, true, func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", to.Peer)
		}))(ctx)
	}
}

func (w *World) open(ctx context.Context) (err error) {
	var everywhere []string // a world has one core, and what is in any jurisdiction goes through it
	for _, p := range w.cfg.PoPs {
		everywhere = append(everywhere, p.Jurisdictions...)
	}
	slices.Sort(everywhere)
	w.core, err = node.OpenCore(ctx, node.CoreConfig{Dir: filepath.Join(w.cfg.Dir, "core"), Jurisdictions: slices.Compact(everywhere), SweepAge: w.cfg.SweepAge, Log: w.cfg.Log})
	return err
}

// Start lets PoPs run, all if none is named, and returns when they serve.
func (w *World) Start(ctx context.Context, names ...string) error {
	places, err := w.places(names)
	if err != nil {
		return err
	}
	if len(places) > 1 { // what the first compiles the others find
		if err := w.start(ctx, places[0]); err != nil {
			return err
		}
		places = places[1:]
	}
	errs := make(chan error, len(places))
	for _, p := range places {
		go func() { errs <- w.start(ctx, p) }()
	}
	for range places {
		err = errors.Join(err, <-errs)
	}
	return err
}

func (w *World) places(names []string) (list []*place, err error) {
	if len(names) == 0 {
		for _, p := range w.cfg.PoPs {
			names = append(names, p.Name)
		}
	}
	for _, name := range names {
		p := w.pops[name]
		if p == nil {
			return nil, &wedge.Error{Op: "find PoP", What: name, Kind: wedge.NotExist, Err: errors.New("the world has no such PoP"), Hint: "It has: " + w.names()}
		}
		list = append(list, p)
	}
	return list, nil
}

func (w *World) names() (s string) {
	for i, p := range w.cfg.PoPs {
		if i > 0 {
			s += ", "
		}
		s += p.Name
	}
	return s
}

// start runs a PoP's node, as a process of its own would.
func (w *World) start(ctx context.Context, p *place) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.node != nil {
		return nil
	}
	cfg := p.cfg
	if cfg.HTTP == nil {
		cfg = w.cfg.Node(p.pop)
	}
	cfg.DataDir = filepath.Join(w.cfg.Dir, p.pop.Name)
	cfg.HomePace, cfg.DeclarePace = cmp.Or(cfg.HomePace, w.cfg.HomePace), cmp.Or(cfg.DeclarePace, w.cfg.DeclarePace)
	peers := node.PeerConfig{Listen: "127.0.0.1:0", Dial: w.peer(p)}
	if p.peer != "" {
		peers.Listen = p.peer
	}
	cfg.Fleet = &node.FleetConfig{PoP: p.pop, Peers: peers, RuntimeDir: filepath.Join(w.cfg.Dir, runtimeDir, p.pop.Name), Dial: p.path.dialed(w.core.Dial), Pass: func(public string) (string, error) { return w.core.Pass(p.pop.Name, public, p.pop.Jurisdictions) }}
	if w.cfg.Twist != nil {
		cfg.Fleet.Twist = func(subject string, pass func()) { w.cfg.Twist(p.pop.Name, subject, pass) }
	}
	cfg.Now, cfg.Full = p.now, p.full.Load
	started := make(chan *node.Node, 1)
	cfg.Started = func(n *node.Node) { started <- n }
	running, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	done := make(chan struct{})
	w.ends.Go(func() {
		defer close(done)
		p.err = node.Run(running, cfg)
	})
	select {
	case n := <-started:
		p.node, p.stop, p.done, p.cfg, p.peer = n, stop, done, fixed(cfg, n), n.PeerAddr()
		return nil
	case <-done:
		stop(nil)
		return fmt.Errorf("start %s: %w", p.pop.Name, p.err)
	}
}

// runtimeDir has what outlasts a PoP's process, and would not outlast its machine's power.
const runtimeDir = ".runtime"

// now is the PoP's clock. It has no monotonic reading: what compares two of its times sees it jump.
func (p *place) now() time.Time { return time.Now().Round(0).Add(time.Duration(p.skew.Load())) }

// fixed is cfg with the addresses that n has, so that it has them again when it is started anew.
func fixed(cfg node.Config, n *node.Node) node.Config {
	plain, _ := n.Addrs()
	for i, a := range plain {
		cfg.HTTP[i] = a.String()
	}
	return cfg
}

// Stop ends PoPs: each drains first, as when its process is asked to end.
func (w *World) Stop(names ...string) error { return w.end(nil, names) }

// Kill ends PoPs without letting anything finish, as nearly as that goes within a process.
func (w *World) Kill(names ...string) error { return w.end(node.ErrKilled, names) }

func (w *World) end(why error, names []string) error {
	places, err := w.places(names)
	if err != nil {
		return err
	}
	for _, p := range places {
		p.mu.Lock()
		stop, done := p.stop, p.done
		p.node, p.stop = nil, nil
		p.mu.Unlock()
		if stop != nil {
			stop(why)
			<-done
		}
	}
	return nil
}

// Cut takes PoPs' links to everybody else away; Heal gives them back.
func (w *World) Cut(names ...string) error {
	return w.change(names, func(p *path) { p.cut = true })
}

// Blackhole lets nothing that is sent on these ways of PoPs' paths arrive, both if none is named, and tells nobody so. What still
// arrives the other way is all that there is: nothing waits for acknowledgements.
func (w *World) Blackhole(on []Way, names ...string) error {
	return w.change(names, func(p *path) {
		for way := range ways {
			p.black[way] = len(on) == 0 || slices.Contains(on, way)
		}
	})
}

// Heal undoes Cut and Blackhole.
func (w *World) Heal(names ...string) error {
	return w.change(names, func(p *path) { p.cut, p.black = false, [ways]bool{} })
}

// Delay makes PoPs' paths longer, by so much each way.
func (w *World) Delay(d time.Duration, names ...string) error {
	return w.change(names, func(p *path) { p.extra = d })
}

// Lose makes a share of what is sent on PoPs' paths be sent twice.
func (w *World) Lose(share float64, names ...string) error {
	return w.change(names, func(p *path) { p.loss = share })
}

// Bandwidth makes PoPs' paths carry so many bytes a second each way, and no more; 0: no bound.
func (w *World) Bandwidth(rate float64, names ...string) error {
	return w.change(names, func(p *path) { p.rate, p.free = rate, [ways]time.Time{} })
}

// Skew sets PoPs' clocks so far ahead of this machine's, or behind. One that runs jumps.
func (w *World) Skew(ahead time.Duration, names ...string) error {
	return w.each(names, func(p *place) { p.skew.Store(int64(ahead)) })
}

// Fill has PoPs believe that their disks are full, or are so no more. They notice within a second.
func (w *World) Fill(full bool, names ...string) error {
	return w.each(names, func(p *place) { p.full.Store(full) })
}

func (w *World) change(names []string, change func(*path)) error {
	return w.each(names, func(p *place) { p.path.set(change) })
}

func (w *World) each(names []string, f func(*place)) error {
	places, err := w.places(names)
	for _, p := range places {
		f(p)
	}
	return err
}

// Node returns the node at a PoP, nil if it is down.
func (w *World) Node(name string) *node.Node {
	p := w.pops[name]
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.node
}

// Core returns the core.
func (w *World) Core() *node.Core { return w.core }

// OneWay returns how long the network takes from a PoP to the core.
func (w *World) OneWay(name string) time.Duration { p := w.pops[name].path; return p.time(p.delay) }

// Between returns how long the network takes from one PoP to another, as far as nothing else was said of their paths.
func (w *World) Between(a, b string) time.Duration {
	if w.cfg.Flat {
		return 0
	}
	return oneWay(&w.pops[a].pop, &w.pops[b].pop)
}

// Status says how a PoP is.
type Status struct {
	PoP   wedge.PoP `json:"pop"`
	URL   string    `json:"url,omitempty"` // where its node listens
	State string    `json:"state"`         // up, cut, black (or black in, black out), down
	RTTMS float64   `json:"rtt_ms"`        // to the core, in milliseconds

	SkewMS         float64 `json:"skew_ms,omitempty"`          // how far its clock is ahead
	BytesPerSecond float64 `json:"bytes_per_second,omitempty"` // each way; 0: no bound
}

// Status returns how all PoPs are.
func (w *World) Status() (list []Status) {
	for _, q := range w.cfg.PoPs {
		p := w.pops[q.Name]
		s := Status{PoP: p.pop, State: "down"}
		p.mu.Lock()
		if p.node != nil {
			s.State = "up"
			if plain, _ := p.node.Addrs(); len(plain) > 0 {
				s.URL = "http://" + plain[0].String()
			}
		}
		p.mu.Unlock()
		if state := p.path.state(); state != "" && s.State == "up" {
			s.State = state
		}
		s.SkewMS = float64(p.skew.Load()) / float64(time.Millisecond)
		p.path.mu.Lock()
		s.BytesPerSecond = p.path.rate
		s.RTTMS = float64(2*(p.path.delay+p.path.extra)) / float64(time.Millisecond)
		p.path.mu.Unlock()
		list = append(list, s)
	}
	return list
}

// Close ends everything.
func (w *World) Close() {
	_ = w.Stop()
	_ = w.Cut() // or else a connection may wait for ever
	w.core.Close()
	w.ends.Wait()
}
