package front

import (
	"bytes"
	"net/http"
	"strings"
)

// A framer follows the messages of an HTTP/1.1 connection (RFC 9112) as their bytes pass by:
// where a request's head ends, where its body ends. It is the front's defence against request
// smuggling: net/http accepts several messages that another party might cut at another place
// (both Content-Length and Transfer-Encoding, repeated Content-Length, folded lines, bare LF),
// and forgets that it saw them. The framer refuses these, so whatever passes has one reading.
// It also notes the header names as they came.
//
// What net/http refuses by itself (control characters, bad methods, versions, names) is left to it.
type framer struct {
	maxBytes, maxLines int

	phase  phase
	remain int64  // of the body or chunk
	line   []byte // beginning of a line that is not here in full yet
	size   int    // bytes of the current head, or of chunk overhead

	lines      int // header lines of the current head; the request line is not counted
	special    int // those that net/http takes out of Request.Header
	started    bool
	http10     bool
	chunked    bool
	haveLength bool
	length     int64
	names      []byte  // header names, one after the other
	ends       []int32 // where each ends in names
	heads      int64   // whole heads seen
	seen       int64   // bytes read along
	headAt     int64   // where in these the last whole head began
}

type phase uint8

const (
	inHead phase = iota
	inBody
	inChunkSize
	inChunk
	inChunkEnd
	inTrailer
)

// maxChunkOverhead bounds a chunk-size line and a trailer section, in bytes. net/http allows
// less for trailers and no more for lines.
const maxChunkOverhead = 8192

// A refusal is the front's own answer to a request.
type refusal struct {
	status int
	text   string // one line, no internals
	head   int64  // ordinal of the head on its connection, when the framer refused it
}

func (f *framer) refuse(status int, text string) *refusal {
	return &refusal{status: status, text: text, head: f.heads + 1}
}

func (f *framer) bad(text string) *refusal { return f.refuse(http.StatusBadRequest, text) }

// atStart reports whether the next byte is the first of a message.
func (f *framer) atStart() bool { return f.phase == inHead && f.size == 0 }

// feed reads on through p, to the end of the message at most, and returns how many bytes of p
// belong to it. After a refusal nothing more can be read; n then ends before the bad line.
func (f *framer) feed(p []byte) (n int, no *refusal) {
	for n < len(p) {
		switch f.phase {
		case inBody, inChunk:
			n += f.skip(len(p) - n)
		default:
			used, whole := f.takeLine(p[n:])
			n += used
			if f.size > f.limit() {
				return n - used, f.refuse(http.StatusRequestHeaderFieldsTooLarge, "header section is too large")
			}
			if whole == nil {
				return n, nil
			}
			no = f.endLine(whole)
			f.line = keep(f.line)
			if no != nil {
				return n - used, no
			}
		}
		if f.atStart() {
			return n, nil
		}
	}
	return n, nil
}

func (f *framer) limit() int {
	if f.phase == inHead {
		return f.maxBytes
	}
	return maxChunkOverhead
}

// first takes the one byte of the next message that net/http reads while a request is being
// served. It only puts it by, whatever it is: the handler may be about to hijack the
// connection, and the byte need not be HTTP.
func (f *framer) first(b byte) {
	f.line = append(f.line, b)
	f.size++
	f.seen++
}

// skip passes over up to n bytes of content.
func (f *framer) skip(n int) int {
	if int64(n) > f.remain {
		n = int(f.remain)
	}
	f.seen += int64(n)
	if f.remain -= int64(n); f.remain == 0 {
		if f.phase == inBody {
			f.restart()
		} else {
			f.phase = inChunkEnd
		}
	}
	return n
}

// takeLine returns the next line with its LF, joined with what came of it before, or nil if
// it is not whole yet.
func (f *framer) takeLine(p []byte) (used int, line []byte) {
	i := bytes.IndexByte(p, '\n')
	if i < 0 {
		f.size += len(p)
		f.seen += int64(len(p))
		if f.size <= f.limit() {
			f.line = append(f.line, p...)
		}
		return len(p), nil
	}
	f.size += i + 1
	f.seen += int64(i + 1)
	if len(f.line) == 0 {
		return i + 1, p[:i+1]
	}
	f.line = append(f.line, p[:i+1]...)
	return i + 1, f.line
}

func (f *framer) endLine(line []byte) *refusal {
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return f.bad("line does not end in CR LF")
	}
	line = line[:len(line)-2]
	switch f.phase {
	case inHead:
		if !f.started {
			return f.requestLine(line)
		}
		if len(line) == 0 {
			return f.endHead()
		}
		return f.headerLine(line)
	case inChunkSize:
		return f.chunkSize(line)
	case inChunkEnd:
		if len(line) != 0 {
			return f.bad("chunk is longer than its size")
		}
		f.phase, f.size = inChunkSize, 0
	case inTrailer:
		if len(line) == 0 {
			f.restart()
			return nil
		}
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 || line[0] == ' ' || line[0] == '\t' || line[colon-1] == ' ' || line[colon-1] == '\t' || bytes.IndexByte(line, '\r') >= 0 {
			return f.bad("malformed trailer")
		}
	}
	return nil
}

func (f *framer) restart() {
	f.phase, f.size, f.started, f.remain = inHead, 0, false, 0
}

