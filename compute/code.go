package compute

import (
	"context"
	"crypto/rand" // nobody reads it; wazero would make a generator of 5 KB for each instance
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/sys"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/wasm"
)

// code is compiled code with its own runtime and its pool of instances, shared by all
// programs that have it. A runtime of its own makes it possible to free everything at once.
type code struct {
	engine   *Engine
	key      codeKey
	refs     int           // modules, under Engine.mu
	ready    chan struct{} // closed when compiled or failed
	err      error
	runtime  wazero.Runtime
	cache    wazero.CompilationCache
	compiled wazero.CompiledModule
	start    bool     // offers wasm.StartFunction
	globals  []string // exported names of mutable globals
	unpooled string
	stubs    []string
	plain    bool // imports no fastly_* call

	parking  *parkingPlace   // with snapshot start
	template func() *Sandbox // for the guest's start-up
	starts   queue           // of start-ups that wait for their turn

	mu   sync.Mutex
	idle []*instance // the most recently used last
	gone bool        // closed: instances given back are closed too
	live int         // instances in existence
}

// code returns the compiled code of p, compiling it if it is new. Concurrent callers with
// the same code wait for one compilation.
func (e *Engine) code(ctx context.Context, p *wasm.Program, opt Options) (c *code, shared bool, err error) {
	key := codeKey{digest: p.Digest}
	parking := opt.Start == wedge.StartSnapshot
	e.mu.Lock()
	if parking {
		// What the start-up saw of its service is in the snapshot: no other may be begun from it.
		e.own++
		key.own = e.own
	}
	c, shared = e.codes[key]
	if !shared {
		c = &code{engine: e, key: key, ready: make(chan struct{}), start: p.HasStart, unpooled: p.Unpooled}
		if parking {
			c.parking = &parkingPlace{def: e.cfg.ParkAt, f: e.cfg.Funcs[e.cfg.ParkAt]}
			c.template = opt.Template
		}
		e.codes[key] = c
	}
	c.refs++
	e.mu.Unlock()
	if !shared {
		c.err = c.compile(ctx, p)
		close(c.ready)
	}
	<-c.ready
	if c.err != nil {
		e.release(c)
		return nil, false, c.err
	}
	return c, shared, nil
}

// release gives up one module's hold on c.
func (e *Engine) release(c *code) {
	e.mu.Lock()
	c.refs--
	last := c.refs == 0
	if (last || c.err != nil) && e.codes[c.key] == c {
		delete(e.codes, c.key)
	}
	e.mu.Unlock()
	if last {
		c.retire()
	}
}

// features are those the rewrite understands; see wasm/code.go.
const features = api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall | experimental.CoreFeaturesExtendedConst

func (c *code) compile(ctx context.Context, p *wasm.Program) (err error) {
	cfg := wazero.NewRuntimeConfig().WithCoreFeatures(features).WithDebugInfoEnabled(false)
	if c.engine.cfg.CacheDir != "" {
		c.cache, err = wazero.NewCompilationCacheWithDir(c.engine.cfg.CacheDir)
		if err != nil {
			return &wedge.Error{Op: "open code cache", What: c.engine.cfg.CacheDir, Kind: wedge.Unavailable, Err: err, Hint: "Give a directory that can be written, or none."}
		}
		cfg = cfg.WithCompilationCache(c.cache)
	}
	c.runtime = wazero.NewRuntimeWithConfig(ctx, cfg)
	defer func() {
		if r := recover(); r != nil {
			err = enginePanic("compile", r)
		}
		if err != nil {
			c.free()
		}
	}()
	if err := c.link(ctx, p.Imports); err != nil {
		return err
	}
	c.engine.stats.Compiled.Add(1)
	c.compiled, err = c.runtime.CompileModule(experimental.WithCompilationWorkers(ctx, 2), p.Code)
	if err != nil {
		return &wedge.Error{Op: "compile", Kind: wedge.Invalid, Err: err, Hint: "The module does not validate; build it again with a current toolchain."}
	}
	for _, name := range []string{wasm.EntryName, wasm.StartFunction} {
		f := c.compiled.ExportedFunctions()[name]
		if f != nil && len(f.ParamTypes())+len(f.ResultTypes()) > 0 {
			return &wedge.Error{Op: "compile", Kind: wedge.Invalid, Err: fmt.Errorf("%s takes parameters or returns results", name), Hint: "Build a command, whose _start takes and returns nothing."}
		}
	}
	for _, g := range p.Image.Globals {
		c.globals = append(c.globals, g.Name)
	}
	return nil
}

