package backend

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

func TestRequestAsTheOriginSeesIt(t *testing.T) {
	dump := make(chan string, 1)
	addr := rawOrigin(t, func(_ int, c net.Conn) {
		buf := make([]byte, 4096)
		n, _ := c.Read(buf)
		dump <- string(buf[:n])
		io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
	})
	tr := newTransport(t, Config{})
	b := static(t, "http://"+addr+"/base%2Fdir/")
	req := request(t, b, "GET", "http://site.test/a%2Fb/c?q=1", nil)
	req.Header = http.Header{"X-Thing": {"1", "2"}}
	before := fmt.Sprint(req.URL, req.Host, req.Header)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	want := "GET /base%2Fdir/a%2Fb/c?q=1 HTTP/1.1\r\nHost: site.test\r\nX-Thing: 1\r\nX-Thing: 2\r\n\r\n"
	if got := <-dump; got != want {
		t.Errorf("sent:\n%q\nwant:\n%q", got, want)
	}
	if after := fmt.Sprint(req.URL, req.Host, req.Header); after != before {
		t.Errorf("request changed from %s to %s", before, after)
	}
	if resp.Request != req {
		t.Error("the response does not name the caller's request")
	}
	b2 := *b
	b2.HostOverride = "over.test"
	if _, err := tr.RoundTrip(request(t, &b2, "GET", "http://site.test/", nil)); err != nil {
		t.Fatal(err)
	}
	if got := <-dump; !strings.Contains(got, "Host: over.test\r\n") {
		t.Errorf("host not overridden: %q", got)
	}
}

func TestTarget(t *testing.T) {
	for _, c := range []struct{ base, in, want string }{
		{"http://o", "http://h/", "/"},
		{"http://o/", "http://h/x", "/x"},
		{"http://o/p", "http://h/x?y=%20", "/p/x?y=%20"},
		{"http://o/p/", "http://h", "/p/"},
		{"http://o/p", "http://h?q", "/p/?q"},
		{"http://o/p", "http://h//x", "/p//x"},
		{"http://o/a%2Fb", "http://h/c%2Fd", "/a%2Fb/c%2Fd"},
	} {
		req := request(t, static(t, c.base), "GET", c.in, nil)
		if got := target(static(t, c.base).URL, req.URL).RequestURI(); got != c.want {
			t.Errorf("%s before %s: got %s, want %s", c.base, c.in, got, c.want)
		}
	}
}

func TestBadTargetIsRefused(t *testing.T) {
	b := static(t, "http://127.0.0.1:1")
	tr := newTransport(t, Config{})
	req := request(t, b, "GET", "http://h/", nil)
	req.URL.RawQuery = "a HTTP/1.1\r\nX: y"
	if _, err := tr.RoundTrip(req); fetchError(t, err).Failure != wedge.FailureURI {
		t.Error(err)
	}
	if _, err := tr.RoundTrip(httptest.NewRequest("GET", "http://h/", nil)); fetchError(t, err).Failure != wedge.FailureNotFound {
		t.Error(err)
	}
}

func TestConnectionsAreSharedByEqualBackends(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	n := connections(s)
	s.Start()
	defer s.Close()
	tr := newTransport(t, Config{})
	for i := range 5 {
		b := static(t, s.URL+"/x")
		b.Name = fmt.Sprint("backend", i)
		get(t, tr, b)
		eventually(t, "idle", func() bool { return tr.Stats().Idle == 1 })
	}
	if n.Load() != 1 {
		t.Errorf("%d connections, want 1", n.Load())
	}
	other := static(t, s.URL)
	other.MaxUse = 7
	get(t, tr, other)
	if n.Load() != 2 || tr.Stats().Pools != 2 {
		t.Errorf("%d connections, %d pools; a backend that differs must not share", n.Load(), tr.Stats().Pools)
	}
}

