package wedgetest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/control"
)

// TestShadow: a candidate that does what the live version does goes on after its shadow stage; one that answers otherwise is stopped, and says why. Clients
// get the live version's answers only, and neither origin nor stores hear of the candidate.
func TestShadow(t *testing.T) {
	t.Parallel()
	var fetched atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fetched.Add(1)
		w.Header().Set("Cache-Control", "no-store")
		io.WriteString(w, "from the origin\n")
	}))
	defer origin.Close()
	guest, ctx := GoGuest(t, Guest("go")), t.Context()
	w, client := onePoP(t)
	made := 10
	version := func(own string) int {
		t.Helper()
		made++ // or it would be the version there is
		app, err := App{Guest: guest, Manifest: fmt.Sprintf("concurrency = %d\n[backends.origin]\nurl = %q\n[kv.visits]\n[env]\nOWN = %q\n", made, origin.URL, own)}.Load(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		chunks := control.OpenChunks(t.TempDir())
		a, err := control.Pack(&app.Version, nil, chunks.Keep)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := client.Upload(ctx, a, chunks); err != nil {
			t.Fatal(err)
		}
		v, err := client.NewVersion(ctx, "test", "", api.NewVersion{Artifact: a})
		if err != nil {
			t.Fatal(err)
		}
		return v.Number
	}
	release := func(v int, plan control.Plan) {
		t.Helper()
		if _, err := client.Release(ctx, "test", "", api.Pick{Version: v, Plan: plan}); err != nil {
			t.Fatal(err)
		}
	}
	state := func() control.Release {
		t.Helper()
		list, err := client.Releases(ctx, "test")
		if err != nil {
			t.Fatal(err)
		}
		return list[len(list)-1]
	}
	url := w.Status()[0].URL
	get := func(path string) string {
		t.Helper()
		resp, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 {
			t.Errorf("%s: %s %v", path, resp.Status, err)
		}
		return string(b)
	}
	release(version("mine"), control.Plan{})
	Eventually(t, "version 1 is live", func() bool { return state().State == control.Done })

	n := 0
	traffic := func() {
		n++
		fetches := fetched.Load()
		get("/proxy")
		if got := fetched.Load(); got != fetches+1 {
			t.Fatalf("the origin was asked %d times for one request", got-fetches)
		}
		get(fmt.Sprintf("/keep?key=k%d&value=v%d", n, n))
		if got := get(fmt.Sprintf("/keep?key=k%d", n)); got != fmt.Sprint("v", n) {
			t.Fatalf("kept %q", got)
		}
		if got := get("/env"); !strings.Contains(got, `"OWN":"mine"`) {
			t.Fatalf("a client sees the candidate: %s", got)
		}
	}
	release(version("mine"), control.Plan{Shadow: 100, HoldMS: 1000})
	Eventually(t, "the same is found to be the same", func() bool {
		traffic()
		r := state()
		return r.State == control.Holding || r.State == control.Aborted
	})
	if r := state(); r.State != control.Holding {
		t.Fatalf("%s: %s", r.State, r.Why)
	}
	if _, err := client.Promote(ctx, "test", ""); err != nil {
		t.Fatal(err)
	}
	Eventually(t, "version 2 is live", func() bool { return state().State == control.Done })

	release(version("other"), control.Plan{Shadow: 100, HoldMS: 60_000})
	Eventually(t, "what differs is stopped", func() bool {
		traffic()
		return state().State == control.Aborted
	})
	if r := state(); !strings.Contains(r.Why, "copies of requests were not answered as the version before did, the last of them GET /env: ") {
		t.Errorf("why: %s", r.Why)
	}
}
