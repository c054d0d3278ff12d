package node

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/front"
)

// watched is an origin that remembers what reached it.
type watched struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string // host and target of each request
}

func watch(t *testing.T, answer http.HandlerFunc) *watched {
	o := &watched{}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.seen = append(o.seen, r.Method+" "+r.Host+r.RequestURI)
		o.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(o.Close)
	return o
}

// saw returns what reached the origin since it was asked last.
func (o *watched) saw() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	seen := o.seen
	o.seen = nil
	return seen
}

// answered is one response as a client reads it.
type answered struct {
	status  string // "" if the connection or stream ended without one
	header  http.Header
	trailer http.Header
	hints   []http.Header
	body    string
	whole   bool
}

func (a *answered) hit() bool { return strings.Contains(a.header.Get("Cache-Status"), "; hit") }

// shared reports whether it was another's response, stored or still on its way.
func (a *answered) shared() bool {
	return a.hit() || strings.Contains(a.header.Get("Cache-Status"), "; collapsed")
}

func (s *served) connect() (net.Conn, error) {
	if s.dial != nil {
		return s.dial()
	}
	return net.Dial("tcp", s.addr)
}

// ask sends the bytes of one request and reads its response.
func (s *served) ask(t *testing.T, raw string) (a answered) {
	t.Helper()
	c, err := s.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(c, raw)
	method, _, _ := strings.Cut(raw, " ")
	var resp *http.Response
	for br := bufio.NewReader(c); resp == nil || resp.StatusCode < 200; {
		if resp, err = http.ReadResponse(br, &http.Request{Method: method}); err != nil {
			return a
		}
		if resp.StatusCode < 200 {
			a.hints = append(a.hints, resp.Header)
		}
	}
	b, err := io.ReadAll(resp.Body)
	return answered{resp.Status[:3], resp.Header, resp.Trailer, a.hints, string(b), err == nil}
}

// ask2 sends one request in HTTP/2: fields are names and values in turns, as they are put on the wire.
func (s *served) ask2(t *testing.T, body string, fields ...string) (a answered) {
	t.Helper()
	c, err := s.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	io.WriteString(c, http2.ClientPreface)
	fr := http2.NewFramer(c, c)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	fr.WriteWindowUpdate(0, 1<<20)
	first := block.Next(16 << 10)
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: first, EndStream: body == "", EndHeaders: block.Len() == 0})
	for block.Len() > 0 {
		next := block.Next(16 << 10)
		fr.WriteContinuation(1, block.Len() == 0, next)
	}
	if body != "" {
		fr.WriteData(1, true, []byte(body))
	}
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return a
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				fr.WriteSettingsAck()
			}
		case *http2.MetaHeadersFrame:
			h := http.Header{}
			for _, hf := range f.RegularFields() {
				h.Add(hf.Name, hf.Value)
			}
			if st := f.PseudoValue("status"); st == "" {
				a.trailer = h
			} else if st[0] == '1' {
				a.hints = append(a.hints, h)
			} else {
				a.status, a.header = st, h
			}
		case *http2.DataFrame:
			a.body += string(f.Data())
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return a
		}
		if h := f.Header(); h.StreamID == 1 && h.Flags&http2.FlagDataEndStream != 0 && h.Type <= http2.FrameHeaders {
			a.whole = true
			return a
		}
	}
}

// get2 asks for a target in HTTP/2.
func (s *served) get2(t *testing.T, target string, more ...string) answered {
	t.Helper()
	return s.ask2(t, "", append([]string{":method", "GET", ":scheme", "http", ":authority", "shop.example", ":path", target}, more...)...)
}

