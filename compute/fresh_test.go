package compute

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	w "github.com/wedge-cloud/wedge/internal/wasmtest"
)

// How a canary guest ends.
const (
	endReturn = iota
	endExit
	endExit7
	endTrap
	endLoop   // until its CPU time is up
	endNoRoom // asks for more memory than there is, then traps
	endCrash  // in a hostcall
	numEnds
)

// canaryPages is the initial memory of canary guests: 8 MiB, so that filling all of it goes
// beyond what is copied back page by page.
const canaryPages = 128

// canary is a guest that tells all it can see (size and a sum over its memory, before and after growing,
// its globals), then writes into all it can reach, and ends as it is told.
// Parameters: pages to grow by; distance between writes in bytes; how it ends; where writes begin.
func canary(data string) []byte {
	return program(canaryPages, func(m *w.Module, c calls) {
		m.Data(100, data)
		m.Data(3*65536, data)
		m.Global("i32", true, w.I32(1111))
		m.Global("i64", true, w.I64(2222))
		m.Global("f32", true, w.Op(0x43, 0, 0, 0x80, 0x3f))
		m.Global("f64", true, w.Op(0x44, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f))
		const a, size, step = 0, 1, 2
		m.Func("", "i32 i32 i32 i64", w.Nop) // a function in between
		sum := m.Func("", "i32 i32 i32 i64",
			w.MemorySize, w.Tee(size), w.Call(c.note), w.Drop,
			w.Get(size), w.I32(16), w.Op(0x74), w.Set(size), // pages to bytes
			w.Block(w.Loop(
				w.Get(a), w.Get(size), w.GeU, w.BrIf(1),
				w.Get(3), w.I64(31), w.Op(0x7e), w.Get(a), w.Load64(0), w.Add64, w.Set(3),
				w.Get(a), w.I32(8), w.Add, w.Set(a), w.Br(0))),
			c.tell(w.Get(3), w.Wrap), c.tell(w.Get(3), w.I64(32), w.Op(0x88), w.Wrap))
		m.Main("i32 i32 i32",
			c.tell(w.GlobalGet(0)), c.tell(w.GlobalGet(1), w.Wrap), c.tell(w.GlobalGet(2), w.Op(0xbc)), c.tell(w.GlobalGet(3), w.Op(0xbd), w.Wrap),
			w.Call(sum),
			w.I32(0), w.Call(c.param), w.If(
				w.I32(0), w.Call(c.param), w.MemoryGrow, w.Call(c.note), w.Drop, w.Call(sum)),
			w.I32(-7), w.GlobalSet(0), w.I64(-8), w.GlobalSet(1), w.Op(0x43, 1, 2, 3, 4), w.GlobalSet(2), w.Op(0x44, 1, 2, 3, 4, 5, 6, 7, 8), w.GlobalSet(3),
			w.I32(1), w.Call(c.param), w.Set(step), w.I32(3), w.Call(c.param), w.Set(a), w.MemorySize, w.I32(16), w.Op(0x74), w.Set(size),
			w.Loop(
				w.Get(a), w.I64(0x5ec4e75ec4e7), w.Store64(0),
				w.Get(a), w.Get(step), w.Add, w.Tee(a), w.Get(size), w.LtU, w.BrIf(0)),
			ending(c, endExit, w.I32(0), w.Call(c.exit)),
			ending(c, endExit7, w.I32(7), w.Call(c.exit)),
			ending(c, endTrap, w.Unreachable),
			ending(c, endLoop, w.Forever),
			ending(c, endNoRoom, w.I32(60000), w.MemoryGrow, w.I32(-1), w.Eq, w.If(w.Unreachable)),
			ending(c, endCrash, w.I32(0), w.Call(c.crash), w.Drop),
		)
	})
}

// ending is code for one way to end.
func ending(c calls, end int32, body ...w.Code) w.Code {
	return w.Seq(w.I32(2), w.Call(c.param), w.I32(end), w.Eq, w.If(body...))
}

