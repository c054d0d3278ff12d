package backend

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/wedge-cloud/wedge"
)

// tlsConfig turns b's TLS options into a client configuration. Its errors name no secret.
func tlsConfig(b *wedge.Backend) (*tls.Config, error) {
	o := &b.TLS
	cfg := &tls.Config{
		MinVersion:         o.MinVersion,
		MaxVersion:         o.MaxVersion,
		NextProtos:         []string{"h2", "http/1.1"},
		ClientSessionCache: tls.NewLRUClientSessionCache(8),
	}
	if b.GRPC {
		cfg.NextProtos = []string{"h2"}
	}
	if err := setCiphers(cfg, o.Ciphers); err != nil {
		return nil, err
	}
	if err := setVersions(cfg); err != nil {
		return nil, err
	}
	if len(o.CACertificate) > 0 {
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(o.CACertificate) {
			return nil, errors.New("the CA certificate holds no PEM certificate")
		}
	}
	if err := setClientCertificate(cfg, o); err != nil {
		return nil, err
	}
	setNames(cfg, b)
	return cfg, nil
}

// setVersions makes room between the bounds: a maximum below Go's own minimum was asked
// for by name, so it is allowed.
func setVersions(cfg *tls.Config) error {
	if cfg.MinVersion == 0 && cfg.MaxVersion != 0 {
		cfg.MinVersion = min(tls.VersionTLS12, cfg.MaxVersion)
	}
	if cfg.MaxVersion != 0 && cfg.MinVersion > cfg.MaxVersion {
		return fmt.Errorf("no TLS version lies between %s and %s", tls.VersionName(cfg.MinVersion), tls.VersionName(cfg.MaxVersion))
	}
	for _, v := range []uint16{cfg.MinVersion, cfg.MaxVersion} {
		if v != 0 && (v < tls.VersionTLS10 || v > tls.VersionTLS13) {
			return fmt.Errorf("TLS version %#04x is not known", v)
		}
	}
	return nil
}

func setClientCertificate(cfg *tls.Config, o *wedge.BackendTLS) error {
	if len(o.ClientCertificate) == 0 && len(o.ClientKey) == 0 {
		return nil
	}
	pair, err := tls.X509KeyPair(o.ClientCertificate, o.ClientKey)
	if err != nil {
		return errors.New("the client certificate and its key do not fit together or are not PEM")
	}
	cfg.Certificates = []tls.Certificate{pair}
	return nil
}

// setNames settles the server name to send and the name that the certificate must have.
// crypto/tls checks the certificate against the name it sends; where the two differ, or
// none is sent, the same check is made here with the right name.
func setNames(cfg *tls.Config, b *wedge.Backend) {
	want := firstOf(b.TLS.CertHostname, b.URL.Hostname())
	cfg.ServerName = firstOf(b.TLS.SNI, want)
	if b.TLS.NoSNI {
		cfg.ServerName = ""
	}
	if cfg.ServerName == want {
		return
	}
	cfg.InsecureSkipVerify = true // VerifyConnection does it
	roots := cfg.RootCAs
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		return verify(cs.PeerCertificates, roots, want)
	}
}

// verify checks the chain up to roots (nil: the system's) and the name, as crypto/tls does.
func verify(chain []*x509.Certificate, roots *x509.CertPool, name string) error {
	if len(chain) == 0 {
		return &tls.CertificateVerificationError{Err: errors.New("origin sent no certificate")}
	}
	opts := x509.VerifyOptions{Roots: roots, DNSName: name, Intermediates: x509.NewCertPool()}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(opts); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: chain, Err: err}
	}
	return nil
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
