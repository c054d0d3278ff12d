package hostcall

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/cache"
	"github.com/wedge-cloud/wedge/compute"
)

// guestCache is what package node gives guests.
type guestCache struct{ *cache.Cache }

func (c guestCache) Look(ctx context.Context, l wedge.CacheLookup) (compute.CacheTransaction, error) {
	return transactionOf(c.Cache.Look(ctx, l))
}

type transaction struct{ *cache.Transaction }

func (e transaction) Insert(w wedge.CacheWrite, body io.ReadCloser, awaited bool) (compute.CacheTransaction, error) {
	return transactionOf(e.Transaction.Insert(w, body, awaited))
}

func (e transaction) Update(w wedge.CacheWrite) (compute.CacheTransaction, error) {
	return transactionOf(e.Transaction.Update(w))
}

func transactionOf(t *cache.Transaction, err error) (compute.CacheTransaction, error) {
	if t == nil {
		return nil, err
	}
	return transaction{t}, err
}

// cacheHost is a host with a cache, of which several guests may be made.
func cacheHost() (*compute.Host, *cache.Cache) {
	h := testHost(&wedge.Version{Service: "shop"})
	h.Fetch = instantTransport{}
	c := cache.New(cache.Config{Next: h.Fetch})
	h.Cache, h.Purge = guestCache{c}, c.Purge
	return h, c
}

// caching plays one guest in time that is not real.
func caching(t *testing.T, f func(t *testing.T, g *guest)) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := cacheHost()
		f(t, newGuest(t, h))
	})
}

// fields is a struct of u32 fields at their offsets; a time.Duration and a uint64 take eight bytes, a string is laid.
func (g *guest) fields(size int, at map[int]any) raw {
	b := make([]byte, size)
	for off, v := range at {
		switch v := v.(type) {
		case int:
			binary.LittleEndian.PutUint32(b[off:], uint32(v))
		case uint32:
			binary.LittleEndian.PutUint32(b[off:], v)
		case uint64:
			binary.LittleEndian.PutUint64(b[off:], v)
		case time.Duration:
			binary.LittleEndian.PutUint64(b[off:], uint64(v))
		case string:
			binary.LittleEndian.PutUint32(b[off:], g.lay([]byte(v)))
			binary.LittleEndian.PutUint32(b[off+4:], uint32(len(v)))
		}
	}
	return raw(g.lay(b))
}

func (g *guest) minute() raw { return g.fields(64, map[int]any{0: time.Minute}) }

func (g *guest) state(want wedge.CacheState, call string, h uint32) {
	g.t.Helper()
	var s uint32
	if g.ok(call, h, &s); s != uint32(want) {
		g.t.Errorf("%s: %d, want %d", call, s, want)
	}
}

// number makes a call that writes a u64.
func (g *guest) number(want uint64, call string, h uint32) {
	g.t.Helper()
	var n uint64
	if g.ok("fastly_cache."+call, h, &n); n != want {
		g.t.Errorf("%s: %d, want %d", call, n, want)
	}
}

// finish writes the rest of a body and ends it.
func (g *guest) finish(body uint32, s string) {
	g.t.Helper()
	g.write(body, s)
	g.ok("fastly_http_body.close", body)
	synctest.Wait()
}

func (g *guest) keep(key, value string) {
	g.t.Helper()
	var body uint32
	g.ok("fastly_cache.insert", key, 0, g.minute(), &body)
	g.finish(body, value)
}

func (g *guest) lookup(call, key string) (h uint32) {
	g.t.Helper()
	g.ok("fastly_cache."+call, key, 0, raw(0), &h)
	return h
}

func (g *guest) cached(h uint32) string {
	g.t.Helper()
	var body uint32
	g.ok("fastly_cache.get_body", h, 0, raw(0), &body)
	defer g.ok("fastly_http_body.close", body)
	return g.readAll(body)
}

func TestCacheWithout(t *testing.T) {
	g := newGuest(t, testHost(nil))
	var out uint32
	g.is(abi.Unsupported, "fastly_cache.lookup", "k", 0, raw(0), &out)
	g.is(abi.Unsupported, "fastly_cache.get_state", 0, &out)
	g.is(abi.Unsupported, "fastly_http_cache.is_request_cacheable", g.newRequest(), &out)
}

