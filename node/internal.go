package node

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/control"
)

// Services call each other by name: a fetch from http://NAME.wedge.internal/ is answered by the service of that name on
// this node, in process, as if it had come from a client of its own. Its cache is in front of it, its limits hold, and
// no request goes in circles. If the service is not here, the nearest PoP that runs it answers.

// internalSuffix is the domain of services' names. Nothing of it is ever looked up.
const internalSuffix = ".wedge.internal"

// internal is an http.RoundTripper that answers fetches from services by name.
type internal struct {
	next http.RoundTripper
	find func(service string) (h http.Handler, done func())
	now  func() time.Time

	reaches  func(from, to string) bool              // whether a service may call another; nil: all may
	reserved func(name, service string) http.Handler // answers a service at a reserved name; nil if it is none

	// away has a service answer that is not here; nil: there is no other PoP. at: only this one is asked, and nobody else.
	away func(req *http.Request, service, at string, depth int) (*http.Response, error)
}

// serviceNamed returns the service that a fetch is for by name.
func serviceNamed(req *http.Request) (name string, ok bool) {
	host := req.URL.Hostname()
	if b := wedge.BackendFrom(req.Context()); b != nil && b.URL != nil {
		host = b.URL.Hostname()
	}
	return strings.CutSuffix(strings.ToLower(host), internalSuffix)
}

// RoundTrip implements http.RoundTripper.
func (t *internal) RoundTrip(req *http.Request) (*http.Response, error) {
	name, ok := serviceNamed(req)
	at := ""
	if b := wedge.BackendFrom(req.Context()); b != nil && b.AtPoP != "" {
		at, ok = b.AtPoP, true
		name = b.AtService
	}
	if !ok {
		return t.next.RoundTrip(req)
	}
	depth, _ := req.Context().Value(depthKey{}).(int)
	if loops(req.Header) >= maxLoops || depth >= maxDepth {
		return &http.Response{Status: "508 Loop Detected", StatusCode: http.StatusLoopDetected, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody,
			Header: http.Header{"Proxy-Status": {"Wedge; error=proxy_loop_detected"}, "Cache-Control": {"no-store"}}, Request: req}, nil
	}
	if c := wedge.CachingFrom(req.Context()); at == "" && c != nil {
		if h := t.reserved(name, c.Service); h != nil {
			return inProcess(req, h, func() {}, depth, t.now)
		}
	}
	if at != "" && t.away != nil {
		return t.away(req, name, at, depth)
	}
	if at == "" && t.reaches != nil && !t.reaches(callerOf(req.Context()), name) {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, nobodyRuns(name)
	}
	handler, done := t.find(name)
	if handler == nil && t.away != nil {
		return t.away(req, name, "", depth)
	}
	if handler == nil {
		return nil, &wedge.FetchError{Failure: wedge.FailureNotFound, Err: errors.New("no service " + name + " is deployed here")}
	}
	return inProcess(req, handler, done, depth, t.now)
}

// nobodyRuns says that there is no service of a name, and the same of one that the caller may not reach.
func nobodyRuns(service string) error {
	return &wedge.FetchError{Backend: service, Failure: wedge.FailureNotFound, Err: errors.New("no PoP that can be reached runs a service " + service)}
}

// callerKey finds the service whose guest makes a fetch.
type callerKey struct{}

// callerOf returns the service that fetches, "" if nobody says.
func callerOf(ctx context.Context) string {
	if c := wedge.CachingFrom(ctx); c != nil {
		return c.Service
	}
	service, _ := ctx.Value(callerKey{}).(string)
	return service
}

// reaches reports whether a service may call another: they are the same tenant's. What the catalog does not have is the default tenant's.
func (n *Node) reaches(from, to string) (same bool) {
	n.fleet.applier.catalog.See(func(s *control.State) { same = s.TenantOf(from) == s.TenantOf(to) })
	return same
}

// depthKey finds how many calls by name have led to a request. A guest need not pass CDN-Loop on.
type depthKey struct{}

