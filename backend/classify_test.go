package backend

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

// TestFailures provokes each failure with a real origin that misbehaves. Where body is set
// the head must come and the failure is that of reading the body.
func TestFailures(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\n"
	for _, c := range []struct {
		name  string
		serve func(int, net.Conn)
		want  wedge.FetchFailure
		body  bool
	}{
		{"closes", func(_ int, c net.Conn) {}, wedge.FailureTerminated, false},
		{"closes after the request", saying(""), wedge.FailureTerminated, false},
		{"resets", func(_ int, c net.Conn) { readHead(bufio.NewReader(c)); c.(*net.TCPConn).SetLinger(0) }, wedge.FailureTerminated, false},
		{"never answers", silent, wedge.FailureResponseTimeout, false},
		{"half a head, then nothing", func(n int, c net.Conn) { saying(head)(n, c); silent(n, c) }, wedge.FailureResponseTimeout, false},
		{"half a head", saying(head + "A: b\r\n"), wedge.FailureIncomplete, false},
		{"half a status line", saying("HTTP/1."), wedge.FailureProtocol, false},
		{"garbage", saying("SSH-2.0-OpenSSH_9.9\r\n"), wedge.FailureProtocol, false},
		{"a mail server", saying("220 mail.example ESMTP\r\n"), wedge.FailureStatusInvalid, false},
		{"a TLS server's alert", saying("\x15\x03\x01\x00\x02\x02\x46\r\n\r\n"), wedge.FailureProtocol, false},
		{"bad version", saying("HTTP/one 200 OK\r\n\r\n"), wedge.FailureProtocol, false},
		{"version 2 in text", saying("HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"), wedge.FailureProtocol, false},
		{"status not a number", saying("HTTP/1.1 abc OK\r\n\r\n"), wedge.FailureStatusInvalid, false},
		{"status too long", saying("HTTP/1.1 2000 OK\r\n\r\n"), wedge.FailureStatusInvalid, false},
		{"status too small", saying("HTTP/1.1 099 OK\r\n\r\n"), wedge.FailureStatusInvalid, false},
		{"header without colon", saying(head + "nonsense\r\n\r\n"), wedge.FailureProtocol, false},
		{"two lengths", saying(head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n"), wedge.FailureProtocol, false},
		{"bad length", saying(head + "Content-Length: -1\r\n\r\n"), wedge.FailureProtocol, false},
		{"length and coding", saying(head + "Content-Length: 1\r\ntransfer-encoding:chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"), wedge.FailureProtocol, false},
		{"length and coding after a hint", saying("HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" + head + "Transfer-Encoding: chunked\r\ncontent-length: 1\r\n\r\n1\r\na\r\n0\r\n\r\n"), wedge.FailureProtocol, false},
		{"space before the colon", saying(head + "Content-Length : 1\r\n\r\na"), wedge.FailureProtocol, false},
		{"unknown coding", saying(head + "Transfer-Encoding: zip\r\n\r\n"), wedge.FailureProtocol, false},
		{"giant head", saying(head + strings.Repeat("A: "+strings.Repeat("x", 1000)+"\r\n", 200)), wedge.FailureHeaderTooLarge, false},
		{"endless 1xx", saying(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 10000)), wedge.FailureHeaderTooLarge, false},
		{"switches unasked", saying("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), wedge.FailureProtocol, false},
		{"half a body", saying(head + "Content-Length: 10\r\n\r\nhalf"), wedge.FailureIncomplete, true},
		{"half a chunk", saying(head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhal"), wedge.FailureIncomplete, true},
		{"no last chunk", saying(head + "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"), wedge.FailureIncomplete, true},
		{"half a trailer", saying(head + "Transfer-Encoding: chunked\r\n\r\n0\r\n"), wedge.FailureIncomplete, true},
		{"bad chunk", saying(head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n"), wedge.FailureProtocol, true},
		{"reset in the body", func(_ int, c net.Conn) {
			readHead(bufio.NewReader(c))
			io.WriteString(c, head+"Content-Length: 10\r\n\r\nhalf")
			time.Sleep(20 * time.Millisecond)
			c.(*net.TCPConn).SetLinger(0)
		}, wedge.FailureIncomplete, true},
		{"stops in the body", func(n int, c net.Conn) {
			saying(head+"Content-Length: 10\r\n\r\nhalf")(n, c)
			silent(n, c)
		}, wedge.FailureResponseTimeout, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tr := newTransport(t, Config{})
			b := static(t, "http://"+rawOrigin(t, c.serve))
			patience := time.Minute
			if c.want == wedge.FailureResponseTimeout {
				patience = 100 * time.Millisecond
			}
			b.FirstByteTimeout, b.BetweenBytesTimeout = patience, patience
			resp, err := tr.RoundTrip(request(t, b, "GET", "http://h/", nil))
			if c.body {
				if err != nil {
					t.Fatal(err)
				}
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			if fe := fetchError(t, err); fe.Failure != c.want || fe.Backend != "origin" {
				t.Errorf("got %v, want %s", err, c.want)
			}
			eventually(t, "closed", func() bool { st := tr.Stats(); return st.Open == 0 && st.Idle == 0 })
		})
	}
}

func TestConnectFailures(t *testing.T) {
	resolve := func(err error, ips ...string) func(context.Context, string) ([]netip.Addr, error) {
		return func(ctx context.Context, _ string) (out []netip.Addr, _ error) {
			if err == context.DeadlineExceeded {
				<-ctx.Done()
				return nil, &net.DNSError{Err: "timeout", IsTimeout: true}
			}
			for _, ip := range ips {
				out = append(out, netip.MustParseAddr(ip))
			}
			return out, err
		}
	}
	public := func(b *wedge.Backend) { b.AllowPrivateAddr = false }
	_, refused, _ := net.SplitHostPort(closedPort(t))
	for _, c := range []struct {
		name, url string
		resolve   func(context.Context, string) ([]netip.Addr, error)
		set       func(*wedge.Backend)
		want      wedge.FetchFailure
		rcode     uint16
	}{
		{name: "refused", url: "http://127.0.0.1:" + refused, want: wedge.FailureRefused},
		{name: "no such name", url: "http://x.test", resolve: resolve(&net.DNSError{IsNotFound: true}), want: wedge.FailureDNS, rcode: 3},
		{name: "server misbehaves", url: "http://x.test", resolve: resolve(&net.DNSError{IsTemporary: true}), want: wedge.FailureDNS, rcode: 2},
		{name: "no address", url: "http://x.test", resolve: resolve(nil), want: wedge.FailureDNS},
		{name: "dns timeout", url: "http://x.test", resolve: resolve(context.DeadlineExceeded), want: wedge.FailureDNSTimeout},
		{name: "private", url: "http://10.1.2.3", set: public, want: wedge.FailureUnroutable},
		{name: "metadata", url: "http://169.254.169.254", set: public, want: wedge.FailureUnroutable},
		{name: "name of a private address", url: "http://x.test:" + refused, resolve: resolve(nil, "127.0.0.1"), set: public, want: wedge.FailureUnroutable},
		{name: "names of private addresses", url: "http://x.test:" + refused, resolve: resolve(nil, "::1", "127.0.0.1", "::ffff:127.0.0.1"), set: public, want: wedge.FailureUnroutable},
		{name: "allowed by the version", url: "http://127.0.0.1:" + refused, set: func(b *wedge.Backend) {
			public(b)
			b.Egress = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		}, want: wedge.FailureRefused},
		{name: "bad port", url: "http://127.0.0.1:99999", want: wedge.FailureURI},
		{name: "bad TLS options", url: "https://127.0.0.1:" + closedPortOf(t, silent), set: func(b *wedge.Backend) { b.TLS.Ciphers = "NOSUCH" }, want: wedge.FailureTLSConfig},
		{name: "TLS to silence", url: "https://" + rawOrigin(t, silent), want: wedge.FailureConnectTimeout},
		{name: "TLS to plain text", url: "https://" + rawOrigin(t, func(_ int, c net.Conn) { io.WriteString(c, "HTTP/1.0 400 Bad Request\r\n\r\n") }), want: wedge.FailureTLSProtocol},
		{name: "TLS closed", url: "https://" + rawOrigin(t, func(_ int, c net.Conn) { c.Read(make([]byte, 4096)) }), want: wedge.FailureTerminated},
		{name: "h2c to HTTP/1", url: "http://" + rawOrigin(t, saying("HTTP/1.1 400 Bad Request\r\n\r\n")), set: func(b *wedge.Backend) { b.GRPC = true }, want: wedge.FailureH2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tr := newTransport(t, Config{Resolve: c.resolve})
			b := static(t, c.url)
			b.ConnectTimeout = 100 * time.Millisecond
			b.FirstByteTimeout = time.Second
			if c.set != nil {
				c.set(b)
			}
			_, err := tr.RoundTrip(request(t, b, "GET", "http://h/", nil))
			if fe := fetchError(t, err); fe.Failure != c.want || fe.DNSRcode != c.rcode {
				t.Errorf("got %v (rcode %d), want %s", err, fe.DNSRcode, c.want)
			}
			eventually(t, "closed", func() bool { return tr.Stats().Open == 0 })
		})
	}
}

func closedPort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func closedPortOf(t *testing.T, serve func(int, net.Conn)) string {
	_, port, _ := net.SplitHostPort(rawOrigin(t, serve))
	return port
}

func TestFallsBackToTheNextAddress(t *testing.T) {
	s, ca := tlsOrigin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }), false, nil, "x.test")
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	tr := newTransport(t, Config{Resolve: func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")}, nil
	}})
	b := static(t, "https://x.test:"+port)
	b.TLS.CACertificate = ca
	if _, body := get(t, tr, b); body != "ok" {
		t.Error(body)
	}
}

func TestTLSFailures(t *testing.T) {
	ok := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.TLS.ServerName) })
	cert, otherCA := certificate(t, "other.test")
	_ = cert
	for _, c := range []struct {
		name   string
		server func(*tls.Config)
		set    func(*wedge.BackendTLS)
		want   wedge.FetchFailure
		alert  uint8
		sni    string
	}{
		{name: "right", sni: "good.test", set: func(o *wedge.BackendTLS) { o.CertHostname = "good.test" }},
		{name: "other SNI", sni: "front.test", set: func(o *wedge.BackendTLS) { o.CertHostname, o.SNI = "good.test", "front.test" }},
		{name: "no SNI", sni: "", set: func(o *wedge.BackendTLS) { o.CertHostname, o.NoSNI = "good.test", true }},
		{name: "wrong name", set: func(o *wedge.BackendTLS) { o.CertHostname = "bad.test" }, want: wedge.FailureCertificate},
		{name: "wrong name, right SNI", set: func(o *wedge.BackendTLS) { o.CertHostname, o.SNI = "bad.test", "good.test" }, want: wedge.FailureCertificate},
		{name: "wrong name, no SNI", set: func(o *wedge.BackendTLS) { o.CertHostname, o.NoSNI = "bad.test", true }, want: wedge.FailureCertificate},
		{name: "address not in it", set: func(o *wedge.BackendTLS) {}, want: wedge.FailureCertificate},
		{name: "system roots", set: func(o *wedge.BackendTLS) { o.CertHostname, o.CACertificate = "good.test", nil }, want: wedge.FailureCertificate},
		{name: "another CA", set: func(o *wedge.BackendTLS) { o.CertHostname, o.CACertificate = "good.test", otherCA }, want: wedge.FailureCertificate},
		{name: "another CA, no SNI", set: func(o *wedge.BackendTLS) {
			o.CertHostname, o.NoSNI, o.CACertificate = "good.test", true, otherCA
		}, want: wedge.FailureCertificate},
		{name: "no common version", server: func(s *tls.Config) { s.MinVersion = tls.VersionTLS13 }, set: func(o *wedge.BackendTLS) { o.MaxVersion = tls.VersionTLS12 }, want: wedge.FailureTLSAlert, alert: 70},
		{name: "version at most", server: func(s *tls.Config) { s.MinVersion = tls.VersionTLS10 }, sni: "good.test", set: func(o *wedge.BackendTLS) { o.CertHostname, o.MaxVersion = "good.test", tls.VersionTLS11 }},
		{name: "no common cipher", server: func(s *tls.Config) {
			s.MaxVersion = tls.VersionTLS12
			s.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
		}, set: func(o *wedge.BackendTLS) { o.Ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256" }, want: wedge.FailureTLSAlert, alert: 40},
		{name: "client certificate wanted", server: func(s *tls.Config) { s.ClientAuth = tls.RequireAnyClientCert }, set: func(o *wedge.BackendTLS) { o.CertHostname = "good.test" }, want: wedge.FailureTLSAlert, alert: 116},
		{name: "key does not fit", set: func(o *wedge.BackendTLS) { o.ClientCertificate, o.ClientKey = otherCA, wedge.Secret("no key") }, want: wedge.FailureTLSConfig},
		{name: "CA not PEM", set: func(o *wedge.BackendTLS) { o.CACertificate = []byte("no") }, want: wedge.FailureTLSConfig},
		{name: "bounds crossed", set: func(o *wedge.BackendTLS) { o.MinVersion, o.MaxVersion = tls.VersionTLS13, tls.VersionTLS12 }, want: wedge.FailureTLSConfig},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, ca := tlsOrigin(t, ok, false, c.server, "good.test")
			tr := newTransport(t, Config{})
			b := static(t, s.URL)
			b.TLS.CACertificate = ca
			b.ConnectTimeout = 5 * time.Second
			c.set(&b.TLS)
			resp, err := tr.RoundTrip(request(t, b, "GET", "http://h/", nil))
			if c.want == 0 {
				if err != nil {
					t.Fatal(err)
				}
				if got := slurp(t, resp); got != c.sni {
					t.Errorf("server name sent: %q, want %q", got, c.sni)
				}
				return
			}
			if fe := fetchError(t, err); fe.Failure != c.want || fe.TLSAlert != c.alert {
				t.Errorf("got %v (alert %d), want %s (alert %d)", err, fe.TLSAlert, c.want, c.alert)
			}
			if err != nil && strings.Contains(err.Error(), "no key") {
				t.Error("a secret is in the error")
			}
		})
	}
}

