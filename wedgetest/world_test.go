package wedgetest

import (
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
)

// The tests of this package share an origin and one node per guest: compiling a JavaScript
// engine takes long under the race detector.
var world struct {
	mu     sync.Mutex
	origin *Origin
	ws     *httptest.Server
	nodes  map[string]*Node
	dir    string
}

func TestMain(m *testing.M) {
	if spec := os.Getenv(natsVariable); spec != "" {
		runNATS(spec)
		return
	}
	dir, err := os.MkdirTemp("", "wedgetest")
	if err != nil {
		panic(err)
	}
	world.origin, world.ws, world.nodes, world.dir = NewOrigin(), NewWebSocketOrigin(), map[string]*Node{}, dir
	code := m.Run()
	for name, n := range world.nodes {
		if err := n.Stop(); err != nil {
			fmt.Fprintf(os.Stderr, "node %s ended with: %v\n", name, err)
			code = 1
		}
	}
	world.origin.CloseClientConnections()
	world.origin.Close()
	world.ws.Close()
	os.RemoveAll(dir)
	os.Exit(code)
}

// shared returns the node of that name, which all tests use; app is asked for once.
func shared(t testing.TB, name string, app func() App) *Node {
	t.Helper()
	world.mu.Lock()
	defer world.mu.Unlock()
	if n := world.nodes[name]; n != nil {
		return n
	}
	dir, err := os.MkdirTemp(world.dir, name)
	if err != nil {
		t.Fatal(err)
	}
	n, err := Open(dir, app())
	if err != nil {
		t.Fatalf("start node: %v", err)
	}
	world.nodes[name] = n
	return n
}

func jsNode(t testing.TB) *Node {
	return shared(t, "js", func() App { return App{Guest: JSGuest(t, Guest("js")), Manifest: bindings()} })
}

func goNode(t testing.TB) *Node {
	return shared(t, "go", func() App { return App{Guest: GoGuest(t, Guest("go")), Manifest: bindings()} })
}

func cNode(t testing.TB) *Node {
	return shared(t, "c", func() App { return App{Guest: CGuest(t, Guest("c")), Manifest: "[limits]\ncpu = \"2s\"\n"} })
}

// bindings is the manifest of the guests that speak the Fastly ABI. Time limits are wide, for
// slow machines; tests of limits set their own.
func bindings(more ...string) string {
	return strings.Join(more, "\n") + `
dynamic_backends = true
[limits]
cpu = "2s"
wall = "60s"
[egress]
allow = ["127.0.0.0/8"]
[env]
OWN = "mine"
` + backends() + stores
}

func backends() string {
	return fmt.Sprintf(`
[backends.origin]
url = %[1]q
[backends.impatient]
url = %[1]q
first_byte_timeout = "200ms"
between_bytes_timeout = "200ms"
[backends.refused]
url = "http://%[2]s"
[backends.unresolved]
url = "http://no-such-host.invalid"
connect_timeout = "500ms"
[backends.secure]
url = "https://%[3]s"
[backends.ws]
url = %[4]q
`, world.origin.URL, RefusedAddr(), world.origin.Host(), world.ws.URL)
}

var stores = `
[config.settings]
greeting = "good morning"
long = "` + strings.Repeat("l", 8000) + `"
[kv.visits]
seed = { value = "seeded", metadata = "sown" }
[secrets.keys]
token = "s3cret"
[acl.office]
"10.0.0.0/8" = "ALLOW"
"10.6.0.0/16" = "BLOCK"
[geo]
"192.0.2.7" = { city = "Ouagadougou" }
[devices]
"test-phone" = { device = { name = "Test Phone", is_mobile = true } }
`

// is fails the test unless the response has this status and text.
func (r Response) is(t testing.TB, status int, text string) {
	t.Helper()
	if r.StatusCode != status || r.Text != text || r.Err != nil {
		t.Errorf("got %d %q (%v), want %d %q", r.StatusCode, cutText(r.Text), r.Err, status, text)
	}
}

func cutText(s string) string {
	if len(s) > 2000 {
		return s[:2000] + "..."
	}
	return s
}
