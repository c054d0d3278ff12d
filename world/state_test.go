package world

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/bus"
)

// stateLab is a world whose service passes requests on to the state API.
type stateLab struct{ *lab }

func newStateLab(t *testing.T) stateLab {
	l := stateLab{newLabOf(t, Config{DeclarePace: 100 * time.Millisecond}, func(v *wedge.Version) {
		v.Backends = []wedge.Backend{{Name: "state", URL: parsed(t, "http://state.wedge.internal")}}
		v.KVStores = map[string][]wedge.KVSeed{"book": {{Key: "seed", Value: []byte("planted")}}, "own": nil, "agreed": nil}
		v.Stores = map[string]wedge.Store{"own": {Scope: wedge.ScopeLocal}, "agreed": {Scope: wedge.ScopeCore}}
	})}
	l.ready()
	return l
}

// ready returns once the PoPs change what is shared: they have been new, and are not any more if they are cut off now.
func (l stateLab) ready() {
	l.t.Helper()
	for _, pop := range []string{"lhr", "nyc", "nrt"} {
		l.becomes(pop+" takes writes", 10*time.Second, func() bool {
			status, _, _ := l.ask("PUT", pop, "/book/ready-"+pop, "")
			return status == http.StatusNoContent
		})
	}
}

// ask sends a request to a PoP and returns the status, the body and the fields.
func (l stateLab) ask(method, pop, path, body string, lines ...string) (int, string, http.Header) {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.t.Context(), method, l.url(pop)+path, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	req.Host = "shop.example"
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func (l stateLab) has(path, want string, pops ...string) func() bool {
	return func() bool {
		for _, pop := range pops {
			if _, got, _ := l.ask("GET", pop, path, ""); got != want {
				return false
			}
		}
		return true
	}
}

// TestState: what one PoP writes is at the others soon, what both sides of a cut wrote is there once it has healed, and a
// read that asks for more than a PoP has gets an error and not less.
func TestState(t *testing.T) {
	l := newStateLab(t)
	every := []string{"lhr", "nyc", "nrt"}
	write := func(method, pop, path, body string) (token string) {
		t.Helper()
		status, answer, h := l.ask(method, pop, path, body)
		if status/100 != 2 {
			t.Fatalf("%s %s at %s: %d %s", method, path, pop, status, answer)
		}
		return h.Get("Wedge-State-Token")
	}
	l.becomes("nrt is up to date", 5*time.Second, func() bool {
		_, _, h := l.ask("GET", "nrt", "/book/seed", "")
		return strings.Contains(h.Get("Wedge-State"), "age=")
	})
	token := write("PUT", "lhr", "/book/a", "from london")
	if status, got, h := l.ask("GET", "nrt", "/book/a", "", "Wedge-At-Least: "+token); status != 200 || got != "from london" {
		t.Errorf("at least what London wrote: %d %s", status, got)
	} else if s := h.Get("Wedge-State"); !strings.HasPrefix(s, `merge; pop="nrt"; from="lhr"; age=0.`) {
		t.Errorf("Wedge-State: %s", s)
	}
	write("PUT", "lhr", "/own/a", "london's own")
	if status, got, _ := l.ask("GET", "nyc", "/own/a", ""); status != 404 {
		t.Errorf("a store of its own: %d %s", status, got)
	}
	for i, pop := range every {
		write("POST", pop, "/book/visits?kind=counter", fmt.Sprintf(`{"op":"add","by":%d}`, i+1))
	}
	l.becomes("all have counted six", 5*time.Second, l.has("/book/visits", "6", every...))

	if err := l.Cut("nrt"); err != nil {
		t.Fatal(err)
	}
	write("PUT", "nrt", "/book/b", "while cut off")
	write("POST", "nrt", "/book/visits?kind=counter", `{"op":"add","by":10}`)
	write("DELETE", "lhr", "/book/seed", "")
	write("POST", "nyc", "/book/visits?kind=counter", `{"op":"add","by":100}`)
	token = write("PUT", "nyc", "/book/c", strings.Repeat("long", 1<<18))
	l.becomes("the others agree", 5*time.Second, l.has("/book/visits", "106", "lhr", "nyc"))
	for _, line := range []string{"Wedge-At-Least: " + token, "Wedge-Max-Staleness: 0"} {
		if status, got, _ := l.ask("GET", "nrt", "/book/visits", "", line, "Wedge-Wait: 0.1"); status != http.StatusGatewayTimeout {
			t.Errorf("cut off, %s: %d %s", line, status, got)
		}
	}
	if status, got, _ := l.ask("GET", "nrt", "/book/visits", "", "Wedge-Max-Staleness: 60"); status != 200 || got != "16" {
		t.Errorf("cut off, up to a minute old: %d %s", status, got)
	}
	if err := l.Kill("nrt"); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(t.Context(), "nrt"); err != nil {
		t.Fatal(err)
	}
	if !l.has("/book/b", "while cut off", "nrt")() {
		t.Error("a write was lost by a kill")
	}
	if err := l.Heal("nrt"); err != nil {
		t.Fatal(err)
	}
	l.becomes("all have counted", 10*time.Second, l.has("/book/visits", "116", every...))
	l.becomes("all have what was written while cut off", 10*time.Second, func() bool {
		return l.has("/book/b", "while cut off", every...)() && l.has("/book/c", strings.Repeat("long", 1<<18), every...)()
	})
	for _, pop := range every {
		if status, got, _ := l.ask("GET", pop, "/book/seed", ""); status != 404 {
			t.Errorf("%s has what was deleted: %d %s", pop, status, got)
		}
	}
	if status, got, _ := l.ask("GET", "nrt", "/book/visits", "", "Wedge-Max-Staleness: 0.5"); status != 200 || got != "116" {
		t.Errorf("healed, half a second old at most: %d %s", status, got)
	}
}

// TestForgottenState: what was deleted is forgotten once all PoPs have seen it, and not before: then the key may hold something of another kind.
func TestForgottenState(t *testing.T) {
	l := newStateLab(t)
	every := []string{"lhr", "nyc", "nrt"}
	count := func(pop string) int {
		status, _, _ := l.ask("POST", pop, "/book/k?kind=counter", `{"op":"add"}`)
		return status
	}
	write := func(method, pop, body string) {
		t.Helper()
		if status, answer, _ := l.ask(method, pop, "/book/k", body); status/100 != 2 {
			t.Fatalf("%s at %s: %d %s", method, pop, status, answer)
		}
	}
	write("PUT", "lhr", "text")
	l.becomes("all have the text", 5*time.Second, l.has("/book/k", "text", every...))
	if err := l.Cut("nrt"); err != nil {
		t.Fatal(err)
	}
	write("DELETE", "nyc", "")
	for until := time.Now().Add(2500 * time.Millisecond); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
		if status := count("lhr"); status != http.StatusPreconditionFailed {
			t.Fatalf("a PoP is away that has not seen the deletion, and the key is forgotten: %d", status)
		}
	}
	if err := l.Heal("nrt"); err != nil {
		t.Fatal(err)
	}
	l.becomes("London has forgotten the text", 15*time.Second, func() bool { return count("lhr") == http.StatusOK })
	l.becomes("all have counted", 5*time.Second, l.has("/book/k", "1", every...))
}

