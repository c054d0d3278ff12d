package dns

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// Over UDP anybody can ask in somebody else's name. So each network is answered so many times a second and no more: a
// flood that answers would add to is cut short. Half of what is above gets an answer without records, no longer than
// the question, which has an honest resolver ask again over TCP; the rest gets none.
const (
	rateOfNet  = 1000 // answers a second, and at once
	netBits4   = 24
	netBits6   = 56
	rateTables = 1 << 14 // networks share what they are counted by if there are more
)

// rate counts answers by network.
type rate struct {
	seed maphash.Seed // so that nobody can choose whom to share with

	mu    sync.Mutex
	count [rateTables]struct {
		left  float64 // answers
		since time.Time
		over  bool // the last one that was too much was not answered
	}
}

// verdict is what becomes of a question.
type verdict int

const (
	whole verdict = iota // it is answered
	short                // by an answer without records
	none                 // not at all
)

// ask counts a question from an address.
func (r *rate) ask(from netip.Addr, now time.Time) verdict {
	bits := netBits6
	if from.Is4() {
		bits = netBits4
	}
	net, _ := from.WithZone("").Prefix(bits)
	i := maphash.Comparable(r.seed, net) % rateTables
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &r.count[i]
	c.left = min(rateOfNet, c.left+rateOfNet*now.Sub(c.since).Seconds())
	c.since = now
	if c.left >= 1 {
		c.left--
		return whole
	}
	if c.over = !c.over; c.over {
		return short
	}
	return none
}
