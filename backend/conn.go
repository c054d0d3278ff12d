package backend

import (
	"container/list"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

// A conn is one connection to an origin: the net.Conn at the bottom, whose reads and
// writes it watches, and the ClientConn on top that speaks HTTP over it.
//
// The watching answers a question that net/http leaves open: is an HTTP/1.1 connection
// whose response has ended clean? An origin that sends more than it announced (a body after
// HEAD, a second response) would otherwise have its surplus taken for the answer to
// the next request. So a conn becomes idle only when net/http is back in Read with nothing
// left over, and any byte that comes while it is idle condemns it. It may be taken the moment it is idle, and
// a byte that came before may be read long after on a busy machine: so Read judges bytes before it takes them
// from the socket, and Write, before a request's first byte, looks whether any are there.
type conn struct {
	net.Conn
	raw  syscall.RawConn // of Conn; nil: it has none
	t    *Transport
	pool *pool
	cc   *http.ClientConn
	h2   bool
	head headWatch // HTTP/1.1 only

	state   atomic.Uint32 // HTTP/1.1 only: busy, settling, idle, taken or condemned
	reading atomic.Bool   // a Read is in progress
	written atomic.Int64  // bytes

	// Guarded by Transport.mu.
	born      time.Time
	idleSince time.Time
	uses      int           // requests, the present ones included
	streams   int           // requests in flight
	full      bool          // HTTP/2: the origin takes no more streams until one ends
	retired   bool          // takes no more requests
	gone      bool          // closed, and no longer counted
	idleElem  *list.Element // in Transport.idle
}

const (
	busy      uint32 = iota // a request is using it
	settling                // its response has ended; waiting for net/http to be back in Read
	idle                    // clean and in the pool
	taken                   // given to a request that has written nothing yet
	condemned               // sent what nobody asked for
)

var errSurplus = errors.New("origin sent data that belongs to no request")

func (c *conn) Read(p []byte) (int, error) {
	c.reading.Store(true)
	if c.state.Load() == settling {
		c.t.settled(c)
	}
	if c.raw != nil && !c.h2 && awaitBytes(c.raw) {
		c.reading.Store(false)                                          // first: release must not count on it any more
		if c.condemn(settling) || c.condemn(idle) || c.condemn(taken) { // in the order in which they come
			return 0, errSurplus // net/http closes the connection
		}
	}
	n, err := c.Conn.Read(p)
	c.reading.Store(false)
	if n > 0 && (c.condemn(idle) || c.condemn(taken)) {
		return 0, errSurplus
	}
	return n, err
}

// condemn changes the state that c is in, if it is from, for what nobody had asked for.
func (c *conn) condemn(from uint32) bool {
	ok := c.state.CompareAndSwap(from, condemned)
	if ok {
		c.t.stats.poisoned.Add(1)
	}
	return ok
}

// surplus reports whether the origin has sent what nobody has read yet.
func (c *conn) surplus() bool { return c.raw != nil && pending(c.raw) }

func (c *conn) Write(p []byte) (int, error) {
	if c.state.Load() == taken {
		if c.surplus() {
			c.condemn(taken)
		}
		if !c.state.CompareAndSwap(taken, busy) && c.state.Load() == condemned {
			return 0, errSurplus
		}
	}
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// CloseWrite half-closes the connection, which some upgraded protocols need.
func (c *conn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close closes the connection and gives its place back. net/http calls it, sometimes with
// its own locks held, so it must not call into the ClientConn.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.t.closedConn(c)
	return err
}

// shut closes the connection from above, protocol included.
func (c *conn) shut() {
	if c.cc != nil {
		c.cc.Close()
	}
	c.Close()
}

func shutAll(conns []*conn) {
	for _, c := range conns {
		c.shut()
	}
}

// spent reports whether c may take no further request. Transport.mu is held.
func (c *conn) spent(now time.Time) bool {
	p := c.pool.key
	limit := p.maxUse
	if p.dontPool {
		limit = 1
	}
	return c.retired || c.gone || c.t.closed ||
		limit > 0 && c.uses >= limit ||
		p.maxLifetime > 0 && now.Sub(c.born) >= p.maxLifetime
}

// place tells whether c served before the request it was just taken for, and whether that
// request is its last.
func (c *conn) place() (reused, last bool) {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	return c.uses > 1, c.spent(time.Now())
}

// fit asks the protocol whether c can take the request it was taken for. It does not
// use ClientConn.Reserve: where an origin allows fewer streams than were reserved before it
// said so, reservations and requests of Go 1.26 wait for each other.
func (c *conn) fit() bool { return c.cc.Available() > 0 }

// settled is called by c's reader when it waits for the next response.
func (t *Transport) settled(c *conn) {
	t.mu.Lock()
	drop := t.closed
	if !drop && !c.gone && c.state.CompareAndSwap(settling, idle) {
		t.parkLocked(c)
	}
	t.mu.Unlock()
	if drop {
		c.Close()
	}
}

// release ends c's part in a request. An HTTP/1.1 connection serves again only if its
// exchange ended in order.
func (t *Transport) release(c *conn) {
	dead := c.dead()
	now := time.Now()
	t.mu.Lock()
	c.streams--
	shut := c.streams == 0 && (dead || c.spent(now))
	switch {
	case shut:
		t.retireLocked(c)
	case c.gone:
	case c.h2:
		c.full = false
		if c.streams == 0 {
			t.parkLocked(c)
		} else {
			c.pool.queue.wake(1)
		}
	default:
		c.state.Store(settling)
		if c.reading.Load() && c.state.CompareAndSwap(settling, idle) {
			t.parkLocked(c)
		}
	}
	t.mu.Unlock()
	if shut {
		c.shut()
	}
}

// dead reports whether c can serve no further request, now that one has ended.
func (c *conn) dead() bool {
	if !c.h2 {
		return c.cc.Available() == 0
	}
	return c.cc.Err() != nil || c.cc.Available() == 0 && c.cc.InFlight() == 0
}

// unfit takes back a request from a connection that turned out not to take it: it is
// closing, or at the origin's limit of streams.
func (t *Transport) unfit(c *conn) {
	dead := c.dead()
	now := time.Now()
	t.mu.Lock()
	c.streams--
	c.full = true
	if dead {
		t.retireLocked(c)
	}
	shut := c.streams == 0 && c.spent(now)
	if shut {
		t.retireLocked(c)
	} else if c.streams == 0 {
		t.parkLocked(c)
	}
	t.mu.Unlock()
	if shut {
		c.shut()
	} else if c.cc.Available() > 0 {
		t.changed(c) // since we asked
	}
}

// changed is called when an HTTP/2 connection may have room for streams again.
func (t *Transport) changed(c *conn) {
	t.mu.Lock()
	c.full = false
	c.pool.queue.wake(1)
	t.mu.Unlock()
}

// parkLocked puts c among the idle. Transport.mu is held.
func (t *Transport) parkLocked(c *conn) {
	if c.idleElem != nil || c.gone {
		return
	}
	c.idleSince = time.Now()
	c.idleElem = t.idle.PushBack(c)
	p := c.pool
	if !c.h2 {
		p.idle1 = append(p.idle1, c)
	}
	if c.full || !p.queue.wake(1) {
		t.queue.wake(1) // it may close this one to make room
	}
}

// unparkLocked takes c from the idle. Transport.mu is held.
func (t *Transport) unparkLocked(c *conn) {
	if c.idleElem == nil {
		return
	}
	t.idle.Remove(c.idleElem)
	c.idleElem = nil
	if p := c.pool; !c.h2 {
		if i := slices.Index(p.idle1, c); i >= 0 {
			p.idle1 = slices.Delete(p.idle1, i, i+1)
		}
	}
}

// retireLocked lets c take no more requests. Transport.mu is held.
func (t *Transport) retireLocked(c *conn) {
	c.retired = true
	t.unparkLocked(c)
	c.pool.drop2(c)
}

// closedConn gives back the place of a closed connection, once.
func (t *Transport) closedConn(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.gone {
		return
	}
	c.gone = true
	t.retireLocked(c)
	c.pool.open--
	t.open--
	c.pool.queue.wake(1)
	t.queue.wake(1)
}

// closeIdle closes the idle connections of p, or of all pools if p is nil.
func (t *Transport) closeIdle(p *pool) {
	t.closeIdleIf(func(c *conn) bool { return p == nil || c.pool == p })
}

func (t *Transport) closeIdleIf(cond func(*conn) bool) {
	var out []*conn
	t.mu.Lock()
	for e := t.idle.Front(); e != nil; {
		c := e.Value.(*conn)
		e = e.Next()
		if cond(c) {
			t.retireLocked(c)
			out = append(out, c)
		}
	}
	t.mu.Unlock()
	shutAll(out)
}
