package collect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/url"
	"reflect"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"pgregory.net/rapid"
)

var rum = wedge.Collect{Name: "rum", Window: 10 * time.Second, Sample: 1, Series: 50, By: []string{"page", "@pop"}, Metrics: []wedge.CollectMetric{
	{Name: "bytes", Field: "bytes"}, {Name: "lcp", Field: "v.lcp", Kind: wedge.CollectQuantiles},
	{Name: "page", Field: "page", Kind: wedge.CollectTop}, {Name: "users", Field: "user", Kind: wedge.CollectDistinct}}}

var noon = time.Unix(1_800_000_003, 0)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		kind, body string
		want       []Event
	}{
		{"text/plain", `{"a":"x","v":{"lcp":2.50,"deep":{"b":true}},"n":null,"l":[1]}`, []Event{{"a": "x", "v.lcp": "2.50", "v.deep.b": "true"}}},
		{"application/json", `[{"a":1},{"a":2}]`, []Event{{"a": "1"}, {"a": "2"}}},
		{"application/x-ndjson", "{\"a\":1}\n{\"a\":2}\n", []Event{{"a": "1"}, {"a": "2"}}},
		{"application/x-www-form-urlencoded; charset=utf-8", "a=1&b=x+y", []Event{{"a": "1", "b": "x y"}}},
		{"", ``, nil}, {"", `[]`, nil}, {"", `[1]`, nil}, {"", `{"a":1}x`, nil}, {"", `{"a":{"a":{"a":{"a":{"a":{"a":1}}}}}}`, nil},
	} {
		got, err := Parse(test.kind, []byte(test.body))
		if !reflect.DeepEqual(got, test.want) || (err != nil) != (test.want == nil) || err != nil && wedge.KindOf(err) != wedge.Invalid {
			t.Errorf("%s: %v, %v", test.body, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("", []byte(`[{"a":{"b":1}},{"c":"\ud800"}]`))
	f.Add("application/x-www-form-urlencoded", []byte("a=1&b=%ff"))
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		list, err := Parse(kind, body)
		if err != nil {
			return
		}
		for _, w := range Take("shop", "fra", &rum, list, noon, rand.Float64) {
			again(t, w)
		}
	})
}

// again checks that a window is the same after it was on the wire.
func again(t testing.TB, w *Window) {
	t.Helper()
	b := w.Encode(1 << 30)[0]
	got, err := Decode(b)
	if err != nil || !bytes.Equal(got.Encode(1 << 30)[0], b) {
		t.Fatalf("not the same again: %v", err)
	}
}

func TestWhere(t *testing.T) {
	lo, hi := 1.0, 2.0
	for _, test := range []struct {
		where wedge.CollectWhere
		value string // "-": it is not there
		want  bool
	}{
		{wedge.CollectWhere{}, "x", true}, {wedge.CollectWhere{}, "-", false},
		{wedge.CollectWhere{Absent: true}, "-", true}, {wedge.CollectWhere{Absent: true}, "x", false},
		{wedge.CollectWhere{Equals: []string{"a", "b"}}, "b", true}, {wedge.CollectWhere{Equals: []string{"a"}}, "ab", false},
		{wedge.CollectWhere{Prefix: "/shop"}, "/shop/1", true}, {wedge.CollectWhere{Prefix: "/shop"}, "/", false},
		{wedge.CollectWhere{Min: &lo, Max: &hi}, "2", true}, {wedge.CollectWhere{Min: &lo}, "0.9", false},
		{wedge.CollectWhere{Max: &hi}, "2.1", false}, {wedge.CollectWhere{Min: &lo}, "x", false}, {wedge.CollectWhere{Min: &lo}, "NaN", false},
	} {
		test.where.Field = "f"
		e := Event{"f": test.value}
		if test.value == "-" {
			e = Event{}
		}
		if matches([]wedge.CollectWhere{test.where}, e) != test.want {
			t.Errorf("%+v of %q", test.where, test.value)
		}
	}
}

// TestSample: what a sample says of all is close to it, and one user's events are in it or not.
func TestSample(t *testing.T) {
	const all = 20_000
	r := rand.New(rand.NewPCG(1, 2))
	for _, by := range []string{"", "user"} {
		c := wedge.Collect{Name: "s", Window: time.Second, Sample: 0.1, SampleBy: by, Series: 10, Metrics: []wedge.CollectMetric{{Name: "v", Field: "v"}}}
		var events []Event
		for i := range all {
			events = append(events, Event{"user": fmt.Sprint(i), "v": "2"})
		}
		w := Take("shop", "fra", &c, events, noon, r.Float64)[0]
		s := w.Series[""]
		if math.Abs(s.Count-all) > all/20 || math.Abs(s.Cells[0].Sum-2*all) > all/10 || s.Count != 10*float64(s.Events) {
			t.Errorf("by %q: %v events for %v, sum %v", by, s.Events, s.Count, s.Cells[0].Sum)
		}
	}
}

