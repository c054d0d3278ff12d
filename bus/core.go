package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/wedge-cloud/wedge"
)

// CoreConfig says how a core's server works. One that is alone needs Dir only.
type CoreConfig struct {
	Name    string   // of the server, unique in the fleet; "": core
	Dir     string   // where logs lie, this server's alone
	Listen  string   // host:port for links from outside the process; "": none
	Public  string   // host:port where links from outside reach it; "": Listen
	Cluster string   // host:port for the core's other servers; "": it is alone
	Peers   []string // host:port of all of the core's servers; each has the same
	Log     *slog.Logger

	Keys     *Keys       // with which passes are signed; nil: everybody gets in
	Expelled []string    // public keys whose passes are of no use any more
	TLS      *tls.Config // for Listen; nil: none
	PeersTLS *tls.Config // for Cluster, both ways; nil: none
}

// Core is an embedded server that keeps the fleet's logs. Which logs there are is for links to say, see
// [Link.Keep].
type Core struct {
	server *server.Server
	keys   *Keys
}

// readyTimeout is how long a server may take until it answers.
const readyTimeout = 10 * time.Second

// OpenCore starts a server. Everything in its logs is on disk before it is acknowledged: it refuses to run
// otherwise.
func OpenCore(cfg CoreConfig) (*Core, error) {
	fail := func(kind wedge.Kind, err error, hint string) (*Core, error) {
		return nil, &wedge.Error{Op: "open core", What: cfg.Dir, Kind: kind, Err: err, Hint: hint}
	}
	opts, err := cfg.options()
	if err != nil {
		return fail(wedge.Invalid, err, "")
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return fail(wedge.Invalid, err, "")
	}
	s.Start()
	c := &Core{server: s, keys: cfg.Keys}
	if !s.ReadyForConnections(readyTimeout) {
		c.Close()
		return fail(wedge.Unavailable, errors.New("the server does not answer"), "Is its address in use, or its directory another's?")
	}
	if js := s.JetStreamConfig(); js == nil || !js.SyncAlways {
		c.Close()
		return fail(wedge.Internal, errors.New("what is acknowledged would not be on disk"), "")
	}
	return c, nil
}

// storeBound is larger than any disk: each log has a bound of its own, which it reaches if ever after a long time. NATS would have all of them
// fit into the disk from the start, or not begin.
const storeBound = 1 << 50

// options says it in NATS's words.
func (cfg *CoreConfig) options() (*server.Options, error) {
	o := &server.Options{
		ServerName: cfg.Name, DontListen: cfg.Listen == "", NoSigs: true, NoLog: true, MaxPayload: maxMessage + maxHead,
		JetStream: true, StoreDir: cfg.Dir, JetStreamMaxStore: storeBound, SyncAlways: true, PingInterval: pingInterval, MaxPingsOut: pingsOut, WriteDeadline: 10 * time.Second,
	}
	if o.ServerName == "" {
		o.ServerName = "core"
	}
	var err error
	if cfg.Listen != "" {
		if o.Host, o.Port, err = hostPort(cfg.Listen); err != nil {
			return nil, err
		}
	}
	if cfg.Keys != nil {
		if err := cfg.Keys.guard(o, cfg.Expelled); err != nil {
			return nil, err
		}
	}
	if cfg.TLS != nil {
		o.TLSConfig, o.TLSTimeout = cfg.TLS, 5
	}
	o.ClientAdvertise = cfg.Public
	if cfg.Cluster != "" {
		o.Cluster.Name, o.Cluster.TLSConfig, o.Cluster.TLSTimeout = "core", cfg.PeersTLS, 5
		if o.Cluster.Host, o.Cluster.Port, err = hostPort(cfg.Cluster); err != nil {
			return nil, err
		}
		for _, p := range cfg.Peers {
			o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: p})
		}
	}
	return o, nil
}

func hostPort(addr string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	if port, err = strconv.Atoi(p); err != nil {
		return "", 0, err
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}

// Addr returns the address for links from outside the process, "" if there is none.
func (c *Core) Addr() string {
	if a := c.server.Addr(); a != nil {
		return a.String()
	}
	return ""
}

// Expel makes the passes of these public keys useless, and ends their links; it names all that were ever expelled.
func (c *Core) Expel(all []string) error {
	public, err := c.keys.account.PublicKey()
	if err != nil {
		return &wedge.Error{Op: "expel", Kind: wedge.Internal, Err: err}
	}
	text, err := c.keys.accountPass("wedge", public, all)
	if err != nil {
		return &wedge.Error{Op: "expel", Kind: wedge.Internal, Err: err}
	}
	claims, err := jwt.DecodeAccountClaims(text)
	if err != nil {
		return &wedge.Error{Op: "expel", Kind: wedge.Internal, Err: err}
	}
	account, err := c.server.LookupAccount(public)
	if err != nil {
		return &wedge.Error{Op: "expel", Kind: wedge.Internal, Err: err}
	}
	c.server.UpdateAccountClaims(account, claims)
	return nil
}

// Dial connects within the process.
func (c *Core) Dial(context.Context) (net.Conn, error) { return c.server.InProcessConn() }

// Close stops the server. Its logs stay.
func (c *Core) Close() {
	c.server.Shutdown()
	c.server.WaitForShutdown()
}
