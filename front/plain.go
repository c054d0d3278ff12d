package front

import "bytes"

// Plain is a request without anything that takes more than a look at what is stored: GET or
// HEAD in HTTP/1.1, a target in origin form that has one spelling only, one Host in its normal
// form, and no field that asks for anything else than the whole representation. A [Route] may
// answer it without net/http. What it refers to is the reading buffer: it is good for the call.
//
// The parser below is strict where net/http is lenient. It need not accept much, for what it
// does not know is left to net/http, but what it accepts net/http must read the same way.
type Plain struct {
	Head       bool   // the method is HEAD
	TLS        bool   // it came over TLS
	Host       []byte // lower case, with the port if that is not the scheme's own
	Target     []byte // path and query, as sent
	Directives bool   // it has Cache-Control or Pragma
	fields     []field
	found      [][]byte
}

type field struct{ name, value []byte }

// maxPlainLines bounds the header lines of a plain request.
const maxPlainLines = 64

// Lines returns the values of the field with this name, in lower case, one for each line. They
// are good until it is called again.
func (r *Plain) Lines(name string) [][]byte {
	r.found = r.found[:0]
	for _, f := range r.fields {
		if equalFold(f.name, name) {
			r.found = append(r.found, f.value)
		}
	}
	return r.found
}

// parse reads the head at p's beginning and returns how long it is; 0: it is not plain, or
// not here in full.
func (r *Plain) parse(p []byte, cfg *Config) int {
	r.Host, r.Directives, r.fields = nil, false, r.fields[:0]
	at := r.requestLine(p, cfg)
	if at == 0 {
		return 0
	}
	for lines := 0; len(p)-at >= 2; lines++ {
		if p[at] == '\r' {
			if at += 2; p[at-1] != '\n' || r.Host == nil || at > cfg.MaxHeaderBytes {
				return 0
			}
			return at
		}
		n := r.line(p[at:])
		if n == 0 || lines >= min(maxPlainLines, cfg.MaxHeaderLines) {
			return 0
		}
		at += n
	}
	return 0
}

// requestLine reads the request line and returns its length.
func (r *Plain) requestLine(p []byte, cfg *Config) int {
	at := len("GET ")
	if r.Head = bytes.HasPrefix(p, []byte("HEAD ")); r.Head {
		at = len("HEAD ")
	} else if !bytes.HasPrefix(p, []byte("GET ")) {
		return 0
	}
	n := targetLen(p[at:])
	const end = " HTTP/1.1\r\n"
	if n == 0 || n > cfg.MaxURI || !bytes.HasPrefix(p[at+n:], []byte(end)) {
		return 0
	}
	r.Target = p[at : at+n]
	return at + n + len(end)
}

// targetLen returns the length of a target that begins with one slash. Its path has no
// character that net/url would write differently; a query is never touched.
func targetLen(p []byte) int {
	if len(p) < 2 || p[0] != '/' || p[1] == '/' {
		return 0
	}
	n := 1
	for ; n < len(p) && classes[p[n]]&inPath != 0; n++ {
		if p[n] != '%' {
			continue
		}
		if n+2 >= len(p) || classes[p[n+1]]&classes[p[n+2]]&hexDigit == 0 {
			return 0
		}
	}
	if n < len(p) && p[n] == '?' {
		for n++; n < len(p) && classes[p[n]]&visible != 0; n++ {
		}
	}
	return n
}

// line reads a header line and returns its length; 0: the request is not plain.
func (r *Plain) line(p []byte) int {
	colon := 0
	for colon < len(p) && classes[p[colon]]&inToken != 0 {
		colon++
	}
	if colon == 0 || colon == len(p) || p[colon] != ':' {
		return 0
	}
	end := colon + 1
	for end < len(p) && classes[p[end]]&inValue != 0 {
		end++
	}
	if end+2 > len(p) || p[end] != '\r' || p[end+1] != '\n' {
		return 0
	}
	f := field{p[:colon], trimOWS(p[colon+1 : end])}
	if !r.take(f) {
		return 0
	}
	r.fields = append(r.fields, f)
	return end + 2
}

// take looks at a field and reports whether a request with it may be plain.
func (r *Plain) take(f field) bool {
	switch word(f.name) {
	case "host":
		if r.Host != nil || len(f.value) == 0 {
			return false
		}
		r.Host = f.value
	case "connection":
		return equalFold(f.value, "keep-alive")
	case "cache-control", "pragma":
		r.Directives = true
	case "content-length", "transfer-encoding", "trailer", "te", "expect", "upgrade", "http2-settings",
		"range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since":
		return false
	}
	return true
}

// words are the names that take looks at, by length.
var words = func() (by [24][]string) {
	for _, w := range []string{"host", "connection", "cache-control", "pragma", "content-length", "transfer-encoding",
		"trailer", "te", "expect", "upgrade", "http2-settings", "range", "if-range", "if-match", "if-none-match",
		"if-modified-since", "if-unmodified-since"} {
		by[len(w)] = append(by[len(w)], w)
	}
	return by
}()

// word returns which of words the name is, or "".
func word(name []byte) string {
	if len(name) < len(words) {
		for _, w := range words[len(name)] {
			if name[0]|0x20 == w[0] && equalFold(name, w) {
				return w
			}
		}
	}
	return ""
}

// Classes of bytes in a plain request.
const (
	inToken = 1 << iota
	inPath
	inValue
	visible
	hexDigit
)

var classes = func() (c [256]uint8) {
	for i := range c {
		b := byte(i)
		if isToken(b) {
			c[i] |= inToken
		}
		if isAlnum(b) || bytes.IndexByte([]byte("-._~!$&'()*+,;=:@/%"), b) >= 0 {
			c[i] |= inPath
		}
		if b > ' ' && b < 0x7f {
			c[i] |= visible | inValue
		}
		if b == ' ' || b == '\t' {
			c[i] |= inValue
		}
		if _, ok := unhex(b); ok {
			c[i] |= hexDigit
		}
	}
	return c
}()

// plainHost returns the name in a host that is in its normal form, else "": then net/http's path
// is to find out what it means.
func plainHost(host string, secure bool) string {
	name, port, ok := splitHost(host)
	if !ok || name == "" || len(host) < len(name) || host[:len(name)] != name || host[0] == '[' {
		return ""
	}
	switch rest := host[len(name):]; {
	case !port && rest == "":
		return name
	case !port || rest == ":" || rest[0] != ':', !secure && rest == ":80", secure && rest == ":443":
		return ""
	}
	return name
}
