package rate

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
	"time"
)

// view is who is there.
type view struct {
	own   string
	pops  []string // in order, this one among them
	marks []uint64 // of their names
	sure  bool     // whether a PoP's silence means something

	shaken  time.Duration // when it was so again
	changed time.Duration // when others were there before
	past    []past        // which others may still go by, oldest first
}

// past is who was there before.
type past struct {
	*view
	until time.Duration
}

// maxPast bounds how many views are remembered. Who sees that many come and go within seconds sees a fleet that is not settled.
const maxPast = 8

// See is told which PoPs are there, and whether it is sure: a PoP that hears nobody may be cut off itself.
func (l *Limiter) See(pops []string, sure bool, now time.Duration) {
	v := &view{own: l.own, pops: append(slices.Clone(pops), l.own), sure: sure}
	slices.Sort(v.pops)
	v.pops = slices.Compact(v.pops)
	v.marks = marksOf(v.pops)
	if old := l.view.Load(); old != nil {
		v.follow(old, now)
	}
	l.view.Store(v)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.walk = l.walk || v.shaken == now || v.changed == now
	for p, until := range l.away {
		if until <= now {
			delete(l.away, p)
		}
	}
}

// follow takes over what is to be known of the view before.
func (v *view) follow(old *view, now time.Duration) {
	v.shaken, v.changed = old.shaken, old.changed
	if v.sure && !old.sure {
		v.shaken = now
	}
	for _, p := range old.past {
		if p.until > now {
			v.past = append(v.past, p)
		}
	}
	if !slices.Equal(v.pops, old.pops) {
		if v.changed = now; len(old.pops) > 1 { // who was alone asked nobody
			v.past = append(v.past, past{&view{pops: old.pops, marks: old.marks}, now + SettleTime})
		}
	}
	v.past = v.past[max(0, len(v.past)-maxPast):]
}

func (v *view) has(pop string) bool {
	_, ok := slices.BinarySearch(v.pops, pop)
	return ok
}

// referee finds that of a key.
func (v *view) referee(k Key) (pop string) { return best(v.pops, v.marks, k) }

func marksOf(pops []string) (marks []uint64) {
	for _, p := range pops {
		h := fnv.New64a()
		_, _ = h.Write([]byte(p))
		marks = append(marks, h.Sum64())
	}
	return marks
}

// best finds the PoP with the highest mark for a key.
func best(pops []string, marks []uint64, k Key) (pop string) {
	most := uint64(0)
	for i, p := range pops {
		x := marks[i] ^ binary.LittleEndian.Uint64(k[8:])
		x = (x ^ x>>33) * 0xff51afd7ed558ccd
		x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
		x ^= x >> 33
		if pop == "" || x > most {
			pop, most = p, x
		}
	}
	return pop
}

// referees are all that PoPs may take for a key's now, oldest first: who asks them in that order is not passed by another who does.
// Who may
// be cut off asks some more, and who was: others may go by those that were left.
func (v *view) referees(k Key, now time.Duration) (list []string) {
	for _, p := range v.past {
		if pop := p.referee(k); p.until > now && !slices.Contains(list, pop) {
			list = append(list, pop)
		}
	}
	if pop := v.referee(k); !slices.Contains(list, pop) {
		list = append(list, pop)
	}
	if !v.sure || now < v.shaken+SettleTime {
		list = v.next(list, k)
	}
	return list
}

// maxWitnesses is how many PoPs have to say that who may be cut off keeps a key. Those that are cut off together seldom have them all.
const maxWitnesses = 5

// next adds to a list those that would be a key's referee if those were gone.
func (v *view) next(list []string, k Key) []string {
	for left := slices.Clone(v.pops); len(list) < min(maxWitnesses, len(v.pops)); {
		left = slices.DeleteFunc(left, func(p string) bool { return slices.Contains(list, p) })
		list = append(list, best(left, marksOf(left), k))
	}
	return list
}

// free is how many requests each PoP lets in by itself.
func (v *view) free(limit int64) int64 { return Free(limit, len(v.pops)) }

// Free returns how many requests with one key each of so many PoPs lets in by itself in each window: together a quarter of
// the limit, but no more than 20. With less than 2 each asks at once: of a small limit nobody is to have a part at each PoP.
func Free(limit int64, pops int) int64 {
	n := min(limit/int64(4*max(1, pops)), 20)
	if n < 2 {
		return 0
	}
	return n
}
