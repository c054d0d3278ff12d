package picture

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color/palette"
	"image/gif"
	"image/jpeg"
	"image/png"
	"strings"

	"github.com/kovidgoyal/imaging"
	"golang.org/x/image/draw"
	"golang.org/x/image/webp"

	"github.com/wedge-cloud/wedge"
)

// Format is a file format, by the name that MIME types have for it.
type Format string

// Formats that can be read, and written.
const (
	JPEG Format = "jpeg"
	PNG  Format = "png"
	GIF  Format = "gif"
	WebP Format = "webp"
	AVIF Format = "avif"
)

// Type returns the MIME type.
func (f Format) Type() string { return "image/" + string(f) }

// sniff tells a file's format by its first bytes, whatever its Content-Type says.
func sniff(b []byte) Format {
	switch {
	case bytes.HasPrefix(b, []byte("\xff\xd8\xff")):
		return JPEG
	case bytes.HasPrefix(b, []byte("\x89PNG\r\n\x1a\n")):
		return PNG
	case bytes.HasPrefix(b, []byte("GIF87a")), bytes.HasPrefix(b, []byte("GIF89a")):
		return GIF
	case len(b) > 12 && string(b[:4]) == "RIFF" && string(b[8:12]) == "WEBP":
		return WebP
	case isAVIF(b):
		return AVIF
	}
	return ""
}

// probe looks at a file's head. An image that is too large is an error here, before it is decoded.
func probe(file []byte) (File, error) {
	f := File{Bytes: file, Format: sniff(file)}
	if len(file) > MaxBytes {
		return f, fault(wedge.Exhausted, "the file is too large", "Use files of 32 MiB at most.")
	}
	var err error
	switch f.Format {
	case JPEG:
		f.Width, f.Height, err = size(file, func(r *bytes.Reader) (image.Config, error) { return jpeg.DecodeConfig(r) })
	case PNG:
		f.Width, f.Height, err = size(file, func(r *bytes.Reader) (image.Config, error) { return png.DecodeConfig(r) })
	case GIF:
		f.Width, f.Height, err = size(file, func(r *bytes.Reader) (image.Config, error) { return gif.DecodeConfig(r) })
	case WebP:
		f.Width, f.Height, err = size(file, func(r *bytes.Reader) (image.Config, error) { return webp.DecodeConfig(r) })
	case AVIF:
		var h avifHead
		h, err = readAVIFHead(file)
		f.Width, f.Height = h.width, h.height
	default:
		return f, fault(wedge.Unsupported, "it is no JPEG, PNG, GIF, WebP or AVIF file", "Give the origin's image in one of these formats.")
	}
	if err != nil {
		return f, fault(wedge.Invalid, err.Error(), "The file is damaged; look at it at the origin.")
	}
	return f, fits(f.Width, f.Height)
}

// decode returns the image, the right way up.
func decode(ctx context.Context, f File) (img image.Image, err error) {
	r := bytes.NewReader(f.Bytes)
	switch f.Format {
	case JPEG:
		img, err = jpeg.Decode(r)
	case PNG:
		img, err = png.Decode(r)
	case GIF:
		img, err = gif.Decode(r)
		if err == nil && img.Bounds() != image.Rect(0, 0, f.Width, f.Height) { // a frame may be smaller than the screen
			img = imaging.Paste(image.NewNRGBA(image.Rect(0, 0, f.Width, f.Height)), img, img.Bounds().Min)
		}
	case WebP:
		img, err = webp.Decode(r)
	case AVIF:
		img, err = decodeAVIF(ctx, f.Bytes, f.Width, f.Height)
	}
	var known *wedge.Error
	if errors.As(err, &known) || err != nil && ctx.Err() != nil {
		return nil, err
	}
	if err != nil {
		return nil, fault(wedge.Invalid, err.Error(), "The file is damaged; look at it at the origin.")
	}
	switch f.Format {
	case JPEG:
		img = upright(img, exifOrientation(f.Bytes))
	case AVIF:
		h, _ := readAVIFHead(f.Bytes) // it could be read before
		img = h.upright(img)
	}
	return img, nil
}

// output returns the format in which img is to be written: the one asked for, or else that of the file. What cannot be written comes
// in one that browsers read as well, with a warning.
func (o *Options) output(img image.Image, in File) (format, warning string) {
	format = o.Format
	if format == "" || format == "auto" {
		format = in.own()
	}
	side := max(img.Bounds().Dx(), img.Bounds().Dy())
	switch {
	case format == "jxl", format == "pjxl":
		warning = "format " + format + " is not made here"
	case format == "avif" && !fitsAVIF(img.Bounds()):
		warning = fmt.Sprintf("format avif is made of no more than %d pixels, and no sides of more than %d", avifPixels, avifSide)
	case strings.HasPrefix(format, "webp") && side > webpSide:
		warning = fmt.Sprintf("format webp has no sides of more than %d pixels", webpSide)
	default:
		return format, ""
	}
	switch {
	case o.OrWebP && side <= webpSide:
		return "webp", warning
	case in.Format != WebP && in.Format != AVIF:
		return string(in.Format), warning
	case imaging.IsOpaque(img):
		return "jpeg", warning
	}
	return "png", warning
}

