package wedgetest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/compute"
	"github.com/wedge-cloud/wedge/compute/hostcall"
	w "github.com/wedge-cloud/wedge/internal/wasmtest"
	"github.com/wedge-cloud/wedge/node"
)

// internals is what a client must not be shown.
var internals = regexp.MustCompile(`(?i)wasm|wazero|goroutine|\.go\b|/tmp|/work|/home|0x[0-9a-f]{4}|127\.0\.0\.1|panic|runtime|\*\w+\.\w+|trap|hostcall|sandbox|cpu|secret`)

var requestID = regexp.MustCompile(`\b[0-9a-f]{32}\b`)

// refused checks an answer that the host gave in place of the guest: its status, an id, and nothing of
// what happened inside. It returns the id.
func refused(t *testing.T, r Response, status int) string {
	t.Helper()
	id := requestID.FindString(r.Text)
	if r.StatusCode != status || id == "" || internals.MatchString(r.Text) || r.Err != nil {
		t.Errorf("got %d %q (%v), want a plain %d with the request's id", r.StatusCode, cutText(r.Text), r.Err, status)
	}
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "text/plain") || r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v, want plain text that is not stored", r.Header)
	}
	return id
}

// blamed checks that the console says why the request of that id failed, and what to do.
func blamed(t *testing.T, n *Node, id, why string) {
	t.Helper()
	Eventually(t, "the console tells of request "+id, func() bool { return n.Stderr.Has("request " + id + " failed: ") })
	text := n.Stderr.About("request " + id + " failed: ")
	line, rest, _ := strings.Cut(text, "\n")
	if !slices.ContainsFunc(strings.Split(why, "|"), func(s string) bool { return strings.Contains(text, s) }) {
		t.Errorf("the console says %q, want %q", cutText(text), why)
	}
	if strings.Contains(line, "goroutine") || !strings.Contains(rest, "hint: ") {
		t.Errorf("no hint in %q", cutText(text))
	}
}

// tight is a manifest with small limits.
const tight = "[limits]\ncpu = \"100ms\"\nwall = \"2s\"\nmemory = \"16MiB\"\nhostcalls = 10000\n"

// TestHostileGuests: whatever a guest does, its client gets a plain answer, its author is told why,
// and the next request is served.
func TestHostileGuests(t *testing.T) {
	for _, c := range []struct {
		name   string
		module func(m *w.Module)
		status int
		why    string
	}{
		{"loop", func(m *w.Module) { m.Memory(1); m.Main("", w.Forever) }, 500, "CPU time of 100ms"},
		{"recursion", func(m *w.Module) {
			m.Memory(1)
			f := m.Declare("i32 -> i32")
			m.Define(f, "", w.Get(0), w.I32(1), w.Add, w.Call(f), w.I32(1), w.Add)
			m.Main("", w.I32(0), w.Call(f), w.Drop)
		}, 500, "stack|CPU time"}, // whichever it uses up first
		{"memory bomb", func(m *w.Module) {
			m.Memory(1)
			m.Main("", w.Loop(w.I32(16), w.MemoryGrow, w.I32(-1), w.Ne, w.BrIf(0)), w.Unreachable)
		}, 500, "more memory than its 16 MiB"},
		{"trap", func(m *w.Module) { m.Memory(1); m.Main("", w.Unreachable) }, 500, "unreachable"},
		{"out of bounds", func(m *w.Module) { m.Memory(1); m.Main("", w.I32(-4), w.Load(0), w.Drop) }, 500, "out of bounds"},
		{"divide by zero", func(m *w.Module) { m.Memory(1); m.Main("", w.I32(1), w.I32(0), w.DivU, w.Drop) }, 500, "divide by zero"},
		{"hostcall loop", func(m *w.Module) {
			f := m.Import("fastly_http_resp", "new", "i32 -> i32")
			g := m.Import("fastly_http_resp", "close", "i32 -> i32")
			m.Memory(1)
			m.Main("", w.Loop(w.I32(0), w.Call(f), w.Drop, w.I32(0), w.Load(0), w.Call(g), w.Drop, w.Br(0)))
		}, 500, "hostcalls"},
		{"bad pointers", func(m *w.Module) {
			f := m.Import("fastly_http_req", "body_downstream_get", "i32 i32 -> i32")
			exit := m.Import("wasi_snapshot_preview1", "proc_exit", "i32 ->")
			m.Memory(1)
			m.Main("", w.I32(-1), w.I32(65533), w.Call(f), w.Call(exit))
		}, 500, "exited with code 2"},
		{"sleep", func(m *w.Module) {
			f := m.Import("wasi_snapshot_preview1", "poll_oneoff", "i32 i32 i32 i32 -> i32")
			m.Import("fastly_http_resp", "new", "i32 -> i32")
			m.Memory(1)
			m.Data(16, "\x01\x00\x00\x00")
			m.Main("", w.I32(24), w.I64(1<<40), w.Store64(0), w.I32(0), w.I32(100), w.I32(1), w.I32(200), w.Call(f), w.Drop)
		}, 504, "longer than 2s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := w.New()
			c.module(m)
			src := m.Bytes()
			if !strings.Contains(string(src), "fastly_") {
				src = asFastly(c.module)
			}
			limits := tight
			if c.status != http.StatusGatewayTimeout { // on a slow machine what is to end a guest takes its time
				limits = strings.Replace(tight, `"2s"`, `"60s"`, 1)
			}
			n := Start(t, App{Guest: src, Manifest: limits})
			for range 2 {
				id := refused(t, n.Get(t, "/"), c.status)
				blamed(t, n, id, c.why)
			}
		})
	}
}

