// Package picture changes image files: bytes and options in, bytes out. It decodes what strangers send, so it
// looks at the size of an image before it decodes it, and bounds how many pixels are worked on in the process.
package picture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"runtime"
	"strings"

	"github.com/kovidgoyal/imaging"
	"golang.org/x/sync/semaphore"

	"github.com/wedge-cloud/wedge"
)

const (
	// MaxBytes is how large a file may be.
	MaxBytes = 32 << 20
	// maxPixels is how many pixels an image may have, before and after. Each costs up to 16 bytes while it is worked on.
	maxPixels = 32 << 20
	// maxSide bounds width and height, in pixels. JPEG has no larger ones.
	maxSide = 1<<16 - 1
	// maxBlurWork bounds pixels times radius of a blur: about a second of work.
	maxBlurWork = 1 << 29
)

// workers is how many transforms run at once: they are work for a processor, and guests want some too.
var workers = max(1, runtime.GOMAXPROCS(0)/2)

// room is the pixels that may be worked on at once. Each transform takes a worker's share at least.
var room = semaphore.NewWeighted(2 * maxPixels)

// A File is an image file and what is known of it.
type File struct {
	Bytes         []byte
	Format        Format
	Width, Height int

	Warning string // why it is not quite what was asked for
}

// Transform does to an image what o says. Animations, and what o says nothing about, come back as they are. The error is of kind
// Invalid when the file is none that can be read or does not go with o, Exhausted when it is too large, Unsupported when o asks for
// what cannot be done, or ctx's. What is under way goes on after ctx has ended, to its end, but for writing WebP, and reading or writing AVIF.
func Transform(ctx context.Context, file []byte, o *Options) (in, out File, err error) {
	if in, err = probe(file); err != nil {
		return in, in, err
	}
	if animated(in) && !o.FirstFrame {
		return in, in, nil
	}
	if o.none(in) {
		return in, in, nil
	}
	share := o.share(in)
	if err := room.Acquire(ctx, share); err != nil {
		return in, in, err
	}
	type result struct {
		out File
		err error
	}
	done := make(chan result, 1)
	go func() {
		defer room.Release(share)
		out, err := transform(ctx, in, o)
		done <- result{out, err}
	}()
	select {
	case r := <-done:
		return in, r.out, r.err
	case <-ctx.Done():
		return in, in, ctx.Err()
	}
}

// share is how much room a transform takes: twice the pixels before or after, whichever are more. The codecs of WebP and AVIF have them once
// more, and their tables.
func (o *Options) share(in File) int64 {
	w, h := o.target(in.Width, in.Height)
	n := 2 * int64(max(in.Width*in.Height, w*h))
	if in.Format == AVIF || o.Format == "avif" || strings.HasPrefix(o.Format, "webp") || o.Format == "" && in.Format == WebP {
		n *= 2
	}
	return min(max(n, int64(2*maxPixels/workers)), 2*maxPixels)
}

// transform does the work. A decoder that panics must not end the process: the file is no good.
func transform(ctx context.Context, in File, o *Options) (out File, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fault(wedge.Invalid, fmt.Sprintf("it cannot be worked on: %v", r), "Save the image anew with another program.")
		}
	}()
	img, err := decode(ctx, in)
	if err != nil {
		return in, err
	}
	for _, step := range []func(image.Image, *Options) (image.Image, error){precrop, trim, crop, resize, turn, frame, colour, soften} {
		if img, err = step(img, o); err != nil {
			return in, err
		}
	}
	return encode(ctx, img, in, o)
}

// fault is an error that a guest's author can do something about.
func fault(kind wedge.Kind, why, hint string) error {
	return &wedge.Error{Op: "transform image", Kind: kind, Err: errors.New(why), Hint: hint}
}

func bad(option, value string) error {
	return fault(wedge.Invalid, fmt.Sprintf("%s=%.40q makes no sense", option, value), "See the reference of the image optimizer's parameters.")
}

// fits reports an error for a size that is too large or nothing.
func fits(w, h int) error {
	if w < 1 || h < 1 || w > maxSide || h > maxSide || w*h > maxPixels {
		return fault(wedge.Exhausted, fmt.Sprintf("%d x %d pixels are too many or none", w, h), fmt.Sprintf("Use images of %d pixels at most.", maxPixels))
	}
	return nil
}

// upright turns an image as its EXIF orientation, or the option orient, says.
func upright(img image.Image, orientation int) image.Image {
	switch orientation {
	case 2:
		return imaging.FlipH(img)
	case 3:
		return imaging.Rotate180(img)
	case 4:
		return imaging.FlipV(img)
	case 5:
		return imaging.Transpose(img)
	case 6:
		return imaging.Rotate270(img) // counter-clockwise: a quarter to the right
	case 7:
		return imaging.Transverse(img)
	case 8:
		return imaging.Rotate90(img)
	}
	return img
}

