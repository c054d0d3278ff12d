package state

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state/merge"
)

// In a store of scope merge every key has a mergeable value (package merge): what a guest puts is a write to a register, and other
// kinds are changed by their operations. The value's record is what is merged, and stays; the head beside it is what reads and lists see, so
// they cost what they do in other stores. A key that is gone has no head: its value's record is what hides its seed.

// content is what a write to a key's register says.
type content struct {
	Value    []byte `json:"v,omitempty"` // unless it is large
	Digest   string `json:"d,omitempty"` // of a large one: SHA-256 in hex
	Size     int    `json:"n,omitempty"`
	Metadata []byte `json:"m,omitempty"` // any bytes
	Expires  int64  `json:"x,omitempty"` // ms since 1970; 0: never
	Gone     bool   `json:"t,omitempty"` // the key was deleted
	Over     bool   `json:"s,omitempty"` // over a seed: what hides that is never forgotten
	Free     bool   `json:"f,omitempty"` // over none, once it is gone or has expired. Who wrote it before there was this did not say
}

// readContent reads what a register's write says; another PoP made it.
func readContent(b []byte) (c content, digest [sha256.Size]byte, err error) {
	if err := json.Unmarshal(b, &c); err != nil {
		return c, digest, err
	}
	n, err := hex.Decode(digest[:], []byte(c.Digest[:min(len(c.Digest), 2*len(digest))]))
	switch {
	case c.Digest != "" && (err != nil || n != len(digest) || len(c.Digest) != 2*n || len(c.Value) > 0 || c.Size <= inlineMax || c.Size > wedge.MaxKVValue):
		return c, digest, errors.New("a content that cannot be")
	case len(c.Metadata) > wedge.MaxKVMetadata || c.Expires < 0 || c.Expires > 1<<53 || len(c.Value) > inlineMax:
		return c, digest, errors.New("a content that may not be")
	}
	return c, digest, nil
}

func contentKey(id []byte, digest [sha256.Size]byte) []byte {
	return append(inSpace(contentSpace, id), digest[:]...)
}

// large is a content that lies apart.
type large struct {
	digest [sha256.Size]byte
	value  []byte
}

// rendered reports whether what reads see is made from the mergeable value.
func (h *head) rendered() bool {
	return h != nil && h.kind != 0 && h.kind != merge.Register && !h.tombstone
}

// render brings in what a value looks like.
func (h *head) render(r pebble.Reader, id []byte) error {
	v, err := readMerged(r, id)
	if err != nil {
		return err
	}
	if v == nil {
		return corrupt(inSpace(mergedSpace, id), "the value is missing")
	}
	h.value, err = json.Marshal(v)
	return err
}

// written reports whether a key ever had a mergeable value.
func (kv *KV) written(id []byte) (bool, error) {
	_, closer, err := kv.db.Get(inSpace(mergedSpace, id))
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, diskError("read state", err)
	}
	return true, closer.Close()
}

// readMerged returns the mergeable value of a key; nil: there never was one.
func readMerged(r pebble.Reader, id []byte) (*merge.Value, error) {
	key := inSpace(mergedSpace, id)
	b, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, diskError("read state", err)
	}
	defer closer.Close()
	v, err := merge.Decode(b)
	if err != nil {
		return nil, corrupt(key, err)
	}
	return v, nil
}

// putMerged makes next what the key's register holds.
func (kv *KV) putMerged(st *store, id []byte, key string, old, next *head) (uint64, error) {
	v, stored, err := kv.base(st.share, id)
	if err != nil {
		return 0, err
	}
	c := content{Value: next.value, Metadata: []byte(next.metadata), Over: st.over(key, v)}
	var apart *large
	if len(next.value) > inlineMax {
		apart = &large{sha256.Sum256(next.value), next.value}
		c.Value, c.Size, c.Digest = nil, len(next.value), hex.EncodeToString(apart.digest[:])
	}
	if !next.expires.IsZero() {
		c.Expires, c.Free = next.expires.UnixMilli(), !c.Over
		next.expires = time.UnixMilli(c.Expires) // as at the other PoPs
	}
	text, err := json.Marshal(c)
	if err != nil {
		return 0, err
	}
	if v == nil || v.Empty() && v.Kind() != merge.Register && old == nil {
		v = merge.New(merge.Register)
	}
	if v.Kind() != merge.Register {
		return 0, &wedge.Error{Op: "put key", What: fmt.Sprintf("%q in store %s", key, st.name), Kind: wedge.Conflict, Err: fmt.Errorf("the key holds a value of kind %v", v.Kind()),
			Hint: "Change it by an operation at state.wedge.internal, or use another key."}
	}
	next.kind, next.shadows = merge.Register, false
	if apart != nil {
		next.large, next.digest, next.value = true, apart.digest, nil
	}
	_, gen, err := kv.change(st, id, key, old, v, stored, merge.Op{Op: "set", Value: text, Kept: true}, next, apart)
	return gen, err
}

