package hostcall

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// front is a real server in front of a Handler whose guest is a Go function.
type front struct {
	*httptest.Server
	h    *Handler
	mu   sync.Mutex
	errs []error
}

func serve(t *testing.T, v *wedge.Version, guest func(g *guest) error) *front {
	t.Helper()
	f := &front{}
	f.h = New(Config{
		Host: testHost(v),
		Run: func(_ context.Context, sb *compute.Sandbox) error {
			sb.Coroutine.Wait() // these guests wait for the test, outside of hostcalls
			return guest(play(t, sb))
		},
		OnError: func(id string, err error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			if len(id) != 32 {
				t.Errorf("request id %q", id)
			}
			f.errs = append(f.errs, err)
		},
	})
	f.Server = httptest.NewServer(f.h)
	t.Cleanup(func() {
		f.h.Close()
		f.Server.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := f.h.Wait(ctx); err != nil {
			t.Errorf("guests still run: %v", err)
		}
	})
	return f
}

func (f *front) failures() []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.errs
}

func fetchText(t *testing.T, req *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("body: %v", err)
	}
	return resp, string(b)
}

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return fetchText(t, req)
}

// TestTraceID: a sandbox has the id of its first request.
func TestTraceID(t *testing.T) {
	f := serve(t, nil, func(g *guest) error {
		req, _ := g.downstream()
		id := g.text("fastly_http_downstream.downstream_client_request_id", req)
		if !slices.Contains(g.sb.Env, "FASTLY_TRACE_ID="+id) || g.sb.TraceID != id {
			t.Errorf("sandbox %q, environment %q, request %q", g.sb.TraceID, g.sb.Env, id)
		}
		g.answer(200, "")
		return nil
	})
	get(t, f.URL)
}

func TestServeHello(t *testing.T) {
	f := serve(t, nil, func(g *guest) error {
		req, body := g.downstream()
		again, _ := g.downstream()
		if req != again {
			t.Error("other handles the second time")
		}
		var v uint32
		g.ok("fastly_http_req.version_get", req, &v)
		g.answer(201, fmt.Sprintf("%s %s %d %s %s", g.text("fastly_http_req.method_get", req), g.text("fastly_http_req.uri_get", req), v,
			strings.Join(g.many("fastly_http_req.header_values_get", req, "X-A"), ","), g.readAll(body)), "X-B", "1", "x-b", "2", "connection", "close")
		h := g.newResponse()
		g.is(abi.Error, "fastly_http_resp.send_downstream", h, g.newBody(""), 0)
		g.ok("fastly_http_resp.close", h) // a refused answer uses nothing up
		return nil
	})
	req, _ := http.NewRequest("POST", f.URL+"/p?q=%41", strings.NewReader("body"))
	req.Header["X-A"] = []string{"1", "2"}
	resp, body := fetchText(t, req)
	want := "POST " + f.URL + "/p?q=%41 2 1,2 body"
	if resp.StatusCode != 201 || body != want || !slices.Equal(resp.Header["X-B"], []string{"1", "2"}) || resp.ContentLength != int64(len(want)) {
		t.Errorf("%d %q %v length %d", resp.StatusCode, body, resp.Header, resp.ContentLength)
	}
	if resp.Close || resp.Header["Content-Type"] != nil {
		t.Errorf("close %v, content type %q", resp.Close, resp.Header["Content-Type"])
	}
	if errs := f.failures(); len(errs) > 0 {
		t.Error(errs)
	}
}

type overload struct{ err *wedge.Error }

func (o overload) RetryAfter() time.Duration { return 1500 * time.Millisecond }
func (o overload) Unwrap() error             { return o.err }
func (o overload) Error() string             { return o.err.Error() }

