package wedgetest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/control"
	"github.com/wedge-cloud/wedge/node"
)

// process is a wedge that has successors.
type process struct {
	t      *testing.T
	out    *Buffer
	binary string // a copy, to be replaced
	url    string
	pid    int // of the one that serves
}

var serves = regexp.MustCompile(`upgrade: process (\d+) serves`)

// startProcess runs wedge with a binary of its own. What it leaves running is ended with the test.
func startProcess(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, out: new(Buffer), binary: filepath.Join(t.TempDir(), "wedge")}
	p.replace(wedgeBinary(t))
	// Successors write to the same pipe, so the reading goroutine ends when the last one does.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(p.binary, args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = w, w, append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	p.pid = cmd.Process.Pid
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(p.out, r)
	}()
	first := make(chan struct{})
	go func() {
		defer close(first)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(p.pid, syscall.SIGTERM)
		Soon(t, "the processes end", ended)
		<-first
		if t.Failed() {
			t.Log(p.out)
		}
	})
	Eventually(t, "wedge serves", func() bool {
		return regexp.MustCompile("(?s)serving .*metrics at .*/metrics").MatchString(p.out.String())
	})
	p.url = serving.FindStringSubmatch(p.out.String())[1]
	return p
}

// replace puts another binary in place of the process's, as an operator does: a new file of the same name.
func (p *process) replace(with string) {
	p.t.Helper()
	b, err := os.ReadFile(with)
	if err == nil {
		err = os.WriteFile(p.binary+".new", b, 0o755)
	}
	if err == nil {
		err = os.Rename(p.binary+".new", p.binary)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// upgrade has the process succeeded.
func (p *process) upgrade() {
	p.t.Helper()
	n := len(serves.FindAllString(p.out.String(), -1))
	if err := syscall.Kill(p.pid, syscall.SIGUSR2); err != nil {
		p.t.Fatal(err)
	}
	Eventually(p.t, "a successor serves", func() bool { return len(serves.FindAllString(p.out.String(), -1)) > n })
	pid, _ := strconv.Atoi(serves.FindAllStringSubmatch(p.out.String(), -1)[n][1])
	if pid == p.pid {
		p.t.Error("the successor is the same process")
	}
	p.pid = pid
}

// traffic is many clients that send requests without pause, none of which may fail.
type traffic struct {
	stop    context.CancelFunc
	wg      sync.WaitGroup
	count   [4]atomic.Int64
	longest atomic.Int64 // of those with connections of their own: that is how long nobody accepted, and the request
}

func load(t *testing.T, url string) *traffic {
	ctx, stop := context.WithCancel(t.Context())
	l := &traffic{stop: stop}
	fresh := NewClient()
	fresh.Transport.(*http.Transport).DisableKeepAlives = true
	for i := range 24 {
		kind := i % 4
		c := [...]*http.Client{NewClient(), NewClient(), H2C(), fresh}[kind]
		l.wg.Go(func() {
			defer c.CloseIdleConnections()
			for ctx.Err() == nil {
				began := time.Now()
				if err := one(c, kind, url); err != nil {
					t.Errorf("client %d, of kind %d: %v", i, kind, err)
					return
				}
				l.count[kind].Add(1)
				if took := int64(time.Since(began)); kind == 3 && took > l.longest.Load() {
					l.longest.Store(took)
				}
			}
		})
	}
	t.Cleanup(l.end)
	return l
}

// one sends a request; those of kind 1 have a body that cannot be sent again.
func one(c *http.Client, kind int, url string) error {
	method, body := http.MethodGet, io.Reader(nil)
	if kind == 1 {
		method, body = http.MethodPost, io.MultiReader(strings.NewReader("once"))
	}
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != 200 {
		err = fmt.Errorf("%d %q", resp.StatusCode, b)
	}
	return err
}

func (l *traffic) end() {
	l.stop()
	l.wg.Wait()
}

func (l *traffic) total() (n int64) {
	for i := range l.count {
		n += l.count[i].Load()
	}
	return n
}

// more waits until the clients have sent some more.
func (l *traffic) more(t *testing.T) {
	t.Helper()
	seen := l.total()
	Eventually(t, "more requests", func() bool { return l.total() > seen+200 || t.Failed() })
}

// TestUpgrade: processes follow each other under load, and no request fails. What was written stays.
func TestUpgrade(t *testing.T) {
	guest := file(t, "guest.wasm", GoGuest(t, Guest("go")))
	toml := file(t, "wedge.toml", []byte("name = \"test\"\nguest = "+strconv.Quote(guest)+bindings()))
	said, addr := notifications(t)
	p := startProcess(t, []string{"NOTIFY_SOCKET=" + addr}, "run", "--addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0", "--data", t.TempDir(), "-C", toml, guest)
	ops := regexp.MustCompile(`metrics at (http://\S+)/metrics`).FindStringSubmatch(p.out.String())[1]
	writing, stopWriting := context.WithCancel(t.Context())
	var written int // acknowledged
	wrote := make(chan error, 1)
	go func() {
		var err error
		for ; err == nil && writing.Err() == nil; written++ {
			_, err = fetch(fmt.Sprintf("%s/keep?key=k%d&value=v%[2]d", p.url, written))
		}
		wrote <- err
	}()
	l := load(t, p.url+"/hello")
	for range 3 {
		l.more(t)
		p.upgrade()
		l.more(t)
		t.Logf("%d requests, the longest one on a connection of its own took %v", l.total(), time.Duration(l.longest.Swap(0)))
	}
	l.end()
	stopWriting()
	if err := <-wrote; err != nil {
		t.Errorf("a write: %v", err)
	}
	for i := range written {
		if text, err := fetch(fmt.Sprintf("%s/keep?key=k%d", p.url, i)); text != fmt.Sprint("v", i) || err != nil {
			t.Fatalf("write %d of %d is %q now, %v", i, written, text, err)
		}
	}
	t.Logf("%d writes", written)
	t.Log(regexp.MustCompile("new connections waited .*").FindAllString(p.out.String(), -1))
	// What takes longer than a successor waits for is finished by the predecessor.
	slow := make(chan error, 1)
	go func() {
		text, err := fetch(p.url + "/sleep?for=5s")
		if err == nil && text != "rested\n" {
			err = fmt.Errorf("%q", text)
		}
		slow <- err
	}()
	Eventually(t, "the slow request runs", func() bool {
		text, _ := fetch(ops + "/metrics")
		return strings.Contains(text, "front_requests_in_flight 1\n")
	})
	p.upgrade()
	select {
	case err := <-slow:
		t.Errorf("the successor waited for the slow request, %v", err)
	default:
	}
	if text, err := fetch(p.url + "/hello"); err != nil {
		t.Error(text, err)
	}
	if err := Soon(t, "the slow answer", slow); err != nil {
		t.Errorf("the slow request: %v", err)
	}
	for _, word := range []string{"READY=1", "RELOADING=1", fmt.Sprintf("MAINPID=%d", p.pid)} {
		Eventually(t, "systemd is told "+word, func() bool { return said.Has(word) })
	}
}

// notifications is a socket as systemd has it.
func notifications(t *testing.T) (said *Buffer, addr string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "wedge") // a socket's name must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	addr = filepath.Join(dir, "s")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	said = new(Buffer)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b := make([]byte, 1024); ; {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			fmt.Fprintf(said, "%s\n", b[:n])
		}
	}()
	t.Cleanup(func() {
		c.Close()
		<-done
	})
	return said, addr
}

