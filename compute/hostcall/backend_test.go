package hostcall

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
)

// config lays out a dynamic_backend_config.
type config struct {
	g *guest
	b []byte
}

func (g *guest) config() *config { return &config{g, make([]byte, 108)} }

func (c *config) u32(off int, v uint32) *config {
	binary.LittleEndian.PutUint32(c.b[off:], v)
	return c
}

func (c *config) str(off int, s string) *config {
	return c.u32(off, c.g.lay([]byte(s))).u32(off+4, uint32(len(s)))
}

func selfSigned(t testing.TB) (cert, key string) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kder, _ := x509.MarshalECPrivateKey(k)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: kder}))
}

func TestDynamicBackend(t *testing.T) {
	cert, key := selfSigned(t)
	v := &wedge.Version{DynamicBackend: true, Limits: wedge.Limits{DynamicBackends: 50}, Backends: []wedge.Backend{staticBackend(t, "static", "http://h")}}
	g := newGuest(t, testHost(v))
	e := g.sb.State.(*exec)
	secret, _ := e.secrets.put(wedge.Secret(key))
	long := strings.Repeat("x", 1025)
	for i, c := range []struct {
		name, target string
		mask         int
		config       func(c *config)
		want         abi.Status
	}{
		{"plain", "example.com", 0, nil, abi.OK},
		{"plain", "example.com", 0, nil, abi.Error},
		{"static", "example.com", 0, nil, abi.Error},
		{"", "example.com", 0, nil, abi.Inval},
		{"v6", "[::1]:80", 0, nil, abi.OK},
		{"t1", "", 0, nil, abi.Inval},
		{"t2", "a b", 0, nil, abi.Inval},
		{"t3", "h:99999", 0, nil, abi.Inval},
		{"t4", "h:", 0, nil, abi.Inval},
		{"t5", "http://h", 0, nil, abi.Inval},
		{"t6", "u@h", 0, nil, abi.Inval},
		{"t7", "h/p", 0, nil, abi.Inval},
		{"t8", "[x]:1", 0, nil, abi.Inval},
		{"m1", "h", optReserved, nil, abi.Inval},
		{"m2", "h", 1 << 19, nil, abi.Inval},
		{"o1", "h", optHostOverride, func(c *config) { c.str(0, "") }, abi.Inval},
		{"o2", "h", optHostOverride, func(c *config) { c.str(0, long) }, abi.Inval},
		{"o3", "h", optHostOverride, func(c *config) { c.u32(0, 0xfffffff0).u32(4, 20) }, abi.Inval},
		{"o4", "h", optCertHostname, func(c *config) { c.str(28, "") }, abi.Inval},
		{"o5", "h", optSNI, func(c *config) { c.str(52, "") }, abi.OK},
		{"o6", "h", optSNI, func(c *config) { c.str(52, long) }, abi.Inval},
		{"o7", "h", optSSLMin, func(c *config) { c.u32(20, 4) }, abi.Inval},
		{"o8", "h", optSSLMin | optSSLMax, func(c *config) { c.u32(20, 3).u32(24, 2) }, abi.Inval},
		{"o9", "h", optCACert, func(c *config) { c.str(36, "no certificate") }, abi.Inval},
		{"o10", "h", optCACert, func(c *config) { c.str(36, cert) }, abi.OK},
		{"o11", "h", optClientCert, func(c *config) { c.str(60, cert).u32(68, 99) }, abi.BadHandle},
		{"o12", "h", optClientCert, func(c *config) { c.str(60, "no certificate").u32(68, secret) }, abi.Inval},
		{"o13", "h", optClientCert, func(c *config) { c.str(60, cert).u32(68, secret) }, abi.OK},
		{"h1", "h", optHealthcheck, func(c *config) { c.u32(104, 0xfffffff0) }, abi.Inval},
	} {
		cfg := g.config()
		if c.config != nil {
			c.config(cfg)
		}
		if s := g.call("fastly_http_req.register_dynamic_backend", c.name, c.target, c.mask, cfg.b); s != c.want {
			t.Errorf("%d %s: %v, want %v", i, c.name, s, c.want)
		}
	}
	if b := e.backends["o13"]; string(b.TLS.ClientKey) != key || fmt.Sprint(b.TLS.ClientKey) != "[secret]" {
		t.Error("client key lost or shown")
	}
	if !e.backends["o5"].TLS.NoSNI {
		t.Error("an empty SNI must mean none")
	}
}

