package cache

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/wedge-cloud/wedge"
)

// scan asks for so many different pages.
func scan(t testing.TB, c *Cache, n int) {
	t.Helper()
	ctx := wedge.WithCaching(context.Background(), &wedge.Caching{Service: "shop"})
	for range n {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://shop.example/"+strconv.Itoa(rand.Int()), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

// plainOrigin answers with bodies of a size and the fields that most have.
func plainOrigin(size int) roundTripper {
	body := make([]byte, size)
	return func(req *http.Request) (*http.Response, error) {
		return answer(200, string(body), "Cache-Control: public, max-age=3600", "Content-Type: text/html; charset=utf-8",
			"Date: Wed, 25 Nov 2026 08:00:00 GMT", `Etag: "0123456789abcdef"`, "Content-Length: "+strconv.Itoa(size)), nil
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestObjectsAreSmall: what an object takes besides its body and its fields.
func TestObjectsAreSmall(t *testing.T) {
	const n, size = 100_000, 1 << 10
	c := New(Config{Next: plainOrigin(size), Memory: 1 << 30})
	before := heapInUse()
	scan(t, c, n)
	for used := 0; used < n; _, used = c.Used() {
		runtime.Gosched()
	}
	used, _ := c.Used()
	each := (heapInUse() - before) / n
	o := c.storage.head
	fields := int64(len(o.fields.lines))
	t.Logf("%d bytes an object: body %d, fields %d, %d besides; accounted %d", each, size, fields, each-size-fields, used/n)
	if besides := each - size - fields; besides > overhead {
		t.Errorf("an object takes %d bytes besides its body and fields, not %d", besides, overhead)
	}
	runtime.KeepAlive(c)
}

// TestScanSoak asks for far more than there is room for, ten million pages in a soak: memory stays what it is
// said to be.
func TestScanSoak(t *testing.T) {
	memory, n := int64(16<<20), 100_000
	if os.Getenv("WEDGE_SOAK") != "" {
		memory, n = 256<<20, 10_000_000
	}
	defer debug.SetGCPercent(debug.SetGCPercent(50)) // as package node has it for so large a heap
	c := New(Config{Next: plainOrigin(256), Memory: memory})
	before, most := heapInUse(), int64(0)
	for range 10 {
		scan(t, c, n/10)
		most = max(most, heapInUse()-before)
	}
	used, objects := c.Used()
	t.Logf("%d keys: %d objects, accounted for with %d bytes, take %d; %s", n, objects, used, most, peakMemory())
	if most > memory+memory/16+4<<20 {
		t.Errorf("%d bytes live in the heap for a cache of %d", most, memory)
	}
	runtime.KeepAlive(c)
}

// peakMemory returns the most that the process has taken so far, as the system has it.
func peakMemory() string {
	b, _ := os.ReadFile("/proc/self/status") // where there is such a file
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "VmHWM") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}
