package rate

import "time"

// keeping is what a keeper knows beyond a row.
type keeping struct {
	others  int64 // what it has let others let in, or they have; with what was too much in the window before
	parties map[string]*party
	renew   bool          // the referee is to hear of it
	renewed time.Duration // when it last did
	heir    string        // had most of the requests in the window before
}

// party is a PoP that asks.
type party struct {
	total, upto int64
	lost        int64 // what it has let in and forgotten
	seq         uint64
}

func (p *party) sum() int64 { return p.lost + max(p.total, p.upto) }

func (w *row) begin(own string, epoch uint64, carry int64, renew bool) {
	w.keep = &keeping{others: carry, parties: map[string]*party{}, renew: renew}
	w.keeper, w.epoch, w.iron, w.denied = own, epoch, 0, 0
}

// next begins a window, and returns by how much the last was over.
func (g *keeping) next(own, limit int64) (over int64) {
	sum, most := g.others+own, own
	g.heir = ""
	for name, p := range g.parties {
		if p.total > 2*most || p.total > most && g.heir != "" && 2*p.total > sum {
			g.heir, most = name, p.total
		}
	}
	if 2*most <= sum {
		g.heir = ""
	}
	over = max(0, sum-limit)
	clear(g.parties)
	g.others, g.renew = min(over, limit), true
	return over
}

// keeps decides about a request at the keeper.
func (l *Limiter) keeps(w *row, r *Rule, k Key, now time.Duration, v *view) (d Decision, out *Sent) {
	g, witness := w.keep, v.referee(k, "")
	if witness == l.own && !v.sure {
		witness = v.referee(k, l.own) // who would be asked if this PoP was gone
	}
	if w.asked == 0 && witness != l.own && now >= w.retry && (g.renew || !v.sure && now-g.renewed >= retryPause) {
		out = l.ask(w, k, witness, now, 0)
	}
	if !v.sure && len(v.pops) > 1 && now-max(g.renewed, v.since) >= LeaseTime {
		return l.fallback(w, r, v), out
	}
	left := r.Limit - g.others - w.total
	return Decision{OK: left > 0, Left: max(0, left-1)}, out
}

// grant answers a PoP that asks the keeper.
func (l *Limiter) grant(w *row, r *Rule, from string, a *Ask, now time.Duration) Answer {
	g := w.keep
	if g.heir == from && len(g.parties) == 0 && w.epoch < maxEpoch {
		carry := g.others
		w.keep, w.keeper, w.epoch = nil, from, w.epoch+1
		return Answer{Keeper: from, Epoch: w.epoch, Carry: carry}
	}
	p := g.parties[from]
	if p == nil {
		if len(g.parties) >= maxParties {
			return Answer{}
		}
		p = &party{}
		g.parties[from] = p
	}
	g.others -= p.sum()
	if fresh := a.Seq > p.seq; fresh {
		p.take(a, w.window, r.Limit)
		if left := r.Limit - g.others - p.sum() - w.total; left > 0 && a.Want > 0 && !a.Back {
			target := min(max(p.total, a.Want), max(1, left/int64(2*(len(g.parties)+1))))
			p.upto += min(left, max(0, p.total+target-p.upto))
		}
	}
	g.others += p.sum()
	n := g.others + w.total
	ans := Answer{Keeper: l.own, Epoch: w.epoch, Window: w.window, Left: w.ends - now, Upto: p.upto, Count: n}
	if n >= r.Limit && p.upto <= p.total {
		ans.Deny = ans.Left
		for _, q := range g.parties {
			if q.upto > q.total { // some of it may come back
				ans.Deny = min(ans.Left, retryPause)
			}
		}
	}
	return ans
}

// take notes what a PoP says it has let in. One that says less than before has forgotten it.
func (p *party) take(a *Ask, window, limit int64) {
	total := min(a.Total, 2*limit)
	if a.Window < window {
		total = 0
	}
	if total < p.total {
		p.lost, p.upto = min(p.lost+p.total, 2*limit), total
	}
	p.total, p.seq = total, a.Seq
	if p.upto = max(p.upto, total); a.Back {
		p.upto = total
	}
}

// giving is a ration that is given back if it is not used.
type giving struct {
	key  Key
	rule *Rule
	due  time.Duration
}

// giveTime is how long a key is not asked for before the rest of its ration is given back.
func giveTime(r *Rule) time.Duration { return max(time.Second, min(r.Window/8, 10*time.Second)) }

func (l *Limiter) look(g giving) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.giving) >= maxGiving {
		return false // it ends with its window
	}
	l.giving = append(l.giving, g)
	return true
}

// Tick returns asks that give back what was not used, to be sent. It is to be called now and then.
func (l *Limiter) Tick(now time.Duration) (list []*Sent) {
	l.mu.Lock()
	all := l.giving
	l.giving = nil
	l.mu.Unlock()
	var later []giving
	for _, g := range all {
		if g.due > now {
			later = append(later, g)
			continue
		}
		l.rows.Look(g.key, now, func(w *row) {
			switch idle := now - w.used; {
			case w.keep != nil || w.total >= w.upto || now >= w.ends:
				w.giving = false
			case idle < giveTime(g.rule) || w.asked != 0:
				g.due = now + giveTime(g.rule)
				later = append(later, g)
			default:
				w.upto, w.giving = w.total, false
				s := l.ask(w, g.key, w.keeper, now, 0)
				s.Ask.Back = true
				list = append(list, s)
			}
		})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.giving = append(later, l.giving...)
	return list
}