func TestCacheObject(t *testing.T) {
	caching(t, func(t *testing.T, g *guest) {
		h := g.lookup("lookup", "k")
		g.state(0, "fastly_cache.get_state", h)
		var n uint64
		var out uint32
		for _, call := range []string{"get_length", "get_max_age_ns", "get_stale_while_revalidate_ns", "get_age_ns", "get_hits"} {
			g.is(abi.None, "fastly_cache."+call, h, &n)
		}
		g.is(abi.None, "fastly_cache.get_user_metadata", h, make([]byte, 9), &out)
		g.is(abi.None, "fastly_cache.get_body", h, 0, raw(0), &out)
		g.ok("fastly_cache.close", h)
		g.is(abi.BadHandle, "fastly_cache.close", h)

		mask := writeAge | writeSWR | writeKeys | writeLength | writeMetadata | writeSensitive | writeEdgeAge
		var body uint32
		g.ok("fastly_cache.insert", "k", mask, g.fields(80, map[int]any{0: time.Minute, 24: time.Second, 32: time.Hour, 40: "one two", 48: uint64(10), 56: "meta", 64: time.Second}), &body)
		g.write(body, "01234")
		h = g.lookup("lookup", "k")
		g.state(3, "fastly_cache.get_state", h)
		g.number(10, "get_length", h)
		var early uint32
		g.ok("fastly_cache.get_body", h, 0, raw(0), &early)
		g.finish(body, "56789")
		if s := g.readAll(early); s != "0123456789" {
			t.Errorf("read while it came: %q", s)
		}
		time.Sleep(time.Second)
		g.number(uint64(time.Minute), "get_max_age_ns", h)
		g.number(uint64(time.Hour), "get_stale_while_revalidate_ns", h)
		g.number(uint64(2*time.Second), "get_age_ns", h)
		g.number(1, "get_hits", h)
		if s := g.text("fastly_cache.get_user_metadata", h); s != "meta" {
			t.Errorf("metadata %q", s)
		}
		if g.is(abi.BufLen, "fastly_cache.get_user_metadata", h, make([]byte, 3), &out); out != 4 {
			t.Errorf("metadata takes %d", out)
		}
		g.is(abi.BadHandle, "fastly_cache.get_body", h, 0, raw(0), &out) // one is open
		g.ok("fastly_http_body.close", early)
		for want, r := range map[string]map[int]any{"345": {0: uint64(3), 8: uint64(5)}, "9": {0: uint64(9), 8: uint64(9)}, "0123456789": {0: uint64(5), 8: uint64(3)}} {
			g.ok("fastly_cache.get_body", h, bodyFrom|bodyTo, g.fields(16, r), &body)
			if n := uint64(0); g.call("fastly_http_body.known_length", body, &n) != abi.OK || n != uint64(len(want)) {
				t.Errorf("%q: length %d", want, n)
			}
			if s := g.readAll(body); s != want {
				t.Errorf("bytes %v: %q", r, s)
			}
			g.ok("fastly_http_body.close", body)
		}
		g.ok("fastly_cache.get_body", h, bodyFrom, g.fields(8, map[int]any{0: uint64(7)}), &body)
		if s := g.readAll(body); s != "789" {
			t.Errorf("from 7: %q", s)
		}
		g.ok("fastly_http_body.close", body)
		for to, want := range map[uint64]string{0: "0123456789", 3: "789", 10: "0123456789", 11: "0123456789", 1 << 63: "0123456789"} {
			g.ok("fastly_cache.get_body", h, bodyTo, g.fields(16, map[int]any{8: to}), &body)
			if s := g.readAll(body); s != want {
				t.Errorf("the last %d: %q", to, s)
			}
			g.ok("fastly_http_body.close", body)
		}
		for _, r := range []map[int]any{{0: uint64(9), 8: uint64(10)}, {0: uint64(10), 8: uint64(10)}, {0: uint64(3), 8: uint64(1) << 63}} {
			g.ok("fastly_cache.get_body", h, bodyFrom|bodyTo, g.fields(16, r), &body)
			if s := g.readAll(body); s != "0123456789" {
				t.Errorf("beyond the end, %v: %q", r, s)
			}
			g.ok("fastly_http_body.close", body)
		}
		g.is(abi.Inval, "fastly_cache.get_body", h, 8, raw(0), &out)

		g.ok("fastly_purge.purge_surrogate_key", "two", 0, raw(0))
		g.state(0, "fastly_cache.get_state", g.lookup("lookup", "k"))
	})
}