func TestServeOutcomes(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int
		told   int // errors that the author hears of
		retry  string
	}{
		"clean":    {nil, 200, 0, ""},
		"trap":     {&wedge.Error{Op: "run guest", Err: errors.New("secret detail")}, 500, 1, ""},
		"exit":     {errors.New("the guest exited with code 3"), 500, 1, ""},
		"cpu":      {&wedge.Error{Kind: wedge.Exhausted}, 500, 1, ""},
		"wall":     {&wedge.Error{Kind: wedge.Timeout}, 504, 1, ""},
		"overload": {overload{&wedge.Error{Kind: wedge.Unavailable}}, 503, 0, "2"},
		"busy":     {&wedge.Error{Kind: wedge.Unavailable}, 503, 0, "1"},
	} {
		f := serve(t, nil, func(*guest) error { return c.err })
		resp, body := get(t, f.URL)
		if resp.StatusCode != c.status || resp.Header.Get("Retry-After") != c.retry {
			t.Errorf("%s: %d, retry after %q", name, resp.StatusCode, resp.Header.Get("Retry-After"))
		}
		if c.err != nil && (!strings.Contains(body, "request ") || strings.Contains(body, "secret")) || c.err == nil && body != "" {
			t.Errorf("%s: body %q", name, body)
		}
		if errs := f.failures(); len(errs) != c.told {
			t.Errorf("%s: told %v", name, errs)
		}
	}
	f := serve(t, nil, func(*guest) error { panic("a host fault") })
	if resp, body := get(t, f.URL); resp.StatusCode != 500 || strings.Contains(body, "fault") {
		t.Errorf("panic: %d %q", resp.StatusCode, body)
	}
}

