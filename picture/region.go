package picture

import (
	"encoding/hex"
	"image"
	"image/color"
	"math"
	"strconv"
	"strings"
)

// A measure is a number of pixels, or a part of a side.
type measure struct {
	n    float64
	part bool // n is a part of the side, 1 for all of it
}

// parse reads "200", "50%", "50p" or "0.5".
func (m *measure) parse(v string) bool {
	v, pct := percent(v)
	if !number(&m.n, v, 0, 1e6) {
		return false
	}
	if pct {
		m.n /= 100
	}
	m.part = pct || m.n > 0 && m.n < 1
	return true
}

// percent cuts off a sign of percentage.
func percent(v string) (string, bool) {
	for _, sign := range []string{"%", "p"} {
		if s, ok := strings.CutSuffix(v, sign); ok {
			return s, true
		}
	}
	return v, false
}

// of returns the pixels that m stands for on a side, 0 if m is nothing. dpr counts for pixels only.
func (m measure) of(side int, dpr float64) int {
	n := m.n * dpr
	if m.part {
		n = m.n * float64(side)
	}
	if n == 0 {
		return 0
	}
	return int(min(max(1, math.Round(n)), 1<<20))
}

// A region is a part of an image, or what an image is a part of.
type region struct {
	w, h             measure
	ratio            bool    // w and h are proportions
	x, y             measure // of the left upper corner, where placed
	placedX, placedY bool
	offX, offY       float64 // else how much of what is left over is left of it, or above, in percent
	safe             bool
}

// parseRegion reads "W,H" or "W:H", then any of xN, yN, offset-xN, offset-yN, smart and safe. Smart is taken for the
// middle.
func parseRegion(p **region, v string) bool {
	r := &region{offX: 50, offY: 50}
	*p = r
	parts := strings.Split(v, ",")
	if w, h, ok := strings.Cut(parts[0], ":"); ok {
		r.ratio = true
		if !number(&r.w.n, w, 1e-3, 1e6) || !number(&r.h.n, h, 1e-3, 1e6) {
			return false
		}
		parts = parts[1:]
	} else {
		if len(parts) < 2 || !r.w.parse(parts[0]) || !r.h.parse(parts[1]) {
			return false
		}
		parts = parts[2:]
	}
	for _, s := range parts {
		if !r.word(s) {
			return false
		}
	}
	return true
}

func (r *region) word(s string) bool {
	if s == "safe" || s == "smart" {
		r.safe = r.safe || s == "safe"
		return true
	}
	if v, ok := strings.CutPrefix(s, "offset-x"); ok {
		return number(&r.offX, v, 0, 100)
	}
	if v, ok := strings.CutPrefix(s, "offset-y"); ok {
		return number(&r.offY, v, 0, 100)
	}
	if v, ok := strings.CutPrefix(s, "x"); ok {
		r.placedX = true
		return r.x.parse(v)
	}
	if v, ok := strings.CutPrefix(s, "y"); ok {
		r.placedY = true
		return r.y.parse(v)
	}
	return false
}

// in returns the region of an image of w x h pixels.
func (r *region) in(w, h int) image.Rectangle {
	rw, rh := r.w.of(w, 1), r.h.of(h, 1)
	if r.ratio { // the largest that there is
		rw, rh = w, int(math.Round(float64(w)*r.h.n/r.w.n))
		if rh > h {
			rw, rh = int(math.Round(float64(h)*r.w.n/r.h.n)), h
		}
		rw, rh = max(rw, 1), max(rh, 1)
	}
	at := r.at(w, h, w-rw, h-rh)
	return image.Rectangle{at, at.Add(image.Pt(rw, rh))}
}

// at returns where the region is, of what is left over beside it.
func (r *region) at(w, h, restX, restY int) image.Point {
	p := image.Pt(int(math.Round(float64(restX)*r.offX/100)), int(math.Round(float64(restY)*r.offY/100)))
	if r.placedX {
		p.X = r.x.of(w, 1)
	}
	if r.placedY {
		p.Y = r.y.of(h, 1)
	}
	return p
}

// around returns the region as a canvas around an image of w x h pixels, seen from the image. It is no smaller than that.
func (r *region) around(w, h int) image.Rectangle {
	cw, ch := max(w, r.w.of(w, 1)), max(h, r.h.of(h, 1))
	if r.ratio { // the smallest that holds the image
		cw, ch = w, int(math.Round(float64(w)*r.h.n/r.w.n))
		if ch < h {
			cw, ch = int(math.Round(float64(h)*r.w.n/r.h.n)), h
		}
	}
	cw, ch = min(cw, 1<<20), min(ch, 1<<20)
	at := image.Point{}.Sub(r.at(w, h, cw-w, ch-h))
	return image.Rectangle{at, at.Add(image.Pt(cw, ch))}
}

// sides are measures of the four sides.
type sides struct{ top, right, bottom, left measure }

type pixels struct{ top, right, bottom, left int }

// parseSides reads one to four measures as CSS does: top, right, bottom, left.
func parseSides(p **sides, v string) bool {
	parts := strings.Split(v, ",")
	if len(parts) > 4 {
		return false
	}
	var m [4]measure
	for i := range m {
		from := i
		for from >= len(parts) { // left as right, bottom as top, right as top
			from = max(0, from-2)
		}
		if !m[i].parse(parts[from]) {
			return false
		}
	}
	*p = &sides{m[0], m[1], m[2], m[3]}
	return true
}

func (s *sides) in(w, h int) pixels {
	return pixels{s.top.of(h, 1), s.right.of(w, 1), s.bottom.of(h, 1), s.left.of(w, 1)}
}

// parseColour reads "rgb", "rrggbb", "r,g,b" or "r,g,b,a", the last from 0 to 1.
func parseColour(p **color.NRGBA, v string) bool {
	c := &color.NRGBA{A: 255}
	*p = c
	if parts := strings.Split(v, ","); len(parts) == 3 || len(parts) == 4 {
		for i, to := range []*uint8{&c.R, &c.G, &c.B} {
			n, err := strconv.ParseUint(parts[i], 10, 8)
			if err != nil {
				return false
			}
			*to = uint8(n)
		}
		var alpha float64 = 1
		if len(parts) == 4 && !number(&alpha, parts[3], 0, 1) {
			return false
		}
		c.A = uint8(math.Round(alpha * 255))
		return true
	}
	if len(v) == 3 {
		v = string([]byte{v[0], v[0], v[1], v[1], v[2], v[2]})
	}
	b, err := hex.DecodeString(v)
	if err != nil || len(b) != 3 {
		return false
	}
	c.R, c.G, c.B = b[0], b[1], b[2]
	return true
}
