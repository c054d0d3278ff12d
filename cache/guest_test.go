package cache

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wedge-cloud/wedge"
)

// lookFor looks for the response to a request as a guest does.
func lookFor(t *testing.T, c *Cache, method, url string, lines ...string) *Transaction {
	t.Helper()
	if below.cold {
		forgetMemory(c)
	}
	req, err := http.NewRequestWithContext(wedge.WithCaching(context.Background(), &wedge.Caching{Service: "shop"}), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header(lines)
	x, err := c.Look(context.Background(), wedge.CacheLookup{Request: req, Mode: wedge.CacheCollapse})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Close)
	return x
}

// store does what a guest does with a backend's response.
func store(t *testing.T, x *Transaction, resp *http.Response) *Transaction {
	t.Helper()
	action, status, h := x.Prepare(resp.StatusCode, resp.Header)
	w := x.Suggest(status, h)
	w.Status, w.Response = status, h
	var y *Transaction
	var err error
	switch action {
	case wedge.CacheInsert:
		y, err = x.Insert(w, resp.Body, true)
	case wedge.CacheUpdate:
		y, err = x.Update(w)
	case wedge.CacheRecordPass:
		err = x.Pass(w.MaxAge)
	case wedge.CacheDoNotStore:
		err = x.Cancel()
	}
	if err != nil {
		t.Fatal(err)
	}
	return y
}

func wantFound(t *testing.T, x *Transaction, status int, body string) http.Header {
	t.Helper()
	resp, err := x.Response(context.Background(), true)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if resp.StatusCode != status || string(b) != body || err != nil {
		t.Fatalf("%d %q, %v; want %d %q", resp.StatusCode, b, err, status, body)
	}
	return resp.Header
}

// TestGuestAndFetch: what a guest stores answers fetches, and the other way round.
func TestGuestAndFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &farOrigin{answer: numbered("Cache-Control: max-age=60", "Surrogate-Key: a b", "Connection: x", "X: y", "Content-Length: 8")}
		c := newLab(o, Config{})
		x := lookFor(t, c, "HEAD", page, "If-None-Match: \"x\"", "Range: bytes=0-1")
		wantState(t, x, chore)
		if r := x.BackendRequest(); r.Method != "GET" || len(r.Header) != 0 {
			t.Errorf("to be sent: %s %v", r.Method, r.Header)
		}
		resp, _ := o.answer(7, nil)
		back := store(t, x, resp)
		if i, _ := back.Object(); i.MaxAge != time.Minute || len(i.SurrogateKeys) != 3 || i.Length != 8 {
			t.Errorf("%+v", i)
		}
		if h := wantFound(t, back, 200, ""); h.Get("X") != "" || h.Get("Content-Length") != "8" {
			t.Errorf("HEAD: %v", h)
		}
		time.Sleep(5 * time.Second)
		g := get(c, context.Background(), page)
		wantBody(t, g, "answer 7")
		if !g.says("hit") || g.header.Get("Age") != "5" {
			t.Errorf("%v", g.header)
		}
		wantFetches(t, o, 0)
		wantBody(t, get(c, context.Background(), page+"2"), "answer 1")
		x = lookFor(t, c, "GET", page+"2", "Range: bytes=0-2")
		wantState(t, x, fresh)
		if h := wantFound(t, x, 206, "ans"); h.Get("Content-Range") != "bytes 0-2/8" {
			t.Errorf("%v", h)
		}
		if raw, err := x.Response(context.Background(), false); err != nil || raw.StatusCode != 200 || raw.Header["Age"] != nil || raw.ContentLength != 8 {
			t.Errorf("raw: %+v, %v", raw, err)
		}
		if err := c.Purge(wedge.Purge{Service: "shop", URL: page}); err != nil {
			t.Fatal(err)
		}
		wantState(t, lookFor(t, c, "GET", page), chore)
	})
}

// TestGuestUpdates: a stale response with a validator is confirmed by a 304.
func TestGuestUpdates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newLab(&farOrigin{}, Config{})
		store(t, lookFor(t, c, "GET", page), answer(200, "body", "Cache-Control: max-age=10", "Etag: \"1\"", "X: old"))
		synctest.Wait()
		time.Sleep(time.Minute)
		x := lookFor(t, c, "GET", page, "If-None-Match: \"other\"")
		wantState(t, x, wedge.CacheFound|wedge.CacheStale|chore)
		if _, err := x.Response(context.Background(), true); wedge.KindOf(err) != wedge.Conflict {
			t.Errorf("what is only to be validated was handed out: %v", err)
		}
		if r := x.BackendRequest(); r.Header.Get("If-None-Match") != `"1"` {
			t.Errorf("to be sent: %v", r.Header)
		}
		y := store(t, x, answer(304, "", "Cache-Control: max-age=20", "Etag: \"1\"", "X: new"))
		if h := wantFound(t, y, 200, "body"); h.Get("X") != "new" {
			t.Errorf("%v", h)
		}
		time.Sleep(15 * time.Second)
		x = lookFor(t, c, "GET", page, "If-None-Match: \"1\"")
		wantState(t, x, fresh)
		wantFound(t, x, 304, "")
	})
}

