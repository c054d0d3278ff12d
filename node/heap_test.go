package node

import (
	"context"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
)

func TestPercent(t *testing.T) {
	for live, want := range map[uint64]int{0: 100, 64 << 20: 100, 256 << 20: 50, 1 << 30: 25, 4 << 30: 12, 64 << 30: 12} {
		if got := percent(live); got != want {
			t.Errorf("%d MiB: %d, want %d", live>>20, got, want)
		}
	}
}

// TestPaceIsTheOperators: what somebody has set stays.
func TestPaceIsTheOperators(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(300))
	if err := pace(context.Background()); err != nil { // returns at once
		t.Fatal(err)
	}
	if now := debug.SetGCPercent(300); now != 300 {
		t.Errorf("it is %d now", now)
	}
}

// TestPace makes the heap large and small again.
func TestPace(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- pace(ctx) }()
		expect := func(want func(int) bool) {
			t.Helper()
			debug.FreeOSMemory() // collects
			time.Sleep(2 * time.Second)
			synctest.Wait()
			now := debug.SetGCPercent(100)
			if debug.SetGCPercent(now); !want(now) {
				t.Errorf("it is %d", now)
			}
		}
		ballast := make([]byte, 600<<20) // never touched: address space only
		expect(func(p int) bool { return p >= 25 && p <= 35 })
		runtime.KeepAlive(ballast)
		expect(func(p int) bool { return p == 100 })
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
