package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state/merge"
)

// What was removed from a mergeable value leaves something behind for those who have not seen the removal, and a key that was deleted leaves
// its whole record. The horizon is the instant before which all that was written has been seen by all PoPs, and all that they had written until then is
// here, too. What was removed before it can go: places of lists and removals of sets are collected, and records in which nothing is left are
// forgotten.
//
// The core finds the horizon by what the PoPs declare ([Agreement]), and writes it into the log of state. So all who follow the log come to it between the
// same two writes of others. What lies behind it counts as gone from then on, whenever the sweep comes to it: whoever changes a value, or joins
// another's change with it, collects first (base). That is what keeps values the same everywhere.
//
// A PoP that is away holds the horizon back until it is there again, or is a member no more. One that knows nothing of the others' removals because its
// database was lost or set back is told by a snapshot what is gone ([Share.DropAbsent]).

// A Declaration says how far a PoP has seen what others wrote, and how far others have to read to have what it wrote until then.
type Declaration struct {
	Jurisdiction string        `json:"jurisdiction,omitempty"`
	Writer       string        `json:"writer"`
	Log          uint64        `json:"log"`   // it has followed the log of state to this entry
	Wrote        uint64        `json:"wrote"` // the number of its last item; it has written the later ones after it had followed the log
	Since        merge.Instant `json:"since"` // they are later than this, too
}

// Declare makes this PoP's declaration. log is how far it had followed the log before. What it declares holds after a loss of power, too, and if its
// clock is wrong then: it is on disk before, with all that was taken from the log until then, and later stamps are later than it. So it is no later
// than what the log itself has: else a clock that was ahead once would be for ever.
func (s *Share) Declare(log uint64) (Declaration, error) {
	if err := s.kv.enter(context.Background(), "declare", ""); err != nil {
		return Declaration{}, err
	}
	defer s.kv.leave()
	s.mu.Lock()
	since := s.at
	s.mu.Unlock()
	since = since.Earlier(s.kv.clock.Now(s.kv.opts.Now()).Instant)
	for i := range s.kv.stripes { // a write that has an earlier stamp, and is not in the outbox yet
		s.kv.stripes[i].wait()
	}
	d := Declaration{Jurisdiction: s.jurisdiction, Writer: s.Writer(), Log: log, Wrote: s.box.Last(), Since: since}
	if err := s.kv.db.Set(s.sinceKey(), putInstant(since), pebble.Sync); err != nil {
		return d, diskError("declare", err)
	}
	return d, nil
}

// An Agreement finds the horizon of one log of state by what PoPs declare, in two rounds. After the first it is known what the horizon can be: an instant
// such that all earlier writes of all PoPs are in the log. After the second all have followed the log as far, and what they wrote until then is in the log. It may be used
// by many goroutines.
type Agreement struct {
	mu   sync.Mutex
	said map[string]Declaration // by PoP
	next merge.Instant
	log  uint64 // all earlier writes are in the log up to here; 0: it is the first round
}

// Heard takes a declaration of a PoP.
func (a *Agreement) Heard(pop string, d Declaration) {
	w, err := merge.ParseWriter(d.Writer)
	if err != nil || w.PoP != pop || d.Since.Wall < 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.said == nil {
		a.said = map[string]Declaration{}
	}
	a.said[pop] = d
}

// Next returns a new horizon, if there is one, or for which PoP it waits. pops are all that may write, heard how far a writer's items have come here,
// and log how far the log was followed here.
func (a *Agreement) Next(pops []string, heard func(writer string) uint64, log uint64, now time.Time) (horizon merge.Instant, waits string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	first := a.log == 0
	since := merge.Instant{Wall: now.UnixMilli()}
	for _, pop := range pops {
		d, ok := a.said[pop]
		if !ok || d.Log > log || d.Log < a.log || heard(d.Writer) < d.Wrote {
			return horizon, pop
		}
		since = since.Earlier(d.Since)
	}
	if first {
		a.next, a.log = since, max(log, 1)
		return horizon, ""
	}
	horizon = a.next
	a.next, a.log = merge.Instant{}, 0
	return horizon, ""
}

