// Package rate decides how many requests with one key are let in across all PoPs: one PoP's part of it. It is pure: what
// other PoPs say is given to it, what is to be said to them it returns, and time is passed in.
//
// Each PoP lets a few requests of a key in by itself ([Free]), unless the limit is small, until the key is half used up. Beyond that the key has a keeper, a PoP that counts it for all.
// The first to get so far becomes the keeper: it claims the key at the key's referee, which all who know the same PoPs find
// by a hash. Others ask the keeper, which lets them let in a ration, half of what is left divided by those who ask, and
// no more than they have used, so that what lies about unused is never much. Who has a ration waits for nobody.
//
// Windows are fixed, and begin for each key at a moment of its own. So what is promised can be said: in each window no more
// than the limit is let in, but for what PoPs let in by themselves and have not told yet, [Free] a PoP at most; that is told when the key is half used up. What was
// too much is taken from the next window. In a time as long as a window, across the end of one, it may be twice the limit.
// A sliding window would want each PoP's times, not only its sum, and could not be handed out in rations.
//
// Sums are of a window and only grow, so a message that is lost, comes twice or late does no harm. Which of two keepers
// holds is said by their epochs; the other tells it what each PoP has let in, as far as it knows. Who becomes a keeper while PoPs
// may differ about who is there decides for all only when all have confirmed it who may be taken for the referee.
// Nothing is kept on disk: a keeper that is lost is replaced, and hears what the others let in, and know of it, when they
// ask. Who cannot reach the keeper lets in its part of the limit, or nothing more if the rule says so.
package rate

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge/internal/recent"
)

// Key stands for a rule and what it counts: a client's address, say.
type Key = recent.Key

// Rule says how many requests with one key are let in within a window.
type Rule struct {
	Service string        // whose it is: a flood of its keys drives out no other's
	Limit   int64         // 1 and up
	Window  time.Duration // 1 s and up
	Closed  bool          // who cannot reach the keeper lets nothing in beyond Free
}

// Bounds of what is remembered.
const (
	MaxKeys    = 1 << 18                     // of all rules, about 300 bytes each; and as many as a referee
	maxParties = 2048                        // PoPs that ask one keeper about one key in one window
	maxGiving  = 1 << 14                     // rations that are looked after, to be given back
	maxWant    = 1 << 20                     // requests for which an ask asks
	maxKeep    = 2*24*time.Hour + SettleTime // that a claim is remembered: of windows of a day
)

const (
	nonePause  = time.Second / 10     // before who does not know who keeps a key is
	firstSoon  = 5 * time.Millisecond // before who is about to know is; then twice that, and so on
	maxSoon    = 640 * time.Millisecond
	retryPause = time.Second     // before who could not be asked is asked again
	SettleTime = 4 * time.Second // within which all PoPs notice that one has come or gone
	LeaseTime  = 2 * time.Second // how long a keeper that may be cut off goes on after it was confirmed
	maxEpoch   = 1 << 50
)

// Limiter is one PoP's part. It is safe for concurrent use. Times are since 1970, by a clock that never jumps; those of PoPs may
// differ.
type Limiter struct {
	own   string
	rows  *recent.Map[row]
	homes *recent.Map[claim] // as a referee
	view  atomic.Pointer[view]

	mu     sync.Mutex
	away   map[string]time.Duration // PoPs that could not be asked, until when they are left alone
	giving []giving
	kept   []Kept
	walk   bool // keys may have other referees than those that know who keeps them

	over atomic.Int64
}

// New returns the part of the PoP of a name, which knows no other.
func New(own string) *Limiter { return newLimiter(own, MaxKeys) }

func newLimiter(own string, keys int) *Limiter {
	l := &Limiter{own: own, rows: recent.Of[row](keys), homes: recent.Of[claim](keys), away: map[string]time.Duration{}}
	l.See(nil, true, 0)
	return l
}

