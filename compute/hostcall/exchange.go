package hostcall

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/compute"
)

// exchange is the handler's side of one request: it alone writes to the client.
type exchange struct {
	h   *Handler
	in  *incoming
	co  *compute.Coroutine // of the guest; nil: it runs by itself
	w   http.ResponseWriter
	r   *http.Request
	ctl *http.ResponseController
}

func newExchange(h *Handler, w http.ResponseWriter, r *http.Request) *exchange {
	ctl := http.NewResponseController(w)
	interrupt := func() error { return ctl.SetReadDeadline(past) }
	return &exchange{h: h, w: w, r: r, ctl: ctl, in: newIncoming(r, interrupt, h.random)}
}

// end tells the guest that the client is gone, and takes the request's body back.
func (x *exchange) end() {
	x.co.Leave()
	close(x.in.gone)
	x.in.sweep()
	x.in.source.end()
}

// serve lets the guest run, or waits for what it has to say, until it has answered or the client left.
func (x *exchange) serve() {
	for {
		select {
		case rep := <-x.in.replies:
			if x.took(rep) {
				return
			}
			continue
		default:
		}
		if x.co.Step() {
			continue
		}
		select {
		case rep := <-x.in.replies:
			if x.took(rep) {
				return
			}
		case <-x.r.Context().Done():
			return
		}
	}
}

// took sends a reply and reports whether it was the final one.
func (x *exchange) took(rep reply) bool {
	if rep.interim != nil {
		x.inform(rep.interim)
		return false
	}
	x.answer(rep)
	return true
}

// inform sends an interim response.
func (x *exchange) inform(resp *response) {
	if !x.r.ProtoAtLeast(1, 1) {
		return
	}
	out := x.w.Header()
	resp.headers.copyTo(out, skipHop(&resp.headers, "Content-Length"))
	x.w.WriteHeader(resp.status)
	clear(out)
}

func (x *exchange) answer(rep reply) {
	if !x.brief(rep) {
		x.co.Leave()
	}
	switch {
	case rep.err != nil:
		x.refuse(rep.err)
	case rep.handoff != nil:
		x.handOver(rep.handoff)
	case rep.pending != nil:
		x.forward(rep.pending)
	default:
		x.respond(rep.response, rep.body)
	}
	x.awaitUpload()
	x.tidy()
}

// brief reports whether an answer can be sent before the guest goes on, as its coroutine's other
// half: it is all there, and HTTP/1 has it on its way with one flush.
func (x *exchange) brief(rep reply) bool {
	return x.r.ProtoMajor == 1 && rep.response != nil && rep.body.whole(chunkSize) && x.in.upload.Load() == nil
}

// tidy sends what was answered, which net/http does only after the handler has returned, and
// lets the guest come to its end.
func (x *exchange) tidy() {
	if x.co.Rests() {
		_ = x.ctl.Flush()
	}
	for x.co.Step() {
	}
}

// awaitUpload waits until a fetch that sends the request's body on has done with it: the
// body ends with the exchange.
func (x *exchange) awaitUpload() {
	up := x.in.upload.Load()
	if up == nil {
		return
	}
	_ = x.ctl.Flush()
	select {
	case <-*up:
	case <-x.r.Context().Done():
	}
}

// refuse answers for a guest that failed. The client learns the request's id and nothing
// about the cause, which is the author's business.
func (x *exchange) refuse(err error) {
	status := http.StatusInternalServerError
	switch wedge.KindOf(err) {
	case wedge.Timeout:
		status = http.StatusGatewayTimeout
	case wedge.Unavailable:
		status = http.StatusServiceUnavailable
		x.w.Header().Set("Retry-After", strconv.Itoa(retryAfter(err)))
	}
	x.plain(status)
}

// retryAfter returns the seconds after which a refused client should come again, at least 1.
func retryAfter(err error) int {
	var r interface{ RetryAfter() time.Duration }
	if errors.As(err, &r) {
		return max(1, int((r.RetryAfter()+time.Second-1)/time.Second))
	}
	return 1
}

func (x *exchange) plain(status int) {
	text := fmt.Sprintf("%d %s\nrequest %s\n", status, http.StatusText(status), x.in.client.RequestID)
	out := x.w.Header()
	out.Set("Content-Type", "text/plain; charset=utf-8")
	out.Set("Cache-Control", "no-store")
	if x.unread() {
		out.Set("Connection", "close")
	}
	out.Set("Content-Length", strconv.Itoa(len(text)))
	x.w.WriteHeader(status)
	_, _ = io.WriteString(x.w, text)
}

// forward sends the response of a fetch that the guest did not wait for.
func (x *exchange) forward(p *pending) {
	wake := make(chan struct{}, 1)
	for !p.ready() {
		p.notify(wake)
		if p.ready() {
			break
		}
		select {
		case <-wake:
		case <-x.r.Context().Done():
			p.drop()
			return
		}
	}
	f, err := p.result()
	if err != nil {
		f = x.synthetic(failureOf(err).Failure.Status())
		p.applyEdits(f.resp, targetError)
	} else {
		p.applyEdits(f.resp, targetResponse)
	}
	x.respond(f.resp, f.body)
}