// TestDynamicBackendReuse: in a sandbox that serves several requests a backend is there for the next one too, which may
// register it anew. What earlier requests registered gives way to what the one in hand does.
func TestDynamicBackendReuse(t *testing.T) {
	g := newGuest(t, testHost(&wedge.Version{DynamicBackend: true, Limits: wedge.Limits{DynamicBackends: 3}}))
	e, r := g.sb.State.(*exec), httptest.NewRequest("GET", "http://h/", nil)
	register := func(want abi.Status, names ...string) {
		t.Helper()
		for _, name := range names {
			if s := g.call("fastly_http_req.register_dynamic_backend", name, "example.com", 0, g.config().b); s != want {
				t.Errorf("%s: %v, want %v", name, s, want)
			}
		}
	}
	there := func(name string) uint32 {
		var is uint32
		g.ok("fastly_backend.exists", name, &is)
		return is
	}
	e.begin(newIncoming(r, func() error { return nil }, e.host.Rand))
	register(abi.OK, "a", "b")
	register(abi.Error, "a")
	e.begin(newIncoming(r, func() error { return nil }, e.host.Rand))
	if there("a") != 1 || there("b") != 1 {
		t.Error("the next request does not find them")
	}
	register(abi.OK, "a")
	register(abi.Error, "a")
	register(abi.OK, "c")
	if there("b") != 1 {
		t.Error("b is gone though there is room")
	}
	register(abi.OK, "d")
	if there("b") != 0 || there("a") != 1 {
		t.Error("b is not gone, or a is")
	}
	register(abi.LimitExceeded, "e")
}

func TestBackendCalls(t *testing.T) {
	v := &wedge.Version{DynamicBackend: true, Limits: wedge.Limits{DynamicBackends: 1}, Backends: []wedge.Backend{staticBackend(t, "static", "http://h:8080/p")}}
	host := testHost(v)
	host.Health = func(b *wedge.Backend) wedge.Health { return wedge.Unhealthy }
	g := newGuest(t, host)
	probe := make([]byte, 56)
	binary.LittleEndian.PutUint64(probe, 5000)
	binary.LittleEndian.PutUint32(probe[44:], 5)
	binary.LittleEndian.PutUint32(probe[48:], 3)
	c := g.config().str(0, "override").u32(8, 11).u32(12, 12).u32(16, 13).u32(20, 1).u32(24, 3).str(44, "AES").
		u32(72, 21).u32(76, 1).u32(80, 22).u32(84, 23).u32(88, 24).u32(92, 31).u32(96, 32).u32(100, 33).u32(104, g.lay(probe))
	mask := optHostOverride | optConnectTimeout | optFirstByteTimeout | optBetweenBytes | optUseSSL | optSSLMin | optSSLMax | optCiphers |
		optDontPool | optGRPC | optKeepalive | optPooling | optPreferIPv4 | optHealthcheck
	g.ok("fastly_http_req.register_dynamic_backend", "dyn", "origin.example:8443", mask, c.b)
	g.is(abi.LimitExceeded, "fastly_http_req.register_dynamic_backend", "more", "h", 0, raw(0))
	if b := g.sb.State.(*exec).backends["dyn"]; b.HealthCheck == nil || b.HealthCheck.Interval != 5*time.Second || !b.GRPC || !b.DontPool {
		t.Errorf("backend %+v", b)
	}
	for call, want := range map[string][2]int{ // static, dynamic; -1: none
		"exists": {1, 1}, "is_healthy": {2, 2}, "is_dynamic": {0, 1}, "is_ssl": {0, 1},
		"get_connect_timeout_ms": {1000, 11}, "get_first_byte_timeout_ms": {15000, 12}, "get_between_bytes_timeout_ms": {10000, 13},
		"get_http_keepalive_time": {60000, 21}, "get_tcp_keepalive_enable": {0, 1}, "get_tcp_keepalive_interval": {0, 22},
		"get_tcp_keepalive_probes": {0, 23}, "get_tcp_keepalive_time": {0, 24}, "get_ssl_min_version": {-1, 1}, "get_ssl_max_version": {-1, 3},
		"get_max_connections": {0, 31}, "get_max_use": {0, 32}, "get_max_lifetime_ms": {0, 33}, "is_ipv6_preferred": {1, 0},
	} {
		for i, name := range []string{"static", "dyn"} {
			var v uint32
			if want[i] < 0 {
				g.is(abi.None, "fastly_backend."+call, name, &v)
			} else if g.ok("fastly_backend."+call, name, &v); int(v) != want[i] {
				t.Errorf("%s %s: %d, want %d", name, call, v, want[i])
			}
		}
		if call != "exists" {
			g.is(abi.Inval, "fastly_backend."+call, "nobody", new(uint32))
		}
	}
	var n uint32
	g.is(abi.None, "fastly_backend.get_override_host", "static", make([]byte, 9), &n)
	var port uint16
	g.ok("fastly_backend.get_port", "dyn", &port)
	if h, o := g.text("fastly_backend.get_host", "dyn"), g.text("fastly_backend.get_override_host", "dyn"); h != "origin.example" || o != "override" || port != 8443 {
		t.Errorf("%s %s %d", h, o, port)
	}
	g.is(abi.BufLen, "fastly_backend.get_host", "dyn", make([]byte, 2), &n)
	if g.ok("fastly_backend.exists", "nobody", &n); n != 0 {
		t.Error("nobody exists")
	}
	g.is(abi.Inval, "fastly_backend.exists", "\xff", &n)

	g = newGuest(t, testHost(&wedge.Version{}))
	g.is(abi.Unsupported, "fastly_http_req.register_dynamic_backend", "dyn", "h", 0, raw(0))
}

