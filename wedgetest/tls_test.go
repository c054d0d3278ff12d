package wedgetest

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/wedge-cloud/wedge/front"
	"github.com/wedge-cloud/wedge/node"
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

// TestClientCertificate: a guest gets the certificate that its client shows, and shows one itself where a
// backend asks for it.
func TestClientCertificate(t *testing.T) {
	cert := NewCertificate(t)
	n := Start(t, App{Guest: JSGuest(t, Guest("js")), Manifest: bindings()}, WithTLS(cert), func(cfg *node.Config) {
		cfg.ClientCert, cfg.ClientCAs = front.ClientCertRequest, cert.Pool
	})
	o := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, len(r.TLS.PeerCertificates)) }))
	o.TLS = &tls.Config{Certificates: []tls.Certificate{cert.TLS}, ClientAuth: tls.RequireAnyClientCert}
	o.Config.ErrorLog = log.New(io.Discard, "", 0)
	o.StartTLS()
	defer o.Close()

	c := TLSClient(cert, false)
	defer c.CloseIdleConnections()
	c.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{cert.TLS}
	req, _ := http.NewRequest(http.MethodGet, n.TLS+"/client", nil)
	pem, err := os.ReadFile(cert.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	if got := decode[map[string]any](t, Do(t, c, req)); got["cert"] != float64(len(pem)) {
		t.Errorf("the certificate has %d bytes, the guest was told %v", len(pem), got["cert"])
	}
	key, err := os.ReadFile(cert.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	shown, _ := json.Marshal(map[string]string{"cert": string(pem), "key": string(key)})
	n.Do(t, "POST", "/mtls?target="+url.QueryEscape(o.Listener.Addr().String()), bytes.NewReader(shown)).is(t, 200, `["1","NetworkError"]`)
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