// canaryLimits give race-detecting machines time, and endless guests little.
var canaryLimits = wedge.Limits{CPU: 400 * time.Millisecond, Memory: 32 << 20}

// TestFresh runs canary guests one after another in every order of ways to write and to end: each
// must see what the very first one saw.
func TestFresh(t *testing.T) {
	e := newEngine(t, Config{})
	m := load(t, e, canary("image"), Options{Limits: canaryLimits})
	checkFresh(t, m, m.engine)
}

func checkFresh(t *testing.T, m *Module, e *Engine) {
	t.Helper()
	first, err := serve(m, 0, 1<<30, endReturn, 0)
	if err != nil {
		t.Fatal(err)
	}
	firstGrown, err := serve(m, 64, 1<<30, endReturn, 0)
	if err != nil {
		t.Fatal(err)
	}
	look := func(after string) {
		t.Helper()
		if got, err := serve(m, 0, 1<<30, endReturn, 0); err != nil || !slices.Equal(got, first) {
			t.Fatalf("after %s a guest sees %v (%v), the first saw %v", after, got, err, first)
		}
		if got, err := serve(m, 64, 1<<30, endReturn, 0); err != nil || !slices.Equal(got, firstGrown) {
			t.Fatalf("after %s a guest that grows sees %v (%v), the first saw %v", after, got, err, firstGrown)
		}
	}
	reused := 0
	for _, grow := range []int32{0, 1, 200} {
		for _, step := range []int32{8 << 10, 64 << 10, 1 << 20, 4096} {
			for end := int32(0); end < numEnds; end++ {
				if end == endLoop && step != 4096 {
					continue // takes its CPU time
				}
				created := e.stats.Created.Load()
				for range 2 { // the second one writes to pages that are private already
					got, err := serve(m, grow, step, end, step/2)
					checkEnd(t, end, err)
					want := first
					if grow != 0 {
						want = append(slices.Clone(first), got[len(first):]...)
					}
					if !slices.Equal(got, want) {
						t.Fatalf("grow %d, step %d, end %d: sees %v, the first saw %v", grow, step, end, got, want)
					}
				}
				if end <= endExit7 && e.stats.Created.Load() == created {
					reused++
				}
				look(fmt.Sprintf("grow %d, step %d, end %d", grow, step, end))
			}
		}
	}
	if m.Info.Unpooled == "" && reused != 3*4*3 {
		t.Errorf("instances were reused in %d of %d cases", reused, 3*4*3)
	}
}

func checkEnd(t *testing.T, end int32, err error) {
	t.Helper()
	switch end {
	case endReturn, endExit:
		if err != nil {
			t.Fatalf("end %d: %v", end, err)
		}
	case endExit7:
		if code, ok := err.(ExitCode); !ok || code != 7 {
			t.Fatalf("end %d: %v", end, err)
		}
	case endTrap, endNoRoom:
		wantKind(t, err, wedge.Trap)
	case endLoop:
		wantKind(t, err, wedge.Exhausted)
	case endCrash:
		wantKind(t, err, wedge.Internal)
	}
}

// TestFreshBetweenPrograms: two programs with the same code share instances and nothing else.
func TestFreshBetweenPrograms(t *testing.T) {
	e := newEngine(t, Config{})
	a := load(t, e, canary("the first program"), Options{Limits: canaryLimits})
	b := load(t, e, canary("another"), Options{Limits: canaryLimits})
	tight := canaryLimits
	tight.Memory = (canaryPages + 70) * 64 << 10
	c := load(t, e, canary("a third, with less memory"), Options{Limits: tight})
	if a.code != b.code || !b.Info.Shared || a.Info.Digest != b.Info.Digest || c.code != a.code {
		t.Fatal("they do not share their code")
	}
	var first [3][]uint32
	programs := []*Module{a, b, c}
	for i, m := range programs {
		first[i], _ = serve(m, 0, 1<<30, endReturn, 0)
	}
	if slices.Equal(first[0], first[1]) || slices.Equal(first[1], first[2]) {
		t.Fatal("they see the same memory")
	}
	created := e.stats.Created.Load()
	for round := range int32(12) {
		for i, m := range programs {
			got, err := serve(m, 60*(round%2), 4096<<(round%5), round%3, 0)
			checkEnd(t, round%3, err)
			if !slices.Equal(got[:len(first[i])], first[i]) {
				t.Fatalf("round %d, program %d sees %v, want %v", round, i, got, first[i])
			}
		}
	}
	if n := e.stats.Created.Load() - created; n > 3 {
		t.Errorf("%d instances were made for one guest at a time", n)
	}
}

