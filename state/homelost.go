package state

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state/merge"
)

// A home that is lost takes with it what it has answered and not said to the log. When its PoP is a member no more, another becomes the home: the
// core ends what the writer may say in the log of state, so that the record can name its last item that counts, and nothing else ever will. Who has
// an answer that does not count gives the key what it held before, and apologises.

// takeOver makes this PoP the home of what is at home at a PoP that is a member no more. That another was first is no error.
func (s *Share) takeOver(ctx context.Context, u Unit) error {
	r, seq, err := s.home(u)
	if err != nil || r == nil || !s.gone(r) {
		return err
	}
	err = s.setHome(ctx, u, seq, r.next(s.Writer(), 0, s.kv.opts.Now()))                         // the core knows which item was the last
	if kind := wedge.KindOf(err); err != nil && kind != wedge.Conflict && kind != wedge.Denied { // the core may not have heard yet that it is gone
		return err
	}
	return s.wait(ctx, u, r.Epoch)
}

// gone reports whether a home's PoP is a member no more.
func (s *Share) gone(r *homeRecord) bool {
	return s.Gone != nil && r.pop() != s.kv.writer.PoP && s.Gone(r.pop())
}

// take makes of a write with which a PoP becomes the home in the place of one that is gone what the directory is to hold.
func (w *coreWrite) take(ctx context.Context, log KeyLog, e wedge.Entry, pop string) error {
	w.taken = false
	if e.Seq == 0 || pop == "" {
		return nil
	}
	k, err := readCoreKey(e.Items[0])
	if err != nil {
		return nil // the write is refused later on
	}
	had, err := readRecord(k.value)
	next, err2 := readRecord(w.value)
	if err != nil || err2 != nil || had.pop() == pop || next.pop() != pop || next.Epoch != had.Epoch+1 {
		return nil
	}
	last, gone, err := log.End(ctx, had.Home)
	if err != nil || !gone {
		return err
	}
	said := had.next(next.Home, last, w.at)
	w.taken = true
	w.value, err = json.Marshal(said)
	return err
}

// answered is a write that a home has answered, and that the log has not brought here yet.
type answered struct {
	Writer string `json:"writer"` // the home
	Number uint64 `json:"number"` // of its item
	Gen    uint64 `json:"gen"`
	Split  string `json:"split,omitempty"`
	Item   []byte `json:"item"` // what the key holds

	Under uint64 `json:"under,omitempty"` // generation of what the log has brought; 0: nothing
	Held  []byte `json:"held,omitempty"`  // that
}

var answeredPrefix = []byte("sanswered\x00")

func answeredKey(id []byte) []byte {
	return append(answeredPrefix[:len(answeredPrefix):len(answeredPrefix)], id...)
}

func (s *Share) answeredAt(id []byte) (a *answered, err error) {
	b, closer, err := s.kv.db.Get(answeredKey(id))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, diskError("read answer", err)
	}
	defer closer.Close()
	if a = new(answered); json.Unmarshal(b, a) != nil {
		return nil, nil // as if it had come
	}
	return a, nil
}

func (a *answered) put(b *pebble.Batch, id []byte) error {
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return b.Set(answeredKey(id), text, nil)
}

// takeAnswered keeps what a home has answered, and what the key held before, until the log has brought it.
func (s *Share) takeAnswered(a *coreAnswer, split string, item []byte) error {
	k, err := readCoreKey(item)
	if err != nil {
		return err
	}
	writer, text, _ := strings.Cut(a.Token, ":")
	number, err := strconv.ParseUint(text, 10, 64)
	if _, last := EndOf(s.Heard(writer)); err != nil || last >= number {
		return s.takeHomed(a.Seq, split, item)
	}
	id := s.homeID(split, &k)
	err = s.keepKeyWith(id, &k, a.Seq, func(b *pebble.Batch, id []byte, old *head) error {
		was, err := s.answeredAt(id)
		if err != nil {
			return err
		}
		next := answered{Writer: writer, Number: number, Gen: a.Seq, Split: split, Item: item}
		if was != nil {
			next.Under, next.Held = was.Under, was.Held
		} else if old != nil && old.loadValue(s.kv.db, id) == nil {
			held := coreKey{Service: k.Service, Store: k.Store, Key: k.Key, Gone: old.tombstone, Metadata: []byte(old.metadata), value: old.value}
			if !old.expires.IsZero() {
				held.Expires = old.expires.UnixMilli()
			}
			if next.Held, err = headed(held, held.value); err != nil {
				return err
			}
			next.Under = old.generation
		}
		return next.put(b, id)
	})
	u := unitOf(k.Service, k.Store, split, string(k.Key))
	if err == nil && s.late(u, writer, a.Seq>>homeBits, number) {
		err = errors.Join(errLate, s.takeBack(u, id))
	}
	return err
}

