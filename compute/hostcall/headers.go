package hostcall

import (
	"net/http"
	"sort"
	"strings"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
)

// maxName is the longest header name, in bytes, that a guest may speak of.
const maxName = 65535

// headers is a header section or a trailer section: lines in their order, names compared
// without regard to case and kept as given. A section is made by a guest or for one, and
// what it holds counts against the sandbox's account if it has one.
type headers struct {
	list    []field
	size    int // bytes as HTTP/1 would send them
	account *account
}

type field struct {
	name, value string
	again       bool // an earlier line has the same name
}

func fieldSize(name, value string) int { return len(name) + len(value) + len(": \r\n") }

// find returns the index of the first line of that name from i on, or -1.
func (h *headers) find(name string, i int) int {
	for ; i < len(h.list); i++ {
		if sameName(h.list[i].name, name) {
			return i
		}
	}
	return -1
}

// get returns the first value of name.
func (h *headers) get(name string) (string, bool) {
	if i := h.find(name, 0); i >= 0 {
		return h.list[i].value, true
	}
	return "", false
}

// values returns all values of name.
func (h *headers) values(name string) (vs []string) {
	for i := h.find(name, 0); i >= 0; i = h.find(name, i+1) {
		vs = append(vs, h.list[i].value)
	}
	return vs
}

// add appends a line without asking for limits; hosts use it.
func (h *headers) add(name, value string) {
	h.list = append(h.list, field{name, value, h.find(name, 0) >= 0})
	h.size += fieldSize(name, value)
}

// append adds a line, within the limits of the whole section.
func (h *headers) append(name, value string, l *wedge.Limits) abi.Status {
	if s := h.grow(fieldSize(name, value), l.HeaderBytes); s != abi.OK {
		return s
	}
	if len(h.list) >= l.HeaderLines {
		h.account.release(fieldSize(name, value))
		return abi.LimitExceeded
	}
	h.add(name, value)
	return abi.OK
}

// insert makes value the only one of name, at the place of the first.
func (h *headers) insert(name, value string, l *wedge.Limits) abi.Status {
	i := h.find(name, 0)
	if i < 0 {
		return h.append(name, value, l)
	}
	more := fieldSize(name, value) - fieldSize(h.list[i].name, h.list[i].value)
	if s := h.grow(more, l.HeaderBytes); s != abi.OK {
		return s
	}
	h.list[i].name, h.list[i].value = name, value
	h.size += more
	h.removeFrom(name, i+1)
	return abi.OK
}

func (h *headers) grow(n, limit int) abi.Status {
	if n > 0 && h.size+n > limit || !h.account.hold(n) {
		return abi.LimitExceeded
	}
	return abi.OK
}

// remove takes out every line of that name and reports whether there was one.
func (h *headers) remove(name string) bool { return h.removeFrom(name, 0) }

func (h *headers) removeFrom(name string, from int) bool {
	i := h.find(name, from)
	if i < 0 {
		return false
	}
	kept := h.list[:i]
	for _, f := range h.list[i:] {
		if sameName(f.name, name) {
			h.size -= fieldSize(f.name, f.value)
			h.account.release(fieldSize(f.name, f.value))
			continue
		}
		kept = append(kept, f)
	}
	clear(h.list[len(kept):])
	h.list = kept
	return true
}

// adopt makes the section count against a; it reports false when there is no room.
func (h *headers) adopt(a *account) bool {
	if !a.hold(h.size) {
		return false
	}
	h.account.release(h.size)
	h.account = a
	return true
}

// free ends the section's account.
func (h *headers) free() {
	h.account.release(h.size)
	h.account = nil
}

// clone returns a copy that no account knows.
func (h *headers) clone() headers {
	return headers{list: append([]field(nil), h.list...), size: h.size}
}

// toHTTP returns the section as net/http has it, leaving out the names that skip takes.
func (h *headers) toHTTP(skip func(canonical string) bool) http.Header {
	out := make(http.Header, len(h.list)+2)
	h.copyTo(out, skip)
	return out
}

func (h *headers) copyTo(out http.Header, skip func(canonical string) bool) {
	backing := make([]string, len(h.list))
	for i, f := range h.list {
		name := http.CanonicalHeaderKey(f.name)
		if skip != nil && skip(name) {
			continue
		}
		if have, ok := out[name]; ok {
			out[name] = append(have, f.value)
			continue
		}
		backing[i] = f.value
		out[name] = backing[i : i+1 : i+1]
	}
}

// fromHTTP returns a section with the lines of src by name, so that the same message
// always gives the same section.
func fromHTTP(src http.Header) headers {
	names := make([]string, 0, len(src))
	lines := 0
	for name, vs := range src {
		names = append(names, name)
		lines += len(vs)
	}
	sort.Strings(names)
	h := headers{list: make([]field, 0, lines)}
	for _, name := range names {
		h.addAll(name, src[name])
	}
	return h
}

// addAll appends a line for each value of a name that is not there yet.
func (h *headers) addAll(name string, values []string) {
	for i, v := range values {
		h.list = append(h.list, field{name, v, i > 0})
		h.size += fieldSize(name, v)
	}
}

// sameName compares header names, ASCII letters without regard to case.
func sameName(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 0; i < len(a); i++ {
		if a[i] != b[i] && lower[a[i]] != lower[b[i]] {
			return false
		}
	}
	return true
}

var lower = func() (t [256]byte) {
	for i := range t {
		t[i] = byte(i)
		if 'A' <= i && i <= 'Z' {
			t[i] |= 0x20
		}
	}
	return t
}()

// tokens marks the bytes of an RFC 9110 token.
var tokens = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

// validToken reports whether b is an RFC 9110 token, as names of headers and methods are.
func validToken(b []byte) bool {
	for _, c := range b {
		if !tokens[c] {
			return false
		}
	}
	return len(b) > 0
}

// validValue reports whether b may be a field value: no control characters but tab.
func validValue(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// headerName returns b as a string, without allocating for names that every message has.
func headerName(b []byte) string {
	if s, ok := commonNames[string(b)]; ok {
		return s
	}
	return string(b)
}

var commonNames = func() map[string]string {
	m := map[string]string{}
	for _, name := range strings.Fields(`Accept Accept-Encoding Accept-Language Accept-Ranges
		Access-Control-Allow-Credentials Access-Control-Allow-Headers Access-Control-Allow-Methods Access-Control-Allow-Origin
		Age Authorization Cache-Control Connection Content-Disposition Content-Encoding Content-Language Content-Length
		Content-Location Content-Range Content-Security-Policy Content-Type Cookie Date Etag ETag Expires Host
		If-Match If-Modified-Since If-None-Match If-Range If-Unmodified-Since Last-Modified Link Location Origin Pragma
		Range Referer Referrer-Policy Retry-After Server Set-Cookie Strict-Transport-Security Surrogate-Control
		Surrogate-Key Transfer-Encoding User-Agent Vary Via X-Cache X-Content-Type-Options X-Forwarded-For X-Frame-Options`) {
		m[name] = name
		m[strings.ToLower(name)] = strings.ToLower(name)
	}
	return m
}()
