package hostcall

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
	"github.com/wedge-cloud/wedge/state"
)

var _ compute.KV = (*state.Stores)(nil) // by shape, for state must not know compute

// stBed is a sandbox without an instance: a fake memory and a host to call.
type stBed struct {
	t    *testing.T
	sb   *compute.Sandbox
	mem  []byte
	next uint32 // free memory
	fns  map[*abi.Def]compute.Func
	logs []string // "endpoint: line"
	out  []string // "stream: bytes"
}

const stMemory = 4 << 20

func stNew(t *testing.T, v *wedge.Version) *stBed {
	b := &stBed{t: t, mem: make([]byte, stMemory), next: 1 << 16, fns: Table()}
	start := time.Now()
	host := &compute.Host{
		Version: v, Now: time.Now, Monotonic: func() int64 { return int64(time.Since(start)) }, Rand: rand.Reader, Hostname: "node1",
		Log:    func(endpoint string, line []byte) { b.logs = append(b.logs, endpoint+": "+string(line)) },
		Output: func(stream int, p []byte) { b.out = append(b.out, string(rune('0'+stream))+": "+string(p)) },
	}
	host.Rates = state.NewRates().For(v.Service)
	e := newExec(context.Background(), host, v.Limits)
	t.Cleanup(func() { e.end(nil) })
	b.sb = &compute.Sandbox{TraceID: strings.Repeat("ab", 16), Host: host, State: e}
	return b
}

// stOut is a place in memory for a result.
type stOut uint32

func (b *stBed) out4() stOut { return stOut(b.lay(bytes.Repeat([]byte{0xcc}, 8))) }

func (b *stBed) u32(o stOut) uint32 { return binary.LittleEndian.Uint32(b.mem[o:]) }
func (b *stBed) u64(o stOut) uint64 { return binary.LittleEndian.Uint64(b.mem[o:]) }

const stUntouched = 0xcccccccc

// lay puts bytes into memory and returns where.
func (b *stBed) lay(p []byte) uint32 {
	at := b.next
	copy(b.mem[at:], p)
	b.next += uint32(len(p)+15) &^ 7
	if int(b.next) > len(b.mem) {
		b.t.Fatal("test memory is used up")
	}
	return at
}

// stWords is a struct of u32 fields; a uint64 takes two.
func (b *stBed) layWords(fields ...any) uint32 {
	var p []byte
	for _, f := range fields {
		switch f := f.(type) {
		case int:
			p = binary.LittleEndian.AppendUint32(p, uint32(f))
		case uint32:
			p = binary.LittleEndian.AppendUint32(p, f)
		case uint64:
			p = binary.LittleEndian.AppendUint64(p, f)
		case string:
			p = binary.LittleEndian.AppendUint32(p, b.lay([]byte(f)))
			p = binary.LittleEndian.AppendUint32(p, uint32(len(f)))
		}
	}
	return b.lay(p)
}

// call makes a hostcall. Strings become pointer and length, an stBuf pointer and room.
func (b *stBed) call(module, name string, args ...any) abi.Status {
	b.t.Helper()
	d := abi.Lookup(module, name)
	f := b.fns[d]
	if f == nil {
		b.t.Fatalf("%s.%s is not implemented", module, name)
	}
	var words []uint64
	for _, a := range args {
		switch a := a.(type) {
		case string:
			words = append(words, uint64(b.lay([]byte(a))), uint64(len(a)))
		case []byte:
			words = append(words, uint64(b.lay(a)), uint64(len(a)))
		case stBuf:
			words = append(words, uint64(a.ptr), uint64(a.n))
		case stOut:
			words = append(words, uint64(a))
		case int:
			words = append(words, uint64(a))
		case uint32:
			words = append(words, uint64(a))
		case uint64:
			words = append(words, a)
		}
	}
	if params, _ := d.Types(); len(words) != len(params) {
		b.t.Fatalf("%s takes %d words, given %d", d, len(params), len(words))
	}
	return b.sb.Dispatch(d, f, b.mem, words)
}

func (b *stBed) want(want abi.Status, module, name string, args ...any) {
	b.t.Helper()
	if got := b.call(module, name, args...); got != want {
		b.t.Fatalf("%s.%s: %d, want %d", module, name, got, want)
	}
}

// stBuf is room for an answer.
type stBuf struct{ ptr, n uint32 }

func (b *stBed) buf(n int) stBuf { return stBuf{b.lay(make([]byte, n)), uint32(n)} }

func (b *stBed) text(buf stBuf, n stOut) string { return string(b.mem[buf.ptr : buf.ptr+b.u32(n)]) }

// open calls an open-like hostcall and returns the handle.
func (b *stBed) handle(module, name string, args ...any) uint32 {
	b.t.Helper()
	o := b.out4()
	b.want(abi.OK, module, name, append(args, o)...)
	return b.u32(o)
}

// body makes a body that holds s.
func (b *stBed) body(s string) uint32 {
	b.t.Helper()
	h := b.handle("fastly_http_body", "new")
	b.want(abi.OK, "fastly_http_body", "write", h, s, 0, b.out4())
	return h
}

// readBody reads a body to its end.
func (b *stBed) readBody(h uint32) string {
	b.t.Helper()
	var all []byte
	buf, n := b.buf(1000), b.out4()
	for {
		b.want(abi.OK, "fastly_http_body", "read", h, buf, n)
		if b.u32(n) == 0 {
			return string(all)
		}
		all = append(all, b.text(buf, n)...)
	}
}

const stOutside = uint32(stMemory - 2) // where not even four bytes fit
