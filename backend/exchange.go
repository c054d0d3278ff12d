package backend

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge"
)

var (
	errFirstByte    = errors.New("origin did not answer in time")
	errBetweenBytes = errors.New("origin stopped sending")
	errDone         = errors.New("exchange is over")
)

// An exchange is one attempt at one request on one connection. It owns the timer, which
// ends the exchange by cancelling its context.
type exchange struct {
	t      *Transport
	b      *wedge.Backend
	c      *conn
	parent context.Context
	ctx    context.Context
	cancel context.CancelCauseFunc

	reused  bool        // the connection served before
	last    bool        // and will not again
	before  int64       // bytes the connection had written before
	gotByte atomic.Bool // of the response
	body    *requestBody
	trace   httptrace.ClientTrace
	once    sync.Once

	mu    sync.Mutex
	timer *time.Timer
	head  bool // the response's head has come: the timer is the response body's
}

func newExchange(t *Transport, b *wedge.Backend, c *conn, parent context.Context) *exchange {
	ex := &exchange{t: t, b: b, c: c, parent: parent, before: c.written.Load()}
	ex.reused, ex.last = c.place()
	ctx, cancel := context.WithCancelCause(parent)
	ex.trace.GotFirstResponseByte = func() { ex.gotByte.Store(true) }
	ex.ctx, ex.cancel = httptrace.WithClientTrace(ctx, &ex.trace), cancel
	return ex
}

// do sends req and returns the response's head. After an error the connection is released.
func (ex *exchange) do(req *http.Request, up bool) (*http.Response, error) {
	out := req.WithContext(ex.ctx)
	if !noBody(req) {
		ex.body = &requestBody{rc: req.Body, ex: ex}
		out.Body = ex.body
		// A body that the guest writes slowly must not hold up the end of the exchange.
		context.AfterFunc(ex.ctx, func() { ex.body.Close() })
	}
	switch {
	case ex.c.h2:
		out.Header = forHTTP2(out.Header)
	case !up && ex.last:
		out.Close = true
	}
	wait := orDefault(ex.b.FirstByteTimeout, wedge.DefaultFirstByteTimeout)
	ex.timer = time.AfterFunc(wait, func() { ex.expire() })
	if !ex.c.h2 {
		ex.c.head.begin()
	}
	resp, err := ex.c.cc.RoundTrip(out)
	ex.mu.Lock()
	ex.head = true
	ex.timer.Stop()
	ex.mu.Unlock()
	if err == nil {
		err = checkHead(req, resp, up, ex.c.h2)
	}
	if err == nil && !ex.c.h2 {
		err = ex.c.head.check(resp)
	}
	if err != nil {
		ex.abort()
		if ex.body != nil {
			ex.body.Close()
		}
		return nil, err
	}
	ex.attach(resp)
	return resp, nil
}

// attach gives resp a body that ends the exchange when it ends.
func (ex *exchange) attach(resp *http.Response) {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		ex.t.stats.upgrades.Add(1)
		ex.cancel(errDone)
		// The connection is the caller's now: it counts as open until closed.
		resp.Body = &upgraded{ReadWriteCloser: resp.Body.(io.ReadWriteCloser), name: ex.b.Name}
		return
	}
	if resp.Body == http.NoBody {
		ex.finish()
		return
	}
	resp.Body = &responseBody{rc: resp.Body, ex: ex, gap: orDefault(ex.b.BetweenBytesTimeout, wedge.DefaultBetweenBytesTimeout)}
}

// checkHead refuses heads that net/http lets pass but that make no sense.
func checkHead(req *http.Request, resp *http.Response, up, h2 bool) error {
	if s := resp.StatusCode; s < 100 || s > 999 {
		return failure(wedge.FailureStatusInvalid, errors.New("status out of range"))
	}
	if !h2 && resp.ProtoMajor != 1 {
		return failure(wedge.FailureProtocol, errors.New("origin answered in another version of HTTP"))
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil
	}
	if !up {
		return failure(wedge.FailureProtocol, errors.New("origin switched protocols unasked"))
	}
	_, rw := resp.Body.(io.ReadWriteCloser)
	to, _, _ := strings.Cut(resp.Header.Get("Upgrade"), "/")
	for _, asked := range req.Header["Upgrade"] {
		for p := range strings.SplitSeq(asked, ",") {
			p, _, _ = strings.Cut(strings.TrimSpace(p), "/")
			if rw && strings.EqualFold(p, to) {
				return nil
			}
		}
	}
	return failure(wedge.FailureUpgrade, errors.New("origin switched to a protocol that was not asked for"))
}

// expire is called by the timer.
func (ex *exchange) expire() {
	ex.mu.Lock()
	head := ex.head
	ex.mu.Unlock()
	if head {
		ex.cancel(errBetweenBytes)
	} else {
		ex.cancel(errFirstByte)
	}
}

// arm starts the timer anew, disarm stops it; forHead says which phase the caller is in,
// and a call that belongs to a phase gone by does nothing.
func (ex *exchange) arm(forHead bool, d time.Duration) {
	ex.mu.Lock()
	if ex.head != forHead {
		ex.timer.Reset(d)
	}
	ex.mu.Unlock()
}

