package node

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/backend"
	"github.com/wedge-cloud/wedge/cache"
	"github.com/wedge-cloud/wedge/compute"
	"github.com/wedge-cloud/wedge/compute/hostcall"
	"github.com/wedge-cloud/wedge/front"
	"github.com/wedge-cloud/wedge/state"
)

// What crosses parts is an interface of the one that uses it; here is where the other one is held to it.
var (
	_ compute.KV    = (*awayKV)(nil)
	_ compute.Rates = (*state.ServiceRates)(nil)
	_ compute.Rates = (*checks)(nil)
)

// Node is a running process's parts. Connection pools, stores and the engine outlive
// versions: a release starts nothing cold.
type Node struct {
	cfg     Config
	console *console
	engine  *compute.Engine
	fetch   *backend.Transport
	cache   *cache.Cache // around fetch
	kv      *state.KV
	rates   *state.Rates
	rating  *rating
	calls   *internal // below cache

	sessions *sessions

	front *front.Front
	ops   *ops        // nil: none
	fleet *fleet      // nil: the node is alone
	dns   *dnsAnswers // nil: none

	shadows     chan struct{} // has room for those that may be under way
	shadowStats shadowStats

	printing bool // what a plain WASI program prints is output, not a response

	mu       sync.Mutex
	deployed map[string]*deployment         // by service, and by besideOf it
	splits   map[string]split               // by service
	origins  map[string]string              // of the services deployed, see forgetOrigins
	shields  map[string]map[string]struct{} // by service: PoPs that shield it here, or have
	number   int                            // of the newest table; only deploy uses it, and it runs once at a time
	retired  sync.WaitGroup                 // deployments on their way out
}

// Run builds a node, serves until ctx ends, drains and returns nil. An error means that it
// could not start, or that it could not go on.
func Run(ctx context.Context, cfg Config) error {
	began := time.Now()
	if err := cfg.ready(ctx); err != nil {
		return err
	}
	n, err := open(ctx, cfg)
	if err != nil {
		return err
	}
	defer n.close()
	if err := n.deploy(ctx); err != nil {
		return err
	}
	group, stop := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	defer background.Wait()
	defer stop()
	runs := []func(context.Context) error{n.fetch.Run, n.kv.Run, n.sessions.run, n.rating.run, pace}
	if n.fleet != nil {
		sorry := newApologizer(n)
		for _, share := range n.fleet.shares {
			share.Sorry = sorry.wake
		}
		runs = append(runs, n.fleet.run, n.fleet.collect.run, sorry.run)
		if n.fleet.peers != nil {
			runs = append(runs, n.fleet.peers.run)
		}
		defer context.AfterFunc(ctx, func() { n.fleet.leave(context.Cause(ctx)) })()
		if n.dns != nil {
			runs = append(runs, func(ctx context.Context) error { return n.dns.run(ctx, n.fleet.link) })
		}
	}
	if n.ops != nil {
		runs = append(runs, n.ops.run)
		defer context.AfterFunc(ctx, func() {
			if succeeded(ctx) {
				n.ops.succeeded()
			}
		})()
	}
	for _, run := range runs {
		background.Go(func() { _ = run(group) })
	}
	if n.fleet != nil {
		n.fleet.applier.applyKept(ctx)
	}
	served := make(chan error, 1)
	go func() { served <- n.front.Run(ctx) }()
	select {
	case err := <-served:
		return n.stop(context.Cause(ctx), err)
	case <-n.front.Ready():
	}
	n.announce()
	cfg.Term.Serving()
	if n.cfg.Started != nil {
		n.cfg.Started(n)
	}
	watching, unwatch := context.WithCancel(ctx)
	defer unwatch()
	var watcher sync.WaitGroup
	if cfg.Watch {
		watcher.Go(func() { n.watch(watching, began) })
	}
	over := make(chan error, 1)
	go func() { over <- <-served }()
	select {
	case err = <-over:
		over <- err
	case <-n.front.Calm():
	}
	unwatch()
	watcher.Wait() // nothing is deployed any more
	if succeeded(ctx) {
		stop()
		background.Wait()
		n.letGo()
	}
	err = <-over
	return n.stop(context.Cause(ctx), err)
}

