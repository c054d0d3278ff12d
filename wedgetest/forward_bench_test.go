package wedgetest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
)

// BenchmarkForward: a body of a GiB through a guest that only forwards it, beside the standard library's proxy
// for the same origin and client. What counts is the ratio within a run.
func BenchmarkForward(b *testing.B) {
	const size = 1 << 30
	n := jsNode(b)
	origin, err := url.Parse(world.origin.URL)
	if err != nil {
		b.Fatal(err)
	}
	proxy := httptest.NewServer(httputil.NewSingleHostReverseProxy(origin))
	defer proxy.Close()
	for _, to := range []struct{ name, url string }{{"proxy", proxy.URL}, {"js", n.URL}} {
		b.Run(to.name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				resp, err := n.Client.Get(fmt.Sprintf("%s/big?n=%d", to.url, size))
				if err != nil {
					b.Fatal(err)
				}
				got, err := io.Copy(io.Discard, resp.Body)
				if resp.Body.Close(); got != size || err != nil || resp.StatusCode != http.StatusOK {
					b.Fatalf("%d bytes came, %v", got, err)
				}
			}
		})
	}
}