// HorizonWriter writes horizons into the log. No PoP is called so.
const HorizonWriter = "_core.0000000000000000"

// HorizonItem is what the log has of a horizon.
func HorizonItem(h merge.Instant) []byte { return append([]byte{itemHorizon}, putInstant(h)...) }

func putInstant(i merge.Instant) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, uint64(i.Wall)), i.Count)
}

// noteExpired notes that a value has expired.
func noteExpired(b *pebble.Batch, id []byte, at time.Time) error {
	return b.Set(inSpace(removedSpace, id), putInstant(merge.Instant{Wall: at.UnixMilli()}), nil)
}

func readInstant(b []byte) (i merge.Instant, err error) {
	if len(b) != 12 || b[0] > 0 {
		return i, errItem
	}
	return merge.Instant{Wall: int64(binary.BigEndian.Uint64(b)), Count: binary.BigEndian.Uint32(b[8:])}, nil
}

// horizonKey names how far the horizon was for this incarnation: another reads the log anew, from before what it had come to, and what comes from there
// must not be taken for gone before it is joined with what comes later.
func (s *Share) horizonKey() []byte {
	return []byte("shorizon\x00" + s.jurisdiction + "\x00" + s.Writer())
}

func (s *Share) sinceKey() []byte { return []byte("ssince\x00" + s.jurisdiction) }

// recallHorizon reads how far the horizon was, and what this PoP has declared.
func (s *Share) recallHorizon() error {
	h, err := s.recall(s.horizonKey())
	if err != nil {
		return err
	}
	if s.at, err = s.recall(s.sinceKey()); err != nil {
		return err
	}
	if h != (merge.Instant{}) {
		s.horizon.Store(&h)
	}
	s.kv.clock.After(h)
	s.kv.clock.After(s.at)
	return nil
}

// recall reads an instant; zero: there is none.
func (s *Share) recall(key []byte) (i merge.Instant, err error) {
	b, closer, err := s.kv.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return i, nil
	}
	if err != nil {
		return i, diskError("open state", err)
	}
	defer closer.Close()
	if i, err = readInstant(b); err != nil {
		return i, corrupt(key, err)
	}
	return i, nil
}

// takeHorizon takes one from the log.
func (s *Share) takeHorizon(from merge.Writer, b []byte) error {
	h, err := readInstant(b)
	if err != nil || from.String() != HorizonWriter {
		return fmt.Errorf("%w: a horizon of a writer that may not say it", errItem)
	}
	if !s.Horizon().Before(h) {
		return nil
	}
	if err := s.kv.db.Set(s.horizonKey(), putInstant(h), pebble.NoSync); err != nil {
		return diskError("take", err)
	}
	s.horizon.Store(&h)
	s.kv.clock.After(h)
	return nil
}

// Horizon returns the instant before which nothing is kept that was removed; zero: there is none.
func (s *Share) Horizon() (h merge.Instant) {
	if p := s.horizon.Load(); p != nil {
		h = *p
	}
	return h
}

func (s *Share) lackKey() []byte { return []byte("slack\x00" + s.jurisdiction) }

// Lack notes that some of what PoPs wrote is missing here for good: what is not here need not be gone.
func (s *Share) Lack() error {
	if err := s.kv.enter(context.Background(), "take", ""); err != nil {
		return err
	}
	defer s.kv.leave()
	return s.lack()
}

func (s *Share) lack() error {
	if err := s.kv.db.Set(s.lackKey(), binary.BigEndian.AppendUint64(nil, 1), pebble.Sync); err != nil {
		return diskError("take", err)
	}
	return nil
}

// Complete returns the horizon if all that was written before it is here, or was removed; else zero.
func (s *Share) Complete() merge.Instant {
	if s.kv.enter(context.Background(), "read state", "") != nil {
		return merge.Instant{}
	}
	defer s.kv.leave()
	if lack, err := s.kv.system(s.lackKey()); err != nil || lack != 0 {
		return merge.Instant{}
	}
	return s.Horizon()
}