// TestAgreedState: of writes with a condition at several PoPs one holds, all PoPs end with it, and a PoP that cannot reach the core
// reads and refuses to write.
func TestAgreedState(t *testing.T) {
	l := newStateLab(t)
	every := []string{"lhr", "nyc", "nrt"}
	l.becomes("the core answers", 5*time.Second, func() bool {
		status, _, _ := l.ask("PUT", "nrt", "/agreed/first", "x")
		return status == 204
	})
	won := make(chan string, 30)
	done := make(chan struct{})
	for i := range 30 {
		go func() {
			defer func() { done <- struct{}{} }()
			name := fmt.Sprint(i)
			if status, _, _ := l.ask("PUT", every[i%3], "/agreed/lock", name, "If-None-Match: *"); status == 204 {
				won <- name
			} else if status != 409 && status != 412 {
				t.Errorf("status %d", status)
			}
		}()
	}
	for range 30 {
		<-done
	}
	if len(won) != 1 {
		t.Fatalf("%d have taken the lock", len(won))
	}
	owner := <-won
	l.becomes("all know who has the lock", 5*time.Second, l.has("/agreed/lock", owner, every...))
	status, _, h := l.ask("GET", "lhr", "/agreed/lock", "")
	if status != 200 || !strings.HasPrefix(h.Get("Wedge-State"), `core; pop="lhr"; age=`) {
		t.Errorf("%d %v", status, h)
	}
	tag := h.Get("Etag")
	status, _, h = l.ask("PUT", "nyc", "/agreed/lock", "next", "If-Match: "+tag)
	if status != 204 {
		t.Fatalf("status %d", status)
	}
	if status, body, _ := l.ask("PUT", "lhr", "/agreed/lock", "late", "If-Match: "+tag); status != 409 && status != 412 {
		t.Errorf("a condition that does not hold any more: %d %s", status, body)
	}
	if _, got, _ := l.ask("GET", "lhr", "/agreed/lock", "", "Wedge-At-Least: "+h.Get("Wedge-State-Token")); got != "next" {
		t.Errorf("at least what New York wrote: %s", got)
	}
	l.becomes("nrt knows the next", 5*time.Second, l.has("/agreed/lock", "next", "nrt"))
	if err := l.Cut("nrt"); err != nil {
		t.Fatal(err)
	}
	if status, body, _ := l.ask("PUT", "nrt", "/agreed/lock", "alone"); status != 503 || !strings.Contains(body, "The core decides about this store") {
		t.Errorf("cut off: %d %s", status, body)
	}
	if status, _, _ := l.ask("DELETE", "lhr", "/agreed/lock", ""); status != 204 {
		t.Errorf("delete: %d", status)
	}
	if status, got, _ := l.ask("GET", "nrt", "/agreed/lock", ""); status != 200 || got != "next" {
		t.Errorf("cut off, a read: %d %s", status, got)
	}
	if err := l.Heal("nrt"); err != nil {
		t.Fatal(err)
	}
	l.becomes("nrt knows that it is gone", 10*time.Second, func() bool { status, _, _ := l.ask("GET", "nrt", "/agreed/lock", ""); return status == 404 })
}

