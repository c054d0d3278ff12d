package wedge

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"time"
)

// Backend is a named, configured way to reach an origin. It is a value: a changed
// backend is a new one. Static backends belong to a [Version]; dynamic ones are
// registered by a guest and live as long as its sandbox.
type Backend struct {
	Name    string
	URL     *url.URL // scheme http or https, host[:port], and a path that is put before every request's path
	Dynamic bool
	Dir     string // a directory whose files it answers with, in the place of an origin; then URL is nil

	Shield       *url.URL // of the PoP through which others fetch; nil: see ShieldPoP
	ShieldPoP    string   // its name in the fleet, instead; "": everybody goes to the origin
	AtPoP        string   // of a dynamic backend: the PoP whose AtService answers, in the place of an origin
	AtService    string   // likewise
	HostOverride string   // Host header to send; empty: the request's own

	ConnectTimeout      time.Duration // 0: DefaultConnectTimeout
	FirstByteTimeout    time.Duration // from request sent to first byte of the response; 0: DefaultFirstByteTimeout
	BetweenBytesTimeout time.Duration // longest gap within a response body; 0: DefaultBetweenBytesTimeout

	TLS  BackendTLS // used when the scheme is https
	GRPC bool       // HTTP/2 whatever the scheme

	DontPool         bool          // a connection for every request
	KeepAlive        time.Duration // how long an idle connection is kept; 0: DefaultKeepAlive
	MaxConnections   int           // 0: no limit but the node's
	MaxUse           int           // requests per connection; 0: no limit
	MaxLifetime      time.Duration // of a connection; 0: no limit
	PreferIPv4       bool
	TCPKeepAlive     bool
	TCPKeepInterval  time.Duration
	TCPKeepProbes    int
	TCPKeepTime      time.Duration
	HealthCheck      *HealthCheck
	Health           Health         // fixed health, for local testing; HealthUnknown: ask the checks
	AllowPrivateAddr bool           // a static backend names its address, so it may be private
	Egress           []netip.Prefix // private ranges it may reach all the same; for a dynamic backend those of its version
}

// BackendTLS says how to speak TLS to a backend.
type BackendTLS struct {
	MinVersion, MaxVersion uint16 // crypto/tls version numbers; 0: no bound of its own
	CertHostname           string // name the certificate must have; empty: the URL's host
	SNI                    string // server name to send; empty: CertHostname or the URL's host
	NoSNI                  bool   // send none
	CACertificate          []byte // PEM, one or more; nil: the system's roots
	Ciphers                string // OpenSSL cipher list; applies to TLS 1.2 and below
	ClientCertificate      []byte // PEM chain for mutual TLS
	ClientKey              Secret // PEM key that goes with it
}

// HealthCheck describes how a node probes a backend.
type HealthCheck struct {
	Method, Host, Path string
	Interval, Timeout  time.Duration
	ExpectedStatus     int
	Window             int // how many last probes are looked at
	Threshold          int // how many of them must have passed
	Initial            int // how many count as passed at the start
}

// Defaults of a backend's timeouts, those of Fastly.
const (
	DefaultConnectTimeout      = 1 * time.Second
	DefaultFirstByteTimeout    = 15 * time.Second
	DefaultBetweenBytesTimeout = 10 * time.Second
	DefaultKeepAlive           = 60 * time.Second
)

// Health is what is known of a backend.
type Health uint8

// The numbers are those of the guest ABI (backend_health).
const (
	HealthUnknown Health = iota
	Healthy
	Unhealthy
)

// Secret is a value that must not reach a log: it prints as "[secret]".
type Secret []byte

// String hides the value.
func (Secret) String() string { return "[secret]" }

// GoString hides the value from %#v as well.
func (Secret) GoString() string { return "[secret]" }

// MarshalJSON hides the value.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"[secret]"`), nil }

// FetchFailure says why no (whole) response came from a backend. The numbers are
// those of the guest ABI (send_error_detail_tag), so a guest sees what really happened.
type FetchFailure uint8

