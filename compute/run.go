package compute

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/wasm"
)

// Why guests need slots. Compiled Wasm code cannot be preempted by the Go scheduler: a guest
// in a loop keeps its P, and a garbage collection waits for it. So at most as many guests run
// at once as there are slots, one fewer than GOMAXPROCS allows, and a guest calls in when its
// fuel is used up (see wasm/check.go); if it has run longer than a tick it then lets other guests
// have their turn. A guest that waits in a hostcall holds no slot.
//
// The watchdog takes the fuel of guests that have run for a tick. It only makes guests come sooner
// whose code is slow for what it costs. Nothing may depend on it: when a collection wants to
// begin, the watchdog is stopped and the guests are not.

// tick is how long a guest runs before it must call in.
const tick = time.Millisecond

// maxCharge bounds what one stretch between two call-ins is charged. A longer stretch means
// that the machine stood still, not that the guest ran.
const maxCharge = 10 * tick

// scheduler hands out slots, in turn between services and first come first served within
// one, and watches who holds them.
type scheduler struct {
	running []atomic.Pointer[run] // by slot

	mu      sync.Mutex
	free    []int
	ring    []*queue // services that have runs waiting; the first one is next
	waiting atomic.Int64

	parked atomic.Bool // the watchdog sleeps because nobody runs
	wake   chan struct{}
	stop   chan struct{}
	done   sync.WaitGroup
}

// queue holds one service's runs that wait for a slot. It is guarded by scheduler.mu.
//
// Guests whose memory is packed stand in a line of their own, and give way: of thousands that a slow
// backend answers at once, few should be unpacked before the first have ended. Each
// coldTurn-th slot is theirs in any case.
type queue struct {
	waiters []waiter
	cold    []waiter
	turns   int // since one of the cold had its turn
}

const coldTurn = 8

// standing says where a run stands that waits for a slot.
type standing uint8

const (
	warm  standing = iota
	front          // before all others: its answer is out, and its memory in the caches
	cold           // its memory is packed
)

func (q *queue) empty() bool { return len(q.waiters)+len(q.cold) == 0 }

func (q *queue) add(w waiter, where standing) {
	switch where {
	case warm:
		q.waiters = append(q.waiters, w)
	case front:
		q.waiters = slices.Insert(q.waiters, 0, w)
	case cold:
		q.cold = append(q.cold, w)
	}
}

// next takes out whose turn it is. The queue is not empty.
func (q *queue) next() (w waiter) {
	q.turns++
	line := &q.waiters
	if len(q.cold) > 0 && (len(q.waiters) == 0 || q.turns >= coldTurn) {
		line, q.turns = &q.cold, 0
	}
	w = (*line)[0]
	*line = (*line)[1:]
	return w
}

type waiter struct {
	slot  chan int
	since time.Time
}

func newScheduler(slots int) *scheduler {
	s := &scheduler{
		running: make([]atomic.Pointer[run], slots),
		wake:    make(chan struct{}, 1),
		stop:    make(chan struct{}),
	}
	for i := range slots {
		s.free = append(s.free, i)
	}
	s.done.Add(1)
	go s.watch()
	return s
}

// take returns a slot, waiting for it in r's queue if there is none.
func (s *scheduler) take(r *run, where standing) int {
	q := r.queue
	s.mu.Lock()
	if n := len(s.free); n > 0 {
		slot := s.free[n-1]
		s.free = s.free[:n-1]
		s.mu.Unlock()
		return slot
	}
	w := waiter{make(chan int, 1), time.Now()}
	if q.empty() {
		s.ring = append(s.ring, q)
	}
	q.add(w, where)
	s.waiting.Add(1)
	s.mu.Unlock()
	r.sb.Coroutine.Wait()
	return <-w.slot
}

// give hands a slot to the next service's first run, or keeps it.
func (s *scheduler) give(slot int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ring) == 0 {
		s.free = append(s.free, slot)
		return
	}
	q := s.ring[0]
	w := q.next()
	s.ring = append(s.ring[:0], s.ring[1:]...)
	if !q.empty() {
		s.ring = append(s.ring, q)
	}
	s.waiting.Add(-1)
	w.slot <- slot
}

