package front

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// FuzzPlain holds the strict parser to net/http, the framer and the front's own checks: what it
// accepts they must accept, and read the same.
func FuzzPlain(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD /a%20b?c=%zz#d HTTP/1.1\r\nhost:a:8080\r\nAccept: */* \r\nX:\r\n\r\nGET / HTTP/1.1\r\n",
		"GET /(a);b=1,2/~c HTTP/1.1\r\nHost: a.example\r\nConnection: Keep-Alive\r\nPragma: no-cache\r\n\r\n", "GET /? HTTP/1.1\r\nHost: 1.2.3.4:1\r\nCookie: a=\"b\"\r\n\r\n",
		"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "GET /a HTTP/1.1\r\nHost: a\r\n b: c\r\n\r\n", "GET //a HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	cfg := Config{}.withDefaults()
	f.Fuzz(func(t *testing.T, p []byte) {
		var r Plain
		n := r.parse(p, &cfg)
		if n == 0 {
			return
		}
		head := p[:n]
		fr := framer{maxBytes: cfg.MaxHeaderBytes, maxLines: cfg.MaxHeaderLines}
		if used, no := fr.feed(p); no != nil || used != n || fr.heads != 1 || !fr.atStart() {
			t.Fatalf("framer: %d of %d bytes, %v: %q", used, n, no, head)
		}
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(p)))
		if err != nil {
			t.Fatalf("net/http: %v: %q", err, head)
		}
		name := plainHost(string(r.Host), false)
		for _, no := range []*refusal{check(req), checkSize(req, &cfg, Bounds{})} {
			if no != nil && name != "" {
				t.Fatalf("check: %s: %q", no.text, head)
			}
		}
		if name != "" {
			if host, _, ok := splitHost(req.Host); !ok || host != name {
				t.Fatalf("host %q, net/http has %q: %q", name, req.Host, head)
			}
		}
		u := req.URL
		target := u.EscapedPath()
		if u.RawQuery != "" || u.ForceQuery {
			target += "?" + u.RawQuery
		}
		if target != string(r.Target) || req.RequestURI != target || u.Host != "" || u.Scheme != "" || u.Opaque != "" || u.Fragment != "" {
			t.Fatalf("target %q, net/http has %q: %q", r.Target, u, head)
		}
		if r.Head != (req.Method == "HEAD") || !r.Head && req.Method != "GET" || req.Proto != "HTTP/1.1" || req.Close ||
			req.ContentLength != 0 || req.Body != http.NoBody || req.TransferEncoding != nil || req.Trailer != nil {
			t.Fatalf("net/http has another request: %+v: %q", req, head)
		}
		sameFields(t, &r, req)
	})
}

func sameFields(t *testing.T, r *Plain, req *http.Request) {
	t.Helper()
	n := 0
	for name, values := range req.Header {
		var got []string
		for _, line := range r.Lines(strings.ToLower(name)) {
			got = append(got, string(line))
		}
		if implied := name == "Cache-Control" && len(got) == 0 && req.Header["Pragma"] != nil; implied { // net/http adds it
			if !r.Directives {
				t.Fatal("directives were not noticed")
			}
			continue
		}
		if strings.Join(got, "\x00") != strings.Join(values, "\x00") {
			t.Fatalf("%s: %q, net/http has %q", name, got, values)
		}
		for _, v := range values {
			if strings.ContainsFunc(v, func(c rune) bool { return c < ' ' && c != '\t' || c > '~' }) {
				t.Fatalf("%s: %q has what it must not", name, v)
			}
		}
		n += len(values)
	}
	if n != len(r.fields)-1 { // all but Host
		t.Fatalf("%d fields, net/http has %d", len(r.fields)-1, n)
	}
	if r.Directives != (req.Header["Cache-Control"] != nil || req.Header["Pragma"] != nil) {
		t.Fatal("directives were not noticed, or seen where there are none")
	}
	for name := range req.Header {
		if strings.HasPrefix(name, "If-") || name == "Range" || name == "Expect" || name == "Upgrade" || name == "Te" {
			t.Fatalf("a plain request has %s", name)
		}
	}
}

// stored is a route's Hit with the same answer for every request.
func stored(head string, body ...string) func(*Plain, *Answer) bool {
	var pieces [][]byte
	for _, b := range body {
		pieces = append(pieces, []byte(b))
	}
	return func(r *Plain, a *Answer) bool {
		a.Status, a.Head = 200, append(a.Head, head...)
		if !r.Head {
			a.Body = append(a.Body, pieces...)
		}
		return true
	}
}

// TestHitAllocatesNothing measures the whole way from a head to its response on a connection.
func TestHitAllocatesNothing(t *testing.T) {
	for _, size := range []int{1 << 10, 64 << 10} {
		body := strings.Repeat("x", size)
		f := run(t, Config{}, map[string]Route{"shop.example": {Service: "shop", Handler: http.NotFoundHandler(), Hit: stored("HTTP/1.1 200 OK\r\n\r\n", body[:size/2], body[size/2:])}})
		raw := &rawConn{Conn: sink(t), front: f.Front}
		raw.info.raw = raw
		h := f.newH1(raw, &raw.info)
		head := []byte("GET /a HTTP/1.1\r\nHost: shop.example\r\nAccept-Encoding: gzip, br\r\nUser-Agent: test\r\n\r\n")
		w := new(hitter) // not the pool's, which forgets some on purpose when races are looked for
		if n := testing.AllocsPerRun(200, func() {
			n := w.req.parse(head, &f.cfg)
			if ok, err := w.serve(h, time.Now()); n != len(head) || !ok || err != nil {
				t.Fatal(n, ok, err)
			}
		}); n != 0 {
			t.Errorf("a hit of %d bytes allocates %v times", size, n)
		}
	}
}

// sink is a connection to somebody who reads all and says nothing.
func sink(t *testing.T) net.Conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := dial(t, l.Addr().String())
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for b := make([]byte, 64<<10); ; {
			if _, err := other.Read(b); err != nil {
				return
			}
		}
	}()
	return c
}
