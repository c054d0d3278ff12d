package cache

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wedge-cloud/wedge"
)

func TestPurge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &farOrigin{answer: numbered("Cache-Control: max-age=60, stale-while-revalidate=60", "Surrogate-Key: a b")}
		c := newLab(o, Config{})
		ask := func(want string) {
			t.Helper()
			wantBody(t, get(c, context.Background(), page), want)
			time.Sleep(time.Millisecond) // for what goes on behind the client
		}
		purge := func(p wedge.Purge) {
			t.Helper()
			if err := c.Purge(p); err != nil {
				t.Fatal(err)
			}
		}
		ask("answer 1")
		purge(wedge.Purge{Service: "shop", Keys: []string{"c"}})
		purge(wedge.Purge{Service: "other", Keys: []string{"a"}})
		purge(wedge.Purge{Service: "other", All: true})
		purge(wedge.Purge{Service: "other", URL: page})
		purge(wedge.Purge{Service: "shop", URL: page + "?"})
		ask("answer 1")
		purge(wedge.Purge{Service: "shop", Keys: []string{"x", "b"}})
		ask("answer 2")
		purge(wedge.Purge{Service: "shop", URL: "HTTP://Shop.Example:80/page"})
		ask("answer 3")
		purge(wedge.Purge{Service: "shop", All: true})
		ask("answer 4")
		ask("answer 4")
		purge(wedge.Purge{Service: "shop", Keys: []string{"a"}, Soft: true})
		ask("answer 4") // stale, while it is fetched anew
		ask("answer 5")
		purge(wedge.Purge{Service: "shop", URL: page, Soft: true})
		ask("answer 5")
		ask("answer 6")
	})
}

// TestPurgeDuringFetch: what was asked for before a purge answers nobody who came after it.
func TestPurgeDuringFetch(t *testing.T) {
	for _, p := range []wedge.Purge{
		{Service: "shop", URL: page}, {Service: "shop", Keys: []string{"a"}}, {Service: "shop", All: true},
	} {
		for _, streaming := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				o := &farOrigin{}
				o.answer = func(n int64, req *http.Request) (*http.Response, error) {
					r := answer(200, "", "Cache-Control: max-age=60", "Surrogate-Key: a")
					r.ContentLength, r.Body = -1, &pieces{all: []string{fmt.Sprint("answer ", n), "."}, pause: slow}
					if streaming {
						return r, nil
					}
					return after(slow, r)(n, req)
				}
				c := newLab(o, Config{})
				before := make(chan got, 1)
				go func() { before <- get(c, context.Background(), page) }()
				time.Sleep(slow / 2)
				if err := c.Purge(p); err != nil {
					t.Fatal(err)
				}
				wantBody(t, get(c, context.Background(), page), "answer 2.")
				wantBody(t, <-before, "answer 1.")
				wantBody(t, get(c, context.Background(), page), "answer 2.")
			})
		}
	}
}

