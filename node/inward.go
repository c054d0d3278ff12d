package node

import (
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"

	"github.com/wedge-cloud/wedge/cache"
)

// What is between origin and cache only (cache.Inward) may also come in places where nobody looks for it: in
// interim responses, and in trailers, announced or not.

// hints is an http.RoundTripper that takes it out of interim responses, which a ReverseProxy passes on.
type hints struct{ next http.RoundTripper }

func (t hints) RoundTrip(req *http.Request) (*http.Response, error) {
	// This is called before those that were set up earlier, with the same header.
	trace := &httptrace.ClientTrace{Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
		dropInward(http.Header(h))
		return nil
	}}
	return t.next.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
}

func dropInward(h http.Header) {
	for _, name := range cache.Inward {
		delete(h, name)
	}
}

// outward takes it out of a response.
func outward(resp *http.Response) {
	dropInward(resp.Header)
	dropInward(resp.Trailer)
	if resp.StatusCode != http.StatusSwitchingProtocols && (resp.ContentLength < 0 || len(resp.Trailer) > 0) {
		resp.Body = &outwardBody{resp.Body, resp}
	}
}

// outwardBody takes it out of a trailer that comes with the body's end.
type outwardBody struct {
	io.ReadCloser
	resp *http.Response
}

func (b *outwardBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		dropInward(b.resp.Trailer)
	}
	return n, err
}
