package node

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/front"
	"github.com/wedge-cloud/wedge/manifest"
)

// lines collects what a node says.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// take returns the access lines so far, without what differs by nature, and forgets them.
func (l *lines) take(t *testing.T) (all string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		var a front.Access
		if json.Unmarshal([]byte(line), &a) != nil || a.Proto == "" {
			continue
		}
		if len(a.RequestID) != 32 || a.Start.IsZero() || a.Duration <= 0 || a.Remote != "127.0.0.1" {
			t.Errorf("access line without all it should have: %s", line)
		}
		all += fmt.Sprintln(a.Method, a.Host, a.Path, a.Service, a.Version, a.Status, a.Bytes, a.Hijacked)
	}
	l.b.Reset()
	return all
}

// served is a node without a guest in front of an origin.
type served struct {
	*Node
	addr    string
	said    *lines
	version *wedge.Version           // what is deployed next
	dial    func() (net.Conn, error) // nil: addr, without TLS
}

func serveCDN(t *testing.T, origin string, cfg Config, profile wedge.CacheProfile) *served {
	t.Helper()
	return serve(t, cfg, &wedge.Version{Service: "shop", CacheProfile: profile, Hosts: []string{"shop.example", "*.wild.example"},
		Backends: []wedge.Backend{{Name: "origin", URL: parsed(t, origin), AllowPrivateAddr: true}}})
}

// serve serves what v is whenever it is deployed.
func serve(t *testing.T, cfg Config, v *wedge.Version) *served {
	t.Helper()
	s := &served{said: &lines{}, version: v}
	cfg.Load = One(func(context.Context) (*manifest.App, error) { return &manifest.App{Version: *s.version}, nil })
	cfg.HTTP, cfg.Ephemeral, cfg.JSON, cfg.Stderr = []string{"127.0.0.1:0"}, true, true, s.said
	started := make(chan *Node, 1)
	cfg.Started = func(n *Node) { started <- n }
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, cfg) }()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	select {
	case s.Node = <-started:
	case err := <-ended:
		t.Fatal(err)
	}
	plain, _ := s.Addrs()
	s.addr = plain[0].String()
	return s
}

// talk sends pieces, a write each, and returns what comes until the node closes the connection.
func (s *served) talk(t *testing.T, pieces ...string) string {
	t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	go func() {
		for i, p := range pieces {
			if i > 0 {
				time.Sleep(2 * time.Millisecond)
			}
			if _, err := io.WriteString(c, p); err != nil {
				return
			}
		}
	}()
	b, err := io.ReadAll(c)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		t.Errorf("the node neither answers nor closes after %q", pieces)
	}
	return string(b)
}

// aged is the Age of what was just fetched: there is none but when a second ends between the origin's answer and the client's.
var aged = regexp.MustCompile(`Age: \*\r\n((?:[^\r\n]+\r\n)*Cache-Status: [^\r\n]*; fwd=)`)

var volatile = regexp.MustCompile(`(?m)(^Date: |^Age: |; ttl=|\(?request |X-Request-Id: )[^\r\n;)]*`)

func steadied(s string) string {
	return aged.ReplaceAllString(volatile.ReplaceAllString(s, "$1*"), "$1")
}

// shop is an origin with responses of many kinds.
func shop(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "max-age=600")
	h.Set("Content-Type", "text/plain")
	h.Set("X-Path", r.URL.RequestURI())
	switch r.URL.Path {
	case "/missing":
		w.WriteHeader(404)
	case "/moved":
		h.Set("Location", "/there")
		h.Del("Content-Type")
		w.WriteHeader(301)
		return
	case "/none":
		w.WriteHeader(204)
		return
	case "/tagged":
		h.Set("Etag", `"v1"`)
		h.Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		h.Set("Surrogate-Key", "a b")
		h.Set("Surrogate-Control", "max-age=60")
		h.Add("Link", "</a>; rel=preload")
		h.Add("Link", "</b>; rel=preload")
		h.Set("Cache-Status", "origin; hit")
		h.Set("Via", "1.1 origin")
		h.Set("Aaa", "before Age")
		h.Set("Zzz", "last")
	case "/vary":
		h.Set("Vary", "Accept-Encoding")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			h.Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			io.WriteString(z, "packed")
			z.Close()
			return
		}
	case "/vary-agent":
		h.Set("Vary", "User-Agent, Accept")
		io.WriteString(w, r.UserAgent())
	case "/untyped":
		h["Content-Type"] = nil
		h.Set("Content-Encoding", "identity")
	case "/private":
		h.Set("Cache-Control", "private")
	case "/big":
		io.WriteString(w, strings.Repeat("0123456789abcdef", 4096))
	case "/huge":
		io.WriteString(w, strings.Repeat("0123456789abcdef", 66<<10))
	case "/chunked":
		io.WriteString(w, "one,")
		w.(http.Flusher).Flush()
		io.WriteString(w, "two")
		return
	case "/empty":
		return
	}
	fmt.Fprintf(w, "this is %s of %s\n", r.URL.RequestURI(), r.Host)
}

