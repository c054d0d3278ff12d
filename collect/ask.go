package collect

import (
	"cmp"
	"slices"
	"time"
)

// Query asks for what was collected under a name.
type Query struct {
	Service, Name string
	From, To      time.Time     // windows of which a part is in between
	By            []string      // of its dimensions; the others are added up
	Step          time.Duration // of rows in time; 0: all in one
}

// Answer is what there was.
type Answer struct {
	Service string   `json:"service"`
	Name    string   `json:"name"`
	By      []string `json:"by"`
	Over    uint64   `json:"over,omitempty"` // events under (other) for lack of room
	Rows    []Row    `json:"rows"`           // by time, then the most frequent first
}

// Row is a part of it.
type Row struct {
	Start   time.Time `json:"start"`
	Values  []string  `json:"values"` // of By
	Events  uint64    `json:"events"` // that were counted
	Count   float64   `json:"count"`  // that there were, by the sample
	Metrics []Value   `json:"metrics"`

	cells map[Metric]*Cell
}

// Value is what a metric says. Which fields there are depends on its kind.
type Value struct {
	Name     string     `json:"name"`
	Kind     string     `json:"kind"`
	N        float64    `json:"n"`
	Sum      float64    `json:"sum,omitempty"`
	Min      float64    `json:"min,omitempty"`
	Max      float64    `json:"max,omitempty"`
	P50      float64    `json:"p50,omitempty"`
	P75      float64    `json:"p75,omitempty"`
	P90      float64    `json:"p90,omitempty"`
	P95      float64    `json:"p95,omitempty"`
	P99      float64    `json:"p99,omitempty"`
	Distinct uint64     `json:"distinct,omitempty"`
	Top      []Frequent `json:"top,omitempty"`
}

const topShown = 10

// Ask answers a query.
func (r *Results) Ask(q Query) Answer {
	a := Answer{Service: q.Service, Name: q.Name, By: q.By, Rows: []Row{}}
	rows := map[string]*Row{}
	for _, w := range r.Of(q.Service, q.Name, q.From, q.To) {
		a.Over += w.Over
		start := q.From
		if step := int64(q.Step / time.Second); step > 0 {
			start = time.Unix(w.Start/step*step, 0).UTC()
		}
		for _, key := range w.keys() {
			s := w.Series[key]
			values := w.pick(s, q.By)
			at := start.Format(time.RFC3339) + "\x00" + keyOf(values)
			if rows[at] == nil {
				rows[at] = &Row{Start: start, Values: values, cells: map[Metric]*Cell{}}
			}
			rows[at].add(w, s)
		}
	}
	for _, row := range rows {
		row.finish()
		a.Rows = append(a.Rows, *row)
	}
	slices.SortFunc(a.Rows, func(a, b Row) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(b.Count, a.Count), slices.Compare(a.Values, b.Values))
	})
	return a
}

// pick returns a series' values of some dimensions, "" of those that it has not.
func (w *Window) pick(s *Series, by []string) []string {
	values := make([]string, len(by))
	for i, dim := range by {
		if at := slices.Index(w.By, dim); at >= 0 {
			values[i] = s.Values[at]
		}
	}
	return values
}

func (row *Row) add(w *Window, s *Series) {
	row.Events += s.Events
	row.Count += s.Count
	for i, m := range w.Metrics {
		c := row.cells[m]
		if c == nil {
			fresh := newCell(m.Kind)
			c = &fresh
			row.cells[m] = c
		}
		c.merge(&s.Cells[i])
	}
}

func (row *Row) finish() {
	row.Metrics = []Value{}
	for m, c := range row.cells {
		v := Value{Name: m.Name, Kind: m.Kind.String(), N: c.N, Sum: c.Sum, Distinct: c.Distinct(), Top: c.Top(topShown)}
		if c.Min <= c.Max { // not of texts, and not of none
			v.Min, v.Max = c.Min, c.Max
		}
		for at, q := range map[*float64]float64{&v.P50: .5, &v.P75: .75, &v.P90: .9, &v.P95: .95, &v.P99: .99} {
			*at, _ = c.Quantile(q)
		}
		row.Metrics = append(row.Metrics, v)
	}
	slices.SortFunc(row.Metrics, func(a, b Value) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind)) })
}
