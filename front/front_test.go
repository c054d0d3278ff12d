package front

import (
	"bufio"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

func reply(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, s) }
}

func TestProtocols(t *testing.T) {
	ca := newAuthority(t)
	var seen atomic.Pointer[wedge.Client]
	f := run(t, Config{Certificates: []CertificateFiles{ca.issue(t, "a", "a.example"), ca.issue(t, "b", "*.b.example")}},
		everything(func(w http.ResponseWriter, r *http.Request) {
			seen.Store(wedge.ClientFrom(r.Context()))
			b, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s %s", r.Proto, r.Host, b)
		}))
	for _, test := range []struct{ proto, scheme, host, want string }{
		{"1", "http", "a.example", "HTTP/1.1 a.example hello"},
		{"h2c", "http", "a.example", "HTTP/2.0 a.example hello"},
		{"1", "https", "a.example", "HTTP/1.1 a.example hello"},
		{"2", "https", "a.example", "HTTP/2.0 a.example hello"},
		{"2", "https", "x.b.example", "HTTP/2.0 x.b.example hello"},
	} {
		addr := f.http
		if test.scheme == "https" {
			addr = f.https
		}
		c := client(t, addr, test.proto, &tls.Config{RootCAs: ca.pool})
		for n := 1; n <= 2; n++ {
			resp, err := c.Post(test.scheme+"://"+test.host+"/", "text/plain", strings.NewReader("hello"))
			if err != nil {
				t.Fatal(test, err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if string(body) != test.want {
				t.Errorf("%v: got %q", test, body)
			}
			checkClient(t, seen.Load(), test.scheme, test.proto, test.host, n)
		}
	}
}

func checkClient(t *testing.T, c *wedge.Client, scheme, proto, host string, n int) {
	t.Helper()
	if _, err := hex.DecodeString(c.RequestID); err != nil || len(c.RequestID) != 32 {
		t.Errorf("request id %q", c.RequestID)
	}
	if !c.Remote.Addr().IsLoopback() || !c.Local.Addr().IsLoopback() || c.Remote.Port() == c.Local.Port() || c.ConnRequestNum != n {
		t.Errorf("remote %v, local %v, request %d, want %d", c.Remote, c.Local, c.ConnRequestNum, n)
	}
	if got := c.BytesIn(); got < 5 || proto == "1" && got < 50 || got > 500 {
		t.Errorf("%s: %d bytes in", proto, got)
	}
	if (c.HeaderNames != nil) != (proto == "1") || c.HeaderNames != nil && c.HeaderNames[0] != "Host" {
		t.Errorf("%s: header names %q", proto, c.HeaderNames)
	}
	if scheme == "http" {
		if c.TLS != nil {
			t.Error("TLS metadata on a plain connection")
		}
		return
	}
	h, err := parseHello(c.TLS.Hello)
	if err != nil || h.serverName != host || c.TLS.State.ServerName != host {
		t.Errorf("hello names %q (%v), state %q, want %q", h.serverName, err, c.TLS.State.ServerName, host)
	}
	if c.TLS.JA3 != h.ja3() || c.TLS.JA4 != h.ja4() || !strings.HasPrefix(c.TLS.JA4, "t13d") {
		t.Errorf("JA3 %x, JA4 %s", c.TLS.JA3, c.TLS.JA4)
	}
}

func TestCertificates(t *testing.T) {
	ca := newAuthority(t)
	files := []CertificateFiles{ca.issue(t, "a", "a.example"), ca.issue(t, "b", "b.example", "*.b.example")}
	f := run(t, Config{Certificates: files}, everything(reply("ok")))
	shown := func(name string) string {
		c, err := tls.Dial("tcp", f.https, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		leaf := c.ConnectionState().PeerCertificates[0]
		return leaf.Subject.CommonName + leaf.SerialNumber.String()
	}
	check := func(want map[string]string) {
		t.Helper()
		for name, cert := range want {
			if got := shown(name); got != cert {
				t.Errorf("%q: shown %s, want %s", name, got, cert)
			}
		}
	}
	check(map[string]string{"a.example": "a2", "B.example": "b3", "x.b.example": "b3", "x.y.b.example": "a2", "c.example": "a2", "": "a2"})
	ca.issue(t, "b", "b.example", "*.b.example")
	if err := f.ReloadCertificates(); err != nil {
		t.Fatal(err)
	}
	check(map[string]string{"a.example": "a2", "b.example": "b4"})
	f.cfg.Certificates[0].Key = files[1].Key // does not belong
	if err := f.ReloadCertificates(); wedge.KindOf(err) != wedge.Invalid || wedge.HintOf(err) == "" {
		t.Errorf("got %v", err)
	}
	check(map[string]string{"a.example": "a2", "b.example": "b4"})
	if got := talk(t, f.https, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); status(got) != "400" {
		t.Errorf("plain HTTP on the TLS port: %q", got)
	}
}

func TestClientCertificates(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	server := ca.issue(t, "server", "a.example")
	load := func(files CertificateFiles) []tls.Certificate {
		c, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{c}
	}
	ours, theirs := load(ca.issue(t, "ours")), load(other.issue(t, "theirs"))
	for _, test := range []struct {
		ask   ClientCert
		certs []tls.Certificate
		want  string // sent and verified certificates; "" means refused
	}{
		{ClientCertNone, ours, "0 0"}, {ClientCertRequest, nil, "0 0"}, {ClientCertRequest, ours, "1 1"}, {ClientCertRequest, theirs, "1 0"},
		{ClientCertRequire, nil, ""}, {ClientCertRequire, ours, "1 1"}, {ClientCertRequire, theirs, ""},
	} {
		f := run(t, Config{Certificates: []CertificateFiles{server}, ClientCert: test.ask, ClientCAs: ca.pool}, everything(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, len(r.TLS.PeerCertificates), " ", len(r.TLS.VerifiedChains))
			c := wedge.ClientFrom(r.Context()).TLS
			if bad := len(c.State.PeerCertificates) > len(c.State.VerifiedChains); c.CertAsked != (test.ask != ClientCertNone) || (c.CertError != nil) != bad {
				t.Errorf("ask %d: the guest is told %v, %v", test.ask, c.CertAsked, c.CertError)
			}
		}))
		for _, proto := range []string{"1", "2"} {
			// Sent whether or not the server knows who signed it.
			cfg := &tls.Config{RootCAs: ca.pool, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if test.certs == nil {
					return &tls.Certificate{}, nil
				}
				return &test.certs[0], nil
			}}
			resp, err := client(t, f.https, proto, cfg).Get("https://a.example/")
			if err != nil {
				if test.want != "" {
					t.Errorf("%v: %v", test, err)
				}
				continue
			}
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if string(b) != test.want {
				t.Errorf("ask %d: got %q, want %q", test.ask, b, test.want)
			}
		}
	}
}

