package front

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// keptSocket is a listening socket that outlives the fronts it is given to.
type keptSocket struct{ *net.TCPListener }

func keepSocket(t *testing.T) keptSocket {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return keptSocket{l.(*net.TCPListener)}
}

func (k keptSocket) again(t *testing.T) net.Listener {
	t.Helper()
	f, err := k.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestSuccession: fronts follow each other at the same sockets, each beginning when its predecessor is calm. No request fails,
// also of those that no client may send again, and none is served by a front that was said to be calm.
func TestSuccession(t *testing.T) {
	ca := newAuthority(t)
	plain, secure := keepSocket(t), keepSocket(t)
	begin := func() (*running, *atomic.Bool) {
		calm := new(atomic.Bool)
		return run(t, Config{HTTPListeners: []net.Listener{plain.again(t)}, HTTPSListeners: []net.Listener{secure.again(t)},
			Certificates: []CertificateFiles{ca.issue(t, "a", "a.example")}}, everything(func(w http.ResponseWriter, r *http.Request) {
			if calm.Load() {
				t.Error("a request came to a front that is calm")
			}
			io.Copy(w, r.Body)
		})), calm
	}
	now, calm := begin()
	stop := make(chan struct{})
	var served atomic.Int64
	var wg sync.WaitGroup
	for i := range 12 {
		proto, addr, scheme := []string{"1", "h2c", "2", "1"}[i%4], plain.Addr().String(), "http"
		if i%4 > 1 {
			addr, scheme = secure.Addr().String(), "https"
		}
		c := client(t, addr, proto, &tls.Config{RootCAs: ca.pool})
		if i >= 8 {
			c.Transport.(*http.Transport).DisableKeepAlives = true
		}
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				var body io.Reader = strings.NewReader("once")
				if proto == "1" {
					body = io.MultiReader(body) // it cannot be sent again
				} // with HTTP/2 clients know which requests were ignored, and send them again
				resp, err := c.Post(scheme+"://a.example/", "", body)
				if err != nil {
					t.Errorf("%s: %v", proto, err)
					return
				}
				b, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if string(b) != "once" || err != nil {
					t.Errorf("%s: %d %q, %v", proto, resp.StatusCode, b, err)
					return
				}
				served.Add(1)
			}
		})
	}
	for range 8 {
		seen := served.Load()
		waitFor(t, "requests", func() bool { return served.Load() > seen+50 })
		began := time.Now()
		now.stop()
		<-now.Calm()
		calm.Store(true)
		t.Logf("calm after %v", time.Since(began))
		now, calm = begin()
	}
	close(stop)
	wg.Wait()
	t.Logf("%d requests", served.Load())
}
