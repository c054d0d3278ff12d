package node

import (
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/internal/recent"
	"github.com/wedge-cloud/wedge/rate"
)

// TestBearsOn: no way to write a path or a host leads past a rate.
func TestBearsOn(t *testing.T) {
	for _, c := range []struct {
		path, host string
		want       bool
	}{
		{"/api/login", "shop.example", true},
		{"/api/%6cogin", "SHOP.example:80", true},
		{"/x/../api//login", "shop.example.", true},
		{"/api/login;a=b", "shop.example.:80", true},
		{"/api;v=1/login", "shop.example", true},
		{"/x/..;/api/login", "shop.example", true},
		{"/x/%2e%2e;a/api/login", "shop.example", true},
		{"/api%5clogin", "shop.example", true},
		{"/api/logout", "shop.example", false},
		{"/api/login", "shop.example.org", false},
	} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://x"+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = c.host
		if got := bearsOn(&wedge.Rate{Path: "/api/login", Hosts: []string{"shop.example"}}, r); got != c.want {
			t.Errorf("%s at %s: %v", c.path, c.host, got)
		}
	}
}

// TestWoken: who waits for an ask and is woken by others, again and again, is not let in by that.
func TestWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRating("a", time.Now())
		g.limiter.See([]string{"b"}, true, g.now())
		rule, k := &rate.Rule{Service: "shop", Limit: 2, Window: time.Hour}, recent.Key{}
		for out := (*rate.Sent)(nil); out == nil; k[8]++ { // a key whose referee is b, which never answers
			if _, out = g.limiter.Take(rule, k, g.now(), false); out != nil {
				break
			}
		}
		var w sync.WaitGroup
		for range 10 {
			w.Go(func() {
				if d, _ := g.take(rule, k, false); d.OK {
					t.Error("it is let in")
				}
			})
		}
		done := make(chan struct{})
		go func() {
			w.Wait()
			close(done)
		}()
		for woken := 0; ; woken++ {
			select {
			case <-done:
				if woken < 10 {
					t.Errorf("woken %d times", woken)
				}
				return
			case <-time.After(10 * time.Millisecond):
				g.wake(k)
			}
		}
	})
}
