package hostcall

import (
	"slices"
	"strings"
	"testing"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
)

func TestHeaderCalls(t *testing.T) {
	for _, kind := range []string{"fastly_http_req.", "fastly_http_resp."} {
		g := newGuest(t, testHost(nil))
		var h uint32
		g.ok(kind+"new", &h)
		g.ok(kind+"header_append", h, "X-One", "a")
		g.ok(kind+"header_append", h, "x-two", "b")
		g.ok(kind+"header_append", h, "x-ONE", "c")
		if got := g.many(kind+"header_names_get", h); !slices.Equal(got, []string{"x-one", "x-two"}) {
			t.Errorf("names %q", got)
		}
		if got := g.many(kind+"header_values_get", h, "X-oNe"); !slices.Equal(got, []string{"a", "c"}) {
			t.Errorf("values %q", got)
		}
		if got := g.text(kind+"header_value_get", h, "x-one"); got != "a" {
			t.Errorf("value %q", got)
		}
		g.ok(kind+"header_insert", h, "X-One", "d")
		if got := g.many(kind+"header_values_get", h, "x-one"); !slices.Equal(got, []string{"d"}) {
			t.Errorf("after insert: %q", got)
		}
		g.ok(kind+"header_values_set", h, "X-Two", "1\x002\x003\x00")
		if got := g.many(kind+"header_values_get", h, "x-two"); !slices.Equal(got, []string{"1", "2", "3"}) {
			t.Errorf("after set: %q", got)
		}
		g.ok(kind+"header_remove", h, "x-two")
		g.is(abi.Inval, kind+"header_remove", h, "x-two")
		var n uint32
		g.is(abi.Inval, kind+"header_value_get", h, "x-two", make([]byte, 9), &n)
		if got := g.many(kind+"header_values_get", h, "x-two"); !slices.Equal(got, []string{""}) {
			t.Errorf("absent: %q", got)
		}
		g.is(abi.BadHandle, kind+"header_append", 77, "a", "b")
		g.ok(kind+"close", h)
		g.is(abi.BadHandle, kind+"header_append", h, "a", "b")
		g.is(abi.BadHandle, kind+"close", h)
	}
}

func TestHeaderChecks(t *testing.T) {
	g := newGuest(t, testHost(&wedge.Version{Limits: wedge.Limits{HeaderBytes: 200}}))
	h := g.newRequest()
	for _, c := range []struct {
		name, value string
		want        abi.Status
	}{
		{"", "v", abi.Error},
		{"a b", "v", abi.Error},
		{"a:", "v", abi.Error},
		{"\xff", "v", abi.Error},
		{"a", "x\r\ny: z", abi.Error},
		{"a", "\x00", abi.Error},
		{"a", "\x7f", abi.Error},
		{"a", "tab\tand \xe9", abi.OK},
		{strings.Repeat("n", 65536), "v", abi.Inval},
		{"b", strings.Repeat("v", 201), abi.LimitExceeded},
		{"b", strings.Repeat("v", 199), abi.LimitExceeded},
		{"b", strings.Repeat("v", 100), abi.OK},
		{"c", strings.Repeat("v", 100), abi.LimitExceeded},
	} {
		g.is(c.want, "fastly_http_req.header_append", h, c.name, c.value)
	}
	g.is(abi.Error, "fastly_http_req.header_values_set", h, "a", "x\x00\r\n\x00")
	g.is(abi.Inval, "fastly_http_req.header_remove", h, strings.Repeat("n", 65536))
	if got := g.many("fastly_http_req.header_names_get", h); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("names %q", got)
	}
}

func TestCursors(t *testing.T) {
	g := newGuest(t, testHost(nil))
	h := g.newRequest()
	for _, v := range []string{"one", "two", "threethree"} {
		g.ok("fastly_http_req.header_append", h, "X-"+v, v)
		g.ok("fastly_http_req.header_append", h, "many", v)
	}
	for _, c := range []struct {
		cursor, size int
		want         abi.Status
		got          string
		end          int64
		n            uint32
	}{
		{0, 100, abi.OK, "one\x00two\x00threethree\x00", -1, 19},
		{0, 10, abi.OK, "one\x00two\x00", 2, 8},
		{0, 8, abi.OK, "one\x00two\x00", 2, 8},
		{0, 7, abi.OK, "one\x00", 1, 4},
		{2, 10, abi.BufLen, "", 99, 11},
		{2, 11, abi.OK, "threethree\x00", -1, 11},
		{3, 11, abi.OK, "", -1, 0},
		{0, 0, abi.BufLen, "", 99, 4},
	} {
		buf, end, n := make([]byte, c.size), int64(99), uint32(99)
		g.is(c.want, "fastly_http_req.header_values_get", h, "many", buf, c.cursor, &end, &n)
		if end != c.end || n != c.n || c.want == abi.OK && string(buf[:n]) != c.got {
			t.Errorf("cursor %d, %d bytes: %q, end %d, n %d", c.cursor, c.size, buf, end, n)
		}
	}
	buf, end, n := make([]byte, 12), int64(0), uint32(0)
	g.ok("fastly_http_req.header_names_get", h, buf, 1, &end, &n)
	if string(buf[:n]) != "many\x00x-two\x00" || end != 3 {
		t.Errorf("names from 1: %q, end %d", buf[:n], end)
	}
}

