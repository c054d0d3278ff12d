package picture

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"strings"
	"testing"

	"github.com/wedge-cloud/wedge"
)

// quarters is an image whose four quarters are red, green, blue and half transparent white, from the left upper one.
func quarters(w, h int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := [...]color.NRGBA{{255, 0, 0, 255}, {0, 255, 0, 255}, {0, 0, 255, 255}, {255, 255, 255, 128}}[2*y/h*2+2*x/w]
			img.SetNRGBA(x, y, c)
		}
	}
	return img
}

func pngOf(img image.Image) []byte {
	var b bytes.Buffer
	png.Encode(&b, img)
	return b.Bytes()
}

func jpegOf(img image.Image) []byte {
	var b bytes.Buffer
	jpeg.Encode(&b, img, &jpeg.Options{Quality: 95})
	return b.Bytes()
}

// exif puts an EXIF segment with an orientation into a JPEG.
func exif(file []byte, order binary.AppendByteOrder, orientation uint16) []byte {
	tiff := []byte("MM\x00*")
	if order == binary.LittleEndian {
		tiff = []byte("II*\x00")
	}
	tiff = order.AppendUint32(tiff, 8)
	tiff = order.AppendUint16(tiff, 1)
	tiff = order.AppendUint16(tiff, 0x0112)
	tiff = order.AppendUint16(tiff, 3)
	tiff = order.AppendUint32(tiff, 1)
	tiff = order.AppendUint16(tiff, orientation)
	tiff = append(tiff, 0, 0, 0, 0, 0, 0)
	seg := append([]byte("\xff\xe1"), binary.BigEndian.AppendUint16(nil, uint16(8+len(tiff)))...)
	seg = append(append(seg, "Exif\x00\x00"...), tiff...)
	return append(append(file[:2:2], seg...), file[2:]...)
}

func animation() []byte {
	g := &gif.GIF{}
	for range 3 {
		g.Image = append(g.Image, image.NewPaletted(image.Rect(0, 0, 20, 10), color.Palette{color.Black, color.White}))
		g.Delay = append(g.Delay, 10)
	}
	var b bytes.Buffer
	gif.EncodeAll(&b, g)
	return b.Bytes()
}

// webpFile is one pixel, lossy.
var webpFile, _ = base64.StdEncoding.DecodeString("UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA")

func do(t *testing.T, file []byte, options string) (File, image.Image) {
	t.Helper()
	o, err := Parse(options)
	if err != nil {
		t.Fatalf("%s: %v", options, err)
	}
	_, out, err := Transform(context.Background(), file, o)
	if err != nil {
		t.Fatalf("%s: %v", options, err)
	}
	img, format, err := read(out.Bytes)
	if err != nil || format != out.Format {
		t.Fatalf("%s: made %s, which reads as %q: %v", options, out.Format, format, err)
	}
	if b := img.Bounds(); b.Dx() != out.Width || b.Dy() != out.Height {
		t.Errorf("%s: %v, said to be %d x %d", options, b, out.Width, out.Height)
	}
	return out, img
}

// read decodes with decoders of others.
func read(file []byte) (image.Image, Format, error) {
	if f, err := probe(file); err == nil && f.Format == AVIF {
		img, err := decodeAVIF(context.Background(), file, f.Width, f.Height)
		return img, AVIF, err
	}
	img, format, err := image.Decode(bytes.NewReader(file))
	return img, Format(format), err
}

func TestSizes(t *testing.T) {
	file := pngOf(quarters(120, 80))
	for options, want := range map[string]image.Point{
		"width=60":                            {60, 40},
		"width=50p":                           {60, 40},
		"width=25%25":                         {30, 20},
		"width=0.5":                           {60, 40},
		"height=160":                          {240, 160},
		"height=160&disable=upscale":          {120, 80},
		"width=33&height=44":                  {33, 44},
		"width=60&height=60&fit=bounds":       {60, 40},
		"width=60&height=60&fit=cover":        {90, 60},
		"width=60&height=60&fit=crop":         {60, 60},
		"width=30&dpr=2":                      {60, 40},
		"crop=30,20":                          {30, 20},
		"crop=1:1":                            {80, 80},
		"crop=3:1":                            {120, 40},
		"crop=50p,50p,x90,y60,safe":           {30, 20},
		"precrop=60,40&crop=50p,50p&width=60": {60, 40},
		"trim=10":                             {100, 60},
		"trim=1,2,3,4":                        {114, 76},
		"pad=5,10":                            {140, 90},
		"canvas=200,100":                      {200, 100},
		"canvas=1:1":                          {120, 120},
		"canvas=10,10":                        {120, 80},
		"orient=r":                            {80, 120},
		"width=1&height=1&blur=5":             {1, 1},
		"region=us_east&auto=webp&width=12":   {12, 8},
	} {
		if _, img := do(t, file, options); img.Bounds().Size() != want {
			t.Errorf("%s: %v, want %v", options, img.Bounds().Size(), want)
		}
	}
}

