package node

import (
	"context"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The collector lets the heap grow by as much again as lives before it runs. That is cheap for a
// small heap, and gigabytes for one that holds ten thousand waiting guests or a large cache, most of which
// is bodies that the collector need not look into. The memory it
// takes and the work it makes are in balance when the headroom grows with the square root of what lives:
// then twice the heap costs 1.4 times the headroom and 1.4 times the work.
const (
	easyHeap   = 64 << 20 // up to which the headroom is as large as the heap
	minPercent = 12       // from 4 GiB on
)

// percent returns what GOGC should be for a heap in which so many bytes live.
func percent(live uint64) int {
	if live <= easyHeap {
		return 100
	}
	return max(minPercent, int(100*math.Sqrt(easyHeap/float64(live))))
}

// pace adapts the collector to the heap until ctx ends, unless the operator has said how it is to be.
func pace(ctx context.Context) error {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/gogc:percent"}, {Name: "/gc/gomemlimit:bytes"}}
	metrics.Read(s)
	if s[1].Value.Uint64() != 100 || s[2].Value.Uint64() != math.MaxInt64 {
		return nil
	}
	t := time.NewTicker(time.Second)
	defer t.Stop()
	now := 100
	defer func() { debug.SetGCPercent(100) }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		metrics.Read(s[:1])
		// To set it stops the world: not for every little change.
		if want := percent(s[0].Value.Uint64()); want != now && (want == 100 || want == minPercent || want-now > 4 || now-want > 4) {
			debug.SetGCPercent(want)
			now = want
		}
	}
}
