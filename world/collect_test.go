package world

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/collect"
)

var rum = wedge.Collect{Name: "rum", Path: "/rum", Window: time.Second, Sample: 1, Series: 100, By: []string{"page", "@pop"}, Origins: []string{"https://shop.example"},
	Metrics: []wedge.CollectMetric{{Name: "lcp", Field: "lcp", Kind: wedge.CollectQuantiles}}}

// send sends a beacon of one event and returns the status.
func (l *lab) send(pop, path, body, origin string) int {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.t.Context(), "POST", l.url(pop)+path, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	req.Host = "shop.example"
	req.Header.Set("Origin", origin)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestCollect: what clients report to PoPs, of which one is cut off and killed, is what the core says, each event once.
func TestCollect(t *testing.T) {
	l := newLabOf(t, Config{}, func(v *wedge.Version) { v.Collect = []wedge.Collect{rum} })
	server := httptest.NewServer(l.Core())
	t.Cleanup(server.Close)
	client := api.Client{URL: server.URL, Token: l.Core().AdminToken()}
	var pops []string
	for _, s := range l.Status() {
		pops = append(pops, s.PoP.Name)
	}
	sent := 0
	send := func(pop string) {
		t.Helper()
		for i := range 50 {
			if status := l.send(pop, "/rum", `{"page":"/`+strconv.Itoa(i%2)+`","lcp":`+strconv.Itoa(i+1)+`}`, "https://shop.example"); status != http.StatusNoContent {
				t.Fatalf("%s answers %d", pop, status)
			}
			sent++
		}
	}
	if status := l.send(pops[0], "/rum", `{}`, "https://other.example"); status != http.StatusForbidden {
		t.Errorf("another's page: %d", status)
	}
	if status := l.send(pops[0], "/rum", `{`, "https://shop.example"); status != http.StatusBadRequest {
		t.Errorf("no JSON: %d", status)
	}
	send(pops[0])
	if err := l.Cut(pops[1]); err != nil {
		t.Fatal(err)
	}
	send(pops[1])
	if err := l.Kill(pops[1]); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(t.Context(), pops[1]); err != nil {
		t.Fatal(err)
	}
	send(pops[1])
	if err := l.Heal(pops[1]); err != nil {
		t.Fatal(err)
	}
	l.becomes("all is there", 15*time.Second, func() bool {
		a, err := client.Collected(t.Context(), "shop", "rum", url.Values{"by": {"page", "@pop"}})
		if err != nil {
			t.Fatal(err)
		}
		total := 0
		for _, row := range a.Rows {
			total += int(row.Count)
		}
		if total > sent {
			t.Fatalf("%d events for %d", total, sent)
		}
		return total == sent && len(a.Rows) == 4 && a.Rows[0].Metrics[0].P50 > 20 && a.Rows[0].Metrics[0].P50 < 31
	})
	none := api.Client{URL: server.URL, Token: "wrong"}
	if _, err := none.Collected(t.Context(), "shop", "rum", nil); err == nil {
		t.Errorf("without a token: %v", err)
	}
}

// TestCollectByName: a service sends events itself, to a name that is no service's.
func TestCollectByName(t *testing.T) {
	l := newLabOf(t, Config{}, func(v *wedge.Version) {
		one := rum
		one.Path = "/elsewhere"
		v.Collect = []wedge.Collect{one}
		v.Backends = append(v.Backends, wedge.Backend{Name: "own", URL: &url.URL{Scheme: "http", Host: "collect.wedge.internal"}})
		v.Rules = []wedge.Rule{{Backends: []wedge.Share{{Backend: "own"}}}}
	})
	pop := l.Status()[0].PoP.Name
	for path, status := range map[string]int{"/rum": http.StatusNoContent, "/other": http.StatusNotFound} {
		if got := l.send(pop, path, `{"page":"/","lcp":1}`, "https://shop.example"); got != status {
			t.Errorf("%s: %d", path, got)
		}
	}
	server := httptest.NewServer(l.Core())
	t.Cleanup(server.Close)
	client := api.Client{URL: server.URL, Token: l.Core().AdminToken()}
	l.becomes("it is there", 15*time.Second, func() bool {
		a, err := client.Collected(t.Context(), "shop", "rum", nil)
		if err != nil {
			t.Fatal(err)
		}
		return len(a.Rows) == 1 && a.Rows[0].Count == 1
	})
}

// TestCollectRead: a guest reads what was collected at every PoP. One that is cut off has what the core said last and its own, each event once.
func TestCollectRead(t *testing.T) {
	l := newLabOf(t, Config{}, func(v *wedge.Version) {
		v.Collect = []wedge.Collect{rum}
		v.Collect[0].Path = "/beacon"
		v.Backends = append(v.Backends, wedge.Backend{Name: "own", URL: &url.URL{Scheme: "http", Host: "collect.wedge.internal"}})
		v.Rules = []wedge.Rule{{Backends: []wedge.Share{{Backend: "own"}}}}
	})
	one, other := l.Status()[0].PoP.Name, l.Status()[1].PoP.Name
	send := func(pop string, n int) {
		t.Helper()
		for range n {
			if status := l.send(pop, "/beacon", `{"page":"/","lcp":1}`, "https://shop.example"); status != http.StatusNoContent {
				t.Fatal(status)
			}
		}
	}
	count := func(pop, query string) (n float64, rows int, said string) {
		t.Helper()
		body, h := l.do("GET", pop, "/rum?"+query)
		var a collect.Answer
		if err := json.Unmarshal([]byte(body), &a); err != nil {
			t.Fatal(body)
		}
		for _, row := range a.Rows {
			n += row.Count
		}
		return n, len(a.Rows), h.Get("Wedge-Collect")
	}
	becomes := func(what, pop, query string, want float64, rows int) {
		t.Helper()
		l.becomes(what, 15*time.Second, func() bool {
			n, got, _ := count(pop, query)
			if n > want {
				t.Fatalf("%s: %v events for %v", what, n, want)
			}
			return n == want && got == rows
		})
	}
	send(one, 7)
	if n, _, said := count(one, "by=page"); n != 7 || !strings.HasPrefix(said, `pop="`+one+`"; age=`) {
		t.Errorf("a PoP's own events are not seen at once: %v, %s", n, said)
	}
	send(other, 5)
	becomes("each PoP has all", one, "by=@pop", 12, 2)
	becomes("each PoP has all", other, "by=@pop", 12, 2)
	if err := l.Cut(one); err != nil {
		t.Fatal(err)
	}
	send(one, 3)
	send(other, 4)
	becomes("cut off it has its own besides", one, "by=@pop", 15, 2)
	becomes("of a query that it has not asked before it has its own", one, "by=@pop&by=page", 10, 1)
	if err := l.Heal(one); err != nil {
		t.Fatal(err)
	}
	becomes("all is there", one, "by=@pop", 19, 2)
	becomes("all is there", one, "by=@pop&by=page", 19, 2)
	for query, status := range map[string]string{"since=1": "invalid", "step=1s&since=10000h": "invalid"} {
		if body, _ := l.do("GET", one, "/rum?"+query); !strings.Contains(body, status) {
			t.Error(body)
		}
	}
}
