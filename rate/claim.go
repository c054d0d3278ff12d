package rate

import (
	"slices"
	"time"
)

// A PoP becomes a key's keeper when the key's referee says so. While PoPs come and go others may go by another referee: who is
// there is known to all within SettleTime. Until then a new keeper has all confirm it that may be taken for the referee, the oldest
// first, before it decides for all; and one that is keeper already tells the new one. So whoever asks whichever of them finds who
// keeps the key. A PoP that may be cut off has one of the others confirm it every LeaseTime, and once it is not, all of them again.

const (
	renewPause = 5 * time.Second // before a keeper that is busy has itself confirmed again, or an eighth of the window
	maxVisit   = 1024            // asks at once about keys for which no request came
)

// claimHere has this PoP, which is the referee itself, become the keeper unless another is, whom it returns.
func (l *Limiter) claimHere(w *row, k Key, now time.Duration, v *view) (keeper string) {
	l.homes.Put(l.own, k, now, now+2*w.rule.Window+SettleTime, func(c *claim) {
		if c.keeper == l.own || !v.has(c.keeper) || !newer(c.epoch, c.keeper, w.epoch, w.keeper) {
			*c = claim{keeper: l.own, epoch: min(max(c.epoch, w.epoch)+1, maxEpoch)}
			w.begin(l.own, c.epoch, now)
			w.keep.need = v.referees(k, now)
		} else {
			w.yield(c.keeper, c.epoch)
		}
		keeper = c.keeper
	})
	return keeper
}

// held reports whether this PoP, which keeps a key, may decide for all; it may find that it does not keep it any more.
func (l *Limiter) held(w *row, k Key, now time.Duration, v *view) (ok bool, out *Sent) {
	g := w.keep
	if len(g.need) == 0 && (v.sure && g.renewed < v.shaken || !v.sure && now-g.renewed >= LeaseTime) {
		g.need, g.had = v.referees(k, now), nil
	}
	if len(g.need) > 0 {
		out = l.pursue(w, k, now, v)
		return w.keep != nil && len(g.need) == 0, out
	}
	pause := max(renewPause, w.rule.Window/8)
	if !v.sure {
		pause = LeaseTime / 2
	}
	if g.seen == v && now-g.renewed < pause {
		return true, nil
	}
	list := v.referees(k, now)
	if witness := list[len(list)-1]; g.referee != witness || now-g.renewed >= pause {
		out = l.renew(w, k, witness, now, v)
	} else {
		g.seen = v
	}
	return w.keep != nil, out
}

// renew has the referee confirm behind everybody's back that this PoP keeps a key.
func (l *Limiter) renew(w *row, k Key, witness string, now time.Duration, v *view) *Sent {
	switch {
	case witness == l.own:
		ok, word := l.confirmHere(w, k, now, v)
		if !ok {
			return l.tell(w, k, now, v)
		}
		w.keep.renewed, w.keep.referee = now, l.own
		return word
	case w.asked == 0 && now >= w.retry:
		return l.ask(w, k, witness, now, 0)
	}
	return nil
}

// confirmed notes that a referee has confirmed that this PoP keeps a key.
func (l *Limiter) confirmed(w *row, k Key, by string, also []string, now time.Duration, v *view) *Sent {
	g := w.keep
	if len(g.need) == 0 {
		g.renewed, g.referee = now, by
		return nil
	}
	g.had = append(g.had, by)
	for _, p := range also {
		if v.has(p) && !slices.Contains(g.need, p) {
			g.need = append(g.need, p)
		}
	}
	g.need = slices.DeleteFunc(g.need, func(p string) bool { return slices.Contains(g.had, p) })
	return l.pursue(w, k, now, v)
}

// pursue asks the next that has to confirm it.
func (l *Limiter) pursue(w *row, k Key, now time.Duration, v *view) *Sent {
	g := w.keep
	for len(g.need) > 0 && g.need[0] == l.own {
		if ok, _ := l.confirmHere(w, k, now, v); !ok {
			return l.tell(w, k, now, v)
		}
		g.had, g.need = append(g.had, l.own), g.need[1:]
	}
	if len(g.need) == 0 {
		witness := v.referees(k, now)
		w.iron, g.had, g.renewed, g.referee = 0, nil, now, witness[len(witness)-1]
		return nil
	}
	if w.asked != 0 || now < w.retry || l.isAway(g.need[0], now) {
		return nil
	}
	return l.ask(w, k, g.need[0], now, 0)
}

// confirmHere is what this PoP says of itself as a referee. If it has said before that another keeps the key, that one does.
func (l *Limiter) confirmHere(w *row, k Key, now time.Duration, v *view) (ok bool, word *Sent) {
	l.homes.Put(l.own, k, now, now+2*w.rule.Window+SettleTime, func(c *claim) {
		ok = c.keeper == l.own || !v.has(c.keeper) || len(w.keep.need) == 0 && newer(w.epoch, l.own, c.epoch, c.keeper)
		if ok {
			if c.keeper != l.own && v.has(c.keeper) {
				word = &Sent{To: c.keeper, Ask: Ask{Key: k, Keeper: l.own, Epoch: w.epoch, Word: true}}
			}
			*c = claim{keeper: l.own, epoch: max(c.epoch, w.epoch)}
			w.epoch = c.epoch
			return
		}
		c.epoch = max(c.epoch, min(w.epoch+1, maxEpoch))
		w.yield(c.keeper, c.epoch)
	})
	return ok, word
}

// tell has the keeper told what this PoP knew when it was that itself, and what it has let in alone.
func (l *Limiter) tell(w *row, k Key, now time.Duration, v *view) *Sent {
	if !w.owes {
		return nil
	}
	if !w.giving {
		w.giving = l.look(giving{k, w.rule, now + retryPause})
	}
	to := w.keeper
	if !v.has(to) {
		to = v.referees(k, now)[0]
	}
	if w.asked != 0 || to == l.own || now < w.retry || l.isAway(to, now) {
		return nil
	}
	return l.ask(w, k, to, now, 0)
}

// visit returns asks about keys that others may ask for elsewhere now: who keeps them, and what was let in without their keeper.
func (l *Limiter) visit(now time.Duration, v *view) (list []*Sent) {
	l.rows.Each(now, func(k Key, w *row) {
		var s *Sent
		switch {
		case w.ends <= now:
		case len(list) >= maxVisit:
			l.mu.Lock()
			l.walk = true
			l.mu.Unlock()
		case w.keep != nil:
			_, s = l.held(w, k, now, v)
		case w.alone > 0 && w.iron > 0:
			w.owes = true
			s = l.tell(w, k, now, v)
		}
		if s != nil {
			list = append(list, s)
		}
	})
	return list
}
