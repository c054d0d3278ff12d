package backend

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
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

func newTransport(t testing.TB, cfg Config) *Transport {
	t.Helper()
	cfg.Log = slog.New(slog.DiscardHandler)
	tr := New(cfg)
	t.Cleanup(tr.Close)
	return tr
}

// static returns a static backend for a URL, with short timeouts.
func static(t testing.TB, raw string) *wedge.Backend {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return &wedge.Backend{Name: "origin", URL: u, AllowPrivateAddr: true}
}

func request(t testing.TB, b *wedge.Backend, method, target string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(wedge.WithBackend(t.Context(), b), method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// get fetches / and returns the whole body.
func get(t testing.TB, tr *Transport, b *wedge.Backend) (*http.Response, string) {
	t.Helper()
	resp, err := tr.RoundTrip(request(t, b, "GET", "http://site.test/", nil))
	if err != nil {
		t.Fatal(err)
	}
	return resp, slurp(t, resp)
}

func slurp(t testing.TB, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func fetchError(t testing.TB, err error) *wedge.FetchError {
	t.Helper()
	fe, ok := errors.AsType[*wedge.FetchError](err)
	if !ok {
		t.Fatalf("got %v (%T), want a *wedge.FetchError", err, err)
	}
	return fe
}

// rawOrigin listens on loopback and gives every connection to serve. It returns the address.
func rawOrigin(t testing.TB, serve func(n int, c net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); l.Close() })
	go func() {
		for n := 1; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(ctx, func() { c.Close() })
			go func() { defer c.Close(); serve(n, c) }()
		}
	}()
	return l.Addr().String()
}

// readHead reads one request without a body.
func readHead(br *bufio.Reader) bool {
	req, err := http.ReadRequest(br)
	if err != nil {
		return false
	}
	io.Copy(io.Discard, req.Body)
	return true
}

// saying returns a raw origin's serve that answers the first request with s and hangs up.
func saying(s string) func(int, net.Conn) {
	return func(_ int, c net.Conn) {
		if readHead(bufio.NewReader(c)) {
			io.WriteString(c, s)
		}
	}
}

// silent reads and never answers.
func silent(_ int, c net.Conn) { io.Copy(io.Discard, c) }

// tlsOrigin starts an HTTPS server for the names and returns it with its CA in PEM.
func tlsOrigin(t testing.TB, h http.Handler, h2 bool, change func(*tls.Config), names ...string) (*httptest.Server, []byte) {
	t.Helper()
	cert, ca := certificate(t, names...)
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = h2
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	if change != nil {
		change(s.TLS)
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, ca
}

// certificate makes a self-signed certificate that is its own CA.
func certificate(t testing.TB, names ...string) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pemBlock("CERTIFICATE", der)
}

func pemBlock(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// connections counts the connections that s accepts.
func connections(s *httptest.Server) *atomic.Int32 {
	var n atomic.Int32
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			n.Add(1)
		}
	}
	return &n
}

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}
