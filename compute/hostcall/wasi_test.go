package hostcall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/tetratelabs/wazero/sys"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

const stWASI = "wasi_snapshot_preview1"

func TestWASIIsWhole(t *testing.T) {
	fns := Table()
	for _, d := range abi.Hostcalls {
		if d.Module == stWASI && fns[d] == nil {
			t.Errorf("%s is not implemented", d)
		}
	}
}

func TestWASIArgsAndEnviron(t *testing.T) {
	b := stNew(t, &wedge.Version{})
	b.sb.Args, b.sb.Env = []string{"prog", "", "-v"}, []string{"A=1"}
	for _, c := range []struct {
		call string
		want string
		n    uint32
	}{{"args", "prog\x00\x00-v\x00", 3}, {"environ", "A=1\x00", 1}} {
		count, size := b.out4(), b.out4()
		b.want(abi.ESuccess, stWASI, c.call+"_sizes_get", count, size)
		if b.u32(count) != c.n || b.u32(size) != uint32(len(c.want)) {
			t.Errorf("%s: %d strings of %d bytes", c.call, b.u32(count), b.u32(size))
		}
		ptrs, buf := b.buf(16), b.buf(len(c.want))
		b.want(abi.ESuccess, stWASI, c.call+"_get", ptrs.ptr, buf.ptr)
		if got := string(b.mem[buf.ptr:][:len(c.want)]); got != c.want {
			t.Errorf("%s: %q", c.call, got)
		}
		last := b.u32(stOut(ptrs.ptr + 4*(c.n-1)))
		if !strings.HasSuffix(c.want, string(b.mem[last:buf.ptr+buf.n])) {
			t.Errorf("%s: last pointer %d, buffer %d", c.call, last, buf.ptr)
		}
		b.want(abi.EFault, stWASI, c.call+"_get", stOutside, buf.ptr)
		b.want(abi.EFault, stWASI, c.call+"_get", ptrs.ptr, stOutside)
		b.want(abi.EFault, stWASI, c.call+"_sizes_get", stOutside, size)
	}
}

func TestWASIClocks(t *testing.T) {
	b := stNew(t, &wedge.Version{})
	o := b.out4()
	for id := range 4 {
		b.want(abi.ESuccess, stWASI, "clock_time_get", id, uint64(1), o)
		b.want(abi.ESuccess, stWASI, "clock_res_get", id, o)
		if b.u64(o) != 1 {
			t.Errorf("clock %d has resolution %d", id, b.u64(o))
		}
	}
	b.want(abi.ESuccess, stWASI, "clock_time_get", clockRealtime, uint64(0), o)
	if d := time.Since(time.Unix(0, int64(b.u64(o)))); d < 0 || d > time.Minute {
		t.Errorf("the clock is %v off", d)
	}
	b.want(abi.EInval, stWASI, "clock_time_get", 4, uint64(0), o)
	b.want(abi.EInval, stWASI, "clock_res_get", 4, o)
	b.want(abi.EFault, stWASI, "clock_time_get", 0, uint64(0), stOutside)
}

func TestWASIRandom(t *testing.T) {
	b := stNew(t, &wedge.Version{})
	buf := b.buf(3*randomChunk + 5)
	b.want(abi.ESuccess, stWASI, "random_get", buf)
	got := b.mem[buf.ptr : buf.ptr+buf.n]
	for _, tail := range [][]byte{got[:16], got[randomChunk : randomChunk+16], got[len(got)-16:]} {
		if bytes.Equal(tail, make([]byte, 16)) {
			t.Error("a part was not filled")
		}
	}
	if b.mem[buf.ptr+buf.n] != 0 {
		t.Error("written past the end")
	}
	b.want(abi.EFault, stWASI, "random_get", stBuf{stOutside, 100})
	b.sb.Host.Rand = iotest.ErrReader(errors.New("broken"))
	b.want(abi.EIO, stWASI, "random_get", buf)
}

