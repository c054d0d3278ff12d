package wedgetest

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// idle waits until no guest runs on the node.
func idle(t *testing.T, n *Node) {
	t.Helper()
	Eventually(t, "all guests end", func() bool { return n.Node.Stats().Running.Load() == 0 })
}

// TestForward: a big body passes through in constant memory, back-pressure reaches its origin, and
// the guest that forwarded it has ended long before.
func TestForward(t *testing.T) {
	const size = 256 << 20
	for name, n := range map[string]*Node{"js": jsNode(t), "go": goNode(t)} {
		t.Run(name, func(t *testing.T) {
			idle(t, n)
			sent := world.origin.Sent.Load()
			resp, err := n.Client.Get(fmt.Sprintf("%s/big?n=%d", n.URL, size))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.ContentLength != size {
				t.Errorf("Content-Length is %d", resp.ContentLength)
			}
			idle(t, n)
			// The client takes nothing, so the origin gets rid of what the buffers between them hold.
			settled(t, "bytes sent by the origin", func() int64 { return world.origin.Sent.Load() - sent })
			if held := world.origin.Sent.Load() - sent; held > 32<<20 {
				t.Errorf("the origin could send %d MiB to a client that took none", held>>20)
			}
			before, most := heap(), int64(0)
			got := int64(0)
			for buf := make([]byte, 1<<20); ; {
				k, err := io.ReadFull(resp.Body, buf)
				if got += int64(k); err != nil {
					break
				}
				if got%(32<<20) == 0 {
					most = max(most, heap()-before)
				}
			}
			if got != size || most > 16<<20 {
				t.Errorf("%d bytes came, the heap grew by %d MiB", got, most>>20)
			}
		})
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

// settled waits until value stays the same for a while.
func settled(t *testing.T, what string, value func() int64) {
	t.Helper()
	last, since := value(), time.Now()
	Eventually(t, what+" settle", func() bool {
		if v := value(); v != last {
			last, since = v, time.Now()
		}
		return time.Since(since) > 200*time.Millisecond
	})
}

// TestUploadSoak: an upload goes to the origin without being kept, and through a guest's memory too.
func TestUploadSoak(t *testing.T) {
	size := int64(64 << 20)
	if Soak() {
		size = 1 << 30
	}
	sink := make(chan int64, 1)
	o := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, _ := io.Copy(io.Discard, r.Body)
		sink <- got
		fmt.Fprint(w, got)
	})}
	app := App{Guest: JSGuest(t, Guest("js")), Manifest: strings.Replace(bindings(), world.origin.URL, "http://"+serve(t, &o), 1)}
	n := Start(t, app)
	before := heap()
	r := n.Do(t, "POST", "/echo", io.LimitReader(zeros{}, size))
	r.is(t, 200, fmt.Sprint(size))
	if grown := heap() - before; grown > 32<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	if got := Soon(t, "the origin's count", sink); got != size {
		t.Errorf("the origin got %d bytes of %d", got, size)
	}
}

// TestDuplex: a guest answers while its request is still being sent.
func TestDuplex(t *testing.T) {
	n := goNode(t)
	h2 := H2C()
	defer h2.CloseIdleConnections()
	for name, c := range map[string]*http.Client{"http/1.1": n.Client, "http/2": h2} {
		t.Run(name, func(t *testing.T) {
			pr, pw := io.Pipe()
			req, _ := http.NewRequest(http.MethodPost, n.URL+"/duplex", pr)
			go io.WriteString(pw, "one ")
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			buf := make([]byte, 16)
			for _, word := range []string{"two ", "three", ""} {
				k, err := resp.Body.Read(buf)
				if err != nil || string(buf[:k]) != strings.ToUpper(string(buf[:k])) || k == 0 {
					t.Fatalf("read %q, %v", buf[:k], err)
				}
				if word != "" {
					io.WriteString(pw, word)
				}
			}
			pw.Close()
			if rest, err := io.ReadAll(resp.Body); len(rest) != 0 || err != nil {
				t.Errorf("after the end came %q, %v", rest, err)
			}
		})
	}
}

// TestClientLeaves: a client that goes away mid-stream takes its guest and its fetch with it.
func TestClientLeaves(t *testing.T) {
	js, goes := jsNode(t), goNode(t)
	h2 := H2C()
	defer h2.CloseIdleConnections()
	for _, c := range []struct {
		n    *Node
		path string
		c    *http.Client
	}{
		{js, "/endless", js.Client}, {js, "/big?n=1073741824", js.Client}, {js, "/endless", h2},
		{goes, "/endless", goes.Client}, {goes, "/big?n=1073741824", goes.Client}, {goes, "/copy?n=1073741824", goes.Client}, {goes, "/endless", h2},
	} {
		t.Run(c.path[1:5], func(t *testing.T) {
			resp, err := c.c.Get(c.n.URL + c.path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(resp.Body, make([]byte, 100_000)); err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			idle(t, c.n)
			Eventually(t, "the origin is let go", func() bool { return world.origin.Waiting.Load() == 0 })
			c.n.Get(t, "/hello").is(t, 200, "Hello, edge!\n")
		})
	}
}

// TestUploadAborted: a client that leaves in the middle of its upload.
func TestUploadAborted(t *testing.T) {
	for _, n := range []*Node{jsNode(t), goNode(t)} {
		for range 3 {
			c := Dial(t, n.Addr)
			fmt.Fprintf(c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nonly this")
			time.Sleep(5 * time.Millisecond) // for some to be in the guest
			c.Close()
		}
		idle(t, n)
		n.Get(t, "/hello").is(t, 200, "Hello, edge!\n")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