// over reports whether what is written to a key lies over a seed, of this version or of one that wrote it before.
func (st *store) over(key string, v *merge.Value) bool {
	if _, seeded := st.seeds[key]; seeded || v == nil || len(v.Writes()) == 0 {
		return seeded
	}
	c, _, err := readContent(v.Writes()[0].Value)
	return err == nil && c.Over
}

// deleteMerged takes away what the key holds. To a register that is a write like others: a seed may lie under it that PoPs have to be
// told of.
func (kv *KV) deleteMerged(st *store, id []byte, key string, old *head) error {
	v, stored, err := kv.base(st.share, id)
	if err != nil {
		return err
	}
	op := merge.Op{Op: "clear"}
	if v == nil || v.Kind() == merge.Register {
		over := st.over(key, v)
		text, err := json.Marshal(content{Gone: true, Over: over, Free: !over})
		if err != nil {
			return err
		}
		op = merge.Op{Op: "set", Value: text, Kept: true}
	}
	if v == nil {
		v = merge.New(merge.Register)
	}
	_, _, err = kv.change(st, id, key, old, v, stored, op, nil, nil)
	return err
}

// change applies an operation to a key's value, writes what it is then and has the fleet told. The caller holds the key's lock.
// stored is what the database has of the value, and h the head that goes with what it is then, if the caller knows that.
func (kv *KV) change(st *store, id []byte, key string, old *head, v, stored *merge.Value, op merge.Op, h *head, apart *large) (*merge.Value, uint64, error) {
	if st.share != nil {
		<-st.share.known
	}
	if kv.Forked() {
		return v, 0, &wedge.Error{Op: "write state", What: "store " + st.name, Kind: wedge.Unavailable, Err: errors.New("this PoP's database is an older copy of one that has gone on"),
			Hint: "Restart the node: it goes on under another name then."}
	}
	now := kv.opts.Now()
	next, delta, err := v.Apply(op, kv.clock.Now(now))
	if err != nil {
		return v, 0, err
	}
	if h != nil {
		h.generation = writeGeneration(next.Writes())
	} else if h, err = headOf(next); err != nil {
		return v, 0, err
	}
	gen := uint64(0)
	if h != nil {
		gen = h.generation
	}
	if delta == nil {
		return v, gen, nil
	}
	fill := func(b *pebble.Batch) error {
		if apart == nil {
			return kv.fillMerged(b, id, old, h, stored, next)
		}
		return kv.fillMerged(b, id, old, h, stored, next, *apart)
	}
	if st.share == nil {
		b := kv.db.NewBatch()
		defer b.Close()
		if err := fill(b); err != nil {
			return v, 0, diskError("write state", err)
		}
		if err := b.Commit(pebble.Sync); err != nil {
			return v, 0, diskError("write state", err)
		}
		return next, gen, nil
	}
	if _, err := st.share.box.add(fill, st.share.items(st, key, delta, apart)...); err != nil {
		return v, 0, err
	}
	return next, gen, nil
}

// headOf returns the head that goes with a value; nil: the key is absent.
func headOf(v *merge.Value) (*head, error) {
	if v.Bare() {
		return nil, nil
	}
	h := &head{kind: v.Kind()}
	writes := v.Writes()
	if h.kind != merge.Register || len(writes) == 0 {
		sum := sha256.Sum256(v.Encode())
		h.generation = generationOf(sum[:])
		return h, nil
	}
	c, digest, err := readContent(writes[0].Value)
	if err != nil {
		return nil, &wedge.Error{Op: "read state", Kind: wedge.Invalid, Err: err}
	}
	if c.Gone {
		return nil, nil
	}
	h.generation, h.metadata, h.value = writeGeneration(writes), string(c.Metadata), c.Value
	if c.Digest != "" {
		h.large, h.digest = true, digest
	}
	if c.Expires != 0 {
		h.expires = time.UnixMilli(c.Expires)
	}
	return h, nil
}

// writeGeneration is that of the write that a register shows.
func writeGeneration(writes []merge.Write) uint64 {
	sum := sha256.Sum256([]byte(writes[0].ID))
	return generationOf(sum[:])
}

// fillMerged writes value, head and large content, and drops content that no write holds any more.
func (kv *KV) fillMerged(b *pebble.Batch, id []byte, old, h *head, before, after *merge.Value, parts ...large) error {
	if err := b.Set(inSpace(mergedSpace, id), after.Encode(), nil); err != nil {
		return err
	}
	if err := errors.Join(kv.noteStock(b, id, after), noteRemovals(b, id, old, h, before, after)); err != nil {
		return err
	}
	kept := digests(after)
	for digest := range digests(before) {
		if kept[digest] {
			continue
		}
		if err := b.Delete(contentKey(id, digest), nil); err != nil {
			return err
		}
	}
	for _, p := range parts {
		if !kept[p.digest] {
			continue
		}
		if err := b.Set(contentKey(id, p.digest), p.value, nil); err != nil {
			return err
		}
	}
	return kv.fill(b, id, old, h)
}

