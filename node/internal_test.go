package node

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/manifest"
)

// serveAll serves several services, each at NAME.example.
func serveAll(t *testing.T, backends map[string]string) (addr string) {
	t.Helper()
	var apps []*manifest.App
	for name, origin := range backends {
		apps = append(apps, &manifest.App{Version: wedge.Version{Service: name, Hosts: []string{name + ".example"},
			Backends: []wedge.Backend{{Name: "origin", URL: parsed(t, origin), AllowPrivateAddr: true}}}})
	}
	started, ended := make(chan *Node, 1), make(chan error, 1)
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		ended <- Run(ctx, Config{HTTP: []string{"127.0.0.1:0"}, Ephemeral: true, Quiet: true, DrainTimeout: time.Second,
			Load: func(context.Context) ([]*manifest.App, error) { return apps, nil }, Started: func(n *Node) { started <- n }})
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	select {
	case n := <-started:
		plain, _ := n.Addrs()
		return plain[0].String()
	case err := <-ended:
		t.Fatal(err)
	}
	return ""
}

func ask(t *testing.T, method, addr, host, path string, body io.Reader) (int, string, http.Header, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), resp.Header, err
}

// TestServicesByName: a service answers another in process, with its own cache in front of it.
func TestServicesByName(t *testing.T) {
	var fetches atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fetches.Add(1)
		switch r.URL.Path {
		case "/cut":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/echo":
			b, _ := io.ReadAll(r.Body) // net/http may take the rest away once the response has begun
			_, _ = w.Write(b)
			return
		}
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, r.URL.Path+" for "+r.Host)
	}))
	defer origin.Close()
	addr := serveAll(t, map[string]string{
		"back": origin.URL, "front": "http://back.wedge.internal", "nowhere": "http://none.wedge.internal",
		"one": "http://two.wedge.internal", "two": "http://one.wedge.internal",
	})
	for i := range 3 {
		status, body, h, err := ask(t, "GET", addr, "front.example", "/page", nil)
		if err != nil || status != 200 || body != "/page for front.example" || i > 0 && !strings.Contains(h.Get("Cache-Status"), "hit") {
			t.Errorf("%d: %d %q %v %v", i, status, body, h, err)
		}
	}
	if n := fetches.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
	if status, body, _, err := ask(t, "POST", addr, "front.example", "/echo", strings.NewReader(strings.Repeat("x", 1<<20))); err != nil || status != 200 || len(body) != 1<<20 {
		t.Errorf("%d, %d bytes, %v", status, len(body), err)
	}
	if status, body, _, err := ask(t, "HEAD", addr, "front.example", "/head", nil); err != nil || status != 200 || body != "" {
		t.Errorf("%d %q %v", status, body, err)
	}
	if _, body, _, err := ask(t, "GET", addr, "front.example", "/cut", nil); err == nil {
		t.Errorf("a broken response came as whole: %q", body)
	}
	if status, _, _, err := ask(t, "GET", addr, "nowhere.example", "/", nil); err != nil || status != 502 && status != 503 {
		t.Errorf("nowhere: %d %v", status, err)
	}
	if status, _, _, err := ask(t, "GET", addr, "one.example", "/", nil); err != nil || status != http.StatusLoopDetected {
		t.Errorf("in circles: %d %v", status, err)
	}
}
