package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/control"
	"github.com/wedge-cloud/wedge/state"
	"github.com/wedge-cloud/wedge/state/merge"
)

// Homes of stores of scope home. A write that comes to another PoP is sent to its home. The home moves to where its writes come from: it
// counts them, and gives itself to the PoP from which all of them together would have had much less far to go.

// homeAsk is what one PoP asks another about keys of scope home: to carry out a write, which the body says; or, with a Writer, whether it is
// ready to be their next home.
type homeAsk struct {
	Writer       string `json:"writer,omitempty"` // as who it writes that asks
	Jurisdiction string `json:"jurisdiction,omitempty"`
}

// homeReady is what a PoP says that is.
type homeReady struct {
	Writer string `json:"writer"` // as who it writes
	Heard  uint64 `json:"heard"`  // number of the last item that it has of who asks
}

const (
	homeAskTimeout = 2 * time.Second
	maxHomeAnswer  = state.MaxCoreValue + 64<<10
)

// askHome sends a write to its home.
func (f *fleet) askHome(ctx context.Context, pop, service string, question []byte) ([]byte, error) {
	f.homes.stats.sent.Add(1)
	ctx, cancel := context.WithTimeout(ctx, homeAskTimeout)
	defer cancel()
	return f.peers.consult(ctx, pop, errand{Service: service, Home: &homeAsk{}}, question, patience{}, maxHomeAnswer)
}

// serveHome answers a PoP about homes.
func (n *Node) serveHome(w *peerWriter, r *http.Request, pop string, d *deployment, q *homeAsk) {
	from, known := n.fleet.peers.pops.named(pop)
	question, err := bodyUpTo(r, maxHomeAnswer)
	if err != nil || !known {
		w.refuse(http.StatusBadRequest, peerGone)
		return
	}
	if q.Writer == "" {
		n.fleet.homes.stats.answered.Add(1)
		_, _ = w.Write(d.state.stores.AnswerHome(r.Context(), &from, question))
		return
	}
	share := n.fleet.shareOf(q.Jurisdiction)
	if share == nil || n.kv.Full() || n.kv.Forked() {
		w.refuse(http.StatusMisdirectedRequest, peerGone)
		return
	}
	_ = answerJSON(w, http.StatusOK, homeReady{share.Writer(), share.Heard(q.Writer)})
}

// shareOf returns what this PoP holds of a jurisdiction; nil: nothing.
func (f *fleet) shareOf(jurisdiction string) *state.Share {
	for _, s := range f.shares {
		if s.Jurisdiction() == jurisdiction {
			return s
		}
	}
	return nil
}

// homes looks after the homes that are here.
type homes struct {
	node  *Node
	pace  time.Duration
	stats struct{ sent, answered, moved, failed atomic.Int64 }

	mu      sync.Mutex
	favours map[state.Unit]favour
}

// favour is a PoP that would be the better home, since when.
type favour struct {
	pop   string
	since time.Time
}

// DefaultHomePace is how long another PoP has to be the better home before one moves. What was written ten times as long ago counts half, and a home stays
// where it is for ten times as long.
const DefaultHomePace = time.Minute

const (
	homeRest  = 10 // paces
	homeGain  = 2  // a home moves if its writes wait that many times less then
	homeLeast = 5  // writes that must count
)

func newHomesOf(n *Node) *homes {
	return &homes{node: n, pace: cmp.Or(n.cfg.HomePace, DefaultHomePace), favours: map[state.Unit]favour{}}
}

// run looks after them until ctx ends.
func (h *homes) run(ctx context.Context) error {
	t := time.NewTicker(min(h.pace/4, time.Second))
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
		for _, share := range h.node.fleet.shares {
			if err := share.SettleHomes(ctx); err != nil && ctx.Err() == nil {
				h.node.cfg.Log.Debug("a home may have moved or not", "err", err)
			}
			for _, home := range share.Homes(homeRest * h.pace) {
				h.tend(ctx, share, &home)
			}
		}
	}
}

// tend moves a home if another PoP was the better one for long enough.
func (h *homes) tend(ctx context.Context, share *state.Share, home *state.Home) {
	plan := h.plan(share, home)
	h.mu.Lock()
	f := h.favours[home.Unit]
	if plan.Better == "" {
		delete(h.favours, home.Unit)
	} else if f.pop != plan.Better {
		if len(h.favours) > 10_000 {
			clear(h.favours)
		}
		f = favour{plan.Better, time.Now()}
		h.favours[home.Unit] = f
	}
	h.mu.Unlock()
	if plan.Better == "" || time.Since(f.since) < h.pace {
		return
	}
	if err := h.move(ctx, share, home.Unit, plan.Better, false); err != nil {
		h.node.cfg.Log.Warn("a home does not move", "service", home.Service, "keys", home.Unit.String(), "to", plan.Better, "err", err)
		h.mu.Lock()
		h.favours[home.Unit] = favour{plan.Better, time.Now()} // and again after a while
		h.mu.Unlock()
	}
}

// move gives a home to another PoP, if that is ready; asked: an operator wants it so.
func (h *homes) move(ctx context.Context, share *state.Share, u state.Unit, pop string, asked bool) error {
	if err := h.give(ctx, share, u, pop, asked); err != nil {
		h.stats.failed.Add(1)
		return err
	}
	h.stats.moved.Add(1)
	h.mu.Lock()
	delete(h.favours, u)
	h.mu.Unlock()
	why := ""
	if asked {
		why = ", as an operator wants it"
	}
	h.node.console.say(fmt.Sprintf("%s: the home of %s has moved to %s%s", u.Service, u, pop, why))
	return nil
}

