package compute

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero/sys"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/wasm"
)

// Options of one program.
type Options struct {
	Name        string       // for messages
	Limits      wedge.Limits // zero fields: the defaults
	Start       wedge.Start
	Concurrency int // sandboxes at once; 0: the engine's bound

	// Template returns a sandbox for a guest's start-up, with snapshot start.
	Template func() *Sandbox
}

// Module is a program made ready to run: shared code, and the image that makes it this
// program. It is safe for concurrent use.
type Module struct {
	engine  *Engine
	code    *code
	image   *image
	opt     Options
	running atomic.Int64
	queue   queue // of runs that wait for their turn
	closed  atomic.Bool
	freed   sync.Once
	Info    ModuleInfo
}

// ModuleInfo says what the engine made of a program.
type ModuleInfo struct {
	Digest    string // of the code, hex; equal digests share one pool
	CodeBytes int    // of Wasm, without data
	DataBytes int    // of initial memory
	Shared    bool   // the code was there already: nothing was compiled
	Took      time.Duration
	Unpooled  string   // why instances are used once; "" if they are reused
	Stubs     []string // imports that answer "unsupported"
	CGI       bool     // imports no fastly_* call: a plain WASI program
}

// Load prepares a program: splits it, compiles its code unless some program brought the same
// code before, and makes its memory image. Errors are of kind Invalid or Unsupported
// for a bad module, with a hint for its author.
func (e *Engine) Load(ctx context.Context, src []byte, opt Options) (*Module, error) {
	began := time.Now()
	opt.Limits = opt.Limits.WithDefaults()
	opt.Limits.Memory = min(opt.Limits.Memory, maxMemory)
	split := wasm.Options{MaxMemory: opt.Limits.Memory, NoChecks: e.cfg.NoInterruptChecks}
	if opt.Start == wedge.StartSnapshot {
		if e.cfg.ParkAt == nil || opt.Template == nil {
			return nil, loadError(opt.Name, &wedge.Error{Op: "start guest", Kind: wedge.Unsupported, Err: errors.New("this engine has no parking place"), Hint: `Use start = "fresh".`})
		}
		split.Park = e.cfg.ParkAt.String()
	}
	p, err := wasm.Split(src, split)
	if err != nil {
		return nil, loadError(opt.Name, err)
	}
	img, err := newImage(p.Image, opt.Limits)
	if err != nil {
		return nil, loadError(opt.Name, err)
	}
	c, shared, err := e.code(ctx, p, opt)
	if err != nil {
		img.release()
		return nil, loadError(opt.Name, err)
	}
	m := &Module{engine: e, code: c, image: img, opt: opt}
	m.Info = ModuleInfo{Digest: fmt.Sprintf("%x", p.Digest), CodeBytes: len(p.Code), DataBytes: len(p.Image.Data),
		Shared: shared, Unpooled: p.Unpooled, Stubs: c.stubs, CGI: c.plain}
	if err := m.warm(); err != nil {
		m.Close()
		return nil, loadError(opt.Name, err)
	}
	m.Info.Took = time.Since(began)
	return m, nil
}

func loadError(name string, err error) error {
	return &wedge.Error{Op: "load guest", What: name, Kind: wedge.KindOf(err), Err: err}
}

// warm makes one instance, which shows that the program can be instantiated at all.
func (m *Module) warm() error {
	inst, err := m.code.take(m.image)
	if err != nil {
		return err
	}
	m.code.put(inst)
	return nil
}

// Close gives up the module. Sandboxes that still run finish first; the last module with
// some code takes the code and its instances along.
func (m *Module) Close() {
	m.closed.Store(true)
	if m.running.Load() == 0 {
		m.free()
	}
}

// leave counts a sandbox out. The last one of a closed module frees it.
func (m *Module) leave() {
	if m.running.Add(-1) == 0 && m.closed.Load() {
		m.free()
	}
}

func (m *Module) free() {
	m.freed.Do(func() {
		m.image.release()
		m.engine.release(m.code)
	})
}

// ExitCode is the error of a guest that ended itself with a code other than 0.
type ExitCode uint32

func (c ExitCode) Error() string { return fmt.Sprintf("the guest exited with code %d", uint32(c)) }

// Run executes the guest's _start in a fresh sandbox and returns when the guest has ended.
// The result is nil for a clean end, an [ExitCode], or a *wedge.Error: Unavailable when
// refused by overload or after Close, Exhausted or Timeout at a limit, Trap for what the guest
// did wrong, Internal for a Func that panicked. Its end comes early, with an error of kind
// Unavailable, when ctx ends.
func (m *Module) Run(ctx context.Context, sb *Sandbox) error {
	if err := m.engine.admit(m); err != nil {
		return err
	}
	defer m.engine.leave(m)
	sb.Limits = sb.Limits.WithDefaults()
	r := &run{sb: sb, sched: m.engine.sched, queue: &m.queue, limits: m.opt.Limits, base: ctx, node: m.engine.base, start: time.Now()}
	sb.run = r
	if m.code.parking != nil {
		return m.runParked(r)
	}
	// The slot comes first and goes last: so no more instances are in use than guests run or
	// wait in hostcalls, and the next guest finds the one whose memory is still in the caches.
	r.slot = r.sched.take(r, warm)
	defer r.giveSlot()
	inst, err := m.code.take(m.image)
	if err != nil {
		return m.noInstance(err)
	}
	m.engine.stats.Runs.Add(1)
	r.inst, inst.ctx.run = inst, r
	r.begin()
	err = inst.call()
	r.stop()
	r.finish()
	inst.ctx.run = nil
	denied := inst.mem.denied
	if time.Duration(r.cpu.Load()) > longRun {
		inst.dropStack()
	}
	m.code.giveBack(inst, err)
	return m.outcome(err, denied)
}

// runParked is Run for a program with snapshot start.
func (m *Module) runParked(r *run) error {
	inst, err := m.code.take(m.image)
	if err != nil {
		return m.noInstance(err)
	}
	m.engine.stats.Runs.Add(1)
	m.engine.stats.Snapshots.Add(1)
	err = m.code.runParked(inst, r)
	return m.outcome(err, r.denied)
}

func (m *Module) noInstance(err error) error {
	m.engine.stats.Refused.Add(1)
	return &wedge.Error{Op: "make sandbox", What: m.opt.Name, Kind: wedge.KindOf(err), Err: err}
}

// outcome turns what wazero returned into what the caller is told.
func (m *Module) outcome(err error, denied bool) error {
	var exit *sys.ExitError
	var limit *limitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		if exit.ExitCode() == 0 {
			return nil
		}
		return ExitCode(exit.ExitCode())
	case errors.As(err, &limit):
		m.engine.stats.OverTime.Add(1)
		e := *limit.err
		e.What = m.opt.Name
		return &e
	}
	m.engine.stats.Traps.Add(1)
	if fault := (*hostFault)(nil); errors.As(err, &fault) {
		return &wedge.Error{Op: "run guest", What: m.opt.Name, Kind: wedge.Internal, Err: err, Hint: "A hostcall failed in a way that it must not; please report it."}
	}
	hint := "The guest's own stderr, shown above, may say more; build it with debug info for better names."
	if denied {
		hint = fmt.Sprintf("It asked for more memory than its %d MiB; use less, or raise limits.memory.", m.opt.Limits.Memory>>20)
	}
	return &wedge.Error{Op: "run guest", What: m.opt.Name, Kind: wedge.Trap, Err: err, Hint: hint}
}
