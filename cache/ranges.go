package cache

import (
	"fmt"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// A part says which bytes of a representation a body is.
type part struct{ from, to, length int64 } // to is exclusive; length -1: not known

// byteRange is what a Range field asks for; from -1: the last to bytes; to -1: up to the end.
type byteRange struct{ from, to int64 }

// maxRanges is how many ranges one request may ask for; with more it gets all.
const maxRanges = 10

// parseRange reads a Range field (RFC 9110 section 14.1.2). A malformed one is none.
func parseRange(lines []string) (ranges []byteRange, ok bool) {
	if len(lines) != 1 {
		return nil, false
	}
	unit, set, found := strings.Cut(lines[0], "=")
	if !found || !strings.EqualFold(textproto.TrimString(unit), "bytes") {
		return nil, false
	}
	for spec := range strings.SplitSeq(set, ",") {
		if spec = textproto.TrimString(spec); spec == "" {
			continue
		}
		r, ok := parseRangeSpec(spec)
		if !ok || len(ranges) == maxRanges {
			return nil, false
		}
		ranges = append(ranges, r)
	}
	return ranges, len(ranges) > 0
}

func parseRangeSpec(spec string) (r byteRange, ok bool) {
	first, last, found := strings.Cut(spec, "-")
	if len(last) > 18 && strings.Trim(last, "0123456789") == "" {
		last = strings.Repeat("9", 18) // far beyond every end
	}
	from, okFrom := parseOffset(first)
	to, okTo := parseOffset(last)
	switch {
	case !found || !okFrom && first != "" || !okTo && last != "":
		return r, false
	case first == "" && last == "":
		return r, false
	case first == "":
		return byteRange{-1, to}, true
	case last == "":
		return byteRange{from, -1}, true
	}
	return byteRange{from, to + 1}, from <= to
}

func parseOffset(s string) (n int64, ok bool) {
	if s == "" || len(s) > 18 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// resolve returns the bytes of a representation of that length; false if there are none.
func (r byteRange) resolve(length int64) (from, to int64, ok bool) {
	switch from, to = r.from, r.to; {
	case from < 0:
		from, to = max(0, length-to), length
		return from, to, r.to > 0 && length > 0
	case to < 0 || to > length:
		to = length
	}
	return from, to, from < length
}

// parsePart reads Content-Range (RFC 9110 section 14.4).
func parsePart(h http.Header) (*part, bool) {
	lines := h["Content-Range"]
	if len(lines) != 1 {
		return nil, false
	}
	spec, found := strings.CutPrefix(lines[0], "bytes ")
	span, total, slash := strings.Cut(spec, "/")
	first, last, dash := strings.Cut(span, "-")
	from, ok1 := parseOffset(first)
	to, ok2 := parseOffset(last)
	if !found || !slash || !dash || !ok1 || !ok2 || to < from {
		return nil, false
	}
	p := &part{from, to + 1, -1}
	if total != "*" {
		n, ok := parseOffset(total)
		if !ok || n < p.to {
			return nil, false
		}
		p.length = n
	}
	return p, true
}

// storablePart reports whether a 206 can be stored: one range of a known length with a validator.
func storablePart(h http.Header) bool {
	p, ok := parsePart(h)
	return ok && p.length >= 0
}

func (p *part) String() string {
	if p.length < 0 {
		return fmt.Sprintf("bytes %d-%d/*", p.from, p.to-1)
	}
	return fmt.Sprintf("bytes %d-%d/%d", p.from, p.to-1, p.length)
}
