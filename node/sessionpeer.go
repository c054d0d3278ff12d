package node

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state"
)

// What a PoP says of a session that another asks for.
const (
	sessionDone   = "done"   // what was wanted is done
	sessionGiven  = "given"  // who asks is its home now
	sessionMoved  = "moved"  // it is at Home, since Epoch
	sessionFenced = "fenced" // who asks may not hold it
	sessionNone   = "none"   // nothing is known of it
	sessionHeard  = "heard"
	sessionFailed = "failed" // as Kind, Error and Hint say
)

// sessionAnswer is such an answer. The session follows, if there is one.
type sessionAnswer struct {
	Is    string `json:"is"`
	Home  string `json:"home,omitempty"`
	Epoch uint64 `json:"epoch,omitempty"`
	Token string `json:"token,omitempty"`
	Kind  string `json:"kind,omitempty"`
	Error string `json:"error,omitempty"`
	Hint  string `json:"hint,omitempty"`

	session *state.Session
}

func (a *sessionAnswer) failure(id wedge.SessionID) error {
	return &wedge.Error{Op: "use session", What: id.String(), Kind: wedge.KindNamed(a.Kind), Err: errors.New(a.Error), Hint: a.Hint}
}

// maxSessionAnswer bounds an answer, in bytes.
const maxSessionAnswer = wedge.MaxSession + 64<<10

func (a *sessionAnswer) encode() ([]byte, error) {
	head, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	b := append(binary.AppendUvarint(nil, uint64(len(head))), head...)
	if a.session == nil {
		return b, nil
	}
	text, err := state.EncodeSession(a.session)
	return append(b, text...), err
}

// readSessionAnswer reads what another PoP has said.
func readSessionAnswer(b []byte) (a sessionAnswer, err error) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) || n > 16<<10 {
		return a, errors.New("not an answer")
	}
	rest := b[size+int(n):]
	if err := json.Unmarshal(b[size:size+int(n)], &a); err != nil {
		return a, err
	}
	if len(rest) > 0 {
		a.session, err = state.DecodeSession(rest)
	} else if a.Is == sessionDone || a.Is == sessionGiven {
		err = errors.New("there is no session in it")
	}
	if a.Epoch > state.MaxEpoch || len(a.Token) > maxSessionToken {
		err = errors.New("an answer that cannot be")
	}
	return a, err
}

// ask asks a PoP.
func (s *sessions) ask(ctx context.Context, pop, service string, op *sessionOp) (a sessionAnswer, err error) {
	ctx, cancel := context.WithTimeout(ctx, sessionPatience)
	defer cancel()
	b, err := s.peers.consult(ctx, pop, errand{Service: service, Session: op}, op.data, patience{first: sessionFirst, gap: sessionGap}, maxSessionAnswer)
	if err == nil {
		a, err = readSessionAnswer(b)
	}
	if err != nil && s.peers != nil {
		err = unreachable(pop, wedge.FailureUnavailable, err)
	}
	return a, err
}

// servePeer answers another PoP.
func (s *sessions) servePeer(w http.ResponseWriter, r *http.Request, e *errand, from string) {
	op := e.Session
	var a sessionAnswer
	data, err := bodyUpTo(r, maxSessionAnswer)
	if op.data = data; err == nil {
		a, err = s.answer(r.Context(), e.Service, op, from)
	}
	if err != nil {
		a = sessionAnswer{Is: sessionFailed, Kind: wedge.KindOf(err).String(), Error: causeText(err), Hint: wedge.HintOf(err)}
	}
	b, err := a.encode()
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(b)
}

// causeText is an error's text without what and where.
func causeText(err error) string {
	var e *wedge.Error
	if errors.As(err, &e) && e.Err != nil {
		return e.Err.Error()
	}
	return err.Error()
}

// answer does what another PoP asks.
func (s *sessions) answer(ctx context.Context, service string, op *sessionOp, from string) (a sessionAnswer, err error) {
	switch {
	case strings.Contains(service, "\x00"):
		return a, &wedge.Error{Op: "use session", Kind: wedge.Invalid, Err: errors.New("not a service")}
	case op.Do == "hear":
		return s.hear(service, op, from)
	case op.Token == "" && op.Do == "put" && s.carries(&s.pop, op.Jurisdiction):
		r, err := s.begin(ctx, service, op)
		return sessionAnswer{Is: sessionDone, Token: r.token, session: bare(r.session)}, err
	case op.Token == "":
		return sessionAnswer{Is: sessionFenced}, nil
	}
	t, err := s.admit(service, op.Token)
	if err != nil {
		return a, err
	}
	n, err := s.kv.Session(ctx, service, t.ID)
	if err != nil {
		return a, err
	}
	if older := n == nil || n.Epoch < op.Epoch; older && op.Via != "" && op.Via != s.pop.Name || op.Stand && (n == nil || n.Home != s.pop.Name) {
		if n, err = s.bring(ctx, service, t, op); err != nil {
			return a, err
		}
	}
	if op.Do == "take" {
		return s.give(service, &t, n, from)
	}
	r, err := s.here(service, &t, op, t.Epoch)
	switch {
	case err == nil && op.Do == "get":
		return sessionAnswer{Is: sessionDone, Token: r.token, session: r.session}, nil
	case err == nil:
		return sessionAnswer{Is: sessionDone, Token: r.token, session: bare(r.session)}, nil
	case n != nil && !n.Gone && errors.Is(err, state.ErrElsewhere):
		return sessionAnswer{Is: sessionMoved, Home: n.Home, Epoch: n.Epoch}, nil
	case n == nil:
		return sessionAnswer{Is: sessionNone}, nil
	}
	return a, err
}

