package state

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wedge-cloud/wedge"
)

// Keys of stores of scope core are decided by the core: a PoP sends it what is to be written and on which conditions, the core looks at
// what the key holds, and puts what it is to hold at the end of a log that has the last word about each key. All PoPs follow it. So the
// order of writes is one everywhere, a condition that held has held for all, and the number of the log's entry is the key's generation.

// KeyLog is the log of such keys, at the core. Each key has the one entry that was written last.
type KeyLog interface {
	// Last returns the entry of a key; its number is 0 if there is none.
	Last(ctx context.Context, key string) (wedge.Entry, error)
	// Append replaces the entry of a key if its number is that, and returns the new one's. The error is of kind Conflict if it is not.
	Append(ctx context.Context, key string, last uint64, item []byte) (uint64, error)
	// End has the log of state take nothing more of a writer whose PoP is a member no more, and returns the number of its last item there. gone is
	// false, and nothing is done, if the PoP is a member.
	End(ctx context.Context, writer string) (last uint64, gone bool, err error)
}

// EndItem is what a core that ends a writer puts behind its items in the log of state.
func EndItem() []byte { return []byte{itemEnd} }

// MaxCoreValue is how large value and metadata of a key of scope core may be together, in bytes.
const MaxCoreValue = 400 << 10

// coreName is what the log knows a key by.
func coreName(service, store string, key []byte) string {
	sum := sha256.Sum256(append(storePrefix(service, store), key...))
	return "k" + hex.EncodeToString(sum[:16])
}

// coreWrite is a write as a PoP asks for it. The value follows, then the seed's.
type coreWrite struct {
	Service  string         `json:"service"`
	Store    string         `json:"store"`
	Key      []byte         `json:"key"` // any bytes
	Delete   bool           `json:"delete,omitempty"`
	Mode     wedge.KVMode   `json:"mode,omitempty"`
	TTL      time.Duration  `json:"ttl,omitempty"`
	Metadata *[]byte        `json:"metadata,omitempty"`
	If       *uint64        `json:"if,omitempty"`
	Seed     *coreWriteSeed `json:"seed,omitempty"` // what the PoP's version shows of a key that was never written

	value, seed []byte
	taken       bool      // the home that there was is gone: the core has found so
	at          time.Time // when it is decided
}

type coreWriteSeed struct {
	Generation uint64 `json:"generation"`
	Metadata   []byte `json:"metadata,omitempty"`
	Size       int    `json:"size,omitempty"` // of its value, if that is to be joined with
}

// coreKey is what a key holds, as the log has it. The value follows.
type coreKey struct {
	Service  string `json:"service"`
	Store    string `json:"store"`
	Key      []byte `json:"key"`
	Gone     bool   `json:"gone,omitempty"`
	Metadata []byte `json:"metadata,omitempty"`
	Expires  int64  `json:"expires,omitempty"` // ms since 1970; 0: never

	value []byte
}

// headed puts JSON before bytes, with its length before it.
func headed(head any, parts ...[]byte) ([]byte, error) {
	h, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	b := append(binary.AppendUvarint(nil, uint64(len(h))), h...)
	for _, p := range parts {
		b = append(b, p...)
	}
	return b, nil
}

func readHeaded(b []byte, head any) (rest []byte, err error) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) || n > 16<<10 {
		return nil, errItem
	}
	return b[size+int(n):], json.Unmarshal(b[size:size+int(n)], head)
}

// readCoreKey reads an entry's item. The core wrote it, and what it is made of came from PoPs.
func readCoreKey(b []byte) (k coreKey, err error) {
	if k.value, err = readHeaded(b, &k); err != nil {
		return k, err
	}
	if !validService(k.Service) || k.Store == "" || len(k.Key) == 0 || len(k.Key) > wedge.MaxKVKey || len(k.Metadata) > wedge.MaxKVMetadata || k.Expires < 0 || k.Expires > 1<<53 {
		return k, errItem
	}
	return k, nil
}

func readCoreWrite(b []byte) (w coreWrite, err error) {
	rest, err := readHeaded(b, &w)
	switch {
	case err != nil:
		return w, err
	case !validService(w.Service) || len(w.Service) > maxSharedName || w.Store == "" || len(w.Store) > maxSharedName || len(w.Key) == 0 || len(w.Key) > wedge.MaxKVKey:
		return w, errItem
	case w.Seed != nil && (w.Seed.Size < 0 || w.Seed.Size > len(rest) || len(w.Seed.Metadata) > wedge.MaxKVMetadata):
		return w, errItem
	}
	w.value = rest
	if w.Seed != nil {
		w.value, w.seed = rest[:len(rest)-w.Seed.Size], rest[len(rest)-w.Seed.Size:]
	}
	return w, checkPut(w.Store, w.put())
}

