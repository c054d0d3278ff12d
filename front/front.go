// Package front is the client side of a PoP: it listens, speaks TLS and HTTP with clients,
// and gives each request to the route that the current table has for its host.
//
// A connection is admitted once it is known what it speaks (listen.go), its HTTP/1.1 messages
// are followed byte by byte so that they have one reading only (conn.go, frame.go), and each
// request is checked, counted and routed (serve.go, check.go, table.go). HTTP itself is
// net/http's work.
package front

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge"
)

// Front serves clients. Make one with [New], give it a table with [Front.Swap], start it with
// [Front.Run].
type Front struct {
	cfg      Config
	tls      *tls.Config
	h1, h2   *http.Server
	h1conns  handedOver
	h2conns  handedOver
	current  atomic.Pointer[generation]
	certs    atomic.Pointer[certificates]
	stats    counters
	started  atomic.Bool
	draining atomic.Bool

	accepting sync.WaitGroup // until nothing is accepted any more
	// unparking is set once connections that wait between hits are to be closed.
	unparking atomic.Bool
	turns     turnstile
	ready     chan struct{}
	over      chan struct{} // closed when no more connections are handed to the servers

	mu            sync.Mutex
	plain, secure []net.Listener
	conns         map[*rawConn]struct{} // open
}

var errDrained = errors.New("the front's drain timeout ended")

// New returns a front that is not running yet.
func New(cfg Config) *Front {
	f := &Front{cfg: cfg.withDefaults(), ready: make(chan struct{}), over: make(chan struct{}), conns: map[*rawConn]struct{}{}}
	f.tls = f.tlsConfig()
	f.h1conns = handedOver{make(chan net.Conn), f.over}
	f.h2conns = handedOver{make(chan net.Conn), f.over}
	return f
}

// Ready is closed once the front listens.
func (f *Front) Ready() <-chan struct{} { return f.ready }

// Run listens and serves until ctx ends, then drains: it stops accepting, lets the requests in
// flight finish for up to DrainTimeout, cuts what is left and returns nil. An error, of kind
// Invalid, Unavailable or Internal, means that it could not listen or a listener failed.
// Run can be called once.
func (f *Front) Run(ctx context.Context) error {
	if f.started.Swap(true) {
		return &wedge.Error{Op: "run front", Kind: wedge.Invalid, Err: errors.New("it ran already"), Hint: "Make a new front."}
	}
	err := f.listen()
	if err == nil && len(f.secure) > 0 {
		err = f.ReloadCertificates()
	}
	if err != nil {
		f.closeListeners()
		return err
	}
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(errDrained)
	f.serve(base)
	failed := f.acceptAll()
	close(f.ready)
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	patience := f.cfg.DrainTimeout
	if context.Cause(ctx) == ErrKilled {
		patience = 0
	}
	f.drain(cancel, patience)
	return err
}

// serve starts the two servers. They are apart because HTTP/2 connections are told at once to
// go away when the front drains, and HTTP/1.1 ones cannot be told but in a response.
func (f *Front) serve(base context.Context) {
	f.h1, f.h2 = f.server(base), f.server(base)
	f.h1.Protocols.SetHTTP1(true)
	f.h1.ConnState = connState
	f.h2.Protocols.SetHTTP2(true)
	f.h2.Protocols.SetUnencryptedHTTP2(true)
	go f.h1.Serve(&f.h1conns)
	go f.h2.Serve(&f.h2conns)
}

func (f *Front) server(base context.Context) *http.Server {
	return &http.Server{
		Handler:                      f,
		Protocols:                    new(http.Protocols),
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            f.cfg.ReadHeaderTimeout,
		IdleTimeout:                  f.cfg.IdleTimeout,
		MaxHeaderBytes:               f.cfg.MaxHeaderBytes,
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: f.cfg.MaxStreams},
		ErrorLog:                     slog.NewLogLogger(f.cfg.Log.Handler(), slog.LevelDebug),
		BaseContext:                  func(net.Listener) context.Context { return base },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, infoKey{}, infoOf(c))
		},
	}
}

type infoKey struct{}

// infoOf finds what is known of a connection that an http.Server was handed.
func infoOf(c net.Conn) *connInfo {
	if t, ok := c.(*tls.Conn); ok {
		return &t.NetConn().(*rawConn).info
	}
	return h1Of(c).info
}

// acceptAll starts accepting on every listener; the first that fails is reported.
func (f *Front) acceptAll() <-chan error {
	failed := make(chan error, len(f.plain)+len(f.secure))
	for _, l := range f.plain {
		f.accepting.Go(func() { failed <- f.accept(l, false) })
	}
	for _, l := range f.secure {
		f.accepting.Go(func() { failed <- f.accept(l, true) })
	}
	return failed
}

// freshGrace is how long a drain waits for the first request of connections that were just
// accepted: their clients could not know.
const freshGrace = time.Second

// cutGrace is how long handlers get to return once their connections are cut.
const cutGrace = time.Second

// ErrKilled is the cause of a context that ends Run without a drain: connections are cut.
var ErrKilled = errors.New("killed")

func (f *Front) drain(cancel context.CancelCauseFunc, patience time.Duration) {
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	f.draining.Store(true)
	if patience > 0 {
		f.lastAccepts()
	}
	f.closeListeners()
	f.cfg.Log.Info("draining", "requests", f.stats.inFlight.Load())
	until(ctx, freshGrace, func() bool { return !f.anyFresh() })
	f.closeConns((*rawConn).isFresh)
	close(f.over)

	h2done := make(chan struct{})
	go func() {
		f.h2.Shutdown(ctx)
		close(h2done)
	}()
	until(ctx, patience, func() bool { return f.stats.inFlight.Load() == 0 })
	f.unparking.Store(true)
	f.closeConns((*rawConn).isParked) // Shutdown may take them for new ones and wait
	f.h1.Shutdown(ctx)
	<-h2done
	if n := f.stats.inFlight.Load(); n > 0 {
		f.cfg.Log.Warn("drain timeout ended, cutting requests", "requests", n)
	}
	cancel(errDrained)
	f.h1.Close()
	f.h2.Close()
	f.closeConns(func(*rawConn) bool { return true })
	until(context.Background(), cutGrace, func() bool { return f.stats.inFlight.Load() == 0 })
	f.turns.close()
}

// until looks at cond, less and less often, until it holds, ctx ends or limit has passed.
func until(ctx context.Context, limit time.Duration, cond func() bool) {
	ctx, stop := context.WithTimeout(ctx, limit)
	defer stop()
	for wait := time.Millisecond; !cond(); wait = min(2*wait, 50*time.Millisecond) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// remember notes an open connection, unless there are too many.
func (f *Front) remember(c *rawConn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.conns) >= f.cfg.MaxConnections {
		return false
	}
	f.conns[c] = struct{}{}
	return true
}

func (f *Front) forget(c *rawConn) {
	f.mu.Lock()
	delete(f.conns, c)
	f.mu.Unlock()
}

func (c *rawConn) isFresh() bool { return c.info.requests.Load() == 0 }

func (c *rawConn) isParked() bool { return c.info.parked.Load() }

func (f *Front) anyFresh() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		if c.isFresh() {
			return true
		}
	}
	return false
}

func (f *Front) closeConns(which func(*rawConn) bool) {
	f.mu.Lock()
	var close []*rawConn
	for c := range f.conns {
		if which(c) {
			close = append(close, c)
		}
	}
	f.mu.Unlock()
	for _, c := range close {
		c.Close()
	}
}
