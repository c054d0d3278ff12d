package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/control"
	"github.com/wedge-cloud/wedge/manifest"
	"github.com/wedge-cloud/wedge/rollout"
)

// peerLab is a core and PoPs in this process, which reach each other as peers unless they are cut.
type peerLab struct {
	t      *testing.T
	core   *Core
	client api.Client
	nodes  map[string]*Node
	gates  map[string]*gate // between a PoP and the core

	mu  sync.Mutex
	cut map[string]bool
	all []net.Conn
}

func newPeerLab(t *testing.T) *peerLab {
	t.Helper()
	core, err := OpenCore(t.Context(), CoreConfig{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(core.Close)
	server := httptest.NewServer(core)
	t.Cleanup(server.Close)
	return &peerLab{t: t, core: core, client: api.Client{URL: server.URL, Token: core.AdminToken()}, nodes: map[string]*Node{}, gates: map[string]*gate{}, cut: map[string]bool{}}
}

// start runs a PoP with apps of its own.
func (l *peerLab) start(p wedge.PoP, apps ...manifest.App) *Node {
	l.t.Helper()
	cfg := FleetConfig{PoP: p, Peers: PeerConfig{Listen: "127.0.0.1:0", Dial: func(ctx context.Context, to *wedge.PoP) (net.Conn, error) {
		l.mu.Lock()
		cut := l.cut[p.Name] || l.cut[to.Name]
		l.mu.Unlock()
		if cut {
			return nil, errors.New("cut")
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", to.Peer)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all = append(l.all, c)
		return c, err
	}}}
	l.core.Join(&cfg)
	cfg.Dial = l.gate(p.Name).dialed(cfg.Dial)
	n, _ := runNode(l.t, Config{HTTP: []string{"127.0.0.1:0"}, DataDir: l.t.TempDir(), CacheDisk: -1, Fleet: &cfg,
		Load: func(context.Context) (all []*manifest.App, err error) {
			for _, a := range apps {
				all = append(all, &a)
			}
			return all, nil
		}})
	l.nodes[p.Name] = n
	return n
}

// runNode runs a node until it serves.
func runNode(t *testing.T, cfg Config) (n *Node, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	started, ended := make(chan *Node, 1), make(chan error, 1)
	cfg.Started, cfg.Quiet, cfg.DrainTimeout, cfg.Log = func(n *Node) { started <- n }, true, time.Second, slog.New(slog.DiscardHandler)
	go func() { ended <- Run(ctx, cfg) }()
	select {
	case n = <-started:
	case err := <-ended:
		cancel()
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	t.Cleanup(stop)
	return n, stop
}

// meet returns when all PoPs know each other and say that they are ready.
func (l *peerLab) meet() {
	l.t.Helper()
	for name, n := range l.nodes {
		eventually(l.t, name+" knows all", func() bool {
			ready := 0
			for _, p := range n.PoPs() {
				if p.Ready && p.Peer != "" {
					ready++
				}
			}
			return ready == len(l.nodes)
		})
	}
}

// isolate ends all connections, and lets no new one be made from or to a PoP.
func (l *peerLab) isolate(name string, cut bool) {
	l.mu.Lock()
	l.cut[name] = cut
	for _, c := range l.all {
		if c != nil {
			c.Close()
		}
	}
	l.all = nil
	l.mu.Unlock()
	for _, n := range l.nodes {
		n.fleet.peers.mu.Lock()
		clear(n.fleet.peers.away)
		n.fleet.peers.mu.Unlock()
	}
}

func (l *peerLab) get(pop, host, path string, lines ...string) (int, string, http.Header) {
	l.t.Helper()
	plain, _ := l.nodes[pop].Addrs()
	return fetchAs(l.t, plain[0].String(), host, path, lines...)
}

func fetchAs(t *testing.T, addr, host, path string, lines ...string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

// version makes a version.
func (l *peerLab) version(v *wedge.Version) (*control.Artifact, *control.Chunks, error) {
	l.t.Helper()
	chunks := control.OpenChunks(l.t.TempDir())
	a, err := control.Pack(v, nil, chunks.Keep)
	if err == nil {
		_, _, err = l.client.Upload(l.t.Context(), a, chunks)
	}
	if err == nil {
		_, err = l.client.NewVersion(l.t.Context(), v.Service, "", api.NewVersion{Artifact: a})
	}
	return a, chunks, err
}

// unfetchable makes a version whose chunks the core has lost.
func (l *peerLab) unfetchable(v *wedge.Version) (*control.Artifact, *control.Chunks, error) {
	l.t.Helper()
	a, chunks, err := l.version(v)
	if err != nil {
		return nil, nil, err
	}
	for _, d := range a.Digests() {
		if err := l.core.link.Drop(l.t.Context(), chunkShelf, string(d)); err != nil {
			return nil, nil, err
		}
	}
	return a, chunks, nil
}

// release makes a version and begins a rollout that waits at its first stage, which is the PoP returned.
func (l *peerLab) release(v *wedge.Version) (first string) {
	l.t.Helper()
	_, _, err := l.version(v)
	if err == nil {
		_, err = l.client.Release(l.t.Context(), v.Service, "", api.Pick{Version: 1, Plan: control.Plan{HoldMS: time.Hour.Milliseconds()}})
	}
	if err != nil {
		l.t.Fatal(err)
	}
	eventually(l.t, "the first stage", func() bool {
		for name, n := range l.nodes {
			if n.Running(v.Service) == 1 {
				first = name
			}
		}
		return first != ""
	})
	l.known(v.Service, first)
	return first
}

// known returns when everybody has heard that a PoP is to run a service.
func (l *peerLab) known(service, pop string) {
	l.t.Helper()
	for name, n := range l.nodes {
		eventually(l.t, name+" knows", func() (ok bool) {
			n.fleet.applier.catalog.See(func(s *control.State) {
				if svc := s.Services[service]; svc != nil {
					v, _, _ := svc.At(pop)
					ok = v != nil
				}
			})
			return ok
		})
	}
}

// join lets a PoP join the rollout by hand.
func (l *peerLab) join(service, pop string) {
	l.t.Helper()
	_, err := l.core.control.Decide(l.t.Context(), "test", "", func(*control.State) (control.Event, error) {
		return control.Event{Kind: control.EventStage, Service: service, Release: 1, PoPs: []string{pop}}, nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	eventually(l.t, pop+" runs it", func() bool { return l.nodes[pop].Running(service) == 1 })
	l.known(service, pop)
}

func proxyTo(t *testing.T, service, url string) manifest.App {
	return manifest.App{Version: wedge.Version{Service: service, Hosts: []string{service + ".example"},
		Backends: []wedge.Backend{{Name: "origin", URL: parsed(t, url), AllowPrivateAddr: true}}}}
}

// counting is an origin whose answers are numbered.
func counting(t *testing.T) (url string, n *atomic.Int64) {
	n = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Surrogate-Control", "max-age=60")
		w.Header().Set("Surrogate-Key", "page")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set(peerField, peerGone) // nobody is to believe it
		if r.Header.Get(peerField) != "" {
			t.Error("the origin gets to see what is between peers")
		}
		if r.Method == http.MethodPost {
			_, _ = io.Copy(w, r.Body)
			return
		}
		fmt.Fprintf(w, "%s %d", r.URL.Path, n.Add(1))
	}))
	t.Cleanup(s.Close)
	return s.URL, n
}

// TestCallAtAnotherPoP: a service that is not here is answered for by the nearest PoP that runs it, and the next if that is away.
func TestCallAtAnotherPoP(t *testing.T) {
	l := newPeerLab(t)
	origin, _ := counting(t)
	order := rollout.Order([]wedge.PoP{{Name: "aaa"}, {Name: "bbb"}, {Name: "ccc"}}, "back\x01")
	far, near, here := order[0].Name, order[1].Name, order[2].Name
	front := proxyTo(t, "front", "http://back.wedge.internal")
	l.start(wedge.PoP{Name: far, Lon: 100}, front)
	l.start(wedge.PoP{Name: near, Lon: 10}, front)
	l.start(wedge.PoP{Name: here}, front)
	l.meet()
	if status, _, _ := l.get(here, "front.example", "/"); status != 502 && status != 503 {
		t.Errorf("before there is such a service: %d", status)
	}
	back := proxyTo(t, "back", origin)
	if first := l.release(&back.Version); first != far {
		t.Fatalf("the rollout began at %s, not %s", first, far)
	}
	asked := func(path, by string) {
		t.Helper()
		status, body, h := l.get(here, "front.example", path)
		says := strings.Join(h["Cache-Status"], ",")
		if status != 200 || !strings.HasPrefix(body, path+" ") || !strings.Contains(says, "Wedge-"+by+"; ") || !strings.Contains(says, "Wedge-"+here+"; ") {
			t.Errorf("%s by %s: %d %q %v", path, by, status, body, h)
		}
		if h.Get("Surrogate-Control") != "" || h.Get(peerField) != "" {
			t.Errorf("a client sees what is between PoPs: %v", h)
		}
	}
	asked("/one", far)
	l.join("back", near)
	asked("/two", near)
	l.isolate(near, true)
	asked("/three", far)
	plain, _ := l.nodes[here].Addrs()
	if status, body, _, err := ask(t, "POST", plain[0].String(), "front.example", "/echo", strings.NewReader(strings.Repeat("x", 1<<20))); err != nil || status != 200 || len(body) != 1<<20 {
		t.Errorf("%d, %d bytes, %v", status, len(body), err)
	}
	l.isolate(near, false)
	asked("/four", near)
	l.isolate(here, true)
	if status, _, _ := l.get(here, "front.example", "/five"); status != 502 && status != 503 && status != 504 {
		t.Errorf("of a PoP that is cut: %d", status)
	}
	s := &l.nodes[here].fleet.peers.stats
	if s.calls.Load() < 5 || s.failed.Load() < 2 || l.nodes[far].fleet.peers.stats.served.Load() < 2 {
		t.Errorf("counted: %d calls, %d failed", s.calls.Load(), s.failed.Load())
	}
}

// TestCallsInCircles: calls by name that go around between two PoPs end.
func TestCallsInCircles(t *testing.T) {
	l := newPeerLab(t)
	order := rollout.Order([]wedge.PoP{{Name: "aaa"}, {Name: "bbb"}}, "back\x01")
	one := proxyTo(t, "one", "http://back.wedge.internal")
	l.start(wedge.PoP{Name: order[0].Name}, one)
	l.start(wedge.PoP{Name: order[1].Name}, one)
	l.meet()
	back := proxyTo(t, "back", "http://one.wedge.internal")
	l.release(&back.Version)
	if status, _, _ := l.get(order[1].Name, "one.example", "/"); status != http.StatusLoopDetected {
		t.Errorf("in circles: %d", status)
	}
}

// TestCallsOfTenants: services reach those of their own tenant by name, here and at another PoP; to others these are not there, whether
// or not they run here.
func TestCallsOfTenants(t *testing.T) {
	l := newPeerLab(t)
	origin, _ := counting(t)
	local := proxyTo(t, "local", "http://back.wedge.internal") // from no catalog: the default tenant's
	for _, name := range []string{"aaa", "bbb"} {
		l.start(wedge.PoP{Name: name}, local)
	}
	l.meet()
	operator := l.client
	for _, tenant := range []string{"acme", "zeta"} {
		if _, err := operator.NewTenant(t.Context(), "", api.NewTenant{Name: tenant}); err != nil {
			t.Fatal(err)
		}
	}
	as := func(tenant string) {
		s, err := operator.NewToken(t.Context(), api.NewToken{Name: tenant, Scopes: []string{"deploy"}, Tenant: tenant})
		if err != nil {
			t.Fatal(err)
		}
		l.client.Token = s.Secret
	}
	as("acme")
	back, own := proxyTo(t, "back", origin), proxyTo(t, "own", "http://back.wedge.internal")
	first := l.release(&back.Version)
	l.release(&own.Version)
	as("zeta")
	other, none := proxyTo(t, "other", "http://back.wedge.internal"), proxyTo(t, "none", "http://nobody.wedge.internal")
	l.release(&other.Version)
	l.release(&none.Version)
	for _, pop := range []string{"aaa", "bbb"} {
		for _, service := range []string{"own", "other", "none"} {
			if l.nodes[pop].Running(service) == 0 {
				l.join(service, pop)
			}
		}
		if status, body, _ := l.get(pop, "own.example", "/own"+pop); status != 200 || !strings.HasPrefix(body, "/own"+pop) {
			t.Errorf("at %s, of the same tenant: %d %s", pop, status, body)
		}
		absent, says, h := l.get(pop, "none.example", "/")
		why := strings.ReplaceAll(h.Get("Proxy-Status"), "nobody", "back")
		for _, host := range []string{"other.example", "local.example"} {
			if status, body, h := l.get(pop, host, "/"); status != absent || len(body) != len(says) || h.Get("Proxy-Status") != why || status == 200 {
				t.Errorf("at %s %s gets %d %s %v; what is not there is %d %s %s", pop, host, status, body, h, absent, says, why)
			}
		}
		// A guest that goes past the cache is the same service's.
		ctx := wedge.WithBackend(t.Context(), &other.Version.Backends[0])
		for service, want := range map[string]bool{"own": true, "other": false} {
			req, err := http.NewRequestWithContext(ctx, "GET", "http://back.wedge.internal/past"+pop, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := l.nodes[pop].host(&wedge.Version{Service: service}).Fetch.RoundTrip(req)
			if err == nil {
				resp.Body.Close()
			}
			if (err == nil) != want {
				t.Errorf("at %s, which runs back: %v, past the cache, %s: %v", pop, pop == first, service, err)
			}
		}
	}
}

// TestShieldByName: misses of two PoPs meet in the cache of a third that they know by name.
func TestShieldByName(t *testing.T) {
	l := newPeerLab(t)
	origin, n := counting(t)
	shop := proxyTo(t, "shop", origin)
	shop.Version.Backends[0].ShieldPoP = "fra1"
	for _, name := range []string{"fra1", "lhr1", "nyc1"} {
		shop := shop
		l.start(wedge.PoP{Name: name}, shop)
	}
	l.meet()
	for i, pop := range []string{"lhr1", "nyc1", "lhr1", "fra1"} {
		status, body, h := l.get(pop, "shop.example", "/page?a=%20b")
		if status != 200 || body != "/page 1" || h.Get("Surrogate-Control") != "" || h.Get("Surrogate-Key") != "" || pop != "fra1" && h.Get(peerField) != "" {
			t.Errorf("%d: %d %q %v", i, status, body, h)
		}
		says := strings.Join(h["Cache-Status"], ",")
		if pop != "fra1" && (!strings.Contains(says, "Wedge-fra1; ") || !strings.Contains(says, "Wedge-"+pop+"; ")) {
			t.Errorf("%d: %s", i, says)
		}
	}
	if got := n.Load(); got != 1 {
		t.Errorf("the origin was asked %d times", got)
	}
	plain, _ := l.nodes["lhr1"].Addrs()
	if status, body, _, err := ask(t, "POST", plain[0].String(), "shop.example", "/echo", strings.NewReader("text")); err != nil || status != 200 || body != "text" {
		t.Errorf("%d %q %v", status, body, err)
	}
	// what a client says means nothing
	for _, line := range []string{`Wedge-Peer: {"service":"shop","backend":"origin","scheme":"http"}`, `Wedge-Peer: {"service":"shop"}`} {
		if _, _, h := l.get("fra1", "shop.example", "/page?a=%20b", line); h.Get("Surrogate-Control") != "" || h.Get("Surrogate-Key") != "" {
			t.Errorf("%s: %v", line, h)
		}
	}
	l.isolate("fra1", true)
	if status, body, _ := l.get("lhr1", "shop.example", "/other"); status != 200 || body != "/other 2" {
		t.Errorf("without its shield: %d %q", status, body)
	}
	if s := &l.nodes["lhr1"].fleet.peers.stats; s.direct.Load() == 0 || s.shielded.Load() < 2 {
		t.Errorf("counted: %d direct, %d by the shield", s.direct.Load(), s.shielded.Load())
	}
}

// TestShieldOfAGuest: what a guest has for a shield is its own service at a PoP.
func TestShieldOfAGuest(t *testing.T) {
	l := newPeerLab(t)
	origin, n := counting(t)
	shop := proxyTo(t, "shop", origin)
	for _, name := range []string{"fra1", "lhr1"} {
		shop := shop
		l.start(wedge.PoP{Name: name}, shop)
	}
	l.meet()
	lhr := l.nodes["lhr1"]
	h := lhr.host(&shop.Version)
	for name, want := range map[string][2]bool{"lhr1": {true, true}, "fra1": {false, true}, "nyc1": {false, false}} {
		if here, known := h.Shield(name); here != want[0] || known != want[1] {
			t.Errorf("%s: %v %v", name, here, known)
		}
	}
	if got := lhr.shieldsOf("shop"); !slices.Equal(got, []string{"fra1"}) {
		t.Errorf("after purges it waits for %v", got)
	}
	fetch := func(pop string, depth int) (*http.Response, error) {
		b := &wedge.Backend{Name: "shield", Dynamic: true, URL: parsed(t, "https://"+pop+".pop.wedge.internal"), AtPoP: pop, AtService: "shop"}
		ctx := context.WithValue(wedge.WithBackend(t.Context(), b), depthKey{}, depth)
		req, err := http.NewRequestWithContext(ctx, "GET", "http://shop.example/page", nil)
		if err != nil {
			t.Fatal(err)
		}
		return h.Fetch.RoundTrip(req)
	}
	for _, pop := range []string{"fra1", "lhr1"} {
		resp, err := fetch(pop, 0)
		if err != nil || resp.StatusCode != 200 || !strings.Contains(resp.Header.Get("Cache-Status"), "Wedge-"+pop+"; ") {
			t.Fatalf("%s: %v %v", pop, resp, err)
		}
		resp.Body.Close()
	}
	if got := n.Load(); got != 2 {
		t.Errorf("the origin was asked %d times", got)
	}
	if resp, err := fetch("fra1", maxDepth); err != nil || resp.StatusCode != http.StatusLoopDetected {
		t.Errorf("too deep: %v %v", resp, err)
	}
	fe := (*wedge.FetchError)(nil)
	if _, err := fetch("nyc1", 0); !errors.As(err, &fe) || fe.Failure != wedge.FailureUnavailable {
		t.Errorf("a PoP that nobody knows: %v", err)
	}
}

// TestShieldCannotFetch: what the shield could not do the edge says, too, and does not try itself.
func TestShieldCannotFetch(t *testing.T) {
	l := newPeerLab(t)
	var asked atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		panic(http.ErrAbortHandler)
	}))
	defer origin.Close()
	shop := proxyTo(t, "shop", origin.URL)
	shop.Version.Backends[0].ShieldPoP = "fra1"
	l.start(wedge.PoP{Name: "fra1"}, shop)
	l.start(wedge.PoP{Name: "lhr1"}, shop)
	l.meet()
	status, _, h := l.get("lhr1", "shop.example", "/page")
	if why := h.Get("Proxy-Status"); status != 502 || !strings.Contains(why, "error=connection_terminated") {
		t.Errorf("%d %s", status, why)
	}
	if s := &l.nodes["lhr1"].fleet.peers.stats; s.shielded.Load() != 1 || s.direct.Load() != 0 {
		t.Errorf("%d by the shield, %d direct", s.shielded.Load(), s.direct.Load())
	}
}

// as is a client that has a certificate, or none.
func as(cert *tls.Certificate) *http.Client {
	cfg := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}, Timeout: 5 * time.Second}
}