// TestCacheStates: fresh 3, stale 7 for others and 15 for the chosen one, miss 8.
func TestCacheStates(t *testing.T) {
	caching(t, func(t *testing.T, g *guest) {
		h := g.lookup("transaction_lookup", "k")
		g.state(8, "fastly_cache.get_state", h)
		var body, back uint32
		g.is(abi.Inval, "fastly_cache.transaction_insert", h, writeHeaders, g.minute(), &body)
		g.ok("fastly_cache.transaction_insert_and_stream_back", h, writeSWR, g.fields(64, map[int]any{0: time.Second, 32: time.Minute}), &body, &back)
		g.state(0, "fastly_cache.get_state", h)
		g.is(abi.BadHandle, "fastly_cache.transaction_insert", h, 0, g.minute(), &body)
		g.is(abi.BadHandle, "fastly_cache.transaction_cancel", h)
		g.state(3, "fastly_cache.get_state", back)
		g.state(3, "fastly_cache.get_state", g.lookup("transaction_lookup", "k"))
		g.finish(body, "value")
		if s := g.cached(back); s != "value" {
			t.Errorf("streamed back %q", s)
		}
		time.Sleep(2 * time.Second)
		chosen, other := g.lookup("transaction_lookup", "k"), g.lookup("transaction_lookup", "k")
		g.state(15, "fastly_cache.get_state", chosen)
		g.state(7, "fastly_cache.get_state", other)
		g.is(abi.BadHandle, "fastly_cache.transaction_update", other, 0, g.minute())
		g.ok("fastly_cache.transaction_update", chosen, 0, g.minute())
		h = g.lookup("transaction_lookup", "k")
		g.state(3, "fastly_cache.get_state", h)
		if s := g.cached(h); s != "value" {
			t.Errorf("after the update %q", s)
		}
		h = g.lookup("transaction_lookup", "nothing")
		g.is(abi.BadHandle, "fastly_cache.transaction_update", h, 0, g.minute())
		g.ok("fastly_cache.transaction_cancel", h)
		g.state(8, "fastly_cache.get_state", g.lookup("transaction_lookup", "nothing"))
	})
}

// TestCacheObligationPassesOn: to a guest that waits, when the one that has it closes it or ends.
func TestCacheObligationPassesOn(t *testing.T) {
	for how, give := range map[string]func(*guest, uint32){
		"cancel": func(g *guest, h uint32) { g.ok("fastly_cache.transaction_cancel", h) },
		"close":  func(g *guest, h uint32) { g.ok("fastly_cache.close", h) },
		"end":    func(g *guest, _ uint32) { g.sb.State.(*exec).end(errors.New("trap")) },
	} {
		synctest.Test(t, func(t *testing.T) {
			host, _ := cacheHost()
			g, other := newGuest(t, host), newGuest(t, host)
			h := g.lookup("transaction_lookup", "k")
			got := make(chan uint32)
			go func() {
				var state uint32
				other.ok("fastly_cache.get_state", other.lookup("transaction_lookup", "k"), &state)
				got <- state
			}()
			synctest.Wait()
			give(g, h)
			if s := <-got; s != 8 {
				t.Errorf("%s: the next one's state is %d", how, s)
			}
		})
	}
}

