package front

import (
	"crypto/x509"
	"log/slog"
	"net"
	"time"
)

// Config says where a front listens and what it lets in. The zero value of a field means
// its default.
type Config struct {
	HTTP           []string       // addresses for plain HTTP/1.1 and h2c, "host:port"
	HTTPListeners  []net.Listener // listeners for the same, already bound; the front closes them
	HTTPS          []string       // addresses for TLS, with HTTP/1.1 and HTTP/2 by ALPN
	HTTPSListeners []net.Listener // listeners for the same, already bound and without TLS

	// Listen binds an address of HTTP or HTTPS, which the name says; nil: net.Listen.
	Listen func(name, addr string) (net.Listener, error)

	Certificates []CertificateFiles // needed for TLS; the first answers clients that name no known host
	ClientCert   ClientCert         // whether clients are asked for a certificate
	ClientCAs    *x509.CertPool     // who may have signed client certificates; nil: the system's roots

	MaxRequests    int // in flight at once, hijacked connections included; default 16,384
	MaxConnections int // open at once; more are closed unanswered; default 32,768
	MaxStreams     int // of one HTTP/2 connection at once; default 250
	MaxHeaderBytes int // of a request's header section; default 128 KiB
	MaxHeaderLines int // default 256
	MaxURI         int // bytes of the request target; default 8,192

	ReadHeaderTimeout time.Duration // from a request's first byte to the end of its header section; default 10 s
	HandshakeTimeout  time.Duration // of TLS; default 10 s
	IdleTimeout       time.Duration // of a kept-alive connection; default 75 s
	StallTimeout      time.Duration // how long a client may leave a write untaken; default 60 s
	DrainTimeout      time.Duration // how long requests in flight may go on after Run's context ended; default 30 s

	NoHits bool // no route's Hit is asked: every request takes net/http's way

	Log  *slog.Logger // nil: slog.Default()
	Done func(Access) // called after each request, on its goroutine; nil: not called
}

// CertificateFiles names a PEM certificate chain, leaf first, and its PEM key.
type CertificateFiles struct{ Cert, Key string }

// ClientCert says whether TLS clients are asked for a certificate.
type ClientCert uint8

const (
	// ClientCertNone asks for none.
	ClientCertNone ClientCert = iota
	// ClientCertRequest asks, and serves every client: ConnectionState.VerifiedChains is
	// empty if the client sent none, or one that no ClientCAs signed.
	ClientCertRequest
	// ClientCertRequire serves only clients with a certificate signed by one of ClientCAs.
	ClientCertRequire
)

// maxMethod bounds a request method in bytes, as Fastly does.
const maxMethod = 1024

func (c Config) withDefaults() Config {
	orDefault(&c.MaxRequests, 16384)
	orDefault(&c.MaxConnections, 32768)
	orDefault(&c.MaxStreams, 250)
	orDefault(&c.MaxHeaderBytes, 128<<10)
	orDefault(&c.MaxHeaderLines, 256)
	orDefault(&c.MaxURI, 8192)
	orDefault(&c.ReadHeaderTimeout, 10*time.Second)
	orDefault(&c.HandshakeTimeout, 10*time.Second)
	orDefault(&c.IdleTimeout, 75*time.Second)
	orDefault(&c.StallTimeout, 60*time.Second)
	orDefault(&c.DrainTimeout, 30*time.Second)
	if c.Listen == nil {
		c.Listen = func(_, addr string) (net.Listener, error) { return net.Listen("tcp", addr) }
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c
}

func orDefault[T int | time.Duration](p *T, d T) {
	if *p <= 0 {
		*p = d
	}
}
