package front

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// h1Conn is what net/http reads HTTP/1.1 from: a plain connection or the clear side of TLS.
// Every byte passes the framer. One Read never goes past the end of a message, so net/http
// holds no byte of the next request while it serves one (save a single byte, by which it
// notices that the client is still there). That makes the framer's last head the head of the
// request in hand.
type h1Conn struct {
	net.Conn
	info *connInfo

	frame  framer
	opaque bool           // no longer, or not at all, HTTP/1.1: hijacked, h2c
	held   []byte         // read from the connection, not handed on
	buf    *[bufSize]byte // backs held; nil if something else does
	forced bool           // held is the front's own and not for the framer
	hits   bool           // requests are answered here if they can be, see readHits
	later  error          // to be returned once held is empty

	in       atomic.Int64 // bytes handed on
	refused  atomic.Pointer[refusal]
	unread   atomic.Bool // a body was not read to its end, see spent
	lingers  atomic.Bool
	hijacked bool
}

const bufSize = 4096

var bufs = sync.Pool{New: func() any { return new([bufSize]byte) }}

// errRefused ends the reading of a connection whose framing cannot be trusted.
var errRefused = errors.New("front: malformed request")

// errSpent ends the reading of a connection on which a body was not read to its end.
var errSpent = errors.New("front: the request before was not read to its end")

// poison takes the place of a refused head, so that net/http calls the handler, which
// answers with the refusal.
var poison = []byte("GET / HTTP/1.1\r\nHost: refused.invalid\r\nConnection: close\r\n\r\n")

// ending ends a head that net/http has already seen a part of. net/http answers 400 to the
// stump, or takes it as whole and calls the handler, which answers with the refusal.
var ending = []byte("\r\n\r\n")

func (c *h1Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if c.unread.Load() {
		return 0, errSpent
	}
	n, err := c.read(p)
	if n > 0 && !c.opaque && !c.forced {
		n, err = c.follow(p[:n], err)
	}
	c.in.Add(int64(n))
	return n, err
}

func (c *h1Conn) read(p []byte) (int, error) {
	if c.opaque || c.forced || !c.frame.atStart() {
		return c.fill(p)
	}
	if len(p) == 1 { // read by net/http while a handler runs
		return c.readBehind(p)
	}
	if c.hits {
		return c.readHits(p)
	}
	return c.fill(p)
}

// readBehind is for net/http to notice, while a handler runs, that the client is gone. What comes
// instead is the next request, which is not net/http's business yet: given a byte of it, net/http would
// have to be given the rest, a hit or not. So it is held back, and reading goes on until net/http ends
// it with a deadline. Only if too much comes is the byte given.
func (c *h1Conn) readBehind(p []byte) (int, error) {
	for c.later == nil && (len(c.held) == 0 || c.buf != nil && len(c.held) < bufSize) {
		n, err := c.Conn.Read(c.room(p))
		if n > 0 && c.buf == nil {
			c.hold(p[:n])
		} else {
			c.held = c.held[:len(c.held)+n]
		}
		if ne, ok := err.(net.Error); err != nil && (len(c.held) == 0 || ok && ne.Timeout()) {
			return 0, err
		}
		c.later = err
	}
	return c.fill(p)
}

// room returns where to read to: behind what is held, if anything is.
func (c *h1Conn) room(p []byte) []byte {
	if len(c.held) == 0 {
		return p
	}
	n := copy(c.buf[:], c.held) // it may begin further on
	c.held = c.buf[:n]
	return c.buf[n:]
}

// fill reads what was held back, or else from the connection.
func (c *h1Conn) fill(p []byte) (int, error) {
	if len(c.held) > 0 {
		n := copy(p, c.held)
		if c.held = c.held[n:]; len(c.held) == 0 {
			c.letGo()
		}
		return n, nil
	}
	c.forced = false
	if c.later != nil {
		return 0, c.later
	}
	if !c.opaque && c.frame.atStart() && len(p) > 1 {
		return c.await(p[:min(len(p), 64<<10)])
	}
	return c.Conn.Read(c.within(p))
}

// within shortens p so that little is read past the message's end.
func (c *h1Conn) within(p []byte) []byte {
	if c.opaque {
		return p
	}
	if c.frame.phase == inBody && int64(len(p)) > c.frame.remain {
		return p[:c.frame.remain]
	}
	if c.frame.phase != inBody && len(p) > 64<<10 {
		return p[:64<<10]
	}
	return p
}