// Reasons in the order of the ABI; 0 and 1 mean "not known" and "did not fail".
const (
	FailureUnknown         FetchFailure = 0
	FailureDNSTimeout      FetchFailure = 2
	FailureDNS             FetchFailure = 3
	FailureNotFound        FetchFailure = 4 // destination_not_found: no such backend
	FailureUnavailable     FetchFailure = 5
	FailureUnroutable      FetchFailure = 6 // includes addresses the egress rules refuse
	FailureRefused         FetchFailure = 7
	FailureTerminated      FetchFailure = 8
	FailureConnectTimeout  FetchFailure = 9
	FailureConnectionLimit FetchFailure = 10
	FailureCertificate     FetchFailure = 11
	FailureTLSConfig       FetchFailure = 12
	FailureIncomplete      FetchFailure = 13
	FailureHeaderTooLarge  FetchFailure = 14
	FailureBodyTooLarge    FetchFailure = 15
	FailureResponseTimeout FetchFailure = 16
	FailureStatusInvalid   FetchFailure = 17
	FailureUpgrade         FetchFailure = 18
	FailureProtocol        FetchFailure = 19
	FailureCacheKey        FetchFailure = 20
	FailureURI             FetchFailure = 21
	FailureInternal        FetchFailure = 22
	FailureTLSAlert        FetchFailure = 23
	FailureTLSProtocol     FetchFailure = 24
	FailureH2              FetchFailure = 25
	numFetchFailures                    = 26
)

// FetchError reports that a fetch failed: before the response's head, or, from the
// response body's Read, in the middle of it.
type FetchError struct {
	Backend  string
	Failure  FetchFailure
	DNSRcode uint16 // with FailureDNS
	TLSAlert uint8  // with FailureTLSAlert
	H2Frame  uint8  // with FailureH2: type of the frame that ended the stream, 0 if not known
	H2Code   uint32 // with FailureH2 and H2Frame: its error code (RFC 9113 section 7)
	Err      error
}

// Error names the backend and the reason.
func (e *FetchError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("fetch from backend %s: %s", e.Backend, e.Failure)
	}
	return fmt.Sprintf("fetch from backend %s: %s: %v", e.Backend, e.Failure, e.Err)
}

// Unwrap returns the cause.
func (e *FetchError) Unwrap() error { return e.Err }

var fetchFailureNames = [numFetchFailures]string{
	0: "unknown", 1: "ok", 2: "dns timeout", 3: "dns error", 4: "destination not found",
	5: "destination unavailable", 6: "destination address not routable", 7: "connection refused",
	8: "connection terminated", 9: "connection timeout", 10: "connection limit reached",
	11: "certificate error", 12: "tls configuration error", 13: "incomplete response",
	14: "response header section too large", 15: "response body too large", 16: "response timeout",
	17: "response status invalid", 18: "upgrade failed", 19: "http protocol error",
	20: "request cache key invalid", 21: "request uri invalid", 22: "internal error",
	23: "tls alert received", 24: "tls protocol error", 25: "http/2 error",
}

// String returns the reason in words.
func (f FetchFailure) String() string {
	if int(f) < len(fetchFailureNames) {
		return fetchFailureNames[f]
	}
	return fetchFailureNames[0]
}

// Status returns the HTTP status with which the host answers a client when this
// failure is all there is to say: 504 for time-outs, 500 for Wedge's own faults, else 502.
func (f FetchFailure) Status() int {
	switch f {
	case FailureDNSTimeout, FailureConnectTimeout, FailureResponseTimeout:
		return Timeout.Status()
	case FailureInternal, FailureUnknown:
		return Internal.Status()
	}
	return BadGateway.Status()
}

type backendKey struct{}

// WithBackend returns ctx naming the backend that a fetch is for. Cache and backend are
// http.RoundTrippers, so this is how the choice travels with the request.
func WithBackend(ctx context.Context, b *Backend) context.Context {
	return context.WithValue(ctx, backendKey{}, b)
}

// BackendFrom returns the backend that ctx names, or nil.
func BackendFrom(ctx context.Context) *Backend {
	b, _ := ctx.Value(backendKey{}).(*Backend)
	return b
}
