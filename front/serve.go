package front

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge"
)

// exchange is one request and what becomes of it.
type exchange struct {
	front  *Front
	conn   *connInfo
	client wedge.Client
	req    *http.Request
	out    h1Writer
	route  *Route
	gen    *generation
	start  time.Time
}

// ServeHTTP serves one request of the front's own servers. It is not for other servers: it
// needs to know the connection.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn := r.Context().Value(infoKey{}).(*connInfo)
	if conn.h1 != nil && conn.h1.unread.Load() { // net/http had more of that body already
		panic(http.ErrAbortHandler)
	}
	x := &exchange{front: f, conn: conn, req: r, start: time.Now()}
	x.out.writer = writer{ResponseWriter: w, front: f, h1: conn.h1 != nil}
	f.stats.requests.Add(1)
	inFlight := f.stats.inFlight.Add(1)
	x.client = wedge.Client{RequestID: newID(), Remote: conn.remote, Local: conn.local, TLS: conn.tls,
		H2Fingerprint: conn.h2Print(), ConnRequestNum: int(conn.requests.Add(1))}
	defer x.end()
	if no := x.admit(inFlight); no != nil {
		x.refuse(no)
		return
	}
	x.handle()
}

// newID returns 32 hex digits that nobody can guess or repeat.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails, by contract
	return hex.EncodeToString(b[:])
}

// admit decides whether the request may go to a service, and to which.
func (x *exchange) admit(inFlight int64) *refusal {
	if no := x.framing(); no != nil {
		return no
	}
	if no := check(x.req); no != nil {
		return no
	}
	if inFlight > int64(x.front.cfg.MaxRequests) {
		x.front.stats.overload.Add(1)
		return refuse(http.StatusServiceUnavailable, "too many requests at once")
	}
	if x.gen = x.front.acquire(); x.gen == nil {
		return refuse(http.StatusServiceUnavailable, "not ready yet")
	}
	if x.req.Host == "" {
		x.req.Host = x.conn.local.String() // HTTP/1.0 without Host: RFC 9112 section 3.3 lets the server choose
	}
	host, _, _ := splitHost(x.req.Host)
	bounds := Bounds{}
	if x.route = x.gen.table.find(host); x.route != nil {
		bounds = x.route.Bounds
	}
	if no := checkSize(x.req, &x.front.cfg, bounds); no != nil {
		return no
	}
	if x.route == nil {
		// 421, not 404: no claim about the host is made, and an HTTP/2 client that got here
		// because its connection was open tries another one (RFC 9110 section 15.5.20).
		return refuse(http.StatusMisdirectedRequest, "no service here has this host")
	}
	return nil
}

// framing takes over what the framer noted of this request's head.
func (x *exchange) framing() *refusal {
	h1 := x.conn.h1
	if h1 == nil {
		return nil
	}
	if no := h1.refused.Load(); no != nil && no.head == int64(x.client.ConnRequestNum) {
		return no
	}
	base := h1.frame.headAt
	x.client.BytesIn = func() int64 { return h1.in.Load() - base }
	if h1.frame.heads == int64(x.client.ConnRequestNum) && sameCount(&h1.frame, x.req.Header) {
		x.client.HeaderNames = h1.frame.headerNames()
	}
	return nil
}

// sameCount checks the framer's count of header lines against net/http's, which takes some
// lines out and adds Cache-Control to Pragma: no-cache.
func sameCount(f *framer, h http.Header) bool {
	n := f.lines - f.special
	for _, values := range h {
		n -= len(values)
	}
	return n == 0 || n == -1 && h["Pragma"] != nil && h["Cache-Control"] != nil
}

func (x *exchange) handle() {
	r := x.req.WithContext(wedge.WithClient(x.req.Context(), &x.client))
	if x.client.TLS != nil {
		r.TLS = x.client.TLS.State
	}
	if x.client.BytesIn == nil {
		x.client.BytesIn = countBody(r)
	}
	if r.RequestURI == "*" {
		x.out.WriteHeader(http.StatusNoContent) // OPTIONS *: the server as a whole, RFC 9110 section 9.3.7
		return
	}
	if !x.out.h1 {
		x.run(&x.out.writer, r)
		return
	}
	body := x.duplex(r)
	x.run(&x.out, r)
	x.settle(body)
}

func (x *exchange) run(w http.ResponseWriter, r *http.Request) {
	defer x.recovered()
	x.route.Handler.ServeHTTP(w, r)
}

// duplex lets a handler answer while it reads. On HTTP/1.1 net/http takes up to 256 KiB of the rest of a body away
// otherwise when the answer begins. It returns nil if there is no body.
func (x *exchange) duplex(r *http.Request) *duplexBody {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	_ = http.NewResponseController(x.out.ResponseWriter).EnableFullDuplex() // net/http's own writer can
	body := &duplexBody{ReadCloser: r.Body}
	r.Body = body
	return body
}

