package state

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wedge-cloud/wedge"
)

// Home says where a unit's home is, and who writes to it.
type Home struct {
	Unit
	PoP    string
	Epoch  uint64
	Since  time.Time
	Asked  bool               // an operator had it move there
	Moving bool               // the core has not said yet whether it has moved
	Writes map[string]float64 // by the PoP that they came from; after a half-life one counts half
	Here   bool               // this PoP is it, and decides
}

// written returns what was written to a unit of late, by the PoP that it came from, and forgets what has faded. h.mu is held.
func (h *homes) written(u Unit, now time.Time, halfLife time.Duration) map[string]float64 {
	c := h.counts[u]
	if c == nil {
		return map[string]float64{}
	}
	c.fade(now, halfLife)
	if len(c.from) == 0 {
		delete(h.counts, u)
	}
	return maps.Clone(c.from)
}

// Homes returns the units at home here that were written to of late, with what was written from where, fading with that half-life.
func (s *Share) Homes(halfLife time.Duration) (list []Home) {
	h := &s.kv.homes
	h.mu.Lock()
	all := map[Unit]bool{}
	for u := range h.moving {
		all[u] = true
	}
	for u := range h.counts {
		if len(h.written(u, s.kv.opts.Now(), halfLife)) > 0 {
			all[u] = true
		}
	}
	h.mu.Unlock()
	for u := range all {
		if r, _, err := s.home(u); err == nil && r != nil && r.Home == s.Writer() {
			list = append(list, s.seen(u, r, halfLife))
		}
	}
	return list
}

// seen returns what is known here of a unit of which the directory has that record.
func (s *Share) seen(u Unit, r *homeRecord, halfLife time.Duration) Home {
	home := Home{Unit: u, PoP: r.pop(), Epoch: r.Epoch, Since: time.UnixMilli(r.Since), Asked: r.Asked, Here: r.Home == s.Writer()}
	h := &s.kv.homes
	h.mu.Lock()
	defer h.mu.Unlock()
	if home.Here {
		home.Moving, home.Writes = h.moving[u] != nil, h.written(u, s.kv.opts.Now(), halfLife)
	}
	return home
}

// Homes returns what the directory here says of a store of scope home: of the unit that a key is in, or without a key of all units, in the order of
// their keys, as many as most. What was written is known of those at home here, and fades with that half-life. There is none of what nobody
// has written yet. An error is of kind NotExist if there is no such store, and Unsupported if it is of another scope.
func (s *Stores) Homes(ctx context.Context, name, key string, most int, halfLife time.Duration) (list []Home, err error) {
	st, err := s.open(ctx, "find home", name, key)
	if err != nil {
		return nil, err
	}
	defer s.kv.leave()
	if st.scope != wedge.ScopeHome || st.share == nil {
		return nil, &wedge.Error{Op: "find home", What: "store " + name, Kind: wedge.Unsupported, Err: errors.New("its scope is " + string(st.scope)),
			Hint: "Only stores of scope home have one: see where copies are with: wedge where"}
	}
	u := unitOf(st.service, name, st.split, key)
	if key != "" {
		r, _, err := st.share.home(u)
		if err == nil && r != nil {
			list = append(list, st.share.seen(u, r, halfLife))
		}
		return list, err
	}
	err = st.share.units(ctx, u, func(u Unit, r *homeRecord) bool {
		list = append(list, st.share.seen(u, r, halfLife))
		return len(list) < most
	})
	return list, err
}

// units calls f for each unit of a store of which the directory has a record, until it returns false.
func (s *Share) units(ctx context.Context, store Unit, f func(Unit, *homeRecord) bool) error {
	store.Part = ""
	prefix := s.directory(store.Service).id(store.key())
	it, err := s.kv.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: inSpace(headSpace, prefix), UpperBound: successor(inSpace(headSpace, prefix))})
	if err != nil {
		return diskError("find home", err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		u := store
		u.Part = string(it.Key()[1+len(prefix):])
		r, _, err := s.home(u)
		if err != nil {
			return err
		}
		if r != nil && !f(u, r) {
			return nil
		}
	}
	if err := it.Error(); err != nil {
		return diskError("find home", err)
	}
	return nil
}