func TestTable(t *testing.T) {
	h := reply("")
	tab := table(t, 3, map[string]Route{"a.example": {Service: "a", Version: 1, Handler: h}, "*.a.example": {Service: "wild", Version: 1, Handler: h}, "x.a.example": {Service: "x", Version: 1, Handler: h}, "*.y.a.example": {Service: "y", Version: 1, Handler: h}, "[::1]": {Service: "six", Version: 1, Handler: h}})
	for host, want := range map[string]string{
		"a.example": "a", "A.Example.": "a", "a.example:8080": "a", "b.a.example": "wild", "c.b.a.example": "wild", "x.a.example": "x",
		"b.y.a.example": "y", "y.a.example": "wild", "b.example": "", "example": "", "[::1]:80": "six", "": "", "a.example:": "a",
		"a.example:x": "", "a.example@b": "", ".a.example": "", "[::1": "", "a..example": "", "a.example:999999": "",
	} {
		if r, _ := tab.Lookup(host); r.Service != want {
			t.Errorf("%q: got %q, want %q", host, r.Service, want)
		}
	}
	if tab.Number() != 3 {
		t.Error("number lost")
	}
	for _, routes := range []map[string]Route{
		{"": {Service: "a", Version: 1, Handler: h}}, {"a:80": {Service: "a", Version: 1, Handler: h}}, {"a": {Service: "a"}}, {"a": {Service: "a", Version: 1, Handler: h}, "A": {Service: "b", Version: 1, Handler: h}}, {"a/b": {Service: "a", Version: 1, Handler: h}}, {"*.": {Service: "a", Version: 1, Handler: h}}, {"a.*": {Service: "a", Version: 1, Handler: h}},
	} {
		if _, err := NewTable(1, routes); wedge.KindOf(err) != wedge.Invalid || err == nil {
			t.Errorf("%v: got %v", routes, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	f := run(t, Config{}, nil)
	c := client(t, f.http, "1", nil)
	resp, body := get(t, c, "http://a.example/")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, resp.Header.Get("X-Request-Id")) {
		t.Errorf("without table: %d %q", resp.StatusCode, body)
	}
	f.Swap(table(t, 1, map[string]Route{"a.example": {Service: "a", Version: 1, Handler: reply("ok")}}))
	for _, proto := range []string{"1", "h2c"} {
		resp, body = get(t, client(t, f.http, proto, nil), "http://b.example/")
		if resp.StatusCode != 421 || strings.Count(body, "\n") != 1 || !strings.Contains(body, resp.Header.Get("X-Request-Id")) {
			t.Errorf("unknown host: %d %q", resp.StatusCode, body)
		}
	}
	if got := talk(t, f.http, "OPTIONS * HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"); status(got) != "204" {
		t.Errorf("OPTIONS *: %q", got)
	}
	if got := talk(t, f.http, "GET / HTTP/1.0\r\n\r\n"); status(got) != "421" {
		t.Errorf("HTTP/1.0 without host: %q", got)
	}
	s := f.Stats()
	if s.Requests != 5 || s.Refused != 4 || s.Status[4] != 3 || s.Status[5] != 1 || s.Status[2] != 1 {
		t.Errorf("%+v", s)
	}
}

func TestH2Refusals(t *testing.T) {
	f := run(t, Config{MaxHeaderLines: 10}, everything(reply("ok")))
	c := client(t, f.http, "h2c", nil)
	for _, test := range []struct {
		change func(*http.Request)
		want   int
	}{
		{func(r *http.Request) {}, 200},
		{func(r *http.Request) { r.Host = "a b" }, 400},
		{func(r *http.Request) { r.URL.Path = "/" + strings.Repeat("a", 9000) }, 414},
		{func(r *http.Request) { r.Header["X-A"] = make([]string, 20) }, 431},
	} {
		r, _ := http.NewRequest("GET", "http://a.example/", nil)
		test.change(r)
		resp, err := c.Do(r)
		if err != nil {
			if test.want == 200 {
				t.Error(err)
			}
			continue // refused before it was sent
		}
		resp.Body.Close()
		if resp.StatusCode != test.want {
			t.Errorf("got %d, want %d", resp.StatusCode, test.want)
		}
	}
}

func TestOverload(t *testing.T) {
	gate, entered := make(chan struct{}), make(chan struct{}, 10)
	f := run(t, Config{MaxRequests: 2}, everything(func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-gate
	}))
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { get(t, client(t, f.http, "1", nil), "http://a/") })
		<-entered
	}
	resp, body := get(t, client(t, f.http, "1", nil), "http://a/")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "1" || !strings.Contains(body, "too many") {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
	close(gate)
	wg.Wait()
	if resp, _ := get(t, client(t, f.http, "1", nil), "http://a/"); resp.StatusCode != 200 {
		t.Errorf("got %d once there is room", resp.StatusCode)
	}
	if s := f.Stats(); s.Overload != 1 || s.Refused != 1 {
		t.Errorf("%+v", s)
	}
}

