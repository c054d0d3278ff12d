package picture

import (
	"context"
	_ "embed"
	"image"
	"time"

	"github.com/kovidgoyal/imaging"
)

// libwebp is Google's encoder as Wasm; see libwebp/README.md. It imports nothing.
//
//go:embed libwebp/webp.wasm.gz
var libwebp []byte

const (
	webpSide   = 1<<14 - 1 // the most pixels of a side, by the format
	webpMemory = 1 << 30   // bytes that one image may take in the encoder
)

// webpEncoder has as much time as the slowest of the largest takes on a busy machine.
var webpEncoder = newCodec(libwebp, "to write it as WebP", 20*time.Second)

// encodeWebP writes img as WebP. When ctx ends, so does the work.
func encodeWebP(ctx context.Context, img image.Image, lossless bool, quality int) (out []byte, err error) {
	err = webpEncoder.run(ctx, webpMemory, func(ctx context.Context, m *instance) error {
		out, err = runWebP(ctx, m, img, lossless, quality)
		return err
	})
	return out, err
}

// runWebP hands the pixels to the encoder, and takes out what it made.
func runWebP(ctx context.Context, m *instance, img image.Image, lossless bool, quality int) ([]byte, error) {
	pixels := nrgba(img)
	w, h := pixels.Rect.Dx(), pixels.Rect.Dy()
	in, err := m.put(ctx, pixels.Pix)
	if err != nil {
		return nil, err
	}
	size, err := m.allocate(ctx, 4)
	if err != nil {
		return nil, err
	}
	exactly := map[bool]uint64{true: 1}[lossless]
	out, err := m.call(ctx, "encode", uint64(in), uint64(w), uint64(h), uint64(size), 0, uint64(quality), webpMethod(w*h, lossless), exactly, 0)
	if err != nil {
		return nil, err
	}
	return m.take(out, size)
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
