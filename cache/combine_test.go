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
	"testing"
	"testing/synctest"
	"time"
)

// TestPartsAddUp: whatever ranges are asked for in whatever order, each answer is what the origin has
// there, and what is there once is not asked for again.
func TestPartsAddUp(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		text := make([]byte, 1+r.IntN(200))
		for i := range text {
			text[i] = byte('a' + r.IntN(26))
		}
		sent := 0
		o := &farOrigin{answer: func(_ int64, req *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			w.Header().Set("Etag", `"x"`)
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Content-Type", "text/plain")
			http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(text))
			resp := w.Result()
			resp.ContentLength = int64(w.Body.Len())
			resp.Body = io.NopCloser(bytes.NewReader(w.Body.Bytes()))
			sent += w.Body.Len()
			return resp, nil
		}}
		c := newLab(o, Config{})
		for range 12 {
			from := r.IntN(len(text))
			to := from + 1 + r.IntN(len(text)-from)
			g, want := got{}, text[from:to]
			if r.IntN(6) == 0 {
				g, want = get(c, context.Background(), page), text
			} else {
				g = get(c, context.Background(), page, fmt.Sprintf("Range: bytes=%d-%d", from, to-1))
				if s := fmt.Sprintf("bytes %d-%d/%d", from, to-1, len(text)); g.status != 206 || g.header.Get("Content-Range") != s {
					t.Fatalf("seed %d: %d %v, want %s", seed, g.status, g.header, s)
				}
			}
			if g.err != nil || g.body != string(want) || g.header.Get("Content-Length") != fmt.Sprint(len(want)) {
				t.Fatalf("seed %d: [%d, %d) of %q is %q (%s), %v", seed, from, to, text, g.body, g.header.Get("Content-Length"), g.err)
			}
		}
		before := sent
		if g := get(c, context.Background(), page); g.body != string(text) || sent-before > len(text) {
			t.Fatalf("seed %d: the whole is %q, and %d bytes were sent for it", seed, g.body, sent-before)
		}
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // it is put away behind the client's back
			_, objects := c.Used()
			if objects == 1 {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("seed %d: %d objects are left of one whole", seed, objects)
			}
		}
		c.drained(t)
	}
}

// TestPartValidated: who comes while a part is validated gets what was asked for, whatever the origin says.
func TestPartValidated(t *testing.T) {
	const old, other = "0123456789abcdefghij", "ABCDEFGHIJKLMNOPQRST"
	for _, after := range []string{old, other} {
		synctest.Test(t, func(t *testing.T) {
			text := old
			o := &farOrigin{answer: func(_ int64, req *http.Request) (*http.Response, error) {
				time.Sleep(slow)
				w := httptest.NewRecorder()
				w.Header().Set("Etag", `"`+text+`"`)
				w.Header().Set("Cache-Control", "max-age=1")
				http.ServeContent(w, req, "a.txt", time.Time{}, strings.NewReader(text))
				resp := w.Result()
				resp.ContentLength = int64(w.Body.Len())
				return resp, nil
			}}
			c := newLab(o, Config{})
			wantBody(t, get(c, context.Background(), page, "Range: bytes=4-9"), old[4:10])
			text = after
			time.Sleep(2 * time.Second)
			var w sync.WaitGroup
			for _, r := range [][2]int{{4, 9}, {0, 19}, {5, 8}, {12, 15}, {2, 6}} {
				w.Go(func() {
					time.Sleep(slow / 4 * time.Duration(min(1, r[0]^4))) // the first leads
					g := got{}
					if r == [2]int{0, 19} {
						g = get(c, context.Background(), page)
					} else if g = get(c, context.Background(), page, fmt.Sprintf("Range: bytes=%d-%d", r[0], r[1])); g.header.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/20", r[0], r[1]) {
						t.Errorf("%v: %d %v", r, g.status, g.header)
					}
					wantBody(t, g, after[r[0]:r[1]+1])
				})
			}
			w.Wait()
		})
	}
}
