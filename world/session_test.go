package world

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
)

// newSessionLab is a world whose service passes requests on to the session API.
func newSessionLab(t *testing.T, cfg Config, keep wedge.Sessions) stateLab {
	l := stateLab{newLabOf(t, cfg, func(v *wedge.Version) {
		v.Backends = []wedge.Backend{{Name: "session", URL: parsed(t, "http://session.wedge.internal")}}
		v.Sessions = &keep
	})}
	for name := range l.pops {
		l.becomes(name+" knows all", 5*time.Second, func() bool {
			ready := 0
			for _, p := range l.Node(name).PoPs() {
				if p.Ready && p.Signs != "" {
					ready++
				}
			}
			return ready == len(l.pops)
		})
	}
	return l
}

// use does something with a session, and returns its status, what it holds, the token then, and how it was reached.
func (l stateLab) use(method, pop, token, body string) (status int, got, next, how string) {
	l.t.Helper()
	lines := []string{}
	if token != "" {
		lines = append(lines, "Wedge-Session: "+token)
	}
	status, got, h := l.ask(method, pop, "/", body, lines...)
	return status, got, h.Get("Wedge-Session"), h.Get("Wedge-Session-Status")
}

// put writes, and returns the token then.
func (l stateLab) put(pop, token, body string) (next, how string) {
	l.t.Helper()
	status, got, next, how := l.use("PUT", pop, token, body)
	if status != http.StatusNoContent || next == "" {
		l.t.Fatalf("put %q at %s: %d %s", body, pop, status, got)
	}
	return next, how
}

func (l stateLab) metric(pop, name string) int64 { return l.Node(pop).SessionCount(name) }

func (l stateLab) untold(pop string) int64 { return l.Node(pop).UntoldSessions() }

