//go:build !wasip1

package edge

import (
	"cmp"
	"net"
	"net/http"
	"os"
	"time"
)

func serve(h http.Handler, _ Reuse) {
	addr := net.JoinHostPort("127.0.0.1", cmp.Or(os.Getenv("PORT"), "7676"))
	os.Stderr.WriteString("edge: not in Wasm; serving http://" + addr + "\n")
	s := &http.Server{Addr: addr, Handler: h, ReadHeaderTimeout: 10 * time.Second}
	fatal(s.ListenAndServe())
}