// TestFreshWhenRunningAtOnce does so with many at once.
func TestFreshWhenRunningAtOnce(t *testing.T) {
	e := newEngine(t, Config{})
	small := program(2, func(m *w.Module, c calls) {
		m.Data(8, "data")
		m.Global("i32", true, w.I32(5))
		m.Main("i32", c.tell(w.GlobalGet(0)), c.tell(w.I32(8), w.Load(0)), c.tell(w.I32(70000), w.Load(0)),
			c.tell(w.I32(1), w.MemoryGrow), c.tell(w.I32(140000), w.Load(0)),
			w.Call(c.wait), w.Drop,
			w.I32(9), w.GlobalSet(0), w.I32(8), w.I32(9), w.Store(0), w.I32(70000), w.I32(9), w.Store(0), w.I32(140000), w.I32(9), w.Store(0))
	})
	m := load(t, e, small, Options{})
	want := []uint32{5, 0x61746164, 0, 2, 0}
	errs := make(chan error)
	for range 8 {
		go func() {
			for range 200 {
				if got, err := serve(m); err != nil || !slices.Equal(got, want) {
					errs <- fmt.Errorf("sees %v, %v", got, err)
					return
				}
			}
			errs <- nil
		}()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// TestTablesAreFresh: an instance whose tables may have changed serves once.
func TestTablesAreFresh(t *testing.T) {
	e := newEngine(t, Config{})
	m := load(t, e, program(1, func(m *w.Module, c calls) {
		m.Table("funcref", 2)
		f := m.Func("-> i32", "", w.I32(1))
		g := m.Func("-> i32", "", w.I32(2))
		m.Elem(0, f, g)
		call := w.Seq(w.I32(0), w.CallIndirect(m.Type("-> i32")))
		m.Main("", c.tell(call), w.I32(0), w.I32(1), w.TableGet(0), w.TableSet(0), c.tell(call))
	}), Options{})
	for range 5 {
		mustServe(t, m, []uint32{1, 2})
	}
	if m.Info.Unpooled == "" || m.code.idleNow() > 1 || e.stats.Discarded.Load() < 5 {
		t.Errorf("Unpooled %q, %d idle, %d discarded", m.Info.Unpooled, m.code.idleNow(), e.stats.Discarded.Load())
	}
}

// TestRefFuncIsUsedOnce: the engine keeps an object for each ref.func; it must not outlive its request.
func TestRefFuncIsUsedOnce(t *testing.T) {
	e := newEngine(t, Config{})
	m := load(t, e, program(1, func(m *w.Module, c calls) {
		f := m.Func("", "")
		m.RawElem([]byte{3, 0}, w.Vec(f))
		m.Main("i32", w.For(0, 1000, w.RefFunc(f), w.Drop))
	}), Options{})
	for range 3 {
		mustServe(t, m, nil)
	}
	if n := e.stats.Created.Load(); n < 3 {
		t.Errorf("%d instances served 3 requests", n)
	}
}

func TestStartSectionRunsInEachSandbox(t *testing.T) {
	e := newEngine(t, Config{})
	m := load(t, e, program(1, func(m *w.Module, c calls) {
		m.Global("i32", true, w.I32(1))
		m.Start(m.Func("", "", w.GlobalGet(0), w.I32(1), w.Add, w.GlobalSet(0), c.tell(w.I32(50))))
		m.Main("", c.tell(w.GlobalGet(0)))
	}), Options{})
	for range 3 {
		mustServe(t, m, []uint32{50, 2})
	}
}

// TestMemorySizes: edges of what a program may declare.
func TestMemorySizes(t *testing.T) {
	for _, c := range []struct {
		name   string
		memory []byte // the memory section
		limit  uint64
		grow   int32
		want   []uint32 // size, result of grow, size
	}{
		{"none at first", []byte{1, 0, 0}, 1 << 20, 2, []uint32{0, 0, 2}},
		{"none ever", []byte{1, 1, 0, 0}, 1 << 20, 1, []uint32{0, 1<<32 - 1, 0}},
		{"one page", []byte{1, 1, 1, 1}, 1 << 20, 1, []uint32{1, 1<<32 - 1, 1}},
		{"up to its maximum", []byte{1, 1, 1, 3}, 1 << 20, 2, []uint32{1, 1, 3}},
		{"beyond its maximum", []byte{1, 1, 1, 3}, 1 << 20, 3, []uint32{1, 1<<32 - 1, 1}},
		{"up to the limit", []byte{1, 0, 1}, 1 << 20, 15, []uint32{1, 1, 16}},
		{"beyond the limit", []byte{1, 0, 1}, 1 << 20, 16, []uint32{1, 1<<32 - 1, 1}},
		{"a limit that is no whole page", []byte{1, 0, 1}, 1<<20 + 65535, 16, []uint32{1, 1<<32 - 1, 1}},
		{"grow by 0", []byte{1, 0, 1}, 1 << 20, 0, []uint32{1, 1, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEngine(t, Config{})
			m := load(t, e, program(1, func(m *w.Module, k calls) {
				m.Section(w.SecMemory, c.memory)
				m.Main("", k.tell(w.MemorySize), k.tell(w.I32(0), w.Call(k.param), w.MemoryGrow), k.tell(w.MemorySize))
			}), Options{Limits: wedge.Limits{Memory: c.limit}})
			for range 3 {
				mustServe(t, m, c.want, c.grow)
			}
			if n := e.stats.Created.Load(); n != 1 {
				t.Errorf("%d instances", n)
			}
		})
	}
}

// TestFourGiB: an instance that grew to the end of what 32 bits address begins small again.
func TestFourGiB(t *testing.T) {
	if ^uint(0)>>32 == 0 || plain {
		t.Skip("needs address space that costs nothing")
	}
	e := newEngine(t, Config{})
	m := load(t, e, program(1, func(m *w.Module, c calls) {
		m.Main("", c.tell(w.MemorySize), c.tell(w.I32(65534), w.MemoryGrow), c.tell(w.I32(-65536-4), w.Load(0)), w.I32(-65536-4), w.I32(1), w.Store(0), c.tell(w.I32(1), w.MemoryGrow))
	}), Options{Limits: wedge.Limits{Memory: 4 << 30}})
	for range 3 {
		mustServe(t, m, []uint32{1, 1, 0, 1<<32 - 1})
	}
	if n := e.stats.Created.Load(); n != 1 {
		t.Errorf("%d instances", n)
	}
}

// TestStoppedByCaller: a guest whose caller has gone ends and leaves nothing behind.
func TestStoppedByCaller(t *testing.T) {
	e := newEngine(t, Config{})
	m := load(t, e, canary("x"), Options{Limits: wedge.Limits{CPU: time.Minute, Memory: 32 << 20}})
	first, _ := serve(m, 0, 1<<30, endReturn, 0)
	ctx, cancel := context.WithCancelCause(context.Background())
	gone := errors.New("the client has gone")
	go func() {
		eventually(t, "the guest runs", func() bool { return e.stats.Running.Load() > 0 })
		cancel(gone)
	}()
	err := m.Run(ctx, &Sandbox{State: &lab{params: []int32{3, 4096, endLoop, 0}}})
	wantKind(t, err, wedge.Unavailable)
	if !errors.Is(err, gone) {
		t.Errorf("%v does not say why", err)
	}
	mustServe(t, m, first, 0, 1<<30, endReturn, 0)
}
