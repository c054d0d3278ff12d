package front

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/wedge-cloud/wedge"
)

// bodies answers with what the handler read of the body and with the header names it got.
func bodies(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	fmt.Fprintf(w, "%s %s %q %s", r.Method, r.URL.Path, b, strings.Join(wedge.ClientFrom(r.Context()).HeaderNames, " "))
}

// smuggling are requests that two parties could cut at different places, or that no party
// should see. Each must be answered with the status, and nothing after it.
var smuggling = []struct{ name, raw, status string }{
	{"length and chunked", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
	{"chunked and length", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n", "400"},
	{"lengths that differ", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", "400"},
	{"lengths that agree", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "400"},
	{"length list", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc", "400"},
	{"length with sign", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", "400"},
	{"length in hex", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc", "400"},
	{"length of nothing", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nabc", "400"},
	{"length too long", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nabc", "400"},
	{"space before colon", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc", "400"},
	{"tab before colon", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", "400"},
	{"two codings", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
	{"unknown coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "501"},
	{"coding list", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501"},
	{"coding with vertical tab", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n", "501"},
	{"chunked in 1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
	{"folded line", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n", "400"},
	{"folded by tab", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\tTransfer-Encoding: chunked\r\n\r\n", "400"},
	{"first line folded", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", "400"},
	{"bare LF in head", "GET / HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n", "400"},
	{"bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", "400"},
	{"bare LF request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", "400"},
	{"bare CR in value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rX-B: c\r\n\r\n", "400"},
	{"CR CR LF", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\r\n\r\n", "400"},
	{"bare CR in name", "GET / HTTP/1.1\r\nHost: a\r\nX\rA: b\r\n\r\n", "400"},
	{"NUL in value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\x00c\r\n\r\n", "400"},
	{"NUL in name", "GET / HTTP/1.1\r\nHost: a\r\nX\x00A: b\r\n\r\n", "400"},
	{"NUL in target", "GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	{"DEL in value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\x7f\r\n\r\n", "400"},
	{"no colon", "GET / HTTP/1.1\r\nHost: a\r\nX-A\r\n\r\n", "400"},
	{"no name", "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", "400"},
	{"empty line first", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	{"LF first", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	{"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	{"method not a token", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	{"HTTP/0.1", "POST / HTTP/0.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "505"},
	{"HTTP/2 in words", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505"},
	{"preface too late", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "200"},
	{"preface and not", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "400"},
	{"no host", "GET / HTTP/1.1\r\n\r\n", "400"},
	{"empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "400"},
	{"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"},
	{"two hosts alike", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "400"},
	{"host with user", "GET / HTTP/1.1\r\nHost: b@a\r\n\r\n", "400"},
	{"host with path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400"},
	{"host list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "400"},
	{"target with user", "GET http://b@a/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	{"target without host", "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	{"opaque target", "GET http:x HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	{"foreign scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	{"star", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	{"connect", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "501"},
	{"connection names length", "POST / HTTP/1.1\r\nHost: a\r\nConnection: close, Content-Length\r\nContent-Length: 1\r\n\r\na", "400"},
	{"connection names forwarded", "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Forwarded-For\r\n\r\n", "400"},
	{"connection not a list", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close;x\r\n\r\n", "400"},
	{"chunk size with sign", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n", ""},
	{"chunk size too long", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000001\r\na\r\n0\r\n\r\n", ""},
	{"chunk ends in LF", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n", ""},
	{"chunk too long", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", ""},
	{"chunk extension with CR", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a\rb\r\na\r\n0\r\n\r\n", ""},
	{"trailer with LF", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\n\r\n", ""},
	{"trailer folded", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\n z\r\n\r\n", ""},
}

func TestSmuggling(t *testing.T) {
	f := run(t, Config{}, everything(bodies))
	const hidden = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	const before = "GET /before HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, test := range smuggling {
		got := talk(t, f.http, test.raw+hidden)
		if status(got) != test.status {
			t.Errorf("%s: got %q, want status %s", test.name, got, test.status)
		}
		if strings.Contains(got, "smuggled") || strings.Count(got, "HTTP/1.1 ") > 1 {
			t.Errorf("%s: what follows was served: %q", test.name, got)
		}
		// The same behind another request on the connection.
		if got = talk(t, f.http, before+test.raw+hidden); strings.Contains(got, "smuggled") || !strings.Contains(got, "/before") {
			t.Errorf("%s, second: got %q", test.name, got)
		}
		// And in small pieces: there net/http may have seen enough to answer 400 or 501 by itself.
		c := dial(t, f.http)
		for i := range len(test.raw) {
			c.Write([]byte{test.raw[i]})
		}
		io.WriteString(c, hidden)
		b, _ := io.ReadAll(c)
		got = status(string(b))
		if strings.Contains(string(b), "smuggled") || got != "" && got != test.status && got != "400" && got != "501" {
			t.Errorf("%s, in pieces: got %q", test.name, b)
		}
	}
}

// TestRefusalHasRequestID: so that it can be found in the log. It has none if net/http has read the head's first byte already, while it looked whether
// the client of the request before was still there: then the words are its own.
func TestRefusalHasRequestID(t *testing.T) {
	f := run(t, Config{}, everything(bodies))
	for !refusalHasRequestID(t, f) {
	}
}

func refusalHasRequestID(t *testing.T, f *running) bool {
	c := dial(t, f.http)
	br := bufio.NewReader(c)
	io.WriteString(c, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
	response(t, br)
	io.WriteString(c, "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"+strings.Repeat("x", 1<<16))
	resp, body := response(t, br)
	id := resp.Header.Get("X-Request-Id")
	if resp.StatusCode == 400 && resp.Close && body == "400 Bad Request" {
		return false
	}
	if resp.StatusCode != 400 || len(id) != 32 || !resp.Close || body != "both Content-Length and Transfer-Encoding (request "+id+")\n" {
		t.Errorf("got %d, id %q, %q", resp.StatusCode, id, body)
	}
	if b, err := br.ReadByte(); err != io.EOF {
		t.Errorf("connection goes on with %q, %v", b, err)
	}
	return true
}

// TestPipeline sends several requests at once, whole and in pieces, and wants each answered
// with its own body and names.
func TestPipeline(t *testing.T) {
	f := run(t, Config{}, everything(bodies))
	requests := []struct{ raw, want string }{
		{"GET /a HTTP/1.1\r\nhost: a\r\nX-b: 1\r\nACCEPT: *\r\nx-B: 2\r\n\r\n", `GET /a "" host X-b ACCEPT x-B`},
		{"POST /b HTTP/1.1\r\nHost: a\r\ncontent-length: 4\r\n\r\nGET ", `POST /b "GET " Host content-length`},
		{"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-encoding: Chunked\r\nTrailer: X-T\r\n\r\n5;q=\"1\"\r\nhello\r\n1\r\n!\r\n0\r\nX-T: 1\r\n\r\n", `POST /c "hello!" Host Transfer-encoding Trailer`},
		{"GET /d HTTP/1.1\r\nHost: a\r\nPragma: no-cache\r\n\r\n", `GET /d "" Host Pragma`},
		{"POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n" + strings.Repeat("e", 9000), fmt.Sprintf("POST /e %q Host Content-Length", strings.Repeat("e", 9000))},
		{"GET /f HTTP/1.1\r\nHost: a\r\nX-Long: " + strings.Repeat("f", 9000) + "\r\nX-Last: 1\r\n\r\n", `GET /f "" Host X-Long X-Last`},
		{"GET http://b.example/g HTTP/1.1\r\nHost: a\r\n\r\n", `GET /g "" Host`},
	}
	all := ""
	for range 3 {
		for _, r := range requests {
			all += r.raw
		}
	}
	for _, step := range []int{len(all), 1, 3, 1000, 4096} {
		c := dial(t, f.http)
		go func() {
			for i := 0; i < len(all); i += step {
				io.WriteString(c, all[i:min(i+step, len(all))])
			}
		}()
		br := bufio.NewReader(c)
		for i := range 3 * len(requests) {
			want := requests[i%len(requests)].want
			if resp, got := response(t, br); resp.StatusCode != 200 || got != want {
				t.Fatalf("in pieces of %d, request %d: got %d %.200q, want %.200q", step, i, resp.StatusCode, got, want)
			}
		}
	}
}

func TestBounds(t *testing.T) {
	f := run(t, Config{MaxHeaderBytes: 8192, MaxHeaderLines: 20, MaxURI: 100}, everything(bodies))
	for _, test := range []struct{ name, raw, status string }{
		{"uri", "GET /" + strings.Repeat("a", 99) + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "200"},
		{"uri too long", "GET /" + strings.Repeat("a", 100) + " HTTP/1.1\r\nHost: a\r\n\r\n", "414"},
		{"method too long", strings.Repeat("A", 1025) + " / HTTP/1.1\r\nHost: a\r\n\r\n", "501"},
		{"lines", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + strings.Repeat("X-A: b\r\n", 18) + "\r\n", "200"},
		{"too many lines", "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X-A: b\r\n", 20) + "\r\n", "431"},
		{"head too large", "GET / HTTP/1.1\r\nHost: a\r\nX-A: " + strings.Repeat("b", 9000) + "\r\n\r\n", "431"},
		{"head endless", "GET / HTTP/1.1\r\nHost: a\r\nX-A: " + strings.Repeat("b", 100000), "431"},
		{"request line endless", "GET /" + strings.Repeat("b", 100000), "4"},
	} {
		if got := talk(t, f.http, test.raw); !strings.HasPrefix(status(got), test.status) {
			t.Errorf("%s: got %.200q, want %s", test.name, got, test.status)
		}
	}
}

// TestRouteBounds: a route may want less than the front, and longer targets; also where answers are at hand.
func TestRouteBounds(t *testing.T) {
	at := func(b Bounds) Route {
		hit := func(_ *Plain, a *Answer) bool {
			a.Status, a.Head = 200, append(a.Head, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"...)
			return true
		}
		return Route{Service: "shop", Handler: reply("ok"), Bounds: b, Hit: hit}
	}
	f := run(t, Config{MaxHeaderBytes: 8192, MaxHeaderLines: 20, MaxURI: 100}, map[string]Route{"plain": at(Bounds{}),
		"less": at(Bounds{URI: 50, HeaderBytes: 200, HeaderLines: 5}), "more": at(Bounds{URI: 4000, HeaderBytes: 1 << 20, HeaderLines: 1000})})
	get := func(host string, uri int, fields string) string {
		return status(talk(t, f.http, "GET /"+strings.Repeat("a", uri-1)+" HTTP/1.1\r\nHost: "+host+"\r\n"+fields+"Connection: close\r\n\r\n"))
	}
	lines, long := strings.Repeat("X-A: b\r\n", 6), "X-A: "+strings.Repeat("b", 300)+"\r\n"
	for _, c := range []struct {
		host   string
		uri    int
		fields string
		want   string
	}{
		{"plain", 100, "", "200"}, {"plain", 101, "", "414"}, {"plain", 10, lines + long, "200"},
		{"less", 50, "", "200"}, {"less", 51, "", "414"}, {"less", 10, lines, "431"}, {"less", 10, long, "431"},
		{"more", 4000, "", "200"}, {"more", 4001, "", "414"}, {"more", 10, strings.Repeat(lines, 4), "431"}, {"more", 10, strings.Repeat(long, 40), "431"},
		{"unknown", 100, "", "421"}, {"unknown", 101, "", "414"},
	} {
		if got := get(c.host, c.uri, c.fields); got != c.want {
			t.Errorf("%s, a target of %d, fields of %d: got %s, want %s", c.host, c.uri, len(c.fields), got, c.want)
		}
	}
	if s := status(talk(t, f.http, "GET / HTTP/1.1\r\nHost: less\r\n"+long+"\r\n")); s != "431" {
		t.Errorf("a request that the hit path would take: %s", s)
	}
}

// FuzzFrame wants the framer to agree with net/http on every message that it lets through, in
// whatever pieces the bytes come.
func FuzzFrame(f *testing.F) {
	for _, test := range smuggling {
		f.Add([]byte(test.raw), uint8(7))
	}
	f.Add([]byte("POST /b HTTP/1.1\r\nHost: a\r\ncontent-length: 4\r\n\r\nGET GET / HTTP/1.1\r\nHost: a\r\n\r\n"), uint8(1))
	f.Add([]byte("POST /c HTTP/1.1\r\nHost: a\r\nTransfer-encoding: Chunked\r\n\r\n5;q=\"1\"\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"), uint8(50))
	f.Fuzz(func(t *testing.T, raw []byte, step uint8) {
		ends := frameEnds(raw, int(step)+1)
		if whole := frameEnds(raw, len(raw)+1); fmt.Sprint(ends) != fmt.Sprint(whole) {
			t.Fatalf("in pieces of %d messages end at %v, whole at %v", int(step)+1, ends, whole)
		}
		from := 0
		for _, to := range ends {
			br := bufio.NewReaderSize(strings.NewReader(string(raw[from:to])+"TAIL"), 1<<16)
			req, err := http.ReadRequest(br)
			if err != nil {
				return // net/http refuses and closes
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
			if rest, _ := io.ReadAll(br); string(rest) != "TAIL" {
				t.Fatalf("of message %q net/http leaves %q", raw[from:to], rest)
			}
			from = to
		}
	})
}

// frameEnds returns where the framer sees messages end.
func frameEnds(raw []byte, step int) (ends []int) {
	f := framer{maxBytes: 1 << 14, maxLines: 64}
	for at := 0; at < len(raw); {
		n, no := f.feed(raw[at:min(at+step, len(raw))])
		at += n
		if no != nil {
			return ends
		}
		if f.atStart() {
			ends = append(ends, at)
		}
	}
	return ends
}