func TestCacheAsync(t *testing.T) {
	caching(t, func(t *testing.T, g *guest) {
		held := g.lookup("transaction_lookup", "k")
		first, second := g.lookup("transaction_lookup_async", "k"), g.lookup("transaction_lookup_async", "k")
		var ready, index, h, body uint32
		g.ok("fastly_async_io.is_ready", first, &ready)
		g.ok("fastly_async_io.select", []uint32{first, second}, 100, &index)
		if ready != 0 || index != timedOut {
			t.Errorf("ready %d, selected %x before there is anything", ready, index)
		}
		g.ok("fastly_cache.close_busy", first)
		g.is(abi.BadHandle, "fastly_cache.cache_busy_handle_wait", first, &h)
		g.ok("fastly_cache.transaction_insert", held, 0, g.minute(), &body)
		g.ok("fastly_async_io.select", []uint32{second}, 0, &index)
		g.ok("fastly_cache.cache_busy_handle_wait", second, &h)
		g.state(3, "fastly_cache.get_state", h)
		g.finish(body, "value")
		g.is(abi.BadHandle, "fastly_cache.cache_busy_handle_wait", second, &h)

		held = g.lookup("transaction_lookup", "k2")
		waits := g.lookup("transaction_lookup_async", "k2")
		g.ok("fastly_cache.close", held)
		g.ok("fastly_cache.cache_busy_handle_wait", waits, &h)
		g.state(8, "fastly_cache.get_state", h)
		dropped := g.lookup("transaction_lookup_async", "k2")
		g.ok("fastly_cache.close", h)
		synctest.Wait()
		g.ok("fastly_cache.close_busy", dropped) // it had the obligation already
		g.state(8, "fastly_cache.get_state", g.lookup("transaction_lookup", "k2"))
	})
}

// TestCacheIncomplete: of a body that is abandoned, or is not as long as announced, nothing is kept.
func TestCacheIncomplete(t *testing.T) {
	for how, end := range map[string]func(*guest, uint32){
		"abandon": func(g *guest, b uint32) { g.ok("fastly_http_body.abandon", b) },
		"short":   func(g *guest, b uint32) { g.ok("fastly_http_body.close", b) },
		"long":    func(g *guest, b uint32) { g.finish(b, strings.Repeat("x", 100)) },
	} {
		caching(t, func(t *testing.T, g *guest) {
			var body, reader uint32
			g.ok("fastly_cache.insert", "k", writeLength, g.fields(64, map[int]any{0: time.Minute, 48: uint64(10)}), &body)
			g.write(body, "half")
			synctest.Wait()
			g.ok("fastly_cache.get_body", g.lookup("lookup", "k"), 0, raw(0), &reader)
			end(g, body)
			if s, st := g.read(reader); st == abi.OK || !strings.HasPrefix(s, "half") {
				t.Errorf("%s: the reader got %q, %v", how, s, st)
			}
			synctest.Wait()
			g.state(0, "fastly_cache.get_state", g.lookup("lookup", "k"))
			if used := g.sb.State.(*exec).account.used.Load(); used > 10_000 {
				t.Errorf("%s: %d bytes still count", how, used)
			}
		})
	}
}

// TestCacheNotEnded: a body is whole when it is as long as its insertion said, for some SDKs do not end it. What follows
// later makes it too long: nothing is kept.
func TestCacheNotEnded(t *testing.T) {
	caching(t, func(t *testing.T, g *guest) {
		var body uint32
		g.ok("fastly_cache.insert", "k", writeLength, g.fields(64, map[int]any{0: time.Minute, 48: uint64(5)}), &body)
		g.write(body, "value")
		if got := g.cached(g.lookup("lookup", "k")); got != "value" {
			t.Errorf("read %q", got)
		}
		g.write(body, "more")
		synctest.Wait()
		g.state(0, "fastly_cache.get_state", g.lookup("lookup", "k"))
	})
}

// TestCacheWholeAtOnce: what a guest has ended is there whole for its next call.
func TestCacheWholeAtOnce(t *testing.T) {
	caching(t, func(t *testing.T, g *guest) {
		var body uint32
		g.ok("fastly_cache.insert", "k", 0, g.minute(), &body)
		g.write(body, "value")
		g.ok("fastly_http_body.close", body)
		g.number(5, "get_length", g.lookup("lookup", "k"))
		g.ok("fastly_cache.insert", "short", writeLength, g.fields(64, map[int]any{0: time.Minute, 48: uint64(10)}), &body)
		g.write(body, "half")
		g.ok("fastly_http_body.close", body)
		g.state(0, "fastly_cache.get_state", g.lookup("lookup", "short"))
		g.ok("fastly_cache.insert", "none", 0, g.minute(), &body)
		g.write(body, "half")
		g.ok("fastly_http_body.abandon", body)
		g.state(0, "fastly_cache.get_state", g.lookup("lookup", "none"))
	})
}

