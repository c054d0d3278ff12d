package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wedge-cloud/wedge"
)

const slow = 200 * time.Millisecond

func TestCollapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &farOrigin{answer: after(slow, answer(200, "hello", "Cache-Control: max-age=60"))}
		all := crowd(newLab(o, Config{}), 50, page, nil)
		for i, g := range all {
			wantBody(t, g, "hello")
			if g.says("collapsed") != (i > 0) {
				t.Errorf("client %d: %s", i, g.header.Get("Cache-Status"))
			}
		}
		wantFetches(t, o, 1)
		if d := slowest(all); d > slow {
			t.Errorf("the slowest took %v", d)
		}
	})
}

// TestCollapseUncacheable: what must not be shared releases all waiters at once, and is remembered.
func TestCollapseUncacheable(t *testing.T) {
	for _, lines := range [][]string{{"Cache-Control: private"}, {"Cache-Control: no-store"}, {"Cache-Control: max-age=60", "Set-Cookie: a=1"}} {
		synctest.Test(t, func(t *testing.T) {
			o := &farOrigin{}
			o.answer = func(n int64, req *http.Request) (*http.Response, error) {
				return after(slow, answer(200, "for "+req.Header.Get("Cookie"), lines...))(n, req)
			}
			c := newLab(o, Config{})
			who := func(i int) []string { return []string{fmt.Sprintf("Cookie: %d", i)} }
			for burst, limit := range []time.Duration{2 * slow, slow} {
				all := crowd(c, 50, page, who)
				for i, g := range all {
					wantBody(t, g, fmt.Sprintf("for %d", i))
				}
				if d := slowest(all); d > limit {
					t.Errorf("%v, burst %d: the slowest took %v", lines, burst, d)
				}
			}
			wantFetches(t, o, 100)
			time.Sleep(passTime)
			o.answer = after(slow, answer(200, "shared", "Cache-Control: max-age=60"))
			for _, g := range crowd(c, 50, page, who) {
				wantBody(t, g, "shared")
			}
			wantFetches(t, o, 101)
		})
	}
}

// TestCollapseStreams: followers get each byte when it comes.
func TestCollapseStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &farOrigin{answer: func(int64, *http.Request) (*http.Response, error) {
			r := answer(200, "", "Cache-Control: max-age=60")
			r.ContentLength, r.Body = -1, &pieces{all: strings.Split(strings.Repeat("0123456789,", 20), ","), pause: 100 * time.Millisecond}
			return r, nil
		}}
		all := crowd(newLab(o, Config{}), 50, page, nil)
		for i, g := range all {
			wantBody(t, g, strings.Repeat("0123456789", 20))
			if g.first > 0 {
				t.Errorf("client %d saw the head after %v", i, g.first)
			}
		}
		wantFetches(t, o, 1)
	})
}

// TestPatience: who wants to wait for another's fetch only so long goes by itself then, and not before.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		o := &farOrigin{}
		o.answer = func(n int64, req *http.Request) (*http.Response, error) {
			if n == 1 {
				<-gate
			}
			return answer(200, fmt.Sprint("answer ", n), "Cache-Control: max-age=60"), nil
		}
		c := newLab(o, Config{})
		within := func(d time.Duration) context.Context {
			return wedge.WithCaching(context.Background(), &wedge.Caching{Service: "s", Patience: &d})
		}
		var leader, patient, hasty, atOnce got
		var w sync.WaitGroup
		w.Go(func() { leader = get(c, within(0), page) })
		synctest.Wait()
		w.Go(func() { patient = get(c, within(time.Hour), page) })
		w.Go(func() { hasty = get(c, within(slow), page) })
		synctest.Wait()
		wantFetches(t, o, 1)
		time.Sleep(slow)
		synctest.Wait()
		wantFetches(t, o, 2)
		w.Go(func() { atOnce = get(c, within(0), page+"?other") })
		close(gate)
		w.Wait()
		wantBody(t, leader, "answer 1")
		wantBody(t, hasty, "answer 2")
		wantBody(t, atOnce, "answer 3")
		if hasty.took != slow || patient.err != nil || patient.took > slow || atOnce.took > 0 {
			t.Errorf("hasty %v, patient %v %v, at once %v", hasty.took, patient.err, patient.took, atOnce.took)
		}
	})
}

