package rate

import (
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

	New   bool   `json:"new,omitempty"`   // it would be keeper, and gives way to one that is
	Word  bool   `json:"word,omitempty"`  // it says only who the keeper is
	Count int64  `json:"count,omitempty"` // what another keeper has counted, before this one was it
	Parts []Part `json:"parts,omitempty"` // what others have let in as far as it knows, who was keeper

	Keep time.Duration `json:"keep,omitempty"` // how long a claim that comes of it is to be remembered
}

// Part is what a PoP has let in, or may have.
type Part struct {
	PoP string `json:"pop"`
	Sum int64  `json:"sum"`
}

// maxParts bounds what one ask tells. The rest comes with the next.
const maxParts = 64

// Answer says who keeps the key: who asked, the one asked, or another; and what the keeper says.
type Answer struct {
	Keeper string        `json:"keeper,omitempty"`
	None   bool          `json:"none,omitempty"` // nobody, as far as it knows, and who asked may not
	Soon   bool          `json:"soon,omitempty"` // with None: it will know in a moment
	Also   []string      `json:"also,omitempty"` // referees that others may go by, which have to confirm a new keeper
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
	To    string
	Ask   Ask
	Pause time.Duration // before it is to be sent
}

func (a *Ask) valid() bool {
	if a.Count < 0 || len(a.Parts) > maxParts || slices.ContainsFunc(a.Parts, func(p Part) bool { return p.Sum < 0 }) {
		return false
	}
	return a.Epoch <= maxEpoch && a.Total >= 0 && a.Want >= 0 && a.Want <= maxWant && len(a.Keeper) <= 64 && a.Keep >= 0 && a.Keep <= maxKeep
}

func (a *Answer) valid() bool {
	return (a.Keeper != "" || a.None) && len(a.Also) <= 2*maxPast && a.Epoch <= maxEpoch && a.Carry >= 0 && a.Left >= 0 && a.Upto >= 0 && a.Count >= 0 && a.Deny >= 0
}

// newer reports whether one claim holds against another.
func newer(epoch uint64, keeper string, than uint64, other string) bool {
	return epoch > than || epoch == than && keeper > other
}

// claim is what a referee knows of a key.
type claim struct {
	keeper string
	epoch  uint64
	half   time.Duration // until then it is half used up
}

// Asked answers the PoP of a name. An ask that it returns as well is to be sent. By which rule a key is kept this PoP knows from its
// own requests.
func (l *Limiter) Asked(from string, a Ask, now time.Duration) (ans Answer, more *Sent) {
	v := l.view.Load()
	if !a.valid() || from == l.own {
		return Answer{}, nil
	}
	if known, rule := l.keptAs(&a, now); rule != nil {
		l.rows.Put(rule.Service, a.Key, now, now+2*rule.Window, func(w *row) {
			if w.rule == nil { // it was forgotten meanwhile
				w.rule = rule
			}
			ans, more = l.answer(w, from, &a, now, v)
			known = claim{keeper: w.keeper, epoch: w.epoch}
		})
		if ans.Keeper != "" || ans.None || a.Back || known.keeper == l.own {
			return ans, more
		}
	}
	switch {
	case a.Word:
		return Answer{Keeper: a.Keeper, Epoch: a.Epoch}, more
	case a.Back:
		return Answer{}, more
	}
	ans, word := l.judge(from, &a, now, v)
	if more == nil {
		more = word
	}
	return ans, more
}

// keptAs returns the rule by which this PoP keeps a key, or is to from now on: the referee has said so to who asks, and its word to
// this PoP may be late.
func (l *Limiter) keptAs(a *Ask, now time.Duration) (known claim, rule *Rule) {
	l.rows.Look(a.Key, now, func(w *row) {
		if known = (claim{keeper: w.keeper, epoch: w.epoch}); w.keep != nil || a.Keeper == l.own && w.older(a.Epoch, l.own) {
			rule = w.rule
		}
	})
	return known, rule
}

