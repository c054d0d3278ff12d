package world

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
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
	core way // to the core
	cfg  node.Config

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
		way := &path{conns: map[net.Conn]struct{}{}}
		w.pops[p.Name] = &place{pop: p, path: way, core: w.between(&p, &w.cfg.Core, way)}
	}
	if err := w.open(ctx); err != nil {
		return nil, err
	}
	return w, nil
}

// between returns what lies between two places, with the paths that lead there.
func (w *World) between(a, b *wedge.PoP, paths ...*path) way {
	between := way{ends: paths}
	if !w.cfg.Flat {
		between.delay = oneWay(a, b)
	}
	return between
}

// peer returns how a PoP of the world connects to another.
func (w *World) peer(from *place) func(context.Context, *wedge.PoP) (net.Conn, error) {
	return func(ctx context.Context, to *wedge.PoP) (net.Conn, error) {
		far := w.pops[to.Name]
		if far == nil || far == from {
			return nil, errCut
		}
		between := w.between(&from.pop, &far.pop, from.path, far.path)
		return between.dialed(func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", to.Peer)
		})(ctx)
	}
}

func (w *World) open(ctx context.Context) (err error) {
	w.core, err = node.OpenCore(ctx, node.CoreConfig{Dir: filepath.Join(w.cfg.Dir, "core"), Log: w.cfg.Log})
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
	if cfg.Load == nil {
		cfg = w.cfg.Node(p.pop)
	}
	cfg.DataDir = filepath.Join(w.cfg.Dir, p.pop.Name)
	peers := node.PeerConfig{Listen: "127.0.0.1:0", Dial: w.peer(p)}
	if p.peer != "" {
		peers.Listen = p.peer
	}
	cfg.Fleet = &node.FleetConfig{PoP: p.pop, Peers: peers, Dial: p.core.dialed(w.core.Dial), Pass: func(public string) (string, error) { return w.core.Pass(p.pop.Name, public) }}
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
func (w *World) Cut(names ...string) error { return w.each(names, func(p *place) { p.path.set(true) }) }

// Heal undoes Cut.
func (w *World) Heal(names ...string) error {
	return w.each(names, func(p *place) { p.path.set(false) })
}

// Delay makes PoPs' paths longer, by so much each way.
func (w *World) Delay(d time.Duration, names ...string) error {
	return w.each(names, func(p *place) {
		p.path.mu.Lock()
		defer p.path.mu.Unlock()
		p.path.extra = d
	})
}

// Lose makes a share of what is sent on PoPs' paths be sent twice.
func (w *World) Lose(share float64, names ...string) error {
	return w.each(names, func(p *place) {
		p.path.mu.Lock()
		defer p.path.mu.Unlock()
		p.path.loss = share
	})
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
func (w *World) OneWay(name string) time.Duration { return w.pops[name].core.time() }

// Status says how a PoP is.
type Status struct {
	PoP   wedge.PoP `json:"pop"`
	URL   string    `json:"url,omitempty"` // where its node listens
	State string    `json:"state"`         // up, cut, down
	RTTMS float64   `json:"rtt_ms"`        // to the core, in milliseconds
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
		p.path.mu.Lock()
		if p.path.cut && s.State == "up" {
			s.State = "cut"
		}
		s.RTTMS = float64(2*(p.core.delay+p.path.extra)) / float64(time.Millisecond)
		p.path.mu.Unlock()
		list = append(list, s)
	}
	return list
}

// Close ends everything.
func (w *World) Close() {
	_ = w.Stop()
	w.core.Close()
	w.ends.Wait()
}
