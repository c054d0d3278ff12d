// The smallest guest in Go: an http.Handler that greets.
package main

import (
	"io"
	"net/http"

	edge "github.com/wedge-cloud/wedge/sdk/go"
)

func main() { edge.Serve(http.HandlerFunc(hello)) }

func hello(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, "Hello, edge!\n")
}
