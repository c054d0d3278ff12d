package node

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

// hidden is what a hostile client wants to have served behind its request.
const hidden = "GET /smuggled HTTP/1.1\r\nHost: shop.example\r\n\r\n"

const posting = "POST /post HTTP/1.1\r\nHost: shop.example\r\n"

// ambiguous are requests that an origin might cut elsewhere than Wedge, with the status they must get. Where it is
// empty the request is under way when the malformed part of its body comes: it is cut off.
var ambiguous = []struct{ raw, status string }{
	{posting + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
	{posting + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "400"},
	{posting + "Content-Length: 0\r\nContent-Length: 48\r\n\r\n", "400"},
	{posting + "Content-Length: 3, 48\r\n\r\nabc", "400"},
	{posting + "Content-Length: +3\r\n\r\nabc", "400"},
	{posting + "Content-Length: 0x3\r\n\r\nabc", "400"},
	{posting + "Content-Length: 3 3\r\n\r\nabc", "400"},
	{posting + "Content-Length: 18446744073709551619\r\n\r\nabc", "400"},
	{posting + "Content-Length : 3\r\n\r\nabc", "400"},
	{posting + "Content-Length\x00: 3\r\n\r\nabc", "400"},
	{posting + "X: y\r\n Content-Length: 3\r\n\r\nabc", "400"},
	{posting + "X: y\r\n\tTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
	{posting + "X: y\nContent-Length: 3\r\n\r\nabc", "400"},
	{posting + "X: y\rContent-Length: 3\r\n\r\nabc", "400"},
	{posting + "Content-Length: 3\r\n\n\r\nabc", "400"},
	{posting + "X\x00Y: z\r\n\r\n", "400"},
	{posting + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "400"},
	{posting + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", "400"},
	{posting + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "501"},
	{posting + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", "501"},
	{posting + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", "501"},
	{posting + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", "501"},
	{posting + "Transfer-Encoding: identity\r\n\r\n", "501"},
	{"POST /post HTTP/1.0\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
	{"GET /a HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
	{"GET /a HTTP/1.1\r\n Host: shop.example\r\nHost: shop.example\r\n\r\n", "400"},
	{"GET /a HTTP/1.1\nHost: shop.example\r\n\r\n", "400"},
	{"GET /a HTTP/1.1\r\nHost: shop.example\r\nHost: other.example\r\n\r\n", "400"},
	{"GET /a HTTP/1.1 HTTP/1.1\r\nHost: shop.example\r\n\r\n", "400"},
	{"GET /a\x00 HTTP/1.1\r\nHost: shop.example\r\n\r\n", "400"},
	{posting + "Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n", ""},
	{posting + "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n", ""},
	{posting + "Transfer-Encoding: chunked\r\n\r\n 0\r\n\r\n", ""},
	{posting + "Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n", ""},
	{posting + "Transfer-Encoding: chunked\r\n\r\n1 0\r\n\r\n", ""},
	{posting + "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\nabc\r\n0\r\n\r\n", ""},
	{posting + "Transfer-Encoding: chunked\r\n\r\n0\n\r\n", ""},
	{posting + "Transfer-Encoding: chunked\r\n\r\n0\r\r\n\r\n", ""},
	{posting + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", ""},
	{posting + "Transfer-Encoding: chunked\r\n\r\n3;\rx\r\nabc\r\n0\r\n\r\n", ""},
	{posting + "Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n", ""},
	{posting + "Transfer-Encoding: chunked\r\n\r\n0\r\n x: y\r\n\r\n", ""},
	{posting + "Transfer-Encoding: chunked\r\n\r\n\r\n", ""},
}

// smuggler is an origin and a node in front of it that has /a stored.
func smuggler(t *testing.T, cfg Config) (*watched, *served) {
	o := watch(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, r.URL.Path)
	})
	s := serveCDN(t, o.URL, cfg, wedge.CacheSafe)
	if a := s.ask(t, get("/a")); a.body != "/a" {
		t.Fatal(a)
	}
	waitForFlights(t, s)
	o.saw()
	return o, s
}

// unserved checks that of what a client sent nothing but plain hits came before a refusal, and nothing behind it.
func unserved(t *testing.T, raw, answer, status string, hits int) {
	t.Helper()
	rest := answer
	for i := range hits {
		before, after, ok := strings.Cut(rest, "\r\n\r\n/a")
		if !ok || !strings.HasPrefix(before, "HTTP/1.1 200") {
			t.Errorf("%q: answer %d is %.300q", raw, i, answer)
			return
		}
		rest = after
	}
	got, _, _ := strings.Cut(strings.TrimPrefix(rest, "HTTP/1.1 "), " ")
	if refusal := got == "400" || got == "501"; strings.Count(rest, "HTTP/1.1 ") > 1 || strings.Contains(rest, "smuggled") || status != "" && !refusal ||
		status != "" && hits == 0 && got != status || status == "" && strings.HasPrefix(got, "2") {
		t.Errorf("%q: got %.400q, want %q", raw, answer, status)
	}
}

// TestSmuggling: a message that has two readings is refused, its connection ends with it, and what an origin would
// take for a request behind it reaches none; alone, behind requests that the hit path answers, and cut anywhere.
func TestSmuggling(t *testing.T) {
	for _, cfg := range []Config{{}, {NoHits: true}} {
		o, s := smuggler(t, cfg)
		var wg sync.WaitGroup
		for i, c := range ambiguous {
			wg.Go(func() {
				unserved(t, c.raw, s.talk(t, c.raw+hidden), c.status, 0)
				if !cfg.NoHits {
					unserved(t, c.raw, s.talk(t, get("/a")+get("/a")+c.raw+hidden), c.status, 2)
					unserved(t, c.raw, s.talk(t, get("/a"), c.raw+hidden), c.status, 1)
				}
			})
			if i%8 == 7 {
				wg.Wait()
			}
		}
		wg.Wait()
		for _, seen := range o.saw() {
			if seen != "POST shop.example/post" {
				t.Errorf("the origin saw %s", seen)
			}
		}
	}
}

// TestSmugglingInPieces cuts at each byte, behind a hit.
func TestSmugglingInPieces(t *testing.T) {
	o, s := smuggler(t, Config{})
	var wg sync.WaitGroup
	for _, i := range []int{0, 2, 8, 12, 13, 22, 30, 35} {
		c := ambiguous[i]
		all := get("/a") + c.raw + hidden
		for at := 1; at < len(all); at++ {
			wg.Go(func() {
				answer := s.talk(t, all[:at], all[at:])
				if strings.Contains(answer, "smuggled") || strings.Count(answer, "HTTP/1.1 200") != 1 {
					t.Errorf("%q cut at %d: got %.400q", all, at, answer)
				}
			})
			if at%64 == 0 {
				wg.Wait()
			}
		}
		wg.Wait()
	}
	for _, seen := range o.saw() {
		if seen != "POST shop.example/post" {
			t.Errorf("the origin saw %s", seen)
		}
	}
}

// TestDowngrade: what HTTP/2 can carry and HTTP/1.1 cannot comes to no origin.
func TestDowngrade(t *testing.T) {
	o, s := smuggler(t, Config{})
	pseudo := func(method, path string) []string {
		return []string{":method", method, ":scheme", "http", ":authority", "shop.example", ":path", path}
	}
	const evil = "x HTTP/1.1\r\nHost: shop.example\r\n\r\nGET /smuggled"
	for _, c := range []struct {
		body   string
		fields []string
	}{
		{"", pseudo("GET", "/"+evil)}, {"", pseudo("GET", "/x y")}, {"", pseudo("GET", "/x HTTP/1.1")}, {"", pseudo("GET", "/?x HTTP/1.1")}, {"", pseudo("GET", "/x\t")}, {"", pseudo("GET", "/x\x00")},
		{"", pseudo("GET", "x")}, {"", pseudo("GET", "")}, {"", pseudo("GET", "*")}, {"", pseudo("GET", "http://other.example/")}, {"", pseudo("GET", "HTTP://shop.example/")},
		{"", pseudo("GET /smuggled HTTP/1.1\r\n", "/")}, {"", pseudo("GET /smuggled", "/")}, {"", pseudo("GET\t", "/")}, {"", pseudo("", "/")}, {"", pseudo("G:T", "/")}, {"", pseudo("G\x00T", "/")},
		{"", pseudo("CONNECT", "/")}, {"", pseudo(strings.Repeat("A", 2000), "/")},
		{"", append(pseudo("GET", "/"), ":path", "/other")}, {"", append(pseudo("GET", "/"), ":unknown", "x")}, {"", append([]string{"x", "y"}, pseudo("GET", "/")...)},
		{"", []string{":method", "GET", ":scheme", "ftp", ":authority", "shop.example", ":path", "/"}},
		{"", []string{":method", "GET", ":scheme", "http\r\nX: y", ":authority", "shop.example", ":path", "/"}},
		{"", append(pseudo("GET", "/"), "x\r\ny", "z")}, {"", append(pseudo("GET", "/"), "x: y\r\nz", "z")}, {"", append(pseudo("GET", "/"), "x:y", "z")}, {"", append(pseudo("GET", "/"), "x y", "z")},
		{"", append(pseudo("GET", "/"), "x\x00", "z")}, {"", append(pseudo("GET", "/"), "", "z")}, {"", append(pseudo("GET", "/"), "X-Upper", "z")}, {"", append(pseudo("GET", "/"), "x\xff", "z")},
		{"", append(pseudo("GET", "/"), "x", "y\r\nz: a")}, {"", append(pseudo("GET", "/"), "x", "y\nz: a")}, {"", append(pseudo("GET", "/"), "x", "y\rz: a")}, {"", append(pseudo("GET", "/"), "x", "y\x00")},
		{"", append(pseudo("GET", "/"), "connection", "close")}, {"", append(pseudo("GET", "/"), "transfer-encoding", "chunked")}, {"", append(pseudo("GET", "/"), "te", "gzip")},
		{"", append(pseudo("GET", "/"), "upgrade", "h2c")}, {"", append(pseudo("GET", "/"), "proxy-connection", "x")}, {"", append(pseudo("GET", "/"), "content-length", "5")},
		{hidden, append(pseudo("POST", "/"), "transfer-encoding", "chunked")}, {hidden, append(pseudo("POST", "/"), "content-length", "x")},
		{hidden, append(pseudo("POST", "/"), "content-length", "0", "content-length", fmt.Sprint(len(hidden)))}, {hidden, append(pseudo("POST", "/"), "content-length", "+5")},
	} {
		if a := s.ask2(t, c.body, c.fields...); a.status != "" && a.status[0] != '4' && a.status != "501" {
			t.Errorf("%.100q: got %s", c.fields, a.status)
		}
		if seen := o.saw(); len(seen) > 0 {
			t.Errorf("%.100q: the origin saw %.100q", c.fields, seen)
		}
	}
	// A length that is not that of the body ends the stream; the origin has seen one request at most.
	for _, length := range []int{0, 5, len(hidden) + 1} {
		if a := s.ask2(t, hidden, append(pseudo("POST", "/post"), "content-length", fmt.Sprint(length))...); length > 0 && strings.HasPrefix(a.status, "2") { // to one without content the answer may be there before the surplus
			t.Errorf("length %d of %d: got %s", length, len(hidden), a.status)
		}
	}
	time.Sleep(20 * time.Millisecond)
	for _, seen := range o.saw() {
		if seen != "POST shop.example/post" {
			t.Errorf("the origin saw %s", seen)
		}
	}
}
