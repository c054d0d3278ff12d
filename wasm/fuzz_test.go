package wasm_test

import (
	"context"
	"testing"

	"github.com/tetratelabs/wazero"

	. "github.com/wedge-cloud/wedge/internal/wasmtest"
	"github.com/wedge-cloud/wedge/wasm"
)

// accepts reports whether wazero takes a module. Some damaged ones make it panic.
func accepts(r wazero.Runtime, src []byte) (ok bool) {
	defer func() { _ = recover() }()
	c, err := r.CompileModule(context.Background(), src)
	if err == nil {
		_ = c.Close(context.Background())
	}
	return err == nil
}

// FuzzSplit: whatever comes, Split does not panic, what it returns is not much larger than what it was
// given, and a module that wazero accepts and Split does not refuse is still accepted.
func FuzzSplit(f *testing.F) {
	for _, build := range programs {
		f.Add(build().Bytes(), false)
	}
	for _, build := range endless {
		m, _ := guest()
		build(m)
		f.Add(m.Bytes(), false)
	}
	f.Add(asker(nil), true)
	f.Add(guestWith(func(m *Module) { m.Func("", "", Op(0x1f, 0x40, 1, 2, 0), End) }), true)
	f.Add([]byte("\x00asm\x0d\x00\x01\x00"), false)
	f.Add([]byte(nil), true)
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(features))
	f.Fuzz(func(t *testing.T, src []byte, park bool) {
		const memory = 1 << 20
		opt := wasm.Options{MaxMemory: memory}
		if park {
			opt.Park = "host.ask"
		}
		p, err := wasm.Split(src, opt)
		if err != nil {
			if p != nil {
				t.Error("both a result and an error")
			}
			return
		}
		// A bulk instruction, 3 bytes, gets a check of at most 60, a loop of 5 one of at most 100; a mutable global, 5 bytes, an export of at most 20.
		if len(p.Code) > 20*len(src)+1024 {
			t.Errorf("%d bytes of code from %d", len(p.Code), len(src))
		}
		if len(p.Image.Data) > memory || uint64(p.Image.MinPages)*wasm.PageSize > memory || len(p.Image.Globals) > len(src) || len(p.Imports) > len(src) {
			t.Errorf("an image of %d bytes, %d pages, %d globals, %d imports from %d bytes", len(p.Image.Data), p.Image.MinPages, len(p.Image.Globals), len(p.Imports), len(src))
		}
		if !accepts(r, src) {
			return
		}
		split, err := r.CompileModule(ctx, p.Code)
		if err != nil {
			t.Fatalf("wazero takes the original but not the split module: %v", err)
		}
		_ = split.Close(ctx)
	})
}
