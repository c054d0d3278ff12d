package hostcall

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
)

func TestBodyReadWrite(t *testing.T) {
	g := newGuest(t, testHost(nil))
	b := g.newBody("world")
	var n uint32
	g.ok("fastly_http_body.write", b, "hello ", 1, &n)
	g.write(b, "!")
	g.is(abi.Inval, "fastly_http_body.write", b, "x", 2, &n)
	var length uint64
	g.ok("fastly_http_body.known_length", b, &length)
	if length != 12 {
		t.Errorf("known length %d", length)
	}
	tail := g.newBody(" and more")
	g.ok("fastly_http_body.append", b, tail)
	g.is(abi.BadHandle, "fastly_http_body.write", tail, "x", 0, &n)
	g.is(abi.BadHandle, "fastly_http_body.append", b, b)
	g.is(abi.BadHandle, "fastly_http_body.append", b, 99)
	if got, s := g.read(b); got != "hello world! and more" || s != abi.OK {
		t.Errorf("read at once %q, %v", got, s)
	}
	g.ok("fastly_http_body.read", b, []byte{}, &n)
	g.ok("fastly_http_body.close", b)
	for _, call := range []string{"close", "abandon"} {
		g.is(abi.BadHandle, "fastly_http_body."+call, b)
	}
	g.is(abi.BadHandle, "fastly_http_body.read", b, make([]byte, 1), &n)
	g.is(abi.BadHandle, "fastly_http_body.known_length", b, &length)
	if used := g.sb.State.(*exec).account.used.Load(); used != 0 {
		t.Errorf("%d bytes still held", used)
	}
}

func TestBodyTrailers(t *testing.T) {
	g := newGuest(t, testHost(nil))
	b := g.newBody("x")
	g.is(abi.Error, "fastly_http_body.trailer_append", b, "a b", "v")
	g.is(abi.Error, "fastly_http_body.trailer_append", b, "a", "v\n")
	g.ok("fastly_http_body.trailer_append", b, "A", "1")
	src := g.newBody("y")
	g.ok("fastly_http_body.trailer_append", src, "a", "2")
	g.ok("fastly_http_body.append", b, src)
	buf, end, n := make([]byte, 100), int64(0), uint32(0)
	g.is(abi.Again, "fastly_http_body.trailer_names_get", b, buf, 0, &end, &n)
	g.is(abi.Again, "fastly_http_body.trailer_value_get", b, "a", buf, &n)
	g.is(abi.Again, "fastly_http_body.trailer_values_get", b, "a", buf, 0, &end, &n)
	g.readAll(b)
	if got := g.many("fastly_http_body.trailer_names_get", b); !slices.Equal(got, []string{"a"}) {
		t.Errorf("names %q", got)
	}
	if got := g.many("fastly_http_body.trailer_values_get", b, "A"); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("values %q", got)
	}
	if got := g.text("fastly_http_body.trailer_value_get", b, "a"); got != "1" {
		t.Errorf("value %q", got)
	}
	g.is(abi.Inval, "fastly_http_body.trailer_value_get", b, "b", buf, &n)

	g.sb.State.(*exec).mustBody(b).makeStreaming()
	g.is(abi.Inval, "fastly_http_body.trailer_names_get", b, buf, 0, &end, &n)
	g.is(abi.BadHandle, "fastly_http_body.read", b, buf, &n)
	g.is(abi.Unsupported, "fastly_http_body.write", b, "x", 1, &n)
	g.is(abi.BadHandle, "fastly_http_body.append", g.newBody(""), b)
	var length uint64
	g.is(abi.None, "fastly_http_body.known_length", b, &length)
}

func (e *exec) mustBody(h uint32) *body {
	it, _ := e.items.get(h)
	return it.(*body)
}

// trickle gives one byte a second, then err.
type trickle struct {
	n   int
	err error
}

func (s *trickle) Read(p []byte) (int, error) {
	time.Sleep(time.Second)
	if s.n--; s.n < 0 {
		return 0, s.err
	}
	return copy(p, "x"), nil
}

func (s *trickle) Close() error { return nil }

func TestBodyStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuest(t, testHost(nil))
		e := g.sb.State.(*exec)
		trailer := func() http.Header { return http.Header{"T": {"v"}} }
		put := func(err error, length int64) uint32 {
			h, _ := e.items.put(newStreamBody(newStream(&trickle{3, err}, length, trailer)))
			return h
		}
		b := put(io.EOF, 3)
		var length uint64
		g.ok("fastly_http_body.known_length", b, &length)
		if length != 3 {
			t.Errorf("known length %d", length)
		}
		var ready uint32
		g.ok("fastly_async_io.is_ready", b, &ready)
		if ready != 0 {
			t.Error("ready before a byte came")
		}
		other := put(io.EOF, -1)
		g.is(abi.None, "fastly_http_body.known_length", other, &length)
		var index uint32
		g.ok("fastly_async_io.select", []uint32{b, other}, 500, &index)
		if index != timedOut {
			t.Errorf("index %d", index)
		}
		g.ok("fastly_async_io.select", []uint32{other, b}, 0, &index)
		if index > 1 {
			t.Errorf("index %d", index)
		}
		if got := g.readAll(b); got != "xxx" {
			t.Errorf("read %q", got)
		}
		if got := g.text("fastly_http_body.trailer_value_get", b, "t"); got != "v" {
			t.Errorf("trailer %q", got)
		}
		g.ok("fastly_http_body.append", other, put(io.EOF, -1))
		if got := g.readAll(other); got != "xxxxxx" {
			t.Errorf("appended streams: %q", got)
		}
		for failure, want := range map[wedge.FetchFailure]abi.Status{
			wedge.FailureIncomplete: abi.HTTPIncomplete, wedge.FailureProtocol: abi.HTTPInvalid, wedge.FailureResponseTimeout: abi.Error,
		} {
			got, s := g.read(put(&wedge.FetchError{Failure: failure}, -1))
			if got != "xxx" || s != want {
				t.Errorf("%v: %q, %v, want %v", failure, got, s, want)
			}
		}
		// Closing while a read is under way must not wait for it.
		b = put(io.EOF, -1)
		g.ok("fastly_async_io.is_ready", b, &ready)
		g.ok("fastly_http_body.close", b)
		time.Sleep(2 * time.Second)
	})
}

func TestStreamingBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuest(t, testHost(nil))
		h := g.newBody("head ")
		b := g.sb.State.(*exec).mustBody(h)
		b.makeStreaming()
		block := strings.Repeat("x", 40<<10)
		got := make(chan string)
		go func() {
			time.Sleep(time.Minute)
			all, err := readEverything(b)
			got <- all + "|" + errText(err)
		}()
		start := time.Now()
		g.write(h, block)
		var ready uint32
		g.ok("fastly_async_io.is_ready", h, &ready)
		if ready != 1 {
			t.Error("not ready with room left")
		}
		g.write(h, block)
		g.ok("fastly_async_io.is_ready", h, &ready)
		if ready != 0 || time.Since(start) != 0 {
			t.Error("ready without room, or blocked with room")
		}
		g.write(h, "end")
		if time.Since(start) != time.Minute {
			t.Error("did not block without room")
		}
		g.ok("fastly_http_body.close", h)
		if s := <-got; s != "head "+block+block+"end|" {
			t.Errorf("consumer got %d bytes", len(s))
		}

		h = g.newBody("some")
		b = g.sb.State.(*exec).mustBody(h)
		b.makeStreaming()
		g.ok("fastly_http_body.abandon", h)
		if all, err := readEverything(b); all != "some" || !errors.Is(err, errAbandoned) {
			t.Errorf("abandoned: %q, %v", all, err)
		}

		h = g.newBody("")
		b = g.sb.State.(*exec).mustBody(h)
		b.makeStreaming()
		b.leave()
		var n uint32
		g.is(abi.BadHandle, "fastly_http_body.write", h, "x", 0, &n)
		g.ok("fastly_http_body.close", h)
	})
}