// digests returns those of a register's large writes.
func digests(v *merge.Value) (all map[[sha256.Size]byte]bool) {
	if v == nil {
		return nil
	}
	for _, w := range v.Writes() {
		if !bytes.Contains(w.Value, []byte(`"d":`)) { // no other field's text has a quote
			continue
		}
		if c, digest, err := readContent(w.Value); err == nil && c.Digest != "" {
			if all == nil {
				all = map[[sha256.Size]byte]bool{}
			}
			all[digest] = true
		}
	}
	return all
}

// Value returns the mergeable value of a key in a store of scope merge: of a key that was put, the register with what the host keeps
// in it. The error is of kind NotExist if nothing is there.
func (s *Stores) Value(ctx context.Context, name, key string) (*merge.Value, error) {
	st, err := s.openMerged(ctx, "read value", name, key)
	if err != nil {
		return nil, err
	}
	defer s.kv.leave()
	v, err := readMerged(s.kv.db, st.id(key))
	if err == nil && (v == nil || v.Bare()) {
		return nil, absent("read value", name, key)
	}
	return v, err
}

// Change applies an operation to the value of a key in a store of scope merge, and returns what it is then. A key where nothing is
// becomes a value of that kind. When it returns, the change is on disk. Errors are of kind Invalid, Conflict (the key holds another
// kind), NotExist, Exhausted or Unavailable.
func (s *Stores) Change(ctx context.Context, name, key string, kind merge.Kind, op merge.Op) (*merge.Value, error) {
	return s.changeBy(ctx, name, key, kind, func(*merge.Value) (merge.Op, bool) { return op, true })
}

// changeBy applies what decide says to the value as it is when nobody else can change it; not ok: nothing.
func (s *Stores) changeBy(ctx context.Context, name, key string, kind merge.Kind, decide func(v *merge.Value) (op merge.Op, ok bool)) (*merge.Value, error) {
	st, err := s.openMerged(ctx, "change value", name, key)
	if err != nil {
		return nil, err
	}
	defer s.kv.leave()
	if err := checkPut(name, wedge.KVPut{Key: key}); err != nil {
		return nil, err
	}
	if err := s.kv.roomy(); err != nil {
		return nil, err
	}
	if err := st.ready(ctx); err != nil {
		return nil, err
	}
	id := st.id(key)
	defer s.kv.lock(id)()
	old, err := readHead(s.kv.db, id)
	if err != nil {
		return nil, err
	}
	v, stored, err := s.kv.base(st.share, id)
	if err != nil {
		return nil, err
	}
	if v == nil {
		v = merge.New(kind)
	}
	if _, seeded := st.seeds[key]; seeded && stored == nil {
		return nil, &wedge.Error{Op: "change value", What: fmt.Sprintf("%q in store %s", key, name), Kind: wedge.Conflict, Err: errors.New("the version gives the key a value"),
			Hint: "Use another key. What the version gives a key is a register."}
	}
	if v.Kind() != kind || kind == merge.Register {
		return nil, &wedge.Error{Op: "change value", What: fmt.Sprintf("%q in store %s", key, name), Kind: wedge.Conflict, Err: fmt.Errorf("the key holds a value of kind %v", v.Kind()),
			Hint: "Use another key. A register is what is put to a key as a whole."}
	}
	op, ok := decide(v)
	if !ok {
		return v, nil
	}
	next, _, err := s.kv.change(st, id, key, old, v, stored, op, nil, nil)
	return next, err
}

// Left returns how much of the stock at a key this PoP may spend without asking.
func (s *Stores) Left(v *merge.Value) int64 {
	return v.Left(s.kv.writer, s.kv.clock.Now(s.kv.opts.Now()).Instant)
}

// openMerged is open for a store of scope merge.
func (s *Stores) openMerged(ctx context.Context, op, name, key string) (*store, error) {
	st, err := s.open(ctx, op, name, key)
	if err == nil && st.scope != wedge.ScopeMerge {
		s.kv.leave()
		err = &wedge.Error{Op: op, What: "store " + name, Kind: wedge.Invalid, Err: fmt.Errorf("its scope is %s", st.scope), Hint: "Mergeable values need a store of scope merge."}
	}
	return st, err
}

// Scope returns the scope of a store that the version binds.
func (s *Stores) Scope(name string) wedge.Scope {
	if st := s.named[name]; st != nil {
		return st.scope
	}
	return ""
}