func TestMaxConnections(t *testing.T) {
	f := run(t, Config{MaxConnections: 1}, everything(reply("ok")))
	first := dial(t, f.http)
	io.WriteString(first, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	response(t, bufio.NewReader(first))
	if got := talk(t, f.http, ""); got != "" {
		t.Errorf("got %q", got)
	}
	first.Close()
	waitFor(t, "the connection to be forgotten", func() bool { return f.Stats().OpenConnections == 0 })
	if got := talk(t, f.http, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); status(got) != "200" {
		t.Errorf("got %q", got)
	}
}

func TestAccess(t *testing.T) {
	seen := make(chan Access, 1)
	f := run(t, Config{Done: func(a Access) { seen <- a }}, everything(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, "short and stout")
	}))
	get(t, client(t, f.http, "1", nil), "http://a.example/"+strings.Repeat("p", 2000)+"?token=secret")
	a := <-seen
	if a.Method != "GET" || a.Host != "a.example" || len(a.Path) != maxAccessPath || a.Status != 418 || a.Bytes != 15 ||
		a.Service != "shop" || a.Version != 7 || a.Remote != "127.0.0.1" || len(a.RequestID) != 32 || a.Duration <= 0 || a.Hijacked {
		t.Errorf("%+v", a)
	}
}

func TestRunErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, test := range []struct {
		cfg  Config
		kind wedge.Kind
	}{
		{Config{}, wedge.Invalid},
		{Config{HTTP: []string{l.Addr().String()}}, wedge.Unavailable},
		{Config{HTTPS: []string{"127.0.0.1:0"}}, wedge.Invalid},
		{Config{HTTPS: []string{"127.0.0.1:0"}, Certificates: []CertificateFiles{{"absent.crt", "absent.key"}}}, wedge.Invalid},
	} {
		f := New(test.cfg)
		if err := f.Run(t.Context()); err == nil || wedge.KindOf(err) != test.kind || wedge.HintOf(err) == "" {
			t.Errorf("%+v: got %v", test.cfg, err)
		}
	}
	given, _ := net.Listen("tcp", "127.0.0.1:0")
	f := run(t, Config{HTTPListeners: []net.Listener{given}}, everything(reply("ok")))
	if got := talk(t, f.http, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); status(got) != "200" {
		t.Errorf("got %q", got)
	}
	if err := f.Run(t.Context()); wedge.KindOf(err) != wedge.Invalid {
		t.Errorf("second run: %v", err)
	}
	given.Close() // a listener that fails ends the front, with an error
	if err := <-f.ended; wedge.KindOf(err) != wedge.Internal || err == nil {
		t.Errorf("got %v", err)
	}
}

func TestTimeouts(t *testing.T) {
	ca := newAuthority(t)
	f := run(t, Config{ReadHeaderTimeout: 20 * time.Millisecond, IdleTimeout: 20 * time.Millisecond, HandshakeTimeout: 20 * time.Millisecond,
		Certificates: []CertificateFiles{ca.issue(t, "a", "a.example")}}, everything(reply("ok")))
	for _, raw := range []string{"", "P", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nHost", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"} {
		talk(t, f.http, raw) // returns: the front closes
	}
	talk(t, f.https, "")
	waitFor(t, "all to close", func() bool { return f.Stats().OpenConnections == 0 })
}
