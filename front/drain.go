package front

import (
	"context"
	"errors"
	"io"
	"net"
	"time"
)

// How long a drain waits for what.
const (
	// For the first request of a connection, from when it was accepted: its client could not know.
	freshGrace = time.Second
	// Clients that send one request after the other are told with the next response that their connection ends. When no
	// request has come for lull, those left are idle; after maxLull they are taken for idle.
	lull    = 50 * time.Millisecond
	maxLull = time.Second
	// Until the front says that it is calm, from the drain's beginning.
	calmTime = 2 * time.Second
	// For handlers to return once their connections are cut.
	cutGrace = time.Second
	// For bytes of a request to be read that came just as its connection was to end.
	lastRead = time.Millisecond
)

// ErrKilled is the cause of a context that ends Run without a drain: connections are cut.
var ErrKilled = errors.New("killed")

func (f *Front) drain(cancel context.CancelCauseFunc, patience time.Duration) {
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	calm, stopCalm := context.WithTimeout(ctx, calmTime)
	defer stopCalm()
	f.draining.Store(true)
	if patience > 0 {
		f.lastAccepts()
	}
	f.closeListeners()
	f.accepting.Wait() // what was accepted is known
	f.cfg.Log.Info("draining", "requests", f.stats.inFlight.Load())
	until(ctx, freshGrace, func() bool { return !f.any((*rawConn).isFresh) })
	h2done := make(chan struct{})
	go func() {
		f.h2.Shutdown(ctx) // tells clients, and ignores requests sent after that, which they know
		close(h2done)
	}()
	f.untilLull(ctx)
	f.ending.Store(true)
	f.each(everyConn, (*rawConn).wake)
	// Not h1.Shutdown: it closes a connection on which the first bytes of a request have come.
	until(calm, calmTime, func() bool { return !f.any((*rawConn).inUse) && f.stats.inFlight.Load() <= f.stats.taken.Load() })
	close(f.over)
	close(f.calm)
	until(ctx, patience, func() bool { return !f.any(everyConn) && f.stats.inFlight.Load() == 0 })
	if n := f.stats.inFlight.Load(); n > 0 {
		f.cfg.Log.Warn("drain timeout ended, cutting requests", "requests", n)
	}
	cancel(errDrained)
	f.h1.Close()
	f.h2.Close()
	f.each(everyConn, closeConn)
	<-h2done
	until(context.Background(), cutGrace, func() bool { return f.stats.inFlight.Load() == 0 })
	f.turns.close()
}

// until looks at cond, less and less often, until it holds, ctx ends or limit has passed.
func until(ctx context.Context, limit time.Duration, cond func() bool) {
	ctx, stop := context.WithTimeout(ctx, limit)
	defer stop()
	for wait := time.Millisecond; !cond(); wait = min(2*wait, 10*time.Millisecond) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// untilLull waits until those clients that are busy have had a response that tells them to connect anew.
func (f *Front) untilLull(ctx context.Context) {
	last, since := f.stats.requests.Load(), time.Now()
	until(ctx, maxLull, func() bool {
		if n := f.stats.requests.Load(); n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) >= lull || !f.any(everyConn)
	})
}

func everyConn(*rawConn) bool { return true }

func closeConn(c *rawConn) { c.Close() }

func (c *rawConn) isFresh() bool {
	return c.info.requests.Load() == 0 && time.Since(c.accepted) < freshGrace
}

// inUse reports whether HTTP is spoken on the connection.
func (c *rawConn) inUse() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.onClose == nil
}

// any reports whether some open connection is of a kind.
func (f *Front) any(kind func(*rawConn) bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		if kind(c) {
			return true
		}
	}
	return false
}

// each calls do with all open connections of a kind.
func (f *Front) each(kind func(*rawConn) bool, do func(*rawConn)) {
	f.mu.Lock()
	var all []*rawConn
	for c := range f.conns {
		if kind(c) {
			all = append(all, c)
		}
	}
	f.mu.Unlock()
	for _, c := range all {
		do(c)
	}
}

// The end of an idle connection. A request that has come to this machine is answered, so a connection is not closed from
// outside: whoever waits for its next request is woken, looks once more, and ends it if there is nothing.

// await reads the first bytes of an HTTP/1.1 message.
func (c *h1Conn) await(p []byte) (int, error) {
	raw := c.info.raw
	raw.between.Store(true)
	n, err := c.Conn.Read(p)
	raw.between.Store(false)
	return n, err
}

// readBetween is Read between two messages.
func (c *rawConn) readBetween(p []byte) (int, error) {
	c.mu.Lock()
	c.waiting = !c.front.ending.Load()
	wait := c.waiting
	c.mu.Unlock()
	if !wait {
		return c.readLast(p)
	}
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	woken := !c.waiting
	c.waiting = false
	c.mu.Unlock()
	if n > 0 {
		c.between.Store(false) // with TLS the message may not be here yet, but it has begun
	}
	if !woken {
		return n, err
	}
	if e := net.Error(nil); n == 0 && errors.As(err, &e) && e.Timeout() {
		return c.readLast(p)
	}
	c.Conn.SetReadDeadline(time.Now().Add(c.front.cfg.ReadHeaderTimeout))
	return n, err
}

// readLast reads what has come, or ends the connection.
func (c *rawConn) readLast(p []byte) (int, error) {
	c.Conn.SetReadDeadline(time.Now().Add(lastRead))
	n, err := c.Conn.Read(p)
	if n == 0 {
		return 0, io.EOF
	}
	c.between.Store(false)
	c.Conn.SetReadDeadline(time.Now().Add(c.front.cfg.ReadHeaderTimeout))
	return n, err
}

// wake ends the wait for a next request, if that is what the connection's reader does.
func (c *rawConn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting {
		c.waiting = false
		c.Conn.SetReadDeadline(time.Unix(1, 0))
	}
}