func TestHTTP2Failures(t *testing.T) {
	for _, c := range []struct {
		name string
		h    http.HandlerFunc
		want wedge.FetchFailure
		code uint32
		body bool
	}{
		{"stream reset", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, wedge.FailureH2, 2, false},
		{"reset in the body", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, wedge.FailureH2, 2, true},
		{"silent", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, wedge.FailureResponseTimeout, 0, false},
		{"stops in the body", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, wedge.FailureResponseTimeout, 0, true},
		{"giant head", func(w http.ResponseWriter, r *http.Request) {
			for range 200 {
				w.Header().Add("A", strings.Repeat("x", 1000))
			}
		}, wedge.FailureHeaderTooLarge, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, ca := tlsOrigin(t, c.h, true, nil, "127.0.0.1")
			tr := newTransport(t, Config{})
			b := static(t, s.URL)
			b.TLS.CACertificate = ca
			b.ConnectTimeout = 5 * time.Second
			b.FirstByteTimeout, b.BetweenBytesTimeout = 100*time.Millisecond, 100*time.Millisecond
			resp, err := tr.RoundTrip(request(t, b, "GET", "http://h/", nil))
			if c.body {
				if err != nil {
					t.Fatal(err)
				}
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			if fe := fetchError(t, err); fe.Failure != c.want || fe.H2Code != c.code {
				t.Errorf("got %v (code %d), want %s (code %d)", err, fe.H2Code, c.want, c.code)
			}
		})
	}
}