// TestCacheNotForItself: a guest that has something to insert and looks for it once more gets the obligation again, for it
// would wait for itself; if it looks without waiting it gets what it inserted.
func TestCacheNotForItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, _ := cacheHost()
		g, other := newGuest(t, host), newGuest(t, host)
		first, second := g.lookup("transaction_lookup", "k"), g.lookup("transaction_lookup", "k")
		g.state(8, "fastly_cache.get_state", first)
		g.state(8, "fastly_cache.get_state", second)
		busy, waits := g.lookup("transaction_lookup_async", "k"), other.lookup("transaction_lookup", "k")
		var body, found uint32
		g.ok("fastly_cache.transaction_insert", first, 0, g.minute(), &body)
		g.finish(body, "value")
		g.ok("fastly_cache.cache_busy_handle_wait", busy, &found)
		g.state(3, "fastly_cache.get_state", found)
		other.state(3, "fastly_cache.get_state", waits)
		g.ok("fastly_cache.transaction_insert", second, 0, g.minute(), &body)
		g.finish(body, "again")
		if got := other.cached(other.lookup("lookup", "k")); got != "again" {
			t.Errorf("read %q", got)
		}
	})
}

// TestCacheAfterEnd: a body that was ended is kept although its guest is gone; one left open is not.
func TestCacheAfterEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, _ := cacheHost()
		g, other := newGuest(t, host), newGuest(t, host)
		var ended, open uint32
		g.ok("fastly_cache.insert", "ended", 0, g.minute(), &ended)
		g.ok("fastly_cache.insert", "open", 0, g.minute(), &open)
		slow := newStreamBody(newStream(&slowBody{left: 5}, -1, nil))
		g.ok("fastly_http_body.append", ended, must(g.sb.State.(*exec).items.put(slow)))
		g.ok("fastly_http_body.close", ended)
		g.write(open, "half")
		g.sb.State.(*exec).end(nil)
		time.Sleep(10 * time.Second)
		if s := other.cached(other.lookup("lookup", "ended")); s != "....." {
			t.Errorf("kept %q", s)
		}
		other.state(0, "fastly_cache.get_state", other.lookup("lookup", "open"))
	})
}

func must(h uint32, ok bool) uint32 {
	if !ok {
		panic("no handle")
	}
	return h
}

// slowBody gives a byte a second.
type slowBody struct{ left int }

func (b *slowBody) Read(p []byte) (int, error) {
	if b.left--; b.left < 0 {
		return 0, io.EOF
	}
	time.Sleep(time.Second)
	return copy(p, "."), nil
}

func (b *slowBody) Close() error { return nil }

// TestCacheReadsItself: a body that waits for itself ends some time after its guest.
func TestCacheReadsItself(t *testing.T) {
	caching(t, func(t *testing.T, g *guest) {
		var body, reader uint32
		g.ok("fastly_cache.insert", "k", 0, g.minute(), &body)
		g.ok("fastly_cache.get_body", g.lookup("lookup", "k"), 0, raw(0), &reader)
		g.ok("fastly_http_body.append", body, reader)
		g.ok("fastly_http_body.close", body)
		e := g.sb.State.(*exec)
		e.end(nil)
		time.Sleep(2 * patience)                              // synctest fails if a goroutine stays
		if used := e.account.used.Load(); used > 2*lookSize { // the lookup itself is open
			t.Errorf("%d bytes still count", used)
		}
	})
}