// TestLateState: a PoP that comes back when the log has forgotten what it lacks gets a snapshot, and keeps what it wrote itself.
func TestLateState(t *testing.T) {
	l := newStateLab(t)
	if err := l.Cut("nrt"); err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("large", 1<<17)
	for pop, key := range map[string]string{"lhr": "/book/a", "nyc": "/book/b", "nrt": "/book/c"} {
		if status, body, _ := l.ask("PUT", pop, key, large+pop); status != 204 {
			t.Fatal(status, body)
		}
	}
	if err := l.Kill("nrt"); err != nil {
		t.Fatal(err)
	}
	l.becomes("the others agree", 5*time.Second, func() bool { return l.has("/book/a", large+"lhr", "nyc")() && l.has("/book/b", large+"nyc", "lhr")() })
	log := &bus.Log{Name: "STATE"}
	last, err := l.Core().Link().Head(t.Context(), log)
	if err == nil {
		err = l.Core().Link().Forget(t.Context(), log, last+1)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Start(t.Context(), "nrt"); err != nil {
		t.Fatal(err)
	}
	if err := l.Heal("nrt"); err != nil {
		t.Fatal(err)
	}
	for key, pop := range map[string]string{"/book/a": "lhr", "/book/b": "nyc", "/book/c": "nrt"} {
		l.becomes(key+" is everywhere", 10*time.Second, l.has(key, large+pop, "lhr", "nyc", "nrt"))
	}
}

// TestSetBack: a PoP whose data directory is an older copy takes no writes once it knows, and goes on as another writer after a restart. What it
// wrote before it was set back is everywhere still, there too.
func TestSetBack(t *testing.T) {
	l := newStateLab(t)
	every := []string{"lhr", "nyc", "nrt"}
	add := func(by int) int {
		status, _, _ := l.ask("POST", "nrt", "/book/n?kind=counter", fmt.Sprintf(`{"op":"add","by":%d}`, by))
		return status
	}
	restart := func(between func() error) {
		t.Helper()
		if err := errors.Join(l.Stop("nrt"), between(), l.Start(t.Context(), "nrt")); err != nil {
			t.Fatal(err)
		}
	}
	if add(1) != 200 {
		t.Fatal("no write")
	}
	dir, copied := filepath.Join(l.cfg.Dir, "nrt"), filepath.Join(t.TempDir(), "nrt")
	restart(func() error { return os.CopyFS(copied, os.DirFS(dir)) })
	if add(10) != 200 {
		t.Fatal("no write")
	}
	l.becomes("all have counted", 10*time.Second, l.has("/book/n", "11", every...))
	restart(func() error { return errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(copied))) })
	l.becomes("nrt takes no writes", 10*time.Second, func() bool { return add(1) == 503 })
	restart(func() error { return nil })
	l.becomes("nrt takes writes", 10*time.Second, func() bool { return add(100) == 200 })
	l.becomes("all have counted everything", 10*time.Second, func() bool {
		_, got, _ := l.ask("GET", "nrt", "/book/n", "")
		n, err := strconv.Atoi(got)
		return err == nil && n >= 111 && l.has("/book/n", got, every...)()
	})
}

