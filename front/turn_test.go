package front

import (
	"sync"
	"testing"
	"time"
)

// TestTurnstile: whoever passes gets on, also while it is closed and after.
func TestTurnstile(t *testing.T) {
	var s turnstile
	var w sync.WaitGroup
	for range 50 {
		w.Go(func() {
			turn := make(chan struct{}, 1)
			for range 200 {
				s.pass(turn)
			}
		})
	}
	s.pass(make(chan struct{}, 1))
	s.close()
	w.Wait()
	s.pass(make(chan struct{}, 1))
}

// TestTurns: only who has others beside it takes turns.
func TestTurns(t *testing.T) {
	var s turnstile
	a, b, now := new(h1Conn), new(h1Conn), time.Now()
	for i, step := range []struct {
		c     *h1Conn
		after time.Duration
		want  bool
	}{{a, 0, false}, {a, busy / 2, false}, {b, busy / 2, true}, {b, busy / 2, false}, {a, busy / 2, true}, {b, 2 * busy, false}} {
		now = now.Add(step.after)
		if got := s.others(step.c, now); got != step.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
}
