package wedgetest

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestHTTPS: a guest on https gets the TLS metadata that SDKs insist on, over HTTP/1.1 and HTTP/2.
func TestHTTPS(t *testing.T) {
	cert := NewCertificate(t)
	for _, g := range []struct {
		name  string
		guest func() []byte
	}{
		{"go", func() []byte { return GoGuest(t, Guest("go")) }},
		{"js", func() []byte { return JSGuest(t, Guest("js")) }},
	} {
		t.Run(g.name, func(t *testing.T) {
			n := Start(t, App{Guest: g.guest(), Manifest: bindings()}, WithTLS(cert))
			for _, h2 := range []bool{false, true} {
				c := TLSClient(cert, h2)
				req, _ := http.NewRequest(http.MethodGet, n.TLS+"/hello", nil)
				Do(t, c, req).is(t, 200, "Hello, edge!\n")
				req, _ = http.NewRequest(http.MethodGet, n.TLS+"/client", nil)
				req.Host = "edge.test"
				got := decode[map[string]any](t, Do(t, c, req))
				protocol, _ := got["tls"].(string)
				if g.name == "js" {
					protocol, _ = got["protocol"].(string)
				}
				cipher, _ := got["cipher"].(string)
				hello, _ := got["hello"].(float64)
				ja4, _ := got["ja4"].(string)
				if protocol != "TLSv1.3" || !strings.HasPrefix(cipher, "TLS_") || got["sni"] != "edge.test" || hello < 100 || len(ja4) < 30 || got["cert"] != 0.0 && got["cert"] != nil {
					t.Errorf("h2=%v: the guest was told %v", h2, got)
				}
				req, _ = http.NewRequest(http.MethodPost, n.TLS+"/request", strings.NewReader("body"))
				req.Host = "edge.test"
				if r := Do(t, c, req); r.StatusCode != 200 || !strings.Contains(r.Text, "body") {
					t.Errorf("POST gives %d %s", r.StatusCode, r.Text)
				}
				c.CloseIdleConnections()
			}
		})
	}
}

// TestH2C: HTTP/2 without TLS does what HTTP/1.1 does.
func TestH2C(t *testing.T) {
	c := H2C()
	defer c.CloseIdleConnections()
	for _, n := range []*Node{jsNode(t), goNode(t)} {
		for path, want := range map[string]string{"/hello": "Hello, edge!\n", "/stream": "part 0\npart 1\npart 2\n", "/proxy": "hello from origin\n"} {
			req, _ := http.NewRequest(http.MethodGet, n.URL+path, nil)
			r := Do(t, c, req)
			if r.is(t, 200, want); r.ProtoMajor != 2 {
				t.Errorf("%s came over %s", path, r.Proto)
			}
		}
		long := strings.Repeat("x", 300_000)
		req, _ := http.NewRequest(http.MethodPost, n.URL+"/echo", io.MultiReader(strings.NewReader(long))) // no length
		Do(t, c, req).is(t, 200, long)
	}
}
