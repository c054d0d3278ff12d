package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/wedge-cloud/wedge"
)

const (
	maxMessage = 512 << 10 // bytes of one message of a log
	maxHead    = 4 << 10

	// A link that was cut without a word is noticed after two of these.
	pingInterval = 5 * time.Second
	pingsOut     = 2

	reconnectWait = 250 * time.Millisecond // between tries at first, with as much again by chance: a thousand PoPs do not come back at once
	mostWait      = 2 * time.Second
	askTimeout    = 2 * time.Second // for an answer from the core
)

// LinkConfig says how a PoP reaches the core.
type LinkConfig struct {
	Name string                                  // of the node, for the core's operator
	Dial func(context.Context) (net.Conn, error) // to a core
	URLs []string                                // of the core's servers, instead of Dial; one will do, for it names the others
	Log  *slog.Logger

	Member *Member     // with its pass; nil: the core lets everybody in
	PoP    string      // whose it is; "": a core's
	TLS    *tls.Config // for URLs; nil: as they say

	// Twist is given each message that the link hears, and passes it on: at once, later, twice, behind others or never, from any
	// goroutine, until the link is closed. It is for tests; nil: all come as they came.
	Twist func(subject string, pass func())

	Learned func(urls []string) // told of the core's servers, now and then; nil: nobody is
}

// Link is a connection to the core that comes back by itself, for as long as it takes. All of its methods
// are safe for concurrent use.
type Link struct {
	cfg  LinkConfig
	nc   *nats.Conn
	up   atomic.Bool
	mu   sync.Mutex
	came chan struct{} // closed, and replaced, when the link comes up
}

// Connect returns a link that connects in the background.
func Connect(cfg LinkConfig) (*Link, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	l := &Link{cfg: cfg, came: make(chan struct{})}
	var said atomic.Pointer[string] // last: each try says it again
	say := func(what string, err error) {
		if last, why := said.Load(), err.Error(); last == nil || *last != why {
			said.Store(&why)
			cfg.Log.Warn(what, "link", cfg.Name, "err", err)
		}
	}
	opts := nats.Options{
		Name: cfg.Name, Servers: cfg.URLs, AllowReconnect: true, MaxReconnect: -1, RetryOnFailedConnect: true, Timeout: askTimeout,
		IgnoreAuthErrorAbort: true, // a pass may be good again
		CustomReconnectDelayCB: func(tries int) time.Duration {
			return min(reconnectWait*time.Duration(1+tries/8), mostWait) + rand.N(reconnectWait)
		},
		IgnoreDiscoveredServers: cfg.Dial != nil,
		ReconnectBufSize:        -1, // what cannot be sent fails: outboxes keep it, and nothing waits unseen
		InboxPrefix:             inbox(cfg.PoP),
		PingInterval:            pingInterval, MaxPingsOut: pingsOut, SubChanLen: 64 << 10,
		ReconnectErrCB: func(_ *nats.Conn, err error) { say("the core cannot be reached", err) },
		ConnectedCB:    l.isUp, ReconnectedCB: l.isUp, DiscoveredServersCB: l.learn,
		DisconnectedErrCB: func(_ *nats.Conn, err error) { l.isDown(err) },
		AsyncErrorCB: func(_ *nats.Conn, s *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrSlowConsumer) {
				cfg.Log.Warn("the bus dropped messages, which will be read again", "err", err)
			} else {
				say("the core refuses something", err)
			}
		},
	}
	if cfg.Member != nil {
		opts.UserJWT = func() (string, error) { return cfg.Member.pass, nil }
		opts.SignatureCB = cfg.Member.key.Sign
	}
	if cfg.TLS != nil {
		opts.Secure, opts.TLSConfig = true, cfg.TLS
	}
	if cfg.Dial != nil {
		opts.Servers, opts.CustomDialer = []string{"nats://127.0.0.1:1"}, dialer(cfg.Dial) // an address that nobody resolves or dials
	}
	var err error
	if l.nc, err = opts.Connect(); err != nil {
		return nil, &wedge.Error{Op: "connect to the core", Kind: wedge.Invalid, Err: err}
	}
	if l.nc.IsConnected() {
		l.isUp(l.nc)
	}
	return l, nil
}

