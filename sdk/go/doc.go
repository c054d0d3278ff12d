// Package edge runs an http.Handler as a Wedge guest: one request per sandbox, answered
// from WebAssembly.
//
//	package main
//
//	import (
//		"io"
//		"net/http"
//
//		edge "github.com/wedge-cloud/wedge/sdk/go"
//	)
//
//	func main() {
//		edge.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
//			io.WriteString(w, "Hello, edge!\n")
//		}))
//	}
//
// Build it with
//
//	GOOS=wasip1 GOARCH=wasm go build -tags nethttpomithttp2 -ldflags "-s -w" -o main.wasm
//
// Everything has the shapes of the standard library: handlers, http.ResponseController,
// httputil.ReverseProxy and http.Client work as they do on a server. An origin is reached
// through a backend that the service names:
//
//	client := http.Client{Transport: edge.Backend("origin")}
//
// [Serve] returns when the answer is complete; what main does after that, for example
// writing to a store, no longer delays the client.
//
// # Start-up
//
// A guest starts anew for every request, so what its packages do at init is paid each
// time. net/http and what it pulls in cost a guest about 0.4 ms. Package lean offers a
// plainer handler without it, for where that matters; [ServeMany] and start = "snapshot"
// in wedge.toml spare the start itself.
//
// # Outside of Wasm
//
// The package builds natively too, so that handlers can be vetted and tested as usual.
// There [Serve] runs an http.Server on 127.0.0.1, port $PORT or 7676, a [Backend] sends
// to $WEDGE_BACKEND_<NAME> (http://127.0.0.1:8080) or else to the request's own URL, and
// stores report errors.ErrUnsupported.
package edge
