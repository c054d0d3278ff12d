package picture

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"image"
	"math"
	"time"

	"golang.org/x/image/draw"

	"github.com/wedge-cloud/wedge"
)

// libavif with libaom as Wasm; see libavif/README.md.
//
//go:embed libavif/encode.wasm.gz
var libavifEncode []byte

//go:embed libavif/decode.wasm.gz
var libavifDecode []byte

const (
	avifSide    = 1 << 15  // the most pixels of a side that libavif reads
	avifPixels  = 8 << 20  // the most that are written: half a second each million
	avifRead    = 12 << 20 // the most that are read
	avifFastest = 10       // of libavif's speeds, 0 to 10
	avif420     = 3        // avifPixelFormat: colours at half the resolution
)

var (
	avifEncoder = newCodec(libavifEncode, "to write it as AVIF", 20*time.Second)
	avifDecoder = newCodec(libavifDecode, "to read the AVIF file", 20*time.Second)
)

// avifMemory is how many bytes an image may take: one of 8 bits takes 25 to 35 for a pixel, one of 10 bits 50, and there is a margin
// around it. A file that says it is small, and has a large image in it, gets no more.
func avifMemory(w, h int) int { return 8<<20 + 80*(w+64)*(h+64) }

// fitsAVIF reports whether an image of that size is written as AVIF.
func fitsAVIF(b image.Rectangle) bool {
	return max(b.Dx(), b.Dy()) <= avifSide && b.Dx()*b.Dy() <= avifPixels
}

// encodeAVIF writes img as AVIF, its transparency too. When ctx ends, so does the work.
func encodeAVIF(ctx context.Context, img image.Image, quality int) (out []byte, err error) {
	b := img.Bounds()
	err = avifEncoder.run(ctx, avifMemory(b.Dx(), b.Dy()), func(ctx context.Context, m *instance) error {
		out, err = runAVIF(ctx, m, img, quality)
		return err
	})
	return out, err
}

// runAVIF hands the pixels to the encoder, which wants them with their transparency multiplied in, and takes out what it made.
func runAVIF(ctx context.Context, m *instance, img image.Image, quality int) ([]byte, error) {
	w, h := img.Bounds().Dx(), img.Bounds().Dy()
	pixels := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.Draw(pixels, pixels.Rect, img, img.Bounds().Min, draw.Src)
	in, err := m.put(ctx, pixels.Pix)
	if err != nil {
		return nil, err
	}
	size, err := m.allocate(ctx, 4)
	if err != nil {
		return nil, err
	}
	out, err := m.call(ctx, "encode", uint64(in), uint64(w), uint64(h), uint64(size), uint64(quality), uint64(quality), avifFastest, avif420)
	if err != nil {
		return nil, err
	}
	return m.take(out, size)
}

// decodeAVIF reads the pixels of an AVIF file of w x h, of an animation those of the first frame. When ctx ends, so does the work.
func decodeAVIF(ctx context.Context, file []byte, w, h int) (img image.Image, err error) {
	if max(w, h) > avifSide || w*h > avifRead {
		return nil, fault(wedge.Exhausted, fmt.Sprintf("%d x %d pixels are too many of AVIF", w, h), fmt.Sprintf("Use AVIF files of %d pixels at most.", avifRead))
	}
	err = avifDecoder.run(ctx, len(file)+avifMemory(w, h), func(ctx context.Context, m *instance) error {
		img, err = readAVIF(ctx, m, file, w, h)
		return err
	})
	return img, err
}

var errAVIF = errors.New("avif: no image can be read")

// readAVIF asks the decoder for the size, which must be the one that is known, and then for the pixels.
func readAVIF(ctx context.Context, m *instance, file []byte, w, h int) (image.Image, error) {
	in, err := m.put(ctx, file)
	if err != nil {
		return nil, err
	}
	said, err := m.put(ctx, bytes.Repeat([]byte{0xff}, avifSaid))
	if err != nil {
		return nil, err
	}
	decode := func(sizeOnly uint64, out uint32) error {
		at := uint64(said)
		ok, err := m.call(ctx, "decode", uint64(in), uint64(len(file)), sizeOnly, 0, at, at+4, at+8, at+12, at+16, uint64(out))
		if err != nil || ok != 1 { // an error is a trap: nobody but the library's authors learns anything of it
			return errAVIF
		}
		return nil
	}
	word := func(i uint32) int { n, _ := m.mem.ReadUint32Le(said + 4*i); return int(n) }
	if err := decode(1, 0); err != nil {
		return nil, err
	}
	if word(0) != w || word(1) != h {
		return nil, fmt.Errorf("%w: %d x %d pixels in a file of %d x %d", errAVIF, word(0), word(1), w, h)
	}
	n := 4 * w * h
	if word(2) > 8 {
		n *= 2
	}
	out, err := m.allocate(ctx, n)
	if err != nil {
		return nil, err
	}
	if err := decode(0, out); err != nil {
		return nil, err
	}
	pix, ok := m.mem.Read(out, uint32(n))
	if !ok || word(4) == math.MaxUint32 && word(5) == math.MaxUint32 {
		return nil, errAVIF
	}
	return rgba(pix, w, h), nil
}

// avifSaid is the room for what the decoder says: width, height, depth, the number of frames, and the duration of the first in eight
// bytes, which is written with the pixels only.
const avifSaid = 4*4 + 8

// rgba copies pixels of 8 bits, or the upper ones of 16.
func rgba(pix []byte, w, h int) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	wide := len(pix) / len(img.Pix)
	for i := range img.Pix {
		img.Pix[i] = pix[i*wide+wide-1]
	}
	return img
}