// at returns the colour near the middle of a quarter.
func at(img image.Image, right, down int) color.NRGBA {
	b := img.Bounds()
	return color.NRGBAModel.Convert(img.At(b.Min.X+b.Dx()*(1+2*right)/4, b.Min.Y+b.Dy()*(1+2*down)/4)).(color.NRGBA)
}

// letters names the quarters' colours.
func letters(img image.Image) (s string) {
	for i := range 4 {
		c := at(img, i%2, i/2)
		switch {
		case c.R > 200 && c.G < 60 && c.B < 60:
			s += "r"
		case c.G > 200 && c.R < 60 && c.B < 60:
			s += "g"
		case c.B > 200 && c.R < 60 && c.G < 60:
			s += "b"
		default:
			s += "w"
		}
	}
	return s
}

// TestOrientation turns by the option, and by EXIF in both byte orders: all eight ways.
func TestOrientation(t *testing.T) {
	file, photo := pngOf(quarters(64, 32)), jpegOf(quarters(64, 32))
	for i, want := range []string{"rgbw", "grwb", "wbgr", "bwrg", "rbgw", "brwg", "wgbr", "gwrb"} {
		o := string(rune('1' + i))
		if _, img := do(t, file, "orient="+o+"&quality=90"); letters(img) != want {
			t.Errorf("orient %s: %s, want %s", o, letters(img), want)
		}
		for _, order := range []binary.AppendByteOrder{binary.BigEndian, binary.LittleEndian} {
			if _, img := do(t, exif(photo, order, uint16(i+1)), "quality=90"); letters(img) != want {
				t.Errorf("EXIF %s: %s, want %s", o, letters(img), want)
			}
		}
	}
}

func TestRegions(t *testing.T) {
	file := pngOf(quarters(64, 64))
	for options, want := range map[string]string{
		"crop=32,32,x0,y0": "rrrr", "crop=32,32,x32,y0": "gggg", "crop=32,32,offset-x0,offset-y100": "bbbb", "crop=40,40": "rgbw",
		"canvas=128,128,x64,y0&bg-color=00f": "bwbb", "pad=0,0,64,0&bg-color=255,0,0": "bwrr", "bg-color=0f0&crop=32,32,x32,y32": "wwww",
	} {
		if _, img := do(t, file, options); letters(img) != want {
			t.Errorf("%s: %s, want %s", options, letters(img), want)
		}
	}
}

func TestColours(t *testing.T) {
	file := pngOf(quarters(64, 64))
	gray := func(options string, right, down int) uint8 {
		_, img := do(t, file, options)
		c := at(img, right, down)
		if c.R != c.G || c.G != c.B {
			t.Errorf("%s: %v is no gray", options, c)
		}
		return c.R
	}
	if gray("saturation=-100", 0, 0) == 0 || gray("brightness=-100", 0, 0) != 0 || gray("brightness=100", 0, 0) != 255 || gray("contrast=-100", 0, 1) != 128 {
		t.Error("colours did not change as asked")
	}
	if v := gray("bw=threshold", 0, 1); v != 0 {
		t.Errorf("blue is %d in black and white", v)
	}
	_, img := do(t, file, "blur=8")
	if c := color.NRGBAModel.Convert(img.At(32, 16)).(color.NRGBA); c.R < 60 || c.G < 60 {
		t.Errorf("between red and green is %v after a blur", c)
	}
	if _, img := do(t, file, "format=jpg&bg-color=0000ff"); at(img, 1, 1).B < 200 || at(img, 1, 1).R > 160 {
		t.Errorf("half white over blue is %v", at(img, 1, 1))
	}
}

func TestFormats(t *testing.T) {
	file := pngOf(quarters(64, 64))
	for options, want := range map[string]Format{"format=jpg": JPEG, "format=pjpg": JPEG, "format=png8": PNG, "format=gif": GIF, "format=auto&width=9": PNG, "width=3": PNG} {
		if out, _ := do(t, file, options); out.Format != want || out.Warning != "" {
			t.Errorf("%s: %s %q", options, out.Format, out.Warning)
		}
	}
	for _, f := range []string{"jxl", "pjxl"} {
		if out, _ := do(t, file, "format="+f); out.Format != PNG || !strings.Contains(out.Warning, f) {
			t.Errorf("%s: %s %q", f, out.Format, out.Warning)
		}
	}
	if out, _ := do(t, webpFile, "width=8&format=jxl"); out.Format != JPEG || out.Width != 8 {
		t.Errorf("WebP became %s", out.Format)
	}
	low, _ := do(t, file, "format=jpg&quality=10")
	high, _ := do(t, file, "format=jpg&quality=95")
	if len(low.Bytes) >= len(high.Bytes) {
		t.Errorf("%d bytes at quality 10, %d at 95", len(low.Bytes), len(high.Bytes))
	}
}

