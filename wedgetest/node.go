package wedgetest

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge/front"
	"github.com/wedge-cloud/wedge/manifest"
	"github.com/wedge-cloud/wedge/node"
)

// App is what a test's node serves.
type App struct {
	Guest    []byte // nil: a service without a guest
	Manifest string // more of wedge.toml; name and guest are there already
	Files    map[string]string
}

// Load returns the app as a node loads it. dir is where its manifest is written.
func (a App) Load(dir string) (*manifest.App, error) {
	head := "name = \"test\"\nguest = \"guest.wasm\"\n"
	if a.Guest == nil {
		head = "name = \"test\"\n"
	}
	files := map[string]string{"wedge.toml": head + a.Manifest}
	for name, text := range a.Files {
		files[name] = text
	}
	for name, text := range files {
		if old, err := os.ReadFile(filepath.Join(dir, name)); err == nil && string(old) == text {
			continue // what is watched must not look changed
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	app, err := manifest.Load(filepath.Join(dir, "wedge.toml"))
	if err != nil {
		return nil, err
	}
	app.Version.Guest = a.Guest
	return app, nil
}

// Node is a node that runs in this process, on loopback ports of its own.
type Node struct {
	URL, TLS string // base URLs; TLS is "" without certificates
	Addr     string // host:port of the plain listener
	Node     *node.Node
	Dir      string // where the app's manifest lies
	Stdout   *Buffer
	Stderr   *Buffer
	Client   *http.Client // for URL; follows no redirects, asks for no compression

	stop context.CancelFunc
	done chan error
	once sync.Once
	err  error
}

// Option changes how a node is started.
type Option func(*node.Config)

// WithTLS gives the node a TLS listener with the certificate.
func WithTLS(c Certificate) Option {
	return func(cfg *node.Config) {
		cfg.HTTPS = []string{"127.0.0.1:0"}
		cfg.Certificates = []front.CertificateFiles{{Cert: c.CertFile, Key: c.KeyFile}}
	}
}

// Start runs a node that serves app until the test ends or [Node.Stop].
func Start(t testing.TB, app App, opts ...Option) *Node {
	t.Helper()
	n, err := Open(t.TempDir(), app, opts...)
	if err != nil {
		t.Fatalf("start node: %v", err)
	}
	t.Cleanup(func() {
		if err := n.Stop(); err != nil {
			t.Errorf("node ended with: %v", err)
		}
	})
	return n
}

// Open is Start outside of a test's life: dir takes the app's files, and the caller stops the node.
func Open(dir string, app App, opts ...Option) (*Node, error) {
	n := &Node{Dir: dir, Stdout: new(Buffer), Stderr: new(Buffer), done: make(chan error, 1)}
	started := make(chan *node.Node, 1)
	cfg := node.Config{
		Load:      node.One(func(context.Context) (*manifest.App, error) { return app.Load(dir) }),
		HTTP:      []string{"127.0.0.1:0"},
		Ephemeral: true,
		Stdout:    n.Stdout, Stderr: n.Stderr,
		DrainTimeout: 10 * time.Second,
		Started:      func(n *node.Node) { started <- n },
	}
	for _, o := range opts {
		o(&cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	go func() { n.done <- node.Run(ctx, cfg) }()
	select {
	case n.Node = <-started:
	case err := <-n.done:
		cancel()
		return nil, err
	}
	plain, secure := n.Node.Addrs()
	n.Addr = plain[0].String()
	n.URL = "http://" + n.Addr
	if len(secure) > 0 {
		n.TLS = "https://" + secure[0].String()
	}
	n.Client = NewClient()
	return n, nil
}

// Stop drains the node and returns what node.Run returned.
func (n *Node) Stop() error {
	n.once.Do(func() {
		n.stop()
		n.Client.CloseIdleConnections()
		select {
		case n.err = <-n.done:
		case <-time.After(2 * Patience):
			n.err = fmt.Errorf("the node did not stop within %v", 2*Patience)
		}
	})
	return n.err
}

// BeginStop begins to drain and returns at once; Stop waits for the end.
func (n *Node) BeginStop() { n.stop() }

// Buffer collects what is written to it, of late at least; it is safe for concurrent use.
type Buffer struct {
	Max int // bytes kept; 0: 4 MiB

	mu sync.Mutex
	b  []byte
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	limit := b.Max
	if limit == 0 {
		limit = 4 << 20
	}
	if b.b = append(b.b, p...); len(b.b) > limit {
		b.b = append(b.b[:0], b.b[len(b.b)-limit/2:]...)
	}
	return len(p), nil
}

// String returns what was written.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.b)
}

// Has reports whether s was written.
func (b *Buffer) Has(s string) bool { return strings.Contains(b.String(), s) }

// About returns the lines written from the first one that contains s on; "" if none does.
func (b *Buffer) About(s string) string {
	text := b.String()
	i := strings.Index(text, s)
	if i < 0 {
		return ""
	}
	return text[strings.LastIndexByte(text[:i], '\n')+1:]
}
