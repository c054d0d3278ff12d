package collect

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
)

// Take makes windows of the events of a beacon: of those that [Select] picks.
func Take(service, pop string, c *wedge.Collect, events []Event, at time.Time, chance func() float64) []*Window {
	return Windows(service, pop, c, Select(c, events, chance), at)
}

// Select picks the events that match, and of these a sample. chance is asked for numbers from 0 up to 1.
func Select(c *wedge.Collect, events []Event, chance func() float64) (list []Event) {
	for _, e := range events {
		if matches(c.Where, e) && sampled(c, e, chance) {
			list = append(list, e)
		}
	}
	return list
}

// Windows makes windows of events that were picked. With an ID each event has a window of its own.
func Windows(service, pop string, c *wedge.Collect, events []Event, at time.Time) (list []*Window) {
	var all *Window
	for _, e := range events {
		if all == nil || c.ID != "" {
			all = newWindow(service, c, at)
			list = append(list, all)
		}
		if id := e[c.ID]; c.ID != "" && id != "" {
			all.ID = hashOf(c.ID, id) | 1
		}
		all.add(c, e, pop)
	}
	return list
}

func newWindow(service string, c *wedge.Collect, at time.Time) *Window {
	length := int64(c.Window / time.Second)
	w := &Window{Service: service, Name: c.Name, Start: at.Unix() / length * length, Length: length, Limit: c.Series, By: c.By, Series: map[string]*Series{}}
	for _, m := range c.Metrics {
		w.Metrics = append(w.Metrics, Metric{m.Name, m.Kind})
	}
	return w
}

func (w *Window) add(c *wedge.Collect, e Event, pop string) {
	values := make([]string, len(c.By))
	for i, field := range c.By {
		values[i] = e[field]
		if field == "@pop" {
			values[i] = pop
		}
	}
	s, weight := w.series(values), 1/c.Sample
	s.Events++
	s.Count += weight
	for i, m := range c.Metrics {
		if v, ok := e[m.Field]; ok {
			s.Cells[i].add(v, weight)
		}
	}
}

func matches(where []wedge.CollectWhere, e Event) bool {
	for i := range where {
		c := &where[i]
		v, there := e[c.Field]
		if there == c.Absent {
			return false
		}
		if c.Absent {
			continue
		}
		if len(c.Equals) > 0 && !slices.Contains(c.Equals, v) || !strings.HasPrefix(v, c.Prefix) {
			return false
		}
		if c.Min == nil && c.Max == nil {
			continue
		}
		n, ok := number(v)
		if !ok || c.Min != nil && n < *c.Min || c.Max != nil && n > *c.Max {
			return false
		}
	}
	return true
}

// maxNumber bounds values: what is greater would make a sum of no use.
const maxNumber = 1e15

func number(s string) (float64, bool) {
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil && math.Abs(n) <= maxNumber
}

func sampled(c *wedge.Collect, e Event, chance func() float64) bool {
	switch id, ok := e[c.SampleBy]; {
	case c.Sample >= 1:
		return true
	case c.SampleBy == "" || !ok:
		return chance() < c.Sample
	default:
		return float64(hashOf(c.Name, id)>>11)/(1<<53) < c.Sample
	}
}
