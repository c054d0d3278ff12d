package hostcall

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
)

// handoff gives the client's connection to a backend.
type handoff struct {
	backend *wedge.Backend
	request *request // its method, URI and headers replace the client's; nil: they stand
}

// protected headers stay the client's own in a handoff.
var protected = map[string]bool{
	"Host": true, "Connection": true, "Sec-Websocket-Version": true, "Sec-Websocket-Key": true, "Upgrade": true,
	"Pushpin-Route": true, "Content-Length": true, "Content-Range": true, "Expect": true, "Fastly-Ff": true,
	"Te": true, "Trailer": true, "Transfer-Encoding": true, "Cdn-Loop": true,
}

func isProtected(name string) bool {
	return protected[name] || strings.HasPrefix(name, "Proxy-Auth")
}

// handOver sends the client's request to the backend. A backend that switches protocols gets
// the connection, both ways, until one side ends it; any other answer goes to the client.
func (x *exchange) handOver(to *handoff) {
	ctx, cancel := context.WithCancel(wedge.WithBackend(x.r.Context(), to.backend))
	defer cancel()
	resp, err := x.h.cfg.Host.Fetch.RoundTrip(x.handoffRequest(ctx, to))
	if err != nil {
		x.plain(failureOf(err).Failure.Status())
		return
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		f := received(resp, x.r.Method, false, cancel)
		x.respond(f.resp, f.body)
		return
	}
	backend, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		resp.Body.Close()
		x.plain(http.StatusBadGateway)
		return
	}
	defer backend.Close()
	client, buffered, err := x.ctl.Hijack()
	if err != nil { // HTTP/2, where net/http has no upgrade
		x.plain(http.StatusNotImplemented)
		return
	}
	defer client.Close()
	x.relay(client, buffered, backend, resp.Header)
}

// handoffRequest builds what the backend is asked.
func (x *exchange) handoffRequest(ctx context.Context, to *handoff) *http.Request {
	method, target, header := x.r.Method, x.in.uri, x.r.Header.Clone()
	if to.request != nil {
		method, target = to.request.method, to.request.uri
		header = mergeProtected(x.r.Header, to.request.headers.toHTTP(nil))
	}
	u, ok := parseURI(target)
	if !ok {
		u = &url.URL{Path: "/"}
	}
	if u.Host == "" {
		u.Scheme, u.Host = "http", x.in.host
	}
	upgrade := header.Get("Upgrade")
	for name := range hopByHop {
		header.Del(name)
	}
	if upgrade != "" {
		header["Connection"], header["Upgrade"] = []string{"Upgrade"}, []string{upgrade}
	}
	if _, ok := header["User-Agent"]; !ok {
		header["User-Agent"] = nil
	}
	header.Del("Content-Length")
	if loop := passOn(x.h.cfg.Host, x.in, header["Cdn-Loop"]); len(loop) > 0 {
		header["Cdn-Loop"] = loop
	}
	out := (&http.Request{
		Method: method, URL: u, Host: x.in.host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if x.in.source != nil {
		out.Body, out.ContentLength = io.NopCloser(x.in.source), x.r.ContentLength
	}
	return out
}

// mergeProtected returns own headers with the protected ones of the client's.
func mergeProtected(client, own http.Header) http.Header {
	for name := range own {
		if isProtected(name) {
			delete(own, name)
		}
	}
	for name, vs := range client {
		if isProtected(name) {
			own[name] = vs
		}
	}
	return own
}

// relay tells the client that protocols switch and copies both ways until either side ends,
// or the handler is closed.
func (x *exchange) relay(client net.Conn, buffered *bufio.ReadWriter, backend io.ReadWriteCloser, header http.Header) {
	x.h.track(1)
	defer x.h.track(-1)
	both := func() { client.Close(); backend.Close() }
	defer context.AfterFunc(x.h.base, both)()
	_ = client.SetDeadline(time.Time{})
	fmt.Fprint(buffered, "HTTP/1.1 101 Switching Protocols\r\n")
	_ = header.Write(buffered)
	fmt.Fprint(buffered, "\r\n")
	if buffered.Flush() != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer both()
		_, _ = io.Copy(backend, buffered.Reader)
	}()
	_, _ = io.Copy(client, backend)
	both()
	<-done
}