// synthetic is the host's own answer where no backend's came.
func (x *exchange) synthetic(status int) fetched {
	resp := newResponse()
	resp.status = status
	resp.headers.add("content-type", "text/plain; charset=utf-8")
	text := fmt.Sprintf("%d %s\nrequest %s\n", status, http.StatusText(status), x.in.client.RequestID)
	return fetched{resp, newBody([]byte(text))}
}

// respond sends the guest's answer: its head at once, its body as it comes.
func (x *exchange) respond(resp *response, b *body) {
	length := x.head(resp, b)
	if x.r.Method == http.MethodHead || bodiless(resp.status) {
		b.mute()
		return
	}
	defer b.leave()
	stop := context.AfterFunc(x.r.Context(), b.leave)
	defer stop()
	if err := x.copy(b, length); err != nil {
		// The head promised a whole body. Cutting the connection is the only way left to
		// say that it is not.
		panic(http.ErrAbortHandler)
	}
	b.eachTrailer(func(name, value string) {
		if name = http.CanonicalHeaderKey(name); !forbiddenTrailer[name] {
			x.w.Header().Add(http.TrailerPrefix+name, value)
		}
	})
}

// head writes status and headers and returns the length they promise, -1 for none.
func (x *exchange) head(resp *response, b *body) int64 {
	out := x.w.Header()
	resp.headers.copyTo(out, skipHop(&resp.headers, "Content-Length"))
	if _, ok := out["Content-Type"]; !ok {
		out["Content-Type"] = nil // net/http would guess one
	}
	if resp.closeConn || x.unread() {
		out.Set("Connection", "close")
	}
	length := x.length(resp, b)
	switch {
	case length >= 0:
		out.Set("Content-Length", strconv.FormatInt(length, 10))
	case x.r.ProtoMajor == 1 && x.r.ProtoMinor == 1 && !bodiless(resp.status) && x.r.Method != http.MethodHead:
		// net/http would count a short body itself and then has no room for trailers.
		out.Set("Transfer-Encoding", "chunked")
	}
	x.w.WriteHeader(resp.status)
	return length
}

// unread reports whether the client's HTTP/1 connection cannot carry another request, because
// some of this one's body is still to come. In full duplex net/http looks for the rest only after the
// response: what it does not find in time it would take for the next request, or fail over.
func (x *exchange) unread() bool {
	return x.r.ProtoMajor == 1 && x.in.source != nil && !x.in.source.atEnd.Load()
}

// length decides the Content-Length of a response; -1: none.
func (x *exchange) length(resp *response, b *body) int64 {
	own, valid := int64(-1), false
	if v := resp.headers.values("content-length"); len(v) == 1 {
		own, valid = parseLength(v[0])
	}
	n, known := b.size()
	switch {
	case bodiless(resp.status):
		return -1
	case x.r.Method == http.MethodHead && n == 0:
		// What GET would give; the guest, or the backend it asked, knows.
		if valid {
			return own
		}
		return -1
	case resp.manual:
		if n, ok := framing(&resp.headers); ok {
			return n
		}
	}
	hasTrailers := false
	b.eachTrailer(func(string, string) { hasTrailers = true })
	if !known || hasTrailers {
		return -1
	}
	return n
}

// copy sends the body as it comes. What is beyond length, which a guest that frames its messages itself may
// give, is dropped.
func (x *exchange) copy(b *body, length int64) error {
	scratch := chunks.Get().(*[chunkSize]byte)
	defer chunks.Put(scratch)
	out := lazyFlusher{w: x.w, ctl: x.ctl, dirty: true}
	defer out.stop()
	for sent := int64(0); ; {
		if sent != length && b.idle() {
			out.soon()
		}
		p, err := b.next(x.r.Context(), scratch[:])
		if err == io.EOF && length >= 0 && sent != length {
			err = io.ErrUnexpectedEOF
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			out.flush() // what is whole may reach the client
			return err
		}
		if rest := length - sent; length >= 0 && int64(len(p)) > rest {
			if p = p[:rest]; len(p) == 0 {
				b.mute()
				return nil
			}
		}
		n, err := out.Write(p)
		sent += int64(n)
		if err != nil {
			return err
		}
	}
}

// flushDelay is how long written bytes may wait for more to go out with them. A guest that
// writes head, body and end in quick succession costs one packet, not three.
const flushDelay = 200 * time.Microsecond

// lazyFlusher flushes when nothing follows for a moment.
type lazyFlusher struct {
	mu    sync.Mutex
	w     io.Writer
	ctl   *http.ResponseController
	dirty bool
	timer *time.Timer
}

func (f *lazyFlusher) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dirty = true
	return f.w.Write(p)
}

// soon flushes after flushDelay unless flush or stop comes first.
func (f *lazyFlusher) soon() {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !f.dirty:
	case f.timer == nil:
		f.timer = time.AfterFunc(flushDelay, f.flush)
	default:
		f.timer.Reset(flushDelay)
	}
}

func (f *lazyFlusher) flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dirty {
		f.dirty = false
		_ = f.ctl.Flush() // a broken connection shows at the next Write
	}
}

// stop returns when no flush can come any more.
func (f *lazyFlusher) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dirty = false
	if f.timer != nil {
		f.timer.Stop()
	}
}