func TestConnectionLimits(t *testing.T) {
	for _, c := range []struct {
		name  string
		set   func(*wedge.Backend)
		conns int32
	}{
		{"reuse", func(*wedge.Backend) {}, 1},
		{"dont pool", func(b *wedge.Backend) { b.DontPool = true }, 6},
		{"max use", func(b *wedge.Backend) { b.MaxUse = 2 }, 3},
		{"max lifetime", func(b *wedge.Backend) { b.MaxLifetime = time.Nanosecond }, 6},
		{"keep-alive", func(b *wedge.Backend) { b.KeepAlive = time.Nanosecond }, 6},
	} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, " h2=", h2), func(t *testing.T) {
				s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					fmt.Fprint(w, r.Proto)
				}))
				n := connections(s)
				s.Config.Protocols = new(http.Protocols)
				s.Config.Protocols.SetHTTP1(true)
				s.Config.Protocols.SetUnencryptedHTTP2(true)
				s.Start()
				defer s.Close()
				tr := newTransport(t, Config{})
				b := static(t, s.URL)
				b.GRPC = h2
				c.set(b)
				for range 6 {
					if _, proto := get(t, tr, b); (proto == "HTTP/2.0") != h2 {
						t.Fatalf("spoke %s", proto)
					}
					// net/http may still be on its way back to Read; until then another one is dialled.
					eventually(t, "the connection is idle or gone", func() bool { st := tr.Stats(); return st.Open == st.Idle })
				}
				if n.Load() != c.conns {
					t.Errorf("%d connections, want %d", n.Load(), c.conns)
				}
				if st := tr.Stats(); st.Open != st.Idle && c.name == "reuse" || st.Open > 1 {
					t.Errorf("%d open, %d idle", st.Open, st.Idle)
				}
			})
		}
	}
}

func TestMaxConnectionsWaitsThenFails(t *testing.T) {
	release := make(chan bool)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-release }))
	defer s.Close()
	tr := newTransport(t, Config{})
	b := static(t, s.URL)
	b.MaxConnections = 1
	b.ConnectTimeout = 5 * time.Second
	first, second := make(chan error, 1), make(chan error, 1)
	send := func(ch chan error, b *wedge.Backend) {
		resp, err := tr.RoundTrip(request(t, b, "GET", "http://h/", nil))
		if err == nil {
			resp.Body.Close()
		}
		ch <- err
	}
	go send(first, b)
	eventually(t, "first is in flight", func() bool { return tr.Stats().Open == 1 })
	hasty := *b
	hasty.ConnectTimeout = 20 * time.Millisecond
	ch := make(chan error, 1)
	send(ch, &hasty)
	if err := <-ch; fetchError(t, err).Failure != wedge.FailureConnectionLimit {
		t.Errorf("got %v", err)
	}
	go send(second, b)
	eventually(t, "second waits", func() bool { return tr.Stats().Waiting == 1 })
	release <- true
	if err := <-first; err != nil {
		t.Error(err)
	}
	release <- true
	if err := <-second; err != nil {
		t.Error(err)
	}
	if d := tr.Stats().Dials; d != 1 {
		t.Errorf("%d dials, want 1", d)
	}
}

func TestFullNodeTakesTheOldestIdle(t *testing.T) {
	tr := newTransport(t, Config{MaxConnections: 2})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})
	for range 5 {
		s := httptest.NewServer(h)
		defer s.Close()
		get(t, tr, static(t, s.URL))
	}
	eventually(t, "evicted", func() bool { return tr.Stats().Open == 2 })
}

func TestPoolsAreBounded(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	defer s.Close()
	tr := newTransport(t, Config{MaxPools: 3})
	for i := range 10 {
		b := static(t, s.URL)
		b.MaxUse = 100 + i // another key
		get(t, tr, b)
	}
	if st := tr.Stats(); st.Pools != 3 || st.Forgotten != 7 {
		t.Errorf("%d pools, %d forgotten", st.Pools, st.Forgotten)
	}
	eventually(t, "idle ones closed", func() bool { st := tr.Stats(); return st.Open == 3 && st.Idle == 3 })
	tr.sweep(time.Now().Add(2 * time.Minute))
	if st := tr.Stats(); st.Open != 0 || st.Pools != 0 {
		t.Errorf("after the sweep: %d open, %d pools", st.Open, st.Pools)
	}
}

// stale answers one request per connection and closes the connection when the next comes.
func stale(n int, c net.Conn) {
	br := bufio.NewReader(c)
	if readHead(br) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	}
	br.Peek(1)
}

func TestRetryOnlyWhereSafe(t *testing.T) {
	for _, c := range []struct {
		name, method string
		body         io.Reader
		opaque       bool // hide GetBody
		ok           bool
	}{
		{name: "get", method: "GET", ok: true},
		{name: "post", method: "POST", body: strings.NewReader("x")},
		{name: "get with body", method: "GET", body: strings.NewReader("x"), ok: true},
		{name: "get with unrepeatable body", method: "GET", body: strings.NewReader("x"), opaque: true},
		{name: "delete", method: "DELETE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTransport(t, Config{})
			b := static(t, "http://"+rawOrigin(t, stale))
			get(t, tr, b)
			eventually(t, "idle", func() bool { return tr.Stats().Idle == 1 })
			req := request(t, b, c.method, "http://h/", c.body)
			if c.opaque {
				req.GetBody = nil
			}
			resp, err := tr.RoundTrip(req)
			if c.ok {
				if err != nil {
					t.Fatal(err)
				}
				slurp(t, resp)
				if n := tr.Stats().Retries; n != 1 {
					t.Errorf("%d retries", n)
				}
				return
			}
			if fetchError(t, err).Failure != wedge.FailureTerminated || tr.Stats().Retries != 0 {
				t.Errorf("got %v after %d retries", err, tr.Stats().Retries)
			}
		})
	}
}