// TestGuestActions: what is to be done with which response, by the rules of fetches.
func TestGuestActions(t *testing.T) {
	for _, c := range []struct {
		status int
		lines  string
		want   wedge.CacheAction
	}{
		{200, "Cache-Control: max-age=10", wedge.CacheInsert},
		{200, "Surrogate-Control: max-age=10|Cache-Control: private", wedge.CacheInsert},
		{404, "Cache-Control: max-age=10", wedge.CacheInsert},
		{200, "Cache-Control: no-cache|Etag: \"1\"", wedge.CacheInsert},
		{200, "Cache-Control: private", wedge.CacheRecordPass},
		{200, "Cache-Control: max-age=10|Set-Cookie: a=b", wedge.CacheRecordPass},
		{200, "Cache-Control: max-age=10|Vary: *", wedge.CacheRecordPass},
		{200, "Cache-Control: max-age=10|Content-Length: 99999999999", wedge.CacheRecordPass},
		{503, "Retry-After: 1", wedge.CacheDoNotStore},
		{304, "Etag: \"1\"", wedge.CacheRecordPass},
	} {
		x := lookFor(t, newLab(&farOrigin{}, Config{}), "GET", page)
		h := header(strings.Split(c.lines, "|"))
		if got, _, _ := x.Prepare(c.status, h); got != c.want {
			t.Errorf("%d %s: %d, want %d", c.status, c.lines, got, c.want)
		}
		if w := x.Suggest(c.status, h); strings.Contains(c.lines, "no-cache") && w.MaxAge != 0 {
			t.Errorf("%s: fresh for %v", c.lines, w.MaxAge)
		}
	}
}

// TestGuestPass: once it is known that nobody can share the response nobody waits for another; each may keep its own.
func TestGuestPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newLab(&farOrigin{}, Config{})
		first := lookFor(t, c, "GET", page)
		var w sync.WaitGroup
		for range 10 {
			w.Go(func() {
				wantState(t, lookFor(t, c, "GET", page), chore)
			})
		}
		synctest.Wait()
		store(t, first, answer(200, "mine", "Cache-Control: private"))
		w.Wait()
		again := lookFor(t, c, "GET", page)
		wantState(t, again, chore)
		store(t, again, answer(200, "everybody's", "Cache-Control: max-age=10"))
		wantFound(t, lookFor(t, c, "GET", page), 200, "everybody's")

		store(t, lookFor(t, c, "GET", page+"?2"), answer(200, "mine", "Cache-Control: private"))
		time.Sleep(passTime)
		first = lookFor(t, c, "GET", page+"?2")
		w.Go(func() { wantFound(t, lookFor(t, c, "GET", page+"?2"), 200, "shared") })
		synctest.Wait()
		store(t, first, answer(200, "shared", "Cache-Control: max-age=10"))
		w.Wait()
	})
}

// TestGuestChoosesStale: everybody who waits gets what is stale when the origin fails.
func TestGuestChoosesStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newLab(&farOrigin{}, Config{})
		store(t, lookFor(t, c, "GET", page), answer(200, "body", "Cache-Control: max-age=10, stale-if-error=100"))
		time.Sleep(time.Minute)
		x := lookFor(t, c, "GET", page)
		wantState(t, x, wedge.CacheFound|wedge.CacheStale|chore|wedge.CacheUsableIfError)
		var w sync.WaitGroup
		w.Go(func() {
			y := lookFor(t, c, "GET", page)
			wantState(t, y, foundStale)
			wantFound(t, y, 200, "body")
		})
		synctest.Wait()
		if err := x.ChooseStale(); err != nil {
			t.Fatal(err)
		}
		wantFound(t, x, 200, "body")
		w.Wait()
		if err := x.ChooseStale(); wedge.KindOf(err) != wedge.Conflict {
			t.Errorf("twice: %v", err)
		}
		time.Sleep(time.Minute)
		wantState(t, lookFor(t, c, "GET", page), chore)
	})
}

// TestGuestDoesNotHoldFetches: a fetch does not wait for a guest, which may never come to an end.
func TestGuestDoesNotHoldFetches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &farOrigin{answer: numbered("Cache-Control: max-age=60")}
		c := newLab(o, Config{})
		x := lookFor(t, c, "GET", page)
		g := get(c, context.Background(), page)
		wantBody(t, g, "answer 1")
		store(t, x, answer(200, "the guest's", "Cache-Control: max-age=60"))
		synctest.Wait()
		wantBody(t, get(c, context.Background(), page), "the guest's")
	})
}

// TestGuestWaitsForFetches: a guest shares a fetch that is under way.
func TestGuestWaitsForFetches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &farOrigin{answer: after(slow, answer(200, "hello", "Cache-Control: max-age=60"))}
		c := newLab(o, Config{})
		go get(c, context.Background(), page)
		time.Sleep(slow / 2)
		x := lookFor(t, c, "GET", page)
		wantState(t, x, fresh)
		wantFound(t, x, 200, "hello")
		private := lookFor(t, c, "GET", page+"2", "Authorization: a")
		wantState(t, private, chore)
		wantState(t, lookFor(t, c, "GET", page+"2", "Authorization: b"), chore) // credentials do not wait for each other
	})
}

func TestGuestCacheable(t *testing.T) {
	c := newLab(&farOrigin{}, Config{})
	for method, want := range map[string]bool{"GET": true, "HEAD": true, "POST": false, "PURGE": false} {
		req, _ := http.NewRequest(method, page, nil)
		if c.Cacheable(req) != want {
			t.Errorf("%s: cacheable is %v", method, !want)
		}
	}
	a, _ := http.NewRequest("GET", page, nil)
	b, _ := http.NewRequest("GET", page+"?", nil)
	if string(c.RequestKey(a)) == string(c.RequestKey(b)) || len(c.RequestKey(a)) != 32 {
		t.Error("two pages have one key")
	}
}
