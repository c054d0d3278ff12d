package wedgetest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// cachedOrigin counts the requests for each path, and answers as the path says.
type cachedOrigin struct {
	*httptest.Server
	mu   sync.Mutex
	seen map[string]int
}

func newCachedOrigin() *cachedOrigin {
	o := &cachedOrigin{seen: map[string]int{}}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.seen[r.URL.Path]++
		n := o.seen[r.URL.Path]
		o.mu.Unlock()
		o.answer(w, r, n)
	}))
	return o
}

func (o *cachedOrigin) times(path string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen[path]
}

func (o *cachedOrigin) answer(w http.ResponseWriter, r *http.Request, n int) {
	h := w.Header()
	switch kind, _, _ := strings.Cut(r.URL.Path[1:], "/"); kind {
	case "fresh":
		h.Set("Cache-Control", "max-age=60")
		h.Set("Vary", "Accept")
		h.Set("Surrogate-Key", "k1 k2")
	case "slow":
		h.Set("Cache-Control", "max-age=60")
		time.Sleep(200 * time.Millisecond)
	case "private":
		h.Set("Cache-Control", "private")
		time.Sleep(200 * time.Millisecond)
	case "tagged":
		h.Set("Cache-Control", "max-age=1")
		h.Set("Etag", `"1"`)
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	case "swr":
		h.Set("Cache-Control", "max-age=1, stale-while-revalidate=60")
	case "sie":
		if n > 1 {
			panic(http.ErrAbortHandler)
		}
		h.Set("Cache-Control", "max-age=1, stale-if-error=60")
	}
	fmt.Fprintf(w, "%s %d %s", r.Method, n, r.Header.Get("X-Before"))
}

var sharedOrigin = sync.OnceValue(newCachedOrigin)

func cacheNode(t testing.TB) (*Node, *cachedOrigin) {
	o := sharedOrigin()
	return shared(t, "jscache", func() App {
		manifest := fmt.Sprintf("[limits]\ncpu = \"5s\"\nwall = \"60s\"\n[backends.cached]\nurl = %q\n", o.URL)
		return App{Guest: JSGuest(t, Guest("jscache"), "--enable-http-cache"), Manifest: manifest}
	}), o
}

// TestJSCache asks the guest for what has one right answer, once.
func TestJSCache(t *testing.T) {
	n, _ := cacheNode(t)
	testAsks(t, n, []asks{
		{path: "/simple", want: `{"before":null,"set":"value","made":[0,"computed 0","computed 0"],"failed":"RangeError","failing":null,"purged":null,"kept":"computed 0",` +
			`"long":"long","stream":"GET 1 "}`},
		{path: "/twice?path=/fresh/twice", want: `[[200,"GET"],[200,"GET"]]`},
		{path: "/core", want: `{"absent":null,"state":"found usable","maxAge":60000,"swr":5000,"young":true,"hits":1,"length":10,"meta":"meta","body":"0123456789",` +
			`"range":"234","vary":["red",null],"abandoned":null,"short":null,"purged":null}`},
		{path: "/transaction", want: `["mustInsertOrUpdate",true,"found usable","found usable","Error","streamed","streamed",` +
			`"found usable stale mustInsertOrUpdate","found usable stale","Error","found usable","two","streamed","mustInsertOrUpdate"]`},
	})
}

// TestJSCacheHerd: of all who come while one inserts, each gets what it inserts.
func TestJSCacheHerd(t *testing.T) {
	n, _ := cacheNode(t)
	var inserted, sharers atomic.Int64
	var w sync.WaitGroup
	for range 20 {
		w.Go(func() {
			switch r := n.Get(t, "/herd"); r.Text {
			case "inserted streamed whole":
				inserted.Add(1)
			case "shared streamed whole":
				sharers.Add(1)
			default:
				t.Errorf("%d %q", r.StatusCode, r.Text)
			}
		})
	}
	w.Wait()
	if inserted.Load() != 1 || sharers.Load() != 19 {
		t.Errorf("%d inserted, %d shared", inserted.Load(), sharers.Load())
	}
}

// TestJSCacheLeaves: an obligation, or a body that is not whole, ends with its guest.
func TestJSCacheLeaves(t *testing.T) {
	n, _ := cacheNode(t)
	for _, query := range []string{"", "?body"} {
		for range 2 {
			n.Get(t, "/leave"+query).is(t, 200, "mustInsertOrUpdate")
			time.Sleep(50 * time.Millisecond) // the answer is out before the guest has ended
		}
	}
}

// about is what the guest says of a response.
type about struct {
	Status   int
	Text     string
	Cached   bool
	Stale    *bool
	TTL, Age float64
	SWR      float64
	Vary     []string
	After    string
	Seen     []int
}

