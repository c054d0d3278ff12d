package wasmtest

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

func rt(t *testing.T) wazero.Runtime {
	f := api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall | experimental.CoreFeaturesExtendedConst | experimental.CoreFeaturesExceptionHandling
	return wazero.NewRuntimeWithConfig(context.Background(), wazero.NewRuntimeConfig().WithCoreFeatures(f))
}

func TestExn(t *testing.T) {
	ctx := context.Background()
	r := rt(t)
	gc := func(ctx context.Context, _ []uint64) {
		for range 5 {
			runtime.GC()
		}
		for i := range 100000 {
			x := make([]uint64, 1)
			x[0] = 0xdead0000 + uint64(i)
			sink = append(sink, x)
			e := &fake{tag: new(int), params: []uint64{0xbeef}}
			sink2 = append(sink2, e)
		}
	}
	var got []uint64
	put := func(ctx context.Context, s []uint64) { got = append(got, s[0]) }
	r.NewHostModuleBuilder("h").NewFunctionBuilder().WithGoFunction(api.GoFunc(gc), nil, nil).Export("gc").
		NewFunctionBuilder().WithGoFunction(api.GoFunc(put), []api.ValueType{api.ValueTypeI64}, nil).Export("put").Instantiate(ctx)
	m := New()
	g := m.Import("h", "gc", "")
	p := m.Import("h", "put", "i64")
	tag := m.Tag("i64")
	m.Memory(1)
	// throw v, return the exnref
	bt := S64(int64(m.Type("-> i64 exnref")))
	_ = bt
	catchRef := func(v int64) Code {
		return Seq(
			Op(append([]byte{0x02}, bt...)...), // block (result i64 exnref)
			Op(append(append([]byte{0x1f, 0x40, 1, 1}, U32(tag)...), 0)...), // try_table catch_ref tag 0
			I64(v), op(0x08, tag),
			End,
			Unreachable,
			End,
		)
	}
	m.Main("exnref i64",
		catchRef(42), Set(0), Drop,
		catchRef(43), Drop, Drop,
		Call(g),
		// throw_ref local 0, catch tag
		Op(append([]byte{0x02}, 0x7e)...),
		Op(append(append([]byte{0x1f, 0x40, 1, 0}, U32(tag)...), 0)...),
		Get(0), Op(0x0a),
		End, Unreachable, End,
		Call(p),
	)
	mod, err := r.InstantiateWithConfig(ctx, m.Bytes(), wazero.NewModuleConfig().WithStartFunctions())
	if err != nil {
		t.Fatal(err)
	}
	_, err = mod.ExportedFunction("_start").Call(ctx)
	t.Logf("%x %v", got, err)
}

var sink [][]uint64
type fake struct { tag *int; params []uint64 }
var sink2 []*fake

func TestRefFunc(t *testing.T) {
	ctx := context.Background()
	r := rt(t)
	m := New()
	m.Memory(1)
	f := m.Func("", "")
	m.RawElem([]byte{3, 0}, Vec(f)) // declarative
	m.Main("i32", For(0, 1_000_000, RefFunc(f), Drop))
	mod, err := r.InstantiateWithConfig(ctx, m.Bytes(), wazero.NewModuleConfig().WithStartFunctions())
	if err != nil {
		t.Fatal(err)
	}
	var a, b runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&a)
	t0 := time.Now()
	_, err = mod.ExportedFunction("_start").Call(ctx)
	d := time.Since(t0)
	runtime.GC()
	runtime.ReadMemStats(&b)
	t.Log(err, d, (int64(b.HeapAlloc)-int64(a.HeapAlloc))>>10, "KiB kept")
	runtime.KeepAlive(mod)
}

func TestDeep(t *testing.T) {
	ctx := context.Background()
	r := rt(t)
	m := New()
	m.Memory(1)
	f := m.Declare("i64 -> i64")
	m.Define(f, "", Get(0), I64(1), Add64, Call(f), Get(0), Add64)
	m.Main("", I64(1), Call(f), Drop)
	mod, err := r.InstantiateWithConfig(ctx, m.Bytes(), wazero.NewModuleConfig().WithStartFunctions())
	if err != nil {
		t.Fatal(err)
	}
	t0 := time.Now()
	_, err = mod.ExportedFunction("_start").Call(ctx)
	d := time.Since(t0)
	t.Log(err != nil, d)
}

func TestOddTypes(t *testing.T) {
	ctx := context.Background()
	for _, ty := range []byte{0x7b, 0x70, 0x6f, 0x69, 0x63, 0x00, 0xff} {
		func() {
			defer func() { t.Logf("%x recovered %v", ty, recover()) }()
			r := rt(t)
			_, err := r.NewHostModuleBuilder("h").NewFunctionBuilder().WithGoFunction(api.GoFunc(func(ctx context.Context, _ []uint64) {}), []byte{ty}, []byte{ty}).Export("gc").Instantiate(ctx)
			t.Logf("%x %v", ty, err)
		}()
	}
}