func TestWebsocket(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || r.URL.Path == "/refuse" {
			w.WriteHeader(403)
			fmt.Fprint(w, "no")
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Saw: %s %s %s %s\r\n\r\n",
			r.URL.Path, r.Host, r.Header.Get("Sec-WebSocket-Key"), r.Header.Get("X-Own"))
		rw.Flush()
		io.Copy(conn, rw) // echo
	}))
	defer backend.Close()
	v := &wedge.Version{Backends: []wedge.Backend{staticBackend(t, "ws", backend.URL)}}
	f := serve(t, v, func(g *guest) error {
		req, _ := g.downstream()
		if strings.HasSuffix(g.text("fastly_http_req.uri_get", req), "/v1") {
			g.is(abi.Inval, "fastly_http_req.redirect_to_websocket_proxy", "nobody")
			g.ok("fastly_http_req.redirect_to_websocket_proxy", "ws")
		} else if strings.HasSuffix(g.text("fastly_http_req.uri_get", req), "/v0") {
			g.is(abi.Inval, "fastly_http_req.upgrade_websocket", "nobody")
			g.ok("fastly_http_req.upgrade_websocket", "ws")
		} else {
			own := g.request("GET", "http://elsewhere/refuse", "X-Own", "yes", "Sec-WebSocket-Key", "forged", "Host", "forged")
			if strings.HasSuffix(g.text("fastly_http_req.uri_get", req), "/v2") {
				g.ok("fastly_http_req.uri_set", own, "http://elsewhere/moved")
			}
			g.ok("fastly_http_req.redirect_to_websocket_proxy_v2", own, "ws")
			g.ok("fastly_http_req.close", own)
		}
		g.is(abi.Error, "fastly_http_req.redirect_to_websocket_proxy", "ws")
		g.is(abi.Error, "fastly_http_resp.send_downstream", g.newResponse(), g.newBody(""), 1)
		return nil
	})
	for path, want := range map[string]string{"/v0": "/v0 front.example key ", "/v1": "/v1 front.example key ", "/v2": "/moved front.example key yes", "/no": ""} {
		conn, err := net.Dial("tcp", f.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: front.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: key\r\n\r\n", path)
		in := bufio.NewReader(conn)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want == "" {
			if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 403 || string(b) != "no" {
				t.Errorf("refusal: %d %q", resp.StatusCode, b)
			}
			conn.Close()
			continue
		}
		if resp.StatusCode != 101 || resp.Header.Get("X-Saw") != strings.TrimSpace(want) {
			t.Errorf("%s: %d, backend saw %q", path, resp.StatusCode, resp.Header.Get("X-Saw"))
		}
		io.WriteString(conn, "ping")
		buf := make([]byte, 4)
		if _, err := io.ReadFull(in, buf); err != nil || string(buf) != "ping" {
			t.Errorf("%s: echo %q, %v", path, buf, err)
		}
		conn.Close()
	}
	waitFor(t, func() bool { return f.h.Running() == 0 })
}