func TestCacheReplace(t *testing.T) {
	caching(t, func(t *testing.T, g *guest) {
		var h, out, body uint32
		var n uint64
		g.ok("fastly_cache.replace", "k", 0, raw(0), &h)
		g.state(0, "fastly_cache.replace_get_state", h)
		for _, call := range []string{"replace_get_length", "replace_get_max_age_ns", "replace_get_stale_while_revalidate_ns", "replace_get_age_ns", "replace_get_hits"} {
			g.is(abi.None, "fastly_cache."+call, h, &n)
		}
		g.is(abi.None, "fastly_cache.replace_get_body", h, 0, raw(0), &out)
		g.is(abi.None, "fastly_cache.replace_get_user_metadata", h, make([]byte, 1), &out)
		g.is(abi.BadHandle, "fastly_cache.get_state", h, &out)
		g.is(abi.Inval, "fastly_cache.replace", "k", replaceStrategy, g.fields(8, map[int]any{4: 4}), &h)
		g.is(abi.Inval, "fastly_cache.replace", "k", 32, raw(0), &h)
		g.is(abi.Unsupported, "fastly_cache.replace", "k", replaceServiceID, raw(0), &h)
		g.keep("k", "old")
		for strategy := 1; strategy <= 3; strategy++ {
			g.ok("fastly_cache.replace", "k", replaceStrategy, g.fields(8, map[int]any{4: strategy}), &h)
			g.state(3, "fastly_cache.replace_get_state", h)
			g.number(3, "replace_get_length", h)
			g.number(uint64(time.Minute), "replace_get_max_age_ns", h)
			g.number(0, "replace_get_stale_while_revalidate_ns", h)
			g.number(0, "replace_get_age_ns", h)
			g.number(0, "replace_get_hits", h)
			g.ok("fastly_cache.replace_get_body", h, 0, raw(0), &body)
			if s := g.readAll(body); s != "old" {
				t.Errorf("to be replaced: %q", s)
			}
			meanwhile := map[bool]wedge.CacheState{true: 0, false: 3}[strategy == 2]
			g.state(meanwhile, "fastly_cache.get_state", g.lookup("lookup", "k"))
			g.ok("fastly_cache.replace_insert", h, 0, g.minute(), &body)
			g.finish(body, "new")
			if s := g.cached(g.lookup("lookup", "k")); s != "new" {
				t.Errorf("strategy %d: %q", strategy, s)
			}
			g.is(abi.BadHandle, "fastly_cache.replace_insert", h, 0, g.minute(), &body)
			g.keep("k", "old")
		}
	})
}

func TestCacheVary(t *testing.T) {
	caching(t, func(t *testing.T, g *guest) {
		red, blue := g.request("GET", "/", "color", "red"), g.request("GET", "/", "color", "blue")
		var body, h uint32
		for _, req := range []uint32{red, blue} {
			g.ok("fastly_cache.insert", "k", writeHeaders|writeVary, g.fields(64, map[int]any{0: time.Minute, 8: req, 12: "color size"}), &body)
			g.finish(body, map[uint32]string{red: "red", blue: "blue"}[req])
		}
		g.ok("fastly_cache.lookup", "k", lookHeaders|lookAlways, g.fields(4, map[int]any{0: red}), &h)
		if s := g.cached(h); s != "red" {
			t.Errorf("red is %q", s)
		}
		g.ok("fastly_cache.transaction_lookup", "k", lookHeaders, g.fields(4, map[int]any{0: blue}), &h)
		g.state(3, "fastly_cache.get_state", h)
		g.state(8, "fastly_cache.get_state", g.lookup("transaction_lookup", "k"))
		g.is(abi.BadHandle, "fastly_cache.lookup", "k", lookHeaders, g.fields(4, map[int]any{0: 99}), &h)
	})
}