func TestWASIExit(t *testing.T) {
	b := stNew(t, &wedge.Version{})
	defer func() {
		if e, ok := recover().(*sys.ExitError); !ok || e.ExitCode() != 7 {
			t.Errorf("left with %v", e)
		}
	}()
	b.call(stWASI, "proc_exit", 7)
	t.Error("proc_exit returned")
}

// TestWASIWithoutFiles calls everything that needs a file or a socket.
func TestWASIWithoutFiles(t *testing.T) {
	b := stNew(t, &wedge.Version{})
	o := b.out4()
	for _, c := range []struct {
		name   string
		args   []any // after the descriptor
		stream abi.Status
	}{
		{"fd_advise", []any{uint64(0), uint64(0), 0}, abi.ESpipe},
		{"fd_allocate", []any{uint64(0), uint64(0)}, abi.ESpipe},
		{"fd_datasync", nil, abi.ESuccess},
		{"fd_sync", nil, abi.ESuccess},
		{"fd_fdstat_set_rights", []any{uint64(0), uint64(0)}, abi.ENotsup},
		{"fd_fdstat_set_flags", []any{4}, abi.ESuccess},
		{"fd_filestat_set_size", []any{uint64(0)}, abi.EInval},
		{"fd_filestat_set_times", []any{uint64(0), uint64(0), 0}, abi.ENotsup},
		{"fd_pread", []any{0, 0, uint64(0), o}, abi.ESpipe},
		{"fd_pwrite", []any{0, 0, uint64(0), o}, abi.ESpipe},
		{"fd_prestat_get", []any{o}, abi.EBadf},
		{"fd_prestat_dir_name", []any{b.buf(4)}, abi.EBadf},
		{"fd_readdir", []any{b.buf(4), uint64(0), o}, eNotdir},
		{"fd_seek", []any{uint64(0), 0, o}, abi.ESpipe},
		{"fd_tell", []any{o}, abi.ESpipe},
		{"path_create_directory", []any{"p"}, eNotdir},
		{"path_filestat_get", []any{0, "p", o}, eNotdir},
		{"path_filestat_set_times", []any{0, "p", uint64(0), uint64(0), 0}, eNotdir},
		{"path_link", []any{0, "p", 3, "q"}, eNotdir},
		{"path_open", []any{0, "p", 0, uint64(0), uint64(0), 0, o}, eNotdir},
		{"path_readlink", []any{"p", b.buf(4), o}, eNotdir},
		{"path_remove_directory", []any{"p"}, eNotdir},
		{"path_rename", []any{"p", 3, "q"}, eNotdir},
		{"path_unlink_file", []any{"p"}, eNotdir},
		{"sock_accept", []any{0, o}, eNotsock},
		{"sock_recv", []any{0, 0, 0, o, o}, eNotsock},
		{"sock_send", []any{0, 0, 0, o}, eNotsock},
		{"sock_shutdown", []any{0}, eNotsock},
	} {
		for fd, want := range map[uint32]abi.Status{1: c.stream, 3: abi.EBadf, 0xffffffff: abi.EBadf} {
			b.want(want, stWASI, c.name, append([]any{fd}, c.args...)...)
		}
	}
	b.want(eNotdir, stWASI, "path_symlink", "p", 1, "q")
	b.want(abi.EBadf, stWASI, "path_symlink", "p", 3, "q")
	b.want(abi.ENotsup, stWASI, "proc_raise", 6)
	b.want(abi.ESuccess, stWASI, "sched_yield")
	b.want(abi.EInval, stWASI, "fd_fdstat_set_flags", 1, 1<<5)
}