// TestJSHTTPCache: the SDK's own HTTP cache, in the guest's hands.
func TestJSHTTPCache(t *testing.T) {
	n, o := cacheNode(t)
	ask := func(path string, headers ...string) about {
		return decode[about](t, n.Do(t, "GET", path, nil, headers...))
	}

	first, second := ask("/fetch?path=/fresh/a"), ask("/fetch?path=/fresh/a")
	if first.Text != "GET 1 " || first.Cached || second.Text != "GET 1 " || !second.Cached {
		t.Errorf("first %+v, second %+v", first, second)
	}
	if second.TTL < 55 || fmt.Sprint(second.Vary) != "[accept]" {
		t.Errorf("of what was found: %+v", second)
	}
	if found := decode[[]any](t, n.Get(t, "/found?path=/fresh/a")); len(found) != 4 || len(found[0].(string)) != 64 || fmt.Sprint(found[1:]) != "[k1 k2 false]" {
		t.Errorf("surrogate keys, the first of its own, and whether it is sensitive: %v", found)
	}
	if other := ask("/fetch?path=/fresh/a", "Accept: x/y"); other.Cached || other.Text != "GET 2 " {
		t.Errorf("another variant: %+v", other)
	}

	hooked := ask("/hooks?path=/plain/h")
	if hooked.Text != "GET 1 SENT" || hooked.After != "seen" || fmt.Sprint(hooked.Seen) != "[200]" {
		t.Errorf("with hooks: %+v", hooked)
	}
	if again := ask("/hooks?path=/plain/h"); again.Text != "GET 1 SENT" || again.After != "seen" || len(again.Seen) != 0 || !again.Cached || again.TTL < 3500 {
		t.Errorf("once more: %+v", again)
	}

	ask("/fetch?path=/tagged/t")
	ask("/fetch?path=/swr/s")
	ask("/fetch?path=/sie/e")
	time.Sleep(1100 * time.Millisecond)
	if a := ask("/fetch?path=/tagged/t"); a.Text != "GET 1 " || o.times("/tagged/t") != 2 {
		t.Errorf("confirmed by a 304: %+v, asked %d times", a, o.times("/tagged/t"))
	}
	if a := ask("/fetch?path=/swr/s"); a.Text != "GET 1 " {
		t.Errorf("stale while it is revalidated: %+v", a)
	}
	Eventually(t, "the revalidation", func() bool { return ask("/fetch?path=/swr/s").Text == "GET 2 " })
	if a := ask("/fetch?path=/sie/e"); a.Text != "GET 1 " || a.Status != 200 {
		t.Errorf("stale for the origin failed: %+v", a)
	}
}

// TestJSHTTPCachePassesOn: found responses go to the client as it asked for them.
func TestJSHTTPCachePassesOn(t *testing.T) {
	n, o := cacheNode(t)
	for range 2 {
		n.Get(t, "/pass-on?path=/fresh/p").is(t, 200, "GET 1 ")
	}
	r := n.Do(t, "GET", "/pass-on?path=/fresh/p", nil, "Range: bytes=0-2")
	if r.StatusCode != 206 || r.Text != "GET" || r.Header.Get("Content-Range") != "bytes 0-2/6" {
		t.Errorf("%d %q %v", r.StatusCode, r.Text, r.Header)
	}
	if o.times("/fresh/p") != 1 {
		t.Errorf("asked %d times", o.times("/fresh/p"))
	}
}

// TestJSHTTPCacheCollapses: many ask at a time; the origin is asked once for what can be shared, and
// by all at the same time for what cannot.
func TestJSHTTPCacheCollapses(t *testing.T) {
	n, o := cacheNode(t)
	crowd := func(path string) time.Duration {
		began := time.Now()
		var w sync.WaitGroup
		for range 10 {
			w.Go(func() {
				resp, err := http.Get(n.URL + "/pass-on?path=" + path)
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				if b, err := io.ReadAll(resp.Body); err != nil || !strings.HasPrefix(string(b), "GET ") {
					t.Errorf("%d %q, %v", resp.StatusCode, b, err)
				}
			})
		}
		w.Wait()
		return time.Since(began)
	}
	crowd("/slow/c")
	if o.times("/slow/c") != 1 {
		t.Errorf("asked %d times", o.times("/slow/c"))
	}
	if took := crowd("/private/c"); took > 1500*time.Millisecond || o.times("/private/c") != 10 {
		t.Errorf("what cannot be shared: asked %d times, took %v", o.times("/private/c"), took)
	}
}
