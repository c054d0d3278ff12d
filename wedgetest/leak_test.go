package wedgetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge/compute"
	w "github.com/wedge-cloud/wedge/internal/wasmtest"
	"github.com/wedge-cloud/wedge/manifest"
	"github.com/wedge-cloud/wedge/node"
)

// A kind is one sort of request of the leak test's mix, and how often it comes.
type kind struct {
	weight int
	name   string
	run    func() error
}

// TestLeak sends all kinds of requests, good and bad, and looks at what the process holds in
// between: after it has warmed up, the curve must be flat.
func TestLeak(t *testing.T) {
	total := 3_000
	if Soak() {
		total = 100_000
	}
	l := newLeakLab(t)
	const rounds = 12
	var samples []sample
	for round := range rounds {
		l.round(total/rounds, uint64(round))
		samples = append(samples, l.sample(t))
		if t.Failed() {
			return
		}
	}
	for i, s := range samples {
		t.Logf("after %6d requests: %v", (i+1)*total/rounds, s)
	}
	t.Logf("by kind: %s", l.counts())
	middle, last := samples[rounds/3:2*rounds/3], samples[2*rounds/3:]
	flat := func(what string, value func(sample) float64, room float64) {
		m, l := mean(middle, value), mean(last, value)
		if l > m+room {
			t.Errorf("%s grew from %.1f in the middle third to %.1f in the last, more than %.1f", what, m, l, room)
		}
	}
	flat("goroutines", func(s sample) float64 { return float64(s.goroutines) }, 8)
	flat("file descriptors", func(s sample) float64 { return float64(s.fds) }, 8)
	flat("mappings", func(s sample) float64 { return float64(s.mappings) }, 64) // sandboxes come and go, and the race detector has its own
	flat("heap, MiB", func(s sample) float64 { return s.heap }, 4+0.03*samples[0].heap)
	if raceDetector {
		return // its shadow memory is no business of ours
	}
	flat("resident, MiB", func(s sample) float64 { return s.rss }, 16+0.08*samples[0].rss)
}

// sample is what the process holds at one moment.
type sample struct {
	goroutines, fds, mappings int
	heap, rss                 float64 // MiB
}

func (s sample) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, %d mappings, heap %.1f MiB, resident %.1f MiB", s.goroutines, s.fds, s.mappings, s.heap, s.rss)
}

func mean(list []sample, value func(sample) float64) (sum float64) {
	for _, s := range list {
		sum += value(s)
	}
	return sum / float64(len(list))
}

// leakLab is what the leak test drives.
type leakLab struct {
	js, goes, c, bad, reloading *Node
	h1, h2                      *http.Client
	kinds                       []kind
	done, took                  map[string]*atomic.Int64 // times, and nanoseconds
	engine                      *compute.Engine
	console                     *Buffer
}

func newLeakLab(t *testing.T) *leakLab {
	console := &Buffer{Max: 64 << 10} // small: what is kept would look like a leak
	quiet := func(c *node.Config) { c.Quiet, c.Stdout, c.Stderr = true, io.Discard, console }
	l := &leakLab{
		js:     Start(t, App{Guest: JSGuest(t, Guest("js")), Manifest: bindings()}, quiet),
		goes:   Start(t, App{Guest: GoGuest(t, Guest("go")), Manifest: bindings()}, quiet),
		c:      Start(t, App{Guest: CGuest(t, Guest("c"))}, quiet),
		bad:    Start(t, App{Guest: badGuest(), Manifest: "[limits]\ncpu = \"20ms\"\nmemory = \"16MiB\"\n"}, quiet),
		h1:     NewClient(),
		h2:     H2C(),
		done:   map[string]*atomic.Int64{},
		took:   map[string]*atomic.Int64{},
		engine: compute.New(compute.Config{}), console: console,
	}
	t.Cleanup(l.engine.Close)
	l.reloading = l.startReloading(t)
	l.kinds = l.mix(t)
	for _, k := range l.kinds {
		l.done[k.name], l.took[k.name] = new(atomic.Int64), new(atomic.Int64)
	}
	return l
}

