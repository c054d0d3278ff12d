package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wedge-cloud/wedge/state"
)

// found is where a session is: here, or where what was wanted was done.
type found struct {
	epoch  uint64         // of the state that the token's bearer has read, as the session's epoch is counted now
	status string         // how it came here
	done   *sessionResult // it is elsewhere
}

func (f *found) result() sessionResult {
	if f.done == nil {
		return sessionResult{}
	}
	return *f.done
}

// search follows a session from PoP to PoP.
type search struct {
	s       *sessions
	service string
	t       *sessionToken
	op      *sessionOp

	target, via string
	epoch       uint64   // in which the session is said to be there
	visited     []string // PoPs that do not know where it is going to be
	stand       bool     // target is asked for its copy
	stood       string   // the PoP that has failed before
	away        bool     // it could not be reached
	held        bool     // it may come here
	began       time.Time
}

// find brings a session here, or has its home do what is wanted, if it may not come.
func (s *sessions) find(ctx context.Context, service string, t *sessionToken, op *sessionOp) (found, error) {
	q := search{s: s, service: service, t: t, op: op, target: t.Home, epoch: t.Epoch, held: s.carries(&s.pop, t.Jurisdiction), began: time.Now()}
	for range maxSessionHops {
		n, err := s.kv.Session(ctx, service, t.ID)
		if err != nil {
			return found{}, err
		}
		if n != nil && !n.Newer(q.epoch, q.target) && !q.stand { // what is known here is no older
			if n.Gone {
				return found{}, noSession(t.ID, "it was deleted")
			}
			if n.Home == s.pop.Name {
				return found{epoch: t.Epoch, status: "local"}, nil
			}
			q.target, q.epoch, q.via = n.Home, n.Epoch, s.pop.Name // it was given to that PoP, and may not have arrived
		}
		f, again, err := q.step(ctx, n)
		if !again {
			return f, err
		}
	}
	return found{}, waiting(t.ID, errors.New("it is nowhere to be found"))
}

// step asks one PoP. again is true if there is another to be asked.
func (q *search) step(ctx context.Context, n *state.Session) (f found, again bool, err error) {
	if q.target == q.s.pop.Name { // it is not here, though it should be
		return q.missing(n, errors.New("this PoP has lost it"))
	}
	op := *q.op
	op.Via, op.Epoch, op.Stand = q.via, q.epoch, q.stand
	if q.held {
		op.Do, op.Metadata, op.data = "take", nil, nil
	}
	a, err := q.s.ask(ctx, q.target, q.service, &op)
	if err != nil {
		return q.missing(n, err)
	}
	switch a.Is {
	case sessionDone:
		r := q.s.far(&a, q.target, q.began)
		if q.stood != "" {
			r.status += fmt.Sprintf(`; lost="%s"`, q.stood)
		}
		return found{done: &r}, false, nil
	case sessionGiven:
		return q.take(&a)
	case sessionFenced:
		again, q.held = q.held, false
	case sessionMoved:
		if before := (&state.Session{Epoch: q.epoch, Home: q.target}); before.Newer(a.Epoch, a.Home) || q.stand {
			q.visited = append(q.visited, q.target)
			q.via, q.target, q.epoch, q.stand = q.target, a.Home, a.Epoch, false
			return f, true, nil
		}
	case sessionNone:
		return q.missing(n, errors.New("its home has lost it"))
	case sessionFailed:
		return f, false, a.failure(q.t.ID)
	}
	if again {
		return f, true, nil
	}
	return f, false, waiting(q.t.ID, fmt.Errorf("%s makes no sense", q.target))
}

// take makes this PoP the home.
func (q *search) take(a *sessionAnswer) (f found, again bool, err error) {
	s, n := q.s, *a.session
	from := append(q.visited, q.target)
	if n.Service != q.service || n.ID != q.t.ID || n.Gone || n.Home != s.pop.Name || n.Epoch <= q.t.Epoch {
		return f, false, waiting(q.t.ID, fmt.Errorf("%s gives something else", q.target))
	}
	n.Standby = s.standby(&n, n.Standby != "" || q.op.Copied)
	_, installed, err := s.kv.TakeSession(n, append(from, n.Standby)...)
	if err != nil {
		return f, false, err
	}
	f.epoch = q.t.Epoch
	if installed {
		s.stats.taken.Add(1)
		if n.Epoch == q.t.Epoch+1 { // nobody has written since the token was made but in its own epoch
			f.epoch = n.Epoch
		}
	}
	f.status = fmt.Sprintf(`moved; from="%s"; ms=%.1f`, q.target, since(q.began))
	if q.stood != "" {
		f.status = fmt.Sprintf(`standby; from="%s"; lost="%s"; ms=%.1f`, q.target, q.stood, since(q.began))
	}
	return f, false, nil
}

// missing is what becomes of a session that its home cannot be asked for, or has not.
func (q *search) missing(n *state.Session, why error) (f found, again bool, err error) {
	s, lost := q.s, q.target
	copied := q.op.Stand && !q.stand
	switch {
	case copied && q.held && n != nil && n.Spare:
		if _, err := s.kv.PromoteSession(q.service, q.t.ID, q.t.Write, append(q.visited, lost)...); err != nil {
			return f, false, err
		}
		s.stats.promoted.Add(1)
		return found{epoch: q.t.Epoch, status: fmt.Sprintf(`standby; from="%s"; lost="%s"; ms=%.1f`, s.pop.Name, lost, since(q.began))}, false, nil
	case copied && !slices.Contains([]string{"", s.pop.Name, lost}, q.t.Standby) && q.op.Via == "":
		q.visited = append(q.visited, lost)
		q.stood, q.away, q.stand, q.target, q.via = lost, isUnreached(why), true, q.t.Standby, ""
		return f, true, nil
	}
	if q.stood != "" {
		lost = q.stood
	}
	if q.away || q.stood == "" && isUnreached(why) {
		s.stats.waited.Add(1)
		return f, false, waiting(q.t.ID, fmt.Errorf("%s, where it is, cannot be reached", lost))
	}
	return f, false, noSession(q.t.ID, why.Error())
}
