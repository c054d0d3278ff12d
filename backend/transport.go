package backend

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/wedge-cloud/wedge"
)

// Config says how a [Transport] behaves. The zero value is usable.
type Config struct {
	Egress Egress // what may be reached

	MaxConnections int // open connections of the node, idle ones included; 0: 8,192
	MaxPerBackend  int // open connections per backend, on top of the backend's own limit; 0: 1,024
	MaxPools       int // backends that connections and settings are kept for; 0: 4,096
	MaxHeaderBytes int // header section of a response, 1xx included; 0: that of wedge.DefaultLimits

	// Resolve looks up a host's addresses; nil: the system's resolver. Errors should be *net.DNSError.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)

	Log *slog.Logger // nil: slog.Default()
}

// Defaults of [Config].
const (
	defaultMaxConnections = 8192
	defaultMaxPerBackend  = 1024
	defaultMaxPools       = 4096
)

func (c Config) withDefaults() Config {
	def := func(p *int, d int) {
		if *p <= 0 {
			*p = d
		}
	}
	def(&c.MaxConnections, defaultMaxConnections)
	def(&c.MaxPerBackend, defaultMaxPerBackend)
	def(&c.MaxPools, defaultMaxPools)
	def(&c.MaxHeaderBytes, wedge.DefaultLimits.HeaderBytes)
	if c.Resolve == nil {
		c.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c
}

// Transport is an http.RoundTripper that sends requests to backends. It belongs to the
// node and lives across versions, so a release drops no connection. It is safe for
// concurrent use. Make one with [New].
type Transport struct {
	cfg    Config
	plain  *http.Transport // HTTP/1.1, and HTTP/2 where TLS negotiated it
	h2c    *http.Transport // HTTP/2 without TLS, by prior knowledge
	health *health
	stats  counters

	mu     sync.Mutex // guards what follows, and the fields of pools and conns marked so
	pools  map[poolKey]*pool
	recent list.List // of *pool, the least recently used in front
	idle   list.List // of *conn: the idle ones of all pools, the longest idle in front
	open   int       // connections, and those being dialled
	queue  waiters   // requests waiting for the node to have room
	closed bool
}

// New returns a Transport. It starts nothing: [Transport.Run] probes and cleans.
func New(cfg Config) *Transport {
	t := &Transport{cfg: cfg.withDefaults(), pools: map[poolKey]*pool{}}
	t.plain = t.protocol(func(p *http.Protocols) { p.SetHTTP1(true); p.SetHTTP2(true) })
	t.h2c = t.protocol(func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })
	t.health = newHealth(t)
	return t
}

// protocol returns an http.Transport that only turns ready connections, handed to it
// through the context, into http.ClientConns. It never dials or pools.
func (t *Transport) protocol(set func(*http.Protocols)) *http.Transport {
	var p http.Protocols
	set(&p)
	dialled := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return ctx.Value(dialledKey{}).(net.Conn), nil
	}
	return &http.Transport{
		DialContext:            dialled,
		DialTLSContext:         dialled,
		DisableCompression:     true, // what to accept is the guest's choice
		MaxResponseHeaderBytes: int64(t.cfg.MaxHeaderBytes),
		ExpectContinueTimeout:  time.Second,
		Protocols:              &p,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}
}

type dialledKey struct{}

// RoundTrip sends req to the backend of its context and returns the response's head. Its
// errors, and those of reading the body, are *wedge.FetchError. The request is not changed
// and redirects are not followed. After a 101 the body is an io.ReadWriteCloser that no
// timeout applies to and that outlives req's context; its owner must close it.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.stats.requests.Add(1)
	b := wedge.BackendFrom(req.Context())
	resp, err := t.send(req, b)
	if err == nil {
		return resp, nil
	}
	fe := *asFetchError(err)
	if b != nil {
		fe.Backend = b.Name
	}
	t.stats.failed(fe.Failure)
	return nil, &fe
}

// maxAttempts bounds how often one request is sent. An attempt on a fresh connection is
// always the last, unless it refuses streams, so this is rarely met.
const maxAttempts = 7

