package hostcall

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

func TestABIInit(t *testing.T) {
	b := stNew(t, &wedge.Version{})
	b.want(abi.OK, "fastly_abi", "init", uint64(1))
	b.want(abi.Error, "fastly_abi", "init", uint64(2))
	b.want(abi.Error, "fastly_abi", "init", uint64(1)<<32|1)
}

func TestRuntime(t *testing.T) {
	b := stNew(t, &wedge.Version{Number: 12})
	o := b.out4()
	b.want(abi.OK, "fastly_compute_runtime", "get_vcpu_ms", o)
	if b.u64(o) != 0 {
		t.Errorf("%d ms of CPU", b.u64(o))
	}
	b.want(abi.OK, "fastly_compute_runtime", "get_heap_mib", o)
	if b.u32(o) != stMemory>>20 {
		t.Errorf("%d MiB", b.u32(o))
	}
	for call, want := range map[string]uint32{"has_domain_inspector": 0, "has_image_optimizer": 1, "has_origin_inspector": 0} {
		b.want(abi.OK, "fastly_compute_runtime", call, o)
		if b.u32(o) != want {
			t.Errorf("%s: %d", call, b.u32(o))
		}
	}
	req, body, o4 := b.handle("fastly_http_req", "new"), b.body("x"), b.out4()
	ip := b.lay([]byte{192, 0, 2, 1})
	info := b.layWords(b.lay([]byte("corp")), uint32(4), b.lay([]byte("site")), uint32(4), ip, uint32(4))
	long := b.buf(200)
	for mask, want := range map[uint32]abi.Status{inspectMask: abi.OK, inspectCorp | inspectWorkspace: abi.OK, inspectCorp: abi.Inval, inspectWorkspace: abi.Inval, 1<<4 | inspectMask: abi.Inval} {
		b.want(want, "fastly_http_req", "inspect", req, body, mask, info, long, o4)
	}
	if got := b.text(long, o4); got != allowed {
		t.Errorf("a verdict: %s", got)
	}
	b.want(abi.BufLen, "fastly_http_req", "inspect", req, body, uint32(inspectMask), info, b.buf(3), o4)
	if b.u32(o4) != uint32(len(allowed)) {
		t.Errorf("it needs %d bytes", b.u32(o4))
	}
	b.want(abi.BadHandle, "fastly_http_req", "inspect", uint32(99), body, uint32(inspectMask), info, long, o4)
	b.want(abi.BadHandle, "fastly_http_req", "inspect", req, uint32(99), uint32(inspectMask), info, long, o4)
	for call, want := range map[string]string{"get_hostname": "node1", "get_sandbox_id": b.sb.TraceID, "get_trace_id": b.sb.TraceID, "get_service_version": "12"} {
		buf := b.buf(32)
		b.want(abi.OK, "fastly_compute_runtime", call, buf, o)
		if got := b.text(buf, o); got != want {
			t.Errorf("%s: %q", call, got)
		}
		b.want(abi.BufLen, "fastly_compute_runtime", call, b.buf(1), o)
		if b.u32(o) != uint32(len(want)) {
			t.Errorf("%s: needed length %d", call, b.u32(o))
		}
	}
	b.want(abi.Inval, "fastly_compute_runtime", "get_vcpu_ms", stOutside)
	b.want(abi.Inval, "fastly_compute_runtime", "get_heap_mib", stOutside)
}

