package node

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"crypto/tls"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/manifest"
)

// startCore starts a core that PoPs reach over TCP and TLS.
func startCore(t *testing.T, dir string) (*Core, *api.Client) {
	t.Helper()
	c, err := OpenCore(t.Context(), CoreConfig{Dir: dir, Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := http.Server{Handler: c}
	go func() { _ = server.Serve(tls.NewListener(l, c.TLS())) }()
	t.Cleanup(func() { server.Close() })
	return c, &api.Client{URL: "https://" + l.Addr().String(), Token: c.AdminToken(), HTTP: &http.Client{Transport: &http.Transport{TLSClientConfig: Pinned(c.Print())}}}
}

// startPoP runs a PoP until it serves, or returns why it does not.
func startPoP(t *testing.T, dir, name, invitation string, apps ...*manifest.App) (n *Node, stop func(), err error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	started, ended := make(chan *Node, 1), make(chan error, 1)
	go func() {
		c := Config{HTTP: []string{"127.0.0.1:0"}, DataDir: dir, Quiet: true, CacheDisk: -1, DrainTimeout: time.Second, Log: slog.New(slog.DiscardHandler),
			Fleet: &FleetConfig{PoP: wedge.PoP{Name: name}, Invitation: invitation}, Started: func(n *Node) { started <- n }}
		if len(apps) > 0 {
			c.Load = func(context.Context) ([]*manifest.App, error) { return apps, nil }
		}
		ended <- Run(ctx, c)
	}()
	select {
	case n := <-started:
		stop = func() {
			cancel()
			if ended != nil {
				<-ended
				ended = nil
			}
		}
		t.Cleanup(stop)
		return n, stop, nil
	case err := <-ended:
		cancel()
		return nil, func() {}, err
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what + ": not within ten seconds")
		}
	}
}

// TestJoin: a PoP becomes a member once, stays one, and is one no more when it is removed.
func TestJoin(t *testing.T) {
	dir := t.TempDir()
	core, operator := startCore(t, filepath.Join(dir, "core"))
	ctx := t.Context()
	invite := func(name string) Invitation {
		t.Helper()
		s, err := operator.AddPoP(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		return Invitation{Name: name, URL: operator.URL, Print: core.Print(), Secret: s.Secret}
	}
	i := invite("ams1")
	n, stop, err := startPoP(t, filepath.Join(dir, "ams1"), "ams1", i.String())
	if err != nil {
		t.Fatal(err)
	}
	here := func(n *Node) func() bool { return func() bool { return len(n.PoPs()) == 1 } }
	eventually(t, "joined", here(n))
	stop()
	if n, stop, err = startPoP(t, filepath.Join(dir, "ams1"), "ams1", ""); err != nil { // it needs no invitation any more
		t.Fatal(err)
	}
	eventually(t, "came back", here(n))

	other := invite("fra1")
	wrong, stranger := other, other
	wrong.Secret, stranger.Print = "wdgjoin_wrong", printOf([]byte("another"))
	for what, line := range map[string]string{"used": i.String(), "wrong secret": wrong.String(), "another core": stranger.String(), "another's": other.String(), "none": "", "no line": "wedge-join.x"} {
		name := "ams1"
		if what == "wrong secret" || what == "another core" {
			name = "fra1"
		}
		if _, _, err := startPoP(t, t.TempDir(), name, line); err == nil || wedge.KindOf(err) == wedge.Internal {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := operator.AddPoP(ctx, "ams1"); wedge.KindOf(err) != wedge.Exist {
		t.Error(err)
	}

	if err := operator.RemovePoP(ctx, "ams1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it was let out", func() bool { return !n.fleet.link.Up() })
	time.Sleep(time.Second)
	if n.fleet.link.Up() {
		t.Error("it is back")
	}
	stop()
	if err := operator.RemovePoP(ctx, "ams1"); wedge.KindOf(err) != wedge.NotExist {
		t.Error(err)
	}
	again := invite("ams1") // on a new disk it may join again
	if n, _, err = startPoP(t, filepath.Join(dir, "ams1-new"), "ams1", again.String()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "joined again", here(n))
}