// put returns the write as guests say it.
func (w *coreWrite) put() wedge.KVPut {
	p := wedge.KVPut{Key: string(w.Key), Value: w.value, Mode: w.Mode, TTL: w.TTL, IfGeneration: w.If}
	if w.Metadata != nil {
		m := string(*w.Metadata)
		p.Metadata = &m
	}
	return p
}

// coreAnswer is what the core says to a write. What the key holds then follows.
type coreAnswer struct {
	Seq   uint64 `json:"seq,omitempty"`
	Kind  string `json:"kind,omitempty"` // of the error
	Error string `json:"error,omitempty"`
	Hint  string `json:"hint,omitempty"`

	Token string `json:"token,omitempty"` // a home's, of the write
	Home  string `json:"home,omitempty"`  // another is the home, in that epoch
	Epoch uint64 `json:"epoch,omitempty"`
}

// coreTries is how often the core tries a write while others write the same key.
const coreTries = 20

// Decide answers what a PoP asks the core to write. It never fails: what is wrong is in the answer. question is not believed.
func Decide(ctx context.Context, log KeyLog, pop string, question []byte, now time.Time) (answer []byte) {
	seq, item, err := decide(ctx, log, pop, question, now)
	a := coreAnswer{Seq: seq}
	if err != nil {
		a, item = coreAnswer{Kind: wedge.KindOf(err).String(), Error: causeOf(err), Hint: wedge.HintOf(err)}, nil
	}
	answer, _ = headed(a, item) // texts and a number
	return answer
}

// causeOf is an error's text without what and where, which the PoP says itself.
func causeOf(err error) string {
	var e *wedge.Error
	if errors.As(err, &e) && e.Err != nil {
		return e.Err.Error()
	}
	return err.Error()
}

func decide(ctx context.Context, log KeyLog, pop string, question []byte, now time.Time) (seq uint64, item []byte, err error) {
	w, err := readCoreWrite(question)
	if err != nil {
		return 0, nil, &wedge.Error{Op: "write key", Kind: wedge.Invalid, Err: err}
	}
	name := coreName(w.Service, w.Store, w.Key)
	for range coreTries {
		e, err := log.Last(ctx, name)
		if err != nil {
			return 0, nil, err
		}
		if w.at = now; w.Store == homesStore {
			if err = w.take(ctx, log, e, pop); err != nil {
				return 0, nil, err
			}
		}
		if item, err = w.decide(e, pop, now); err != nil {
			return 0, nil, err
		}
		if seq, err = log.Append(ctx, name, e.Seq, item); wedge.KindOf(err) != wedge.Conflict || err == nil {
			return seq, item, err
		}
	}
	return 0, nil, &wedge.Error{Op: "write key", Kind: wedge.Conflict, Err: errors.New("too many write it at once"), Hint: "Look the key up again and repeat the change."}
}

// decide returns what the key is to hold after the write.
func (w *coreWrite) decide(e wedge.Entry, pop string, now time.Time) ([]byte, error) {
	old := (*head)(nil)
	if e.Seq > 0 {
		k, err := readCoreKey(e.Items[0])
		if err != nil {
			return nil, &wedge.Error{Op: "read key", Kind: wedge.Internal, Err: err}
		}
		old = k.head(e.Seq)
	}
	if w.Store == homesStore {
		if err := w.checkHome(pop, old); err != nil {
			return nil, err
		}
	}
	k, err := w.after(nil, nil, old, now)
	if err != nil {
		return nil, err
	}
	return headed(k, k.value)
}

// after returns what a key holds after the write that held old, whose value may lie apart in the database.
func (w *coreWrite) after(db *pebble.DB, id []byte, old *head, now time.Time) (k coreKey, err error) {
	st := &store{name: w.Store}
	if w.Seed != nil {
		st.seeds = map[string]wedge.KVValue{string(w.Key): {Value: w.seed, Metadata: string(w.Seed.Metadata), Generation: w.Seed.Generation}}
	}
	k = coreKey{Service: w.Service, Store: w.Store, Key: w.Key}
	if w.Delete {
		if !old.live(now) && (w.Seed == nil || old.hides(now)) {
			return k, absent("delete key", w.Store, string(w.Key))
		}
		k.Gone = true
		return k, nil
	}
	next, err := st.next(db, id, old, now, w.Store, w.put())
	if err != nil {
		return k, err
	}
	if len(next.value)+len(next.metadata) > MaxCoreValue {
		return k, tooLargeForCore(w.Store, len(next.value)+len(next.metadata))
	}
	k.Metadata = []byte(next.metadata)
	if !next.expires.IsZero() {
		k.Expires = next.expires.UnixMilli()
	}
	k.value = next.value
	return k, nil
}

func tooLargeForCore(name string, n int) error {
	return &wedge.Error{Op: "put key", What: "store " + name, Kind: wedge.Exhausted, Err: fmt.Errorf("value and metadata have %d bytes", n),
		Hint: fmt.Sprintf("In a store of scope core or home they may have %d KiB; keep larger ones in a store of scope merge.", MaxCoreValue>>10)}
}

