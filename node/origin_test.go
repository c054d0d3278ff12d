package node

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

// rawOrigin answers each request with the bytes that answer makes up, and counts connections. With hangUp it
// closes a connection after an answer.
type rawOrigin struct {
	url string
	mu  sync.Mutex
	on  map[string][]int // by target, the connections that requests came on
}

func answerRaw(t *testing.T, hangUp bool, answer func(target string) string) *rawOrigin {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	o := &rawOrigin{url: "http://" + l.Addr().String(), on: map[string][]int{}}
	go func() {
		for n := 1; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for br := bufio.NewReader(c); ; {
					req, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					o.mu.Lock()
					o.on[req.RequestURI] = append(o.on[req.RequestURI], n)
					o.mu.Unlock()
					io.WriteString(c, answer(req.RequestURI))
					if hangUp {
						return
					}
				}
			}()
		}
	}()
	return o
}

// came returns the connections that requests for the target came on.
func (o *rawOrigin) came(target string) []int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.on[target]
}

const okHead = "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\n"

// malformed are responses that another reader might cut elsewhere, or that are not whole.
var malformed = []string{
	okHead + "Content-Length: 2\r\nContent-Length: 4\r\n\r\nevil",
	okHead + "Content-Length: 4, 2\r\n\r\nevil",
	okHead + "Content-Length: +4\r\n\r\nevil",
	okHead + "Content-Length: -4\r\n\r\nevil",
	okHead + "Content-Length: 0x4\r\n\r\nevil",
	okHead + "Content-Length: 99999999999999999999\r\n\r\nevil",
	okHead + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
	okHead + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
	okHead + "transfer-ENCODING: chunked\r\nX: y\r\ncontent-LENGTH: 30\r\n\r\n4\r\nevil\r\n0\r\n\r\n" + okHead + "Content-Length: 4\r\n\r\nevil",
	"HTTP/1.1 103 Early Hints\r\n\r\n" + okHead + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
	okHead + "Transfer-Encoding: chunked, chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
	okHead + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
	okHead + "Transfer-Encoding: xchunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
	okHead + "Transfer-Encoding: chunked\r\n\r\n+4\r\nevil\r\n0\r\n\r\n",
	okHead + "Transfer-Encoding: chunked\r\n\r\n-4\r\nevil\r\n0\r\n\r\n",
	okHead + "Transfer-Encoding: chunked\r\n\r\n0x4\r\nevil\r\n0\r\n\r\n",
	okHead + "Transfer-Encoding: chunked\r\n\r\n4 4\r\nevil\r\n0\r\n\r\n",
	okHead + "Transfer-Encoding: chunked\r\n\r\n10000000000000004\r\nevil\r\n0\r\n\r\n",
	okHead + "Transfer-Encoding: chunked\r\n\r\n4\r\nevil and more\r\n0\r\n\r\n",
	okHead + "Transfer-Encoding: chunked\r\n\r\n4\r\nevil\r\nzz\r\n\r\n",
	okHead + "Transfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n\r\n",
	okHead + "X\x00: y\r\nContent-Length: 4\r\n\r\nevil",
	okHead + "X y: z\r\nContent-Length: 4\r\n\r\nevil",
	okHead + "Content-Length : 4\r\n\r\nevil",
	okHead + "nonsense\r\nContent-Length: 4\r\n\r\nevil",
	"HTTP/1.1 200 OK\r\n" + "\tX: y\r\nCache-Control: max-age=600\r\nContent-Length: 4\r\n\r\nevil",
	"HTTP/2.0 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: 4\r\n\r\nevil",
	"HTTP/1.1 2000 OK\r\nCache-Control: max-age=600\r\nContent-Length: 4\r\n\r\nevil",
}

// cutShort end before their time.
var cutShort = []string{
	okHead + "Content-Length: 10\r\n\r\nevil",
	okHead + "Transfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n",
	okHead + "Transfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n",
	okHead + "Transfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\nX: y\r\n",
	okHead + "Transfer-Encoding: chunked\r\n\r\nf\r\nevil",
	okHead + "Content-Length: 4\r\n",
}

// TestMalformedResponses: of a response that has no one reading a client gets an error or a cut, nothing is
// stored, and the connection serves nobody else.
func TestMalformedResponses(t *testing.T) {
	for _, kind := range []struct {
		hangUp bool
		all    []string
	}{{false, malformed}, {true, cutShort}} {
		o := answerRaw(t, kind.hangUp, func(target string) string {
			i := 0
			fmt.Sscanf(target, "/%d", &i)
			return kind.all[i]
		})
		s := serveCDN(t, o.url, Config{}, wedge.CacheSafe)
		var wg sync.WaitGroup
		for i, response := range kind.all {
			wg.Go(func() {
				target := fmt.Sprint("/", i)
				for n, a := range []answered{s.ask(t, get(target)), s.get2(t, target), s.ask(t, get(target))} {
					if a.whole && a.status < "500" || a.hit() {
						t.Errorf("%q: answer %d is %v", response, n, a)
					}
				}
				if on := o.came(target); len(on) < 3 {
					t.Errorf("%q: the origin is asked %d times", response, len(on))
				}
			})
		}
		wg.Wait()
		served := map[int]bool{}
		for target, on := range o.on {
			for _, c := range on {
				if served[c] {
					t.Errorf("%s came on a connection that had served", target)
				}
				served[c] = true
			}
		}
	}
}