// TestApologies: of two who wrote at the same time, the PoP of the one whose write is not there any more tells the service, until that
// has taken it. Operators see what was not taken yet; nobody else can say so to the service.
func TestApologies(t *testing.T) {
	told := make(chan string, 10)
	refuse := make(chan bool, 10)
	refuse <- true
	sorry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		select {
		case <-refuse:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
		}
		told <- r.Method + " " + string(b)
	}))
	defer sorry.Close()
	l := stateLab{newLabOf(t, Config{}, func(v *wedge.Version) {
		v.Backends = []wedge.Backend{{Name: "state", URL: parsed(t, "http://state.wedge.internal")}, {Name: "sorry", URL: parsed(t, sorry.URL), AllowPrivateAddr: true}}
		v.Rules = []wedge.Rule{{Backends: []wedge.Share{{Backend: "state"}}}, {Path: "/sorry", Backends: []wedge.Share{{Backend: "sorry"}}}}
		v.KVStores = map[string][]wedge.KVSeed{"book": nil}
		v.Apologies = "/sorry"
	})}
	l.ready()
	core := httptest.NewServer(l.Core())
	defer core.Close()
	client := api.Client{URL: core.URL, Token: l.Core().AdminToken()}
	if err := l.Cut("nrt"); err != nil {
		t.Fatal(err)
	}
	for _, pop := range []string{"lhr", "nrt"} {
		if status, body, _ := l.ask("PUT", pop, "/book/seat", "for "+pop); status != 204 {
			t.Fatal(status, body)
		}
		time.Sleep(2 * time.Millisecond) // the later one is to be nrt's
	}
	if err := l.Heal("nrt"); err != nil {
		t.Fatal(err)
	}
	l.becomes("all are there", 5*time.Second, func() bool { return len(l.Node("lhr").PoPs()) == 3 })
	first := <-told
	list, err := client.State(t.Context(), "shop", api.StateRequest{PoP: api.EveryPoP, Method: "GET", Path: api.ApologiesPath})
	if err != nil || len(list) != 3 {
		t.Fatalf("%v, %v", list, err)
	}
	for _, a := range list {
		if want := a.PoP == "lhr"; strings.Contains(string(a.Body), `"for lhr"`) != want {
			t.Errorf("%s has %s", a.PoP, a.Body)
		}
	}
	if status, _, _ := l.ask("POST", "lhr", "/sorry", "{}"); status != 404 {
		t.Errorf("a client apologises: status %d", status)
	}
	if again := <-told; again != first || !strings.HasPrefix(first, `POST {"service":"shop","store":"book","key":"seat"`) || !strings.Contains(first, `"instead":"for nrt"`) {
		t.Errorf("told %s, then %s", first, again)
	}
	l.becomes("it was taken", 5*time.Second, func() bool {
		list, err := client.State(t.Context(), "shop", api.StateRequest{PoP: "lhr", Method: "GET", Path: api.ApologiesPath})
		return err == nil && len(list) == 1 && string(list[0].Body) == "[]"
	})
	list, err = client.State(t.Context(), "shop", api.StateRequest{PoP: "nyc", Method: "PUT", Path: "/book/seat", Body: []byte("by hand")})
	if err != nil || list[0].Fault() != nil {
		t.Fatalf("%v, %v", list, err)
	}
	l.becomes("what an operator wrote is everywhere", 5*time.Second, l.has("/book/seat", "by hand", "lhr", "nyc", "nrt"))
	if _, err := client.State(t.Context(), "shop", api.StateRequest{PoP: "mars", Method: "GET", Path: "/book"}); wedge.KindOf(err) != wedge.Unavailable {
		t.Errorf("a PoP that is not there: %v", err)
	}
	list, err = client.State(t.Context(), "shop", api.StateRequest{PoP: "nyc", Method: "GET", Path: "/nothing/k"})
	if err != nil || wedge.KindOf(list[0].Fault()) != wedge.NotExist {
		t.Errorf("a store that is not there: %v, %v", list, err)
	}
}

