package picture

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"math"
	"math/rand"
	"testing"

	"github.com/wedge-cloud/wedge"
)

func avifOf(t testing.TB, img image.Image) []byte {
	t.Helper()
	file, err := encodeAVIF(context.Background(), img, 90)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// slopes is an image whose colours change slowly.
func slopes(w, h int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.SetNRGBA(x, y, color.NRGBA{byte(255 * x / w), byte(255 * y / h), byte(255 * (x + y) / (w + h)), 255})
		}
	}
	return img
}

// TestAVIF reads what was written: quarters stand where they stood, transparency is kept, and colours are much what they were.
func TestAVIF(t *testing.T) {
	out, img := do(t, pngOf(quarters(64, 32)), "format=avif")
	if out.Format != AVIF || out.Warning != "" || letters(img) != "rgbw" {
		t.Errorf("%s %q, %s", out.Format, out.Warning, letters(img))
	}
	if c := at(img, 1, 1); c.A < 120 || c.A > 136 || c.R < 240 || c.G < 240 || c.B < 240 {
		t.Errorf("half transparent white became %v", c)
	}
	for size, most := range map[image.Point]float64{{1, 1}: 4, {3, 7}: 20, {65, 63}: 4, {300, 200}: 4} { // colours have half the resolution
		want := slopes(size.X, size.Y)
		_, img := do(t, pngOf(want), "format=avif&quality=90")
		if off := distance(want, img); off > most {
			t.Errorf("%v: colours are off by %.1f", size, off)
		}
		if _, ok := img.(*image.RGBA); !ok || img.Bounds().Size() != size {
			t.Errorf("%v became %T of %v", size, img, img.Bounds())
		}
	}
}

// distance is the root of the mean square of how far colours are off, of 255.
func distance(a, b image.Image) float64 {
	p, q := nrgba(a).Pix, nrgba(b).Pix
	var sum float64
	for i := range p {
		d := float64(p[i]) - float64(q[i])
		sum += d * d
	}
	return math.Sqrt(sum / float64(len(p)))
}

func TestAVIFQuality(t *testing.T) {
	file := pngOf(noisy(100, 100))
	size := func(options string) int {
		out, _ := do(t, file, options)
		return len(out.Bytes)
	}
	if low, high := size("format=avif&quality=10"), size("format=avif&quality=95"); low >= high {
		t.Errorf("%d bytes at quality 10, %d at 95", low, high)
	}
	if a, b := size("format=avif&quality=40,90"), size("format=avif&quality=40"); a != b {
		t.Errorf("%d bytes with a quality for WebP, %d without", a, b)
	}
}

// TestAVIFStays: what came as AVIF stays so, and is read as other formats are.
func TestAVIFStays(t *testing.T) {
	file := avifOf(t, quarters(64, 32))
	if out, img := do(t, file, "width=32"); out.Format != AVIF || letters(img) != "rgbw" {
		t.Errorf("became %s: %s", out.Format, letters(img))
	}
	if out, img := do(t, file, "format=png"); out.Format != PNG || letters(img) != "rgbw" || at(img, 1, 1).A > 140 {
		t.Errorf("as PNG: %s", letters(img))
	}
	if out, _ := do(t, file, "format=jxl"); out.Format != PNG || out.Warning == "" {
		t.Errorf("with transparency became %s %q", out.Format, out.Warning)
	}
	o, _ := Parse("auto=avif,webp")
	o.Negotiate("image/avif,image/webp")
	if _, out, err := Transform(t.Context(), file, o); err != nil || !bytes.Equal(out.Bytes, file) {
		t.Errorf("what is AVIF was written anew: %v", err)
	}
	sequence := bytes.Replace(file, []byte("ftypavif"), []byte("ftypavis"), 1)
	if _, out, err := Transform(t.Context(), sequence, &Options{Format: "png"}); err != nil || !bytes.Equal(out.Bytes, sequence) {
		t.Errorf("an animation was changed: %v", err)
	}
}

// turned puts properties that turn it into a file with one item, which has four: its last one, the colours' kind, goes.
func turned(t *testing.T, file []byte, properties ...byte) []byte {
	t.Helper()
	i := bytes.Index(file, []byte("colrnclx"))
	if i < 0 {
		t.Fatal("no colr box")
	}
	file = bytes.Clone(file)
	copy(file[i:], properties)
	binary.BigEndian.PutUint32(file[i-4:], 9)
	copy(file[i+5:], "\x00\x00\x00\x0afree") // the rest of 19 bytes
	return file
}

// TestAVIFTurned: a file may say that it is to be turned, or to be mirrored.
func TestAVIFTurned(t *testing.T) {
	img := quarters(64, 32)
	for i := 3; i < len(img.Pix); i += 4 {
		img.Pix[i] = 255
	}
	file := avifOf(t, img)
	for property, want := range map[string]string{"irot\x00": "rgbw", "irot\x01": "gwrb", "irot\x02": "wbgr", "irot\x03": "brwg", "imir\x00": "bwrg", "imir\x01": "grwb"} {
		if _, img := do(t, turned(t, file, []byte(property)...), "format=png"); letters(img) != want {
			t.Errorf("%q: %s, want %s", property, letters(img), want)
		}
	}
	both := avifHead{quarters: 1, mirrored: true, sideways: true}
	if got := letters(both.upright(img)); got != "wgbr" {
		t.Errorf("turned to the left, then mirrored: %s", got)
	}
}

