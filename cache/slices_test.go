package cache

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

// library serves one large file, or ranges of it, and counts what it sends.
type library struct {
	farOrigin
	text atomic.Pointer[[]byte]
	etag atomic.Pointer[string]
	sent atomic.Int64
}

func newLibrary(size int) *library {
	l := &library{}
	l.change(size)
	l.answer = func(_ int64, req *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		w.Header().Set("Etag", *l.etag.Load())
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Content-Type", "video/mp4")
		w.Header().Set("Surrogate-Key", "film")
		http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(*l.text.Load()))
		resp := w.Result()
		resp.ContentLength = int64(w.Body.Len())
		resp.Body = io.NopCloser(&counting{r: bytes.NewReader(w.Body.Bytes()), n: &l.sent})
		return resp, nil
	}
	return l
}

// counting counts what is read.
type counting struct {
	r io.Reader
	n *atomic.Int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// change puts another file in the place.
func (l *library) change(size int) {
	text := make([]byte, size)
	for i := range text {
		text[i] = byte('a' + rand.IntN(26))
	}
	etag := fmt.Sprintf(`"%d"`, rand.Int())
	l.text.Store(&text)
	l.etag.Store(&etag)
}

const film = "http://shop.example/film"

// slicedLab has a cache that knows the file already.
func slicedLab(t *testing.T) (*library, *Cache) {
	l := newLibrary(100_000)
	c := New(withDisk(Config{Next: l, MaxObject: 8 << 10}))
	if g := get(c, context.Background(), film); g.err != nil || g.body != string(*l.text.Load()) || !g.says("sliced") {
		t.Fatal(g.err, len(g.body), g.header)
	}
	return l, c
}

// TestSlices asks for the whole and for ranges: each byte is fetched once.
func TestSlices(t *testing.T) {
	l, c := slicedLab(t)
	text := string(*l.text.Load())
	l.sent.Store(0)
	for range 300 {
		from := rand.IntN(len(text))
		to := from + 1 + rand.IntN(min(20_000, len(text)-from))
		g := get(c, context.Background(), film, fmt.Sprintf("Range: bytes=%d-%d", from, to-1))
		if g.err != nil || g.status != 206 || g.body != text[from:to] || g.header.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/%d", from, to-1, len(text)) {
			t.Fatalf("[%d, %d): %d %v, %d bytes, %v", from, to, g.status, g.header, len(g.body), g.err)
		}
	}
	if g := get(c, context.Background(), film); g.err != nil || g.body != text || !g.says("hit") || g.header.Get("Content-Length") != "100000" {
		t.Errorf("%v %v", g.err, g.header)
	}
	if sent := l.sent.Load(); sent != int64(len(text)) {
		t.Errorf("%d bytes were fetched of %d", sent, len(text))
	}
	for _, test := range []struct {
		line   string
		status int
		body   string
	}{
		{"Range: bytes=-5", 206, text[len(text)-5:]}, {"Range: bytes=99990-", 206, text[99990:]}, {"Range: bytes=100000-", 416, ""},
		{"Range: bytes=0-1, 5-6", 200, text}, {"If-None-Match: " + *l.etag.Load(), 304, ""}, {"Range: lines=1-2", 200, text},
	} {
		if g := get(c, context.Background(), film, test.line); g.err != nil || g.status != test.status || g.body != test.body {
			t.Errorf("%s: %d, %d bytes, %v", test.line, g.status, len(g.body), g.err)
		}
	}
	if g := get(c, context.Background(), film, "Range: bytes=0-4", `If-Range: "other"`); g.status != 200 || g.body != text {
		t.Errorf("another If-Range: %d", g.status)
	}
	if g := do(c, context.Background(), "HEAD", film); g.status != 200 || g.header.Get("Content-Length") != "100000" || g.body != "" {
		t.Errorf("HEAD: %d %v", g.status, g.header)
	}
	if sent := l.sent.Load(); sent != int64(len(text)) {
		t.Errorf("%d bytes were fetched of %d", sent, len(text))
	}
}

// TestSlicesFromARange: a range that comes first is enough to know the file by.
func TestSlicesFromARange(t *testing.T) {
	l := newLibrary(100_000)
	c := New(withDisk(Config{Next: l, MaxObject: 8 << 10}))
	text := string(*l.text.Load())
	for i := range 3 {
		if g := get(c, context.Background(), film, "Range: bytes=9000-9999"); g.err != nil || g.status != 206 || g.body != text[9000:10000] || i > 0 && !g.says("hit") {
			t.Errorf("%d: %d %v %v", i, g.status, g.header, g.err)
		}
	}
	if g := get(c, context.Background(), film); g.body != text {
		t.Errorf("%d bytes, %v", len(g.body), g.err)
	}
}

