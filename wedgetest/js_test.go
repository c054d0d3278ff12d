package wedgetest

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
)

// asks is one request to a guest and its one right answer, in which ADDR is the node's address and ID the request's.
type asks struct {
	method, path, body string
	headers            []string
	status             int    // 0: 200
	want               string // the whole body
	header             string // "Name: value" that must be there, "Name:" one that must not; any number, by newline
}

func (c asks) run(t *testing.T, n *Node) {
	t.Helper()
	if c.method == "" {
		c.method = http.MethodGet
	}
	if c.status == 0 {
		c.status = http.StatusOK
	}
	path := strings.ReplaceAll(c.path, "ORIGIN", url.QueryEscape(world.origin.Host()))
	r := n.Do(t, c.method, path, strings.NewReader(c.body), c.headers...)
	want := strings.NewReplacer("ADDR", n.Addr, "request ID", "request "+requestID.FindString(r.Text)).Replace(c.want)
	r.is(t, c.status, want)
	for line := range strings.SplitSeq(c.header, "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.Join(r.Header.Values(name), "|") != strings.TrimSpace(value) {
			t.Errorf("%s is %q, want %q", name, r.Header.Values(name), strings.TrimSpace(value))
		}
	}
}

func testAsks(t *testing.T, n *Node, all []asks) {
	for _, c := range all {
		t.Run(strings.TrimPrefix(c.path, "/"), func(t *testing.T) { c.run(t, n) })
	}
}

// TestJS asks the JavaScript guest for everything that has one right answer.
func TestJS(t *testing.T) {
	long := strings.Repeat("a long body ", 10_000)
	testAsks(t, jsNode(t), []asks{
		{path: "/hello", want: "Hello, edge!\n", header: "Content-Length: 13\nContent-Type: text/plain;charset=UTF-8"},
		{path: "/empty", status: 204},
		{path: "/status?code=418", status: 418, want: "s"},
		{path: "/status?code=599", status: 599, want: "s"},
		{path: "/headers", want: "ok", header: "X-Two: a, b\nSet-Cookie: a=1|b=2; Path=/\nX-Gone:\nX-Long: " + strings.Repeat("y", 5000)},
		{path: "/nowhere", status: 404, want: "no route\n"},
		{method: "HEAD", path: "/hello", header: "Content-Type: text/plain;charset=UTF-8"},

		{path: "/proxy", want: "hello from origin\n", header: "Content-Length: 18"},
		{method: "HEAD", path: "/proxy"},
		{method: "POST", path: "/echo", body: long, want: long, header: "X-Method: POST\nX-Length: 120000"},
		{method: "POST", path: "/echo-text", body: long, want: long, header: "X-Length: 120000"},
		{path: "/upload-stream", want: "up0up1up2up3", header: "X-Length: -1\nX-Method: PUT"},
		{path: "/fetch-head", want: `{"shared":null,"status":203,"ok":true,"two":"a, b","cookies":["a=1","b=2"],"ip":"127.0.0.1","port":true,"text":"body"}`},
		{path: "/fetch-many", want: "1,2,3,4,5"},
		{path: "/fetch-race", want: "timer"},
		{path: "/fetch-gzip", want: `{"encoding":null,"text":"unpacked\n"}`},
		{path: "/fetch-cache", want: "hello from origin\n"},
		{path: "/fetch-errors", want: `{"unknown":"TypeError","refused":"NetworkError","garbage":"NetworkError","early":"NetworkError","short":"Error","never":"NetworkError"}`},

		{method: "PUT", path: "/forward", body: long, want: long, header: "X-Method: PUT\nX-Length: 120000"},
		{path: "/forward", want: "", header: "X-Method: GET\nX-Length: 0"},
		{method: "POST", path: "/forward-headers", body: "data", headers: []string{"X-Secret: s", "X-Kept: a", "X-Kept: b", "User-Agent: ua"},
			want: "POST ADDR /saw 4\nContent-Length: 4\r\nUser-Agent: ua\r\nX-Added: 1\r\nX-Kept: a, b\r\n\ndata"},
		{path: "/forward-status?code=204", status: 204, header: "Content-Length:"},
		{path: "/forward-status?code=304", status: 304},
		{path: "/redirect", status: 307, header: "Location: http://x.test/y"},
		{path: "/redirected", status: 302, want: "<a href=\"/hello\">Found</a>.\n\n", header: "Location: /hello"},
		{path: "/json", status: 201, want: `{"a":[1,null]}`, header: "Content-Type: application/json"},
		{path: "/manual", want: "12345", header: "Content-Length: 5"},
		{path: "/manual-fetch", want: "12345", header: "X-Length: 5"},
		{path: "/many-headers", want: `{"n":204,"bytes":40069}`, header: "X-Many-199: " + strings.Repeat("v", 200)},
		{method: "POST", path: "/clone", body: "twice ", want: "twice twice "},
		{path: "/kv-big", want: strings.Repeat("0123456789abcdef", 312500)},
		{path: "/url?a=%2F&b=%zz", want: "/url?a=%2F&b=%zz"},
		{method: "POST", path: "/body-twice", body: "x", want: "Error"},

		{path: "/stream", want: "part 0\npart 1\npart 2\n", header: "Content-Length:"},
		{path: "/transform", want: "HELLO FROM ORIGIN\nEND\n"},
		{path: "/identity", want: "hello from origin\n"},
		{path: "/tee", want: "hello from origin\nhello from origin\n"},
		{path: "/rewrite", want: `<html><body><h1 id=a class="x">new</h1></body></html>`},
		{method: "POST", path: "/read-chunks", body: strings.Repeat("x", 1<<20), want: `{"many":true,"bytes":1048576}`},

		{path: "/kv", want: `{"absent":null,"text":"value","meta":"meta","joined":"head+value+tail","add":"TypeError","big":300000,"streamed":"from a stream",` +
			`"list":[["list/0","list/1","list/2"],["list/3","list/4"],null],"deleted":null,"seed":"seeded","seedMeta":"sown","nostore":"TypeError","badkey":"TypeError"}`},
		{path: "/kv-serve", want: "seeded"},
		{path: "/config", want: `{"get":"good morning","absent":null,"dict":"good morning","dictAbsent":null,"long":8000}`},
		{path: "/config-missing", want: `["TypeError","TypeError"]`},
		{path: "/secret", want: `{"text":"s3cret","raw":6,"absent":null,"bytes":"hi","store":"TypeError"}`},
		{path: "/acl", want: `{"in":{"prefix":"10.0.0.0/8","action":"ALLOW"},"out":null,"open":"TypeError"}`},
		{path: "/geo", want: `{"city":"San Francisco","own":"Ouagadougou","unknown":null}`},
		{path: "/device", want: `{"name":"Test Phone","mobile":true,"unknown":null}`},
		{path: "/log", want: "logged"},
		{path: "/backend", want: `{"name":"origin","dynamic":false,"target":"127.0.0.1","ssl":false,"connect":1000,"first":15000,"between":10000,"health":"unknown",` +
			`"exists":[true,false],"min":null,"keep":60000,"tcp":null}`},
		{path: "/dynamic?target=ORIGIN", want: `{"dynamic":true,"text":"hello from origin\n","twice":"Error"}`},
		{path: "/dynamic-implicit?target=ORIGIN", want: "hello from origin\n"},

		{path: "/timers", want: `{"ticks":true,"micro":true,"now":true}`},
		{path: "/cpu", want: `{"before":true,"grew":true,"x":19999900000}`},
		{path: "/inspect", want: `{"inspect":{"waf_response":200,"redirect_url":"","tags":[],"verdict":"allow","decision_ms":0}}`},
		{path: "/ws", status: 403, want: "no websocket here\n"},
		{path: "/raw-error", status: 500},
		{path: "/ws-nope", status: 500},
	})
}

