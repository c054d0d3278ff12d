package backend

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/wedge-cloud/wedge"
)

// A poolKey is all of a backend that makes a difference to its connections: equal keys,
// shared connections. What concerns single requests (path, Host, response timeouts) and the
// name are left out.
type poolKey struct {
	scheme, host       string
	minTLS, maxTLS     uint16
	certHostname, sni  string
	ciphers            string
	noSNI, grpc        bool
	dontPool, ipv4     bool
	private, keepAlive bool
	keepIdle           time.Duration
	maxConns, maxUse   int
	maxLifetime        time.Duration
	tcpInterval        time.Duration
	tcpProbes          int
	tcpTime            time.Duration
	blobs              [32]byte // SHA-256 of certificates, keys and egress ranges; zero if there are none
}

func keyOf(b *wedge.Backend) poolKey {
	return poolKey{
		scheme: b.URL.Scheme, host: b.URL.Host,
		minTLS: b.TLS.MinVersion, maxTLS: b.TLS.MaxVersion,
		certHostname: b.TLS.CertHostname, sni: b.TLS.SNI, ciphers: b.TLS.Ciphers,
		noSNI: b.TLS.NoSNI, grpc: b.GRPC,
		dontPool: b.DontPool, ipv4: b.PreferIPv4,
		private: b.AllowPrivateAddr, keepAlive: b.TCPKeepAlive,
		keepIdle: b.KeepAlive, maxConns: b.MaxConnections, maxUse: b.MaxUse, maxLifetime: b.MaxLifetime,
		tcpInterval: b.TCPKeepInterval, tcpProbes: b.TCPKeepProbes, tcpTime: b.TCPKeepTime,
		blobs: digest(b),
	}
}

// digest stands in for the parts of a backend that are long or secret.
func digest(b *wedge.Backend) (sum [32]byte) {
	if len(b.TLS.CACertificate)+len(b.TLS.ClientCertificate)+len(b.TLS.ClientKey)+len(b.Egress) == 0 {
		return sum
	}
	h := sha256.New()
	put := func(p []byte) { // with its length, so that no two lists of parts look alike
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write(p)
	}
	put(b.TLS.CACertificate)
	put(b.TLS.ClientCertificate)
	put(b.TLS.ClientKey)
	for _, p := range b.Egress {
		put([]byte(p.String()))
	}
	h.Sum(sum[:0])
	return sum
}

func orDefault(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}
