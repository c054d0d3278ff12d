package hostcall

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
	"github.com/wedge-cloud/wedge/state"
)

const (
	stKV  = "fastly_kv_store"
	stObj = "fastly_object_store"
)

func stKVBed(t *testing.T, seeds ...wedge.KVSeed) *stBed {
	kv, err := state.Open("kv", state.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kv.Close() })
	b := stNew(t, &wedge.Version{})
	b.sb.Host.KV = kv.For("svc", map[string][]wedge.KVSeed{"s": seeds}, nil)
	return b
}

// insert writes a key and returns its kv_error.
func (b *stBed) insert(store uint32, key, value string, mask int, config ...any) uint32 {
	b.t.Helper()
	at := uint32(0)
	if len(config) > 0 {
		at = b.layWords(config...)
	}
	h := b.handle(stKV, "insert", store, key, b.body(value), mask, at)
	o := b.out4()
	b.want(abi.OK, stKV, "insert_wait", h, o)
	return b.u32(o)
}

type stFound struct {
	err        uint32
	value      string
	metadata   string
	generation uint64
}

func (b *stBed) lookup(store uint32, key string) stFound {
	b.t.Helper()
	h := b.handle(stKV, "lookup", store, key, 0, 0)
	body, meta, n, gen, kvErr := b.out4(), b.buf(100), b.out4(), b.out4(), b.out4()
	b.want(abi.OK, stKV, "lookup_wait_v2", h, body, meta, n, gen, kvErr)
	f := stFound{err: b.u32(kvErr), metadata: b.text(meta, n)}
	if f.err == kvOK {
		f.value, f.generation = b.readBody(b.u32(body)), b.u64(gen)
	} else if b.u32(body) != stUntouched {
		b.t.Error("a miss wrote a body handle")
	}
	b.want(abi.BadHandle, stKV, "lookup_wait_v2", h, body, meta, n, gen, kvErr)
	return f
}

func TestKVStore(t *testing.T) {
	b := stKVBed(t, wedge.KVSeed{Key: "seed", Value: []byte("from the start"), Metadata: "m"})
	o := b.out4()
	b.want(abi.Inval, stKV, "open", "nope", o)
	s := b.handle(stKV, "open", "s")

	seed := b.lookup(s, "seed")
	if seed.err != kvOK || seed.value != "from the start" || seed.metadata != "m" || seed.generation == 0 {
		t.Errorf("%+v", seed)
	}
	if f := b.lookup(s, "absent"); f.err != kvNotFound || f.metadata != "" {
		t.Errorf("%+v", f)
	}
	if e := b.insert(s, "k", "one", 0); e != kvOK {
		t.Errorf("kv_error %d", e)
	}
	first := b.lookup(s, "k")
	if e := b.insert(s, "k", "two", 0, 1); e != kvPreconditionFailed {
		t.Errorf("add over a value: kv_error %d", e)
	}
	b.insert(s, "k", ">", 0, 2)                           // append
	b.insert(s, "k", "<", kvMetadata, 3, 0, "meta", 0, 0) // prepend
	if f := b.lookup(s, "k"); f.value != "<one>" || f.metadata != "meta" || f.generation == first.generation {
		t.Errorf("%+v", f)
	}
	if e := b.insert(s, "k", "x", kvIfGeneration, 0, 0, 0, 0, uint64(0), first.generation); e != kvPreconditionFailed {
		t.Errorf("stale generation: kv_error %d", e)
	}
	now := b.lookup(s, "k").generation
	if e := b.insert(s, "k", "won", kvIfGeneration|kvTTL|kvBackgroundFetch, 0, 0, 0, 0, uint64(60), now); e != kvOK {
		t.Errorf("kv_error %d", e)
	}
	if f := b.lookup(s, "k"); f.value != "won" {
		t.Errorf("%+v", f)
	}
	for range 2 { // the second time it is absent already
		h := b.handle(stKV, "delete", s, "k", 0, 0)
		b.want(abi.OK, stKV, "delete_wait", h, o)
		if b.u32(o) != kvOK {
			t.Errorf("delete: kv_error %d", b.u32(o))
		}
		b.want(abi.BadHandle, stKV, "delete_wait", h, o)
	}
	if f := b.lookup(s, "k"); f.err != kvNotFound {
		t.Errorf("%+v", f)
	}
}

