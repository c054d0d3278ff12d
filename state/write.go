package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wedge-cloud/wedge"
)

// Put writes a key and returns its new generation; when it returns without error the write
// is on disk. Add mode, append and prepend, and IfGeneration look at what a Get would see, seeds
// included. Errors are of kind Invalid (key, mode, metadata), Exist, Conflict, Exhausted (value too
// large), Timeout, Unavailable or Internal (corrupt; an overwrite mends that).
func (s *Stores) Put(ctx context.Context, name string, put wedge.KVPut) (uint64, error) {
	st, err := s.open(ctx, "put key", name, put.Key)
	if err != nil {
		return 0, err
	}
	defer s.kv.leave()
	if err := checkPut(name, put); err != nil {
		return 0, err
	}
	if err := s.kv.roomy(); err != nil {
		return 0, err
	}
	if (st.scope == wedge.ScopeCore || st.scope == wedge.ScopeHome) && st.share != nil {
		w := coreWrite{Key: []byte(put.Key), Mode: put.Mode, TTL: put.TTL, If: put.IfGeneration, value: put.Value}
		if put.Metadata != nil {
			m := []byte(*put.Metadata)
			w.Metadata = &m
		}
		return s.ask(ctx, st, &w)
	}
	if err := st.ready(ctx); err != nil {
		return 0, err
	}
	id := st.id(put.Key)
	defer s.kv.lock(id)()
	now := s.kv.opts.Now()
	old, err := s.kv.headFor(st, id, put.Key)
	if err != nil && !(put.Mode == wedge.KVOverwrite && put.IfGeneration == nil && wedge.KindOf(err) == wedge.Internal) {
		return 0, err
	}
	next, err := st.next(s.kv.db, id, old, now, name, put)
	if err != nil {
		return 0, err
	}
	if st.scope == wedge.ScopeMerge {
		return s.kv.putMerged(st, id, put.Key, old, next)
	}
	if next.generation, err = s.kv.gens.next(); err != nil {
		return 0, diskError("put key", err)
	}
	return next.generation, s.kv.commit("put key", id, old, next)
}

// ask has a write decided by who decides about the store.
func (s *Stores) ask(ctx context.Context, st *store, w *coreWrite) (uint64, error) {
	if len(w.value) > MaxCoreValue {
		return 0, tooLargeForCore(st.name, len(w.value))
	}
	if st.scope == wedge.ScopeHome {
		return s.askHome(ctx, st, w)
	}
	return s.askCore(ctx, st, w)
}

func checkPut(name string, put wedge.KVPut) error {
	bad := func(kind wedge.Kind, err error, hint string) error {
		return &wedge.Error{Op: "put key", What: "store " + name, Kind: kind, Err: err, Hint: hint}
	}
	switch {
	case put.Key == "":
		return bad(wedge.Invalid, errors.New("the key is empty"), "Give it a name of 1 to 1,024 bytes.")
	case put.Mode > wedge.KVPrepend:
		return bad(wedge.Invalid, fmt.Errorf("unknown mode %d", put.Mode), "")
	case put.Metadata != nil && len(*put.Metadata) > wedge.MaxKVMetadata:
		return bad(wedge.Invalid, fmt.Errorf("the metadata has %d bytes", len(*put.Metadata)), fmt.Sprintf("Metadata may have %d bytes.", wedge.MaxKVMetadata))
	case len(put.Value) > wedge.MaxKVValue:
		return tooLarge(name, len(put.Value))
	case put.TTL < 0:
		return bad(wedge.Invalid, errors.New("the time to live is negative"), "Use 0 for a key that does not expire.")
	}
	return nil
}

func tooLarge(name string, n int) error {
	return &wedge.Error{Op: "put key", What: "store " + name, Kind: wedge.Exhausted,
		Err: fmt.Errorf("the value has %d bytes", n), Hint: fmt.Sprintf("A value may have %d MiB.", wedge.MaxKVValue>>20)}
}

