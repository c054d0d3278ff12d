// Package lean answers a request without net/http: the same sandbox and the same host as
// package edge, plainer types, and a guest that starts in about half the time.
//
//	func main() {
//		lean.Serve(func(w *lean.Response, r *lean.Request) {
//			w.Set("Content-Type", "text/plain")
//			w.WriteString("Hello, edge!\n")
//		})
//	}
//
// Nothing is read from the host before it is asked for. For stores use package store; its
// calls, and Fetch here, may be used by many goroutines at once.
package lean

import (
	"context"
	"io"

	"github.com/wedge-cloud/wedge/sdk/go/internal/abi"
	"github.com/wedge-cloud/wedge/sdk/go/internal/host"
)

// Serve answers the request that this sandbox was made for, and returns. Outside of Wasm it
// panics: there is no request.
func Serve(h func(w *Response, r *Request)) {
	r := &Request{}
	if st := abi.ReqDownstream(&r.h, &r.body.H); st != abi.OK {
		panic("lean: " + st.Error())
	}
	r.body.Ctx = context.Background()
	w := &Response{status: 200}
	h(w, r)
	if err := w.finish(); err != nil {
		panic("lean: " + err.Error())
	}
}

// Request is the client's request. Its methods ask the host each time they are called.
type Request struct {
	h    abi.Handle
	body host.Body
}

// Method returns "GET" and so on.
func (r *Request) Method() string { return text(abi.ReqMethodGet, r.h) }

// URL returns the absolute URL that was asked for.
func (r *Request) URL() string { return text(abi.ReqURIGet, r.h) }

// Path returns the URL's path as it was sent, without decoding and without query.
func (r *Request) Path() string {
	path, _ := r.target()
	return path
}

// Query returns what follows '?' in the URL, without decoding.
func (r *Request) Query() string {
	_, query := r.target()
	return query
}

func (r *Request) target() (path, query string) {
	u := r.URL()
	start := 0
	for i := 0; i+2 < len(u); i++ {
		if u[i:i+3] == "://" {
			start = i + 3
			break
		}
	}
	for start < len(u) && u[start] != '/' && u[start] != '?' {
		start++
	}
	end := start
	for end < len(u) && u[end] != '?' {
		end++
	}
	if path = u[start:end]; path == "" {
		path = "/"
	}
	if end < len(u) {
		query = u[end+1:]
	}
	return path, query
}

// Header returns the first value of a header field; "" if there is none.
func (r *Request) Header(name string) string { return first(abi.ReqHeaderValues, r.h, name) }

// Body returns the request's body.
func (r *Request) Body() io.ReadCloser { return &r.body }

// RequestID returns the request's identity: 32 hex digits, unique.
func (r *Request) RequestID() string { return text(abi.ClientRequestID, r.h) }

// ClientIP returns the client's address as 4 or 16 bytes.
func (r *Request) ClientIP() []byte {
	b, _ := host.Octets(abi.ClientIP, r.h)
	return b
}

func text(call host.TextCall, h abi.Handle) string {
	s, _ := host.Text(call, h)
	return s
}

func first(call host.ValuesCall, h abi.Handle, name string) string {
	v, err := host.Values(call, h, name)
	if err != nil || len(v) == 0 {
		return ""
	}
	return v[0]
}

// Response is the answer to be. It goes out when the handler returns, or from the first Flush on.
type Response struct {
	status uint32
	fields [][2]string
	held   []byte
	body   abi.Handle
	stream bool
	over   bool
}

// Status sets the status; it is 200 otherwise.
func (w *Response) Status(code int) { w.status = uint32(code) }

// Set sets a header field to one value.
func (w *Response) Set(name, value string) {
	for i := range w.fields {
		if w.fields[i][0] == name {
			w.fields[i][1] = value
			return
		}
	}
	w.Add(name, value)
}

