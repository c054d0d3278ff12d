//go:build unix

package handover

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain has the test's binary be a process that systemd starts, too.
func TestMain(m *testing.M) {
	if os.Getenv("WEDGE_TEST_ADDR") == "" {
		os.Exit(m.Run())
	}
	if err := serveActivated(); err != nil && !errors.Is(err, http.ErrServerClosed) {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

// serveActivated answers with its process's number until its standard input ends, or a successor serves.
func serveActivated() error {
	p, err := New(func(s string) { fmt.Println(s) })
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	upgrade := make(chan os.Signal, 1)
	signal.Notify(upgrade, syscall.SIGUSR2)
	return p.Serve(ctx, upgrade, func(ctx context.Context, t *Term) error {
		l, err := t.Listen("http", os.Getenv("WEDGE_TEST_ADDR"))
		if err != nil {
			return err
		}
		other, err := t.Listen("ops", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer other.Close()
		if err := t.Prepared(ctx); err != nil {
			return err
		}
		answer := fmt.Sprintf("%d %q%q%q", os.Getpid(), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDNAMES"))
		s := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) })}
		context.AfterFunc(ctx, func() { _ = s.Shutdown(context.Background()) })
		fmt.Println("serving")
		t.Serving()
		err = s.Serve(l)
		if context.Cause(ctx) == ErrSucceeded {
			t.LetGo()
		}
		return err
	})
}

// TestActivated: a process serves at the sockets that systemd has bound, those who connected before it started included, hands them on, and says which
// of them it has no use for; it tells nobody that it started of them.
func TestActivated(t *testing.T) {
	var sockets []*os.File
	var addrs []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		sockets, addrs = append(sockets, f), append(addrs, l.Addr().String())
	}
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	f, err := udp.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sockets = append(sockets, f)
	early, err := net.Dial("tcp", addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()

	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0"`, os.Args[0]) // as a process that knows its number only once it is there
	cmd.Env = append(os.Environ(), "WEDGE_TEST_ADDR="+addrs[0], "LISTEN_FDS=3", "LISTEN_FDNAMES=web:more:datagrams")
	cmd.ExtraFiles = sockets
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // when all who write have ended
		w.Close()
	}()
	lines := bufio.NewScanner(r)
	said := func(what string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), "failed") {
				t.Fatal(lines.Text())
			}
			if strings.Contains(lines.Text(), what) {
				return
			}
		}
		t.Fatalf("nobody said %q", what)
	}
	said("the socket datagrams, which is of no use here")
	said("serving")
	said("a socket for " + addrs[1] + ", where nothing is to listen")

	fmt.Fprint(early, "GET / HTTP/1.0\r\n\r\n")
	answer, err := io.ReadAll(early)
	if want := fmt.Sprintf("\r\n\r\n%d \"\"\"\"\"\"", cmd.Process.Pid); err != nil || !strings.HasSuffix(string(answer), want) {
		t.Errorf("who came before it started got %q, %v; not %q", answer, err, want)
	}
	if err := cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	said("serves, this one ends")
	resp, err := http.Get("http://" + addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if text := string(b); err != nil || !strings.HasSuffix(text, ` """"""`) || strings.HasPrefix(text, fmt.Sprint(cmd.Process.Pid, " ")) {
		t.Errorf("after the upgrade %q answers, %v", text, err)
	}
	http.DefaultClient.CloseIdleConnections()
	in.Close()
	for lines.Scan() {
	}
}

// TestBound: a socket stands for the address that it is bound to, and all addresses are one.
func TestBound(t *testing.T) {
	p := &Process{say: func(string) {}}
	listen := func(network, addr string) net.Listener {
		l, err := net.Listen(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		p.activated = append(p.activated, l)
		return l
	}
	every := listen("tcp4", "0.0.0.0:0")
	one := listen("tcp4", "127.0.0.1:0")
	port := func(l net.Listener) string { return fmt.Sprint(":", l.Addr().(*net.TCPAddr).Port) }
	for _, addr := range []string{"127.0.0.1:0", "127.0.0.2" + port(one), port(one), "127.0.0.1" + port(every), "nonsense", "127.0.0.1:1"} {
		if l := p.bound(addr); l != nil {
			t.Errorf("%s is not %s", l.Addr(), addr)
		}
	}
	if l := p.bound("[::]" + port(every)); l != every {
		t.Error("all addresses are not all")
	}
	if l := p.bound("127.0.0.1" + port(one)); l != one {
		t.Error("one is not found")
	}
	if l := p.bound("127.0.0.1" + port(one)); l != nil || len(p.activated) > 0 {
		t.Error("it was given twice")
	}
}
