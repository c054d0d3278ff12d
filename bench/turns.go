package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// turn is how long one subject is measured before the next has its turn: short, so that the
// machine's moods hit all of them.
const turn = 100 * time.Millisecond

// inTurns measures the subjects for the given time together, each with so many clients at
// once, and returns what each request took. A turn begins after a collection, for the garbage of
// one subject must not slow down the next; that of its own does.
func (l *lab) inTurns(ctx context.Context, total time.Duration, clients int, subjects ...*subject) ([][]took, error) {
	all := make([][]took, len(subjects))
	for n, s := range subjects { // warm up
		if _, err := oneTurn(ctx, s, clients, turn); err != nil {
			return nil, fmt.Errorf("subject %d: %w", n, err)
		}
	}
	if err := l.roll(); err != nil {
		return nil, err
	}
	for began := time.Now(); time.Since(began) < total; {
		for n, s := range subjects {
			runtime.GC()
			got, err := oneTurn(ctx, s, clients, turn)
			if err != nil {
				return nil, fmt.Errorf("subject %d: %w", n, err)
			}
			all[n] = append(all[n], got...)
		}
	}
	return all, ctx.Err()
}

func oneTurn(ctx context.Context, s *subject, clients int, length time.Duration) (all []took, err error) {
	var mu sync.Mutex
	var w sync.WaitGroup
	end := time.Now().Add(length)
	for range clients {
		w.Go(func() {
			c := newClient()
			var got []took
			var failed error
			for failed == nil && (len(got) == 0 || time.Now().Before(end)) && ctx.Err() == nil {
				var t took
				t, failed = c.get(s)
				got = append(got, t)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, got...)
			if failed != nil {
				err = failed
			}
		})
	}
	w.Wait()
	return all, err
}

// answers and cycles take one of the two times out.
func answers(all []took) (s samples) {
	for _, t := range all {
		s = append(s, t.answer)
	}
	return s
}

func cycles(all []took) (s samples) {
	for _, t := range all {
		s = append(s, t.cycle)
	}
	return s
}