func TestUpgradeFailures(t *testing.T) {
	tr := newTransport(t, Config{})
	b := static(t, "http://"+rawOrigin(t, saying("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n")))
	h := http.Header{"Connection": {"upgrade"}, "Upgrade": {"websocket"}}
	req := request(t, b, "GET", "http://h/", nil)
	req.Header = h
	if _, err := tr.RoundTrip(req); fetchError(t, err).Failure != wedge.FailureUpgrade {
		t.Error(err)
	}
	g := *b
	g.GRPC = true
	req = request(t, &g, "GET", "http://h/", nil)
	req.Header = h
	if _, err := tr.RoundTrip(req); fetchError(t, err).Failure != wedge.FailureUpgrade {
		t.Error(err)
	}
}

// TestLengthAndCodingOverTLS: the head of a response is watched above TLS.
func TestLengthAndCodingOverTLS(t *testing.T) {
	s, ca := tlsOrigin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		body := "Content-Length: 1\r\n\r\na"
		if r.URL.Path == "/both" {
			body = "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n1\r\na\r\n0\r\n\r\n"
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\n"+body)
	}), false, nil, "origin.example")
	tr := newTransport(t, Config{})
	b := static(t, s.URL)
	b.TLS.CACertificate, b.TLS.CertHostname = ca, "origin.example"
	if _, body := get(t, tr, b); body != "a" {
		t.Errorf("got %q", body)
	}
	if _, err := tr.RoundTrip(request(t, b, "GET", "http://h/both", nil)); fetchError(t, err).Failure != wedge.FailureProtocol {
		t.Error(err)
	}
}