func fetch(url string) (string, error) {
	resp, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != 200 {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	return string(b), err
}

// failsToUpgrade asks for a successor, waits until the process says why there is none, and sees that it serves on.
func (p *process) failsToUpgrade(l *traffic, why string) {
	p.t.Helper()
	n := strings.Count(p.out.String(), why)
	if err := syscall.Kill(p.pid, syscall.SIGUSR2); err != nil {
		p.t.Fatal(err)
	}
	Eventually(p.t, why, func() bool { return strings.Count(p.out.String(), why) > n })
	l.more(p.t)
}

// TestUpgradeFails: whatever is wrong with a successor, the process serves on, and says what it was.
func TestUpgradeFails(t *testing.T) {
	const page = "[backends.site]\ndir = \"site\"\n"
	dir := t.TempDir()
	toml := filepath.Join(dir, "wedge.toml")
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "site", "index.html"), "page")
	write(toml, "name = \"test\"\n"+page)
	p := startProcess(t, nil, "run", "--addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0", toml)
	l := load(t, p.url+"/")
	l.more(t)

	write(toml, "name = \"test\"\nno such key = 1\n")
	p.failsToUpgrade(l, "upgrade failed, this process serves on: the new process ended: exit status 64")
	write(toml, "name = \"test\"\n"+page)

	script := filepath.Join(dir, "script")
	write(script, "#!/bin/sh\nexit 3\n")
	p.replace(script)
	p.failsToUpgrade(l, "upgrade failed, this process serves on: the new process ended: exit status 3")

	write(script, "not a program")
	p.replace(script)
	p.failsToUpgrade(l, "upgrade failed, this process serves on: ")

	write(script, "#!/bin/sh\necho what >&4\nread line <&3\n")
	p.replace(script)
	p.failsToUpgrade(l, `upgrade failed, this process serves on: it said "what\n" in place of "prepared\n"`)

	// It gets as far as to have everything, and then ends.
	write(script, "#!/bin/sh\necho prepared >&4\nread line <&3\nexit 5\n")
	p.replace(script)
	p.failsToUpgrade(l, "upgrade failed, this process serves again: the new process ended: exit status 5")

	p.replace(wedgeBinary(t))
	p.upgrade()
	l.more(t)
	l.end()
	t.Logf("%d requests", l.total())
}

