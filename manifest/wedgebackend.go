package manifest

import (
	"strings"

	"github.com/wedge-cloud/wedge"
)

// wedgeBackend reads a table [backends.NAME].
func wedgeBackend(name string, v value) (b wedge.Backend, ok bool) {
	t, ok := v.table()
	if !ok || !v.checkName(name) {
		return b, false
	}
	b = newBackend(name)
	if t.dir(&b); b.Dir == "" {
		b.URL = t.url()
	} else if t.has("url") {
		t.fail("Keep one of them.", "both url and dir")
	}
	if v, ok := t.get("shield"); ok {
		v.shield(&b)
	}
	b.HostOverride = t.host("host")
	b.ConnectTimeout = t.duration("connect_timeout")
	b.FirstByteTimeout = t.duration("first_byte_timeout")
	b.BetweenBytesTimeout = t.duration("between_bytes_timeout")
	b.GRPC = t.bool("grpc", false)
	b.DontPool = !t.bool("pool", true)
	b.KeepAlive = t.duration("keepalive")
	b.MaxConnections = int(t.int("max_connections", 1, 1<<20))
	b.MaxUse = int(t.int("max_use", 1, 1<<30))
	b.MaxLifetime = t.duration("max_lifetime")
	b.PreferIPv4 = t.bool("prefer_ipv4", false)
	b.Health = t.health()
	if v, ok := t.get("tcp_keepalive"); ok {
		wedgeKeepAlive(v, &b)
	}
	if v, ok := t.get("tls"); ok {
		wedgeTLS(v, &b)
	}
	if v, ok := t.get("health_check"); ok {
		b.HealthCheck = wedgeHealthCheck(v)
	}
	t.done()
	return b, true
}

// shield reads which PoP others fetch through: its name in the fleet, or its URL.
func (v value) shield(b *wedge.Backend) {
	s, ok := v.str()
	switch {
	case !ok:
	case strings.Contains(s, "/"):
		b.Shield = v.originURL()
	case (&wedge.PoP{Name: s}).Check() != nil:
		v.fail(`Write the name of a PoP, such as "fra1", or scheme and host of one, such as "https://shield.example".`, "%.60q is neither a PoP's name nor a URL", s)
	default:
		b.ShieldPoP = s
	}
}

func wedgeKeepAlive(v value, b *wedge.Backend) {
	t, ok := v.table()
	if !ok {
		return
	}
	b.TCPKeepAlive = true
	b.TCPKeepTime = t.duration("time")
	b.TCPKeepInterval = t.duration("interval")
	b.TCPKeepProbes = int(t.int("probes", 1, 127))
	t.done()
}

func wedgeTLS(v value, b *wedge.Backend) {
	t, ok := v.table()
	if !ok {
		return
	}
	if b.URL != nil && b.URL.Scheme != "https" {
		v.fail("Write an https:// URL, or drop this table.", "TLS settings for a backend without TLS")
	}
	b.TLS = wedge.BackendTLS{
		MinVersion:   t.tlsVersion("min_version"),
		MaxVersion:   t.tlsVersion("max_version"),
		CertHostname: t.str("cert_host"),
		SNI:          t.str("sni"),
		Ciphers:      t.str("ciphers"),
	}
	// An empty name is how the ABI says "send none" as well.
	b.TLS.NoSNI = t.has("sni") && b.TLS.SNI == ""
	if b.TLS.MaxVersion != 0 && b.TLS.MinVersion > b.TLS.MaxVersion {
		v.fail("Swap them.", "min_version is above max_version")
	}
	if ca, ok := t.get("ca"); ok {
		if b.TLS.CACertificate, ok = ca.file(maxPEM); ok {
			ca.checkCA(b.TLS.CACertificate)
		}
	}
	wedgeClientCert(t, &b.TLS)
	t.done()
}

func wedgeClientCert(t *table, c *wedge.BackendTLS) {
	cert, hasCert := t.get("client_cert")
	key, hasKey := t.get("client_key")
	if hasCert != hasKey {
		t.fail("Give both client_cert and client_key, or neither.", "half of a client certificate")
	}
	if !hasCert || !hasKey {
		return
	}
	certPEM, ok1 := cert.file(maxPEM)
	keyPEM, ok2 := key.file(maxPEM)
	if ok1 && ok2 {
		c.ClientCertificate, c.ClientKey = certPEM, keyPEM
		t.checkPair(certPEM, keyPEM)
	}
}

func wedgeHealthCheck(v value) *wedge.HealthCheck {
	t, ok := v.table()
	if !ok {
		return nil
	}
	h := &wedge.HealthCheck{
		Method:         t.str("method"),
		Host:           t.host("host"),
		Path:           t.str("path"),
		Interval:       t.duration("interval"),
		Timeout:        t.duration("timeout"),
		ExpectedStatus: int(t.int("status", 100, 599)),
		Window:         int(t.int("window", 1, 64)),
		Threshold:      int(t.int("threshold", 1, 64)),
		Initial:        int(t.int("initial", 0, 64)),
	}
	if h.Path != "" && !strings.HasPrefix(h.Path, "/") {
		v.fail(`Write path = "/healthz".`, "path does not begin with /")
	}
	if h.Window != 0 && (h.Threshold > h.Window || h.Initial > h.Window) {
		v.fail("Of the last window probes, threshold must have passed.", "threshold or initial is above window")
	}
	t.done()
	return h
}