// TestLeaderLeaves: who came later gets the response all the same.
func TestLeaderLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &farOrigin{answer: after(slow, answer(200, "hello", "Cache-Control: max-age=60"))}
		c := newLab(o, Config{})
		ctx, leave := context.WithTimeout(context.Background(), slow/2)
		defer leave()
		var leader, follower got
		var w sync.WaitGroup
		w.Go(func() { leader = get(c, ctx, page) })
		w.Go(func() {
			time.Sleep(slow / 4)
			follower = get(c, context.Background(), page)
		})
		w.Wait()
		if !errors.Is(leader.err, context.DeadlineExceeded) || leader.took > slow/2 {
			t.Errorf("the leader: %v after %v", leader.err, leader.took)
		}
		wantBody(t, follower, "hello")
		wantFetches(t, o, 1)
	})
}

// TestLeaderFails: an origin that fails is not asked once more by each who waits.
func TestLeaderFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &farOrigin{answer: func(int64, *http.Request) (*http.Response, error) {
			time.Sleep(slow)
			return nil, errBroken
		}}
		c := newLab(o, Config{})
		for _, g := range crowd(c, 50, page, nil) {
			if !errors.Is(g.err, errBroken) {
				t.Fatalf("got %v", g.err)
			}
		}
		wantFetches(t, o, 1)
		o.answer = after(slow, answer(503, "sorry"))
		for _, g := range crowd(c, 50, page, nil) {
			if g.status != 503 || g.body != "sorry" {
				t.Fatalf("got %d %q, %v", g.status, g.body, g.err)
			}
		}
		wantFetches(t, o, 2)
		o.answer = after(slow, answer(200, "well again", "Cache-Control: max-age=60"))
		wantBody(t, get(c, context.Background(), page), "well again")
	})
}

// TestVaryFoundLate: who waits for what turns out to be another's variant shares the fetch of their own.
func TestVaryFoundLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &farOrigin{}
		o.answer = func(n int64, req *http.Request) (*http.Response, error) {
			return after(slow, answer(200, "in "+req.Header.Get("Accept-Language"), "Cache-Control: max-age=60", "Vary: Accept-Language"))(n, req)
		}
		c := newLab(o, Config{})
		languages := []string{"de", "en", "fr"}
		all := crowd(c, 30, page, func(i int) []string { return []string{"Accept-Language: " + languages[i%3]} })
		for i, g := range all {
			wantBody(t, g, "in "+languages[i%3])
		}
		if n := o.fetches.Load(); n > 5 {
			t.Errorf("%d fetches for 3 variants", n)
		}
		if d := slowest(all); d > 3*slow {
			t.Errorf("the slowest took %v", d)
		}
	})
}

// TestAuthorizedDoNotWait: requests with credentials do not wait for each other.
func TestAuthorizedDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &farOrigin{}
		o.answer = func(n int64, req *http.Request) (*http.Response, error) {
			return after(slow, answer(200, "for "+req.Header.Get("Authorization"), "Cache-Control: max-age=60"))(n, req)
		}
		all := crowd(newLab(o, Config{}), 20, page, func(i int) []string { return []string{fmt.Sprint("Authorization: ", i)} })
		for i, g := range all {
			wantBody(t, g, fmt.Sprint("for ", i))
		}
		if d := slowest(all); d > slow {
			t.Errorf("the slowest took %v", d)
		}
	})
}

// TestBrokenBody: everybody sees that the response broke off, and it is not kept.
func TestBrokenBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, short := range []error{errBroken, nil} {
			o := &farOrigin{answer: func(int64, *http.Request) (*http.Response, error) {
				r := answer(200, "", "Cache-Control: max-age=60", "Content-Length: 100")
				r.ContentLength, r.Body = 100, &pieces{all: []string{"half"}, pause: slow, err: short}
				return r, nil
			}}
			c := newLab(o, Config{})
			for i, g := range crowd(c, 10, page, nil) {
				if g.err == nil || g.body != "half" {
					t.Errorf("client %d: %q, %v", i, g.body, g.err)
				}
			}
			o.answer = numbered("Cache-Control: max-age=60")
			wantBody(t, get(c, context.Background(), page), "answer 2")
		}
	})
}