// asFastly makes the module one that speaks the Fastly ABI: without a fastly import it would run as CGI.
func asFastly(module func(*w.Module)) []byte {
	m := w.New()
	m.Import("fastly_http_resp", "new", "i32 -> i32")
	module(m)
	return m.Bytes()
}

// TestHostileInRealGuests: the same from within the SDKs, and the node goes on.
func TestHostileInRealGuests(t *testing.T) {
	limits := "[limits]\ncpu = \"300ms\"\n"
	js := Start(t, App{Guest: JSGuest(t, Guest("js")), Manifest: limits})
	goes := Start(t, App{Guest: GoGuest(t, Guest("go")), Manifest: limits})
	for _, c := range []struct {
		n         *Node
		path, why string
	}{
		{js, "/loop", "CPU time"}, {js, "/memory", ""},
		{goes, "/loop", "CPU time"}, {goes, "/recurse", ""}, {goes, "/memory", ""}, {goes, "/headers", "code 1"}, {goes, "/exit", "code 7"},
	} {
		r := c.n.Get(t, c.path)
		if r.StatusCode == 500 && r.Text == "" && c.why == "" {
			continue // the SDK noticed itself
		}
		blamed(t, c.n, refused(t, r, 500), c.why)
		c.n.Get(t, "/hello").is(t, 200, "Hello, edge!\n")
	}
	for _, path := range []string{"/recurse", "/header-bomb", "/log-bomb", "/hostcalls"} {
		if r := js.Get(t, path); path != "/recurse" && internals.MatchString(r.Text) {
			t.Errorf("%s answers %d %q", path, r.StatusCode, cutText(r.Text))
		}
		js.Get(t, "/hello").is(t, 200, "Hello, edge!\n")
	}
	r := goes.Get(t, "/panic")
	if r.StatusCode != 500 || strings.Contains(r.Text, "secret") {
		t.Errorf("/panic answers %d %q", r.StatusCode, r.Text)
	}
	Eventually(t, "the author sees the panic", func() bool { return goes.Stderr.Has("oops: a secret of the guest") })
	if r := js.Get(t, "/raw-error"); r.StatusCode != 500 || strings.Contains(r.Text, "secret") {
		t.Errorf("/raw-error answers %d %q", r.StatusCode, r.Text)
	}
}

// TestAnswers: answers that the ABI does not allow, made by hand because no SDK makes them.
func TestAnswers(t *testing.T) {
	// begin: new response and body, both 0; then the code, which leaves a status to exit with.
	guest := func(code func(send, exit, write, closes uint32) w.Code) []byte {
		m := w.New()
		resp := m.Import("fastly_http_resp", "new", "i32 -> i32")
		send := m.Import("fastly_http_resp", "send_downstream", "i32 i32 i32 -> i32")
		body := m.Import("fastly_http_body", "new", "i32 -> i32")
		write := m.Import("fastly_http_body", "write", "i32 i32 i32 i32 i32 -> i32")
		closes := m.Import("fastly_http_body", "close", "i32 -> i32")
		exit := m.Import("wasi_snapshot_preview1", "proc_exit", "i32 ->")
		m.Memory(1)
		m.Data(100, "hello")
		// Responses 0 and 1 and bodies 0 and 1.
		m.Main("", w.I32(0), w.Call(resp), w.Drop, w.I32(4), w.Call(resp), w.Drop, w.I32(0), w.Call(body), w.Drop, w.I32(4), w.Call(body), w.Drop,
			code(send, exit, write, closes))
		return m.Bytes()
	}
	put := func(write uint32) w.Code {
		return w.Seq(w.I32(0), w.I32(100), w.I32(5), w.I32(0), w.I32(8), w.Call(write), w.Drop)
	}
	t.Run("second answer", func(t *testing.T) {
		n := Start(t, App{Guest: guest(func(send, exit, write, _ uint32) w.Code {
			return w.Seq(put(write), w.I32(0), w.I32(0), w.I32(0), w.Call(send), w.Drop, w.I32(1), w.I32(1), w.I32(0), w.Call(send), w.Call(exit))
		})})
		r := n.Get(t, "/")
		r.is(t, 200, "hello")
		Eventually(t, "the second answer's status 1", func() bool { return n.Stderr.Has("exited with code 1") })
	})
	for name, end := range map[string]bool{"unclosed": false, "closed": true} {
		t.Run(name+" stream", func(t *testing.T) {
			n := Start(t, App{Guest: guest(func(send, exit, write, closes uint32) w.Code {
				code := w.Seq(w.I32(0), w.I32(0), w.I32(1), w.Call(send), w.Drop, put(write))
				if end {
					code = w.Seq(code, w.I32(0), w.Call(closes), w.Drop)
				}
				return code
			})})
			r := n.Get(t, "/")
			if r.StatusCode != 200 || r.Text != "hello" || end != (r.Err == nil) {
				t.Errorf("got %d %q, %v", r.StatusCode, r.Text, r.Err)
			}
		})
	}
	t.Run("no answer", func(t *testing.T) {
		n := Start(t, App{Guest: guest(func(_, _, _, _ uint32) w.Code { return nil })})
		n.Get(t, "/").is(t, 200, "")
	})
}