// own returns the format, as options name it, that keeps an image as it is.
func (f File) own() string {
	if f.lossless() {
		return "webpll"
	}
	return string(f.Format)
}

// encode writes the image.
func encode(ctx context.Context, img image.Image, in File, o *Options) (File, error) {
	format, warning := o.output(img, in)
	var b bytes.Buffer
	out := File{Width: img.Bounds().Dx(), Height: img.Bounds().Dy(), Warning: warning}
	var err error
	switch format {
	case "jpeg", "jpg", "pjpg", "bjpg":
		out.Format = JPEG
		if !imaging.IsOpaque(img) { // JPEG has no alpha: what shines through is the background
			img = imaging.Overlay(imaging.New(out.Width, out.Height, o.background()), img, image.Point{}, 1)
		}
		err = jpeg.Encode(&b, img, &jpeg.Options{Quality: o.quality()})
	case "png":
		out.Format = PNG
		err = (&png.Encoder{CompressionLevel: png.DefaultCompression}).Encode(&b, img)
	case "png8":
		out.Format = PNG
		p := image.NewPaletted(img.Bounds(), palette.Plan9)
		draw.FloydSteinberg.Draw(p, p.Bounds(), img, img.Bounds().Min)
		err = png.Encode(&b, p)
	case "gif":
		out.Format = GIF
		err = gif.Encode(&b, img, nil)
	case "webp", "webply", "webpll":
		out.Format = WebP
		out.Bytes, err = encodeWebP(ctx, img, format == "webpll", o.webpQuality())
		return out, err
	case "avif":
		out.Format = AVIF
		out.Bytes, err = encodeAVIF(ctx, img, o.quality())
		return out, err
	default:
		return in, fault(wedge.Unsupported, "there is no format "+format+" here", "Ask for avif, webp, jpg, png or gif.")
	}
	out.Bytes = b.Bytes()
	return out, err
}

// lossless reports whether a WebP file is of the kind without loss.
func (f File) lossless() bool {
	return f.Format == WebP && len(f.Bytes) > 16 && string(f.Bytes[12:16]) == "VP8L"
}

// animated reports whether a file has several frames. A damaged one has none that anybody could show.
func animated(f File) bool {
	switch b := f.Bytes; f.Format {
	case GIF:
		return gifFrames(b) > 1
	case PNG: // acTL stands before the image's data
		head, _, _ := bytes.Cut(b, []byte("IDAT"))
		return bytes.Contains(head, []byte("acTL"))
	case WebP:
		return len(b) > 20 && string(b[12:16]) == "VP8X" && b[20]&0x02 != 0
	case AVIF:
		return brands(b)[0] == "avis"
	}
	return false
}

// gifFrames counts a GIF's image descriptors, to two.
func gifFrames(b []byte) (n int) {
	at := 13
	if len(b) < at {
		return 0
	}
	colours := func(flags byte) int {
		if flags&0x80 == 0 {
			return 0
		}
		return 3 << (1 + flags&7)
	}
	at += colours(b[10])
	for at < len(b) && n < 2 {
		switch b[at] {
		case 0x21: // extension: a label, then blocks
			at += 2
		case 0x2c: // image: nine bytes, colours, the code's size, then blocks
			n++
			if at+9 >= len(b) {
				return n
			}
			at += 11 + colours(b[at+9])
		default:
			return n
		}
		for at < len(b) && b[at] != 0 {
			at += 1 + int(b[at])
		}
		at++
	}
	return n
}

// exifOrientation returns what a JPEG's EXIF segment says, 1 (upright) if nothing.
func exifOrientation(b []byte) int {
	for at := 2; at+4 <= len(b) && b[at] == 0xff; {
		kind, n := b[at+1], int(binary.BigEndian.Uint16(b[at+2:]))
		if kind == 0xda || n < 2 || at+2+n > len(b) { // the image itself begins
			break
		}
		if seg := b[at+4 : at+2+n]; kind == 0xe1 && bytes.HasPrefix(seg, []byte("Exif\x00\x00")) {
			return tiffOrientation(seg[6:])
		}
		at += 2 + n
	}
	return 1
}

// tiffOrientation looks for tag 0x0112 in the first directory (TIFF 6.0, section 2).
func tiffOrientation(t []byte) int {
	var order binary.ByteOrder = binary.BigEndian
	if len(t) < 8 {
		return 1
	}
	if t[0] == 'I' {
		order = binary.LittleEndian
	}
	at := int64(order.Uint32(t[4:]))
	if at+2 > int64(len(t)) {
		return 1
	}
	for i := range int64(order.Uint16(t[at:])) {
		e := at + 2 + 12*i
		if e+12 > int64(len(t)) {
			break
		}
		if order.Uint16(t[e:]) == 0x0112 {
			if v := int(order.Uint16(t[e+8:])); v >= 1 && v <= 8 {
				return v
			}
			break
		}
	}
	return 1
}
