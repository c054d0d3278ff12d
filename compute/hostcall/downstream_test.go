package hostcall

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// withClient lets f know of the client what a front would.
func withClient(h http.Handler, c wedge.Client) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := c
		if r.TLS != nil {
			c.TLS = &wedge.ClientTLS{State: r.TLS, Hello: []byte("hello"), JA3: md5.Sum([]byte("x")), JA4: "t13d"}
		}
		h.ServeHTTP(w, r.WithContext(wedge.WithClient(r.Context(), &c)))
	})
}

func TestMetadata(t *testing.T) {
	const d = "fastly_http_downstream.downstream_"
	client := wedge.Client{
		RequestID: strings.Repeat("ab", 16),
		Remote:    netip.MustParseAddrPort("192.0.2.7:1"), Local: netip.MustParseAddrPort("[2001:db8::1]:443"),
		HeaderNames:   []string{"Host", "X-b", "x-A", "X-B"},
		H2Fingerprint: "h2",
	}
	v := &wedge.Version{APIKeys: []wedge.Secret{wedge.Secret("k1"), wedge.Secret("key2")}}
	check := func(t *testing.T, g *guest, secure bool) {
		req, _ := g.downstream()
		var n uint32
		var addr [16]byte
		g.ok(d+"client_ip_addr", req, &addr, &n)
		if a, _ := netip.AddrFromSlice(addr[:n]); a.String() != "192.0.2.7" {
			t.Errorf("client %v", a)
		}
		g.ok("fastly_http_req.downstream_server_ip_addr", &addr, &n)
		if a, _ := netip.AddrFromSlice(addr[:n]); a.String() != "2001:db8::1" {
			t.Errorf("server %v", a)
		}
		for name, want := range map[string]string{"client_request_id": client.RequestID, "client_h2_fingerprint": "h2", "compliance_region": "none"} {
			if got := g.text(d+name, req); got != want {
				t.Errorf("%s: %q", name, got)
			}
			if got := g.text("fastly_http_req.downstream_" + name); got != want {
				t.Errorf("%s: %q", name, got)
			}
		}
		buf := make([]byte, 100)
		for _, name := range []string{"client_oh_fingerprint", "bot_name", "bot_category", "resvpnproxy_vpn_service_name", "tls_raw_client_certificate"} {
			g.is(abi.None, d+name, req, buf, &n)
		}
		for _, name := range []string{"bot_category_kind", "bot_verified", "resvpnproxy_is_anonymous", "resvpnproxy_is_tor_exit_node", "tls_client_cert_verify_result"} {
			g.is(abi.None, d+name, req, &n)
		}
		for _, name := range []string{"bot_analyzed", "bot_detected", "client_ddos_detected"} {
			if g.ok(d+name, req, &n); n != 0 {
				t.Errorf("%s: %d", name, n)
			}
		}
		for _, name := range []string{"visits_this_service", "visits_this_pop"} {
			if g.ok(d+name, &n); n != 0 {
				t.Errorf("%s: %d at first", name, n)
			}
		}
		if g.ok("fastly_http_downstream.fastly_key_is_valid", req, &n); n != 1 {
			t.Errorf("key valid %d", n)
		}
		if got := g.many(d+"original_header_names", req); !slices.Equal(got, client.HeaderNames) {
			t.Errorf("original names %q", got)
		}
		if g.ok("fastly_http_req.original_header_count", &n); n != 4 {
			t.Errorf("original count %d", n)
		}
		if got := g.many("fastly_http_req.header_values_get", req, "x-b"); !slices.Equal(got, []string{"1", "2"}) {
			t.Errorf("x-b %q", got)
		}
		uri := g.text("fastly_http_req.uri_get", req)
		if !secure {
			for _, name := range []string{"tls_cipher_openssl_name", "tls_protocol", "tls_client_hello", "tls_client_servername", "tls_ja4"} {
				g.is(abi.None, d+name, req, buf, &n)
			}
			g.is(abi.None, d+"tls_ja3_md5", req, &addr, &n)
			if !strings.HasPrefix(uri, "http://") {
				t.Errorf("uri %q", uri)
			}
			return
		}
		for name, want := range map[string]string{"tls_cipher_openssl_name": "ECDHE-RSA-AES128-GCM-SHA256", "tls_protocol": "TLSv1.2",
			"tls_client_hello": "hello", "tls_client_servername": "example.com", "tls_ja4": "t13d"} {
			if got := g.text(d+name, req); got != want {
				t.Errorf("%s: %q", name, got)
			}
		}
		g.ok(d+"tls_ja3_md5", req, &addr, &n)
		if n != 16 || addr != md5.Sum([]byte("x")) {
			t.Errorf("ja3 %x", addr[:n])
		}
		if !strings.HasPrefix(uri, "https://") {
			t.Errorf("uri %q", uri)
		}
	}
	for _, secure := range []bool{false, true} {
		h := New(Config{Host: testHost(v), Run: func(_ context.Context, sb *compute.Sandbox) error {
			check(t, play(t, sb), secure)
			return nil
		}})
		srv := httptest.NewUnstartedServer(withClient(h, client))
		if secure {
			srv.TLS = &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}
			srv.StartTLS()
			srv.Client().Transport.(*http.Transport).TLSClientConfig.ServerName = "example.com"
		} else {
			srv.Start()
		}
		req, _ := http.NewRequest("GET", srv.URL, nil)
		req.Header = http.Header{"X-B": {"1", "2"}, "X-A": {"3"}, "Fastly-Key": {"key2"}}
		if resp, err := srv.Client().Do(req); err != nil {
			t.Error(err)
		} else {
			resp.Body.Close()
		}
		srv.Close()
	}
}