// TestSurplus: what an origin sends behind its response is nobody's answer, and its connection is not used again.
func TestSurplus(t *testing.T) {
	const evil = okHead + "Content-Length: 4\r\n\r\nevil"
	all := []string{
		okHead + "Content-Length: 2\r\n\r\nok" + evil, okHead + "Content-Length: 2\r\n\r\nokevil", okHead + "Content-Length: 2\r\n\r\nok\r\n",
		okHead + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + evil, okHead + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n\r\n",
		"HTTP/1.1 204 No Content\r\nCache-Control: max-age=600\r\n\r\n" + evil, "HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n" + evil, "HTTP/1.1 204 No Content\r\nContent-Length: 100\r\n\r\n" + evil,
	}
	log.SetOutput(io.Discard) // net/http tells of each
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	o := answerRaw(t, false, func(target string) string {
		i := 0
		fmt.Sscanf(target, "/%d", &i)
		return all[i]
	})
	s := serveCDN(t, o.url, Config{}, wedge.CacheSafe)
	for round := range 5 {
		for i, response := range all {
			target := fmt.Sprintf("/%d?%d", i, round)
			for _, raw := range []string{get(target), strings.Replace(get(target+"h"), "GET", "HEAD", 1)} {
				if a := s.ask(t, raw); strings.Contains(a.body, "evil") {
					t.Errorf("%q: got %v", response, a)
				}
			}
		}
	}
	served := map[int]int{}
	for _, on := range o.on {
		for _, c := range on {
			if served[c]++; served[c] > 1 {
				t.Errorf("connection %d served %d times", c, served[c])
			}
		}
	}
}

// TestResponseSplitting: what an origin puts into a field stays in it, or does not come.
func TestResponseSplitting(t *testing.T) {
	const head = okHead + "Content-Length: 2\r\n"
	all := []string{head + "X: a\rSet-Cookie: evil=1\r\n\r\nok", head + "X: a\x00b\r\n\r\nok", head + "X: a\x1bb\r\n\r\nok", head + "X: a\r\n Set-Cookie: evil=1\r\n\r\nok", head + "X: a\r\r\nSet-Cookie2: evil=1\r\n\r\nok"}
	o := answerRaw(t, false, func(target string) string {
		i := 0
		fmt.Sscanf(target, "/%d", &i)
		return all[i]
	})
	s := serveCDN(t, o.url, Config{}, wedge.CacheSafe)
	for i, response := range all {
		target := fmt.Sprint("/", i)
		for range 3 {
			answer := s.talk(t, get(target, "Connection: close"))
			if rest := strings.ReplaceAll(answer, "\r\n", ""); strings.ContainsAny(rest, "\r\x00") || strings.Contains(answer, "\nSet-Cookie") || strings.Contains(answer, "\n Set") {
				t.Errorf("%q: got %q", response, answer)
			}
			if a := s.get2(t, target); a.header["Set-Cookie"] != nil || strings.ContainsAny(a.header.Get("X"), "\r\n\x00") {
				t.Errorf("%q in HTTP/2: got %v", response, a)
			}
		}
		waitForFlights(t, s)
		if answer := s.talk(t, get(target), last); strings.ContainsAny(strings.ReplaceAll(answer, "\r\n", ""), "\r\x00") { // the hit path
			t.Errorf("%q: got %q", response, answer)
		}
	}
}