// TestBadModules: what is no program is refused at the start, with the reason and a hint.
func TestBadModules(t *testing.T) {
	m := w.New()
	m.Import("env", "launch_missiles", "i32 -> i32")
	m.Memory(1)
	m.Main("")
	unknown := m.Bytes()
	huge := w.New()
	huge.Memory(65536)
	huge.Main("")
	for _, c := range []struct {
		name, src, why string
	}{
		{"empty", "", ""},
		{"text", "#!/bin/sh\necho hello\n", ""},
		{"component", "\x00asm\x0d\x00\x01\x00", "component"},
		{"unknown import", string(unknown), "env.launch_missiles"},
		{"4 GiB memory", string(huge.Bytes()), "memory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, err := Open(t.TempDir(), App{Guest: []byte(c.src)})
			if err == nil {
				n.Stop()
				t.Fatal("the node serves it")
			}
			if kind := wedge.KindOf(err); kind == wedge.Internal || wedge.HintOf(err) == "" || !strings.Contains(err.Error(), c.why) {
				t.Errorf("kind %v, error %q, hint %q; want one about %q", kind, err, wedge.HintOf(err), c.why)
			}
		})
	}
}

// TestTruncated: a guest cut off anywhere is refused in good order.
func TestTruncated(t *testing.T) {
	engine := compute.New(compute.Config{Funcs: hostcall.Table(), CacheDir: t.TempDir()})
	defer engine.Close()
	m := w.New()
	f := m.Import("fastly_http_resp", "new", "i32 -> i32")
	m.Memory(1)
	m.Data(0, "some data")
	m.Main("i32", w.I32(0), w.Call(f), w.Drop)
	small := m.Bytes()
	real := GoGuest(t, Guest("go"))
	try := func(src []byte) {
		module, err := engine.Load(context.Background(), src, compute.Options{Name: "cut"})
		if err == nil {
			module.Close() // only trailing custom sections may be missing
			return
		}
		if k := wedge.KindOf(err); k != wedge.Invalid && k != wedge.Unsupported {
			t.Errorf("%d bytes: %v (%v)", len(src), err, k)
		}
	}
	for n := range small {
		try(small[:n])
	}
	for i := range 40 {
		try(real[:len(real)*i/40])
		try(real[:i*3])
	}
	for i := range small { // and one with a bit turned
		b := []byte(string(small))
		b[i] ^= 1 << (i % 8)
		try(b)
	}
}