// TestVerifyResult: a guest is told what came of asking its client for a certificate.
func TestVerifyResult(t *testing.T) {
	sent := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{}}}
	for _, c := range []struct {
		tls  *wedge.ClientTLS
		want uint32
		s    abi.Status
	}{
		{nil, 0, abi.None},
		{&wedge.ClientTLS{}, 0, abi.None},
		{&wedge.ClientTLS{State: &tls.ConnectionState{}, CertAsked: true}, certMissing, abi.OK},
		{&wedge.ClientTLS{State: &tls.ConnectionState{PeerCertificates: sent.PeerCertificates, VerifiedChains: [][]*x509.Certificate{{}}}, CertAsked: true}, certOK, abi.OK},
		{&wedge.ClientTLS{State: sent, CertAsked: true, CertError: x509.UnknownAuthorityError{}}, certUnknownCA, abi.OK},
		{&wedge.ClientTLS{State: sent, CertAsked: true, CertError: x509.CertificateInvalidError{Reason: x509.Expired}}, certExpired, abi.OK},
		{&wedge.ClientTLS{State: sent, CertAsked: true, CertError: x509.CertificateInvalidError{Reason: x509.IncompatibleUsage}}, certBad, abi.OK},
		{&wedge.ClientTLS{State: sent}, certUnknown, abi.OK},
	} {
		h := New(Config{Host: testHost(nil), Run: func(_ context.Context, sb *compute.Sandbox) error {
			g := play(t, sb)
			req, _ := g.downstream()
			var got uint32
			if s := g.call("fastly_http_downstream.downstream_tls_client_cert_verify_result", req, &got); s != c.s || got != c.want {
				t.Errorf("%+v: %v, result %d", c.tls, s, got)
			}
			return nil
		}})
		r := httptest.NewRequest("GET", "https://example.com/x", nil)
		h.ServeHTTP(httptest.NewRecorder(), r.WithContext(wedge.WithClient(r.Context(), &wedge.Client{TLS: c.tls})))
	}
}

// TestMetadataUnknown: on TLS of which nothing is known, Go guests must start all the same.
func TestMetadataUnknown(t *testing.T) {
	f := New(Config{Host: testHost(nil), Run: func(_ context.Context, sb *compute.Sandbox) error {
		g := play(t, sb)
		req, _ := g.downstream()
		var n uint32
		var addr [16]byte
		for _, name := range []string{"tls_cipher_openssl_name", "tls_protocol", "tls_client_hello", "tls_client_servername", "tls_ja4"} {
			if got := g.text("fastly_http_downstream.downstream_"+name, req); got != "" {
				t.Errorf("%s: %q", name, got)
			}
		}
		g.ok("fastly_http_downstream.downstream_tls_ja3_md5", req, &addr, &n)
		g.ok("fastly_http_downstream.downstream_client_ip_addr", req, &addr, &n)
		g.ok("fastly_http_downstream.downstream_server_ip_addr", req, &addr, &n)
		g.ok("fastly_http_downstream.fastly_key_is_valid", req, &n)
		if n != 0 {
			t.Error("no key is valid")
		}
		return nil
	}})
	r := httptest.NewRequest("GET", "https://example.com/x", nil)
	r = r.WithContext(wedge.WithClient(r.Context(), &wedge.Client{TLS: &wedge.ClientTLS{}}))
	f.ServeHTTP(httptest.NewRecorder(), r)
}

