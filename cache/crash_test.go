package cache

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

const childEnv = "WEDGE_CACHE_TEST_CHILD"

// TestMain lets the test binary be the process that TestKill kills.
func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		var w world
		if err := json.Unmarshal([]byte(spec), &w); err != nil {
			panic(err)
		}
		w.run()
	}
	os.Exit(m.Run())
}

const pages, groupsOfPages = 300, 10

// world is an origin whose pages change, and what is known of them: each generation of a page is
// unlike every other, and once its purge is acknowledged no older one may be served.
type world struct {
	Dir   string
	Round int64
	Acked [pages]int64 // the least generation that may be served

	generation [pages]atomic.Int64
	acked      [pages]atomic.Int64
	out        sync.Mutex
}

// pageBody is a page's body: its own number and generation, and as much as its number says.
func pageBody(page int, generation int64) string {
	size := []int{0, 100, 3000, 30_000, blockSize, 200_000}[page%6]
	line := fmt.Sprintf("page %d generation %d\n", page, generation)
	return strings.Repeat(line, 1+size/len(line))
}

// generationOf returns the generation of a body, which must be whole and as it was.
func generationOf(page int, body string) (int64, error) {
	line, _, _ := strings.Cut(body, "\n")
	n, err := strconv.ParseInt(line[strings.LastIndex(line, " ")+1:], 10, 64)
	if err != nil || body != pageBody(page, n) {
		return 0, fmt.Errorf("page %d has %d bytes, %.40q", page, len(body), body)
	}
	return n, nil
}

func pageURL(page int) string { return fmt.Sprint("http://shop.example/", page) }

func (w *world) answer(_ int64, req *http.Request) (*http.Response, error) {
	page, err := strconv.Atoi(strings.TrimPrefix(req.URL.Path, "/"))
	if err != nil {
		return nil, err
	}
	n := w.generation[page].Load()
	if req.Method != http.MethodGet {
		return answer(200, ""), nil
	}
	age := []int{1, 3600}[rand.IntN(2)]
	etag := fmt.Sprintf("Etag: \"%d\"", n)
	if strings.Contains(req.Header.Get("If-None-Match"), etag[6:]) {
		return answer(304, "", etag, fmt.Sprint("Cache-Control: max-age=", age)), nil
	}
	return answer(200, pageBody(page, n), etag, fmt.Sprint("Cache-Control: max-age=", age), fmt.Sprint("Surrogate-Key: g", page%groupsOfPages)), nil
}

// run stores and purges until it is killed. It prints each page and generation that a purge made the least.
func (w *world) run() {
	journalSlack = 8 << 10
	c := newLab(&farOrigin{answer: w.answer}, Config{Memory: 4 << 20, Dir: w.Dir, Disk: 20 << 20, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	for i := range pages {
		w.generation[i].Store(w.Round * 1_000_000)
		w.acked[i].Store(w.Acked[i])
	}
	for range 6 {
		go func() {
			for {
				w.step(c)
			}
		}()
	}
	time.Sleep(time.Minute) // the parent kills long before
	os.Exit(1)
}

func (w *world) step(c *Cache) {
	switch page := rand.IntN(pages); rand.IntN(300) {
	case 0, 1, 2, 3:
		w.purge([]int{page}, func() error { return c.Purge(wedge.Purge{Service: "shop", URL: pageURL(page)}) })
	case 4, 5, 6, 7:
		w.purge([]int{page}, func() error { return do(c, context.Background(), http.MethodPut, pageURL(page)).err })
	case 8:
		var all []int
		for i := page % groupsOfPages; i < pages; i += groupsOfPages {
			all = append(all, i)
		}
		w.purge(all, func() error {
			return c.Purge(wedge.Purge{Service: "shop", Keys: []string{"none", fmt.Sprint("g", page%groupsOfPages)}})
		})
	default:
		least := w.acked[page].Load()
		g := get(c, context.Background(), pageURL(page))
		if err := checkPage(page, least, g); err != nil {
			fmt.Fprintln(os.Stderr, "WRONG:", err, g.header)
			os.Exit(1)
		}
	}
}

func checkPage(page int, least int64, g got) error {
	if g.err != nil {
		return g.err
	}
	n, err := generationOf(page, g.body)
	if err == nil && n < least {
		err = fmt.Errorf("page %d has generation %d, %d was purged", page, n, least)
	}
	return err
}

// purge changes pages, purges them, and then says so.
func (w *world) purge(all []int, purge func() error) {
	now := make([]int64, len(all))
	for i, page := range all {
		now[i] = w.generation[page].Add(1)
	}
	if err := purge(); err != nil {
		fmt.Fprintln(os.Stderr, "WRONG:", err)
		os.Exit(1)
	}
	w.out.Lock()
	defer w.out.Unlock()
	var b bytes.Buffer
	for i, page := range all {
		for old := w.acked[page].Load(); old < now[i] && !w.acked[page].CompareAndSwap(old, now[i]); old = w.acked[page].Load() {
		}
		fmt.Fprintln(&b, page, now[i])
	}
	os.Stdout.Write(b.Bytes())
}

// live runs a child for a while, kills it and takes in what it acknowledged.
func (w *world) live(t *testing.T, d time.Duration) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	spec, _ := json.Marshal(w)
	child := exec.Command(exe)
	child.Env = append(os.Environ(), childEnv+"="+string(spec))
	var stderr bytes.Buffer
	child.Stderr = &stderr
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	killed := time.AfterFunc(d, func() { _ = child.Process.Kill() })
	defer killed.Stop()
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		var page int
		var n int64
		if _, err := fmt.Sscan(lines.Text(), &page, &n); err == nil && strings.Count(lines.Text(), " ") == 1 {
			w.Acked[page] = max(w.Acked[page], n)
		}
	}
	_ = child.Wait()
	if stderr.Len() > 0 {
		t.Errorf("round %d: %s", w.Round, stderr.String())
	}
}