// decode reads a JSON answer.
func decode[T any](t *testing.T, r Response) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.Text), &v); err != nil || r.StatusCode != 200 {
		t.Fatalf("%d %q: %v", r.StatusCode, cutText(r.Text), err)
	}
	return v
}

func TestJSRequest(t *testing.T) {
	n := jsNode(t)
	r := n.Do(t, "PATCH", "/request?a=b%20c&d", strings.NewReader("the body"), "X-Two: a", "X-Two: b", "Cookie: c=1", "X-Utf8: \xc3\xa9", "Accept: */*")
	got := decode[struct {
		Method, URL, Body string
		Headers           map[string]string
	}](t, r)
	if got.Method != "PATCH" || got.URL != n.URL+"/request?a=b%20c&d" || got.Body != "the body" {
		t.Errorf("the guest saw %+v", got)
	}
	for name, want := range map[string]string{"x-two": "a, b", "cookie": "c=1", "accept": "*/*", "content-length": "8", "host": n.Addr, "x-utf8": "\u00c3\u00a9"} {
		if got.Headers[name] != want {
			t.Errorf("header %s is %q, want %q", name, got.Headers[name], want)
		}
	}
}

// TestJSLongHeader: the SDK takes a request with a field of more than 69,000 bytes for one without
// headers, so that none may reach it.
func TestJSLongHeader(t *testing.T) {
	n := jsNode(t)
	for size := 60_000; size < 80_000; size += 500 {
		r := n.Do(t, "GET", "/request", nil, "X-Check: me", "Cookie: "+strings.Repeat("c", size))
		if r.StatusCode == http.StatusRequestHeaderFieldsTooLarge {
			continue
		}
		if got := decode[struct{ Headers map[string]string }](t, r); got.Headers["x-check"] != "me" || len(got.Headers["cookie"]) != size {
			t.Fatalf("with a cookie of %d bytes the guest sees %d headers", size, len(got.Headers))
		}
	}
}

