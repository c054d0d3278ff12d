package picture

import (
	"bytes"
	"context"
	"errors"
	"image"
	"math/rand"
	"testing"

	"github.com/wedge-cloud/wedge"
)

// noisy is an image that is work for an encoder.
func noisy(w, h int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	r := rand.New(rand.NewSource(1))
	for i := range img.Pix {
		img.Pix[i] = byte(i/7 + r.Intn(60))
		if i%4 == 3 {
			img.Pix[i] = 255
		}
	}
	return img
}

// TestWebP reads what was written with another decoder: quarters stand where they stood, transparency is kept, and
// without loss each pixel is what it was.
func TestWebP(t *testing.T) {
	file := pngOf(quarters(64, 32))
	for _, f := range []string{"webp", "webply", "webpll"} {
		out, img := do(t, file, "format="+f)
		if out.Format != WebP || out.Warning != "" || letters(img) != "rgbw" {
			t.Errorf("%s: %s %q, %s", f, out.Format, out.Warning, letters(img))
		}
		if a := at(img, 1, 1).A; a < 120 || a > 136 {
			t.Errorf("%s: half transparent became %d", f, a)
		}
		if (string(out.Bytes[12:16]) == "VP8L") != (f == "webpll") {
			t.Errorf("%s: made a %q", f, out.Bytes[12:16])
		}
	}
	_, img := do(t, pngOf(noisy(50, 41)), "format=webpll&quality=1")
	for y := range 41 {
		for x := range 50 {
			if nrgba(img).NRGBAAt(x, y) != noisy(50, 41).NRGBAAt(x, y) {
				t.Fatalf("without loss, and another pixel at %d, %d", x, y)
			}
		}
	}
}

func TestWebPQuality(t *testing.T) {
	file := pngOf(noisy(100, 100))
	size := func(options string) int {
		out, _ := do(t, file, options)
		return len(out.Bytes)
	}
	if low, high := size("format=webp&quality=10"), size("format=webp&quality=95"); low >= high {
		t.Errorf("%d bytes at quality 10, %d at 95", low, high)
	}
	if a, b := size("format=webp&quality=95,10"), size("format=webp&quality=10"); a != b {
		t.Errorf("%d bytes with a quality of its own, %d with that of all", a, b)
	}
	if a, b := size("format=jpg&quality=95,10"), size("format=jpg&quality=95"); a != b {
		t.Errorf("JPEG has %d bytes with a quality for WebP, %d without", a, b)
	}
}

func TestWebPStays(t *testing.T) {
	lossy, _ := do(t, pngOf(quarters(64, 32)), "format=webp&bg-color=fff")
	whole, _ := do(t, pngOf(quarters(64, 32)), "format=webpll")
	for name, file := range map[string][]byte{"VP8 ": lossy.Bytes, "VP8L": whole.Bytes} {
		if out, img := do(t, file, "width=32"); out.Format != WebP || string(out.Bytes[12:16]) != name || letters(img) != "rgbw" {
			t.Errorf("%s became %s of %q: %s", name, out.Format, out.Bytes[12:16], letters(img))
		}
	}
	if out, _ := do(t, lossy.Bytes, "format=webp"); !bytes.Equal(out.Bytes, lossy.Bytes) {
		t.Error("what is WebP was written anew")
	}
}