// answer has the keeper of a key answer, unless it finds that another is.
func (l *Limiter) answer(w *row, from string, a *Ask, now time.Duration, v *view) (ans Answer, more *Sent) {
	l.roll(w, w.rule, a.Key, now)
	switch {
	case w.keep == nil && a.Keeper == l.own && w.older(a.Epoch, l.own):
		w.begin(l.own, a.Epoch, now)
		if list := v.referees(a.Key, now); len(list) > 1 {
			w.keep.need = list
		}
	case w.keep == nil:
		return Answer{}, nil
	case a.Keeper == l.own:
		w.epoch = max(w.epoch, a.Epoch)
	case a.New && a.Keeper == from && newer(a.Epoch, from, w.epoch, l.own) && w.epoch < maxEpoch:
		w.epoch = min(a.Epoch, maxEpoch-1) + 1
	case v.has(a.Keeper) && newer(a.Epoch, a.Keeper, w.epoch, l.own):
		w.yield(a.Keeper, a.Epoch)
		return Answer{Keeper: w.keeper, Epoch: w.epoch}, l.tell(w, a.Key, now, v)
	}
	if a.Word {
		return Answer{Keeper: l.own, Epoch: w.epoch}, nil
	}
	sure, more := l.held(w, a.Key, now, v)
	switch {
	case w.keep == nil:
		return Answer{Keeper: w.keeper, Epoch: w.epoch}, more
	case !sure:
		return Answer{None: true, Soon: w.asked != 0}, more
	}
	if a.Window == w.window {
		w.keep.least = max(w.keep.least, min(a.Count, 2*w.rule.Limit))
		w.keep.join(a.Parts, w.rule.Limit, func(pop string) bool { return pop != from && pop != l.own && v.has(pop) })
	}
	l.half(w, a.Key, now, v)
	if ans = l.grant(w, w.rule, from, a, now); more == nil && w.keep == nil {
		more = l.tell(w, a.Key, now, v)
	}
	return ans, more
}

// judge says who is to keep a key. Who gave way to a newer claim is to hear of it.
func (l *Limiter) judge(from string, a *Ask, now time.Duration, v *view) (ans Answer, word *Sent) {
	var known claim
	l.rows.Look(a.Key, now, func(w *row) {
		known = claim{keeper: w.keeper, epoch: w.epoch}
	})
	l.homes.Put(from, a.Key, now, now+a.Keep, func(c *claim) {
		old := *c
		if old.keeper == l.own && known.keeper == l.own && known.epoch >= old.epoch { // it has begun to just now
			ans = Answer{Keeper: l.own, Epoch: known.epoch}
			return
		}
		if c.keeper == l.own {
			c.keeper = ""
		}
		c.hear(known, l.own, v)
		switch taken := c.keeper != "" && c.keeper != from && v.has(c.keeper); {
		case taken && a.New && a.Keeper == from:
			if newer(a.Epoch, from, c.epoch, c.keeper) {
				c.epoch = min(a.Epoch+1, maxEpoch)
			}
		default:
			c.hear(claim{keeper: a.Keeper, epoch: a.Epoch}, l.own, v)
		}
		if c.keeper != from && !v.has(c.keeper) {
			if !v.has(from) {
				ans.None = true
				return // nor would others find it
			}
			*c = claim{keeper: from, epoch: min(max(c.epoch, a.Epoch)+1, maxEpoch)}
		}
		if ans = (Answer{Keeper: c.keeper, Epoch: c.epoch}); c.keeper == from {
			ans.Also = slices.DeleteFunc(v.referees(a.Key, now), func(p string) bool { return p == l.own })
		}
		if old.keeper != "" && old.keeper != c.keeper && old.keeper != l.own && old.keeper != from && v.has(old.keeper) {
			word = &Sent{To: old.keeper, Ask: Ask{Key: a.Key, Keeper: c.keeper, Epoch: c.epoch, Word: true}}
		}
	})
	return ans, word
}

// hear takes a newer claim of a PoP that is there. This one's own is none: it would have answered as keeper.
func (c *claim) hear(other claim, own string, v *view) {
	if other.keeper != own && v.has(other.keeper) && (c.keeper == "" && other.epoch >= c.epoch || newer(other.epoch, other.keeper, c.epoch, c.keeper)) {
		*c = other
	}
}
