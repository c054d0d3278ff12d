package hostcall

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
)

const hc = "fastly_http_cache."

// backendSays makes a response as if a backend had sent it.
func (g *guest) backendSays(status int, header ...string) uint32 {
	g.t.Helper()
	r := g.newResponse()
	g.ok("fastly_http_resp.status_set", r, status)
	for i := 0; i+1 < len(header); i += 2 {
		g.ok("fastly_http_resp.header_append", r, header[i], header[i+1])
	}
	return r
}

func (g *guest) lookFor(req uint32, state wedge.CacheState) (h uint32) {
	g.t.Helper()
	g.ok(hc+"transaction_lookup", req, 0, raw(0), &h)
	g.state(state, hc+"get_state", h)
	return h
}

// prepare returns what is to be stored.
func (g *guest) prepare(h, resp uint32, want wedge.CacheAction) (prepared uint32) {
	g.t.Helper()
	var action uint32
	if g.ok(hc+"prepare_response_for_storage", h, resp, &action, &prepared); action != uint32(want) {
		g.t.Errorf("action %d, want %d", action, want)
	}
	return prepared
}

// foundResponse returns the response that was found; transform 1: as the client asked for it.
func (g *guest) foundResponse(h uint32, transform int) (status uint16, body string, resp uint32) {
	g.t.Helper()
	var b uint32
	g.ok(hc+"get_found_response", h, transform, &resp, &b)
	g.ok("fastly_http_resp.status_get", resp, &status)
	return status, g.readAll(b), resp
}

func (g *guest) field(resp uint32, name string) string {
	buf, n := make([]byte, 500), uint32(0)
	if g.call("fastly_http_resp.header_value_get", resp, name, buf, &n) != abi.OK {
		return ""
	}
	return string(buf[:n])
}

// fresh returns write options of so many seconds.
func (g *guest) fresh(seconds int) raw {
	return g.fields(56, map[int]any{0: time.Duration(seconds) * time.Second})
}

func TestHTTPCacheRequests(t *testing.T) {
	caching(t, func(t *testing.T, g *guest) {
		var is uint32
		for method, want := range map[string]uint32{"GET": 1, "HEAD": 1, "POST": 0, "PURGE": 0} {
			if g.ok(hc+"is_request_cacheable", g.request(method, "http://h/"), &is); is != want {
				t.Errorf("%s: %d", method, is)
			}
		}
		g.is(abi.BadHandle, hc+"is_request_cacheable", 99, &is)
		pass := g.request("GET", "http://h/")
		g.ok("fastly_http_req.cache_override_set", pass, overridePass, 0, 0)
		if g.ok(hc+"is_request_cacheable", pass, &is); is != 0 {
			t.Error("a request that is to pass is cacheable")
		}

		one, two := g.request("GET", "http://h/a", "X", "y"), g.request("GET", "http://H:80/a")
		key := g.text(hc+"get_suggested_cache_key", one)
		if len(key) != 32 || key != g.text(hc+"get_suggested_cache_key", two) {
			t.Errorf("keys %x", key)
		}
		var n uint32
		if g.is(abi.BufLen, hc+"get_suggested_cache_key", one, make([]byte, 31), &n); n != 32 {
			t.Errorf("a key takes %d", n)
		}

		// A key in the place of the request's own: its own is as good as none.
		var h, same, other uint32
		g.ok(hc+"transaction_lookup", one, 0, raw(0), &h)
		own := g.fields(16, map[int]any{0: key, 8: "backend"})
		var body uint32
		g.ok(hc+"transaction_insert", h, g.backendSays(200), 0, g.fresh(60), &body)
		g.finish(body, "one")
		g.ok(hc+"lookup", two, httpOverrideKey|httpBackendName, own, &same)
		g.state(3, hc+"get_state", same)
		its := strings.Repeat("k", 32)
		g.ok(hc+"transaction_lookup", one, httpOverrideKey, g.fields(8, map[int]any{0: its}), &other)
		g.state(8, hc+"get_state", other)
		g.ok(hc+"transaction_insert", other, g.backendSays(200), 0, g.fresh(60), &body)
		g.finish(body, "by key")
		field := g.request("GET", "http://elsewhere/", cacheKeyField, strings.ToUpper(hex.EncodeToString([]byte(its))))
		if _, s, _ := g.foundResponse(g.lookFor(field, 3), 0); s != "by key" {
			t.Errorf("by the field of the same purpose: %q", s)
		}
		g.is(abi.Inval, hc+"lookup", one, httpOverrideKey, g.fields(8, map[int]any{0: "short"}), &h)
		g.is(abi.Inval, hc+"lookup", one, 8, raw(0), &h)
		g.is(abi.BadHandle, hc+"lookup", 99, 0, raw(0), &h)
		g.is(abi.Inval, hc+"lookup", one, 0, raw(0), raw(len(g.mem)-1))
	})
}

