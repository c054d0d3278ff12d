package wedgetest

import (
	"net"
	"net/http"
	"testing"
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
