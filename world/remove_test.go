package world

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/bus"
	"github.com/wedge-cloud/wedge/control"
)

// newSweptFleet is one that soon forgets chunks that nobody needs.
func newSweptFleet(t *testing.T, age time.Duration) *fleetLab {
	t.Helper()
	l := &fleetLab{lab: newLabOf(t, Config{SweepAge: age}, nil)}
	server := httptest.NewServer(l.Core())
	t.Cleanup(server.Close)
	l.client = api.Client{URL: server.URL, Token: l.Core().AdminToken()}
	l.becomes("all are there", 5*time.Second, func() bool { return len(l.Node("lhr").PoPs()) == 3 })
	return l
}

// status is a PoP's for the service's host.
func (l *fleetLab) status(pop string) int {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.t.Context(), http.MethodGet, l.url(pop), nil)
	if err != nil {
		l.t.Fatal(err)
	}
	req.Host = "shop.example"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// refuses reports whether PoPs have no service for the host.
func (l *fleetLab) refuse(pops ...string) func() bool {
	return func() bool {
		for _, p := range pops {
			if l.status(p) != http.StatusMisdirectedRequest {
				return false
			}
		}
		return true
	}
}

// onShelf reports whether the core has a chunk.
func (l *fleetLab) onShelf(d control.Digest) (found bool) {
	l.t.Helper()
	if err := l.Core().Link().Keys(l.t.Context(), &bus.Shelf{Name: "CHUNKS"}, func(key string) { found = found || key == string(d) }); err != nil {
		l.t.Fatal(err)
	}
	return found
}

// keeps reports whether a PoP has a chunk on its disk.
func (l *fleetLab) keeps(pop string, d control.Digest) bool {
	_, err := os.Stat(filepath.Join(l.cfg.Dir, pop, "chunks", string(d[:2]), string(d)))
	return err == nil
}

// TestRemoved: a service that was removed is served by nobody, also by PoPs that were away or stopped meanwhile; its hosts are free, and what it was made
// of is gone. One of the same name is another service, whose cache is empty.
func TestRemoved(t *testing.T) {
	l := newSweptFleet(t, 300*time.Millisecond)
	every, ctx := []string{"lhr", "nyc", "nrt"}, t.Context()
	shop := &wedge.Version{Service: "shop", Hosts: []string{"shop.example"}, Backends: []wedge.Backend{{Name: "origin", URL: l.originURL(), AllowPrivateAddr: true}}}
	v, art, _ := l.packed(shop)
	l.release(v.Number, 0)
	first := map[string]string{}
	for _, p := range every {
		first[p] = l.get(p, "/")
	}
	if err := l.client.RemoveService(ctx, "shop", "", false); wedge.KindOf(err) != wedge.Conflict || !strings.Contains(wedge.HintOf(err), "--force remove shop") {
		t.Fatalf("a live one: %v", err)
	}
	if err := l.Cut("nyc"); err != nil {
		t.Fatal(err)
	}
	if err := l.Kill("nrt"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second asks because it heard no answer
		if err := l.client.RemoveService(ctx, "shop", "once", true); err != nil {
			t.Fatal(err)
		}
	}
	l.becomes("lhr has stopped it", 2*time.Second, l.refuse("lhr"))
	if l.get("nyc", "/") != first["nyc"] {
		t.Error("nyc, which is cut off, has stopped it")
	}
	// Its host is another's at once.
	copied := l.site("copy")
	copied.Service = "copy"
	made := l.version(copied)
	if _, err := l.client.Release(ctx, "copy", "", api.Pick{Version: made.Number}); err != nil {
		t.Fatal(err)
	}
	l.becomes("lhr runs the other", 20*time.Second, l.all("copy", "lhr"))
	if err := l.Heal("nyc"); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(ctx, "nrt"); err != nil {
		t.Fatal(err)
	}
	l.becomes("those that were away run the other", 15*time.Second, l.all("copy", every...))
	own := art.Digests()[0]
	l.becomes("what it was made of is nowhere", 10*time.Second, func() bool {
		return !l.onShelf(own) && !l.keeps("lhr", own) && !l.keeps("nyc", own) && !l.keeps("nrt", own)
	})
	for what, err := range map[string]error{
		"a rollback": errOf(l.client.Rollback(ctx, "shop", "", 1)), "a release": errOf(l.client.Release(ctx, "shop", "", api.Pick{Version: 1})),
		"once more": l.client.RemoveService(ctx, "shop", "", true), "its versions": errOf(l.client.Versions(ctx, "shop")),
	} {
		if wedge.KindOf(err) != wedge.NotExist || !strings.Contains(err.Error(), "there is no such service") {
			t.Errorf("%s: %v", what, err)
		}
	}
	// The other goes, too, and the first comes again.
	if err := l.client.RemoveService(ctx, "copy", "", true); err != nil {
		t.Fatal(err)
	}
	l.becomes("all have stopped the other", 5*time.Second, l.refuse(every...))
	if again := l.version(shop); again.Number != v.Number+1 || again.Digest != v.Digest {
		t.Fatalf("anew it is version %d", again.Number)
	}
	l.release(v.Number+1, 0)
	for _, p := range every {
		if got := l.get(p, "/"); got == first[p] {
			t.Errorf("%s answers with what the removed service had: %s", p, got)
		}
	}
	audit, err := l.client.Audit(ctx, 100)
	n := 0
	for _, e := range audit {
		if e.Kind == control.EventRemove && e.By == "operator" {
			n++
		}
	}
	if err != nil || n != 2 {
		t.Errorf("%d removals in the audit, %v", n, err)
	}
}

