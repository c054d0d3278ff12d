package front

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestReload swaps tables under load: no request may fail, see two versions, or be served by
// a version that was said to have ended.
func TestReload(t *testing.T) {
	f := run(t, Config{}, nil)
	type version struct{ ended atomic.Bool }
	build := func(n int) (*Table, *version) {
		v := &version{}
		return table(t, n, everything(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%d-", n)
			w.(http.Flusher).Flush()
			if v.ended.Load() {
				panic(http.ErrAbortHandler)
			}
			fmt.Fprintf(w, "%d", n)
		})), v
	}
	tab, current := build(0)
	f.Swap(tab)
	stop := make(chan struct{})
	var served atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		c := client(t, f.http, []string{"1", "h2c"}[i%2], nil)
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, body := get(t, c, "http://a/")
				before, after, _ := strings.Cut(body, "-")
				if resp.StatusCode != 200 || before != after {
					t.Errorf("got %d %q", resp.StatusCode, body)
					return
				}
				served.Add(1)
			}
		})
	}
	for n := 1; n <= 100; n++ {
		tab, next := build(n)
		<-f.Swap(tab)
		current.ended.Store(true)
		current = next
	}
	waitFor(t, "requests", func() bool { return served.Load() > 100 })
	close(stop)
	wg.Wait()
}

func TestSwapWaitsForRequests(t *testing.T) {
	gate, entered := make(chan struct{}), make(chan struct{}, 1)
	f := run(t, Config{}, everything(func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-gate
		io.WriteString(w, "old")
	}))
	got := make(chan string)
	go func() {
		_, body := get(t, client(t, f.http, "1", nil), "http://a/")
		got <- body
	}()
	<-entered
	ended := f.Swap(table(t, 2, everything(reply("new"))))
	if _, body := get(t, client(t, f.http, "1", nil), "http://a/"); body != "new" {
		t.Errorf("got %q after the swap", body)
	}
	select {
	case <-ended:
		t.Error("ended while a request was on it")
	default:
	}
	close(gate)
	if body := <-got; body != "old" {
		t.Errorf("got %q from before the swap", body)
	}
	<-ended
	<-f.Swap(nil)
}

func TestDrain(t *testing.T) {
	ca := newAuthority(t)
	gate, entered := make(chan struct{}), make(chan struct{}, 2)
	f := run(t, Config{Certificates: []CertificateFiles{ca.issue(t, "a", "a.example")}}, everything(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			entered <- struct{}{}
			<-gate
		}
		io.WriteString(w, "done")
	}))
	kept, idle := dial(t, f.http), dial(t, f.http)
	keptBuf := bufio.NewReader(kept)
	for _, c := range []net.Conn{kept, idle} {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	}
	response(t, keptBuf)
	response(t, bufio.NewReader(idle))
	bodies := make(chan string, 2)
	h2 := client(t, f.https, "2", &tls.Config{RootCAs: ca.pool})
	for _, do := range []func() (*http.Response, string){
		func() (*http.Response, string) { return get(t, client(t, f.http, "1", nil), "http://a.example/slow") },
		func() (*http.Response, string) { return get(t, h2, "https://a.example/slow") },
	} {
		go func() { _, body := do(); bodies <- body }()
		<-entered
	}
	f.stop()
	waitFor(t, "the listener to close", func() bool {
		c, err := net.Dial("tcp", f.http)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	io.WriteString(kept, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if resp, body := response(t, keptBuf); resp.StatusCode != 200 || body != "done" || !resp.Close {
		t.Errorf("kept-alive connection got %d %q, close %v", resp.StatusCode, body, resp.Close)
	}
	select {
	case err := <-f.ended:
		t.Fatalf("ended with requests in flight: %v", err)
	default:
	}
	close(gate)
	for range 2 {
		if body := <-bodies; body != "done" {
			t.Errorf("request in flight got %q", body)
		}
	}
	if err := <-f.ended; err != nil {
		t.Error(err)
	}
	if b, err := idle.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("idle connection read %d, %v", b, err)
	}
	if s := f.Stats(); s.InFlight != 0 || s.OpenConnections != 0 {
		t.Errorf("%+v", s)
	}
}

// TestDrainServesFresh: a client that connected just before the drain is still served.
func TestDrainServesFresh(t *testing.T) {
	f := run(t, Config{}, everything(reply("ok")))
	c := dial(t, f.http)
	waitFor(t, "the connection", func() bool { return f.Stats().OpenConnections == 1 })
	f.stop()
	waitFor(t, "draining", f.draining.Load)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if resp, body := response(t, bufio.NewReader(c)); body != "ok" || !resp.Close {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
	if err := <-f.ended; err != nil {
		t.Error(err)
	}
}

func TestDrainTimeoutCuts(t *testing.T) {
	var ended atomic.Int64
	f := run(t, Config{DrainTimeout: 50 * time.Millisecond}, everything(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hijack" {
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
			return // the connection goes on without the handler
		}
		w.WriteHeader(200)
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
		ended.Add(1)
	}))
	old := f.current.Load()
	conns := []net.Conn{dial(t, f.http), dial(t, f.http)}
	for i, path := range []string{"/wait", "/hijack"} {
		io.WriteString(conns[i], "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
		conns[i].Read(make([]byte, 10))
	}
	waitFor(t, "both", func() bool { return f.Stats().Hijacked == 1 && f.Stats().InFlight == 2 })
	after := f.Swap(nil)
	select {
	case <-after:
		t.Error("table ended with a hijacked connection on it")
	default:
	}
	f.stop()
	if err := <-f.ended; err != nil {
		t.Error(err)
	}
	<-old.ended
	for _, c := range conns {
		if _, err := io.Copy(io.Discard, c); errors.Is(err, context.DeadlineExceeded) {
			t.Error("connection was not cut")
		}
	}
	if s := f.Stats(); s.InFlight != 0 || ended.Load() != 1 {
		t.Errorf("%+v", s)
	}
}
