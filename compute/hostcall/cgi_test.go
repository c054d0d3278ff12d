package hostcall

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// stGuest is a CGI guest written in Go: it sees what a real one sees, hostcalls.
type stGuest struct {
	sb  *compute.Sandbox
	mem []byte
	fns map[*abi.Def]compute.Func
}

func (g *stGuest) call(name string, words ...uint64) abi.Status {
	d := abi.Lookup(stWASI, name)
	return g.sb.Dispatch(d, g.fns[d], g.mem, words)
}

// print writes to stdout and returns the errno.
func (g *stGuest) print(s string) abi.Status { return g.printTo(1, s) }

func (g *stGuest) printTo(fd uint64, s string) abi.Status {
	for len(s) > 0 {
		n := copy(g.mem[64:], s)
		copy(g.mem, []byte{64, 0, 0, 0, byte(n), byte(n >> 8), byte(n >> 16), 0})
		if e := g.call("fd_write", fd, 0, 1, 8); e != abi.ESuccess {
			return e
		}
		s = s[int(g.mem[8])|int(g.mem[9])<<8|int(g.mem[10])<<16:]
	}
	return abi.ESuccess
}

// stdin reads standard input to its end.
func (g *stGuest) stdin() (all string, e abi.Status) {
	for {
		copy(g.mem, []byte{64, 0, 0, 0, 0, 4, 0, 0})
		if e = g.call("fd_read", 0, 0, 1, 8); e != abi.ESuccess {
			return all, e
		}
		n := int(g.mem[8]) | int(g.mem[9])<<8
		if n == 0 {
			return all, e
		}
		all += string(g.mem[64 : 64+n])
	}
}

func (g *stGuest) env(name string) string {
	for _, v := range g.sb.Env {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return "(unset)"
}

// stLogFails fails a test in which the HTTP server has something to complain about.
type stLogFails struct{ t *testing.T }

func (l stLogFails) Write(p []byte) (int, error) {
	l.t.Errorf("server: %.200s", p)
	return len(p), nil
}

type stCGI struct {
	*CGI
	*httptest.Server
	errs   chan error
	stderr chan string
}

func stServeCGI(t *testing.T, guest func(*stGuest) error) *stCGI {
	s := &stCGI{errs: make(chan error, 10), stderr: make(chan string, 10)}
	host := &compute.Host{
		Version: &wedge.Version{Service: "svc", Env: map[string]string{"OWN": "yes"}}, Rand: rand.Reader,
		Output: func(stream int, p []byte) { s.stderr <- fmt.Sprint(stream, string(p)) },
	}
	fns := Table()
	s.CGI = NewCGI(Config{
		Host: host,
		Run: func(ctx context.Context, sb *compute.Sandbox) error {
			return guest(&stGuest{sb: sb, mem: make([]byte, 1<<20), fns: fns})
		},
		OnError: func(id string, err error) { s.errs <- err },
	})
	s.Server = httptest.NewUnstartedServer(s.CGI)
	s.Server.Config.ErrorLog = log.New(stLogFails{t}, "", 0)
	s.Server.Start()
	t.Cleanup(func() {
		s.CGI.Close()
		s.Server.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.CGI.Wait(ctx); err != nil {
			t.Errorf("guests still run: %v", err)
		}
	})
	return s
}

// get returns "status body" and the response's head.
func (s *stCGI) do(t *testing.T, r *http.Request) (string, *http.Response) {
	t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: 10 * time.Second}
	resp, err := client.Do(r)
	if err != nil {
		return "error", nil
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Sprint(resp.StatusCode, " cut after ", string(b)), resp
	}
	return fmt.Sprint(resp.StatusCode, " ", string(b)), resp
}

