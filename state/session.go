package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state/merge"
)

// A session is at one PoP at a time, its home. When another PoP becomes its home, the epoch rises: the one before keeps a record that says
// where it went. Each step is one synced write at one PoP, and the steps are taken so that there is never more than one home in the newest
// epoch: the giver stops being the home before the taker begins, and gives the same bytes again if the taker asks again.
//
// Of two homes the one in the higher epoch counts, and in the same epoch (two copies that both took over) the one with the later name.

// Session is what a PoP keeps of a session: the session itself, if this PoP is its home, or where it is.
type Session struct {
	Service      string          `json:"service"`
	ID           wedge.SessionID `json:"id"`
	Home         string          `json:"home"`  // the PoP where it is
	Epoch        uint64          `json:"epoch"` // 1 and up; rises when another PoP becomes its home
	Write        uint64          `json:"write"` // how often it was written
	Expires      time.Time       `json:"expires"`
	Jurisdiction string          `json:"jurisdiction,omitempty"` // as it was begun; stays
	Standby      string          `json:"standby,omitempty"`      // the PoP that gets copies; "": none
	Known        uint64          `json:"known,omitempty"`        // after it began from a copy: the writes until then that somebody knew of
	Tell         []string        `json:"tell,omitempty"`         // PoPs that do not know yet where it is, or lack a copy
	Gone         bool            `json:"gone,omitempty"`         // it was deleted
	Spare        bool            `json:"spare,omitempty"`        // there are bytes, and this PoP is not the home: a copy, or what it gave away
	Metadata     []byte          `json:"metadata,omitempty"`
	Data         []byte          `json:"-"`
}

const (
	// promotion is how far the epoch rises when a copy takes over, so that it is above what the home may have done meanwhile, unheard.
	promotion = 1 << 16

	// MaxEpoch bounds epochs and numbers of writes, so that they never wrap.
	MaxEpoch = 1 << 52

	maxTell = 16
)

// Newer reports whether a home in an epoch counts rather than the session's.
func (s *Session) Newer(epoch uint64, home string) bool {
	return epoch > s.Epoch || epoch == s.Epoch && home > s.Home
}

// Tag names what the session holds.
func (s *Session) Tag() string { return fmt.Sprintf(`"%d.%d"`, s.Epoch, s.Write) }

// Check finds what cannot be in a session from elsewhere.
func (s *Session) Check() error {
	switch {
	case s.Service == "" || len(s.Service) > maxSharedName || s.Home == "" || len(s.Home) > 31 || len(s.Standby) > 31 || len(s.Jurisdiction) > 31:
	case s.Epoch == 0 || s.Epoch > MaxEpoch || s.Write > MaxEpoch || s.Known > MaxEpoch || len(s.Tell) > maxTell:
	case s.Expires.Unix() < 0 || s.Expires.Unix() > 1<<36:
	case len(s.Metadata) > wedge.MaxSessionMetadata || len(s.Data) > wedge.MaxSession:
	default:
		return nil
	}
	return &wedge.Error{Op: "read session", Kind: wedge.Invalid, Err: errors.New("what is said of it cannot be")}
}

// EncodeSession writes a session, for the disk and for other PoPs.
func EncodeSession(s *Session) ([]byte, error) { return headed(s, s.Data) }

// DecodeSession reads one, which another PoP may have made.
func DecodeSession(b []byte) (*Session, error) {
	s := &Session{}
	rest, err := readHeaded(b, s)
	if err != nil {
		return nil, &wedge.Error{Op: "read session", Kind: wedge.Invalid, Err: err}
	}
	s.Data = bytes.Clone(rest)
	return s, s.Check()
}

func sessionName(service string, id wedge.SessionID) []byte {
	return append(append([]byte(service), 0), id[:]...)
}

func endKey(at time.Time, name []byte) []byte {
	b := append(make([]byte, 0, 9+len(name)), endSpace)
	return append(binary.BigEndian.AppendUint64(b, uint64(at.UnixNano())), name...)
}

// readSession returns what is kept of a session that has not expired; nil: nothing.
func (kv *KV) readSession(name []byte) (*Session, error) {
	key := inSpace(sessionSpace, name)
	b, closer, err := kv.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, diskError("read session", err)
	}
	defer closer.Close()
	s, err := DecodeSession(b)
	if err != nil {
		return nil, corrupt(key, err)
	}
	if !s.Expires.After(kv.opts.Now()) {
		return nil, nil
	}
	return s, nil
}

// Session returns what is kept of a session here; nil: nothing.
func (kv *KV) Session(ctx context.Context, service string, id wedge.SessionID) (*Session, error) {
	if err := kv.enter(ctx, "read session", service); err != nil {
		return nil, err
	}
	defer kv.leave()
	return kv.readSession(sessionName(service, id))
}

