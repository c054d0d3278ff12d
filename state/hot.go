package state

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
)

// stripe is a part of all keys: one writer at a time changes one of its keys, and some that were read of late are kept ready. A read
// of those is a look into a map; the database takes ten times as long.
type stripe struct {
	writer sync.Mutex

	mu      sync.RWMutex
	changes uint64 // how often a key of the stripe was, or may have been, changed
	hot     map[string]wedge.KVValue
	size    int // bytes of hot, about
}

// numStripes is how many keys can be written at once. It is more than a disk can use.
const numStripes = 512

const (
	maxHot   = 8 << 10  // bytes of a value that is kept ready
	hotBytes = 64 << 10 // of a stripe: 32 MiB in all
	hotCost  = 200      // bytes besides key, value and metadata
)

func (kv *KV) stripe(id []byte) *stripe {
	return &kv.stripes[maphash.Bytes(kv.seed, id)%numStripes]
}

// lock takes the turn of the key and returns what gives it back. Whoever changes a key holds it until the change is committed.
func (kv *KV) lock(id []byte) (unlock func()) {
	s := kv.stripe(id)
	s.writer.Lock()
	return func() {
		s.mu.Lock()
		s.changes++
		if v, ok := s.hot[string(id)]; ok {
			s.size -= costOf(id, v)
			delete(s.hot, string(id))
		}
		s.mu.Unlock()
		s.writer.Unlock()
	}
}

// wait returns once nobody has the turn any more who has it now.
func (s *stripe) wait() {
	s.writer.Lock()
	defer s.writer.Unlock()
}

func costOf(id []byte, v wedge.KVValue) int {
	return len(id) + len(v.Value) + len(v.Metadata) + hotCost
}

// ready returns what is kept ready of a key, and the number with which keep may put it there if it is not.
func (s *stripe) ready(id []byte, now func() time.Time) (v wedge.KVValue, ok bool, changes uint64) {
	s.mu.RLock()
	v, ok = s.hot[string(id)]
	changes = s.changes
	s.mu.RUnlock()
	return v, ok && (v.Expires.IsZero() || v.Expires.After(now())), changes
}

// keep keeps a value ready that was read after ready had returned changes: if one came between, it may be old.
func (s *stripe) keep(id []byte, v wedge.KVValue, changes uint64) {
	if len(v.Value) > maxHot {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changes != changes {
		return
	}
	if s.hot == nil {
		s.hot = map[string]wedge.KVValue{}
	}
	if old, ok := s.hot[string(id)]; ok {
		s.size -= costOf(id, old)
	}
	s.hot[string(id)] = v
	s.size += costOf(id, v)
	for other, w := range s.hot { // in no order: as good as any, for keys that are read come back
		if s.size <= hotBytes {
			break
		}
		if other != string(id) {
			s.size -= costOf([]byte(other), w)
			delete(s.hot, other)
		}
	}
}
