package rate

import "time"

// keeping is what a keeper knows beyond a row.
type keeping struct {
	others  int64 // what it has let others let in, or they have; with what was too much in the window before
	least   int64 // so much has been let in at all PoPs, as those say who asked another keeper before
	parties map[string]*party
	told    bool   // that it is half used up
	heir    string // had most of the requests in the window before

	need    []string      // referees that have to confirm that it keeps the key, before it decides for all
	had     []string      // those that have, since then
	renewed time.Duration // when none were left of them, or one did again
	referee string        // which that was; "": another may not know yet
	seen    *view         // by which that is the right one
}

// party is a PoP that asks.
type party struct {
	total, upto int64
	lost        int64 // what it has let in and forgotten
	seq         uint64
}

func (p *party) sum() int64 { return p.lost + max(p.total, p.upto) }

// begin has this PoP keep the key.
func (w *row) begin(own string, epoch uint64, now time.Duration) {
	g := &keeping{parties: map[string]*party{}, renewed: now}
	g.join(w.parts, w.rule.Limit, func(pop string) bool { return pop != own })
	if w.by != "" {
		g.least = w.count
	}
	w.keep, w.parts, w.owes = g, nil, false
	w.keeper, w.epoch, w.iron, w.denied, w.upto, w.ration = own, epoch, 0, 0, 0, 0
}

// older reports whether a claim holds against what the row knows.
func (w *row) older(epoch uint64, keeper string) bool {
	return w.keeper == "" || newer(epoch, keeper, w.epoch, w.keeper)
}

// yield notes that another keeps the key, to whom this PoP owes what it knows.
func (w *row) yield(keeper string, epoch uint64) {
	if g := w.keep; g != nil {
		w.parts = nil
		for name, p := range g.parties {
			w.parts = append(w.parts, Part{name, p.sum()})
		}
		w.owes, w.count, w.by = true, 0, ""
	}
	w.keep, w.keeper, w.epoch = nil, keeper, max(w.epoch, epoch)
}

// join adds what another keeper knew of a window to what this one does: of each PoP it is the higher sum.
func (g *keeping) join(parts []Part, limit int64, counts func(pop string) bool) {
	for _, one := range parts {
		p := g.parties[one.PoP]
		if !counts(one.PoP) || p == nil && len(g.parties) >= maxParties {
			continue
		}
		if p == nil {
			p = &party{}
			g.parties[one.PoP] = p
		}
		g.others -= p.sum()
		p.upto = max(p.upto, min(one.Sum, 2*limit))
		g.others += p.sum()
	}
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
	g.others, g.least, g.told, g.referee, g.seen = min(over, limit), 0, false, "", nil
	return over
}

// keeps decides about a request at the keeper.
func (l *Limiter) keeps(w *row, r *Rule, k Key, now time.Duration, v *view) (d Decision, out *Sent) {
	ok, out := l.held(w, k, now, v)
	if ok {
		l.half(w, k, now, v)
		left := r.Limit - w.keep.sum(w.total)
		return Decision{OK: left > 0, Left: max(0, left-1)}, out
	}
	var more *Sent
	if w.keep == nil { // another does
		d, more = l.decide(w, r, k, now)
	} else {
		d, more = l.wait(w, r, k, w.keep.need[0], now, v)
	}
	if out == nil {
		out = more // of two asks there is never one that waits for the other
	}
	return d, out
}

// sum is how many were let in at all PoPs.
func (g *keeping) sum(own int64) int64 { return max(g.others+own, g.least) }

// grant answers a PoP that asks the keeper.
func (l *Limiter) grant(w *row, r *Rule, from string, a *Ask, now time.Duration) Answer {
	g := w.keep
	if g.heir == from && len(g.parties) == 0 && w.epoch < maxEpoch {
		carry := g.others
		w.yield(from, w.epoch+1)
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
		left := r.Limit - max(g.others+p.sum()+w.total, g.least)
		if left > 0 && a.Want > 0 && !a.Back {
			target := min(max(p.total, a.Want), max(1, left/int64(2*(len(g.parties)+1))))
			p.upto += min(left, max(0, p.total+target-p.upto))
		}
	}
	g.others += p.sum()
	n := g.sum(w.total)
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

// Tick returns asks to be sent: they give back what was not used, and tell referees and keepers what they may not know. It is to be called now and then.
func (l *Limiter) Tick(now time.Duration) (list []*Sent) {
	v := l.view.Load()
	l.mu.Lock()
	all, walk := l.giving, l.walk || now < v.changed+SettleTime
	l.giving, l.walk = nil, false
	l.mu.Unlock()
	var later []giving
	for _, g := range all {
		if g.due > now {
			later = append(later, g)
			continue
		}
		l.rows.Look(g.key, now, func(w *row) {
			switch idle := now - w.used; {
			case w.owes && now < w.ends:
				g.due = now + retryPause
				later = append(later, g)
				if s := l.tell(w, g.key, now, v); s != nil {
					list = append(list, s)
				}
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
	if walk {
		list = append(list, l.visit(now, v)...)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.giving = append(later, l.giving...)
	return list
}
