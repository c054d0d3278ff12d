package compute

import "iter"

// A Turn lets a guest run on the goroutine of whoever waits for its answer, as a coroutine: to wake
// another goroutine on an idle machine costs as much as a small guest's whole run, to switch to
// a coroutine costs next to nothing. The guest pauses when its answer is out, when it
// is about to wait, and when it has run for a tick; from the latter two on it is nobody's
// coroutine and goes on in a goroutine of its own.
//
// Step and Leave are for one goroutine; Wait and rest for the guest's. A nil Turn is
// that of a guest that runs in a goroutine of its own from the beginning.
type Turn struct {
	next  func() (struct{}, bool)
	yield func(struct{}) bool
	away  bool // has ended, or goes on by itself; changes only while the guest is paused
	waits bool // why the guest paused: it cannot go on at once
}

// NewTurn returns a Turn that will run body, which runs the sandbox the Turn is given to.
func NewTurn(body func()) *Turn {
	t := &Turn{}
	t.next, _ = iter.Pull(func(yield func(struct{}) bool) {
		t.yield = yield
		body()
	})
	return t
}

// Step lets the guest run until it pauses. It reports false once the guest has ended or goes
// on by itself.
func (t *Turn) Step() bool {
	if t == nil || t.away {
		return false
	}
	if _, more := t.next(); !more {
		t.away = true
		return false
	}
	if t.waits {
		t.Leave()
		return false
	}
	return true
}

// Leave lets the guest go on by itself. It must be called unless Step reported false.
func (t *Turn) Leave() {
	if t == nil || t.away {
		return
	}
	t.away = true
	go func() {
		for more := true; more; {
			_, more = t.next()
		}
	}()
}

// Rests reports whether the guest goes on at the next Step.
func (t *Turn) Rests() bool { return t != nil && !t.away }

// Wait lets whoever steps go, for what follows may take long.
func (t *Turn) Wait() {
	if t.Rests() {
		t.waits = true
		t.yield(struct{}{})
	}
}

// rest goes back to whoever steps, until the next step. Like Wait it may be called from another
// goroutine than body's, that of a parked instance, as long as body's waits for it meanwhile.
func (t *Turn) rest() {
	if t.Rests() {
		t.yield(struct{}{})
	}
}