// maxBackendConns lets every sandbox of a full engine wait for the same slow backend. What an
// origin bears is for its own backend's limit to say.
const maxBackendConns = 16_384

// maxHeaderBytes is what the header section of a request, or of a backend's response, may
// have. SDKs read headers into 69,000 bytes, as Fastly lets in no more: the JavaScript SDK takes
// a message with a longer field for one without any headers, which no check of a guest's should
// be led by. net/http allows requests 4 KiB above what it is told.
const maxHeaderBytes = 64_000

// open builds the parts. None of them listens or serves yet.
func open(ctx context.Context, cfg Config) (*Node, error) {
	cfg = cfg.withDefaults()
	n := &Node{cfg: cfg, console: newConsole(cfg), origins: map[string]string{}, shields: map[string]map[string]struct{}{}, rates: state.NewRates(), shadows: make(chan struct{}, shadowsOnce)}
	if cfg.CacheDir != "" && os.MkdirAll(cfg.CacheDir, 0o700) != nil {
		cfg.CacheDir = "" // compiled code is kept for speed only
	}
	var err error
	if n.kv, err = state.Open(cfg.DataDir, state.Options{PoP: cfg.pop(), Memory: cfg.Ephemeral, Now: cfg.Now, Full: cfg.Full, Log: cfg.Log}); err != nil {
		return nil, err
	}
	if n.sessions, err = openSessions(n.kv, &cfg); err != nil {
		return nil, errors.Join(err, n.kv.Close())
	}
	n.engine = compute.New(compute.Config{
		Funcs: hostcall.Table(), ParkAt: abi.ByName(hostcall.ParkAt),
		CacheDir: cfg.CacheDir, MaxSandboxes: cfg.MaxSandboxes, Log: cfg.Log,
	})
	n.rating = newRating(cfg.pop(), cfg.Now())
	n.fetch = backend.New(backend.Config{MaxHeaderBytes: maxHeaderBytes, MaxConnections: maxBackendConns, MaxPerBackend: maxBackendConns, Log: cfg.Log})
	dir, disk := cfg.caching()
	name, shield, calls := "", &shielded{next: n.fetch, now: cfg.Now}, &internal{find: n.called, reserved: n.reserved, now: cfg.Now}
	if cfg.Fleet != nil {
		name = cacheName(cfg.Fleet.PoP.Name)
	}
	if cfg.Fleet != nil && cfg.Fleet.Peers.Listen != "" {
		shield.named, calls.away = n.shielding, n.callAway
	}
	if cfg.Fleet != nil {
		calls.reaches = n.reaches
	}
	calls.next, n.calls = shield, calls
	n.cache = cache.New(cache.Config{Next: &files{next: calls}, Name: name, Now: cfg.Now, Memory: cfg.CacheMemory, Invalidated: n.invalidated, Dir: dir, Disk: disk, Log: cfg.Log})
	done := n.console.access
	if cfg.Quiet {
		done = nil // a line that nobody reads costs a hit as much as all the rest
	}
	if cfg.Fleet != nil {
		shown := done
		done = func(a front.Access) {
			n.fleet.applier.count(a)
			if shown != nil {
				shown(a)
			}
		}
	}
	n.front = front.New(front.Config{
		HTTP: cfg.HTTP, HTTPS: cfg.HTTPS, Certificates: cfg.Certificates, ClientCert: cfg.ClientCert, ClientCAs: cfg.ClientCAs,
		MaxRequests: cfg.MaxSandboxes, MaxHeaderBytes: maxHeaderBytes, DrainTimeout: cfg.DrainTimeout, Listen: cfg.Term.Listen, Log: cfg.Log, Done: done, NoHits: cfg.NoHits,
	})
	if cfg.Fleet != nil {
		if n.fleet, err = n.openFleet(ctx, *cfg.Fleet); err != nil {
			n.close()
			return nil, err
		}
		n.sessions.join(n.fleet)
		n.rating.join(n.fleet)
		n.fleet.rates = n.rates
		n.rates.Share()
	}
	if cfg.DNS != nil {
		if n.dns, err = openDNS(*cfg.DNS); err != nil {
			n.close()
			return nil, err
		}
	}
	if cfg.Ops != "" {
		if n.ops, err = listenOps(cfg.Term.Listen, cfg.Ops, func() []metric { return n.read().metrics() }, n.unready); err != nil {
			n.close()
			return nil, err
		}
	}
	return n, nil
}