// TestUpgradeNode: a core and PoP in one process, with TLS, a core's link for other PoPs and all. What was deployed serves
// from a successor's first request on.
func TestUpgradeNode(t *testing.T) {
	dir, site := t.TempDir(), t.TempDir()
	cert := NewCertificate(t)
	text := fmt.Sprintf(`
roles = ["core", "pop"]
data = "data"
[place]
name = "fra1"
city = "Frankfurt"
tier = "metro"
[core]
listen = "127.0.0.1:0"
api = "127.0.0.1:0"
[http]
listen = ["127.0.0.1:0"]
[https]
listen = ["127.0.0.1:0"]
cert = %q
key = %q
[ops]
listen = "127.0.0.1:0"
`, cert.CertFile, cert.KeyFile)
	nodeFile := filepath.Join(dir, "node.toml")
	if err := os.WriteFile(nodeFile, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(site, "index.html"), []byte("page"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, nil, "node", "--quiet", "--config", nodeFile)
	at := regexp.MustCompile(`control API at (https?://\S+),`).FindStringSubmatch(p.out.String())[1]
	print := regexp.MustCompile(`WEDGE_CORE_PRINT=(\S+)`).FindStringSubmatch(p.out.String() + "WEDGE_CORE_PRINT=none")[1]
	token, err := os.ReadFile(filepath.Join(dir, "data", "core", "admin-token"))
	if err != nil {
		t.Fatal(err)
	}
	client := api.Client{URL: at, Token: strings.TrimSpace(string(token))}
	if print != "none" {
		client.HTTP = &http.Client{Transport: &http.Transport{TLSClientConfig: node.Pinned(print)}}
	}
	chunks := control.OpenChunks(t.TempDir())
	v := &wedge.Version{Service: "shop", Backends: []wedge.Backend{{Name: "site", Dir: site}}}
	a, err := control.Pack(v, nil, chunks.Keep)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := client.Upload(t.Context(), a, chunks); err != nil {
		t.Fatal(err)
	}
	if _, err := client.NewVersion(t.Context(), "shop", "", api.NewVersion{Artifact: a}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Release(t.Context(), "shop", "", api.Pick{Version: 1}); err != nil {
		t.Fatal(err)
	}
	Eventually(t, "it is live", func() bool { text, _ := fetch(p.url + "/"); return text == "page" })
	l := load(t, p.url+"/")
	for range 3 {
		l.more(t)
		p.upgrade()
		l.more(t)
	}
	l.end()
	t.Logf("%d requests", l.total())
	t.Log(regexp.MustCompile("new connections waited .*").FindAllString(p.out.String(), -1))
	if all, err := client.Services(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("services %v, %v", all, err)
	}
}