// TestHostileClients: the front answers for itself, and nobody else is disturbed.
func TestHostileClients(t *testing.T) {
	n := goNode(t)
	bomb := strings.Repeat("X-Bomb: "+strings.Repeat("y", 1000)+"\r\n", 300)
	for _, c := range []struct{ name, send, want string }{
		{"header bytes", "GET / HTTP/1.1\r\nHost: x\r\n" + bomb + "\r\n", " 431 "},
		{"header lines", "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("a: b\r\n", 5000) + "\r\n", " 431 "},
		{"one long line", "GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("y", 1<<20) + "\r\n\r\n", " 431 "},
		{"uri", "GET /" + strings.Repeat("u", 10000) + " HTTP/1.1\r\nHost: x\r\n\r\n", " 414 "},
		{"garbage", "\x16\x03\x01\x02\x00\x01garbage\r\n\r\n", " 400 "},
		{"no host", "GET / HTTP/1.1\r\n\r\n", " 400 "},
		{"two lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", " 400 "},
		{"length and chunked", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", " 400 "},
		{"connect", "CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", " 501 "},
		{"bad chunk", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Raw(t, n.Addr, c.send)
			line, _, _ := strings.Cut(got, "\r\n")
			if !strings.Contains(line, c.want) || internals.MatchString(got) {
				t.Errorf("got %q, want%q", cutText(got), c.want)
			}
			n.Get(t, "/hello").is(t, 200, "Hello, edge!\n")
		})
	}
}

// TestHostileOrigins: a guest that passes on what it gets, from origins that answer wrongly.
func TestHostileOrigins(t *testing.T) {
	js := jsNode(t)
	for _, path := range []string{"/garbage", "/early", "/early-head", "/bad-status", "/bad-header", "/two-length", "/bomb", "/bomb-line", "/bomb-1xx"} {
		r := js.Get(t, "/fail?path="+path)
		if r.StatusCode < 500 || internals.MatchString(r.Text) {
			t.Errorf("%s: got %d %q", path, r.StatusCode, cutText(r.Text))
		}
	}
	for _, path := range []string{"/short", "/chunk", "/bad-chunk"} {
		if r := js.Get(t, "/fail?path="+path); r.StatusCode != 200 || r.Err == nil {
			t.Errorf("%s: got %d %q, %v; half a body must not look whole", path, r.StatusCode, r.Text, r.Err)
		}
	}
	for backend, path := range map[string]string{"refused": "/", "unresolved": "/", "secure": "/", "impatient": "/never"} {
		if r := js.Get(t, "/fail?backend="+backend+"&path="+path); r.StatusCode < 500 || internals.MatchString(r.Text) {
			t.Errorf("%s: got %d %q", backend, r.StatusCode, cutText(r.Text))
		}
	}
	if r := js.Get(t, "/fail?backend=impatient&path=/stall"); r.Err == nil {
		t.Errorf("a stalled body looks whole: %q", r.Text)
	}
	js.Get(t, "/hello").is(t, 200, "Hello, edge!\n")
}

// TestOverload: beyond what a node may run at once, 503 with Retry-After, at once.
func TestOverload(t *testing.T) {
	n := Start(t, App{Guest: GoGuest(t, Guest("go")), Manifest: bindings()}, func(c *node.Config) { c.MaxSandboxes = 4 })
	var wg sync.WaitGroup
	var mu sync.Mutex
	count := map[int]int{}
	for range 20 {
		wg.Go(func() {
			r := n.Get(t, "/sleep?for=500ms")
			mu.Lock()
			defer mu.Unlock()
			count[r.StatusCode]++
			if r.StatusCode == http.StatusServiceUnavailable {
				refused(t, r, http.StatusServiceUnavailable)
				if r.Header.Get("Retry-After") == "" {
					t.Error("503 without Retry-After")
				}
			}
		})
	}
	wg.Wait()
	if count[200] != 4 || count[503] != 16 {
		t.Errorf("statuses %v, want 4 of 200 and 16 of 503", count)
	}
	n.Get(t, "/hello").is(t, 200, "Hello, edge!\n")
	service := Start(t, App{Guest: GoGuest(t, Guest("go")), Manifest: "concurrency = 1\n"})
	first := make(chan Response, 1)
	go func() { first <- service.Get(t, "/sleep?for=500ms") }()
	Eventually(t, "the first request runs", func() bool { return service.Node.Stats().Running.Load() == 1 })
	refused(t, service.Get(t, "/hello"), http.StatusServiceUnavailable)
	Soon(t, "the first answer", first).is(t, 200, "rested\n")
}

// TestDynamicBackends: loopback is out of reach unless the version says otherwise.
func TestDynamicBackends(t *testing.T) {
	path := "/dynamic?target=" + world.origin.Host()
	for manifest, want := range map[string]string{
		"dynamic_backends = true\n":                                      "fetch: 6",
		"dynamic_backends = true\n[egress]\nallow = [\"10.0.0.0/8\"]\n":  "fetch: 6",
		"dynamic_backends = true\n[egress]\nallow = [\"127.0.0.0/8\"]\n": "hello from origin\n",
		"dynamic_backends = false\n":                                     "register: true",
	} {
		Start(t, App{Guest: GoGuest(t, Guest("go")), Manifest: manifest}).Get(t, path).is(t, 200, want)
	}
}

// TestSlowClient: one that sends its head byte by byte, and one that never reads, hold nobody else up.
func TestSlowClient(t *testing.T) {
	n := goNode(t)
	c := Dial(t, n.Addr)
	for _, b := range "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" {
		fmt.Fprintf(c, "%c", b)
		time.Sleep(time.Millisecond)
	}
	if b, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(b), "Hello, edge!\n") {
		t.Errorf("got %q, %v", b, err)
	}
	for range 5 {
		fmt.Fprintf(Dial(t, n.Addr), "GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	for range 20 {
		n.Get(t, "/hello").is(t, 200, "Hello, edge!\n")
	}
}