// onDisk reports whether some file of a PoP has a text.
func (l stateLab) onDisk(pop, text string) (there bool) {
	err := filepath.WalkDir(filepath.Join(l.cfg.Dir, pop), func(file string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			b, err := os.ReadFile(file)
			there = there || bytes.Contains(b, []byte(text))
			return err
		}
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return there
}

// TestSessions: a session goes where its token goes, and is at one PoP at a time.
func TestSessions(t *testing.T) {
	t.Parallel()
	l := newSessionLab(t, Config{Flat: true}, wedge.Sessions{})
	l.travels(t)
	l.races(t)
	l.forged(t)
}

func (l stateLab) travels(t *testing.T) {
	token, how := l.put("lhr", "", "begun in london")
	if !strings.HasPrefix(how, "new; epoch=1") {
		t.Errorf("begun: %s", how)
	}
	first := token
	trip := regexp.MustCompile(`^moved; from="(\w+)"; ms=[0-9.]+; epoch=(\d+)$`)
	at := "lhr"
	for i, pop := range []string{"nyc", "nrt", "lhr", "nrt"} {
		want := fmt.Sprintf("written %d", i)
		status, got, next, how := l.use("GET", pop, token, "")
		m := trip.FindStringSubmatch(how)
		if status != 200 || m == nil || m[1] != at || m[2] != fmt.Sprint(i+2) {
			t.Fatalf("at %s: %d %q %s", pop, status, got, how)
		}
		if token, how = l.put(pop, next, want); !strings.HasPrefix(how, "local;") {
			t.Errorf("written where it is: %s", how)
		}
		if status, got, _, how := l.use("GET", pop, token, ""); status != 200 || got != want || !strings.HasPrefix(how, "local;") {
			t.Errorf("at %s: %d %q %s", pop, status, got, how)
		}
		at = pop
	}
	// A put with the newest token moves it at once; one with an earlier token finds it and writes nothing.
	token, _ = l.put("nyc", token, "from new york")
	if status, got, _, _ := l.use("PUT", "lhr", first, "late"); status != http.StatusPreconditionFailed {
		t.Errorf("a replayed token writes: %d %s", status, got)
	}
	if n := l.metric("lhr", `refused_stale`); n != 1 {
		t.Errorf("%d stale writes counted", n)
	}
	if status, got, _, _ := l.use("GET", "nrt", first, ""); status != 200 || got != "from new york" {
		t.Errorf("an earlier token: %d %s", status, got)
	}
	if status, _, _, _ := l.use("DELETE", "nrt", token, ""); status != http.StatusPreconditionFailed {
		t.Errorf("deleted with an earlier token: %d", status)
	}
	_, _, token, _ = l.use("GET", "lhr", token, "")
	if status, got, _, _ := l.use("DELETE", "lhr", token, ""); status != http.StatusNoContent {
		t.Errorf("deleted: %d %s", status, got)
	}
	for _, tok := range []string{token, first} {
		if status, got, _, _ := l.use("GET", "nyc", tok, ""); status != http.StatusNotFound {
			t.Errorf("a deleted session: %d %s", status, got)
		}
	}
}

// races: of writes at all PoPs at once, each made with what was read before, none is lost: each holds what the one before it
// left, or is refused.
func (l stateLab) races(t *testing.T) {
	token, _ := l.put("lhr", "", "0")
	every := []string{"lhr", "nyc", "nrt"}
	var mu sync.Mutex
	written := 0
	var w sync.WaitGroup
	for i := range 6 {
		w.Go(func() {
			pop, own := every[i%3], token
			for range 15 {
				status, got, h := l.ask("GET", pop, "/", "", "Wedge-Session: "+own)
				if status == http.StatusServiceUnavailable {
					continue // it moves all the time
				}
				n := 0
				if _, err := fmt.Sscan(got, &n); status != 200 || err != nil {
					t.Errorf("%s: %d %s", pop, status, got)
					return
				}
				own = h.Get("Wedge-Session")
				status, got, h = l.ask("PUT", pop, "/", fmt.Sprint(n+1), "Wedge-Session: "+own, "If-Match: "+h.Get("Etag"))
				switch status {
				case http.StatusNoContent:
					mu.Lock()
					written++
					mu.Unlock()
					own = h.Get("Wedge-Session")
				case http.StatusPreconditionFailed, http.StatusServiceUnavailable:
				default:
					t.Errorf("%s: %d %s", pop, status, got)
				}
			}
		})
	}
	w.Wait()
	if _, got, _, _ := l.use("GET", "nyc", token, ""); got != fmt.Sprint(written) || written == 0 {
		t.Errorf("%d writes were taken, and the session holds %s", written, got)
	}
	t.Logf("%d of 90 writes", written)
}

// forged: what Wedge has not given out opens nothing.
func (l stateLab) forged(t *testing.T) {
	token, _ := l.put("lhr", "", "mine")
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	at := func(i int, b byte) string {
		c := bytes.Clone(raw)
		c[i] ^= b
		return base64.RawURLEncoding.EncodeToString(c)
	}
	tried := int64(0)
	for what, forged := range map[string]string{"another session": at(3, 1), "another epoch": at(17, 2), "another signature": at(len(raw)-1, 1), "another service": otherService,
		"no signature": token[:40], "no base64": "%" + token, "long": strings.Repeat("A", 4000), "nothing": "x"} {
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			if status, got, _, _ := l.use(method, "nyc", forged, "theirs"); status != http.StatusForbidden || strings.Contains(got, "mine") {
				t.Errorf("%s, %s: %d %s", what, method, status, got)
			}
			tried++
		}
	}
	if n := l.metric("nyc", "refused_forged") + l.metric("nyc", "refused_malformed"); n != tried {
		t.Errorf("%d refused, %d counted", tried, n)
	}
	if status, _, _, _ := l.use("GET", "nyc", "", ""); status != http.StatusNotFound {
		t.Errorf("no token: %d", status)
	}
	if status, got, _, _ := l.use("PUT", "nyc", token, strings.Repeat("x", wedge.MaxSession+1)); status != http.StatusTooManyRequests {
		t.Errorf("too large: %d %s", status, got)
	}
	large := strings.Repeat("x", wedge.MaxSession)
	next, _ := l.put("lhr", token, large)
	if status, got, next, _ := l.use("GET", "nyc", next, ""); status != 200 || got != large {
		t.Errorf("as large as may be: %d, %d bytes", status, len(got))
	} else if _, _, h := l.ask("GET", "nyc", "/", "", "Cookie: a=b; wedge-session="+next); !strings.HasPrefix(h.Get("Set-Cookie"), "wedge-session="+next+"; Path=/; Max-Age=86") {
		t.Errorf("as a cookie: %v", h)
	}
	if err := l.Kill("nyc"); err != nil {
		t.Fatal(err)
	}
	if status, got, h := l.ask("GET", "nrt", "/", "", "Wedge-Session: "+token); status != http.StatusServiceUnavailable || h.Get("Retry-After") == "" {
		t.Errorf("its home is away: %d %s", status, got)
	}
	if err := l.Start(t.Context(), "nyc"); err != nil {
		t.Fatal(err)
	}
	l.becomes("it is there again", 10*time.Second, func() bool { status, got, _, _ := l.use("GET", "nrt", token, ""); return status == 200 && got == large })
}