func (s *stCGI) get(t *testing.T, path string) (string, *http.Response) {
	t.Helper()
	r, err := http.NewRequest("GET", s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s.do(t, r)
}

func TestCGIResponses(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 20<<10)
	trap := errors.New("trap")
	for _, c := range []struct {
		name   string
		out    []string
		err    error
		want   string
		header string // "Name: value"
		told   bool   // whether OnError is
	}{
		{"document", []string{"Content-Type: text/plain\n\nhi"}, nil, "200 hi", "Content-Type: text/plain", false},
		{"crlf in pieces", []string{"Content-Type: te", "xt/plain\r", "\n", "\r", "\nhi", " there"}, nil, "200 hi there", "Content-Type: text/plain", false},
		{"status", []string{"Status: 404 Not Found\nX-A: b\n\nno"}, nil, "404 no", "X-A: b", false},
		{"no body", []string{"Status: 204\n\n"}, nil, "204 ", "", false},
		{"own length", []string{"Content-Type: a/b\nContent-Length: 2\n\nhi"}, nil, "200 hi", "Content-Length: 2", false},
		{"broken promise", []string{"Content-Type: a/b\nContent-Length: 9\n\nhi"}, nil, "200 cut after hi", "", false},
		{"absolute location", []string{"Location: http://else.where/x\n\n"}, nil, "302 ", "Location: http://else.where/x", false},
		{"scheme-relative location", []string{"Location: //else.where/x\n\n"}, nil, "302 ", "Location: //else.where/x", false},
		{"local location with status", []string{"Status: 303 See Other\nLocation: /x\n\n"}, nil, "303 ", "Location: /x", false},
		{"long", []string{"Content-Type: a/b\n\n", long}, nil, "200 " + long, "", false},
		{"extension fields", []string{"Content-Type: a/b\nX-CGI-Secret: 1\nTransfer-Encoding: chunked\n\nx"}, nil, "200 x", "X-Cgi-Secret: ", false},
		{"nothing", nil, nil, "500", "", true},
		{"no end", []string{"Content-Type: text/plain\n"}, nil, "500", "", true},
		{"no type", []string{"X-A: b\n\nbody"}, nil, "500", "", true},
		{"no header", []string{"<html>\n\n"}, nil, "500", "", true},
		{"bad value", []string{"Content-Type: a\x00b\n\n"}, nil, "500", "", true},
		{"bad status", []string{"Status: 1000\n\n"}, nil, "500", "", true},
		{"interim status", []string{"Status: 100\n\n"}, nil, "500", "", true},
		{"huge head", []string{"X: ", strings.Repeat("x", 200<<10), "\n\n"}, nil, "500", "", true},
		{"trap before", []string{"Content-Type: text/pl"}, trap, "500", "", true},
		{"trap after", []string{"Content-Type: text/plain\n\npart"}, trap, "200 cut after part", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := stServeCGI(t, func(g *stGuest) error {
				for _, p := range c.out {
					g.print(p)
				}
				return c.err
			})
			got, resp := s.get(t, "/")
			if c.want == "500" {
				got = got[:min(len(got), 3)]
			}
			if got != c.want {
				t.Errorf("got %.200q, want %.200q", got, c.want)
			}
			if name, value, ok := strings.Cut(c.header, ": "); ok && resp.Header.Get(name) != value {
				t.Errorf("%s is %q", name, resp.Header.Get(name))
			}
			if !c.told {
				return
			}
			select {
			case err := <-s.errs:
				if c.err == nil && wedge.HintOf(err) == "" {
					t.Errorf("no hint in %v", err)
				}
			case <-time.After(5 * time.Second):
				t.Error("nobody was told")
			}
		})
	}
}

