package node

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state"
)

// Sessions follow their clients: a token says where a session was, the PoP that gets the token asks for it there and becomes its home.
// Nothing says where all sessions are. Where a session may not go, its home is asked to do what is to be done.

// sessions is a node's part in them.
type sessions struct {
	kv      *state.KV
	pop     wedge.PoP // this one
	peers   *peers    // nil: this PoP reaches no other
	key     ed25519.PrivateKey
	signers *signers
	now     func() time.Time
	log     *slog.Logger
	news    chan sessionName // of which somebody is to be told
	again   chan struct{}    // there may be somebody who could not be told before

	stats struct {
		begun, reads, writes, taken, given, remote, promoted, fenced, copies, waited atomic.Int64
		refused                                                                      [5]atomic.Int64 // as refusals
	}
	first  atomic.Bool // somebody was heard of: what was left from before may be told
	mu     sync.Mutex
	shown  map[error]time.Time // when a refusal was logged last
	missed map[string]struct{} // PoPs that could not be told something
}

type sessionName struct {
	service string
	id      wedge.SessionID
}

// errTokenStale is said of a write with the token of an earlier state.
var errTokenStale = errors.New("stale")

// refusals are why tokens are refused.
var refusals = [...]error{errTokenForm, errTokenForged, errTokenUnknown, errTokenExpired, errTokenStale}

const (
	maxSessionHops  = 8
	sessionFirst    = 2 * time.Second // that another PoP may take until it answers
	sessionGap      = 2 * time.Second
	sessionPatience = 10 * time.Second
)

// openSessions makes a node's part ready. In a fleet join must follow.
func openSessions(kv *state.KV, cfg *Config) (s *sessions, err error) {
	s = &sessions{kv: kv, pop: wedge.PoP{Name: cfg.pop()}, now: cfg.Now, log: cfg.Log, news: make(chan sessionName, 1024), again: make(chan struct{}, 1),
		shown: map[error]time.Time{}, missed: map[string]struct{}{}}
	if cfg.Fleet != nil {
		s.pop = cfg.Fleet.PoP
	}
	if s.key, err = kv.SessionKey(); err != nil {
		return nil, err
	}
	s.signers, err = openSigners(kv, s.pop.Name, s.key.Public().(ed25519.PublicKey))
	return s, err
}

// join lets sessions come from and go to other PoPs.
func (s *sessions) join(f *fleet) {
	s.signers.pops = &f.pops
	if f.peers != nil {
		s.peers, s.pop = f.peers, f.peers.own
	}
}

// carries reports whether a PoP may hold what is in a jurisdiction.
func (s *sessions) carries(p *wedge.PoP, jurisdiction string) bool {
	return p.Carries(jurisdiction) && (s.signers.pops == nil || s.signers.pops.mayCarry(p.Name, jurisdiction))
}

// heard notes what a PoP says of itself.
func (s *sessions) heard(p wedge.PoP) {
	if err := s.signers.heard(p); err != nil {
		s.log.Error("keep the key of a PoP", "pop", p.Name, "err", err)
	}
	s.mu.Lock()
	_, missed := s.missed[p.Name]
	delete(s.missed, p.Name)
	s.mu.Unlock()
	if missed || s.first.CompareAndSwap(false, true) {
		select {
		case s.again <- struct{}{}:
		default:
		}
	}
}

// sessionOp is what is to be done with a session, by its home or by who is about to be that.
type sessionOp struct {
	Do           string        `json:"do"`              // get, put, delete; between PoPs also take and hear
	Token        string        `json:"token,omitempty"` // "": put begins a session
	Tag          string        `json:"tag,omitempty"`   // put, delete: only if it holds that
	Metadata     []byte        `json:"metadata,omitempty"`
	TTL          time.Duration `json:"ttl,omitempty"`
	Jurisdiction string        `json:"jurisdiction,omitempty"` // of one that is begun
	Copied       bool          `json:"copied,omitempty"`       // another PoP is to have a copy
	Stand        bool          `json:"stand,omitempty"`        // if the home cannot be reached, a copy will do
	Via          string        `json:"via,omitempty"`          // who said that it is here
	Epoch        uint64        `json:"epoch,omitempty"`        // since which

	data []byte
}

// sessionResult is what came of it.
type sessionResult struct {
	session *state.Session
	token   string
	status  string // how it was reached
}

func waiting(id wedge.SessionID, err error) error {
	return &wedge.Error{Op: "open session", What: id.String(), Kind: wedge.Unavailable, Err: err,
		Hint: `Try again soon. With standby = true and lost = "standby" in [sessions] of wedge.toml, sessions go on from a copy.`}
}