func TestConfigStoreAndDictionary(t *testing.T) {
	b := stNew(t, &wedge.Version{ConfigStores: map[string]map[string]string{"c": {"k": "value", "empty": ""}}})
	for _, module := range []string{"fastly_config_store", "fastly_dictionary"} {
		o, buf := b.out4(), b.buf(5)
		b.want(abi.BadHandle, module, "open", "nope", o)
		b.want(abi.Inval, module, "open", "\xff", o)
		b.want(abi.Inval, module, "open", "c", stOutside)
		h := b.handle(module, "open", "c")
		b.want(abi.OK, module, "get", h, "k", buf, o)
		if got := b.text(buf, o); got != "value" {
			t.Errorf("%s: %q", module, got)
		}
		b.want(abi.OK, module, "get", h, "empty", buf, o)
		if b.u32(o) != 0 {
			t.Error("an empty value has a length")
		}
		b.want(abi.BufLen, module, "get", h, "k", b.buf(4), o)
		if b.u32(o) != 5 {
			t.Errorf("needed length %d", b.u32(o))
		}
		b.want(abi.None, module, "get", h, "nope", buf, o)
		b.want(abi.None, module, "get", h, strings.Repeat("k", 300), buf, o)
		b.want(abi.BadHandle, module, "get", h+1, "k", buf, o)
		b.want(abi.Inval, module, "get", h, "\xff", buf, o)
	}
}

// stWatch records what an observer would show.
type stWatch struct{ seen []string }

func (w *stWatch) Called(c *compute.Call, _ time.Duration) {
	s := c.Def.String() + " " + fmt.Sprint(c.Redacted)
	if !c.Redacted {
		for _, wr := range c.Writes {
			s += " " + string(wr.Bytes)
		}
	}
	w.seen = append(w.seen, s)
}

func TestSecretStore(t *testing.T) {
	b := stNew(t, &wedge.Version{SecretStores: map[string]map[string]wedge.Secret{"s": {"k": wedge.Secret("hunter2")}}})
	watch := &stWatch{}
	b.sb.Observer = watch
	const m = "fastly_secret_store"
	o, buf := b.out4(), b.buf(16)
	b.want(abi.None, m, "open", "nope", o)
	h := b.handle(m, "open", "s")
	b.want(abi.None, m, "get", h, "nope", o)
	b.want(abi.BadHandle, m, "get", h+1, "k", o)
	s := b.handle(m, "get", h, "k")
	b.want(abi.OK, m, "plaintext", s, buf, o)
	if got := b.text(buf, o); got != "hunter2" {
		t.Errorf("%q", got)
	}
	b.want(abi.BufLen, m, "plaintext", s, b.buf(3), o)
	if b.u32(o) != 7 {
		t.Errorf("needed length %d", b.u32(o))
	}
	b.want(abi.BadHandle, m, "plaintext", s+9, buf, o)
	own := b.handle(m, "from_bytes", "my own\x00\xff")
	b.want(abi.OK, m, "plaintext", own, buf, o)
	if got := b.text(buf, o); got != "my own\x00\xff" {
		t.Errorf("%q", got)
	}
	b.want(abi.Inval, m, "from_bytes", make([]byte, wedge.MaxSecret+1), o)
	ex := b.sb.State.(*exec)
	ex.account.limit = ex.account.used.Load() + 3
	b.want(abi.LimitExceeded, m, "from_bytes", "four", o)
	b.want(abi.OK, "fastly_secret_store", "get", h, "k", o)
	for _, s := range watch.seen {
		carries := strings.Contains(s, "plaintext") || strings.Contains(s, "from_bytes")
		if strings.Contains(s, "hunter2") || strings.Contains(s, "my own") || carries != strings.Contains(s, "true") {
			t.Errorf("the observer saw %q", s)
		}
	}
}

func TestHandlesAreBounded(t *testing.T) {
	b := stNew(t, &wedge.Version{ConfigStores: map[string]map[string]string{"c": {}}})
	name, o := b.lay([]byte("c")), b.out4()
	for range maxHandles {
		b.want(abi.OK, "fastly_config_store", "open", stBuf{name, 1}, o)
	}
	b.want(abi.LimitExceeded, "fastly_config_store", "open", stBuf{name, 1}, o)
}

