package node

import (
	"context"
	"encoding/json"
	"errors"
	"hash/maphash"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge/internal/recent"
	"github.com/wedge-cloud/wedge/rate"
)

const (
	rateAskTime   = 1500 * time.Millisecond // for one PoP's answer, connecting included
	rateTick      = time.Second             // between looks at who is there
	rateHeard     = 3 * beatInterval        // who has not heard itself for so long may hear nobody. Others are missed later than that
	rateSteady    = 2 * beatInterval        // and who has only just begun to may not have heard all
	maxRateAsks   = 2048                    // under way at once for which no request waits
	ratePatience  = 3 * time.Second         // after which a request does not wait for one more answer
	maxRateAnswer = 4 << 10                 // bytes
	rateLandings  = 256
	rateName      = "rate"
)

// rating decides how many requests are let in, with the other PoPs if there are any: it carries asks for a [rate.Limiter].
type rating struct {
	limiter *rate.Limiter
	base    time.Time     // when it began
	epoch   time.Duration // and that since 1970

	fleet *fleet // nil: the node is alone, or reaches no other
	ctx   context.Context
	end   context.CancelFunc
	done  sync.WaitGroup
	room  chan struct{} // for asks for which no request waits

	// Who waits for another's ask waits for the next that lands among its keys. Which those are no client can know, or it could have
	// those who wait for one key woken by asks for others, without end.
	landings [rateLandings]atomic.Pointer[chan struct{}]
	seed     maphash.Seed

	mu     sync.Mutex
	over   bool      // run has ended, and nobody is asked any more
	last   []string  // PoPs that were there when that was sure
	steady time.Time // since when this PoP hears itself; zero: it does not

	stats struct{ local, asked, refused, open, closed, checks, asks, unanswered, served atomic.Int64 }
}

func newRating(pop string, now time.Time) *rating {
	g := &rating{limiter: rate.New(pop), base: time.Now(), epoch: time.Duration(now.UnixNano()), room: make(chan struct{}, maxRateAsks), seed: maphash.MakeSeed()}
	g.ctx, g.end = context.WithCancel(context.Background())
	for i := range g.landings {
		landed := make(chan struct{})
		g.landings[i].Store(&landed)
	}
	return g
}

// now never jumps, whatever is done to the clock.
func (g *rating) now() time.Duration { return g.epoch + time.Since(g.base) }

func (g *rating) landing(k recent.Key) *atomic.Pointer[chan struct{}] {
	return &g.landings[maphash.Bytes(g.seed, k[:])%rateLandings]
}

// take decides about a request; waited says that another PoP's answer was waited for. That is not cut short when the client leaves: it takes
// no longer than an ask does, and who leaves is counted as well. Of very many who wait for the same key each answer lets some go on, and
// asks for other keys wake them, too; who is not decided about in time is refused, or else who can make it take long would be let in.
func (g *rating) take(rule *rate.Rule, k recent.Key, waited bool) (rate.Decision, bool) {
	for began := g.now(); g.now()-began < ratePatience; {
		landed := g.landing(k).Load() // before, or else the ask might land unnoticed
		d, out := g.limiter.Take(rule, k, g.now(), waited)
		if !d.Wait {
			if out != nil {
				g.behind(out)
			}
			return d, waited
		}
		if waited = true; out != nil {
			g.send(out)
		} else {
			<-*landed
		}
	}
	return rate.Decision{Reset: time.Second}, true
}

// behind carries an ask for which nobody waits.
func (g *rating) behind(s *rate.Sent) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.over {
		select {
		case g.room <- struct{}{}:
			g.done.Go(func() {
				g.send(s)
				<-g.room
			})
			return
		default:
		}
	}
	g.stats.unanswered.Add(1) // too many are being asked, or this PoP stops
	g.limiter.Unsent(s, g.now())
	g.wake(s.Ask.Key)
}

// send carries an ask.
func (g *rating) send(s *rate.Sent) {
	g.stats.asks.Add(1)
	a, err := g.ask(s)
	g.landed(s, a, err)
}

func (g *rating) landed(s *rate.Sent, a rate.Answer, err error) {
	if err != nil {
		g.stats.unanswered.Add(1)
	}
	more := g.limiter.Answered(s, a, err == nil, g.now())
	g.wake(s.Ask.Key)
	if more != nil {
		g.behind(more)
	}
}

// wake has those look again who wait for an ask about a key.
func (g *rating) wake(k recent.Key) {
	next := make(chan struct{})
	close(*g.landing(k).Swap(&next))
}

