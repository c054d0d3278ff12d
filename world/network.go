package world

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
)

// Light takes a millisecond for 200 km of fibre, which is never laid straight, and each end adds a little.
const (
	fibre  = 200.0 // km a millisecond
	detour = 1.4
	ends   = 500 * time.Microsecond
)

// oneWay returns how long it takes from one place to another.
func oneWay(a, b *wedge.PoP) time.Duration {
	return ends + time.Duration(a.Distance(b)/fibre*detour*float64(time.Millisecond))
}

// path is the way between a PoP and the core. Its connections are delayed both ways, and cut together.
type path struct {
	mu    sync.Mutex
	delay time.Duration // one way
	extra time.Duration // added by hand
	loss  float64       // share of writes that have to be sent again, as TCP would
	cut   bool
	conns map[net.Conn]struct{}
}

var errCut = errors.New("the network is cut here")

// retransmit is how much later something comes that was lost once.
const retransmit = 200 * time.Millisecond

// dialed returns dial with p's delays.
func (p *path) dialed(dial func(context.Context) (net.Conn, error)) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		if p.isCut() {
			return nil, errCut
		}
		if err := sleep(ctx, 2*p.time()); err != nil { // the handshake
			return nil, err
		}
		far, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		near, inner := net.Pipe()
		if !p.add(near, inner, far) {
			return nil, errCut
		}
		var w sync.WaitGroup
		for _, way := range [][2]net.Conn{{inner, far}, {far, inner}} {
			w.Go(func() { p.carry(way[1], way[0]) })
		}
		go func() {
			w.Wait()
			p.remove(near, inner, far)
		}()
		return near, nil
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *path) time() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.delay + p.extra
	if p.loss > 0 && rand.Float64() < p.loss {
		d += retransmit
	}
	return d
}

func (p *path) isCut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut
}

func (p *path) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		for _, c := range conns {
			c.Close()
		}
		return false
	}
	for _, c := range conns {
		p.conns[c] = struct{}{}
	}
	return true
}

func (p *path) remove(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(p.conns, c)
	}
}

// set cuts the path, or heals it.
func (p *path) set(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	if !cut {
		return
	}
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
}

// flying is what is on its way.
type flying struct {
	b   []byte
	due time.Time
}

// inFlight is how many pieces a connection has on its way at most: enough for long paths, and a bound.
const inFlight = 4096

// carry brings what one connection says to another, a while later, until either ends.
func (p *path) carry(to io.Writer, from io.Reader) {
	way := make(chan flying, inFlight)
	go func() {
		defer close(way)
		buf := make([]byte, 64<<10)
		last := time.Time{}
		for {
			n, err := from.Read(buf)
			if n > 0 {
				due := time.Now().Add(p.time())
				if due.Before(last) {
					due = last // nothing overtakes
				}
				last = due
				way <- flying{append([]byte(nil), buf[:n]...), due}
			}
			if err != nil {
				return
			}
		}
	}()
	broken := false
	for f := range way {
		if broken {
			continue // until the reader has noticed, too
		}
		time.Sleep(time.Until(f.due))
		_, err := to.Write(f.b)
		broken = err != nil
		if c, ok := from.(io.Closer); ok && broken {
			c.Close()
		}
	}
	if c, ok := to.(io.Closer); ok {
		c.Close()
	}
}