// TestTooLarge: a body of unknown length that proves too large reaches a slow reader whole, with
// little of it in memory, and is not kept.
func TestTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 40 << 20
		sent := int64(0)
		o := &farOrigin{answer: func(int64, *http.Request) (*http.Response, error) {
			r := answer(200, "", "Cache-Control: max-age=60")
			r.ContentLength = -1
			r.Body = io.NopCloser(io.TeeReader(io.LimitReader(zeros{}, size), counter{&sent}))
			return r, nil
		}}
		c := newLab(o, Config{MaxObject: 1 << 20})
		req, _ := http.NewRequestWithContext(wedge.WithCaching(context.Background(), &wedge.Caching{Service: "shop"}), http.MethodGet, page, nil)
		resp, err := c.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		n := int64(0)
		for buf := make([]byte, 1<<20); err == nil; {
			synctest.Wait()
			if ahead := sent - n; ahead > window+1<<20+2*chunkSize {
				t.Fatalf("%d bytes ahead of the reader", ahead)
			}
			var k int
			k, err = io.ReadFull(resp.Body, buf)
			n += int64(k)
		}
		if n != size {
			t.Errorf("read %d bytes, %v", n, err)
		}
		if _, objects := c.Used(); objects != 0 || c.coming.Load() != 0 {
			t.Errorf("%d objects are kept, %d bytes counted as coming", objects, c.coming.Load())
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type counter struct{ n *int64 }

func (c counter) Write(p []byte) (int, error) { *c.n += int64(len(p)); return len(p), nil }

// TestRevalidateBehind: within stale-while-revalidate everybody is answered at once, and one fetch goes out.
func TestRevalidateBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &farOrigin{}
		o.answer = func(n int64, req *http.Request) (*http.Response, error) {
			return after(slow, answer(200, fmt.Sprint("answer ", n), "Cache-Control: max-age=1, stale-while-revalidate=60"))(n, req)
		}
		c := newLab(o, Config{})
		wantBody(t, get(c, context.Background(), page), "answer 1")
		time.Sleep(2 * time.Second)
		for _, g := range crowd(c, 20, page, nil) {
			wantBody(t, g, "answer 1")
			if g.took > 0 {
				t.Errorf("took %v", g.took)
			}
		}
		time.Sleep(slow)
		wantBody(t, get(c, context.Background(), page), "answer 2")
		wantFetches(t, o, 2)
	})
}

// TestRangeWhileFilling: a range is answered from a body that is still coming.
func TestRangeWhileFilling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &farOrigin{answer: func(int64, *http.Request) (*http.Response, error) {
			r := answer(200, "", "Cache-Control: max-age=60", "Content-Length: 20")
			r.ContentLength, r.Body = 20, &pieces{all: []string{"0123456789", "abcdefghij"}, pause: slow}
			return r, nil
		}}
		c := newLab(o, Config{})
		go get(c, context.Background(), page)
		time.Sleep(slow + slow/2)
		g := get(c, context.Background(), page, "Range: bytes=2-4")
		wantBody(t, g, "234")
		if g.status != http.StatusPartialContent || g.took > 0 {
			t.Errorf("%d after %v", g.status, g.took)
		}
		wantFetches(t, o, 1)
		time.Sleep(slow)
	})
}

// TestForeign304: a 304 that nobody asked for is passed on as it is.
func TestForeign304(t *testing.T) {
	o := &farOrigin{answer: func(int64, *http.Request) (*http.Response, error) { return answer(304, "", "Etag: \"x\""), nil }}
	if g := get(newLab(o, Config{}), context.Background(), page); g.err != nil || g.status != 304 {
		t.Errorf("got %d, %v", g.status, g.err)
	}
}

// TestLateTrailers: trailers that were not announced reach who shares the fetch, and who comes later.
func TestLateTrailers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &farOrigin{answer: func(int64, *http.Request) (*http.Response, error) {
			r := answer(200, "", "Cache-Control: max-age=60")
			r.ContentLength = -1
			r.Body = &trailing{pieces{all: []string{"a", "b"}, pause: slow}, r}
			return r, nil
		}}
		c := newLab(o, Config{})
		var w sync.WaitGroup
		ask := func() {
			req, _ := http.NewRequestWithContext(wedge.WithCaching(context.Background(), &wedge.Caching{Service: "shop"}), http.MethodGet, page, nil)
			resp, err := c.RoundTrip(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "ab" {
				t.Errorf("%q, %v", b, err)
			}
			if resp.ContentLength < 0 && resp.Trailer.Get("Sum") != "1" {
				t.Errorf("trailers %v", resp.Trailer)
			}
		}
		for range 3 {
			w.Go(ask)
		}
		w.Wait()
		ask()
		wantFetches(t, o, 1)
	})
}