// TestForgetVersion: what only a version is made of that is forgotten by order is gone at once, from the core and from PoPs, later from one that was
// stopped meanwhile; what others are made of stays.
func TestForgetVersion(t *testing.T) {
	l := newSweptFleet(t, time.Hour)
	ctx, page := t.Context(), func(a *control.Artifact) control.Digest {
		return a.Parts[slices.IndexFunc(a.Parts, func(p control.Part) bool { return strings.HasPrefix(p.Name, "files/") })].Chunks[0].Digest
	}
	one, a, _ := l.packed(l.site("a secret"))
	l.release(one.Number, 0)
	secret := page(a)
	if err := l.client.RemoveVersion(ctx, "shop", "", 1); wedge.KindOf(err) != wedge.Conflict || !l.keeps("nrt", secret) {
		t.Fatalf("it is live: %v", err)
	}
	two, b, _ := l.packed(l.site("clean"))
	l.release(two.Number, 0)
	if err := l.Kill("nrt"); err != nil {
		t.Fatal(err)
	}
	if err := l.client.RemoveVersion(ctx, "shop", "", 1); err != nil {
		t.Fatal(err)
	}
	l.becomes("it is gone", 2*time.Second, func() bool { return !l.onShelf(secret) && !l.keeps("lhr", secret) && !l.keeps("nyc", secret) })
	if !l.keeps("nrt", secret) {
		t.Fatal("who removed it at nrt?")
	}
	if err := l.Start(ctx, "nrt"); err != nil {
		t.Fatal(err)
	}
	l.becomes("it is gone from nrt", 10*time.Second, func() bool {
		_, err := os.Stat(filepath.Join(l.cfg.Dir, "nrt", "artifacts", string(one.Digest)))
		return !l.keeps("nrt", secret) && err != nil
	})
	for _, d := range b.Digests() {
		if !l.onShelf(d) || !l.keeps("lhr", d) || !l.keeps("nrt", d) {
			t.Error("what version 2 is made of is not there any more")
		}
	}
	if list, err := l.client.Versions(ctx, "shop"); err != nil || !list[0].Forgotten || list[1].Forgotten {
		t.Errorf("%+v, %v", list, err)
	}
	if audit, err := l.client.Audit(ctx, 1); err != nil || audit[0].Kind != control.EventForget || audit[0].Version != 1 || audit[0].By != "operator" {
		t.Errorf("%+v, %v", audit, err)
	}
	// Who deploys the same again uploads it again, and gets another version.
	again, _, _ := l.packed(l.site("a secret"))
	l.release(again.Number, 0)
	l.becomes("all run it", 5*time.Second, l.all("a secret", "lhr", "nyc", "nrt"))
	if again.Number != 3 || !l.onShelf(secret) {
		t.Errorf("version %d", again.Number)
	}
}
