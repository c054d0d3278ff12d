package node

import (
	"context"
	"crypto/x509"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/wedge-cloud/wedge/front"
	"github.com/wedge-cloud/wedge/handover"
	"github.com/wedge-cloud/wedge/manifest"
)

// Config is what a node needs that only a restart can change. What it serves comes from Load.
type Config struct {
	// Load returns the apps to serve, built, with their guests' bytes in the versions. It is called
	// at the start and, with Watch, which is for one app, whenever a file of it has changed.
	// With a Fleet it may be nil: the catalog says what to serve.
	Load func(context.Context) ([]*manifest.App, error)

	HTTP         []string // addresses of plain listeners, "host:port"
	HTTPS        []string // addresses of TLS listeners
	Certificates []front.CertificateFiles
	ClientCert   front.ClientCert // whether TLS clients are asked for a certificate
	ClientCAs    *x509.CertPool   // who may have signed it

	Fleet *FleetConfig // nil: the node is alone

	Sinks map[string]SinkConfig // of raw events, by the names that services choose them by; only with a Fleet

	DNS *DNSConfig // answers DNS, too; only with a Fleet

	// LocalNames gives each service of the catalog the host NAME.localhost besides its own: for worlds.
	LocalNames bool

	Ops string // address for operators, see ops; "": none

	DataDir     string // where stores keep what is written
	Ephemeral   bool   // stores keep nothing; DataDir is not used
	CacheDir    string // where compiled code is kept; empty: DefaultCacheDir
	CacheMemory int64  // bytes of stored responses in memory; 0: the cache's default
	CacheDisk   int64  // bytes of stored responses in DataDir; 0: DefaultCacheDisk, negative: none

	Watch bool // load anew on changes
	Trace bool // show every request's steps
	JSON  bool // traces as JSON lines
	Quiet bool // no line per request

	NoHits bool // hits take the way of all requests, for comparison

	MaxSandboxes int           // at once; 0: the engine's default
	DrainTimeout time.Duration // for requests in flight at the end; 0: 30 s

	Stdout io.Writer // what guests print
	Stderr io.Writer // everything Wedge has to say
	Log    *slog.Logger

	// Term has the sockets that outlive the process, and its successor; nil: there is none.
	Term *handover.Term

	HomePace    time.Duration // see DefaultHomePace
	DeclarePace time.Duration // how often it tells the core how far it has seen what others wrote; 0: 5 s

	Now  func() time.Time // the clock; nil: time.Now. How long something takes is measured by another, that nobody sets
	Full func() bool      // has DataDir's disk be full, whatever it says itself; for tests

	Started func(*Node) // called when the node serves; for tests
}

// One makes a Config's Load of what loads one app.
func One(load func(context.Context) (*manifest.App, error)) func(context.Context) ([]*manifest.App, error) {
	return func(ctx context.Context) ([]*manifest.App, error) {
		app, err := load(ctx)
		return []*manifest.App{app}, err
	}
}

// DefaultCacheDir returns the user's cache directory for compiled code, or "" if there is none.
func DefaultCacheDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "wedge", "code")
}

// DefaultCacheDisk is how many bytes of stored responses a node keeps on disk.
const DefaultCacheDisk = 1 << 30

// caching returns where stored responses lie, and how many bytes of them.
func (c Config) caching() (dir string, bytes int64) {
	if c.Ephemeral || c.DataDir == "" {
		return "", 0
	}
	return filepath.Join(c.DataDir, "cache"), max(0, c.CacheDisk)
}

// pop returns the name of the PoP that the node is at.
func (c Config) pop() string {
	if c.Fleet == nil {
		return "local"
	}
	return c.Fleet.PoP.Name
}

func (c Config) withDefaults() Config {
	if c.Stdout == nil {
		c.Stdout = io.Discard
	}
	if c.Stderr == nil {
		c.Stderr = io.Discard
	}
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(c.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	if c.CacheDir == "" {
		c.CacheDir = DefaultCacheDir()
	}
	if c.CacheDisk == 0 {
		c.CacheDisk = DefaultCacheDisk
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 30 * time.Second
	}
	return c
}
