package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/wedge-cloud/wedge"
)

// PoPs reach each other over HTTP/2, each at a listener of its own for peers. There is no authority for certificates: each PoP
// makes one and says its print on the bus, where it can speak in its own name only. So who holds the key of the certificate with
// the print that fra1 has said is fra1, whoever connects to whom.

// PeerConfig says where other PoPs reach this one.
type PeerConfig struct {
	Listen string // host:port; "": nowhere, and this PoP reaches no other
	Public string // host:port where they reach it; "": Listen

	// Dial connects to a PoP; nil: to its Peer over TCP. For worlds.
	Dial func(ctx context.Context, to *wedge.PoP) (net.Conn, error)
}

// peers is a node's part in what PoPs ask each other.
type peers struct {
	own       wedge.PoP // with Peer and Print
	pops      *popMap
	hears     func() bool // whether a PoP's silence means something
	dialer    func(context.Context, *wedge.PoP) (net.Conn, error)
	cert      tls.Certificate
	listener  net.Listener
	server    http.Server
	transport *http.Transport
	ends      atomic.Pointer[context.Context] // of run: what fails when it is over fails for that

	stats struct {
		calls, shielded, failed, direct, served, refused atomic.Int64
	}

	mu   sync.Mutex
	away map[string]time.Time // PoPs that could not be reached, until when they are left alone
}

const (
	peerCertFile = "peer.crt"
	peerKeyFile  = "peer.key"

	peerDialTime  = 2 * time.Second
	peerAwayTime  = time.Second     // before a PoP that could not be reached is tried again
	peerPing      = 5 * time.Second // a connection on which nothing came for so long is asked, and given up after as long again
	maxPeerConns  = 4096            // at the listener, those of strangers included
	maxPeerFlight = 1000            // requests of one connection at once
)