func (f *framer) requestLine(line []byte) *refusal {
	f.started = true
	f.lines, f.special = 0, 0
	f.names, f.ends = keep(f.names), f.ends[:0]
	f.http10, f.chunked, f.haveLength, f.length = false, false, false, 0
	if len(line) == 0 || line[0] == '\n' {
		return f.bad("empty line before the request")
	}
	if bytes.HasPrefix(line, []byte("PRI ")) {
		return f.bad("HTTP/2 preface out of place")
	}
	return f.version(line[bytes.LastIndexByte(line, ' ')+1:])
}

// version notes what the framing depends on: HTTP/1.0 has no chunks. Anything but 1.x is
// refused here, for net/http would frame it by yet other rules before it refuses it.
func (f *framer) version(v []byte) *refusal {
	if len(v) != len("HTTP/1.1") || string(v[:5]) != "HTTP/" || !isDigit(v[5]) || v[6] != '.' || !isDigit(v[7]) {
		return f.bad("malformed request line")
	}
	if v[5] != '1' {
		return f.refuse(http.StatusHTTPVersionNotSupported, "HTTP version is not offered")
	}
	f.http10 = v[7] == '0'
	return nil
}

func (f *framer) headerLine(line []byte) *refusal {
	if f.lines++; f.lines > f.maxLines {
		return f.refuse(http.StatusRequestHeaderFieldsTooLarge, "too many header lines")
	}
	if line[0] == ' ' || line[0] == '\t' {
		return f.bad("folded header line")
	}
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 || line[colon-1] == ' ' || line[colon-1] == '\t' {
		return f.bad("malformed header line")
	}
	name := line[:colon]
	f.names = append(f.names, name...)
	f.ends = append(f.ends, int32(len(f.names)))
	switch len(name) {
	case len("Host"):
		f.noteSpecial(name, "host")
	case len("Trailer"):
		f.noteSpecial(name, "trailer")
	case len("Content-Length"):
		if equalFold(name, "content-length") {
			return f.contentLength(trimOWS(line[colon+1:]))
		}
	case len("Transfer-Encoding"):
		if equalFold(name, "transfer-encoding") {
			return f.transferEncoding(trimOWS(line[colon+1:]))
		}
	}
	return nil
}

func (f *framer) noteSpecial(name []byte, special string) {
	if equalFold(name, special) {
		f.special++
	}
}

func (f *framer) contentLength(v []byte) *refusal {
	if f.haveLength {
		return f.bad("repeated Content-Length")
	}
	if len(v) == 0 || len(v) > 18 {
		return f.bad("malformed Content-Length")
	}
	for _, c := range v {
		if !isDigit(c) {
			return f.bad("malformed Content-Length")
		}
		f.length = f.length*10 + int64(c-'0')
	}
	f.haveLength = true
	return nil
}

func (f *framer) transferEncoding(v []byte) *refusal {
	f.special++
	if f.chunked {
		return f.bad("repeated Transfer-Encoding")
	}
	if !equalFold(v, "chunked") {
		return f.refuse(http.StatusNotImplemented, "unsupported transfer coding")
	}
	f.chunked = true
	return nil
}

// endHead decides where the body ends, RFC 9112 section 6.3.
func (f *framer) endHead() *refusal {
	switch {
	case f.chunked && f.haveLength:
		return f.bad("both Content-Length and Transfer-Encoding")
	case f.chunked && f.http10:
		return f.bad("Transfer-Encoding in HTTP/1.0")
	}
	f.heads++
	f.headAt = f.seen - int64(f.size)
	f.restart()
	switch {
	case f.chunked:
		f.phase = inChunkSize
	case f.length > 0:
		f.phase, f.remain = inBody, f.length
	}
	return nil
}

// chunkSize reads a chunk-size line; extensions are passed over.
func (f *framer) chunkSize(line []byte) *refusal {
	size, digits := int64(0), 0
	for ; digits < len(line); digits++ {
		v, ok := unhex(line[digits])
		if !ok {
			break
		}
		size = size<<4 | int64(v)
		if digits >= 15 {
			return f.bad("chunk size is too large")
		}
	}
	rest := trimOWS(line[digits:])
	if digits == 0 || len(rest) > 0 && rest[0] != ';' || bytes.IndexByte(rest, '\r') >= 0 {
		return f.bad("malformed chunk size")
	}
	f.phase, f.remain, f.size = inChunk, size, 0
	if size == 0 {
		f.phase = inTrailer
	}
	return nil
}

// headerNames returns the last whole head's header names.
func (f *framer) headerNames() []string {
	all, from := string(f.names), int32(0)
	out := make([]string, len(f.ends))
	for i, to := range f.ends {
		out[i] = all[from:to]
		from = to
	}
	return out
}

// keep empties b for reuse, unless it has grown so large that idle connections should not
// hold on to it.
func keep(b []byte) []byte {
	if cap(b) > 8<<10 {
		return nil
	}
	return b[:0]
}

func unhex(c byte) (byte, bool) {
	switch {
	case isDigit(c):
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

func trimOWS(b []byte) []byte { return bytes.Trim(b, " \t") }

// equalFold compares ASCII without allocating; lower must be lower case.
func equalFold(b []byte, lower string) bool {
	return len(b) == len(lower) && strings.EqualFold(string(b), lower)
}
