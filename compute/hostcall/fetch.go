package hostcall

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
)

// lastWish is how long a fetch may go on after its guest ended well without waiting for it:
// guests send beacons that way.
const lastWish = 5 * time.Second

// fetched is what a backend answered.
type fetched struct {
	resp *response
	body *body
}

// pending is a fetch under way.
type pending struct {
	future[fetched]
	stop      context.CancelCauseFunc
	streaming bool // the guest still writes the request's body
	edits     []edit
	dropped   bool // nobody wants the response; mu guards it
}

// settle delivers the outcome, or closes it if nobody wants it any more.
func (p *pending) settle(f fetched, err error) {
	p.resolve(f, err)
	p.mu.Lock()
	dropped := p.dropped
	p.mu.Unlock()
	if dropped {
		p.closeBody()
	}
}

// drop cancels the fetch.
func (p *pending) drop() {
	p.stop(errAbandoned)
	p.forget()
}

// detach leaves the fetch to itself for a while.
func (p *pending) detach() {
	if p.streaming || p.ready() {
		p.drop()
		return
	}
	time.AfterFunc(lastWish, func() { p.stop(errAbandoned) })
	p.forget()
}

// forget gives the response up, there or to come.
func (p *pending) forget() {
	p.mu.Lock()
	p.dropped = true
	done := p.done
	p.mu.Unlock()
	if done {
		p.closeBody()
	}
}

func (p *pending) closeBody() {
	if f, _ := p.result(); f.body != nil {
		f.body.leave()
	}
}

// fetch sends req with b as its body to backend and returns at once. If streaming, the guest
// goes on writing b.
func (e *exec) fetch(req *request, b *body, backend *wedge.Backend, kind sendKind) *pending {
	ctx, cancel := context.WithCancelCause(e.values())
	p := &pending{stop: cancel, streaming: kind.streaming}
	if kind.cached {
		ctx = wedge.WithCaching(ctx, req.caching(e.host.Version))
	}
	var peer netip.AddrPort
	var peerMu sync.Mutex
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		peerMu.Lock()
		defer peerMu.Unlock()
		if a := info.Conn.RemoteAddr(); a != nil {
			peer, _ = netip.ParseAddrPort(a.String())
		}
	}}
	ctx = httptrace.WithClientTrace(wedge.WithBackend(ctx, backend), trace)
	out := outgoing(ctx, req, b, kind.streaming)
	if loop := passOn(e.host, e.in, out.Header["Cdn-Loop"]); len(loop) > 0 {
		out.Header["Cdn-Loop"] = loop
	}
	e.holdUpload(out, b)
	decompress := req.decompress
	// The backend's address is told of responses that no cache may give out again (ABI section 2).
	shared := kind.cached && req.cache.tag&overridePass == 0 && (req.method == http.MethodGet || req.method == http.MethodHead)
	go func() {
		resp, err := e.host.Fetch.RoundTrip(out)
		if err != nil {
			b.leave()
			if out.Body != nil {
				out.Body.Close()
			}
			cancel(err)
			p.settle(fetched{}, asFetchError(backend, err))
			return
		}
		if kind.cached {
			resp.Header.Set("X-Cache", xCache(resp.Header))
		}
		f := received(resp, out.Method, decompress, func() { cancel(errClosed) })
		if !shared {
			peerMu.Lock()
			f.resp.peer = peer
			peerMu.Unlock()
		}
		p.settle(f, nil)
	}()
	return p
}

// xCache is the field by which older programs ask whether the cache answered.
func xCache(h http.Header) string {
	status := h.Get("Cache-Status") // the last member is that of the cache here
	if strings.Contains(status[strings.LastIndexByte(status, ',')+1:], "; hit") {
		return "HIT"
	}
	return "MISS"
}

// values returns a context with the values of the request in hand that never ends.
func (e *exec) values() context.Context {
	if e.in != nil {
		return e.in.ctx
	}
	return context.WithoutCancel(e.ctx)
}