func TestCacheRefuses(t *testing.T) {
	caching(t, func(t *testing.T, g *guest) {
		var out uint32
		g.is(abi.Inval, "fastly_cache.lookup", strings.Repeat("k", wedge.MaxCacheKey+1), 0, raw(0), &out)
		g.ok("fastly_cache.lookup", strings.Repeat("k", wedge.MaxCacheKey), 0, raw(0), &out)
		g.ok("fastly_cache.lookup", "", 0, raw(0), &out)
		g.is(abi.Inval, "fastly_cache.lookup", "k", 16, raw(0), &out)
		g.is(abi.Unsupported, "fastly_cache.lookup", "k", lookServiceID, raw(0), &out)
		g.is(abi.Unsupported, "fastly_cache.insert", "k", writeServiceID, g.minute(), &out)
		g.is(abi.Inval, "fastly_cache.lookup", "k", 0, raw(0), raw(len(g.mem)-2))
		g.is(abi.Inval, "fastly_cache.insert", "k", 1<<11, g.minute(), &out)
		g.is(abi.Inval, "fastly_cache.insert", "k", 0, raw(len(g.mem)-4), &out)
		g.is(abi.Inval, "fastly_cache.insert", "k", writeEdgeAge, g.fields(72, map[int]any{0: time.Second, 64: time.Minute}), &out)
		for _, keys := range []string{strings.Repeat("k", 1025), strings.Repeat("k ", 9000), "a\tb\x01", "é"} {
			g.is(abi.Inval, "fastly_cache.insert", "k", writeKeys, g.fields(64, map[int]any{40: keys}), &out)
		}
		g.is(abi.Inval, "fastly_cache.insert", "k", writeVary, g.fields(64, map[int]any{12: "a:b"}), &out)
		g.is(abi.Inval, "fastly_cache.insert", "k", writeLength, g.fields(64, map[int]any{48: ^uint64(0)}), &out)
		g.is(abi.Inval, "fastly_cache.insert", "k", writeMetadata, g.fields(64, map[int]any{60: wedge.MaxCacheMetadata + 1}), &out)
		h := g.lookup("transaction_lookup", "k")
		g.is(abi.Inval, "fastly_cache.transaction_insert", h, 0, g.minute(), raw(len(g.mem)-2))
		g.is(abi.BadHandle, "fastly_cache.get_body", 999, 0, raw(0), &out)
		g.state(8, "fastly_cache.get_state", h) // it still has what it had
	})
}

// TestCacheAccount: what a guest is inserting counts until it is there, and so do open lookups.
func TestCacheAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, c := cacheHost()
		host.Version.Limits.HostcallBytes = 1 << 20
		g := newGuest(t, host)
		account := &g.sb.State.(*exec).account
		var body uint32
		g.ok("fastly_cache.insert", "k", 0, g.minute(), &body)
		piece := strings.Repeat("x", 100<<10)
		for range 5 {
			g.write(body, piece)
			synctest.Wait()
		}
		if used := account.used.Load(); used < 500<<10 {
			t.Errorf("%d bytes count", used)
		}
		for g.call("fastly_http_body.write", body, piece, 0, new(uint32)) == abi.OK {
			synctest.Wait()
		}
		g.is(abi.LimitExceeded, "fastly_http_body.write", body, piece, 0, new(uint32))
		g.ok("fastly_http_body.abandon", body)
		synctest.Wait()
		if _, n := c.Used(); n != 0 || account.used.Load() != 0 {
			t.Errorf("%d objects, %d bytes count", n, account.used.Load())
		}
		var out uint32
		for i := range 2000 {
			if s := g.call("fastly_cache.lookup", "k", 0, raw(0), &out); s == abi.LimitExceeded {
				if i < 500 {
					t.Errorf("only %d lookups", i)
				}
				return
			}
		}
		t.Error("lookups cost nothing")
	})
}

// TestCacheManyWait: of many guests one inserts and all get it.
func TestCacheManyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, _ := cacheHost()
		states := make(chan uint32, 20)
		for range 20 {
			g := newGuest(t, host)
			go func() {
				var s, body uint32
				h := g.lookup("transaction_lookup", "k")
				g.ok("fastly_cache.get_state", h, &s)
				if s == 8 {
					time.Sleep(time.Second)
					g.ok("fastly_cache.transaction_insert_and_stream_back", h, 0, g.minute(), &body, &h)
					g.write(body, "value")
					g.ok("fastly_http_body.close", body)
				}
				if v := g.cached(h); v != "value" {
					t.Errorf("got %q", v)
				}
				states <- s
			}()
		}
		var all []byte
		for range 20 {
			all = append(all, byte(<-states))
		}
		slices.Sort(all)
		if want := append(bytes.Repeat([]byte{3}, 19), 8); !bytes.Equal(all, want) {
			t.Errorf("states %v", all)
		}
	})
}
