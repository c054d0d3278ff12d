package picture

import (
	"bytes"
	"compress/gzip"
	"context"
	_ "embed"
	"image"
	"io"
	"runtime"
	"sync"
	"time"

	"github.com/kovidgoyal/imaging"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/wasm"
)

// libwebp is Google's encoder as Wasm; see libwebp/README.md. It imports nothing: it can compute, and no more.
//
//go:embed libwebp/webp.wasm.gz
var libwebp []byte

const (
	webpSide   = 1<<14 - 1        // the most pixels of a side, by the format
	webpMemory = 1 << 30          // bytes that one image may take in the encoder
	webpTime   = 20 * time.Second // as much as the slowest of the largest takes on a busy machine
)

// webpEncoder is libwebp made ready to run.
type webpEncoder struct {
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	image    wasm.Image
}

// webpCode is compiled when the first WebP is made, and kept.
var webpCode = sync.OnceValues(func() (*webpEncoder, error) {
	z, err := gzip.NewReader(bytes.NewReader(libwebp))
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
	e := &webpEncoder{image: p.Image}
	e.runtime = wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithMemoryLimitPages(webpMemory/wasm.PageSize))
	b := e.runtime.NewHostModuleBuilder(wasm.InterruptModule)
	b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(callIn), nil, nil).Export(wasm.InterruptName)
	if _, err := b.Instantiate(ctx); err != nil {
		return nil, err
	}
	e.compiled, err = e.runtime.CompileModule(ctx, p.Code)
	return e, err
})

// callIn is what the encoder calls when its fuel is used up. Others get a turn, and a collection can begin.
func callIn(ctx context.Context, mod api.Module, _ []uint64) {
	if ctx.Err() != nil {
		panic(context.Cause(ctx))
	}
	mod.ExportedGlobal(wasm.FuelGlobal).(api.MutableGlobal).Set(wasm.Fuel)
	runtime.Gosched()
}

// encodeWebP writes img as WebP. When ctx ends, so does the work.
func encodeWebP(ctx context.Context, img image.Image, lossless bool, quality int) ([]byte, error) {
	e, err := webpCode()
	if err != nil {
		return nil, &wedge.Error{Op: "transform image", Kind: wedge.Internal, Err: err}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, webpTime, fault(wedge.Exhausted, "to write it as WebP takes too long", "Make the image smaller, or ask for jpg."))
	defer cancel()
	mod, err := e.instantiate(ctx)
	if err != nil {
		return nil, err
	}
	defer mod.Close(context.Background())
	out, err := runWebP(ctx, mod, img, lossless, quality)
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	return out, err
}

// instantiate returns an encoder of its own for one image, with memory and globals as they are before the first instruction.
func (e *webpEncoder) instantiate(ctx context.Context) (api.Module, error) {
	mod, err := e.runtime.InstantiateModule(ctx, e.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return nil, err
	}
	mem := mod.ExportedMemory(wasm.MemoryName)
	if _, ok := mem.Grow(e.image.MinPages - 1); !ok || !mem.Write(0, e.image.Data) {
		mod.Close(context.Background())
		return nil, errTooMuch
	}
	for _, g := range e.image.Globals {
		mod.ExportedGlobal(g.Name).(api.MutableGlobal).Set(g.Value)
	}
	if _, err := mod.ExportedFunction("_initialize").Call(ctx); err != nil {
		mod.Close(context.Background())
		return nil, err
	}
	return mod, nil
}

var errTooMuch = fault(wedge.Exhausted, "to write it as WebP takes too much memory", "Make the image smaller, or ask for webply or jpg.")

// runWebP hands the pixels to the encoder, and takes out what it made.
func runWebP(ctx context.Context, mod api.Module, img image.Image, lossless bool, quality int) ([]byte, error) {
	pixels := nrgba(img)
	w, h := pixels.Rect.Dx(), pixels.Rect.Dy()
	in, err := allocate(ctx, mod, len(pixels.Pix))
	if err != nil {
		return nil, err
	}
	size, err := allocate(ctx, mod, 4)
	if err != nil {
		return nil, err
	}
	mem := mod.ExportedMemory(wasm.MemoryName)
	mem.Write(in, pixels.Pix)
	exactly := map[bool]uint64{true: 1}[lossless]
	res, err := mod.ExportedFunction("encode").Call(ctx, uint64(in), uint64(w), uint64(h), uint64(size), 0, uint64(quality), webpMethod(w*h, lossless), exactly, 0)
	if err != nil {
		return nil, err
	}
	n, _ := mem.ReadUint32Le(size)
	out, ok := mem.Read(uint32(res[0]), n)
	if res[0] == 0 || n == 0 || !ok {
		return nil, errTooMuch // libwebp fails for nothing else: the pixels and the sides are right
	}
	return bytes.Clone(out), nil
}

// allocate returns n bytes of the encoder's memory.
func allocate(ctx context.Context, mod api.Module, n int) (uint32, error) {
	res, err := mod.ExportedFunction("malloc").Call(ctx, uint64(n))
	if err != nil {
		return 0, err
	}
	at := uint32(res[0])
	if at == 0 || uint64(at)+uint64(n) > uint64(mod.ExportedMemory(wasm.MemoryName).Size()) {
		return 0, errTooMuch
	}
	return at, nil
}

// nrgba returns the pixels of img in rows without a gap.
func nrgba(img image.Image) *image.NRGBA {
	if p, ok := img.(*image.NRGBA); ok && p.Stride == 4*p.Rect.Dx() && len(p.Pix) == p.Stride*p.Rect.Dy() {
		return p
	}
	return imaging.Clone(img)
}

// webpMethod says how hard the encoder tries, 0 to 6: less for more pixels, that it be a second or so and not ten.
func webpMethod(pixels int, lossless bool) uint64 {
	switch {
	case pixels <= 1<<20 && !lossless, pixels <= 1<<18:
		return 4
	case pixels <= 1<<22 && !lossless:
		return 2
	}
	return 0
}
