package wedgetest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Bounds of a node in the soak, whose cache has 4 MiB of memory and 16 MiB of disk.
const (
	soakMemory   = 4 << 20
	soakDisk     = 16 << 20
	maxResident  = 192 // MiB, at any time
	maxLeftOver  = 12  // descriptors, and goroutines, more than before the first request, when all is quiet
	maxStart     = 10 * time.Second
	maxAnswer    = 15 * time.Second // for a request while the origin does its worst: its own patience, a few times
	soakKey      = "soak-key"
	soakClients  = 12
	soakPurgers  = 2
	soakPipeline = 4
	soakKills    = 3 // in a short soak
)

// soak is a node that is killed again and again, everybody who uses it, and what is known of it.
type soak struct {
	t      *testing.T
	seed   uint64
	clock  atomic.Int64
	pages  []*soakPage
	origin *soakOrigin
	dir    string // of the node's data
	app    string
	ctx    context.Context
	stop   context.CancelFunc
	node   atomic.Pointer[soakNode]
	totals map[string]float64 // of the nodes' metrics
	peak   float64            // MiB resident

	requests, whole, broken, failed, cut, killed, notModified, ranged, private, sliced atomic.Int64
	purges, soft, puts                                                                 atomic.Int64
}

// soakNode is one life of the node.
type soakNode struct {
	cmd       *exec.Cmd
	addr, ops string
	out       *Buffer
	client    *http.Client
	dying     atomic.Bool // what fails from now on has a reason

	idle       usage // before the first request
	goroutines float64
}

// TestCacheSoak: while its origin does its worst, and it is purged and killed and started anew, a node serves
// nothing that was purged before it was asked, nothing broken as whole, and nothing to one client that is for another.
func TestCacheSoak(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no kill -9")
	}
	length, each := 6*time.Second, 64
	if Soak() {
		length, each = 10*time.Minute, 256
		if n, err := strconv.Atoi(os.Getenv("WEDGE_SOAK_MINUTES")); err == nil {
			length = time.Duration(n) * time.Minute
		}
	}
	wedgeBinary(t) // before the clock runs
	s := newSoak(t, each)
	began := time.Now()
	var users sync.WaitGroup
	for i := range soakClients {
		users.Go(func() { s.use(i) })
	}
	users.Go(s.pipeline)
	for i := range soakPurgers {
		users.Go(func() { s.purger(i) })
	}
	users.Go(s.flap)
	users.Go(func() { s.progress(began) })
	lives := s.lives(began, length)
	s.stop()
	users.Wait()
	if !t.Failed() {
		s.end()
	}
	t.Logf("%d lives in %v: %s", lives, time.Since(began).Round(time.Second), s.counts())
}

func newSoak(t *testing.T, each int) *soak {
	s := &soak{t: t, seed: uint64(time.Now().UnixNano()), pages: newSoakPages(each), dir: t.TempDir(), totals: map[string]float64{}}
	if n, err := strconv.ParseUint(os.Getenv("WEDGE_SOAK_SEED"), 10, 64); err == nil {
		s.seed = n
	}
	t.Logf("WEDGE_SOAK_SEED=%d draws the same numbers again; who is first among many is not among them", s.seed)
	s.origin = newSoakOrigin(t, s.seed, s.pages, &s.clock)
	s.ctx, s.stop = context.WithCancel(context.Background())
	t.Cleanup(s.stop)
	s.app = filepath.Dir(file(t, "wedge.toml", fmt.Appendf(nil, `name = "soak"
api_keys = [%q]
[backends.origin]
url = "http://%s"
first_byte_timeout = %q
between_bytes_timeout = %q
`, soakKey, s.origin.addr, 2*soakPatience, soakPatience)))
	return s
}

func (s *soak) rng(stream int) *rand.Rand { return rand.New(rand.NewPCG(s.seed, uint64(1<<40+stream))) }

// fail ends the soak.
func (s *soak) fail(format string, args ...any) {
	if s.ctx.Err() == nil {
		s.t.Errorf(format, args...)
	}
	s.stop()
}

