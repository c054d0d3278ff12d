package hostcall

import (
	"context"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge"
)

// incoming is one downstream request on its way through a sandbox. The handler's goroutine
// owns the client's connection and listens on replies; the guest's goroutine reads the
// request and answers it. What a guest may ask about is copied, because a guest may live
// longer than the exchange with the client.
type incoming struct {
	ctx    context.Context // carries the request's values and outlives the client
	client *wedge.Client
	method string
	uri    string // absolute
	host   string
	proto  uint32 // http_version
	header http.Header
	key    string // Fastly-Key as received
	body   *body
	source *clientBody // nil: the request has no body

	answered bool       // by the guest; only its goroutine looks
	replies  chan reply // to the handler; the last one is final
	gone     chan struct{}

	upload atomic.Pointer[chan struct{}] // closed when a fetch has done with the request's body
}

// reply is what a guest, or its end, has for the client. One field is set.
type reply struct {
	interim  *response // 103
	response *response
	body     *body // with response
	pending  *pending
	handoff  *handoff
	err      error // the guest failed before it answered
}

func newIncoming(r *http.Request, interrupt func() error, random io.Reader) *incoming {
	in := &incoming{
		ctx:     context.WithoutCancel(r.Context()),
		client:  clientOf(r, random),
		method:  r.Method,
		host:    r.Host,
		proto:   protoOf(r.ProtoMajor, r.ProtoMinor),
		header:  r.Header,
		replies: make(chan reply, 2),
		gone:    make(chan struct{}),
		body:    newBody(nil),
	}
	if in.host == "" {
		in.host = "localhost"
	}
	in.uri = absoluteURI(r, in.host)
	in.key = r.Header.Get("Fastly-Key")
	if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 {
		in.source = &clientBody{r: r.Body, interrupt: interrupt}
		in.body = newStreamBody(newStream(in.source, r.ContentLength, func() http.Header { return r.Trailer }))
	}
	return in
}

// clientOf returns what the front knows of the client, or what net/http knows.
func clientOf(r *http.Request, random io.Reader) *wedge.Client {
	if c := wedge.ClientFrom(r.Context()); c != nil {
		return c
	}
	c := &wedge.Client{RequestID: newID(random)}
	c.Remote, _ = netip.ParseAddrPort(r.RemoteAddr)
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		c.Local, _ = netip.ParseAddrPort(local.String())
	}
	if r.TLS != nil {
		c.TLS = &wedge.ClientTLS{State: r.TLS}
	}
	return c
}

// newID returns 32 random hex digits.
func newID(random io.Reader) string {
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		panic("hostcall: no random bytes: " + err.Error())
	}
	return hex.EncodeToString(b[:])
}

func absoluteURI(r *http.Request, host string) string {
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	if c := wedge.ClientFrom(r.Context()); c != nil && c.TLS != nil {
		scheme = "https://"
	}
	target := r.RequestURI
	if !strings.HasPrefix(target, "/") { // absolute form, "*", CONNECT, or made by a test
		target = r.URL.RequestURI()
		if !strings.HasPrefix(target, "/") {
			target = "/"
		}
	}
	return scheme + host + target
}

func protoOf(major, minor int) uint32 {
	switch {
	case major == 3:
		return http3
	case major == 2:
		return http2
	case major == 1 && minor == 0:
		return http10
	}
	return http11
}

// headerLines returns the request's headers as received where the front kept their order,
// else by name. The Host header, which net/http keeps apart, is back in its place.
func (in *incoming) headerLines() headers {
	h := headers{list: make([]field, 0, len(in.header)+4)}
	seen := make(map[string]int, len(in.header)+1)
	for _, name := range in.client.HeaderNames {
		key := http.CanonicalHeaderKey(name)
		vs := in.header[key]
		if key == "Host" {
			vs = []string{in.host}
		}
		if k := seen[key]; k < len(vs) {
			h.list = append(h.list, field{name, vs[k], k > 0})
			h.size += fieldSize(name, vs[k])
			seen[key]++
		}
	}
	if seen["Host"] == 0 {
		h.addAll("Host", []string{in.host})
	}
	rest := fromHTTP(in.header)
	for _, f := range rest.list {
		if len(seen) == 0 || seen[f.name] == 0 && f.name != "Host" {
			h.list = append(h.list, f)
			h.size += fieldSize(f.name, f.value)
		}
	}
	return h
}

// originalNames returns the names of the header lines as received. HTTP/2 has them in lower case (RFC 9113 section 8.2.1).
func (in *incoming) originalNames() []string {
	if in.client.HeaderNames != nil {
		return in.client.HeaderNames
	}
	h := in.headerLines()
	names := make([]string, len(h.list))
	for i, f := range h.list {
		if names[i] = f.name; in.proto >= http2 {
			names[i] = strings.ToLower(f.name)
		}
	}
	return names
}

// say hands a reply to the handler; it reports false when the client is gone or ctx ended.
func (in *incoming) say(ctx context.Context, rep reply) bool {
	select {
	case <-in.gone:
		return false
	default:
	}
	select {
	case in.replies <- rep:
		in.sweep()
		return true
	case <-in.gone:
	case <-ctx.Done():
	}
	return false
}

// sweep takes back the replies that a handler which left cannot take.
func (in *incoming) sweep() {
	select {
	case <-in.gone:
	default:
		return
	}
	for {
		select {
		case rep := <-in.replies:
			rep.discard()
		default:
			return
		}
	}
}

// discard lets go of a reply that no client will get.
func (rep reply) discard() {
	if rep.body != nil {
		rep.body.leave()
	}
	if rep.pending != nil {
		rep.pending.drop()
	}
}

// clientBody reads a request's body and can be stopped: net/http takes the body back when
// the handler returns, whoever may be reading it.
type clientBody struct {
	r         io.Reader
	interrupt func() error // makes a Read that waits return
	over      atomic.Bool
	atEnd     atomic.Bool // it was read to its end
	mu        sync.Mutex  // held while reading
}

func (b *clientBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over.Load() {
		return 0, errClientGone
	}
	n, err := b.r.Read(p)
	if err == io.EOF {
		b.atEnd.Store(true)
	}
	if err != nil && err != io.EOF {
		err = clientError(err)
	}
	return n, err
}

// Close does nothing: net/http closes the request's body.
func (b *clientBody) Close() error { return nil }

// end stops all reading; when it returns, nobody touches the request's body any more.
func (b *clientBody) end() {
	if b == nil || b.over.Swap(true) {
		return
	}
	if !b.mu.TryLock() {
		if b.interrupt() != nil {
			return // not a real connection
		}
		b.mu.Lock()
	}
	b.mu.Unlock()
}

// past is a deadline that is over.
var past = time.Unix(1, 0)
