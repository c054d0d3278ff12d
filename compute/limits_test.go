package compute

import (
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	w "github.com/wedge-cloud/wedge/internal/wasmtest"
)

// greedy is a guest that parameter 0 tells what to use up; anything else makes it note 1.
func greedy() []byte {
	return program(1, func(m *w.Module, c calls) {
		deep := m.Declare("i64 -> i64")
		m.Define(deep, "", w.Get(0), w.I64(1), w.Add64, w.Call(deep), w.Get(0), w.Add64)
		halves := m.Declare("i32")
		m.Define(halves, "", w.Get(0), w.If(w.Get(0), w.I32(1), w.Sub, w.Call(halves), w.Get(0), w.I32(1), w.Sub, w.Call(halves)))
		choice := func(n int32, body ...w.Code) w.Code {
			return w.Seq(w.I32(0), w.Call(c.param), w.I32(n), w.Eq, w.If(body...))
		}
		m.Main("i32",
			choice(1, w.Forever),
			choice(2, w.Loop(c.tell(w.I32(2)), w.Br(0))),                       // hostcalls that do not wait
			choice(3, w.Loop(w.Call(c.wait), w.Drop, w.For(0, 2000), w.Br(0))), // waits often, briefly
			choice(4, w.I32(60), w.Call(halves)),
			choice(5, w.I64(0), w.Call(deep), w.Drop),
			choice(6, w.Call(c.wait), w.Drop),
			choice(7, w.Loop(w.I32(0), w.I32(0), w.I32(65536), w.MemoryFill, w.Br(0))),
			c.tell(w.I32(1)))
	})
}

func TestCPULimit(t *testing.T) {
	e := newEngine(t, Config{})
	m := load(t, e, greedy(), Options{Name: "shop", Limits: wedge.Limits{CPU: 60 * time.Millisecond}})
	for _, how := range []int32{1, 2, 3, 4, 7} {
		l := &lab{params: []int32{how}, wait: func(context.Context) {}}
		sb := &Sandbox{State: l, Limits: wedge.Limits{Hostcalls: 1 << 40}}
		err := m.Run(context.Background(), sb)
		wantKind(t, err, wedge.Exhausted)
		if !strings.Contains(err.Error(), "shop") || !strings.Contains(err.Error(), "CPU") || wedge.HintOf(err) == "" {
			t.Errorf("way %d: error %v, hint %q", how, err, wedge.HintOf(err))
		}
		if cpu := sb.CPU(); cpu < 60*time.Millisecond || cpu > 120*time.Millisecond {
			t.Errorf("way %d: ended after %v", how, cpu)
		}
		mustServe(t, m, []uint32{1}, 0)
	}
}

// TestWaitingIsNotCPU: a guest may wait longer than its CPU time.
func TestWaitingIsNotCPU(t *testing.T) {
	e := newEngine(t, Config{})
	m := load(t, e, greedy(), Options{Limits: wedge.Limits{CPU: 30 * time.Millisecond}})
	sb := &Sandbox{State: &lab{params: []int32{6}, wait: func(context.Context) { time.Sleep(100 * time.Millisecond) }}}
	if err := m.Run(context.Background(), sb); err != nil {
		t.Fatal(err)
	}
	if cpu := sb.CPU(); cpu > 30*time.Millisecond {
		t.Errorf("%v of CPU", cpu)
	}
}

func TestWallLimit(t *testing.T) {
	e := newEngine(t, Config{})
	m := load(t, e, greedy(), Options{Limits: wedge.Limits{Wall: 50 * time.Millisecond, CPU: time.Minute}})
	untilEnd := func(ctx context.Context) { <-ctx.Done() }
	for how, wait := range map[int32]func(context.Context){6: untilEnd, 1: nil, 3: func(context.Context) {}} {
		err := m.Run(context.Background(), &Sandbox{State: &lab{params: []int32{how}, wait: wait}})
		wantKind(t, err, wedge.Timeout)
		mustServe(t, m, []uint32{1}, 0)
	}
}