func TestCGIRequest(t *testing.T) {
	var env []string
	s := stServeCGI(t, func(g *stGuest) error {
		env = g.sb.Env
		in, _ := g.stdin()
		g.printTo(2, "log")
		g.print("Content-Type: text/plain\n\n" + g.env("REQUEST_METHOD") + " " + in)
		return nil
	})
	r, _ := http.NewRequest("POST", s.URL+"/a%20b/c?x=1&y=%2F", strings.NewReader("the body"))
	r.Header = http.Header{
		"Content-Type": {"text/x"}, "X-Two": {"1", "2"}, "Cookie": {"a=1", "b=2"}, "Proxy": {"http://evil"}, "X_under": {"evil"},
		"Authorization": {"Bearer secret"}, "Proxy-Authorization": {"secret"}, "User-Agent": {"ua"},
	}
	r.Host = "shop.example:8080"
	if got, _ := s.do(t, r); got != "200 POST the body" {
		t.Errorf("%q", got)
	}
	for _, want := range []string{
		"REQUEST_METHOD=POST", "PATH_INFO=/a b/c", "QUERY_STRING=x=1&y=%2F", "REQUEST_URI=/a%20b/c?x=1&y=%2F", "SCRIPT_NAME=",
		"GATEWAY_INTERFACE=CGI/1.1", "SERVER_PROTOCOL=HTTP/1.1", "SERVER_NAME=shop.example", "SERVER_PORT=8080", "REMOTE_ADDR=127.0.0.1",
		"CONTENT_LENGTH=8", "CONTENT_TYPE=text/x", "HTTP_X_TWO=1, 2", "HTTP_COOKIE=a=1; b=2", "HTTP_HOST=shop.example:8080", "HTTP_USER_AGENT=ua",
		"OWN=yes", "FASTLY_SERVICE_ID=svc", "SERVER_SOFTWARE=wedge",
	} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is not in the environment", want)
		}
	}
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		if name == "HTTP_PROXY" || strings.Contains(v, "secret") || strings.Contains(v, "evil") || name == "HTTP_CONTENT_TYPE" || name == "HTTPS" {
			t.Errorf("the environment has %s", v)
		}
	}
	if got := <-s.stderr; got != "2log" {
		t.Errorf("stderr: %q", got)
	}
	s.PassAuthorization = true
	r, _ = http.NewRequest("GET", s.URL, nil)
	r.Header.Set("Authorization", "Bearer secret")
	s.do(t, r)
	if !slices.Contains(env, "HTTP_AUTHORIZATION=Bearer secret") {
		t.Error("no authorization although it is passed")
	}
	if got, _ := s.get(t, "/a%00b"); !strings.HasPrefix(got, "400") {
		t.Errorf("NUL in the path: %s", got)
	}
	if _, resp := s.do(t, func() *http.Request { r, _ := http.NewRequest("HEAD", s.URL, nil); return r }()); resp == nil || resp.StatusCode != 200 {
		t.Error("HEAD failed")
	}
}

func TestCGILocalRedirect(t *testing.T) {
	s := stServeCGI(t, func(g *stGuest) error {
		switch g.env("PATH_INFO") {
		case "/start":
			g.print("Location: /en d?q=1\n\nignored")
			g.print("ignored too")
		case "/loop":
			g.print("Location: /loop\n\n")
		default:
			in, _ := g.stdin()
			g.print("Content-Type: a/b\n\n" + g.env("REQUEST_METHOD") + g.env("PATH_INFO") + "?" + g.env("QUERY_STRING") + g.env("CONTENT_LENGTH") + in)
		}
		return nil
	})
	r, _ := http.NewRequest("POST", s.URL+"/start", strings.NewReader("body"))
	if got, _ := s.do(t, r); got != "200 GET/en d?q=1(unset)" {
		t.Errorf("%q", got)
	}
	if got, _ := s.get(t, "/loop"); !strings.HasPrefix(got, "500") {
		t.Errorf("%q", got)
	}
}

// TestCGIStreams sees each piece before the next is printed, both ways.
func TestCGIStreams(t *testing.T) {
	s := stServeCGI(t, func(g *stGuest) error {
		g.print("Content-Type: text/plain\n\nready\n")
		for {
			copy(g.mem, []byte{64, 0, 0, 0, 0, 4, 0, 0})
			if e := g.call("fd_read", 0, 0, 1, 8); e != abi.ESuccess || g.mem[8] == 0 {
				return nil
			}
			g.print("got " + string(g.mem[64:64+int(g.mem[8])]))
		}
	})
	pr, pw := io.Pipe()
	r, _ := http.NewRequest("POST", s.URL, pr)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for i, want := range []string{"ready\n", "got 1\n", "got 2\n"} {
		if i > 0 {
			fmt.Fprintf(pw, "%d\n", i)
		}
		if got, err := lines.ReadString('\n'); got != want || err != nil {
			t.Fatalf("%q, %v; want %q", got, err, want)
		}
	}
	pw.Close()
	if rest, err := io.ReadAll(lines); len(rest) > 0 || err != nil {
		t.Errorf("at the end %q, %v", rest, err)
	}
}

