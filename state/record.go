package state

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state/merge"
)

// The database's keys, by first byte. An id is service, store and key, the first two with
// their length before them, so that no two stores can ever share a prefix.
//
//	s name               a number of the database's own
//	h id                 head: everything about a key, and its value if that is small
//	v id                 a large value
//	x time id            a head expires at that time
//	m id                 the mergeable value of a key, see merged.go
//	c id digest          what a write to a register holds, if that is large
//	p writer 0 digest n  a piece of such content that came from another PoP, until the write comes
//	a service 0 id       an apology that was not answered yet
//	t id                 the key holds a stock
//	g id                 something of the key's value can go when the horizon is beyond an instant
//	o lane 0 number      an item of an outbox
//	e service 0 id       a session, or where it is
//	y time service 0 id  a session expires at that time
//	n service 0 id       a session of which some PoP is to be told
//	k pop                the keys with which a PoP signs tokens of sessions
const (
	systemSpace  = 's'
	headSpace    = 'h'
	valueSpace   = 'v'
	expirySpace  = 'x'
	mergedSpace  = 'm'
	contentSpace = 'c'
	pieceSpace   = 'p'
	apologySpace = 'a'
	stockSpace   = 't'
	removedSpace = 'g'
	outboxSpace  = 'o'

	sessionSpace = 'e'
	endSpace     = 'y'
	tellSpace    = 'n'
	signerSpace  = 'k'
)

const schema = 1

var (
	schemaKey     = []byte("sschema")
	generationKey = []byte("sgeneration")

	incarnationKey = []byte("sincarnation")
	anewKey        = []byte("sanew") // the incarnation that began with nothing, or with an older copy's data
)

// inlineMax is how large a value may be to lie in its head. Larger ones lie apart, so that
// listing keys does not read them.
const inlineMax = 1 << 10

// storePrefix returns the prefix of the ids of a store.
func storePrefix(service, store string) []byte {
	b := binary.AppendUvarint(make([]byte, 0, len(service)+len(store)+8), uint64(len(service)))
	b = append(b, service...)
	b = binary.AppendUvarint(b, uint64(len(store)))
	return append(b, store...)
}

func inSpace(space byte, id []byte) []byte {
	return append(append(make([]byte, 0, 1+len(id)), space), id...)
}

func expiryKey(at time.Time, id []byte) []byte {
	b := append(make([]byte, 0, 9+len(id)), expirySpace)
	return append(binary.BigEndian.AppendUint64(b, uint64(at.UnixNano())), id...)
}

// successor returns the smallest key greater than all keys with the prefix; nil: there is none.
func successor(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			s := append([]byte(nil), prefix[:i+1]...)
			s[i]++
			return s
		}
	}
	return nil
}

// A head is what is written about one key.
type head struct {
	generation uint64
	expires    time.Time         // zero: never
	tombstone  bool              // deleted at run time: hides the seed
	shadows    bool              // lies over a seed: when it expires it must become a tombstone
	large      bool              // the value lies apart
	kind       merge.Kind        // of a mergeable value, whose record the head goes with; 0: there is none
	digest     [sha256.Size]byte // of a large value of a register
	metadata   string
	value      []byte // if not large
}

const (
	headFormat = 1

	flagTombstone = 1 << 0
	flagShadows   = 1 << 1
	flagLarge     = 1 << 2
	flagExpires   = 1 << 3
	flagMerged    = 1 << 4
	knownFlags    = 1<<5 - 1
)

// live reports whether the head stands for a value at that time.
func (h *head) live(now time.Time) bool {
	return h != nil && !h.tombstone && (h.expires.IsZero() || h.expires.After(now))
}

// hides reports whether the head, live or not, keeps a seed from being seen.
func (h *head) hides(now time.Time) bool {
	return h != nil && (h.tombstone || h.shadows || h.live(now))
}

func (h *head) encode() []byte {
	flags := byte(0)
	for _, f := range [...]struct {
		set bool
		bit byte
	}{{h.tombstone, flagTombstone}, {h.shadows, flagShadows}, {h.large, flagLarge}, {!h.expires.IsZero(), flagExpires}, {h.kind != 0, flagMerged}} {
		if f.set {
			flags |= f.bit
		}
	}
	b := make([]byte, 0, 24+len(h.metadata)+len(h.value))
	b = append(b, headFormat, flags)
	b = binary.BigEndian.AppendUint64(b, h.generation)
	if flags&flagExpires != 0 {
		b = binary.BigEndian.AppendUint64(b, uint64(h.expires.UnixNano()))
	}
	if h.kind != 0 {
		b = append(b, byte(h.kind))
		if h.large {
			b = append(b, h.digest[:]...)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(h.metadata)))
	b = append(b, h.metadata...)
	return append(b, h.value...)
}

var errShort = errors.New("the record is cut short")

// decodeHead reads a head; the result shares no memory with b.
func decodeHead(b []byte) (*head, error) {
	if len(b) < 10 {
		return nil, errShort
	}
	if b[0] != headFormat {
		return nil, fmt.Errorf("unknown record format %d", b[0])
	}
	flags := b[1]
	if flags&^byte(knownFlags) != 0 {
		return nil, fmt.Errorf("unknown record flags %#x", flags)
	}
	h := &head{
		tombstone:  flags&flagTombstone != 0,
		shadows:    flags&flagShadows != 0,
		large:      flags&flagLarge != 0,
		generation: binary.BigEndian.Uint64(b[2:]),
	}
	b = b[10:]
	if flags&flagExpires != 0 {
		if len(b) < 8 {
			return nil, errShort
		}
		h.expires = time.Unix(0, int64(binary.BigEndian.Uint64(b)))
		b = b[8:]
	}
	if flags&flagMerged != 0 {
		if len(b) < 1 {
			return nil, errShort
		}
		h.kind, b = merge.Kind(b[0]), b[1:]
		if h.large {
			if len(b) < len(h.digest) {
				return nil, errShort
			}
			b = b[copy(h.digest[:], b):]
		}
	}
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, errShort
	}
	b = b[size:]
	h.metadata, h.value = string(b[:n]), append([]byte(nil), b[n:]...)
	return h, nil
}

// corrupt reports a record that cannot be read. Its key is shown, its value is not.
func corrupt(key []byte, why any) error {
	return &wedge.Error{Op: "read state", What: fmt.Sprintf("key %q", key), Kind: wedge.Internal, Err: fmt.Errorf("corrupt record: %v", why),
		Hint: "The disk or another program damaged the state directory; write or delete the key to mend it."}
}