func TestAVIFBounds(t *testing.T) {
	for _, img := range []image.Image{image.NewGray(image.Rect(0, 0, avifSide+1, 1)), image.NewGray(image.Rect(0, 0, 4096, avifPixels/4096+1))} {
		file := pngOf(img)
		if out, _ := do(t, file, "format=avif"); out.Format != PNG || out.Warning == "" {
			t.Errorf("%v: %s %q", img.Bounds(), out.Format, out.Warning)
		}
	}
	o := &Options{Format: "avif", OrWebP: true}
	if format, warning := o.output(image.NewGray(image.Rect(0, 0, 4096, 4096)), File{Format: PNG}); format != "webp" || warning == "" {
		t.Errorf("too large for AVIF, and WebP can be read: %s %q", format, warning)
	}
	if _, err := decodeAVIF(t.Context(), nil, 8192, 8192); wedge.KindOf(err) != wedge.Exhausted || err == nil {
		t.Errorf("too large to read: %v", err)
	}
}

// TestAVIFCallsIn ends codecs that have begun.
func TestAVIFCallsIn(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	gone := errors.New("nobody waits any more")
	img := noisy(200, 200)
	file := avifOf(t, img)
	err := avifEncoder.run(ctx, avifMemory(200, 200), func(ctx context.Context, m *instance) error {
		cancel(gone)
		_, err := runAVIF(ctx, m, img, 80)
		if !errors.Is(err, gone) {
			t.Errorf("it went on to the end: %v", err)
		}
		return err
	})
	if err != gone {
		t.Errorf("the error does not say why: %v", err)
	}
	ctx, cancel = context.WithCancelCause(context.Background())
	err = avifDecoder.run(ctx, avifMemory(200, 200), func(ctx context.Context, m *instance) error {
		cancel(gone)
		img, err := readAVIF(ctx, m, file, 200, 200)
		if img != nil {
			t.Error("it was read to the end")
		}
		return err
	})
	if err != gone {
		t.Errorf("the error does not say why: %v", err)
	}
}

// say writes another size into a file's ispe boxes.
func say(file []byte, w, h uint32) []byte {
	file = bytes.Clone(file)
	at := bytes.Index(file, []byte("ispe"))
	binary.BigEndian.PutUint32(file[at+8:], w)
	binary.BigEndian.PutUint32(file[at+12:], h)
	return file
}

// TestAVIFLies: a file that says it is small, and is not, gets the memory of a small one; one that says that it is large is not looked at.
func TestAVIFLies(t *testing.T) {
	file := avifOf(t, slopes(1500, 1500))
	o := &Options{Format: "png"}
	if _, _, err := Transform(t.Context(), say(file, 8, 8), o); wedge.KindOf(err) != wedge.Exhausted || err == nil {
		t.Errorf("a large image in a small one: %v", err)
	}
	if _, _, err := Transform(t.Context(), say(file, 60000, 60000), o); wedge.KindOf(err) != wedge.Exhausted || err == nil {
		t.Errorf("a large image: %v", err)
	}
	if _, _, err := Transform(t.Context(), say(file, 0, 8), o); wedge.KindOf(err) != wedge.Invalid || err == nil {
		t.Errorf("no image: %v", err)
	}
}

// TestAVIFHostile reads files that are cut off or changed: there is an image of the size that was said, or an error.
func TestAVIFHostile(t *testing.T) {
	file := avifOf(t, quarters(32, 16))
	check := func(name string, n int, file []byte) {
		f, err := probe(file)
		if err != nil || f.Format != AVIF || f.Width*f.Height > 1<<16 {
			return
		}
		img, err := decodeAVIF(t.Context(), file, f.Width, f.Height)
		if kind := wedge.KindOf(err); err != nil && !errors.Is(err, errAVIF) && kind != wedge.Exhausted {
			t.Errorf("%s at %d: %v", name, n, err)
		}
		if err == nil && img.Bounds().Size() != image.Pt(f.Width, f.Height) {
			t.Errorf("%s at %d: %v", name, n, img.Bounds())
		}
	}
	for n := 0; n < len(file); n += 3 {
		check("cut", n, file[:n])
	}
	r := rand.New(rand.NewSource(1))
	for n := range 300 {
		bad := bytes.Clone(file)
		for range 1 + r.Intn(4) {
			bad[r.Intn(len(bad))] = byte(r.Intn(256))
		}
		check("changed", n, bad)
	}
}

// FuzzAVIF: the boxes are read by code of our own, the rest in a sandbox.
func FuzzAVIF(f *testing.F) {
	f.Add(avifOf(f, quarters(8, 6)))
	f.Add(avifOf(f, slopes(70, 66)))
	f.Fuzz(func(t *testing.T, file []byte) {
		isAVIF(file)
		h, err := readAVIFHead(file)
		if err != nil || h.width > 256 || h.height > 256 {
			return // it would take its time
		}
		img, err := decodeAVIF(context.Background(), file, h.width, h.height)
		if err == nil {
			h.upright(img)
		}
		if wedge.KindOf(err) == wedge.Exhausted && bytes.Contains([]byte(err.Error()), []byte("too long")) {
			t.Error(err)
		}
	})
}

func BenchmarkAVIF(b *testing.B) {
	img := noisy(1000, 1000)
	for b.Loop() {
		if _, err := encodeAVIF(context.Background(), img, 80); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAVIFRead(b *testing.B) {
	file := avifOf(b, noisy(1000, 1000))
	for b.Loop() {
		if _, err := decodeAVIF(context.Background(), file, 1000, 1000); err != nil {
			b.Fatal(err)
		}
	}
}
