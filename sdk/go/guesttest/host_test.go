package guesttest

import (
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// host stands in for Wedge: just enough of the ABI for these tests, strict about handles.
type host struct {
	req    *http.Request
	origin func(*sent) *reply

	mu      sync.Mutex
	things  []any // by handle
	calls   []string
	answers []answer
	hints   []http.Header
	kv      map[string]*entry
	more    []*http.Request // for next_request
	mem     api.Memory
}

type entry struct {
	value, meta string
	gen         uint64
}

// answer is what reached the client.
type answer struct {
	status   int
	header   http.Header
	body     *stream
	streamed bool
}

// sent is a request that a guest made; reply what the origin says to it.
type sent struct {
	method, uri string
	header      http.Header
	body        *stream
	streamed    bool
}

type reply struct {
	fail    uint32 // error detail tag
	status  int
	header  http.Header
	body    *stream
	backend string
}

// stream is a body: bytes, and whether more will come.
type stream struct {
	mu      sync.Mutex
	buf     []byte
	src     *stream // appended
	done    bool
	cut     bool
	made    bool // by the guest, so whole when it is sent
	trailer http.Header
	change  chan struct{}
}

func newStream(text string, done bool) *stream {
	return &stream{buf: []byte(text), done: done, trailer: http.Header{}, change: make(chan struct{}, 1000)}
}

func (s *stream) write(b []byte) {
	s.mu.Lock()
	s.buf = append(s.buf, b...)
	s.mu.Unlock()
	s.change <- struct{}{}
}

func (s *stream) close(cut bool) {
	s.mu.Lock()
	s.done, s.cut = true, cut
	s.mu.Unlock()
	s.change <- struct{}{}
}

func (s *stream) ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.buf) > 0 || s.done
}

func (s *stream) read(p []byte) int {
	for !s.ready() {
		<-s.change
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := copy(p, s.buf)
	s.buf = s.buf[n:]
	return n
}

func (s *stream) all() string {
	var out []byte
	buf := make([]byte, 1000)
	for {
		n := s.read(buf)
		if n == 0 {
			break
		}
		out = append(out, buf[:n]...)
	}
	if s.src != nil {
		out = append(out, s.src.all()...)
	}
	return string(out)
}

type message struct {
	status      int
	method, uri string
	header      http.Header
}

// pending is a fetch or a store operation in flight.
type pending struct {
	done  chan struct{}
	reply *reply
	entry *entry
	list  string
	code  uint32
}

func (h *host) add(v any) uint32 { h.things = append(h.things, v); return uint32(len(h.things) - 1) }

func get[T any](h *host, n uint64) (T, bool) {
	var zero T
	if n >= uint64(len(h.things)) {
		return zero, false
	}
	v, ok := h.things[n].(T)
	return v, ok
}

// call is one hostcall's arguments.
type call struct {
	h *host
	a []uint64
}

func (c call) str(i int) string {
	b, _ := c.h.mem.Read(uint32(c.a[i]), uint32(c.a[i+1]))
	return string(b)
}
func (c call) put(i int, v uint32)   { c.h.mem.WriteUint32Le(uint32(c.a[i]), v) }
func (c call) put64(i int, v uint64) { c.h.mem.WriteUint64Le(uint32(c.a[i]), v) }

// value answers with one value into buffer i, its length to pointer i+2.
func (c call) value(i int, s string) uint32 {
	c.put(i+2, uint32(len(s)))
	if uint64(len(s)) > c.a[i+1] {
		return 4
	}
	c.h.mem.Write(uint32(c.a[i]), []byte(s))
	return 0
}

// multi answers with pieces from cursor a[i+2] on; it gives at most three a call, so that
// cursors are used.
func (c call) multi(i int, list []string) uint32 {
	at := int(c.a[i+2])
	end := min(at+3, len(list))
	text := ""
	for _, s := range list[min(at, len(list)):end] {
		text += s + "\x00"
	}
	next := int64(end)
	if end >= len(list) {
		next = -1
	}
	if uint64(len(text)) > c.a[i+1] {
		c.put(i+4, uint32(len(text)))
		return 4
	}
	c.put64(i+3, uint64(next))
	c.put(i+4, uint32(len(text)))
	c.h.mem.Write(uint32(c.a[i]), []byte(text))
	return 0
}

func sortedNames(h http.Header) (names []string) {
	for n := range h {
		names = append(names, strings.ToLower(n))
	}
	sort.Strings(names)
	return names
}

// instantiate makes a host module for each that the guest imports from; a call that has no
// implementation returns unsupported.
func (h *host) instantiate(ctx context.Context, t testing.TB, r wazero.Runtime, m wazero.CompiledModule) {
	builders := map[string]wazero.HostModuleBuilder{}
	for _, f := range m.ImportedFunctions() {
		module, name, _ := f.Import()
		if !strings.HasPrefix(module, "fastly_") {
			continue
		}
		b := builders[module]
		if b == nil {
			b = r.NewHostModuleBuilder(module)
			builders[module] = b
		}
		impl := hostcalls[module+"."+name]
		b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(_ context.Context, mod api.Module, stack []uint64) {
			h.mem = mod.Memory()
			h.calls = append(h.calls, name)
			if impl == nil {
				stack[0] = 5
				return
			}
			args := make([]uint64, len(stack))
			for i, word := range stack {
				args[i] = uint64(uint32(word)) // all are i32; the upper half is not defined
			}
			stack[0] = uint64(impl(call{h, args}))
		}), f.ParamTypes(), f.ResultTypes()).Export(name)
	}
	for _, b := range builders {
		if _, err := b.Instantiate(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func (h *host) start(r *http.Request) (req, body uint32) {
	uri := "http://" + r.Host + r.URL.RequestURI()
	req = h.add(&message{method: r.Method, uri: uri, header: r.Header})
	text, _ := io.ReadAll(r.Body)
	return req, h.add(newStream(string(text), true))
}

// ready says whether a hostcall on the thing would not block.
func (h *host) ready(n uint32) (bool, bool) {
	switch v := h.things[n].(type) {
	case *pending:
		select {
		case <-v.done:
			return true, true
		default:
			return false, true
		}
	case *stream:
		return v.ready() || true, true
	}
	return false, false
}

func (h *host) send(c call, streaming bool) uint32 {
	m, ok := get[*message](h, c.a[0])
	s, ok2 := get[*stream](h, c.a[1])
	if !ok || !ok2 {
		return 3
	}
	if c.str(2) != "origin" {
		return 2
	}
	h.things[c.a[0]] = nil
	if !streaming {
		h.things[c.a[1]] = nil
		s.done = true
	}
	p := &pending{done: make(chan struct{})}
	c.put(4, h.add(p))
	go func() {
		p.reply = h.origin(&sent{m.method, m.uri, m.header, s, streaming})
		close(p.done)
	}()
	return 0
}

func (h *host) settled(p *pending) uint32 {
	close(p.done)
	return h.add(p)
}

var order = binary.LittleEndian

func selectReady(c call) uint32 {
	deadline := time.Now().Add(time.Duration(c.a[2]) * time.Millisecond)
	list, _ := c.h.mem.Read(uint32(c.a[0]), uint32(c.a[1])*4)
	for {
		for i := range int(c.a[1]) {
			is, ok := c.h.ready(order.Uint32(list[4*i:]))
			if !ok {
				return 3
			}
			if is {
				c.put(3, uint32(i))
				return 0
			}
		}
		if c.a[2] != 0 && time.Now().After(deadline) {
			c.put(3, ^uint32(0))
			return 0
		}
		time.Sleep(100 * time.Microsecond) // a stand-in may poll
	}
}
