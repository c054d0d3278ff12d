package hostcall

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

var table4test = sync.OnceValue(Table)

// guest plays a guest: it lays arguments in a memory of its own and dispatches hostcalls.
type guest struct {
	t   testing.TB
	sb  *compute.Sandbox
	mem []byte
	top uint32
}

func play(t testing.TB, sb *compute.Sandbox) *guest {
	return &guest{t: t, sb: sb, mem: make([]byte, 1<<20)}
}

// newGuest returns a guest that serves no request.
func newGuest(t testing.TB, h *compute.Host) *guest {
	e := newExec(context.Background(), h, h.Version.Limits)
	t.Cleanup(func() { e.end(errors.New("test is over")) })
	return play(t, &compute.Sandbox{Host: h, State: e})
}

func testHost(v *wedge.Version) *compute.Host {
	if v == nil {
		v = &wedge.Version{}
	}
	return &compute.Host{Version: v, Fetch: backendTransport{http.DefaultTransport}, Rand: rand.Reader, Now: time.Now}
}

// backendTransport does what package backend does, as far as these tests need it.
type backendTransport struct{ next http.RoundTripper }

func (b backendTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	to := wedge.BackendFrom(req.Context())
	out := req.Clone(req.Context())
	out.URL.Scheme, out.URL.Host = to.URL.Scheme, to.URL.Host
	out.URL.Path = strings.TrimSuffix(to.URL.Path, "/") + out.URL.Path
	out.Trailer = req.Trailer
	if to.HostOverride != "" {
		out.Host = to.HostOverride
	}
	resp, err := b.next.RoundTrip(out)
	if err != nil {
		failure := wedge.FailureRefused
		if strings.Contains(err.Error(), "EOF") {
			failure = wedge.FailureTerminated
		} else if strings.Contains(err.Error(), "malformed") {
			failure = wedge.FailureProtocol
		}
		return nil, &wedge.FetchError{Backend: to.Name, Failure: failure, Err: err}
	}
	return resp, nil
}

func staticBackend(t testing.TB, name, base string) wedge.Backend {
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	return wedge.Backend{Name: name, URL: u}
}

func (g *guest) alloc(n int) uint32 {
	if int(g.top)+n > len(g.mem) {
		g.top = 0
	}
	p := g.top
	g.top += uint32(n)
	return p
}

func (g *guest) lay(b []byte) uint32 {
	p := g.alloc(len(b))
	copy(g.mem[p:], b)
	return p
}

// raw is a pointer for a struct parameter.
type raw uint32

// call makes the hostcall "module.name". Arguments go by the shapes of its parameters: int for a
// value, string for bytes, *uint32 and so on for outs, []byte for buffers (filled in place),
// *[16]byte, []uint32, and []byte (read back) or raw for structs.
func (g *guest) call(name string, args ...any) abi.Status {
	g.t.Helper()
	module, call, _ := strings.Cut(name, ".")
	d := abi.Lookup(module, call)
	if d == nil || len(args) != len(d.Params) {
		panic(fmt.Sprintf("%s: %d arguments", name, len(args)))
	}
	var words []uint64
	var after []func()
	for i, p := range d.Params {
		words, after = g.word(p, args[i], words, after)
	}
	f := table4test()[d]
	if f == nil {
		return abi.Unsupported
	}
	s := g.sb.Dispatch(d, f, g.mem, words)
	for _, f := range after {
		f()
	}
	return s
}