// TestNextRequest: the limits of time are per request, not per sandbox.
func TestNextRequest(t *testing.T) {
	e := newEngine(t, Config{})
	m := load(t, e, program(1, func(m *w.Module, c calls) {
		m.Main("i32 i32", w.For(1, 4, w.Call(c.wait), w.Drop, w.For(0, 10_000_000)))
	}), Options{Limits: wedge.Limits{Wall: time.Second, CPU: 5 * time.Second}})
	sb := &Sandbox{}
	sb.State = &lab{wait: func(ctx context.Context) {
		time.Sleep(300 * time.Millisecond)
		sb.NextRequest()
	}}
	if err := m.Run(context.Background(), sb); err != nil {
		t.Error(err)
	}
}

func TestCallerAndNodeEnd(t *testing.T) {
	for _, how := range []int32{1, 6} {
		e := newEngine(t, Config{})
		m := load(t, e, greedy(), Options{Limits: wedge.Limits{CPU: time.Minute}})
		l := &lab{params: []int32{how}, wait: func(ctx context.Context) { <-ctx.Done() }}
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(context.Background())
		time.AfterFunc(10*time.Millisecond, func() { cancel(gone) })
		err := m.Run(ctx, &Sandbox{State: l})
		wantKind(t, err, wedge.Unavailable)
		if !errors.Is(err, gone) {
			t.Errorf("%v does not say why", err)
		}
		time.AfterFunc(10*time.Millisecond, e.Interrupt)
		wantKind(t, m.Run(context.Background(), &Sandbox{State: l}), wedge.Unavailable)
	}
}

func TestHostcallLimit(t *testing.T) {
	e := newEngine(t, Config{})
	m := load(t, e, greedy(), Options{Limits: wedge.Limits{CPU: time.Minute}})
	l := &lab{params: []int32{2}}
	err := m.Run(context.Background(), &Sandbox{State: l, Limits: wedge.Limits{Hostcalls: 1000}})
	wantKind(t, err, wedge.Exhausted)
	if n := len(l.notes); n < 990 || n > 1000 {
		t.Errorf("%d notes were let through", n)
	}
	// A sandbox that names no limit has the default one.
	sb := &Sandbox{State: &lab{params: []int32{0}}}
	if err := m.Run(context.Background(), sb); err != nil || sb.Limits.Hostcalls != wedge.DefaultLimits.Hostcalls {
		t.Errorf("%v, limit %d", err, sb.Limits.Hostcalls)
	}
}

func TestMemoryLimit(t *testing.T) {
	e := newEngine(t, Config{})
	m := load(t, e, program(1, func(m *w.Module, c calls) {
		m.Main("", c.tell(w.I32(100), w.MemoryGrow), w.I32(0), w.Call(c.param), w.If(w.Unreachable))
	}), Options{Limits: wedge.Limits{Memory: 1 << 20}})
	for range 2 {
		mustServe(t, m, []uint32{1<<32 - 1}, 0)
		_, err := serve(m, 1)
		wantKind(t, err, wedge.Trap)
		if !strings.Contains(wedge.HintOf(err), "limits.memory") {
			t.Errorf("hint %q", wedge.HintOf(err))
		}
	}
}

// TestGarbageCollectionDuringHogs: while a guest runs nothing can stop it from outside, not even the
// start of a collection, which itself stops the watchdog. It has to come by itself.
func TestGarbageCollectionDuringHogs(t *testing.T) {
	e := newEngine(t, Config{})
	m := load(t, e, greedy(), Options{Limits: wedge.Limits{CPU: 100 * time.Millisecond}})
	stop := make(chan struct{})
	done := make(chan int)
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-stop:
				done <- n
				return
			default:
				runtime.GC()
			}
		}
	}()
	for _, how := range []int32{1, 4, 7} {
		_, err := serve(m, how)
		wantKind(t, err, wedge.Exhausted)
	}
	close(stop)
	if n := <-done; n < 1 {
		t.Errorf("%d collections", n)
	}
}

