package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/wedge-cloud/wedge/collect"
)

const (
	liveSteps = 40 // marks of a course in time
	liveRows  = 20 // that a terminal is sure to have room for
)

// collectLive draws what is collected again each second; as JSON it has a line each time. It goes on until ctx ends.
func (r *remote) collectLive(ctx context.Context, std stdio, service, name string, query url.Values, since time.Duration) error {
	step := max((since / liveSteps).Round(time.Second), time.Second)
	course := url.Values{"since": {since.String()}, "step": {step.String()}}
	err := r.Live(ctx, service, name, query, func(a collect.Answer) error {
		if r.asJSON {
			return json.NewEncoder(std.out).Encode(a)
		}
		over, err := r.Collected(ctx, service, name, course)
		if err != nil {
			return err
		}
		_, err = std.out.Write(livePicture(a, over, since, step))
		return err
	})
	if ctx.Err() != nil {
		return nil // whoever looked on has seen enough
	}
	return err
}

// livePicture is a screen: the course of counts in time, and the rows with a bar for each. over has a row for each step in which there was something.
func livePicture(a, over collect.Answer, since, step time.Duration) []byte {
	var b bytes.Buffer
	b.WriteString("\x1b[H\x1b[J") // from the top, and nothing of what was there
	total := 0.0
	steps := make([]float64, liveSteps)
	for _, row := range over.Rows { // the last is now, but for who sends nothing
		if ago := int(over.Rows[len(over.Rows)-1].Start.Sub(row.Start) / step); ago >= 0 && ago < liveSteps {
			steps[liveSteps-1-ago] += row.Count
		}
		total += row.Count
	}
	fmt.Fprintf(&b, "%s %s, the last %s: %.0f events\n%s\n\n", plain(a.Service), plain(a.Name), since, total, spark(steps))
	more := len(a.Rows) - liveRows
	shown := a
	shown.Rows = a.Rows[:min(liveRows, len(a.Rows))]
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	collectTable(t, shown, collectColumns{bars: true})
	_ = t.Flush() // into memory
	if more > 0 {
		fmt.Fprintf(&b, "and %d more\n", more)
	}
	return b.Bytes()
}

// spark is a course in one line.
func spark(steps []float64) string {
	most := 1.0
	for _, n := range steps {
		most = max(most, n)
	}
	var b strings.Builder
	for _, n := range steps {
		b.WriteRune([]rune("▁▂▃▄▅▆▇█")[max(0, int(7*n/most))])
	}
	return b.String()
}

const barWidth = 12

// bar is as long as n is of most.
func bar(n, most float64) string {
	eighths := max(0, int(8*barWidth*n/max(most, 1)))
	text := strings.Repeat("█", eighths/8)
	if part := eighths % 8; part > 0 {
		text += string([]rune("▏▎▍▌▋▊▉")[part-1])
	}
	return text + strings.Repeat(" ", barWidth-len([]rune(text)))
}

// isTerminal reports whether a picture can be drawn again where it was.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return false
	}
	s, err := f.Stat()
	return err == nil && s.Mode()&os.ModeCharDevice != 0
}