// enginePanic turns a panic of wazero's on a module it did not foresee into the module's error:
// one guest must not end the process.
func enginePanic(op string, r any) error {
	return &wedge.Error{Op: op, Kind: wedge.Invalid, Err: fmt.Errorf("the engine cannot handle this module: %v", r), Hint: "The module is damaged or unusual; build it again with a current toolchain."}
}

// link offers the guest the functions it imports: hostcalls, stubs for fastly_* calls that
// are not implemented, and the interrupt. Anything else it asks for is an error.
func (c *code) link(ctx context.Context, imports []wasm.Import) error {
	modules := map[string]map[string]wasm.Import{}
	var unknown []string
	c.plain = true
	for _, imp := range imports {
		def := abi.Lookup(imp.Module, imp.Name)
		fastly := strings.HasPrefix(imp.Module, "fastly_") || imp.Module == "env" && def != nil
		if fastly {
			c.plain = false
		}
		if def == nil && !fastly {
			unknown = append(unknown, imp.Module+"."+imp.Name)
			continue
		}
		if modules[imp.Module] == nil {
			modules[imp.Module] = map[string]wasm.Import{}
		}
		modules[imp.Module][imp.Name] = imp
	}
	if len(unknown) > 0 {
		sort.Strings(unknown)
		return &wedge.Error{Op: "link", Kind: wedge.Unsupported, Err: fmt.Errorf("unknown imports: %s", strings.Join(unknown, ", ")),
			Hint: "A guest may import wasi_snapshot_preview1 and fastly_* functions; check the toolchain and its target."}
	}
	for name, calls := range modules {
		b := c.runtime.NewHostModuleBuilder(name)
		for call, imp := range calls {
			b.NewFunctionBuilder().WithGoFunction(c.hostFunc(imp), types(imp.Params), types(imp.Results)).Export(call)
		}
		if _, err := b.Instantiate(ctx); err != nil {
			return &wedge.Error{Op: "link", What: name, Kind: wedge.Internal, Err: err}
		}
	}
	sort.Strings(c.stubs)
	b := c.runtime.NewHostModuleBuilder(wasm.InterruptModule)
	b.NewFunctionBuilder().WithGoFunction(api.GoFunc(interrupt), nil, nil).Export(wasm.InterruptName)
	if c.parking != nil {
		params, results := c.parking.def.Types()
		b.NewFunctionBuilder().WithGoFunction(api.GoFunc(c.parkFunc), types(params), types(results)).Export(wasm.ParkName)
		b.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(ctx context.Context, _ []uint64) {
			c.endParked(instanceOf(ctx), 0)
		}), nil, nil).Export(wasm.EndedName)
	}
	_, err := b.Instantiate(ctx)
	return err
}

// types converts value types: wazero writes them as the binary format does.
func types(t []byte) []api.ValueType { return t }

// hostFunc returns what the guest calls for an import.
func (c *code) hostFunc(imp wasm.Import) api.GoFunc {
	def := abi.Lookup(imp.Module, imp.Name)
	if def != nil {
		params, results := def.Types()
		if string(params) != string(imp.Params) || string(results) != string(imp.Results) {
			def = nil // not the call we know under this name
		}
	}
	if def == nil {
		def = &abi.Def{Module: imp.Module, Name: imp.Name, NoResult: len(imp.Results) == 0}
	}
	f := c.engine.cfg.Funcs[def]
	if f == nil {
		c.stubs = append(c.stubs, def.String())
		f = unsupportedCall
	}
	if def.NoResult {
		call := func(ctx context.Context, stack []uint64) {
			r := runOf(ctx)
			r.sb.Dispatch(def, f, r.inst.mem.bytes(), stack)
		}
		if c.parking != nil {
			return c.exitParked(call)
		}
		return call
	}
	return func(ctx context.Context, stack []uint64) {
		r := runOf(ctx)
		stack[0] = uint64(r.sb.Dispatch(def, f, r.inst.mem.bytes(), stack))
	}
}

