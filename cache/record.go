package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"slices"
	"time"
)

// A record is an object in a segment file: a head of fixed length, then what is known of the object,
// with the checksums of its body's blocks, then the body. A record may instead refer to the body
// of an earlier one, of which only the fields have been validated anew.

const (
	headSize  = 96
	blockSize = 64 << 10 // of a body, with a checksum for each, verified before any of it is handed out
	maxMeta   = 1 << 20
	maxBody   = 1 << 31
	maxSeq    = 1 << 62 // no number gets that far
)

var headMagic = [4]byte{'W', 'd', 'g', 2} // the last is the version

// place is a number of bytes into a segment file: its number in the high half. 0 is nowhere.
type place uint64

func placeOf(segment uint32, offset int64) place { return place(segment)<<32 | place(uint32(offset)) }

func (p place) segment() uint32 { return uint32(p >> 32) }
func (p place) offset() int64   { return int64(uint32(p)) }

// head is the beginning of a record. It has its own checksum and says where it lies, so that
// nothing else is taken for one.
type head struct {
	at      place
	meta    int // bytes
	body    int64
	bodyAt  place // behind the meta, or in an earlier record
	key     key
	variant uint32
	seq     uint64
	metaSum uint32
}

func (h *head) own() place { return h.at + place(headSize+h.meta) }

// size returns the bytes of the whole record.
func (h *head) size() int64 {
	n := int64(headSize + h.meta)
	if h.bodyAt == h.own() {
		n += h.body
	}
	return n
}

func (h *head) put(b []byte) {
	le := binary.LittleEndian
	clear(b[:headSize])
	copy(b, headMagic[:])
	le.PutUint32(b[4:], uint32(h.meta))
	le.PutUint64(b[8:], uint64(h.at))
	le.PutUint64(b[16:], uint64(h.body))
	le.PutUint64(b[24:], uint64(h.bodyAt))
	copy(b[32:56], h.key[:])
	le.PutUint32(b[64:], h.variant)
	le.PutUint32(b[68:], h.metaSum)
	le.PutUint64(b[72:], h.seq)
	le.PutUint32(b[headSize-4:], checksum(b[:headSize-4]))
}

// parseHead reads the head that lies at a place.
func parseHead(b []byte, at place) (h head, err error) {
	le := binary.LittleEndian
	if len(b) < headSize || [4]byte(b[:4]) != headMagic || le.Uint32(b[headSize-4:]) != checksum(b[:headSize-4]) {
		return h, errDamaged
	}
	h = head{at: at, meta: int(le.Uint32(b[4:])), body: int64(le.Uint64(b[16:])), bodyAt: place(le.Uint64(b[24:])),
		key: key(b[32:56]), variant: le.Uint32(b[64:]), metaSum: le.Uint32(b[68:]), seq: le.Uint64(b[72:])}
	if place(le.Uint64(b[8:])) != at || h.meta > maxMeta || h.body < 0 || h.body > maxBody || h.seq > maxSeq {
		return h, errDamaged
	}
	return h, nil
}

func blocks(size int64) int { return int((size + blockSize - 1) / blockSize) }

// variantHash tells an entry's objects apart: those with the same replace each other.
func (o *object) variantHash() uint32 {
	k := o.kind.Value()
	b := putString(putString(nil, k.vary), k.variant)
	if p := o.part(); p != nil {
		b = append(b, p.String()...)
	}
	sum := sha256.Sum256(b) // clients choose what it is of
	return binary.LittleEndian.Uint32(sum[:])
}

// appendMeta appends what is known of o, and its body's checksums.
func appendMeta(b []byte, o *object, service string, sums []uint32) []byte {
	b = putString(b, service)
	k := o.kind.Value()
	b = putString(putString(b, k.vary), k.variant)
	b = binary.AppendUvarint(b, uint64(o.status()))
	flags := uint64(0)
	for i, is := range []bool{o.is(noStale), o.is(noCache), o.part() != nil, o.sliced() > 0} {
		if is {
			flags |= 1 << i
		}
	}
	b = binary.AppendUvarint(b, flags)
	if p := o.part(); p != nil {
		b = binary.AppendVarint(binary.AppendVarint(binary.AppendVarint(b, p.from), p.to), p.length)
	}
	if n := o.sliced(); n > 0 {
		b = binary.AppendVarint(b, n)
	}
	for _, n := range []int64{o.asked(), o.came, int64(o.age), int64(o.lifetime), int64(o.swr.duration()), int64(o.sie.duration())} {
		b = binary.AppendVarint(b, n)
	}
	b = putString(putStrings(b, o.keys()), o.fields.lines)
	b = putHeader(putStrings(b, o.trailer()), o.body.trailer())
	b = putString(b, string(o.metadata()))
	for _, sum := range sums {
		b = binary.LittleEndian.AppendUint32(b, sum)
	}
	return b
}

// parseMeta reads what appendMeta wrote, for a body of that size; the object has no body yet.
func parseMeta(b []byte, body int64) (o *facts, trailer http.Header, sums []uint32, err error) {
	n := 4 * blocks(body)
	if n > len(b) {
		return nil, nil, nil, errDamaged
	}
	w := &wire{b: b[:len(b)-n]}
	o = &facts{service: w.string(), vary: w.string(), variant: w.string(), status: int(w.uint())}
	flags := w.uint()
	o.noStale, o.noCache = flags&1 != 0, flags&2 != 0
	if flags&4 != 0 {
		o.part = &part{w.int(), w.int(), w.int()}
	}
	if flags&8 != 0 {
		o.length = w.int()
	}
	o.asked, o.came = time.Unix(0, w.int()), time.Unix(0, w.int())
	for _, d := range []*time.Duration{&o.age, &o.lifetime, &o.swr, &o.sie} {
		*d = time.Duration(w.int())
	}
	o.keys = w.strings()
	fields, ok := parseFields(w.string())
	o.header = fields
	o.trailer, trailer = w.strings(), w.header()
	if m := w.string(); m != "" {
		o.metadata = []byte(m)
	}
	if w.bad || !ok || len(w.b) != 0 || o.status != 0 && (o.status < 100 || o.status > 999) || o.part != nil && !o.part.holds(body) || o.length < 0 || o.length > 0 && body > 0 {
		return nil, nil, nil, errDamaged
	}
	for c := range slices.Chunk(b[len(b)-n:], 4) {
		sums = append(sums, binary.LittleEndian.Uint32(c))
	}
	return o, trailer, sums, nil
}

// holds reports whether a body of that size can be this part.
func (p *part) holds(size int64) bool {
	return p.from >= 0 && p.to > p.from && p.to-p.from == size && (p.length < 0 || p.to <= p.length)
}
