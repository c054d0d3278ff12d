package compute

import "iter"

// A Coroutine lets a guest run on the goroutine of whoever waits for its answer, as its other half: to wake
// another goroutine on an idle machine costs as much as a small guest's whole run, to switch to
// a coroutine costs next to nothing. The guest pauses when its answer is out, when it
// is about to wait, and when it has run for a tick; from the latter two on it is nobody's
// coroutine and goes on in a goroutine of its own.
//
// Step and Leave are for one goroutine; Wait and rest for the guest's. A nil Coroutine is
// that of a guest that runs in a goroutine of its own from the beginning.
type Coroutine struct {
	next  func() (struct{}, bool)
	yield func(struct{}) bool
	away  bool // has ended, or goes on by itself; changes only while the guest is paused
	waits bool // why the guest paused: it cannot go on at once
}

// NewCoroutine returns a Coroutine that will run body, which runs the sandbox the Coroutine is given to.
func NewCoroutine(body func()) *Coroutine {
	c := &Coroutine{}
	c.next, _ = iter.Pull(func(yield func(struct{}) bool) {
		c.yield = yield
		body()
	})
	return c
}

// Step lets the guest run until it pauses. It reports false once the guest has ended or goes
// on by itself.
func (c *Coroutine) Step() bool {
	if c == nil || c.away {
		return false
	}
	if _, more := c.next(); !more {
		c.away = true
		return false
	}
	if c.waits {
		c.Leave()
		return false
	}
	return true
}

// Leave lets the guest go on by itself. It must be called unless Step reported false.
func (c *Coroutine) Leave() {
	if c == nil || c.away {
		return
	}
	c.away = true
	go func() {
		for more := true; more; {
			_, more = c.next()
		}
	}()
}

// Rests reports whether the guest goes on at the next Step.
func (c *Coroutine) Rests() bool { return c != nil && !c.away }

// Wait lets whoever steps go, for what follows may take long.
func (c *Coroutine) Wait() {
	if c.Rests() {
		c.waits = true
		c.yield(struct{}{})
	}
}

// rest goes back to whoever steps, until the next step. Like Wait it may be called from another
// goroutine than body's, that of a parked instance, as long as body's waits for it meanwhile.
func (c *Coroutine) rest() {
	if c.Rests() {
		c.yield(struct{}{})
	}
}