func TestWASIStat(t *testing.T) {
	b := stNew(t, &wedge.Version{})
	for fd, right := range map[int]uint64{0: rightRead, 1: rightWrite, 2: rightWrite} {
		at := b.lay(bytes.Repeat([]byte{0xcc}, filestatSize))
		b.want(abi.ESuccess, stWASI, "fd_fdstat_get", fd, at)
		rights := b.u64(stOut(at + 8))
		if b.mem[at] != charDevice || rights&(rightRead|rightWrite) != right || b.u64(stOut(at+16)) != 0 || b.mem[at+24] != 0xcc {
			t.Errorf("fdstat of %d: %x", fd, b.mem[at:at+25])
		}
		b.want(abi.ESuccess, stWASI, "fd_filestat_get", fd, at)
		if b.mem[at+16] != charDevice || b.u64(stOut(at+24)) != 1 {
			t.Errorf("filestat of %d: %x", fd, b.mem[at:at+64])
		}
	}
	for _, call := range []string{"fd_fdstat_get", "fd_filestat_get"} {
		b.want(abi.EBadf, stWASI, call, 3, 64)
		b.want(abi.EFault, stWASI, call, 1, stOutside)
	}
}

func (b *stBed) iovecs(pieces ...string) stBuf {
	var fields []any
	for _, p := range pieces {
		fields = append(fields, p)
	}
	return stBuf{b.layWords(fields...), uint32(len(pieces))}
}

func TestWASIWrite(t *testing.T) {
	b := stNew(t, &wedge.Version{})
	n := b.out4()
	b.want(abi.ESuccess, stWASI, "fd_write", 1, b.iovecs("one ", "", "two\n"), n)
	b.want(abi.ESuccess, stWASI, "fd_write", 2, b.iovecs("err\n"), n)
	b.want(abi.ESuccess, stWASI, "fd_write", 1, b.iovecs(), n)
	if got := strings.Join(b.out, "|"); got != "1: one two\n|2: err\n" || b.u32(n) != 0 {
		t.Errorf("printed %q, last count %d", got, b.u32(n))
	}
	var took []byte
	b.sb.Stdout = func(p []byte) error { took = append(took, p...); return nil }
	b.want(abi.ESuccess, stWASI, "fd_write", 1, b.iovecs("own"), n)
	b.sb.Stdout = func(p []byte) error { return errors.New("gone") }
	b.want(abi.EPipe, stWASI, "fd_write", 1, b.iovecs("own"), n)
	b.want(abi.ESuccess, stWASI, "fd_write", 2, b.iovecs("still\n"), n)
	if string(took) != "own" || len(b.out) != 3 {
		t.Errorf("took %q, printed %q", took, b.out)
	}
	b.sb.Stdout = func(p []byte) error { took = append(took[:0], p...); return nil }
	big := b.lay(make([]byte, maxStdioBytes))
	b.want(abi.ESuccess, stWASI, "fd_write", 1, stBuf{b.layWords(big, maxStdioBytes-1, big, maxStdioBytes), 2}, n)
	if b.u32(n) != maxStdioBytes || len(took) != maxStdioBytes {
		t.Errorf("a huge write gave %d, took %d", b.u32(n), len(took))
	}
	b.want(abi.EBadf, stWASI, "fd_write", 0, b.iovecs("x"), n)
	b.want(abi.EBadf, stWASI, "fd_write", 3, b.iovecs("x"), n)
	b.want(abi.EInval, stWASI, "fd_write", 1, stBuf{64, maxIovecs + 1}, n)
	b.want(abi.EFault, stWASI, "fd_write", 1, stBuf{stOutside, 1}, n)
	b.want(abi.EFault, stWASI, "fd_write", 1, stBuf{b.layWords(stOutside, 100), 1}, n)
	b.want(abi.EFault, stWASI, "fd_write", 1, stBuf{b.layWords(0xfffffff0, 0xfffffff0), 1}, n)
	b.want(abi.EFault, stWASI, "fd_write", 1, b.iovecs("x"), stOutside)
	b.sb.Host.Output = nil
	b.want(abi.ESuccess, stWASI, "fd_write", 2, b.iovecs("nowhere"), n)
}

type stStdin struct{ io.Reader }