// TestKeyOfPath: whatever bytes a path is made of, the origin gets these bytes, and nobody gets the answer to
// others. What has no place in a target is refused.
func TestKeyOfPath(t *testing.T) {
	o := watch(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		io.WriteString(w, r.RequestURI)
	})
	for _, h2first := range []bool{false, true} {
		s := serveCDN(t, o.URL, Config{}, wedge.CacheSafe)
		ways := []func(string) answered{func(target string) answered { return s.ask(t, get(target)) }, func(target string) answered { return s.get2(t, target) }}
		if h2first {
			slices.Reverse(ways)
		}
		for _, target := range []string{"/a/b", "/a%2Fb", "/a%2fb", "/a%252Fb", "//a/b", "/a//b", "/a/./b", "/a/c/../b", "/a/%2e%2e/b", "/a/%2E./b", "/a/..%2fb", "/a/b;c",
			"/a/b%3Bc", "/a/b%00", "/a/b%0a", "/a/b%0D%0AX:%20y", "/a/b%3Fc", "/a/b%23", "/a/b?", "/a/b?c", "/a/b?c%2Fd", "/a/b?c/d", "/%61/b", "/A/b", "/a/b/", "/a%5Cb",
			"/a/b?c=1&d=2", "/a/b?d=2&c=1", "/a/b?c=1;d=2", "/a/b?c=%zz", "/[a]", "/[a]%2Fb", "/a/b/..", "/a/b/%2e%2E"} {
			one, two := ways[0](target), ways[1](target)
			if seen := o.saw(); len(seen) != 1 || seen[0] != "GET shop.example"+target {
				t.Errorf("%s: the origin saw %q", target, seen)
			}
			if one.body != target || two.body != target || one.hit() || !two.hit() {
				t.Errorf("%s: got %q, hit %v, then %q, hit %v", target, one.body, one.hit(), two.body, two.hit())
			}
		}
		// Bytes that must be encoded are; the rest of the path stays as it is.
		for target, want := range map[string]string{`/{a}%2Fb/%2e%2e`: "/%7Ba%7D%2Fb/%2e%2e", `/a|b%2f%00`: "/a%7Cb%2f%00", `/a\b%5c`: "/a%5Cb%5c", "/caf\xc3\xa9%2Fx": "/caf%C3%A9%2Fx"} {
			one, two := ways[0](target), ways[1](target)
			if seen := o.saw(); len(seen) != 1 || seen[0] != "GET shop.example"+want || one.body != want || two.body != want || !two.hit() {
				t.Errorf("%s: the origin saw %q, clients %q and %q, want %s", target, seen, one.body, two.body, want)
			}
		}
		for _, target := range []string{"/a b", "/a?b c", "/a\x00", "/a\x01", "/a\x7f", "/a?\x7f", "/a%zz", "/a%", "a/b", "", "*", "http://", "http:/a", "/a?b HTTP/1.1\r\nX: y", "/a HTTP/1.0"} {
			if a := s.ask(t, get(target)); a.status != "400" && !strings.Contains(target, "\r\n") { // which is two lines there
				t.Errorf("%q: got %s", target, a.status)
			}
			if seen := o.saw(); len(seen) > 0 && !strings.Contains(target, "\r\n") {
				t.Errorf("%q: the origin saw %q", target, seen)
			}
			if a := s.get2(t, target); a.status != "400" && a.status != "" {
				t.Errorf("%q in HTTP/2: got %s", target, a.status)
			}
			if seen := o.saw(); len(seen) > 0 {
				t.Errorf("%q: the origin saw %q", target, seen)
			}
		}
		// The absolute form is HTTP/1.1's alone.
		if a := s.get2(t, "http://other.example/a"); a.status != "400" || len(o.saw()) > 0 {
			t.Errorf("absolute form in HTTP/2: got %s", a.status)
		}
		o.saw()
	}
}

// TestKeyOfHost: spellings of one host are one, for the cache and for the origin: it must not learn from a request
// whose answer others get how its client spelled it.
func TestKeyOfHost(t *testing.T) {
	o := watch(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		fmt.Fprint(w, r.Host, " ", r.Header["X-Forwarded-Host"], r.Header["X-Forwarded-Proto"])
	})
	const want = "shop.example [shop.example] [http]"
	for i, host := range []string{"SHOP.example", "shop.example.", "shop.example:80", "shop.example:", "Shop.Example.:80", "shop.example"} {
		s := serveCDN(t, o.URL, Config{}, wedge.CacheSafe)
		for n, other := range []string{host, "shop.example", "SHOP.EXAMPLE:80"} {
			if a := s.ask(t, strings.Replace(get("/a"), "shop.example", other, 1)); a.body != want || a.hit() != (n > 0) {
				t.Errorf("%s after %s: got %q, hit %v", other, host, a.body, a.hit())
			}
		}
		if a := s.ask2(t, "", ":method", "GET", ":scheme", "http", ":authority", host, ":path", "/2"); a.body != want {
			t.Errorf("%s in HTTP/2: got %q", host, a.body)
		}
		if a := s.ask(t, "GET http://"+host+"/abs HTTP/1.1\r\nHost: evil.example\r\n\r\n"); a.body != want {
			t.Errorf("%s in the target: got %q", host, a.body)
		}
		if i > 0 {
			continue
		}
		for _, host := range []string{"shop.example:8080", "shop.example:443", "a.wild.example", "shop.example:080"} {
			if a := s.ask(t, strings.Replace(get("/a"), "shop.example", host, 1)); a.hit() || !strings.HasPrefix(a.body, host+" ") {
				t.Errorf("%s: got %q, hit %v", host, a.body, a.hit())
			}
		}
		o.saw()
		pseudo := []string{":method", "GET", ":scheme", "http", ":path", "/conflict"}
		for _, fields := range [][]string{
			{":authority", "shop.example", "host", "other.example"}, {":authority", "shop.example", "host", "shop.example:8080"}, {":authority", "shop.example", "host", ""},
			{":authority", "shop.example", "host", "shop.example", "host", "other.example"}, {"host", "shop.example", "host", "other.example"},
			{":authority", "shop.example", ":authority", "other.example"}, {":authority", "user@shop.example"}, {":authority", "shop.example/x"}, {":authority", ""}, {},
			{":authority", "shop.example\r\nX: y"}, {":authority", "shop.example x"}, {":authority", "shop.example, other.example"}, {":authority", "shop%2eexample"},
		} {
			if a := s.ask2(t, "", append(pseudo[:6:6], fields...)...); a.status != "400" && a.status != "" || len(o.saw()) > 0 {
				t.Errorf("%q: got %s", fields, a.status)
			}
		}
	}
}

