package wedgetest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/control"
)

// TestRunsOfTenants: a tenant's guests run as many at once as its quota says, whichever of its services they are of; others' are not bounded by
// it, and a change of the quota holds at once.
func TestRunsOfTenants(t *testing.T) {
	t.Parallel()
	asked, answer := make(chan struct{}, 10), make(chan struct{})
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		asked <- struct{}{}
		select {
		case <-answer:
		case <-r.Context().Done():
		}
	}))
	defer origin.Close()
	guest, ctx := GoGuest(t, Guest("go")), t.Context()
	w, operator := onePoP(t)
	release := func(client api.Client, service string) {
		t.Helper()
		app, err := App{Guest: guest, Manifest: fmt.Sprintf("[backends.origin]\nurl = %q\n[kv.visits]\n", origin.URL)}.Load(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		app.Version.Service, app.Version.Hosts = service, []string{service + ".example"}
		chunks := control.OpenChunks(t.TempDir())
		a, err := control.Pack(&app.Version, nil, chunks.Keep)
		if err == nil {
			_, _, err = client.Upload(ctx, a, chunks)
		}
		if err == nil {
			_, err = client.NewVersion(ctx, service, "", api.NewVersion{Artifact: a})
		}
		if err == nil {
			_, err = client.Release(ctx, service, "", api.Pick{Version: 1})
		}
		if err != nil {
			t.Fatal(err)
		}
		Eventually(t, service+" runs", func() bool { return w.Node("lhr").Running(service) == 1 })
	}
	if _, err := operator.NewTenant(ctx, "", api.NewTenant{Name: "acme", Quota: control.QuotaChange{Runs: new(int64(1))}}); err != nil {
		t.Fatal(err)
	}
	s, err := operator.NewToken(ctx, api.NewToken{Name: "acme", Scopes: []string{"deploy"}, Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	acme := api.Client{URL: operator.URL, Token: s.Secret}
	release(acme, "one")
	release(acme, "two")
	release(operator, "other")

	url := w.Status()[0].URL
	get := func(service, path string) (int, string) {
		req, err := http.NewRequestWithContext(ctx, "GET", url+path, nil)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		req.Host = service + ".example"
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body) // the status is enough
		return resp.StatusCode, resp.Header.Get("Retry-After")
	}
	ended := make(chan int)
	go func() { status, _ := get("one", "/proxy"); ended <- status }()
	<-asked // one guest of acme's waits for the origin
	for _, service := range []string{"one", "two"} {
		if status, again := get(service, "/env"); status != 503 || again == "" {
			t.Errorf("%s beyond the quota: %d, to be tried again after %q", service, status, again)
		}
	}
	if status, _ := get("other", "/env"); status != 200 {
		t.Errorf("another tenant's: %d", status)
	}
	if _, err := operator.SetQuota(ctx, "acme", "", control.QuotaChange{Runs: new(int64(2))}); err != nil {
		t.Fatal(err)
	}
	Eventually(t, "two may run", func() bool { status, _ := get("two", "/env"); return status == 200 })
	if _, err := operator.SetQuota(ctx, "acme", "", control.QuotaChange{Runs: new(int64(1))}); err != nil {
		t.Fatal(err)
	}
	Eventually(t, "one may run", func() bool { status, _ := get("two", "/env"); return status == 503 })
	close(answer)
	if status := <-ended; status != 200 {
		t.Errorf("the one that ran: %d", status)
	}
	Eventually(t, "its run is counted no more", func() bool { status, _ := get("two", "/env"); return status == 200 })
}
