package rate

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
	"time"
)

// Ask is what a PoP says to a key's keeper, or its referee.
type Ask struct {
	Key    Key    `json:"key"`
	Keeper string `json:"keeper,omitempty"` // as far as it knows
	Epoch  uint64 `json:"epoch,omitempty"`
	Window int64  `json:"window"`
	Total  int64  `json:"total"`          // what it has let in, in this window
	Want   int64  `json:"want,omitempty"` // requests that wait; 0: it only tells
	Back   bool   `json:"back,omitempty"` // it lets no more in, whatever it was told
	Seq    uint64 `json:"seq"`            // grows

	Keep time.Duration `json:"keep,omitempty"` // how long a claim that comes of it is to be remembered
}

// Answer says who keeps the key: who asked, the one asked, or another; and what the keeper says.
type Answer struct {
	Keeper string        `json:"keeper,omitempty"` // "": no answer
	Epoch  uint64        `json:"epoch,omitempty"`
	Carry  int64         `json:"carry,omitempty"` // to a new keeper: how much was too much before
	Window int64         `json:"window,omitempty"`
	Left   time.Duration `json:"left,omitempty"` // of the window
	Upto   int64         `json:"upto,omitempty"` // to which total who asked may go
	Count  int64         `json:"count,omitempty"`
	Deny   time.Duration `json:"deny,omitempty"` // for so long there is nothing to ask for
}

// Sent is an ask on its way.
type Sent struct {
	To  string
	Ask Ask
}

func (a *Ask) valid() bool {
	return a.Epoch <= maxEpoch && a.Total >= 0 && a.Want >= 0 && a.Want <= maxWant && len(a.Keeper) <= 64 && a.Keep >= 0 && a.Keep <= maxKeep
}

func (a *Answer) valid() bool {
	return a.Keeper != "" && a.Epoch <= maxEpoch && a.Carry >= 0 && a.Left >= 0 && a.Upto >= 0 && a.Count >= 0 && a.Deny >= 0
}

// newer reports whether one claim holds against another.
func newer(epoch uint64, keeper string, than uint64, other string) bool {
	return epoch > than || epoch == than && keeper > other
}

// claim is what a referee knows of a key.
type claim struct {
	keeper string
	epoch  uint64
}

// Asked answers the PoP of a name. By which rule a key is kept this PoP knows from its own requests.
func (l *Limiter) Asked(from string, a Ask, now time.Duration) (ans Answer) {
	v := l.view.Load()
	if !a.valid() || from == l.own {
		return Answer{}
	}
	known, rule := claim{}, (*Rule)(nil)
	l.rows.Look(a.Key, now, func(w *row) {
		if known = (claim{w.keeper, w.epoch}); w.keep != nil {
			rule = w.rule
		}
	})
	if rule != nil {
		l.rows.Put(rule.Service, a.Key, now, now+2*rule.Window, func(w *row) {
			if w.keep != nil && a.Keeper != l.own && v.has(a.Keeper) && newer(a.Epoch, a.Keeper, w.epoch, l.own) {
				w.keep, w.keeper, w.epoch = nil, a.Keeper, a.Epoch
			}
			if w.keep != nil {
				w.epoch = max(w.epoch, a.Epoch)
				l.roll(w, w.rule, a.Key, now)
				ans = l.grant(w, w.rule, from, &a, now)
				return
			}
			w.rule = rule // it may have been forgotten meanwhile
			known = claim{w.keeper, w.epoch}
		})
	}
	if ans.Keeper != "" || a.Back {
		return ans
	}
	l.homes.Put(from, a.Key, now, now+a.Keep, func(c *claim) { ans = l.judge(c, known, from, &a, v) })
	return ans
}

// judge says who is to keep a key.
func (l *Limiter) judge(c *claim, known claim, from string, a *Ask, v *view) Answer {
	for _, other := range []claim{known, {a.Keeper, a.Epoch}} {
		if other.keeper != "" && other.keeper != l.own && newer(other.epoch, other.keeper, c.epoch, c.keeper) {
			*c = other
		}
	}
	if c.keeper != from && (c.keeper == l.own || !v.has(c.keeper)) {
		*c = claim{from, min(max(c.epoch, a.Epoch)+1, maxEpoch)}
	}
	return Answer{Keeper: c.keeper, Epoch: c.epoch}
}

// claimHere has this PoP, which is the referee itself, become the keeper unless another is, whom it returns.
func (l *Limiter) claimHere(w *row, r *Rule, k Key, now time.Duration, v *view) (keeper string) {
	l.homes.Put(l.own, k, now, now+2*r.Window+LeaseTime, func(c *claim) {
		if c.keeper == l.own || !v.has(c.keeper) || !newer(c.epoch, c.keeper, w.epoch, w.keeper) {
			*c = claim{l.own, min(max(c.epoch, w.epoch)+1, maxEpoch)}
			w.begin(l.own, c.epoch, 0, false)
		} else {
			w.keeper, w.epoch = c.keeper, c.epoch
		}
		keeper = c.keeper
	})
	return keeper
}

// view is who is there.
type view struct {
	pops  []string // in order, this one among them
	marks []uint64 // of their names
	sure  bool     // whether a PoP's silence means something
	since time.Duration
}

// See is told which PoPs are there, and whether it is sure: a PoP that hears nobody may be cut off itself.
func (l *Limiter) See(pops []string, sure bool, now time.Duration) {
	v := &view{pops: append(slices.Clone(pops), l.own), sure: sure, since: now}
	slices.Sort(v.pops)
	v.pops = slices.Compact(v.pops)
	for _, p := range v.pops {
		h := fnv.New64a()
		_, _ = h.Write([]byte(p))
		v.marks = append(v.marks, h.Sum64())
	}
	if old := l.view.Load(); old != nil && old.sure == sure {
		v.since = old.since
	}
	l.view.Store(v)
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, until := range l.away {
		if until <= now {
			delete(l.away, p)
		}
	}
}

func (v *view) has(pop string) bool {
	_, ok := slices.BinarySearch(v.pops, pop)
	return ok
}

// referee finds that of a key by its highest mark, leaving one PoP out.
func (v *view) referee(k Key, out string) (pop string) {
	most := uint64(0)
	for i, p := range v.pops {
		x := v.marks[i] ^ binary.LittleEndian.Uint64(k[8:])
		x = (x ^ x>>33) * 0xff51afd7ed558ccd
		x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
		x ^= x >> 33
		if p != out && (pop == "" || x > most) {
			pop, most = p, x
		}
	}
	if pop == "" {
		return out // there is no other
	}
	return pop
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
