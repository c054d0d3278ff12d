package cache

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

// hitOnce gets a page and throws the body away.
func hitOnce(b *testing.B, c *Cache, url string) {
	req, _ := http.NewRequestWithContext(wedge.WithCaching(context.Background(), &wedge.Caching{Service: "shop"}), http.MethodGet, url, nil)
	resp, err := c.RoundTrip(req)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		b.Fatal(err)
	}
	resp.Body.Close()
}

// BenchmarkHit compares hits in memory with hits on disk, which memory has forgotten each time.
func BenchmarkHit(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 4 << 20} {
		for _, from := range []string{"memory", "disk"} {
			b.Run(fmt.Sprintf("%s/%dKiB", from, size>>10), func(b *testing.B) {
				body := strings.Repeat("x", size)
				o := &farOrigin{answer: func(int64, *http.Request) (*http.Response, error) {
					return answer(200, body, "Cache-Control: max-age=36000", "Content-Type: text/html"), nil
				}}
				c := newLab(o, Config{Dir: b.TempDir(), Disk: 256 << 20})
				hitOnce(b, c, page)
				rest(c)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if from == "disk" {
						c.evict(c.storage.head)
					}
					hitOnce(b, c, page)
				}
				if n := o.fetches.Load(); n != 1 {
					b.Errorf("%d fetches", n)
				}
				_ = c.Close()
			})
		}
	}
}

// BenchmarkStore is how fast objects go down to disk.
func BenchmarkStore(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			body := strings.Repeat("x", size)
			o := &farOrigin{answer: func(int64, *http.Request) (*http.Response, error) {
				return answer(200, body, "Cache-Control: max-age=36000", "Content-Type: text/html"), nil
			}}
			c := newLab(o, Config{Dir: b.TempDir(), Disk: 512 << 20, Memory: 16 << 20})
			b.SetBytes(int64(size))
			for i := 0; b.Loop(); i++ {
				hitOnce(b, c, fmt.Sprint(page, i))
			}
			b.ReportMetric(float64(c.stats.DiskDropped.Load())/float64(b.N), "dropped/op")
			_ = c.Close()
		})
	}
}

// BenchmarkOpen is how long a start takes with 100,000 objects, and what their index takes.
func BenchmarkOpen(b *testing.B) {
	const objects = 100_000
	o := &farOrigin{answer: func(int64, *http.Request) (*http.Response, error) {
		return answer(200, strings.Repeat("x", 5000), "Cache-Control: max-age=36000", "Content-Type: text/html"), nil
	}}
	dir := b.TempDir()
	open := func() *Cache { return newLab(o, Config{Dir: dir, Disk: 1 << 30}) }
	c := open()
	for i := range objects {
		hitOnce(b, c, fmt.Sprint(page, i))
		if i%200 == 0 {
			c.disk.wait()
		}
	}
	c.disk.wait()
	for _, how := range []string{"crash", "close"} {
		b.Run(how, func(b *testing.B) {
			var took, heap float64
			for range b.N {
				if how == "crash" {
					c.disk.forgetAll()
				} else if err := c.Close(); err != nil {
					b.Fatal(err)
				}
				before := heapNow()
				began := time.Now()
				c = open()
				took += float64(time.Since(began).Milliseconds())
				heap = float64(heapNow() - before)
				if _, n := c.DiskUsed(); n != objects {
					b.Fatalf("%d objects", n)
				}
			}
			b.ReportMetric(took/float64(b.N), "ms/start")
			b.ReportMetric(heap/objects, "index-B/object")
		})
	}
}

func heapNow() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkPurge is what it costs to flush a purge, alone and with many at once.
func BenchmarkPurge(b *testing.B) {
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			c := newLab(&farOrigin{}, Config{Dir: b.TempDir(), Disk: megabytes})
			b.SetParallelism(clients)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if err := c.Purge(wedge.Purge{Service: "shop", Keys: []string{"a"}}); err != nil {
						b.Error(err)
					}
				}
			})
			_ = c.Close()
		})
	}
}
