package edge

import (
	"io"
	"net/http"
	"strconv"

	"github.com/wedge-cloud/wedge/sdk/go/internal/abi"
	"github.com/wedge-cloud/wedge/sdk/go/internal/host"
)

// A request body of known length up to this many bytes is given to the host whole; a
// longer one, or one of unknown length, is streamed by a goroutine.
const wholeBody = 256 << 10

// RoundTrip sends r to the backend.
func (b backend) RoundTrip(r *http.Request) (*http.Response, error) {
	req, err := b.newRequest(r)
	if err != nil {
		closeBody(r)
		return nil, err
	}
	pending, up, err := b.send(req, r)
	if err != nil {
		return nil, err
	}
	resp, body, err := host.Receive(r.Context(), string(b), pending)
	if err != nil {
		if up.err != nil {
			err = up.err // the cause, if reading the request's body failed
		}
		return nil, err
	}
	return newResponse(r, resp, body)
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		r.Body.Close()
	}
}

func (b backend) newRequest(r *http.Request) (abi.Handle, error) {
	u := *r.URL
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	h, err := host.NewRequest(r.Method, u.String())
	if err != nil {
		return h, err
	}
	err = host.SetHeader(abi.ReqHeaderInsert, abi.ReqHeaderAppend, h, r.Header, hostsOwn)
	if err == nil && r.Host != "" && r.Host != u.Host {
		err = abi.ReqHeaderInsert(h, "Host", r.Host).Err()
	}
	if c, ok := r.Context().Value(cacheKey{}).(Cache); ok && err == nil {
		tag, ttl, swr, keys := c.args()
		err = abi.ReqCacheOverride(h, tag, ttl, swr, keys).Err()
	}
	if err != nil {
		abi.ReqClose(h)
		return h, &FetchError{Backend: string(b), What: "header: " + err.Error(), Status: abi.Inval}
	}
	return h, nil
}

// hostsOwn names what the host sets from the body and Request.Host.
func hostsOwn(name string) bool {
	return name == "Host" || name == "Content-Length" || name == "Transfer-Encoding"
}

// upload is a request body on its way out.
type upload struct{ err error }

// send starts the fetch with r's body in the cheapest way.
func (b backend) send(req abi.Handle, r *http.Request) (abi.Handle, *upload, error) {
	up := &upload{}
	if mine, ok := r.Body.(*body); ok {
		if h, ok := mine.Take(); ok { // the client's own: the host passes it on
			pending, err := host.Send(string(b), req, h, false)
			return pending, up, err
		}
	}
	h, err := host.NewBody()
	if err != nil {
		closeBody(r)
		return abi.Invalid, up, err
	}
	switch {
	case r.Body == nil || r.Body == http.NoBody:
	case r.ContentLength > 0 && r.ContentLength <= wholeBody:
		if err := writeWhole(h, r); err != nil {
			return abi.Invalid, up, err
		}
	default:
		if r.ContentLength > 0 && abi.ReqFraming(req, 1) == abi.OK {
			abi.ReqHeaderInsert(req, "Content-Length", strconv.FormatInt(r.ContentLength, 10))
		}
		pending, err := host.Send(string(b), req, h, true)
		if err != nil {
			closeBody(r)
			return pending, up, err
		}
		go up.run(h, r)
		return pending, up, nil
	}
	pending, err := host.Send(string(b), req, h, false)
	return pending, up, err
}

func writeWhole(h abi.Handle, r *http.Request) error {
	defer r.Body.Close()
	buf := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, buf); err != nil {
		return err
	}
	_, err := host.Write(h, buf, false)
	return err
}

func (u *upload) run(h abi.Handle, r *http.Request) {
	defer r.Body.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Body.Read(buf)
		if n > 0 {
			if _, werr := host.Write(h, buf[:n], true); werr != nil {
				abi.BodyAbandon(h) // the backend's answer or failure tells the caller
				return
			}
		}
		if err == io.EOF {
			for name, values := range r.Trailer {
				for _, v := range values {
					abi.BodyTrailerAppend(h, name, v)
				}
			}
			abi.BodyClose(h)
			return
		}
		if err != nil {
			u.err = err
			abi.BodyAbandon(h)
			return
		}
	}
}

func newResponse(r *http.Request, h, bodyHandle abi.Handle) (*http.Response, error) {
	var status uint16
	if st := abi.RespStatusGet(h, &status); st != abi.OK {
		return nil, st
	}
	header, err := host.Header(abi.RespHeaderNames, abi.RespHeaderValues, h)
	if err != nil {
		return nil, err
	}
	resp := &http.Response{
		Status:     strconv.Itoa(int(status)) + " " + http.StatusText(int(status)),
		StatusCode: int(status),
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, ContentLength: -1, Request: r,
	}
	if v := resp.Header["Content-Length"]; len(v) > 0 {
		if n, err := strconv.ParseInt(v[0], 10, 64); err == nil && n >= 0 {
			resp.ContentLength = n
		}
	}
	if r.Method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified {
		abi.BodyClose(bodyHandle)
		resp.Body = http.NoBody
		return resp, nil
	}
	b := &body{length: resp.ContentLength}
	b.H, b.Ctx = bodyHandle, r.Context()
	resp.Trailer = announced(resp.Header)
	if resp.Trailer != nil || resp.ContentLength < 0 { // else there can hardly be any
		b.AtEnd = func() {
			if resp.Trailer == nil {
				resp.Trailer = http.Header{}
			}
			readTrailers(resp.Trailer, bodyHandle)
		}
	}
	resp.Body = b
	return resp, nil
}