func TestJSEnvAndClient(t *testing.T) {
	n := jsNode(t)
	one, two := decode[[]*string](t, n.Get(t, "/env")), decode[[]*string](t, n.Get(t, "/env"))
	if *one[0] != "test" || *one[1] != "1" || *one[4] != "mine" || one[5] != nil {
		t.Errorf("environment %v %v %v %v", *one[0], *one[1], *one[4], one[5])
	}
	if len(*one[3]) != 32 || *one[3] == *two[3] {
		t.Errorf("trace ids %q and %q must be 32 digits and differ", *one[3], *two[3])
	}
	c := decode[map[string]any](t, n.Get(t, "/client"))
	if c["address"] != "127.0.0.1" || c["server"] != "127.0.0.1" || c["geo"] != "San Francisco" || c["protocol"] != nil || len(c["id"].(string)) != 32 {
		t.Errorf("client %v", c)
	}
	type drawn struct{ Sha, Draw string }
	a, b := decode[drawn](t, n.Get(t, "/crypto")), decode[drawn](t, n.Get(t, "/crypto"))
	if a.Sha != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" || a.Draw == b.Draw {
		t.Errorf("crypto %v %v", a, b)
	}
}

// TestJSTLSBackend: a dynamic backend with TLS trusts the roots it is given, and the system's
// only without them.
func TestJSTLSBackend(t *testing.T) {
	n, cert := jsNode(t), NewCertificate(t)
	o := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s %s", r.TLS.ServerName, r.Host) }))
	o.TLS = &tls.Config{Certificates: []tls.Certificate{cert.TLS}}
	o.Config.ErrorLog = log.New(io.Discard, "", 0)
	o.StartTLS()
	defer o.Close()
	ca, err := os.ReadFile(cert.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	target := "?target=" + url.QueryEscape(o.Listener.Addr().String())
	n.Do(t, "POST", "/tls"+target, bytes.NewReader(ca)).is(t, 200, `{"text":"edge.test edge.test","ssl":true,"port":true}`)
	n.Get(t, "/tls-bad"+target).is(t, 200, "NetworkError")
}

func TestJSGzip(t *testing.T) {
	r := jsNode(t).Get(t, "/gzip-out")
	z, err := gzip.NewReader(bytes.NewReader([]byte(r.Text)))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(z); string(b) != "hello from origin\n" || err != nil || r.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("got %q, %v", b, err)
	}
}

// TestJSStreamError: a body that breaks off must not look whole.
func TestJSStreamError(t *testing.T) {
	r := jsNode(t).Get(t, "/stream-error")
	if r.StatusCode != 200 || r.Err == nil {
		t.Errorf("got %d %q, error %v", r.StatusCode, r.Text, r.Err)
	}
}

func TestJSLogs(t *testing.T) {
	n := jsNode(t)
	n.Get(t, "/log").is(t, 200, "logged")
	for _, line := range []string{"audit :: line one\n", "audit :: line two\n", "to stdout 1 { a: 2 }\n", "to stderr\n"} {
		Eventually(t, "log line "+line, func() bool { return n.Stdout.Has(line) })
	}
	n.Get(t, "/raw-error").is(t, 500, "")
	Eventually(t, "the guest's complaint ends its line", func() bool { return n.Stderr.Has("Error while running request handler.\n") })
}

// TestJSWaitUntil: work after the answer goes on when the client has it, and is finished.
func TestJSWaitUntil(t *testing.T) {
	n := jsNode(t)
	n.Get(t, "/wait-until").is(t, 200, "answered")
	Eventually(t, "waitUntil's write", func() bool { return n.Get(t, "/after").Text == "written after the answer" })
}

// TestJSReuse: a guest that asks for more requests gets them in the same sandbox.
func TestJSReuse(t *testing.T) {
	n := shared(t, "jsreuse", func() App { return App{Guest: JSGuest(t, Guest("jsreuse")), Manifest: bindings()} })
	var served []int
	born := map[float64]bool{}
	for range 7 {
		got := decode[struct {
			Served int
			Born   float64
		}](t, n.Get(t, "/x"))
		served, born[got.Born] = append(served, got.Served), true
	}
	// A request may come before its predecessor's guest waits for one: then it gets a new sandbox.
	if slices.Max(served) < 2 || slices.Max(served) > 3 {
		t.Errorf("requests per sandbox, as they count: %v; three at most, more than one at times", served)
	}
}