// next decides what the put makes of the key: a pure decision but for reading the old value,
// which only append and prepend need.
func (st *store) next(db *pebble.DB, id []byte, old *head, now time.Time, name string, put wedge.KVPut) (*head, error) {
	seed, seeded := st.seeds[put.Key]
	current := wedge.KVValue{}
	exists := old.live(now)
	switch {
	case exists:
		current.Metadata, current.Generation = old.metadata, old.generation
	case seeded && !old.hides(now):
		exists, current = true, seed
	}
	what := fmt.Sprintf("%q in store %s", put.Key, name)
	if put.IfGeneration != nil && (!exists || current.Generation != *put.IfGeneration) {
		return nil, &wedge.Error{Op: "put key", What: what, Kind: wedge.Conflict, Err: errors.New("the key is at another generation"),
			Hint: "Look the key up again and repeat the change."}
	}
	if put.Mode == wedge.KVAdd && exists {
		return nil, &wedge.Error{Op: "put key", What: what, Kind: wedge.Exist}
	}
	next := &head{value: put.Value, shadows: seeded || old != nil && (old.shadows || old.tombstone)}
	if put.TTL > 0 {
		next.expires = now.Add(put.TTL)
	}
	joins := put.Mode == wedge.KVAppend || put.Mode == wedge.KVPrepend
	if exists && joins {
		next.metadata = current.Metadata
		before, err := oldValue(db, id, old, now, current)
		if err != nil {
			return nil, err
		}
		if len(before)+len(put.Value) > wedge.MaxKVValue {
			return nil, tooLarge(name, len(before)+len(put.Value))
		}
		if put.Mode == wedge.KVAppend {
			next.value = slices.Concat(before, put.Value)
		} else {
			next.value = slices.Concat(put.Value, before)
		}
	}
	if put.Metadata != nil {
		next.metadata = *put.Metadata
	}
	return next, nil
}

func oldValue(db *pebble.DB, id []byte, old *head, now time.Time, seed wedge.KVValue) ([]byte, error) {
	if !old.live(now) {
		return seed.Value, nil
	}
	err := old.loadValue(db, id)
	return old.value, err
}

// Delete removes a key, durably. Errors are of kind NotExist (it was absent), Invalid,
// Timeout or Unavailable.
func (s *Stores) Delete(ctx context.Context, name, key string) error {
	st, err := s.open(ctx, "delete key", name, key)
	if err != nil {
		return err
	}
	defer s.kv.leave()
	if (st.scope == wedge.ScopeCore || st.scope == wedge.ScopeHome) && st.share != nil {
		_, err := s.ask(ctx, st, &coreWrite{Key: []byte(key), Delete: true})
		return err
	}
	if err := st.ready(ctx); err != nil {
		return err
	}
	id := st.id(key)
	defer s.kv.lock(id)()
	now := s.kv.opts.Now()
	old, err := s.kv.headFor(st, id, key)
	damaged := err != nil && wedge.KindOf(err) == wedge.Internal
	if err != nil && !damaged {
		return err
	}
	_, seeded := st.seeds[key]
	if !damaged && !old.live(now) && (!seeded || old.hides(now)) {
		return absent("delete key", name, key)
	}
	if st.scope == wedge.ScopeMerge {
		return s.kv.deleteMerged(st, id, key, old)
	}
	var next *head
	if seeded || old != nil && old.shadows {
		next = &head{tombstone: true}
		if next.generation, err = s.kv.gens.next(); err != nil {
			return diskError("delete key", err)
		}
	}
	return s.kv.commit("delete key", id, old, next)
}

// commit replaces old by next (nil: by nothing) in one atomic, durable write. The caller
// holds the key's lock.
func (kv *KV) commit(op string, id []byte, old, next *head) error {
	b := kv.db.NewBatch()
	defer b.Close()
	if err := kv.fill(b, id, old, next); err != nil {
		return diskError(op, err)
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return diskError(op, err)
	}
	return nil
}

func (kv *KV) fill(b *pebble.Batch, id []byte, old, next *head) error {
	var errs []error
	do := func(err error) { errs = append(errs, err) }
	if old != nil && !old.expires.IsZero() {
		do(b.Delete(expiryKey(old.expires, id), nil))
	}
	apart := next != nil && next.kind == 0 && len(next.value) > inlineMax
	if !apart && (old == nil || old.large && old.kind == 0) { // an unreadable head may have left a value, too
		do(b.Delete(inSpace(valueSpace, id), nil))
	}
	if next == nil {
		do(b.Delete(inSpace(headSpace, id), nil))
		return errors.Join(errs...)
	}
	written := *next
	if apart {
		written.large, written.value = true, nil
		do(b.Set(inSpace(valueSpace, id), next.value, nil))
	}
	do(b.Set(inSpace(headSpace, id), written.encode(), nil))
	if !next.expires.IsZero() {
		do(b.Set(expiryKey(next.expires, id), nil, nil))
	}
	return errors.Join(errs...)
}