// ErrKilled is the cause of a context that ends Run at once: nothing is drained.
var ErrKilled = front.ErrKilled

// stop lets guests that outlive their responses finish, for as long as a drain may take.
func (n *Node) stop(why, err error) error {
	patience := n.cfg.DrainTimeout
	if why == ErrKilled {
		patience = 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n.mu.Lock()
	all := n.deployed
	n.deployed = nil
	n.mu.Unlock()
	for _, d := range all {
		d.retire(ctx)
	}
	n.retired.Wait()
	if err != nil && !errors.Is(err, context.Canceled) {
		return &wedge.Error{Op: "serve", Kind: kindOfListen(err), Err: err, Hint: "Is something else listening there? Choose another --addr."}
	}
	return nil
}

func kindOfListen(err error) wedge.Kind {
	if k := wedge.KindOf(err); k != wedge.Internal {
		return k
	}
	return wedge.Unavailable
}

func (n *Node) close() {
	if n.ops != nil {
		n.ops.listener.Close()
	}
	if n.dns != nil {
		n.dns.server.Close()
	}
	if n.fleet != nil && n.fleet.peers != nil {
		n.fleet.peers.close()
	}
	n.engine.Close()
	n.fetch.Close()
	n.closeStores()
}

// Addrs returns the addresses the node listens at.
func (n *Node) Addrs() (http, https []net.Addr) { return n.front.Addrs() }

// called returns the handler of a service that another calls by name, nil if it is not here.
func (n *Node) called(service string) (h http.Handler, done func()) {
	d, done := n.taken(service)
	if d == nil {
		return nil, nil
	}
	return d.byName(), done
}

// taken returns what is deployed of a service, nil if it is not here. It stays until done is called.
func (n *Node) taken(service string) (d *deployment, done func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	d = n.deployed[service]
	if d == nil {
		return nil, nil
	}
	d.calls.Add(1)
	return d, d.calls.Done
}

// Services returns how many services are deployed.
func (n *Node) Services() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := 0
	for key := range n.deployed {
		if _, beside := serviceOf(key); !beside {
			count++
		}
	}
	return count
}

// Running returns the number of the version of a service that is deployed, 0 if none is.
func (n *Node) Running(service string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if d := n.deployed[service]; d != nil {
		return d.version.Number
	}
	return 0
}

// OpsAddr returns the address for operators, "" if there is none.
func (n *Node) OpsAddr() string {
	if n.ops == nil {
		return ""
	}
	return n.ops.listener.Addr().String()
}

// PeerAddr returns the address where other PoPs reach this one, "" if they do not.
func (n *Node) PeerAddr() string {
	if n.fleet == nil || n.fleet.peers == nil {
		return ""
	}
	return n.fleet.peers.listener.Addr().String()
}

// Stats returns the engine's counters.
func (n *Node) Stats() *compute.Stats { return n.engine.Stats() }

// CacheStats returns the cache's counters.
func (n *Node) CacheStats() *cache.Stats { return n.cache.Stats() }

// reloadPause is how often a watched app is looked at.
const reloadPause = 300 * time.Millisecond