func TestHTTPCacheMiss(t *testing.T) {
	caching(t, func(t *testing.T, g *guest) {
		req := g.request("HEAD", "http://h/a", "Host", "h", "If-None-Match", `"x"`, "Range", "bytes=0-1", "X-Mixed", "Kept")
		h := g.lookFor(req, 8)
		var n uint64
		var out, send uint32
		for _, call := range []string{"get_length", "get_max_age_ns", "get_stale_while_revalidate_ns", "get_stale_if_error_ns", "get_age_ns", "get_hits"} {
			g.is(abi.None, hc+call, h, &n)
		}
		g.is(abi.None, hc+"get_sensitive_data", h, &out)
		g.is(abi.None, hc+"get_surrogate_keys", h, make([]byte, 9), &out)
		g.is(abi.None, hc+"get_vary_rule", h, make([]byte, 9), &out)
		g.is(abi.None, hc+"get_found_response", h, 1, &out, &out)
		g.is(abi.BadHandle, hc+"transaction_update", h, g.backendSays(200), 0, g.fresh(1))
		g.is(abi.BadHandle, hc+"transaction_choose_stale", h)

		g.ok(hc+"get_suggested_backend_request", h, &send)
		if m := g.text("fastly_http_req.method_get", send); m != "GET" {
			t.Errorf("to be sent: %s", m)
		}
		if names := strings.Join(g.many("fastly_http_req.header_names_get", send), " "); names != "host x-mixed" {
			t.Errorf("to be sent: %s", names)
		}
		resp := g.backendSays(200, "Cache-Control", "max-age=60, stale-while-revalidate=5, stale-if-error=7", "Surrogate-Key", "a b", "Vary", "X-Mixed, Accept",
			"Connection", "X-Hop", "X-Hop", "1", "Content-Length", "10", "Age", "3")
		store := g.prepare(h, resp, wedge.CacheInsert)
		if g.field(store, "X-Hop") != "" || g.field(resp, "X-Hop") != "1" {
			t.Error("a field about the connection is to be stored, or the response itself was changed")
		}
		mask, options, maskOut, suggested := httpWriteMask, g.fields(56, map[int]any{8: strings.Repeat("v", 2), 32: strings.Repeat("k", 100)}), uint32(0), g.fields(56, nil)
		g.is(abi.BufLen, hc+"get_suggested_cache_options", h, store, mask, options, &maskOut, suggested)
		if need := binary.LittleEndian.Uint32(g.mem[suggested+12:]); maskOut&httpVary == 0 || need != uint32(len("accept x-mixed")) {
			t.Errorf("mask %b, the rule takes %d", maskOut, need)
		}
		options = g.fields(56, map[int]any{8: strings.Repeat("v", 20), 32: strings.Repeat("k", 100)})
		g.ok(hc+"get_suggested_cache_options", h, store, mask, options, &maskOut, suggested)
		if maskOut != httpVary|httpAge|httpSWR|httpKeys|httpLength|httpSIE {
			t.Errorf("mask %b", maskOut)
		}
		var body, back uint32
		g.is(abi.Inval, hc+"transaction_insert_and_stream_back", h, store, 1<<8, suggested, &body, &back)
		g.is(abi.Inval, hc+"transaction_insert", h, g.backendSays(103), 0, g.fresh(1), &body)
		g.is(abi.BadHandle, hc+"transaction_insert", h, 99, 0, g.fresh(1), &body)
		g.is(abi.Inval, hc+"transaction_insert", h, store, httpVary, g.fields(56, map[int]any{8: strings.Repeat("v", maxVary+1)}), &body)
		g.ok(hc+"transaction_insert_and_stream_back", h, store, maskOut|httpPCI, suggested, &body, &back)
		g.ok("fastly_http_resp.close", store)
		g.state(0, hc+"get_state", h)
		g.state(3, hc+"get_state", back)
		g.write(body, "01234")
		if status, s, _ := g.foundResponse(back, 1); status != 200 || s != "" {
			t.Errorf("HEAD: %d %q", status, s)
		}
		g.finish(body, "56789")
		time.Sleep(time.Second)

		h = g.lookFor(g.request("GET", "http://h/a", "X-Mixed", "Kept", "Range", "bytes=2-3"), 3)
		for call, want := range map[string]uint64{"get_length": 10, "get_max_age_ns": 60e9, "get_stale_while_revalidate_ns": 5e9, "get_stale_if_error_ns": 7e9, "get_age_ns": 4e9, "get_hits": 1} {
			if g.ok(hc+call, h, &n); n != want {
				t.Errorf("%s: %d, want %d", call, n, want)
			}
		}
		if g.ok(hc+"get_sensitive_data", h, &out); out != 1 {
			t.Error("not sensitive")
		}
		if k, v := g.text(hc+"get_surrogate_keys", h), g.text(hc+"get_vary_rule", h); len(k) != 64+len(" a b") || !strings.HasSuffix(k, " a b") || v != "accept x-mixed" {
			t.Errorf("surrogate keys %q, vary rule %q", k, v)
		}
		if g.is(abi.BufLen, hc+"get_vary_rule", h, make([]byte, 1), &out); out != 14 {
			t.Errorf("the rule takes %d", out)
		}
		if status, s, resp := g.foundResponse(h, 1); status != 206 || s != "23" || g.field(resp, "Age") != "4" || g.field(resp, "Content-Range") != "bytes 2-3/10" {
			t.Errorf("as asked: %d %q", status, s)
		}
		if status, s, resp := g.foundResponse(h, 0); status != 200 || s != "0123456789" || g.field(resp, "Age") != "" {
			t.Errorf("as stored: %d %q", status, s)
		}
		g.lookFor(g.request("GET", "http://h/a", "X-Mixed", "other"), 8)
		g.ok(hc+"close", h)
		g.is(abi.BadHandle, hc+"close", h)
	})
}

