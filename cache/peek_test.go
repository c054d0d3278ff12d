package cache

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wedge-cloud/wedge"
)

// said are a query's fields.
type said http.Header

func (s said) Lines(name string) (lines [][]byte) {
	for _, v := range s[http.CanonicalHeaderKey(name)] {
		lines = append(lines, []byte(v))
	}
	return lines
}

// peek asks for a path of shop.example; lines are header fields.
func peek(t *testing.T, c *Cache, pol *wedge.Caching, method, path string, lines ...string) (g got, ok bool) {
	t.Helper()
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	q := Query{Policy: pol, Scheme: "http", Host: []byte("shop.example"), Target: []byte(path), Head: method == "HEAD",
		Directives: h["Cache-Control"] != nil || h["Pragma"] != nil, Fields: said(h)}
	var hit Hit
	if ok = c.Peek(&q, &hit); !ok {
		return got{}, false
	}
	b := bytes.Join(append([][]byte{hit.Head}, hit.Body...), nil)
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), &http.Request{Method: method})
	if err != nil || resp.StatusCode != hit.Status {
		t.Fatalf("%v: %q", err, b)
	}
	body, err := io.ReadAll(resp.Body)
	return got{status: resp.StatusCode, header: resp.Header, body: string(body), err: err}, true
}

// TestPeekIsRoundTrip asks both ways for everything, at many times: Peek says what RoundTrip would have
// said, or nothing.
func TestPeekIsRoundTrip(t *testing.T) {
	kinds := map[string][]string{
		"/short": {"Cache-Control: max-age=5, stale-while-revalidate=5"}, "/long": {"Cache-Control: max-age=600", "Etag: \"a\"", "Surrogate-Key: k"},
		"/vary": {"Cache-Control: max-age=600", "Vary: Accept-Encoding"}, "/any": {"Cache-Control: max-age=600", "Vary: *"},
		"/agent": {"Cache-Control: max-age=600", "Vary: User-Agent"}, "/private": {"Cache-Control: private"},
		"/aged": {"Cache-Control: max-age=600", "Age: 90"}, "/status": {"Cache-Control: max-age=600", "Cache-Status: a; hit", "Cache-Status: b; hit"},
		"/nocache": {"Cache-Control: max-age=600, no-cache", "Etag: \"a\""}, "/gone": {"Cache-Control: max-age=600"},
	}
	synctest.Test(t, func(t *testing.T) {
		o := &farOrigin{answer: func(_ int64, req *http.Request) (*http.Response, error) {
			lines := append([]string{"Content-Type: text/plain", "Aaa: 1", "Zzz: 2"}, kinds[req.URL.Path]...)
			status := 200
			if req.URL.Path == "/gone" {
				status = 404
			}
			resp := answer(status, "body of "+req.URL.Path+req.Header.Get("Accept-Encoding"), lines...)
			resp.Header.Set("Content-Length", fmt.Sprint(resp.ContentLength))
			return resp, nil
		}}
		c := newLab(o, Config{})
		pol, hits := &wedge.Caching{Service: "shop"}, 0
		for step := range 40 {
			for path := range kinds {
				for _, lines := range [][]string{nil, {"Accept-Encoding: gzip"}, {"Accept-Encoding: GZIP"}, {"Accept-Encoding: br", "User-Agent: x"}, {"Cache-Control: no-cache"}} {
					for _, method := range []string{"GET", "HEAD"} {
						before := c.stats.Hits.Load()
						a, ok := peek(t, c, pol, method, path, lines...)
						if counted := c.stats.Hits.Load() - before; ok != (counted == 1) || counted > 1 {
							t.Fatalf("%s: counted %d hits, answered: %v", path, counted, ok)
						}
						b := do(c, context.Background(), method, "http://shop.example"+path, lines...)
						if !ok {
							continue
						}
						hits++
						for _, name := range Inward { // who serves RoundTrip's responses takes them out
							delete(b.header, name)
						}
						if a.status != b.status || a.body != b.body || !reflect.DeepEqual(a.header, b.header) {
							t.Fatalf("step %d, %s %s %q:\nPeek      %d %v %q\nRoundTrip %d %v %q", step, method, path, lines, a.status, a.header, a.body, b.status, b.header, b.body)
						}
					}
				}
			}
			time.Sleep(1300 * time.Millisecond)
			switch step {
			case 10:
				_ = c.Purge(wedge.Purge{Service: "shop", Keys: []string{"k"}})
			case 15:
				_ = c.Purge(wedge.Purge{Service: "shop", Keys: []string{"k"}, Soft: true})
			case 20:
				_ = c.Purge(wedge.Purge{Service: "shop", URL: "http://shop.example/vary", Soft: true})
			case 25:
				_ = c.Purge(wedge.Purge{Service: "shop", URL: "http://shop.example/vary"})
			case 30:
				_ = c.Purge(wedge.Purge{Service: "shop", All: true})
			}
			if step >= 10 && step%5 == 0 { // what was purged is no hit
				if _, ok := peek(t, c, pol, "GET", map[int]string{10: "/long", 15: "/long", 20: "/vary", 25: "/vary", 30: "/aged", 35: "/never"}[step]); ok {
					t.Errorf("step %d: purged, and a hit", step)
				}
			}
			synctest.Wait()
		}
		if hits < 1000 {
			t.Errorf("%d hits only", hits)
		}
	})
}

func TestPeekRefuses(t *testing.T) {
	o := &farOrigin{answer: numbered("Cache-Control: max-age=600", "Content-Type: text/plain")}
	c := newLab(o, Config{})
	wantBody(t, get(c, context.Background(), page), "answer 1")
	waitWhole(t, c)
	for name, pol := range map[string]*wedge.Caching{"pass": {Service: "shop", Pass: true}, "key": {Service: "shop", Key: "k"}, "service": {Service: "other"}} {
		if _, ok := peek(t, c, pol, "GET", "/page"); ok {
			t.Errorf("%s: answered", name)
		}
	}
	strict := &wedge.Caching{Service: "shop", Profile: wedge.CacheStrict}
	if _, ok := peek(t, c, strict, "GET", "/page", "Cache-Control: no-cache"); ok {
		t.Error("strict: a directive was not heeded")
	}
	if _, ok := peek(t, c, strict, "GET", "/page"); !ok {
		t.Error("strict: no hit without directives")
	}
}

// waitWhole waits until an object's body is stored, which may be after its reader has it.
func waitWhole(t *testing.T, c *Cache) {
	t.Helper()
	for range 1000 {
		if _, n := c.Used(); n > 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("nothing was stored")
}

func TestPeekAllocatesNothing(t *testing.T) {
	o := &farOrigin{answer: numbered("Cache-Control: max-age=600", "Content-Type: text/plain", "Vary: Accept-Encoding")}
	c := newLab(o, Config{})
	wantBody(t, get(c, context.Background(), page, "Accept-Encoding: gzip, br"), "answer 1")
	waitWhole(t, c)
	q := Query{Policy: &wedge.Caching{Service: "shop"}, Scheme: "http", Host: []byte("shop.example"), Target: []byte("/page"), Fields: packed{[]byte("gzip, br")}}
	var hit Hit
	if n := testing.AllocsPerRun(200, func() {
		hit.Head, hit.Body = hit.Head[:0], hit.Body[:0]
		if !c.Peek(&q, &hit) {
			t.Fatal("no hit")
		}
	}); n != 0 {
		t.Errorf("a hit allocates %v times", n)
	}
}

// packed is the same for all names.
type packed [][]byte

func (p packed) Lines(string) [][]byte { return p }
