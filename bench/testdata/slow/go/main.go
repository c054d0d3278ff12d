// Slow waits for a slow origin and passes its answer on.
package main

import (
	"io"
	"net/http"
	"strconv"

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
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.Write(text)
}