func TestServeStreaming(t *testing.T) {
	next := make(chan struct{})
	f := serve(t, nil, func(g *guest) error {
		resp, b := g.newResponse(), g.newBody("one ")
		g.ok("fastly_http_resp.send_downstream", resp, b, 1)
		<-next
		g.write(b, "two ")
		<-next
		g.ok("fastly_http_body.append", b, g.newBody("three"))
		g.ok("fastly_http_body.trailer_append", b, "Sum", "6")
		g.ok("fastly_http_body.close", b)
		return nil
	})
	resp, err := http.Get(f.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for _, want := range []string{"one ", "two ", "three"} {
		buf := make([]byte, len(want))
		if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != want {
			t.Errorf("%q, %v, want %q", buf, err, want)
		}
		if want != "three" {
			next <- struct{}{}
		}
	}
	if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil || resp.Trailer.Get("Sum") != "6" {
		t.Errorf("rest %q, %v, trailer %v", rest, err, resp.Trailer)
	}
}

func TestServeCutShort(t *testing.T) {
	for name, end := range map[string]func(g *guest, b uint32) error{
		"abandon": func(g *guest, b uint32) error { g.ok("fastly_http_body.abandon", b); return nil },
		"exit":    func(*guest, uint32) error { return nil },
		"trap":    func(*guest, uint32) error { return errors.New("trap") },
	} {
		f := serve(t, nil, func(g *guest) error {
			resp, b := g.newResponse(), g.newBody("some")
			g.ok("fastly_http_resp.send_downstream", resp, b, 1)
			return end(g, b)
		})
		resp, err := http.Get(f.URL)
		if err != nil {
			t.Fatal(name, err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || string(b) != "some" || err == nil {
			t.Errorf("%s: %d %q, error %v", name, resp.StatusCode, b, err)
		}
	}
}

func TestServeEarlyHints(t *testing.T) {
	f := serve(t, nil, func(g *guest) error {
		resp, b := g.newResponse(), g.newBody("")
		g.ok("fastly_http_resp.status_set", resp, 103)
		for i := range 5 {
			g.ok("fastly_http_resp.header_insert", resp, "Link", fmt.Sprintf("</%d>", i))
			g.ok("fastly_http_resp.send_downstream", resp, b, 0)
		}
		g.is(abi.Inval, "fastly_http_resp.send_informational_response", resp, 102)
		g.ok("fastly_http_resp.send_informational_response", resp, 103)
		g.ok("fastly_http_resp.header_remove", resp, "Link")
		for _, status := range []int{100, 101, 199} {
			g.ok("fastly_http_resp.status_set", resp, status)
			g.is(abi.Inval, "fastly_http_resp.send_downstream", resp, b, 0)
		}
		g.ok("fastly_http_resp.status_set", resp, 200)
		g.ok("fastly_http_resp.send_downstream", resp, b, 1)
		g.write(b, "done")
		g.ok("fastly_http_body.close", b)
		late := g.newResponse()
		g.is(abi.Error, "fastly_http_resp.send_informational_response", late, 103)
		return nil
	})
	var links []string
	req, _ := http.NewRequest("GET", f.URL, nil)
	req = req.WithContext(httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error { links = append(links, h.Get("Link")); return nil },
	}))
	resp, body := fetchText(t, req)
	if body != "done" || resp.Header.Get("Link") != "" {
		t.Errorf("%q %v", body, resp.Header)
	}
	if want := []string{"</0>", "</1>", "</2>", "</3>", "</4>", "</4>"}; !slices.Equal(links, want) {
		t.Errorf("hints %q", links)
	}
}

// TestServePass: the backend's response goes on streaming after the guest has ended, and the
// client's body goes to the backend without passing the guest.
func TestServePass(t *testing.T) {
	more := make(chan struct{})
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%d [%s] ", r.ContentLength, b)
		w.(http.Flusher).Flush()
		<-more
		io.WriteString(w, "rest")
	}))
	defer backend.Close()
	f := serve(t, &wedge.Version{Backends: []wedge.Backend{staticBackend(t, "b", backend.URL)}}, func(g *guest) error {
		req, body := g.downstream()
		var resp uint32
		g.ok("fastly_http_req.send", req, body, "b", &resp, &body)
		g.ok("fastly_http_resp.send_downstream", resp, body, 0)
		return nil
	})
	resp, err := http.Post(f.URL, "text/plain", strings.NewReader("upload"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := f.h.Wait(ctx); err != nil {
		t.Error("the guest did not end before the body")
	}
	close(more)
	if b, err := io.ReadAll(resp.Body); string(b) != "6 [upload] rest" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

func TestServePending(t *testing.T) {
	srv := origin(t)
	v := &wedge.Version{Backends: []wedge.Backend{staticBackend(t, "b", srv.URL), staticBackend(t, "dead", "http://127.0.0.1:1")}}
	f := serve(t, v, func(g *guest) error {
		req, body := g.downstream()
		uri := g.text("fastly_http_req.uri_get", req)
		name := uri[strings.LastIndex(uri, "/")+1:]
		var p uint32
		g.ok("fastly_http_req.send_async", req, body, name, &p)
		g.ok("fastly_http_req.pending_req_header_insert", p, "X-Any", "a", 0)
		g.ok("fastly_http_req.pending_req_header_append", p, "X-Resp", "b", 1)
		g.ok("fastly_http_req.pending_req_header_append", p, "X-Err", "c", 2)
		g.ok("fastly_http_req.pending_req_header_remove", p, "X-Got", 1)
		g.is(abi.Inval, "fastly_http_req.pending_req_header_remove", p, "X-Got", 3)
		g.is(abi.Error, "fastly_http_req.pending_req_header_insert", p, "X Got", "", 0)
		g.is(abi.Error, "fastly_http_req.pending_req_header_insert", p, "X-Got", "\n", 0)
		g.ok("fastly_http_resp.send_downstream_pending", p)
		g.is(abi.BadHandle, "fastly_http_resp.send_downstream_pending", p)
		return nil
	})
	resp, body := get(t, f.URL+"/b")
	if h := resp.Header; body != "GET /b " || h.Get("X-Any") != "a" || h.Get("X-Resp") != "b" || h.Get("X-Err") != "" || h.Get("X-Got") != "" {
		t.Errorf("%q %v", body, h)
	}
	resp, _ = get(t, f.URL+"/dead")
	if h := resp.Header; resp.StatusCode != 502 || h.Get("X-Any") != "a" || h.Get("X-Resp") != "" || h.Get("X-Err") != "c" {
		t.Errorf("%d %v", resp.StatusCode, h)
	}
}

func TestServeFraming(t *testing.T) {
	for i, c := range []struct {
		method string
		status int
		body   string
		header []string
		manual int
		length int64
	}{
		{"GET", 200, "abc", []string{"content-length", "99", "transfer-encoding", "gzip"}, 0, 3},
		{"GET", 200, "", nil, 0, 0},
		{"GET", 200, "abc", []string{"content-length", "3"}, 1, 3},
		{"GET", 200, "abc", []string{"transfer-encoding", "chunked"}, 1, -1},
		{"GET", 200, "abc", []string{"content-length", "x"}, 1, 3},
		{"GET", 200, "abc", []string{"content-length", "2"}, 1, 2},
		{"GET", 200, "abc", []string{"content-length", "0"}, 1, 0},
		{"GET", 204, "", nil, 0, 0},
		{"GET", 204, "abc", nil, 0, 0},
		{"GET", 304, "abc", []string{"etag", `"x"`}, 0, 0},
		{"HEAD", 200, "", []string{"content-length", "99"}, 0, 99},
		{"HEAD", 200, "abc", nil, 0, 3},
	} {
		f := serve(t, nil, func(g *guest) error {
			r := g.newResponse()
			g.ok("fastly_http_resp.status_set", r, c.status)
			for i := 0; i+1 < len(c.header); i += 2 {
				g.ok("fastly_http_resp.header_append", r, c.header[i], c.header[i+1])
			}
			g.ok("fastly_http_resp.framing_headers_mode_set", r, c.manual)
			g.ok("fastly_http_resp.http_keepalive_mode_set", r, 1)
			g.ok("fastly_http_resp.send_downstream", r, g.newBody(c.body), i%2*2) // only 1 is streaming
			return nil
		})
		req, _ := http.NewRequest(c.method, f.URL, nil)
		resp, body := fetchText(t, req)
		want := c.body
		if c.length >= 0 {
			want = want[:min(len(want), int(c.length))] // what is beyond the guest's own Content-Length is dropped
		}
		if c.status == 200 && c.method == "GET" && body != want {
			t.Errorf("%+v: body %q", c, body)
		}
		if resp.StatusCode != c.status || resp.ContentLength != c.length || !resp.Close {
			t.Errorf("%+v: %d, length %d, close %v", c, resp.StatusCode, resp.ContentLength, resp.Close)
		}
	}
}

// TestServeSurplus: a guest that streams more than it said does not notice, and the connection lives on.
func TestServeSurplus(t *testing.T) {
	ended := make(chan struct{}, 2)
	f := serve(t, nil, func(g *guest) error {
		resp, b := g.newResponse(), g.newBody("")
		g.ok("fastly_http_resp.header_append", resp, "content-length", "5")
		g.ok("fastly_http_resp.framing_headers_mode_set", resp, 1)
		g.ok("fastly_http_resp.send_downstream", resp, b, 1)
		for range 100 {
			g.write(b, "abc"+strings.Repeat("x", 10<<10))
		}
		g.ok("fastly_http_body.close", b)
		ended <- struct{}{}
		return nil
	})
	for range 2 {
		resp, body := get(t, f.URL)
		if body != "abcxx" || resp.ContentLength != 5 {
			t.Errorf("%q, length %d", body, resp.ContentLength)
		}
		<-ended
	}
	if errs := f.failures(); len(errs) > 0 {
		t.Error(errs)
	}
}

// TestServeHeadStreaming: a guest that streams to a HEAD request must not notice.
func TestServeHeadStreaming(t *testing.T) {
	ended := make(chan error, 1)
	f := serve(t, nil, func(g *guest) error {
		resp, b := g.newResponse(), g.newBody("")
		g.ok("fastly_http_resp.send_downstream", resp, b, 1)
		time.Sleep(20 * time.Millisecond)
		for range 10 {
			g.write(b, strings.Repeat("x", 30<<10))
		}
		g.ok("fastly_http_body.append", b, g.newBody("y"))
		g.ok("fastly_http_body.close", b)
		ended <- nil
		return nil
	})
	req, _ := http.NewRequest("HEAD", f.URL, nil)
	if _, body := fetchText(t, req); body != "" {
		t.Errorf("body %q", body)
	}
	<-ended
}

func TestServeClientLeaves(t *testing.T) {
	status := make(chan abi.Status, 1)
	f := serve(t, nil, func(g *guest) error {
		resp, b := g.newResponse(), g.newBody("start")
		g.ok("fastly_http_resp.send_downstream", resp, b, 1)
		for range 10000 {
			var n uint32
			if s := g.call("fastly_http_body.write", b, strings.Repeat("x", 1000), 0, &n); s != abi.OK {
				status <- s
				return nil
			}
			time.Sleep(time.Millisecond)
		}
		status <- abi.OK
		return nil
	})
	conn, err := net.Dial("tcp", f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	bufio.NewReader(conn).ReadString('\n')
	conn.Close()
	select {
	case s := <-status:
		if s != abi.BadHandle {
			t.Errorf("status %v", s)
		}
	case <-time.After(10 * time.Second):
		t.Error("the guest never learned it")
	}
}

// TestServeLeavesBeforeAnswer: a guest whose client left runs on and can answer in vain.
func TestServeLeavesBeforeAnswer(t *testing.T) {
	gone, ended := make(chan struct{}), make(chan struct{})
	f := serve(t, nil, func(g *guest) error {
		defer close(ended)
		<-gone
		e := g.sb.State.(*exec)
		<-e.in.gone
		resp, b := g.newResponse(), g.newBody("x")
		g.ok("fastly_http_resp.send_downstream", resp, b, 1)
		var n uint32
		g.is(abi.BadHandle, "fastly_http_body.write", b, "x", 0, &n)
		return nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, "GET", f.URL, nil)
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := http.DefaultClient.Do(req); err == nil {
		t.Error("got an answer")
	}
	close(gone)
	<-ended
}

// TestServeRunsOn: the client has its whole answer while the guest still runs.
func TestServeRunsOn(t *testing.T) {
	hold := make(chan struct{})
	f := serve(t, nil, func(g *guest) error {
		_, body := g.downstream()
		g.answer(200, "early")
		<-hold
		if _, s := g.read(body); s == abi.OK {
			t.Error("read the request's body after the exchange was over")
		}
		return errors.New("too late to matter")
	})
	pr, pw := io.Pipe()
	defer pw.Close()
	req, _ := http.NewRequest("POST", f.URL, pr)
	go pw.Write([]byte("begin"))
	if _, body := fetchText(t, req); body != "early" {
		t.Errorf("body %q", body)
	}
	if f.h.Running() != 1 {
		t.Error("the guest does not run any more")
	}
	close(hold)
}

// TestServeBlockedRead: the exchange ends although the guest waits for the request's body.
func TestServeBlockedRead(t *testing.T) {
	statuses := make(chan abi.Status, 1)
	f := serve(t, nil, func(g *guest) error {
		_, body := g.downstream()
		g.answer(200, "early")
		_, s := g.read(body)
		statuses <- s
		return nil
	})
	pr, pw := io.Pipe()
	defer pw.Close()
	req, _ := http.NewRequest("POST", f.URL, pr)
	go pw.Write([]byte("begin"))
	if _, body := fetchText(t, req); body != "early" {
		t.Errorf("body %q", body)
	}
	select {
	case s := <-statuses:
		if s == abi.OK {
			t.Error("the body seemed whole")
		}
	case <-time.After(5 * time.Second):
		t.Error("the guest still reads")
	}
}

// TestServeEcho: a guest answers while it reads.
func TestServeEcho(t *testing.T) {
	f := serve(t, nil, func(g *guest) error {
		_, body := g.downstream()
		g.ok("fastly_http_resp.send_downstream", g.newResponse(), body, 0)
		return nil
	})
	pr, pw := io.Pipe()
	req, _ := http.NewRequest("POST", f.URL, pr)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for _, word := range []string{"one", "two"} {
		io.WriteString(pw, word)
		buf := make([]byte, 3)
		if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != word {
			t.Fatalf("%q, %v", buf, err)
		}
	}
	pw.Close()
	if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
}

// TestServeUpload: an answer sent early does not cut off the upload that a fetch passes on.
func TestServeUpload(t *testing.T) {
	got := make(chan string, 1)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		got <- fmt.Sprint(string(b), err)
	}))
	defer backend.Close()
	f := serve(t, &wedge.Version{Backends: []wedge.Backend{staticBackend(t, "b", backend.URL)}}, func(g *guest) error {
		req, body := g.downstream()
		var p uint32
		g.ok("fastly_http_req.send_async", req, body, "b", &p)
		g.answer(202, "accepted")
		return nil
	})
	conn, err := net.Dial("tcp", f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nall ")
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); string(b) != "accepted" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	io.WriteString(conn, "of it")
	if s := <-got; s != "all of it<nil>" {
		t.Errorf("the backend got %q", s)
	}
}

func TestServeClose(t *testing.T) {
	started := make(chan struct{})
	h := New(Config{Host: testHost(nil), Run: func(ctx context.Context, sb *compute.Sandbox) error {
		close(started)
		<-ctx.Done()
		return context.Cause(ctx)
	}})
	srv := httptest.NewServer(h)
	defer srv.Close()
	go func() {
		<-started
		h.Close()
	}()
	if resp, _ := get(t, srv.URL); resp.StatusCode != 503 {
		t.Errorf("status %d", resp.StatusCode)
	}
	if err := h.Wait(context.Background()); err != nil {
		t.Error(err)
	}
}

// BenchmarkServeHello is what a request costs apart from the Wasm and the connection.
func BenchmarkServeHello(b *testing.B) {
	h := New(Config{Host: testHost(nil), Run: func(_ context.Context, sb *compute.Sandbox) error {
		g := &guest{t: b, sb: sb, mem: make([]byte, 4096)}
		g.downstream()
		g.answer(200, "hello", "content-type", "text/plain")
		return nil
	}})
	b.ReportAllocs()
	r := httptest.NewRequest("GET", "http://example.com/", nil)
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
}