func TestLog(t *testing.T) {
	b := stNew(t, &wedge.Version{})
	const m = "fastly_log"
	o := b.out4()
	for _, bad := range []string{"", "stdout", "STDERR", "StdOut", "fst_managed_x", "FST_MANAGED_", "\xff", strings.Repeat("n", maxEndpointName+1)} {
		b.want(abi.Inval, m, "endpoint_get", bad, o)
	}
	h := b.handle(m, "endpoint_get", "app")
	if b.handle(m, "endpoint_get", "app") != h || b.handle(m, "endpoint_get", "App") == h {
		t.Error("a name must have one handle of its own")
	}
	write := func(msg string) {
		t.Helper()
		b.want(abi.OK, m, "write", h, msg, o)
		if b.u32(o) != uint32(len(msg)) {
			t.Errorf("took %d of %d bytes", b.u32(o), len(msg))
		}
	}
	write("one\n")
	write("two\r\nthree")
	write("")
	long := strings.Repeat("x", maxLogLine+10)
	write(long + "\nend")
	write(strings.Repeat("y", maxLogMessage) + "\nnot shown")
	want := []string{"app: one", "app: two", "app: three", "app: " + long[:maxLogLine], "app: end", "app: " + strings.Repeat("y", maxLogLine)}
	if fmt.Sprint(b.logs) != fmt.Sprint(want) {
		t.Errorf("logged %.200q", b.logs)
	}
	b.want(abi.BadHandle, m, "write", 77, "x", o)
	b.want(abi.Inval, m, "write", h, stBuf{stOutside, 9}, o)
	b.sb.Host.Log = nil
	write("nobody listens")
}

func TestACL(t *testing.T) {
	entry := func(prefix, action string) wedge.ACLEntry {
		return wedge.ACLEntry{Prefix: netip.MustParsePrefix(prefix), Action: action}
	}
	b := stNew(t, &wedge.Version{ACLs: map[string][]wedge.ACLEntry{"a": {
		entry("192.168.7.0/24", "ALLOW"), entry("192.168.0.0/16", "BLOCK"), entry("fd00::/8", "BLOCK"), entry("192.168.7.9/32", "BLOCK"),
	}}})
	const m = "fastly_acl"
	o, kind := b.out4(), b.out4()
	b.want(abi.None, m, "open", "nope", o)
	h := b.handle(m, "open", "a")
	for addr, want := range map[string]string{
		"192.168.1.1": `{"prefix":"192.168.0.0/16","action":"BLOCK"}`, "192.168.7.1": `{"prefix":"192.168.7.0/24","action":"ALLOW"}`,
		"192.168.7.9": `{"prefix":"192.168.7.9/32","action":"BLOCK"}`, "::ffff:192.168.7.1": `{"prefix":"192.168.7.0/24","action":"ALLOW"}`,
		"fd00::1": `{"prefix":"fd00::/8","action":"BLOCK"}`, "10.0.0.1": "", "fe80::1": "",
	} {
		body := b.out4()
		b.want(abi.OK, m, "lookup", h, netip.MustParseAddr(addr).AsSlice(), body, kind)
		if want == "" {
			if b.u32(kind) != aclNoContent || b.u32(body) != stUntouched {
				t.Errorf("%s: error %d, body %x", addr, b.u32(kind), b.u32(body))
			}
		} else if got := b.readBody(b.u32(body)); got != want || b.u32(kind) != aclOK {
			t.Errorf("%s: %s", addr, got)
		}
	}
	b.want(abi.Inval, m, "lookup", h, "12345", o, kind)
	b.want(abi.BadHandle, m, "lookup", h+1, "1234", o, kind)
	b.want(abi.Inval, m, "lookup", h, "1234", stOutside, kind)
	b.want(abi.Inval, m, "lookup", h, "1234", o, stOutside)
}

