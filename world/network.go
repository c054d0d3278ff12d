package world

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
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

// path is a PoP's access to the network: what is done to it by hand. Its connections are cut together.
type path struct {
	mu    sync.Mutex
	extra time.Duration // added to each way
	loss  float64       // share of writes that have to be sent again, as TCP would
	cut   bool
	conns map[net.Conn]struct{}
}

// way is what lies between two places: a PoP and the core, or two PoPs. Its connections are delayed in both directions.
type way struct {
	delay time.Duration // in one direction, without what is added
	ends  []*path
}

var errCut = errors.New("the network is cut here")

// retransmit is how much later something comes that was lost once.
const retransmit = 200 * time.Millisecond

// dialed returns dial with w's delays.
func (w *way) dialed(dial func(context.Context) (net.Conn, error)) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		if w.isCut() {
			return nil, errCut
		}
		if err := sleep(ctx, 2*w.time()); err != nil { // the handshake
			return nil, err
		}
		far, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		near, inner := net.Pipe()
		for _, p := range w.ends {
			if !p.add(near, inner, far) {
				w.remove(near, inner, far)
				return nil, errCut
			}
		}
		var both sync.WaitGroup
		for _, c := range [][2]net.Conn{{inner, far}, {far, inner}} {
			both.Go(func() { w.carry(c[1], c[0]) })
		}
		go func() {
			both.Wait()
			w.remove(near, inner, far)
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

// time returns how long something takes that is sent now.
func (w *way) time() time.Duration {
	d := w.delay
	for _, p := range w.ends {
		d += p.added()
	}
	return d
}

func (w *way) isCut() bool {
	return slices.ContainsFunc(w.ends, func(p *path) bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.cut
	})
}

func (w *way) remove(conns ...net.Conn) {
	for _, p := range w.ends {
		p.remove(conns...)
	}
}

func (p *path) added() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.extra
	if p.loss > 0 && rand.Float64() < p.loss {
		d += retransmit
	}
	return d
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
func (w *way) carry(to io.Writer, from io.Reader) {
	air := make(chan flying, inFlight)
	go func() {
		defer close(air)
		buf := make([]byte, 64<<10)
		last := time.Time{}
		for {
			n, err := from.Read(buf)
			if n > 0 {
				due := time.Now().Add(w.time())
				if due.Before(last) {
					due = last // nothing overtakes
				}
				last = due
				air <- flying{append([]byte(nil), buf[:n]...), due}
			}
			if err != nil {
				return
			}
		}
	}()
	broken := false
	for f := range air {
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
