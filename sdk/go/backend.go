package edge

import (
	"context"
	"net/http"
	"runtime"
	"time"

	"github.com/wedge-cloud/wedge/sdk/go/internal/abi"
	"github.com/wedge-cloud/wedge/sdk/go/internal/host"
	"github.com/wedge-cloud/wedge/sdk/go/store"
)

// FetchError reports that no response came from a backend, with the host's reason. It is
// a net.Error.
type FetchError = host.FetchError

// Reason says why a fetch failed.
type Reason = host.Reason

// Reasons of a [FetchError].
const (
	UnknownReason      = host.Unknown
	DNSTimeout         = host.DNSTimeout
	DNSError           = host.DNSError
	BackendNotFound    = host.BackendNotFound
	BackendUnavailable = host.BackendUnavailable
	AddressUnroutable  = host.AddressUnroutable
	ConnectionRefused  = host.ConnectionRefused
	ConnectionClosed   = host.ConnectionClosed
	ConnectTimeout     = host.ConnectTimeout
	ConnectionLimit    = host.ConnectionLimit
	CertificateError   = host.CertificateError
	TLSConfigError     = host.TLSConfigError
	IncompleteResponse = host.IncompleteResponse
	HeaderTooLarge     = host.HeaderTooLarge
	BodyTooLarge       = host.BodyTooLarge
	ResponseTimeout    = host.ResponseTimeout
	InvalidStatus      = host.InvalidStatus
	UpgradeFailed      = host.UpgradeFailed
	ProtocolError      = host.ProtocolError
	InvalidCacheKey    = host.InvalidCacheKey
	InvalidURI         = host.InvalidURI
	InternalError      = host.Internal
	TLSAlert           = host.TLSAlert
	TLSProtocolError   = host.TLSProtocolError
	HTTP2Error         = host.HTTP2Error
)

// Backend returns a RoundTripper that sends every request to the named backend of the
// service, whatever host its URL names (that goes into the Host header unless the backend
// overrides it). It may be used by many goroutines at once. Errors are *[FetchError] or the
// context's.
func Backend(name string) http.RoundTripper { return backend(name) }

type backend string

// Option sets a property of a dynamic backend.
type Option func(*dynamic)

type dynamic struct {
	mask    uint32
	config  abi.DynamicBackendConfig
	strings []string // keeps what config points to alive
}

// DynamicBackend makes a backend for this sandbox that reaches target, "host" or "host:port".
// The service must allow it; the error matches errors.ErrUnsupported if it does not.
func DynamicBackend(name, target string, opts ...Option) (http.RoundTripper, error) {
	var d dynamic
	for _, o := range opts {
		o(&d)
	}
	st := abi.ReqRegisterBackend(name, target, d.mask, &d.config)
	runtime.KeepAlive(d.strings)
	if st != abi.OK {
		return nil, &store.Error{Op: "register backend", What: name, Err: st}
	}
	return backend(name), nil
}

func (d *dynamic) text(bit uint32, p *abi.Ptr, n *uint32, s string) {
	d.mask |= bit
	d.strings = append(d.strings, s)
	*p, *n = abi.PtrTo(s), uint32(len(s))
}

func millis(d time.Duration) uint32 { return uint32(max(d.Milliseconds(), 1)) }

// HostHeader makes the backend get this Host header instead of the request's own.
func HostHeader(name string) Option {
	return func(d *dynamic) {
		d.text(abi.BackendHostOverride, &d.config.HostOverride, &d.config.HostOverrideLen, name)
	}
}

// UseTLS makes the backend speak TLS and want a certificate for name, which is sent as SNI too.
func UseTLS(name string) Option {
	return func(d *dynamic) {
		d.mask |= abi.BackendTLS
		d.text(abi.BackendCertHostname, &d.config.CertHostname, &d.config.CertHostnameLen, name)
		d.text(abi.BackendSNI, &d.config.SNIHostname, &d.config.SNIHostnameLen, name)
	}
}

// RootCA makes the backend's certificate be checked against these roots, PEM.
func RootCA(pem string) Option {
	return func(d *dynamic) { d.text(abi.BackendCACert, &d.config.CACert, &d.config.CACertLen, pem) }
}

// ClientCertificate makes the guest authenticate itself: a PEM chain and its key, PEM too.
func ClientCertificate(pem string, key *Secret) Option {
	return func(d *dynamic) {
		d.text(abi.BackendClientCert, &d.config.ClientCertificate, &d.config.ClientCertificateLen, pem)
		d.config.ClientKey = abi.Handle(key.Handle())
	}
}

// Timeouts bounds the connection's making, the wait for the response's first byte, and the gaps
// in its body. 0 leaves the host's own bound.
func Timeouts(connect, firstByte, betweenBytes time.Duration) Option {
	return func(d *dynamic) {
		if connect > 0 {
			d.mask |= abi.BackendConnectTimeout
			d.config.ConnectTimeoutMs = millis(connect)
		}
		if firstByte > 0 {
			d.mask |= abi.BackendFirstByteTimeout
			d.config.FirstByteTimeoutMs = millis(firstByte)
		}
		if betweenBytes > 0 {
			d.mask |= abi.BackendBetweenBytes
			d.config.BetweenBytesMs = millis(betweenBytes)
		}
	}
}

// GRPC makes the backend speak HTTP/2 whatever its scheme.
func GRPC() Option { return func(d *dynamic) { d.mask |= abi.BackendGRPC } }

// Cache overrides how the host caches the response to one fetch.
type Cache struct {
	Pass                 bool // neither look in the cache nor store
	TTL                  time.Duration
	StaleWhileRevalidate time.Duration
	SurrogateKeys        string // separated by spaces
}

type cacheKey struct{}

// WithCache returns a context whose fetches use c:
//
//	req = req.WithContext(edge.WithCache(ctx, edge.Cache{TTL: time.Hour}))
func WithCache(ctx context.Context, c Cache) context.Context {
	return context.WithValue(ctx, cacheKey{}, c)
}

func (c Cache) args() (tag, ttl, swr uint32, keys string) {
	if c.Pass {
		tag |= 1
	}
	if c.TTL > 0 {
		tag, ttl = tag|2, uint32(c.TTL/time.Second)
	}
	if c.StaleWhileRevalidate > 0 {
		tag, swr = tag|4, uint32(c.StaleWhileRevalidate/time.Second)
	}
	return tag, ttl, swr, c.SurrogateKeys
}

// Healthy reports whether the named backend is known not to be unhealthy.
func Healthy(name string) bool {
	var health uint32
	return abi.BackendHealth(name, &health) == abi.OK && health != 2
}