// badGuest does what its path's second byte says.
func badGuest() []byte {
	m := w.New()
	get := m.Import("fastly_http_req", "body_downstream_get", "i32 i32 -> i32")
	uri := m.Import("fastly_http_req", "uri_get", "i32 i32 i32 i32 -> i32")
	resp := m.Import("fastly_http_resp", "new", "i32 -> i32")
	body := m.Import("fastly_http_body", "new", "i32 -> i32")
	write := m.Import("fastly_http_body", "write", "i32 i32 i32 i32 i32 -> i32")
	send := m.Import("fastly_http_resp", "send_downstream", "i32 i32 i32 -> i32")
	m.Memory(1)
	recurse := m.Declare("i32 -> i32")
	m.Define(recurse, "", w.Get(0), w.I32(1), w.Add, w.Call(recurse), w.I32(1), w.Add)
	is := func(c byte, code ...w.Code) w.Code { return w.Seq(w.Get(0), w.I32(int32(c)), w.Eq, w.If(code...)) }
	// The last byte of the URI chooses.
	m.Main("i32", w.I32(0), w.I32(4), w.Call(get), w.Drop, w.I32(0), w.I32(1000), w.I32(1000), w.I32(8), w.Call(uri), w.Drop,
		w.I32(999), w.I32(8), w.Load(0), w.Add, w.Load8(0), w.Set(0),
		is('l', w.Forever),
		is('r', w.I32(0), w.Call(recurse), w.Drop),
		is('m', w.Loop(w.I32(16), w.MemoryGrow, w.I32(-1), w.Ne, w.BrIf(0)), w.Unreachable),
		is('t', w.Unreachable),
		is('u', w.I32(12), w.Call(resp), w.Drop, w.I32(16), w.Call(body), w.Drop, w.I32(0), w.I32(16), w.Load(0), w.I32(1), w.Call(send), w.Drop,
			w.I32(16), w.Load(0), w.I32(1000), w.I32(5), w.I32(0), w.I32(20), w.Call(write), w.Drop),
		is('h', w.Loop(w.I32(12), w.Call(resp), w.Drop, w.Br(0))),
	)
	return m.Bytes()
}

// startReloading starts a node whose guest changes, whenever its manifest is touched, between two
// programs with different code.
func (l *leakLab) startReloading(t *testing.T) *Node {
	guests := [][]byte{CGuest(t, Guest("c")), badGuest()}
	var turn atomic.Int64
	dir := t.TempDir()
	load := func(context.Context) (*manifest.App, error) {
		return App{Guest: guests[turn.Add(1)%2]}.Load(dir)
	}
	n := Start(t, App{}, func(c *node.Config) { c.Load, c.Watch, c.Quiet, c.Stderr = node.One(load), true, true, io.Discard })
	n.Dir = dir
	return n
}

