// Package trace holds one request as data: the ordered steps it took through a PoP, ready
// to be shown, stored or compared. It knows no engine; whoever does something adds a step.
package trace

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Trace is the record of one sandbox. Its methods are safe for concurrent use.
type Trace struct {
	ID      string    `json:"trace_id"` // of the sandbox, 32 hex digits
	Service string    `json:"service"`
	Version int       `json:"version"`
	Start   time.Time `json:"start"`
	Steps   []Step    `json:"steps"`
	Dropped int       `json:"dropped,omitempty"` // steps beyond MaxSteps
	Outcome string    `json:"outcome,omitempty"` // "ok", or what went wrong

	mu sync.Mutex
}

// MaxSteps bounds the steps one trace keeps.
const MaxSteps = 10_000

// Step is one crossing of the host boundary.
type Step struct {
	Seq    uint64        `json:"seq"`   // order number within the sandbox, from 1
	At     time.Duration `json:"at_ns"` // since Start, when the step began
	Took   time.Duration `json:"took_ns"`
	Name   string        `json:"name"` // "fastly_http_req.send"
	Args   []Field       `json:"args,omitempty"`
	Result string        `json:"result"` // the status in words
	Out    []Field       `json:"out,omitempty"`
}

// Field is a named value of a step. Values are short: long ones are cut, secret ones hidden.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Add appends a step.
func (t *Trace) Add(s Step) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.Steps) >= MaxSteps {
		t.Dropped++
		return
	}
	t.Steps = append(t.Steps, s)
}

// End notes how the request ended. No step may be added afterwards.
func (t *Trace) End(outcome string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Outcome = outcome
}

// MaxValue bounds a field's value in bytes when it is shown.
const MaxValue = 64

// Text makes bytes from a guest fit to be shown: quoted, cut after MaxValue bytes.
func Text(b []byte) string {
	if len(b) > MaxValue {
		return fmt.Sprintf("%q… (%d bytes)", b[:MaxValue], len(b))
	}
	return fmt.Sprintf("%q", b)
}

// Print writes the trace for people to read, a line a step.
func (t *Trace) Print(w io.Writer) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "trace %s  %s version %d\n", t.ID, t.Service, t.Version)
	for i := range t.Steps {
		s := &t.Steps[i]
		fmt.Fprintf(&b, "%5d %9s %9s  %s(%s)", s.Seq, short(s.At), "+"+short(s.Took), s.Name, join(s.Args))
		if s.Result != "ok" {
			fmt.Fprintf(&b, " = %s", s.Result)
		}
		if len(s.Out) > 0 {
			fmt.Fprintf(&b, " -> %s", join(s.Out))
		}
		b.WriteByte('\n')
	}
	if t.Dropped > 0 {
		fmt.Fprintf(&b, "      and %d more steps\n", t.Dropped)
	}
	fmt.Fprintf(&b, "      ended: %s\n", t.Outcome)
	_, err := io.WriteString(w, b.String())
	return err
}

func join(fields []Field) string {
	var b strings.Builder
	for i, f := range fields {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(f.Name + "=" + f.Value)
	}
	return b.String()
}

// short shows a duration with three digits or so.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%.1fµs", float64(d)/1e3)
	case d < time.Second:
		return fmt.Sprintf("%.2fms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.2fs", d.Seconds())
}