// TestHogsStarveNobody: four times as many endless guests as slots, and others are served meanwhile.
func TestHogsStarveNobody(t *testing.T) {
	e := newEngine(t, Config{})
	hog := load(t, e, greedy(), Options{Limits: wedge.Limits{CPU: 250 * time.Millisecond}})
	polite := load(t, e, program(1, func(m *w.Module, c calls) { m.Main("i32", w.For(0, 1000), c.tell(w.I32(5))) }), Options{})
	hogs := 4 * e.cfg.Slots
	var ended atomic.Int64
	var all sync.WaitGroup
	for range hogs {
		all.Go(func() {
			_, err := serve(hog, 1)
			ended.Add(1)
			if wedge.KindOf(err) != wedge.Exhausted {
				t.Errorf("a hog ended with %v", err)
			}
		})
	}
	eventually(t, "all hogs run", func() bool { return hog.running.Load() == int64(hogs) || ended.Load() > 0 })
	collecting := make(chan struct{})
	go func() {
		defer close(collecting)
		for ended.Load() == 0 {
			runtime.GC()
		}
	}()
	served := 0
	for ended.Load() == 0 {
		mustServe(t, polite, []uint32{5})
		served++
	}
	if served < 3 {
		t.Errorf("%d requests served before the first hog was ended", served)
	}
	all.Wait()
	<-collecting
	if e.stats.Running.Load() != 0 || hog.running.Load() != 0 {
		t.Errorf("%d still counted as running", e.stats.Running.Load())
	}
	mustServe(t, hog, []uint32{1}, 0)
}

// TestDeepRecursion: wazero keeps the guest's native stack on the Go heap and lets it grow to some
// 100 MB. It ends, and the memory comes back.
func TestDeepRecursion(t *testing.T) {
	e := newEngine(t, Config{})
	m := load(t, e, greedy(), Options{Limits: wedge.Limits{CPU: 5 * time.Second}})
	heap := func() uint64 {
		debug.FreeOSMemory()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapInuse
	}
	before := heap()
	_, err := serve(m, 5)
	wantKind(t, err, wedge.Trap)
	if !strings.Contains(err.Error(), "stack overflow") {
		t.Error(err)
	}
	if after := heap(); after > before+16<<20 {
		t.Errorf("%d MiB of heap before, %d MiB after", before>>20, after>>20)
	}
	mustServe(t, m, []uint32{1}, 0)
}

// TestDeepStackIsNotKept: a guest that recursed deep and came back well leaves no large stack in the pool.
func TestDeepStackIsNotKept(t *testing.T) {
	e := newEngine(t, Config{})
	m := load(t, e, program(1, func(m *w.Module, c calls) {
		deep := m.Declare("i32")
		m.Define(deep, "", w.Get(0), w.If(w.Get(0), w.I32(1), w.Sub, w.Call(deep)))
		m.Main("", w.I32(1_000_000), w.Call(deep), c.tell(w.I32(1)))
	}), Options{Limits: wedge.Limits{CPU: 5 * time.Second}})
	heap := func() uint64 {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	before := heap()
	mustServe(t, m, []uint32{1})
	if after := heap(); after > before+8<<20 {
		t.Errorf("the pool keeps %d MiB", (after-before)>>20)
	}
	if m.code.idleNow() != 1 {
		t.Errorf("%d idle instances", m.code.idleNow())
	}
}

// TestPanickingFunc: a bug in a hostcall is the host's fault and ends that one run.
func TestPanickingFunc(t *testing.T) {
	e := newEngine(t, Config{Slots: 1})
	m := load(t, e, program(1, func(m *w.Module, c calls) {
		m.Main("", w.I32(0), w.Call(c.param), w.Call(c.crash), w.Drop, c.tell(w.I32(1)))
	}), Options{})
	for how, text := range []string{"nil pointer", "a string", "an error", "while waiting"} {
		_, err := serve(m, int32(how))
		wantKind(t, err, wedge.Internal)
		for _, want := range []string{text, defCrash.String(), "labFuncs", "lab_test.go"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("panic %d: the error does not contain %q:\n%v", how, want, err)
			}
		}
		mustServe(t, m, []uint32{1}, 9) // the only slot is free again
		if n := len(e.sched.free); n != 1 {
			t.Errorf("panic %d: %d free slots", how, n)
		}
	}
}

