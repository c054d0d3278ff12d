package world

import (
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// wire is one connection over a path: two pipes, and what is on its way between them.
type wire struct {
	path  *path
	near  net.Conn // who dialed
	inner net.Conn // what near says comes out here
	far   net.Conn // the other end

	delay   time.Duration // one way, without what is added to the path
	flipped bool          // its PoP's end is far

	gone context.Context // ends when the connection does, whatever is still on its way
	end  context.CancelFunc
}

func newWire(p *path, far net.Conn, delay time.Duration, flipped bool) *wire {
	w := &wire{path: p, far: far, delay: delay, flipped: flipped}
	w.near, w.inner = net.Pipe()
	w.gone, w.end = context.WithCancel(context.Background())
	return w
}

// close ends the connection at both ends.
func (w *wire) close() {
	w.end()
	for _, c := range []net.Conn{w.near, w.inner, w.far} {
		c.Close()
	}
}

// run carries until both ends have been told of an end, or the path is cut.
func (w *wire) run() {
	var both sync.WaitGroup
	out, in := Out, In
	if w.flipped {
		out, in = In, Out
	}
	both.Go(func() { w.carry(out, w.far, w.inner) })
	both.Go(func() { w.carry(in, w.inner, w.far) })
	both.Wait()
	w.path.remove(w)
}

// flying is what is on its way.
type flying struct {
	b   []byte
	due time.Time
}

const (
	inFlight = 4096 // pieces that a connection has on its way at most: enough for long paths, and a bound
	maxPiece = 64 << 10
	minPiece = 1 << 10
)

// carry brings what one end says to the other, a while later, until either ends. What a way that is black has swallowed comes
// when it is open again, as TCP would send it anew: so does the word that the connection has ended.
func (w *wire) carry(way Way, to io.WriteCloser, from io.ReadCloser) {
	flight := make(chan flying, inFlight)
	go func() {
		defer close(flight)
		w.read(way, from, flight)
	}()
	broken := false
	for f := range flight {
		if broken {
			continue // until the reader has noticed, too
		}
		_ = sleep(w.gone, time.Until(f.due))
		err := w.path.open(w.gone, way)
		if err == nil {
			_, err = to.Write(f.b)
		}
		if broken = err != nil; broken {
			go func() {
				_ = w.path.open(w.gone, 1-way) // on which from is told
				from.Close()
			}()
		}
	}
	_ = w.path.open(w.gone, way)
	to.Close()
}

// read puts what an end says on its way.
func (w *wire) read(way Way, from io.Reader, flight chan<- flying) {
	buf := make([]byte, maxPiece)
	for last := (time.Time{}); ; {
		n, err := from.Read(buf[:w.path.piece()])
		if n > 0 {
			sent := w.path.send(way, n)
			due := sent.Add(w.path.time(w.delay))
			if due.Before(last) {
				due = last // nothing overtakes
			}
			last = due
			flight <- flying{append([]byte(nil), buf[:n]...), due}
			_ = sleep(w.gone, time.Until(sent)-ahead)
		}
		if err != nil {
			return
		}
	}
}