// openPeers takes the listener for peers; serve answers them.
func (f *fleet) openPeers(serve http.Handler, dir string, log *slog.Logger) (p *peers, err error) {
	cfg := f.cfg.Peers
	p = &peers{pops: &f.pops, hears: f.link.Up, dialer: cfg.Dial, away: map[string]time.Time{}}
	if p.cert, err = openCertificate(dir, peerCertFile, peerKeyFile, f.cfg.PoP.Name); err != nil {
		return nil, err
	}
	if p.listener, err = net.Listen("tcp", cfg.Listen); err != nil {
		return nil, &wedge.Error{Op: "listen", What: cfg.Listen, Kind: wedge.Unavailable, Err: err, Hint: "Is something else listening there? Choose another address in [peers]."}
	}
	p.listener = &fewer{Listener: p.listener, free: make(chan struct{}, maxPeerConns)}
	p.own = f.cfg.PoP
	p.own.Print = printOf(p.cert.Certificate[0])
	if p.own.Peer = cfg.Public; p.own.Peer == "" {
		p.own.Peer = p.listener.Addr().String()
	}
	if err := p.own.Check(); err != nil {
		p.listener.Close()
		return nil, fmt.Errorf("[peers] public: %w", err)
	}
	if p.dialer == nil {
		var d net.Dialer
		p.dialer = func(ctx context.Context, to *wedge.PoP) (net.Conn, error) { return d.DialContext(ctx, "tcp", to.Peer) }
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	h2 := &http.HTTP2Config{MaxConcurrentStreams: maxPeerFlight, SendPingTimeout: peerPing, PingTimeout: peerPing}
	p.server = http.Server{Handler: serve, TLSConfig: p.listenTLS(), Protocols: protocols, HTTP2: h2, MaxHeaderBytes: 2 * maxHeaderBytes,
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 5 * time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	p.transport = &http.Transport{DialTLSContext: p.dial, Protocols: protocols, HTTP2: h2, DisableCompression: true, MaxResponseHeaderBytes: 2 * maxHeaderBytes,
		IdleConnTimeout: 4 * time.Minute, ExpectContinueTimeout: 10 * time.Second}
	return p, nil
}

// run answers peers until ctx ends.
func (p *peers) run(ctx context.Context) error {
	p.ends.Store(&ctx)
	stop := context.AfterFunc(ctx, func() { _ = p.server.Close() })
	defer stop()
	defer p.transport.CloseIdleConnections()
	if err := p.server.ServeTLS(p.listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// over reports whether this node stops: what it cannot do any more says nothing about origins.
func (p *peers) over() bool {
	ctx := p.ends.Load()
	return ctx != nil && (*ctx).Err() != nil
}

func (p *peers) close() {
	_ = p.server.Close()
	p.listener.Close()
	p.transport.CloseIdleConnections()
}

// listenTLS lets only PoPs in that are members, as far as is known here.
func (p *peers) listenTLS() *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{p.cert}, MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if _, ok := p.who(&s); !ok {
				p.stats.refused.Add(1)
				return errors.New("no PoP that is known here")
			}
			return nil
		},
	}
}

// who says which PoP is at the other end. A certificate says a name, which anybody can write into one; that PoP must
// have said the certificate's print, or the name is a lie.
func (p *peers) who(s *tls.ConnectionState) (name string, ok bool) {
	if s == nil || len(s.PeerCertificates) == 0 {
		return "", false
	}
	c := s.PeerCertificates[0]
	pop, known := p.pops.named(c.Subject.CommonName)
	return pop.Name, known && pop.Name != p.own.Name && pop.Print == printOf(c.Raw)
}

// unreachedError is how a request fails of which nothing was sent.
type unreachedError struct{ wedge.FetchError }

func unreachable(pop string, why wedge.FetchFailure, err error) error {
	return &unreachedError{wedge.FetchError{Backend: pop, Failure: why, Err: err}}
}

// Unwrap makes it a *wedge.FetchError.
func (e *unreachedError) Unwrap() error { return &e.FetchError }

// peerDomain is that of the names by which the transport knows PoPs. They are not looked up.
const peerDomain = ".pop.invalid"

// dial connects to the PoP of a name.
func (p *peers) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	name := host[:max(0, len(host)-len(peerDomain))]
	to, known := p.pops.named(name)
	if err != nil || !known || to.Peer == "" {
		return nil, unreachable(name, wedge.FailureNotFound, errors.New("no PoP with a listener for peers is known by this name"))
	}
	ctx, cancel := context.WithTimeout(ctx, peerDialTime)
	defer cancel()
	c, err := p.dialer(ctx, &to)
	if err == nil {
		cfg := pinned(to.Print, errors.New("this is not the certificate that "+name+" has said is its own"))
		cfg.Certificates, cfg.NextProtos = []tls.Certificate{p.cert}, []string{"h2"}
		secured := tls.Client(c, cfg)
		if err = secured.HandshakeContext(ctx); err == nil {
			return secured, nil
		}
		c.Close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away[name] = time.Now().Add(peerAwayTime)
	return nil, unreachable(name, dialFailure(err), err)
}

func dialFailure(err error) wedge.FetchFailure {
	var timeout net.Error
	var alert tls.AlertError
	var unverified *tls.CertificateVerificationError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return wedge.FailureConnectTimeout
	case errors.Is(err, syscall.ECONNREFUSED):
		return wedge.FailureRefused
	case errors.As(err, &alert):
		return wedge.FailureTLSAlert
	case errors.As(err, &unverified):
		return wedge.FailureCertificate
	}
	return wedge.FailureUnavailable
}

// there reports whether it makes sense to ask a PoP.
func (p *peers) there(to *wedge.PoP) bool {
	if to.Peer == "" || to.Name == p.own.Name || p.hears() && time.Since(to.Seen) >= popTimeout {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return !time.Now().Before(p.away[to.Name])
}

func (p *peers) metrics() []metric {
	c, s := counter, &p.stats
	return []metric{
		c("peer_calls_total", "Tries to have another PoP answer for a service that is not here.", s.calls.Load()),
		c("peer_shielded_total", "Fetches that were sent to their backend's shield.", s.shielded.Load()),
		c("peer_failed_total", "Of these two, those that failed.", s.failed.Load()),
		c("peer_direct_total", "Fetches that went to the origin because the shield was away.", s.direct.Load()),
		c("peer_served_total", "Requests of other PoPs.", s.served.Load()),
		c("peer_refused_total", "Connections refused because they were not a known PoP's.", s.refused.Load()),
	}
}

// fewer is a listener that closes connections over a number.
type fewer struct {
	net.Listener
	free chan struct{}
}

// Accept implements net.Listener.
func (l *fewer) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.free <- struct{}{}:
			return &counted{Conn: c, gone: sync.OnceFunc(func() { <-l.free })}, nil
		default:
			c.Close()
		}
	}
}

// counted is a connection that makes room when it is closed.
type counted struct {
	net.Conn
	gone func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.gone()
	return c.Conn.Close()
}