// Add adds a header field.
func (w *Response) Add(name, value string) { w.fields = append(w.fields, [2]string{name, value}) }

// Write writes to the body.
func (w *Response) Write(p []byte) (int, error) {
	if w.stream {
		return host.Write(w.body, p, true)
	}
	w.held = append(w.held, p...)
	return len(p), nil
}

// WriteString is Write for strings.
func (w *Response) WriteString(s string) (int, error) {
	if w.stream {
		return host.Write(w.body, []byte(s), true)
	}
	w.held = append(w.held, s...)
	return len(s), nil
}

// Flush sends what there is; from then on every Write goes out at once.
func (w *Response) Flush() error {
	if w.stream || w.over {
		return nil
	}
	w.stream = true
	return w.send(1)
}

func (w *Response) finish() error {
	if w.over {
		return nil
	}
	w.over = true
	if w.stream {
		return abi.BodyClose(w.body).Err()
	}
	return w.send(0)
}

func (w *Response) send(streaming uint32) error {
	resp, err := w.newHead()
	if err != nil {
		return err
	}
	if w.body, err = host.NewBody(); err != nil {
		return err
	}
	if _, err := host.Write(w.body, w.held, false); err != nil {
		return err
	}
	w.held = nil
	return abi.RespSend(resp, w.body, streaming).Err()
}

func (w *Response) newHead() (resp abi.Handle, err error) {
	if st := abi.RespNew(&resp); st != abi.OK {
		return resp, st
	}
	if w.status != 200 {
		if st := abi.RespStatusSet(resp, w.status); st != abi.OK {
			return resp, st
		}
	}
	for _, f := range w.fields {
		if st := abi.RespHeaderAppend(resp, f[0], f[1]); st != abi.OK {
			return resp, &host.HeaderError{Name: f[0], Status: st}
		}
	}
	return resp, nil
}

// Forward answers with a backend's response as it is; its body goes on to the client after the
// guest has ended. Fields that were set on w are left out.
func (w *Response) Forward(a *Answer) error {
	h, ok := a.Body.Take()
	if !ok || w.stream {
		return abi.Inval
	}
	w.over = true
	return abi.RespSend(a.h, h, 0).Err()
}

// Fetch is a request to a backend.
type Fetch struct {
	Method string // "": GET
	URL    string // absolute; its host goes into the Host header unless the backend overrides it
	Header [][2]string
	Body   []byte
}

// FetchError reports that no response came from a backend, with the host's reason.
type FetchError = host.FetchError

// Do sends f to the named backend and waits for the head of the response, or for ctx to end.
func (f *Fetch) Do(ctx context.Context, backend string) (*Answer, error) {
	req, err := host.NewRequest(f.Method, f.URL)
	if err != nil {
		return nil, err
	}
	for _, h := range f.Header {
		if st := abi.ReqHeaderAppend(req, h[0], h[1]); st != abi.OK {
			return nil, &host.HeaderError{Name: h[0], Status: st}
		}
	}
	body, err := host.NewBody()
	if err != nil {
		return nil, err
	}
	if _, err := host.Write(body, f.Body, false); err != nil {
		return nil, err
	}
	pending, err := host.Send(backend, req, body, false)
	if err != nil {
		return nil, err
	}
	resp, b, err := host.Receive(ctx, backend, pending)
	if err != nil {
		return nil, err
	}
	return &Answer{h: resp, Body: &host.Body{H: b, Ctx: ctx}}, nil
}

// Answer is a backend's response.
type Answer struct {
	h    abi.Handle
	Body *host.Body // read it with io.ReadAll and the like
}

// Status returns the response's status; 0 if the host does not say.
func (a *Answer) Status() int {
	var status uint16
	abi.RespStatusGet(a.h, &status)
	return int(status)
}

// Header returns the first value of a header field; "" if there is none.
func (a *Answer) Header(name string) string { return first(abi.RespHeaderValues, a.h, name) }
