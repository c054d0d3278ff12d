package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

// farOrigin is an http.RoundTripper whose answers a test makes up; n is the fetch's number, from 1.
type farOrigin struct {
	fetches atomic.Int64
	answer  func(n int64, req *http.Request) (*http.Response, error)
}

func (o *farOrigin) RoundTrip(req *http.Request) (*http.Response, error) {
	return o.answer(o.fetches.Add(1), req)
}

// answer makes a response of header lines and a body.
func answer(status int, body string, lines ...string) *http.Response {
	h := http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	return &http.Response{StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: h, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body))}
}

// after answers a while later, unless the request is given up before.
func after(d time.Duration, resp *http.Response) func(int64, *http.Request) (*http.Response, error) {
	return func(_ int64, req *http.Request) (*http.Response, error) {
		select {
		case <-time.After(d):
			return resp, nil
		case <-req.Context().Done():
			return nil, context.Cause(req.Context())
		}
	}
}

// pieces is a body that comes piece by piece, with a pause before each, and ends with err.
type pieces struct {
	all   []string
	pause time.Duration
	err   error
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.all) == 0 {
		if p.err != nil {
			return 0, p.err
		}
		return 0, io.EOF
	}
	time.Sleep(p.pause)
	n := copy(b, p.all[0])
	if p.all[0] = p.all[0][n:]; p.all[0] == "" {
		p.all = p.all[1:]
	}
	return n, nil
}

func (p *pieces) Close() error { return nil }

func newLab(o *farOrigin, cfg Config) *Cache {
	cfg.Next = o
	return New(withDisk(cfg))
}

// withDisk gives a lab a disk tier where there is to be one.
func withDisk(cfg Config) Config {
	if below.dir != "" && cfg.Dir == "" {
		cfg.Dir, cfg.Disk = fmt.Sprint(below.dir, "/", below.labs.Add(1)), 64<<20
	}
	return cfg
}

// got is what a client saw.
type got struct {
	status int
	body   string
	header http.Header
	err    error
	first  time.Duration // until the head was there
	took   time.Duration
}

// says reports whether the cache said so of the response.
func (g got) says(word string) bool { return strings.Contains(g.header.Get("Cache-Status"), word) }

// get sends one request for url; lines are header fields.
func get(c *Cache, ctx context.Context, url string, lines ...string) (g got) {
	return do(c, ctx, http.MethodGet, url, lines...)
}

func do(c *Cache, ctx context.Context, method, url string, lines ...string) (g got) {
	began := time.Now()
	defer func() { g.took = time.Since(began) }()
	if below.cold {
		forgetMemory(c)
	}
	if wedge.CachingFrom(ctx) == nil {
		ctx = wedge.WithCaching(ctx, &wedge.Caching{Service: "shop"})
	}
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return got{err: err}
	}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Add(name, value)
	}
	resp, err := c.RoundTrip(req)
	if err != nil {
		return got{err: err}
	}
	g.first = time.Since(began)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	g.status, g.body, g.header, g.err = resp.StatusCode, string(b), resp.Header, err
	return g
}

// crowd sends n requests, one first and the others 20 ms later, all at once.
func crowd(c *Cache, n int, url string, lines func(i int) []string) []got {
	all := make([]got, n)
	if below.cold { // once, or they would evict what others are about to get
		forgetMemory(c)
		below.cold = false
		defer func() { below.cold = true }()
	}
	var w sync.WaitGroup
	for i := range n {
		w.Go(func() {
			if i > 0 {
				time.Sleep(20 * time.Millisecond)
			}
			var l []string
			if lines != nil {
				l = lines(i)
			}
			all[i] = get(c, context.Background(), url, l...)
		})
	}
	w.Wait()
	return all
}

func slowest(all []got) (d time.Duration) {
	for _, g := range all {
		d = max(d, g.took)
	}
	return d
}

func wantFetches(t *testing.T, o *farOrigin, n int64) {
	t.Helper()
	if got := o.fetches.Load(); got != n {
		t.Errorf("%d fetches, want %d", got, n)
	}
}

func wantBody(t *testing.T, g got, body string) {
	t.Helper()
	if g.err != nil || g.body != body {
		t.Fatalf("got %d %.60q, %v; want %.60q", g.status, g.body, g.err, body)
	}
}

var errBroken = errors.New("connection broken")

const page = "http://shop.example/page"

func numbered(lines ...string) func(int64, *http.Request) (*http.Response, error) {
	return func(n int64, _ *http.Request) (*http.Response, error) {
		return answer(200, fmt.Sprint("answer ", n), lines...), nil
	}
}
