package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wedge-cloud/wedge"
)

const (
	fresh      = wedge.CacheFound | wedge.CacheUsable
	foundStale = fresh | wedge.CacheStale
	chore      = wedge.CacheMustInsert
)

func look(t *testing.T, c *Cache, mode wedge.CacheMode, key string, lines ...string) *Transaction {
	t.Helper()
	if below.cold {
		forgetMemory(c)
	}
	x, err := c.Look(context.Background(), wedge.CacheLookup{Service: "shop", Key: key, Header: header(lines), Mode: mode})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Close)
	return x
}

func header(lines []string) http.Header {
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	return h
}

func wantState(t *testing.T, x *Transaction, want wedge.CacheState) {
	t.Helper()
	if x.State() != want {
		t.Fatalf("state %d, want %d", x.State(), want)
	}
}

func insert(t *testing.T, x *Transaction, body io.Reader, w wedge.CacheWrite) *Transaction {
	t.Helper()
	y, err := x.Insert(w, io.NopCloser(body), false)
	if err != nil {
		t.Fatal(err)
	}
	return y
}

// put inserts a whole object that is fresh for a minute and may be stale for another.
func put(t *testing.T, c *Cache, key, body string, change ...func(*wedge.CacheWrite)) {
	t.Helper()
	w := wedge.CacheWrite{MaxAge: time.Minute, SWR: time.Minute, Length: -1}
	for _, f := range change {
		f(&w)
	}
	insert(t, look(t, c, wedge.CacheReplace, key), strings.NewReader(body), w)
	synctest.Wait()
}

func readObject(x *Transaction, from, n int64) (string, error) {
	r, err := x.Open(context.Background(), from, n)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

func wantObject(t *testing.T, x *Transaction, body string) {
	t.Helper()
	if got, err := readObject(x, 0, -1); got != body || err != nil {
		t.Fatalf("read %q, %v; want %q", got, err, body)
	}
}

func TestObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newLab(&farOrigin{}, Config{})
		wantState(t, look(t, c, wedge.CacheRead, "k"), 0)
		put(t, c, "k", "value", func(w *wedge.CacheWrite) {
			w.InitialAge, w.SurrogateKeys, w.Metadata, w.Sensitive = 10*time.Second, []string{"a"}, []byte("meta"), true
		})
		time.Sleep(time.Second)
		x := look(t, c, wedge.CacheRead, "k")
		wantState(t, x, fresh)
		wantObject(t, x, "value")
		if b, err := readObject(x, 1, 2); b != "al" || err != nil {
			t.Errorf("a range is %q, %v", b, err)
		}
		i, ok := x.Object()
		if !ok || i.MaxAge != time.Minute || i.SWR != time.Minute || i.Age != 11*time.Second || i.Hits != 1 || i.Length != 5 || !i.Whole ||
			string(i.Metadata) != "meta" || len(i.Vary) != 0 || i.SurrogateKeys[0] != "a" || !i.Sensitive {
			t.Errorf("%+v", i)
		}
		if y, _ := c.Look(context.Background(), wedge.CacheLookup{Service: "other", Key: "k"}); y.State() != 0 {
			t.Error("another service finds it")
		}
		time.Sleep(49 * time.Second)
		wantState(t, look(t, c, wedge.CacheRead, "k"), foundStale)
		time.Sleep(time.Minute)
		wantState(t, look(t, c, wedge.CacheRead, "k"), 0)
		if used, n := c.Used(); n != 1 || used < overhead+10 {
			t.Errorf("%d objects take %d bytes", n, used)
		}
	})
}

// TestObjectVary: variants differ in the fields that the guest names.
func TestObjectVary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newLab(&farOrigin{}, Config{})
		for _, color := range []string{"red", "blue"} {
			put(t, c, "k", color, func(w *wedge.CacheWrite) { w.Vary, w.Header = []string{"color"}, http.Header{"Color": {color}} })
		}
		for _, color := range []string{"red", "blue"} {
			wantObject(t, look(t, c, wedge.CacheRead, "k", "Color: "+color), color)
		}
		wantState(t, look(t, c, wedge.CacheCollapse, "k", "Color: green"), chore)
		wantState(t, look(t, c, wedge.CacheRead, "k"), 0)
	})
}

