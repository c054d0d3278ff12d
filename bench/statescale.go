package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state"
	"github.com/wedge-cloud/wedge/world"
)

// How state grows, for docs/scale.md: with keys, with PoPs, with what is written, and what a PoP that comes late has to take.

const (
	scaleValue  = 200  // bytes of a value
	scaleWrites = 2000 // at one PoP of a world
	scaleReads  = 20_000
)

func stateScale(ctx context.Context, _ *lab) (rows []Row, err error) {
	var parts []func(context.Context) ([]Row, error)
	for _, n := range []int{10_000, 100_000, 1_000_000} {
		parts = append(parts, func(ctx context.Context) ([]Row, error) { return grownKeys(ctx, n) })
	}
	for _, n := range []int{3, 10, 30} {
		parts = append(parts, func(ctx context.Context) ([]Row, error) { return grownWrites(ctx, n) })
	}
	for _, part := range parts {
		more, err := part(ctx)
		if err != nil {
			return rows, err
		}
		printTable(os.Stderr, more)
		rows = append(rows, more...)
	}
	return rows, nil
}

// openShare opens a database with a share.
func openShare(dir, pop string) (*state.KV, *state.Share, *state.Stores, error) {
	kv, err := state.Open(dir, state.Options{PoP: pop, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, nil, nil, err
	}
	share, err := kv.Share("")
	if err != nil {
		kv.Close()
		return nil, nil, nil, err
	}
	share.Known()
	share.Fresh(wedge.ScopeMerge, time.Now()) // it is new, and has all there is
	return kv, share, kv.For("shop", map[string][]wedge.KVSeed{"s": nil}, nil), nil
}

// grownKeys measures one PoP's database with so many keys.
func grownKeys(ctx context.Context, n int) (rows []Row, err error) {
	dir, err := os.MkdirTemp("", "wedge-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	row := func(name string, v float64, unit, note string) {
		rows = append(rows, Row{Name: fmt.Sprintf("state-scale-%d/%s", n, name), P50: v, Unit: unit, Note: note})
	}
	before := taken()
	kv, share, stores, err := openShare(filepath.Join(dir, "full"), "lhr")
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := fillKeys(ctx, stores, share, n); err != nil {
		return nil, err
	}
	row("writes", float64(n)/time.Since(began).Seconds(), "/s", "64 at once, each synced")
	if err := share.Box().Cut(share.Box().Last()); err != nil { // the core has them
		return nil, err
	}
	row("memory", (taken()-before)/(1<<20), "MiB", "what the database has in memory")
	kv.Close()
	began = time.Now()
	if kv, share, stores, err = openShare(filepath.Join(dir, "full"), "lhr"); err != nil {
		return nil, err
	}
	defer func() { kv.Close() }()
	row("open", time.Since(began).Seconds()*1000, "ms", "")
	row("disk", float64(sizeOf(filepath.Join(dir, "full"), ""))/float64(n), "bytes/key", fmt.Sprintf("values of %d bytes, keys of 20", scaleValue))
	var reads samples
	for range scaleReads {
		key := keyOf(rand.IntN(n))
		began := time.Now()
		if _, err := stores.Get(ctx, "s", key); err != nil {
			return nil, err
		}
		reads = append(reads, time.Since(began))
	}
	rows = append(rows, compare(fmt.Sprintf("state-scale-%d/read", n), time.Microsecond, reads, nil, ""))
	late, err := lateCopy(share, filepath.Join(dir, "late"))
	if err != nil {
		return nil, err
	}
	row("snapshot", float64(n)/late.Seconds(), "keys/s", "a PoP that comes late takes all")
	began = time.Now()
	for range 100 {
		share.Declare(1)
	}
	row("declare", float64(time.Since(began).Microseconds())/100, "us", "once in five seconds")
	return rows, nil
}

func keyOf(i int) string { return fmt.Sprintf("user-%015d", i) }

func fillKeys(ctx context.Context, stores *state.Stores, share *state.Share, n int) error {
	const writers = 64
	var w sync.WaitGroup
	var failed atomic.Pointer[error]
	for i := range writers {
		w.Go(func() {
			value := make([]byte, scaleValue)
			for j := i; j < n && failed.Load() == nil; j += writers {
				for k := range value { // nothing that a disk could make smaller
					value[k] = byte(rand.Uint32())
				}
				_, err := stores.Put(ctx, "s", wedge.KVPut{Key: keyOf(j), Value: value})
				if err == nil && j%10_000 == 0 {
					err = share.Box().Trim(share.Box().Last()) // as the pump does
				}
				if err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	if w.Wait(); failed.Load() != nil {
		return *failed.Load()
	}
	return nil
}

// lateCopy takes a snapshot into an empty database, without a network between.
func lateCopy(from *state.Share, dir string) (time.Duration, error) {
	kv, to, _, err := openShare(dir, "late")
	if err != nil {
		return 0, err
	}
	defer kv.Close()
	began := time.Now()
	for at, done := (state.Place{}), false; !done; {
		items, next, last, err := from.Snapshot(at)
		if err == nil {
			err = to.TakeSnapshot(items)
		}
		if err == nil {
			err = to.DropAbsent(items, at, next, last, from.Complete())
		}
		if err != nil {
			return 0, err
		}
		at, done = next, last
	}
	return time.Since(began), nil
}

// grownWrites measures what writes at one PoP cost a fleet of so many.
func grownWrites(ctx context.Context, n int) (rows []Row, err error) {
	v := wedge.Version{Backends: []wedge.Backend{{Name: "state", URL: at("http://state.wedge.internal")}}, KVStores: map[string][]wedge.KVSeed{"s": nil}}
	pops := cities(n)
	w, done, err := startWorld(ctx, pops, v, nil)
	if err != nil {
		return nil, err
	}
	defer done()
	time.Sleep(3 * time.Second) // until all links are up
	urls, first, other := addresses(w), pops[0].Name, pops[1].Name
	idle := meterOf(w, first, other)
	time.Sleep(3 * time.Second)
	idle = meterOf(w, first, other).since(idle)
	busy := meterOf(w, first, other)
	token := ""
	for i := range scaleWrites {
		if token, err = stateAsk(ctx, http.MethodPut, urls[first]+"/s/"+keyOf(i), ""); err != nil {
			return nil, err
		}
	}
	for _, p := range pops[1:] {
		if _, err := stateAsk(ctx, http.MethodGet, urls[p.Name]+"/s/"+keyOf(scaleWrites-1), token); err != nil {
			return nil, err
		}
	}
	busy = meterOf(w, first, other).since(busy)
	beyond := func(busyCount, idleCount float64) float64 {
		return (busyCount - idleCount*busy.seconds/idle.seconds) / scaleWrites
	}
	row := func(name string, v float64, unit, note string) {
		rows = append(rows, Row{Name: fmt.Sprintf("state-scale-pops-%d/%s", n, name), P50: v, Unit: unit, Note: note})
	}
	row("heard", beyond(busy.in, idle.in), "bytes/write", "at another PoP, of a key of 20 bytes and a value of 5, beyond what it hears while nothing is written")
	row("said", beyond(busy.out, idle.out), "bytes/write", "by the PoP that writes, as well")
	row("processor", beyond(busy.cpu, idle.cpu)/float64(n)*1e6, "us/write", "for each PoP; of all in this process: core, PoPs, and who writes")
	row("idle", idle.in/idle.seconds, "bytes/s", "heard by a PoP while nothing is written")
	return rows, nil
}

// meter is what was spent up to a moment, or between two.
type meter struct {
	in, out float64 // bytes that one PoP has heard, and another said
	cpu     float64 // seconds of this process
	seconds float64
}

func meterOf(w *world.World, says, hears string) meter {
	in, _ := w.Node(hears).Traffic()
	_, out := w.Node(says).Traffic()
	cpu, _ := cpuTime(os.Getpid()) // 0 where the system does not say
	return meter{float64(in), float64(out), cpu.Seconds(), float64(time.Now().UnixNano()) / 1e9}
}

func (m meter) since(o meter) meter {
	return meter{m.in - o.in, m.out - o.out, m.cpu - o.cpu, m.seconds - o.seconds}
}
