package node

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

// plainly is an origin whose answers have all that HTTP knows.
func plainly(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		switch r.URL.Path {
		case "/cut":
			h.Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/trailer":
			h.Set("Trailer", "Sum")
			_, _ = io.WriteString(w, "text")
			h.Set("Sum", "42")
			return
		case "/empty":
			w.WriteHeader(http.StatusNoContent)
			return
		case "/stuck":
			h.Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		h.Set("Cache-Control", "max-age=60")
		h.Set("X-Proto", r.Header.Get("X-Forwarded-Proto")+" "+r.Header.Get("User-Agent"))
		http.ServeContent(w, r, "page.txt", time.Unix(1_700_000_000, 0), strings.NewReader(strings.Repeat("0123456789", 20_000)))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestThroughPeers: what comes from a shield, or from a service at another PoP, is what would have come without.
func TestThroughPeers(t *testing.T) {
	l := newPeerLab(t)
	origin := plainly(t)
	direct, shop := proxyTo(t, "direct", origin), proxyTo(t, "shop", origin)
	shop.Version.Backends[0].ShieldPoP = "fra1"
	direct.Version.Backends[0].BetweenBytesTimeout, shop.Version.Backends[0].BetweenBytesTimeout = 200*time.Millisecond, 200*time.Millisecond
	calls := proxyTo(t, "calls", "http://back.wedge.internal")
	for _, name := range []string{"fra1", "lhr1"} {
		l.start(wedge.PoP{Name: name}, direct, shop, calls)
	}
	l.meet()
	back := proxyTo(t, "back", origin)
	at := "lhr1"
	if l.release(&back.Version) == at {
		at = "fra1" // the shield of shop then is no other PoP, which the calls are from
	}
	plain, _ := l.nodes["lhr1"].Addrs()
	caller, _ := l.nodes[at].Addrs()
	for _, c := range []struct {
		method, path string
		lines        []string
	}{
		{"GET", "/page", nil}, {"GET", "/page", nil}, {"HEAD", "/page", nil}, {"HEAD", "/head", nil}, {"GET", "/part", []string{"Range", "bytes=5-14"}},
		{"GET", "/same", []string{"If-Modified-Since", time.Unix(1_700_000_000, 0).UTC().Format(http.TimeFormat)}}, {"GET", "/empty", nil},
		{"GET", "/trailer", nil}, {"GET", "/cut", nil}, {"GET", "/stuck", nil}, {"POST", "/post", nil}, {"GET", "/agent", []string{"User-Agent", ""}},
	} {
		get := func(addr, host string) (status int, body string, h http.Header, trailer string, err error) {
			req, _ := http.NewRequestWithContext(t.Context(), c.method, "http://"+addr+c.path, nil)
			req.Host = host
			for i := 0; i < len(c.lines); i += 2 {
				req.Header.Set(c.lines[i], c.lines[i+1])
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			return resp.StatusCode, string(b), resp.Header, resp.Trailer.Get("Sum"), err
		}
		status, body, h, trailer, err := get(plain[0].String(), "direct.example")
		for host, addr := range map[string]string{"shop.example": plain[0].String(), "calls.example": caller[0].String()} {
			if host == "calls.example" && c.path == "/stuck" {
				continue // a call has no such timeout
			}
			s, b, g, tr, e := get(addr, host)
			if s != status || b != body || tr != trailer || (e == nil) != (err == nil) {
				t.Errorf("%s %s of %s: %d, %d bytes, trailer %q, %v; without %d, %d bytes, %q, %v", c.method, c.path, host, s, len(b), tr, e, status, len(body), trailer, err)
			}
			for _, name := range []string{"Content-Length", "Content-Type", "Content-Range", "Last-Modified", "X-Proto"} {
				if g.Get(name) != h.Get(name) {
					t.Errorf("%s %s of %s: %s is %q, without %q", c.method, c.path, host, name, g.Get(name), h.Get(name))
				}
			}
		}
	}
}

// FuzzErrand: whatever a peer says, it gets an answer, and nothing breaks.
func FuzzErrand(f *testing.F) {
	for _, e := range []errand{{}, {Service: "shop"}, {Service: "shop", Backend: "origin", Scheme: "http", Key: []byte{0xff}, Keys: []string{"a b"}},
		{Service: "shop", Purges: []wirePurge{{ID: "1", Service: "shop", URL: []byte("http://a/")}}}} {
		b, err := json.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Fuzz(func(t *testing.T, word string) {
		n := &Node{fleet: &fleet{peers: &peers{pops: &popMap{seen: map[string]wedge.PoP{}}}}}
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "https://x/", nil)
		if e, ok := readErrand(word); ok {
			for i := range e.Purges {
				if p, err := e.Purges[i].purge(); err == nil && (p.ID == "" || p.Service == "") {
					t.Errorf("%+v", p)
				}
			}
		}
		r.Header.Set(peerField, word)
		n.servePeer(w, r)
		if w.Code != http.StatusForbidden {
			t.Errorf("a stranger is answered %d", w.Code)
		}
	})
}

// TestUnsentBody: a body goes to one PoP or the next, never to both.
func TestUnsentBody(t *testing.T) {
	for _, read := range []bool{false, true} {
		closed := 0
		rc := closing{strings.NewReader("text"), func() { closed++ }}
		first := &unsent{rc: rc}
		if read {
			_, _ = first.Read(make([]byte, 2))
		}
		first.Close()
		if whole := first.keep(); whole == read {
			t.Errorf("read: %v, whole: %v", read, whole)
		}
		if n, err := first.Read(make([]byte, 9)); n > 0 && !read || err == nil && !read {
			t.Errorf("a body that was taken back gives %d bytes, %v", n, err)
		}
		if read != (closed == 1) {
			t.Errorf("read: %v, closed %d times", read, closed)
		}
	}
	closed := 0
	b := &unsent{rc: closing{strings.NewReader("text"), func() { closed++ }}}
	b.Close() // by a transport that answers before it reads
	b.pass()
	if closed != 1 {
		t.Errorf("closed %d times", closed)
	}
	var none *unsent
	none.pass()
	if !none.keep() {
		t.Error("no body is not whole")
	}
}

type closing struct {
	io.Reader
	f func()
}

func (c closing) Close() error { c.f(); return nil }

// TestPeerEnds: who leaves ends what it has asked for, and a peer that does not answer is not waited for.
func TestPeerEnds(t *testing.T) {
	l := newPeerLab(t)
	left := make(chan struct{})
	origin := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		close(left)
	}))
	defer origin.Close()
	shop := proxyTo(t, "shop", origin.URL)
	l.start(wedge.PoP{Name: "fra1"}, shop)
	l.start(wedge.PoP{Name: "lhr1"}, shop)
	l.meet()
	p := l.nodes["lhr1"].fleet.peers
	to, _ := p.pops.named("fra1")
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://shop.example/page", nil) // nothing that others may share
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "shop.example"
	fe := (*wedge.FetchError)(nil)
	if _, again, err := p.ask(req, &to, errand{Service: "shop", Backend: "origin", Origin: originOf(&shop.Version.Backends[0]), Scheme: "http"}, patience{first: 100 * time.Millisecond}); again || !errors.As(err, &fe) || fe.Failure != wedge.FailureResponseTimeout {
		t.Errorf("%v, again: %v", err, again)
	}
	<-left
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, again, err := p.ask(req.WithContext(ctx), &to, errand{Service: "shop"}, patience{}); again || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, again: %v", err, again)
	}
}
