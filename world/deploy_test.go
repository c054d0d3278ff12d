package world

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/bus"
	"github.com/wedge-cloud/wedge/control"
)

// fleetLab is a world whose PoPs run what is deployed.
type fleetLab struct {
	*lab
	client api.Client
}

func newFleetLab(t *testing.T) *fleetLab { return newTwistedFleet(t, nil) }

// newTwistedFleet is one whose PoPs hear what twist passes on.
func newTwistedFleet(t *testing.T, twist func(pop, subject string, pass func())) *fleetLab {
	t.Helper()
	l := &fleetLab{lab: newLabOf(t, Config{Twist: twist}, nil)} // its PoPs serve nothing yet
	server := httptest.NewServer(l.Core())
	t.Cleanup(server.Close)
	l.client = api.Client{URL: server.URL, Token: l.Core().AdminToken()}
	return l
}

// site is a version whose page says so.
func (l *fleetLab) site(text string) *wedge.Version {
	l.t.Helper()
	dir := l.t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return &wedge.Version{Service: "shop", Hosts: []string{"shop.example"}, Backends: []wedge.Backend{{Name: "site", Dir: dir}}}
}

// version makes a version.
func (l *fleetLab) version(v *wedge.Version) control.Version {
	l.t.Helper()
	made, _, _ := l.packed(v)
	return made
}