// errandTo asks a PoP's listener for peers.
func errandTo(t *testing.T, c *http.Client, addr string, e errand) (status int, h http.Header, err error) {
	t.Helper()
	word, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+addr+"/page", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "shop.example"
	req.Header.Set(peerField, string(word))
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	resp.Body.Close()
	return resp.StatusCode, resp.Header, nil
}

// TestStrangers: nobody gets an answer at the listener for peers who is no PoP that is known, or has another's name.
func TestStrangers(t *testing.T) {
	l := newPeerLab(t)
	origin, _ := counting(t)
	shop := proxyTo(t, "shop", origin)
	l.start(wedge.PoP{Name: "fra1"}, shop)
	l.start(wedge.PoP{Name: "lhr1"}, shop)
	l.meet()
	addr, call := l.nodes["fra1"].PeerAddr(), errand{Service: "shop"}
	good := as(&l.nodes["lhr1"].fleet.peers.cert)
	if status, _, err := errandTo(t, good, addr, call); err != nil || status != 200 {
		t.Fatalf("a peer: %d, %v", status, err)
	}
	for what, name := range map[string]string{"unknown": "xyz1", "with another's name": "lhr1", "with our own": "fra1", "without a name": ""} {
		cert, err := openCertificate(t.TempDir(), "c", "k", name)
		if err != nil {
			t.Fatal(err)
		}
		if status, _, err := errandTo(t, as(&cert), addr, call); err == nil {
			t.Errorf("a client %s: %d", what, status)
		}
	}
	if status, _, err := errandTo(t, as(nil), addr, call); err == nil {
		t.Errorf("a client without a certificate: %d", status)
	}
	if n := l.nodes["fra1"].fleet.peers.stats.refused.Load(); n < 4 {
		t.Errorf("%d were counted", n)
	}
	for _, e := range []errand{{}, {Service: "none"}, {Service: "shop", Backend: "none", Scheme: "http"}, {Service: "shop", Backend: "origin", Scheme: "ftp"}, {Service: "shop", Depth: -1}} {
		if status, _, err := errandTo(t, good, addr, e); err != nil || status != 400 && status != 421 {
			t.Errorf("%+v: %d %v", e, status, err)
		}
	}

	// A PoP that says another's print as its own is not taken for that, nor that for it.
	p := l.nodes["fra1"].fleet.peers
	mallory := wedge.PoP{Name: "mal1", Peer: "127.0.0.1:9", Print: l.nodes["lhr1"].fleet.peers.own.Print}
	word, err := json.Marshal(mallory)
	if err != nil {
		t.Fatal(err)
	}
	p.pops.heard("pop.mal1", word)
	p.pops.heard("pop.lhr1", word) // not in its own name
	leaf, err := tlsLeaf(l.nodes["lhr1"].fleet.peers.cert)
	if err != nil {
		t.Fatal(err)
	}
	if name, ok := p.who(leaf); !ok || name != "lhr1" {
		t.Errorf("lhr1 is taken for %q", name)
	}

	// A PoP answers with its own certificate, or is not asked.
	impostor, err := openCertificate(t.TempDir(), "c", "k", "lhr1")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{impostor}, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).Handshake()
			c.Close()
		}
	}()
	moved := l.nodes["lhr1"].fleet.peers.own
	moved.Name, moved.Peer = "mov1", listener.Addr().String()
	if word, err = json.Marshal(moved); err != nil {
		t.Fatal(err)
	}
	p.pops.heard("pop.mov1", word)
	to, _ := p.pops.named("mov1")
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://shop.example/", nil)
	if _, again, err := p.ask(req, &to, call, patience{}); err == nil || !again {
		t.Errorf("an impostor was asked: %v %v", again, err)
	}
}