// bare is a session without what it holds.
func bare(n *state.Session) *state.Session {
	if n == nil {
		return nil
	}
	c := *n
	c.Data, c.Metadata = nil, nil
	return &c
}

// bring brings a session here that another PoP believes to be here, or wants to begin from the copy that is.
func (s *sessions) bring(ctx context.Context, service string, t sessionToken, op *sessionOp) (*state.Session, error) {
	if op.Via != "" && op.Epoch >= t.Epoch {
		t.Home, t.Epoch = op.Via, op.Epoch-1 // it was given by that PoP and did not arrive
	}
	_, err := s.find(ctx, service, &t, &sessionOp{Do: "take", Stand: op.Stand, Token: op.Token, Via: s.pop.Name})
	if err != nil && wedge.KindOf(err) != wedge.NotExist {
		return nil, err
	}
	return s.kv.Session(ctx, service, t.ID)
}

// give gives a session to a PoP, or says where it is.
func (s *sessions) give(service string, t *sessionToken, n *state.Session, to string) (a sessionAnswer, err error) {
	taker, known := s.peers.pops.named(to)
	if n != nil && n.Home == s.pop.Name && !(known && s.carries(&taker, n.Jurisdiction)) {
		return sessionAnswer{Is: sessionFenced}, nil
	}
	n, given, err := s.kv.GiveSession(service, t.ID, to)
	switch {
	case err != nil:
		return a, err
	case n == nil:
		return sessionAnswer{Is: sessionNone}, nil
	case n.Gone:
		return a, noSession(t.ID, "it was deleted")
	case !given:
		return sessionAnswer{Is: sessionMoved, Home: n.Home, Epoch: n.Epoch}, nil
	}
	s.stats.given.Add(1)
	return sessionAnswer{Is: sessionGiven, session: n}, nil
}

// hear hears that the PoP that says so is a session's home. If something newer is known here, it says so.
func (s *sessions) hear(service string, op *sessionOp, from string) (a sessionAnswer, err error) {
	said, err := state.DecodeSession(op.data)
	if err != nil {
		return a, err
	}
	if said.Service != service || said.Standby == s.pop.Name && !s.carries(&s.pop, said.Jurisdiction) {
		return a, &wedge.Error{Op: "hear of session", What: from, Kind: wedge.Denied, Err: errors.New("it may not be held here")}
	}
	n, fenced, err := s.kv.HearSession(from, *said)
	if err != nil {
		return a, err
	}
	if fenced {
		s.stats.fenced.Add(1)
		s.log.Warn("a session goes on elsewhere from a copy; what was written here since is lost", "service", service, "session", said.ID, "pop", from)
	}
	if n != nil && n.Home != from && said.Newer(n.Epoch, n.Home) && n.Home == s.pop.Name {
		n = bare(n)
		n.Standby = ""
		return sessionAnswer{Is: sessionMoved, Home: n.Home, Epoch: n.Epoch, session: n}, nil
	}
	return sessionAnswer{Is: sessionHeard}, nil
}

const (
	tellPause  = 30 * time.Second // between looks for what PoPs are to be told, if none of them comes back
	tellBatch  = 32
	tellAtOnce = 16
)

// run tells other PoPs where sessions are, and sends copies, until ctx ends.
func (s *sessions) run(ctx context.Context) error {
	t := time.NewTicker(tellPause)
	defer t.Stop()
	slots := make(chan struct{}, tellAtOnce)
	var w sync.WaitGroup
	defer w.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case name := <-s.news:
			slots <- struct{}{}
			w.Go(func() {
				defer func() { <-slots }()
				if n, err := s.kv.Session(ctx, name.service, name.id); err == nil && n != nil && n.Home == s.pop.Name {
					s.tell(ctx, n)
				}
			})
		case <-s.again:
			s.tellAll(ctx)
		case <-t.C:
			s.tellAll(ctx)
		}
	}
}

// tellAll tells whoever can be told.
func (s *sessions) tellAll(ctx context.Context) {
	for after := ""; ctx.Err() == nil; {
		list, next, err := s.kv.Untold(after, tellBatch)
		if err != nil {
			return
		}
		for _, n := range list {
			s.tell(ctx, n)
		}
		if after = next; after == "" {
			return
		}
	}
}

// miss notes that a PoP is to be told something when it is heard of again.
func (s *sessions) miss(pop string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missed[pop] = struct{}{}
}

// tell tells all that are to be told of a session whose home is here.
func (s *sessions) tell(ctx context.Context, n *state.Session) {
	for _, pop := range n.Tell {
		said := bare(n)
		if said.Tell = nil; pop == n.Standby && !n.Gone {
			said.Data, said.Metadata = n.Data, n.Metadata
		}
		text, err := state.EncodeSession(said)
		if err != nil {
			continue
		}
		a, err := s.ask(ctx, pop, n.Service, &sessionOp{Do: "hear", data: text})
		switch {
		case err != nil || a.Is == sessionFailed:
			s.miss(pop)
			continue
		case a.Is == sessionMoved && a.session != nil && a.session.Service == n.Service && a.session.ID == n.ID:
			if _, fenced, err := s.kv.HearSession(pop, *a.session); err == nil && fenced {
				s.stats.fenced.Add(1)
			}
			return
		}
		if pop == n.Standby && !n.Gone {
			s.stats.copies.Add(1)
		}
		if err := s.kv.ToldSession(n, pop); err != nil {
			s.log.Error("note what another PoP knows of a session", "pop", pop, "err", err)
		}
	}
}
