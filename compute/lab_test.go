package compute

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	w "github.com/wedge-cloud/wedge/internal/wasmtest"
)

// What test guests import. The hostcalls are real ones by name and signature; what they do is the tests' own.
type calls struct {
	param   uint32 // (i) -> value: the test's parameter i
	note    uint32 // (value): tells the test; answered: yields, too
	wait    uint32 // (): waits in Block for what the test says
	random  uint32 // (ptr, len)
	crash   uint32 // (n): a bug in the host
	exit    uint32 // (code)
	ask     uint32 // (ptr, ptr): asks for the request
	missing uint32 // a fastly_* call that nobody implements
}

var (
	defParam  = abi.Lookup(wasiModule, "fd_close")
	defNote   = abi.Lookup(wasiModule, "fd_sync")
	defWait   = abi.Lookup(wasiModule, "sched_yield")
	defRandom = abi.Lookup(wasiModule, "random_get")
	defCrash  = abi.Lookup(wasiModule, "fd_datasync")
	defExit   = abi.Lookup(wasiModule, "proc_exit")
	defAsk    = abi.Lookup("fastly_http_req", "body_downstream_get")
)

// answered is what a guest notes to say that its answer is out.
const answered = 1000

// lab is the State of test sandboxes.
type lab struct {
	params    []int32
	notes     []uint32
	wait      func(context.Context)
	inherited any
	refuse    error // of Inherit
	asked     int
}

func (l *lab) Inherit(template any) error {
	l.inherited = template
	return l.refuse
}

func labOf(c *Call) *lab { return c.Sandbox.State.(*lab) }

var drawn atomic.Uint32 // what random gives: a number never seen before

func labFuncs() map[*abi.Def]Func {
	return map[*abi.Def]Func{
		defParam: func(c *Call) abi.Status { return abi.Status(labOf(c).params[c.U32(0)]) },
		defNote: func(c *Call) abi.Status {
			labOf(c).notes = append(labOf(c).notes, c.U32(0))
			if c.U32(0) == answered {
				c.Yield()
			}
			return 0
		},
		defWait: func(c *Call) abi.Status {
			c.Block(labOf(c).wait)
			return 0
		},
		defRandom: func(c *Call) abi.Status {
			c.PutU32(c.U32(0), drawn.Add(1))
			return 0
		},
		defCrash: func(c *Call) abi.Status {
			switch c.U32(0) {
			case 0:
				var none *lab
				none.asked++
			case 1:
				panic("a string")
			case 2:
				panic(errors.New("an error"))
			case 3:
				c.Block(func(context.Context) { panic("while waiting") })
			}
			return 0
		},
		defExit: func(c *Call) abi.Status { c.Exit(c.U32(0)); return 0 },
		defAsk: func(c *Call) abi.Status {
			labOf(c).asked++
			c.PutU32(c.U32(0), 11)
			c.PutU32(c.U32(1), 12)
			return 0
		},
	}
}

// program builds a guest with a memory of so many pages and all calls imported.
func program(pages uint32, build func(m *w.Module, c calls)) []byte {
	m := w.New()
	c := calls{
		param:   m.Import(wasiModule, "fd_close", "i32 -> i32"),
		note:    m.Import(wasiModule, "fd_sync", "i32 -> i32"),
		wait:    m.Import(wasiModule, "sched_yield", "-> i32"),
		random:  m.Import(wasiModule, "random_get", "i32 i32 -> i32"),
		crash:   m.Import(wasiModule, "fd_datasync", "i32 -> i32"),
		exit:    m.Import(wasiModule, "proc_exit", "i32"),
		ask:     m.Import("fastly_http_req", "body_downstream_get", "i32 i32 -> i32"),
		missing: m.Import("fastly_tomorrow", "call", "i32 -> i32"),
	}
	m.Memory(pages)
	build(m, c)
	return m.Bytes()
}

// tell is code that notes the value that code leaves on the stack.
func (c calls) tell(code ...w.Code) w.Code { return w.Seq(w.Seq(code...), w.Call(c.note), w.Drop) }

func newEngine(t testing.TB, cfg Config) *Engine {
	t.Helper()
	if cfg.Funcs == nil {
		cfg.Funcs = labFuncs()
	}
	cfg.ParkAt = defAsk
	e := New(cfg)
	t.Cleanup(e.Close)
	return e
}

func load(t testing.TB, e *Engine, src []byte, opt Options) *Module {
	t.Helper()
	if opt.Name == "" {
		opt.Name = "guest"
	}
	m, err := e.Load(context.Background(), src, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// serve runs a guest once with parameters and returns what it noted.
func serve(m *Module, params ...int32) ([]uint32, error) {
	l := &lab{params: params, wait: func(context.Context) {}}
	err := m.Run(context.Background(), &Sandbox{State: l})
	return l.notes, err
}

func mustServe(t *testing.T, m *Module, want []uint32, params ...int32) {
	t.Helper()
	got, err := serve(m, params...)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("noted %v, %v; want %v", got, err, want)
	}
}

func wantKind(t *testing.T, err error, kind wedge.Kind) {
	t.Helper()
	if err == nil || wedge.KindOf(err) != kind {
		t.Fatalf("%v (%v), want kind %v", err, wedge.KindOf(err), kind)
	}
}

// eventually waits for something that other goroutines bring about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<16)
			t.Fatalf("never: %s\n%s", what, buf[:runtime.Stack(buf, true)])
		}
	}
}

func (c *code) idleNow() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.idle)
}

func (c *code) liveNow() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.live
}