func TestPurgeRefusals(t *testing.T) {
	c := newLab(&farOrigin{}, Config{})
	for _, p := range []wedge.Purge{
		{Service: "shop", Keys: make([]string, wedge.MaxPurgeKeys+1)}, {Service: "shop", URL: "/page"}, {Service: "shop", URL: "http://a b/"},
	} {
		if err := c.Purge(p); wedge.KindOf(err) != wedge.Invalid {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

// TestPurgeNamesAreBounded: past the bound too much is forgotten, not too little.
func TestPurgeNamesAreBounded(t *testing.T) {
	o := &farOrigin{answer: numbered("Cache-Control: max-age=60", "Surrogate-Key: a")}
	c := newLab(o, Config{})
	wantBody(t, get(c, context.Background(), page), "answer 1")
	if err := c.Purge(wedge.Purge{Service: "shop", Keys: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	for i := 0; i <= maxPurgeNames; i += wedge.MaxPurgeKeys {
		keys := make([]string, wedge.MaxPurgeKeys)
		for k := range keys {
			keys[k] = fmt.Sprint("k", i+k)
		}
		if err := c.Purge(wedge.Purge{Service: "shop", Keys: keys}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(c.purges.named); n > maxPurgeNames {
		t.Errorf("%d names", n)
	}
	wantBody(t, get(c, context.Background(), page), "answer 2")
	wantBody(t, get(c, context.Background(), page), "answer 2")
}

// TestUnsafeMethods: what changes a resource at the origin is not answered from before.
func TestUnsafeMethods(t *testing.T) {
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "FOO"} {
		synctest.Test(t, func(t *testing.T) {
			o := &farOrigin{answer: numbered("Cache-Control: max-age=60")}
			c := newLab(o, Config{})
			wantBody(t, get(c, context.Background(), page), "answer 1")
			wantBody(t, do(c, context.Background(), method, page), "answer 2")
			wantBody(t, get(c, context.Background(), page), "answer 3")
		})
	}
}

// TestMemoryIsBounded: a scan of keys that are used once stays within the bound, and does not
// push out what is used.
func TestMemoryIsBounded(t *testing.T) {
	const limit = 1 << 20
	o := &farOrigin{}
	o.answer = func(n int64, req *http.Request) (*http.Response, error) {
		return answer(200, strings.Repeat("x", int(n%3000)), "Cache-Control: max-age=60"), nil
	}
	c := newLab(o, Config{Memory: limit})
	get(c, context.Background(), page)
	for i := range 20_000 {
		get(c, context.Background(), fmt.Sprintf("http://shop.example/%d", i))
		if i%50 == 0 && !get2(c).says("hit") {
			t.Fatalf("the page in use was evicted after %d others", i)
		}
		if used, _ := c.Used(); used > limit {
			t.Fatalf("%d bytes after %d objects", used, i)
		}
	}
	used, objects := c.Used()
	if entries := c.entries(); entries > objects+1 || used < limit/2 {
		t.Errorf("%d entries for %d objects of %d bytes", entries, objects, used)
	}
}

// entries returns how many there are.
func (c *Cache) entries() (n int) {
	for i := range c.shards {
		c.shards[i].mu.Lock() // the last object may still be on its way
		n += len(c.shards[i].entries) + len(c.shards[i].odd)
		c.shards[i].mu.Unlock()
	}
	return n
}

func get2(c *Cache) got { return get(c, context.Background(), page) }

// TestMarkersAreBounded: what is remembered of keys with nothing stored does not add up.
func TestMarkersAreBounded(t *testing.T) {
	o := &farOrigin{answer: numbered("Cache-Control: private")}
	now := time.Now()
	c := newLab(o, Config{Now: func() time.Time { return now }})
	entries := c.entries
	for i := range shards*maxMarked + 10_000 {
		get(c, context.Background(), fmt.Sprintf("http://shop.example/%d", i))
	}
	if n := entries(); n > shards*maxMarked || n < shards*maxMarked/2 {
		t.Errorf("%d entries of which nothing is stored", n)
	}
	now = now.Add(2 * passTime)
	for i := range shards * maxMarked {
		get(c, context.Background(), fmt.Sprintf("http://shop.example/%d", i%2000))
	}
	if n := entries(); n > 2000 {
		t.Errorf("%d entries when most are no longer remembered", n)
	}
}

// TestVariantsAreBounded: a client that makes up variants does not fill the cache with them.
func TestVariantsAreBounded(t *testing.T) {
	o := &farOrigin{answer: numbered("Cache-Control: max-age=60", "Vary: X")}
	c := newLab(o, Config{})
	for i := range 1000 {
		get(c, context.Background(), page, fmt.Sprint("X: ", i))
	}
	if _, objects := c.Used(); objects > maxVariants {
		t.Errorf("%d variants are kept", objects)
	}
}

// TestVariantsAskedForStay: nor push out those that others ask for.
func TestVariantsAskedForStay(t *testing.T) {
	o := &farOrigin{answer: numbered("Cache-Control: max-age=60", "Vary: X")}
	c := newLab(o, Config{})
	for range 2 {
		get(c, context.Background(), page, "X: asked for")
	}
	for i := range 3 * maxVariants {
		get(c, context.Background(), page, fmt.Sprint("X: ", i))
	}
	if !get(c, context.Background(), page, "X: asked for").says("hit") {
		t.Error("a variant that is asked for made room for one that is not")
	}
}

// TestSuperseded: what comes for a version after another with other backends has come is stored for nobody, nor shared, whether it was asked for before or after the
// purge that goes with that.
func TestSuperseded(t *testing.T) {
	for name, late := range map[string]bool{"asked before": false, "asked after": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &farOrigin{answer: func(n int64, req *http.Request) (*http.Response, error) {
					return after(slow, answer(200, []string{"old", "new"}[min(n, 2)-1], "Cache-Control: max-age=60"))(n, req)
				}}
				c, flag := newLab(o, Config{}), new(atomic.Bool)
				supersede := func() {
					flag.Store(true)
					if err := c.Purge(wedge.Purge{Service: "shop", All: true}); err != nil {
						t.Error(err)
					}
				}
				if late {
					supersede()
				}
				req, err := http.NewRequest("GET", page, nil)
				if err != nil {
					t.Fatal(err)
				}
				done := make(chan bool)
				go func() {
					resp, err := c.RoundTrip(req.WithContext(wedge.WithCaching(t.Context(), &wedge.Caching{Service: "shop", Superseded: flag})))
					if b, _ := io.ReadAll(resp.Body); err != nil || string(b) != "old" {
						t.Errorf("%s, %v", b, err)
					}
					done <- true
				}()
				time.Sleep(slow / 2)
				if !late {
					supersede()
				}
				wantBody(t, get(c, t.Context(), page), "new") // while the other is under way
				<-done
				time.Sleep(slow)
				wantBody(t, get(c, t.Context(), page), "new")
				wantFetches(t, o, 2)
			})
		})
	}
}
