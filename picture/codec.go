package picture

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/wasm"
)

// A codec is a C library as Wasm that does one thing to one image. It is compiled at its first use, and kept. It can compute, and
// no more: where it asks for files or the time it is told that there are none.
type codec struct {
	task  string        // what it does, for errors
	limit time.Duration // that one image may take
	ready func() (*program, error)
}

// program is a codec made ready to run.
type program struct {
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	image    wasm.Image
}

func newCodec(file []byte, task string, limit time.Duration) *codec {
	return &codec{task, limit, sync.OnceValues(func() (*program, error) { return compile(file) })}
}

// compile takes a library apart as a guest is, so that it has interrupt checks.
func compile(file []byte) (*program, error) {
	z, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	src, err := io.ReadAll(z)
	if err != nil {
		return nil, err
	}
	p, err := wasm.Split(src, wasm.Options{Library: true})
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	c := &program{image: p.Image}
	c.runtime = wazero.NewRuntime(ctx)
	b := c.runtime.NewHostModuleBuilder(wasm.InterruptModule)
	b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(callIn), nil, nil).Export(wasm.InterruptName)
	if _, err := b.Instantiate(ctx); err != nil {
		return nil, err
	}
	if c.compiled, err = c.runtime.CompileModule(experimental.WithCompilationWorkers(ctx, 2), p.Code); err != nil {
		return nil, err
	}
	return c, c.refuseAll(ctx)
}

const (
	wasi      = "wasi_snapshot_preview1"
	wasiNoSys = 52 // ENOSYS: there is no such function
)

// refuseAll gives the library what a C library wants of a system: functions that do nothing but fail.
func (c *program) refuseAll(ctx context.Context) error {
	b := c.runtime.NewHostModuleBuilder(wasi)
	for _, f := range c.compiled.ImportedFunctions() {
		module, name, _ := f.Import()
		if module != wasi {
			continue
		}
		refuse := func(_ context.Context, stack []uint64) {
			if len(f.ResultTypes()) == 0 { // proc_exit, after which it must not go on
				panic(errGaveUp)
			}
			stack[0] = wasiNoSys
		}
		b.NewFunctionBuilder().WithGoFunction(api.GoFunc(refuse), f.ParamTypes(), f.ResultTypes()).Export(name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

var errGaveUp = errors.New("the library gave up")

// callIn is what a codec calls when its fuel is used up. Others get a turn, and a collection can begin.
func callIn(ctx context.Context, mod api.Module, _ []uint64) {
	if ctx.Err() != nil {
		panic(context.Cause(ctx))
	}
	mod.ExportedGlobal(wasm.FuelGlobal).(api.MutableGlobal).Set(wasm.Fuel)
	runtime.Gosched()
}

// run lets work use an instance of the codec that is its own, with so many bytes of memory at most. When ctx ends, or the time
// that there is, so does the work.
func (c *codec) run(ctx context.Context, memory int, work func(context.Context, *instance) error) error {
	if _, err := c.ready(); err != nil { // the first time takes long, and is nobody's image's fault
		return &wedge.Error{Op: "transform image", Kind: wedge.Internal, Err: err}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.limit, fault(wedge.Exhausted, c.task+" takes too long", "Make the image smaller, or use JPEG."))
	defer cancel()
	m, err := c.instantiate(ctx, memory)
	if err != nil {
		return err
	}
	defer m.mod.Close(context.Background())
	err = work(ctx, m)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil && m.bound.refused {
		return c.tooMuch() // whatever it made of that
	}
	return err
}

// instance is a codec for one image.
type instance struct {
	codec *codec
	mod   api.Module
	mem   api.Memory
	bound *bounded
}

// instantiate returns an instance with memory and globals as they are before the first instruction.
func (c *codec) instantiate(ctx context.Context, memory int) (*instance, error) {
	p, _ := c.ready()
	bound := &bounded{most: uint64(memory)}
	alloc := experimental.MemoryAllocatorFunc(func(_, _ uint64) experimental.LinearMemory { return bound })
	mod, err := p.runtime.InstantiateModule(experimental.WithMemoryAllocator(ctx, alloc), p.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return nil, err
	}
	m := &instance{c, mod, mod.ExportedMemory(wasm.MemoryName), bound}
	if _, ok := m.mem.Grow(p.image.MinPages - 1); !ok || !m.mem.Write(0, p.image.Data) {
		mod.Close(context.Background())
		return nil, c.tooMuch()
	}
	for _, g := range p.image.Globals {
		mod.ExportedGlobal(g.Name).(api.MutableGlobal).Set(g.Value)
	}
	if _, err := m.call(ctx, "_initialize"); err != nil {
		mod.Close(context.Background())
		return nil, err
	}
	return m, nil
}

// bounded is memory that grows to so many bytes.
type bounded struct {
	most    uint64
	bytes   []byte
	refused bool
}

// Reallocate returns the memory with n bytes, nil if those are too many.
func (b *bounded) Reallocate(n uint64) []byte {
	if n > b.most {
		b.refused = true
		return nil
	}
	if n > uint64(cap(b.bytes)) {
		grown := make([]byte, len(b.bytes), max(n, min(b.most, 2*uint64(cap(b.bytes)))))
		copy(grown, b.bytes)
		b.bytes = grown
	}
	b.bytes = b.bytes[:n]
	return b.bytes
}

// Free lets go of the memory.
func (b *bounded) Free() { b.bytes = nil }

func (c *codec) tooMuch() error {
	return fault(wedge.Exhausted, c.task+" takes too much memory", "Make the image smaller, or use JPEG.")
}

// call calls an exported function, and returns what it returns, 0 if nothing.
func (m *instance) call(ctx context.Context, name string, args ...uint64) (uint32, error) {
	res, err := m.mod.ExportedFunction(name).Call(ctx, args...)
	if err != nil || len(res) == 0 {
		return 0, err
	}
	return uint32(res[0]), nil
}

// allocate returns n bytes of the instance's memory.
func (m *instance) allocate(ctx context.Context, n int) (uint32, error) {
	at, err := m.call(ctx, "malloc", uint64(n))
	if err != nil {
		return 0, err
	}
	if at == 0 || uint64(at)+uint64(n) > uint64(m.mem.Size()) {
		return 0, m.codec.tooMuch()
	}
	return at, nil
}

// put copies bytes into the instance's memory.
func (m *instance) put(ctx context.Context, b []byte) (uint32, error) {
	at, err := m.allocate(ctx, len(b))
	if err == nil {
		m.mem.Write(at, b)
	}
	return at, err
}

// take copies what an encoder made, at an address with the size at another.
func (m *instance) take(at, sizeAt uint32) ([]byte, error) {
	n, _ := m.mem.ReadUint32Le(sizeAt)
	out, ok := m.mem.Read(at, n)
	if at == 0 || n == 0 || !ok {
		return nil, m.codec.tooMuch() // encoders fail for nothing else: the pixels and the sides are right
	}
	return bytes.Clone(out), nil
}