// TestSlicesAreShared: a crowd fetches each slice once.
func TestSlicesAreShared(t *testing.T) {
	l, c := slicedLab(t)
	l.sent.Store(0)
	var w sync.WaitGroup
	for range 50 {
		w.Go(func() {
			if g := get(c, context.Background(), film); g.err != nil || g.body != string(*l.text.Load()) {
				t.Error(len(g.body), g.err)
			}
		})
	}
	w.Wait()
	if sent := l.sent.Load(); sent != 100_000 && !below.cold {
		t.Errorf("%d bytes were fetched", sent)
	}
}

// TestSlicesOfAnotherFile: when the file changes nobody gets some of both, and who asks next gets the new one.
func TestSlicesOfAnotherFile(t *testing.T) {
	for _, purge := range []*wedge.Purge{nil, {Service: "shop", URL: film}, {Service: "shop", Keys: []string{"film"}}, {Service: "shop", All: true}} {
		l, c := slicedLab(t)
		old := string(*l.text.Load())
		if g := get(c, context.Background(), film, "Range: bytes=0-19999"); g.body != old[:20_000] {
			t.Fatal(g.err)
		}
		l.change(90_000)
		text := string(*l.text.Load())
		if purge != nil {
			if err := c.Purge(*purge); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 3 {
			g := get(c, context.Background(), film)
			whole := g.err == nil && g.body == text
			broken := g.err != nil && strings.HasPrefix(old, g.body) // the head was out already
			if !whole && !(broken && i == 0 && purge == nil) {
				t.Errorf("purge %v, request %d: %d bytes, %v", purge, i, len(g.body), g.err)
			}
		}
	}
}

// TestNoSlice: the page of an error, or an answer with nothing in it, does not become a piece of the file.
func TestNoSlice(t *testing.T) {
	for _, status := range []int{500, 503, 304} {
		l, c := slicedLab(t)
		text := string(*l.text.Load())
		fine, asked, well := l.answer, atomic.Int64{}, atomic.Bool{}
		l.answer = func(n int64, req *http.Request) (*http.Response, error) {
			if asked.Add(1) > 2 && !well.Load() {
				return answer(status, strings.Repeat("out of order ", 1000)), nil
			}
			return fine(n, req)
		}
		g := get(c, context.Background(), film)
		if g.err == nil || !strings.HasPrefix(text, g.body) || len(g.body) == 0 {
			t.Errorf("%d after some slices: %d bytes, %v", status, len(g.body), g.err)
		}
		if g := get(c, context.Background(), film, "Range: bytes=90000-90009"); g.err == nil {
			t.Errorf("%d instead of the first slice: %d %q", status, g.status, g.body)
		}
		well.Store(true)
		for tries := 1; ; tries++ { // slices that were being fetched may be errors still
			g := get(c, context.Background(), film)
			if g.err == nil && g.body == text {
				break
			}
			if g.err == nil || !strings.HasPrefix(text, g.body) || tries == 100 {
				t.Errorf("after %d: %d bytes, %v", status, len(g.body), g.err)
				break
			}
		}
	}
}

// closing tells when a body is closed.
type closing struct {
	io.ReadCloser
	open *atomic.Int64
}

func (c closing) Close() error {
	c.open.Add(-1)
	return c.ReadCloser.Close()
}

// TestSlicedPurgedOnItsWay: a large file that was purged while its answer came is its leader's all the same, who closes it.
func TestSlicedPurgedOnItsWay(t *testing.T) {
	l := newLibrary(100_000)
	c := New(withDisk(Config{Next: l, MaxObject: 8 << 10}))
	var open atomic.Int64
	fine := l.answer
	l.answer = func(n int64, req *http.Request) (*http.Response, error) {
		resp, err := fine(n, req)
		open.Add(1)
		resp.Body = closing{resp.Body, &open}
		if n == 1 {
			if err := c.Purge(wedge.Purge{Service: "shop", Keys: []string{"film"}}); err != nil {
				t.Error(err)
			}
		}
		return resp, err
	}
	if g := get(c, context.Background(), film); g.err != nil || g.body != string(*l.text.Load()) {
		t.Error(len(g.body), g.err)
	}
	if open.Load() != 0 || l.fetches.Load() != 1 {
		t.Errorf("%d bodies were never closed, of %d", open.Load(), l.fetches.Load())
	}
}