// asFetchError makes sure that a guest sees a reason.
func asFetchError(b *wedge.Backend, err error) error {
	if fe := (*wedge.FetchError)(nil); errors.As(err, &fe) {
		return err
	}
	fe := failureOf(err)
	fe.Backend = b.Name
	return fe
}

// holdUpload keeps the exchange with the client open while a fetch sends on its body.
func (e *exec) holdUpload(out *http.Request, b *body) {
	rd, ok := out.Body.(*bodyReader)
	if !ok || e.in == nil || e.in.source == nil || !b.holds(e.in.source) {
		return
	}
	rd.done = make(chan struct{})
	e.in.upload.Store(&rd.done)
}

// plain returns the request as it goes out, but for its body.
func (r *request) plain(ctx context.Context) *http.Request {
	u := *targetOf(r)
	out := (&http.Request{
		Method: r.method, URL: &u, Host: u.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if host, ok := r.headers.get("host"); ok && host != "" {
		out.Host = host
	}
	if u.Host == "" {
		u.Host = out.Host
	}
	out.Header = r.headers.toHTTP(skipHop(&r.headers, "Host", "Content-Length", "Fastly-Xqd-Cache-Key"))
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil // net/http would send its own
	}
	if te, ok := out.Header["Te"]; ok && (len(te) != 1 || te[0] != "trailers") {
		delete(out.Header, "Te")
	}
	return out
}

// outgoing builds the request for the host's transport.
func outgoing(ctx context.Context, req *request, b *body, streaming bool) *http.Request {
	out := req.plain(ctx)
	length, known := b.size()
	manualLength, manual := int64(0), false
	if req.manual {
		manualLength, manual = framing(&req.headers)
	}
	switch {
	case manual:
		out.ContentLength = manualLength
	case streaming || !known:
		out.ContentLength = -1
	default:
		out.ContentLength = length
	}
	out.Trailer = trailerOf(b, out.ContentLength, known && !streaming, manual)
	if out.Trailer != nil {
		out.ContentLength = -1
	}
	if out.ContentLength != 0 {
		most := int64(math.MaxInt64)
		if manual && manualLength > 0 {
			most = manualLength
		}
		out.Body = &bodyReader{ctx: ctx, body: b, trailer: out.Trailer, most: most}
		out.GetBody = b.again(most)
	} else {
		b.leave()
	}
	return out
}

// trailerOf returns where the trailers of a request go, nil if there will be none. Only a
// message of unknown length can carry them.
func trailerOf(b *body, length int64, complete, manual bool) http.Header {
	if manual && length >= 0 {
		return nil
	}
	t := http.Header{}
	b.eachTrailer(func(name, value string) {
		if !forbiddenTrailer[http.CanonicalHeaderKey(name)] {
			t.Add(name, value)
		}
	})
	if complete && len(t) == 0 {
		return nil
	}
	return t
}

var forbiddenTrailer = map[string]bool{"Transfer-Encoding": true, "Trailer": true, "Content-Length": true}

// framing returns the length that valid framing headers of a guest's own give (-1: chunked).
func framing(h *headers) (length int64, ok bool) {
	lengths, encodings := h.values("content-length"), h.values("transfer-encoding")
	switch {
	case len(encodings) == 1 && len(lengths) == 0 && sameName(encodings[0], "chunked"):
		return -1, true
	case len(lengths) == 1 && len(encodings) == 0:
		return parseLength(lengths[0])
	}
	return 0, false
}

// parseLength reads a Content-Length: digits only.
func parseLength(s string) (n int64, ok bool) {
	if s == "" || len(s) > 18 {
		return 0, false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// skipHop returns which header names to leave out of a forwarded message: those of the
// connection (RFC 9110 section 7.6.1) and the given ones.
func skipHop(h *headers, more ...string) func(string) bool {
	var named []string
	for _, v := range h.values("connection") {
		for _, name := range strings.Split(v, ",") {
			named = append(named, http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
	return func(name string) bool {
		if hopByHop[name] {
			return true
		}
		for _, n := range more {
			if n == name {
				return true
			}
		}
		for _, n := range named {
			if n == name {
				return true
			}
		}
		return false
	}
}

var hopByHop = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Connection": true, "Transfer-Encoding": true, "Trailer": true, "Upgrade": true,
}

// received takes over a backend's response.
func received(resp *http.Response, method string, decompress bool, done func()) fetched {
	r := &response{status: resp.StatusCode, version: protoOf(resp.ProtoMajor, resp.ProtoMinor), headers: fromHTTP(resp.Header)}
	if method == http.MethodHead || bodiless(resp.StatusCode) {
		resp.Body.Close()
		done()
		return fetched{r, newBody(nil)}
	}
	src, length := io.ReadCloser(&respBody{resp.Body, done}), resp.ContentLength
	if enc, _ := r.headers.get("content-encoding"); decompress && (sameName(enc, "gzip") || sameName(enc, "x-gzip")) {
		r.headers.remove("content-encoding")
		r.headers.remove("content-length")
		src, length = &gunzip{src: src}, -1
	}
	return fetched{r, newStreamBody(newStream(src, length, func() http.Header { return resp.Trailer }))}
}

// bodiless reports whether a response of that status never has a body.
func bodiless(status int) bool { return status < 200 || status == 204 || status == 304 }

// respBody ends the fetch's context with the body.
type respBody struct {
	io.ReadCloser
	done func()
}

func (b *respBody) Close() error {
	b.done() // first: it makes a Read that waits return
	return b.ReadCloser.Close()
}

// gunzip decodes a body as it is read. Nothing at all decodes to nothing.
type gunzip struct {
	src io.ReadCloser
	zr  *gzip.Reader
}

func (g *gunzip) Read(p []byte) (n int, err error) {
	if g.zr == nil {
		if g.zr, err = gzip.NewReader(g.src); err == io.EOF {
			return 0, io.EOF
		}
	}
	if err == nil {
		n, err = g.zr.Read(p)
	}
	if err == nil || err == io.EOF {
		return n, err
	}
	if fe := (*wedge.FetchError)(nil); errors.As(err, &fe) {
		return n, err
	}
	failure := wedge.FailureProtocol
	if errors.Is(err, io.ErrUnexpectedEOF) {
		failure = wedge.FailureIncomplete
	}
	return n, &wedge.FetchError{Failure: failure, Err: err}
}

func (g *gunzip) Close() error { return g.src.Close() }

// bodyReader lets the transport read a body that the guest may still write. What is beyond most bytes,
// which a guest that frames its messages itself may give, is dropped.
type bodyReader struct {
	ctx     context.Context
	body    *body
	trailer http.Header // filled at the end
	most    int64       // bytes that may still be read
	rest    []byte
	done    chan struct{} // closed with the reader; may be nil
	once    sync.Once
}

func (r *bodyReader) Read(p []byte) (n int, err error) {
	if r.most <= 0 {
		r.body.mute()
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.most)]
	defer func() { r.most -= int64(n) }()
	if len(r.rest) == 0 {
		b, err := r.body.next(r.ctx, p)
		if err == io.EOF {
			r.fillTrailer()
		}
		if err != nil {
			return 0, err
		}
		if len(b) > 0 && len(p) > 0 && &b[0] == &p[0] {
			return len(b), nil
		}
		r.rest = b
	}
	n = copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *bodyReader) fillTrailer() {
	if r.trailer == nil {
		return
	}
	clear(r.trailer)
	r.body.eachTrailer(func(name, value string) {
		if !forbiddenTrailer[http.CanonicalHeaderKey(name)] {
			r.trailer.Add(name, value)
		}
	})
}

func (r *bodyReader) Close() error {
	r.body.leave()
	r.once.Do(func() {
		if r.done != nil {
			close(r.done)
		}
	})
	return nil
}

// again returns how to read the body from its start once more, for a transport that found a
// kept connection dead; nil if some of it is not in memory. It gives most bytes at most.
func (b *body) again(most int64) func() (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.streaming || len(b.parts) != 1 || b.parts[0].stream != nil {
		return nil
	}
	whole := b.parts[0].bytes[:min(int64(len(b.parts[0].bytes)), most)]
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(whole)), nil }
}
