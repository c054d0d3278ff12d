package hostcall

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// Bits of backend_config_options.
const (
	optReserved         = 1 << 0
	optHostOverride     = 1 << 1
	optConnectTimeout   = 1 << 2
	optFirstByteTimeout = 1 << 3
	optBetweenBytes     = 1 << 4
	optUseSSL           = 1 << 5
	optSSLMin           = 1 << 6
	optSSLMax           = 1 << 7
	optCertHostname     = 1 << 8
	optCACert           = 1 << 9
	optCiphers          = 1 << 10
	optSNI              = 1 << 11
	optDontPool         = 1 << 12
	optClientCert       = 1 << 13
	optGRPC             = 1 << 14
	optKeepalive        = 1 << 15
	optPooling          = 1 << 16
	optPreferIPv4       = 1 << 17
	optHealthcheck      = 1 << 18
	optAll              = 1<<19 - 1
)

// Bounds of a dynamic backend's options, in bytes.
const (
	maxBackendName   = 1024
	maxHostOption    = 1024
	maxCipherOption  = 4096
	maxCertificate   = 64 << 10
	maxProbeMillis   = 24 * 3600 * 1000
	maxProbeAttempts = 1000
)

// registerDynamicBackend: name, target, mask, config.
func registerDynamicBackend(c *compute.Call) abi.Status {
	e := ex(c)
	name, target, mask := c.Text(0), c.Text(2), c.U32(4)
	if !e.host.Version.DynamicBackend {
		return abi.Unsupported
	}
	if name == "" || len(name) > maxBackendName || mask&optReserved != 0 || mask&^optAll != 0 {
		return abi.Inval
	}
	b := &wedge.Backend{Name: name, Dynamic: true, Egress: e.host.Version.Egress}
	scheme := "http"
	if mask&optUseSSL != 0 {
		scheme = "https"
	}
	var ok bool
	if b.URL, ok = targetURL(scheme, target); !ok {
		return abi.Inval
	}
	size := (&options{c: c, at: c.U32(5), mask: mask}).fill(b)
	if _, taken := e.backend(name); taken && e.older[name] == nil {
		return abi.Error
	}
	e.register(c, b, messageSize+len(name)+len(target)+size)
	return abi.OK
}

// targetURL reads host[:port].
func targetURL(scheme, target string) (*url.URL, bool) {
	if target == "" || len(target) > maxHostOption || strings.ContainsAny(target, "/?#@ \t%\\") {
		return nil, false
	}
	u, err := url.Parse(scheme + "://" + target)
	if err != nil || u.Host != target || u.Hostname() == "" {
		return nil, false
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, false
		}
	} else if strings.HasSuffix(target, ":") {
		return nil, false
	}
	if strings.HasPrefix(target, "[") {
		if _, err := netip.ParseAddr(u.Hostname()); err != nil {
			return nil, false
		}
	}
	return u, true
}

// options reads a dynamic_backend_config, of which a guest may give less than the ABI has: only
// what the mask names is touched. A bad option ends the call with inval.
type options struct {
	c    *compute.Call
	at   uint32
	mask uint32
	size int // bytes read that the backend keeps
}

func (o *options) has(bit uint32) bool { return o.mask&bit != 0 }

func (o *options) u32(off uint32) uint32 { return o.c.ReadU32(o.at + off) }

func (o *options) millis(bit, off uint32) time.Duration {
	if !o.has(bit) {
		return 0
	}
	return time.Duration(o.u32(off)) * time.Millisecond
}

// bytes reads the pointer and length at off; fewer than least or more than most are refused.
func (o *options) bytes(off uint32, least, most int) []byte {
	b := o.c.Read(o.u32(off), o.u32(off+4))
	if len(b) < least || len(b) > most {
		o.bad()
	}
	o.size += len(b)
	return b
}

func (o *options) text(off uint32, least, most int) string {
	b := o.bytes(off, least, most)
	if !utf8.Valid(b) || !validValue(b) {
		o.bad()
	}
	return string(b)
}

func (o *options) bad() { o.c.Fail(abi.Inval) }