// TestHTTPCacheUnsaid: SDKs keep for an hour what says nothing about how long it is good. Every response has a
// surrogate key of its own, and rules may be written with commas.
func TestHTTPCacheUnsaid(t *testing.T) {
	caching(t, func(t *testing.T, g *guest) {
		for _, c := range []struct {
			status int
			header []string
			action wedge.CacheAction
			maxAge time.Duration
		}{
			{200, nil, wedge.CacheInsert, time.Hour},
			{404, nil, wedge.CacheInsert, time.Hour},
			{200, []string{"Cache-Control", "max-age=0", "ETag", `"1"`}, wedge.CacheInsert, 0},
			{200, []string{"Cache-Control", "no-cache", "ETag", `"1"`}, wedge.CacheInsert, 0},
			{200, []string{"Expires", "0", "ETag", `"1"`}, wedge.CacheInsert, 0},
			{500, nil, wedge.CacheDoNotStore, 0},
			{302, nil, wedge.CacheRecordPass, 0},
		} {
			h, maskOut, out := g.lookFor(g.request("GET", "http://h/"), 8), uint32(0), g.fields(56, nil)
			store := g.prepare(h, g.backendSays(c.status, c.header...), c.action)
			g.ok(hc+"get_suggested_cache_options", h, store, httpKeys, g.fields(56, map[int]any{32: strings.Repeat("k", 64)}), &maskOut, out)
			if got := time.Duration(binary.LittleEndian.Uint64(g.mem[out:])); got != c.maxAge || binary.LittleEndian.Uint32(g.mem[out+36:]) != 64 {
				t.Errorf("%d %q: for %v", c.status, c.header, got)
			}
			g.ok(hc+"close", h)
		}
		var body uint32
		h := g.lookFor(g.request("GET", "http://h/", "A", "1"), 8)
		var back uint32
		g.ok(hc+"transaction_insert_and_stream_back", h, g.backendSays(200), httpVary, g.fields(56, map[int]any{0: time.Minute, 8: "a,b, c"}), &body, &back)
		g.finish(body, "x")
		if rule := g.text(hc+"get_vary_rule", back); rule != "a,b, c" {
			t.Errorf("rule %q of what was just inserted", rule)
		}
		if rule := g.text(hc+"get_vary_rule", g.lookFor(g.request("GET", "http://h/", "A", "1"), 3)); rule != "a b c" {
			t.Errorf("rule %q", rule)
		}
	})
}