// row is what a PoP knows of a key.
type row struct {
	rule   *Rule // the newest request's
	window int64
	ends   time.Duration
	total  int64  // let in here, in this window
	upto   int64  // to which total the keeper lets this PoP go
	ration int64  // how much that was beyond the total
	count  int64  // the keeper's, when it said so
	by     string // who that was
	iron   int64  // to which total this PoP goes by itself, having reached nobody; 0: it did not come to that
	alone  int64  // how many it has let in so
	denied time.Duration
	retry  time.Duration // until then there is no asking
	pause  time.Duration // before the next ask is sent
	used   time.Duration
	keeper string
	epoch  uint64
	asked  uint64 // Seq of the ask under way; 0: none
	wants  int32  // requests that wait
	giving bool
	keep   *keeping // nil: this PoP is not the keeper
	owes   bool     // who keeps the key has not been told all that this PoP knows
	parts  []Part   // of that, what others have let in, as far as this PoP was told when it kept the key
}

// Decision is what becomes of a request.
type Decision struct {
	OK       bool
	Wait     bool          // it is not decided: wait for the ask under way, and take again
	Fallback bool          // the keeper could not be asked
	Left     int64         // about how many more are let in
	Reset    time.Duration // until the window ends
	Keeper   string        // who counts, as far as is known; "": each PoP by itself as yet
}

// Take counts a request, unless it is to wait or is refused. waited: it did wait before. An ask that is returned is to be sent,
// and [Limiter.Answered] told what came of it.
func (l *Limiter) Take(r *Rule, k Key, now time.Duration, waited bool) (d Decision, out *Sent) {
	l.rows.Put(r.Service, k, now, now+2*r.Window, func(w *row) {
		w.rule = r
		l.roll(w, r, k, now)
		if waited && w.wants > 0 {
			w.wants--
		}
		w.used = now
		d, out = l.decide(w, r, k, now)
		if d.OK {
			w.total++
		}
		if d.Reset, d.Keeper = w.ends-now, w.keeper; w.keep != nil {
			d.Keeper = l.own
		}
	})
	return d, out
}

// Add counts n requests that are let in without asking, if that makes no more than this PoP's part of the limit, and a quarter of it; not at the
// keeper, which has all to go by. What is counted so the keeper hears with the next ask.
func (l *Limiter) Add(r *Rule, k Key, n int64, now time.Duration) (ok bool) {
	upTo := max(1, r.Limit/max(4, int64(len(l.view.Load().pops))))
	l.rows.Put(r.Service, k, now, now+2*r.Window, func(w *row) {
		w.rule = r
		l.roll(w, r, k, now)
		if ok = w.keep == nil && now >= w.denied && w.total+n <= upTo; ok {
			w.total += n
		}
	})
	return ok
}

// More counts n requests more, of one that was let in.
func (l *Limiter) More(k Key, n int64, now time.Duration) {
	l.rows.Look(k, now, func(w *row) {
		if w.ends > now {
			w.total += min(n, w.rule.Limit)
		}
	})
}

// decide says what becomes of one more request.
func (l *Limiter) decide(w *row, r *Rule, k Key, now time.Duration) (Decision, *Sent) {
	v := l.view.Load()
	if w.keeper == "" && w.total == 0 {
		l.halfUsed(w, k, now, v)
	}
	switch {
	case w.keep != nil:
		return l.keeps(w, r, k, now, v)
	case now < w.denied:
		return Decision{}, nil
	case w.total < w.upto:
		d := Decision{OK: true, Left: max(0, r.Limit-w.count+w.upto-w.total-1)}
		if 4*(w.upto-w.total-1) <= w.ration && w.asked == 0 && now >= w.retry && v.has(w.keeper) {
			return d, l.ask(w, k, w.keeper, now, 2) // before it is used up: for the next one, and this, which is not in the total yet
		}
		return d, nil
	case w.keeper == "" && w.total < v.free(r.Limit):
		return Decision{OK: true, Left: r.Limit - w.total - 1}, nil
	}
	to := w.keeper
	if !v.has(to) {
		if to = v.referees(k, now)[0]; to == l.own {
			if to = l.claimHere(w, k, now, v); to == l.own {
				return l.keeps(w, r, k, now, v)
			}
		}
	}
	return l.wait(w, r, k, to, now, v)
}

