package cache

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// Inward are the response fields that are between an origin and a cache only: clients do not get them.
var Inward = []string{"Surrogate-Control", "Surrogate-Key"}

var isInward = map[string]bool{"Surrogate-Control": true, "Surrogate-Key": true}

// fields are an object's header fields as HTTP/1.1 sends them: lines in the order of their names, those
// that are Inward behind the others. So a hit sends what is stored, with three lines of its own in
// their places, and only net/http's way makes a map of it.
type fields struct {
	lines                      string
	shown, age, status, length uint16 // where the others end; where Age, Cache-Status and Content-Length belong
}

// maxLines is how long lines may be for a hit to send them.
const maxLines = 1<<16 - 1

// packFields writes a header down. What is no field is left out.
func packFields(h http.Header) (f fields) {
	if earlier := h["Cache-Status"]; len(earlier) > 1 || !proper(h) {
		h = maps.Clone(h)
		maps.DeleteFunc(h, func(name string, values []string) bool { return !proper(http.Header{name: values}) })
		if len(earlier) > 1 && h["Cache-Status"] != nil {
			h["Cache-Status"] = []string{strings.Join(earlier, ", ")}
		}
	}
	var b strings.Builder
	_ = h.WriteSubset(&b, isInward) // a Builder takes all
	shown := b.Len()
	for _, name := range Inward {
		if v := h[name]; v != nil {
			_ = http.Header{name: v}.Write(&b)
		}
	}
	f.lines = strings.Clone(b.String()) // no longer than it is
	if !f.long() {
		f.shown = uint16(shown)
		f.age, f.status, f.length = f.place("Age"), f.place("Cache-Status"), f.place("Content-Length")
	}
	return f
}

// proper reports whether all of h are fields (RFC 9110 section 5).
func proper(h http.Header) bool {
	for name, values := range h {
		if !httpguts.ValidHeaderFieldName(name) || slices.ContainsFunc(values, func(v string) bool { return !httpguts.ValidHeaderFieldValue(v) }) {
			return false
		}
	}
	return true
}

func (f *fields) long() bool { return len(f.lines) > maxLines }

// place returns where the field with that name is, or would be.
func (f *fields) place(name string) uint16 {
	at := 0
	for line := range strings.Lines(f.lines[:f.shown]) {
		if n, _, _ := strings.Cut(line, ":"); n >= name {
			break
		}
		at += len(line)
	}
	return uint16(at)
}

// parseFields reads lines such as packFields writes.
func parseFields(lines string) (h http.Header, ok bool) {
	h = http.Header{}
	for line := range strings.Lines(lines) {
		name, value, found := strings.Cut(strings.TrimSuffix(line, "\r\n"), ": ")
		if !found || !strings.HasSuffix(line, "\r\n") || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, false
		}
		h[name] = append(h[name], value)
	}
	return h, true
}

// all calls yield for each line until it returns false.
func (f *fields) all(yield func(name, value string) bool) {
	for line := range strings.Lines(f.lines) {
		name, value, _ := strings.Cut(line[:len(line)-2], ": ")
		if !yield(name, value) {
			return
		}
	}
}

// header makes a map of the fields.
func (f *fields) header() http.Header {
	n := strings.Count(f.lines, "\n")
	h, values := make(http.Header, n+2), make([]string, 0, n)
	for name, value := range f.all {
		values = append(values, value)
		if have := h[name]; have != nil { // lines of one name follow each other
			h[name] = values[len(values)-1-len(have) : len(values) : len(values)]
		} else {
			h[name] = values[len(values)-1 : len(values) : len(values)]
		}
	}
	return h
}

// get returns the first value of a field, "" if there is none.
func (f *fields) get(name string) string {
	for n, value := range f.all {
		if n == name {
			return value
		}
	}
	return ""
}

// values returns all values of a field, nil if there is none.
func (f *fields) values(name string) (list []string) {
	for n, value := range f.all {
		if n == name {
			list = append(list, value)
		}
	}
	return list
}

// renders reports whether net/http would send an object with these fields as they are. It adds a Date
// where there is none, and has rules of its own for some status codes.
func (f *facts) renders() bool {
	for name := range f.header {
		if hopByHop[name] {
			return false
		}
	}
	odd := f.status < 200 || f.status == http.StatusNoContent || f.status == http.StatusNotModified || http.StatusText(f.status) == ""
	return !odd && f.header["Date"] != nil && len(f.trailer) == 0
}

// hitHead is what a hit says of itself.
type hitHead struct {
	status int
	cache  string // its name in Cache-Status
	detail string
	age    time.Duration
	ttl    time.Duration
	length int64
}

// append writes the head of a hit, from the status line to the empty line.
func (f *fields) append(b []byte, h *hitHead) []byte {
	b = append(strconv.AppendInt(append(b, "HTTP/1.1 "...), int64(h.status), 10), ' ')
	b = append(append(b, http.StatusText(h.status)...), "\r\n"...)
	b = append(append(b, f.lines[:f.age]...), "Age: "...)
	b = append(strconv.AppendInt(b, int64(h.age/time.Second), 10), "\r\n"...)
	b = append(b, f.lines[f.age:f.status]...)
	at := int(f.status)
	if n := f.line(at, "Cache-Status: "); n > 0 { // of caches nearer the origin, in one line
		b = append(append(b, f.lines[at:at+n-len("\r\n")]...), ", "...)
		at += n
	} else {
		b = append(b, "Cache-Status: "...)
	}
	b = append(append(b, h.cache...), "; hit; ttl="...)
	b = append(append(strconv.AppendInt(b, int64(h.ttl/time.Second), 10), h.detail...), "\r\n"...)
	b = append(append(b, f.lines[at:f.length]...), "Content-Length: "...)
	b = append(strconv.AppendInt(b, h.length, 10), "\r\n"...)
	at = int(f.length)
	at += f.line(at, "Content-Length: ")
	return append(append(b, f.lines[at:f.shown]...), "\r\n"...)
}

// line returns the length of the line at a place if it begins like that, else 0.
func (f *fields) line(at int, begin string) int {
	rest := f.lines[at:f.shown]
	if !strings.HasPrefix(rest, begin) {
		return 0
	}
	return strings.IndexByte(rest, '\n') + 1
}

// sized reports whether the fields say that a body is so long.
func (f *fields) sized(n int64) bool {
	at := int(f.length)
	size := f.line(at, "Content-Length: ")
	if size == 0 {
		return false
	}
	said, ok := parseOffset(f.lines[at+len("Content-Length: ") : at+size-len("\r\n")])
	return ok && said == n
}
