package wedgetest

import (
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"regexp"
	"strings"
	"testing"
)

// TestGo asks the Go guest for everything that has one right answer.
func TestGo(t *testing.T) {
	long := strings.Repeat("a long body ", 10_000)
	testAsks(t, goNode(t), []asks{
		{path: "/hello", want: "Hello, edge!\n", header: "Content-Length: 13"},
		{path: "/nothing", want: ""},
		{path: "/none", status: 204},
		{path: "/nowhere", status: 404, want: "no route\n"},
		{method: "HEAD", path: "/hello"},
		{path: "/stream", want: "part 0\npart 1\npart 2\n", header: "Content-Length:"},
		{path: "/proxy", want: "hello from origin\n", header: "Content-Length: 18"},
		{path: "/copy?n=1000000", want: strings.Repeat("0123456789abcdef", 62500)},
		{path: "/copy?n=1000000&chunked", want: strings.Repeat("0123456789abcdef", 62500)},
		{path: "/big?n=1000000", want: strings.Repeat("0123456789abcdef", 62500), header: "Content-Length: 1000000"},
		{path: "/big?n=1000000&chunked", want: strings.Repeat("0123456789abcdef", 62500), header: "Content-Length:"},
		{method: "POST", path: "/echo", body: long, want: long, header: "X-Origin-Length: 120000"},
		{method: "POST", path: "/duplex", body: "shout", want: "SHOUT"},
		{path: "/kv", want: `["one","meta","one+two",true,true,true,true]` + "\n"},
		{path: "/stores", want: `["good morning","s3cret","ALLOW",true,"San Francisco","Test Phone"]` + "\n"},
		{path: "/dynamic?target=ORIGIN", want: "hello from origin\n"},
		{path: "/logs", want: "logged"},
		{path: "/twice", status: 202, want: "once"},
		{path: "/sleep?for=20ms", want: "rested\n"},
	})
}

func TestGoRequest(t *testing.T) {
	n := goNode(t)
	got := decode[struct {
		Method, Host, URI, Body string
		Length                  int
		TLS                     bool
		Header                  http.Header
	}](t, n.Do(t, "PUT", "/request?a=b%20c&d", strings.NewReader("the body"), "X-Two: a", "X-Two: b"))
	if got.Method != "PUT" || got.Host != n.Addr || got.URI != "/request?a=b%20c&d" || got.Body != "the body" || got.Length != 8 || got.TLS ||
		strings.Join(got.Header["X-Two"], "|") != "a|b" {
		t.Errorf("the guest saw %+v", got)
	}
	env := decode[map[string]string](t, n.Get(t, "/env"))
	if env["FASTLY_SERVICE_ID"] != "test" || env["FASTLY_SERVICE_VERSION"] != "1" || env["OWN"] != "mine" || env["args"] != "compute-app" || len(env["FASTLY_TRACE_ID"]) != 32 {
		t.Errorf("environment %v", env)
	}
}

// TestGoFailures: what a backend does wrong reaches the guest as the reason it is.
func TestGoFailures(t *testing.T) {
	n := goNode(t)
	for _, c := range []struct{ backend, path, want string }{
		{"origin", "/hello", "ok 200"},
		{"origin", "/204", "ok 204"},
		{"origin", "/304", "ok 304"},
		{"origin", "/bomb-1xx", "14"},
		{"nope", "/", "4"},
		{"refused", "/", "7"},
		{"unresolved", "/", "3"},
		{"secure", "/hello", "24"},
		{"impatient", "/never", "16"},
		{"impatient", "/stall", "body: false"},
		{"origin", "/garbage", "17"},
		{"origin", "/early", "8"},
		{"origin", "/early-head", "19"},
		{"origin", "/short", "body: true"},
		{"origin", "/chunk", "body: true"},
		{"origin", "/bad-chunk", "body: false"},
		{"origin", "/bad-status", "17"},
		{"origin", "/bad-header", "19"},
		{"origin", "/two-length", "19"},
		{"origin", "/bomb", "14"},
		{"origin", "/bomb-line", "14"},
	} {
		r := n.Get(t, "/fail?backend="+c.backend+"&path="+c.path)
		if r.Text != c.want {
			t.Errorf("%s %s: got %q, want %q", c.backend, c.path, r.Text, c.want)
		}
	}
}

// interim sends a GET and returns the response with the Link fields of each 103 before it.
func interim(t *testing.T, n *Node, c *http.Client, base, path string) (links []string, r Response) {
	t.Helper()
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if code == http.StatusEarlyHints {
			links = append(links, strings.Join(h["Link"], " + "))
		}
		return nil
	}}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r = Do(t, c, req)
	return links, r
}