// lives starts and kills nodes until the time is over; the last one is left alive. In a long soak that one lives for
// a third of the time, so that what it leaks can be seen.
func (s *soak) lives(began time.Time, length time.Duration) (lives int) {
	rng := s.rng(0)
	for lives = 1; ; lives++ {
		n := s.start(rng)
		if n == nil {
			return lives
		}
		rest := length - time.Since(began)
		life := length/6 + time.Duration(rng.Int64N(int64(length/12)))
		last := lives > soakKills
		if Soak() { // many are short
			life = min(time.Duration(rng.ExpFloat64()*float64(6*time.Second))+100*time.Millisecond, time.Minute)
			last = rest <= length/3
		}
		if last {
			s.sleep(max(rest, time.Second))
			return lives
		}
		if s.sleep(life); s.ctx.Err() != nil {
			return lives
		}
		s.kill(n, rng)
	}
}

func (s *soak) sleep(d time.Duration) {
	select {
	case <-s.ctx.Done():
	case <-time.After(d):
	}
}

// start begins a node's life and sees to it that it answers.
func (s *soak) start(rng *rand.Rand) *soakNode {
	n := &soakNode{out: &Buffer{Max: 256 << 10}, client: NewClient()}
	n.client.Timeout = maxAnswer
	n.cmd = exec.Command(wedgeBinary(s.t), "run", "--addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0", "--data", s.dir,
		"--cache-memory", "4MiB", "--cache-disk", "16MiB", s.app)
	n.cmd.Stdout, n.cmd.Stderr = n.out, n.out
	began := time.Now()
	if err := n.cmd.Start(); err != nil {
		s.fail("%v", err)
		return nil
	}
	s.t.Cleanup(func() { _ = n.cmd.Process.Kill() })
	find := func(what string) string {
		at := regexp.MustCompile(what + ` http://([0-9.:]+)`)
		for time.Since(began) < maxStart {
			if m := at.FindStringSubmatch(n.out.String()); m != nil {
				return m[1]
			}
			time.Sleep(2 * time.Millisecond)
		}
		return ""
	}
	n.addr, n.ops = find("serving"), find("metrics at")
	if n.addr == "" || n.ops == "" {
		s.fail("a node did not come up within %v:\n%s", maxStart, n.out)
		return nil
	}
	m, err := n.metrics()
	if err != nil {
		s.fail("a node came up and does not answer: %v\n%s", err, n.out)
		return nil
	}
	n.idle, n.goroutines = n.usage(), m["go_goroutines"]
	s.node.Store(n)
	if took := time.Since(began); took > maxStart {
		s.fail("a node took %v to come up", took)
	}
	if rng.IntN(2) == 0 { // what it says at first comes from its disk
		s.origin.down()
		time.AfterFunc(time.Duration(rng.IntN(300))*time.Millisecond, func() { s.originUp() })
	}
	return n
}

// kill ends a life, mostly right after a purge was acknowledged.
func (s *soak) kill(n *soakNode, rng *rand.Rand) {
	s.account(n)
	if rng.IntN(3) > 0 {
		s.purge(n, rng)
	}
	n.dying.Store(true)
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
	s.wrong(n)
	n.client.CloseIdleConnections()
}

// wrong finds what a node said that it must not.
func (s *soak) wrong(n *soakNode) {
	for _, bad := range []string{"panic", "fatal error", "goroutine ", "damaged"} {
		if n.out.Has(bad) {
			s.t.Errorf("a node says %q:\n%s", bad, n.out.About(bad))
			s.stop()
		}
	}
}

// account adds up what a node's metrics say, and looks at what it uses.
func (s *soak) account(n *soakNode) map[string]float64 {
	m, err := n.metrics()
	if err != nil {
		s.fail("metrics: %v", err)
		return nil
	}
	for name, v := range m {
		s.totals[name] += v
	}
	if m["wedge_cache_disk_errors_total"]+m["wedge_front_panics_total"] > 0 || m["wedge_cache_disk_bytes"] > soakDisk {
		s.fail("%v disk errors, %v panics, %v bytes on disk", m["wedge_cache_disk_errors_total"], m["wedge_front_panics_total"], m["wedge_cache_disk_bytes"])
	}
	if m["wedge_cache_memory_bytes"] > soakMemory {
		s.fail("%v bytes in memory", m["wedge_cache_memory_bytes"])
	}
	s.bounded(n.usage())
	return m
}

func (s *soak) bounded(u usage) {
	if s.peak = max(s.peak, u.resident); u.resident > maxResident {
		s.fail("%v: more than %d MiB", u, maxResident)
	}
}

// metrics returns what /metrics says, without what has labels.
func (n *soakNode) metrics() (map[string]float64, error) {
	resp, err := n.client.Get("http://" + n.ops + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	m := map[string]float64{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			m[name] = v
		}
	}
	return m, nil
}