// known are what is warmed.
var known = []string{"/", "/a", "/missing", "/moved", "/none", "/tagged", "/vary", "/vary-agent", "/untyped", "/big", "/huge", "/chunked", "/empty",
	"/a?x=1", "/a?", "/a%20b", "/a%2Fb", "/~u/(x);y=1,2", `/a?"<>{}|^`, "/a?x=1?y", "/%7Ba%7D"}

func get(target string, fields ...string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: shop.example\r\n" + strings.Join(append(fields, ""), "\r\n") + "\r\n"
}

const last = "GET /last HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n"

// traffic is what clients send, well and ill. Where the node keeps the connection, last follows.
func traffic() (all [][]string) {
	one := func(pieces ...string) { all = append(all, pieces) }
	for _, target := range known {
		one(get(target), last)
		one(strings.Replace(get(target), "GET", "HEAD", 1)+get(target), last)
		one(get(target)+get("/nowhere-else")+get(target)+get(target), last)
	}
	for _, fields := range [][]string{
		{"Connection: keep-alive"}, {"connection:Keep-Alive\t"}, {"Connection: close"}, {"Connection: keep-alive, close"}, {"Connection: x"}, {"Connection: host"},
		{"Accept-Encoding: gzip"}, {"Accept-Encoding: GZIP ,br"}, {"Accept-Encoding: br, gzip", "Accept-Encoding: zstd"}, {"Accept-Encoding:"}, {"Accept-Encoding: identity"},
		{"Accept-Encoding: gzip"}, {"User-Agent: a"}, {"User-Agent: b", "Accept: */*"},
		{"If-None-Match: \"v1\""}, {"If-None-Match: \"v2\""}, {"If-Modified-Since: Mon, 02 Jan 2006 15:04:05 GMT"}, {"If-Match: \"v1\""},
		{"Range: bytes=0-3"}, {"Range: bytes=9999999-"}, {"If-Range: \"v1\"", "Range: bytes=1-2"},
		{"Cache-Control: no-cache"}, {"Cache-Control: max-age=0"}, {"Cache-Control: only-if-cached"}, {"Pragma: no-cache"}, {"Cache-Control: min-fresh=10000"},
		{"Authorization: Basic eDp5"}, {"Cookie: a=b"}, {"TE: trailers"}, {"Expect: 100-continue"}, {"Expect: magic"}, {"Upgrade: h2c", "Connection: upgrade"},
		{"Upgrade: websocket"}, {"X-Forwarded-For: 1.2.3.4", "Forwarded: for=a", "Via: 1.0 x"}, {"X-Original-URL: /private"},
		{"Content-Length: 0"}, {"Content-Length: 00"}, {"Content-Length: -1"}, {"Content-Length: 1x"}, {"Content-Length: 0", "Content-Length: 0"}, {"Transfer-Encoding: identity"},
		{"Host: shop.example"}, {"Host: other.example"}, {"hOST: shop.example"}, {" folded: x"}, {"X: a", "\tfolded"}, {"X : a"}, {": a"}, {"X\x00: a"}, {"X: a\x00b"},
		{"X: \x7f"}, {"X: caf\xc3\xa9"}, {"X(: a"}, {"X: a\rb"}, {"X"}, {"X:"}, {"X:\t \t"}, {"Trailer: X"}, {"Proxy-Connection: close"}, {"Keep-Alive: timeout=5"},
		{"Max-Forwards: 0"}, {"HTTP2-Settings: AAAA"}, {"X: " + strings.Repeat("y", 5000)}, {"X: " + strings.Repeat("y", 70_000)},
		strings.Split(strings.Repeat("X: y,", 63)+"X: y", ","), strings.Split(strings.Repeat("X: y,", 254)+"X: y", ","), strings.Split(strings.Repeat("X: y,", 300)+"X: y", ","),
	} {
		for _, target := range []string{"/tagged", "/vary", "/vary-agent"} {
			one(get(target, fields...), last)
			one(get("/a")+get(target, fields...)+get("/a"), last)
		}
	}
	for _, host := range []string{"shop.example", "SHOP.example", "shop.example.", "shop.example:80", "shop.example:8080", "shop.example:", "shop.example:443", "a.wild.example",
		"other.example", "", " ", "shop.example, x", "shop..example", ".shop.example", "shop%2eexample", "[::1]", "user@shop.example", "shop.example/x", "127.0.0.1", "sho p"} {
		raw := "GET /a HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
		one(raw, last)
		one(get("/a")+raw+raw+get("/a"), last)
	}
	for _, line := range []string{"GET /a HTTP/1.0", "GET /a HTTP/1.2", "GET /a HTTP/2.0", "GET /a", "GET  /a HTTP/1.1", "GET /a  HTTP/1.1", "get /a HTTP/1.1", "GET /a http/1.1", "POST /a HTTP/1.1",
		"GET http://shop.example/a HTTP/1.1", "GET https://shop.example/a HTTP/1.1", "GET http://other.example/a HTTP/1.1", "GET * HTTP/1.1", "OPTIONS * HTTP/1.1", "OPTIONS /a HTTP/1.1",
		"GET //a HTTP/1.1", "GET //shop.example/a HTTP/1.1", "GET /a#b HTTP/1.1", "GET /{a} HTTP/1.1", "GET /a%zz HTTP/1.1", "GET /a% HTTP/1.1", "GET /a%2 HTTP/1.1", "GET /%00 HTTP/1.1",
		"GET /a\x01 HTTP/1.1", "GET /caf\xc3\xa9 HTTP/1.1", "GET /a?caf\xc3\xa9 HTTP/1.1", "GET /a?b#c HTTP/1.1", "GET /a?%zz HTTP/1.1", "GET /a?x;y HTTP/1.1", "GET /a/../a HTTP/1.1", "GET a HTTP/1.1", "HEAD /a HTTP/1.1", "GET /[a] HTTP/1.1",
		"GET\t/a HTTP/1.1", "GET /a HTTP/1.1 ", "GET /" + strings.Repeat("a", 9000) + " HTTP/1.1", "CONNECT shop.example:80 HTTP/1.1", "TRACE /a HTTP/1.1", "", "PRI * HTTP/2.0"} {
		one(line+"\r\nHost: shop.example\r\n\r\n", last)
		one(get("/a")+line+"\r\nHost: shop.example\r\n\r\n"+get("/a"), last)
	}
	// Bodies, smuggling, and bytes that come one by one.
	post := "POST /a HTTP/1.1\r\nHost: shop.example\r\n"
	smuggled := get("/private")
	one(post+fmt.Sprintf("Content-Length: %d\r\n\r\n", len(smuggled))+smuggled+get("/a"), last)
	one(get("/a")+post+"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"+get("/a")+get("/b"), last)
	one(post+"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+smuggled, last)
	one(get("/a", fmt.Sprintf("Content-Length: %d", len(smuggled)))+smuggled, last)
	one(get("/a", "Transfer-Encoding: chunked")+"0\r\n\r\n"+get("/a"), last)
	one(get("/a", "Content-Length: 5")+"hello"+get("/a"), last)
	one(strings.ReplaceAll(get("/a"), "\r\n", "\n"), last)
	one(get("/a")+strings.Replace(get("/a"), "\r\n", "\n", 1), last)
	one(get("/a")+"\r\n"+get("/a"), last)
	one("\r\n\r\n"+get("/a"), last)
	one(strings.Split(get("/a")+get("/big")+get("/tagged", "X: y")+last, "")...)
	one(get("/a")[:20], get("/a")[20:]+get("/a")[:30], get("/a")[30:], last)
	one(get("/a")+"G", get("/a")[1:], last)
	one(strings.Repeat(get("/a"), 500)+get("/nowhere")+strings.Repeat(get("/big"), 20), last)
	return all
}

// TestSameOverBothWays sends the same traffic to a node with the hit path and to one without: a
// client, the access log and the counters must not be able to tell them apart.
func TestSameOverBothWays(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(shop))
	defer origin.Close()
	for _, profile := range []wedge.CacheProfile{wedge.CacheSafe, wedge.CacheStrict} {
		quick := serveCDN(t, origin.URL, Config{}, profile)
		long := serveCDN(t, origin.URL, Config{NoHits: true}, profile)
		for _, s := range []*served{quick, long} {
			for _, target := range known {
				s.talk(t, get(target), last)
			}
			waitForFlights(t, s)
			s.said.take(t)
		}
		for i, pieces := range traffic() {
			if profile == wedge.CacheSafe || i%4 == 0 { // the profiles differ in a few directives only
				compare(t, quick, long, pieces)
			}
		}
		// Of pipelined requests many do not: the first that net/http answers takes those behind it along.
		if all, here := quick.cache.Stats().Hits.Load(), quick.front.Stats().Hits; here < all/4 || long.front.Stats().Hits != 0 {
			t.Errorf("of %d hits, %d took the hit path", all, here)
		}
	}
}

