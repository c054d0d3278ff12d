package backend

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

// TestManyAtOnce lets callers of all kinds contend for few connections: none may hang,
// get another's answer or leave a connection behind.
func TestManyAtOnce(t *testing.T) {
	for _, c := range []struct {
		name    string
		streams int // 0: HTTP/1.1
		cfg     Config
	}{
		{"http1", 0, Config{}},
		{"http1, node full", 0, Config{MaxConnections: 4}},
		{"http2", 100, Config{}},
		{"http2, one stream", 1, Config{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.Copy(w, r.Body)
				io.WriteString(w, r.URL.Path)
			}))
			s.Config.Protocols = new(http.Protocols)
			s.Config.Protocols.SetHTTP1(true)
			s.Config.Protocols.SetUnencryptedHTTP2(true)
			s.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: max(c.streams, 1)}
			s.Start()
			defer s.Close()
			tr := newTransport(t, c.cfg)
			var wg sync.WaitGroup
			for i := range 24 {
				wg.Go(func() {
					b := static(t, s.URL)
					b.GRPC = c.streams > 0
					b.MaxConnections = 3
					b.MaxUse = i % 3 * 10 // three pools
					b.ConnectTimeout = 20 * time.Second
					for j := range 40 {
						oneOfMany(t, tr, b, fmt.Sprint("/", i, "/", j))
					}
				})
			}
			wg.Wait()
			eventually(t, "all idle", func() bool { st := tr.Stats(); return st.Open == st.Idle && st.Waiting == 0 })
			if st := tr.Stats(); st.Open > 9 {
				t.Errorf("%d open", st.Open)
			}
			tr.closeIdle(nil)
			eventually(t, "all closed", func() bool { return tr.Stats().Open == 0 })
		})
	}
}

func oneOfMany(t *testing.T, tr *Transport, b *wedge.Backend, path string) {
	ctx, cancel := context.WithCancel(wedge.WithBackend(t.Context(), b))
	defer cancel()
	kind := rand.N(4)
	if kind == 0 {
		time.AfterFunc(rand.N(time.Millisecond), cancel)
	}
	req, _ := http.NewRequestWithContext(ctx, "POST", "http://h"+path, strings.NewReader("body"))
	resp, err := tr.RoundTrip(req)
	if err != nil {
		if kind != 0 {
			t.Error(err)
		}
		return
	}
	defer resp.Body.Close()
	if kind == 1 {
		return // closed unread
	}
	body, err := io.ReadAll(resp.Body)
	if kind != 0 && (err != nil || string(body) != "body"+path) {
		t.Errorf("%s: got %q, %v", path, body, err)
	}
}

// TestTLSConnectionsAreReused guards against taking what TLS itself sends for surplus.
func TestTLSConnectionsAreReused(t *testing.T) {
	s, ca := tlsOrigin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }), false, nil, "127.0.0.1")
	tr := newTransport(t, Config{})
	b := static(t, s.URL)
	b.TLS.CACertificate = ca
	b.ConnectTimeout = 5 * time.Second
	for range 10 {
		get(t, tr, b)
		eventually(t, "idle", func() bool { return tr.Stats().Idle == 1 })
	}
	if st := tr.Stats(); st.Dials != 1 || st.Poisoned != 0 {
		t.Errorf("%d dials, %d poisoned", st.Dials, st.Poisoned)
	}
}

// TestSurplusUnderLoad: what an origin sends behind a long body has come before the next request is written, and
// many wait to write theirs.
func TestSurplusUnderLoad(t *testing.T) {
	const size = 60_000
	evil := "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	all := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s%s", size, strings.Repeat("x", size), evil)
	b := static(t, "http://"+rawOrigin(t, func(_ int, c net.Conn) {
		br := bufio.NewReader(c)
		for readHead(br) {
			io.WriteString(c, all)
		}
	}))
	tr := newTransport(t, Config{})
	b.MaxConnections, b.ConnectTimeout = 4, time.Minute // who waits for one of the four waits as long as it takes
	var evils atomic.Int64
	var w sync.WaitGroup
	for range 32 {
		w.Go(func() {
			for range 100 {
				req, _ := http.NewRequestWithContext(wedge.WithBackend(t.Context(), b), "GET", "http://h/", nil)
				resp, err := tr.RoundTrip(req)
				if err != nil {
					t.Error(err)
					return
				}
				body, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if len(body) == 4 {
					evils.Add(1)
				}
			}
		})
	}
	w.Wait()
	if n := evils.Load(); n > 0 {
		t.Errorf("surplus became an answer %d times of 3200", n)
	}
	if tr.Stats().Poisoned == 0 {
		t.Error("no surplus was found")
	}
}