// mix is all that a node has to bear.
func (l *leakLab) mix(t *testing.T) []kind {
	get := func(n *Node, path string, want int) func() error {
		return func() error { return l.get(l.h1, n, path, want) }
	}
	h2 := func(n *Node, path string, want int) func() error {
		return func() error { return l.get(l.h2, n, path, want) }
	}
	leave := func(c *http.Client, n *Node, path string) func() error {
		return func() error {
			resp, err := c.Get(n.URL + path)
			if err == nil {
				io.ReadFull(resp.Body, make([]byte, 20_000))
				resp.Body.Close()
			}
			return err
		}
	}
	raw := func(n *Node, text string, wait bool) func() error {
		return func() error {
			c, err := net.Dial("tcp", n.Addr)
			if err != nil {
				return err
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(Patience))
			io.WriteString(c, text)
			if wait {
				io.Copy(io.Discard, io.LimitReader(c, 100)) // a reset is as good as an answer
			}
			return nil
		}
	}
	dynamic := func(n *Node, path string) func() error {
		return func() error { return l.get(l.h1, n, path+"?target="+world.origin.Host(), 200) }
	}
	cut := GoGuest(t, Guest("go"))
	return []kind{
		{20, "js hello", get(l.js, "/hello", 200)}, {20, "go hello", get(l.goes, "/hello", 200)}, {8, "cgi", get(l.c, "/vars", 200)},
		{8, "js h2", h2(l.js, "/hello", 200)}, {8, "go h2", h2(l.goes, "/stream", 200)},
		{8, "js proxy", get(l.js, "/proxy", 200)}, {8, "go forward", get(l.goes, "/big?n=100000", 200)}, {4, "go copy", h2(l.goes, "/copy?n=100000", 200)},
		{4, "js transform", get(l.js, "/transform", 200)}, {4, "js upload", get(l.js, "/upload-stream", 200)}, {3, "js kv", get(l.js, "/kv-serve", 200)},
		{3, "go kv", get(l.goes, "/after-exit", 200)}, {2, "js wait until", get(l.js, "/wait-until", 200)}, {3, "go hints", get(l.goes, "/hints", 200)},
		{3, "js hints", h2(l.js, "/hints", 200)}, {2, "dynamic js", dynamic(l.js, "/dynamic")}, {2, "dynamic go", dynamic(l.goes, "/dynamic")},
		{2, "js gzip", get(l.js, "/gzip-out", 200)}, {2, "js timers", get(l.js, "/timers", 200)},
		{3, "echo", func() error {
			resp, err := l.h1.Post(l.js.URL+"/echo", "text/plain", io.LimitReader(zeros{}, 200_000))
			return expect(resp, err, 200)
		}},
		{3, "websocket", l.webSocket},

		{3, "guest loops", get(l.bad, "/l", 500)}, {3, "guest recurses", get(l.bad, "/r", 500)}, {3, "guest grows", get(l.bad, "/m", 500)},
		{4, "guest traps", get(l.bad, "/t", 500)}, {4, "guest leaves its stream", get(l.bad, "/u", 0)}, {2, "guest hoards", get(l.bad, "/h", 500)},
		{2, "guest says nothing", get(l.bad, "/x", 200)}, {3, "go panics", get(l.goes, "/panic", 500)}, {3, "go exits", get(l.goes, "/exit", 500)},
		{2, "js raises", get(l.js, "/raw-error", 500)}, {2, "js stream breaks", get(l.js, "/stream-error", 0)}, {2, "go cuts", h2(l.goes, "/cut", 0)},
		{2, "cgi garbage", get(l.c, "/garbage", 500)}, {2, "cgi aborts", get(l.c, "/half", 0)},

		{2, "origin garbage", get(l.js, "/fail?path=/garbage", 500)}, {2, "origin early", get(l.js, "/fail?path=/early", 500)},
		{2, "origin short", get(l.js, "/fail?path=/short", 0)}, {2, "origin bad chunk", get(l.js, "/fail?path=/bad-chunk", 0)},
		{1, "origin bomb", get(l.js, "/fail?path=/bomb", 500)}, {1, "origin never", get(l.js, "/fail?backend=impatient&path=/never", 500)},
		{1, "origin stalls", get(l.js, "/fail?backend=impatient&path=/stall", 0)}, {1, "refused", get(l.js, "/fail?backend=refused&path=/", 500)},

		{2, "leaves js", leave(l.h1, l.js, "/endless")}, {2, "leaves go", leave(l.h1, l.goes, "/endless")}, {2, "leaves h2", leave(l.h2, l.goes, "/endless")},
		{2, "leaves forward", leave(l.h1, l.goes, "/big?n=1073741824")}, {2, "leaves h2 forward", leave(l.h2, l.js, "/big?n=1073741824")},
		{2, "leaves upload", raw(l.goes, "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\nab", false)},
		{2, "client garbage", raw(l.js, "garbage\r\n\r\n", true)}, {2, "client bomb", raw(l.js, "GET / HTTP/1.1\r\nHost: x\r\nA: "+strings.Repeat("y", 300_000)+"\r\n\r\n", true)},
		{2, "client silent", func() error {
			c, err := net.Dial("tcp", l.js.Addr)
			if err == nil {
				err = c.Close()
			}
			return err
		}},
		{1, "module cut off", func() error {
			if m, err := l.engine.Load(context.Background(), cut[:rand.IntN(len(cut))], compute.Options{Name: "cut"}); err == nil {
				m.Close()
			}
			return nil
		}},
		{1, "reload", func() error {
			now := time.Now()
			err := os.Chtimes(filepath.Join(l.reloading.Dir, "wedge.toml"), now, now)
			for range 5 {
				resp, e := l.h1.Get(l.reloading.URL + "/x")
				if err == nil {
					err = e
				}
				if e == nil {
					resp.Body.Close()
				}
			}
			return err
		}},
	}
}

