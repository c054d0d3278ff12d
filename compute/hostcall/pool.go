package hostcall

import (
	"sync"
	"time"
)

// pool holds the sandboxes of a version that have served a request and wait for another.
type pool struct {
	mu      sync.Mutex
	waiting []*promise // the last one waits the shortest and is taken first
	closed  bool
	restart func(*incoming) // serves a request that a sandbox took and never looked at
}

// promise is a sandbox's request for another request. It begins to count only when the guest
// waits for it and has answered the request in hand: until then a fresh sandbox is faster.
type promise struct {
	future[*incoming] // nil: no request will come
	e                 *exec
	timeout           time.Duration
	timer             *time.Timer
	offered           bool
}

// ready joins the pool when it is asked the first time.
func (p *promise) ready() bool {
	if !p.offered && p.e.in.answered {
		p.offered = true
		p.e.pool.join(p)
	}
	return p.future.ready()
}

// drop gives the promise up. A request that came already goes to another sandbox.
func (p *promise) drop() {
	p.e.promise = nil
	if p.resolve(nil, nil) {
		p.e.pool.leave(p)
		return
	}
	if in, _ := p.result(); in != nil {
		p.e.pool.restart(in)
	}
}

func (q *pool) join(p *promise) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || p.timeout <= 0 {
		p.resolve(nil, nil)
		return
	}
	p.timer = time.AfterFunc(p.timeout, func() {
		if p.resolve(nil, nil) {
			q.leave(p)
		}
	})
	q.waiting = append(q.waiting, p)
}

func (q *pool) leave(p *promise) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
	}
	for i, w := range q.waiting {
		if w == p {
			q.waiting = append(q.waiting[:i], q.waiting[i+1:]...)
			return
		}
	}
}

// offer gives in to a waiting sandbox; it reports false if there is none.
func (q *pool) offer(in *incoming) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for n := len(q.waiting); n > 0; n = len(q.waiting) {
		p := q.waiting[n-1]
		q.waiting[n-1] = nil
		q.waiting = q.waiting[:n-1]
		p.timer.Stop()
		if p.resolve(in, nil) {
			return true
		}
	}
	return false
}

// close sends the waiting sandboxes home, and all that come later.
func (q *pool) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, p := range q.waiting {
		p.timer.Stop()
		p.resolve(nil, nil)
	}
	q.waiting = nil
}