// wait has a request wait for what a PoP says, unless there is no waiting for that.
func (l *Limiter) wait(w *row, r *Rule, k Key, to string, now time.Duration, v *view) (Decision, *Sent) {
	if now < w.retry || l.isAway(to, now) {
		return l.fallback(w, r, v), nil
	}
	if w.iron > 0 { // it is tried again behind everybody's back
		d := l.fallback(w, r, v)
		if w.asked == 0 {
			return d, l.ask(w, k, to, now, 1)
		}
		return d, nil
	}
	w.wants++
	if w.asked != 0 {
		return Decision{Wait: true}, nil
	}
	return Decision{Wait: true}, l.ask(w, k, to, now, int64(w.wants))
}

// fallback decides without the keeper.
func (l *Limiter) fallback(w *row, r *Rule, v *view) Decision {
	if r.Closed {
		return Decision{Fallback: true}
	}
	if w.iron == 0 {
		known := w.count
		if w.keep != nil {
			known = w.keep.sum(w.total)
		}
		part := max(1, v.free(r.Limit), r.Limit/int64(len(v.pops))) - w.alone // or a small limit would fail closed
		w.iron = max(1, w.total+min(part, r.Limit-max(known, w.total)))
	}
	if w.total < w.iron {
		w.alone++
	}
	return Decision{OK: w.total < w.iron, Fallback: true, Left: max(0, w.iron-w.total-1)}
}

// ask makes an ask. The row's lock is held.
func (l *Limiter) ask(w *row, k Key, to string, now time.Duration, want int64) *Sent {
	w.asked = max(uint64(now), w.asked+1)
	a := Ask{Key: k, Keeper: w.keeper, Epoch: w.epoch, Window: w.window, Total: w.total, Want: min(want, maxWant), Seq: w.asked,
		Keep: 2*w.rule.Window + SettleTime}
	if w.keep != nil {
		a.New = len(w.keep.need) > 0 && w.keep.referee == ""
	} else if to == w.keeper {
		a.Parts = w.parts[:min(len(w.parts), maxParts)]
		if w.by != to {
			a.Count = w.count
		}
	}
	return &Sent{To: to, Ask: a, Pause: w.pause}
}

// roll begins a window if the last has ended.
func (l *Limiter) roll(w *row, r *Rule, k Key, now time.Duration) {
	if w.ends > now {
		return
	}
	phase := time.Duration(binary.LittleEndian.Uint64(k[:]) % uint64(r.Window))
	n := int64((now + phase) / r.Window)
	ends := time.Duration(n+1)*r.Window - phase
	if w.ends != 0 && n <= w.window { // the keeper's clock is ahead
		n, ends = w.window+1, max(w.ends, now-r.Window)+r.Window
	}
	if w.keep != nil {
		l.over.Add(w.keep.next(w.total, r.Limit))
	}
	w.window, w.ends = n, ends
	w.total, w.upto, w.ration, w.count, w.iron, w.denied, w.retry, w.alone, w.parts, w.owes = 0, 0, 0, 0, 0, 0, 0, 0, nil, false
}

// Over returns how many requests were let in beyond limits, as far as this PoP has kept the keys.
func (l *Limiter) Over() int64 { return l.over.Load() }

// Keys returns how many keys are known.
func (l *Limiter) Keys() int { return l.rows.Len() }

func (l *Limiter) isAway(pop string, now time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return now < l.away[pop]
}

