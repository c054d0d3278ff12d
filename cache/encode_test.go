package cache

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/wedge-cloud/wedge"
)

func decode(t *testing.T, coding string, b []byte) string {
	t.Helper()
	var r io.Reader = bytes.NewReader(b)
	switch coding {
	case "br":
		r = brotli.NewReader(r)
	case "gzip":
		z, err := gzip.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		r = z
	case "zstd":
		z, err := zstd.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		r = z
	}
	all, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: %v", coding, err)
	}
	return string(all)
}

func TestCompression(t *testing.T) {
	text := strings.Repeat("All work and no play makes a dull page. ", 200)
	o := &farOrigin{}
	o.answer = func(int64, *http.Request) (*http.Response, error) {
		return answer(200, text, "Cache-Control: max-age=60", "Content-Type: text/html", `Etag: "a"`, "Accept-Ranges: bytes", "Vary: X"), nil
	}
	c := newLab(o, Config{})
	ask := func(lines ...string) (*http.Response, []byte) {
		t.Helper()
		ctx := wedge.WithCaching(context.Background(), &wedge.Caching{Service: "shop", Compress: true})
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
		for _, line := range lines {
			name, value, _ := strings.Cut(line, ": ")
			req.Header.Add(name, value)
		}
		resp, err := c.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, b
	}
	ask()
	for accept, want := range map[string]string{
		"gzip, deflate, br, zstd": "br", "gzip, zstd": "zstd", "gzip": "gzip", "GZIP;q=0.5, br;q=0.1": "gzip", "br;q=0, *": "zstd",
		"": "", "identity": "", "deflate": "", "gzip;q=0": "", "*;q=0": "", "gzip;q=0.1, identity;q=1": "", "gzip;q=x": "",
	} {
		resp, b := ask("Accept-Encoding: " + accept)
		if got := resp.Header.Get("Content-Encoding"); got != want || decode(t, want, b) != text {
			t.Errorf("%q: coding %q, want %q", accept, got, want)
		}
		if resp.Header.Get("Vary") != "X, Accept-Encoding" || resp.ContentLength != int64(len(b)) {
			t.Errorf("%q: %v, %d of %d bytes", accept, resp.Header, resp.ContentLength, len(b))
		}
		if coded := want != ""; coded != (resp.Header.Get("Etag") == `W/"a"`) || coded != (resp.Header.Get("Accept-Ranges") == "") {
			t.Errorf("%q: %v", accept, resp.Header)
		}
	}
	if resp, b := ask("Accept-Encoding: gzip", "Range: bytes=0-3"); resp.StatusCode != 206 || string(b) != "All " {
		t.Errorf("a range: %d %q", resp.StatusCode, b)
	}
	for _, tag := range []string{`"a"`, `W/"a"`} {
		if resp, _ := ask("Accept-Encoding: gzip", "If-None-Match: "+tag); resp.StatusCode != 304 {
			t.Errorf("%s: %d", tag, resp.StatusCode)
		}
	}
	wantFetches(t, o, 1)
	if used, _ := c.Used(); used < int64(len(text)) || used > int64(len(text))+10_000 {
		t.Errorf("%d bytes are counted", used)
	}
	before, _ := c.Used()
	if err := c.Purge(wedge.Purge{Service: "shop", URL: page}); err != nil {
		t.Fatal(err)
	}
	if after, objects := c.Used(); after != 0 || objects != 0 {
		t.Errorf("of %d bytes %d stay after the purge", before, after)
	}
}

// TestNotCompressed: what must stay as it is, or gains nothing.
func TestNotCompressed(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for _, c := range []struct {
		body  string
		lines []string
	}{
		{long, []string{"Content-Type: image/png"}}, {long, nil}, {"short", []string{"Content-Type: text/plain"}},
		{long, []string{"Content-Type: text/plain", "Content-Encoding: x"}}, {long, []string{"Content-Type: text/plain", "Cache-Control: no-transform"}},
	} {
		o := &farOrigin{answer: func(int64, *http.Request) (*http.Response, error) {
			return answer(200, c.body, append(c.lines, "Cache-Control: max-age=60")...), nil
		}}
		cache := newLab(o, Config{})
		for range 2 {
			ctx := wedge.WithCaching(context.Background(), &wedge.Caching{Service: "shop", Compress: true})
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
			req.Header.Set("Accept-Encoding", "br, gzip")
			resp, err := cache.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			if b, _ := io.ReadAll(resp.Body); string(b) != c.body {
				t.Errorf("%v: %d bytes of %d", c.lines, len(b), len(c.body))
			}
			resp.Body.Close()
		}
	}
}
