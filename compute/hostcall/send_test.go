package hostcall

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
	"github.com/wedge-cloud/wedge/trace"
)

// origin answers with what it got; some paths do something special.
func origin(t testing.TB) *httptest.Server {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/gzip":
			w.Header().Set("Content-Encoding", "gzip")
			zw := gzip.NewWriter(w)
			io.WriteString(zw, "plain text")
			zw.Close()
			return
		case "/cut":
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "some")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case "/far":
			w.Header()["Cache-Status"] = []string{"Wedge-nyc1; hit", "Wedge-lhr1; fwd=uri-miss"}
			return
		case "/none":
			panic(http.ErrAbortHandler)
		case "/trailer":
			io.WriteString(w, "body")
			w.(http.Flusher).Flush()
			w.Header().Set(http.TrailerPrefix+"Sum", "42")
			return
		}
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header().Set("X-Host", r.Host)
		w.Header().Set("X-Length", fmt.Sprint(r.ContentLength, r.TransferEncoding, r.Header["Content-Length"]))
		w.Header().Set("X-Got", fmt.Sprint(r.Header["X-Sent"], r.Header["Fastly-Xqd-Cache-Key"], r.Header["User-Agent"], r.Trailer["Sum"]))
		fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, b)
	}))
	t.Cleanup(srv.Close)
	return srv
}

func sender(t testing.TB, v *wedge.Version) *guest {
	if v == nil {
		v = &wedge.Version{}
	}
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	garbage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, _ := w.(http.Hijacker).Hijack()
		io.WriteString(conn, "this is not HTTP\r\n\r\n")
		conn.Close()
	}))
	t.Cleanup(garbage.Close)
	v.Backends = []wedge.Backend{
		staticBackend(t, "origin", origin(t).URL),
		staticBackend(t, "dead", "http://"+dead.Addr().String()),
		staticBackend(t, "garbage", garbage.URL),
	}
	return newGuest(t, testHost(v))
}

func (g *guest) request(method, uri string, header ...string) uint32 {
	g.t.Helper()
	h := g.newRequest()
	g.ok("fastly_http_req.method_set", h, method)
	g.ok("fastly_http_req.uri_set", h, uri)
	for i := 0; i+1 < len(header); i += 2 {
		g.ok("fastly_http_req.header_append", h, header[i], header[i+1])
	}
	return h
}

