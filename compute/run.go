package compute

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/wedge-cloud/wedge"
)

// Why guests need slots. Compiled Wasm code cannot be preempted by the Go scheduler: a guest
// in a loop keeps its P, and a garbage collection waits for it. So at most as many guests run
// at once as there are slots, one fewer than GOMAXPROCS allows, and a guest that runs longer
// than a tick is made to call in (its stop flag is set), where it lets the collector and other
// guests have their turn. A guest that waits in a hostcall holds no slot.

// tick is how long a guest runs before it must call in.
const tick = time.Millisecond

// maxCharge bounds what one stretch between two call-ins is charged. A longer stretch means
// that the machine stood still, not that the guest ran.
const maxCharge = 10 * tick

// scheduler hands out slots and watches who holds them.
type scheduler struct {
	slots   chan int
	running []atomic.Pointer[run] // by slot
	waiting atomic.Int64          // runs that wait for a slot

	parked atomic.Bool // the watchdog sleeps because nobody runs
	wake   chan struct{}
	stop   chan struct{}
	done   sync.WaitGroup
}

func newScheduler(slots int) *scheduler {
	s := &scheduler{
		slots:   make(chan int, slots),
		running: make([]atomic.Pointer[run], slots),
		wake:    make(chan struct{}, 1),
		stop:    make(chan struct{}),
	}
	for i := range slots {
		s.slots <- i
	}
	s.done.Add(1)
	go s.watch()
	return s
}

func (s *scheduler) close() {
	close(s.stop)
	s.done.Wait()
}

// watch rings at each guest that has run for a tick.
func (s *scheduler) watch() {
	defer s.done.Done()
	t := time.NewTicker(tick)
	defer t.Stop()
	for idle := 0; ; {
		select {
		case <-s.stop:
			return
		case <-t.C:
		}
		if s.ring() {
			idle = 0
			continue
		}
		if idle++; idle < 100 {
			continue
		}
		idle = 0
		t.Stop()
		s.parked.Store(true)
		if !s.ring() { // somebody may have begun before parked was set
			select {
			case <-s.stop:
				return
			case <-s.wake:
			}
		}
		s.parked.Store(false)
		t.Reset(tick)
	}
}

func (s *scheduler) ring() (anybody bool) {
	now := time.Now()
	for i := range s.running {
		r := s.running[i].Load()
		if r == nil {
			continue
		}
		anybody = true
		if now.Sub(r.began()) >= tick {
			r.ring()
		}
	}
	return anybody
}

// run is one Run of a sandbox: its account of time and its way to be stopped.
type run struct {
	sb     *Sandbox
	inst   *instance
	sched  *scheduler
	limits wedge.Limits
	base   context.Context // of the caller
	node   context.Context // of the engine
	start  time.Time
	slot   int
	mark   atomic.Int64 // when the present stretch of running began, in nanoseconds since start
	cpu    atomic.Int64 // nanoseconds of guest time before the present stretch

	ended  chan error // of a parked instance's run
	denied bool       // memory was asked for and refused

	mu     sync.Mutex
	ctx    context.Context // made when first asked for
	cancel context.CancelCauseFunc
	timer  *time.Timer
	unhook func() bool
}

// limitError is how a run ends that used up its time.
type limitError struct{ err *wedge.Error }

func (e *limitError) Error() string { return e.err.Error() }

func (r *run) began() time.Time { return r.start.Add(time.Duration(r.mark.Load())) }