// forgettable reports whether nothing of a value is to be kept that was last changed before the horizon.
func forgettable(v *merge.Value, horizon merge.Instant) bool {
	if !v.Newest().Before(horizon) || v.Kind() == merge.Stock {
		return false
	}
	writes := v.Writes()
	if v.Kind() != merge.Register || len(writes) == 0 {
		return v.Empty()
	}
	c, _, err := readContent(writes[0].Value)
	return err == nil && c.Free && (c.Gone || c.Expires != 0 && c.Expires <= horizon.Wall)
}

// base reads the value that is changed, or that another's change is joined with, and what lies in the database; nil: nothing, or what is forgotten.
func (kv *KV) base(s *Share, id []byte) (v, stored *merge.Value, err error) {
	stored, err = readMerged(kv.db, id)
	if err != nil || stored == nil || s == nil {
		return stored, stored, err
	}
	horizon := s.Horizon()
	if v = stored.Collect(horizon); !forgettable(v, horizon) {
		return v, stored, nil
	}
	return nil, stored, kv.forgets(stored)
}

var pastKey = []byte("spast")

// forgets has this PoP not give numbers again that it has given to changes of a value that it forgets.
func (kv *KV) forgets(v *merge.Value) error {
	n := v.Last(kv.writer)
	kv.past.Lock()
	defer kv.past.Unlock()
	if n <= kv.clock.Past(0) {
		return nil
	}
	if err := kv.db.Set(pastKey, binary.BigEndian.AppendUint64(nil, n), pebble.NoSync); err != nil { // what is forgotten is written after it
		return diskError("write state", err)
	}
	kv.clock.Past(n)
	return nil
}

// noteRemovals notes that a value has something that can go once the horizon is beyond it.
func noteRemovals(b *pebble.Batch, id []byte, old, h *head, before, after *merge.Value) error {
	if due(after, h) {
		return b.Set(inSpace(removedSpace, id), putInstant(after.Newest()), nil)
	}
	if before != nil && due(before, old) {
		return b.Delete(inSpace(removedSpace, id), nil)
	}
	return nil
}

// due reports whether there is such a thing, where h is the value's head.
func due(v *merge.Value, h *head) bool {
	if v.Kind() != merge.Register {
		return v.Kind() != merge.Stock && (v.Empty() || v.Removals())
	}
	return h == nil
}

// sweepRemovals collects and forgets what lies behind the horizon. A database that no other PoP has a share in has none: there all is.
func (kv *KV) sweepRemovals(ctx context.Context) error {
	if err := kv.enter(ctx, "sweep state", kv.dir); err != nil {
		return err
	}
	defer kv.leave()
	if len(kv.shares) == 0 {
		now := kv.clock.Now(kv.opts.Now()).Instant
		return kv.sweepBefore(ctx, nil, now)
	}
	for _, s := range kv.shares {
		h := s.Horizon()
		if !s.swept.Before(h) {
			continue
		}
		if err := kv.sweepBefore(ctx, s, h); err != nil {
			return err
		}
		s.swept = h
	}
	return nil
}

func (kv *KV) sweepBefore(ctx context.Context, s *Share, horizon merge.Instant) error {
	it, err := kv.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: []byte{removedSpace}, UpperBound: []byte{removedSpace + 1}})
	if err != nil {
		return diskError("sweep state", err)
	}
	for ok := it.First(); ok && err == nil && ctx.Err() == nil; ok = it.Next() {
		id := bytes.Clone(it.Key()[1:])
		at, bad := readInstant(it.Value())
		if service, _, _, why := splitID(id); bad != nil || why != nil {
			err = kv.db.Delete(it.Key(), pebble.NoSync)
		} else if at.Before(horizon) && (s == nil || s.has(service)) {
			err = kv.collect(s, id, horizon)
		}
	}
	return errors.Join(err, it.Error(), it.Close())
}

// collect collects one value, and forgets it if it can be. What is lost by a crash is done again.
func (kv *KV) collect(s *Share, id []byte, horizon merge.Instant) error {
	defer kv.lock(id)()
	stored, err := readMerged(kv.db, id)
	if err != nil && wedge.KindOf(err) != wedge.Internal {
		return err
	}
	b := kv.db.NewBatch()
	defer b.Close()
	switch {
	case stored == nil:
		err = b.Delete(inSpace(removedSpace, id), nil)
	default:
		err = kv.fillCollected(b, s, id, stored, horizon)
	}
	if err == nil {
		err = b.Commit(pebble.NoSync)
	}
	if err != nil {
		return diskError("sweep state", err)
	}
	return nil
}

