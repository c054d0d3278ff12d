package front

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

const hitHead = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"

// hitting routes shop.example to a Hit for paths that begin with /hit, everything else to h.
func hitting(h http.HandlerFunc, head string, body ...string) map[string]Route {
	hit := stored(head, body...)
	return map[string]Route{"shop.example": {Service: "shop", Version: 7, Handler: h, Hit: func(r *Plain, a *Answer) bool {
		return strings.HasPrefix(string(r.Target), "/hit") && hit(r, a)
	}}}
}

func ask(t *testing.T, c net.Conn, br *bufio.Reader, path string) (int, string) {
	t.Helper()
	io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: shop.example\r\n\r\n")
	resp, body := response(t, br)
	return resp.StatusCode, body
}

// TestHitAndHandler: a connection takes either way with each request, and what is pipelined is
// answered in order.
func TestHitAndHandler(t *testing.T) {
	f := run(t, Config{}, hitting(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		io.WriteString(w, strings.TrimPrefix(r.URL.Path, "/")+string(b))
	}, hitHead, "h", "it"))
	c := dial(t, f.http)
	br := bufio.NewReader(c)
	for _, path := range []string{"/hit", "/hit", "/a", "/hit", "/b", "/c", "/hit"} {
		if status, body := ask(t, c, br, path); status != 200 || body != path[1:] {
			t.Fatalf("%s: %d %q", path, status, body)
		}
	}
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: shop.example\r\n\r\n" }
	io.WriteString(c, get("/hit")+get("/hit")+"POST /p HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 40\r\n\r\n"+get("/hit")[:40]+get("/hit")+get("/d"))
	for _, want := range []string{"hit", "hit", "p" + get("/hit")[:40], "hit", "d"} {
		if _, body := response(t, br); body != want {
			t.Fatalf("pipelined: got %q, want %q", body, want)
		}
	}
	if s := f.Stats(); s.Requests != 12 || s.Hits < 6 || s.Status[2] != 12 || s.InFlight != 0 {
		t.Errorf("counted %+v", s)
	}
}

func TestHitOverTLS(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 4096)
	f := run(t, Config{Certificates: []CertificateFiles{newAuthority(t).issue(t, "a", "shop.example")}}, hitting(http.NotFound, "HTTP/1.1 200 OK\r\nContent-Length: 131072\r\n\r\n", big, big))
	c, err := tls.Dial("tcp", f.https, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	for range 3 {
		if status, body := ask(t, c, br, "/hit"); status != 200 || body != big+big {
			t.Fatalf("%d, %d bytes", status, len(body))
		}
	}
	if n := f.Stats().Hits; n != 3 {
		t.Errorf("%d hits", n)
	}
}

// closes returns how long it takes until the front closes the connection.
func closes(t *testing.T, br *bufio.Reader) time.Duration {
	t.Helper()
	began := time.Now()
	if b, err := br.ReadByte(); err == nil {
		t.Fatalf("got %q", b)
	}
	return time.Since(began)
}

func TestHitTimeouts(t *testing.T) {
	f := run(t, Config{IdleTimeout: 400 * time.Millisecond, ReadHeaderTimeout: 300 * time.Millisecond}, hitting(http.NotFound, hitHead, "hit"))
	c := dial(t, f.http)
	br := bufio.NewReader(c)
	for range 5 { // longer than both together
		time.Sleep(200 * time.Millisecond)
		ask(t, c, br, "/hit")
	}
	if took := closes(t, br); took < 350*time.Millisecond || took > 3*time.Second {
		t.Errorf("idle: closed after %v", took)
	}
}

// TestHalfAHead: after a hit, a request that does not go on ends as it does without hits.
func TestHalfAHead(t *testing.T) {
	var last [2]string
	for i := range last {
		f := run(t, Config{ReadHeaderTimeout: 300 * time.Millisecond, NoHits: i == 0}, hitting(reply("hit"), hitHead, "hit"))
		c := dial(t, f.http)
		ask(t, c, bufio.NewReader(c), "/hit")
		began := time.Now()
		io.WriteString(c, "GET /hit HTT")
		b, _ := io.ReadAll(c)
		last[i] = string(b)
		if took := time.Since(began); took < 200*time.Millisecond || took > 3*time.Second {
			t.Errorf("closed after %v", took)
		}
	}
	if last[0] != last[1] {
		t.Errorf("with hits %q, without %q", last[1], last[0])
	}
}

// TestHitDrain: connections that only ever had hits do not hold a drain up, and while it goes on
// the next request on them is their last, as on others.
func TestHitDrain(t *testing.T) {
	hold := make(chan struct{})
	f := run(t, Config{}, hitting(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-hold
		}
		io.WriteString(w, "done")
	}, hitHead, "hit"))
	c, idle, slow := dial(t, f.http), dial(t, f.http), dial(t, f.http)
	br, idleReader := bufio.NewReader(c), bufio.NewReader(idle)
	ask(t, c, br, "/hit")
	ask(t, idle, idleReader, "/hit")
	io.WriteString(slow, "GET /slow HTTP/1.1\r\nHost: shop.example\r\n\r\n")
	waitFor(t, "the slow request", func() bool { return f.Stats().InFlight == 1 })
	f.stop()
	waitFor(t, "the drain", f.draining.Load)
	io.WriteString(c, "GET /hit HTTP/1.1\r\nHost: shop.example\r\n\r\n")
	if resp, _ := response(t, br); resp.StatusCode != 200 || !resp.Close {
		t.Errorf("while draining: %d, close: %v", resp.StatusCode, resp.Close)
	}
	began := time.Now()
	close(hold)
	closes(t, idleReader)
	if err := <-f.ended; err != nil || time.Since(began) > 3*time.Second {
		t.Errorf("the drain took %v, %v", time.Since(began), err)
	}
}

func TestHitOverload(t *testing.T) {
	hold := make(chan struct{})
	f := run(t, Config{MaxRequests: 1}, hitting(func(w http.ResponseWriter, r *http.Request) { <-hold }, hitHead, "hit"))
	defer close(hold)
	slow, c := dial(t, f.http), dial(t, f.http)
	io.WriteString(slow, "GET /slow HTTP/1.1\r\nHost: shop.example\r\n\r\n")
	waitFor(t, "the slow request", func() bool { return f.Stats().InFlight == 1 })
	if status, _ := ask(t, c, bufio.NewReader(c), "/hit"); status != 503 {
		t.Errorf("got %d", status)
	}
	if s := f.Stats(); s.Overload != 1 || s.Hits != 0 {
		t.Errorf("counted %+v", s)
	}
}
