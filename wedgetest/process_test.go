package wedgetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge/manifest"
	"github.com/wedge-cloud/wedge/node"
)

var command struct {
	once sync.Once
	file string
	err  error
}

// wedgeBinary returns the wedge command, built once for all tests.
func wedgeBinary(t *testing.T) string {
	t.Helper()
	Need(t, "go")
	command.once.Do(func() {
		command.file = filepath.Join(world.dir, "wedge")
		cmd := exec.Command("go", "build", "-o", command.file, "./cmd/wedge")
		cmd.Dir = Root()
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			command.err = fmt.Errorf("%v\n%s", err, out)
		}
	})
	if command.err != nil {
		t.Fatal(command.err)
	}
	return command.file
}

// file writes a file of the test's and returns its path.
func file(t *testing.T, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

var serving = regexp.MustCompile(`serving (http://\S+)`)

// TestSIGTERM: a wedge that is told to stop finishes what it has, refuses what is new, and exits with 0.
func TestSIGTERM(t *testing.T) {
	t.Parallel()
	guest := file(t, "guest.wasm", GoGuest(t, Guest("go")))
	cmd := exec.Command(wedgeBinary(t), "run", "--addr", "127.0.0.1:0", "--ephemeral", guest)
	out := new(Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	Eventually(t, "wedge run serves", func() bool { return serving.MatchString(out.String()) })
	url := serving.FindStringSubmatch(out.String())[1]
	c := NewClient()
	answers := make(chan error, 8)
	for range cap(answers) {
		go func() {
			resp, err := c.Get(url + "/sleep?for=700ms")
			if err == nil {
				var b []byte
				b, err = io.ReadAll(resp.Body)
				if string(b) != "rested\n" || resp.StatusCode != 200 {
					err = fmt.Errorf("%d %q, %v", resp.StatusCode, b, err)
				}
			}
			answers <- err
		}()
	}
	time.Sleep(300 * time.Millisecond) // all are in the guest
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	Eventually(t, "new connections are refused", func() bool {
		resp, err := NewClient().Get(url + "/hello")
		if err == nil {
			resp.Body.Close()
		}
		return err != nil
	})
	for range cap(answers) {
		if err := <-answers; err != nil {
			t.Errorf("a request in flight: %v", err)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("wedge ended with %v\n%s", err, out)
	}
}

// TestDrain: the same in process: an answer that is still streaming comes to its end, and a guest
// that works after its answer finishes.
func TestDrain(t *testing.T) {
	dir := t.TempDir()
	app := App{Guest: JSGuest(t, Guest("js")), Manifest: bindings()}
	keep := func(c *node.Config) { c.Ephemeral, c.DataDir = false, dir }
	n := Start(t, app, keep)
	resp, err := n.Client.Get(n.URL + "/fail?path=" + strings.ReplaceAll("/drip?pause=30ms", "?", "%3F"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	n.Get(t, "/wait-until").is(t, 200, "answered")
	n.BeginStop()
	if b, err := io.ReadAll(resp.Body); string(b) != "0123456789" || err != nil {
		t.Errorf("the answer in flight is %q, %v", b, err)
	}
	if err := n.Stop(); err != nil {
		t.Errorf("the node ended with %v", err)
	}
	Start(t, app, keep).Get(t, "/after").is(t, 200, "written after the answer")
}

// TestDrainTimeout: what does not finish in time is cut, and the node ends all the same.
func TestDrainTimeout(t *testing.T) {
	n := Start(t, App{Guest: GoGuest(t, Guest("go")), Manifest: bindings()}, func(c *node.Config) { c.DrainTimeout = 300 * time.Millisecond })
	done := make(chan error, 1)
	go func() {
		resp, err := n.Client.Get(n.URL + "/endless")
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
		}
		done <- err
	}()
	Eventually(t, "the request runs", func() bool { return n.Node.Stats().Running.Load() == 1 })
	start := time.Now()
	if err := n.Stop(); err != nil {
		t.Errorf("the node ended with %v", err)
	}
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
	if err := Soon(t, "the client is cut", done); err == nil {
		t.Error("an endless answer ended well")
	}
}

// TestReload: under load from all sides, versions come and go without a request failing.
func TestReload(t *testing.T) {
	t.Parallel()
	dir, guest := t.TempDir(), GoGuest(t, Guest("go"))
	var version atomic.Int32
	var broken atomic.Bool
	load := func(context.Context) (*manifest.App, error) {
		if broken.Load() {
			return App{Guest: []byte("this is no guest")}.Load(dir)
		}
		return App{Guest: guest, Manifest: strings.Replace(bindings(), "mine", fmt.Sprint("v", version.Load()), 1)}.Load(dir)
	}
	n := Start(t, App{}, func(c *node.Config) { c.Load, c.Watch, c.Quiet = node.One(load), true, true })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var requests atomic.Int64
	var seen sync.Map
	var wg sync.WaitGroup
	h2 := H2C()
	defer h2.CloseIdleConnections()
	for i, path := range []string{"/env", "/env", "/stream", "/copy?n=300000", "/hello", "/sleep?for=50ms"} {
		wg.Go(func() {
			c := []*http.Client{n.Client, h2}[i%2]
			for ctx.Err() == nil {
				req, _ := http.NewRequest(http.MethodGet, n.URL+path, nil)
				resp, err := c.Do(req)
				var b []byte
				if err == nil {
					b, err = io.ReadAll(resp.Body)
					resp.Body.Close()
				}
				if err != nil || resp.StatusCode != 200 {
					t.Errorf("%s: %v, %q", path, err, b)
					return
				}
				if requests.Add(1); path == "/env" {
					seen.Store(string(regexp.MustCompile(`"OWN":"v\d+"`).Find(b)), true)
				}
			}
		})
	}
	for v := 1; v <= 4; v++ {
		version.Store(int32(v))
		Eventually(t, fmt.Sprint("version ", v, " serves"), func() bool {
			touch(t, dir) // again and again: a change may come before the node looks for the first time
			_, ok := seen.Load(fmt.Sprintf(`"OWN":"v%d"`, v))
			return ok
		})
	}
	// A version that cannot be loaded changes nothing.
	broken.Store(true)
	Eventually(t, "the console tells of the bad version", func() bool {
		touch(t, dir)
		return n.Stderr.Has("reload failed, the old version serves on")
	})
	n.Get(t, "/hello").is(t, 200, "Hello, edge!\n")
	cancel()
	wg.Wait()
	t.Logf("%d requests", requests.Load())
	if r := decode[map[string]string](t, n.Get(t, "/env")); len(r["FASTLY_SERVICE_VERSION"]) == 1 && r["FASTLY_SERVICE_VERSION"] < "5" {
		t.Errorf("the guest is told it is version %s, want 5 at least", r["FASTLY_SERVICE_VERSION"])
	}
}

// TestSaveDuringBuild: what an author saves while the app is being built is built next.
func TestSaveDuringBuild(t *testing.T) {
	t.Parallel()
	dir, guest := t.TempDir(), GoGuest(t, Guest("go"))
	var loads atomic.Int32
	load := func(context.Context) (*manifest.App, error) {
		v := loads.Add(1)
		app, err := App{Guest: guest, Manifest: fmt.Sprintf("args = [\"compute-app\", \"v%d\"]\n", min(v, 3))}.Load(dir)
		if v == 2 {
			touch(t, dir) // the author is quick
		}
		return app, err
	}
	n := Start(t, App{}, func(c *node.Config) { c.Load, c.Watch = node.One(load), true })
	touch(t, dir)
	Eventually(t, "what was saved last serves", func() bool { return strings.Contains(n.Get(t, "/env").Text, "compute-app v3") })
	before := loads.Load()
	time.Sleep(700 * time.Millisecond) // two looks
	if after := loads.Load(); after > before+1 {
		t.Errorf("%d loads after nothing has changed any more", after-before)
	}
}

// touch makes the app's manifest look changed.
func touch(t *testing.T, dir string) {
	t.Helper()
	now := time.Now()
	if err := os.Chtimes(filepath.Join(dir, "wedge.toml"), now, now); err != nil {
		t.Fatal(err)
	}
}

// TestOnce: the form in which SDKs run their test programs.
func TestOnce(t *testing.T) {
	c := file(t, "c.wasm", CGuest(t, Guest("c")))
	js := file(t, "js.wasm", JSGuest(t, Guest("js")))
	goes := file(t, "go.wasm", GoGuest(t, Guest("go")))
	toml := file(t, "fastly.toml", []byte("[local_server.backends.origin]\nurl = \""+world.origin.URL+"\"\n"))
	for _, tc := range []struct {
		name string
		args []string
		code int
		out  string
	}{
		{"c", []string{"run", "--once", c, "print", "two words", "", "5"}, 5, "two words\n\n5\n"},
		{"c, exit 0", []string{"run", "--once", c, "print", "0"}, 0, "0\n"},
		{"js", []string{"run", "-C", toml, "--once", js}, 0, ""},
		{"go", []string{"run", "-C", toml, "--once", goes, "one", "--two"}, 0, ""},
		{"no such file", []string{"run", "--once", "nowhere.wasm"}, 66, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			cmd := exec.Command(wedgeBinary(t), tc.args...)
			cmd.Stdout, cmd.Stderr = &out, &errs
			err := cmd.Run()
			code := 0
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				code = exit.ExitCode()
			} else if err != nil {
				t.Fatal(err)
			}
			if code != tc.code || out.String() != tc.out {
				t.Errorf("exit code %d, stdout %q; want %d, %q\n%s", code, out.String(), tc.code, tc.out, errs.String())
			}
			if tc.name == "c" && !strings.Contains(errs.String(), "on stderr\n") {
				t.Errorf("stderr is %q", errs.String())
			}
		})
	}
}

// TestCGI: a plain WASI program answers as RFC 3875 says.
func TestCGI(t *testing.T) {
	n := cNode(t)
	long := strings.Repeat("0123456789", 100_000)
	testAsks(t, n, []asks{
		{method: "POST", path: "/vars?a=b", body: "abc", headers: []string{"X-Own: mine", "Content-Type: text/x"},
			want: "POST a=b 3 text/x mine CGI/1.1 HTTP/1.1\n", header: "X-From: c\nContent-Type: text/plain"},
		{path: "/vars", want: "GET  - - - CGI/1.1 HTTP/1.1\n"},
		{method: "POST", path: "/echo", body: long, want: long},
		{path: "/status", status: 418, want: "short and stout\n"},
		{path: "/redirect", status: 418, want: "short and stout\n"},
		{path: "/nowhere", status: 404, want: "no route\n"},
	})
	for _, path := range []string{"/garbage", "/exit", "/bomb"} {
		r := n.Get(t, path)
		if r.StatusCode < 500 {
			t.Errorf("%s: %d", path, r.StatusCode)
		}
		blamed(t, n, refused(t, r, r.StatusCode), "")
	}
	if r := n.Get(t, "/half"); r.Err == nil || r.Text != "half" {
		t.Errorf("half an answer: %q, %v", r.Text, r.Err)
	}
	n.Get(t, "/status").is(t, 418, "short and stout\n")
}
