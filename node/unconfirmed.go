package node

import (
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
)

// A purge reaches all PoPs at once, and some sooner than others. A PoP that fetches through a shield could get from it, after its own
// purge, what the shield is about to purge. So as long as the shield has not confirmed a purge, each fetch that goes there carries it,
// and the shield does it before it looks into its cache. It confirms by saying so of this purge, or, if that was not heard,
// when its beat says that it has got so far in the log of purges.

// unconfirmed are the purges that shields have not said they did.
type unconfirmed struct {
	shields func(service string) []string // PoPs through which this one fetches for a service
	hear    func(subject string, f func(subject string, data []byte)) (stop func(), err error)
	log     *slog.Logger

	said recentIDs // what shields have said they did, each with the shield's name

	mu      sync.Mutex
	heard   map[string]bool // shields whose words are listened to
	waiting map[string]map[string]*waitingPurge
}

// waitingPurge is a purge that a shield has not confirmed.
type waitingPurge struct {
	purge wedge.Purge
	seq   uint64 // of its entry in the log; 0: it is not there yet, as far as is known
	least uint64 // merged: the highest of those before it
	since time.Time

	merged bool // it stands for many, what they named is forgotten, and the shield's word on one of them is not enough
}

const (
	maxUnconfirmed = 4096 // of one shield: beyond them those of a service are merged
	maxCarried     = 64   // with one fetch: beyond them, or if they were merged, it goes to the origin instead
	maxHeard       = 256  // shields that are listened to; of others the beat has to say it
)

func newUnconfirmed() unconfirmed {
	return unconfirmed{heard: map[string]bool{}, waiting: map[string]map[string]*waitingPurge{}}
}

// listen hears a shield's words from now on.
func (u *unconfirmed) listen(shield string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.heard[shield] || len(u.heard) >= maxHeard {
		return
	}
	u.heard[shield] = true
	_, err := u.hear(appliedSubject+shield, func(_ string, data []byte) { // until the link is closed
		var a applied
		if json.Unmarshal(data, &a) == nil && a.PoP == shield {
			u.applied(shield, a.IDs)
		}
	})
	if err != nil {
		u.log.Error("hear a shield", "pop", shield, "err", err)
	}
}

// expect notes a purge, which is to be done here after that.
func (u *unconfirmed) expect(p wedge.Purge) {
	for _, shield := range u.shields(p.Service) {
		if u.said.has(shield + " " + p.ID) {
			continue
		}
		u.mu.Lock()
		w := u.waiting[shield]
		if w == nil {
			w = map[string]*waitingPurge{}
			u.waiting[shield] = w
		}
		if w[p.ID] == nil {
			w[p.ID] = &waitingPurge{purge: p, since: time.Now()}
		}
		if len(w) > maxUnconfirmed {
			u.waiting[shield] = merged(w, p)
		}
		u.mu.Unlock()
	}
}

// merged makes one of all purges of a service, known by the last, which of p's is p.
func merged(w map[string]*waitingPurge, p wedge.Purge) map[string]*waitingPurge {
	services := map[string]*waitingPurge{}
	for _, one := range w {
		all := services[one.purge.Service]
		if all == nil {
			all = &waitingPurge{purge: wedge.Purge{ID: one.purge.ID, Service: one.purge.Service}, since: one.since, seq: one.seq, merged: true}
			services[one.purge.Service] = all
		}
		all.least = max(all.least, one.seq, one.least)
		if all.seq > 0 && one.seq == 0 || one.purge.ID == p.ID { // it comes later than all that are in the log
			all.purge.ID, all.seq = one.purge.ID, one.seq
		}
	}
	fresh := map[string]*waitingPurge{}
	for _, all := range services {
		fresh[all.purge.ID] = all
	}
	return fresh
}

// carry returns the purges of a service that a fetch through a shield has to bring along; without ok the shield is to be done without.
func (u *unconfirmed) carry(shield, service string) (list []wirePurge, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, one := range u.waiting[shield] {
		if one.purge.Service != service {
			continue
		}
		if one.merged || len(list) == maxCarried {
			return nil, false
		}
		list = append(list, wireOf(one.purge))
	}
	return list, true
}

// placed is told which entry of the log a purge is in.
func (u *unconfirmed) placed(id string, seq uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, w := range u.waiting {
		if one := w[id]; one != nil {
			one.seq = seq
		}
	}
}

