// Slow waits for a slow origin and passes its answer on.
package main

import (
	"io"
	"net/http"

	edge "github.com/wedge-cloud/wedge/sdk/go"
)

var origin = &http.Client{Transport: edge.Backend("origin")}

func main() { edge.Serve(http.HandlerFunc(answer)) }

func answer(w http.ResponseWriter, r *http.Request) {
	resp, err := origin.Get("http://origin.example/")
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	io.Copy(w, resp.Body)
}
