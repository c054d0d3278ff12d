package world

import (
	"context"
	"errors"
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

// Way is a direction of a path, as its PoP sees it.
type Way int

const (
	Out Way = iota // from the PoP
	In             // to the PoP
	ways
)

// path is a PoP's way into the network, to the core or another PoP. Its connections are delayed both ways, share what it carries, and are cut together.
type path struct {
	mu     sync.Mutex
	delay  time.Duration // one way, to the core
	extra  time.Duration // added by hand
	loss   float64       // share of writes that have to be sent again, as TCP would
	cut    bool
	black  [ways]bool      // nothing arrives, and nobody is told
	opened chan struct{}   // closed, and replaced, when a way may be black no more
	rate   float64         // bytes a second that each way carries; 0: no bound
	free   [ways]time.Time // when each has carried what it was given
	wires  map[*wire]struct{}
}

func newPath(delay time.Duration) *path {
	return &path{delay: delay, opened: make(chan struct{}), wires: map[*wire]struct{}{}}
}

var errCut = errors.New("the network is cut here")

const (
	retransmit = 200 * time.Millisecond // how much later something comes that was lost once
	ahead      = 200 * time.Millisecond // how long what was sent may wait until a way is free; then its sender waits
)

// dialed returns dial with what p does to connections to the core.
func (p *path) dialed(dial func(context.Context) (net.Conn, error)) func(context.Context) (net.Conn, error) {
	return p.leg(p.delay, false, dial)
}

// leg returns dial with what p does to connections that are delayed so much each way besides. Those that come to p's PoP are
// flipped: what its own end says is on the way out all the same.
func (p *path) leg(delay time.Duration, flipped bool, dial func(context.Context) (net.Conn, error)) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		for _, way := range []Way{Out, In} { // the handshake
			if err := p.open(ctx, way); err != nil {
				return nil, err
			}
			if err := sleep(ctx, p.time(delay)); err != nil {
				return nil, err
			}
		}
		far, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		w := newWire(p, far, delay, flipped)
		if !p.add(w) {
			w.close()
			return nil, errCut
		}
		go w.run()
		return w.near, nil
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

// open waits until a way is not black, or the path is cut.
func (p *path) open(ctx context.Context, way Way) error {
	for {
		p.mu.Lock()
		cut, black, opened := p.cut, p.black[way], p.opened
		p.mu.Unlock()
		if cut {
			return errCut
		}
		if !black {
			return nil
		}
		select {
		case <-opened:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// time is how long something takes that is sent now, where it takes delay besides.
func (p *path) time(delay time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := delay + p.extra
	if p.loss > 0 && rand.Float64() < p.loss {
		d += retransmit
	}
	return d
}

// send returns when the way has carried so many bytes, behind those that it was given before.
func (p *path) send(way Way, bytes int) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.rate == 0 {
		return now
	}
	if p.free[way].Before(now) {
		p.free[way] = now
	}
	p.free[way] = p.free[way].Add(time.Duration(float64(bytes) / p.rate * float64(time.Second)))
	return p.free[way]
}

// piece is how many bytes are carried at once: few of a slow path, so that they come little by little.
func (p *path) piece() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rate == 0 {
		return maxPiece
	}
	return max(minPiece, min(maxPiece, int(p.rate/50)))
}

func (p *path) add(w *wire) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		return false
	}
	p.wires[w] = struct{}{}
	return true
}

func (p *path) remove(w *wire) {
	w.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.wires, w)
}

// set changes the path. What waited for that goes on, and all connections of one that is cut end.
func (p *path) set(change func(*path)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
	close(p.opened)
	p.opened = make(chan struct{})
	if !p.cut {
		return
	}
	for w := range p.wires {
		w.close()
	}
	clear(p.wires)
}

// state says in a word how the path is, "" if it is open.
func (p *path) state() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.cut:
		return "cut"
	case p.black[Out] && p.black[In]:
		return "black"
	case p.black[Out]:
		return "black out"
	case p.black[In]:
		return "black in"
	}
	return ""
}