func TestKVMetadataBufferAndV1(t *testing.T) {
	b := stKVBed(t, wedge.KVSeed{Key: "k", Value: []byte("v"), Metadata: "long metadata"})
	s := b.handle(stKV, "open", "s")
	h := b.handle(stKV, "lookup", s, "k", kvReserved, 0)
	body, n, gen, kvErr := b.out4(), b.out4(), b.out4(), b.out4()
	b.want(abi.BufLen, stKV, "lookup_wait", h, body, b.buf(3), n, gen, kvErr)
	if b.u32(n) != 13 || b.u32(body) != stUntouched {
		t.Errorf("needed %d, body %x", b.u32(n), b.u32(body))
	}
	meta := b.buf(13)
	b.want(abi.OK, stKV, "lookup_wait", h, body, meta, n, gen, kvErr) // the handle stayed
	if b.text(meta, n) != "long metadata" || b.u64(gen) != uint64(stUntouched)<<32 || b.readBody(b.u32(body)) != "v" {
		t.Errorf("generation %x", b.u64(gen))
	}
}

func TestKVRefuses(t *testing.T) {
	b := stKVBed(t)
	s, o := b.handle(stKV, "open", "s"), b.out4()
	for _, key := range []string{"", strings.Repeat("k", 1025), "a\rb", "a\nb", "a#", "a;", "a?", "^", "|", ".", "..", "a/../b", "./a", ".well-known/acme-challenge/x", "\xff"} {
		b.want(abi.Inval, stKV, "lookup", s, key, 0, 0, o)
		b.want(abi.Inval, stKV, "delete", s, key, 0, 0, o)
		b.want(abi.Inval, stKV, "insert", s, key, 0, 0, 0, o)
		b.want(abi.Inval, stObj, "lookup", s, key, o)
	}
	for _, key := range []string{"a", "...", "a..b", ".well-known/x", strings.Repeat("k", 1024), "ключ", "a b"} {
		b.want(abi.OK, stKV, "lookup", s, key, 0, 0, o)
	}
	b.want(abi.Inval, stKV, "lookup", s, "k", 2, 0, o)
	b.want(abi.Inval, stKV, "delete", s, "k", 2, 0, o)
	b.want(abi.Inval, stKV, "lookup", s, "k", 0, 0, stOutside)
	b.want(abi.Inval, stKV, "delete", s, "k", 0, 0, stOutside)
	for _, c := range []struct {
		mask   int
		config []any
	}{
		{64, []any{0}},
		{0, []any{4}},
		{kvMetadata, []any{0, 0, ""}},
		{kvMetadata, []any{0, 0, strings.Repeat("m", 2001)}},
		{kvMetadata, []any{0, 0, stOutside, 9}},
		{kvTTL, []any{0, 0, 0, 0, 0}},
	} {
		body := b.body("x")
		b.want(abi.Inval, stKV, "insert", s, "k", body, c.mask, b.layWords(c.config...), o)
		b.want(abi.OK, "fastly_http_body", "close", body) // a refused insert leaves the body
	}
	b.want(abi.Inval, stKV, "insert", s, "k", b.body("x"), kvTTL, stOutside, o)
	b.want(abi.Inval, stKV, "insert", s, "k", b.body("x"), 0, 0, stOutside)
	b.want(abi.BadHandle, stKV, "insert", s, "k", 999, 0, 0, o)
	b.want(abi.BadHandle, stKV, "lookup", s+1, "k", 0, 0, o)
	b.want(abi.BadHandle, stKV, "delete", s+1, "k", 0, 0, o)
	b.want(abi.BadHandle, stKV, "insert", s+1, "k", b.body("x"), 0, 0, o)
	b.want(abi.BadHandle, stKV, "list", s+1, 0, 0, o)
	pending := b.handle(stKV, "lookup", s, "k", 0, 0)
	for _, wait := range []string{"insert_wait", "delete_wait"} {
		b.want(abi.BadHandle, stKV, wait, pending, o) // of another kind
		b.want(abi.BadHandle, stKV, wait, 999, o)
	}
	b.want(abi.BadHandle, stKV, "list_wait", pending, o, o)
	b.want(abi.BadHandle, "fastly_http_body", "read", pending, b.buf(4), o)
	stream := b.body("x")
	getStream, _ := b.sb.State.(*exec).items.get(stream)
	getStream.(*body).makeStreaming()
	b.want(abi.BadHandle, stKV, "insert", s, "k", stream, 0, 0, o)
	b.sb.Host.KV = nil
	b.want(abi.Inval, stKV, "open", "s", o)
}

func (b *stBed) list(store uint32, mask int, config ...any) string {
	b.t.Helper()
	at := uint32(0)
	if len(config) > 0 {
		at = b.layWords(config...)
	}
	h := b.handle(stKV, "list", store, mask, at)
	body, kvErr := b.out4(), b.out4()
	b.want(abi.OK, stKV, "list_wait", h, body, kvErr)
	if b.u32(kvErr) != kvOK {
		return fmt.Sprint("kv_error ", b.u32(kvErr))
	}
	return b.readBody(b.u32(body))
}

