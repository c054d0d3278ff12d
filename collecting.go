package wedge

import "time"

// Collect says what becomes of the events that clients send to a path of a service: each PoP adds them up, and the core what the
// PoPs have.
type Collect struct {
	Name     string
	Path     string          // where they are sent to
	Window   time.Duration   // 1 s to 10 s: how finely results are kept apart in time
	Sample   float64         // share that is counted, each for 1/Sample of them; above 0, at most 1
	SampleBy string          // field: events with the same value are counted all or none; "": each by chance
	ID       string          // field: an event sent again within a window counts once; "": none is known again
	By       []string        // fields to keep apart; @pop is the PoP's name
	Series   int             // how many combinations of their values are kept apart in a window; the rest is one, called other
	Where    []CollectWhere  // what an event has to be; all of them
	Metrics  []CollectMetric // what is added up, besides the events themselves
	Origins  []string        // whose pages may send, as https://example.com; none: any
	Sink     CollectSink     // where the events themselves go, besides
}

// CollectSink says where the events go that are counted, each as it is: to a backend, or to what the operator of a node has under a name.
type CollectSink struct {
	Backend string // of the version; "": none
	Path    string // there, with a query if it wants one
	Token   Secret // sent along as Authorization: Bearer; none: nothing
	Name    string // of a node's sink; "": none
}

// Wanted reports whether there is one.
func (s *CollectSink) Wanted() bool { return s.Backend != "" || s.Name != "" }

// CollectWhere is a condition on a field.
type CollectWhere struct {
	Field    string
	Equals   []string // one of these; none: any
	Prefix   string
	Min, Max *float64 // as a number, both included; nil: no bound
	Absent   bool     // it is not there; without this it has to be
}

// CollectKind says how a metric's values are added up.
type CollectKind uint8

// The numbers are on the wire.
const (
	CollectSum       CollectKind = iota // how many, sum, least and greatest
	CollectQuantiles                    // and quantiles, within 1%
	CollectTop                          // the most frequent values
	CollectDistinct                     // how many different values
	collectKinds
)

// String returns the word used in wedge.toml.
func (k CollectKind) String() string {
	if k < collectKinds {
		return [...]string{"sum", "quantiles", "top", "distinct"}[k]
	}
	return "unknown"
}

// ParseCollectKind reads such a word.
func ParseCollectKind(s string) (k CollectKind, ok bool) {
	for k = range collectKinds {
		if k.String() == s {
			return k, true
		}
	}
	return 0, false
}

// CollectMetric adds up a field of events.
type CollectMetric struct {
	Name  string
	Field string
	Kind  CollectKind
}

// Bounds of what a service may collect.
const (
	MaxCollects       = 20
	MaxCollectBy      = 8
	MaxCollectMetrics = 16
	MaxCollectSeries  = 5000
)