func (s stStdin) Read(_ context.Context, p []byte) (int, error) { return s.Reader.Read(p) }

func TestWASIRead(t *testing.T) {
	b := stNew(t, &wedge.Version{})
	n, dst := b.out4(), b.buf(8)
	vec := stBuf{b.layWords(64, 0, dst.ptr, dst.n), 2}
	b.want(abi.ESuccess, stWASI, "fd_read", 0, vec, n)
	if b.u32(n) != 0 {
		t.Error("without a stdin there must be an end")
	}
	b.sb.Stdin = stStdin{strings.NewReader("hello world")}
	for _, want := range []string{"hello wo", "rld", ""} {
		b.want(abi.ESuccess, stWASI, "fd_read", 0, vec, n)
		if got := b.text(dst, n); got != want {
			t.Errorf("read %q, want %q", got, want)
		}
	}
	b.sb.Stdin = stStdin{iotest.ErrReader(errors.New("broken"))}
	b.want(abi.EIO, stWASI, "fd_read", 0, vec, n)
	b.want(abi.EBadf, stWASI, "fd_read", 1, vec, n)
	b.want(abi.EBadf, stWASI, "fd_read", 5, vec, n)
	b.want(abi.EFault, stWASI, "fd_read", 0, stBuf{b.layWords(stOutside, 9), 1}, n)
	b.want(abi.EInval, stWASI, "fd_read", 0, stBuf{64, 1 << 20}, n)
}

func TestWASIDescriptors(t *testing.T) {
	b := stNew(t, &wedge.Version{})
	n := b.out4()
	b.want(abi.EBadf, stWASI, "fd_renumber", 1, 3)
	b.want(abi.EBadf, stWASI, "fd_renumber", 3, 1)
	b.want(abi.ESuccess, stWASI, "fd_renumber", 2, 2)
	b.want(abi.ESuccess, stWASI, "fd_renumber", 2, 1) // stdout is stderr now
	b.want(abi.ESuccess, stWASI, "fd_write", 1, b.iovecs("x\n"), n)
	b.want(abi.EBadf, stWASI, "fd_write", 2, b.iovecs("x"), n)
	if b.out[0] != "2: x\n" {
		t.Errorf("printed %q", b.out)
	}
	b.want(abi.ESuccess, stWASI, "fd_close", 1)
	b.want(abi.EBadf, stWASI, "fd_close", 1)
	b.want(abi.EBadf, stWASI, "fd_write", 1, b.iovecs("x"), n)
	b.want(abi.EBadf, stWASI, "fd_close", 3)
	b.sb.State = nil // a sandbox that keeps nothing
	b.want(abi.ESuccess, stWASI, "fd_write", 1, b.iovecs("x"), n)
}

func (b *stBed) subscribe(subs ...[]any) uint32 {
	var p []byte
	for i, s := range subs {
		at := b.layWords(append([]any{uint64(i + 100)}, s...)...)
		sub := make([]byte, subscriptionSize)
		copy(sub, b.mem[at:])
		p = append(p, sub...)
	}
	return b.lay(p)
}

// Subscriptions as words after the userdata.
func stClock(id int, timeout uint64, flags int) []any {
	return []any{uint64(eventClock), id, 0, timeout, uint64(0), flags}
}
func stFD(kind, fd int) []any { return []any{uint64(kind), fd} }

// poll returns "userdata:errno:type" of each event and how long it took.
func (b *stBed) poll(subs ...[]any) (events []string, took time.Duration) {
	b.t.Helper()
	n, out := b.out4(), b.lay(bytes.Repeat([]byte{0xcc}, eventSize*len(subs)+1))
	in := b.subscribe(subs...)
	start := time.Now()
	b.want(abi.ESuccess, stWASI, "poll_oneoff", in, out, len(subs), n)
	took = time.Since(start)
	for i := range b.u32(n) {
		at := out + i*eventSize
		events = append(events, fmt.Sprintf("%d:%d:%d", b.u64(stOut(at)), b.u32(stOut(at+8))&0xffff, b.mem[at+10]))
	}
	return events, took
}