func noSession(id wedge.SessionID, why string) error {
	return &wedge.Error{Op: "open session", What: id.String(), Kind: wedge.NotExist, Err: errors.New(why), Hint: "Begin a new one."}
}

// admit checks a token from outside.
func (s *sessions) admit(service, token string) (sessionToken, error) {
	t, err := s.signers.check(service, token, s.now())
	if err != nil {
		s.refuse(service, err)
	}
	switch err {
	case nil:
		return t, nil
	case errTokenExpired:
		return t, noSession(t.ID, "its token has expired")
	case errTokenUnknown:
		return t, waiting(t.ID, errors.New("this PoP does not know yet who has signed the token"))
	}
	return t, &wedge.Error{Op: "open session", Kind: wedge.Denied, Err: fmt.Errorf("the token is %w", err), Hint: "Begin a new session: this one is not what Wedge gave out."}
}

// refuse counts a refusal, and logs it, once a second at most for each reason.
func (s *sessions) refuse(service string, why error) {
	s.stats.refused[slices.Index(refusals[:], why)].Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.shown[why]) >= time.Second {
		s.shown[why] = now
		s.log.Warn("a session's token was refused", "service", service, "why", why)
	}
}

// do does what a guest of this PoP wants.
func (s *sessions) do(ctx context.Context, service string, op *sessionOp) (sessionResult, error) {
	if op.Token == "" {
		return s.begin(ctx, service, op)
	}
	t, err := s.admit(service, op.Token)
	if err != nil {
		return sessionResult{}, err
	}
	for range maxSessionHops {
		f, err := s.find(ctx, service, &t, op)
		if err != nil || f.done != nil {
			return f.result(), err
		}
		r, err := s.here(service, &t, op, f.epoch)
		if !errors.Is(err, state.ErrElsewhere) {
			r.status = f.status
			return r, err
		}
	}
	return sessionResult{}, waiting(t.ID, errors.New("it moves all the time"))
}

