package wedgetest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestPrefetch: what a page says is next is there before it is asked for, under the rules of its own path.
func TestPrefetch(t *testing.T) {
	asked := make(chan string, 100)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.RequestURI()
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Add("Link", `</next?page=2&x=1>; rel="next prefetch", <https://elsewhere.example/>; rel=prefetch, </style>; rel=stylesheet`)
		w.Header().Add("Link", "</other>; rel=prefetch")
		fmt.Fprint(w, "page ", r.URL.Path)
	}))
	defer origin.Close()
	n := Start(t, App{Manifest: "[cache]\nprefetch = true\n[backends.origin]\nurl = \"" + origin.URL + "\"\n[[rules]]\npath = \"/next\"\nquery = [\"page\"]\n"})
	get := func(path string) string {
		t.Helper()
		resp, err := n.Client.Get(n.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if b, _ := io.ReadAll(resp.Body); string(b) != "page "+strings.Split(path, "?")[0] {
			t.Errorf("%s: %q", path, b)
		}
		return resp.Header.Get("Cache-Status")
	}
	get("/")
	seen := map[string]bool{}
	for range 3 {
		select {
		case uri := <-asked:
			seen[uri] = true
		case <-time.After(Patience):
			t.Fatalf("the origin was asked for %v only", seen)
		}
	}
	if !seen["/"] || !seen["/next?page=2"] || !seen["/other"] {
		t.Errorf("the origin was asked for %v", seen)
	}
	eventually := time.Now().Add(Patience)
	for !strings.Contains(get("/next?page=2&x=1"), "hit") && time.Now().Before(eventually) {
		time.Sleep(10 * time.Millisecond)
	}
	if s := get("/next?page=2"); !strings.Contains(s, "hit") || !strings.Contains(s, "detail=prefetched") {
		t.Error(s)
	}
	if s := get("/"); strings.Contains(s, "prefetched") {
		t.Error(s)
	}
	select {
	case uri := <-asked:
		t.Errorf("the origin was asked for %s, two steps ahead", uri)
	case <-time.After(100 * time.Millisecond):
	}
}