// TestCGIBackPressure: a guest cannot print much more than the client reads, and hears of it
// when the client leaves.
func TestCGIBackPressure(t *testing.T) {
	printed := make(chan int, 1)
	s := stServeCGI(t, func(g *stGuest) error {
		n := 0
		for g.print("Content-Type: a/b\n\n"); g.print(strings.Repeat("x", 64<<10)) == abi.ESuccess && n < 1<<30; n += 64 << 10 {
		}
		printed <- n
		return errors.New("broken pipe")
	})
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	io.ReadFull(conn, make([]byte, 100))
	select {
	case n := <-printed:
		t.Fatalf("printed %d bytes that nobody read", n)
	case <-time.After(200 * time.Millisecond):
	}
	conn.Close()
	select {
	case n := <-printed:
		if n > 64<<20 {
			t.Errorf("printed %d bytes", n)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the guest was not told that the client left")
	}
	select {
	case err := <-s.errs:
		t.Errorf("the guest is blamed: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
}

func FuzzCGIHead(f *testing.F) {
	for _, s := range []string{"Content-Type: a/b\n\n", "Status: 200 OK\r\nX: y\r\n\r\nbody", "Location: /x\n\n", ":\n\n", "Status: 99\n\n", "A: b\n c\n\n", "\n"} {
		f.Add(s, 3)
	}
	f.Fuzz(func(t *testing.T, s string, cut int) {
		b := []byte(s)
		end, line := cgiHeadEnd(b, 0)
		if end < 0 || end > len(b) || line > len(b) {
			t.Fatalf("end %d, line %d of %d", end, line, len(b))
		}
		if cut = min(max(cut, 0), len(b)); true { // the same in two pieces
			first, from := cgiHeadEnd(b[:cut], 0)
			if first == 0 {
				first, _ = cgiHeadEnd(b, from)
			}
			if first != end {
				t.Fatalf("in pieces the end is %d, at once %d", first, end)
			}
		}
		resp, local, err := parseCGIHead(b[:end], 100)
		if err != nil || local != "" {
			return
		}
		if resp.status < 200 || resp.status > 599 {
			t.Fatalf("status %d", resp.status)
		}
		for _, h := range resp.headers.list {
			if !validToken([]byte(h.name)) || !validValue([]byte(h.value)) {
				t.Fatalf("header %q: %q", h.name, h.value)
			}
		}
	})
}

// TestCGIUnreadBody: what a guest did not read of a request must not be taken for the next one.
func TestCGIUnreadBody(t *testing.T) {
	for _, whole := range []bool{true, false} {
		s := stServeCGI(t, func(g *stGuest) error {
			g.print("Content-Type: text/plain\n\nfor " + g.env("PATH_INFO"))
			return nil
		})
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		smuggled := "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
		head := fmt.Sprintf("POST /real HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", len(smuggled))
		if whole {
			head += smuggled
		}
		fmt.Fprint(conn, head)
		first := make([]byte, 15)
		if _, err := io.ReadFull(conn, first); err != nil || string(first) != "HTTP/1.1 200 OK" {
			t.Fatalf("%q, %v", first, err)
		}
		if !whole {
			fmt.Fprint(conn, smuggled)
		}
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		rest, _ := io.ReadAll(conn)
		if !strings.Contains(string(rest), "for /real") || strings.Contains(string(rest), "HTTP/1.1") {
			t.Errorf("body sent at once %v: then came %q", whole, rest)
		}
	}
}
