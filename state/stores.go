package state

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wedge-cloud/wedge"
)

// Stores are the key-value stores that one version of a service binds. They are immutable
// themselves, cheap, and need not be closed.
type Stores struct {
	kv    *KV
	named map[string]*store
}

// A store is one bound store: where its keys lie and what it is seeded with.
type store struct {
	service, name string
	scope         wedge.Scope
	jurisdiction  string
	share         *Share // nil: there is no other PoP
	split         string // of scope home
	away          bool   // this PoP may not hold it
	prefix        []byte
	seeds         map[string]wedge.KVValue
	order         []string // keys of seeds in byte order
}

// seedBit marks the generation of a seed. Below it lie those of writes; all of it fits the 53 bits
// that a JavaScript number holds exactly.
const seedBit = 1 << 52

// For binds the stores that a version of the service names, each with its seeds and what holds for it; of two
// seeds for one key the last counts. The name of the service must be unique in the database.
func (kv *KV) For(service string, stores map[string][]wedge.KVSeed, rules map[string]wedge.Store) *Stores {
	s := &Stores{kv: kv, named: make(map[string]*store, len(stores))}
	for name, seeds := range stores {
		rule := rules[name]
		st := &store{service: service, name: name, scope: cmp.Or(rule.Scope, wedge.ScopeMerge), jurisdiction: rule.Jurisdiction, split: rule.Split, share: kv.shares[rule.Jurisdiction], seeds: make(map[string]wedge.KVValue, len(seeds))}
		st.away = st.share == nil && len(kv.shares) > 0
		if st.prefix = storePrefix(within(st.jurisdiction, service), name); st.scope == wedge.ScopeCore {
			st.prefix = storePrefix(coreService(within(st.jurisdiction, service)), name)
		} else if st.scope == wedge.ScopeHome {
			st.prefix = storePrefix(homeService(st.split, within(st.jurisdiction, service)), name)
		}
		for _, seed := range seeds {
			st.seeds[seed.Key] = wedge.KVValue{
				Value:      seed.Value[:len(seed.Value):len(seed.Value)],
				Metadata:   seed.Metadata,
				Generation: seedGeneration(seed),
			}
		}
		for key := range st.seeds {
			st.order = append(st.order, key)
		}
		sort.Strings(st.order)
		s.named[name] = st
	}
	return s
}

// seedGeneration is drawn from the content, so that it is the same on every node and
// changes when the seed does.
func seedGeneration(seed wedge.KVSeed) uint64 {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(seed.Metadata))))
	io.WriteString(h, seed.Metadata)
	h.Write(seed.Value)
	return seedBit | generationOf(h.Sum(nil))
}

// generationOf draws a generation from a digest: the same on every node.
func generationOf(sum []byte) uint64 { return max(1, binary.BigEndian.Uint64(sum)&(seedBit-1)) }

func (st *store) id(key string) []byte {
	return append(st.prefix[:len(st.prefix):len(st.prefix)], key...)
}

// Has reports whether the version binds a store of that name.
func (s *Stores) Has(name string) bool { return s.named[name] != nil }

// open checks the names of store and key and begins an operation.
func (s *Stores) open(ctx context.Context, op, name, key string) (*store, error) {
	st := s.named[name]
	if st == nil {
		return nil, &wedge.Error{Op: op, What: "store " + name, Kind: wedge.NotExist,
			Err: errors.New("the version binds no such store"), Hint: "Add it to the version's key-value stores."}
	}
	if len(key) > wedge.MaxKVKey {
		return nil, &wedge.Error{Op: op, What: "store " + name, Kind: wedge.Invalid,
			Err: fmt.Errorf("the key has %d bytes", len(key)), Hint: fmt.Sprintf("A key may have %d bytes.", wedge.MaxKVKey)}
	}
	if st.away {
		return nil, &wedge.Error{Op: op, What: "store " + name, Kind: wedge.Denied, Err: errors.New("this PoP may not hold what is in jurisdiction " + st.jurisdiction),
			Hint: "Ask a PoP that carries it."}
	}
	return st, s.kv.enter(ctx, op, "store "+name)
}

// within keeps what is in a jurisdiction apart from all else in the database.
func within(jurisdiction, service string) string {
	if jurisdiction == "" {
		return service
	}
	return jurisdiction + "\x01" + service
}

// Away reports whether the version binds a store of that name that this PoP may not hold, and in which jurisdiction it is.
func (s *Stores) Away(name string) (jurisdiction string, away bool) {
	if st := s.named[name]; st != nil {
		return st.jurisdiction, st.away
	}
	return "", false
}

