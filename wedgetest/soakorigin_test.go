package wedgetest

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// said is what an answer of the soak's origin is: its field X-Body says so, and so does each line of its
// body, with the line's place. So every piece of a body tells where it belongs.
type said struct {
	generation int64
	where      string // host and target
	variant    string // "-": there is one only
	user       string // "all": it is for everybody
	length     int
}

func (s said) String() string {
	return fmt.Sprintf("%d %s %s %s %d", s.generation, s.where, s.variant, s.user, s.length)
}

func parseSaid(text string) (s said, err error) {
	_, err = fmt.Sscan(text, &s.generation, &s.where, &s.variant, &s.user, &s.length)
	return s, err
}

// etag is not the same for any two bodies that are not: strong, as slices and parts need it.
func (s said) etag() string {
	return fmt.Sprintf("\"%d.%s.%s.%d\"", s.generation, s.variant, s.user, s.length)
}

const soakLine = 80

// body returns the body's bytes from one place to another.
func (s said) body(from, to int) []byte {
	first := from - from%soakLine
	tail := " " + s.String()
	tail += strings.Repeat(" ", max(0, soakLine-1-8-len(tail))) + "\n"
	var b bytes.Buffer
	b.Grow(to - first + soakLine)
	for at := first; at < to; at += soakLine {
		place := strconv.Itoa(at)
		b.WriteString("00000000"[:8-len(place)])
		b.WriteString(place)
		b.WriteString(tail)
	}
	return b.Bytes()[from-first : to-first]
}

// Of soakPages pages on each host, every sixteenth is of the same sort.
const (
	byCookie    = iota // private, by the client's cookie
	setsCookie         // sets a cookie, says nothing else about being for one client
	byAuth             // for one client if the request has Authorization
	cookieAside        // for all but for a cookie that it sets
	byDevice           // varies by what the hit path does not know
	byLanguage         // varies by what it knows
	large              // the first of them are kept in slices
	uncached           // no-cache
	absent             // 404
	queried            // its URL has a query
	plainPages
)

const soakSorts = 16

var soakHosts = []string{"shop.example", "blog.example"}

// soakPage is a page of the origin.
type soakPage struct {
	id         int
	host       string
	target     string
	sort       int
	size       int
	generation atomic.Int64 // of what the origin says now
	purged     atomic.Int64 // the least generation that may be served: all before were purged, and that acknowledged
}

func newSoakPages(each int) (pages []*soakPage) {
	for id := range each * len(soakHosts) {
		n := id / len(soakHosts)
		p := &soakPage{id: id, host: soakHosts[id%len(soakHosts)], target: fmt.Sprint("/", n), sort: n % soakSorts}
		p.size = soakLine + []int{0, 700, 3000, 9000, 30_000, 70_000, 150_000}[n%7] + n
		switch {
		case p.sort == large && n < 3*soakSorts:
			p.size = 1_300_000 + 500_000*(n/soakSorts)
		case p.sort == queried:
			p.target += "?a=1&b=%20"
		}
		pages = append(pages, p)
	}
	return pages
}

func (p *soakPage) url() string { return "http://" + p.host + p.target }

// group is a surrogate key of the page's.
func (p *soakPage) group() int { return p.id / len(soakHosts) % 5 }

// soakOrigin is an origin that does what origins should not.
type soakOrigin struct {
	addr  string
	pages []*soakPage
	named map[string]*soakPage
	seed  uint64
	clock *atomic.Int64 // counts everything that happens, so that "before" and "after" can be told

	slam    atomic.Bool // takes connections and closes them
	fetches atomic.Int64
	faults  atomic.Int64

	mu     sync.Mutex
	server *http.Server // nil: it is away
}

func newSoakOrigin(t *testing.T, seed uint64, pages []*soakPage, clock *atomic.Int64) *soakOrigin {
	t.Helper()
	o := &soakOrigin{pages: pages, named: map[string]*soakPage{}, seed: seed, clock: clock}
	for _, p := range pages {
		o.named[p.host+p.target] = p
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 100 { // not a port that a connection might take while the origin is away
		o.addr = fmt.Sprint("127.0.0.1:", 20_000+rng.IntN(10_000))
		if o.up() == nil {
			t.Cleanup(o.down)
			return o
		}
	}
	t.Fatal("no port for the origin")
	return nil
}

// up begins to listen.
func (o *soakOrigin) up() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.server != nil {
		return nil
	}
	l, err := net.Listen("tcp", o.addr)
	if err != nil {
		return err
	}
	o.server = &http.Server{Handler: o, ErrorLog: log.New(io.Discard, "", 0)}
	go o.server.Serve(&slammer{l, &o.slam})
	return nil
}

