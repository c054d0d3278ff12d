package collect

import (
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"slices"

	"github.com/DataDog/sketches-go/ddsketch/store"

	"github.com/wedge-cloud/wedge"
)

// Windows on the wire and on disk: a version, then the fields in order. Numbers are varints, or eight bytes if they are floats; texts have
// their length before them.
const wireVersion = 1

func (w *Window) keys() []string { return slices.Sorted(maps.Keys(w.Series)) }

// Encode returns the window as bytes: more than one piece if it is larger than limit, each a window of some of the series. A
// series larger than that has a piece of its own.
func (w *Window) Encode(limit int) (pieces [][]byte) {
	var body []byte
	n, over := 0, w.Over
	flush := func() {
		head := w.head(over, n)
		pieces = append(pieces, append(head, body...))
		body, n, over = nil, 0, 0
	}
	for _, key := range w.keys() {
		one := w.Series[key].encode(nil, w.Metrics)
		if n > 0 && len(body)+len(one) > limit {
			flush()
		}
		body = append(body, one...)
		n++
	}
	flush()
	return pieces
}

func (w *Window) head(over uint64, series int) []byte {
	b := []byte{wireVersion}
	b = putText(b, w.Service)
	b = putText(b, w.Name)
	b = binary.AppendVarint(b, w.Start)
	for _, n := range []uint64{uint64(w.Length), w.ID, uint64(w.Limit), over, uint64(len(w.By))} {
		b = binary.AppendUvarint(b, n)
	}
	for _, f := range w.By {
		b = putText(b, f)
	}
	b = binary.AppendUvarint(b, uint64(len(w.Metrics)))
	for _, m := range w.Metrics {
		b = append(putText(b, m.Name), byte(m.Kind))
	}
	return binary.AppendUvarint(b, uint64(series))
}

func putText(b []byte, s string) []byte { return append(binary.AppendUvarint(b, uint64(len(s))), s...) }

func putFloat(b []byte, f float64) []byte {
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(f))
}

func (s *Series) encode(b []byte, metrics []Metric) []byte {
	for _, v := range s.Values {
		b = putText(b, v)
	}
	b = putFloat(binary.AppendUvarint(b, s.Events), s.Count)
	for i := range metrics {
		b = s.Cells[i].encode(b)
	}
	return b
}

func (c *Cell) encode(b []byte) []byte {
	b = putFloat(b, c.N)
	if c.N == 0 {
		return b
	}
	for _, f := range []float64{c.Sum, c.Min, c.Max} {
		b = putFloat(b, f)
	}
	switch {
	case c.sketch != nil:
		b = putFloat(b, c.sketch.GetZeroCount())
		b = putBins(putBins(b, c.sketch.GetPositiveValueStore()), c.sketch.GetNegativeValueStore())
	case c.top != nil:
		b = binary.AppendUvarint(putFloat(b, c.top.floor), uint64(len(c.top.of)))
		for _, f := range c.top.sorted() {
			b = putFloat(putFloat(putText(b, f.Value), f.Count), f.Error)
		}
	case c.distinct != nil:
		raw, _ := c.distinct.MarshalBinary() // never fails
		b = putText(b, string(raw))
	}
	return b
}

func putBins(b []byte, s store.Store) []byte {
	n := uint64(0)
	var bins []byte
	s.ForEach(func(i int, count float64) bool {
		if count > 0 {
			n++
			bins = putFloat(binary.AppendVarint(bins, int64(i)), count)
		}
		return false
	})
	return append(binary.AppendUvarint(b, n), bins...)
}

var errDamaged = errors.New("not a window that this version of Wedge can read")