// settle takes what a handler left of a body, for the next request comes behind it. To let net/http do so is wrong
// in full duplex: it begins to read in the background when the body ends, which nobody stops then, and panics at the next request.
func (x *exchange) settle(body *duplexBody) {
	if body == nil || body.whole.Load() || x.hijacked() || x.req.Header["Expect"] != nil && x.req.ProtoAtLeast(1, 1) { // of whom was told to wait net/http closes the connection
		return
	}
	_ = x.out.FlushError() // some clients send no more before they have the answer
	if body.Close() != nil || body.broken.Load() {
		x.conn.h1.spent() // what comes next belongs to the body
	}
}

// duplexBody knows what became of a body. After an error net/http says nothing more of one: to it the body is closed then.
type duplexBody struct {
	io.ReadCloser
	whole, broken atomic.Bool // it was read to its end; it has none that could be found
}

// Read implements io.Reader.
func (b *duplexBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.whole.Store(true)
	} else if err != nil && err != http.ErrBodyReadAfterClose {
		b.broken.Store(true)
	}
	return n, err
}

// Close implements io.Closer.
func (b *duplexBody) Close() error {
	err := b.ReadCloser.Close()
	if err != nil {
		b.broken.Store(true)
	}
	return err
}

// countBody counts what is read of an HTTP/2 request's body.
func countBody(r *http.Request) func() int64 {
	if r.Body == nil || r.Body == http.NoBody {
		return func() int64 { return 0 }
	}
	c := &countedBody{ReadCloser: r.Body}
	r.Body = c
	return c.n.Load
}

type countedBody struct {
	io.ReadCloser
	n atomic.Int64
}

func (c *countedBody) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// recovered turns a handler's panic into a 500, or cuts the connection if part of a response
// is out: a client must not take half of one for the whole.
func (x *exchange) recovered() {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		x.aborted()
	}
	x.front.stats.panics.Add(1)
	x.front.cfg.Log.Error("handler panicked", "request", x.client.RequestID, "service", x.route.Service,
		"version", x.route.Version, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if x.out.status != 0 || x.hijacked() {
		x.aborted()
	}
	clear(x.out.Header())
	x.refuse(refuse(http.StatusInternalServerError, "internal error"))
}

func (x *exchange) aborted() {
	if x.out.status == 0 {
		x.out.status = -1
	}
	panic(http.ErrAbortHandler)
}

func (x *exchange) hijacked() bool { return x.conn.h1 != nil && x.conn.h1.hijacked }

// refuse answers in the front's own name: one line, with the request's id to look it up by.
func (x *exchange) refuse(no *refusal) {
	x.front.stats.refused.Add(1)
	h := x.out.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Request-Id", x.client.RequestID)
	if no.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	if x.out.h1 && mustClose(no.status) {
		h.Set("Connection", "close")
	}
	body := no.text + " (request " + x.client.RequestID + ")\n"
	h.Set("Content-Length", strconv.Itoa(len(body)))
	x.out.WriteHeader(no.status)
	if x.req.Method != http.MethodHead {
		io.WriteString(&x.out, body)
	}
}

// mustClose reports whether a refused request makes its HTTP/1.1 connection suspect.
func mustClose(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusRequestURITooLong, http.StatusRequestHeaderFieldsTooLarge,
		http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return true
	}
	return false
}

// end counts and reports the request. The request stays in flight, and on its table, as long
// as a connection taken over from it is open.
func (x *exchange) end() {
	hijacked := x.hijacked()
	if !hijacked && x.out.status == 0 {
		x.out.begin(http.StatusOK) // a handler that writes nothing answers 200
	}
	x.report(hijacked)
	if !hijacked {
		x.release()
		return
	}
	x.front.stats.hijacked.Add(1)
	x.front.stats.taken.Add(1)
	x.conn.raw.whenClosed(func() {
		x.release()
		x.front.stats.taken.Add(-1)
	})
}

func (x *exchange) release() {
	if x.gen != nil {
		x.gen.release()
	}
	x.front.stats.inFlight.Add(-1)
}

func (x *exchange) report(hijacked bool) {
	status := x.out.status
	switch {
	case status == 0 && hijacked:
		status = http.StatusSwitchingProtocols
	case status < 0:
		status = 0
	}
	if class := status / 100; class < len(x.front.stats.status) {
		x.front.stats.status[class].Add(1)
	}
	if x.front.cfg.Done == nil {
		return
	}
	a := Access{
		RequestID: x.client.RequestID, Method: cut(x.req.Method, maxAccessMethod), Host: cut(x.req.Host, maxAccessHost),
		Path: cut(x.req.URL.Path, maxAccessPath), Proto: x.req.Proto, Remote: x.conn.remote.Addr().String(),
		Status: status, Bytes: x.out.bytes, Start: x.start, Duration: time.Since(x.start), Hijacked: hijacked,
	}
	if x.route != nil {
		a.Service, a.Version = x.route.Service, cmp.Or(x.client.Version, x.route.Version)
		a.Refused = x.client.Refused
	}
	x.front.cfg.Done(a)
}
