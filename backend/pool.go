package backend

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptrace"
	"slices"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
)

// A pool holds the connections of all backends with one key.
type pool struct {
	key poolKey

	tlsOnce sync.Once
	tls     *tls.Config
	tlsErr  error

	// Guarded by Transport.mu.
	elem    *list.Element // in Transport.recent
	used    time.Time     // last
	users   int           // requests between asking for a connection and having one
	open    int           // connections, and those being dialled
	dialing int
	speaks2 bool    // the origin negotiated HTTP/2 last time, so one connection will do
	idle1   []*conn // idle HTTP/1.1 connections, the longest idle first
	conns2  []*conn // HTTP/2 connections that take requests
	queue   waiters // requests waiting for a connection of this pool
}

// waiters are requests waiting for their turn, the oldest first. Who is woken tries
// again, and goes to the end of the queue if another was faster.
type waiters struct{ list []*waiter }

// A waiter is in the queue of its pool, and in the transport's if the node is full.
type waiter struct {
	woken bool
	ch    chan struct{} // closed when woken
}

func (w *waiters) remove(x *waiter) {
	if i := slices.Index(w.list, x); i >= 0 {
		w.list = slices.Delete(w.list, i, i+1)
	}
}

// wake wakes up to n waiters and reports whether there was one.
func (w *waiters) wake(n int) bool {
	i, any := 0, false
	for ; i < len(w.list) && n > 0; i++ {
		if x := w.list[i]; !x.woken {
			x.woken = true
			close(x.ch)
			any = true
			n--
		}
	}
	w.list = slices.Delete(w.list, 0, i)
	return any
}

var (
	errConnLimit = errors.New("all connections are in use")
	errPoolLimit = errors.New("all pools are in use")
	errClosed    = errors.New("transport is closed")
)

// acquire returns a connection for one request: an idle one, a new one, or the next to
// come free within the connect timeout. It must go back by release.
func (t *Transport) acquire(ctx context.Context, b *wedge.Backend, key poolKey, h1 bool) (*conn, error) {
	p, err := t.enter(key)
	if err != nil {
		return nil, err
	}
	defer t.leave(p)
	patience := orDefault(b.ConnectTimeout, wedge.DefaultConnectTimeout)
	var timer *time.Timer // of waiting, over all rounds
	for {
		c, turn, w := t.take(p, h1)
		switch turn {
		case refused:
			return nil, failure(wedge.FailureInternal, errClosed)
		case reuse:
			if c.fit() {
				t.stats.reused.Add(1)
				gotConn(ctx, c, true)
				return c, nil
			}
			t.unfit(c)
			continue
		case evict:
			c.shut()
			continue
		case fresh:
			return t.fresh(ctx, p, b, h1, patience)
		}
		if timer == nil {
			timer = time.NewTimer(patience)
			defer timer.Stop()
		}
		if !t.await(ctx, p, w, timer) {
			switch {
			case ctx.Err() != nil:
				return nil, callerGone(ctx)
			case turn == join:
				return nil, failure(wedge.FailureConnectTimeout, context.DeadlineExceeded)
			}
			return nil, failure(wedge.FailureConnectionLimit, errConnLimit)
		}
	}
}

// A turn is what a request that wants a connection does next.
type turn int

const (
	wait    turn = iota // until a connection comes free
	join                // wait for the connection that another request is making
	reuse               // the connection found
	fresh               // dial; room is reserved
	evict               // close the connection found and try again
	refused             // the transport is closed
)

// take decides the turn; whoever is to wait is queued already.
func (t *Transport) take(p *pool, h1 bool) (*conn, turn, *waiter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c, turn := t.takeLocked(p, h1)
	if turn != wait && turn != join {
		return c, turn, nil
	}
	w := &waiter{ch: make(chan struct{})}
	p.queue.list = append(p.queue.list, w)
	if t.open >= t.cfg.MaxConnections {
		t.queue.list = append(t.queue.list, w)
	}
	return nil, turn, w
}

func (t *Transport) takeLocked(p *pool, h1 bool) (*conn, turn) {
	now := time.Now()
	if t.closed {
		return nil, refused
	}
	if !h1 {
		if c, turn, ok := t.take2Locked(p, now); ok {
			return c, turn
		}
	}
	for len(p.idle1) > 0 {
		c := p.idle1[len(p.idle1)-1]
		if t.staleLocked(c, now) {
			t.retireLocked(c)
			return c, evict
		}
		t.unparkLocked(c)
		if c.state.CompareAndSwap(idle, taken) {
			t.useLocked(c, now)
			return c, reuse
		}
		c.retired = true // condemned: net/http is closing it
	}
	if !h1 && p.speaks2 && p.dialing > 0 {
		return nil, join
	}
	return t.roomLocked(p)
}

// take2Locked looks for an HTTP/2 connection with room for a stream.
func (t *Transport) take2Locked(p *pool, now time.Time) (*conn, turn, bool) {
	for _, c := range p.conns2 {
		if c.streams == 0 && t.staleLocked(c, now) {
			t.retireLocked(c)
			return c, evict, true
		}
		if !c.full && !c.spent(now) {
			t.useLocked(c, now)
			return c, reuse, true
		}
	}
	return nil, wait, false
}

// staleLocked reports whether an idle connection is past its time.
func (t *Transport) staleLocked(c *conn, now time.Time) bool {
	return c.spent(now) || c.idleElem != nil && now.Sub(c.idleSince) >= c.pool.keepIdle()
}

