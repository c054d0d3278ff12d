package hostcall

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/backend"
	"github.com/wedge-cloud/wedge/compute"
)

// handleNames are what the ABI calls a first parameter that is a handle.
var handleNames = []string{"h", "req", "handle", "store", "secret", "acl", "dest", "hs"}

func takesHandle(d *abi.Def) bool {
	if strings.HasPrefix(d.Module, "wasi") || len(d.Params) == 0 {
		return false
	}
	p := d.Params[0]
	return (p.Shape == abi.Value || p.Shape == abi.List) && (slices.Contains(handleNames, p.Name) || strings.HasSuffix(p.Name, "_handle"))
}

// sound returns arguments of which none but the handle is at fault.
func sound(d *abi.Def, handle uint32) (args []any) {
	for i, p := range d.Params {
		switch {
		case p.Shape == abi.List:
			args = append(args, []uint32{handle})
		case i == 0:
			args = append(args, handle)
		case p.Shape == abi.Str:
			args = append(args, "b")
		case p.Shape == abi.Buf:
			args = append(args, make([]byte, 64))
		case p.Shape == abi.Out16:
			args = append(args, new([16]byte))
		case p.Shape == abi.Struct:
			args = append(args, make([]byte, 112))
		case p.Shape == abi.Out:
			args = append(args, map[int]any{2: new(uint16), 4: new(uint32), 8: new(uint64)}[p.Width])
		default:
			args = append(args, 0)
		}
	}
	return args
}

// TestBadHandles: every call that takes a handle says badf of one that was never given out, of the number that stands for none,
// and of one that was closed.
func TestBadHandles(t *testing.T) {
	caching(t, func(t *testing.T, g *guest) {
		g.ok("fastly_http_req.close", g.newRequest())
		g.ok("fastly_http_body.close", g.newBody(""))
		const closed = 0 // both: tables count from there
		tried := 0
		for d := range table4test() {
			if !takesHandle(d) {
				continue
			}
			tried++
			for _, h := range []uint32{77, closed, abi.InvalidHandle} {
				g.top = (g.top + 3) &^ 3 // a struct that is not aligned would be the fault
				if s := g.call(d.String(), sound(d, h)...); s != abi.BadHandle {
					t.Errorf("%s of handle %d: %v", d, int32(h), s)
				}
			}
		}
		if tried < 170 {
			t.Errorf("only %d calls take a handle", tried)
		}
	})
}

// short makes a call whose last parameters are a buffer and *nwritten with a buffer that is a byte too short: it must say buflen, and
// how long one must be.
func (g *guest) short(name string, args ...any) {
	g.t.Helper()
	want, n := g.text(name, args...), uint32(0)
	if want == "" {
		g.t.Errorf("%s gives nothing", name)
		return
	}
	g.is(abi.BufLen, name, append(args[:len(args):len(args)], make([]byte, len(want)-1), &n)...)
	if int(n) != len(want) {
		g.t.Errorf("%s: needs %d bytes, says %d", name, len(want), n)
	}
}

// shortMany does likewise with a call that gives many values, the first of which does not fit.
func (g *guest) shortMany(name string, args ...any) {
	g.t.Helper()
	first, n, end := g.many(name, args...)[0], uint32(0), int64(0)
	g.is(abi.BufLen, name, append(args[:len(args):len(args)], make([]byte, len(first)), 0, &end, &n)...)
	if int(n) != len(first)+1 {
		g.t.Errorf("%s: needs %d bytes, says %d", name, len(first)+1, n)
	}
}

