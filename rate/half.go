package rate

import "time"

// What PoPs let in by themselves nobody hears of, so who goes from PoP to PoP would gain it. When a key is half used up, then, its keeper has all
// PoPs told: who has let some in says so, and who has not asks from then on. It takes many requests to have that said, more than there are PoPs.

// Kept says that a key is half used up, and who keeps it: who says so.
type Kept struct {
	Key   Key           `json:"key"`
	Epoch uint64        `json:"epoch"`
	Left  time.Duration `json:"left"` // of the window
}

// maxKept bounds what is waiting to be said. Of keys beyond it PoPs go on letting in a few by themselves.
const maxKept = 1 << 12

// half notes that a key is half used up, once in a window.
func (l *Limiter) half(w *row, k Key, now time.Duration, v *view) {
	if g := w.keep; !g.told && 2*g.sum(w.total) >= w.rule.Limit && v.free(w.rule.Limit) > 0 {
		g.told = true
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.kept) < maxKept {
			l.kept = append(l.kept, Kept{k, w.epoch, w.ends - now})
		}
	}
}

// Kept returns what all PoPs are to be told, most of them soon.
func (l *Limiter) Kept() (list []Kept) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list, l.kept = l.kept, nil
	return list
}

// Heard is told what the PoP of a name says. An ask that it returns is to be sent.
func (l *Limiter) Heard(from string, kept Kept, now time.Duration) (out *Sent) {
	v := l.view.Load()
	if from == l.own || !v.has(from) || kept.Epoch > maxEpoch || kept.Left <= 0 || kept.Left > maxKeep {
		return nil
	}
	known := false
	l.rows.Look(kept.Key, now, func(w *row) {
		if known = true; w.keep == nil && w.older(kept.Epoch, from) {
			w.yield(from, kept.Epoch)
			w.owes = w.total > 0 && w.ends > now
			out = l.tell(w, kept.Key, now, v)
		}
	})
	if !known {
		l.homes.Put(from, kept.Key, now, now+kept.Left, func(c *claim) {
			if c.hear(claim{keeper: from, epoch: kept.Epoch}, l.own, v); c.keeper == from {
				c.half = now + kept.Left
			}
		})
	}
	return out
}

// halfUsed has a row that is new know what was said of its key before.
func (l *Limiter) halfUsed(w *row, k Key, now time.Duration, v *view) {
	l.homes.Look(k, now, func(c *claim) {
		if now < c.half && v.has(c.keeper) && c.keeper != l.own {
			w.keeper, w.epoch = c.keeper, c.epoch
		}
	})
}
