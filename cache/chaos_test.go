package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

// chaos is an origin that is slow, breaks off, lies about lengths, flaps and answers some
// requests for one client alone. What it says can be checked by whoever gets it: each body is
// the number of its fetch's beginning, the path and the client it is for, many times over.
type chaos struct {
	clock atomic.Int64 // counts everything that happens, so that "before" and "after" can be told
	paths int
}

// line is what a body is made of.
func line(at int64, path, user string) string { return fmt.Sprintf("%d %s %s\n", at, path, user) }

func (o *chaos) RoundTrip(req *http.Request) (*http.Response, error) {
	at := o.clock.Add(1)
	pause(rand.IntN(3))
	if rand.IntN(20) == 0 {
		return nil, errBroken
	}
	path := req.URL.Path
	n, _ := strconv.Atoi(strings.Trim(path, "/"))
	user, control := "all", "max-age=1, stale-while-revalidate=1, stale-if-error=1"
	switch {
	case n%7 == 0 || rand.IntN(10) == 0: // private, always or all of a sudden
		user, control = req.Header.Get("Cookie"), "private"
	case n%11 == 0:
		control = "no-cache"
	}
	text := line(at, path, user)
	count := 1 + rand.IntN(40)*rand.IntN(40)
	body := strings.Repeat(text, count)
	resp := answer(200, "", "Cache-Control: "+control, fmt.Sprintf("Surrogate-Key: all n%d", n%5), fmt.Sprintf("Etag: \"%d\"", at), "Vary: Accept-Language")
	resp.Header.Set("X-Length", strconv.Itoa(len(body)))
	if tag := req.Header.Get("If-None-Match"); tag != "" && rand.IntN(3) == 0 {
		resp.StatusCode, resp.Body = 304, http.NoBody
		first, _, _ := strings.Cut(tag, ",")
		resp.Header.Set("Etag", first)
		resp.Header.Del("X-Length")
		return resp, nil
	}
	resp.ContentLength, resp.Body = o.body(resp, body)
	return resp, nil
}

// body sends the body whole or not, with its length, a wrong one, or none.
func (o *chaos) body(resp *http.Response, body string) (length int64, _ io.ReadCloser) {
	p := &chaosBody{rest: body}
	length = int64(len(body))
	switch rand.IntN(12) {
	case 0:
		p.rest, p.err = body[:rand.IntN(len(body))], errBroken
	case 1: // shorter than it says
		p.rest, p.err = body[:rand.IntN(len(body))], io.ErrUnexpectedEOF
	case 2, 3, 4:
		length = -1
	}
	if length >= 0 {
		resp.Header.Set("Content-Length", strconv.FormatInt(length, 10))
	}
	return length, p
}

type chaosBody struct {
	rest string
	err  error
}

func (p *chaosBody) Read(b []byte) (int, error) {
	if rand.IntN(4) == 0 {
		pause(rand.IntN(2))
	}
	if p.rest == "" {
		if p.err != nil {
			return 0, p.err
		}
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), 1+rand.IntN(8<<10))], p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

func (p *chaosBody) Close() error { return nil }

func pause(ms int) {
	if ms > 0 {
		time.Sleep(time.Duration(ms) * time.Millisecond)
	}
}