func (g *rating) ask(s *rate.Sent) (a rate.Answer, err error) {
	if g.fleet == nil {
		return a, errors.New("this PoP reaches no other")
	}
	if s.Pause > 0 {
		select {
		case <-time.After(s.Pause):
		case <-g.ctx.Done():
		}
	}
	ctx, cancel := context.WithTimeout(g.ctx, rateAskTime)
	defer cancel()
	b, err := g.fleet.peers.consult(ctx, s.To, errand{Service: rateName, Rate: &s.Ask}, nil, patience{}, maxRateAnswer)
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(b, &a)
}

// servePeer answers another PoP. What it says counts as its own: of others it can say nothing.
func (g *rating) servePeer(w *peerWriter, from string, a *rate.Ask) {
	g.stats.served.Add(1)
	ans, more := g.limiter.Asked(from, *a, g.now())
	if more != nil {
		g.behind(more)
	}
	if ans.Keeper == "" && !ans.None && !a.Back {
		w.refuse(http.StatusBadRequest, peerGone)
		return
	}
	_ = answerJSON(w, http.StatusOK, ans)
}

// join has a fleet's PoPs count together.
func (g *rating) join(f *fleet) {
	if f.rating = g; f.peers != nil {
		g.fleet = f
	}
}

// run sees who is there, and gives back rations that are not used, until ctx ends.
func (g *rating) run(ctx context.Context) error {
	defer func() {
		g.mu.Lock()
		g.over = true
		g.mu.Unlock()
		g.end()
		g.done.Wait()
	}()
	t := time.NewTicker(rateTick)
	defer t.Stop()
	for {
		g.see()
		for _, s := range g.limiter.Tick(g.now()) {
			g.behind(s)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// see has the limiter know who is there. A PoP that does not hear itself is cut off, though its link may not know yet; and one that has just
// heard itself again may not have heard the others. Then those count as there who last were: or else each side of a cut would take itself for all.
func (g *rating) see() {
	if g.fleet == nil {
		return
	}
	var there []string
	heard := false
	for _, p := range g.fleet.pops.here() {
		if p.Name == g.fleet.cfg.PoP.Name {
			heard = time.Since(p.Seen) < rateHeard
		} else if p.Peer != "" {
			there = append(there, p.Name)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !heard || !g.fleet.link.Up() {
		g.steady = time.Time{}
	} else if g.steady.IsZero() {
		g.steady = time.Now()
	}
	sure := !g.steady.IsZero() && time.Since(g.steady) >= rateSteady
	if sure {
		g.last = there
	}
	g.limiter.See(append(there, g.last...), sure, g.now())
}

// note counts a decision.
func (g *rating) note(d *rate.Decision, waited, closed bool) {
	switch s := &g.stats; {
	case d.Fallback && closed:
		s.closed.Add(1)
	case d.Fallback:
		s.open.Add(1)
	case waited:
		s.asked.Add(1)
	default:
		s.local.Add(1)
	}
	if !d.OK {
		g.stats.refused.Add(1)
	}
}

func (g *rating) metrics() []metric {
	c, s := counter, &g.stats
	return []metric{
		c("rate_decisions_local_total", "Requests of rates decided without waiting for another PoP.", s.local.Load()),
		c("rate_decisions_asked_total", "Requests of rates for which another PoP's answer was waited for.", s.asked.Load()),
		c("rate_failed_open_total", "Requests of rates with fail = \"open\" decided without the PoP that counts, which could not be asked.", s.open.Load()),
		c("rate_failed_closed_total", "Requests of rates with fail = \"closed\" refused because the PoP that counts could not be asked.", s.closed.Load()),
		c("rate_refused_total", "Of these four, those refused with status 429.", s.refused.Load()),
		c("rate_checks_asked_total", "Guests' checks of rates (check_rate) for which another PoP's answer was waited for.", s.checks.Load()),
		c("rate_asks_total", "Times that another PoP was asked, also ahead of need.", s.asks.Load()),
		c("rate_unanswered_total", "Asks that were not answered.", s.unanswered.Load()),
		c("rate_served_total", "Asks of other PoPs.", s.served.Load()),
		c("rate_over_total", "Requests let in beyond limits, as far as this PoP has counted for all.", g.limiter.Over()),
		gauge("rate_keys", "Keys that are counted here now.", int64(g.limiter.Keys())),
	}
}
