package front

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// check looks at a request that net/http let through and refuses what must not reach a
// service: targets without one reading, hop-by-hop fields misused. It is pure
// but for two things: it spells the path out, see spell, and removes an offer to upgrade to h2c,
// see upgrade.
func check(r *http.Request) *refusal {
	switch {
	case len(r.Method) > maxMethod:
		return refuse(http.StatusNotImplemented, "method is too long")
	case r.Method == http.MethodConnect:
		return refuse(http.StatusNotImplemented, "CONNECT is not offered")
	case !only(r.Method, isToken): // in HTTP/2 net/http takes anything
		return badRequest("malformed method")
	}
	if no := checkTarget(r); no != nil {
		return no
	}
	spell(r.URL)
	if no := checkHost(r); no != nil {
		return no
	}
	return checkFields(r)
}

// checkSize refuses what is longer than the front, or the request's route, wants it.
func checkSize(r *http.Request, cfg *Config, b Bounds) *refusal {
	if len(r.RequestURI) > cmp.Or(b.URI, cfg.MaxURI) {
		return refuse(http.StatusRequestURITooLong, "request target is too long")
	}
	lines, size := 0, 0
	for name, values := range r.Header {
		lines += len(values)
		for _, v := range values {
			size += len(name) + len(v) + len(": \r\n")
		}
	}
	if lines > min(cmp.Or(b.HeaderLines, cfg.MaxHeaderLines), cfg.MaxHeaderLines) {
		return refuse(http.StatusRequestHeaderFieldsTooLarge, "too many header lines")
	}
	if b.HeaderBytes > 0 && size > b.HeaderBytes { // the front's own bound net/http has seen to
		return refuse(http.StatusRequestHeaderFieldsTooLarge, "header section is too long")
	}
	return nil
}

func refuse(status int, text string) *refusal { return &refusal{status: status, text: text} }

func badRequest(text string) *refusal { return refuse(http.StatusBadRequest, text) }

// checkTarget accepts the origin form, in HTTP/1 the absolute form with a host, and "*" for OPTIONS
// (RFC 9112 section 3.2). In HTTP/2 a target may hold what would end it in a request line.
func checkTarget(r *http.Request) *refusal {
	if !only(r.RequestURI, isVisible) {
		return badRequest("malformed request target")
	}
	if r.RequestURI == "*" && r.Method == http.MethodOptions || strings.HasPrefix(r.RequestURI, "/") {
		return nil
	}
	scheme := strings.ToLower(r.URL.Scheme)
	if r.ProtoMajor > 1 || scheme != "http" && scheme != "https" || r.URL.Opaque != "" || r.URL.Host == "" || r.URL.User != nil {
		return badRequest("malformed request target")
	}
	return nil
}

// isVisible is for bytes, those of UTF-8 included: clients send them unencoded.
func isVisible(c byte) bool { return c > ' ' && c != 0x7f }

// spell encodes the bytes of a path that have no place in one, and no others. net/url would decode
// and encode all of such a path, and so make %2F a slash and %2e a dot.
func spell(u *url.URL) {
	if u.RawPath == "" || u.EscapedPath() == u.RawPath {
		return
	}
	var b strings.Builder
	for i := 0; i < len(u.RawPath); i++ {
		if c := u.RawPath[i]; classes[c]&inPath != 0 || c == '[' || c == ']' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	u.RawPath = b.String()
}

// checkHost makes sure that there is one host only; net/http already refuses several Host
// lines. HTTP/1.0 clients may send none.
func checkHost(r *http.Request) *refusal {
	if r.Host == "" && r.ProtoMajor == 1 && r.ProtoMinor == 0 {
		return nil
	}
	host, _, ok := splitHost(r.Host)
	if !ok || host == "" {
		return badRequest("missing or malformed host")
	}
	// HTTP/2 may carry a Host field besides :authority (RFC 9113 section 8.3.1).
	for _, v := range r.Header["Host"] {
		if !strings.EqualFold(v, r.Host) {
			return badRequest("two different hosts")
		}
	}
	return nil
}

func checkFields(r *http.Request) *refusal {
	if v := r.Header["Content-Length"]; len(v) > 1 || len(v) == 1 && (v[0] == "" || len(v[0]) > 18 || !only(v[0], isDigit)) {
		return badRequest("malformed Content-Length")
	} else if len(v) == 1 && r.ProtoMajor > 1 && r.ContentLength == 0 && strings.Trim(v[0], "0") != "" {
		return badRequest("Content-Length without content") // net/http only minds where there is some
	}
	if no := checkConnection(r.Header); no != nil {
		return no
	}
	return upgrade(r.Header)
}

// endToEnd are fields that a Connection field must not name (RFC 9110 section 7.6.1): a proxy
// behind the front would drop them, and with them what others decide by.
var endToEnd = map[string]bool{
	"authorization": true, "cache-control": true, "content-encoding": true, "content-length": true,
	"content-range": true, "content-type": true, "cookie": true, "expect": true, "forwarded": true,
	"host": true, "max-forwards": true, "origin": true, "range": true, "transfer-encoding": true, "via": true,
}

func checkConnection(h http.Header) *refusal {
	for _, v := range h["Connection"] {
		for option := range strings.SplitSeq(v, ",") {
			option = strings.ToLower(strings.Trim(option, " \t"))
			if !only(option, isToken) {
				return badRequest("malformed Connection")
			}
			if endToEnd[option] || strings.HasPrefix(option, "x-forwarded-") {
				return badRequest("Connection names a field that is not for this hop")
			}
		}
	}
	return nil
}

// upgrade checks the Upgrade field, and removes an offer of h2c: a service that passes it on
// would give its origin's client a tunnel past everything here.
func upgrade(h http.Header) *refusal {
	h2c := false
	for _, v := range h["Upgrade"] {
		for proto := range strings.SplitSeq(v, ",") {
			proto = strings.Trim(proto, " \t")
			name, version, _ := strings.Cut(proto, "/")
			if !only(name, isToken) || !only(version, isToken) {
				return badRequest("malformed Upgrade")
			}
			h2c = h2c || strings.EqualFold(name, "h2c")
		}
	}
	if h2c {
		delete(h, "Upgrade")
		delete(h, "Http2-Settings")
	}
	return nil
}