// stacks returns where the node's goroutines are.
func (n *soakNode) stacks() string {
	resp, err := n.client.Get("http://" + n.ops + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

// usage is what a process uses; zero where there is no /proc.
type usage struct {
	resident float64 // MiB
	files    int
}

func (u usage) String() string {
	return fmt.Sprintf("%.0f MiB resident, %d descriptors", u.resident, u.files)
}

func (n *soakNode) usage() (u usage) {
	proc := fmt.Sprint("/proc/", n.cmd.Process.Pid)
	if list, err := os.ReadDir(proc + "/fd"); err == nil {
		u.files = len(list)
	}
	status, _ := os.ReadFile(proc + "/status")
	if _, rest, ok := bytes.Cut(status, []byte("VmRSS:")); ok {
		var kib float64
		_, _ = fmt.Sscan(string(rest), &kib)
		u.resident = kib / 1024
	}
	return u
}

// flap takes the origin away now and then.
func (s *soak) flap() {
	for rng := s.rng(1); s.ctx.Err() == nil; {
		s.sleep(time.Duration(400+rng.IntN(3000)) * time.Millisecond)
		away := time.Duration(20+rng.IntN(300)) * time.Millisecond
		if rng.IntN(3) == 0 {
			s.origin.slam.Store(true)
			s.sleep(away)
			s.origin.slam.Store(false)
			continue
		}
		s.origin.down()
		s.sleep(away)
		s.originUp()
	}
}

func (s *soak) originUp() {
	var err error
	for began := time.Now(); s.ctx.Err() == nil && time.Since(began) < 5*time.Second; time.Sleep(10 * time.Millisecond) {
		if err = s.origin.up(); err == nil {
			return
		}
	}
	s.fail("the origin cannot come back: %v", err)
}

// ask is one request and what must be true of its answer.
type ask struct {
	*http.Request
	page     *soakPage
	user     string
	since    int64    // no older generation may be in the answer
	from, to int      // of the range; to == 0: all of it
	variants []string // that the answer may be
}

func (s *soak) ask(rng *rand.Rand, method, user string) *ask {
	p := s.pages[rng.IntN(len(s.pages))]
	a := &ask{page: p, user: user, since: p.purged.Load(), variants: []string{"-"}}
	a.Request, _ = http.NewRequest(method, "http://"+p.host+p.target, nil)
	lang, device := []string{"de", "en"}[rng.IntN(2)], []string{"tv", "phone"}[rng.IntN(2)]
	a.Header = http.Header{"Cookie": {"user=" + user}, "Accept-Language": {lang}, "User-Agent": {"soak"}}
	switch p.sort {
	case byDevice:
		a.variants = []string{device}
		a.Header.Set("X-Device", device)
	case byLanguage:
		a.variants = []string{lang}
	case byAuth:
		if rng.IntN(2) == 0 {
			a.Header.Set("Authorization", "Basic "+user)
		}
	}
	return a
}

// use is a client.
func (s *soak) use(i int) {
	rng, user, tags := s.rng(100+i), fmt.Sprint("user", i), map[*soakPage]string{}
	for s.ctx.Err() == nil {
		n := s.node.Load()
		if n == nil || n.dying.Load() {
			s.sleep(2 * time.Millisecond)
			continue
		}
		a := s.ask(rng, http.MethodGet, user)
		if rng.IntN(20) == 0 {
			a.Method = http.MethodHead
		}
		if tag := tags[a.page]; tag != "" && rng.IntN(8) == 0 {
			a.Header.Set("If-None-Match", tag)
		}
		if a.Method == http.MethodGet && (rng.IntN(10) == 0 || a.page.size > 1<<20 && rng.IntN(4) > 0) {
			a.from = rng.IntN(a.page.size)
			a.to = a.from + 1 + rng.IntN(a.page.size-a.from)
			a.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", a.from, a.to-1))
			if tag := tags[a.page]; tag != "" && rng.IntN(3) == 0 && a.Header["If-None-Match"] == nil {
				a.Header.Set("If-Range", tag)
			}
		}
		ctx, cancel := context.WithCancel(s.ctx)
		if rng.IntN(15) == 0 { // some do not wait for the end
			time.AfterFunc(time.Duration(rng.IntN(20))*time.Millisecond, cancel)
		}
		a.Close = rng.IntN(25) == 0
		tag := s.get(ctx, n, a, rng.IntN(50) == 0)
		cancel()
		if tag != "" {
			tags[a.page] = tag
		}
	}
}

// get sends a request, looks at what comes, and returns its entity tag.
func (s *soak) get(ctx context.Context, n *soakNode, a *ask, slowly bool) (tag string) {
	req := a.Request.WithContext(ctx)
	req.Host, req.URL.Host = req.URL.Host, n.addr
	s.requests.Add(1)
	resp, err := n.client.Do(req)
	if err != nil {
		s.excuse(ctx, n, a, err, &s.cut)
		return ""
	}
	defer resp.Body.Close()
	var src io.Reader = resp.Body
	if slowly {
		src = slowReader{src}
	}
	body, err := io.ReadAll(src)
	if err != nil {
		s.excuse(ctx, n, a, err, &s.broken)
		return ""
	}
	if err := s.check(a, resp, body); err != nil {
		s.wrongAnswer(a, resp, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Header.Get("Etag")
	}
	return ""
}

func (s *soak) wrongAnswer(a *ask, resp *http.Response, err error) {
	s.fail("%s %s for %s, generation %d at least: %v\n%v\n%d %v", a.Method, a.page.url(), a.user, a.since, err, a.Header, resp.StatusCode, resp.Header)
}

// excuse counts a request that failed, unless it took too long for what goes on.
func (s *soak) excuse(ctx context.Context, n *soakNode, a *ask, err error, count *atomic.Int64) {
	var late net.Error
	switch {
	case n.dying.Load():
		s.killed.Add(1)
	case ctx.Err() != nil:
	case errors.As(err, &late) && late.Timeout():
		s.fail("%s %s: no answer within %v: %v\n%s", a.Method, a.page.url(), maxAnswer, err, n.stacks())
	default:
		if count.Add(1); count == &s.cut {
			s.fail("%s %s: no answer: %v", a.Method, a.page.url(), err)
		}
	}
}

type slowReader struct{ r io.Reader }

func (r slowReader) Read(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	return r.r.Read(p[:min(len(p), 16<<10)])
}

// check reads an answer for what its origin meant by it.
func (s *soak) check(a *ask, resp *http.Response, body []byte) error {
	if strings.HasPrefix(resp.Header.Get("Proxy-Status"), "Wedge; error=") && resp.StatusCode >= 500 {
		s.failed.Add(1)
		time.Sleep(2 * time.Millisecond) // or these would be most
		return nil
	}
	for _, c := range resp.Cookies() {
		if c.Value != a.user {
			return fmt.Errorf("the cookie of %s", c.Value)
		}
	}
	if resp.StatusCode == http.StatusNotModified {
		s.notModified.Add(1)
		return a.notModified()
	}
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && a.to > 0 {
		return nil
	}
	is, err := parseSaid(resp.Header.Get("X-Body"))
	if err != nil {
		return fmt.Errorf("the field X-Body: %w", err)
	}
	if err := a.mayGet(is); err != nil {
		return err
	}
	from, to := 0, is.length
	switch {
	case a.Method == http.MethodHead:
		if resp.ContentLength >= 0 && resp.ContentLength != int64(to) {
			return fmt.Errorf("a length of %d for %v", resp.ContentLength, is)
		}
		to = 0
	case resp.StatusCode == http.StatusPartialContent:
		s.ranged.Add(1)
		from, to = a.from, min(a.to, is.length)
		if got, want := resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/%d", from, to-1, is.length); a.to == 0 || got != want {
			return fmt.Errorf("the range is %q, want %q", got, want)
		}
		if tag := a.Header.Get("If-Range"); tag != "" && tag != is.etag() {
			return fmt.Errorf("a part of %s, wanted one of %s or the whole", is.etag(), tag)
		}
	}
	if len(body) != to-from {
		return fmt.Errorf("%d bytes as if they were all %d of %v", len(body), to-from, is)
	}
	if !bytes.Equal(body, is.body(from, to)) {
		return fmt.Errorf("the body is not all of %v: %s", is, strange(is, body, from, to))
	}
	s.whole.Add(1)
	if is.user != "all" {
		s.private.Add(1)
	}
	if a.page.size > 1<<20 {
		s.sliced.Add(1)
	}
	return nil
}

// mayGet reports why what an answer is of is not for the one who asks.
func (a *ask) mayGet(is said) error {
	switch {
	case is.where != a.page.host+a.page.target:
		return fmt.Errorf("got %v", is)
	case is.user != "all" && is.user != a.user:
		return fmt.Errorf("got what is for another: %v", is)
	case is.generation < a.since:
		return fmt.Errorf("got what was purged: %v", is)
	case !slices.Contains(a.variants, is.variant):
		return fmt.Errorf("got another variant: %v", is)
	}
	return nil
}

// notModified checks that what the client is told to go on using was not purged.
func (a *ask) notModified() error {
	generation, _, _ := strings.Cut(strings.Trim(a.Header.Get("If-None-Match"), `"`), ".")
	if n, err := strconv.ParseInt(generation, 10, 64); err != nil || n < a.since {
		return fmt.Errorf("not modified, for the tag %q", a.Header.Get("If-None-Match"))
	}
	return nil
}

// strange returns the first line that is not as it should be.
func strange(is said, body []byte, from, to int) string {
	want := is.body(from, to)
	at := 0
	for at < len(body) && body[at] == want[at] {
		at++
	}
	line := at - (from+at)%soakLine
	return fmt.Sprintf("at %d: %q", from+at, body[max(0, line):min(len(body), max(0, line)+soakLine)])
}

// pipeline is a client that sends several requests at once over one connection.
func (s *soak) pipeline() {
	rng := s.rng(2)
	for s.ctx.Err() == nil {
		n := s.node.Load()
		if n == nil || n.dying.Load() {
			s.sleep(2 * time.Millisecond)
			continue
		}
		c, err := net.Dial("tcp", n.addr)
		if err != nil {
			s.sleep(2 * time.Millisecond)
			continue
		}
		cut := context.AfterFunc(s.ctx, func() { c.Close() })
		for r := bufio.NewReader(c); s.burst(n, c, r, rng); {
		}
		cut()
		c.Close()
	}
}

// burst sends requests and reads their answers; it reports whether the connection can be used again.
func (s *soak) burst(n *soakNode, c net.Conn, r *bufio.Reader, rng *rand.Rand) bool {
	var out bytes.Buffer
	var asks []*ask
	for range soakPipeline {
		a := s.ask(rng, http.MethodGet, "pipeliner")
		asks = append(asks, a)
		_ = a.Request.Write(&out)
	}
	s.requests.Add(soakPipeline)
	_ = c.SetDeadline(time.Now().Add(soakPipeline * maxAnswer))
	if _, err := c.Write(out.Bytes()); err != nil {
		return false
	}
	for _, a := range asks {
		resp, err := http.ReadResponse(r, a.Request)
		if err != nil {
			s.excuse(s.ctx, n, a, err, &s.cut)
			return false
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			s.excuse(s.ctx, n, a, err, &s.broken)
			return false
		}
		if err := s.check(a, resp, body); err != nil {
			s.wrongAnswer(a, resp, err)
			return false
		}
		if resp.Close {
			return false
		}
	}
	return true
}

// purger purges all the time.
func (s *soak) purger(i int) {
	for rng := s.rng(10 + i); s.ctx.Err() == nil; {
		s.sleep(time.Duration(rng.IntN(40)) * time.Millisecond)
		if n := s.node.Load(); n != nil && !n.dying.Load() {
			s.purge(n, rng)
		}
	}
}

// purge changes pages, purges them, and takes note of it when that is acknowledged.
func (s *soak) purge(n *soakNode, rng *rand.Rand) {
	p := s.pages[rng.IntN(len(s.pages))]
	method, fields, hit := "PURGE", http.Header{"Authorization": {"Bearer " + soakKey}}, func(q *soakPage) bool { return q == p }
	soft := rng.IntN(6) == 0
	switch rng.IntN(40) {
	case 0:
		fields.Set("Wedge-Purge", "all")
		hit = func(*soakPage) bool { return true }
	case 1, 2, 3, 4:
		fields.Set("Surrogate-Key", fmt.Sprintf("none n%d", p.group()))
		hit = func(q *soakPage) bool { return q.group() == p.group() }
	case 5, 6, 7, 8: // what a change by a client invalidates
		method, soft = http.MethodPut, false
	}
	if soft {
		fields.Set("Wedge-Purge", strings.TrimPrefix(fields.Get("Wedge-Purge")+" soft", " "))
	}
	now := s.clock.Add(1)
	for _, q := range s.pages {
		if hit(q) {
			raise(&q.generation, now)
		}
	}
	req, _ := http.NewRequestWithContext(s.ctx, method, "http://"+n.addr+p.target, nil)
	req.Host, req.Header = p.host, fields
	resp, err := n.client.Do(req)
	if err != nil {
		if !n.dying.Load() && method != http.MethodPut {
			s.fail("%s %s: %v", method, p.url(), err)
		}
		return
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	switch {
	case method == http.MethodPut && resp.StatusCode >= 400: // the origin is away
		return
	case resp.StatusCode >= 300:
		s.fail("%s %s: %d %s", method, p.url(), resp.StatusCode, text)
		return
	case soft:
		s.soft.Add(1)
		return
	case method == http.MethodPut:
		s.puts.Add(1)
	}
	s.purges.Add(1)
	for _, q := range s.pages {
		if hit(q) {
			raise(&q.purged, now)
		}
	}
}

// progress tells each minute how it goes.
func (s *soak) progress(began time.Time) {
	for s.ctx.Err() == nil {
		s.sleep(time.Minute)
		if n := s.node.Load(); n != nil && s.ctx.Err() == nil {
			s.t.Logf("%v: %s; %v", time.Since(began).Round(time.Second), s.counts(), n.usage())
		}
	}
}

func (s *soak) counts() string {
	return fmt.Sprintf("%d requests: %d whole (%d private, %d parts, %d of large files), %d not modified, %d broken off, %d cut, %d refused, %d killed; "+
		"%d purges (%d by PUT) and %d soft; the origin was asked %d times and was wrong %d times",
		s.requests.Load(), s.whole.Load(), s.private.Load(), s.ranged.Load(), s.sliced.Load(), s.notModified.Load(), s.broken.Load(), s.cut.Load(),
		s.failed.Load(), s.killed.Load(), s.purges.Load(), s.puts.Load(), s.soft.Load(), s.origin.fetches.Load(), s.origin.faults.Load())
}

// end looks at what is left of a node that has nothing to do any more, and has it end.
func (s *soak) end() {
	n := s.node.Load()
	n.client.CloseIdleConnections()
	s.origin.down()
	var left usage
	var goroutines float64
	for began := time.Now(); time.Since(began) < 15*time.Second; time.Sleep(50 * time.Millisecond) {
		m, err := n.metrics()
		if err != nil {
			s.t.Fatalf("metrics: %v\n%s", err, n.stacks())
		}
		left, goroutines = n.usage(), m["go_goroutines"]
		if left.files <= n.idle.files+maxLeftOver && goroutines <= n.goroutines+maxLeftOver && m["wedge_front_requests_in_flight"] == 0 {
			break
		}
	}
	s.t.Logf("before: %v, %v goroutines; after: %v, %v goroutines; %.0f MiB resident at most", n.idle, n.goroutines, left, goroutines, s.peak)
	if left.files > n.idle.files+maxLeftOver || goroutines > n.goroutines+maxLeftOver {
		s.t.Errorf("a quiet node has %v, %v goroutines; before its first request it had %v, %v\n%s", left, goroutines, n.idle, n.goroutines, n.stacks())
	}
	s.account(n)
	for _, name := range []string{"front_hits", "cache_hits", "cache_stale", "cache_collapsed", "cache_evicted", "cache_disk_hits", "cache_disk_writes", "cache_disk_evicted"} {
		v := s.totals["wedge_"+name+"_total"]
		s.t.Logf("%s: %v", name, v)
		if v == 0 && (Soak() || !strings.HasSuffix(name, "evicted")) { // in seconds there may not be enough for that
			s.t.Errorf("too little happened: no %s", name)
		}
	}
	n.dying.Store(true)
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Error(err)
	}
	if err := n.cmd.Wait(); err != nil {
		s.t.Errorf("the node ended with %v\n%s", err, n.out)
	}
	s.wrong(n)
	s.bytesOnDisk()
}

// bytesOnDisk checks that the directory has no more than it may, but for a journal of purges and a checkpoint.
func (s *soak) bytesOnDisk() {
	var segments int64
	_ = filepath.WalkDir(filepath.Join(s.dir, "cache"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".segment") {
			if info, err := d.Info(); err == nil {
				segments += info.Size()
			}
		}
		return nil
	})
	if segments == 0 || segments > soakDisk {
		s.t.Errorf("%d bytes of segments on disk, want at most %d and some", segments, soakDisk)
	}
}