// roomLocked reserves room for a new connection, or says how to get some.
func (t *Transport) roomLocked(p *pool) (*conn, turn) {
	if p.open >= p.limit(t) {
		return nil, wait
	}
	if t.open >= t.cfg.MaxConnections {
		e := t.idle.Front()
		if e == nil {
			return nil, wait
		}
		c := e.Value.(*conn)
		t.retireLocked(c)
		return c, evict
	}
	p.open++
	t.open++
	p.dialing++
	return nil, fresh
}

func (p *pool) limit(t *Transport) int {
	if n := p.key.maxConns; n > 0 {
		return min(n, t.cfg.MaxPerBackend)
	}
	return t.cfg.MaxPerBackend
}

func (p *pool) keepIdle() time.Duration { return orDefault(p.key.keepIdle, wedge.DefaultKeepAlive) }

// useLocked counts a request onto c.
func (t *Transport) useLocked(c *conn, now time.Time) {
	if c.h2 {
		t.unparkLocked(c)
	}
	c.uses++
	c.streams++
	if c.h2 && c.spent(now) {
		c.pool.drop2(c)
	}
}

func (p *pool) drop2(c *conn) {
	if i := slices.Index(p.conns2, c); i >= 0 {
		p.conns2 = slices.Delete(p.conns2, i, i+1)
	}
}

// fresh dials a connection, for which takeLocked reserved room.
func (t *Transport) fresh(ctx context.Context, p *pool, b *wedge.Backend, h1 bool, patience time.Duration) (*conn, error) {
	c := &conn{t: t, pool: p, born: time.Now(), uses: 1, streams: 1}
	dctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := t.connect(dctx, c, b, h1)
	if err == nil && c.h2 {
		if !c.fit() {
			err = failure(wedge.FailureTerminated, errors.New("origin closed the connection at once"))
		}
		c.cc.SetStateHook(func(*http.ClientConn) { t.changed(c) })
	}
	t.mu.Lock()
	p.dialing--
	if err == nil {
		p.speaks2 = c.h2 || h1 && p.speaks2
		if c.h2 && !c.gone && !c.spent(c.born) {
			p.conns2 = append(p.conns2, c)
		}
	}
	p.queue.wake(len(p.queue.list)) // whatever came of it, those who joined must look again
	t.mu.Unlock()
	if err != nil {
		t.discard(c)
		if ctx.Err() != nil {
			return nil, callerGone(ctx)
		}
		return nil, err
	}
	gotConn(ctx, c, false)
	return c, nil
}

// discard undoes the reservation of a connection that never served.
func (t *Transport) discard(c *conn) {
	if c.Conn == nil {
		t.closedConn(c)
		return
	}
	c.shut()
}

// await blocks until w is woken, and returns false if the time to wait is over or the
// caller has gone instead.
func (t *Transport) await(ctx context.Context, p *pool, w *waiter, timer *time.Timer) bool {
	ok := true
	select {
	case <-w.ch:
	case <-timer.C:
		ok = false
	case <-ctx.Done():
		ok = false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p.queue.remove(w)
	t.queue.remove(w)
	if !ok && w.woken { // woken just now: the turn goes to the next
		p.queue.wake(1)
		t.queue.wake(1)
	}
	return ok
}

// enter returns the pool for key, making it if there is none.
func (t *Transport) enter(key poolKey) (*pool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.pools[key]
	if p == nil {
		if len(t.pools) >= t.cfg.MaxPools && !t.forgetOneLocked() {
			return nil, failure(wedge.FailureConnectionLimit, errPoolLimit)
		}
		p = &pool{key: key, speaks2: key.grpc}
		t.pools[key] = p
		p.elem = t.recent.PushBack(p)
	}
	t.recent.MoveToBack(p.elem)
	p.used = time.Now()
	p.users++
	return p, nil
}

func (t *Transport) leave(p *pool) {
	t.mu.Lock()
	p.users--
	t.mu.Unlock()
}

func gotConn(ctx context.Context, c *conn, reused bool) {
	if tr := httptrace.ContextClientTrace(ctx); tr != nil && tr.GotConn != nil {
		tr.GotConn(httptrace.GotConnInfo{Conn: c, Reused: reused, WasIdle: reused})
	}
}

// unusedFor is how long a pool without connections keeps what it knows of its origin.
const unusedFor = time.Minute

// sweep closes connections idle for too long and forgets pools out of use.
func (t *Transport) sweep(now time.Time) {
	t.closeIdleIf(func(c *conn) bool { return t.staleLocked(c, now) })
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := t.recent.Front(); e != nil; {
		p := e.Value.(*pool)
		e = e.Next()
		if now.Sub(p.used) < unusedFor {
			return
		}
		if p.users == 0 && p.open == 0 {
			t.forgetLocked(p)
		}
	}
}

func (t *Transport) forgetLocked(p *pool) {
	delete(t.pools, p.key)
	t.recent.Remove(p.elem)
}

// maxSearch bounds the look for a pool to forget.
const maxSearch = 64

// forgetOneLocked makes room for a pool by forgetting one that serves no request, the
// least recently used first, and closing its connections.
func (t *Transport) forgetOneLocked() bool {
	e := t.recent.Front()
	for range maxSearch {
		if e == nil {
			return false
		}
		p := e.Value.(*pool)
		if idle := p.idleLocked(); p.users == 0 && len(idle) == p.open {
			for _, c := range idle {
				t.retireLocked(c)
			}
			t.forgetLocked(p)
			go shutAll(idle) // closing may call back for the lock
			t.stats.forgotten.Add(1)
			return true
		}
		e = e.Next()
	}
	return false
}

// idleLocked returns p's idle connections.
func (p *pool) idleLocked() []*conn {
	out := slices.Clone(p.idle1)
	for _, c := range p.conns2 {
		if c.idleElem != nil {
			out = append(out, c)
		}
	}
	return out
}