func TestSend(t *testing.T) {
	g := sender(t, nil)
	var resp, body uint32
	req := g.request("POST", "http://example.com/a?b=%zz", "X-Sent", "1", "fastly-xqd-cache-key", "AB", "transfer-encoding", "chunked", "content-length", "3")
	g.ok("fastly_http_req.send", req, g.newBody("hello"), "origin", &resp, &body)
	if got := g.readAll(body); got != "POST /a?b=%zz hello" {
		t.Errorf("body %q", got)
	}
	for name, want := range map[string]string{"x-host": "example.com", "x-length": "5 [] [5]", "x-got": "[1] [] [] []"} {
		if got := g.text("fastly_http_resp.header_value_get", resp, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	var status, port uint16
	var addr [16]byte
	var n, version uint32
	g.ok("fastly_http_resp.status_get", resp, &status)
	g.ok("fastly_http_resp.get_addr_dest_ip", resp, &addr, &n)
	g.ok("fastly_http_resp.get_addr_dest_port", resp, &port)
	g.ok("fastly_http_resp.version_get", resp, &version)
	if status != 200 || n != 4 || netip.AddrFrom4([4]byte(addr[:4])).String() != "127.0.0.1" || port == 0 || version != http11 {
		t.Errorf("status %d from %v port %d, version %d", status, addr[:n], port, version)
	}
	g.is(abi.BadHandle, "fastly_http_req.close", req)
	own := g.newResponse()
	g.is(abi.None, "fastly_http_resp.get_addr_dest_ip", own, &addr, &n)
	g.is(abi.None, "fastly_http_resp.get_addr_dest_port", own, &port)
}

// TestSendPeer: a response that the cache may have given, or may give to others, has no backend's address.
func TestSendPeer(t *testing.T) {
	g := sender(t, nil)
	for _, c := range []struct {
		call, method string
		pass         int
		want         abi.Status
	}{
		{"fastly_http_req.send", "GET", 0, abi.None},
		{"fastly_http_req.send", "HEAD", 0, abi.None},
		{"fastly_http_req.send", "GET", 1, abi.OK},
		{"fastly_http_req.send", "POST", 0, abi.OK},
		{"fastly_http_req.send_v3", "GET", 0, abi.OK},
	} {
		req := g.request(c.method, "/")
		g.ok("fastly_http_req.cache_override_set", req, c.pass, 0, 0)
		var resp, body, n uint32
		if c.call == "fastly_http_req.send_v3" {
			g.ok(c.call, req, g.newBody(""), "origin", make([]byte, 20), &resp, &body)
		} else {
			g.ok(c.call, req, g.newBody(""), "origin", &resp, &body)
		}
		var addr [16]byte
		var port uint16
		if s := g.call("fastly_http_resp.get_addr_dest_ip", resp, &addr, &n); s != c.want {
			t.Errorf("%s of a %s, pass %d: address %v, want %v", c.call, c.method, c.pass, s, c.want)
		}
		g.is(c.want, "fastly_http_resp.get_addr_dest_port", resp, &port)
	}
}

// TestTraceOfFetch: a trace says which caches, and so which PoPs, had a part in what a fetch brought.
func TestTraceOfFetch(t *testing.T) {
	g := sender(t, nil)
	steps := &trace.Trace{}
	g.sb.Observer = compute.Tracer{Trace: steps}
	var resp, body, pending uint32
	g.ok("fastly_http_req.send", g.request("GET", "http://example.com/far"), g.newBody(""), "origin", &resp, &body)
	g.ok("fastly_http_req.send_async", g.request("GET", "http://example.com/far"), g.newBody(""), "origin", &pending)
	g.ok("fastly_http_req.pending_req_wait", pending, &resp, &body)
	g.ok("fastly_http_req.send", g.request("GET", "http://example.com/near"), g.newBody(""), "origin", &resp, &body)
	var said []string
	for _, s := range steps.Steps {
		for _, f := range s.Out {
			if f.Name == "cache-status" {
				said = append(said, s.Name+" "+f.Value)
			}
		}
	}
	const how = ` "Wedge-nyc1; hit, Wedge-lhr1; fwd=uri-miss"`
	if want := []string{"fastly_http_req.send" + how, "fastly_http_req.pending_req_wait" + how}; !slices.Equal(said, want) {
		t.Errorf("%q", said)
	}
}

func TestSendFailures(t *testing.T) {
	g := sender(t, &wedge.Version{Limits: wedge.Limits{Fetches: 8}})
	for _, c := range []struct {
		backend, path string
		want          abi.Status
		tag           wedge.FetchFailure
	}{
		{"nobody", "/", abi.Inval, wedge.FailureNotFound},
		{"dead", "/", abi.Error, wedge.FailureRefused},
		{"garbage", "/", abi.HTTPInvalid, wedge.FailureProtocol},
		{"origin", "/none", abi.HTTPIncomplete, wedge.FailureTerminated},
		{"origin", "/fine", abi.OK, 1},
		{"origin", "/fine", abi.LimitExceeded, wedge.FailureInternal},
	} {
		for _, call := range []string{"fastly_http_req.send_v2", "fastly_http_req.send_v3"} {
			detail := make([]byte, 20)
			binary.LittleEndian.PutUint32(detail[4:], 0x1e)
			req, b := g.request("GET", c.path), g.newBody("")
			resp, body := uint32(7), uint32(7)
			g.is(c.want, call, req, b, c.backend, detail, &resp, &body)
			if tag := binary.LittleEndian.Uint32(detail); tag != uint32(c.tag) {
				t.Errorf("%s%s: tag %d, want %d", c.backend, c.path, tag, c.tag)
			}
			g.is(abi.BadHandle, "fastly_http_req.close", req) // used up all the same
			g.is(abi.BadHandle, "fastly_http_body.close", b)
			if c.want != abi.OK && (resp != 7 || body != 7) {
				t.Error("wrote handles of a response that did not come")
			}
		}
	}
	var resp, body uint32
	b := g.newBody("")
	g.is(abi.BadHandle, "fastly_http_req.send", 999, b, "origin", &resp, &body)
	req := g.newRequest()
	g.is(abi.BadHandle, "fastly_http_req.send", req, 999, "origin", &resp, &body)
	g.is(abi.BadHandle, "fastly_http_req.close", req)
}

func TestSendFraming(t *testing.T) {
	g := sender(t, nil)
	for _, c := range []struct {
		method, body string
		header       []string
		manual       int
		want         string
	}{
		{"GET", "", nil, 0, "0 [] []"},
		{"POST", "", nil, 0, "0 [] [0]"},
		{"PUT", "abc", nil, 0, "3 [] [3]"},
		{"PUT", "abc", []string{"content-length", "3"}, 1, "3 [] [3]"},
		{"PUT", "abc", []string{"transfer-encoding", "chunked"}, 1, "-1 [chunked] []"},
		{"PUT", "abc", []string{"transfer-encoding", "gzip"}, 1, "3 [] [3]"},
		{"PUT", "abc", []string{"content-length", "3", "content-length", "3"}, 1, "3 [] [3]"},
		{"PUT", "abc", []string{"content-length", "+3"}, 1, "3 [] [3]"},
		{"PUT", "abc", []string{"content-length", "2"}, 1, "2 [] [2]"}, // the rest of the body is dropped
	} {
		req := g.request(c.method, "/", c.header...)
		g.ok("fastly_http_req.framing_headers_mode_set", req, c.manual)
		var resp, body uint32
		g.ok("fastly_http_req.send", req, g.newBody(c.body), "origin", &resp, &body)
		if got := g.text("fastly_http_resp.header_value_get", resp, "x-length"); got != c.want {
			t.Errorf("%s %q %v manual %d: %q, want %q", c.method, c.body, c.header, c.manual, got, c.want)
		}
	}
}

func TestSendTrailers(t *testing.T) {
	g := sender(t, nil)
	b := g.newBody("x")
	g.ok("fastly_http_body.trailer_append", b, "Sum", "7")
	var resp, body uint32
	g.ok("fastly_http_req.send", g.request("POST", "/"), b, "origin", &resp, &body)
	if got := g.text("fastly_http_resp.header_value_get", resp, "x-got"); got != "[] [] [] [7]" {
		t.Errorf("backend got %q", got)
	}
	g.ok("fastly_http_req.send", g.request("GET", "/trailer"), g.newBody(""), "origin", &resp, &body)
	if got := g.readAll(body); got != "body" {
		t.Errorf("body %q", got)
	}
	if got := g.text("fastly_http_body.trailer_value_get", body, "sum"); got != "42" {
		t.Errorf("trailer %q", got)
	}
}

func TestSendStreaming(t *testing.T) {
	g := sender(t, nil)
	var p, resp, body, done uint32
	b := g.newBody("a")
	g.ok("fastly_http_req.send_async_streaming", g.request("POST", "/"), b, "origin", &p)
	g.write(b, "b")
	g.ok("fastly_http_body.append", b, g.newBody("c"))
	detail := make([]byte, 20)
	g.ok("fastly_http_req.pending_req_poll_v2", p, detail, &done, &resp, &body)
	if done != 0 || resp != abi.InvalidHandle || body != abi.InvalidHandle {
		t.Errorf("done %d, %x %x before the request was sent", done, resp, body)
	}
	g.ok("fastly_http_body.trailer_append", b, "Sum", "9")
	g.ok("fastly_http_body.close", b)
	g.ok("fastly_http_req.pending_req_wait_v2", p, detail, &resp, &body)
	if got := g.readAll(body); got != "POST / abc" || detail[0] != 1 {
		t.Errorf("body %q, detail %v", got, detail)
	}
	if got := g.text("fastly_http_resp.header_value_get", resp, "x-length"); got != "-1 [chunked] []" {
		t.Errorf("length %q", got)
	}
	if got := g.text("fastly_http_resp.header_value_get", resp, "x-got"); got != "[] [] [] [9]" {
		t.Errorf("trailer %q", got)
	}
	g.is(abi.BadHandle, "fastly_http_req.pending_req_wait", p, &resp, &body)

	b = g.newBody("a")
	g.ok("fastly_http_req.send_async_v2", g.request("POST", "/"), b, "origin", 1, &p)
	g.ok("fastly_http_body.abandon", b)
	if s := g.call("fastly_http_req.pending_req_wait", p, &resp, &body); s == abi.OK {
		t.Error("an abandoned body was sent as if it were whole")
	}
	b = g.newBody("a")
	g.is(abi.Inval, "fastly_http_req.send_async_streaming", g.request("POST", "/"), b, "nobody", &p)
	g.ok("fastly_http_body.close", b) // as the Rust SDK does, and panics if it cannot
	g.is(abi.BadHandle, "fastly_http_body.close", b)
}

func TestPending(t *testing.T) {
	g := sender(t, nil)
	var p1, p2, p3, resp, body, index, done uint32
	g.ok("fastly_http_req.send_async", g.request("GET", "/1"), g.newBody(""), "origin", &p1)
	g.ok("fastly_http_req.send_async_v2", g.request("GET", "/2"), g.newBody(""), "dead", 0, &p2)
	g.ok("fastly_async_io.select", []uint32{p1}, 0, &index)
	g.ok("fastly_http_req.pending_req_poll", p1, &done, &resp, &body)
	if done != 1 || g.readAll(body) != "GET /1 " {
		t.Errorf("done %d", done)
	}
	detail := make([]byte, 20)
	g.ok("fastly_http_req.pending_req_select_v2", []uint32{p2}, detail, &index, &resp, &body)
	if resp != abi.InvalidHandle || detail[0] != byte(wedge.FailureRefused) {
		t.Errorf("failed send: %x, detail %v", resp, detail)
	}
	g.ok("fastly_http_req.send_async", g.request("GET", "/3"), g.newBody(""), "origin", &p3)
	g.ok("fastly_http_req.pending_req_select", []uint32{p3}, &index, &resp, &body)
	if index != 0 || g.readAll(body) != "GET /3 " {
		t.Errorf("index %d", index)
	}
	g.is(abi.Inval, "fastly_http_req.pending_req_select", []uint32{}, &index, &resp, &body)
	g.is(abi.BadHandle, "fastly_http_req.pending_req_select", []uint32{p3}, &index, &resp, &body)
	g.is(abi.BadHandle, "fastly_http_req.pending_req_poll", p3, &done, &resp, &body)
	b := g.newBody("")
	g.is(abi.BadHandle, "fastly_http_req.pending_req_wait", b, &resp, &body)
	g.is(abi.BadHandle, "fastly_http_req.pending_req_header_remove", b, "a", 0)
}

func TestReceivedBodies(t *testing.T) {
	g := sender(t, nil)
	var resp, body, n uint32
	for _, decode := range []int{0, 1} {
		req := g.request("GET", "/gzip", "accept-encoding", "gzip")
		g.is(abi.Inval, "fastly_http_req.auto_decompress_response_set", req, 2)
		g.ok("fastly_http_req.auto_decompress_response_set", req, decode)
		g.ok("fastly_http_req.send", req, g.newBody(""), "origin", &resp, &body)
		got := g.readAll(body)
		if decode == 1 {
			if got != "plain text" {
				t.Errorf("decoded %q", got)
			}
			for _, name := range []string{"content-encoding", "content-length"} {
				g.is(abi.Inval, "fastly_http_resp.header_value_get", resp, name, make([]byte, 9), &n)
			}
		} else if zr, err := gzip.NewReader(bytes.NewReader([]byte(got))); err != nil || zr.Close() != nil {
			t.Errorf("not as sent: %v", err)
		}
	}
	g.ok("fastly_http_req.send", g.request("GET", "/cut"), g.newBody(""), "origin", &resp, &body)
	var length uint64
	g.ok("fastly_http_body.known_length", body, &length)
	if got, s := g.read(body); got != "some" || s == abi.OK || length != 100 {
		t.Errorf("a body cut short: %q, %v, length %d", got, s, length)
	}
	g.ok("fastly_http_req.send", g.request("HEAD", "/x"), g.newBody(""), "origin", &resp, &body)
	g.ok("fastly_http_body.known_length", body, &length)
	if length != 0 {
		t.Errorf("a HEAD response of %d bytes", length)
	}
}

func TestRequestCalls(t *testing.T) {
	g := newGuest(t, testHost(nil))
	h := g.newRequest()
	var v uint32
	g.ok("fastly_http_req.version_get", h, &v)
	if m, u := g.text("fastly_http_req.method_get", h), g.text("fastly_http_req.uri_get", h); m != "GET" || u != "/" || v != http11 {
		t.Errorf("new request: %s %s version %d", m, u, v)
	}
	g.is(abi.Error, "fastly_http_req.method_set", h, "A B")
	g.is(abi.Error, "fastly_http_req.method_set", h, "")
	for _, uri := range []string{"", "a b", "http://", "mailto:x@y", "http://[::1", "/\x00"} {
		g.is(abi.Error, "fastly_http_req.uri_set", h, uri)
	}
	longest := "/" + strings.Repeat("x", wedge.DefaultLimits.URIBytes-1)
	for _, before := range []string{"", "https://h.example:8443"} {
		g.ok("fastly_http_req.uri_set", h, before+longest)
		g.is(abi.LimitExceeded, "fastly_http_req.uri_set", h, before+longest+"xxxx")
	}
	g.is(abi.LimitExceeded, "fastly_http_req.uri_set", h, "https://"+strings.Repeat("h", maxAuthority)+longest)
	for _, uri := range []string{"/", "https://h:1/p?q#f", "http://h", "//h/p", "/%zz%", "*"} {
		g.ok("fastly_http_req.uri_set", h, uri)
		if got := g.text("fastly_http_req.uri_get", h); got != uri {
			t.Errorf("uri %q, want %q", got, uri)
		}
	}
	g.ok("fastly_http_req.version_set", h, 3)
	g.is(abi.Inval, "fastly_http_req.version_set", h, 5)
	g.ok("fastly_http_req.framing_headers_mode_set", h, 1)
	g.is(abi.Inval, "fastly_http_req.framing_headers_mode_set", h, 2)

	g.ok("fastly_http_req.cache_override_set", h, 0xf, 1, 2)
	g.is(abi.Inval, "fastly_http_req.cache_override_set", h, 0x10, 1, 2)
	g.ok("fastly_http_req.cache_override_v2_set", h, 1, 1, 2, "a b")
	g.is(abi.Inval, "fastly_http_req.cache_override_v2_set", h, 1, 1, 2, "a\nb")
	record := make([]byte, 20)
	g.top = (g.top + 3) &^ 3
	keys := g.lay([]byte("k1 k2..."))
	for i, v := range []uint32{10, 20, keys, 5, 300} {
		binary.LittleEndian.PutUint32(record[4*i:], v)
	}
	p := g.lay(record)
	g.ok("fastly_http_req.cache_override_v3_set", h, 0x12, raw(p))
	if o := g.sb.State.(*exec); true {
		r, _ := o.requests.get(h)
		if r.cache.surrogateKeys != "k1 k2" || r.cache.ttl != seconds(10) || r.cache.lookupTimeout.Milliseconds() != 300 {
			t.Errorf("override %+v", r.cache)
		}
		if p := r.caching(&wedge.Version{}).Patience; p == nil || p.Milliseconds() != 300 {
			t.Errorf("the cache is not told how long to wait: %v", p)
		}
	}
	g.ok("fastly_http_req.cache_override_v3_set", h, 0x02, raw(p))
	if r, _ := g.sb.State.(*exec).requests.get(h); r.caching(&wedge.Version{}).Patience != nil {
		t.Error("a lookup timeout whose bit is not set")
	}
	g.is(abi.Inval, "fastly_http_req.cache_override_v3_set", h, 0x20, raw(p))
	g.is(abi.BadAlign, "fastly_http_req.cache_override_v3_set", h, 0, raw(p+1))
	g.is(abi.Inval, "fastly_http_req.cache_override_v3_set", h, 0, raw(len(g.mem)))
	g.is(abi.BadHandle, "fastly_http_req.cache_override_v3_set", 99, 0, raw(p))
	for _, call := range []string{"version_set", "framing_headers_mode_set", "auto_decompress_response_set"} {
		g.is(abi.BadHandle, "fastly_http_req."+call, 99, 0)
	}
	var req, body uint32
	g.is(abi.Error, "fastly_http_req.body_downstream_get", &req, &body)
	g.is(abi.Error, "fastly_http_req.downstream_client_ip_addr", &[16]byte{}, &v)
	g.is(abi.Error, "fastly_http_downstream.downstream_client_ip_addr", h, &[16]byte{}, &v)
	g.is(abi.BadHandle, "fastly_http_downstream.downstream_client_ip_addr", 99, &[16]byte{}, &v)
}

func TestResponseCalls(t *testing.T) {
	g := newGuest(t, testHost(nil))
	h := g.newResponse()
	var status uint16
	var v uint32
	g.ok("fastly_http_resp.status_get", h, &status)
	g.ok("fastly_http_resp.version_get", h, &v)
	if status != 200 || v != http11 {
		t.Errorf("new response: %d, version %d", status, v)
	}
	g.ok("fastly_http_resp.status_set", h, 999)
	g.is(abi.Inval, "fastly_http_resp.status_set", h, 99)
	g.is(abi.Inval, "fastly_http_resp.status_set", h, 1000)
	for _, call := range []string{"framing_headers_mode_set", "http_keepalive_mode_set"} {
		g.ok("fastly_http_resp."+call, h, 1)
		g.is(abi.Inval, "fastly_http_resp."+call, h, 2)
		g.is(abi.BadHandle, "fastly_http_resp."+call, 99, 0)
	}
	g.is(abi.Inval, "fastly_http_resp.version_set", h, 9)
	g.is(abi.Error, "fastly_http_resp.send_downstream", h, g.newBody(""), 0) // no request to answer
	g.is(abi.BadHandle, "fastly_http_resp.send_downstream_pending", h+77)
}