// packed makes a version, and returns what it is made of.
func (l *fleetLab) packed(v *wedge.Version) (control.Version, *control.Artifact, *control.Chunks) {
	l.t.Helper()
	chunks := control.OpenChunks(l.t.TempDir())
	key, err := l.client.SealingKey(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	a, err := control.Pack(v, &key, chunks.Keep)
	if err != nil {
		l.t.Fatal(err)
	}
	if _, _, err := l.client.Upload(l.t.Context(), a, chunks); err != nil {
		l.t.Fatal(err)
	}
	made, err := l.client.NewVersion(l.t.Context(), v.Service, "", api.NewVersion{Artifact: a})
	if err != nil {
		l.t.Fatal(err)
	}
	return made, a, chunks
}

// release begins a rollout, and waits for its end.
func (l *fleetLab) release(version int, hold time.Duration) control.Release {
	l.t.Helper()
	return l.releaseAs(version, control.Plan{HoldMS: hold.Milliseconds()})
}

func (l *fleetLab) releaseAs(version int, plan control.Plan) control.Release {
	l.t.Helper()
	r, err := l.client.Release(l.t.Context(), "shop", "", api.Pick{Version: version, Plan: plan})
	if err != nil {
		l.t.Fatal(err)
	}
	l.becomes(fmt.Sprintf("version %d released", version), 20*time.Second, func() bool {
		all, err := l.client.Releases(l.t.Context(), "shop")
		if err != nil {
			l.t.Fatal(err)
		}
		r = all[r.ID-1]
		return r.State != control.Running
	})
	return r
}

func (l *fleetLab) all(text string, pops ...string) func() bool {
	return func() bool {
		for _, p := range pops {
			if l.get(p, "/") != text {
				return false
			}
		}
		return true
	}
}

// TestDeploy takes versions to a fleet and back.
func TestDeploy(t *testing.T) {
	l := newFleetLab(t)
	every := []string{"lhr", "nyc", "nrt"}
	l.becomes("all are there", 5*time.Second, func() bool {
		pops, err := l.client.PoPs(t.Context())
		return err == nil && len(pops) == 3
	})
	if v := l.version(l.site("one")); v.Number != 1 {
		t.Fatal(v)
	}
	if r := l.release(1, 0); r.State != control.Done || r.Stages != 2 {
		t.Errorf("%+v", r)
	}
	if !l.all("one", every...)() {
		t.Error("not everybody runs version 1")
	}
	l.version(l.site("two"))
	if r := l.release(2, 200*time.Millisecond); r.State != control.Done {
		t.Errorf("%+v", r)
	}
	if !l.all("two", every...)() {
		t.Error("not everybody runs version 2")
	}

	began := time.Now()
	if _, err := l.client.Rollback(t.Context(), "shop", "", 0); err != nil {
		t.Fatal(err)
	}
	l.becomes("rolled back", 2*time.Second, l.all("one", every...))
	if took := time.Since(began); took > time.Second {
		t.Errorf("a rollback took %v", took)
	}

	// A version that cannot run stops where it was first tried.
	bad := l.site("bad")
	bad.Guest = []byte("\x00asm\x01\x00\x00\x00junk")
	n := l.version(bad).Number
	if r := l.release(n, 0); r.State != control.Aborted || r.Stages != 1 || !strings.Contains(r.Why, "cannot run version 3") {
		t.Errorf("%+v", r)
	}
	l.becomes("all run version 1 still", time.Second, l.all("one", every...))

	// Cut off it runs what it ran; healed what it should.
	if err := l.Cut("nrt"); err != nil {
		t.Fatal(err)
	}
	n = l.version(l.site("four")).Number
	l.becomes("nrt is missed", 10*time.Second, func() bool {
		pops, _ := l.client.PoPs(t.Context())
		return len(pops) == 2
	})
	if r := l.release(n, 0); r.State != control.Done {
		t.Errorf("%+v", r)
	}
	if !l.all("four", "lhr", "nyc")() || !l.all("one", "nrt")() {
		t.Error("not what was released")
	}
	if err := l.Heal("nrt"); err != nil {
		t.Fatal(err)
	}
	l.becomes("nrt healed", 5*time.Second, l.all("four", every...))

	// Without the core a PoP starts with what it has.
	if err := l.Stop("nyc"); err != nil {
		t.Fatal(err)
	}
	if err := l.Cut("nyc"); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(t.Context(), "nyc"); err != nil {
		t.Fatal(err)
	}
	l.becomes("nyc started alone", 5*time.Second, l.all("four", "nyc"))
}

// TestBadVersionStops: a version whose requests fail is taken back by itself.
func TestBadVersionStops(t *testing.T) {
	l := newFleetLab(t)
	l.becomes("all are there", 5*time.Second, func() bool { return len(l.Node("lhr").PoPs()) == 3 })
	l.version(l.site("good"))
	l.release(1, 0)
	var stop atomic.Bool
	var w sync.WaitGroup
	for _, p := range []string{"lhr", "nyc", "nrt"} {
		w.Go(func() {
			for i := 0; !stop.Load(); i++ {
				l.get(p, fmt.Sprintf("/?%d", i))
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	defer w.Wait()
	defer stop.Store(true)
	broken := l.site("")
	broken.Backends = []wedge.Backend{{Name: "site", URL: &url.URL{Scheme: "http", Host: "127.0.0.1:1"}, AllowPrivateAddr: true}}
	time.Sleep(time.Second)
	r := l.release(l.version(broken).Number, 3*time.Second)
	if r.State != control.Aborted || r.Stages != 1 || !strings.Contains(r.Why, "100.0 % of ") || !strings.Contains(r.Why, "of version 1 there it was 0.0 %") {
		t.Errorf("%+v", r)
	}
	t.Log(r.Why)
	l.becomes("all are well", 2*time.Second, l.all("good", "lhr", "nyc", "nrt"))
}

// TestFirstReleaseEnded: there is nothing to go back to, so where it ran nothing does, restarted or not.
func TestFirstReleaseEnded(t *testing.T) {
	l := newFleetLab(t)
	l.becomes("all are there", 5*time.Second, func() bool { return len(l.Node("lhr").PoPs()) == 3 })
	v := l.version(l.site("one"))
	if _, err := l.client.Release(t.Context(), "shop", "", api.Pick{Version: v.Number, Plan: control.Plan{HoldMS: 60_000}}); err != nil {
		t.Fatal(err)
	}
	running := func() (n int) {
		for _, p := range []string{"lhr", "nyc", "nrt"} {
			n += l.Node(p).Services()
		}
		return n
	}
	l.becomes("one runs it", 5*time.Second, func() bool { return running() == 1 })
	if _, err := l.client.Rollback(t.Context(), "shop", "", 0); err != nil {
		t.Fatal(err)
	}
	l.becomes("none runs it", 5*time.Second, func() bool { return running() == 0 })
	if r := l.release(v.Number, 0); r.State != control.Done || running() != 3 {
		t.Errorf("%+v, at %d", r, running())
	}
}

// TestControlRefuses: what makes no sense, or is not allowed, is an error that says so, and changes nothing.
func TestControlRefuses(t *testing.T) {
	l := newFleetLab(t)
	l.version(l.site("one"))
	ctx := t.Context()
	as := func(scopes ...string) api.Client {
		t.Helper()
		name := strings.NewReplacer(":", "-").Replace(strings.Join(scopes, "-"))
		s, err := l.client.NewToken(ctx, api.NewToken{Name: name, Scopes: scopes})
		if err != nil {
			t.Fatal(err)
		}
		return api.Client{URL: l.client.URL, Token: s.Secret}
	}
	reader, other, own := as("read"), as("deploy:other"), as("deploy:shop")
	nobody := api.Client{URL: l.client.URL, Token: "wdg_nobody"}
	pick := api.Pick{Version: 1}
	for name, test := range map[string]struct {
		err  error
		kind wedge.Kind
	}{
		"no token":        {errOf(nobody.Services(ctx)), wedge.Denied},
		"reads":           {errOf(reader.Services(ctx)), wedge.Internal},
		"only reads":      {errOf(reader.Release(ctx, "shop", "", pick)), wedge.Denied},
		"another's":       {errOf(other.Release(ctx, "shop", "", pick)), wedge.Denied},
		"no such service": {errOf(l.client.Release(ctx, "none", "", pick)), wedge.NotExist},
		"no such version": {errOf(l.client.Release(ctx, "shop", "", api.Pick{Version: 9})), wedge.NotExist},
		"nothing before":  {errOf(l.client.Rollback(ctx, "shop", "", 0)), wedge.Conflict},
		"hold":            {errOf(l.client.Release(ctx, "shop", "", api.Pick{Version: 1, Plan: control.Plan{HoldMS: -1}})), wedge.Invalid},
		"bad name":        {errOf(l.client.NewToken(ctx, api.NewToken{Name: "A B", Scopes: []string{"read"}})), wedge.Invalid},
		"bad scope":       {errOf(l.client.NewToken(ctx, api.NewToken{Name: "a", Scopes: []string{"root"}})), wedge.Invalid},
		"token twice":     {errOf(l.client.NewToken(ctx, api.NewToken{Name: "read", Scopes: []string{"read"}})), wedge.Exist},
		"tokens":          {errOf(own.Tokens(ctx)), wedge.Denied},
		"revoke":          {l.client.Revoke(ctx, "none"), wedge.NotExist},
		"chunks":          {errOf(l.client.NewVersion(ctx, "shop", "", api.NewVersion{Artifact: &control.Artifact{Parts: []control.Part{{Name: "version", Size: 1, Chunks: []control.Chunk{{Digest: control.DigestOf([]byte("?")), Size: 1}}}}}})), wedge.Conflict},
		"no artifact":     {errOf(l.client.NewVersion(ctx, "shop", "", api.NewVersion{})), wedge.Invalid},
	} {
		if name == "reads" {
			if test.err != nil {
				t.Errorf("%s: %v", name, test.err)
			}
			continue
		}
		if wedge.KindOf(test.err) != test.kind || test.err == nil {
			t.Errorf("%s: %v (%v)", name, test.err, wedge.KindOf(test.err))
		}
	}
	for path, want := range map[string]int{"/v1/nothing": 404, "/v1/services": 403} {
		resp, err := http.Get(l.client.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	// The same request twice is one decision, and a token that is revoked is of no use.
	a, err := own.Release(ctx, "shop", "once", pick)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := own.Release(ctx, "shop", "once", pick); err != nil || b.ID != a.ID {
		t.Error(b, err)
	}
	if err := l.client.Revoke(ctx, "deploy-shop"); err != nil {
		t.Fatal(err)
	}
	if _, err := own.Services(ctx); wedge.KindOf(err) != wedge.Denied {
		t.Error(err)
	}
	audit, err := l.client.Audit(ctx, 1000)
	if err != nil || audit[len(audit)-1].Kind != control.EventRevoke && audit[len(audit)-2].Kind != control.EventRevoke {
		t.Errorf("%+v %v", audit, err)
	}
}

func errOf[T any](_ T, err error) error { return err }

// TestShares: a version gets a share of clients, who stay with it, and requests that match; it waits where its plan ends, and what it
// does worse is counted against it alone.
func TestShares(t *testing.T) {
	l := newFleetLab(t)
	l.becomes("all are there", 5*time.Second, func() bool {
		pops, err := l.client.PoPs(t.Context())
		return err == nil && len(pops) == 3
	})
	l.version(l.site("one"))
	l.release(1, 0)
	l.version(l.site("two"))
	ask := func(pop string, header ...string) string {
		body, _ := l.do("GET", pop, "/", header...)
		return body
	}
	held := l.releaseAs(2, control.Plan{Match: "cookie:beta=yes"})
	if held.State != control.Holding || len(held.PoPs) != 3 {
		t.Fatalf("%+v", held)
	}
	for _, pop := range []string{"lhr", "nyc", "nrt"} {
		for range 3 { // from the cache, too, which has both
			if got := ask(pop) + " " + ask(pop, "Cookie: a=b; beta=yes") + " " + ask(pop, "Cookie: beta=no"); got != "one two one" {
				t.Fatalf("%s answers %s", pop, got)
			}
		}
	}
	if _, err := l.client.Release(t.Context(), "shop", "", api.Pick{Version: 2}); wedge.KindOf(err) != wedge.Conflict {
		t.Errorf("a second release: %v", err)
	}
	if _, err := l.client.Promote(t.Context(), "shop", ""); err != nil {
		t.Fatal(err)
	}
	l.becomes("promoted", 10*time.Second, l.all("two", "lhr", "nyc", "nrt"))
	l.becomes("done", 10*time.Second, func() bool {
		all, err := l.client.Releases(t.Context(), "shop")
		return err == nil && all[held.ID-1].State == control.Done
	})

	l.version(l.site("three"))
	if r := l.releaseAs(3, control.Plan{Shares: []float64{50}, Where: []string{"pop=nyc", "pop=nrt"}}); r.State != control.Holding || r.Stages != 2 || r.Share != 100 {
		t.Fatalf("%+v", r)
	}
	if got := ask("lhr") + ask("nyc") + ask("nrt"); got != "twothreethree" {
		t.Errorf("they answer %s", got)
	}
	if _, err := l.client.Rollback(t.Context(), "shop", "", 0); err != nil {
		t.Fatal(err)
	}
	l.becomes("rolled back", 10*time.Second, l.all("two", "lhr", "nyc", "nrt"))
	for what, plan := range map[string]control.Plan{
		"falling shares": {Shares: []float64{50, 10}}, "all": {Shares: []float64{100}}, "none": {Shares: []float64{0}},
		"no such PoPs": {Where: []string{"planet=mars"}}, "no such match": {Match: "body:x"}, "no such gate": {Ungated: []string{"luck"}},
		"never": {HoldMS: -1},
	} {
		if _, err := l.client.Release(t.Context(), "shop", "", api.Pick{Version: 3, Plan: plan}); wedge.KindOf(err) != wedge.Invalid || wedge.HintOf(err) == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestShadowNeedsGuest: a version without a guest does nothing that could be compared, which is said at once.
func TestShadowNeedsGuest(t *testing.T) {
	l := newFleetLab(t)
	l.becomes("all are there", 5*time.Second, func() bool { return len(l.Node("lhr").PoPs()) == 3 })
	l.release(l.version(l.site("one")).Number, 0)
	if r := l.releaseAs(l.version(l.site("two")).Number, control.Plan{Shadow: 10}); r.State != control.Aborted || !strings.Contains(r.Why, "a version without a guest does nothing that could be compared") {
		t.Errorf("%s: %s", r.State, r.Why)
	}
	l.becomes("all run version 1", time.Second, l.all("one", "lhr", "nyc", "nrt"))
}

// TestForgotten: of many versions the newest are kept, and what the others were made of is nowhere any more. They cannot be released again;
// those that are kept can.
func TestForgotten(t *testing.T) {
	l := &fleetLab{lab: newLabOf(t, Config{SweepAge: 300 * time.Millisecond}, nil)}
	server := httptest.NewServer(l.Core())
	t.Cleanup(server.Close)
	l.client = api.Client{URL: server.URL, Token: l.Core().AdminToken()}
	every := []string{"lhr", "nyc", "nrt"}
	l.becomes("all are there", 5*time.Second, func() bool { return len(l.Node("lhr").PoPs()) == 3 })
	first, art, _ := l.packed(l.site("text 1"))
	l.release(first.Number, 0)
	own := art.Parts[slices.IndexFunc(art.Parts, func(p control.Part) bool { return p.Name == "files/site/index.html" })].Chunks[0].Digest
	for n := 2; n <= control.KeptVersions+2; n++ {
		l.version(l.site(fmt.Sprint("text ", n)))
	}
	at := func(dir, name string) bool {
		_, err := os.Stat(filepath.Join(l.cfg.Dir, dir, name))
		return err == nil
	}
	chunk := filepath.Join("chunks", string(own[:2]), string(own))
	if !at("nrt", chunk) || !at("nrt", filepath.Join("artifacts", string(first.Digest))) {
		t.Fatal("version 1 runs, and is not there")
	}
	l.release(control.KeptVersions+2, 0)
	if !at("nrt", chunk) {
		t.Error("the version to go back to is gone")
	}
	l.release(control.KeptVersions+1, 0)
	l.version(l.site("another"))
	onShelf := func() (found bool) {
		if err := l.Core().Link().Keys(t.Context(), &bus.Shelf{Name: "CHUNKS"}, func(key string) { found = found || key == string(own) }); err != nil {
			t.Fatal(err)
		}
		return found
	}
	l.becomes("version 1 is nowhere", 10*time.Second, func() bool {
		return !onShelf() && !at("lhr", chunk) && !at("nyc", chunk) && !at("nrt", chunk) && !at("nrt", filepath.Join("artifacts", string(first.Digest)))
	})
	_, err := l.client.Rollback(t.Context(), "shop", "", 1)
	if wedge.KindOf(err) != wedge.NotExist || !strings.Contains(err.Error(), "version 1 was forgotten") {
		t.Errorf("back to what was forgotten: %v", err)
	}
	if _, err := l.client.Rollback(t.Context(), "shop", "", 5); err != nil {
		t.Fatal(err)
	}
	l.becomes("all run version 5, which never ran", 10*time.Second, l.all("text 5", every...))
	list, err := l.client.Versions(t.Context(), "shop")
	if err != nil || len(list) != control.KeptVersions+3 || !list[0].Forgotten || list[4].Forgotten {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestEvents: a message to the control API, or on the bus, purges everywhere what it is about.
func TestEvents(t *testing.T) {
	l := newFleetLab(t)
	l.becomes("all are there", 5*time.Second, func() bool {
		pops, err := l.client.PoPs(t.Context())
		return err == nil && len(pops) == 3
	})
	v := l.site("one")
	v.Backends = []wedge.Backend{{Name: "origin", URL: l.originURL(), AllowPrivateAddr: true}}
	v.Events = []wedge.Event{{Keys: []string{"{id}"}}}
	l.version(v)
	l.release(1, 0)
	before := map[string]string{}
	for _, p := range []string{"lhr", "nyc", "nrt"} {
		before[p] = l.get(p, "/7")
		if again := l.get(p, "/7"); again != before[p] {
			t.Fatalf("%s does not keep it: %q, %q", p, before[p], again)
		}
	}
	if err := l.client.Event(t.Context(), "shop", []byte(`{"id": 8}`)); err != nil {
		t.Fatal(err)
	}
	if err := l.client.Event(t.Context(), "shop", []byte(`{"id": 7}`)); err != nil {
		t.Fatal(err)
	}
	l.becomes("purged everywhere", 5*time.Second, func() bool {
		for p, old := range before {
			if l.get(p, "/7") == old {
				return false
			}
		}
		return true
	})
	for what, try := range map[string]struct {
		service, message string
		kind             wedge.Kind
	}{"none such": {"none", `{"id": 7}`, wedge.NotExist}, "no JSON": {"shop", "id=7", wedge.Invalid}, "of nothing": {"shop", "{}", wedge.Invalid}} {
		if err := l.client.Event(t.Context(), try.service, []byte(try.message)); wedge.KindOf(err) != try.kind {
			t.Errorf("%s: %v", what, err)
		}
	}
	none := l.client
	none.Token = "wrong"
	if err := none.Event(t.Context(), "shop", []byte(`{"id": 7}`)); wedge.KindOf(err) != wedge.Denied {
		t.Error(err)
	}
}
