package cache

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

// below has all labs use a disk tier, and if cold find everything there, for memory forgets.
var below struct {
	dir  string
	cold bool
	labs atomic.Int64
}

// rest waits until what came is written.
func rest(c *Cache) {
	for range 50 {
		c.disk.wait()
		waiting := false
		for i := range c.shards {
			s := &c.shards[i]
			s.mu.Lock()
			for _, e := range s.entries {
				for _, o := range e.objects {
					waiting = waiting || o.body.whole() && !o.is(settled) && !o.is(sensitive)
				}
			}
			s.mu.Unlock()
		}
		if !waiting {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// forgetMemory evicts all that is on disk by now.
func forgetMemory(c *Cache) {
	if c.disk == nil {
		return
	}
	rest(c)
	c.storage.mu.Lock()
	var all []*object
	for o := c.storage.head; o != nil; o = o.next {
		all = append(all, o)
	}
	c.storage.mu.Unlock()
	for _, o := range all {
		c.evict(o)
	}
}

// TestWithDisk: what holds without a disk tier holds with one, and if all objects come from there.
func TestWithDisk(t *testing.T) {
	defer func() { below.dir, below.cold = "", false }()
	for _, cold := range []bool{false, true} {
		below.dir, below.cold = t.TempDir(), cold
		for name, test := range map[string]func(*testing.T){
			"Collapse": TestCollapse, "Uncacheable": TestCollapseUncacheable, "Streams": TestCollapseStreams,
			"LeaderLeaves": TestLeaderLeaves, "LeaderFails": TestLeaderFails, "VaryFoundLate": TestVaryFoundLate, "Authorized": TestAuthorizedDoNotWait,
			"BrokenBody": TestBrokenBody, "TooLarge": TestTooLarge, "Behind": TestRevalidateBehind, "Ranges": TestRangeWhileFilling,
			"Purge": TestPurge, "DuringFetch": TestPurgeDuringFetch, "Names": TestPurgeNamesAreBounded, "Unsafe": TestUnsafeMethods,
			"Variants": TestVariantsAreBounded, "Foreign304": TestForeign304, "LateTrailers": TestLateTrailers, "Lying304": TestLying304, "Chaos": TestChaos,
			"GuestAndFetch": TestGuestAndFetch, "GuestUpdates": TestGuestUpdates, "GuestActions": TestGuestActions, "GuestPass": TestGuestPass, "GuestChoosesStale": TestGuestChoosesStale, "GuestDoesNotHoldFetches": TestGuestDoesNotHoldFetches, "GuestWaitsForFetches": TestGuestWaitsForFetches, "GuestCacheable": TestGuestCacheable, "Object": TestObject, "ObjectVary": TestObjectVary, "Obligation": TestObligation, "ObligationPassesOn": TestObligationPassesOn, "ObjectStale": TestObjectStale, "ObjectIncomplete": TestObjectIncomplete, "ObjectPurge": TestObjectPurge, "Replace": TestReplace, "ObjectTooLarge": TestObjectTooLarge, "ObligationChaos": TestObligationChaos,
			"PartsAddUp": TestPartsAddUp, "Compression": TestCompression, "NotCompressed": TestNotCompressed,
		} {
			if cold && (name == "Names" || name == "Object") {
				continue // of a million names nothing depends on where objects are; a sensitive object is nowhere
			}
			t.Run(fmt.Sprintf("%s/cold=%v", name, cold), test)
		}
	}
}

const megabytes = 64 << 20

// open returns a cache over a directory.
func openLab(t *testing.T, o *farOrigin, dir string) *Cache {
	t.Helper()
	c := newLab(o, Config{Dir: dir, Disk: megabytes, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { c.Close() }) // or it might write while its directory is removed
	return c
}

// crash returns what a new cache finds if c stops here and now, its last writes done.
func crash(t *testing.T, c *Cache, o *farOrigin) *Cache {
	t.Helper()
	rest(c)
	return found(t, string(c.disk.files.(directory)), o)
}

// found returns a cache over a copy of a directory.
func found(t *testing.T, dir string, o *farOrigin) *Cache {
	t.Helper()
	fresh := t.TempDir()
	if err := os.CopyFS(fresh, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return openLab(t, o, fresh)
}

func wantNoErrors(t *testing.T, c *Cache) {
	t.Helper()
	if n := c.stats.DiskErrors.Load(); n > 0 {
		t.Errorf("%d errors", n)
	}
}

func TestDiskSurvivesRestart(t *testing.T) {
	for _, clean := range []bool{true, false} {
		for _, size := range []int{0, 1, 5000, blockSize, blockSize + 1, 3<<20 + 17} {
			body := strings.Repeat("0123456789abcdef", size/16+1)[:size]
			o := &farOrigin{answer: func(n int64, _ *http.Request) (*http.Response, error) {
				return answer(200, body, "Cache-Control: max-age=60", "Etag: \"x\"", "X-Twice: a", "X-Twice: b", "Vary: Accept-Encoding"), nil
			}}
			dir := t.TempDir()
			c := openLab(t, o, dir)
			wantBody(t, get(c, context.Background(), page), body)
			if rest(c); clean {
				if err := c.Close(); err != nil {
					t.Fatal(err)
				}
				c = openLab(t, o, dir)
			} else {
				c = crash(t, c, o)
			}
			g := get(c, context.Background(), page)
			wantBody(t, g, body)
			if !g.says("hit") || len(g.header["X-Twice"]) != 2 {
				t.Errorf("clean %v, %d bytes: %v", clean, size, g.header)
			}
			if size > 100 {
				wantBody(t, get(c, context.Background(), page, "Range: bytes=7-70"), body[7:71])
				wantBody(t, get(c, context.Background(), page, "Range: bytes=-9"), body[size-9:])
			}
			wantFetches(t, o, 1)
			wantNoErrors(t, c)
			_ = c.Close()
		}
	}
}

// TestDiskCompress: what a client gets in a coding has all of a body that lies on disk.
func TestDiskCompress(t *testing.T) {
	body := strings.Repeat("all work and no play ", 20_000)
	o := &farOrigin{answer: func(int64, *http.Request) (*http.Response, error) {
		return answer(200, body, "Cache-Control: max-age=60", "Content-Type: text/plain"), nil
	}}
	c := openLab(t, o, t.TempDir())
	get(c, context.Background(), page)
	c = crash(t, c, o)
	for range 2 {
		ctx := wedge.WithCaching(context.Background(), &wedge.Caching{Service: "shop", Compress: true})
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
		req.Header.Set("Accept-Encoding", "gzip")
		resp, err := c.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(z); string(b) != body || err != nil {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		resp.Body.Close()
	}
	wantFetches(t, o, 1)
}

// TestDiskParts: parts that come from disk answer their ranges, and make no false whole.
func TestDiskParts(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 30_000)
	half := len(body) / 2
	o := &farOrigin{answer: func(_ int64, req *http.Request) (*http.Response, error) {
		lines := []string{"Cache-Control: max-age=60", "Etag: \"x\""}
		ranges, ok := parseRange(req.Header["Range"])
		if !ok {
			return answer(200, body, lines...), nil
		}
		from, to, _ := ranges[0].resolve(int64(len(body)))
		p := part{from, to, int64(len(body))}
		return answer(206, body[from:to], append(lines, "Content-Range: "+p.String())...), nil
	}}
	c := openLab(t, o, t.TempDir())
	first, second := fmt.Sprintf("Range: bytes=0-%d", half-1), fmt.Sprintf("Range: bytes=%d-", half)
	wantBody(t, get(c, context.Background(), page, first), body[:half])
	c = crash(t, c, o)
	wantBody(t, get(c, context.Background(), page, first), body[:half])
	wantFetches(t, o, 1)
	wantBody(t, get(c, context.Background(), page, second), body[half:])
	rest(c)
	wantBody(t, get(c, context.Background(), page), body)
	c = crash(t, c, o)
	wantBody(t, get(c, context.Background(), page), body)
	wantBody(t, get(c, context.Background(), page, second), body[half:])
	for _, s := range c.disk.segs {
		if s.refs != 0 {
			t.Errorf("%d readers are left", s.refs)
		}
	}
}

// TestDiskPurgesHold: what was purged before a crash is not there after it.
func TestDiskPurgesHold(t *testing.T) {
	for _, p := range []wedge.Purge{
		{URL: page}, {Keys: []string{"b"}}, {All: true}, {URL: page, Soft: true}, {Keys: []string{"a"}, Soft: true},
	} {
		for _, cold := range []bool{false, true} {
			o := &farOrigin{answer: numbered("Cache-Control: max-age=60", "Surrogate-Key: a b")}
			c := openLab(t, o, t.TempDir())
			wantBody(t, get(c, context.Background(), page), "answer 1")
			wantBody(t, get(c, context.Background(), page+"2"), "answer 2")
			if cold {
				c = crash(t, c, o)
			}
			p.Service = "shop"
			if err := c.Purge(p); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				c = crash(t, c, o)
			}
			if p.Soft { // it may be used once more, while it is fetched anew
				stale := get(c, context.Background(), page)
				wantBody(t, stale, "answer 1")
				for end := time.Now().Add(10 * time.Second); o.fetches.Load() < 3; time.Sleep(time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("%+v, cold %v: nothing is fetched anew, %q", p, cold, stale.header["Cache-Status"])
					}
				}
				time.Sleep(10 * time.Millisecond)
			}
			if g := get(c, context.Background(), page); g.body != "answer 3" {
				t.Fatalf("%+v: %s", p, g.body)
			}
			c = crash(t, c, o)
			wantBody(t, get(c, context.Background(), page), "answer 3")
			if p.URL != "" {
				wantBody(t, get(c, context.Background(), page+"2"), "answer 2")
			}
			wantNoErrors(t, c)
		}
	}
}

// TestDiskUnsafeMethods: neither is what an unsafe request has changed.
func TestDiskUnsafeMethods(t *testing.T) {
	o := &farOrigin{answer: numbered("Cache-Control: max-age=60", `Cache-Groups: "g"`)}
	c := openLab(t, o, t.TempDir())
	wantBody(t, get(c, context.Background(), page), "answer 1")
	wantBody(t, get(c, context.Background(), page+"2"), "answer 2")
	c = crash(t, c, o)
	do(c, context.Background(), http.MethodPost, page)
	c = crash(t, c, o)
	wantBody(t, get(c, context.Background(), page), "answer 4")
	wantBody(t, get(c, context.Background(), page+"2"), "answer 2")
	o.answer = numbered(`Cache-Group-Invalidation: "g"`)
	do(c, context.Background(), http.MethodPost, "http://shop.example/other")
	c = crash(t, c, o)
	wantBody(t, get(c, context.Background(), page+"2"), "answer 6")
}

// TestDiskGuests: what guests keep is there after a crash, with what they said of it, until it is purged.
func TestDiskGuests(t *testing.T) {
	o := &farOrigin{}
	c := openLab(t, o, t.TempDir())
	for key, w := range map[string]wedge.CacheWrite{
		"k":      {MaxAge: time.Hour, Length: -1, Metadata: []byte("meta"), SurrogateKeys: []string{"a"}},
		"secret": {MaxAge: time.Hour, Length: -1, Sensitive: true},
	} {
		wantObject(t, insert(t, look(t, c, wedge.CacheReplace, key), strings.NewReader("hello"), w), "hello")
	}
	c = crash(t, c, o)
	x := look(t, c, wedge.CacheRead, "k")
	wantObject(t, x, "hello")
	if string(x.found.metadata()) != "meta" {
		t.Errorf("%q", x.found.metadata())
	}
	wantState(t, look(t, c, wedge.CacheRead, "secret"), 0)
	if err := c.Purge(wedge.Purge{Service: "shop", Keys: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	wantState(t, look(t, crash(t, c, o), wedge.CacheRead, "k"), 0)
}

// TestDiskSensitive: such an object, and what a 304 makes of it, does not touch the disk.
func TestDiskSensitive(t *testing.T) {
	dir := t.TempDir()
	o := &farOrigin{answer: func(_ int64, req *http.Request) (*http.Response, error) {
		if req.Header["If-None-Match"] != nil {
			return answer(304, "", "Cache-Control: max-age=0", "Etag: \"x\""), nil
		}
		return answer(200, "secret words", "Cache-Control: max-age=0", "Etag: \"x\""), nil
	}}
	c := openLab(t, o, dir)
	for range 3 {
		req, _ := http.NewRequestWithContext(wedge.WithCaching(context.Background(), &wedge.Caching{Service: "shop", Sensitive: o.fetches.Load() == 0}), "GET", page, nil)
		resp, err := c.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(resp.Body); string(b) != "secret words" {
			t.Fatalf("%q", b)
		}
		resp.Body.Close()
	}
	forgetMemory(c)
	_ = c.Close()
	files, _ := filepath.Glob(dir + "/*")
	for _, f := range files {
		if b, _ := os.ReadFile(f); bytes.Contains(b, []byte("secret")) {
			t.Errorf("%s has it", f)
		}
	}
}

// TestDiskRevalidated: a 304 for an object on disk is there after a restart, and does not write the body again.
func TestDiskRevalidated(t *testing.T) {
	for _, size := range []int{10, 1 << 20} {
		body := strings.Repeat("x", size)
		o := &farOrigin{answer: func(n int64, req *http.Request) (*http.Response, error) {
			if req.Header["If-None-Match"] != nil {
				return answer(304, "", "Cache-Control: max-age=60", "Etag: \"x\"", fmt.Sprint("X-N: ", n)), nil
			}
			return answer(200, body, "Cache-Control: max-age=0", "Etag: \"x\"", "X-N: 1"), nil
		}}
		c := openLab(t, o, t.TempDir())
		wantBody(t, get(c, context.Background(), page), body)
		c = crash(t, c, o)
		wantBody(t, get(c, context.Background(), page), body)
		for range 2 {
			c = crash(t, c, o)
			g := get(c, context.Background(), page)
			wantBody(t, g, body)
			if !g.says("hit") || g.header.Get("X-N") != "2" {
				t.Errorf("%v", g.header)
			}
		}
		if used, objects := c.DiskUsed(); used > int64(2*size+2000) && size > blockSize || objects != 1 {
			t.Errorf("%d bytes, %d objects", used, objects)
		}
		wantNoErrors(t, c)
	}
}

// TestDiskIsBounded: the bound holds whatever comes, and what is asked for stays.
func TestDiskIsBounded(t *testing.T) {
	const limit = 4 << 20
	o := &farOrigin{answer: func(n int64, req *http.Request) (*http.Response, error) {
		return answer(200, strings.Repeat("x", rand.IntN(8000)), "Cache-Control: max-age=3600"), nil
	}}
	dir := t.TempDir()
	c := newLab(o, Config{Memory: 64 << 10, Dir: dir, Disk: limit})
	defer c.Close()
	get(c, context.Background(), page)
	for i := range 5000 {
		get(c, context.Background(), fmt.Sprintf("http://shop.example/%d", i))
		if i%20 == 0 {
			c.disk.wait()
			if !get(c, context.Background(), page).says("hit") {
				t.Fatalf("the page in use was evicted after %d others", i)
			}
		}
		if i%500 == 0 {
			c.disk.wait()
			size := int64(0)
			files, _ := filepath.Glob(dir + "/*.segment")
			for _, f := range files {
				info, err := os.Stat(f)
				if err != nil {
					t.Fatal(err)
				}
				size += info.Size()
			}
			if used, _ := c.DiskUsed(); used > limit || size > used {
				t.Fatalf("%d bytes in files, %d counted, of %d", size, used, limit)
			}
		}
	}
	if n := c.stats.DiskEvicted.Load(); n < 1000 {
		t.Errorf("%d evicted", n)
	}
	wantNoErrors(t, c)
}

// TestDiskKeepsWhatIsUsed: what is used all the time is there after a crash, though its segment went
// long ago, whether its body lies in memory or on disk.
func TestDiskKeepsWhatIsUsed(t *testing.T) {
	for _, size := range []int{4000, 2 * blockSize} {
		for _, reopened := range []bool{false, true} {
			o := &farOrigin{answer: func(n int64, req *http.Request) (*http.Response, error) {
				return answer(200, strings.Repeat("x", size), "Cache-Control: max-age=3600"), nil
			}}
			open := func(dir string) *Cache {
				c := newLab(o, Config{Memory: 2 << 20, Dir: dir, Disk: 16 << 20})
				t.Cleanup(func() { c.Close() })
				return c
			}
			dir := t.TempDir()
			c := open(dir)
			get(c, context.Background(), page)
			if rest(c); reopened {
				c.Close()
				c = open(dir)
			}
			for i := range 40 << 20 / size {
				get(c, context.Background(), fmt.Sprint(page, i))
				if i%10 > 0 {
					continue
				}
				c.disk.wait() // while a record is moved it is missing
				if !get(c, context.Background(), page).says("hit") {
					t.Fatalf("%d bytes, reopened %v: evicted after %d others", size, reopened, i)
				}
			}
			c.disk.wait()
			if c.disk.segs[0].id < 20 {
				t.Error("nothing was evicted")
			}
			if c = crash(t, c, o); !get(c, context.Background(), page).says("hit") {
				t.Errorf("%d bytes, reopened %v: gone after a crash", size, reopened)
			}
		}
	}
}

// brokenFiles fails when told to.
type brokenFiles struct {
	files
	fail  atomic.Pointer[error]
	what  string // part of the names that fail; "": all
	keeps bool   // nothing can be removed either
}

type brokenFile struct {
	file
	b    *brokenFiles
	name string
}

func (b *brokenFiles) err(name string) error {
	if err := b.fail.Load(); err != nil && strings.Contains(name, b.what) {
		return *err
	}
	return nil
}

func (b *brokenFiles) set(what string, err error) {
	b.what = what
	b.fail.Store(&err)
}

func (b *brokenFiles) create(name string) (file, error) {
	if err := b.err(name); err != nil {
		return nil, err
	}
	f, err := b.files.create(name)
	return &brokenFile{f, b, name}, err
}

func (b *brokenFiles) open(name string) (file, int64, error) {
	f, n, err := b.files.open(name)
	if err != nil {
		return nil, 0, err
	}
	return &brokenFile{f, b, name}, n, nil
}

func (f *brokenFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.b.err(f.name); err != nil {
		n, _ := f.file.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return f.file.WriteAt(p, off)
}

func (f *brokenFile) Sync() error {
	if err := f.b.err(f.name); err != nil {
		return err
	}
	return f.file.Sync()
}

var errFull = errors.New("no space left on device")

// TestDiskFull: objects stay in memory, what is on disk stays good, and purges hold.
func TestDiskFull(t *testing.T) {
	o := &farOrigin{answer: numbered("Cache-Control: max-age=60", "Surrogate-Key: a")}
	dir := t.TempDir()
	b := &brokenFiles{files: directory(dir)}
	var log bytes.Buffer
	c := newLab(o, Config{files: b, Disk: megabytes, Log: slog.New(slog.NewTextHandler(&log, nil))})
	wantBody(t, get(c, context.Background(), page), "answer 1")
	rest(c)
	b.set("segment", errFull)
	for i := range 5 {
		c.disk.paused = time.Time{}
		wantBody(t, get(c, context.Background(), fmt.Sprint(page, i)), fmt.Sprint("answer ", i+2))
		wantBody(t, get(c, context.Background(), fmt.Sprint(page, i)), fmt.Sprint("answer ", i+2))
		rest(c)
	}
	if n := c.stats.DiskErrors.Load(); n != 5 || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("%d errors:\n%s", n, log.String())
	}
	b.fail.Store(nil)
	c.disk.paused = time.Time{}
	wantBody(t, get(c, context.Background(), page+"x"), "answer 7")
	rest(c)
	c = found(t, dir, o)
	wantBody(t, get(c, context.Background(), page), "answer 1")
	wantNoErrors(t, c)
}

// TestDiskJournalFails: if purges cannot be noted, nothing that they could concern is kept.
func TestDiskJournalFails(t *testing.T) {
	for _, what := range []string{"purges", ""} {
		o := &farOrigin{answer: numbered("Cache-Control: max-age=60", "Surrogate-Key: a")}
		dir := t.TempDir()
		b := &brokenFiles{files: directory(dir)}
		c := newLab(o, Config{files: b, Disk: megabytes, Log: slog.New(slog.DiscardHandler)})
		wantBody(t, get(c, context.Background(), page), "answer 1")
		wantBody(t, get(c, context.Background(), page+"2"), "answer 2")
		rest(c)
		b.set(what, errFull)
		if err := c.Purge(wedge.Purge{Service: "shop", Keys: []string{"x"}}); err != nil {
			t.Error(err)
		}
		b.fail.Store(nil)
		if err := c.Purge(wedge.Purge{Service: "shop", URL: page}); err != nil {
			t.Error(err)
		}
		if files, _ := filepath.Glob(dir + "/*"); len(files) != 0 {
			t.Error(files)
		}
		wantBody(t, get(c, context.Background(), page), "answer 3")
		wantBody(t, get(c, context.Background(), page+"2"), "answer 2")
		rest(c)
		d := openLab(t, o, dir)
		wantBody(t, get(d, context.Background(), page), "answer 4")
		wantBody(t, get(d, context.Background(), page), "answer 4")
	}
}

func (b *brokenFiles) remove(name string) error {
	if err := b.err(name); err != nil && b.keeps {
		return err
	}
	return b.files.remove(name)
}

// TestDiskReadOnly: a purge that a restart could undo is not acknowledged.
func TestDiskReadOnly(t *testing.T) {
	o := &farOrigin{answer: numbered("Cache-Control: max-age=60", "Surrogate-Key: a")}
	dir := t.TempDir()
	b := &brokenFiles{files: directory(dir), keeps: true}
	c := newLab(o, Config{files: b, Disk: megabytes, Log: slog.New(slog.DiscardHandler)})
	wantBody(t, get(c, context.Background(), page), "answer 1")
	rest(c)
	b.set("", errFull)
	for range 2 {
		if err := c.Purge(wedge.Purge{Service: "shop", URL: page}); wedge.KindOf(err) != wedge.Unavailable || wedge.HintOf(err) == "" {
			t.Errorf("%v", err)
		}
	}
	wantBody(t, get(c, context.Background(), page), "answer 2") // and it holds all the same
	b.fail.Store(nil)
	if err := c.Purge(wedge.Purge{Service: "shop", URL: page}); err != nil {
		t.Error(err)
	}
	wantBody(t, get(found(t, dir, o), context.Background(), page), "answer 3")
}

// TestDiskReadersStay: a body that is being read is not pulled away, and counts as long as it is there.
func TestDiskReadersStay(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 20_000)
	o := &farOrigin{answer: func(int64, *http.Request) (*http.Response, error) {
		return answer(200, body, "Cache-Control: max-age=3600"), nil
	}}
	const limit = 4 << 20
	c := newLab(o, Config{Dir: t.TempDir(), Disk: limit, Memory: 2 << 20})
	defer c.Close()
	get(c, context.Background(), page)
	forgetMemory(c)
	req, _ := http.NewRequestWithContext(wedge.WithCaching(context.Background(), &wedge.Caching{Service: "shop"}), http.MethodGet, page, nil)
	resp, err := c.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for i := range 60 {
		get(c, context.Background(), fmt.Sprint(page, i))
		rest(c)
		if used, _ := c.DiskUsed(); used > limit {
			t.Fatalf("%d bytes", used)
		}
		if _, err := io.CopyN(&b, resp.Body, 1000); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.Copy(&b, resp.Body); err != nil || b.String() != body {
		t.Fatalf("%d bytes, %v", b.Len(), err)
	}
	resp.Body.Close()
	if c.disk.segs[0].id < 10 {
		t.Error("nothing was evicted")
	}
	used := int64(0)
	for _, s := range c.disk.segs {
		if used += s.size; s.refs != 0 {
			t.Errorf("%d readers of segment %d", s.refs, s.id)
		}
	}
	if used != c.disk.used {
		t.Errorf("%d bytes are counted, %d are there", c.disk.used, used)
	}
	wantNoErrors(t, c)
}

// TestDiskUnusable: a directory that cannot be used costs hits only.
func TestDiskUnusable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := &farOrigin{answer: numbered("Cache-Control: max-age=60", "Surrogate-Key: a")}
	c := openLab(t, o, file)
	wantBody(t, get(c, context.Background(), page), "answer 1")
	wantBody(t, get(c, context.Background(), page), "answer 1")
	if err := c.Purge(wedge.Purge{Service: "shop", URL: page}); err != nil {
		t.Error(err)
	}
	wantBody(t, get(c, context.Background(), page), "answer 2")
	if n := c.stats.DiskErrors.Load(); n != 1 {
		t.Errorf("%d errors", n)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestDiskHugeFiles: files that claim to be larger than memory are damaged ones, and are not read.
func TestDiskHugeFiles(t *testing.T) {
	for name, kept := range map[string]bool{journalName: false, checkpointName: true} {
		o := &farOrigin{answer: numbered("Cache-Control: max-age=60")}
		dir := t.TempDir()
		c := openLab(t, o, dir)
		wantBody(t, get(c, context.Background(), page), "answer 1")
		rest(c)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(dir, name), 1<<40); err != nil {
			t.Skip(err) // the file system has no holes
		}
		want := "answer 2"
		if kept { // the records themselves say as much as their checkpoint
			want = "answer 1"
		}
		c = openLab(t, o, dir)
		wantBody(t, get(c, context.Background(), page), want)
		if c.stats.DiskErrors.Load() == 0 {
			t.Errorf("%s: no alarm", name)
		}
		_ = c.Close()
	}
}

// TestDiskTurnedOff: a cache without a disk notes no purges, so the next with one finds nothing.
func TestDiskTurnedOff(t *testing.T) {
	o := &farOrigin{answer: numbered("Cache-Control: max-age=60")}
	dir := t.TempDir()
	c := openLab(t, o, dir)
	wantBody(t, get(c, context.Background(), page), "answer 1")
	rest(c)
	_ = c.Close()
	newLab(o, Config{Dir: dir})
	wantBody(t, get(openLab(t, o, dir), context.Background(), page), "answer 2")
}

// TestDiskEveryByte: wherever one byte of a record is another, the object is absent or as it was.
func TestDiskEveryByte(t *testing.T) {
	o := &farOrigin{answer: numbered("Cache-Control: max-age=3600", "X-Long: "+strings.Repeat("abcdefgh", 10), "Vary: Accept")}
	dir := t.TempDir()
	c := openLab(t, o, dir)
	want := get(c, context.Background(), page)
	rest(c)
	name := filepath.Join(dir, segmentName(1))
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	there := 0
	for i := range b {
		for _, by := range []byte{1, 0x80, 0xff} {
			b[i] ^= by
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
			c := newLab(away(), Config{files: unsynced{directory(dir)}, Disk: megabytes, Log: slog.New(slog.DiscardHandler)})
			if g := get(c, context.Background(), page); g.err == nil {
				there++
				if g.header.Del("Cache-Status"); g.body != want.body || g.header.Get("X-Long") != want.header.Get("X-Long") || len(g.header) != len(want.header) {
					t.Fatalf("byte %d: %q %v", i, g.body, g.header)
				}
			} else if n := c.stats.DiskErrors.Load(); n != 1 {
				t.Errorf("byte %d: %d errors", i, n)
			}
			b[i] ^= by
		}
	}
	if there > 0 {
		t.Errorf("%d of %d flips make no difference", there, 3*len(b))
	}
}

// TestDiskNumbersGoOn: a purge after a restart has a higher number than all objects that are there.
func TestDiskNumbersGoOn(t *testing.T) {
	for _, clean := range []bool{true, false} {
		o := &farOrigin{answer: numbered("Cache-Control: max-age=60", "Surrogate-Key: a")}
		c := openLab(t, o, t.TempDir())
		for i := range 5 { // of which the disk knows nothing, and notes nothing
			do(c, context.Background(), http.MethodPost, fmt.Sprint(page, i))
		}
		wantBody(t, get(c, context.Background(), page), "answer 6")
		if clean {
			rest(c)
			_ = c.Close()
			c = found(t, string(c.disk.files.(directory)), o)
		} else {
			c = crash(t, c, o)
		}
		if err := c.Purge(wedge.Purge{Service: "shop", Keys: []string{"a"}}); err != nil {
			t.Fatal(err)
		}
		wantBody(t, get(c, context.Background(), page), "answer 7")
	}
}