func (g *guest) word(p abi.Param, arg any, words []uint64, after []func()) ([]uint64, []func()) {
	switch v := arg.(type) {
	case int:
		return append(words, uint64(uint32(v))), after
	case uint32:
		return append(words, uint64(v)), after
	case raw:
		return append(words, uint64(v)), after
	case string:
		return append(words, uint64(g.lay([]byte(v))), uint64(len(v))), after
	case []uint32:
		b := make([]byte, 0, 4*len(v))
		for _, h := range v {
			b = binary.LittleEndian.AppendUint32(b, h)
		}
		return append(words, uint64(g.lay(b)), uint64(len(v))), after
	case []byte:
		ptr := g.lay(v)
		after = append(after, func() { copy(v, g.mem[ptr:]) })
		if p.Shape == abi.Struct {
			return append(words, uint64(ptr)), after
		}
		return append(words, uint64(ptr), uint64(len(v))), after
	case *[16]byte:
		ptr := g.lay(v[:])
		return append(words, uint64(ptr)), append(after, func() { copy(v[:], g.mem[ptr:]) })
	case *uint16:
		ptr := g.lay(binary.LittleEndian.AppendUint16(nil, *v))
		return append(words, uint64(ptr)), append(after, func() { *v = binary.LittleEndian.Uint16(g.mem[ptr:]) })
	case *uint32:
		ptr := g.lay(binary.LittleEndian.AppendUint32(nil, *v))
		return append(words, uint64(ptr)), append(after, func() { *v = binary.LittleEndian.Uint32(g.mem[ptr:]) })
	case *uint64:
		ptr := g.lay(binary.LittleEndian.AppendUint64(nil, *v))
		return append(words, uint64(ptr)), append(after, func() { *v = binary.LittleEndian.Uint64(g.mem[ptr:]) })
	case *int64:
		ptr := g.lay(binary.LittleEndian.AppendUint64(nil, uint64(*v)))
		return append(words, uint64(ptr)), append(after, func() { *v = int64(binary.LittleEndian.Uint64(g.mem[ptr:])) })
	}
	panic(fmt.Sprintf("no way to pass %T", arg))
}

// ok makes a hostcall that must succeed.
func (g *guest) ok(name string, args ...any) {
	g.t.Helper()
	g.is(abi.OK, name, args...)
}

// is makes a hostcall that must return want.
func (g *guest) is(want abi.Status, name string, args ...any) {
	g.t.Helper()
	if s := g.call(name, args...); s != want {
		g.t.Errorf("%s: %v, want %v", name, s, want)
	}
}

// text makes a call whose last parameters are a buffer and *nwritten.
func (g *guest) text(name string, args ...any) string {
	g.t.Helper()
	buf, n := make([]byte, 4096), uint32(0)
	g.ok(name, append(args, buf, &n)...)
	return string(buf[:n])
}

// many makes a multi-value call and returns the values.
func (g *guest) many(name string, args ...any) []string {
	g.t.Helper()
	buf, n, end := make([]byte, 4096), uint32(0), int64(0)
	g.ok(name, append(args, buf, 0, &end, &n)...)
	if end != -1 {
		g.t.Errorf("%s: ending cursor %d", name, end)
	}
	return strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
}

func (g *guest) newRequest() (h uint32) {
	g.t.Helper()
	g.ok("fastly_http_req.new", &h)
	return h
}

func (g *guest) newResponse() (h uint32) {
	g.t.Helper()
	g.ok("fastly_http_resp.new", &h)
	return h
}

func (g *guest) newBody(s string) (h uint32) {
	g.t.Helper()
	g.ok("fastly_http_body.new", &h)
	g.write(h, s)
	return h
}

func (g *guest) write(h uint32, s string) {
	g.t.Helper()
	var n uint32
	g.ok("fastly_http_body.write", h, s, 0, &n)
	if int(n) != len(s) {
		g.t.Errorf("wrote %d of %d bytes", n, len(s))
	}
}

// read reads a body to its end; the status is that of the last read.
func (g *guest) read(h uint32) (string, abi.Status) {
	g.t.Helper()
	var all []byte
	for {
		buf, n := make([]byte, 1000), uint32(0)
		s := g.call("fastly_http_body.read", h, buf, &n)
		if s != abi.OK || n == 0 {
			return string(all), s
		}
		all = append(all, buf[:n]...)
	}
}

func (g *guest) readAll(h uint32) string {
	g.t.Helper()
	s, st := g.read(h)
	if st != abi.OK {
		g.t.Errorf("read: %v", st)
	}
	return s
}

// downstream returns the handles of the request in hand.
func (g *guest) downstream() (req, body uint32) {
	g.t.Helper()
	g.ok("fastly_http_req.body_downstream_get", &req, &body)
	return req, body
}

// answer sends a whole response.
func (g *guest) answer(status int, body string, header ...string) {
	g.t.Helper()
	r := g.newResponse()
	g.ok("fastly_http_resp.status_set", r, status)
	for i := 0; i+1 < len(header); i += 2 {
		g.ok("fastly_http_resp.header_append", r, header[i], header[i+1])
	}
	g.ok("fastly_http_resp.send_downstream", r, g.newBody(body), 0)
}