func event(n int) Event {
	return Event{"page": fmt.Sprint("/", n%7), "bytes": fmt.Sprint(n), "v.lcp": fmt.Sprint(n%900 + 1), "user": fmt.Sprint(n % 400)}
}

func windowsOf(n, at int) (list []*Window) {
	for i := range n {
		list = append(list, Take("shop", "fra", &rum, []Event{event(i*31 + at)}, noon, nil)...)
	}
	return list
}

// TestMerge: the order does not matter, nor what was merged with what first.
func TestMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := windowsOf(rapid.IntRange(1, 120).Draw(t, "n"), rapid.IntRange(0, 1000).Draw(t, "at"))
		one := list[0].Empty()
		for _, w := range list {
			one.Merge(w)
		}
		shuffled := rapid.Permutation(list).Draw(t, "order")
		parts := []*Window{list[0].Empty(), list[0].Empty()}
		for i, w := range shuffled {
			parts[i%2].Merge(w)
		}
		other := list[0].Empty()
		for _, p := range parts {
			for _, b := range p.Encode(300) {
				piece, err := Decode(b)
				if err != nil {
					t.Fatal(err)
				}
				other.Merge(piece)
			}
		}
		a, b := answer(one), answer(other)
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("%+v\n%+v", a, b)
		}
	})
}

func answer(w *Window) Answer {
	r := NewResults()
	r.Take(1, "fra.1", 1, [][]byte{Wrap(1, w.Encode(1 << 30)[0])})
	return r.Ask(Query{Service: "shop", Name: "rum", From: noon.Add(-time.Hour), To: noon, By: []string{"page"}})
}

// TestTwice: items that come again change nothing, nor does a restart in between.
func TestTwice(t *testing.T) {
	var items [][]byte
	for i, w := range windowsOf(50, 3) {
		items = append(items, Wrap(uint64(i), w.Encode(1 << 30)[0]))
	}
	once, often := NewResults(), NewResults()
	once.Take(50, "fra.1", 1, items)
	for i := range items {
		from := max(0, i-5)
		often.Take(uint64(i+1), "fra.1", uint64(from+1), items[from:i+1])
		back, err := DecodeResults(often.Encode())
		if err != nil {
			t.Fatal(err)
		}
		often = back
	}
	q := Query{Service: "shop", Name: "rum", From: noon.Add(-time.Minute), To: noon, By: []string{"page", "@pop"}, Step: time.Minute}
	if a, b := once.Ask(q), often.Ask(q); !reflect.DeepEqual(a, b) || len(a.Rows) != 7 {
		t.Errorf("%+v\n%+v", a, b)
	}
	if !reflect.DeepEqual(once.Checks(time.Time{}), often.Checks(time.Time{})) {
		t.Error("they disagree")
	}
}

// TestSketches: what sketches say is within their bounds.
func TestSketches(t *testing.T) {
	c := rum
	c.By = nil
	w := newWindow("shop", &c, noon)
	for i := range 9000 {
		w.add(&c, Event{"v.lcp": fmt.Sprint(i%900 + 1), "user": fmt.Sprint(i % 2000), "page": fmt.Sprint("/", i%(1+i%400))}, "fra")
	}
	cells := w.Series[""].Cells
	if p, _ := cells[1].Quantile(.5); math.Abs(p-450) > 10 {
		t.Errorf("median %v", p)
	}
	if n := cells[3].Distinct(); n < 1900 || n > 2100 {
		t.Errorf("%d distinct", n)
	}
	truth := map[string]float64{}
	for i := range 9000 {
		truth[fmt.Sprint("/", i%(1+i%400))]++
	}
	for _, f := range cells[2].Top(10) {
		if n := truth[f.Value]; n > f.Count || n < f.Count-f.Error || f.Error > 9000/topRoom {
			t.Errorf("%+v, truly %v", f, n)
		}
	}
	again(t, w)
}

