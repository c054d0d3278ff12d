package merge

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"unicode/utf8"

	"github.com/wedge-cloud/wedge"
)

var (
	errCut    = errors.New("it is cut short")
	errOrder  = errors.New("rows are not in order")
	errRange  = errors.New("a number is out of its range")
	errUnseen = errors.New("a change is there that is not seen")
	errText   = errors.New("a text is not what it should be")
	errFormat = errors.New("unknown format or kind")
	errTwice  = errors.New("not how this value is encoded")
)

// decoder reads hostile bytes. After an error it gives zeros. What it allocates is bounded by the bytes it has: each row takes
// some, and a count of rows for which there are too few is refused before room is made for them.
type decoder struct {
	b       []byte
	all     string // the same bytes, for texts to share
	writers []Writer
	seen    seen
	depth   int
	err     error
}

// Decode reads an encoded value. The error is of kind Invalid. What it takes of memory is a small multiple of what b does; it has no
// limit of its own, for joins of values at their limit must be read again. Who gets bytes from others bounds those.
func Decode(b []byte) (*Value, error) {
	v, err := decode(b)
	if err != nil {
		return nil, &wedge.Error{Op: "read value", Kind: wedge.Invalid, Err: err,
			Hint: "It was damaged, or written by a later Wedge: update this one, or delete the key."}
	}
	return v, nil
}

func decode(b []byte) (*Value, error) {
	if len(b) < 2 || b[0] != format || Kind(b[1]&^removedBit).blank() == nil {
		return nil, errFormat
	}
	d := &decoder{b: b[2:], all: string(b)}
	v := &Value{}
	if b[1]&removedBit != 0 {
		v.removed = d.instant()
	}
	d.head()
	v.body, v.seen = d.body(Kind(b[1]&^removedBit)), d.seen
	if d.err != nil {
		return nil, d.err
	}
	v.encoded = v.Encode()
	if !bytes.Equal(v.encoded, b) { // numbers too long, writers that nothing mentions, bytes left over
		return nil, errTwice
	}
	return v, nil
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err, d.b = err, nil
	}
}

// number reads a number up to max.
func (d *decoder) number(max uint64) uint64 {
	n, size := binary.Uvarint(d.b)
	if size <= 0 {
		d.fail(errCut)
		return 0
	}
	if n > max {
		d.fail(errRange)
		return 0
	}
	d.b = d.b[size:]
	return n
}

// count reads how many rows follow, of at least size bytes each.
func (d *decoder) count(size int) int {
	n := d.number(math.MaxUint64)
	if n > uint64(len(d.b)/size) {
		d.fail(errCut)
		return 0
	}
	return int(n)
}

// bytes reads n bytes, and gives them also as a text.
func (d *decoder) bytes(n uint64) ([]byte, string) {
	if n > uint64(len(d.b)) {
		d.fail(errCut)
		return nil, ""
	}
	b, at := d.b[:n], len(d.all)-len(d.b)
	d.b = d.b[n:]
	return b, d.all[at : at+int(n)]
}

func (d *decoder) flag() bool { return d.number(1) == 1 }

// name reads a text up to max bytes.
func (d *decoder) name(max uint64) string {
	_, s := d.bytes(d.number(max))
	if !utf8.ValidString(s) {
		d.fail(errText)
	}
	return s
}

// json reads a text that is a JSON value.
func (d *decoder) json() string {
	b, s := d.bytes(d.number(MaxValue))
	if d.err == nil && !validJSON(b) {
		d.fail(errText)
	}
	return s
}

func (d *decoder) head() {
	n := d.count(10)
	for range n {
		w := Writer{PoP: d.name(maxPoP)}
		if b, _ := d.bytes(8); b != nil {
			w.Incarnation = binary.BigEndian.Uint64(b)
		}
		if w.PoP == "" {
			d.fail(errText)
		}
		if k := len(d.writers); k > 0 && d.writers[k-1].compare(w) >= 0 {
			d.fail(errOrder)
		}
		d.writers = append(d.writers, w)
	}
	for _, w := range d.writers {
		if spans := d.spans(); len(spans) > 0 {
			d.seen = append(d.seen, track{w, spans})
		}
	}
}

func (d *decoder) spans() []span {
	n := d.count(2)
	spans := make([]span, 0, n)
	for next := uint64(1); len(spans) < n && d.err == nil; {
		s := span{from: next + d.number(maxSeq)}
		s.to = s.from + d.number(maxSeq)
		if s.to > maxSeq {
			d.fail(errRange)
		}
		spans, next = append(spans, s), s.to+2
	}
	return spans
}

func (d *decoder) writer() Writer {
	i := d.number(uint64(len(d.writers)))
	if i >= uint64(len(d.writers)) {
		d.fail(errRange)
		return Writer{}
	}
	return d.writers[i]
}

// foreign reads a dot that need not be seen.
func (d *decoder) foreign() dot {
	x := dot{d.writer(), d.number(maxSeq)}
	if x.seq == 0 {
		d.fail(errRange)
	}
	return x
}

