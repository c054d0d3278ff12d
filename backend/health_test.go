package backend

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wedge-cloud/wedge"
)

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		size, threshold, initial int
		probes, want             string // p pass, f fail; then what each says: H healthy, U not
		start                    byte
	}{
		{5, 3, 2, "pfffp", "HHHUU", 'U'},
		{5, 3, 2, "ppp", "HHH", 'U'},
		{5, 3, 5, "ffff", "HHUU", 'H'},
		{1, 1, 0, "pfp", "HUH", 'U'},
		{3, 3, 0, "pppfppp", "UUHUUUH", 'U'},
		{64, 64, 64, "fp", "UU", 'H'},
		{64, 63, 64, "fp", "HH", 'H'},
	} {
		say := func(h wedge.Health) byte {
			if h == wedge.Healthy {
				return 'H'
			}
			return 'U'
		}
		w := newWindow(c.initial)
		if got := say(verdict(w, c.threshold)); got != c.start {
			t.Errorf("%+v: starts %c", c, got)
		}
		var got []byte
		for _, p := range c.probes {
			var h wedge.Health
			w, h = judge(w, p == 'p', c.size, c.threshold)
			got = append(got, say(h))
		}
		if string(got) != c.want {
			t.Errorf("%+v: got %s", c, got)
		}
	}
}

func watched(t *testing.T, url string, hc wedge.HealthCheck) wedge.Backend {
	b := static(t, url)
	b.HealthCheck = &hc
	return *b
}

func TestProbingFollowsTheOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, Config{})
		var down atomic.Bool
		var probes atomic.Int32
		tr.health.ask = func(context.Context, *check) error {
			probes.Add(1)
			if down.Load() {
				return errors.New("down")
			}
			return nil
		}
		b := watched(t, "http://o.test", wedge.HealthCheck{Interval: 10 * time.Second, Window: 3, Threshold: 2})
		if got := tr.Health(&b); got != wedge.HealthUnknown {
			t.Errorf("before Watch: %d", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- tr.Run(ctx) }()
		tr.Watch([]wedge.Backend{b, b})
		expect := func(after time.Duration, want wedge.Health) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if got := tr.Health(&b); got != want {
				t.Errorf("health %d, want %d", got, want)
			}
		}
		expect(0, wedge.Unhealthy) // one of two needed
		expect(12*time.Second, wedge.Healthy)
		down.Store(true)
		expect(24*time.Second, wedge.Unhealthy)

		n := probes.Load()
		tr.Watch([]wedge.Backend{b}) // the same again: result and rhythm are kept
		expect(0, wedge.Unhealthy)
		if probes.Load() != n {
			t.Error("an unchanged check was started anew")
		}
		fixed := b
		fixed.Health = wedge.Healthy
		if tr.Health(&fixed) != wedge.Healthy {
			t.Error("a fixed health must win")
		}
		tr.Watch(nil)
		n = probes.Load()
		expect(time.Minute, wedge.HealthUnknown)
		if probes.Load() != n {
			t.Error("probed after it was dropped")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestProbe(t *testing.T) {
	var seen atomic.Pointer[http.Request]
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r)
		if r.URL.Path == "/slow" {
			<-r.Context().Done()
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer s.Close()
	tr := newTransport(t, Config{})
	for _, c := range []struct {
		name string
		hc   wedge.HealthCheck
		ok   bool
	}{
		{"passes", wedge.HealthCheck{Method: "GET", Host: "check.test", Path: "/up?x=1", ExpectedStatus: 204}, true},
		{"other status", wedge.HealthCheck{}, false},
		{"slow", wedge.HealthCheck{Path: "/slow", Timeout: 20 * time.Millisecond, ExpectedStatus: 204}, false},
		{"bad path", wedge.HealthCheck{Path: "no slash", ExpectedStatus: 204}, false},
	} {
		b := watched(t, s.URL+"/prefix", c.hc)
		b.HostOverride = "over.test"
		if err := tr.health.probe(t.Context(), newCheck(&b)); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if r := seen.Load(); c.ok && (r.Host != "check.test" || r.RequestURI != "/up?x=1" || r.Method != "GET") {
			t.Errorf("sent %s %s to %s", r.Method, r.RequestURI, r.Host)
		}
	}
}
