package wedgetest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"image"
	"image/png"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Origin is a server that guests fetch from; its paths behave in many ways, well and badly.
type Origin struct {
	*httptest.Server
	Requests atomic.Int64
	Sent     atomic.Int64 // bytes of /big written so far
	Waiting  atomic.Int64 // requests that hang in /never or /big
	Left     atomic.Int64 // of those, whose client went away
}

// NewOrigin starts an origin on a loopback port. Close it.
func NewOrigin() *Origin {
	o := &Origin{}
	mux := http.NewServeMux()
	for path, h := range map[string]http.HandlerFunc{
		"/hello": func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello from origin\n") },
		"/host":  func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) },
		"/headers": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Add("X-Two", "a")
			w.Header().Add("X-Two", "b")
			w.Header().Add("Set-Cookie", "a=1")
			w.Header().Add("Set-Cookie", "b=2")
			w.WriteHeader(203)
			io.WriteString(w, "body")
		},
		"/slow": func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(100 * time.Millisecond)
			io.WriteString(w, r.URL.RawQuery)
		},
		"/gzip": gzipped,
		"/many": manyHeaders,
		"/saw":  saw,
		"/echo": echo,
		"/picture.png": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "image/png")
			png.Encode(w, image.NewNRGBA(image.Rect(0, 0, 120, 80)))
		},
		"/big":        o.big,
		"/never":      o.never,
		"/drip":       drip,
		"/redirect":   func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/hello", http.StatusFound) },
		"/304":        func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNotModified) },
		"/204":        func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"/garbage":    hijack("this is not HTTP\r\n\r\n", false),
		"/early":      hijack("", false),
		"/early-head": hijack("HTTP/1.1 200 OK\r\nContent-", false),
		"/short":      hijack("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", false),
		"/short-gz":   hijack("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 10\r\n\r\nnot gzip!!", false),
		"/chunk":      hijack("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n", false),
		"/bad-chunk":  hijack("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\nzz\r\nx\r\n", false),
		"/bad-status": hijack("HTTP/1.1 999999 OK\r\n\r\n", false),
		"/bad-header": hijack("HTTP/1.1 200 OK\r\nno colon here\r\n\r\n", false),
		"/two-length": hijack("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", false),
		"/bomb":       hijack("HTTP/1.1 200 OK\r\n"+strings.Repeat("X-Bomb: "+strings.Repeat("y", 1000)+"\r\n", 2000)+"\r\n", false),
		"/bomb-line":  hijack("HTTP/1.1 200 OK\r\nX-Bomb: "+strings.Repeat("y", 4<<20)+"\r\n\r\n", false),
		"/bomb-1xx":   hijack(strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 10000)+"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false),
		"/stall":      hijack("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nstall", true),
	} {
		mux.HandleFunc(path, h)
	}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.Requests.Add(1)
		mux.ServeHTTP(w, r)
	}))
	return o
}

// Host returns the origin's host:port.
func (o *Origin) Host() string {
	u, err := url.Parse(o.URL)
	if err != nil {
		panic(err)
	}
	return u.Host
}

// manyHeaders answers with 200 headers of 200 bytes each, as much as SDKs can take.
func manyHeaders(w http.ResponseWriter, r *http.Request) {
	for i := range 200 {
		w.Header().Set(fmt.Sprintf("X-Many-%03d", i), strings.Repeat("v", 200))
	}
}

// saw answers with the request as it came in, as text, header names in order.
func saw(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %s %d\n", r.Method, r.Host, r.RequestURI, r.ContentLength)
	r.Header.Write(w)
	fmt.Fprintf(w, "\n%s", body)
}

func gzipped(w http.ResponseWriter, r *http.Request) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, "unpacked\n")
	z.Close()
	w.Header().Set("Content-Encoding", "gzip")
	w.Write(b.Bytes())
}

func echo(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("X-Length", strconv.FormatInt(r.ContentLength, 10))
	w.Header().Set("X-Method", r.Method)
	w.Write(b)
}

// big writes n bytes as fast as they are taken, with a Content-Length unless chunked is asked for.
func (o *Origin) big(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.ParseInt(r.URL.Query().Get("n"), 10, 64)
	if !r.URL.Query().Has("chunked") {
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	}
	o.Waiting.Add(1)
	defer o.Waiting.Add(-1)
	piece := bytes.Repeat([]byte("0123456789abcdef"), 2048)
	for n > 0 {
		m, err := w.Write(piece[:min(n, int64(len(piece)))])
		o.Sent.Add(int64(m))
		if err != nil {
			o.Left.Add(1)
			return
		}
		n -= int64(m)
	}
}

func (o *Origin) never(w http.ResponseWriter, r *http.Request) {
	o.Waiting.Add(1)
	defer o.Waiting.Add(-1)
	<-r.Context().Done()
	o.Left.Add(1)
}

// drip sends a byte every now and then, ten in all.
func drip(w http.ResponseWriter, r *http.Request) {
	pause, err := time.ParseDuration(r.URL.Query().Get("pause"))
	if err != nil {
		pause = 20 * time.Millisecond
	}
	for i := range 10 {
		fmt.Fprint(w, i)
		w.(http.Flusher).Flush()
		select {
		case <-time.After(pause):
		case <-r.Context().Done():
			return
		}
	}
}

// hijack answers with these bytes and closes, or, with stall, keeps the connection open and silent.
func hijack(text string, stall bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		io.WriteString(c, text)
		if stall {
			io.Copy(io.Discard, c) // until the other side leaves
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			tcp.CloseWrite()
			c.SetReadDeadline(time.Now().Add(time.Second))
			io.Copy(io.Discard, c) // a reset could overtake the bytes
		}
		c.Close()
	}
}

// RefusedAddr returns a loopback address at which nobody listens.
func RefusedAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	return l.Addr().String()
}
