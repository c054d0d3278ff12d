package state

import (
	"crypto/rand"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state/merge"
)

// ErrElsewhere says that this PoP is not the session's home.
var ErrElsewhere = errors.New("the session is at another PoP")

func lostSession(id wedge.SessionID) error {
	return &wedge.Error{Op: "open session", What: id.String(), Kind: wedge.NotExist, Err: errors.New("there is no such session any more"), Hint: "Begin a new one."}
}

// StaleSession is the error of a write for which an earlier state of the session was read.
func StaleSession(id wedge.SessionID) error {
	return &wedge.Error{Op: "write session", What: id.String(), Kind: wedge.Conflict, Err: errors.New("it has moved or was written since it was read"),
		Hint: "Read the session again, and write with the token that comes with it."}
}

// BeginSession makes this PoP the home of a new session, of which its id, home, epoch and number of writes are set here.
func (kv *KV) BeginSession(s Session) (*Session, error) {
	_, _ = rand.Read(s.ID[:]) // never fails, by contract
	s.Home, s.Epoch, s.Write = kv.opts.PoP, 1, 1
	s.Tell = kv.telling(&s, s.Standby)
	if err := s.Check(); err != nil {
		return nil, err
	}
	return kv.ChangeSession(s.Service, s.ID, func(*Session) (*Session, []merge.Apology, error) { return &s, nil, nil })
}

// WriteSession changes a session whose home is here, if its epoch is that, and its tag, if one is given. The error is ErrElsewhere,
// or of kind Conflict or NotExist.
func (kv *KV) WriteSession(service string, id wedge.SessionID, epoch uint64, tag string, change func(*Session)) (*Session, error) {
	return kv.ChangeSession(service, id, func(s *Session) (*Session, []merge.Apology, error) {
		switch {
		case s != nil && s.Home != kv.opts.PoP:
			return nil, nil, ErrElsewhere
		case s == nil || s.Gone:
			return nil, nil, lostSession(id)
		case s.Epoch != epoch || tag != "" && tag != s.Tag():
			return nil, nil, StaleSession(id)
		}
		before := s.Standby
		s.Write++
		change(s)
		s.Tell = kv.telling(s, before, s.Standby)
		return s, nil, s.Check()
	})
}

// telling returns the PoPs that are to be told of a session: those that were, and these.
func (kv *KV) telling(s *Session, more ...string) (list []string) {
	for _, pop := range append(slices.Clone(s.Tell), more...) {
		if pop != "" && pop != kv.opts.PoP && !slices.Contains(list, pop) {
			list = append(list, pop)
		}
	}
	return list[max(0, len(list)-maxTell):]
}

// GiveSession makes another PoP the session's home, and returns what that is to take; the same if it was given to that PoP before and the
// PoP has not said yet that it has it. given is false if this PoP is not the home: then it returns what is known here of the session, nil if that
// is nothing.
func (kv *KV) GiveSession(service string, id wedge.SessionID, to string) (s *Session, given bool, err error) {
	s, err = kv.ChangeSession(service, id, func(s *Session) (*Session, []merge.Apology, error) {
		if s == nil || s.Gone || s.Home != kv.opts.PoP || to == kv.opts.PoP {
			return nil, nil, nil
		}
		s.Home, s.Epoch, s.Spare = to, s.Epoch+1, true
		s.Tell = append(s.Tell, kv.opts.PoP)
		if s.Standby != "" && !slices.Contains(s.Tell, s.Standby) {
			s.Tell = append(s.Tell, s.Standby)
		}
		s.Tell = s.Tell[max(0, len(s.Tell)-maxTell):]
		return s, nil, s.Check()
	})
	if err != nil || s == nil {
		return nil, false, err
	}
	return s, s.Home == to && s.Spare, nil
}

