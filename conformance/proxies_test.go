package conformance

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The suite is run against two caches that many people use, which shows that cases can be passed,
// by somebody else's code, and that they can be failed. The tables are in the log: go test -v.

func TestNginx(t *testing.T) {
	need(t, "nginx")
	conf := func(l lab) string { return l.config("nginx.conf") }
	against(t, "nginx", func(l lab) []string { return []string{"nginx", "-c", conf(l), "-p", l.dir, "-e", l.dir + "/error.log"} })
}

func TestVarnish(t *testing.T) {
	need(t, "varnishd")
	against(t, "varnish", func(l lab) []string {
		return []string{"varnishd", "-F", "-j", "none", "-n", l.dir + "/run", "-a", l.listen, "-f", l.config("varnish.vcl"),
			"-s", "malloc,64m", "-p", "default_grace=0", "-T", "none"}
	})
}

// need skips the test if the tool is missing; with CI=true nothing may be left out.
func need(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed, and with CI=true nothing may be left out", tool)
	}
	t.Skipf("%s is not installed: this test is left out", tool)
}

// lab is where one proxy runs.
type lab struct {
	t      *testing.T
	dir    string
	listen string // host:port for the proxy
	origin string // host:port of the origin
}

// config fills in a file of testdata/proxies, and returns its name.
func (l lab) config(name string) string {
	text, err := os.ReadFile(filepath.Join("testdata", "proxies", name))
	if err != nil {
		l.t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(l.origin)
	fill := strings.NewReplacer("LISTEN", l.listen, "ORIGIN", l.origin, "DIR", l.dir, "HOST", host, "PORT", port)
	file := filepath.Join(l.dir, name)
	if err := os.WriteFile(file, []byte(fill.Replace(string(text))), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return file
}

// against runs the whole suite against a proxy of which little is known but that it caches.
func against(t *testing.T, name string, command func(lab) []string) {
	t.Parallel()
	ln := listen(t)
	l := lab{t: t, dir: t.TempDir(), listen: free(t), origin: ln.Addr().String()}
	start(t, command(l), l.listen)
	results := runAll(t, Config{Proxy: "http://" + l.listen, Origin: ln})
	t.Log(name + "\n" + table(t, results))
	var why bytes.Buffer
	Explain(&why, results, false)
	t.Log(why.String())
	mustPass(t, results, "store-fresh", "fresh-max-age-expires", "vary-match", "vary-no-match", "validate-etag-request")
}

func free(t *testing.T) string {
	ln := listen(t)
	defer ln.Close()
	return ln.Addr().String()
}

// start runs a command until the test ends, and waits for it to listen.
func start(t *testing.T, args []string, addr string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { cmd.Wait(); close(exited) }()
	t.Cleanup(func() { cancel(); <-exited })
	for range 200 {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return
		}
		select {
		case <-exited:
			t.Fatalf("%s ended at once: %s", args[0], &out)
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Fatalf("%s does not listen on %s after 10 s", args[0], addr)
}