// fill reads all options into b and returns how many bytes they take.
func (o *options) fill(b *wedge.Backend) int {
	if o.has(optHostOverride) {
		b.HostOverride = o.text(0, 1, maxHostOption)
	}
	b.ConnectTimeout = o.millis(optConnectTimeout, 8)
	b.FirstByteTimeout = o.millis(optFirstByteTimeout, 12)
	b.BetweenBytesTimeout = o.millis(optBetweenBytes, 16)
	b.DontPool, b.GRPC, b.PreferIPv4 = o.has(optDontPool), o.has(optGRPC), o.has(optPreferIPv4)
	o.tls(&b.TLS)
	if o.has(optKeepalive) {
		b.KeepAlive = time.Duration(o.u32(72)) * time.Millisecond
		b.TCPKeepAlive = o.u32(76) != 0
		b.TCPKeepInterval = seconds(o.u32(80))
		b.TCPKeepProbes = int(o.u32(84))
		b.TCPKeepTime = seconds(o.u32(88))
	}
	if o.has(optPooling) {
		b.MaxConnections, b.MaxUse = int(o.u32(92)), int(o.u32(96))
		b.MaxLifetime = time.Duration(o.u32(100)) * time.Millisecond
	}
	if o.has(optHealthcheck) {
		probe := &options{c: o.c, at: o.u32(104)}
		b.HealthCheck = probe.healthCheck()
		o.size += probe.size
	}
	return o.size
}

func (o *options) tls(t *wedge.BackendTLS) {
	t.MinVersion, t.MaxVersion = o.version(optSSLMin, 20), o.version(optSSLMax, 24)
	if t.MinVersion != 0 && t.MaxVersion != 0 && t.MinVersion > t.MaxVersion {
		o.bad()
	}
	if o.has(optCertHostname) {
		t.CertHostname = o.text(28, 1, maxHostOption)
	}
	if o.has(optCACert) {
		t.CACertificate = append([]byte(nil), o.bytes(36, 1, maxCertificate)...)
		if !x509.NewCertPool().AppendCertsFromPEM(t.CACertificate) {
			o.bad()
		}
	}
	if o.has(optCiphers) {
		t.Ciphers = o.text(44, 1, maxCipherOption)
	}
	if o.has(optSNI) {
		t.SNI = o.text(52, 0, maxHostOption)
		t.NoSNI = t.SNI == ""
	}
	if o.has(optClientCert) {
		o.clientCertificate(t)
	}
}

func (o *options) version(bit, off uint32) uint16 {
	if !o.has(bit) {
		return 0
	}
	v := o.u32(off)
	if v > 3 {
		o.bad()
	}
	return uint16(v) + tls10
}

// clientCertificate reads the chain and the handle of the secret that is its key.
func (o *options) clientCertificate(t *wedge.BackendTLS) {
	t.ClientCertificate = append([]byte(nil), o.bytes(60, 1, maxCertificate)...)
	key, ok := ex(o.c).secrets.get(o.u32(68))
	if !ok {
		o.c.Fail(abi.BadHandle)
	}
	if _, err := tls.X509KeyPair(t.ClientCertificate, key); err != nil {
		o.bad()
	}
	t.ClientKey = key
	o.size += len(key)
}

// healthCheck reads a healthcheck_config.
func (o *options) healthCheck() *wedge.HealthCheck {
	h := &wedge.HealthCheck{
		Interval: o.probeTime(0),
		Timeout:  o.probeTime(8),
		Host:     o.text(16, 0, maxHostOption),
		Method:   o.text(24, 0, maxMethod),
		Path:     o.text(32, 0, maxHostOption),

		ExpectedStatus: int(o.u32(40)),
		Window:         o.attempts(44),
		Threshold:      o.attempts(48),
		Initial:        o.attempts(52),
	}
	if h.Method != "" && !validToken([]byte(h.Method)) || h.Path != "" && h.Path[0] != '/' || h.ExpectedStatus > 999 || h.Threshold > h.Window {
		o.bad()
	}
	return h
}

func (o *options) probeTime(off uint32) time.Duration {
	ms := o.c.ReadU64(o.at + off)
	if ms > maxProbeMillis {
		o.bad()
	}
	return time.Duration(ms) * time.Millisecond
}

func (o *options) attempts(off uint32) int {
	n := o.u32(off)
	if n > maxProbeAttempts {
		o.bad()
	}
	return int(n)
}