// down cuts all connections and refuses more.
func (o *soakOrigin) down() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.server != nil {
		o.server.Close()
		o.server = nil
	}
}

// slammer is a listener that closes what it accepts while slam is set.
type slammer struct {
	net.Listener
	slam *atomic.Bool
}

func (l *slammer) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || !l.slam.Load() {
			return c, err
		}
		c.Close()
	}
}

// answering is one answer of the origin on its way.
type answering struct {
	w        http.ResponseWriter
	r        *http.Request
	rng      *rand.Rand
	said     said
	status   int
	from, to int // what of the body is to be sent
	header   http.Header
}

func (o *soakOrigin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := o.named[r.Host+r.URL.RequestURI()]
	if p == nil {
		http.Error(w, "no such page", http.StatusTeapot)
		return
	}
	rng := rand.New(rand.NewPCG(o.seed, uint64(o.fetches.Add(1))))
	if r.Method == http.MethodPut {
		raise(&p.generation, o.clock.Add(1))
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if rng.IntN(40) == 0 || p.size > 1<<20 && rng.IntN(10) == 0 { // it changes by itself, too
		raise(&p.generation, o.clock.Add(1))
	}
	a := &answering{w: w, r: r, rng: rng, status: http.StatusOK, header: w.Header()}
	a.said = said{p.generation.Load(), p.host + p.target, "-", "all", p.size}
	a.pause(15)
	a.describe(p)
	a.said.length -= a.rng.IntN(2) * a.rng.IntN(2) * a.rng.IntN(min(40, a.said.length-soakLine+1)) // of one generation, but not of one length
	a.from, a.to = 0, a.said.length
	a.header.Set("X-Body", a.said.String())
	a.header.Set("Etag", a.said.etag())
	switch {
	case rng.IntN(40) == 0:
		a.status = []int{500, 502, 503}[rng.IntN(3)]
		a.header.Del("Etag")
	case r.Header.Get("If-None-Match") != "" && strings.Contains(r.Header.Get("If-None-Match"), a.said.etag()):
		if rng.IntN(4) == 0 { // as frameworks do
			a.header.Set("Set-Cookie", "id="+userOf(r))
		}
		w.WriteHeader(http.StatusNotModified)
		return
	default:
		a.part(p)
	}
	if a.send() {
		o.faults.Add(1)
	}
}

// describe says for whom the answer is and how long it can be used.
func (a *answering) describe(p *soakPage) {
	me, h := userOf(a.r), a.header
	h.Set("Surrogate-Key", fmt.Sprintf("everything n%d", p.group()))
	control := []string{"max-age=600", "max-age=600", "s-maxage=600", "max-age=3", "max-age=1, stale-while-revalidate=2, stale-if-error=5"}[a.rng.IntN(5)]
	switch p.sort {
	case byCookie:
		a.said.user, control = me, "private, max-age=600"
	case setsCookie:
		a.said.user = me
		h.Set("Set-Cookie", "id="+me)
	case byAuth:
		if name := a.r.Header.Get("Authorization"); name != "" {
			a.said.user, control = strings.TrimPrefix(name, "Basic "), "max-age=600"
		}
	case cookieAside:
		control = "max-age=1, private=\"set-cookie\"" // it is validated all the time
		h.Set("Set-Cookie", "id="+me)
	case byDevice:
		h.Set("Vary", "X-Device")
		a.said.variant = a.r.Header.Get("X-Device")
	case byLanguage:
		h.Set("Vary", "Accept-Language")
		a.said.variant = a.r.Header.Get("Accept-Language")
	case uncached:
		control = "no-cache"
	case absent:
		a.status = http.StatusNotFound
	}
	if p.sort >= cookieAside && a.rng.IntN(25) == 0 { // all of a sudden
		a.said.user, control = me, "private"
	}
	h.Set("Cache-Control", control)
}

func userOf(r *http.Request) string {
	if c, err := r.Cookie("user"); err == nil {
		return c.Value
	}
	return "nobody"
}

// part answers with the range that was asked for, mostly.
func (a *answering) part(p *soakPage) {
	if a.status != http.StatusOK || p.sort != large && a.rng.IntN(4) == 0 {
		return
	}
	a.header.Set("Accept-Ranges", "bytes")
	if tag := a.r.Header.Get("If-Range"); tag != "" && tag != a.said.etag() {
		return
	}
	var from, to int
	if n, _ := fmt.Sscanf(a.r.Header.Get("Range"), "bytes=%d-%d", &from, &to); n != 2 || from > to || from >= a.said.length {
		return
	}
	a.status, a.from, a.to = http.StatusPartialContent, from, min(to+1, a.said.length)
	a.header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", a.from, a.to-1, a.said.length))
}

func (a *answering) pause(ms int) { time.Sleep(time.Duration(a.rng.IntN(ms)) * time.Millisecond) }

// soakPatience is how long the node waits for the origin's next bytes.
const soakPatience = time.Second

// send sends the answer, in one of many ways, and reports whether that went wrong.
func (a *answering) send() (fault bool) {
	body := a.said.body(a.from, a.to)
	cut := a.rng.IntN(len(body))
	switch n := a.rng.IntN(120); {
	case n == 0: // nothing at all
		a.raw(func(c io.Writer) {})
		return true
	case n < 6: // less than it says
		a.raw(func(c io.Writer) {
			a.head(c, "Content-Length", strconv.Itoa(len(body)))
			a.dribble(c, body[:cut])
		})
		return true
	case n < 10: // chunks that do not come to their end
		a.raw(func(c io.Writer) {
			a.head(c, "Transfer-Encoding", "chunked")
			fmt.Fprintf(c, "%x\r\n", len(body))
			a.dribble(c, body[:cut])
		})
		return true
	case n < 14 && len(body) < 32<<10: // more than it says: what follows looks like the next answer, and comes with the body, for later it is one
		a.raw(func(c io.Writer) {
			a.head(c, "Content-Length", strconv.Itoa(len(body)))
			evil := said{1 << 40, "poison", "-", "all", 1000}
			next := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nCache-Control: max-age=600\r\nX-Body: %v\r\nEtag: %s\r\n\r\n%s", evil, evil.etag(), evil.body(0, 1000))
			_, _ = c.Write(append(body, next...))
			time.Sleep(soakPatience / 4)
		})
		return true
	case n < 18: // the end of the connection is the end of the body
		a.raw(func(c io.Writer) {
			a.head(c, "Connection", "close")
			a.dribble(c, body)
		})
		return false
	case n == 18 && a.rng.IntN(4) == 0: // it stops, and holds the connection
		a.raw(func(c io.Writer) {
			a.head(c, "Content-Length", strconv.Itoa(len(body)))
			a.dribble(c, body[:cut])
			time.Sleep(soakPatience * 3 / 2)
		})
		return true
	case n < 90:
		a.header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	a.w.WriteHeader(a.status)
	a.dribble(a.w, body)
	return false
}

// raw has f write to the connection, which ends with it.
func (a *answering) raw(f func(io.Writer)) {
	c, _, err := http.NewResponseController(a.w).Hijack()
	if err != nil {
		return // it is cut already
	}
	f(c)
	c.Close()
}

func (a *answering) head(c io.Writer, name, value string) {
	a.header.Set(name, value)
	if a.header.Get("Date") == "" {
		a.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", a.status, http.StatusText(a.status))
	_ = a.header.Write(&b)
	b.WriteString("\r\n")
	_, _ = c.Write(b.Bytes())
}

// dribble writes b at once or piece by piece.
func (a *answering) dribble(c io.Writer, b []byte) {
	slow := a.rng.IntN(3) == 0
	for len(b) > 0 {
		n := len(b)
		if slow {
			n = min(n, 1+a.rng.IntN(1+len(b)/2+1000))
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
		if b = b[n:]; slow {
			a.pause(8)
		}
	}
}

func raise(v *atomic.Int64, to int64) {
	for old := v.Load(); old < to && !v.CompareAndSwap(old, to); old = v.Load() {
	}
}