func (h *homes) give(ctx context.Context, share *state.Share, u state.Unit, pop string, asked bool) error {
	before := share.Heard(share.Writer())
	var ready homeReady
	asking, cancel := context.WithTimeout(ctx, homeAskTimeout)
	defer cancel()
	b, err := h.node.fleet.peers.consult(asking, pop, errand{Service: u.Service, Home: &homeAsk{share.Writer(), share.Jurisdiction()}}, nil, patience{}, maxHomeAnswer)
	if err == nil {
		err = json.Unmarshal(b, &ready)
	}
	if err != nil {
		return err
	}
	to, err := merge.ParseWriter(ready.Writer)
	switch {
	case err != nil || to.PoP != pop:
		return errors.New("it answers in another's name")
	case ready.Heard < before-min(before, maxBehind):
		return errors.New("it lacks much of what was written here")
	}
	return share.MoveHome(ctx, u, to, asked)
}

// maxBehind is how many items a PoP may lack that is to be a home. It gets them while the home moves.
const maxBehind = 200

// plan says where a home should be.
func (h *homes) plan(share *state.Share, home *state.Home) api.Home {
	n := h.node
	p := placed(home)
	p.Writes, p.Waits = home.Writes, map[string]float64{}
	own := n.fleet.cfg.PoP
	pops := map[string]wedge.PoP{own.Name: own}
	candidates := []wedge.PoP{own}
	for _, q := range n.fleet.pops.known() {
		pops[q.Name] = q
	}
	for _, q := range n.fleet.homesOf(home.Service) {
		if j := share.Jurisdiction(); j == "" || slices.Contains(q.Jurisdictions, j) {
			candidates = append(candidates, q)
		}
	}
	all := 0.0
	for _, q := range candidates {
		p.Waits[q.Name] = 0
		for from, writes := range home.Writes {
			if w, known := pops[from]; known && from != q.Name {
				p.Waits[q.Name] += writes * (milliseconds(w.Distance(&q)) + 1)
			}
		}
	}
	for _, writes := range home.Writes {
		all += writes
	}
	best := slices.MinFunc(slices.Sorted(maps.Keys(p.Waits)), func(a, b string) int { return cmp.Compare(p.Waits[a], p.Waits[b]) })
	rest := time.Until(home.Since.Add(homeRest * h.pace))
	switch {
	case home.Moving:
		p.Why = "the core has not said whether it has moved; until then nothing is written"
	case all == 0:
		p.Why = "it stays: nothing was written to it of late"
	case p.Waits[best] == p.Waits[own.Name]:
		p.Why = "it stays: no PoP is nearer to its writers"
	case all < homeLeast:
		p.Why = fmt.Sprintf("it stays: %s is nearer to its writers, but they write too little", best)
	case p.Waits[best]*homeGain > p.Waits[own.Name]:
		p.Why = fmt.Sprintf("it stays: %s is nearer to its writers, but they would wait more than half as long", best)
	case home.Asked && rest > 0:
		p.Why = fmt.Sprintf("it stays for %v more, for an operator had it move here; then it may move to %s", span(rest), best)
	case home.Epoch > 1 && rest > 0:
		p.Why = fmt.Sprintf("it stays for %v more, for it has moved a moment ago; then it may move to %s", span(rest), best)
	default:
		p.Better, p.Why = best, fmt.Sprintf("it moves to %s if that is still the better home in %v", best, span(h.dwell(home.Unit, best)))
	}
	if all > 0 {
		for pop := range p.Waits {
			p.Waits[pop] /= all
		}
	}
	return p
}

// dwell returns for how long a PoP has to be the better home yet.
func (h *homes) dwell(u state.Unit, pop string) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.favours[u]; f.pop == pop {
		return max(h.pace-time.Since(f.since), 0)
	}
	return h.pace
}

// span is a time as a person reads it.
func span(d time.Duration) time.Duration {
	if d > 10*time.Second {
		return d.Round(time.Second)
	}
	return d.Round(10 * time.Millisecond)
}

// homesOf returns the other PoPs that can be asked and run a service.
func (f *fleet) homesOf(service string) (list []wedge.PoP) {
	if f.peers == nil {
		return nil
	}
	deployed := false
	f.applier.catalog.See(func(s *control.State) { deployed = s.Services[service] != nil })
	if deployed {
		return f.peers.near(service, f.applier.catalog)
	}
	return slices.DeleteFunc(f.pops.known(), func(q wedge.PoP) bool { return !q.Ready || !f.peers.there(&q) }) // each loads it by itself
}

// milliseconds estimates how long a round trip takes over that many kilometres: light in glass goes about 200 in one, and paths are not straight.
func milliseconds(km float64) float64 { return km / 100 * 1.3 }

func (h *homes) metrics() []metric {
	s := &h.stats
	return []metric{
		counter("home_writes_sent_total", "Writes to stores of scope home that were sent to their home at another PoP.", s.sent.Load()),
		counter("home_writes_answered_total", "Writes from other PoPs that were decided here.", s.answered.Load()),
		counter("home_moves_total", "Homes that have moved from here to another PoP.", s.moved.Load()),
		counter("home_moves_failed_total", "Moves of homes that failed.", s.failed.Load()),
	}
}