// Traffic returns how many bytes of messages came by the link, and went, since it was made.
func (l *Link) Traffic() (in, out uint64) {
	s := l.nc.Stats()
	return s.InBytes, s.OutBytes
}

type dialer func(context.Context) (net.Conn, error)

// Dial implements nats.CustomDialer.
func (d dialer) Dial(string, string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	return d(ctx)
}

// SkipTLSHandshake implements nats.CustomDialer: whoever dials sees to that.
func (d dialer) SkipTLSHandshake() bool { return true }

// learn tells of the core's servers.
func (l *Link) learn(nc *nats.Conn) {
	if l.cfg.Learned != nil && l.cfg.Dial == nil {
		l.cfg.Learned(nc.Servers())
	}
}

func (l *Link) isUp(nc *nats.Conn) {
	l.learn(nc)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.up.Swap(true) {
		close(l.came)
		l.came = make(chan struct{})
	}
}

func (l *Link) isDown(err error) {
	l.up.Store(false)
	if err != nil {
		l.cfg.Log.Info("the link to the core is down", "err", err)
	}
}

// Up reports whether the core can be reached, as far as is known.
func (l *Link) Up() bool { return l.up.Load() }

// Came returns a channel that is closed when the link comes up the next time.
func (l *Link) Came() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.came
}

// wait returns when the link is up, and when ctx ends with its error.
func (l *Link) wait(ctx context.Context) error {
	for !l.Up() {
		came := l.Came()
		if l.Up() {
			break
		}
		select {
		case <-came:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Close ends the link.
func (l *Link) Close() { l.nc.Close() }

// Say sends a message to whoever listens now. It fails if the link is down.
func (l *Link) Say(subject string, data []byte) error {
	return l.nc.Publish(subject, data)
}

// Hear calls f with each message said about a subject, one after the other, until stop is called. While the link is
// down nothing is heard.
func (l *Link) Hear(subject string, f func(subject string, data []byte)) (stop func(), err error) {
	return l.subscribe(subject, func(m *nats.Msg) { f(m.Subject, m.Data) })
}

func (l *Link) subscribe(subject string, f func(*nats.Msg)) (stop func(), err error) {
	each := f
	if l.cfg.Twist != nil {
		var turn sync.Mutex
		each = func(m *nats.Msg) {
			l.cfg.Twist(m.Subject, func() {
				turn.Lock()
				defer turn.Unlock()
				if !l.nc.IsClosed() {
					f(m)
				}
			})
		}
	}
	s, err := l.nc.Subscribe(subject, each)
	if err != nil {
		return nil, err
	}
	return func() { _ = s.Unsubscribe() }, nil
}

// unavailable is how an operation fails because the core is out of reach, or does not say what became of it.
func unavailable(op, what string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return &wedge.Error{Op: op, What: what, Kind: wedge.Unavailable, Err: err, Hint: "Is the core running, and the link to it up?"}
}

// pause waits a moment before something is tried again.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Ask sends a question about a subject to one of those who answer, and returns the answer.
func (l *Link) Ask(ctx context.Context, subject string, question []byte) ([]byte, error) {
	if !l.Up() {
		return nil, unavailable("ask", subject, errors.New("the link to the core is down"))
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	m, err := l.nc.RequestWithContext(ctx, subject, question)
	if err != nil {
		return nil, unavailable("ask", subject, err)
	}
	return m.Data, nil
}

// Answer calls f with each question about a subject that no other of those who answer gets, from goroutines of its own but for a
// few at a time, and sends what it returns, until stop is called.
func (l *Link) Answer(subject string, f func(subject string, question []byte) []byte) (stop func(), err error) {
	slots := make(chan struct{}, answering)
	s, err := l.nc.QueueSubscribe(subject, "answer", func(m *nats.Msg) {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			answer := f(m.Subject, m.Data)
			if m.Reply != "" {
				_ = m.Respond(answer) // who asked asks again
			}
		}()
	})
	if err != nil {
		return nil, err
	}
	return func() { _ = s.Unsubscribe() }, nil
}

// answering is how many questions about one subject are answered at once.
const answering = 16