func precrop(img image.Image, o *Options) (image.Image, error) { return cut(img, o.Precrop) }
func crop(img image.Image, o *Options) (image.Image, error)    { return cut(img, o.Crop) }

// cut takes a region out of an image.
func cut(img image.Image, r *region) (image.Image, error) {
	if r == nil {
		return img, nil
	}
	b := img.Bounds()
	area := r.in(b.Dx(), b.Dy())
	inside := area.Intersect(image.Rect(0, 0, b.Dx(), b.Dy()))
	if inside.Empty() || inside != area && !r.safe {
		return nil, fault(wedge.Invalid, fmt.Sprintf("the region %v is not in the image of %d x %d", area, b.Dx(), b.Dy()), `Add "safe" to cut to what is there.`)
	}
	return imaging.Crop(img, inside.Add(b.Min)), nil
}

// trim takes pixels off the edges.
func trim(img image.Image, o *Options) (image.Image, error) {
	if o.Trim == nil {
		return img, nil
	}
	b := img.Bounds()
	s := o.Trim.in(b.Dx(), b.Dy())
	area := image.Rect(b.Min.X+s.left, b.Min.Y+s.top, b.Max.X-s.right, b.Max.Y-s.bottom)
	if area.Empty() || s.left+s.right >= b.Dx() || s.top+s.bottom >= b.Dy() {
		return nil, fault(wedge.Invalid, "nothing is left after trim", "Trim less than half from each side.")
	}
	return imaging.Crop(img, area), nil
}

// resize makes the image the width and height asked for, or fits it into them.
func resize(img image.Image, o *Options) (image.Image, error) {
	b := img.Bounds()
	w, h := o.target(b.Dx(), b.Dy())
	if w == b.Dx() && h == b.Dy() {
		return img, nil
	}
	scaledW, scaledH := w, h
	if o.Fit == "crop" {
		scaledW, scaledH = cover(b.Dx(), b.Dy(), w, h)
	}
	if err := fits(scaledW, scaledH); err != nil {
		return nil, err
	}
	img = imaging.Resize(img, scaledW, scaledH, o.filter())
	if scaledW != w || scaledH != h {
		img = imaging.CropCenter(img, w, h)
	}
	return img, nil
}

func turn(img image.Image, o *Options) (image.Image, error) { return upright(img, o.Orient), nil }

// frame adds pixels around the image, and puts a colour behind it.
func frame(img image.Image, o *Options) (image.Image, error) {
	b := img.Bounds()
	area := image.Rect(0, 0, b.Dx(), b.Dy()) // of the canvas, seen from the image
	if o.Canvas != nil {
		area = o.Canvas.around(b.Dx(), b.Dy())
	}
	if o.Pad != nil {
		s := o.Pad.in(b.Dx(), b.Dy())
		area = image.Rect(area.Min.X-s.left, area.Min.Y-s.top, area.Max.X+s.right, area.Max.Y+s.bottom)
	}
	if area.Size() == b.Size() && o.Background == nil {
		return img, nil
	}
	if err := fits(area.Dx(), area.Dy()); err != nil {
		return nil, err
	}
	return imaging.Overlay(imaging.New(area.Dx(), area.Dy(), o.background()), img, image.Point{}.Sub(area.Min), 1), nil
}

// colour changes the colours.
func colour(img image.Image, o *Options) (image.Image, error) {
	for _, a := range []struct {
		by     float64
		adjust func(image.Image, float64) *image.NRGBA
	}{{o.Brightness, imaging.AdjustBrightness}, {o.Contrast, imaging.AdjustContrast}, {o.Saturation, imaging.AdjustSaturation}} {
		if a.by != 0 {
			img = a.adjust(img, a.by)
		}
	}
	if o.BW {
		img = imaging.AdjustContrast(imaging.Grayscale(img), 100)
	}
	return img, nil
}

// soften blurs or sharpens.
func soften(img image.Image, o *Options) (image.Image, error) {
	b := img.Bounds()
	if o.Blur > 0 {
		sigma := o.blur(b.Dx(), b.Dy())
		if float64(b.Dx()*b.Dy())*sigma*3 > maxBlurWork {
			return nil, fault(wedge.Exhausted, "so strong a blur of so large an image takes too long", "Make the image smaller, or the blur weaker.")
		}
		img = imaging.Blur(img, sigma)
	}
	if o.Sharpen > 0 {
		img = imaging.Sharpen(img, o.Sharpen)
	}
	return img, nil
}

// size returns the header's size, without decoding.
func size(file []byte, config func(r *bytes.Reader) (image.Config, error)) (w, h int, err error) {
	c, err := config(bytes.NewReader(file))
	return c.Width, c.Height, err
}