// begin begins a session, here or at the nearest PoP that may hold it.
func (s *sessions) begin(ctx context.Context, service string, op *sessionOp) (r sessionResult, err error) {
	if op.Do != "put" {
		return r, noSession(wedge.SessionID{}, "there is no token")
	}
	if s.carries(&s.pop, op.Jurisdiction) {
		n := state.Session{Service: service, Expires: s.expiry(op), Jurisdiction: op.Jurisdiction, Metadata: op.Metadata, Data: op.data}
		n.Standby = s.standby(&n, op.Copied)
		if r.session, err = s.kv.BeginSession(n); err != nil {
			return r, err
		}
		s.stats.begun.Add(1)
		return s.signed(r.session, "new"), nil
	}
	for _, to := range s.holders(op.Jurisdiction) {
		began := time.Now()
		a, err := s.ask(ctx, to.Name, service, op)
		if err == nil && a.Is == sessionDone {
			return s.far(&a, to.Name, began), nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return r, &wedge.Error{Op: "begin session", What: service, Kind: wedge.Unavailable, Err: fmt.Errorf("no PoP of the jurisdiction %s can be reached", op.Jurisdiction),
		Hint: "Try again soon. Which PoPs carry it: wedge pops"}
}

func (s *sessions) expiry(op *sessionOp) time.Time {
	return s.now().Add(min(cmp.Or(op.TTL, wedge.DefaultSessionTTL), wedge.MaxSessionTTL)).Truncate(time.Second)
}

// signed is what comes of a session whose home is here.
func (s *sessions) signed(n *state.Session, status string) sessionResult {
	if len(n.Tell) > 0 {
		select {
		case s.news <- sessionName{n.Service, n.ID}:
		default: // it is found when all are looked at
		}
	}
	t := tokenOf(n)
	return sessionResult{session: n, token: t.sign(n.Service, s.key), status: status}
}

// far is what comes of a session that another PoP is the home of.
func (s *sessions) far(a *sessionAnswer, pop string, began time.Time) sessionResult {
	s.stats.remote.Add(1)
	return sessionResult{session: a.session, token: a.Token, status: fmt.Sprintf(`remote; pop="%s"; ms=%.1f`, pop, since(began))}
}

func since(t time.Time) float64 { return float64(time.Since(t)) / float64(time.Millisecond) }

// here does something with a session whose home is here. epoch is that of the state which was read before.
func (s *sessions) here(service string, t *sessionToken, op *sessionOp, epoch uint64) (r sessionResult, err error) {
	switch op.Do {
	case "get":
		s.stats.reads.Add(1)
		n, err := s.kv.Session(context.Background(), service, t.ID)
		switch {
		case err != nil:
			return r, err
		case n == nil || n.Gone:
			return r, noSession(t.ID, "it is gone")
		case n.Home != s.pop.Name:
			return r, state.ErrElsewhere
		}
		return s.signed(n, ""), nil
	case "put", "delete":
		s.stats.writes.Add(1)
		n, err := s.kv.WriteSession(service, t.ID, epoch, op.Tag, func(n *state.Session) {
			if n.Data, n.Metadata = op.data, op.Metadata; op.Do == "delete" {
				n.Data, n.Metadata, n.Gone = nil, nil, true
				return
			}
			n.Expires, n.Standby = s.expiry(op), s.standby(n, op.Copied)
		})
		if wedge.KindOf(err) == wedge.Conflict && err != nil {
			s.refuse(service, errTokenStale)
		}
		if err != nil {
			return r, err
		}
		return s.signed(n, ""), nil
	}
	return r, &wedge.Error{Op: "use session", What: op.Do, Kind: wedge.Invalid}
}

// holders returns the PoPs that may hold sessions of a jurisdiction and can be asked, the nearest first.
func (s *sessions) holders(jurisdiction string) []wedge.PoP {
	if s.peers == nil {
		return nil
	}
	list := slices.DeleteFunc(s.peers.pops.known(), func(p wedge.PoP) bool { return !p.Ready || !s.carries(&p, jurisdiction) || !s.peers.there(&p) })
	slices.SortStableFunc(list, func(a, b wedge.PoP) int { return cmp.Compare(s.pop.Distance(&a), s.pop.Distance(&b)) })
	return list[:min(len(list), maxPeerTries)]
}

// standby returns the PoP that is to have a session's copy: the one that had the last, or the nearest.
func (s *sessions) standby(n *state.Session, wanted bool) string {
	if !wanted || s.peers == nil {
		return ""
	}
	if p, known := s.peers.pops.named(n.Standby); known && s.carries(&p, n.Jurisdiction) && s.peers.there(&p) {
		return p.Name
	}
	if list := s.holders(n.Jurisdiction); len(list) > 0 {
		return list[0].Name
	}
	return ""
}

func (s *sessions) metrics() []metric {
	c, t := counter, &s.stats
	all := []metric{
		c("sessions_begun_total", "Sessions begun here.", t.begun.Load()),
		c("sessions_reads_total", "Reads of sessions whose home this PoP is, by guests here and elsewhere.", t.reads.Load()),
		c("sessions_writes_total", "Writes to such sessions.", t.writes.Load()),
		c("sessions_taken_total", "Sessions that came from another PoP.", t.taken.Load()),
		c("sessions_given_total", "Sessions that went to another PoP.", t.given.Load()),
		c("sessions_remote_total", "Uses of sessions that stayed at another PoP, as their jurisdiction wants it.", t.remote.Load()),
		c("sessions_copies_total", "Copies sent to a standby.", t.copies.Load()),
		c("sessions_promoted_total", "Sessions that began here from a copy, their home being away.", t.promoted.Load()),
		c("sessions_fenced_total", "Sessions that began elsewhere from a copy while this PoP was their home.", t.fenced.Load()),
		c("sessions_waited_total", "Uses of sessions that failed because their home could not be reached.", t.waited.Load()),
	}
	for i, why := range refusals {
		m := c("sessions_refused_total", "Tokens refused, by reason: forged ones, and writes with those of an earlier state.", t.refused[i].Load())
		m.label, m.labelValue = "reason", why.Error()
		all = append(all, m)
	}
	return all
}

// SessionCount returns a counter of sessions at this node: the metric's name without sessions_ and _total, or refused_ and the reason.
func (n *Node) SessionCount(name string) int64 {
	for _, m := range n.sessions.metrics() {
		full := m.name
		if m.label != "" {
			full = "wedge_sessions_refused_" + m.labelValue + "_total"
		}
		if full == "wedge_sessions_"+name+"_total" {
			return int64(m.value)
		}
	}
	return 0
}

// UntoldSessions returns of how many sessions whose home this node is others are still to be told, or lack a copy, up to a hundred.
func (n *Node) UntoldSessions() int64 {
	list, _, err := n.kv.Untold("", 100)
	if err != nil {
		return 0
	}
	return int64(len(list))
}
