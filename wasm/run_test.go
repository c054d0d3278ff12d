package wasm_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	. "github.com/wedge-cloud/wedge/internal/wasmtest"
	"github.com/wedge-cloud/wedge/wasm"
)

// Everything the rewrite decodes, and what the fuzzer may come across.
const features = api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall | experimental.CoreFeaturesExtendedConst | experimental.CoreFeaturesExceptionHandling

var errStopped = errors.New("stopped by the check")

// world is a runtime with what test guests import: host.put and host.put64 note a value.
type world struct {
	t       *testing.T
	runtime wazero.Runtime
	notes   []uint64
	stdout  bytes.Buffer

	compiled map[*wasm.Program]wazero.CompiledModule

	checks    int // interrupt checks that called
	stopAfter int // the check that ends the guest; 0: none
	refill    uint64
	onCheck   func(api.Module)
	parked    []int // what park answers, one by one: -1 is ParkAgain, others end the loop
	parkArgs  [][]uint64
	ended     int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx := t.Context()
	w := &world{t: t, compiled: map[*wasm.Program]wazero.CompiledModule{}, runtime: wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCoreFeatures(features))}
	t.Cleanup(func() { _ = w.runtime.Close(context.Background()) })
	note := api.GoFunc(func(_ context.Context, s []uint64) { w.notes = append(w.notes, s[0]) })
	i32, i64 := []api.ValueType{api.ValueTypeI32}, []api.ValueType{api.ValueTypeI64}
	b := w.runtime.NewHostModuleBuilder("host")
	note32 := api.GoFunc(func(_ context.Context, s []uint64) { w.notes = append(w.notes, uint64(uint32(s[0]))) }) // the upper half is anything
	b.NewFunctionBuilder().WithGoFunction(note32, i32, nil).Export("put")
	b.NewFunctionBuilder().WithGoFunction(note, i64, nil).Export("put64")
	b.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(_ context.Context, s []uint64) {
		w.parkArgs = append(w.parkArgs, []uint64{uint64(uint32(s[0])), uint64(uint32(s[1]))})
		s[0] = 77 // the real call: it must not happen when parked
	}), []api.ValueType{api.ValueTypeI32, api.ValueTypeI32}, i32).Export("ask")
	w.instantiate(b)
	b = w.runtime.NewHostModuleBuilder(wasm.InterruptModule)
	b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(_ context.Context, mod api.Module, _ []uint64) {
		fuel(mod).Set(w.refill)
		if w.onCheck != nil {
			w.onCheck(mod)
		}
		if w.checks++; w.checks == w.stopAfter {
			panic(errStopped)
		}
	}), nil, nil).Export(wasm.InterruptName)
	b.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(_ context.Context, s []uint64) {
		w.parkArgs = append(w.parkArgs, []uint64{uint64(uint32(s[0])), uint64(uint32(s[1]))})
		s[0] = uint64(uint32(w.parked[0]))
		w.parked = w.parked[1:]
	}), []api.ValueType{api.ValueTypeI32, api.ValueTypeI32}, i32).Export(wasm.ParkName)
	b.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(context.Context, []uint64) { w.ended++ }), nil, nil).Export(wasm.EndedName)
	w.instantiate(b)
	wasi_snapshot_preview1.MustInstantiate(ctx, w.runtime)
	return w
}

func (w *world) instantiate(b wazero.HostModuleBuilder) {
	if _, err := b.Instantiate(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) config() wazero.ModuleConfig {
	return wazero.NewModuleConfig().WithName("").WithStartFunctions().WithStdout(&w.stdout).WithArgs("guest")
}

// original instantiates a module as it is, which runs its start section.
func (w *world) original(src []byte) (api.Module, error) {
	return w.runtime.InstantiateWithConfig(w.t.Context(), src, w.config())
}

// split instantiates what Split made of a module and gives it its image. It does not run it.
func (w *world) split(p *wasm.Program) api.Module {
	w.t.Helper()
	if w.compiled[p] == nil {
		c, err := w.runtime.CompileModule(w.t.Context(), p.Code)
		if err != nil {
			w.t.Fatalf("the split module does not compile: %v", err)
		}
		w.compiled[p] = c
	}
	mod, err := w.runtime.InstantiateModule(w.t.Context(), w.compiled[p], w.config())
	if err != nil {
		w.t.Fatalf("the split module does not instantiate: %v", err)
	}
	mem := mod.ExportedMemory(wasm.MemoryName)
	if p.Image.MinPages > 1 {
		if _, ok := mem.Grow(p.Image.MinPages - 1); !ok {
			w.t.Fatalf("memory does not grow to %d pages", p.Image.MinPages)
		}
	}
	if !mem.Write(0, p.Image.Data) {
		w.t.Fatalf("image of %d bytes does not fit", len(p.Image.Data))
	}
	for _, g := range p.Image.Globals {
		mod.ExportedGlobal(g.Name).(api.MutableGlobal).Set(g.Value)
	}
	return mod
}

// run runs a split module from its beginning.
func (w *world) run(p *wasm.Program, mod api.Module) error {
	if p.HasStart {
		if _, err := mod.ExportedFunction(wasm.StartFunction).Call(w.t.Context()); err != nil {
			return err
		}
	}
	_, err := mod.ExportedFunction(wasm.EntryName).Call(w.t.Context())
	return err
}

func mustSplit(t *testing.T, src []byte, opt wasm.Options) *wasm.Program {
	t.Helper()
	p, err := wasm.Split(src, opt)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// guest returns a module with a memory of one page and the import host.put.
func guest() (m *Module, put uint32) {
	m = New()
	put = m.Import("host", "put", "i32")
	m.Memory(1)
	return m, put
}

// sameAsOriginal runs a module as it is and split, and compares what the two did.
func sameAsOriginal(t *testing.T, src []byte) *wasm.Program {
	t.Helper()
	p := mustSplit(t, src, wasm.Options{})
	a, b := newWorld(t), newWorld(t)
	original, errA := a.original(src)
	if errA == nil {
		_, errA = original.ExportedFunction(wasm.EntryName).Call(t.Context())
	}
	split := b.split(p)
	errB := b.run(p, split)
	if (errA == nil) != (errB == nil) {
		t.Fatalf("the original ended with %v, the split one with %v", errA, errB)
	}
	if !slices.Equal(a.notes, b.notes) {
		t.Errorf("the original noted %v, the split one %v", a.notes, b.notes)
	}
	if a.stdout.String() != b.stdout.String() {
		t.Errorf("the original printed %q, the split one %q", a.stdout.String(), b.stdout.String())
	}
	if original == nil {
		return p
	}
	ma, mb := original.ExportedMemory(wasm.MemoryName), split.ExportedMemory(wasm.MemoryName)
	if ma.Size() != mb.Size() && p.Image.MinPages > 0 {
		t.Errorf("the original's memory has %d bytes, the split one's %d", ma.Size(), mb.Size())
	}
	x, _ := ma.Read(0, ma.Size())
	y, _ := mb.Read(0, min(ma.Size(), mb.Size()))
	if !bytes.Equal(x, y) {
		t.Error("the memories differ at the end")
	}
	return p
}