func TestNoRetryOnAFreshConnection(t *testing.T) {
	tr := newTransport(t, Config{})
	b := static(t, "http://"+rawOrigin(t, saying("")))
	if _, err := tr.RoundTrip(request(t, b, "GET", "http://h/", nil)); fetchError(t, err).Failure != wedge.FailureTerminated {
		t.Error(err)
	}
	if st := tr.Stats(); st.Dials != 1 || st.Retries != 0 {
		t.Errorf("%d dials, %d retries", st.Dials, st.Retries)
	}
}

// TestSurplusIsNeverAnAnswer lets an origin send more than it announced. Whenever the surplus
// arrives, it must not become the response to the next request.
func TestSurplusIsNeverAnAnswer(t *testing.T) {
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	for _, head := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
	} {
		tr := newTransport(t, Config{})
		b := static(t, "http://"+rawOrigin(t, func(n int, c net.Conn) {
			br := bufio.NewReader(c)
			for readHead(br) {
				io.WriteString(c, head+evil)
			}
		}))
		for range 20 {
			if _, body := get(t, tr, b); body == "evil" {
				t.Fatalf("surplus after %q became an answer", head)
			}
		}
	}
}

func TestLateSurplusCondemns(t *testing.T) {
	more := make(chan bool)
	tr := newTransport(t, Config{})
	b := static(t, "http://"+rawOrigin(t, func(n int, c net.Conn) {
		br := bufio.NewReader(c)
		for readHead(br) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			if n == 1 {
				<-more
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
			}
		}
	}))
	get(t, tr, b)
	eventually(t, "idle", func() bool { return tr.Stats().Idle == 1 })
	more <- true
	eventually(t, "condemned", func() bool { st := tr.Stats(); return st.Poisoned == 1 && st.Open == 0 })
	if _, body := get(t, tr, b); body != "ok" {
		t.Errorf("got %q", body)
	}
}

func TestUpgrade(t *testing.T) {
	addr := rawOrigin(t, func(_ int, c net.Conn) {
		br := bufio.NewReader(c)
		readHead(br)
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello ")
		io.Copy(c, br)
	})
	tr := newTransport(t, Config{})
	b := static(t, "http://"+addr)
	b.FirstByteTimeout, b.BetweenBytesTimeout = 30*time.Millisecond, 30*time.Millisecond
	ctx, cancel := context.WithCancel(wedge.WithBackend(t.Context(), b))
	req := request(t, b, "GET", "http://h/", nil).WithContext(ctx)
	req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"echo"}}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	rwc, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || resp.StatusCode != 101 {
		t.Fatalf("status %d, body %T", resp.StatusCode, resp.Body)
	}
	time.Sleep(60 * time.Millisecond) // longer than the timeouts, which must not apply
	io.WriteString(rwc, "world")
	buf := make([]byte, 11)
	if _, err := io.ReadFull(rwc, buf); err != nil || string(buf) != "hello world" {
		t.Errorf("got %q, %v", buf, err)
	}
	if tr.Stats().Open != 1 {
		t.Error("an upgraded connection must count as open")
	}
	rwc.Close()
	if st := tr.Stats(); st.Open != 0 || st.Upgrades != 1 {
		t.Errorf("%+v", st)
	}
}

func TestUpgradeGoesOverHTTP1(t *testing.T) {
	s, ca := tlsOrigin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }), true, nil, "127.0.0.1")
	tr := newTransport(t, Config{})
	b := static(t, s.URL)
	b.TLS.CACertificate = ca
	if _, proto := get(t, tr, b); proto != "HTTP/2.0" {
		t.Errorf("spoke %s", proto)
	}
	req := request(t, b, "GET", "http://h/", nil)
	req.Header = http.Header{"Connection": {"keep-alive, upgrade"}, "Upgrade": {"websocket"}}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if proto := slurp(t, resp); proto != "HTTP/1.1" {
		t.Errorf("upgrade over %s", proto)
	}
	if _, proto := get(t, tr, b); proto != "HTTP/2.0" {
		t.Errorf("afterwards %s", proto)
	}
}