// unkeyedFields are said to be part of what is asked for by some origin or other.
var unkeyedFields = []string{"X-Forwarded-Host", "X-Forwarded-Scheme", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Server", "X-Forwarded-Ssl",
	"X-Forwarded-Path", "X-Forwarded-Uri", "X-Forwarded", "Forwarded", "X-Original-URL", "X-Original-Host", "X-Rewrite-URL", "X-Host", "X-HTTP-Method-Override", "X-HTTP-Method",
	"X-Method-Override", "X-HTTP-Host-Override", "X-Url-Scheme", "Front-End-Https", "Proxy"}

// TestUnkeyed: an origin that puts all that it is told into a page cannot be made to put something into another's.
func TestUnkeyed(t *testing.T) {
	o := watch(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		b, _ := io.ReadAll(r.Body)
		for name, values := range r.Header {
			if s := strings.Join(values, ""); strings.Contains(s, "evil") {
				fmt.Fprintln(w, name, s)
			}
		}
		fmt.Fprintf(w, "body %q", b)
	})
	s := serveCDN(t, o.URL, Config{}, wedge.CacheSafe)
	for _, name := range unkeyedFields {
		for _, name := range []string{name, strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(strings.ToUpper(name), "-", "_")} {
			one := s.ask(t, get("/1"+name, name+": evil.example"))
			two := s.get2(t, "/2"+name, strings.ToLower(name), "evil.example")
			if one.body != `body ""` || two.body != `body ""` {
				t.Errorf("%s reaches the origin: %q, %q", name, one.body, two.body)
			}
			if one, two := s.get2(t, "/1"+name), s.ask(t, get("/2"+name)); !one.shared() || !two.shared() { // else nothing is shown
				t.Errorf("%s: not stored", name)
			}
		}
	}
	for i, fat := range []func(target string) answered{
		func(target string) answered { return s.ask(t, get(target, "Content-Length: 4")+"evil") },
		func(target string) answered {
			return s.ask(t, get(target, "Transfer-Encoding: chunked")+"4\r\nevil\r\n0\r\n\r\n")
		},
		func(target string) answered {
			return s.ask(t, strings.Replace(get(target, "Content-Length: 4")+"evil", "GET", "HEAD", 1))
		},
		func(target string) answered {
			return s.ask2(t, "evil", ":method", "GET", ":scheme", "http", ":authority", "shop.example", ":path", target)
		},
	} {
		target := fmt.Sprint("/fat", i)
		if a := fat(target); a.status != "200" {
			t.Errorf("GET with a body %d: got %s", i, a.status)
		}
		if a := s.ask(t, get(target)); a.body != `body ""` || a.hit() {
			t.Errorf("GET with a body %d is stored: %q", i, a.body)
		}
		fat(target)
		if a := s.ask(t, get(target)); a.body != `body ""` || !a.shared() {
			t.Errorf("GET with a body %d changes what is stored: %q", i, a.body)
		}
	}
}

