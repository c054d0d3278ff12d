package node

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/wedge-cloud/wedge"
)

// ops answers operators and their tools at an address of its own: /metrics for Prometheus, /healthz (the process
// works), /readyz (it serves, and is not about to stop), /debug/pprof. Nothing of it needs a token, so the address is
// one that only they reach.
type ops struct {
	listener net.Listener
	server   http.Server
}

// listenOps takes an address. unready says why the process is not ready, "" if it is.
func listenOps(listen func(name, addr string) (net.Listener, error), addr string, read collector, unready func() string) (*ops, error) {
	l, err := listen("ops", addr)
	if err != nil {
		return nil, &wedge.Error{Op: "listen", What: addr, Kind: wedge.Unavailable, Err: err, Hint: "Is something else listening there? Choose another --ops-addr."}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(read.registry(), promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if why := unready(); why != "" {
			http.Error(w, why, http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ready\n")
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	return &ops{listener: l, server: http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}}, nil
}

// unready says why the node does not serve, "" if it does. The fleet is told the same.
func (n *Node) unready() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.front.Draining():
		return "about to stop"
	case n.kv.Forked():
		return "its data directory is an older copy: restart it"
	case n.deployed == nil:
		return "no service is deployed yet"
	}
	return ""
}

// succeeded leaves new connections to a successor.
func (o *ops) succeeded() {
	ctx, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	_ = o.server.Shutdown(ctx)
}

// run serves until ctx ends.
func (o *ops) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = o.server.Close() })
	defer stop()
	if err := o.server.Serve(o.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
