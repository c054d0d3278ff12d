// Rum: pages that say how long they took to load where their visitors are, and what comes of it, at every PoP and live. The beacons never
// reach this program: the PoPs take them, as [collect.visits] in wedge.toml says. It has the pages, and reads what was collected.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	edge "github.com/wedge-cloud/wedge/sdk/go"
)

//go:embed index.html
var page string

//go:embed page.js
var script string

func main() { edge.Serve(http.HandlerFunc(serve)) }

func serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != "GET" {
		http.Error(w, "pages are read, and beacons go to /beacon", http.StatusMethodNotAllowed)
		return
	}
	switch r.URL.Path {
	case "/slow":
		time.Sleep(400 * time.Millisecond) // there is one on every site
		fallthrough
	case "/", "/shop", "/news":
		answer(w, "text/html; charset=utf-8", page)
	case "/page.js":
		answer(w, "text/javascript; charset=utf-8", script)
	case "/api":
		show(w, r)
	default:
		http.NotFound(w, r)
	}
}

func answer(w http.ResponseWriter, kind, text string) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-cache")
	io.WriteString(w, text)
}

// questions are what the page shows: each is a query of what was collected.
var questions = map[string]string{
	"all":     "since=5m",
	"times":   "since=5m&step=5s&by=@pop",
	"pages":   "since=5m&by=path&by=@pop",
	"devices": "since=5m&by=device",
}

// show answers with the answers to all questions, and with where they come from.
func show(w http.ResponseWriter, r *http.Request) {
	view := map[string]json.RawMessage{}
	var mu sync.Mutex
	var all sync.WaitGroup
	var failed error
	for name, query := range questions {
		all.Go(func() {
			rows, from, err := ask(r.Context(), query)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
				return
			}
			view[name] = rows
			view["from"], _ = json.Marshal(from)
		})
	}
	if all.Wait(); failed != nil {
		edge.Log("errors").Write([]byte(failed.Error()))
		http.Error(w, failed.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(view)
}

var client = &http.Client{Transport: edge.Backend("collect")}

// ask returns the rows of an answer, and what Wedge-Collect says: at which PoP, and how old what the others sent may be.
func ask(ctx context.Context, query string) (rows json.RawMessage, from string, err error) {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://collect.wedge.internal/visits?"+query, nil)
	if err != nil {
		return nil, "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("read what was collected: %s", b)
	}
	var a struct{ Rows json.RawMessage }
	if err == nil {
		err = json.Unmarshal(b, &a)
	}
	return a.Rows, resp.Header.Get("Wedge-Collect"), err
}
