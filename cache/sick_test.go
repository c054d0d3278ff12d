package cache

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// TestSickOriginIsSpared: while an origin fails only one client now and then waits for that.
func TestSickOriginIsSpared(t *testing.T) {
	for _, test := range []struct {
		name, control, detail string
		fail                  func(int64, *http.Request) (*http.Response, error)
		takes                 time.Duration
		spared                time.Duration
	}{
		{"unreachable", "max-age=10", "origin-unreachable", func(int64, *http.Request) (*http.Response, error) {
			time.Sleep(4 * time.Second)
			return nil, errBroken
		}, 4 * time.Second, 4 * time.Second},
		{"error", "max-age=10, stale-if-error=600", "stale-if-error", func(int64, *http.Request) (*http.Response, error) {
			return answer(503, "sorry"), nil
		}, 0, time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				well := numbered("Cache-Control: "+test.control, `Etag: "a"`)
				o := &farOrigin{answer: well}
				c := newLab(o, Config{})
				ask := func(body, word string, takes time.Duration, fetches int64) {
					t.Helper()
					g := get(c, context.Background(), page)
					synctest.Wait()
					if g.err != nil || g.body != body || !g.says(word) || g.took != takes || o.fetches.Load() != fetches {
						t.Errorf("%q after %v, %d fetches, %v, %v", g.body, g.took, o.fetches.Load(), g.header["Cache-Status"], g.err)
					}
				}
				ask("answer 1", "stored", 0, 1)
				time.Sleep(11 * time.Second)
				o.answer = test.fail
				ask("answer 1", test.detail, test.takes, 2)
				ask("answer 1", "hit; ttl=-", 0, 2)
				time.Sleep(test.spared - time.Millisecond)
				ask("answer 1", test.detail, 0, 2)
				time.Sleep(2 * time.Millisecond)
				ask("answer 1", test.detail, test.takes, 3)
				time.Sleep(test.spared + time.Millisecond)
				o.answer = well
				ask("answer 4", "stored", 0, 4)
				ask("answer 4", "hit", 0, 4)
			})
		})
	}
}

// TestProvokedErrors: an error that a client brings about while what is stored is validated does not cost others what is stored.
func TestProvokedErrors(t *testing.T) {
	for status := range provoked {
		o := &farOrigin{answer: func(n int64, req *http.Request) (*http.Response, error) {
			switch {
			case n == 1:
				return answer(200, "page", "Cache-Control: max-age=0", `Etag: "v"`), nil
			case req.Header.Get("X") != "":
				return answer(status, "error", "Cache-Control: max-age=60"), nil
			}
			return nil, errBroken
		}}
		c := newLab(o, Config{})
		get(c, context.Background(), page)
		if g := get(c, context.Background(), page, "X: y"); g.status != status {
			t.Errorf("%d: got %d", status, g.status)
		}
		if g := get(c, context.Background(), page); g.body != "page" {
			t.Errorf("%d: then got %d %q, %v", status, g.status, g.body, g.err)
		}
	}
}
