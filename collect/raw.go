package collect

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"

	"github.com/wedge-cloud/wedge"
)

// rawEvent is a line for a sink. Its id comes before all this, see Lines.
type rawEvent struct {
	At      time.Time `json:"at"`
	PoP     string    `json:"pop"`
	Service string    `json:"service"`
	Name    string    `json:"name"`
	Weight  float64   `json:"weight"` // how many events it stands for, by the sample
	Event   Event     `json:"event"`
}

// Raw writes events for a sink, a line of JSON for each.
func Raw(service, pop string, c *wedge.Collect, events []Event, at time.Time) (b []byte) {
	for _, e := range events {
		line, _ := json.Marshal(rawEvent{at.UTC(), pop, service, c.Name, 1 / c.Sample, e}) // texts and a number
		b = append(append(b, line...), '\n')
	}
	return b
}

// Lines gives the lines of what Raw has written ids: what they are kept as, and their numbers. It returns how many there are.
func Lines(id string, raw []byte) (b []byte, n int) {
	for line := range bytes.Lines(raw) {
		rest, ok := bytes.CutPrefix(line, []byte("{"))
		if !ok {
			continue
		}
		text, _ := json.Marshal(id + "-" + strconv.Itoa(n))
		b = append(append(append(b, `{"id":`...), text...), ',')
		b = append(b, rest...)
		n++
	}
	return b, n
}