func (d *decoder) dot() dot {
	x := d.foreign()
	if !d.seen.has(x) {
		d.fail(errUnseen)
	}
	return x
}

func (d *decoder) instant() Instant {
	return Instant{int64(d.number(maxWall)), uint32(d.number(1<<32 - 1))}
}

// readRows reads a table of rows of at least size bytes.
func readRows[K ordered[K], V any](d *decoder, size int, f func() (K, V)) table[K, V] {
	n := d.count(size)
	return appendRows(d, make(table[K, V], 0, n), n, f)
}

// appendRows reads n rows behind others, which are another table's.
func appendRows[K ordered[K], V any](d *decoder, t table[K, V], n int, f func() (K, V)) table[K, V] {
	for i := 0; i < n && d.err == nil; i++ {
		k, v := f()
		if i > 0 && t[len(t)-1].key.compare(k) >= 0 {
			d.fail(errOrder)
		}
		t = append(t, row[K, V]{k, v})
	}
	return t
}

func (d *decoder) body(k Kind) body {
	switch k {
	case Grow, Counter:
		return d.counter(k == Grow)
	case Stock:
		return d.stock()
	case Register, Multi:
		return register{readRows(d, 6, func() (dot, write) {
			return d.dot(), write{d.instant(), d.json(), d.name(MaxName)}
		}), k == Multi}
	case AddWins, RemoveWins:
		return d.set(k == RemoveWins)
	case Map:
		return d.fields()
	}
	return d.list()
}

func (d *decoder) counter(grow bool) body {
	return counter{readRows(d, 3, func() (dot, sums) {
		at, s := d.dot(), sums{up: d.number(maxSum)}
		if !grow {
			s.down = d.number(maxSum)
		}
		return at, s
	}), grow}
}

func (d *decoder) set(strict bool) body {
	var all table[dot, mark] // those of all elements, for each to need no memory of its own
	return set{readRows(d, 5, func() (text, table[dot, mark]) {
		v := text(d.json())
		from := len(all)
		all = appendRows(d, all, d.count(2), func() (at dot, m mark) {
			at = d.dot()
			if strict {
				m = mark{d.flag(), d.instant()}
			}
			return at, m
		})
		if len(all) == from {
			d.fail(errTwice)
		}
		return v, all[from:len(all):len(all)]
	}), strict}
}

func (d *decoder) fields() body {
	if d.depth++; d.depth > MaxDepth {
		d.fail(errRange)
	}
	rows := readRows(d, 4, func() (f field, b body) {
		f.name = d.name(MaxName)
		f.kind = Kind(d.number(uint64(endKinds) - 1))
		if f.kind == 0 || f.kind == Stock {
			d.fail(errFormat)
			return f, f.kind.blank()
		}
		if b = d.body(f.kind); b.empty() {
			d.fail(errTwice)
		}
		return f, b
	})
	d.depth--
	return fields{rows}
}

func (d *decoder) list() body {
	l := list{items: readRows(d, 6, func() (dot, item) {
		at, i := d.dot(), item{}
		switch p := d.number(placeItem + uint64(len(d.writers))); {
		case p == placeEnd:
			i.after = atEnd
		case p == placeItem+uint64(len(d.writers)):
			d.fail(errRange)
		case p >= placeItem:
			if i.after = (dot{d.writers[p-placeItem], d.number(maxSeq)}); i.after.seq == 0 {
				d.fail(errRange)
			}
		}
		i.at = d.instant()
		if len(d.b) > 0 && d.b[0] == 0 {
			d.b = d.b[1:]
		} else {
			i.value = d.json()
		}
		return at, i
	})}
	l.gone = readRows(d, 4, func() (dot, Instant) { return d.foreign(), d.instant() })
	for _, r := range l.items {
		if l.gone.has(r.key) != (r.val.value == "") {
			d.fail(errText)
		}
	}
	for _, g := range l.gone {
		if d.seen.has(g.key) && !l.items.has(g.key) {
			d.fail(errTwice)
		}
	}
	return l
}

func (d *decoder) stock() body {
	var s stock
	s.accounts = readRows(d, 6, func() (dot, account) {
		at, a := d.dot(), account{stocked: d.number(maxSum), spent: d.number(maxSum), sold: d.number(maxSum)}
		out := d.number(4 * maxSum)
		a.out = int64(out>>1) ^ -int64(out&1)
		return at, a
	})
	s.shares = readRows(d, 7, func() (dot, share) {
		at, s := d.dot(), share{granter: d.writer(), holder: d.writer(), amount: d.number(maxSum), until: int64(d.number(2 * maxWall))}
		s.free = s.until + int64(d.number(maxWall))
		return at, s
	})
	s.records = readRows(d, 9, func() (dot, record) {
		return d.dot(), record{d.foreign(), d.number(maxSum), d.number(maxSum), d.number(maxSum), d.number(maxSum), d.flag()}
	})
	return s
}
