package collect

import (
	"cmp"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/wedge-cloud/wedge"
)

// Query asks for what was collected under a name.
type Query struct {
	Service, Name string
	From, To      time.Time     // windows of which a part is in between
	By            []string      // of its dimensions; the others are added up
	Step          time.Duration // of rows in time; 0: all in one
}

const (
	since   = 5 * time.Minute
	maxRows = 5000 // of steps in time
)

// ParseQuery reads the query of a URL: from and to (RFC 3339) or since (such as 5m), by, which may be given again, and step.
func ParseQuery(service, name string, v url.Values, now time.Time) (q Query, err error) {
	q = Query{Service: service, Name: name, By: append([]string{}, v["by"]...), To: now}
	ago := since
	for key, into := range map[string]*time.Duration{"since": &ago, "step": &q.Step} {
		if s := v.Get(key); s != "" {
			if *into, err = time.ParseDuration(s); err != nil || *into < time.Second {
				return q, badQuery(key)
			}
		}
	}
	q.From = q.To.Add(-ago)
	for key, into := range map[string]*time.Time{"from": &q.From, "to": &q.To} {
		if s := v.Get(key); s != "" {
			if *into, err = time.Parse(time.RFC3339, s); err != nil {
				return q, badQuery(key)
			}
		}
	}
	q.From = q.From.UTC().Truncate(time.Second)
	return q, q.Check()
}

// Check says whether a query can be answered.
func (q *Query) Check() error {
	if q.From.Unix() < 0 || q.To.Before(q.From) {
		return badQuery("from, to or since")
	}
	long := slices.ContainsFunc(q.By, func(dim string) bool { return len(dim) > maxField })
	if long || len(q.By) > wedge.MaxCollectBy || q.Step < 0 || q.Step > 0 && (q.Step < time.Second || q.To.Sub(q.From)/q.Step > maxRows) {
		return badQuery("by or step")
	}
	return nil
}

func badQuery(what string) error {
	return &wedge.Error{Op: "read query", What: what, Kind: wedge.Invalid, Err: errors.New("it cannot be used"), Hint: "Write from and to as 2026-01-02T15:04:05Z, and since and step as 5m or 10s."}
}

// Wants reports whether a window has something that is asked for.
func (q *Query) Wants(w *Window) bool {
	return w.Service == q.Service && w.Name == q.Name && w.Start+w.Length > q.From.Unix() && w.Start <= q.To.Unix()
}

// start returns that of the row which a window is part of, in seconds.
func (q *Query) start(w *Window) int64 {
	if step := int64(q.Step / time.Second); step > 0 {
		return w.Start / step * step
	}
	return q.From.Unix()
}

// Reduce returns windows that make the same answer as these do, in fewer bytes: each is a row's time long, and has no dimensions but those asked for.
func (q *Query) Reduce(windows []*Window) (list []*Window) {
	all := map[string]*Window{}
	length := max(1, int64(cmp.Or(q.Step, q.To.Sub(q.From))/time.Second))
	for _, w := range windows {
		to := &Window{Service: w.Service, Name: w.Name, Start: q.start(w), Length: length, Limit: wedge.MaxCollectSeries, By: q.By, Metrics: w.Metrics, Series: map[string]*Series{}}
		key := strconv.FormatInt(to.Start, 10) + to.Kind()
		if all[key] == nil {
			all[key] = to
			list = append(list, to)
		}
		all[key].reduce(w)
	}
	return list
}

// reduce adds what is in a window that has more dimensions.
func (w *Window) reduce(o *Window) {
	w.Over += o.Over
	for _, key := range o.keys() {
		s := o.Series[key]
		w.series(o.pick(s, w.By)).merge(s)
	}
}

// Answer is what there was.
type Answer struct {
	Service string   `json:"service"`
	Name    string   `json:"name"`
	By      []string `json:"by"`
	Over    uint64   `json:"over,omitempty"` // events under (other) for lack of room
	Rows    []Row    `json:"rows"`           // by time, then the most frequent first

	Disagreed    int            `json:"disagreed,omitempty"`    // how often aggregators disagreed about what is asked for: then something is wrong
	Disagreement []Disagreement `json:"disagreement,omitempty"` // some of these, the newest first
}

// Disagreement says that two aggregators have taken the same items of a PoP, and do not have the same.
type Disagreement struct {
	PoP    string    `json:"pop"`
	Minute time.Time `json:"minute"` // when it began
	With   string    `json:"with"`   // the other aggregator
	Events uint64    `json:"events"` // that this one has
	There  uint64    `json:"there"`  // and the other; if both have as many, what is in them differs
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
func (r *Results) Ask(q Query) Answer { return q.Answer(r.Of(&q)) }

// Answer says what there is in these windows.
func (q *Query) Answer(windows []*Window) Answer {
	a := Answer{Service: q.Service, Name: q.Name, By: q.By, Rows: []Row{}}
	rows := map[string]*Row{}
	for _, w := range windows {
		a.Over += w.Over
		start := time.Unix(q.start(w), 0).UTC()
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