// applied is told which purges a shield has done.
func (u *unconfirmed) applied(shield string, ids []string) {
	for _, id := range ids {
		u.said.add(shield + " " + id)
	}
	u.drop(shield, func(one *waitingPurge) bool { return !one.merged && slices.Contains(ids, one.purge.ID) })
}

// got is told how far a shield has got in the log.
func (u *unconfirmed) got(shield string, seq uint64) {
	u.drop(shield, func(one *waitingPurge) bool { return one.seq > 0 && seq >= max(one.seq, one.least) })
}

// left is told that a shield is a member no more: nothing comes from it now.
func (u *unconfirmed) left(shield string) { u.drop(shield, func(*waitingPurge) bool { return true }) }

// drop forgets what a shield has done, and what is so old that it has to validate all it has before it gives it out.
func (u *unconfirmed) drop(shield string, done func(*waitingPurge) bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id, one := range u.waiting[shield] {
		if done(one) || time.Since(one.since) > purgeLog.Keep {
			delete(u.waiting[shield], id)
		}
	}
}

// before returns up to which entry of the log, seq at most, all are confirmed: a PoP that starts anew begins behind it, and so knows
// again what it has to carry.
func (u *unconfirmed) before(seq uint64) uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, w := range u.waiting {
		for _, one := range w {
			if one.seq > 0 && one.purge.ID != "" && time.Since(one.since) <= purgeLog.Keep {
				seq = min(seq, one.seq-1)
			}
		}
	}
	return seq
}

// begin is told of a shield that a service has from now on. What the shield may have missed before, up to an entry of the log, nobody
// noted, so it is done without until it has got there.
func (u *unconfirmed) begin(shield, service string, seq uint64) {
	u.listen(shield)
	if seq == 0 {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.waiting[shield] == nil {
		u.waiting[shield] = map[string]*waitingPurge{}
	}
	u.waiting[shield]["before "+service] = &waitingPurge{purge: wedge.Purge{Service: service}, seq: seq, since: time.Now(), merged: true}
}

// shieldsOf returns the PoPs through which this one fetches for a service, or has.
func (n *Node) shieldsOf(service string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Keys(n.shields[service]))
}

// noteShields notes those that a version names. The node's lock is held.
func (n *Node) noteShields(service string, v *wedge.Version) {
	for i := range v.Backends {
		if s := v.Backends[i].ShieldPoP; s != "" {
			n.noteShield(service, s)
		}
	}
}

// noteShield reports whether a PoP is noted as a shield of a service. The node's lock is held.
func (n *Node) noteShield(service, pop string) bool {
	if _, noted := n.shields[service][pop]; noted {
		return true
	}
	if n.fleet == nil || pop == n.cfg.pop() || len(n.shields[service]) >= maxHeard {
		return false
	}
	if n.shields[service] == nil {
		n.shields[service] = map[string]struct{}{}
	}
	n.shields[service][pop] = struct{}{}
	n.fleet.unconfirmed.begin(pop, service, n.fleet.purged.Load())
	return true
}

// shieldFor says whether a guest can have a PoP for a shield, and whether it is this one.
func (n *Node) shieldFor(service, pop string) (here, known bool) {
	if pop == n.cfg.pop() {
		return true, true
	}
	to, known := n.fleet.peers.pops.named(pop)
	if !known || to.Peer == "" {
		return false, false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return false, n.noteShield(service, pop)
}

// shieldedBy reports whether fetches for a service may go through a PoP: purges are noted for those only that are.
func (n *Node) shieldedBy(service, pop string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, noted := n.shields[service][pop]
	return noted
}

// carried does the purges that came with a fetch, of the service that it is for, unless they were done.
func (f *fleet) carried(service string, list []wirePurge) error {
	done := applied{PoP: f.cfg.PoP.Name}
	for i := range list {
		p, err := list[i].purge()
		if err == nil && p.Service != service {
			err = errors.New("it is of another service")
		}
		if err != nil {
			return err
		}
		if f.do(p) {
			done.IDs = append(done.IDs, p.ID)
		}
	}
	if done.At = time.Now(); len(done.IDs) > 0 {
		f.tell(done)
	}
	return nil
}