// TestSetCookie: what is for one client is for none of those who ask at the same time, and not for the next.
func TestSetCookie(t *testing.T) {
	var mu sync.Mutex
	n := 0
	cookies := false
	o := watch(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		n++
		id, set := fmt.Sprint("id=", n), cookies
		mu.Unlock()
		h := w.Header()
		h.Set("Cache-Control", "max-age=600")
		trailer := strings.HasPrefix(r.URL.Path, "/trailer")
		if r.Header.Get("If-None-Match") != "" || r.URL.Path == "/first" || r.URL.Path == "/error" {
			time.Sleep(30 * time.Millisecond)
		}
		switch {
		case trailer:
			h.Set("Trailer", "Set-Cookie, X-Sum")
		case r.URL.Path == "/first":
			h.Set("Set-Cookie", id)
		case r.URL.Path == "/error":
			h.Set("Set-Cookie", id)
			w.WriteHeader(500)
			return
		default: // first plainly, then with a cookie in the 304
			h.Set("Etag", `"v"`)
			h.Set("Cache-Control", "max-age=0")
			if r.URL.Path == "/behind" {
				h.Set("Cache-Control", "max-age=0, stale-while-revalidate=600")
			}
			if r.Header.Get("If-None-Match") == "" {
				break
			}
			if set {
				h.Set("Set-Cookie", id)
			}
			if r.URL.Path == "/private" {
				h.Set("Cache-Control", "private")
				h.Set("X-Id", id)
				h.Del("Set-Cookie")
			}
			w.WriteHeader(304)
			return
		}
		io.WriteString(w, "page")
		if trailer {
			h.Set("Set-Cookie", id)
			h.Set("X-Sum", "1")
		}
	})
	s := serveCDN(t, o.URL, Config{}, wedge.CacheSafe)
	for _, target := range []string{"/validated", "/behind", "/private"} {
		s.ask(t, get(target))
	}
	waitForFlights(t, s)
	mu.Lock()
	cookies = true
	mu.Unlock()
	for _, target := range []string{"/first", "/error", "/validated", "/behind", "/private", "/trailer"} {
		ids := make(chan string, 100)
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				var a answered
				if i%2 == 0 {
					a = s.ask(t, get(target))
				} else {
					a = s.get2(t, target)
				}
				if !a.whole {
					t.Errorf("%s: got %v", target, a)
				}
				for _, h := range []http.Header{a.header, a.trailer} {
					if id := h.Get("Set-Cookie") + h.Get("X-Id"); id != "" {
						ids <- id
					}
				}
			})
		}
		wg.Wait()
		for range 3 {
			a := s.ask(t, get(target))
			for _, h := range []http.Header{a.header, a.trailer} {
				if id := h.Get("Set-Cookie") + h.Get("X-Id"); id != "" {
					ids <- id
				}
			}
		}
		close(ids)
		given := map[string]bool{}
		for id := range ids {
			if given[id] {
				t.Errorf("%s: two clients got %s", target, id)
				break
			}
			given[id] = true
		}
		if want := 53; target == "/first" && len(given) != want {
			t.Errorf("%s: %d of %d got cookies", target, len(given), want)
		}
	}
}

// TestVariants: a client cannot make the cache keep more variants of a page than the bound, nor get one that is another's.
func TestVariants(t *testing.T) {
	o := watch(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Vary", map[string]string{"/star": "*", "/stars": "Accept, *", "/cookie": "Cookie", "/x": "X"}[r.URL.Path])
		fmt.Fprint(w, r.Header.Get("Cookie"), r.Header.Get("X"), strings.Repeat(" ", 2000))
	})
	s := serveCDN(t, o.URL, Config{}, wedge.CacheSafe)
	for target, name := range map[string]string{"/x": "X", "/cookie": "Cookie"} {
		_, before := s.cache.Used()
		var all []string
		for i := range 1000 {
			all = append(all, get(target, fmt.Sprint(name, ": ", i)))
		}
		answer := s.talk(t, strings.Join(all, ""), last)
		for i := range 1000 {
			if _, after, ok := strings.Cut(answer, fmt.Sprint("\r\n\r\n", i, " ")); ok {
				answer = after
			} else {
				t.Fatalf("%s: answer %d is not its own: %.300q", target, i, answer)
			}
		}
		waitForFlights(t, s)
		if bytes, objects := s.cache.Used(); objects-before > 64+1 || bytes > 150*4096 {
			t.Errorf("%s: %d objects of %d bytes are kept", target, objects-before, bytes)
		}
		for range 2 {
			if a := s.ask(t, get(target, name+": 999")); a.status != "200" || !strings.HasPrefix(a.body, "999 ") {
				t.Errorf("%s: got %v", target, a)
			}
			if a := s.get2(t, target); a.status != "200" || !strings.HasPrefix(a.body, " ") {
				t.Errorf("%s: got %v", target, a)
			}
		}
	}
	for _, target := range []string{"/star", "/stars"} {
		for range 3 {
			if a := s.ask(t, get(target)); a.hit() || a.status != "200" {
				t.Errorf("%s: got %v", target, a.header)
			}
		}
	}
}

// TestAnswersWhileReading: an origin may answer before it has read all of a request, and gets the rest of it.
func TestAnswersWhileReading(t *testing.T) {
	const half = 100 << 10 // of the body, when the answer begins; net/http would take that much away
	o := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctl := http.NewResponseController(w)
		if err := ctl.EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		_, _ = io.CopyN(w, r.Body, half)
		_ = ctl.Flush()
		_, _ = io.Copy(w, r.Body)
	}))
	defer o.Close()
	s := serveCDN(t, o.URL, Config{}, wedge.CacheSafe)
	for _, length := range []int64{2 * half, -1} {
		rest, more := io.Pipe()
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+s.addr+"/echo", io.MultiReader(strings.NewReader(strings.Repeat("a", half)), rest))
		if err != nil {
			t.Fatal(err)
		}
		req.Host, req.ContentLength = "shop.example", length
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = io.WriteString(more, strings.Repeat("b", half))
			more.Close()
		}()
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || len(b) != 2*half {
			t.Errorf("of a body of length %d: %d bytes, %v", length, len(b), err)
		}
	}
}
