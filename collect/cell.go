package collect

import (
	"maps"
	"math"
	"slices"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/DataDog/sketches-go/ddsketch/mapping"
	"github.com/DataDog/sketches-go/ddsketch/store"
	"github.com/axiomhq/hyperloglog"

	"github.com/wedge-cloud/wedge"
)

const (
	accuracy  = 0.01 // of quantiles, relative
	maxBins   = 1024 // from 1 ms to a day and more at this accuracy
	precision = 12   // 4096 registers: 1.6% of what is counted
)

// Cell is what is known of a metric.
type Cell struct {
	N        float64 // how many values, by the sample
	Sum      float64
	Min, Max float64
	sketch   *ddsketch.DDSketch
	top      *top
	distinct *hyperloglog.Sketch
}

// index is the same everywhere, or sketches could not be merged.
var index = func() mapping.IndexMapping {
	m, err := mapping.NewLogarithmicMapping(accuracy)
	if err != nil {
		panic(err) // not with this constant
	}
	return m
}()

func newSketch() *ddsketch.DDSketch {
	return ddsketch.NewDDSketch(index, store.NewCollapsingLowestDenseStore(maxBins), store.NewCollapsingLowestDenseStore(maxBins))
}

func newDistinct() *hyperloglog.Sketch {
	s, err := hyperloglog.NewSketch(precision, true)
	if err != nil {
		panic(err) // not with this constant
	}
	return s
}

func newCell(kind wedge.CollectKind) (c Cell) {
	c.Min, c.Max = math.Inf(1), math.Inf(-1)
	switch kind {
	case wedge.CollectQuantiles:
		c.sketch = newSketch()
	case wedge.CollectTop:
		c.top = &top{}
	case wedge.CollectDistinct:
		c.distinct = newDistinct()
	}
	return c
}

func (c *Cell) add(v string, weight float64) {
	switch {
	case c.top != nil:
		c.N += weight
		c.top.add(v, weight)
		return
	case c.distinct != nil:
		c.N += weight
		c.distinct.InsertHash(hashOf(v))
		return
	}
	n, ok := number(v)
	if !ok {
		return
	}
	c.N += weight
	c.Sum += n * weight
	c.Min, c.Max = min(c.Min, n), max(c.Max, n)
	if c.sketch != nil {
		_ = c.sketch.AddWithCount(n, weight) // neither is out of range
	}
}

func (c *Cell) merge(o *Cell) {
	c.N += o.N
	c.Sum += o.Sum
	c.Min, c.Max = min(c.Min, o.Min), max(c.Max, o.Max)
	switch {
	case c.sketch != nil:
		_ = c.sketch.MergeWith(o.sketch) // they have the same mapping
	case c.top != nil:
		c.top.merge(o.top)
	case c.distinct != nil:
		_ = c.distinct.Merge(o.distinct) // and precision
	}
}

// Quantile returns the value that a share q of all are not above; false if there are none.
func (c *Cell) Quantile(q float64) (float64, bool) {
	if c.sketch == nil || c.sketch.IsEmpty() {
		return 0, false
	}
	v, err := c.sketch.GetValueAtQuantile(q)
	return min(max(v, c.Min), c.Max), err == nil
}

// Distinct estimates how many different values there were.
func (c *Cell) Distinct() uint64 {
	if c.distinct == nil {
		return 0
	}
	return c.distinct.Estimate()
}

// Frequent is a value and how often it was there: at most Count, and at least Count-Error.
type Frequent struct {
	Value string  `json:"value"`
	Count float64 `json:"count"`
	Error float64 `json:"error,omitempty"`
}

// Top returns the most frequent values, the most frequent first.
func (c *Cell) Top(n int) []Frequent {
	if c.top == nil {
		return nil
	}
	list := c.top.sorted()
	return list[:min(n, len(list))]
}

// top finds frequent values as Space-Saving does (Metwally et al.; merged as Agarwal et al. say): a value that has no room takes the
// place of the rarest, and its count.
type top struct {
	of    map[string]Frequent
	floor float64 // what a value that is not in it may have had
}

// topRoom bounds the error of a count to a hundredth of all.
const topRoom = 100

func (t *top) add(v string, weight float64) {
	one := &top{of: map[string]Frequent{v: {v, weight, 0}}}
	t.merge(one)
}

func (t *top) merge(o *top) {
	if t.of == nil {
		t.of = make(map[string]Frequent, len(o.of))
	}
	for v, f := range t.of {
		if o.floor == 0 {
			break
		}
		if _, both := o.of[v]; !both {
			f.Count += o.floor
			f.Error += o.floor
			t.of[v] = f
		}
	}
	for v, f := range o.of {
		mine, both := t.of[v]
		if !both {
			mine = Frequent{v, t.floor, t.floor}
		}
		t.of[v] = Frequent{v, mine.Count + f.Count, mine.Error + f.Error}
	}
	t.floor += o.floor
	if len(t.of) <= 2*topRoom { // not at each new value
		return
	}
	list := t.sorted()
	for _, f := range list[topRoom:] {
		t.floor = max(t.floor, f.Count)
		delete(t.of, f.Value)
	}
}

func (t *top) sorted() []Frequent {
	return slices.SortedFunc(maps.Values(t.of), func(a, b Frequent) int {
		switch {
		case a.Count != b.Count:
			if a.Count > b.Count {
				return -1
			}
			return 1
		case a.Value < b.Value:
			return -1
		case a.Value > b.Value:
			return 1
		}
		return 0
	})
}