// TestObligation: who looks first has to insert, and the others get what it inserts as it comes.
func TestObligation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newLab(&farOrigin{}, Config{})
		leader := look(t, c, wedge.CacheCollapse, "k")
		wantState(t, leader, chore)
		if x, err := c.Look(context.Background(), wedge.CacheLookup{Service: "shop", Key: "k", Mode: wedge.CacheCollapse, NoWait: true}); x != nil || err != nil {
			t.Errorf("without waiting: %v, %v", x, err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := c.Look(ctx, wedge.CacheLookup{Service: "shop", Key: "k", Mode: wedge.CacheCollapse}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting ended with %v", err)
		}
		var w sync.WaitGroup
		for range 10 {
			w.Go(func() {
				x := look(t, c, wedge.CacheCollapse, "k")
				if x.State() != fresh {
					t.Errorf("a follower's state is %d", x.State())
				}
				if b, err := readObject(x, 0, -1); b != "onetwo" || err != nil {
					t.Errorf("a follower reads %q, %v", b, err)
				}
			})
		}
		time.Sleep(time.Second)
		back := insert(t, leader, &pieces{all: []string{"one", "two"}, pause: time.Second}, wedge.CacheWrite{MaxAge: time.Minute, Length: 6})
		wantState(t, back, fresh)
		wantState(t, leader, 0)
		if i, _ := back.Object(); i.Length != 6 || i.Whole {
			t.Errorf("while it comes: %+v", i)
		}
		wantObject(t, back, "onetwo")
		w.Wait()
		for what, err := range map[string]error{"cancel": leader.Cancel(), "again": func() error { _, err := leader.Insert(wedge.CacheWrite{}, nil, false); return err }()} {
			if wedge.KindOf(err) != wedge.Conflict {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}

// TestObligationPassesOn: who gives it up, in whatever way, hands it to one who waits.
func TestObligationPassesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newLab(&farOrigin{}, Config{})
		ways := []func(*Transaction){func(x *Transaction) { _ = x.Cancel() }, (*Transaction).Close}
		first := look(t, c, wedge.CacheCollapse, "k")
		var mu sync.Mutex
		var held int
		var w sync.WaitGroup
		for i := range 10 {
			w.Go(func() {
				x := look(t, c, wedge.CacheCollapse, "k")
				if x.State() != chore {
					t.Errorf("state %d", x.State())
				}
				if !mu.TryLock() {
					t.Error("two have it at a time")
				}
				held++
				time.Sleep(time.Millisecond)
				mu.Unlock()
				ways[i%2](x)
			})
		}
		synctest.Wait()
		first.Close()
		w.Wait()
		if held != 10 {
			t.Errorf("%d of 10 had it", held)
		}
	})
}

// TestObjectStale: one of all who find an object stale has to refresh it.
func TestObjectStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newLab(&farOrigin{}, Config{})
		put(t, c, "k", "value", func(w *wedge.CacheWrite) { w.Metadata, w.SurrogateKeys = []byte("meta"), []string{"a"} })
		time.Sleep(61 * time.Second)
		chosen, other := look(t, c, wedge.CacheCollapse, "k"), look(t, c, wedge.CacheCollapse, "k")
		wantState(t, chosen, foundStale|chore)
		wantState(t, other, foundStale)
		if _, err := other.Update(wedge.CacheWrite{}); wedge.KindOf(err) != wedge.Conflict {
			t.Errorf("update by another: %v", err)
		}
		y, err := chosen.Update(wedge.CacheWrite{MaxAge: time.Hour, SurrogateKeys: []string{"b"}})
		if err != nil {
			t.Fatal(err)
		}
		wantState(t, y, fresh)
		x := look(t, c, wedge.CacheCollapse, "k")
		wantState(t, x, fresh)
		wantObject(t, x, "value")
		if i, _ := x.Object(); string(i.Metadata) != "meta" || i.Age != 0 || i.SurrogateKeys[0] != "b" || i.Length != 5 {
			t.Errorf("%+v", i)
		}
		wantObject(t, chosen, "value")
		if _, n := c.Used(); n != 1 {
			t.Errorf("%d objects", n)
		}
	})
}