func TestGeo(t *testing.T) {
	v := &wedge.Version{GeoLoopback: true, Geo: map[netip.Addr]json.RawMessage{netip.MustParseAddr("1.2.3.4"): json.RawMessage(`{"city":"X"}`)}}
	b := stNew(t, v)
	o, buf := b.out4(), b.buf(1000)
	look := func(addr string) string {
		t.Helper()
		b.want(abi.OK, "fastly_geo", "lookup", netip.MustParseAddr(addr).AsSlice(), buf, o)
		return b.text(buf, o)
	}
	if look("1.2.3.4") != `{"city":"X"}` || look("::ffff:1.2.3.4") != `{"city":"X"}` || look("9.9.9.9") != "" {
		t.Error("wrong record")
	}
	for _, addr := range []string{"127.0.0.1", "::1"} {
		var m map[string]any
		if err := json.Unmarshal([]byte(look(addr)), &m); err != nil || len(m) != 19 || m["city"] != "San Francisco" {
			t.Errorf("%s: %v, %v", addr, m, err)
		}
	}
	b.want(abi.BufLen, "fastly_geo", "lookup", "\x01\x02\x03\x04", b.buf(2), o)
	if b.u32(o) != 12 {
		t.Errorf("needed length %d", b.u32(o))
	}
	b.want(abi.Inval, "fastly_geo", "lookup", "123", buf, o)
	v.GeoLoopback = false
	if look("127.0.0.1") != "" {
		t.Error("a loopback record although the version wants none")
	}
}

const (
	stChrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.6099.71 Safari/537.36"
	stPhone  = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Mobile/15E148 Safari/604.1"
	stBot    = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
	stPad    = "Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.6 Mobile/15E148 Safari/604.1"
	stSlate  = "Mozilla/5.0 (Linux; Android 13; SM-X700) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/119.0.0.0 Safari/537.36"
	stPS     = "Mozilla/5.0 (PlayStation; PlayStation 5/6.00) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/13.0 Safari/605.1.15"
)