func TestBufferLengths(t *testing.T) {
	caching(t, func(t *testing.T, g *guest) {
		for _, kind := range []string{"fastly_http_req.", "fastly_http_resp."} {
			var h uint32
			g.ok(kind+"new", &h)
			g.ok(kind+"header_append", h, "x-name", "value")
			g.shortMany(kind+"header_names_get", h)
			g.shortMany(kind+"header_values_get", h, "x-name")
			g.short(kind+"header_value_get", h, "x-name")
		}
		body := g.newBody("")
		g.ok("fastly_http_body.trailer_append", body, "sum", "42")
		g.readAll(body)
		g.shortMany("fastly_http_body.trailer_names_get", body)
		g.shortMany("fastly_http_body.trailer_values_get", body, "sum")
		g.short("fastly_http_body.trailer_value_get", body, "sum")

		g.ok("fastly_cache.insert", "k", writeMetadata, g.fields(64, map[int]any{0: time.Minute, 56: "meta", 60: uint32(4)}), &body)
		g.finish(body, "v")
		var replace uint32
		g.ok("fastly_cache.replace", "k", 0, raw(0), &replace)
		g.short("fastly_cache.replace_get_user_metadata", replace)
		g.ok("fastly_cache.replace", "nothing there", 0, raw(0), &replace)
		g.is(abi.None, "fastly_cache.replace_get_user_metadata", replace, make([]byte, 9), new(uint32))

		h := g.lookFor(g.request("GET", "http://h/", "A", "1"), 8)
		prepared := g.prepare(h, g.backendSays(200, "Cache-Control", "max-age=60", "Vary", "A", "Surrogate-Key", "s1"), wedge.CacheInsert)
		g.ok("fastly_http_cache.transaction_insert", h, prepared, httpKeys, g.fields(56, map[int]any{0: time.Minute, 32: "s1"}), &body)
		g.finish(body, "v")
		h = g.lookFor(g.request("GET", "http://h/", "A", "1"), 3)
		g.short("fastly_http_cache.get_surrogate_keys", h)
	})
	u := staticBackend(t, "b", "http://h")
	u.HostOverride = "other.example"
	g := newGuest(t, testHost(&wedge.Version{Backends: []wedge.Backend{u}}))
	g.short("fastly_backend.get_override_host", "b")
	b := stKVBed(t, wedge.KVSeed{Key: "k", Value: []byte("v"), Metadata: "meta"})
	n := b.out4()
	h := b.handle(stKV, "lookup", b.handle(stKV, "open", "s"), "k", 0, 0)
	b.want(abi.BufLen, stKV, "lookup_wait_v2", h, b.out4(), b.buf(3), n, b.out4(), b.out4())
	if b.u32(n) != 4 {
		t.Errorf("metadata needs 4 bytes, the call says %d", b.u32(n))
	}
}