// TestDeception: nobody can have a page of somebody's stored by giving its path the look of a file.
func TestDeception(t *testing.T) {
	o := watch(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.RequestURI, "/static") { // cached by rule
			w.Header().Set("Content-Type", "text/plain")
		} else {
			w.Header().Set("Cache-Control", "max-age=600")
			w.Header().Set("Content-Type", r.URL.Query().Get("type"))
			if r.URL.Query().Has("for") {
				w.Header().Set("Cache-Control", "public, max-age=600")
			}
		}
		io.WriteString(w, "account of "+r.Header.Get("Cookie")+r.Header.Get("Authorization"))
	})
	hour := time.Hour
	v := version(t, o.URL)
	v.Rules = []wedge.Rule{{Backends: []wedge.Share{{Backend: "origin"}}}, {Path: "/static*", TTL: &hour}}
	s := serve(t, Config{}, v)
	stored := func(target string) bool {
		t.Helper()
		for range 2 {
			s.ask(t, get(target, "Cookie: victim"))
		}
		one, two := s.ask(t, get(target)), s.get2(t, target)
		if one.hit() != two.hit() || one.hit() != strings.Contains(one.body+two.body, "victim") {
			t.Errorf("%s: got %q and %q", target, one.body, two.body)
		}
		return one.hit()
	}
	for _, path := range []string{"/account.php/x.css", "/account;x.css", "/account%2Fx.css", "/account%3Bx.css", "/account%3bx.css", "/account%00x.css", "/account%0Ax.css",
		"/account%0D%0Ax.css", "/account%3Fx.css", "/account%23x.css", "/account/..%2Fx.css", "/account/%2e%2e/x.css", "/account/x.CSS", "/account/x%2ecss", "/account/x.cs%73", "//account/x.js", "/account.png"} {
		for _, kind := range []string{"text/html", "text/html%3Bcharset=utf-8", "Text/HTML", "application/json", "application/vnd.api%2Bjson", "application/problem%2Bjson", "text/json", "application/xml", "application/atom%2Bxml"} {
			if stored(path + "?type=" + kind) {
				t.Errorf("%s as %s is stored", path, kind)
			}
		}
	}
	for target, want := range map[string]bool{
		"/x.css?type=text/css": true, "/x.svg?type=image/svg%2Bxml": true, "/x.css/account?type=text/html": true, // as the origin says
		"/static/x": true, "/static/caf%C3%A9%20x": true,
		"/static/../account": false, "/static/..%2Faccount": false, "/static/%2e%2e/account": false, "/static/%2E./account": false, "/static/..%5caccount": false, `/static/..\account`: false,
		"/static/..;/account": false, "/static%2f..%2faccount": false, "/static/%252e%252e/account": false, "/static//../account": false, "/static/.": false, "/static//x": false,
		"/static/x%3faccount": false, "/static/x%23": false, "/static/x%00": false, "/static/%61": false, "/static/x;y": false,
	} {
		if stored(target) != want {
			t.Errorf("%s: stored %v", target, !want)
		}
	}
	const authorized = "Authorization: Basic eA=="
	s.ask(t, get("/private", authorized))
	if a := s.ask(t, get("/private")); a.hit() || a.body != "account of " {
		t.Errorf("the answer to a request with credentials is stored: %q", a.body)
	}
	s.ask(t, get("/private?for=all", authorized))
	if a := s.ask(t, get("/private?for=all")); !a.hit() {
		t.Error("the answer to a request with credentials is not stored although it is public")
	}
}

// version is what serveCDN serves.
func version(t *testing.T, origin string) *wedge.Version {
	t.Helper()
	return &wedge.Version{Service: "shop", CacheProfile: wedge.CacheSafe, Hosts: []string{"shop.example"}, Backends: []wedge.Backend{{Name: "origin", URL: parsed(t, origin), AllowPrivateAddr: true}}}
}

