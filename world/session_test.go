package world

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

// newSessionLab is a world whose service passes requests on to the session API.
func newSessionLab(t *testing.T, cfg Config, keep wedge.Sessions) stateLab {
	l := stateLab{newLabOf(t, cfg, func(v *wedge.Version) {
		u, err := url.Parse("http://session.wedge.internal")
		if err != nil {
			t.Fatal(err)
		}
		v.Backends = []wedge.Backend{{Name: "session", URL: u}}
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

// TestSessionTravels: a session goes where its token goes, and is at one PoP at a time.
func TestSessionTravels(t *testing.T) {
	l := newSessionLab(t, Config{}, wedge.Sessions{})
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

// TestSessionRace: of writes at all PoPs at once, each made with what was read before, none is lost: each holds what the one before it
// left, or is refused.
func TestSessionRace(t *testing.T) {
	l := newSessionLab(t, Config{Flat: true}, wedge.Sessions{})
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