func TestKVList(t *testing.T) {
	b := stKVBed(t, wedge.KVSeed{Key: "a"}, wedge.KVSeed{Key: "b/1"}, wedge.KVSeed{Key: "b/<2>"}, wedge.KVSeed{Key: "c"})
	s, o := b.handle(stKV, "open", "s"), b.out4()
	cursor := base64.StdEncoding.EncodeToString([]byte("b/1"))
	for _, c := range []struct {
		mask   int
		config []any
		want   string
	}{
		{0, nil, `{"data":["a","b/1","b/<2>","c"],"meta":{"limit":1000}}`},
		{kvLimit, []any{1, 0, 0, 2}, `{"data":["a","b/1"],"meta":{"limit":2,"next_cursor":"` + cursor + `"}}`},
		{kvLimit | kvCursor, []any{0, cursor, 5000}, `{"data":["b/<2>","c"],"meta":{"limit":1000}}`},
		{kvPrefix, []any{0, 0, 0, 0, "b/"}, `{"data":["b/1","b/<2>"],"meta":{"limit":1000,"prefix":"b/"}}`},
		{kvPrefix, []any{0, 0, 0, 0, "zz"}, `{"data":[],"meta":{"limit":1000,"prefix":"zz"}}`},
	} {
		if got := b.list(s, c.mask, c.config...); got != c.want {
			t.Errorf("mask %d: %s, want %s", c.mask, got, c.want)
		}
	}
	for _, c := range []struct {
		mask   int
		config []any
	}{
		{16, []any{0}}, {0, []any{2}}, {kvLimit, []any{0, 0, 0, 0}}, {kvCursor, []any{0, ""}}, {kvCursor, []any{0, "not base64!"}},
		{kvCursor, []any{0, base64.StdEncoding.EncodeToString(make([]byte, 1025))}},
		{kvPrefix, []any{0, 0, 0, 0, ""}}, {kvPrefix, []any{0, 0, 0, 0, "\xff"}}, {kvPrefix, []any{0, 0, 0, 0, strings.Repeat("p", 1025)}},
		{kvPrefix, []any{0, 0, 0, 0, stOutside, 9}},
	} {
		b.want(abi.Inval, stKV, "list", s, c.mask, b.layWords(c.config...), o)
	}
	b.want(abi.Inval, stKV, "list", s, kvLimit, stOutside, o)
	b.want(abi.Inval, stKV, "list", s, 0, 0, stOutside)
}

func TestObjectStore(t *testing.T) {
	b := stKVBed(t, wedge.KVSeed{Key: "seed", Value: []byte("v")})
	o := b.out4()
	b.want(abi.Inval, stObj, "open", "nope", o)
	s := b.handle(stObj, "open", "s")
	if got := b.readBody(b.handle(stObj, "lookup", s, "seed")); got != "v" {
		t.Errorf("%q", got)
	}
	if h := b.handle(stObj, "lookup", s, "absent"); h != abi.InvalidHandle {
		t.Errorf("a miss gave handle %x", h)
	}
	b.want(abi.OK, stObj, "insert", s, "k", b.body("one"))
	p := b.handle(stObj, "insert_async", s, "k", b.body("two"))
	b.want(abi.OK, stObj, "pending_insert_wait", p)
	b.want(abi.BadHandle, stObj, "pending_insert_wait", p)
	p = b.handle(stObj, "lookup_async", s, "k")
	b.want(abi.OK, "fastly_async_io", "select", b.layWords(p), 1, 0, o)
	if got := b.readBody(b.handle(stObj, "pending_lookup_wait", p)); got != "two" {
		t.Errorf("%q", got)
	}
	b.want(abi.BadHandle, stObj, "pending_lookup_wait", p, o)
	if h := b.handle(stObj, "pending_lookup_wait", b.handle(stObj, "lookup_async", s, "absent")); h != abi.InvalidHandle {
		t.Errorf("a miss gave handle %x", h)
	}
	b.want(abi.OK, stObj, "pending_delete_wait", b.handle(stObj, "delete_async", s, "k"))
	b.want(abi.None, stObj, "pending_delete_wait", b.handle(stObj, "delete_async", s, "k"))
	b.want(abi.BadHandle, stObj, "pending_delete_wait", 99)
	b.want(abi.BadHandle, stObj, "lookup", s+1, "k", o)
	b.want(abi.BadHandle, stObj, "insert", s, "k", 99)
	b.want(abi.BadHandle, stObj, "insert_async", s, "k", 99, o)
}

// stBroken is a KV whose every operation fails with one error.
type stBroken struct {
	compute.KV
	err error
}