func TestHTTP2SharesOneConnection(t *testing.T) {
	var gate = make(chan bool)
	s, ca := tlsOrigin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			<-gate
		}
		w.Header().Set("Trailer", "T")
		io.WriteString(w, "body")
		w.Header().Set("T", "end")
	}), true, nil, "127.0.0.1")
	tr := newTransport(t, Config{})
	b := static(t, s.URL)
	b.TLS.CACertificate = ca
	b.ConnectTimeout = 5 * time.Second
	get(t, tr, b)
	done := make(chan error)
	for range 50 {
		go func() {
			req := request(t, b, "POST", "http://h/wait", strings.NewReader("x"))
			req.Header.Set("Connection", "keep-alive, X-Hop")
			req.Header.Set("X-Hop", "1")
			resp, err := tr.RoundTrip(req)
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				if resp.Trailer.Get("T") != "end" {
					err = errors.New("no trailer")
				}
			}
			done <- err
		}()
	}
	for range 50 {
		gate <- true
	}
	for range 50 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if st := tr.Stats(); st.Dials != 1 {
		t.Errorf("%d dials", st.Dials)
	}
}

func TestTrailersAndInterim(t *testing.T) {
	addr := rawOrigin(t, saying("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n2\r\nok\r\n0\r\nT: end\r\n\r\n"))
	tr := newTransport(t, Config{})
	b := static(t, "http://"+addr)
	req := request(t, b, "GET", "http://h/", nil)
	var hint string
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error { hint = h.Get("Link"); return nil },
	}))
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if body := slurp(t, resp); body != "ok" || resp.Trailer.Get("T") != "end" || hint != "x" {
		t.Errorf("body %q, trailer %v, hint %q", body, resp.Trailer, hint)
	}
}

func TestSlowRequestBodyIsNotTheOriginsFault(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	defer s.Close()
	tr := newTransport(t, Config{})
	b := static(t, s.URL)
	b.FirstByteTimeout = 40 * time.Millisecond
	pr, pw := io.Pipe()
	go func() {
		for range 3 {
			time.Sleep(25 * time.Millisecond)
			io.WriteString(pw, "x")
		}
		pw.Close()
	}()
	resp, err := tr.RoundTrip(request(t, b, "POST", "http://h/", pr))
	if err != nil {
		t.Fatal(err)
	}
	if body := slurp(t, resp); body != "xxx" {
		t.Errorf("got %q", body)
	}
}

type closeCounter struct {
	io.Reader
	closed chan bool
}

func (c closeCounter) Close() error { c.closed <- true; return nil }

func TestRequestBodyIsClosedOnce(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	defer s.Close()
	tr := newTransport(t, Config{})
	limit := static(t, s.URL)
	limit.URL.Scheme = "ftp"
	for _, b := range []*wedge.Backend{static(t, s.URL), static(t, "http://127.0.0.1:1"), static(t, "http://"+rawOrigin(t, saying(""))), limit} {
		body := closeCounter{bytes.NewReader([]byte("x")), make(chan bool, 10)}
		resp, err := tr.RoundTrip(request(t, b, "POST", "http://h/", body))
		if err == nil {
			slurp(t, resp)
		}
		eventually(t, "closed", func() bool { return len(body.closed) > 0 })
		if n := len(body.closed); n != 1 {
			t.Errorf("%s: closed %d times", b.URL, n)
		}
	}
}

func TestCancelledCallerWithBlockedBody(t *testing.T) {
	tr := newTransport(t, Config{})
	b := static(t, "http://"+rawOrigin(t, silent))
	ctx, cancel := context.WithCancel(wedge.WithBackend(t.Context(), b))
	pr, _ := io.Pipe()
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err := tr.RoundTrip(request(t, b, "POST", "http://h/", pr).WithContext(ctx))
	if fe := fetchError(t, err); !errors.Is(fe, context.Canceled) || fe.Failure != wedge.FailureUnknown {
		t.Errorf("got %v", err)
	}
	eventually(t, "closed", func() bool { return tr.Stats().Open == 0 })
}

func TestCloseRefusesNewWork(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	defer s.Close()
	tr := newTransport(t, Config{})
	b := static(t, s.URL)
	get(t, tr, b)
	tr.Close()
	if _, err := tr.RoundTrip(request(t, b, "GET", "http://h/", nil)); err == nil {
		t.Error("served after Close")
	}
	eventually(t, "closed", func() bool { return tr.Stats().Open == 0 })
}
