package picture

import (
	"cmp"
	"image/color"
	"math"
	"mime"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/kovidgoyal/imaging"

	"github.com/wedge-cloud/wedge"
)

// Options are what is to be done to an image, by the names of the image optimizer's query parameters.
type Options struct {
	Width, Height measure
	DPR           float64 // 0: 1
	Fit           string  // "", bounds, cover, crop; "": exactly Width x Height
	NoUpscale     bool
	Filter        string
	Precrop, Crop *region
	Canvas        *region
	Trim, Pad     *sides
	Orient        int // of EXIF, 0: as it is
	Background    *color.NRGBA
	Brightness    float64 // these three -100 to 100
	Contrast      float64
	Saturation    float64
	BW            bool
	Blur          float64 // sigma, in pixels; as part of a side if Percent
	BlurPercent   bool
	Sharpen       float64
	Quality       int    // 1 to 100; 0: by Optimize
	WebPQuality   int    // of WebP, if another; 0: Quality
	Optimize      string // low, medium, high
	Format        string // "": as it is
	Auto          string // avif, webp or both, best first: for those who read it
	OrWebP        bool   // if AVIF is asked for, and the image is too large for it
	FirstFrame    bool   // of an animation
}

// optionWords are the parameters that are read, with what their values mean.
var optionWords = map[string]func(o *Options, v string) bool{
	"width":         func(o *Options, v string) bool { return o.Width.parse(v) },
	"height":        func(o *Options, v string) bool { return o.Height.parse(v) },
	"dpr":           func(o *Options, v string) bool { return number(&o.DPR, v, 1, 10) },
	"fit":           func(o *Options, v string) bool { return oneOf(&o.Fit, v, "bounds", "cover", "crop") },
	"enable":        func(o *Options, v string) bool { return v == "upscale" },
	"disable":       func(o *Options, v string) bool { o.NoUpscale = true; return v == "upscale" },
	"resize-filter": func(o *Options, v string) bool { return oneOf(&o.Filter, v, filterNames...) },
	"precrop":       func(o *Options, v string) bool { return parseRegion(&o.Precrop, v) },
	"crop":          func(o *Options, v string) bool { return parseRegion(&o.Crop, v) },
	"canvas":        func(o *Options, v string) bool { return parseRegion(&o.Canvas, v) },
	"trim":          func(o *Options, v string) bool { return parseSides(&o.Trim, v) },
	"pad":           func(o *Options, v string) bool { return parseSides(&o.Pad, v) },
	"orient":        orient,
	"bg-color":      func(o *Options, v string) bool { return parseColour(&o.Background, v) },
	"brightness":    func(o *Options, v string) bool { return number(&o.Brightness, v, -100, 100) },
	"contrast":      func(o *Options, v string) bool { return number(&o.Contrast, v, -100, 100) },
	"saturation":    func(o *Options, v string) bool { return number(&o.Saturation, v, -100, 100) },
	"bw": func(o *Options, v string) bool {
		o.BW = true
		how, _, _ := strings.Cut(v, ",")
		return how == "threshold" || how == "atkinson"
	},
	"blur":     blur,
	"sharpen":  sharpen,
	"quality":  quality,
	"optimize": func(o *Options, v string) bool { return oneOf(&o.Optimize, v, "low", "medium", "high") },
	"format":   func(o *Options, v string) bool { return oneOf(&o.Format, v, formatNames...) },
	"auto":     auto,
	"frame":    func(o *Options, v string) bool { o.FirstFrame = true; return v == "1" },
}

var (
	filterNames = []string{"nearest", "bilinear", "linear", "bicubic", "cubic", "lanczos2", "lanczos3", "lanczos"}
	formatNames = []string{"auto", "avif", "bjpg", "gif", "jpg", "jpeg", "jxl", "mp4", "pjpg", "pjxl", "png", "png8", "svg", "webp", "webpll", "webply"}
)

// Parse reads a query string. Parameters that are not the image optimizer's, and those that only say where or for whom it
// works, have no effect. An error is of kind Invalid.
func Parse(query string) (*Options, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, fault(wedge.Invalid, err.Error(), "Write the options as a query string.")
	}
	o := &Options{}
	for name, set := range optionWords {
		if v := values[name]; len(v) > 0 && !set(o, v[len(v)-1]) {
			return nil, bad(name, v[len(v)-1])
		}
	}
	return o, nil
}

// none reports whether nothing is to be done to f.
func (o *Options) none(f File) bool {
	same := Options{Format: string(f.Format), OrWebP: o.OrWebP}
	return *o == Options{} || *o == Options{FirstFrame: true} && !animated(f) || *o == same
}

func number(p *float64, v string, least, most float64) bool {
	f, err := strconv.ParseFloat(v, 64)
	*p = f
	return err == nil && f >= least && f <= most // also no NaN
}

func oneOf(p *string, v string, words ...string) bool {
	*p = v
	return slices.Contains(words, v)
}

func orient(o *Options, v string) bool {
	words := map[string]int{"r": 6, "l": 8, "h": 2, "v": 4, "hv": 3, "vh": 3}
	o.Orient = words[v]
	if n, err := strconv.Atoi(v); err == nil {
		o.Orient = n
	}
	return o.Orient >= 1 && o.Orient <= 8
}