// get reads a response to its end; status 0: what comes is cut off.
func (l *leakLab) get(c *http.Client, n *Node, path string, want int) error {
	resp, err := c.Get(n.URL + path)
	return expect(resp, err, want)
}

func expect(resp *http.Response, err error, want int) error {
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	switch {
	case want == 0 && err == nil:
		return fmt.Errorf("%d %q looks whole", resp.StatusCode, cutText(string(b)))
	case want != 0 && (err != nil || resp.StatusCode != want):
		return fmt.Errorf("%d %q, %v; want %d", resp.StatusCode, cutText(string(b)), err, want)
	}
	return nil
}

func (l *leakLab) webSocket() error {
	c, err := net.Dial("tcp", l.js.Addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(Patience))
	fmt.Fprintf(c, "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	s := newWebSocket(c)
	head, err := http.ReadResponse(s.r, nil)
	if err != nil || head.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("%v, %v", head, err)
	}
	if err := s.Write(1, []byte("x")); err != nil {
		return err
	}
	if _, data, err := s.Read(); err != nil || string(data) != "X" {
		return fmt.Errorf("echo %q, %v", data, err)
	}
	return nil
}

// round sends n requests from four clients.
func (l *leakLab) round(n int, seed uint64) {
	weights := 0
	for _, k := range l.kinds {
		weights += k.weight
	}
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for worker := range 4 {
		random := rand.New(rand.NewPCG(seed, uint64(worker)))
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				at := random.IntN(weights)
				i := slices.IndexFunc(l.kinds, func(k kind) bool { at -= k.weight; return at < 0 })
				l.one(l.kinds[i])
			}
		})
	}
	wg.Wait()
}

// failures notes what kinds went wrong, once each.
var failures sync.Map

func (l *leakLab) one(k kind) {
	l.done[k.name].Add(1)
	start := time.Now()
	defer func() { l.took[k.name].Add(int64(time.Since(start))) }()
	if err := k.run(); err != nil {
		if _, told := failures.LoadOrStore(k.name, err); !told {
			why := l.console.About(requestID.FindString(err.Error()))
			fmt.Fprintf(os.Stderr, "leak test: %s: %v\n%s\n", k.name, err, cutText(why))
		}
	}
}

// sample lets everything come to rest and counts what is left.
func (l *leakLab) sample(t *testing.T) sample {
	t.Helper()
	failures.Range(func(name, err any) bool {
		t.Errorf("%s: %v", name, err)
		return true
	})
	for _, n := range []*Node{l.js, l.goes, l.c, l.bad} {
		idle(t, n)
	}
	l.h1.CloseIdleConnections()
	l.h2.CloseIdleConnections()
	Eventually(t, "the origin has no request left", func() bool { return world.origin.Waiting.Load() == 0 })
	goroutines := 0
	settled(t, "goroutines", func() int64 { goroutines = runtime.NumGoroutine(); return int64(goroutines) })
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s := sample{goroutines: goroutines, heap: float64(m.HeapAlloc) / (1 << 20)}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		s.fds = len(fds)
	}
	if maps, err := os.ReadFile("/proc/self/maps"); err == nil {
		s.mappings = bytes.Count(maps, []byte("\n"))
	}
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		var size, resident int
		fmt.Sscan(string(statm), &size, &resident)
		s.rss = float64(resident) * float64(os.Getpagesize()) / (1 << 20)
	}
	return s
}

func (l *leakLab) counts() string {
	var list []string
	for _, k := range l.kinds {
		list = append(list, fmt.Sprintf("%s %d (%v)", k.name, l.done[k.name].Load(), (time.Duration(l.took[k.name].Load())/time.Duration(max(1, l.done[k.name].Load()))).Round(100*time.Microsecond)))
	}
	return strings.Join(list, ", ")
}
