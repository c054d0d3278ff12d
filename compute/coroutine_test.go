package compute

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	w "github.com/wedge-cloud/wedge/internal/wasmtest"
)

// answering is a guest that asks for its request, notes 1, answers, notes 2, then waits or
// loops if parameter 0 says so, and notes 3.
func answering() []byte {
	return program(1, func(m *w.Module, c calls) {
		m.Main("i32",
			w.I32(32), w.I32(36), w.Call(c.ask), w.Drop,
			c.tell(w.I32(1)), c.tell(w.I32(answered)), c.tell(w.I32(2)),
			w.I32(0), w.Call(c.param), w.I32(1), w.Eq, w.If(w.Call(c.wait), w.Drop),
			w.I32(0), w.Call(c.param), w.I32(2), w.Eq, w.If(w.Forever),
			c.tell(w.I32(3)))
	})
}

// begun runs test with the answering guest, begun either way. start returns the coroutine of a
// new sandbox, what its guest notes, and how it ends.
func begun(t *testing.T, test func(t *testing.T, start func(l *lab) (*Coroutine, chan error))) {
	for _, how := range []wedge.Start{wedge.StartFresh, wedge.StartSnapshot} {
		t.Run(how.String(), func(t *testing.T) {
			e := newEngine(t, Config{Slots: 1})
			m := load(t, e, answering(), Options{Start: how, Template: template, Limits: snapshotLimits})
			test(t, func(l *lab) (*Coroutine, chan error) {
				ended := make(chan error, 1)
				var co *Coroutine
				co = NewCoroutine(func() { ended <- m.Run(context.Background(), &Sandbox{State: l, Coroutine: co}) })
				return co, ended
			})
		})
	}
}

// TestCoroutine: the guest runs on the caller's goroutine up to its answer, and to its end; and while
// it rests others may run.
func TestCoroutine(t *testing.T) {
	begun(t, func(t *testing.T, start func(*lab) (*Coroutine, chan error)) {
		for range 3 {
			a, b := &lab{params: []int32{0}}, &lab{params: []int32{0}}
			first, ended := start(a)
			if !first.Step() || !slices.Equal(a.notes, []uint32{1, answered}) {
				t.Fatalf("after the first step: %v", a.notes)
			}
			second, _ := start(b)
			if !second.Step() || !second.Rests() || second.Step() || second.Rests() || len(b.notes) != 4 {
				t.Fatalf("another guest got to %v while the first rests", b.notes)
			}
			if first.Step() || !slices.Equal(a.notes, []uint32{1, answered, 2, 3}) {
				t.Fatalf("at the end: %v", a.notes)
			}
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			first.Leave() // nothing is left to do
		}
	})
}

// TestCoroutineWaits: a guest that waits, or runs for long, does not hold the caller.
func TestCoroutineWaits(t *testing.T) {
	begun(t, func(t *testing.T, start func(*lab) (*Coroutine, chan error)) {
		wait := make(chan struct{})
		l := &lab{params: []int32{1}, wait: func(context.Context) { <-wait }}
		co, ended := start(l)
		if !co.Step() || co.Step() || co.Rests() {
			t.Fatal("a waiting guest did not go its own way")
		}
		close(wait)
		if err := <-ended; err != nil || len(l.notes) != 4 {
			t.Fatalf("%v, %v", l.notes, err)
		}
		co, ended = start(&lab{params: []int32{2}})
		began := time.Now()
		if !co.Step() || co.Step() {
			t.Fatal("a looping guest did not go its own way")
		}
		if took := time.Since(began); took > snapshotLimits.CPU {
			t.Errorf("a looping guest held its caller for %v", took)
		}
		wantKind(t, <-ended, wedge.Exhausted)
	})
}

// TestCoroutineLeft: a guest whose caller left goes on, wherever it was.
func TestCoroutineLeft(t *testing.T) {
	begun(t, func(t *testing.T, start func(*lab) (*Coroutine, chan error)) {
		for steps := range 2 {
			l := &lab{params: []int32{0}}
			co, ended := start(l)
			for range steps {
				co.Step()
			}
			co.Leave()
			co.Leave()
			if err := <-ended; err != nil || len(l.notes) != 4 {
				t.Fatalf("left after %d steps: %v, %v", steps, l.notes, err)
			}
		}
	})
}

// TestCoroutineWithoutSlot: a guest that must queue for its slot does not hold the caller.
func TestCoroutineWithoutSlot(t *testing.T) {
	begun(t, func(t *testing.T, start func(*lab) (*Coroutine, chan error)) {
		hog, hogged := start(&lab{params: []int32{2}})
		if !hog.Step() || hog.Step() {
			t.Fatal("the hog did not go its own way")
		}
		l := &lab{params: []int32{0}}
		co, ended := start(l)
		for co.Step() { // true if the hog happened to make way just then
		}
		wantKind(t, <-hogged, wedge.Exhausted)
		if err := <-ended; err != nil || len(l.notes) != 4 {
			t.Fatalf("%v, %v", l.notes, err)
		}
	})
}