func TestOverload(t *testing.T) {
	e := newEngine(t, Config{MaxSandboxes: 3})
	one := load(t, e, greedy(), Options{Concurrency: 2})
	other := load(t, e, greedy(), Options{})
	release := make(chan struct{})
	var all sync.WaitGroup
	block := func(m *Module) {
		all.Go(func() {
			err := m.Run(context.Background(), &Sandbox{State: &lab{params: []int32{6}, wait: func(context.Context) { <-release }}})
			if err != nil {
				t.Error(err)
			}
		})
	}
	block(one)
	block(one)
	eventually(t, "two run", func() bool { return e.stats.Running.Load() == 2 })
	_, err := serve(one, 0)
	wantKind(t, err, wedge.Unavailable)
	mustServe(t, other, []uint32{1}, 0)
	block(other)
	eventually(t, "three run", func() bool { return e.stats.Running.Load() == 3 })
	_, err = serve(other, 0)
	wantKind(t, err, wedge.Unavailable)
	if wedge.HintOf(err) == "" || e.stats.Refused.Load() != 2 {
		t.Errorf("hint %q, %d refused", wedge.HintOf(err), e.stats.Refused.Load())
	}
	close(release)
	all.Wait()
	mustServe(t, one, []uint32{1}, 0)
	mustServe(t, other, []uint32{1}, 0)
}

// TestTooLongQueue: a service whose guests wait too long for a slot is refused more, another is not.
func TestTooLongQueue(t *testing.T) {
	e := newEngine(t, Config{Slots: 1, MaxDelay: time.Nanosecond})
	busy := load(t, e, greedy(), Options{Limits: wedge.Limits{CPU: 100 * time.Millisecond}})
	other := load(t, e, greedy(), Options{})
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() { _, _ = serve(busy, 1) })
	}
	refused := false
	for busy.running.Load() < 2 && e.stats.Refused.Load() == 0 {
		runtime.Gosched()
	}
	for range 1000 {
		if _, err := serve(busy, 0); err != nil {
			wantKind(t, err, wedge.Unavailable)
			refused = true
			break
		}
	}
	mustServe(t, other, []uint32{1}, 0)
	all.Wait()
	if !refused {
		t.Error("nothing was refused")
	}
}

// TestWaitingGuests: two thousand guests that wait hold neither a slot nor a thread.
func TestWaitingGuests(t *testing.T) {
	const guests = 2000
	e := newEngine(t, Config{})
	m := load(t, e, greedy(), Options{Limits: wedge.Limits{Memory: 64 << 10}})
	threads := threadCount()
	var inside atomic.Int64
	release := make(chan struct{})
	errs := make(chan error, guests)
	for range guests {
		go func() {
			errs <- m.Run(context.Background(), &Sandbox{State: &lab{params: []int32{6}, wait: func(context.Context) {
				inside.Add(1)
				<-release
			}}})
		}()
	}
	eventually(t, "all wait at once", func() bool { return inside.Load() == guests })
	if n := threadCount() - threads; n > 20 {
		t.Errorf("%d more threads", n)
	}
	mustServe(t, m, []uint32{1}, 0)
	close(release)
	for range guests {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	if n := e.stats.Discarded.Load(); n != 0 {
		t.Errorf("%d instances discarded", n)
	}
}

// TestHostKeepsAProcessor: however many guests run, the host has one P left.
func TestHostKeepsAProcessor(t *testing.T) {
	e := newEngine(t, Config{})
	load(t, e, greedy(), Options{})
	if n := runtime.GOMAXPROCS(0); e.cfg.Slots >= n || e.cfg.Slots < 1 {
		t.Errorf("%d slots, GOMAXPROCS is %d", e.cfg.Slots, n)
	}
}
