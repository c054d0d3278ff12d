package backend

import (
	"errors"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"github.com/wedge-cloud/wedge"
)

var errURI = errors.New("request target holds a space or a control character")

// outgoing returns req as b's origin is to see it: a shallow copy with the backend's
// scheme, address, path prefix and Host, and no header that req does not have.
func outgoing(req *http.Request, b *wedge.Backend) (*http.Request, error) {
	switch {
	case b == nil || b.URL == nil:
		return nil, failure(wedge.FailureNotFound, errors.New("request names no backend"))
	case b.URL.Host == "" || b.URL.Scheme != "http" && b.URL.Scheme != "https":
		return nil, failure(wedge.FailureURI, errors.New("backend's address is not that of an http or https server"))
	case req.URL == nil || unsafeTarget(req.URL.RawQuery) || unsafeTarget(req.URL.Opaque):
		return nil, failure(wedge.FailureURI, errURI)
	}
	out := *req
	out.Host = hostFor(req, b)
	out.URL = target(b.URL, req.URL)
	out.RequestURI, out.Response = "", nil
	if _, ok := req.Header["User-Agent"]; !ok { // net/http would put its own name
		out.Header = withHeaders(req.Header)
		out.Header["User-Agent"] = nil
	}
	return &out, nil
}

func hostFor(req *http.Request, b *wedge.Backend) string {
	for _, h := range []string{b.HostOverride, req.Host, req.URL.Host} {
		if h != "" {
			return h
		}
	}
	return b.URL.Host
}

// target puts the backend's path in front of the request's.
func target(base, u *url.URL) *url.URL {
	out := &url.URL{
		Scheme: base.Scheme, Host: base.Host, Opaque: u.Opaque,
		Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery, ForceQuery: u.ForceQuery,
	}
	prefix := strings.TrimSuffix(base.Path, "/")
	if prefix == "" || u.Path == "*" || u.Opaque != "" {
		return out
	}
	path := u.EscapedPath()
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	out.Path = prefix + "/" + strings.TrimPrefix(u.Path, "/")
	out.RawPath = strings.TrimSuffix(base.EscapedPath(), "/") + path
	return out
}

// unsafeTarget reports whether s would end or split the request line.
func unsafeTarget(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f })
}

func withHeaders(h http.Header) http.Header {
	if h == nil {
		return make(http.Header, 1)
	}
	return maps.Clone(h)
}

// isUpgrade reports whether h asks for another protocol on the connection (RFC 9110 section 7.8).
func isUpgrade(h http.Header) bool {
	return h.Get("Upgrade") != "" && hasToken(h["Connection"], "upgrade")
}

func hasToken(values []string, token string) bool {
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(textproto.TrimString(t), token) {
				return true
			}
		}
	}
	return false
}

// hopByHop are headers about the connection, which HTTP/2 has no place for (RFC 9113 section 8.2.2).
var hopByHop = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade", "Te"}

// forHTTP2 returns h without the headers about the connection, which net/http would
// refuse; they are not the guest's message but its idea of the hop.
func forHTTP2(h http.Header) http.Header {
	clean := true
	for _, k := range hopByHop {
		_, has := h[k]
		clean = clean && !has
	}
	if clean {
		return h
	}
	out := maps.Clone(h)
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			delete(out, textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)))
		}
	}
	for _, k := range hopByHop {
		delete(out, k)
	}
	if hasToken(h["Te"], "trailers") {
		out["Te"] = []string{"trailers"}
	}
	return out
}

// replayable reports whether req may be sent again after the origin may have seen it:
// the method is safe, or the client said that repeating does no harm.
func replayable(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	_, a := req.Header["Idempotency-Key"]
	_, b := req.Header["X-Idempotency-Key"]
	return a || b
}

func noBody(req *http.Request) bool { return req.Body == nil || req.Body == http.NoBody }

// rewound returns req with its body at the start again.
func rewound(req *http.Request) (*http.Request, error) {
	if noBody(req) {
		return req, nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	out := *req
	out.Body = body
	return &out, nil
}