// Unsent is told of an ask that was not sent, for a reason that says nothing about the PoP it was for.
func (l *Limiter) Unsent(s *Sent, now time.Duration) {
	l.rows.Look(s.Ask.Key, now, func(w *row) {
		if !s.Ask.Word && w.asked == s.Ask.Seq {
			w.asked, w.retry = 0, now+retryPause
		}
	})
}

// Answered is told what came of an ask; ok is false if there was no answer. An ask that it returns is to be sent.
func (l *Limiter) Answered(s *Sent, a Answer, ok bool, now time.Duration) (more *Sent) {
	v := l.view.Load()
	if s.Ask.Word {
		return nil
	}
	ok = ok && a.valid() && (a.None || a.Keeper == l.own || v.has(a.Keeper))
	if !ok && !s.Ask.Back { // a keeper that has forgotten the key has nothing to say to what is given back
		l.mu.Lock()
		l.away[s.To] = now + retryPause
		l.mu.Unlock()
	}
	l.rows.Look(s.Ask.Key, now, func(w *row) {
		if w.asked != s.Ask.Seq {
			return // it came too late
		}
		w.asked, w.retry = 0, now+retryPause
		l.roll(w, w.rule, s.Ask.Key, now)
		pause := w.pause
		w.pause = 0
		switch {
		case ok && a.Soon && pause < maxSoon:
			w.pause, w.retry = max(firstSoon, 2*pause), 0
		case ok && a.None:
			w.retry = now + nonePause
		case ok:
			more = l.learn(w, s, &a, now, v)
		case w.keep != nil && !v.has(s.To): // it is gone
			w.retry = 0
			more = l.confirmed(w, s.Ask.Key, s.To, nil, now, v)
		}
	})
	return more
}

// learn takes an answer.
func (l *Limiter) learn(w *row, s *Sent, a *Answer, now time.Duration, v *view) (more *Sent) {
	k := s.Ask.Key
	switch {
	case a.Keeper == l.own && (w.keep != nil || w.older(a.Epoch, l.own)):
		if w.retry = 0; w.keep == nil {
			w.begin(l.own, a.Epoch, now)
			if list := v.referees(k, now); slices.Contains(list, s.To) { // or it was the keeper until now
				w.keep.need = list
			}
		}
		w.keep.others += min(a.Carry, w.rule.Limit) // of who kept the key until now: referees say none
		w.epoch = max(w.epoch, a.Epoch)
		return l.confirmed(w, k, s.To, a.Also, now, v)
	case a.Keeper == s.To && (w.keeper == a.Keeper || w.older(a.Epoch, a.Keeper)):
		w.yield(a.Keeper, a.Epoch)
		w.retry, w.by = 0, a.Keeper
		if l.granted(w, w.rule, k, a, now); s.Ask.Keeper == a.Keeper || len(w.parts) == 0 { // it was told
			w.parts = w.parts[min(len(s.Ask.Parts), len(w.parts)):]
			w.owes = len(w.parts) > 0
		}
	case a.Keeper != l.own && w.older(a.Epoch, a.Keeper):
		w.yield(a.Keeper, a.Epoch)
		if w.retry = 0; w.wants > 0 && v.free(w.rule.Limit) > 0 {
			w.upto = max(w.upto, w.total+1) // it has waited once, and is told to the keeper at once
		}
	}
	return l.tell(w, k, now, v)
}

// granted takes a keeper's word.
func (l *Limiter) granted(w *row, r *Rule, k Key, a *Answer, now time.Duration) {
	if a.Window > w.window {
		w.total, w.upto, w.iron, w.parts = 0, 0, 0, nil
	}
	w.window, w.ends = a.Window, now+min(a.Left, r.Window)
	w.upto, w.count, w.iron = min(a.Upto, r.Limit), a.Count, 0
	w.ration, w.denied = max(0, w.upto-w.total), 0
	if a.Deny > 0 {
		w.denied = min(now+a.Deny, w.ends)
	}
	if w.ration > 0 && !w.giving {
		w.giving = l.look(giving{k, r, now + giveTime(r)})
	}
}
