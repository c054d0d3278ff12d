package compute

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
)

// Config says how an Engine works. The zero value of each field but Funcs is useful.
type Config struct {
	Funcs        map[*abi.Def]Func // the hostcalls; those of abi.Hostcalls left out answer "unsupported"
	ParkAt       *abi.Def          // the hostcall that asks for the request, where snapshot start begins
	CacheDir     string            // where compiled code is kept between starts; empty: nowhere
	MaxSandboxes int               // at once; further ones are refused as overload. 0: 16,384
	Slots        int               // guests that run at the same moment; 0: GOMAXPROCS, which New raises by one
	MaxDelay     time.Duration     // how long a service's guests may wait for their turn before more are refused; 0: 10 s
	IdleTime     time.Duration     // how long an unused instance is kept; 0: 10 s
	PackAfter    time.Duration     // how long a guest has waited when its memory is packed; 0: 1 s; negative: never
	Log          *slog.Logger      // nil: discarded

	// NoInterruptChecks leaves the checks out of guests, so that nothing can stop them.
	// Only for measuring what the checks cost.
	NoInterruptChecks bool
}

// Engine owns the Wasm runtimes, the compiled code and the pools of instances. It is safe
// for concurrent use. Close it after the last Module.
type Engine struct {
	cfg    Config
	sched  *scheduler
	packer *packer
	base   context.Context
	end    context.CancelCauseFunc
	stats  Stats

	mu    sync.Mutex
	codes map[codeKey]*code
	own   uint64         // the last codeKey.own given
	idle  sync.WaitGroup // the janitor and the packer
}

// Stats are an engine's counters since it began, and gauges of now.
type Stats struct {
	Runs, Traps, OverTime, Refused atomic.Int64
	Created, Discarded             atomic.Int64 // instances
	Running                        atomic.Int64 // sandboxes now
	Compiled                       atomic.Int64 // modules compiled, from source or from the cache directory
	Snapshots                      atomic.Int64 // sandboxes begun from a snapshot
	Packed                         atomic.Int64 // times that a waiting guest's memory was packed
}

// codeKey names compiled code: two programs with the same key share it and its instances.
type codeKey struct {
	digest [sha256.Size]byte
	own    uint64 // not 0: a program with snapshot start, whose instances are its own
}

// raiseProcs leaves one P for the host while guests hold the others; see run.go.
var raiseProcs = sync.OnceValue(func() int {
	n := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(n + 1)
	return n
})

// New returns an engine. It starts the goroutines that watch guests, pack their memory and trim pools; Close ends them.
func New(cfg Config) *Engine {
	if cfg.MaxSandboxes == 0 {
		cfg.MaxSandboxes = 16384
	}
	if cfg.MaxDelay == 0 {
		cfg.MaxDelay = 10 * time.Second
	}
	if cfg.IdleTime == 0 {
		cfg.IdleTime = 10 * time.Second
	}
	if cfg.PackAfter == 0 {
		cfg.PackAfter = time.Second
	}
	if n := raiseProcs(); cfg.Slots == 0 {
		cfg.Slots = n
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{cfg: cfg, sched: newScheduler(cfg.Slots), codes: map[codeKey]*code{}}
	e.base, e.end = context.WithCancelCause(context.Background())
	e.packer = newPacker(&e.stats)
	e.idle.Go(e.trim)
	if cfg.PackAfter > 0 {
		e.idle.Go(func() { e.packer.run(cfg.PackAfter, e.base.Done()) })
	}
	return e
}

// Stats returns the engine's counters, to be read at any time.
func (e *Engine) Stats() *Stats { return &e.stats }

// Interrupt ends every sandbox that runs, each with an error of kind Unavailable. For the
// end of a drain that took too long.
func (e *Engine) Interrupt() { e.end(fmt.Errorf("the node is stopping")) }

// Close ends what runs and frees everything. Modules must not be used afterwards.
func (e *Engine) Close() {
	e.Interrupt()
	for e.stats.Running.Load() > 0 {
		time.Sleep(time.Millisecond)
	}
	e.idle.Wait()
	e.sched.close()
	e.mu.Lock()
	defer e.mu.Unlock()
	for k, c := range e.codes {
		c.retire()
		delete(e.codes, k)
	}
}

// trim closes instances that nobody used for a while.
func (e *Engine) trim() {
	t := time.NewTicker(e.cfg.IdleTime / 4)
	defer t.Stop()
	for {
		select {
		case <-e.base.Done():
			return
		case now := <-t.C:
			for _, c := range e.pools() {
				c.trim(now.Add(-e.cfg.IdleTime))
			}
		}
	}
}

func (e *Engine) pools() []*code {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]*code, 0, len(e.codes))
	for _, c := range e.codes {
		all = append(all, c)
	}
	return all
}

// admit counts a sandbox in, or refuses it.
func (e *Engine) admit(m *Module) error {
	n := m.running.Add(1)
	if m.closed.Load() {
		m.leave()
		return &wedge.Error{Op: "run guest", What: m.opt.Name, Kind: wedge.Unavailable, Err: fmt.Errorf("the module is closed")}
	}
	if m.opt.Concurrency > 0 && n > int64(m.opt.Concurrency) {
		m.leave()
		e.stats.Refused.Add(1)
		return &wedge.Error{Op: "run guest", Kind: wedge.Unavailable, Err: fmt.Errorf("%d sandboxes of this service run already", m.opt.Concurrency), Hint: "Raise the service's concurrency or let clients try again."}
	}
	if d := e.sched.delay(&m.queue); d > e.cfg.MaxDelay {
		m.leave()
		e.stats.Refused.Add(1)
		return &wedge.Error{Op: "run guest", Kind: wedge.Unavailable, Err: fmt.Errorf("this service's guests wait %v for their turn", d.Round(time.Millisecond)), Hint: "The node has too few cores for this load: add nodes, or make the guest do less."}
	}
	if n := e.stats.Running.Add(1); n > int64(e.cfg.MaxSandboxes) {
		e.leave(m)
		e.stats.Refused.Add(1)
		return &wedge.Error{Op: "run guest", Kind: wedge.Unavailable, Err: fmt.Errorf("%d sandboxes run on this node already", e.cfg.MaxSandboxes), Hint: "Add nodes or let clients try again."}
	}
	return nil
}

func (e *Engine) leave(m *Module) {
	m.leave()
	e.stats.Running.Add(-1)
}
