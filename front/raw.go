package front

import (
	"io"
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge"
)

// connInfo is what requests need to know of the connection they came on.
type connInfo struct {
	remote, local netip.AddrPort
	tls           *wedge.ClientTLS
	requests      atomic.Int64
	raw           *rawConn
	h1            *h1Conn // nil on HTTP/2
	h2print       atomic.Pointer[string]
}

// rawConn is an accepted connection, below TLS. It counts as open until closed, reads along
// until the ClientHello is there, and cuts a client that leaves a write untaken.
type rawConn struct {
	net.Conn
	front    *Front
	info     connInfo
	accepted time.Time
	sniff    *sniffer // nil on a plain connection

	deadlined atomic.Bool  // somebody set a write deadline: the stall timeout keeps out
	extended  atomic.Int64 // when the stall deadline was last set, Unix seconds

	between atomic.Bool // the next bytes are the first ones of an HTTP/1.1 message

	mu      sync.Mutex
	waiting bool // for these; see wake
	closed  bool
	onClose func()
}

func (c *rawConn) Read(p []byte) (int, error) {
	read := c.Conn.Read
	if c.between.Load() {
		read = c.readBetween
	}
	n, err := read(p)
	if s := c.sniff; s != nil && !s.done {
		s.feed(p[:n])
	}
	return n, err
}

// writePiece is the most that one stall deadline must suffice for, in bytes: a slow client is
// served on, one that takes nothing is cut.
const writePiece = 64 << 10

func (c *rawConn) Write(p []byte) (total int, err error) {
	for {
		c.extend()
		n, err := c.Conn.Write(p[:min(len(p), writePiece)])
		total, p = total+n, p[n:]
		if err != nil || len(p) == 0 {
			return total, err
		}
	}
}

// extend puts the stall deadline off, at most once a second: hence a second more.
func (c *rawConn) extend() {
	if c.deadlined.Load() {
		return
	}
	now := time.Now()
	if sec := now.Unix(); c.extended.Swap(sec) != sec {
		c.Conn.SetWriteDeadline(now.Add(c.front.cfg.StallTimeout + time.Second))
	}
}

func (c *rawConn) SetWriteDeadline(t time.Time) error {
	c.deadlined.Store(!t.IsZero())
	c.extended.Store(0)
	return c.Conn.SetWriteDeadline(t)
}

func (c *rawConn) SetDeadline(t time.Time) error {
	c.deadlined.Store(!t.IsZero())
	c.extended.Store(0)
	return c.Conn.SetDeadline(t)
}

// ReadFrom keeps sendfile and splice working, a piece at a time.
func (c *rawConn) ReadFrom(r io.Reader) (total int64, err error) {
	rf, ok := c.Conn.(io.ReaderFrom)
	if !ok {
		return io.Copy(struct{ io.Writer }{c}, r)
	}
	left, outer := int64(math.MaxInt64), (*io.LimitedReader)(nil)
	if outer, ok = r.(*io.LimitedReader); ok { // the kernel's copying looks through one of these only
		r, left = outer.R, outer.N
	}
	for left > 0 {
		c.extend()
		piece := min(left, writePiece)
		n, err := rf.ReadFrom(io.LimitReader(r, piece))
		total, left = total+n, left-n
		if outer != nil {
			outer.N = left
		}
		if err != nil || n < piece {
			return total, err
		}
	}
	return total, nil
}

func (c *rawConn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return nil
}

func (c *rawConn) Close() error {
	c.mu.Lock()
	first, then := !c.closed, c.onClose
	c.closed, c.onClose = true, nil
	c.mu.Unlock()
	err := c.Conn.Close()
	if first {
		c.front.forget(c)
	}
	if then != nil {
		then()
	}
	return err
}

// whenClosed calls f once the connection is closed, now if it is already.
func (c *rawConn) whenClosed(f func()) {
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.onClose = f
	}
	c.mu.Unlock()
	if closed {
		f()
	}
}