func unsupportedCall(*Call) abi.Status { return abi.Unsupported }

// instance is a live module with its memory. It belongs to the pool or to one run.
type instance struct {
	mod     api.Module
	mem     *memory
	fuel    api.MutableGlobal
	fuelMu  sync.Mutex // for those who set it; the guest reads as it likes
	globals []api.MutableGlobal
	section api.Function // the start section's, nil if none
	entry   api.Function
	ctx     runContext
	park    *parked // with snapshot start
	nap     nap
	used    time.Time // when it was last given back
}

// take returns an instance that shows img: one that did before, else any idle one, else a new one.
func (c *code) take(img *image) (*instance, error) {
	c.mu.Lock()
	inst := c.pick(img)
	if inst == nil {
		c.live++
	}
	c.mu.Unlock()
	if inst == nil {
		return c.instantiate(img)
	}
	if inst.mem.image == img || c.parking != nil {
		return inst, nil
	}
	if err := inst.show(img); err != nil {
		c.discard(inst)
		return nil, err
	}
	return inst, nil
}

func (c *code) pick(img *image) *instance {
	n := len(c.idle)
	if n == 0 {
		return nil
	}
	at := n - 1
	for i := n - 1; i >= max(0, n-16); i-- {
		if c.idle[i].mem.image == img {
			at = i
			break
		}
	}
	inst := c.idle[at]
	if inst.mem.region.capacity() < img.max {
		return nil // its address space is too small for this program's limit
	}
	c.idle = append(c.idle[:at], c.idle[at+1:]...)
	return inst
}

func (c *code) instantiate(img *image) (*instance, error) {
	reg, err := newRegion(max(img.max, wasm.PageSize))
	if err != nil {
		c.forget()
		return nil, &wedge.Error{Op: "reserve memory", Kind: wedge.Unavailable, Err: err, Hint: "The node has too little memory, or too many mappings (vm.max_map_count)."}
	}
	mem := &memory{region: reg}
	if err := mem.show(img); err != nil {
		mem.Free()
		c.forget()
		return nil, err
	}
	if mem.size < wasm.PageSize { // wazero wants the one page that the code declares
		mem.size = wasm.PageSize
		mem.region.grow(mem.size)
	}
	mem.reimage = true
	ctx := experimental.WithMemoryAllocator(context.Background(), experimental.MemoryAllocatorFunc(func(_, _ uint64) experimental.LinearMemory { return mem }))
	mod, err := c.instantiateModule(ctx)
	mem.reimage = false
	if err != nil {
		mem.Free()
		c.forget()
		return nil, &wedge.Error{Op: "instantiate", Kind: wedge.Invalid, Err: err, Hint: "The module's tables or globals do not fit together; build it again."}
	}
	c.engine.stats.Created.Add(1)
	inst := &instance{mod: mod, mem: mem, entry: mod.ExportedFunction(wasm.EntryName)}
	inst.ctx.Context, inst.ctx.inst = context.Background(), inst
	inst.fuel = mod.ExportedGlobal(wasm.FuelGlobal).(api.MutableGlobal)
	for _, name := range c.globals {
		inst.globals = append(inst.globals, mod.ExportedGlobal(name).(api.MutableGlobal))
	}
	if c.start {
		inst.section = mod.ExportedFunction(wasm.StartFunction)
	}
	mem.size = img.size
	inst.refresh()
	inst.setGlobals()
	c.engine.packer.add(inst)
	if c.parking != nil {
		inst.entry, inst.section = mod.ExportedFunction(wasm.EnterFunction), nil
		if err := c.runToPark(inst); err != nil {
			c.discard(inst)
			return nil, err
		}
	}
	return inst, nil
}

