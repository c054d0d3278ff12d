package collect

import (
	"hash/fnv"
	"strings"

	"github.com/wedge-cloud/wedge"
)

// Window is what was collected under a name within some time.
type Window struct {
	Service, Name string
	Start, Length int64  // seconds since 1970; seconds
	ID            uint64 // of the one event that it was made of; 0: none, or more
	Limit         int    // of series; what is over it is in one called other
	Over          uint64 // events that are in other for lack of room
	By            []string
	Metrics       []Metric
	Series        map[string]*Series // by keyOf their values
}

// Metric is what a cell has.
type Metric struct {
	Name string
	Kind wedge.CollectKind
}

// Series is what there is for one value of each dimension.
type Series struct {
	Values []string
	Events uint64  // that were counted
	Count  float64 // that there were, by the sample
	Cells  []Cell  // of the metrics
}

// Other is the value of every dimension of a series that stands for those without room.
const Other = "(other)"

func keyOf(values []string) string { return strings.Join(values, "\x00") }

// hashOf is the same in every process: its values meet those of other PoPs, and of later days.
func hashOf(parts ...string) uint64 {
	h := fnv.New64a()
	for _, p := range parts {
		_, _ = h.Write([]byte(p))
		_, _ = h.Write([]byte{0})
	}
	x := h.Sum64() // whose upper bits are too much alike for short texts
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// series returns that of some values, or other.
func (w *Window) series(values []string) *Series {
	key := keyOf(values)
	if s := w.Series[key]; s != nil {
		return s
	}
	if len(w.Series) >= w.Limit && len(values) > 0 && values[0] != Other {
		values = make([]string, len(w.By))
		for i := range values {
			values[i] = Other
		}
		if key = keyOf(values); w.Series[key] != nil {
			return w.Series[key]
		}
	}
	s := &Series{Values: values, Cells: make([]Cell, len(w.Metrics))}
	for i, m := range w.Metrics {
		s.Cells[i] = newCell(m.Kind)
	}
	w.Series[key] = s
	return s
}

// Kind names the windows that can be merged with this one.
func (w *Window) Kind() string {
	var b strings.Builder
	for _, f := range append([]string{w.Service, w.Name}, w.By...) {
		b.WriteString(f + "\x00")
	}
	for _, m := range w.Metrics {
		b.WriteString("\x01" + m.Name + "\x00" + m.Kind.String())
	}
	return b.String()
}

// Empty returns a window of the same kind without anything in it.
func (w *Window) Empty() *Window {
	return &Window{Service: w.Service, Name: w.Name, Start: w.Start, Length: w.Length, Limit: w.Limit, By: w.By, Metrics: w.Metrics, Series: map[string]*Series{}}
}

// Merge adds what is in another window of the same kind.
func (w *Window) Merge(o *Window) {
	w.Limit = max(w.Limit, o.Limit)
	w.Over += o.Over
	for _, key := range o.keys() {
		from := o.Series[key]
		to := w.series(from.Values)
		if len(from.Values) > 0 && to.Values[0] == Other && from.Values[0] != Other {
			w.Over += from.Events
		}
		to.merge(from)
	}
}

func (s *Series) merge(from *Series) {
	s.Events += from.Events
	s.Count += from.Count
	for i := range s.Cells {
		s.Cells[i].merge(&from.Cells[i])
	}
}

// Events returns how many events are in it.
func (w *Window) Events() (n uint64) {
	for _, s := range w.Series {
		n += s.Events
	}
	return n
}