// TestObjectIncomplete: a body that is given up, or has not the length announced, reaches its readers
// as what it is and is not kept; what was there before stays.
func TestObjectIncomplete(t *testing.T) {
	for what, body := range map[string]io.Reader{
		"abandoned": &pieces{all: []string{"half"}, pause: time.Second, err: errBroken},
		"short":     &pieces{all: []string{"half"}, pause: time.Second},
		"long":      &pieces{all: []string{"half", "half", "half"}, pause: time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := newLab(&farOrigin{}, Config{})
			put(t, c, "k", "older")
			x := insert(t, look(t, c, wedge.CacheReplace, "k"), body, wedge.CacheWrite{MaxAge: time.Minute, Length: 10})
			if got, err := readObject(x, 0, -1); err == nil || !strings.HasPrefix(got, "half") {
				t.Errorf("%s: read %q, %v", what, got, err)
			}
			synctest.Wait()
			wantObject(t, look(t, c, wedge.CacheRead, "k"), "older")
			if _, n := c.Used(); n != 1 {
				t.Errorf("%s: %d objects", what, n)
			}
		})
	}
}

func TestObjectPurge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newLab(&farOrigin{}, Config{})
		keyed := func(w *wedge.CacheWrite) { w.SurrogateKeys = []string{"news"} }
		put(t, c, "k", "value", keyed)
		purge := func(service string, soft bool) {
			if err := c.Purge(wedge.Purge{Service: service, Keys: []string{"news"}, Soft: soft}); err != nil {
				t.Fatal(err)
			}
		}
		purge("other", false)
		wantState(t, look(t, c, wedge.CacheRead, "k"), fresh)
		put(t, c, "never stale", "value", keyed, func(w *wedge.CacheWrite) { w.SWR = 0 })
		purge("shop", true)
		wantState(t, look(t, c, wedge.CacheCollapse, "k"), foundStale|chore)
		wantState(t, look(t, c, wedge.CacheRead, "never stale"), 0)
		leader := look(t, c, wedge.CacheCollapse, "k2")
		purge("shop", false)
		wantState(t, look(t, c, wedge.CacheRead, "k"), 0)
		back := insert(t, leader, strings.NewReader("older than the purge"), wedge.CacheWrite{MaxAge: time.Minute, SurrogateKeys: []string{"news"}, Length: -1})
		wantObject(t, back, "older than the purge")
		wantState(t, look(t, c, wedge.CacheRead, "k2"), 0)
	})
}

func TestReplace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newLab(&farOrigin{}, Config{})
		put(t, c, "k", "old")
		x := look(t, c, wedge.CacheReplace, "k")
		wantState(t, x, fresh)
		wantObject(t, x, "old")
		wantObject(t, look(t, c, wedge.CacheCollapse, "k"), "old") // nobody waits
		insert(t, x, strings.NewReader("new"), wedge.CacheWrite{MaxAge: time.Minute, Length: -1})
		synctest.Wait()
		wantObject(t, look(t, c, wedge.CacheRead, "k"), "new")

		x = look(t, c, wedge.CacheReplaceMiss, "k")
		wantObject(t, x, "new")
		wantState(t, look(t, c, wedge.CacheRead, "k"), 0)
		var w sync.WaitGroup
		w.Go(func() { wantObject(t, look(t, c, wedge.CacheCollapse, "k"), "newer") })
		w.Go(func() {
			y := look(t, c, wedge.CacheReplaceWait, "k")
			wantObject(t, y, "newer")
			insert(t, y, strings.NewReader("newest"), wedge.CacheWrite{MaxAge: time.Minute, Length: -1})
		})
		time.Sleep(time.Second)
		insert(t, x, strings.NewReader("newer"), wedge.CacheWrite{MaxAge: time.Minute, Length: -1})
		w.Wait()
		synctest.Wait()
		wantObject(t, look(t, c, wedge.CacheRead, "k"), "newest")
		if _, n := c.Used(); n != 1 {
			t.Errorf("%d objects", n)
		}
	})
}