func TestDeviceDetection(t *testing.T) {
	b := stNew(t, &wedge.Version{Devices: map[string]json.RawMessage{"mine": json.RawMessage(`{"device":{"name":"own"}}`)}})
	o, buf := b.out4(), b.buf(2000)
	look := func(ua string) (r deviceRecord) {
		t.Helper()
		b.want(abi.OK, "fastly_device_detection", "lookup", ua, buf, o)
		if err := json.Unmarshal([]byte(b.text(buf, o)), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := look("mine"); r.Device.Name != "own" {
		t.Errorf("%+v", r)
	}
	for ua, want := range map[string]device{
		stPhone:  {Name: "iPhone", Brand: "Apple", Model: "iPhone", HWType: "Mobile Phone", IsMobile: true, IsTouchscreen: true},
		stPad:    {Name: "iPad", Brand: "Apple", Model: "iPad", HWType: "Tablet", IsTablet: true, IsTouchscreen: true},
		stBot:    {Name: "Spider", Brand: "Spider", Model: "Desktop", HWType: "Robot", IsBot: true},
		stChrome: {HWType: "Desktop", IsDesktop: true},
	} {
		if got := look(ua).Device; got != want {
			t.Errorf("%s: %+v", ua, got)
		}
	}
	if r := look(stSlate); !r.Device.IsTablet || r.OS.Name != "Android" || r.UserAgent.Name != "Chrome" {
		t.Errorf("%+v", r)
	}
	if r := look(stPS); !r.Device.IsGameConsole {
		t.Errorf("%+v", r)
	}
	b.want(abi.None, "fastly_device_detection", "lookup", "no such thing", buf, o)
	b.want(abi.None, "fastly_device_detection", "lookup", "", buf, o)
	b.want(abi.BufLen, "fastly_device_detection", "lookup", "mine", b.buf(3), o)
	b.want(abi.OK, "fastly_device_detection", "lookup", stPhone+strings.Repeat("x", 100<<10), buf, o)
}

func TestUAP(t *testing.T) {
	b := stNew(t, &wedge.Version{})
	parse := func(ua string, room int) (abi.Status, string) {
		var args []any
		var bufs []stBuf
		var ns []stOut
		args = append(args, ua)
		for range 4 {
			bufs, ns = append(bufs, b.buf(room)), append(ns, b.out4())
			args = append(args, bufs[len(bufs)-1], ns[len(ns)-1])
		}
		s := b.call("fastly_uap", "parse", args...)
		if s != abi.OK {
			return s, fmt.Sprint(b.u32(ns[0]), b.u32(ns[1]), b.u32(ns[2]), b.u32(ns[3]))
		}
		var values []string
		for i := range bufs {
			values = append(values, b.text(bufs[i], ns[i]))
		}
		return s, strings.Join(values, "/")
	}
	if s, got := parse(stChrome, 20); s != abi.OK || got != "Chrome/120/0/6099" {
		t.Errorf("%v %s", s, got)
	}
	if s, got := parse(stChrome, 3); s != abi.BufLen || got != "6 3 1 4" {
		t.Errorf("short buffers: %v %s", s, got)
	}
	if s, got := parse("curl", 20); s != abi.OK || !strings.HasSuffix(got, "///") {
		t.Errorf("%v %s", s, got)
	}
	if s, _ := parse(strings.Repeat("(", 100<<10)+"\xff\x00", 20); s != abi.OK {
		t.Errorf("a hostile user agent: %v", s)
	}
	b.want(abi.Inval, "fastly_uap", "parse", "x", stBuf{stOutside, 9}, 64, b.buf(4), 64, b.buf(4), 64, b.buf(4), 64)
}

func BenchmarkUserAgentUncached(b *testing.B) {
	p := userAgents()
	b.ResetTimer()
	for i := range b.N {
		p.ParseUserAgent(fmt.Sprint("Mozilla/5.0 (X11; Linux) unheard of/", i))
	}
}

// TestSettings: what was written to a config or secret store while the version runs holds, and the version where nothing was.
func TestSettings(t *testing.T) {
	b := stNew(t, &wedge.Version{
		ConfigStores: map[string]map[string]string{"c": {"k": "said", "other": "said"}, "fixed": {"k": "said"}},
		SecretStores: map[string]map[string]wedge.Secret{"s": {"k": wedge.Secret("hunter2"), "other": wedge.Secret("hunter3")}},
		Stores:       map[string]wedge.Store{"c": {}, "s": {}},
	})
	b.sb.Host.Setting = func(store, key string) ([]byte, bool, error) {
		if key == "broken" {
			return nil, false, errors.New("no key to open it")
		}
		return []byte("written to " + store), key == "k" || key == "new", nil
	}
	o, buf := b.out4(), b.buf(16)
	for _, module := range []string{"fastly_config_store", "fastly_dictionary"} {
		h, fixed := b.handle(module, "open", "c"), b.handle(module, "open", "fixed")
		for _, c := range []struct {
			h    uint32
			key  string
			want string
		}{{h, "k", "written to c"}, {h, "new", "written to c"}, {h, "other", "said"}, {fixed, "k", "said"}} {
			b.want(abi.OK, module, "get", c.h, c.key, buf, o)
			if got := b.text(buf, o); got != c.want {
				t.Errorf("%s of %d: %q", c.key, c.h, got)
			}
		}
		b.want(abi.None, module, "get", h, "nope", buf, o)
		b.want(abi.Error, module, "get", h, "broken", buf, o)
		b.want(abi.None, module, "get", fixed, "broken", buf, o)
	}
	const m = "fastly_secret_store"
	h := b.handle(m, "open", "s")
	for key, want := range map[string]string{"k": "written to s", "new": "written to s", "other": "hunter3"} {
		b.want(abi.OK, m, "plaintext", b.handle(m, "get", h, key), buf, o)
		if got := b.text(buf, o); got != want {
			t.Errorf("%s: %q", key, got)
		}
	}
	b.want(abi.None, m, "get", h, "nope", o)
	b.want(abi.Error, m, "get", h, "broken", o)
}