// reuser serves requests until none comes and returns how many it served.
func reuser(g *guest, timeout time.Duration) (served int) {
	req, body := g.downstream()
	for {
		served++
		uri := g.text("fastly_http_req.uri_get", req)
		g.answer(200, fmt.Sprint(served, " ", uri[strings.LastIndex(uri, "/"):], " ", g.readAll(body)))
		var p uint32
		options := make([]byte, 8)
		options[0], options[1] = byte(timeout.Milliseconds()), byte(timeout.Milliseconds()>>8)
		g.ok("fastly_http_downstream.next_request", 2, options, &p)
		var second uint32
		g.is(abi.LimitExceeded, "fastly_http_downstream.next_request", 0, options, &second)
		if s := g.call("fastly_http_downstream.next_request_wait", p, &req, &body); s != abi.OK {
			if s != abi.None {
				g.t.Errorf("next request: %v", s)
			}
			g.is(abi.BadHandle, "fastly_http_downstream.next_request_wait", p, &req, &body)
			return served
		}
	}
}

func TestReuse(t *testing.T) {
	var guests, served atomic.Int64
	v := &wedge.Version{Limits: wedge.Limits{RequestsInReuse: 3}}
	f := serve(t, v, func(g *guest) error {
		guests.Add(1)
		served.Add(int64(reuser(g, time.Minute)))
		return nil
	})
	for i := range 7 {
		waitFor(t, func() bool { return i%3 == 0 && f.h.Running() == 0 || i%3 != 0 && f.h.pool.size() == 1 })
		resp, err := http.Post(f.URL+fmt.Sprint("/", i), "", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		n, _ := resp.Body.Read(buf)
		resp.Body.Close()
		if want := fmt.Sprintf("%d /%d body", i%3+1, i); string(buf[:n]) != want {
			t.Errorf("%q, want %q", buf[:n], want)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := f.h.Wait(ctx); err != nil { // the seventh waits for a minute, but not in the way of a drain
		t.Error(err)
	}
	if guests.Load() != 3 || served.Load() != 7 {
		t.Errorf("%d guests served %d", guests.Load(), served.Load())
	}
}

func (q *pool) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for range 5000 {
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("waited in vain")
}

func TestReuseRules(t *testing.T) {
	f := serve(t, nil, func(g *guest) error {
		var p, req, body uint32
		g.ok("fastly_http_downstream.next_request", 1, raw(0), &p) // a reserved bit
		g.ok("fastly_http_downstream.next_request_abandon", p)
		g.is(abi.Inval, "fastly_http_downstream.next_request", 4, raw(0), &p)
		g.ok("fastly_http_downstream.next_request", 0, raw(0), &p)
		g.is(abi.Unsupported, "fastly_http_downstream.next_request_wait", p, &req, &body)
		g.ok("fastly_http_downstream.next_request_abandon", p)
		g.is(abi.BadHandle, "fastly_http_downstream.next_request_abandon", p)
		g.answer(200, "")
		options := []byte{20, 0, 0, 0, 255, 255, 255, 255} // 20 ms; the high half is garbage
		g.ok("fastly_http_downstream.next_request", 2, options, &p)
		var index uint32
		g.ok("fastly_async_io.select", []uint32{p}, 0, &index)
		g.is(abi.None, "fastly_http_downstream.next_request_wait", p, &req, &body)
		return nil
	})
	get(t, f.URL)
}

// TestReuseNotTaken: a request that a sandbox was given and never looked at is served by another.
func TestReuseNotTaken(t *testing.T) {
	var guests atomic.Int64
	var first sync.WaitGroup
	first.Add(1)
	f := serve(t, nil, func(g *guest) error {
		n := guests.Add(1)
		g.answer(200, fmt.Sprint("guest ", n))
		if n == 1 {
			var p, index uint32
			g.ok("fastly_http_downstream.next_request", 0, raw(0), &p)
			g.ok("fastly_async_io.select", []uint32{p}, 0, &index)
			return errors.New("trap")
		}
		return nil
	})
	get(t, f.URL)
	waitFor(t, func() bool { return f.h.pool.size() == 1 })
	if _, body := get(t, f.URL); body != "guest 2" {
		t.Errorf("body %q", body)
	}
}

func TestOriginalNamesOfHTTP2(t *testing.T) {
	r := httptest.NewRequest("GET", "https://h/", nil)
	r.ProtoMajor, r.ProtoMinor = 2, 0
	r.Header = http.Header{"X-B": {"1", "2"}}
	if got := newIncoming(r, nil, rand.Reader).originalNames(); !slices.Equal(got, []string{"host", "x-b", "x-b"}) {
		t.Errorf("names %q", got)
	}
}