// ChangeSession replaces what is kept of a session by what change makes of it, in one synced write. change gets nil if nothing is kept; it
// may return what it got, unchanged in place or not, nil for leaving all as it is, or an error, which is returned. sorry are
// apologies that belong to the change. It returns what is kept then.
func (kv *KV) ChangeSession(service string, id wedge.SessionID, change func(*Session) (next *Session, sorry []merge.Apology, err error)) (*Session, error) {
	if err := kv.enter(context.Background(), "write session", service); err != nil {
		return nil, err
	}
	defer kv.leave()
	if err := kv.roomy(); err != nil {
		return nil, err
	}
	name := sessionName(service, id)
	defer kv.lock(name)()
	old, err := kv.readSession(name)
	if err != nil {
		return nil, err
	}
	was := (*Session)(nil)
	if old != nil {
		c := *old
		c.Tell = slices.Clone(old.Tell)
		was = &c
	}
	next, sorry, err := change(was)
	if err != nil || next == nil {
		return old, err
	}
	next.Service, next.ID = service, id
	b := kv.db.NewBatch()
	defer b.Close()
	if err := kv.fillSession(b, name, old, next); err != nil {
		return nil, diskError("write session", err)
	}
	for _, a := range sorry {
		if err := kv.putApology(b, service, "", id.String(), a); err != nil {
			return nil, err
		}
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return nil, diskError("write session", err)
	}
	if share := kv.shares[""]; len(sorry) > 0 && share != nil && share.Sorry != nil {
		share.Sorry(service)
	}
	return next, nil
}

func (kv *KV) fillSession(b *pebble.Batch, name []byte, old, next *Session) error {
	text, err := EncodeSession(next)
	if err != nil {
		return err
	}
	var errs []error
	if old != nil && !old.Expires.Equal(next.Expires) {
		errs = append(errs, b.Delete(endKey(old.Expires, name), nil))
	}
	if kv.tells(next) {
		errs = append(errs, b.Set(inSpace(tellSpace, name), nil, nil))
	} else if old != nil && kv.tells(old) {
		errs = append(errs, b.Delete(inSpace(tellSpace, name), nil))
	}
	errs = append(errs, b.Set(inSpace(sessionSpace, name), text, nil), b.Set(endKey(next.Expires, name), nil, nil))
	return errors.Join(errs...)
}

// Untold returns up to limit sessions of which some PoP is to be told, those that follow after; "" is before all. next is what
// to go on after; "": that was all.
func (kv *KV) Untold(after string, limit int) (list []*Session, next string, err error) {
	if err := kv.enter(context.Background(), "list sessions", ""); err != nil {
		return nil, "", err
	}
	defer kv.leave()
	from := append(inSpace(tellSpace, []byte(after)), 0)
	if after == "" {
		from = []byte{tellSpace}
	}
	it, err := kv.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: []byte{tellSpace + 1}})
	if err != nil {
		return nil, "", diskError("list sessions", err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if len(list) == limit {
			return list, next, nil
		}
		name := bytes.Clone(it.Key()[1:])
		s, err := kv.untold(name)
		if err != nil {
			return nil, "", err
		}
		if s != nil {
			list, next = append(list, s), string(name)
		}
	}
	if err := it.Error(); err != nil {
		return nil, "", diskError("list sessions", err)
	}
	return list, "", nil
}

// untold reads a session of which some PoP is to be told. If that is not so any more, it is forgotten that it was.
func (kv *KV) untold(name []byte) (*Session, error) {
	defer kv.lock(name)()
	s, err := kv.readSession(name)
	if err != nil && wedge.KindOf(err) == wedge.Unavailable {
		return nil, err
	}
	if s != nil && kv.tells(s) {
		return s, nil
	}
	if err := kv.db.Delete(inSpace(tellSpace, name), pebble.NoSync); err != nil {
		return nil, diskError("list sessions", err)
	}
	return nil, nil
}

// tells reports whether this PoP is the one to tell others of a session. What others than its home have in Tell they gave away along
// with the session, and have for the case that they are to give it again.
func (kv *KV) tells(s *Session) bool { return s.Home == kv.opts.PoP && len(s.Tell) > 0 }

// sweepSessions removes up to limit sessions that have expired.
func (kv *KV) sweepSessions(limit int) (n int, err error) {
	now := kv.opts.Now()
	it, err := kv.db.NewIter(&pebble.IterOptions{LowerBound: []byte{endSpace}, UpperBound: endKey(now.Add(1), nil)})
	if err != nil {
		return 0, diskError("sweep sessions", err)
	}
	for ok := it.First(); ok && n < limit && err == nil; ok = it.Next() {
		n++
		err = kv.endSession(bytes.Clone(it.Key()))
	}
	return n, errors.Join(err, it.Error(), it.Close())
}

// endSession removes the session of an index entry, unless it lives longer by now.
func (kv *KV) endSession(entry []byte) error {
	b := kv.db.NewBatch()
	defer b.Close()
	if len(entry) > 9 {
		name := entry[9:]
		defer kv.lock(name)()
		s, err := kv.readSession(name)
		if err != nil && wedge.KindOf(err) == wedge.Unavailable {
			return err
		}
		if s == nil {
			if err := errors.Join(b.Delete(inSpace(sessionSpace, name), nil), b.Delete(inSpace(tellSpace, name), nil)); err != nil {
				return diskError("sweep sessions", err)
			}
		}
	}
	if err := errors.Join(b.Delete(entry, nil), b.Commit(pebble.NoSync)); err != nil {
		return diskError("sweep sessions", err)
	}
	return nil
}
