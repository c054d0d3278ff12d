package wedgetest

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/node"
	fleet "github.com/wedge-cloud/wedge/world"
)

// serve runs a server on a loopback port until the test ends and returns its address.
func serve(t testing.TB, s *http.Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// onePoP runs a world of one PoP, lhr, that serves nothing yet, until the test ends, and returns it with an operator of it.
func onePoP(t *testing.T) (*fleet.World, api.Client) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	w, err := fleet.Open(t.Context(), fleet.Config{PoPs: fleet.Cities[:1], Dir: t.TempDir(), Flat: true, Log: quiet, Node: func(wedge.PoP) node.Config {
		return node.Config{HTTP: []string{"127.0.0.1:0"}, Quiet: true, Log: quiet, CacheDisk: -1, DrainTimeout: 5 * time.Second}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(w.Core())
	t.Cleanup(server.Close)
	return w, api.Client{URL: server.URL, Token: w.Core().AdminToken()}
}