func TestAnimationsPass(t *testing.T) {
	file := animation()
	if out, _ := do(t, file, "width=5&format=png"); !bytes.Equal(out.Bytes, file) || out.Format != GIF {
		t.Error("an animation was changed")
	}
	if out, _ := do(t, file, "width=5&format=png&frame=1"); out.Format != PNG || out.Width != 5 {
		t.Errorf("its first frame is %s, %d wide", out.Format, out.Width)
	}
	apng := bytes.Replace(pngOf(quarters(8, 8)), []byte("IDAT"), []byte("acTLIDAT"), 1)
	if !animated(File{Bytes: apng, Format: PNG}) || animated(File{Bytes: pngOf(quarters(8, 8)), Format: PNG}) || animated(File{Bytes: webpFile, Format: WebP}) {
		t.Error("animations and others are mixed up")
	}
	if out, _ := do(t, file, ""); !bytes.Equal(out.Bytes, file) {
		t.Error("nothing to be done, and something was")
	}
}

// bomb is a PNG that says it is that large.
func bomb(w, h uint32) []byte {
	b := pngOf(image.NewGray(image.Rect(0, 0, 1, 1)))
	binary.BigEndian.PutUint32(b[16:], w)
	binary.BigEndian.PutUint32(b[20:], h)
	crc := crc32.ChecksumIEEE(b[12:29])
	binary.BigEndian.PutUint32(b[29:], crc)
	return b
}

func TestRefusals(t *testing.T) {
	file := pngOf(quarters(64, 64))
	for _, c := range []struct {
		file    []byte
		options string
		kind    wedge.Kind
	}{
		{bomb(60000, 60000), "width=1", wedge.Exhausted},
		{bomb(1<<31-1, 1), "width=1", wedge.Exhausted},
		{make([]byte, MaxBytes+1), "width=1", wedge.Exhausted},
		{file, "width=60000&height=60000", wedge.Exhausted},
		{file, "pad=60000", wedge.Exhausted},
		{file, "canvas=60000,60000", wedge.Exhausted},
		{file, "width=4000&blur=1000", wedge.Exhausted},
		{pngOf(image.NewGray(image.Rect(0, 0, 4000, 1))), "width=1&height=60000&fit=crop", wedge.Exhausted},
		{file, "crop=65,65", wedge.Invalid},
		{file, "crop=10,10,x64,y0,safe", wedge.Invalid},
		{file, "trim=32", wedge.Invalid},
		{file, "format=mp4", wedge.Unsupported},
		{file[:100], "width=1", wedge.Invalid},
		{[]byte("<svg/>"), "width=1", wedge.Unsupported},
		{nil, "", wedge.Unsupported},
	} {
		o, err := Parse(c.options)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Transform(context.Background(), c.file, o); wedge.KindOf(err) != c.kind {
			t.Errorf("%s: %v, want kind %v", c.options, err, c.kind)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := Transform(ctx, file, &Options{Quality: 1}); err != context.Canceled {
		t.Errorf("a transform that nobody waits for: %v", err)
	}
}

func TestBadOptions(t *testing.T) {
	for _, q := range []string{"width=x", "width=-1", "width=NaN", "width=1e9", "height=", "dpr=0", "dpr=11", "fit=fill", "crop=1", "crop=1:", "crop=0:1", "crop=1,2,z3",
		"crop=1,2,offset-x101", "orient=9", "orient=", "bg-color=12", "bg-color=256,0,0", "bg-color=1,2,3,4", "brightness=101", "blur=0", "blur=1001", "sharpen=", "sharpen=a1,r0",
		"quality=101", "quality=", "quality=50,", "quality=50,101", "auto=", "auto=gif", "optimize=max", "format=bmp", "frame=2", "trim=1,2,3,4,5", "pad=a", "resize-filter=best", "disable=all", "enable=all", "bw=x", "%zz"} {
		if _, err := Parse(q); wedge.KindOf(err) != wedge.Invalid || err == nil {
			t.Errorf("%s: %v", q, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("width=10&crop=3:4,offset-x3&pad=1,2&blur=2p")
	f.Fuzz(func(t *testing.T, query string) {
		o, err := Parse(query)
		if err != nil {
			return
		}
		img := image.Image(quarters(8, 6))
		for _, step := range []func(image.Image, *Options) (image.Image, error){precrop, trim, crop, turn} {
			if img, err = step(img, o); err != nil {
				return
			}
		}
		if w, h := o.target(8, 6); w < 1 || h < 1 {
			t.Errorf("%s: a target of %d x %d", query, w, h)
		}
	})
}

func FuzzTransform(f *testing.F) {
	small := quarters(8, 6)
	for _, file := range [][]byte{pngOf(small), jpegOf(small), exif(jpegOf(small), binary.LittleEndian, 6), animation(), webpFile, bomb(9, 9), avifOf(f, small)} {
		f.Add(file)
	}
	o := &Options{Width: measure{n: 4}, Format: "jpeg", FirstFrame: true}
	f.Fuzz(func(t *testing.T, file []byte) {
		if in, err := probe(file); err == nil && in.Width*in.Height > 1<<16 {
			return // it would take its time
		}
		_, _, _ = Transform(context.Background(), file, o)
		exifOrientation(file)
		gifFrames(file)
	})
}

func BenchmarkThumbnail(b *testing.B) {
	file := jpegOf(quarters(4000, 3000))
	o, _ := Parse("width=400&quality=80")
	for b.Loop() {
		if _, _, err := Transform(context.Background(), file, o); err != nil {
			b.Fatal(err)
		}
	}
}