// head returns what a PoP keeps of a key.
func (k *coreKey) head(seq uint64) *head {
	h := &head{generation: seq, tombstone: k.Gone, shadows: true, metadata: string(k.Metadata), value: k.value}
	if k.Expires != 0 {
		h.expires = time.UnixMilli(k.Expires)
	}
	return h
}

// askCore has the core decide a write, and keeps what it says.
func (s *Stores) askCore(ctx context.Context, st *store, w *coreWrite) (uint64, error) {
	op := "put key"
	if w.Delete {
		op = "delete key"
	}
	what := fmt.Sprintf("%q in store %s", w.Key, st.name)
	w.Service, w.Store = st.service, st.name
	w.plant(st)
	question, err := headed(w, w.value, w.seed)
	if err != nil {
		return 0, err
	}
	answer, err := st.share.AskCore(ctx, question)
	if err != nil {
		return 0, &wedge.Error{Op: op, What: what, Kind: wedge.Unavailable, Err: err,
			Hint: "The core decides about this store, and cannot be reached or did not say: look the key up later, or use a store of scope merge."}
	}
	var a coreAnswer
	item, err := readHeaded(answer, &a)
	if err == nil && a.Error == "" {
		err = st.share.takeKey(a.Seq, item)
		if err == nil {
			st.share.wroteKey(a.Seq)
		}
		return a.Seq, err
	}
	if err != nil {
		return 0, &wedge.Error{Op: op, What: what, Kind: wedge.Internal, Err: err}
	}
	return 0, &wedge.Error{Op: op, What: what, Kind: wedge.KindNamed(a.Kind), Err: errors.New(a.Error), Hint: a.Hint}
}

// plant says which seed the PoP's version shows.
func (w *coreWrite) plant(st *store) {
	seed, ok := st.seeds[string(w.Key)]
	if !ok {
		return
	}
	w.Seed = &coreWriteSeed{Generation: seed.Generation, Metadata: []byte(seed.Metadata)}
	if w.Mode == wedge.KVAppend || w.Mode == wedge.KVPrepend {
		w.seed, w.Seed.Size = seed.Value, len(seed.Value)
	}
}

// TakeHomes takes an entry of the log of keys if it is a record of the directory of homes. It is for who keeps no other keys of it.
func (s *Share) TakeHomes(e wedge.Entry) error {
	if k, err := readCoreKey(e.Items[0]); err != nil || k.Store != homesStore {
		s.progress(func() { s.keys = max(s.keys, e.Seq) })
		return nil
	}
	return s.TakeKeys(e)
}

// TakeKeys takes an entry of the log of keys. An error means that the disk does not work.
func (s *Share) TakeKeys(e wedge.Entry) error {
	if err := s.kv.enter(context.Background(), "take", e.Writer); err != nil {
		return err
	}
	defer s.kv.leave()
	if err := s.kv.roomy(); err != nil {
		return err
	}
	if err := s.takeKey(e.Seq, e.Items[0]); wedge.KindOf(err) == wedge.Unavailable {
		return err
	} else if err != nil {
		s.refuse(e, 0, err)
	}
	s.progress(func() { s.keys = max(s.keys, e.Seq) })
	return nil
}

// takeKey keeps what a key holds, unless something later is here. What is lost by a crash is read again.
func (s *Share) takeKey(seq uint64, item []byte) error {
	k, err := readCoreKey(item)
	if err != nil {
		return err
	}
	err = s.keepKey(append(storePrefix(coreService(within(s.jurisdiction, k.Service)), k.Store), k.Key...), &k, seq)
	if err == nil && k.Store == homesStore {
		err = s.ended(&k)
	}
	return err
}

// keepKey keeps what a key holds in that generation, unless a later one is here.
func (s *Share) keepKey(id []byte, k *coreKey, seq uint64) error {
	return s.keepKeyWith(id, k, seq, func(*pebble.Batch, []byte, *head) error { return nil })
}

// keepKeyWith writes along what belongs to it; along is given what the key holds.
func (s *Share) keepKeyWith(id []byte, k *coreKey, seq uint64, along func(b *pebble.Batch, id []byte, old *head) error) error {
	defer s.kv.lock(id)()
	old, err := readHead(s.kv.db, id)
	if err != nil && wedge.KindOf(err) != wedge.Internal {
		return err
	}
	if old != nil && old.generation >= seq {
		return nil
	}
	b := s.kv.db.NewBatch()
	defer b.Close()
	if err := along(b, id, old); err != nil {
		return err
	}
	if err := s.kv.fill(b, id, old, k.head(seq)); err != nil {
		return diskError("take", err)
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return diskError("take", err)
	}
	return nil
}

// coreService keeps the keys that the core decides about apart from those of stores of other scopes.
func coreService(service string) string { return "core\x00" + service }

func (s *Share) wroteKey(seq uint64) { s.progress(func() { s.wrote = max(s.wrote, seq) }) }