// TestPoisonedErrors: an error that one client brings about by what it sends is for that client.
func TestPoisonedErrors(t *testing.T) {
	release := make(chan struct{})
	o := watch(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=600, s-maxage=600, stale-if-error=600")
		w.Header().Set("Etag", `"v"`)
		status := 200
		switch {
		case r.Header.Get("X-Status") != "":
			fmt.Sscan(r.Header.Get("X-Status"), &status)
			if strings.HasPrefix(r.URL.Path, "/held") {
				<-release
			}
		case r.Header.Get("X-Long") != "":
			status = 431
		case r.Header.Get("X-Http-Method-Override") != "" || r.Method != "GET":
			status = 405
		case strings.IndexFunc(r.Header.Get("X-Meta"), func(c rune) bool { return c < ' ' || c > '~' }) >= 0:
			status = 400
		}
		w.WriteHeader(status)
		fmt.Fprint(w, status)
	})
	s := serveCDN(t, o.URL, Config{}, wedge.CacheSafe)
	n := 0
	spared := func(first, evil string) {
		t.Helper()
		n++
		target := fmt.Sprint("/", n)
		a := s.ask(t, strings.Replace(get(target, evil), "GET", first, 1))
		if a.status == "200" && !strings.Contains(evil, "Override") {
			t.Errorf("%.60s: the origin does not mind", evil)
		}
		for _, a := range []answered{s.ask(t, get(target)), s.get2(t, target), s.ask(t, get(target))} {
			if a.status != "200" || a.body != "200" {
				t.Errorf("%s %.60s: the next client gets %s", first, evil, a.status)
			}
		}
	}
	for _, status := range []int{400, 405, 413, 414, 431, 501} {
		evil := fmt.Sprint("X-Status: ", status)
		spared("GET", evil)
		spared("HEAD", evil)
		// Nor for those who ask at the same time.
		target, led, followed := fmt.Sprint("/held", status), make(chan answered), make(chan answered)
		o.saw()
		go func() { led <- s.ask(t, get(target, evil)) }()
		for len(o.saw()) == 0 {
			time.Sleep(time.Millisecond)
		}
		go func() { followed <- s.ask(t, get(target)) }()
		time.Sleep(10 * time.Millisecond)
		release <- struct{}{}
		if a := <-led; a.status != fmt.Sprint(status) {
			t.Errorf("%d: got %s", status, a.status)
		}
		if a := <-followed; a.status != "200" {
			t.Errorf("%d: who waits for the same gets %s", status, a.status)
		}
	}
	spared("GET", "X-Long: "+strings.Repeat("y", 60_000))
	spared("GET", "X-Long: "+strings.Repeat("y", 70_000)) // here it is the edge that minds
	spared("GET", "X-Meta: caf\xc3\xa9")
	for _, c := range "\x00\x01\a\b\n\r\x1b\x7f" {
		spared("GET", "X-Meta: a"+string(c)+"b")
	}
	for _, method := range []string{"POST", "DELETE", "HELP"} {
		spared("GET", "X-HTTP-Method-Override: "+method)
	}
	spared("OPTIONS", "X: y")
	spared("POST", "Content-Length: 0")
}

// TestKeyOfScheme: what came over TLS is another resource than what did not, whatever an HTTP/2 client says it is.
func TestKeyOfScheme(t *testing.T) {
	o := watch(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		io.WriteString(w, r.Header.Get("X-Forwarded-Proto"))
	})
	s := serveCDN(t, o.URL, Config{HTTPS: []string{"127.0.0.1:0"}, Certificates: []front.CertificateFiles{selfSigned(t)}}, wedge.CacheSafe)
	_, secure := s.Addrs()
	over := func(protos ...string) {
		s.dial = func() (net.Conn, error) {
			return tls.Dial("tcp", secure[0].String(), &tls.Config{InsecureSkipVerify: true, NextProtos: protos})
		}
	}
	plain := func() { s.dial = nil }
	pseudo := func(scheme string) []string {
		return []string{":method", "GET", ":scheme", scheme, ":authority", "shop.example", ":path", "/a"}
	}
	for range 2 {
		for _, c := range []struct {
			how  func()
			ask  func() answered
			want string
		}{
			{plain, func() answered { return s.ask(t, get("/a")) }, "http"},
			{plain, func() answered { return s.ask(t, get("https://shop.example/a")) }, "http"},
			{plain, func() answered { return s.ask2(t, "", pseudo("https")...) }, "http"},
			{plain, func() answered { return s.ask(t, get("/a", "X-Forwarded-Proto: https", "X-Forwarded-Ssl: on")) }, "http"},
			{func() { over("http/1.1") }, func() answered { return s.ask(t, get("/a")) }, "https"},
			{func() { over("http/1.1") }, func() answered { return s.ask(t, get("http://shop.example/a")) }, "https"},
			{func() { over("http/1.1") }, func() answered { return s.ask(t, strings.Replace(get("/a"), "example", "example:443", 1)) }, "https"},
			{func() { over("h2") }, func() answered { return s.ask2(t, "", pseudo("https")...) }, "https"},
			{func() { over("h2") }, func() answered { return s.ask2(t, "", pseudo("http")...) }, "https"},
		} {
			c.how()
			if a := c.ask(); a.body != c.want {
				t.Errorf("got %q (%s), want %s", a.body, a.status, c.want)
			}
		}
	}
	if seen := o.saw(); len(seen) != 2 {
		t.Errorf("the origin saw %q", seen)
	}
}

// selfSigned makes a certificate that nobody need trust.
func selfSigned(t *testing.T) (files front.CertificateFiles) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"shop.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	files.Cert, files.Key = filepath.Join(t.TempDir(), "cert"), filepath.Join(t.TempDir(), "key")
	for name, block := range map[string]*pem.Block{files.Cert: {Type: "CERTIFICATE", Bytes: cert}, files.Key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}