// Decode reads what Encode has made, from wherever it came.
func Decode(b []byte) (w *Window, err error) {
	r := &reader{b: b}
	if r.byte() != wireVersion {
		return nil, errDamaged
	}
	w = &Window{Service: r.text(maxText), Name: r.text(maxText), Start: r.signed(), Length: int64(r.number(maxLength)), ID: r.number(math.MaxUint64),
		Limit: int(r.number(wedge.MaxCollectSeries)), Over: r.number(1 << 53), Series: map[string]*Series{}}
	for range r.number(wedge.MaxCollectBy) {
		w.By = append(w.By, r.text(maxField))
	}
	for range r.number(wedge.MaxCollectMetrics) {
		m := Metric{r.text(maxField), wedge.CollectKind(r.byte())}
		if m.Kind.String() == "unknown" {
			r.bad = true
		}
		w.Metrics = append(w.Metrics, m)
	}
	series := r.number(wedge.MaxCollectSeries + 1)
	if r.bad || w.Length == 0 || w.Start < 0 || w.Start > 1<<40 {
		return nil, errDamaged
	}
	for i := uint64(0); i < series && !r.bad; i++ {
		s := r.series(w)
		w.Series[keyOf(s.Values)] = s
	}
	if r.bad || len(r.b) > 0 || uint64(len(w.Series)) != series {
		return nil, errDamaged
	}
	return w, nil
}

// maxLength of a window in seconds: what is older than everything that is kept apart is in one.
const maxLength = 1 << 40

// reader reads bytes from outside. Once something was bad, all is zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	got := r.b[:n]
	r.b = r.b[n:]
	return got
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) number(most uint64) uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 || n > most {
		r.bad = true
	}
	if r.bad {
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) signed() int64 {
	n, size := binary.Varint(r.b)
	if size <= 0 {
		r.bad = true
	}
	if r.bad {
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) text(most uint64) string { return string(r.take(r.number(most))) }

// float reads a finite number.
func (r *reader) float() float64 {
	b := r.take(8)
	if b == nil {
		return 0
	}
	f := math.Float64frombits(binary.LittleEndian.Uint64(b))
	if math.IsNaN(f) || math.IsInf(f, 0) {
		r.bad = true
		return 0
	}
	return f
}

// count reads one that is not negative.
func (r *reader) count() float64 {
	f := r.float()
	r.bad = r.bad || f < 0 || f > 1e18
	return f
}

func (r *reader) series(w *Window) *Series {
	s := &Series{}
	for range w.By {
		s.Values = append(s.Values, r.text(maxText))
	}
	s.Events, s.Count = r.number(1<<53), r.count()
	for _, m := range w.Metrics {
		s.Cells = append(s.Cells, r.cell(m.Kind))
	}
	return s
}

func (r *reader) cell(kind wedge.CollectKind) Cell {
	c := newCell(kind)
	if c.N = r.count(); c.N == 0 || r.bad {
		return c
	}
	switch c.Sum, c.Min, c.Max = r.float(), r.any(), r.any(); {
	case c.sketch != nil:
		if zero := r.count(); zero > 0 && !r.bad {
			_ = c.sketch.AddWithCount(0, zero)
		}
		r.bins(c.sketch.GetPositiveValueStore())
		r.bins(c.sketch.GetNegativeValueStore())
	case c.top != nil:
		c.top.floor, c.top.of = r.count(), map[string]Frequent{}
		for range r.number(2 * topRoom) {
			f := Frequent{r.text(maxText), r.count(), r.count()}
			c.top.of[f.Value] = f
		}
	case c.distinct != nil:
		raw := r.take(r.number(maxDistinct))
		if r.bad || len(raw) < 2 || raw[1] != precision || c.distinct.UnmarshalBinary(raw) != nil {
			r.bad, c.distinct = true, newDistinct()
		}
	}
	return c
}

// any reads a number that may be infinite: the least of none.
func (r *reader) any() float64 {
	b := r.take(8)
	if b == nil {
		return 0
	}
	f := math.Float64frombits(binary.LittleEndian.Uint64(b))
	r.bad = r.bad || math.IsNaN(f)
	return f
}

const (
	maxDistinct = 32 << 10
	maxIndex    = 1 << 12 // of a bin: e^82 at this accuracy, more than any number that is taken
)

func (r *reader) bins(s store.Store) {
	for range r.number(maxBins) {
		i, count := r.signed(), r.count()
		if r.bad || i < -40_000 || i > maxIndex {
			r.bad = true
			return
		}
		s.AddWithCount(int(i), count)
	}
}
