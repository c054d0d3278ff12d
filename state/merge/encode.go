package merge

import (
	"encoding/binary"
	"encoding/json"
	"slices"
)

// The encoding. Numbers are uvarints unless said otherwise; a writer further on is its place among the writers; rows are in
// the order of their keys, strictly.
//
//	value   format, kind (a byte each; 128 more if removed follows), removed (an instant), n, n writers, their spans in the same order, body
//	writer  length and bytes of the PoP's name, incarnation (8 bytes, big endian)
//	spans   n, and n times: numbers left out before it (less one, but for the first), length less one
//	dot     writer, number
//	instant wall, count
//	text    length, bytes
//
// Bodies are n and n rows; list has two such tables, stock three. Each value has one encoding only.
const format = 1

const removedBit = 1 << 7

type encoder struct {
	b       []byte
	writers []Writer
}

// Encode returns the value as bytes: equal values, equal bytes. They must not be changed.
func (v *Value) Encode() []byte {
	if v.encoded != nil {
		return v.encoded
	}
	e := &encoder{b: make([]byte, 0, 256)}
	for _, t := range v.seen {
		e.writers = append(e.writers, t.writer)
	}
	v.body.mentions(func(w Writer) { e.writers = append(e.writers, w) })
	if len(e.writers) > len(v.seen) {
		slices.SortFunc(e.writers, Writer.compare)
		e.writers = slices.Compact(e.writers)
	}
	e.b = append(e.b, format, byte(v.Kind()))
	if v.removed != (Instant{}) {
		e.b[1] |= removedBit
		e.instant(v.removed)
	}
	e.number(uint64(len(e.writers)))
	for _, w := range e.writers {
		e.text(w.PoP)
		e.b = binary.BigEndian.AppendUint64(e.b, w.Incarnation)
	}
	for _, w := range e.writers {
		e.spans(v.seen.of(w))
	}
	v.body.write(e)
	return e.b
}

// MarshalJSON shows the value as those who read it see it: a number; a JSON value, or null; an array of them; an object; for a
// list an array of {"id","at","value"}; for a stock {"total","spent","shares"}.
func (v *Value) MarshalJSON() ([]byte, error) { return json.Marshal(v.body.render()) }

func (e *encoder) number(n uint64) { e.b = binary.AppendUvarint(e.b, n) }

func (e *encoder) text(s string) {
	e.number(uint64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) flag(f bool) {
	if f {
		e.b = append(e.b, 1)
	} else {
		e.b = append(e.b, 0)
	}
}

func (e *encoder) spans(spans []span) {
	e.number(uint64(len(spans)))
	next := uint64(1)
	for _, s := range spans {
		e.number(s.from - next)
		e.number(s.to - s.from)
		next = s.to + 2
	}
}

func (e *encoder) writer(w Writer) {
	i, _ := slices.BinarySearchFunc(e.writers, w, Writer.compare)
	e.number(uint64(i))
}

func (e *encoder) dot(d dot) {
	e.writer(d.writer)
	e.number(d.seq)
}

func (e *encoder) instant(i Instant) {
	e.number(uint64(i.Wall))
	e.number(uint64(i.Count))
}

// writeRows writes a table.
func writeRows[K, V any](e *encoder, t []row[K, V], f func(k K, v V)) {
	e.number(uint64(len(t)))
	for _, r := range t {
		f(r.key, r.val)
	}
}

func (c counter) write(e *encoder) {
	writeRows(e, c.rows, func(d dot, s sums) {
		e.dot(d)
		e.number(s.up)
		if !c.grow {
			e.number(s.down)
		}
	})
}

func (r register) write(e *encoder) {
	writeRows(e, r.rows, func(d dot, w write) {
		e.dot(d)
		e.instant(w.at)
		e.text(w.value)
		e.text(w.who)
	})
}

func (s set) write(e *encoder) {
	writeRows(e, s.elements, func(v text, marks table[dot, mark]) {
		e.text(string(v))
		writeRows(e, marks, func(d dot, m mark) {
			e.dot(d)
			if s.strict {
				e.flag(m.removed)
				e.instant(m.at)
			}
		})
	})
}

func (m fields) write(e *encoder) {
	writeRows(e, m.rows, func(f field, b body) {
		e.text(f.name)
		e.b = append(e.b, byte(f.kind))
		b.write(e)
	})
}

// Places of items: the beginning, the end, or behind the item of a writer and number.
const (
	placeBegin = iota
	placeEnd
	placeItem // and the writer's place
)

func (l list) write(e *encoder) {
	writeRows(e, l.items, func(d dot, i item) {
		e.dot(d)
		switch i.after {
		case dot{}:
			e.number(placeBegin)
		case atEnd:
			e.number(placeEnd)
		default:
			w, _ := slices.BinarySearchFunc(e.writers, i.after.writer, Writer.compare)
			e.number(uint64(placeItem + w))
			e.number(i.after.seq)
		}
		e.instant(i.at)
		e.text(i.value)
	})
	writeRows(e, l.gone, func(d dot, at Instant) {
		e.dot(d)
		e.instant(at)
	})
}

func (s stock) write(e *encoder) {
	writeRows(e, s.accounts, func(d dot, a account) {
		e.dot(d)
		e.number(a.stocked)
		e.number(a.spent)
		e.number(a.sold)
		e.b = binary.AppendVarint(e.b, a.out)
	})
	writeRows(e, s.shares, func(d dot, s share) {
		e.dot(d)
		e.writer(s.granter)
		e.writer(s.holder)
		e.number(s.amount)
		e.number(uint64(s.until))
		e.number(uint64(s.free - s.until))
	})
	writeRows(e, s.records, func(d dot, r record) {
		e.dot(d)
		e.dot(r.share)
		for _, n := range [...]uint64{r.spent, r.moved, r.returned, r.reclaimed} {
			e.number(n)
		}
		e.flag(r.forced)
	})
}