// TestBound: what is over a bound is counted, and under it nothing is lost.
func TestBound(t *testing.T) {
	c := rum
	c.Series, c.By = 3, []string{"user"}
	w := newWindow("shop", &c, noon)
	for i := range 100 {
		o := newWindow("shop", &c, noon)
		o.add(&c, Event{"user": fmt.Sprint(i)}, "fra")
		w.Merge(o)
	}
	if other := w.Series[Other]; len(w.Series) != 4 || w.Over != 97 || other.Events != 97 || w.Events() != 100 {
		t.Errorf("%d series, %d over", len(w.Series), w.Over)
	}
	r := NewResults()
	for i := range maxWindows/3 + 100 {
		o := *w
		o.Start = int64(i+1) * 10
		r.add(&o)
	}
	n, events := 0, uint64(0)
	for _, o := range r.Of(&Query{Service: "shop", Name: "rum", From: time.Unix(0, 0), To: noon}) {
		n += len(o.Series)
		events += o.Events()
	}
	if n > maxWindows || events != 100*(maxWindows/3+100) {
		t.Errorf("%d series, %d events", n, events)
	}
}

func FuzzDecode(f *testing.F) {
	for _, w := range windowsOf(3, 1) {
		f.Add(w.Encode(1 << 30)[0])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := Decode(b)
		if err != nil {
			return
		}
		o := w.Empty()
		o.Merge(w)
		o.Merge(w)
		r := NewResults()
		r.add(w)
		r.Ask(Query{Service: w.Service, Name: w.Name, To: time.Unix(w.Start, 0), By: w.By})
	})
}

// TestReduce: what is reduced, and was on the wire, makes the same answer.
func TestReduce(t *testing.T) {
	r := NewResults()
	for i, w := range windowsOf(300, 7) {
		w.Start -= int64(i%40) * 10
		r.Take(uint64(i+1), "fra.1", uint64(i+1), [][]byte{Wrap(1, w.Encode(1 << 30)[0])})
	}
	for _, q := range []Query{{}, {By: []string{"page"}}, {By: []string{"@pop", "nothing"}, Step: time.Minute}} {
		q.Service, q.Name, q.From, q.To = "shop", "rum", noon.Add(-time.Minute*3), noon
		x := r.Extract(&q, "fra.1")
		b := x.Encode()
		back, err := DecodeExtract(b)
		if err != nil || back.Done != 300 || len(b) > len(r.Encode()) {
			t.Fatalf("%v, item %d, %d bytes", err, back.Done, len(b))
		}
		if a, b := r.Ask(q), q.Answer(back.Windows); !reflect.DeepEqual(round(a), round(b)) || len(a.Rows) == 0 {
			t.Errorf("%v:\n%+v\n%+v", q.By, a, b)
		}
	}
}

// round leaves out of sums what depends on the order of their parts.
func round(a Answer) Answer {
	for i := range a.Rows {
		a.Rows[i].cells = nil
	}
	return a
}

func FuzzExtract(f *testing.F) {
	x := Extract{7, windowsOf(3, 1)}
	f.Add(x.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := DecodeExtract(b)
		if err != nil {
			return
		}
		q := Query{Service: "shop", Name: "rum", To: noon, By: []string{"page"}}
		q.Answer(x.Windows)
		if _, err := DecodeExtract(x.Encode()); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzQuery(f *testing.F) {
	f.Add("since=5m&step=10s&by=page&by=@pop")
	f.Add("from=2026-01-02T15:04:05Z&to=2026-01-02T16:04:05Z")
	r := NewResults()
	r.Take(1, "fra.1", 1, [][]byte{Wrap(1, windowsOf(1, 1)[0].Encode(1 << 30)[0])})
	f.Fuzz(func(t *testing.T, text string) {
		v, _ := url.ParseQuery(text)
		q, err := ParseQuery("shop", "rum", v, noon)
		if err != nil {
			return
		}
		x := r.Extract(&q, "fra.1")
		if _, err := DecodeExtract(x.Encode()); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzRaw: what is kept for a sink, and whatever is in its place, becomes lines of JSON that have ids of their own.
func FuzzRaw(f *testing.F) {
	f.Add("", []byte(`[{"a":"<\n"},{"b":2}]`), []byte("{\"at\":1}\n{\n"))
	f.Fuzz(func(t *testing.T, kind string, body, kept []byte) {
		Lines("id", kept)
		list, err := Parse(kind, body)
		if err != nil {
			return
		}
		b, n := Lines("fra.1/shop/rum/7", Raw("shop", "fra", &rum, list, noon))
		if n != len(list) {
			t.Fatalf("%d lines of %d events", n, len(list))
		}
		i := 0
		for line := range bytes.Lines(b) {
			var one struct {
				ID    string
				Event Event
			}
			if err := json.Unmarshal(line, &one); err != nil || one.ID != fmt.Sprintf("fra.1/shop/rum/7-%d", i) || !reflect.DeepEqual(one.Event, list[i]) {
				t.Fatalf("%s: %v", line, err)
			}
			i++
		}
	})
}