// otherService is a token of a PoP that nobody knows, for another service.
const otherService = "AQABAgMEBQYHCAkKCwwNDg8BAYCAgIAgA2xocgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// TestSessionStaysInside: a session of a jurisdiction is used from everywhere, and its bytes are on no disk outside.
func TestSessionStaysInside(t *testing.T) {
	t.Parallel()
	l := newSessionLab(t, Config{Flat: true}, wedge.Sessions{Jurisdiction: "uk", Standby: true, Lost: wedge.LostStandby})
	const canary = "a canary that does not leave the country"
	token, how := l.put("nyc", "", canary)
	if !strings.HasPrefix(how, `remote; pop="lhr"; ms=`) || !strings.HasSuffix(how, "; epoch=1") {
		t.Errorf("begun outside: %s", how)
	}
	for pop, want := range map[string]string{"lhr": "local", "nyc": `remote; pop="lhr"`, "nrt": `remote; pop="lhr"`} {
		status, got, next, how := l.use("GET", pop, token, "")
		if status != 200 || got != canary || !strings.HasPrefix(how, want+";") {
			t.Errorf("%s: %d %q %s", pop, status, got, how)
		}
		token, _ = l.put(pop, next, canary)
	}
	if err := l.Cut("lhr"); err != nil {
		t.Fatal(err)
	}
	for token, pop := range map[string]string{token: "nyc", "": "nrt"} {
		if status, got, _, _ := l.use("PUT", pop, token, canary); status != http.StatusServiceUnavailable {
			t.Errorf("its home is cut off: %d %s", status, got)
		}
	}
	if n := l.metric("lhr", "copies") + l.metric("lhr", "given"); n != 0 {
		t.Errorf("it went to others %d times", n)
	}
	if err := l.Kill("lhr", "nyc", "nrt"); err != nil {
		t.Fatal(err)
	}
	for pop, want := range map[string]bool{"lhr": true, "nyc": false, "nrt": false} {
		if l.onDisk(pop, canary) != want {
			t.Errorf("it is on the disk of %s: %v", pop, !want)
		}
	}
}

// TestSessionLost: a session whose home is killed, or cut off, goes on from its copy; what the copy lacks is apologised for, and the old
// home finds that it is one no more.
func TestSessionLost(t *testing.T) {
	t.Parallel()
	l := newSessionLab(t, Config{Flat: true}, wedge.Sessions{Standby: true, Lost: wedge.LostStandby})
	core := httptest.NewServer(l.Core())
	defer core.Close()
	client := api.Client{URL: core.URL, Token: l.Core().AdminToken()}
	sorry := func(pop string) string {
		list, err := client.State(t.Context(), "shop", api.StateRequest{PoP: pop, Method: "GET", Path: api.ApologiesPath})
		if err != nil || len(list) != 1 {
			return fmt.Sprint(err)
		}
		return string(list[0].Body)
	}
	token, _ := l.put("lhr", "", "one")
	l.becomes("nyc has a copy", 5*time.Second, func() bool { return l.metric("lhr", "copies") > 0 && l.untold("lhr") == 0 })
	if err := l.Kill("lhr"); err != nil {
		t.Fatal(err)
	}
	status, got, next, how := l.use("GET", "nrt", token, "")
	if status != 200 || got != "one" || !strings.HasPrefix(how, `standby; from="nyc"; lost="lhr"; ms=`) {
		t.Fatalf("its home was killed: %d %q %s", status, got, how)
	}
	if n := l.metric("nyc", "promoted"); n != 1 {
		t.Errorf("%d promoted", n)
	}
	next, _ = l.put("nrt", next, "two")
	if err := l.Start(t.Context(), "lhr"); err != nil {
		t.Fatal(err)
	}
	l.becomes("lhr has heard", 10*time.Second, func() bool { return l.metric("lhr", "fenced") == 1 })
	if status, got, _, _ := l.use("PUT", "lhr", token, "late"); status != http.StatusPreconditionFailed {
		t.Errorf("an old home takes a write: %d %s", status, got)
	}
	for _, tok := range []string{token, next} {
		if status, got, _, how := l.use("GET", "lhr", tok, ""); status != 200 || got != "two" {
			t.Errorf("back at the old home: %d %q %s", status, got, how)
		}
	}
	if all := sorry("nyc") + sorry("nrt"); all != "[][]" {
		t.Errorf("nothing was lost: %s", all)
	}

	token, _ = l.put("lhr", "", "three")
	l.becomes("there is a copy of it", 5*time.Second, func() bool { return l.untold("lhr") == 0 })
	if err := l.Cut("lhr"); err != nil {
		t.Fatal(err)
	}
	token, _ = l.put("lhr", token, "four, which nobody else has")
	last, _ := l.put("lhr", token, "five")
	status, got, next, how = l.use("GET", "nyc", token, "")
	if status != 200 || got != "three" || !strings.HasPrefix(how, "standby;") {
		t.Fatalf("its home is cut off: %d %q %s", status, got, how)
	}
	if status, _, _, _ := l.use("PUT", "nyc", last, "six"); status != http.StatusPreconditionFailed {
		t.Errorf("a write made on what is lost: %d", status)
	}
	l.put("nyc", next, "six")
	want := `"reason":"rewound"`
	if all := sorry("nyc") + sorry("nrt"); strings.Count(all, want) != 1 || !strings.Contains(all, `"amount":1`) {
		t.Errorf("one known write is lost: %s", all)
	}
	if err := l.Heal("lhr"); err != nil {
		t.Fatal(err)
	}
	l.becomes("lhr has heard of the second", 10*time.Second, func() bool { return l.metric("lhr", "fenced") == 2 })
	l.becomes("lhr is sorry for the write that nobody knew of", 5*time.Second, func() bool { return strings.Contains(sorry("lhr"), want) })
	if status, got, _, how := l.use("GET", "lhr", last, ""); status != 200 || got != "six" {
		t.Errorf("healed: %d %q %s", status, got, how)
	}
}