func TestHTTPCacheStale(t *testing.T) {
	caching(t, func(t *testing.T, g *guest) {
		put := func(uri string, mask int, at map[int]any) {
			var body uint32
			at[0] = time.Second
			g.ok(hc+"transaction_insert", g.lookFor(g.request("GET", uri), 8), g.backendSays(200, "ETag", `"1"`, "X", "old"), mask, g.fields(56, at), &body)
			g.finish(body, "body")
		}
		put("http://h/v", 0, map[int]any{})
		put("http://h/swr", httpSWR, map[int]any{24: time.Hour})
		put("http://h/sie", httpSIE, map[int]any{48: time.Hour})
		time.Sleep(2 * time.Second)

		req := g.request("GET", "http://h/v")
		h := g.lookFor(req, 13)
		var out, send, fresh uint32
		g.is(abi.None, hc+"get_found_response", h, 1, &out, &out)
		g.ok(hc+"get_suggested_backend_request", h, &send)
		if tags := g.many("fastly_http_req.header_values_get", send, "If-None-Match"); tags[0] != `"1"` {
			t.Errorf("to be sent: %q", tags)
		}
		merged := g.prepare(h, g.backendSays(304, "X", "new"), wedge.CacheUpdate)
		if g.field(merged, "X") != "new" || g.field(merged, "Etag") != `"1"` {
			t.Error("the 304 was not merged")
		}
		g.ok(hc+"transaction_update_and_return_fresh", h, merged, 0, g.fresh(60), &fresh)
		if status, s, resp := g.foundResponse(fresh, 1); status != 200 || s != "body" || g.field(resp, "X") != "new" {
			t.Errorf("updated: %d %q", status, s)
		}
		g.lookFor(req, 3)

		req = g.request("GET", "http://h/swr")
		h = g.lookFor(req, 15)
		g.lookFor(req, 7)
		if _, s, _ := g.foundResponse(h, 1); s != "body" {
			t.Errorf("stale while it is revalidated: %q", s)
		}
		g.ok(hc+"transaction_update", h, g.prepare(h, g.backendSays(304), wedge.CacheUpdate), 0, g.fresh(60))
		g.lookFor(req, 3)

		req = g.request("GET", "http://h/sie")
		h = g.lookFor(req, 29)
		g.prepare(h, g.backendSays(503), wedge.CacheDoNotStore)
		g.ok(hc+"transaction_choose_stale", h)
		if _, s, _ := g.foundResponse(h, 1); s != "body" {
			t.Errorf("stale for the origin failed: %q", s)
		}
		g.is(abi.BadHandle, hc+"transaction_choose_stale", h)
		h = g.lookFor(req, 29)
		g.ok(hc+"transaction_abandon", h)
		g.is(abi.BadHandle, hc+"transaction_abandon", h)
		g.lookFor(req, 29)
	})
}

func TestHTTPCachePass(t *testing.T) {
	caching(t, func(t *testing.T, g *guest) {
		req := g.request("GET", "http://h/")
		h := g.lookFor(req, 8)
		g.prepare(h, g.backendSays(200, "Cache-Control", "private"), wedge.CacheRecordPass)
		g.is(abi.Inval, hc+"transaction_record_not_cacheable", h, 1<<8, raw(0))
		g.ok(hc+"transaction_record_not_cacheable", h, 0, g.fresh(10))
		g.is(abi.BadHandle, hc+"transaction_record_not_cacheable", h, 0, raw(0))
		g.ok(hc+"transaction_record_not_cacheable", g.lookFor(req, 8), 0, g.fresh(10))
		g.lookFor(req, 8) // and nobody waits for this one
		g.lookFor(req, 8)
		time.Sleep(10 * time.Second)
		h = g.lookFor(req, 8)
		g.ok(hc+"close", h)
		for i := range wedge.DefaultLimits.Fetches {
			h = g.lookFor(g.request("GET", "http://h/"+strings.Repeat("a", i+1)), 8)
			if s := g.call(hc+"transaction_record_not_cacheable", h, 0, raw(0)); s == abi.LimitExceeded && i == wedge.DefaultLimits.Fetches-2 {
				return // the one above, and the failed one, counted
			}
		}
		t.Error("there is no limit to what is not evicted")
	})
}

// TestHTTPCacheAndFetch: a fetch is answered with what the guest stored, and the guest with what was fetched.
func TestHTTPCacheAndFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host, c := cacheHost()
		host.Fetch = c
		host.Version.Backends = []wedge.Backend{staticBackend(t, "b", "http://h")}
		g := newGuest(t, host)
		var body, resp uint32
		g.ok(hc+"transaction_insert", g.lookFor(g.request("GET", "http://h/a"), 8), g.backendSays(200, "X", "guest"), 0, g.fresh(60), &body)
		g.finish(body, "the guest's")
		g.ok("fastly_http_req.send", g.request("GET", "http://h/a"), g.newBody(""), "b", &resp, &body)
		if s := g.readAll(body); s != "the guest's" || g.field(resp, "X-Cache") != "HIT" {
			t.Errorf("fetched %q, %s", s, g.field(resp, "X-Cache"))
		}
		send := g.request("GET", "http://h/b")
		g.ok("fastly_http_req.cache_override_v2_set", send, overrideTTL, 60, 0, "")
		g.ok("fastly_http_req.send", send, g.newBody(""), "b", &resp, &body)
		g.readAll(body)
		synctest.Wait()
		if _, s, _ := g.foundResponse(g.lookFor(g.request("GET", "http://h/b"), 3), 1); s != "a body of a response" {
			t.Errorf("found %q", s)
		}
	})
}