// stump is what net/http answers when the front refuses a request of which net/http has already
// read a byte, behind the back of the one before.
const stump = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request"

// compare sends the same to both. A pipelined request that is refused after a hit gets the front's
// own refusal, as it would without one before; elsewhere that depends on when its first byte came.
func compare(t *testing.T, quick, long *served, pieces []string) {
	t.Helper()
	a, b := quick.exchange(t, pieces), long.exchange(t, pieces)
	if start, ok := strings.CutSuffix(b.answer, stump); ok && a.answer != b.answer {
		rest, ok := strings.CutPrefix(a.answer, start)
		status, _, _ := strings.Cut(rest, "\r\n")
		if refused := regexp.MustCompile(`^HTTP/1.1 [45]`).MatchString(status); !ok || !refused || !strings.Contains(rest, "\r\nConnection: close\r\n") || strings.Count(rest, "HTTP/1.1") != 1 {
			t.Errorf("%.200q:\n hit path %.600q\nnet/http  %.600q", pieces, a.answer, b.answer)
		}
		return
	}
	if a.answer != b.answer {
		t.Errorf("%.200q:\n hit path %.600q\nnet/http  %.600q", pieces, a.answer, b.answer)
	}
	if a.said != b.said {
		t.Errorf("%.200q:\n hit path reports %.500s\nnet/http  reports %.500s", pieces, a.said, b.said)
	}
	if a.counted != b.counted {
		t.Errorf("%.200q:\n hit path counts %+v\nnet/http  counts %+v", pieces, a.counted, b.counted)
	}
}