// trailing is a body that sets a trailer when it ends.
type trailing struct {
	pieces
	resp *http.Response
}

func (b *trailing) Read(p []byte) (int, error) {
	n, err := b.pieces.Read(p)
	if err == io.EOF {
		b.resp.Trailer = http.Header{"Sum": {"1"}}
	}
	return n, err
}

// TestLying304: an origin that says 304 of what nobody has is asked once more, plainly.
func TestLying304(t *testing.T) {
	o := &farOrigin{answer: func(n int64, req *http.Request) (*http.Response, error) {
		if n > 1 && req.Header.Get("If-None-Match") != "" {
			return answer(304, "", "Etag: \"other\""), nil
		}
		return answer(200, fmt.Sprint("answer ", n), "Cache-Control: max-age=60", "Vary: X", "Etag: \"a\""), nil
	}}
	c := newLab(o, Config{})
	wantBody(t, get(c, context.Background(), page, "X: 1"), "answer 1")
	wantBody(t, get(c, context.Background(), page, "X: 2"), "answer 3")
}

// TestManyAtOnce: of many large bodies that come at once no more are in memory than it may hold; all
// arrive whole all the same.
func TestManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 1 << 20
		o := &farOrigin{answer: func(int64, *http.Request) (*http.Response, error) {
			r := answer(200, "", "Cache-Control: max-age=60")
			var all []string
			for range size / chunkSize {
				all = append(all, strings.Repeat("x", chunkSize))
			}
			r.ContentLength, r.Body = -1, &pieces{all: all, pause: time.Millisecond}
			return r, nil
		}}
		c := newLab(o, Config{Memory: 4 << 20, MaxObject: size})
		var w sync.WaitGroup
		most := int64(0)
		for i := range 40 {
			w.Go(func() {
				if g := get(c, context.Background(), fmt.Sprintf("http://shop.example/%d", i)); g.err != nil || len(g.body) != size {
					t.Errorf("%d: %d bytes, %v", i, len(g.body), g.err)
				}
			})
		}
		w.Go(func() {
			for range size / chunkSize {
				time.Sleep(time.Millisecond)
				synctest.Wait()
				held := int64(0)
				for i := range c.shards {
					c.shards[i].mu.Lock()
					for _, e := range c.shards[i].entries {
						for _, o := range e.objects {
							held += int64(len(o.body.kept())) * chunkSize
						}
					}
					c.shards[i].mu.Unlock()
				}
				most = max(most, held)
			}
		})
		w.Wait()
		if most > 6<<20 {
			t.Errorf("%d bytes of bodies are held", most)
		}
		if c.coming.Load() != 0 {
			t.Errorf("%d bytes are still counted as coming", c.coming.Load())
		}
	})
}

// TestCookieOf304: a cookie that comes when something stored is validated is for the one client who led that.
func TestCookieOf304(t *testing.T) {
	for _, control := range []string{"max-age=1", `max-age=1, private="set-cookie"`} {
		synctest.Test(t, func(t *testing.T) {
			o := &farOrigin{}
			o.answer = func(n int64, req *http.Request) (*http.Response, error) {
				if req.Header.Get("If-None-Match") == "" {
					return answer(200, "page", "Cache-Control: max-age=1", `Etag: "1"`), nil
				}
				return after(slow, answer(304, "", "Cache-Control: "+control, `Etag: "1"`, "Set-Cookie: id="+req.Header.Get("Cookie")))(n, req)
			}
			c := newLab(o, Config{})
			who := func(i int) []string { return []string{fmt.Sprintf("Cookie: %d", i)} }
			wantBody(t, get(c, context.Background(), page), "page")
			for range 3 {
				time.Sleep(2 * time.Second)
				all := append(crowd(c, 20, page, who), crowd(c, 1, page, func(int) []string { return []string{"Cookie: later"} })...)
				for i, g := range all {
					wantBody(t, g, "page")
					if id := g.header.Get("Set-Cookie"); id != "" && id != fmt.Sprint("id=", i) && (i < 20 || id != "id=later") {
						t.Errorf("%s: client %d got the cookie %q: %s", control, i, id, g.header.Get("Cache-Status"))
					}
				}
				if d := slowest(all); d > 2*slow {
					t.Errorf("%s: the slowest took %v", control, d)
				}
			}
		})
	}
}