// TestObjectTooLarge: who inserts it writes it to its end, who reads it gets all of it, and it is not kept.
func TestObjectTooLarge(t *testing.T) {
	for _, read := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c := newLab(&farOrigin{}, Config{MaxObject: 1 << 20})
			left := &io.LimitedReader{R: zeros{}, N: 20 << 20}
			x, err := look(t, c, wedge.CacheReplace, "k").Insert(wedge.CacheWrite{MaxAge: time.Minute, Length: -1}, io.NopCloser(left), read)
			if err != nil {
				t.Fatal(err)
			}
			if synctest.Wait(); read {
				if b, err := readObject(x, 0, -1); len(b) != 20<<20 || err != nil {
					t.Errorf("read %d bytes, %v", len(b), err)
				}
			}
			x.Close()
			synctest.Wait()
			if _, n := c.Used(); n != 0 || left.N > 0 {
				t.Errorf("%d objects, %d bytes not taken", n, left.N)
			}
		})
	}
}

// TestObjectsShareStorage: objects are evicted like all objects.
func TestObjectsShareStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newLab(&farOrigin{}, Config{Memory: 100 << 10})
		for i := range 100 {
			put(t, c, fmt.Sprint(i), strings.Repeat("x", 10<<10))
		}
		if used, n := c.Used(); used > 100<<10 || n == 0 || c.Stats().Evicted.Load() < 80 {
			t.Errorf("%d objects take %d bytes", n, used)
		}
	})
}

// TestObligationChaos: whatever guests do with what they have, one at a time has it, bodies are whole
// or broken off, and nobody waits for ever.
func TestObligationChaos(t *testing.T) {
	c := New(withDisk(Config{Next: &farOrigin{}, Memory: 256 << 10, MaxObject: 64 << 10}))
	var holders [4]atomic.Int32
	var w sync.WaitGroup
	var inserted, shared atomic.Int64
	for range 16 {
		w.Go(func() {
			for range 150 {
				n := rand.IntN(len(holders))
				x := look(t, c, wedge.CacheCollapse, fmt.Sprint(n))
				if x.State()&wedge.CacheMustInsert == 0 {
					if b, err := readObject(x, 0, -1); err == nil && (len(b) != 40_000 || strings.Trim(b, b[:1]) != "") {
						t.Errorf("%d bytes are taken for a whole body", len(b))
					}
					shared.Add(1)
					x.Close()
					continue
				}
				if holders[n].Add(1) != 1 {
					t.Error("two have an obligation")
				}
				pause(rand.IntN(2))
				holders[n].Add(-1)
				switch rand.IntN(4) {
				case 0:
					x.Close()
				case 1:
					_ = x.Cancel()
				default:
					inserted.Add(1)
					body := &chaosBody{rest: strings.Repeat(fmt.Sprint(rand.IntN(10)), 40_000)}
					if rand.IntN(4) == 0 {
						body.rest, body.err = body.rest[:1000], errBroken
					}
					y, err := x.Insert(wedge.CacheWrite{MaxAge: time.Duration(rand.IntN(5)) * time.Millisecond, SWR: time.Millisecond, Length: -1}, body, rand.IntN(2) == 0)
					if err != nil {
						t.Error(err)
						return
					}
					y.Close()
				}
			}
		})
	}
	w.Wait()
	if inserted.Load() == 0 || shared.Load() == 0 {
		t.Errorf("%d inserted, %d shared", inserted.Load(), shared.Load())
	}
	c.drained(t)
}