func parsed(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestJurisdiction: what is in a jurisdiction is only at PoPs that carry it, on their disks and on the wire; others reach it there, and say so; with
// none that can be reached there is an error.
func TestJurisdiction(t *testing.T) {
	const marker = "a-canary-that-must-not-travel"
	pops := slices.Clone(Cities)
	pops[0].Jurisdictions, pops[1].Jurisdictions, pops[2].Jurisdictions = []string{"eu"}, []string{"eu", "us"}, []string{"jp"}
	var mu sync.Mutex
	heard := map[string]bool{} // subjects, by PoP
	l := &fleetLab{lab: newLabOf(t, Config{PoPs: pops, Twist: func(pop, subject string, pass func()) {
		mu.Lock()
		heard[pop+" "+subject] = true
		mu.Unlock()
		pass()
	}}, nil)}
	core := httptest.NewServer(l.Core())
	t.Cleanup(core.Close)
	l.client = api.Client{URL: core.URL, Token: l.Core().AdminToken()}
	l.becomes("all are there", 5*time.Second, func() bool { return len(l.Node("lhr").PoPs()) == 3 })
	l.release(l.version(&wedge.Version{Service: "shop", Hosts: []string{"shop.example"}, Backends: []wedge.Backend{{Name: "state", URL: parsed(t, "http://state.wedge.internal")}},
		KVStores: map[string][]wedge.KVSeed{"people": nil, "agreed": nil},
		Stores:   map[string]wedge.Store{"people": {Jurisdiction: "eu"}, "agreed": {Jurisdiction: "eu", Scope: wedge.ScopeCore}}}).Number, 0)
	s := stateLab{l.lab}
	l.becomes("nrt reaches a PoP that carries it", 10*time.Second, func() bool {
		status, _, h := s.ask("PUT", "nrt", "/people/ada", marker)
		return status == 204 && h.Get("Wedge-State-Token") != ""
	})
	l.becomes("the PoPs that carry it have it", 5*time.Second, s.has("/people/ada", marker, "lhr", "nyc"))
	status, body, h := s.ask("GET", "nrt", "/people/ada", "")
	if state := h.Get("Wedge-State"); status != 200 || body != marker || !strings.HasSuffix(state, "; remote") || !strings.Contains(state, `pop="`) {
		t.Errorf("from afar: %d %s %v", status, body, h)
	}
	if status, body, _ := s.ask("PUT", "nrt", "/agreed/ada", marker); status != 204 {
		t.Error(status, body)
	}
	l.becomes("the PoPs that carry it have what the core decided", 5*time.Second, s.has("/agreed/ada", marker, "lhr", "nyc"))
	if err := l.Kill("nrt"); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(filepath.Join(l.cfg.Dir, "nrt"), func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(file)
		if bytes.Contains(b, []byte(marker)) || bytes.Contains(b, []byte(base64.StdEncoding.EncodeToString([]byte(marker)))) {
			t.Errorf("%s has the canary", filepath.Base(file))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	for subject := range heard {
		if strings.HasPrefix(subject, "nrt ") && strings.Contains(subject, "_EU") {
			t.Errorf("heard: %s", subject)
		}
	}
	mu.Unlock()
	if err := l.Start(t.Context(), "nrt"); err != nil {
		t.Fatal(err)
	}
	if err := l.Kill("lhr", "nyc"); err != nil {
		t.Fatal(err)
	}
	l.becomes("nobody can be asked", 10*time.Second, func() bool { status, _, _ := s.ask("GET", "nrt", "/people/ada", ""); return status == 503 })
}

// TestStaleness: a read that may be so old has all that was acknowledged before, also where word of it takes longer.
func TestStaleness(t *testing.T) {
	l := newStateLab(t)
	const late, most = 400 * time.Millisecond, 200 * time.Millisecond
	if err := l.Delay(late, "nrt"); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	acknowledged := []time.Time{} // write n is done at that time
	ctx, stop := context.WithCancel(t.Context())
	var w sync.WaitGroup
	w.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			if status, got, _ := l.ask("PUT", "lhr", "/agreed/n", fmt.Sprint(n)); status != http.StatusNoContent {
				t.Errorf("write %d: %d %s", n, status, got)
			}
			mu.Lock()
			acknowledged = append(acknowledged, time.Now())
			mu.Unlock()
			time.Sleep(10 * time.Millisecond)
		}
	})
	defer w.Wait()
	defer stop()
	answered := 0
	for i := 0; i < 200 && answered < 5; i++ {
		began := time.Now()
		status, got, h := l.ask("GET", "nrt", "/agreed/n", "", fmt.Sprintf("Wedge-Max-Staleness: %.3f", most.Seconds()), "Wedge-Wait: 2")
		if status != 200 {
			continue
		}
		answered++
		n, err := strconv.Atoi(got)
		if err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		if next := n + 1; next < len(acknowledged) && acknowledged[next].Before(began.Add(-most)) {
			t.Errorf("read %d, and %d was acknowledged %v before that was asked for; %s", n, next, began.Sub(acknowledged[next]), h.Get("Wedge-State"))
		}
		mu.Unlock()
		time.Sleep(time.Duration(i*37%300) * time.Millisecond)
	}
	if answered == 0 {
		t.Error("no read was answered")
	}
	t.Log(answered, "reads")
}