var errAway = errors.New("the origin is away")

// check asks for every page from what is on disk alone, and returns how many were there.
func (w *world) check(t *testing.T, c *Cache) (hits int) {
	t.Helper()
	for page := range pages {
		g := get(c, context.Background(), pageURL(page))
		if errors.Is(g.err, errAway) {
			continue
		}
		hits++
		if err := checkPage(page, w.Acked[page], g); err != nil {
			t.Errorf("round %d: %v", w.Round, err)
		}
	}
	return hits
}

func away() *farOrigin {
	return &farOrigin{answer: func(int64, *http.Request) (*http.Response, error) { return nil, errAway }}
}

// TestKill: whatever moment a cache is killed at, nothing purged and nothing altered is served after it.
func TestKill(t *testing.T) {
	rounds := 6
	if n, err := strconv.Atoi(os.Getenv("WEDGE_KILL_ROUNDS")); err == nil {
		rounds = n
	}
	w := &world{Dir: t.TempDir()}
	hits := 0
	for w.Round = range int64(rounds) {
		w.live(t, 100*time.Millisecond+time.Duration(rand.IntN(400))*time.Millisecond)
		c := newLab(away(), Config{Dir: w.Dir, Disk: 20 << 20, Log: slog.New(slog.DiscardHandler)})
		hits += w.check(t, c)
		wantNoErrors(t, c)
		if w.Round%2 == 0 {
			_ = c.Close()
		} else {
			c.disk.forgetAll() // as if it were killed too
		}
		if t.Failed() {
			t.Fatal("stopped")
		}
	}
	if hits < rounds*pages/4 {
		t.Errorf("%d pages were there after %d restarts", hits, rounds)
	}
	t.Logf("%d pages were there after %d restarts", hits, rounds)
}

// damaged returns a copy of files with something wrong in one of them.
func damaged(t *testing.T, rng *rand.Rand, from string) (dir, what string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	name := dir + "/" + files[rng.IntN(len(files))].Name()
	b, err := os.ReadFile(name)
	if err != nil || len(b) == 0 {
		t.Fatal(name, err)
	}
	at := rng.IntN(len(b))
	switch what = []string{"flip", "zero", "cut", "repeat", "remove"}[rng.IntN(5)]; what {
	case "flip":
		for range 1 + rng.IntN(8) {
			b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		}
	case "zero":
		clear(b[at:min(len(b), at+rng.IntN(8192))])
	case "cut":
		b = b[:at]
	case "repeat":
		copy(b[at:], b[:rng.IntN(len(b))])
	case "remove":
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		return dir, what + " " + name
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, fmt.Sprint(what, " ", name, " at ", at)
}

// TestDamage: of damaged files only whole, right and unpurged objects are served.
func TestDamage(t *testing.T) {
	w := &world{Dir: t.TempDir()}
	w.live(t, 700*time.Millisecond)
	clean := newLab(away(), Config{Dir: w.Dir, Disk: 20 << 20, Log: slog.New(slog.DiscardHandler)})
	whole := w.check(t, clean)
	_ = clean.Close() // now there is a checkpoint to be damaged as well
	h := fnv.New64()
	h.Write([]byte(t.Name()))
	rng := rand.New(rand.NewPCG(h.Sum64(), uint64(time.Now().UnixNano())))
	hits := 0
	times := 20
	if os.Getenv("WEDGE_SOAK") != "" {
		times = 200
	}
	for range times {
		dir, what := damaged(t, rng, w.Dir)
		for range 2 { // what was thrown away does not come back
			c := newLab(away(), Config{Dir: dir, Disk: 20 << 20, Log: slog.New(slog.DiscardHandler)})
			hits += w.checkDamaged(t, c)
			if c.disk.journal == nil {
				t.Error("the tier is off")
			}
			rest(c)
			_ = c.Close()
		}
		if t.Failed() {
			t.Fatal(what)
		}
		_ = os.RemoveAll(dir)
	}
	t.Logf("%d of %d pages were there", hits/2/times, whole)
}

// checkDamaged is check, but a body may break off, for its client sees that.
func (w *world) checkDamaged(t *testing.T, c *Cache) (hits int) {
	t.Helper()
	for page := range pages {
		g := get(c, context.Background(), pageURL(page))
		if errors.Is(g.err, errAway) || errors.Is(g.err, errDamaged) {
			continue
		}
		hits++
		if err := checkPage(page, w.Acked[page], g); err != nil {
			t.Error(err)
		}
	}
	return hits
}