// Share returns what a store is shared by; nil: it is not.
func (s *Stores) Share(name string) *Share {
	if st := s.named[name]; st != nil && st.scope != wedge.ScopeLocal {
		return st.share
	}
	return nil
}

// Get returns what the key holds. The value must not be changed. Errors are of kind
// NotExist, Invalid (key), Timeout, Unavailable or Internal (corrupt).
func (s *Stores) Get(ctx context.Context, name, key string) (wedge.KVValue, error) {
	st, err := s.open(ctx, "get key", name, key)
	if err != nil {
		return wedge.KVValue{}, err
	}
	defer s.kv.leave()
	var room [128]byte
	id := append(append(room[:0], st.prefix...), key...)
	stripe := s.kv.stripe(id)
	v, ok, changes := stripe.ready(id, s.kv.opts.Now)
	if ok {
		return v, nil
	}
	v, written, err := s.read(st, st.id(key), name, key)
	if err == nil && written {
		stripe.keep(id, v, changes)
	}
	return v, err
}

// read reads what a key holds from the database; written: it is not a seed.
func (s *Stores) read(st *store, id []byte, name, key string) (v wedge.KVValue, written bool, err error) {
	now := s.kv.opts.Now()
	h, err := s.kv.headFor(st, id, key)
	if err == nil && h != nil && (h.large || h.rendered()) {
		v, err = s.getLarge(id, name, key, st, now)
		return v, h.live(now), err
	}
	v, err = st.see(h, now, name, key, err)
	return v, h.live(now), err
}

// getLarge reads head and value from one snapshot: they must be of the same write.
func (s *Stores) getLarge(id []byte, name, key string, st *store, now time.Time) (wedge.KVValue, error) {
	snap := s.kv.db.NewSnapshot()
	defer snap.Close()
	h, err := readHead(snap, id)
	if err == nil && h.live(now) {
		err = h.loadValue(snap, id)
	}
	return st.see(h, now, name, key, err)
}

// see turns a head into what the guest sees: the written value, else the seed, else nothing.
func (st *store) see(h *head, now time.Time, name, key string, err error) (wedge.KVValue, error) {
	switch {
	case err != nil:
		return wedge.KVValue{}, err
	case h.live(now):
		return wedge.KVValue{Value: h.value, Metadata: h.metadata, Generation: h.generation, Expires: h.expires}, nil
	case !h.hides(now):
		if v, ok := st.seeds[key]; ok {
			return v, nil
		}
	}
	return wedge.KVValue{}, absent("get key", name, key)
}

// headFor returns the head of a key.
func (kv *KV) headFor(st *store, id []byte, key string) (*head, error) {
	h, err := readHead(kv.db, id)
	if err != nil {
		return nil, err
	}
	return kv.overSeed(st, id, key, h)
}

// overSeed has the head of a key that is gone hide the key's seed.
func (kv *KV) overSeed(st *store, id []byte, key string, h *head) (*head, error) {
	if _, seeded := st.seeds[key]; !seeded || st.scope != wedge.ScopeMerge || h.live(kv.opts.Now()) {
		return h, nil
	}
	written, err := kv.written(id)
	switch {
	case !written:
	case h == nil:
		h = &head{tombstone: true}
	default:
		h.shadows = true
	}
	return h, err
}

func absent(op, name, key string) error {
	return &wedge.Error{Op: op, What: fmt.Sprintf("%q in store %s", key, name), Kind: wedge.NotExist}
}

// readHead returns the head of id, nil if nothing was written.
func readHead(r pebble.Reader, id []byte) (*head, error) {
	key := inSpace(headSpace, id)
	b, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, diskError("read state", err)
	}
	defer closer.Close()
	h, err := decodeHead(b)
	if err != nil {
		return nil, corrupt(key, err)
	}
	return h, nil
}

// loadValue brings in a value that lies apart.
func (h *head) loadValue(r pebble.Reader, id []byte) error {
	if h.rendered() {
		return h.render(r, id)
	}
	if !h.large {
		return nil
	}
	key := inSpace(valueSpace, id)
	if h.kind != 0 {
		key = contentKey(id, h.digest)
	}
	b, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return corrupt(key, "the value is missing")
	}
	if err != nil {
		return diskError("read state", err)
	}
	defer closer.Close()
	h.value = slices.Clone(b)
	return nil
}

func diskError(op string, err error) error {
	return &wedge.Error{Op: op, Kind: wedge.Unavailable, Err: err, Hint: "Look at the disk that holds the state directory."}
}
