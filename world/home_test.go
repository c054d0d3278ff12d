package world

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
)

// TestHome: writes to a store of scope home are ordered at one PoP, wherever they come from; it moves to where they come from, while they go on, and none is lost or
// carried out twice; who cannot reach it reads, and does not write.
func TestHome(t *testing.T) {
	l := stateLab{newLabOf(t, Config{HomePace: 100 * time.Millisecond}, func(v *wedge.Version) {
		v.Backends = []wedge.Backend{{Name: "state", URL: parsed(t, "http://state.wedge.internal")}}
		v.KVStores = map[string][]wedge.KVSeed{"log": nil}
		v.Stores = map[string]wedge.Store{"log": {Scope: wedge.ScopeHome}}
	})}
	core := httptest.NewServer(l.Core())
	defer core.Close()
	client := api.Client{URL: core.URL, Token: l.Core().AdminToken()}
	every := []string{"lhr", "nyc", "nrt"}
	l.becomes("all are there", 5*time.Second, func() bool {
		return len(l.Node("lhr").PoPs()) == 3 && len(l.Node("nyc").PoPs()) == 3 && len(l.Node("nrt").PoPs()) == 3
	})
	add := func(pop, text string) (token string, took time.Duration, ok bool) {
		began := time.Now()
		status, body, h := l.ask("PUT", pop, "/log/all", text+",", "Wedge-Mode: append")
		if status/100 != 2 {
			t.Logf("at %s: %d %s", pop, status, body)
		}
		return h.Get("Wedge-State-Token"), time.Since(began), status/100 == 2
	}
	if _, _, ok := add("lhr", "first"); !ok {
		t.Fatal("the first write fails")
	}
	token, _, ok := add("nrt", "second")
	if !ok || !strings.HasPrefix(token, "lhr.") {
		t.Fatalf("a write at another PoP: %v, %s", ok, token)
	}
	if status, got, h := l.ask("GET", "nyc", "/log/all", "", "Wedge-At-Least: "+token); got != "first,second," || !strings.HasPrefix(h.Get("Wedge-State"), `home; pop="nyc"; from="lhr"`) {
		t.Errorf("%d %s, %s", status, got, h.Get("Wedge-State"))
	}
	if status, got, h := l.ask("GET", "nrt", "/log/all", "", "Wedge-Max-Staleness: 0"); got != "first,second," || !strings.Contains(h.Get("Wedge-State"), `pop="lhr"`) || !strings.Contains(h.Get("Wedge-State"), "; age=0; remote") {
		t.Errorf("%d %s, %s", status, got, h.Get("Wedge-State"))
	}
	for pop, home := range map[string]bool{"lhr": true, "nyc": false} {
		if _, _, h := l.ask("GET", pop, "/log/all", ""); strings.HasSuffix(h.Get("Wedge-State"), "; age=0") != home {
			t.Errorf("at %s: %s", pop, h.Get("Wedge-State"))
		}
	}
	acked, slowest := []string{"first", "second"}, time.Duration(0)
	home := func() (h api.Home) {
		for _, pop := range every {
			list, err := client.State(t.Context(), "shop", api.StateRequest{PoP: pop, Method: http.MethodGet, Path: api.HomesPath})
			var homes []api.Home
			if err == nil && len(list) == 1 && json.Unmarshal(list[0].Body, &homes) == nil && len(homes) == 1 {
				h = homes[0]
			}
		}
		return h
	}
	moved := false
	for n := 0; n < 400 && !moved; n++ {
		_, took, ok := add("nrt", fmt.Sprint("nrt", n))
		if !ok {
			t.Fatalf("write %d fails while the home moves", n)
		}
		acked, slowest = append(acked, fmt.Sprint("nrt", n)), max(slowest, took)
		moved = n%20 == 19 && home().PoP == "nrt"
	}
	if !moved {
		t.Fatalf("the home does not follow its writers: %+v", home())
	}
	for n := range 20 {
		if _, _, ok := add("nrt", fmt.Sprint("near", n)); !ok {
			t.Fatal("a write at home fails")
		}
		acked = append(acked, fmt.Sprint("near", n))
	}
	_, near, _ := add("nrt", "last")
	acked = append(acked, "last")
	t.Logf("the slowest write took %v, one at home %v", slowest, near)
	want := strings.Join(acked, ",") + ","
	l.becomes("all have all, in order, once", 5*time.Second, l.has("/log/all", want, every...))
	if h := home(); h.Epoch != 2 || h.Writes["nrt"] < h.Writes["lhr"] || h.Waits["nrt"] >= h.Waits["lhr"] || h.Why == "" {
		t.Errorf("%+v", h)
	}

	if err := l.Cut("nrt"); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := add("nrt", "alone"); !ok {
		t.Error("a home that is cut off does not write")
	}
	if status, got, _ := l.ask("PUT", "lhr", "/log/all", "lost,", "Wedge-Mode: append"); status != http.StatusServiceUnavailable {
		t.Errorf("a write whose home is cut off: %d %s", status, got)
	}
	if status, got, _ := l.ask("GET", "lhr", "/log/all", ""); status != 200 || got != want {
		t.Errorf("a read whose home is cut off: %d %s", status, got)
	}
	if status, got, _ := l.ask("GET", "lhr", "/log/all", "", "Wedge-Max-Staleness: 1", "Wedge-Wait: 0.2"); status != http.StatusGatewayTimeout {
		t.Errorf("one that wants the newest: %d %s", status, got)
	}
	if err := l.Kill("nrt"); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(t.Context(), "nrt"); err != nil {
		t.Fatal(err)
	}
	if err := l.Heal("nrt"); err != nil {
		t.Fatal(err)
	}
	want += "alone,"
	l.becomes("what the home wrote alone is everywhere", 10*time.Second, l.has("/log/all", want, every...))
	for _, pop := range every {
		l.becomes(pop+" reaches the home again", 20*time.Second, func() bool {
			text := "again " + pop
			_, _, ok := add(pop, text)
			if ok {
				want += text + ","
			}
			return ok
		})
	}
	var w sync.WaitGroup
	var mu sync.Mutex
	sent := map[string]bool{}
	for _, pop := range every {
		w.Go(func() {
			for n := range 30 {
				text := fmt.Sprint(pop, "-", n)
				if _, _, ok := add(pop, text); ok {
					mu.Lock()
					sent[text] = true
					mu.Unlock()
				} else {
					t.Errorf("a write at %s fails", pop)
				}
			}
		})
	}
	w.Wait()
	l.becomes("all agree", 10*time.Second, func() bool {
		_, a, _ := l.ask("GET", "lhr", "/log/all", "")
		return len(a) > len(want) && l.has("/log/all", a, every...)()
	})
	_, all, _ := l.ask("GET", "nrt", "/log/all", "")
	got := strings.Split(strings.TrimSuffix(strings.TrimPrefix(all, want), ","), ",")
	slices.Sort(got)
	if len(got) != len(sent) || len(slices.Compact(got)) != len(sent) {
		t.Errorf("%d of %d writes are there", len(got), len(sent))
	}
}
