package world

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

// receiver is a sink that can fail.
type receiver struct {
	mu      sync.Mutex
	answers int            // a status
	tried   int            // batches that were not taken
	lines   map[string]int // how often each was taken, by its id
	events  map[string]int // and by what n the event has
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	b, err := io.ReadAll(req.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil || r.answers != http.StatusOK || req.Header.Get("Wedge-Batch") == "" || req.Header.Get("Authorization") != "Bearer token" || req.URL.String() != "/raw?from=shop" {
		r.tried++
		w.WriteHeader(r.answers)
		return
	}
	for line := range bytes.Lines(b) {
		var one struct {
			ID    string
			Event map[string]string
		}
		if json.Unmarshal(line, &one) == nil {
			r.lines[one.ID]++
			r.events[one.Event["n"]]++
		}
	}
}

func (r *receiver) answer(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers = status
}

func (r *receiver) have() (events, tried int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.events), r.tried
}

// TestSink: a sink fails, its PoP is killed meanwhile, and comes back: all events that were answered arrive, with the ids that they had.
func TestSink(t *testing.T) {
	sink := &receiver{answers: http.StatusServiceUnavailable, lines: map[string]int{}, events: map[string]int{}}
	server := httptest.NewServer(sink)
	t.Cleanup(server.Close)
	l := newLabOf(t, Config{}, func(v *wedge.Version) {
		u, err := url.Parse(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		v.Backends = append(v.Backends, wedge.Backend{Name: "sink", URL: u, AllowPrivateAddr: true})
		one := rum
		one.Where = []wedge.CollectWhere{{Field: "n"}}
		one.Sink = wedge.CollectSink{Backend: "sink", Path: "/raw?from=shop", Token: wedge.Secret("token")}
		v.Collect = []wedge.Collect{one}
	})
	pop, sent := l.Status()[0].PoP.Name, 0
	send := func() {
		t.Helper()
		for range 40 {
			if status := l.send(pop, "/rum", `{"n":"`+strconv.Itoa(sent)+`"}`+"\n"+`{"other":1}`, "https://shop.example"); status != http.StatusNoContent {
				t.Fatal(status)
			}
			sent++
		}
	}
	tried := func() bool { _, n := sink.have(); return n > 1 }
	arrived := func() bool { n, _ := sink.have(); return n == sent }
	send()
	l.becomes("the sink was tried more than once", 10*time.Second, tried)
	if err := l.Kill(pop); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(t.Context(), pop); err != nil {
		t.Fatal(err)
	}
	send()
	sink.answer(http.StatusOK)
	l.becomes("all is there", 15*time.Second, arrived)
	send()
	l.becomes("and what comes then", 5*time.Second, arrived)
	sink.mu.Lock()
	defer sink.mu.Unlock()
	if len(sink.lines) != sent {
		t.Errorf("%d ids of %d events", len(sink.lines), sent)
	}
	for id := range sink.lines {
		if !strings.HasPrefix(id, pop+".") || !strings.Contains(id, "/shop/rum/") {
			t.Fatal(id)
		}
	}
}