func blur(o *Options, v string) bool {
	v, o.BlurPercent = percent(v)
	return number(&o.Blur, v, 0.01, 1000)
}

// blur returns the sigma for an image of that size.
func (o *Options) blur(w, h int) float64 {
	if o.BlurPercent {
		return o.Blur / 100 * float64(min(w, h))
	}
	return o.Blur
}

// sharpen is "amount,radius,threshold", of which only the radius tells imaging something: the amount scales it.
func sharpen(o *Options, v string) bool {
	var amount, radius float64
	parts := strings.Split(strings.TrimPrefix(v, "a"), ",")
	if !number(&amount, parts[0], 0, 10) {
		return false
	}
	radius = 1
	if len(parts) > 1 && !number(&radius, strings.TrimPrefix(parts[1], "r"), 1, 1000) {
		return false
	}
	o.Sharpen = min(amount*radius, 10)
	return len(parts) <= 3
}

// quality may be followed by one for WebP.
func quality(o *Options, v string) bool {
	v, webp, two := strings.Cut(v, ",")
	return oneQuality(&o.Quality, v) && (!two || oneQuality(&o.WebPQuality, webp))
}

func oneQuality(p *int, v string) bool {
	n, err := strconv.Atoi(v)
	*p = max(n, 1)
	return err == nil && n >= 0 && n <= 100
}

// auto is a list of formats. Of those that nobody here makes, the next is taken.
func auto(o *Options, v string) bool {
	var made []string
	for _, format := range strings.Split(v, ",") {
		if !slices.Contains([]string{"webp", "avif", "jxl", "pjxl"}, format) {
			return false
		}
		if format == "webp" || format == "avif" {
			made = append(made, format)
		}
	}
	o.Auto = strings.Join(made, ",")
	return true
}

// Negotiate decides what auto and format=auto leave to the client, by its Accept field: the first of the formats that it reads. It
// reports whether they do.
func (o *Options) Negotiate(accept string) bool {
	offers := o.Auto
	if o.Format == "auto" {
		o.Format = ""
		offers = cmp.Or(offers, "avif,webp")
	}
	o.Auto = ""
	var read []string
	for _, format := range strings.Split(offers, ",") {
		if reads(accept, "image/"+format) {
			read = append(read, format)
		}
	}
	if len(read) > 0 {
		o.Format = read[0]
		o.OrWebP = read[0] == "avif" && slices.Contains(read, "webp")
	}
	return offers != ""
}

// reads reports whether an Accept field names a type, and not with q=0. Patterns do not count: browsers send them for what they
// may not read.
func reads(accept, typ string) bool {
	for _, one := range strings.Split(accept, ",") {
		if t, p, err := mime.ParseMediaType(one); err == nil && t == typ {
			q, err := strconv.ParseFloat(p["q"], 64)
			return err != nil || q > 0
		}
	}
	return false
}

func (o *Options) quality() int {
	if o.Quality > 0 {
		return o.Quality
	}
	if q, ok := map[string]int{"low": 90, "medium": 80, "high": 65}[o.Optimize]; ok {
		return q
	}
	return 85
}

func (o *Options) webpQuality() int {
	if o.WebPQuality > 0 {
		return o.WebPQuality
	}
	return o.quality()
}

func (o *Options) background() color.NRGBA {
	if o.Background != nil {
		return *o.Background
	}
	if o.Format == "" || strings.HasPrefix(o.Format, "png") || strings.HasPrefix(o.Format, "webp") || o.Format == "avif" || o.Format == "gif" {
		return color.NRGBA{}
	}
	return color.NRGBA{255, 255, 255, 255}
}

func (o *Options) filter() imaging.ResampleFilter {
	switch o.Filter {
	case "nearest":
		return imaging.NearestNeighbor
	case "bilinear", "linear":
		return imaging.Linear
	case "bicubic", "cubic":
		return imaging.CatmullRom
	}
	return imaging.Lanczos
}

// target returns the size that an image of w x h pixels is to have.
func (o *Options) target(w, h int) (int, int) {
	dpr := max(o.DPR, 1)
	tw, th := o.Width.of(w, dpr), o.Height.of(h, dpr)
	if o.NoUpscale {
		tw, th = min(tw, w), min(th, h)
	}
	switch {
	case tw == 0 && th == 0:
		return w, h
	case th == 0:
		return tw, scale(h, tw, w)
	case tw == 0:
		return scale(w, th, h), th
	case o.Fit == "bounds":
		if tw*h <= th*w { // the width decides
			return tw, scale(h, tw, w)
		}
		return scale(w, th, h), th
	case o.Fit == "cover":
		return cover(w, h, tw, th)
	}
	return tw, th
}

// cover returns the least size of the proportions of w x h that covers tw x th.
func cover(w, h, tw, th int) (int, int) {
	if tw*h >= th*w {
		return tw, scale(h, tw, w)
	}
	return scale(w, th, h), th
}

// scale returns n times to by from, rounded, at least 1.
func scale(n, to, from int) int {
	return max(1, int(math.Round(float64(n)*float64(to)/float64(from))))
}
