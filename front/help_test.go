package front

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// running is a front that serves on loopback until the test ends.
type running struct {
	*Front
	http, https string // addresses
	stop        context.CancelFunc
	ended       chan error
}

func run(t testing.TB, cfg Config, routes map[string]Route) *running {
	t.Helper()
	if cfg.HTTP == nil && cfg.HTTPListeners == nil {
		cfg.HTTP = []string{"127.0.0.1:0"}
	}
	if cfg.Certificates != nil && cfg.HTTPSListeners == nil {
		cfg.HTTPS = []string{"127.0.0.1:0"}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{Front: New(cfg), stop: stop, ended: make(chan error, 1)}
	if routes != nil {
		r.Swap(table(t, 1, routes))
	}
	go func() { r.ended <- r.Run(ctx) }()
	select {
	case <-r.Ready():
	case err := <-r.ended:
		t.Fatal(err)
	}
	plain, secure := r.Addrs()
	r.http = plain[0].String()
	if len(secure) > 0 {
		r.https = secure[0].String()
	}
	t.Cleanup(func() { stop() })
	return r
}

func table(t testing.TB, number int, routes map[string]Route) *Table {
	t.Helper()
	tab, err := NewTable(number, routes)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

// everything routes all hosts to h.
func everything(h http.HandlerFunc) map[string]Route {
	return map[string]Route{"*": {Service: "shop", Version: 7, Handler: h}}
}

func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

// talk sends raw bytes and returns all that comes back until the other side closes.
func talk(t testing.TB, addr, raw string) string {
	t.Helper()
	c := dial(t, addr)
	io.WriteString(c, raw)
	b, _ := io.ReadAll(c)
	return string(b)
}

// response reads one response, with its body in place of the stream.
func response(t testing.TB, br *bufio.Reader) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	until(ctx, 10*time.Second, cond)
	if !cond() {
		t.Fatalf("waited in vain for %s", what)
	}
}

// authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
	dir  string
	next int64
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, pool: x509.NewCertPool(), dir: t.TempDir(), next: 2}
	a.cert, _ = x509.ParseCertificate(der)
	a.pool.AddCert(a.cert)
	return a
}

// issue writes a certificate and its key to files named after file.
func (a *authority) issue(t testing.TB, file string, names ...string) CertificateFiles {
	t.Helper()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(a.next), Subject: pkix.Name{CommonName: file}, DNSNames: names, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	a.next++
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, _ := x509.MarshalPKCS8PrivateKey(key)
	files := CertificateFiles{Cert: filepath.Join(a.dir, file+".crt"), Key: filepath.Join(a.dir, file+".key")}
	write := func(name, kind string, der []byte) {
		if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(files.Cert, "CERTIFICATE", der)
	write(files.Key, "PRIVATE KEY", keyDER)
	return files
}

// client returns an HTTP client that sends every host to addr. proto is "1", "2" or "h2c".
func client(t testing.TB, addr, proto string, cfg *tls.Config) *http.Client {
	tr := &http.Transport{TLSClientConfig: cfg, Protocols: new(http.Protocols),
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		}}
	switch proto {
	case "1":
		tr.Protocols.SetHTTP1(true)
	case "2":
		tr.Protocols.SetHTTP2(true)
	case "h2c":
		tr.Protocols.SetUnencryptedHTTP2(true)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

func get(t testing.TB, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func status(raw string) string {
	_, rest, _ := strings.Cut(raw, " ")
	return rest[:min(3, len(rest))]
}
