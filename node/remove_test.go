package node

import (
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/control"
)

// TestRemovedMeanwhile: a PoP that hears at once that a service was removed and that there is another of its name, which it cannot fetch, does not run the
// removed one on. Who calls it by name then is told the same as of a name that never was.
func TestRemovedMeanwhile(t *testing.T) {
	l := newPeerLab(t)
	origin, _ := counting(t)
	n := l.start(wedge.PoP{Name: "aaa"}, proxyTo(t, "front", "http://back.wedge.internal"), proxyTo(t, "other", "http://never.wedge.internal"))
	l.meet()
	back := proxyTo(t, "back", origin)
	l.release(&back.Version)
	if status, _, _ := l.get("aaa", "front.example", "/"); status != 200 {
		t.Fatalf("before: %d", status)
	}
	a, ctx := n.fleet.applier, t.Context()
	a.applying.Lock()
	if err := l.client.RemoveService(ctx, "back", "", true); err != nil {
		t.Fatal(err)
	}
	back.Version.Backends[0].Name = "another"
	_, _, err := l.unfetchable(&back.Version)
	if err == nil {
		_, err = l.client.Release(ctx, "back", "", api.Pick{Version: 2, Plan: control.Plan{HoldMS: time.Hour.Milliseconds()}})
	}
	if err != nil {
		t.Fatal(err)
	}
	l.known("back", "aaa")
	a.applying.Unlock()
	a.apply(ctx)
	if v := n.Running("back"); v != 0 {
		t.Errorf("version %d runs on", v)
	}
	a.mu.Lock()
	_, runs := a.running["back"]
	a.mu.Unlock()
	if runs {
		t.Error("it counts as running")
	}
	if err := l.client.RemoveService(ctx, "back", "", true); err != nil {
		t.Fatal(err)
	}
	status, body, h := l.get("aaa", "front.example", "/")
	never, none, nh := l.get("aaa", "other.example", "/")
	body, _, _ = strings.Cut(body, "request ") // its id
	none, _, _ = strings.Cut(none, "request ")
	if says := h.Get("Proxy-Status"); status != never || body != none || says == "" || strings.ReplaceAll(says, "back", "never") != nh.Get("Proxy-Status") {
		t.Errorf("%d %q %q; of a name that never was: %d %q %q", status, body, says, never, none, nh.Get("Proxy-Status"))
	}
}

// TestForgottenRunsOn: a PoP that cannot fetch what is live runs on what was forgotten by order, and once it can nothing of that is left.
func TestForgottenRunsOn(t *testing.T) {
	l := newPeerLab(t)
	origin, _ := counting(t)
	n := l.start(wedge.PoP{Name: "aaa"})
	l.meet()
	back, ctx := proxyTo(t, "back", origin), t.Context()
	l.release(&back.Version)
	var first control.Digest
	l.core.control.See(func(s *control.State) { first = s.Services["back"].Version(1).Artifact.Digests()[0] })
	back.Version.Backends[0].Name = "another"
	art, chunks, err := l.unfetchable(&back.Version)
	if err == nil {
		_, err = l.client.Rollback(ctx, "back", "", 2)
	}
	if err == nil {
		err = l.client.RemoveVersion(ctx, "back", "", 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	a := n.fleet.applier
	gone := func() (known bool) {
		a.catalog.See(func(s *control.State) { known = s.Gone == 1 })
		return known
	}
	eventually(t, "it hears of that", gone)
	a.apply(ctx)
	a.sweep()
	if n.Running("back") != 1 || !a.chunks.Has(first) {
		t.Errorf("version %d runs", n.Running("back"))
	}
	if _, _, err := l.client.Upload(ctx, art, chunks); err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	delete(a.failed, "back") // it is tried again at once
	a.mu.Unlock()
	eventually(t, "it runs version 2", func() bool { return n.Running("back") == 2 })
	eventually(t, "nothing of version 1 is there", func() bool { return !a.chunks.Has(first) })
}