func TestShortBuffers(t *testing.T) {
	g := newGuest(t, testHost(nil))
	h := g.newRequest()
	g.ok("fastly_http_req.uri_set", h, "http://example.com/a")
	g.ok("fastly_http_req.header_insert", h, "a", "value")
	var n uint32
	g.is(abi.BufLen, "fastly_http_req.uri_get", h, make([]byte, 5), &n)
	if n != 20 {
		t.Errorf("uri needs %d", n)
	}
	g.is(abi.BufLen, "fastly_http_req.method_get", h, make([]byte, 2), &n)
	if n != 3 {
		t.Errorf("method needs %d", n)
	}
	g.is(abi.BufLen, "fastly_http_req.header_value_get", h, "a", make([]byte, 2), &n)
	if n != 5 {
		t.Errorf("value needs %d", n)
	}
}

// TestHeaderAccount fills messages until the sandbox's account is full, and gets the room back.
func TestHeaderAccount(t *testing.T) {
	g := newGuest(t, testHost(&wedge.Version{Limits: wedge.Limits{HostcallBytes: 4096}}))
	e := g.sb.State.(*exec)
	var last uint32
	for i := 0; ; i++ {
		var h uint32
		if s := g.call("fastly_http_req.new", &h); s == abi.LimitExceeded {
			break
		}
		last = h
		if i > 100 {
			t.Fatal("no limit")
		}
	}
	g.ok("fastly_http_req.close", last)
	h := g.newRequest()
	g.is(abi.LimitExceeded, "fastly_http_req.header_insert", h, "a", strings.Repeat("x", 5000))
	g.is(abi.LimitExceeded, "fastly_http_req.uri_set", h, "/"+strings.Repeat("x", 5000))
	for h := uint32(0); h <= last+1; h++ {
		g.call("fastly_http_req.close", h)
	}
	if used := e.account.used.Load(); used != 0 {
		t.Errorf("%d bytes still held", used)
	}
}

func BenchmarkHeaderCalls(b *testing.B) {
	g := newGuest(b, testHost(nil))
	table := table4test()
	insert, get := abi.Lookup("fastly_http_req", "header_insert"), abi.Lookup("fastly_http_req", "header_values_get")
	names := []string{"accept", "content-type", "x-request-id", "cache-control", "user-agent", "cookie", "host", "x-a", "x-b", "vary"}
	var in, out [][]uint64
	h := g.newRequest()
	for _, name := range names {
		p := uint64(g.lay([]byte(name)))
		v := uint64(g.lay([]byte("some value of a header")))
		in = append(in, []uint64{uint64(h), p, uint64(len(name)), v, 22})
		out = append(out, []uint64{uint64(h), p, uint64(len(name)), uint64(g.alloc(100)), 100, 0, uint64(g.alloc(8)), uint64(g.alloc(4))})
	}
	b.ReportAllocs()
	for b.Loop() {
		for range 5 {
			for k := range names {
				g.sb.Dispatch(insert, table[insert], g.mem, in[k])
				g.sb.Dispatch(get, table[get], g.mem, out[k])
			}
		}
	}
}

// TestHeaderLimits: a version says how many lines and bytes a message of its guest's may have, and how long its URIs may be.
func TestHeaderLimits(t *testing.T) {
	g := newGuest(t, testHost(&wedge.Version{Limits: wedge.Limits{HeaderLines: 2, HeaderBytes: 30, URIBytes: 20}}))
	h := g.newRequest()
	g.ok("fastly_http_req.header_append", h, "a", "1")
	g.is(abi.LimitExceeded, "fastly_http_req.header_append", h, "b", strings.Repeat("x", 30))
	g.ok("fastly_http_req.header_append", h, "b", "2")
	g.is(abi.LimitExceeded, "fastly_http_req.header_append", h, "c", "3")
	g.ok("fastly_http_req.header_insert", h, "b", "3")
	g.ok("fastly_http_req.uri_set", h, "http://host.example/"+strings.Repeat("u", 19))
	g.is(abi.LimitExceeded, "fastly_http_req.uri_set", h, "http://host.example/"+strings.Repeat("u", 20))
	if got := g.many("fastly_http_req.header_names_get", h); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("names %q", got)
	}
}