// maxDepth is how many may.
const maxDepth = 8

// plainContext is a context's end without what it carries: how the caller's fetch is to be cached, say, is nothing to
// the service that is called.
type plainContext struct{ context.Context }

func (plainContext) Value(any) any { return nil }

// calling returns a request as the service that is called gets it, as from a client of its own.
func calling(req *http.Request, depth int) *http.Request {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails, by contract
	client := &wedge.Client{RequestID: hex.EncodeToString(id[:]), Remote: loopback, Local: loopback, ConnRequestNum: 1, BytesIn: func() int64 { return 0 }}
	in := req.Clone(context.WithValue(wedge.WithClient(plainContext{req.Context()}, client), depthKey{}, depth+1))
	in.RequestURI, in.RemoteAddr, in.TLS = req.URL.RequestURI(), loopback.String(), nil
	if in.Host == "" {
		in.Host = req.URL.Host
	}
	in.Proto, in.ProtoMajor, in.ProtoMinor, in.Close = "HTTP/1.1", 1, 1, false
	if in.Body == nil {
		in.Body = http.NoBody
	}
	in.Header.Add("Cdn-Loop", cdnLoop)
	return in
}

// inProcess has a handler answer a request; done is called when it has.
func inProcess(req *http.Request, handler http.Handler, done func(), depth int, now func() time.Time) (*http.Response, error) {
	in := calling(req, depth)
	w := &internalWriter{req: req, now: now, header: http.Header{}, begun: make(chan struct{})}
	w.body, w.pipe = io.Pipe()
	go func() {
		defer done()
		defer w.end()
		handler.ServeHTTP(w, in)
		w.whole = true
	}()
	select {
	case <-w.begun:
		return w.resp, nil
	case <-req.Context().Done():
		w.body.CloseWithError(context.Cause(req.Context()))
		return nil, context.Cause(req.Context())
	}
}

// loopback stands for the client of a service that another calls.
var loopback = netip.MustParseAddrPort("127.0.0.1:0")

// internalWriter makes an http.Response of what a handler writes.
type internalWriter struct {
	now    func() time.Time
	req    *http.Request
	header http.Header
	once   sync.Once
	begun  chan struct{} // closed when resp is set
	resp   *http.Response
	body   *io.PipeReader
	pipe   *io.PipeWriter
	empty  bool // the response has no body
	whole  bool // the handler has returned, and not panicked
}

// Header implements http.ResponseWriter.
func (w *internalWriter) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *internalWriter) WriteHeader(status int) {
	if status < 200 {
		return // nobody waits for hints
	}
	w.once.Do(func() {
		h := w.header.Clone()
		for name, values := range h {
			if values == nil { // how a handler says that net/http is to add none
				delete(h, name)
			}
		}
		if h["Date"] == nil {
			h.Set("Date", w.now().UTC().Format(http.TimeFormat))
		}
		w.resp = &http.Response{Status: strconv.Itoa(status) + " " + http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: h, Request: w.req, Body: w.body, ContentLength: -1}
		if n, ok := parseInt(h.Get("Content-Length")); ok {
			w.resp.ContentLength = n
		}
		if w.req.Method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified {
			w.resp.Body, w.empty = http.NoBody, true
			w.body.Close()
		}
		close(w.begun)
	})
}

// Write implements http.ResponseWriter. It waits for whoever reads.
func (w *internalWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.empty { // resp is another's by now
		return len(b), nil
	}
	return w.pipe.Write(b)
}

// Flush implements http.Flusher.
func (w *internalWriter) Flush() { w.WriteHeader(http.StatusOK) }

// end ends the response, broken off if the handler panicked.
func (w *internalWriter) end() {
	if p := recover(); p != nil && p != http.ErrAbortHandler {
		w.header = http.Header{}
		w.WriteHeader(http.StatusInternalServerError)
	}
	w.WriteHeader(http.StatusOK)
	if w.whole {
		w.pipe.Close()
	} else {
		w.pipe.CloseWithError(io.ErrUnexpectedEOF)
	}
}