// acquire waits for a slot and starts the clock.
func (r *run) acquire() {
	s := r.sched
	select {
	case r.slot = <-s.slots:
	default:
		s.waiting.Add(1)
		r.slot = <-s.slots
		s.waiting.Add(-1)
	}
	r.mark.Store(int64(time.Since(r.start)))
	s.running[r.slot].Store(r)
	if s.parked.Load() {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// release stops the clock and gives the slot back.
func (r *run) release() {
	r.charge()
	r.sched.running[r.slot].Store(nil)
	r.sched.slots <- r.slot
}

// charge adds the present stretch to the account and begins a new one.
func (r *run) charge() {
	now := int64(time.Since(r.start))
	d := now - r.mark.Swap(now)
	r.cpu.Add(min(d, int64(maxCharge)))
}

// used returns the guest time used so far.
func (r *run) used() time.Duration {
	d := int64(time.Since(r.start)) - r.mark.Load()
	return time.Duration(r.cpu.Load() + min(d, int64(maxCharge)))
}

// ring makes the guest call in at its next check. The flag is a plain Wasm global, written
// while the guest reads it: it is a doorbell, a lost or late ring does no harm.
func (r *run) ring() { r.inst.stop.Set(1) }

// interrupt is what the guest calls when its flag is set.
func (r *run) interrupt() {
	r.inst.stop.Set(0)
	r.charge()
	if err := r.overTime(); err != nil {
		panic(err)
	}
	if r.sched.waiting.Load() > 0 {
		r.release()
		runtime.Gosched()
		r.acquire()
		return
	}
	runtime.Gosched()
}

func (r *run) overTime() error {
	if used := time.Duration(r.cpu.Load()); used > r.limits.CPU {
		return &limitError{&wedge.Error{Op: "run guest", Kind: wedge.Exhausted,
			Err: fmt.Errorf("it used its CPU time of %v", r.limits.CPU), Hint: "Make the guest do less per request, or raise limits.cpu."}}
	}
	if time.Since(r.start) > r.limits.Wall {
		return r.overWall()
	}
	for _, ctx := range [...]context.Context{r.base, r.node} {
		if ctx.Err() != nil {
			return &limitError{&wedge.Error{Op: "run guest", Kind: wedge.Unavailable, Err: context.Cause(ctx)}}
		}
	}
	return nil
}

func (r *run) overWall() error {
	return &limitError{&wedge.Error{Op: "run guest", Kind: wedge.Timeout,
		Err: fmt.Errorf("it ran longer than %v", r.limits.Wall), Hint: "A backend may be slow: set its timeouts, or raise limits.wall."}}
}

// context returns a context that ends when the run must, making it on first use: most
// requests never wait for anything.
func (r *run) context() context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx == nil {
		r.ctx, r.cancel = context.WithCancelCause(r.base)
		r.unhook = context.AfterFunc(r.node, func() { r.cancel(context.Cause(r.node)) })
		r.timer = time.AfterFunc(r.limits.Wall-time.Since(r.start), func() { r.cancel(r.overWall()) })
	}
	return r.ctx
}

// finish ends the context, if there is one.
func (r *run) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx == nil {
		r.ctx = endedContext
		return
	}
	r.timer.Stop()
	r.unhook()
	r.cancel(errEnded)
}

var errEnded = errors.New("the sandbox has ended")

// endedContext is the context of every run that ended without having asked for one.
var endedContext = func() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errEnded)
	return ctx
}()

func (r *run) block(wait func(context.Context)) {
	ctx := r.context()
	r.release()
	wait(ctx)
	r.acquire()
	if err := context.Cause(ctx); err != nil {
		if l, ok := err.(*limitError); ok {
			panic(l)
		}
		panic(&limitError{&wedge.Error{Op: "run guest", Kind: wedge.Unavailable, Err: err}})
	}
}

// runKey finds the runContext in a context that wazero has wrapped.
type runKey struct{}

// runContext is the context given to wazero: it carries an instance and its present run.
type runContext struct {
	context.Context
	inst *instance
	run  *run
}

func (c *runContext) Value(key any) any {
	if _, ok := key.(runKey); ok {
		return c
	}
	return nil
}

func runContextOf(ctx context.Context) *runContext {
	if c, ok := ctx.(*runContext); ok {
		return c
	}
	c, _ := ctx.Value(runKey{}).(*runContext)
	return c
}

func runOf(ctx context.Context) *run { return runContextOf(ctx).run }

func instanceOf(ctx context.Context) *instance { return runContextOf(ctx).inst }

func interrupt(ctx context.Context, _ []uint64) { runOf(ctx).interrupt() }

var _ api.GoFunc = interrupt