// delay returns how long the run has waited that is next in q.
func (s *scheduler) delay(q *queue) time.Duration {
	if s.waiting.Load() == 0 {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(q.waiters) == 0 {
		return 0
	}
	return time.Since(q.waiters[0].since)
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
		if s.ringAll() {
			idle = 0
			continue
		}
		if idle++; idle < 100 {
			continue
		}
		idle = 0
		t.Stop()
		s.parked.Store(true)
		if !s.ringAll() { // somebody may have begun before parked was set
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

func (s *scheduler) ringAll() (anybody bool) {
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
	queue  *queue // of its service
	limits wedge.Limits
	base   context.Context // of the caller
	node   context.Context // of the engine
	start  time.Time
	slot   int
	mark   atomic.Int64 // when the present stretch of running began, in nanoseconds since start
	cpu    atomic.Int64 // nanoseconds of guest time before the present stretch
	// Where the present request began, for a sandbox that serves several: its share of the two clocks.
	wallFrom, cpuFrom atomic.Int64

	denied bool // a parked instance asked for memory and was refused

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
	r.slot = r.sched.take(r, warm)
	r.begin()
}

// begin starts the clock of a run that has its slot.
func (r *run) begin() {
	s := r.sched
	r.mark.Store(int64(time.Since(r.start)))
	s.running[r.slot].Store(r)
	if s.parked.Load() {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// stop stops the clock; the slot is kept.
func (r *run) stop() {
	r.charge()
	r.sched.running[r.slot].Store(nil)
}

func (r *run) giveSlot() { r.sched.give(r.slot) }

// release stops the clock and gives the slot back.
func (r *run) release() {
	r.stop()
	r.giveSlot()
}

// yield lets whoever waits for the answer send it. Who does so as the guest's other half must not
// be trusted with the slot: a client may be slow to take it. Such a guest comes before
// others afterwards, for its instance's memory is in the caches still.
func (r *run) yield() {
	if r.sb.Coroutine.Rests() {
		r.release()
		r.sb.Coroutine.rest()
		r.slot = r.sched.take(r, front)
		r.begin()
		return
	}
	r.charge()
	runtime.Gosched()
	r.mark.Store(int64(time.Since(r.start)))
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

// ring makes the guest call in at its next check. The fuel is a plain Wasm global, written
// while the guest counts it down: a ring may get lost, and does no harm.
func (r *run) ring() { r.inst.setFuel(0) }

// interrupt is what the guest calls when its fuel is used up.
func (r *run) interrupt() {
	r.inst.setFuel(wasm.Fuel)
	if time.Since(r.began()) < tick {
		return // to have called in is enough: a garbage collection could begin
	}
	r.charge()
	if err := r.overTime(); err != nil {
		panic(err)
	}
	r.sb.Coroutine.Wait()
	if r.sched.waiting.Load() > 0 {
		r.release()
		runtime.Gosched()
		r.acquire()
		return
	}
	runtime.Gosched()
}

func (r *run) overTime() error {
	if used := time.Duration(r.cpu.Load() - r.cpuFrom.Load()); used > r.limits.CPU {
		return &limitError{&wedge.Error{Op: "run guest", Kind: wedge.Exhausted,
			Err: fmt.Errorf("it used its CPU time of %v", r.limits.CPU), Hint: "Make the guest do less per request, or raise limits.cpu."}}
	}
	if r.wallLeft() < 0 {
		return r.overWall()
	}
	for _, ctx := range [...]context.Context{r.base, r.node} {
		if ctx.Err() != nil {
			return &limitError{&wedge.Error{Op: "run guest", Kind: wedge.Unavailable, Err: context.Cause(ctx)}}
		}
	}
	return nil
}

func (r *run) wallLeft() time.Duration {
	return r.limits.Wall - time.Since(r.start) + time.Duration(r.wallFrom.Load())
}

// nextRequest begins the limits of time anew.
func (r *run) nextRequest() {
	r.charge()
	r.cpuFrom.Store(r.cpu.Load())
	r.wallFrom.Store(int64(time.Since(r.start)))
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer.Reset(r.limits.Wall)
	}
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
		r.timer = time.AfterFunc(r.wallLeft(), func() { r.cancel(r.overWall()) })
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
	r.wait(ctx, wait)
	if err := context.Cause(ctx); err != nil {
		if l, ok := err.(*limitError); ok {
			panic(l)
		}
		panic(&limitError{&wedge.Error{Op: "run guest", Kind: wedge.Unavailable, Err: err}})
	}
	// A guest that waits often may never run for a tick, and so never be made to call in.
	if err := r.overTime(); err != nil {
		panic(err)
	}
}

func (r *run) wait(ctx context.Context, wait func(context.Context)) {
	r.release()
	r.sb.Coroutine.Wait()
	r.inst.nap.begin()
	defer r.resume() // also if wait panics: whoever ends the run gives the slot back
	wait(ctx)
}

// resume ends a wait: it waits for a slot, unpacks the memory if need be, and starts the clock.
func (r *run) resume() {
	packed := r.inst.nap.end()
	where := warm
	if packed {
		where = cold
	}
	r.slot = r.sched.take(r, where)
	if packed {
		r.inst.mem.region.unpack(r.inst.mem.image)
	}
	r.begin()
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