var errLate = &wedge.Error{Op: "write key", Kind: wedge.Unavailable, Err: errors.New("its home was lost with it"), Hint: "Look the key up again and repeat the change."}

// late reports whether an item of a home does not count, for the directory has a record that ends before it.
func (s *Share) late(u Unit, writer string, epoch, number uint64) bool {
	r, _, err := s.home(u)
	if err != nil || r == nil {
		return false
	}
	return slices.ContainsFunc(r.Before, func(t homeTerm) bool { return t.Home == writer && t.Epoch == epoch && number > t.Last })
}

// endBit is in the number of the item that ends a writer, which is far behind those that count.
const endBit = 1 << 40

// EndOf returns the number of the item that ends a writer in the log of state, and of its last one that counts; heard is that of the last that is there.
func EndOf(heard uint64) (end, last uint64) { return heard | endBit, heard &^ endBit }

// brought notes what the log has brought of a key, once it is kept.
func (s *Share) brought(id []byte, gen uint64, item []byte) error {
	defer s.kv.lock(id)()
	a, err := s.answeredAt(id)
	if err != nil || a == nil {
		return err
	}
	b := s.kv.db.NewBatch()
	defer b.Close()
	switch {
	case gen >= a.Gen:
		err = b.Delete(answeredKey(id), nil)
	case gen > a.Under:
		a.Under, a.Held = gen, item
		err = a.put(b, id)
	}
	if err == nil {
		err = b.Commit(pebble.NoSync)
	}
	if err != nil {
		return diskError("take", err)
	}
	return nil
}