func readEverything(b *body) (string, error) {
	var all []byte
	for {
		p, err := b.next(context.Background(), make([]byte, 100))
		if err == io.EOF {
			return string(all), nil
		}
		if err != nil {
			return string(all), err
		}
		all = append(all, p...)
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestBodyLimits(t *testing.T) {
	g := newGuest(t, testHost(&wedge.Version{Limits: wedge.Limits{HostcallBytes: 100 << 10}}))
	b := g.newBody(strings.Repeat("x", 60<<10))
	var n uint32
	g.is(abi.LimitExceeded, "fastly_http_body.write", b, strings.Repeat("x", 60<<10), 0, &n)
	g.ok("fastly_http_body.close", b)
	g.newBody(strings.Repeat("x", 60<<10))
	var h uint32
	for range maxHandles - 1 {
		if s := g.call("fastly_http_body.new", &h); s != abi.OK {
			t.Fatal(s)
		}
	}
	g.is(abi.LimitExceeded, "fastly_http_body.new", &h)
}

func TestReadAll(t *testing.T) {
	if b, err := newBody([]byte("abc")).readAll(context.Background(), 3); string(b) != "abc" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := newBody([]byte("abcd")).readAll(context.Background(), 3); !errors.Is(err, errTooLarge) {
		t.Error(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		r, w := io.Pipe()
		defer w.Close()
		if _, err := newStreamBody(newStream(r, -1, nil)).readAll(ctx, 100); err == nil {
			t.Error("read a body that does not come")
		}
		if b, err := newStreamBody(newStream(&trickle{3, io.EOF}, -1, nil)).readAll(context.Background(), 3); string(b) != "xxx" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		if _, err := newStreamBody(newStream(&trickle{4, io.EOF}, -1, nil)).readAll(context.Background(), 3); !errors.Is(err, errTooLarge) {
			t.Error(err)
		}
	})
}

func TestAsyncIO(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuest(t, testHost(nil))
		var out uint32
		g.is(abi.Inval, "fastly_async_io.select", []uint32{}, 0, &out)
		g.is(abi.BadHandle, "fastly_async_io.select", []uint32{5}, 0, &out)
		g.is(abi.BadHandle, "fastly_async_io.is_ready", 5, &out)
		start := time.Now()
		g.ok("fastly_async_io.select", []uint32{}, 70, &out)
		if out != timedOut || time.Since(start) != 70*time.Millisecond {
			t.Errorf("slept %v, index %d", time.Since(start), out)
		}
		a, b := g.newBody("a"), g.newBody("b")
		g.ok("fastly_async_io.select", []uint32{b, a}, 0, &out)
		if out != 0 {
			t.Errorf("index %d: the lowest ready one wins", out)
		}
		e := g.sb.State.(*exec)
		f := start4(e, time.Second)
		h, _ := e.items.put(f)
		g.ok("fastly_async_io.select", []uint32{h}, 0, &out)
		if out != 0 || time.Since(start) != time.Second+70*time.Millisecond {
			t.Errorf("index %d after %v", out, time.Since(start))
		}
	})
}

func start4(e *exec, d time.Duration) *future[int] {
	return start(e, func(context.Context) (int, error) { time.Sleep(d); return 4, nil })
}

func TestHandleTable(t *testing.T) {
	var tab table[int]
	open := map[uint32]int{}
	last := uint32(0)
	for i := range 5000 {
		h, ok := tab.put(i)
		if !ok || i > 0 && h <= last {
			t.Fatalf("handle %d after %d", h, last)
		}
		last = h
		open[h] = i
		if i%3 != 0 {
			for old, v := range open {
				if got, ok := tab.take(old); !ok || got != v {
					t.Fatalf("take %d: %d, %v", old, got, ok)
				}
				if _, ok := tab.take(old); ok {
					t.Fatal("taken twice")
				}
				delete(open, old)
				break
			}
		}
	}
	for h, v := range open {
		if got, ok := tab.get(h); !ok || got != v {
			t.Errorf("get %d: %d, %v", h, got, ok)
		}
	}
	n := 0
	tab.drain(func(int) { n++ })
	if n != len(open) {
		t.Errorf("drained %d of %d", n, len(open))
	}
	if _, ok := tab.get(abi.InvalidHandle); ok {
		t.Error("the invalid handle names something")
	}
}
