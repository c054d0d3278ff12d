package collect

import (
	"encoding/binary"
	"hash/fnv"
	"maps"
	"slices"
	"time"
)

// Results is what an aggregator has of all that the PoPs contribute. It is a fold: the same items in the same order make the
// same results, and an item that comes again changes nothing.
type Results struct {
	Seq     uint64                       // of the last entry of the log that is in it
	done    map[string]uint64            // by writer: its last item
	kept    map[string]map[int64]*Window // by kind and start
	checks  map[CheckKey]*Check
	Refused uint64 // items that made no sense
}

// CheckKey names what two aggregators compare: what a PoP has said of a minute.
type CheckKey struct {
	Service, Name, Writer string
	Minute                int64
}

// Check is what one has of it. Of the same items, from First to Last, the others must have the same.
type Check struct {
	First, Last    uint64
	Events, Digest uint64
}

// NewResults returns results of nothing.
func NewResults() *Results {
	return &Results{done: map[string]uint64{}, kept: map[string]map[int64]*Window{}, checks: map[CheckKey]*Check{}}
}

// maxWindows is how many series there may be of one kind, in all of its windows. Over it the oldest become one: totals stay what they are.
const maxWindows = 20_000

// Take adds what a writer says, its items from number first on.
func (r *Results) Take(seq uint64, writer string, first uint64, items [][]byte) {
	for i, item := range items {
		n := first + uint64(i)
		if n <= r.done[writer] {
			continue
		}
		r.done[writer] = n
		_, b, ok := Unwrap(item)
		w, err := Decode(b)
		if !ok || err != nil {
			r.Refused++
			continue
		}
		r.add(w)
		r.check(w, writer, n, b)
	}
	r.Seq = max(r.Seq, seq)
}

func (r *Results) add(w *Window) {
	kind := w.Kind()
	all := r.kept[kind]
	if all == nil {
		all = map[int64]*Window{}
		r.kept[kind] = all
	}
	into := all[w.Start]
	if into == nil {
		into = w.Empty()
		all[w.Start] = into
	}
	into.Length = max(into.Length, w.Length)
	into.Merge(w)
	r.bound(all)
}

// bound makes the oldest two windows one while there are too many.
func (r *Results) bound(all map[int64]*Window) {
	n := 0
	for _, w := range all {
		n += len(w.Series)
	}
	if n <= maxWindows {
		return
	}
	starts := slices.Sorted(maps.Keys(all))
	for len(starts) > 1 && n > maxWindows*9/10 {
		a, b := all[starts[0]], all[starts[1]]
		before := len(a.Series) + len(b.Series)
		a.Merge(b)
		a.Length = max(a.Length, b.Start+b.Length-a.Start)
		delete(all, b.Start)
		starts = slices.Delete(starts, 1, 2)
		n += len(a.Series) - before
	}
}

func (r *Results) check(w *Window, writer string, n uint64, b []byte) {
	k := CheckKey{w.Service, w.Name, writer, w.Start / 60 * 60}
	c := r.checks[k]
	if c == nil {
		c = &Check{First: n}
		r.checks[k] = c
	}
	h := fnv.New64a()
	_, _ = h.Write(binary.BigEndian.AppendUint64([]byte(writer), n))
	_, _ = h.Write(b)
	c.Last = n
	c.Events += w.Events()
	c.Digest += h.Sum64()
}

// Checks returns what there is to compare of minutes since then, and forgets older ones.
func (r *Results) Checks(since time.Time) map[CheckKey]Check {
	list := map[CheckKey]Check{}
	for k, c := range r.checks {
		if k.Minute < since.Unix() {
			delete(r.checks, k)
			continue
		}
		list[k] = *c
	}
	return list
}

// Wrap puts before an item how far in the PoP's journal of the open window it reaches.
func Wrap(journal uint64, window []byte) []byte {
	return append(binary.AppendUvarint(nil, journal), window...)
}

// Unwrap is the reverse of Wrap.
func Unwrap(item []byte) (journal uint64, window []byte, ok bool) {
	n, size := binary.Uvarint(item)
	if size <= 0 {
		return 0, nil, false
	}
	return n, item[size:], true
}

// Of returns the windows that a query wants, in order of their starts.
func (r *Results) Of(q *Query) (list []*Window) {
	for _, all := range r.kept {
		for _, w := range all {
			if w.Service != q.Service || w.Name != q.Name {
				break
			}
			if q.Wants(w) {
				list = append(list, w)
			}
		}
	}
	slices.SortFunc(list, func(a, b *Window) int { return int(a.Start - b.Start) })
	return list
}

// Encode returns all of it as bytes.
func (r *Results) Encode() []byte {
	b := binary.AppendUvarint([]byte{wireVersion}, r.Seq)
	b = binary.AppendUvarint(b, r.Refused)
	b = binary.AppendUvarint(b, uint64(len(r.done)))
	for _, writer := range slices.Sorted(maps.Keys(r.done)) {
		b = binary.AppendUvarint(putText(b, writer), r.done[writer])
	}
	b = binary.AppendUvarint(b, uint64(len(r.checks)))
	for k, c := range r.checks {
		b = binary.AppendVarint(putText(putText(putText(b, k.Service), k.Name), k.Writer), k.Minute)
		for _, n := range []uint64{c.First, c.Last, c.Events, c.Digest} {
			b = binary.AppendUvarint(b, n)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(r.kept)) {
		for _, start := range slices.Sorted(maps.Keys(r.kept[kind])) {
			b = putText(b, string(r.kept[kind][start].Encode(1 << 40)[0]))
		}
	}
	return b
}

// DecodeResults reads what Encode has made.
func DecodeResults(b []byte) (*Results, error) {
	const most = 1 << 63
	d, r := &reader{b: b}, NewResults()
	if d.byte() != wireVersion {
		return nil, errDamaged
	}
	r.Seq, r.Refused = d.number(most), d.number(most)
	for n := d.number(most); n > 0 && !d.bad; n-- {
		writer := d.text(maxText)
		r.done[writer] = d.number(most)
	}
	for n := d.number(most); n > 0 && !d.bad; n-- {
		k := CheckKey{Service: d.text(maxText), Name: d.text(maxText), Writer: d.text(maxText), Minute: d.signed()}
		r.checks[k] = &Check{d.number(most), d.number(most), d.number(most), d.number(1<<64 - 1)}
	}
	for len(d.b) > 0 && !d.bad {
		w, err := Decode(d.take(d.number(most)))
		if err != nil {
			return nil, err
		}
		r.add(w)
	}
	if d.bad {
		return nil, errDamaged
	}
	return r, nil
}