func (c *code) instantiateModule(ctx context.Context) (mod api.Module, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = enginePanic("instantiate", r)
		}
	}()
	return c.runtime.InstantiateModule(ctx, c.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions().WithRandSource(rand.Reader))
}

// refresh makes the guest see the memory as it is now: its length may have shrunk, which
// Wasm itself cannot do. Growing by one page makes wazero ask for the memory anew and take what it gets.
func (i *instance) refresh() {
	i.mem.reimage = true
	i.mod.Memory().Grow(1)
	i.mem.reimage = false
}

func (i *instance) setGlobals() {
	for n, g := range i.globals {
		g.Set(i.mem.image.globals[n].Value)
	}
	i.setFuel(wasm.Fuel)
}

func (i *instance) setFuel(v uint64) {
	i.fuelMu.Lock()
	defer i.fuelMu.Unlock()
	i.fuel.Set(v)
}

func (i *instance) show(img *image) error {
	if err := i.mem.show(img); err != nil {
		return err
	}
	i.refresh()
	i.setGlobals()
	return nil
}

// reset makes the instance as it was before its first instruction.
func (i *instance) reset() error {
	i.nap.vain = false
	grown := i.mem.size != i.mem.image.size
	if err := i.mem.reset(); err != nil {
		return err
	}
	if grown {
		i.refresh()
	}
	i.setGlobals()
	return nil
}

// call runs the guest from its beginning.
func (i *instance) call() error {
	if i.section != nil {
		if err := i.section.CallWithStack(&i.ctx, nil); err != nil {
			return err
		}
	}
	return i.entry.CallWithStack(&i.ctx, nil)
}

// longRun is guest time in which a native stack may have grown large. It lies on the Go heap, may
// take a hundred megabytes and belongs to the function looked up.
const longRun = 5 * time.Millisecond

// dropStack gives the instance a native stack as small as a new one has.
func (i *instance) dropStack() { i.entry = i.mod.ExportedFunction(wasm.EntryName) }

func cleanExit(err error) bool {
	var exit *sys.ExitError
	return errors.As(err, &exit)
}

// giveBack returns an instance after a run: reset into the pool if the guest ended well,
// else it is closed. A guest that trapped or was stopped may have left anything anywhere.
func (c *code) giveBack(inst *instance, err error) {
	if (err != nil && !cleanExit(err)) || c.unpooled != "" || inst.reset() != nil {
		c.discard(inst)
		return
	}
	c.put(inst)
}

func (c *code) put(inst *instance) {
	if !c.offer(inst) {
		c.discard(inst)
	}
}

// offer puts an instance into the pool, unless the pool is no more.
func (c *code) offer(inst *instance) bool {
	inst.used = time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.gone {
		c.idle = append(c.idle, inst)
	}
	return !c.gone
}

func (c *code) discard(inst *instance) {
	inst.close(c)
	c.forget()
}

// forget notes that an instance is no more.
func (c *code) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live--
	c.maybeFree()
}

func (i *instance) close(c *code) {
	c.engine.stats.Discarded.Add(1)
	c.engine.packer.remove(i)
	i.unpark()
	_ = i.mod.Close(context.Background()) // frees the memory; the error is the exit code
}

// trim closes instances not used since the given time.
func (c *code) trim(since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for n < len(c.idle) && c.idle[n].used.Before(since) {
		c.idle[n].close(c)
		c.live--
		n++
	}
	c.idle = append(c.idle[:0:0], c.idle[n:]...)
}

// retire closes the idle instances and, when the last one in use has come back, the rest.
func (c *code) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone || c.err != nil {
		return
	}
	c.gone = true
	for _, i := range c.idle {
		i.close(c)
		c.live--
	}
	c.idle = nil
	c.maybeFree()
}

func (c *code) maybeFree() {
	if c.gone && c.live == 0 {
		c.free()
	}
}

func (c *code) free() {
	if c.runtime == nil {
		return
	}
	_ = c.runtime.Close(context.Background())
	if c.parking != nil && c.parking.image != nil {
		c.parking.image.release()
	}
	if c.cache != nil {
		_ = c.cache.Close(context.Background())
	}
	c.runtime = nil
}
