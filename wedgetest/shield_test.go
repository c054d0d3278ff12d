package wedgetest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// TestShield: the misses of two PoPs meet in the cache of a third, which alone asks the origin.
func TestShield(t *testing.T) {
	var asked atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Wedge-Shield") != "" {
			t.Error("the mark reached the origin")
		}
		n := asked.Add(1)
		w.Header().Set("Surrogate-Control", "max-age=60")
		w.Header().Set("Surrogate-Key", "page")
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprintf(w, "answer %d", n)
	}))
	defer origin.Close()
	manifest := func(shield string) App {
		return App{Manifest: "api_keys = [{ file = \"key\" }]\n[backends.origin]\nurl = \"" + origin.URL + "\"\n" + shield, Files: map[string]string{"key": "between-pops"}}
	}
	shield := Start(t, manifest(""))
	pops := []*Node{Start(t, manifest("shield = \""+shield.URL+"\"")), Start(t, manifest("shield = \""+shield.URL+"\""))}
	ask := func(n *Node) (string, http.Header) {
		t.Helper()
		req, _ := http.NewRequest("GET", n.URL+"/page", nil)
		req.Host = "www.example.com"
		resp, err := n.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return string(b), resp.Header
	}
	for i, n := range append(pops, pops...) {
		body, h := ask(n)
		if body != "answer 1" || h.Get("Surrogate-Control") != "" || h.Get("Surrogate-Key") != "" {
			t.Errorf("request %d: %q %v", i, body, h)
		}
		if members := strings.Count(h.Get("Cache-Status"), "Wedge;"); members != 2 || (i >= 2) != strings.Contains(h.Get("Cache-Status")[strings.LastIndex(h.Get("Cache-Status"), "Wedge;"):], "hit") {
			t.Errorf("request %d: %s", i, h.Get("Cache-Status"))
		}
	}
	if _, h := ask(shield); h.Get("Surrogate-Control") != "" {
		t.Error("a client without the mark sees what is between PoPs")
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the origin was asked %d times", n)
	}
	if err := shield.Stop(); err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequest("GET", pops[0].URL+"/other", nil)
	resp, err := pops[0].Client.Do(req)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("without its shield: %v, %v", resp, err)
	}
	resp.Body.Close()
}