func (t *Transport) send(req *http.Request, b *wedge.Backend) (*http.Response, error) {
	out, err := outgoing(req, b)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	up := isUpgrade(out.Header)
	if up && b.GRPC {
		closeBody(req)
		return nil, failure(wedge.FailureUpgrade, errors.New("a backend that speaks HTTP/2 only cannot upgrade"))
	}
	key := keyOf(b)
	for attempt := 1; ; attempt++ {
		c, err := t.acquire(req.Context(), b, key, up)
		if err != nil {
			closeBody(out)
			return nil, err
		}
		ex := newExchange(t, b, c, out.Context())
		resp, err := ex.do(out, up)
		if err == nil {
			resp.Request = req
			return resp, nil
		}
		if attempt == maxAttempts || req.Context().Err() != nil || !ex.retryable(out, err) {
			return nil, ex.headError(err)
		}
		if !c.h2 {
			t.closeIdle(c.pool) // they have been idle for longer than this one
		} else if refusedStream(err) {
			pause(req.Context(), attempt)
		}
		if out, err = rewound(out); err != nil {
			return nil, failure(wedge.FailureInternal, err)
		}
		t.stats.retries.Add(1)
	}
}

// pause lets an origin that refuses streams breathe: about 10 ms after the first attempt,
// twice as long after each further one.
func pause(ctx context.Context, attempt int) {
	base := 5 * time.Millisecond << attempt
	select {
	case <-ctx.Done():
	case <-time.After(base/2 + rand.N(base)):
	}
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// Run closes connections that have been idle for too long, forgets unused pools and
// probes the backends given to [Transport.Watch], until ctx ends.
func (t *Transport) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { t.health.run(ctx) })
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			wg.Wait()
			return nil
		case now := <-tick.C:
			t.sweep(now)
		}
	}
}

// Close closes idle connections and lets no new ones be made; those in use are closed
// when their requests end.
func (t *Transport) Close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.closeIdle(nil)
}

// Health reports what is known of b: its fixed health, or else what its health check
// says, or else wedge.HealthUnknown.
func (t *Transport) Health(b *wedge.Backend) wedge.Health { return t.health.of(b) }

// Watch replaces the set of backends that [Transport.Run] probes. Results of a check that
// was there before and is unchanged are kept. Backends without a health check are left out.
func (t *Transport) Watch(backends []wedge.Backend) { t.health.watch(backends) }

// connect makes c, for which room was reserved, ready to take requests: it dials, does the
// TLS handshake and settles the protocol. ctx bounds all of it.
func (t *Transport) connect(ctx context.Context, c *conn, b *wedge.Backend, h1 bool) error {
	raw, err := t.dial(ctx, b)
	if err != nil {
		return err
	}
	c.Conn = raw
	if sc, ok := raw.(syscall.Conn); ok {
		c.raw, _ = sc.SyscallConn()
	}
	var upper net.Conn = c
	scheme, tr := "http", t.plain
	switch {
	case b.URL.Scheme == "https":
		tc, err := c.pool.handshake(ctx, c, b, h1)
		if err != nil {
			return err
		}
		upper, scheme = tc, "https"
		c.h2 = tc.ConnectionState().NegotiatedProtocol == "h2"
	case b.GRPC:
		tr, c.h2 = t.h2c, true
	}
	if !c.h2 {
		upper = headConn{upper, &c.head}
	}
	c.cc, err = tr.NewClientConn(context.WithValue(ctx, dialledKey{}, upper), scheme, "backend:443")
	if err != nil {
		return classify(err, phaseConnect, c.h2)
	}
	return nil
}

// handshake speaks TLS over c.
func (p *pool) handshake(ctx context.Context, c *conn, b *wedge.Backend, h1 bool) (*tls.Conn, error) {
	p.tlsOnce.Do(func() { p.tls, p.tlsErr = tlsConfig(b) })
	if p.tlsErr != nil {
		return nil, failure(wedge.FailureTLSConfig, p.tlsErr)
	}
	cfg := p.tls
	if h1 {
		cfg = cfg.Clone()
		cfg.NextProtos = []string{"http/1.1"}
	}
	tc := tls.Client(c, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, classify(err, phaseTLS, false)
	}
	if b.GRPC && tc.ConnectionState().NegotiatedProtocol != "h2" {
		return nil, failure(wedge.FailureH2, errors.New("origin does not speak HTTP/2"))
	}
	return tc, nil
}
