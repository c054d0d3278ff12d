// The smallest guest in Go without net/http, which starts in about half the time.
package main

import "github.com/wedge-cloud/wedge/sdk/go/lean"

func main() { lean.Serve(hello) }

func hello(w *lean.Response, r *lean.Request) {
	w.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteString("Hello, edge!\n")
}