// TestSessionSoak: clients write from everywhere while PoPs are cut off and killed. What was acknowledged is there in the end, and each
// number was written once.
func TestSessionSoak(t *testing.T) {
	text := os.Getenv("WEDGE_SOAK")
	if text == "" {
		t.Skip("takes longer: set WEDGE_SOAK to how long, such as 1m")
	}
	long, err := time.ParseDuration(text)
	if err != nil {
		long = time.Minute
	}
	l := newSessionLab(t, Config{Flat: true}, wedge.Sessions{})
	token, _ := l.put("lhr", "", "0")
	every := []string{"lhr", "nyc", "nrt"}
	client := http.Client{Timeout: 15 * time.Second}
	use := func(method, pop, token, tag, body string) (int, string, http.Header) {
		req, err := http.NewRequest(method, l.url(pop)+"/", strings.NewReader(body))
		if err != nil {
			return 0, "", nil // it is down
		}
		req.Host = "shop.example"
		req.Header.Set("Wedge-Session", token)
		if tag != "" {
			req.Header.Set("If-Match", tag)
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, "", nil
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			return 0, "", nil
		}
		return resp.StatusCode, string(b), resp.Header
	}
	end := time.Now().Add(long)
	var mu sync.Mutex
	acked, doubt := map[int]int{}, 0
	var w sync.WaitGroup
	for i := range 6 {
		w.Go(func() {
			for time.Now().Before(end) {
				pop := every[rand.IntN(3)]
				status, got, h := use("GET", pop, token, "", "")
				n, err := strconv.Atoi(got)
				if status == 404 || status == 200 && err != nil {
					t.Errorf("%d at %s: %d %s", i, pop, status, got)
				}
				if status != 200 {
					continue
				}
				status, _, _ = use("PUT", pop, h.Get("Wedge-Session"), h.Get("Etag"), strconv.Itoa(n+1))
				mu.Lock()
				if status == 204 {
					acked[n+1]++
				} else if status == 0 || status >= 500 {
					doubt++
				}
				mu.Unlock()
			}
		})
	}
	w.Go(func() {
		for time.Now().Before(end) {
			pop := every[rand.IntN(3)]
			time.Sleep(time.Duration(rand.IntN(1000)) * time.Millisecond)
			switch rand.IntN(4) {
			case 0:
				err = errors.Join(l.Kill(pop), l.Start(t.Context(), pop))
			case 1:
				err = l.Cut(pop)
			default:
				err = l.Heal()
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	w.Wait()
	if err := l.Heal(); err != nil {
		t.Fatal(err)
	}
	var last int
	l.becomes("the session can be read", 20*time.Second, func() bool {
		status, got, _ := use("GET", "nyc", token, "", "")
		last, _ = strconv.Atoi(got)
		return status == 200
	})
	top := 0
	for n, times := range acked {
		if top = max(top, n); times > 1 {
			t.Errorf("%d was written %d times", n, times)
		}
	}
	if top > last || last > len(acked)+doubt {
		t.Errorf("up to %d was acknowledged, in %d writes and %d of which nobody knows; it holds %d", top, len(acked), doubt, last)
	}
	t.Logf("%d writes, and %d of which nobody knows", len(acked), doubt)
}