// follow passes p through the framer, holds back what belongs to the next message and puts
// the front's own words in the place of a refused head.
func (c *h1Conn) follow(p []byte, err error) (int, error) {
	fresh := c.frame.atStart()
	if fresh && len(p) == 1 {
		c.frame.first(p[0])
		return 1, err
	}
	n, no := c.frame.feed(p)
	if no != nil && c.frame.phase != inHead {
		// The request is being served, or just about to: its body ends in an error.
		c.later = errRefused
		c.letGo()
		if n == 0 {
			return 0, errRefused
		}
		return n, nil
	}
	if no != nil {
		return c.refuse(p, no, fresh)
	}
	if n < len(p) {
		c.hold(p[n:])
		if err != nil {
			c.later, err = err, nil
		}
	}
	return n, err
}

func (c *h1Conn) refuse(p []byte, no *refusal, fresh bool) (int, error) {
	c.later = errRefused
	c.refused.Store(no)
	c.letGo()
	c.held, c.forced = ending, true
	if fresh {
		c.held = poison
	}
	n := copy(p, c.held)
	c.held = c.held[n:]
	return n, nil
}

func (c *h1Conn) hold(b []byte) {
	if len(c.held) > 0 { // b is from held's beginning, and held follows on it
		c.held = append(append(make([]byte, 0, len(b)+len(c.held)), b...), c.held...)
		c.letGoBuf()
		return
	}
	if len(b) > bufSize {
		c.held = append([]byte(nil), b...)
		return
	}
	c.buf = bufs.Get().(*[bufSize]byte)
	c.held = c.buf[:copy(c.buf[:], b)]
}

func (c *h1Conn) letGo() {
	c.held = nil
	c.letGoBuf()
}

func (c *h1Conn) letGoBuf() {
	if c.buf != nil {
		bufs.Put(c.buf)
		c.buf = nil
	}
}

// peek waits for the connection's first bytes and reports whether they are HTTP/2's preface
// (RFC 9113 section 3.4). What it read is held.
func (c *h1Conn) peek() (h2 bool, err error) {
	c.buf = bufs.Get().(*[bufSize]byte)
	for n := 0; ; {
		m, err := c.await(c.buf[n:])
		n += m
		c.held = c.buf[:n]
		got := string(c.held[:min(n, len(h2Preface))])
		if got != h2Preface[:len(got)] {
			return false, nil
		}
		if len(got) == len(h2Preface) {
			return true, nil
		}
		if err != nil {
			c.letGo()
			return false, err
		}
	}
}

// hijack is called when a handler took the connection over: from here on bytes just pass.
func (c *h1Conn) hijack() {
	c.hijacked, c.opaque = true, true
}

// ReadFrom keeps sendfile working on plain connections.
func (c *h1Conn) ReadFrom(r io.Reader) (int64, error) {
	if rf, ok := c.Conn.(*rawConn); ok {
		return rf.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}

// CloseWrite lets net/http say goodbye before it closes.
func (c *h1Conn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return nil
}

// spent is called when a request was not read to its end: there is no next one. Somebody may be reading still.
func (c *h1Conn) spent() { c.unread.Store(true) }

// Close closes the connection. One that was refused, or is spent, may still be sending: closed at once,
// the kernel would answer that with a reset, which can overtake the response.
func (c *h1Conn) Close() error {
	if c.refused.Load() == nil && !c.unread.Load() || c.opaque {
		return c.Conn.Close()
	}
	if !c.lingers.Swap(true) {
		c.CloseWrite() // nothing more is said from here on
		go c.linger()
	}
	return nil
}

func (c *h1Conn) linger() {
	c.Conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	io.Copy(io.Discard, io.LimitReader(c.Conn, 256<<10))
	c.Conn.Close()
}

// tlsConn is an h1Conn over TLS. net/http takes its state for Request.TLS.
type tlsConn struct{ *h1Conn }

// ConnectionState returns what the handshake agreed on.
func (c tlsConn) ConnectionState() tls.ConnectionState { return *c.info.tls.State }

// connState follows the connections of the HTTP/1.1 server.
func connState(c net.Conn, state http.ConnState) {
	h := h1Of(c)
	switch {
	case state == http.StateHijacked:
		h.hijack()
	case state == http.StateIdle && h != nil && h.unread.Load():
		_ = h.Close() // or else net/http would answer what it has of the rest
	}
}

func h1Of(c net.Conn) *h1Conn {
	switch c := c.(type) {
	case *h1Conn:
		return c
	case tlsConn:
		return c.h1Conn
	}
	return nil
}