func (ex *exchange) disarm(forHead bool) {
	ex.mu.Lock()
	if ex.head != forHead {
		ex.timer.Stop()
	}
	ex.mu.Unlock()
}

// finish ends the exchange and gives the connection back, if it is fit to be given.
func (ex *exchange) finish() {
	ex.once.Do(func() {
		ex.disarm(false)
		ex.t.release(ex.c)
		ex.cancel(errDone)
	})
}

// abort ends the exchange in disorder.
func (ex *exchange) abort() {
	ex.once.Do(func() {
		ex.cancel(errDone)
		if !ex.c.h2 {
			ex.c.shut()
		}
		ex.t.release(ex.c)
	})
}

// retryable reports whether the request may be sent again after err. No byte of an answer
// came, and either the origin said that it did not look at the request; or the connection
// had served before, so most likely was closed while it was idle, and nothing was written or
// the request may be repeated. A body must be there to be sent again.
func (ex *exchange) retryable(req *http.Request, err error) bool {
	if cause := context.Cause(ex.ctx); cause != errDone {
		return false
	}
	if !noBody(req) && (req.GetBody == nil || ex.body.failed() != nil) {
		return false
	}
	if ex.gotByte.Load() {
		return false
	}
	if ex.c.h2 && refusedStream(err) {
		return true // RFC 9113 section 8.7
	}
	if !ex.reused {
		return false
	}
	return replayable(req) || !ex.c.h2 && ex.c.written.Load() == ex.before
}

// headError says why no head came.
func (ex *exchange) headError(err error) error {
	if fe := ex.ended(); fe != nil {
		return fe
	}
	if ex.body != nil {
		if berr := ex.body.failed(); berr != nil {
			return failure(wedge.FailureUnknown, berr)
		}
	}
	return classify(err, phaseHead, ex.c.h2)
}

// ended returns the error for an exchange that a timeout or the caller ended, or nil.
func (ex *exchange) ended() *wedge.FetchError {
	switch cause := context.Cause(ex.ctx); {
	case cause == errFirstByte || cause == errBetweenBytes:
		return failure(wedge.FailureResponseTimeout, cause)
	case ex.parent.Err() != nil:
		return callerGone(ex.parent)
	}
	return nil
}

// callerGone is the error for a context that ended.
func callerGone(ctx context.Context) *wedge.FetchError {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return failure(wedge.FailureResponseTimeout, ctx.Err())
	}
	return failure(wedge.FailureUnknown, ctx.Err())
}

// requestBody stops the first-byte timer while the origin cannot be blamed: while the
// next piece of the request's body is not there yet.
type requestBody struct {
	rc   io.ReadCloser
	ex   *exchange
	err  atomic.Pointer[error]
	once sync.Once
}

func (r *requestBody) Read(p []byte) (int, error) {
	r.ex.disarm(true)
	n, err := r.rc.Read(p)
	r.ex.arm(true, orDefault(r.ex.b.FirstByteTimeout, wedge.DefaultFirstByteTimeout))
	if err != nil && err != io.EOF {
		r.err.CompareAndSwap(nil, &err)
	}
	return n, err
}

func (r *requestBody) Close() (err error) {
	r.once.Do(func() { err = r.rc.Close() })
	return err
}

func (r *requestBody) failed() error {
	if p := r.err.Load(); p != nil {
		return *p
	}
	return nil
}

// responseBody allows each Read a time of gap, ends the exchange when it ends, and turns
// errors into *wedge.FetchError.
type responseBody struct {
	rc  io.ReadCloser
	ex  *exchange
	gap time.Duration
	err error // sticky; only Read touches it
}

func (r *responseBody) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	r.ex.arm(false, r.gap)
	n, err := r.rc.Read(p)
	r.ex.disarm(false)
	if err == nil {
		return n, nil
	}
	if err == io.EOF {
		r.ex.finish()
		r.err = io.EOF
		return n, io.EOF
	}
	r.err = r.ex.bodyError(err)
	r.ex.abort()
	return n, r.err
}

func (ex *exchange) bodyError(err error) error {
	fe := ex.ended()
	if fe == nil {
		fe = classify(err, phaseBody, ex.c.h2)
	}
	out := *fe
	out.Backend = ex.b.Name
	return &out
}

// Close ends the exchange. If the body was not read to its end the connection (HTTP/2: the
// stream) is closed too.
func (r *responseBody) Close() error {
	err := r.rc.Close()
	r.ex.finish()
	return err
}

// upgraded is what follows a 101: the connection itself, with errors named.
type upgraded struct {
	io.ReadWriteCloser
	name string
}

func (u *upgraded) Read(p []byte) (int, error) {
	n, err := u.ReadWriteCloser.Read(p)
	return n, u.wrap(err)
}

func (u *upgraded) Write(p []byte) (int, error) {
	n, err := u.ReadWriteCloser.Write(p)
	return n, u.wrap(err)
}

// CloseWrite tells the origin that nothing more will be written.
func (u *upgraded) CloseWrite() error {
	if cw, ok := u.ReadWriteCloser.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (u *upgraded) wrap(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	fe := *classify(err, phaseUpgraded, false)
	fe.Backend = u.name
	return &fe
}