// TestEarlyHints: 103 is really sent, as often as the guest says, over HTTP/1.1 and HTTP/2.
func TestEarlyHints(t *testing.T) {
	js, goes := jsNode(t), goNode(t)
	h2 := H2C()
	defer h2.CloseIdleConnections()
	for _, c := range []*http.Client{js.Client, h2} {
		links, r := interim(t, goes, c, goes.URL, "/hints?for=10ms")
		r.is(t, 200, "done")
		if strings.Join(links, "\n") != "</style.css>; rel=preload\n</b.css>; rel=preload" || r.Header.Get("Link") != "" {
			t.Errorf("go: hints %q, final Link %q", links, r.Header.Get("Link"))
		}
		links, r = interim(t, js, c, js.URL, "/hints")
		r.is(t, 200, "done")
		if strings.Join(links, "\n") != "</style.css>; rel=preload; as=style\n</b.css>; rel=preload + </c.js>; rel=preload" &&
			strings.Join(links, "\n") != "</style.css>; rel=preload; as=style\n</b.css>; rel=preload, </c.js>; rel=preload" {
			t.Errorf("js: hints %q", links)
		}
	}
}

func TestTrailers(t *testing.T) {
	n := goNode(t)
	h2 := H2C()
	defer h2.CloseIdleConnections()
	for _, c := range []*http.Client{n.Client, h2} {
		req, _ := http.NewRequest(http.MethodGet, n.URL+"/trailers", nil)
		r := Do(t, c, req)
		r.is(t, 200, "body")
		if r.Trailer.Get("X-Sum") != "42" {
			t.Errorf("%s: trailer %v", r.Proto, r.Trailer)
		}
	}
}

var secretID = regexp.MustCompile(`^[1-9] [0-9a-f]{32}$`)

// TestGoReuse: a guest that serves many requests keeps its variables, and each request has its own id.
func TestGoReuse(t *testing.T) {
	n := Start(t, App{Guest: GoGuest(t, Guest("go")), Manifest: bindings(`args = ["compute-app", "many"]`)})
	ids, most := map[string]bool{}, "0"
	for range 9 {
		r := n.Get(t, "/served")
		if !secretID.MatchString(r.Text) {
			t.Fatalf("got %d %q", r.StatusCode, r.Text)
		}
		count, id, _ := strings.Cut(r.Text, " ")
		ids[id], most = true, max(most, count)
	}
	if len(ids) != 9 || most < "2" || most > "3" {
		t.Errorf("%d ids for 9 requests, at most %s in one sandbox; want 9, and 2 or 3", len(ids), most)
	}
	// A request that fails ends its sandbox, not the service.
	n.Get(t, "/exit")
	n.Get(t, "/hello").is(t, 200, "Hello, edge!\n")
}

// TestGoAfterExit: what main does after Serve happens, though the client has its answer.
func TestGoAfterExit(t *testing.T) {
	n := Start(t, App{Guest: GoGuest(t, Guest("go")), Manifest: strings.Replace(bindings(), "[env]", "[env]\nAFTER = \"late\"", 1)})
	n.Get(t, "/after-exit").is(t, 200, "nothing yet")
	Eventually(t, "the guest's last write", func() bool { return n.Get(t, "/after-exit").Text == "late" })
}

// TestSnapshot: a guest that begins where it first asked for its request answers as one that begins anew.
func TestSnapshot(t *testing.T) {
	n := Start(t, App{Guest: GoGuest(t, Guest("go")), Manifest: bindings(`start = "snapshot"`)})
	ids := map[string]bool{}
	for range 5 {
		testAsks(t, n, []asks{
			{path: "/hello", want: "Hello, edge!\n"},
			{method: "POST", path: "/echo", body: "some", want: "some"},
			{path: "/stores", want: `["good morning","s3cret","ALLOW",true,"San Francisco","Test Phone"]` + "\n"},
			{path: "/copy?n=100000", want: strings.Repeat("0123456789abcdef", 6250)},
			{path: "/sleep?for=5ms", want: "rested\n"},
			{path: "/exit", status: 500, want: "500 Internal Server Error\nrequest ID\n"},
		})
		count, id, _ := strings.Cut(n.Get(t, "/served").Text, " ")
		if ids[id] = true; count != "1" {
			t.Errorf("the guest counts %s requests: something of another one is left", count)
		}
	}
	if len(ids) != 5 || n.Node.Stats().Snapshots.Load() == 0 {
		t.Errorf("%d request ids of 5, %d sandboxes began at the snapshot", len(ids), n.Node.Stats().Snapshots.Load())
	}
}
