package backend

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/wedge-cloud/wedge"
)

// BenchmarkRoundTrip sets Transport against a bare http.Transport at the same origin.
func BenchmarkRoundTrip(b *testing.B) {
	payload := make([]byte, 1024)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(payload) }))
	defer s.Close()
	wedged := newTransport(b, Config{})
	bare := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}
	defer bare.CloseIdleConnections()
	for _, c := range []struct {
		name string
		rt   http.RoundTripper
	}{{"bare", bare}, {"wedge", wedged}} {
		origin := static(b, s.URL)
		run := func(b *testing.B) {
			ctx := wedge.WithBackend(b.Context(), origin)
			req, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/", nil)
			if err != nil {
				b.Error(err)
				return
			}
			resp, err := c.rt.RoundTrip(req)
			if err != nil {
				b.Error(err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				run(b)
			}
		})
		b.Run(c.name+"/parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					run(b)
				}
			})
		})
	}
}
