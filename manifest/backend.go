package manifest

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/url"
	"strconv"
	"strings"

	"github.com/wedge-cloud/wedge"
)

// newBackend returns a static backend, which may lie at a private address: its author
// wrote that address down, so no request can have smuggled it in.
func newBackend(name string) wedge.Backend {
	return wedge.Backend{Name: name, AllowPrivateAddr: true}
}

// originURL reads a backend's URL, nil if it is none.
func (v value) originURL() *url.URL {
	const hint = `Write scheme and host, such as "https://origin.example" or "http://127.0.0.1:8080/base".`
	s, ok := v.str()
	if !ok {
		return nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		v.fail(hint, "not a URL with scheme and host")
	case u.Scheme != "http" && u.Scheme != "https":
		v.fail(hint, "the scheme must be http or https")
	case u.User != nil:
		v.fail("Let the guest send an Authorization header, from a secret.", "user or password in the URL")
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		v.fail("Keep scheme, host, port and path.", "query or fragment in the URL")
	case !validPort(u.Port()):
		v.fail("A port is 1 to 65535.", "bad port %s", u.Port())
	default:
		return u
	}
	return nil
}

func validPort(p string) bool {
	n, err := strconv.ParseUint(p, 10, 16)
	return p == "" || err == nil && n > 0
}

// url reads the required key url of a backend's table.
func (t *table) url() *url.URL {
	v, ok := t.get("url")
	if !ok {
		t.fail(`Add url = "https://HOST".`, "no url")
		return nil
	}
	return v.originURL()
}

// host reads a Host header's value: a host name, perhaps with a port.
func (t *table) host(key string) string {
	v, ok := t.get(key)
	if !ok {
		return ""
	}
	s, ok := v.str()
	if !ok {
		return ""
	}
	if u, err := url.Parse("//" + s); err != nil || u.Host != s || u.Hostname() == "" || !validPort(u.Port()) {
		v.fail(`Write a host name, such as "www.example.com".`, "%q is not a host", s)
	}
	return s
}

// health reads a fixed health, for trying out what a guest does then.
func (t *table) health() wedge.Health {
	v, ok := t.get("health")
	if !ok {
		return wedge.HealthUnknown
	}
	s, _ := v.str()
	switch strings.ToLower(s) {
	case "healthy":
		return wedge.Healthy
	case "unhealthy":
		return wedge.Unhealthy
	case "unknown":
	default:
		v.fail(`Write "unknown", "healthy" or "unhealthy".`, "unknown health %q", s)
	}
	return wedge.HealthUnknown
}

// checkCA reports a PEM text that holds no, or a broken, certificate.
func (v value) checkCA(text []byte) {
	found := 0
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		found++
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			v.fail("", "certificate %d is broken: %v", found, err)
		}
	}
	if found == 0 {
		v.fail("A PEM certificate begins with -----BEGIN CERTIFICATE-----.", "no certificate in it")
	}
	if len(text) > maxPEM {
		v.fail("Keep only the certificates this backend needs.", "more than %d bytes", maxPEM)
	}
}

// checkPair reports a client certificate and key that do not go together. The error of
// package tls tells nothing of the key.
func (t *table) checkPair(cert []byte, key wedge.Secret) {
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		t.fail("Both must be PEM, and the key must be the certificate's.", "client certificate cannot be used: %v", err)
	}
}

var tlsVersions = map[string]uint16{"1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

func (t *table) tlsVersion(key string) uint16 {
	v, ok := t.get(key)
	if !ok {
		return 0
	}
	s, _ := v.v.(string)
	n, ok := tlsVersions[s]
	if !ok {
		v.fail(`Write "1.2" or "1.3", in quotes.`, "unknown TLS version")
	}
	return n
}