func TestNegotiate(t *testing.T) {
	for _, c := range []struct {
		options, accept, format string
		varies                  bool
	}{
		{"auto=avif", "image/avif,image/webp,*/*;q=0.8", "avif", true},
		{"auto=avif", "image/webp", "", true},
		{"auto=avif", "image/avif;q=0,image/webp", "", true},
		{"auto=avif,webp", "image/webp,image/avif", "avif", true},
		{"auto=webp,avif", "image/webp,image/avif", "webp", true},
		{"auto=jxl,avif", "image/jxl,image/avif", "avif", true},
		{"auto=jxl", "image/jxl", "", false},
		{"auto=webp&format=auto", "image/webp,image/avif", "webp", true},
		{"format=auto", "image/webp,image/avif", "avif", true},
		{"auto=webp", "image/avif,image/webp,*/*;q=0.8", "webp", true},
		{"auto=avif,webp", "image/webp", "webp", true},
		{"auto=webp", "image/webp;q=0, */*", "", true},
		{"auto=webp", "image/*, */*", "", true},
		{"auto=webp&format=jpg", "", "jpg", true},
		{"auto=webp&format=jpg", "text/html, IMAGE/WEBP;q=0.5", "webp", true},
		{"format=auto", "image/webp", "webp", true},
		{"format=auto", "", "", true},
		{"format=png", "image/webp", "png", false},
	} {
		o, err := Parse(c.options)
		if err != nil {
			t.Fatal(err)
		}
		if varies := o.Negotiate(c.accept); varies != c.varies || o.Format != c.format || o.Auto != "" {
			t.Errorf("%s for %q: %q, %v", c.options, c.accept, o.Format, varies)
		}
	}
}

// TestWebPCallsIn ends an encoder that has begun: it must come to an interrupt check. With nothing but those a
// collection can begin meanwhile.
func TestWebPCallsIn(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	gone := errors.New("nobody waits any more")
	m, err := webpEncoder.instantiate(ctx, webpMemory)
	if err != nil {
		t.Fatal(err)
	}
	defer m.mod.Close(context.Background())
	cancel(gone)
	for _, lossless := range []bool{false, true} {
		if _, err := runWebP(ctx, m, noisy(200, 200), lossless, 80); !errors.Is(err, gone) {
			t.Errorf("it went on to the end: %v", err)
		}
	}
	if _, err := encodeWebP(ctx, noisy(200, 200), false, 80); err != gone {
		t.Errorf("the error does not say why: %v", err)
	}
}

// TestShare: what an image becomes counts as well as what it was, and twice with a codec in Wasm.
func TestShare(t *testing.T) {
	defer func(n int) { workers = n }(workers)
	workers = 64
	small, large := File{Width: 10, Height: 10, Format: PNG}, File{Width: 2000, Height: 2000, Format: PNG}
	for _, c := range []struct {
		in      File
		options string
		want    int64
	}{
		{small, "width=5", 1 << 20}, {small, "width=2000&height=1000", 4_000_000}, {large, "width=5", 8_000_000},
		{large, "width=5&format=webp", 16_000_000}, {small, "width=2000&height=1000&format=webpll", 8_000_000}, {large, "width=100000", 2 * maxPixels},
		{small, "width=2000&height=1000&format=avif", 8_000_000}, {File{Width: 2000, Height: 2000, Format: AVIF}, "width=5&format=png", 16_000_000},
	} {
		o, err := Parse(c.options)
		if err != nil {
			t.Fatal(err)
		}
		if got := o.share(c.in); got != c.want {
			t.Errorf("%d x %d, %s: %d, want %d", c.in.Width, c.in.Height, c.options, got, c.want)
		}
	}
}

func TestWebPBounds(t *testing.T) {
	long := pngOf(image.NewGray(image.Rect(0, 0, webpSide+1, 1)))
	if out, _ := do(t, long, "format=webp"); out.Format != PNG || out.Warning == "" {
		t.Errorf("a side too long for WebP: %s %q", out.Format, out.Warning)
	}
	m, err := webpEncoder.instantiate(t.Context(), webpMemory)
	if err != nil {
		t.Fatal(err)
	}
	defer m.mod.Close(context.Background())
	if _, err := m.allocate(t.Context(), webpMemory); wedge.KindOf(err) != wedge.Exhausted || err == nil {
		t.Errorf("more memory than there may be: %v", err)
	}
}

func BenchmarkWebP(b *testing.B) {
	img := noisy(1000, 1000)
	for b.Loop() {
		if _, err := encodeWebP(context.Background(), img, false, 80); err != nil {
			b.Fatal(err)
		}
	}
}