func (s stBroken) Has(string) bool { return true }
func (s stBroken) Get(context.Context, string, string) (wedge.KVValue, error) {
	return wedge.KVValue{}, s.err
}
func (s stBroken) Put(context.Context, string, wedge.KVPut) (uint64, error) { return 0, s.err }
func (s stBroken) Delete(context.Context, string, string) error             { return s.err }
func (s stBroken) List(context.Context, string, wedge.KVList) ([]string, bool, error) {
	return nil, false, s.err
}

func TestKVFailures(t *testing.T) {
	for _, c := range []struct {
		kind               wedge.Kind
		get, put, del, lst uint32
		object             abi.Status // of an insert
	}{
		{wedge.Unavailable, kvInternalError, kvInternalError, kvInternalError, kvInternalError, abi.Error},
		{wedge.Internal, kvInternalError, kvInternalError, kvInternalError, kvInternalError, abi.Error},
		{wedge.Exhausted, kvTooManyRequests, kvPayloadTooLarge, kvTooManyRequests, kvTooManyRequests, abi.LimitExceeded},
		{wedge.Invalid, kvBadRequest, kvBadRequest, kvBadRequest, kvBadRequest, abi.Inval},
		{wedge.Conflict, kvPreconditionFailed, kvPreconditionFailed, kvPreconditionFailed, kvPreconditionFailed, abi.Error},
	} {
		b := stNew(t, &wedge.Version{})
		b.sb.Host.KV = stBroken{err: &wedge.Error{Op: "test", Kind: c.kind, Err: errors.New("broken")}}
		s, o := b.handle(stKV, "open", "s"), b.out4()
		if f := b.lookup(s, "k"); f.err != c.get {
			t.Errorf("%v: lookup gives %d", c.kind, f.err)
		}
		if e := b.insert(s, "k", "v", 0); e != c.put {
			t.Errorf("%v: insert gives %d", c.kind, e)
		}
		b.want(abi.OK, stKV, "delete_wait", b.handle(stKV, "delete", s, "k", 0, 0), o)
		if b.u32(o) != c.del {
			t.Errorf("%v: delete gives %d", c.kind, b.u32(o))
		}
		if got := b.list(s, 0); got != fmt.Sprint("kv_error ", c.lst) {
			t.Errorf("%v: list gives %s", c.kind, got)
		}
		b.want(c.object, stObj, "insert", s, "k", b.body("v"))
	}
}

func TestKVLimits(t *testing.T) {
	b := stKVBed(t, wedge.KVSeed{Key: "big", Value: make([]byte, 1<<20)})
	s, o := b.handle(stKV, "open", "s"), b.out4()
	e := b.sb.State.(*exec)
	e.account.limit = 1 << 19
	body, meta, n := b.out4(), b.buf(1), b.out4()
	b.want(abi.LimitExceeded, stKV, "lookup_wait_v2", b.handle(stKV, "lookup", s, "big", 0, 0), body, meta, n, o, o)
	b.want(abi.LimitExceeded, stObj, "lookup", s, "big", o)
	e.account.limit = 5
	b.want(abi.LimitExceeded, stKV, "list_wait", b.handle(stKV, "list", s, 0, 0), o, o)
	e.account.limit = 1 << 30
	huge := b.handle("fastly_http_body", "new")
	piece := stBuf{b.lay(make([]byte, 1<<20)), 1 << 20}
	for range 31 {
		b.want(abi.OK, "fastly_http_body", "write", huge, piece, 0, n)
	}
	b.want(abi.OK, stKV, "insert_wait", b.handle(stKV, "insert", s, "k", huge, 0, 0), o)
	if b.u32(o) != kvPayloadTooLarge {
		t.Errorf("31 MiB: kv_error %d", b.u32(o))
	}
	if used := e.account.used.Load(); used != 0 {
		t.Errorf("%d bytes are still counted", used)
	}
	var many []uint32 // more at once than have a turn
	for range 50 {
		many = append(many, b.handle(stKV, "lookup", s, "big", 0, 0))
	}
	for _, h := range many {
		b.want(abi.OK, stKV, "lookup_wait_v2", h, body, meta, n, o, o)
		b.want(abi.OK, "fastly_http_body", "close", b.u32(body))
	}
	if used := e.account.used.Load(); used != 0 {
		t.Errorf("%d bytes are still counted", used)
	}
}

func FuzzValidKVKey(f *testing.F) {
	for _, s := range []string{"a", "a/./b", "..", "\xff", ".well-known/acme-challenge"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if validKVKey(key) && (strings.Contains("/"+key+"/", "/../") || strings.ContainsAny(key, "\n#")) {
			t.Errorf("%q passed", key)
		}
	})
}