func stCall(b *stBed) *compute.Call { return &compute.Call{Sandbox: b.sb} }

func TestWASIPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := stNew(t, &wedge.Version{})
		ms := uint64(time.Millisecond)
		now := uint64(time.Now().UnixNano())
		for _, c := range []struct {
			name string
			subs [][]any
			want string
			took time.Duration
		}{
			{"relative", [][]any{stClock(1, 50*ms, 0)}, "[100:0:0]", 50 * time.Millisecond},
			{"relative realtime", [][]any{stClock(0, 50*ms, 0)}, "[100:0:0]", 50 * time.Millisecond},
			{"earliest", [][]any{stClock(1, 70*ms, 0), stClock(1, 20*ms, 0), stClock(0, 20*ms, 0)}, "[101:0:0 102:0:0]", 20 * time.Millisecond},
			{"zero", [][]any{stClock(1, 0, 0), stClock(1, ms, 0)}, "[100:0:0]", 0},
			{"past", [][]any{stClock(0, now-5, 1)}, "[100:0:0]", 0},
			{"stdio is ready", [][]any{stFD(1, 0), stFD(2, 1), stFD(2, 2), stClock(1, ms, 0)}, "[100:0:1 101:0:2 102:0:2]", 0},
			{"bad descriptors", [][]any{stFD(1, 1), stFD(2, 0), stFD(1, 9)}, "[100:8:1 101:8:2 102:8:1]", 0},
			{"bad clock", [][]any{stClock(9, ms, 0), stClock(2, ms, 0), stClock(1, ms, 0)}, "[100:28:0 101:28:0]", 0},
		} {
			got, took := b.poll(c.subs...)
			if fmt.Sprint(got) != c.want || took != c.took {
				t.Errorf("%s: %v after %v, want %s after %v", c.name, got, took, c.want, c.took)
			}
		}
		for id := range 2 {
			now, _ := readClock(stCall(b), uint32(id))
			if got, took := b.poll(stClock(id, now+30*ms, absoluteTime)); len(got) != 1 || took != 30*time.Millisecond {
				t.Errorf("absolute on clock %d: %v after %v", id, got, took)
			}
		}
		b.want(abi.EInval, stWASI, "poll_oneoff", 64, 64, 0, b.out4())
		b.want(abi.EInval, stWASI, "poll_oneoff", 64, 64, maxSubscriptions+1, b.out4())
		b.want(abi.EInval, stWASI, "poll_oneoff", b.subscribe([]any{uint64(3)}), 64, 1, b.out4())
		b.want(abi.EFault, stWASI, "poll_oneoff", stOutside, 64, 1, b.out4())
		b.want(abi.EFault, stWASI, "poll_oneoff", 64, stOutside, 1, b.out4())
		b.want(abi.EFault, stWASI, "poll_oneoff", 64, 64, 1, stOutside)
	})
}

// TestOutputLines: what two sandboxes print at the same time must not mix within a line.
func TestOutputLines(t *testing.T) {
	var got []string
	host := testHost(nil)
	host.Output = func(stream int, b []byte) { got = append(got, fmt.Sprintf("%d:%s", stream, b)) }
	long := strings.Repeat("l", maxLine)
	var a, b output
	for _, c := range []struct {
		o      *output
		stream uint32
		text   string
	}{
		{&a, 1, "one "}, {&b, 1, "two "}, {&a, 2, "err"}, {&a, 1, "more\nrest"}, {&b, 1, "done\n"}, {&b, 2, long}, {&b, 2, "tail"}, {&b, 2, "\n"},
	} {
		c.o.print(host, c.stream, []byte(c.text))
	}
	a.flush(host)
	b.flush(host)
	want := []string{"1:one more\n", "1:two done\n", "2:" + long + "tail", "2:\n", "1:rest", "2:err"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
