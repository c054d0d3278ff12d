package compute

import (
	"sync"
	"sync/atomic"
	"time"
)

// Packing. A guest that waits for a slow backend holds its memory for nothing, and thousands may
// wait at once. So what a guest has written is compressed once it has waited for a while, and its
// pages are given back. When the wait ends the guest's own goroutine puts everything
// back before the guest goes on, with a slot in hand, so that few are unpacked at a time.
//
// Whose wait is short must not pay for it: a wait costs two writes of a number. The packer looks
// at the instances a few times in the delay, and packs those that it finds in the same wait again and again.

// packRounds is how often the packer must find an instance in the same wait.
const packRounds = 4

// packShare is how long the packer rests after it has worked, in units of the work: it takes no
// more than a fifth of one processor from guests that run.
const packShare = 4

// nap is the part of an instance that has to do with its waits. The guest's goroutine and
// the packer share it: who moves state away from a wait's number may touch the memory.
type nap struct {
	state atomic.Uint64 // number of the present wait; 0: the guest runs, or the packer has its memory

	mu     sync.Mutex // held while packing
	packed bool
	failed bool // the memory does not compress, or cannot be looked at

	// Of the guest's goroutine.
	count uint64 // of waits so far
	held  bool   // the wait touches the guest's memory
	vain  bool   // not to be tried again in this run

	// Of the packer.
	seen   uint64 // state when it looked last
	rounds int    // how often it found the same
}

// begin marks the guest as waiting: from here to end nobody may touch its memory.
func (n *nap) begin() {
	n.count++
	if !n.held && !n.vain {
		n.state.Store(n.count)
	}
}

// end is what the guest's goroutine calls after a wait; it reports whether the memory is packed
// and must be unpacked.
func (n *nap) end() (packed bool) {
	if n.held || n.vain || n.state.CompareAndSwap(n.count, 0) {
		return false
	}
	n.mu.Lock() // the packer is at it, or was
	defer n.mu.Unlock()
	packed, n.vain = n.packed, n.failed
	n.packed, n.failed = false, false
	return packed
}

// due notes another look at the instance and reports whether it is time to pack it.
func (n *nap) due() bool {
	now := n.state.Load()
	if now == 0 || now != n.seen {
		n.seen, n.rounds = now, 0
		return false
	}
	n.rounds++
	return n.rounds >= packRounds
}

// take makes the memory the packer's until n.mu is unlocked, unless the wait has ended.
func (n *nap) take() bool {
	n.mu.Lock()
	if !n.state.CompareAndSwap(n.seen, 0) {
		n.mu.Unlock()
		return false
	}
	return true
}

// packer packs the memory of an engine's instances that wait for long.
type packer struct {
	stats *Stats
	work  packing

	mu  sync.Mutex
	all map[*instance]struct{} // every instance there is
}

func newPacker(s *Stats) *packer { return &packer{stats: s, all: map[*instance]struct{}{}} }

func (p *packer) add(i *instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all[i] = struct{}{}
}

func (p *packer) remove(i *instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.all, i)
}

// run packs until stop is closed.
func (p *packer) run(delay time.Duration, stop <-chan struct{}) {
	t := time.NewTicker(max(delay/packRounds, time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
		}
		for _, i := range p.due() {
			began := time.Now()
			p.pack(i)
			select {
			case <-stop:
				return
			case <-time.After(packShare * time.Since(began)):
			}
		}
	}
}

// due looks at every instance once.
func (p *packer) due() (list []*instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.all {
		if i.nap.due() {
			list = append(list, i)
		}
	}
	return list
}

func (p *packer) pack(i *instance) {
	n := &i.nap
	if !n.take() {
		return
	}
	defer n.mu.Unlock()
	n.packed = i.mem.region.pack(i.mem.image, &p.work)
	n.failed = !n.packed
	if n.packed {
		p.stats.Packed.Add(1)
	}
}