func (kv *KV) fillCollected(b *pebble.Batch, s *Share, id []byte, stored *merge.Value, horizon merge.Instant) error {
	old, err := readHead(kv.db, id)
	if err != nil && wedge.KindOf(err) != wedge.Internal { // else it is written anew, or dropped
		return err
	}
	v := stored.Collect(horizon)
	if forgettable(v, horizon) {
		return kv.forget(b, s, id, old, stored)
	}
	h, err := headOf(v)
	if err != nil {
		return err
	}
	if v != stored {
		err = kv.fillMerged(b, id, old, h, stored, v)
	}
	if v.Newest().Before(horizon) && err == nil { // what is left waits for something else to be removed, which will note it
		err = b.Delete(inSpace(removedSpace, id), nil)
	}
	return err
}

// forget drops all that there is of a key.
func (kv *KV) forget(b *pebble.Batch, s *Share, id []byte, old *head, v *merge.Value) error {
	if err := kv.forgets(v); err != nil {
		return err
	}
	if s != nil {
		s.stats.forgotten.Add(1)
	}
	for digest := range digests(v) {
		if err := b.Delete(contentKey(id, digest), nil); err != nil {
			return err
		}
	}
	if err := errors.Join(b.Delete(inSpace(mergedSpace, id), nil), b.Delete(inSpace(removedSpace, id), nil)); err != nil {
		return err
	}
	return kv.fill(b, id, old, nil)
}

// DropAbsent forgets what a page of a snapshot shows to be gone. The page was asked for at a place and goes up to next; horizon is that of who gave it. What is
// here and not there was removed and forgotten, if all of it was written before the horizon and none of it by this PoP, which nobody forgets while it is away.
func (s *Share) DropAbsent(items [][]byte, at, next Place, done bool, horizon merge.Instant) error {
	if at.Home {
		return nil
	}
	if err := s.kv.enter(context.Background(), "take snapshot", ""); err != nil {
		return err
	}
	defer s.kv.leave()
	there := map[string]bool{}
	if at.Item > 0 {
		there[string(at.Key)] = true // it began on the page before
	}
	for _, item := range items {
		if len(item) > 0 && (item[0] == itemWhole || item[0] == itemSmall) {
			c, _, err := readNames(item[1:])
			if err != nil {
				return err
			}
			there[string(append(storePrefix(within(s.jurisdiction, c.service), c.store), c.key...))] = true
		}
	}
	upper := []byte{mergedSpace + 1}
	if !done && !next.Home {
		upper = inSpace(mergedSpace, next.Key)
	}
	it, err := s.kv.db.NewIter(&pebble.IterOptions{LowerBound: inSpace(mergedSpace, at.Key), UpperBound: upper})
	if err != nil {
		return diskError("take snapshot", err)
	}
	var absent [][]byte
	for ok := it.First(); ok; ok = it.Next() {
		id := it.Key()[1:]
		if service, _, _, err := splitID(id); err == nil && s.has(service) && !there[string(id)] {
			absent = append(absent, bytes.Clone(id))
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return diskError("take snapshot", err)
	}
	for _, id := range absent {
		if err := s.dropAbsent(id, horizon); err != nil {
			return err
		}
	}
	return nil
}

func (s *Share) dropAbsent(id []byte, horizon merge.Instant) error {
	defer s.kv.lock(id)()
	v, err := readMerged(s.kv.db, id)
	if err != nil || v == nil || v.Kind() == merge.Stock || v.Has(s.kv.writer) || !v.Newest().Before(horizon) {
		return err
	}
	old, err := readHead(s.kv.db, id)
	if err != nil {
		return err
	}
	b := s.kv.db.NewBatch()
	defer b.Close()
	if err := s.kv.forget(b, s, id, old, v); err != nil {
		return diskError("take snapshot", err)
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return diskError("take snapshot", err)
	}
	return nil
}