// TestChaos: while everything goes wrong, nobody gets what was purged before they asked, a broken
// body as a whole one, another path's page or another client's private one.
func TestChaos(t *testing.T) {
	length := 3 * time.Second
	if os.Getenv("WEDGE_SOAK") != "" {
		length = 2 * time.Minute
	}
	o := &chaos{paths: 40}
	c := New(withDisk(Config{Next: o, Memory: 1 << 20, MaxObject: 64 << 10}))
	ctx, stop := context.WithTimeout(context.Background(), length)
	defer stop()
	var purged [40]atomic.Int64 // by path: the clock when the last hard purge of it was acknowledged
	var w sync.WaitGroup
	var whole, broken, private atomic.Int64
	for client := range 16 {
		w.Go(func() {
			for ctx.Err() == nil {
				n := rand.IntN(o.paths)
				since := purged[n].Load()
				user := fmt.Sprintf("user%d", client)
				leave, cancel := context.WithCancel(ctx)
				if rand.IntN(10) == 0 { // some do not wait for the end
					time.AfterFunc(time.Duration(rand.IntN(4))*time.Millisecond, cancel)
				}
				g := get(c, leave, fmt.Sprintf("http://shop.example/%d", n), "Cookie: "+user, "Accept-Language: "+[]string{"de", "en"}[client%2])
				cancel()
				switch {
				case g.err != nil:
					broken.Add(1)
					continue
				case strings.Contains(g.body, "user"):
					private.Add(1)
				}
				whole.Add(1)
				if err := check(g, n, user, since); err != nil {
					t.Errorf("%v\n%s", err, g.header.Get("Cache-Status"))
					return
				}
			}
		})
	}
	for range 2 {
		w.Go(func() {
			for ctx.Err() == nil {
				pause(rand.IntN(4))
				now := o.clock.Add(1)
				n := rand.IntN(o.paths)
				p, hit := wedge.Purge{Service: "shop"}, func(i int) bool { return i == n }
				switch rand.IntN(4) {
				case 0:
					p.URL = fmt.Sprintf("http://shop.example/%d", n)
				case 1:
					p.Keys, hit = []string{fmt.Sprint("n", n%5)}, func(i int) bool { return i%5 == n%5 }
				case 2:
					p.All, hit = true, func(int) bool { return true }
				case 3:
					p.Keys, p.Soft, hit = []string{"all"}, true, func(int) bool { return false }
				}
				if err := c.Purge(p); err != nil {
					t.Error(err)
				}
				for i := range purged {
					if hit(i) {
						raise(&purged[i], now)
					}
				}
			}
		})
	}
	w.Wait()
	if whole.Load() < 100 || broken.Load() == 0 || private.Load() == 0 || c.stats.Hits.Load() == 0 || c.stats.Collapsed.Load() == 0 || c.stats.Stale.Load() == 0 {
		t.Errorf("too little happened: %d whole, %d broken, %d private, %d hits, %d collapsed, %d stale", whole.Load(), broken.Load(), private.Load(),
			c.stats.Hits.Load(), c.stats.Collapsed.Load(), c.stats.Stale.Load())
	}
	if used, _ := c.Used(); used > 1<<20 {
		t.Errorf("%d bytes are kept", used)
	}
	c.drained(t)
}

func raise(v *atomic.Int64, to int64) {
	for old := v.Load(); old < to && !v.CompareAndSwap(old, to); old = v.Load() {
	}
}

// check reads a body for what its origin meant by it.
func check(g got, n int, user string, since int64) error {
	text, _, _ := strings.Cut(g.body, "\n")
	var at int64
	var path, who string
	if _, err := fmt.Sscan(text, &at, &path, &who); err != nil {
		return fmt.Errorf("body %q: %v", text, err)
	}
	switch {
	case path != fmt.Sprintf("/%d", n):
		return fmt.Errorf("asked for /%d and got %s", n, path)
	case who != "all" && who != user:
		return fmt.Errorf("%s got what was for %s", user, who)
	case at < since:
		return fmt.Errorf("purged at %d, and got what was fetched at %d", since, at)
	case strings.Repeat(line(at, path, who), strings.Count(g.body, "\n")) != g.body:
		return errors.New("the body is not of one piece")
	case g.header.Get("X-Length") != strconv.Itoa(len(g.body)):
		return fmt.Errorf("a body of %s bytes came as %d, as if whole", g.header.Get("X-Length"), len(g.body))
	}
	return nil
}

// drained waits until no flight is left, and finds nothing left over.
func (c *Cache) drained(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		flights, listed := 0, map[*object]bool{}
		for i := range c.shards {
			c.shards[i].mu.Lock()
			for _, e := range c.shards[i].entries {
				if e.traffic != nil {
					flights += e.traffic.active
				}
				for _, o := range e.objects {
					listed[o] = true
				}
			}
			c.shards[i].mu.Unlock()
		}
		if flights == 0 {
			stored := 0
			c.storage.mu.Lock()
			for o := c.storage.head; o != nil; o = o.next {
				if stored++; !listed[o] && !o.is(dropped) {
					t.Errorf("an object of %d bytes is stored and cannot be found", o.bytes)
				}
			}
			c.storage.mu.Unlock()
			if stored != len(listed) && time.Now().Before(end) {
				continue // the last one is still being put away
			}
			if stored != len(listed) {
				t.Errorf("%d objects are listed, %d stored", len(listed), stored)
			}
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d flights never landed", flights)
		}
	}
}