func tlsLeaf(c tls.Certificate) (*tls.ConnectionState, error) {
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}, err
}

// TestExpelledPeer: a PoP that is a member no more is no peer any more, on the connections that it has.
func TestExpelledPeer(t *testing.T) {
	dir := t.TempDir()
	core, operator := startCore(t, filepath.Join(dir, "core"))
	origin, _ := counting(t)
	nodes := map[string]*Node{}
	for _, name := range []string{"ams1", "fra1"} {
		s, err := operator.AddPoP(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		shop := proxyTo(t, "shop", origin)
		nodes[name], _ = runNode(t, Config{HTTP: []string{"127.0.0.1:0"}, DataDir: filepath.Join(dir, name), CacheDisk: -1, Load: One(func(context.Context) (*manifest.App, error) { return &shop, nil }),
			Fleet: &FleetConfig{PoP: wedge.PoP{Name: name}, Peers: PeerConfig{Listen: "127.0.0.1:0"},
				Invitation: Invitation{Name: name, URL: operator.URL, Print: core.Print(), Secret: s.Secret}.String()}})
	}
	p := nodes["fra1"].fleet.peers
	eventually(t, "they know each other", func() bool { _, ok := p.pops.named("ams1"); return ok })
	client := as(&nodes["ams1"].fleet.peers.cert)
	if status, _, err := errandTo(t, client, nodes["fra1"].PeerAddr(), errand{Service: "shop"}); err != nil || status != 200 {
		t.Fatalf("a peer: %d %v", status, err)
	}
	out, in := nodes["ams1"].fleet.rings, nodes["fra1"].fleet.rings
	eventually(t, "both have keys", func() bool { return out.now.Load().Epoch() == 0 && in.now.Load().Epoch() == 0 })
	if err := operator.RemovePoP(t.Context(), "ams1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is forgotten", func() bool { _, ok := p.pops.named("ams1"); return !ok })
	eventually(t, "there is a new key", func() bool { return in.now.Load().Epoch() == 1 })
	if k, err := operator.SealingKey(t.Context()); err != nil || k.Epoch != 1 || out.now.Load().Epoch() > 0 {
		t.Errorf("secrets are sealed with the key of epoch %d, and who was expelled has %d, %v", k.Epoch, out.now.Load().Epoch(), err)
	}
	if b := core.giveRing(ringSubject+"ams1", nil); b != nil {
		t.Error("who was expelled gets keys")
	}
	if status, _, err := errandTo(t, client, nodes["fra1"].PeerAddr(), errand{Service: "shop"}); err != nil || status != http.StatusForbidden {
		t.Errorf("on the connection it had: %d %v", status, err)
	}
	client.CloseIdleConnections()
	if status, _, err := errandTo(t, client, nodes["fra1"].PeerAddr(), errand{Service: "shop"}); err == nil {
		t.Errorf("on a new connection: %d", status)
	}
	word, err := json.Marshal(nodes["ams1"].fleet.peers.own)
	if err != nil {
		t.Fatal(err)
	}
	p.pops.heard("pop.ams1", word) // on its way while it was expelled
	if _, known := p.pops.named("ams1"); known {
		t.Error("it is known again")
	}
}