// exchanged is what one connection brought about.
type exchanged struct {
	answer  string
	said    string // access lines
	counted counts
}

type counts struct {
	front                                front.Stats
	hits, misses, stale, passes, fetches int64
}

func (s *served) exchange(t *testing.T, pieces []string) (x exchanged) {
	t.Helper()
	before := s.counts()
	x.answer = steadied(s.talk(t, pieces...))
	after := s.counts()
	x.said = s.said.take(t)
	x.counted = counts{hits: after.hits - before.hits, misses: after.misses - before.misses, stale: after.stale - before.stale,
		passes: after.passes - before.passes, fetches: after.fetches - before.fetches}
	f := &x.counted.front
	f.Requests, f.Refused, f.Overload = after.front.Requests-before.front.Requests, after.front.Refused-before.front.Refused, after.front.Overload
	f.InFlight, f.Panics = after.front.InFlight, after.front.Panics
	for i := range f.Status {
		f.Status[i] = after.front.Status[i] - before.front.Status[i]
	}
	return x
}

func (s *served) counts() counts {
	c := s.cache.Stats()
	return counts{front: s.front.Stats(), hits: c.Hits.Load(), misses: c.Misses.Load(), stale: c.Stale.Load(), passes: c.Passes.Load(), fetches: c.Fetches.Load()}
}

// waitForFlights waits until bodies that clients have in full are stored in full.
func waitForFlights(t *testing.T, s *served) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		before := s.cache.Stats().Fetches.Load()
		time.Sleep(20 * time.Millisecond)
		if s.front.Stats().InFlight == 0 && before == s.cache.Stats().Fetches.Load() {
			return
		}
		if time.Now().After(end) {
			t.Fatal("fetches do not end")
		}
	}
}

func parsed(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