// TakeSession makes this PoP the home of a session that another has given it. visited are PoPs that do not know. installed is false if the
// session was here already, or is somewhere else in a later epoch. It returns what is known of the session then.
func (kv *KV) TakeSession(s Session, visited ...string) (now *Session, installed bool, err error) {
	if err := s.Check(); err != nil {
		return nil, false, err
	}
	if s.Home != kv.opts.PoP {
		return nil, false, ErrElsewhere
	}
	now, err = kv.ChangeSession(s.Service, s.ID, func(old *Session) (*Session, []merge.Apology, error) {
		if old != nil && old.Epoch >= s.Epoch {
			return nil, nil, nil
		}
		var lost []merge.Apology
		if old != nil && old.Home == kv.opts.PoP { // it began elsewhere from a copy, and nobody has told
			lost = kv.rewound(old, old.Write, s.Known)
		}
		s.Spare, installed = false, true
		s.Tell = kv.telling(&s, visited...)
		return &s, lost, nil
	})
	return now, installed && err == nil, err
}

// PromoteSession makes this PoP the home of a session of which it has bytes while the home cannot be reached. known is the highest number
// of a write that somebody knows of; if the bytes are older, that is apologised for. The error is ErrElsewhere if there are no bytes here.
func (kv *KV) PromoteSession(service string, id wedge.SessionID, known uint64, visited ...string) (*Session, error) {
	return kv.ChangeSession(service, id, func(s *Session) (*Session, []merge.Apology, error) {
		if s != nil && s.Home == kv.opts.PoP {
			return nil, nil, nil
		}
		if s == nil || s.Gone || !s.Spare {
			return nil, nil, ErrElsewhere
		}
		lost := kv.rewound(s, known, s.Write)
		s.Tell = kv.telling(s, append(visited, s.Home)...)
		s.Home, s.Epoch, s.Spare, s.Standby = kv.opts.PoP, s.Epoch+promotion, false, ""
		s.Write = max(s.Write, known)
		s.Known = s.Write
		return s, lost, s.Check()
	})
}

// rewound apologises for writes after one, up to another.
func (kv *KV) rewound(s *Session, upTo, after uint64) []merge.Apology {
	if upTo <= after {
		return nil
	}
	return []merge.Apology{{ID: strconv.FormatUint(s.Epoch, 10), Reason: merge.Rewound, Writer: kv.writer, At: kv.opts.Now().UTC().Truncate(time.Millisecond), Amount: int64(upTo - after)}}
}

// HearSession is told by another PoP that this is the session's home, with its bytes if they are to be kept here. It returns what is
// known here then: if that is newer than what was said, who said it is to hear of it. fenced is true if this PoP was the home until now.
func (kv *KV) HearSession(from string, said Session) (now *Session, fenced bool, err error) {
	if err := said.Check(); err != nil {
		return nil, false, err
	}
	if said.Home != from || from == kv.opts.PoP {
		return nil, false, &wedge.Error{Op: "hear of session", What: from, Kind: wedge.Denied, Err: errors.New("it speaks for another PoP")}
	}
	copied := said.Standby == kv.opts.PoP && !said.Gone
	now, err = kv.ChangeSession(said.Service, said.ID, func(s *Session) (*Session, []merge.Apology, error) {
		same := s != nil && s.Home == from && s.Epoch == said.Epoch
		if s == nil && !copied || s != nil && !same && !s.Newer(said.Epoch, from) || same && copied && s.Spare && s.Write > said.Write {
			return nil, nil, nil
		}
		next, lost := said, []merge.Apology(nil)
		if next.Spare, next.Tell = copied, nil; !copied {
			next.Data, next.Metadata = nil, nil
		}
		if s != nil && s.Home == kv.opts.PoP {
			fenced, lost = true, kv.rewound(s, s.Write, said.Known)
		}
		if s != nil && s.Expires.After(next.Expires) {
			next.Expires = s.Expires
		}
		return &next, lost, nil
	})
	return now, fenced && err == nil, err
}

// ToldSession notes that a PoP knows of a session what was told then.
func (kv *KV) ToldSession(told *Session, pop string) error {
	_, err := kv.ChangeSession(told.Service, told.ID, func(s *Session) (*Session, []merge.Apology, error) {
		if s == nil || s.Home != kv.opts.PoP || s.Epoch != told.Epoch || s.Write != told.Write {
			return nil, nil, nil
		}
		s.Tell = slices.DeleteFunc(s.Tell, func(p string) bool { return p == pop })
		return s, nil, nil
	})
	return err
}
