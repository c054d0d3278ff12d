package edge

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/wedge-cloud/wedge/sdk/go/internal/abi"
	"github.com/wedge-cloud/wedge/sdk/go/internal/host"
)

// newRequest makes an http.Request as a server would see it: URL has only path and query,
// Host the host. What http.Request cannot fetch lazily and few ask for (protocol version,
// TLS details) is left to [ClientInfo].
func newRequest(h, body abi.Handle) (*http.Request, error) {
	method, err := host.Text(abi.ReqMethodGet, h)
	if err != nil {
		return nil, err
	}
	uri, err := host.Text(abi.ReqURIGet, h)
	if err != nil {
		return nil, err
	}
	header, err := host.Header(abi.ReqHeaderNames, abi.ReqHeaderValues, h)
	if err != nil {
		return nil, err
	}
	r := (&http.Request{
		Method: method,
		Proto:  "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header,
	}).WithContext(context.WithValue(context.Background(), clientKey{}, &Client{h: h, known: true}))
	if err := setTarget(r, uri); err != nil {
		return nil, err
	}
	if addr, err := host.Octets(abi.ClientIP, h); err == nil {
		ip, _ := netip.AddrFromSlice(addr)
		r.RemoteAddr = netip.AddrPortFrom(ip, 0).String()
	}
	setBody(r, body)
	return r, nil
}

// setTarget splits the absolute URI that the host gives.
func setTarget(r *http.Request, uri string) (err error) {
	rest := uri
	if scheme, after, ok := strings.Cut(uri, "://"); ok {
		if scheme == "https" {
			r.TLS = &tls.ConnectionState{HandshakeComplete: true}
		}
		end := strings.IndexAny(after, "/?#")
		if end < 0 {
			end = len(after)
		}
		r.Host, rest = after[:end], after[end:]
	}
	if rest == "" || rest[0] != '/' && rest != "*" {
		rest = "/" + rest
	}
	if v := r.Header["Host"]; len(v) > 0 {
		r.Host = v[0]
		delete(r.Header, "Host") // as net/http does
	}
	r.RequestURI = rest
	r.URL, err = url.ParseRequestURI(rest)
	return err
}

func setBody(r *http.Request, h abi.Handle) {
	r.ContentLength = -1
	switch v := r.Header["Content-Length"]; {
	case len(v) > 0:
		if n, err := strconv.ParseUint(v[0], 10, 63); err == nil {
			r.ContentLength = int64(n)
		}
	case r.Header["Transfer-Encoding"] != nil:
		r.TransferEncoding = []string{"chunked"}
		delete(r.Header, "Transfer-Encoding")
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		r.ContentLength = 0
	}
	if r.ContentLength == 0 {
		r.Body = http.NoBody
		return
	}
	b := &body{length: r.ContentLength}
	b.H, b.Ctx = h, context.Background()
	r.Body = b
	if names := announced(r.Header); names != nil {
		r.Trailer = names
		b.AtEnd = func() { readTrailers(r.Trailer, h) }
	}
}

// body is one that the host holds: of the client's request or of a backend's response.
// While nothing of it was read, it can be passed on without going through the guest.
type body struct {
	host.Body
	length int64 // -1: not known
}

// announced returns the names in the Trailer header, as keys without values.
func announced(h http.Header) http.Header {
	var t http.Header
	for _, line := range h["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); name != "" {
				if t == nil {
					t = http.Header{}
				}
				t[http.CanonicalHeaderKey(name)] = nil
			}
		}
	}
	return t
}

func readTrailers(into http.Header, h abi.Handle) {
	got, err := host.Trailers(h)
	if err != nil {
		return // none, or a host that does not know
	}
	for k, v := range got {
		into[k] = v
	}
}