// serving lets f be the guest of a request, with TLS, a client's certificate and a fingerprint, or with none of these.
func serving(t *testing.T, secure bool, f func(g *guest)) {
	h := New(Config{Host: testHost(nil), Run: func(_ context.Context, sb *compute.Sandbox) error {
		f(play(t, sb))
		return nil
	}})
	c := wedge.Client{RequestID: strings.Repeat("ab", 16), HeaderNames: []string{"Host", "X-b"}}
	if secure {
		c.H2Fingerprint = "h2"
	}
	srv := httptest.NewUnstartedServer(withClient(h, c))
	defer srv.Close()
	if secure {
		srv.TLS = &tls.Config{MaxVersion: tls.VersionTLS12, ClientAuth: tls.RequireAnyClientCert}
		srv.StartTLS()
		own := srv.Client().Transport.(*http.Transport).TLSClientConfig
		own.ServerName, own.Certificates = "example.com", srv.TLS.Certificates
	} else {
		srv.Start()
	}
	resp, err := srv.Client().Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// TestMetadataStatuses asks for all that can be known of a downstream request, by both forms of each call: too short a
// buffer, and a request that no client sent.
func TestMetadataStatuses(t *testing.T) {
	texts := []string{"client_request_id", "compliance_region"}
	overTLS := []string{"client_h2_fingerprint", "tls_cipher_openssl_name", "tls_protocol", "tls_client_hello", "tls_client_servername", "tls_ja4", "tls_raw_client_certificate"}
	for _, secure := range []bool{false, true} {
		serving(t, secure, func(g *guest) {
			req, _ := g.downstream()
			for _, name := range append(texts[:len(texts):len(texts)], overTLS...) {
				if !secure && slices.Contains(overTLS, name) {
					g.is(abi.None, "fastly_http_req.downstream_"+name, make([]byte, 9), new(uint32))
					g.is(abi.None, "fastly_http_downstream.downstream_"+name, req, make([]byte, 9), new(uint32))
					continue
				}
				g.short("fastly_http_req.downstream_" + name)
				g.short("fastly_http_downstream.downstream_"+name, req)
			}
			tlsOnly := map[bool]abi.Status{true: abi.OK, false: abi.None}[secure]
			g.is(tlsOnly, "fastly_http_req.downstream_tls_ja3_md5", new([16]byte), new(uint32))
			g.is(tlsOnly, "fastly_http_req.downstream_tls_client_cert_verify_result", new(uint32))
			g.ok("fastly_http_req.downstream_client_ddos_detected", new(uint32))
			g.ok("fastly_http_req.fastly_key_is_valid", new(uint32))
			g.shortMany("fastly_http_req.original_header_names_get")
			g.shortMany("fastly_http_downstream.downstream_original_header_names", req)
			noneIsKnown(g, req)
		})
	}
}

// noneIsKnown makes the calls that have nothing to say, and all of them on a request of the guest's own.
func noneIsKnown(g *guest, req uint32) {
	own := g.newRequest()
	for d := range table4test() {
		text := strings.HasPrefix(reasons[d.String()], "always none")
		if number := strings.HasPrefix(reasons[d.String()], "always no:"); !text && !number && d.Module != "fastly_http_downstream" {
			continue
		}
		want := abi.OK
		if text {
			want = abi.None
		}
		if d.Params[0].Name != "req" {
			if text {
				g.is(want, d.String(), sound(d, 0)[0], new(uint32))
			}
			continue
		}
		if text {
			g.is(want, d.String(), sound(d, req)...)
		}
		g.is(abi.Error, d.String(), sound(d, own)...)
	}
}

// oddBackend answers each path with something that is no answer.
func oddBackend(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 4096)
				n, _ := c.Read(buf)
				switch path, _, _ := strings.Cut(strings.TrimPrefix(string(buf[:n]), "GET /"), " "); path {
				case "large":
					io.WriteString(c, "HTTP/1.1 200 OK\r\n"+strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 20)+"\r\n")
				case "status":
					io.WriteString(c, "HTTP/1.1 2xx OK\r\n\r\n")
				case "garbage":
					io.WriteString(c, "garbage\r\n\r\n")
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// TestSendStatuses provokes each status that a send can fail with, through the transport that nodes have, in every form
// of send.
func TestSendStatuses(t *testing.T) {
	v := &wedge.Version{Limits: wedge.Limits{Fetches: 1000}, Backends: []wedge.Backend{staticBackend(t, "odd", oddBackend(t)), staticBackend(t, "dead", "http://127.0.0.1:1"),
		staticBackend(t, "port", "http://127.0.0.1:99999")}}
	for i := range v.Backends {
		b := &v.Backends[i]
		b.ConnectTimeout, b.FirstByteTimeout, b.BetweenBytesTimeout = wedge.DefaultConnectTimeout, wedge.DefaultFirstByteTimeout, wedge.DefaultBetweenBytesTimeout
	}
	host := testHost(v)
	tr := backend.New(backend.Config{MaxHeaderBytes: 4096, Egress: backend.Egress{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = tr.Run(ctx) }()
	defer func() { stop(); <-ended }()
	host.Fetch = tr
	g := newGuest(t, host)
	for _, c := range []struct {
		backend, uri string
		want         abi.Status
	}{
		{"nobody", "http://h/", abi.Inval},
		{"dead", "http://h/", abi.Error},
		{"odd", "http://h/garbage", abi.HTTPInvalid},
		{"port", "http://h/", abi.HTTPUser},
		{"odd", "http://h/cut", abi.HTTPIncomplete},
		{"odd", "http://h/large", abi.HTTPHeadTooLarge},
		{"odd", "http://h/status", abi.HTTPInvalidStatus},
	} {
		ask := func() uint32 { return g.request("GET", c.uri) }
		var resp, body, pending, done uint32
		g.is(c.want, "fastly_http_req.send", ask(), g.newBody(""), c.backend, &resp, &body)
		for _, form := range []string{"send_v2", "send_v3"} {
			detail := make([]byte, 20)
			g.is(c.want, "fastly_http_req."+form, ask(), g.newBody(""), c.backend, detail, &resp, &body)
			if c.want != abi.Inval && (bytes.Equal(detail, make([]byte, 20)) || detail[0] == 1) {
				t.Errorf("%s of %s: no reason in the detail", form, c.uri)
			}
		}
		async := func() abi.Status {
			return g.call("fastly_http_req.send_async", ask(), g.newBody(""), c.backend, &pending)
		}
		if c.want == abi.Inval {
			g.is(c.want, "fastly_http_req.send_async_v2", ask(), g.newBody(""), c.backend, 0, &pending)
			g.is(c.want, "fastly_http_req.send_async_streaming", ask(), g.newBody(""), c.backend, &pending)
			if s := async(); s != c.want {
				t.Errorf("send_async: %v", s)
			}
			continue
		}
		async()
		g.is(c.want, "fastly_http_req.pending_req_wait", pending, &resp, &body)
		async()
		g.is(c.want, "fastly_http_req.pending_req_wait_v2", pending, make([]byte, 20), &resp, &body)
		async()
		g.ok("fastly_async_io.select", []uint32{pending}, 0, &done)
		g.is(c.want, "fastly_http_req.pending_req_poll_v2", pending, make([]byte, 20), &done, &resp, &body)
	}
}

func TestPurgeStatuses(t *testing.T) {
	h := testHost(&wedge.Version{Service: "shop"})
	g := newGuest(t, h)
	const call = "fastly_purge.purge_surrogate_key"
	g.is(abi.Unsupported, call, "k", 0, raw(0))
	failing := error(nil)
	h.Purge = func(wedge.Purge) error { return failing }
	g.ok(call, "k", 0, raw(0))
	for _, key := range []string{"", "two keys", "caf\xc3\xa9", strings.Repeat("k", wedge.MaxSurrogateKey+1)} {
		g.is(abi.Inval, call, key, 0, raw(0))
	}
	g.is(abi.Inval, call, "k", 4, raw(0))
	out := g.lay(make([]byte, 4))
	g.is(abi.BufLen, call, "k", 2, g.fields(12, map[int]any{0: out, 4: uint32(3), 8: out}))
	failing = io.ErrClosedPipe
	g.is(abi.Error, call, "k", 0, raw(0))
}