// ended looks, when the directory has a record, for writes that count no more by it: answers of homes before, and what this PoP wrote itself as one.
func (s *Share) ended(k *coreKey) error {
	r, err := readRecord(k.value)
	parts := strings.SplitN(string(k.Key), "\x00", 3)
	if err != nil || k.Gone || len(parts) != 3 {
		return nil
	}
	u := Unit{k.Service, parts[0], parts[1], parts[2]}
	next := r.Home
	for _, t := range r.Before {
		was, err := merge.ParseWriter(t.Home)
		after, err2 := merge.ParseWriter(next)
		next = t.Home
		if err != nil || err2 != nil {
			continue
		}
		switch {
		case was.PoP != s.kv.writer.PoP:
			err = s.endedThere(u, &t)
		case after.PoP != was.PoP: // or else it has gone on here, with all that was written
			err = s.endedHere(u, &t, was)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// endedThere takes back what a home has answered and does not count.
func (s *Share) endedThere(u Unit, t *homeTerm) error {
	it, err := s.kv.db.NewIter(&pebble.IterOptions{LowerBound: answeredPrefix, UpperBound: successor(answeredPrefix)})
	if err != nil {
		return diskError("take", err)
	}
	var ids [][]byte
	for ok := it.First(); ok; ok = it.Next() {
		var a answered
		if json.Unmarshal(it.Value(), &a) == nil && a.Writer == t.Home && a.Gen>>homeBits == t.Epoch && a.Number > t.Last {
			ids = append(ids, append([]byte(nil), it.Key()[len(answeredPrefix):]...))
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return diskError("take", err)
	}
	for _, id := range ids {
		if err := s.takeBack(u, id); err != nil {
			return err
		}
	}
	return nil
}

// takeBack gives a key what it held before a home answered what does not count, and apologises.
func (s *Share) takeBack(u Unit, id []byte) error {
	defer s.kv.lock(id)()
	a, err := s.answeredAt(id)
	if err != nil || a == nil {
		return err
	}
	k, err := readCoreKey(a.Item)
	if err != nil || string(s.homeID(a.Split, &k)) != string(id) || unitOf(k.Service, k.Store, a.Split, string(k.Key)) != u {
		return nil
	}
	var under *head
	if held, err := readCoreKey(a.Held); err == nil && a.Under > 0 {
		under = held.head(a.Under)
	}
	return s.unsay(id, &k, a.Gen, a.Writer, a.Number, under, func(b *pebble.Batch) error { return b.Delete(answeredKey(id), nil) })
}

// unsay has a key hold what is under a write that does not count, and apologises for the write. The key is locked.
func (s *Share) unsay(id []byte, k *coreKey, gen uint64, writer string, number uint64, under *head, along func(*pebble.Batch) error) error {
	old, err := readHead(s.kv.db, id)
	if err != nil && wedge.KindOf(err) != wedge.Internal {
		return err
	}
	w, err := merge.ParseWriter(writer)
	if err != nil {
		return err
	}
	value, err := json.Marshal(content{Value: k.value, Metadata: k.Metadata, Expires: k.Expires, Gone: k.Gone})
	if err != nil {
		return err
	}
	b := s.kv.db.NewBatch()
	defer b.Close()
	err = along(b)
	if err == nil && old != nil && old.generation == gen {
		err = s.kv.fill(b, id, old, under)
	}
	if err == nil {
		err = s.kv.putApology(b, k.Service, k.Store, string(k.Key), merge.Apology{ID: writer + ":" + strconv.FormatUint(number, 10), Reason: merge.Rewound, Writer: w, Value: value})
	}
	if err == nil {
		err = b.Commit(pebble.Sync)
	}
	if err != nil {
		return diskError("apologise", err)
	}
	if s.Sorry != nil {
		s.Sorry(k.Service)
	}
	return nil
}

// endedHere apologises for what this PoP, or an incarnation of it that was on this disk, has written as a home and did not say before it was one no more.
// What the keys held before is not known here: another incarnation, which follows the log from its beginning, gets it.
func (s *Share) endedHere(u Unit, t *homeTerm, was merge.Writer) error {
	box, done := s.box, []byte("sended\x00"+s.jurisdiction+"\x00"+t.Home+"\x00"+strconv.FormatUint(t.Epoch, 10)+"\x00"+u.Service+"\x00"+u.key())
	if was != s.kv.writer {
		var err error
		if box, err = s.kv.Outbox(s.lane(was.Incarnation)); err != nil {
			return err
		}
	}
	if t.Last >= box.Last() {
		return nil
	}
	if _, closer, err := s.kv.db.Get(done); err == nil { // after a restart the log says it once more
		return closer.Close()
	}
	lost := false
	for number := t.Last; number < box.Last(); {
		items, err := box.Next(number, 100)
		if err != nil || len(items) == 0 {
			break // they are trimmed: the log has them
		}
		for _, item := range items {
			number++
			split, gen, b, err := readHomeItem(item)
			if err != nil || split != u.Split || gen>>homeBits != t.Epoch {
				continue
			}
			k, err := readCoreKey(b)
			if err != nil || unitOf(k.Service, k.Store, split, string(k.Key)) != u {
				continue
			}
			lost = true
			if err := s.endedKey(&k, split, gen, t.Home, number); err != nil {
				return err
			}
		}
	}
	if lost {
		s.log.Error("this PoP was a member no more, and has written as a home what does not count: restart the node, it goes on under another name then", "keys", u.String())
		if err := s.kv.db.Set(done, nil, pebble.Sync); err != nil {
			return diskError("apologise", err)
		}
		return s.kv.Fork()
	}
	return nil
}

func (s *Share) endedKey(k *coreKey, split string, gen uint64, writer string, number uint64) error {
	id := s.homeID(split, k)
	defer s.kv.lock(id)()
	return s.unsay(id, k, gen, writer, number, nil, func(*pebble.Batch) error { return nil })
}
