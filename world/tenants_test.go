package world

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/control"
)

// as returns a client with a token of a tenant, "" for the operators.
func (l *fleetLab) as(tenant, name string, scopes ...string) *fleetLab {
	l.t.Helper()
	s, err := l.client.NewToken(l.t.Context(), api.NewToken{Name: name, Scopes: scopes, Tenant: tenant})
	if err != nil {
		l.t.Fatal(err)
	}
	return &fleetLab{l.lab, api.Client{URL: l.client.URL, Token: s.Secret}}
}

func (l *fleetLab) tenant(name string, q control.QuotaChange) {
	l.t.Helper()
	if _, err := l.client.NewTenant(l.t.Context(), "", api.NewTenant{Name: name, Quota: q}); err != nil {
		l.t.Fatal(err)
	}
}

// answer is what the API says to a request, with its status.
func (l *fleetLab) answer(method, path, body string) string {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.t.Context(), method, l.client.URL+path, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+l.client.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		l.t.Fatal(err)
	}
	return fmt.Sprint(resp.StatusCode, " ", string(b))
}

// TestTenants: a tenant's token sees and does what is its tenant's. What is another's is, on every route, as if it were not there.
func TestTenants(t *testing.T) {
	l := newFleetLab(t)
	l.tenant("acme", control.QuotaChange{})
	l.tenant("zeta", control.QuotaChange{})
	acme, zeta := l.as("acme", "acme-all", "admin", "state"), l.as("zeta", "zeta-all", "admin", "state")
	shop := acme.site("one")
	acme.version(shop)
	old := l.site("old")
	old.Service, old.Hosts = "old", []string{"old.example"}
	l.version(old)
	ctx := t.Context()

	// Whatever there is of a service, to zeta it is as if the service were not there.
	for route, body := range map[string]string{
		"GET /v1/services/NAME": "", "GET /v1/services/NAME/versions": "", "GET /v1/services/NAME/releases": "", "POST /v1/services/NAME/releases": `{"version":1}`,
		"POST /v1/services/NAME/promote": "null", "POST /v1/services/NAME/rollback": `{"version":1}`, "POST /v1/services/NAME/events": `{}`,
		"POST /v1/services/NAME/state": `{"method":"GET","path":"/-/apologies"}`, "GET /v1/collect/NAME/vitals": "", "GET /v1/collect/NAME/vitals/live": "",
		"GET /v1/tenants/NAME": "", "GET /v1/tenants/NAME/report": "", "DELETE /v1/tokens/NAME": "", "DELETE /v1/services/NAME": "", "DELETE /v1/services/NAME/versions/1": "", "DELETE /v1/services/NAME?force=true": "",
	} {
		method, path, _ := strings.Cut(route, " ")
		ask := func(name string) string {
			return strings.ReplaceAll(zeta.answer(method, strings.ReplaceAll(path, "NAME", name), body), name, "NAME")
		}
		none := ask("none")
		names := []string{"shop", "old"}
		if strings.Contains(path, "tenants") {
			names = []string{"acme", control.DefaultTenant}
		}
		if strings.Contains(path, "tokens") {
			names = []string{"acme-all", "operator"}
		}
		for _, name := range names {
			if got := ask(name); got != none || !strings.HasPrefix(got, "404 ") {
				t.Errorf("%s of %s: %s\nof what is not there: %s", route, name, got, none)
			}
		}
	}
	// What is the fleet's is the operators', whatever the scopes of a tenant's token.
	for _, route := range []string{"POST /v1/pops", "DELETE /v1/pops/nrt", "POST /v1/tenants", "POST /v1/tenants/zeta", "POST /v1/tenants/none"} {
		method, path, _ := strings.Cut(route, " ")
		if got := zeta.answer(method, path, `{"name":"more"}`); !strings.HasPrefix(got, "403 ") {
			t.Errorf("%s: %s", route, got)
		}
	}
	// Lists have what is the tenant's.
	for route, want := range map[string][2]string{
		"/v1/services": {`[]`, `"shop"`}, "/v1/tenants": {`"zeta"`, `"acme"`}, "/v1/tokens": {`"zeta-all"`, `"acme-all"`}, "/v1/audit": {`"zeta-all"`, `"shop"`},
	} {
		own, other := zeta.answer("GET", route, ""), acme.answer("GET", route, "")
		if !strings.Contains(own, want[0]) || strings.Contains(own, "acme") || strings.Contains(own, "shop") || strings.Contains(own, "old") || strings.Contains(own, `"operator"},`) {
			t.Errorf("zeta sees %s: %s", route, own)
		}
		if !strings.Contains(other, want[1]) || strings.Contains(other, "zeta") || strings.Contains(other, `"old"`) {
			t.Errorf("acme sees %s: %s", route, other)
		}
		if all := l.answer("GET", route, ""); !strings.Contains(all, want[1]) || route != "/v1/tenants" && !strings.Contains(all, "old") && !strings.Contains(all, "operator") {
			t.Errorf("operators see %s: %s", route, all)
		}
	}
	if pops, err := zeta.client.PoPs(ctx); err != nil || len(pops) > 0 && pops[0].Peer+pops[0].Print+pops[0].Signs != "" {
		t.Error(pops, err)
	}
	// A token without the scope learns nothing either, and one of a tenant's makes tokens of the tenant.
	s, err := zeta.client.NewToken(ctx, api.NewToken{Name: "reads", Scopes: []string{"read"}})
	if err != nil {
		t.Fatal(err)
	}
	reads := &fleetLab{l.lab, api.Client{URL: l.client.URL, Token: s.Secret}}
	if a, b := reads.answer("POST", "/v1/services/shop/releases", `{"version":1}`), reads.answer("POST", "/v1/services/none/releases", `{"version":1}`); a != b || !strings.HasPrefix(a, "403 ") {
		t.Error(a, b)
	}
	if list, err := reads.client.Services(ctx); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	for name, test := range map[string]struct {
		err  error
		kind wedge.Kind
	}{
		"a token for another":  {errOf(zeta.client.NewToken(ctx, api.NewToken{Name: "x", Scopes: []string{"read"}, Tenant: "acme"})), wedge.NotExist},
		"for the default":      {errOf(zeta.client.NewToken(ctx, api.NewToken{Name: "x", Scopes: []string{"read"}, Tenant: control.DefaultTenant})), wedge.NotExist},
		"a hostile tenant":     {errOf(l.client.NewToken(ctx, api.NewToken{Name: "x", Scopes: []string{"read"}, Tenant: "../acme\n"})), wedge.NotExist},
		"by an operator":       {errOf(l.client.NewToken(ctx, api.NewToken{Name: "x", Scopes: []string{"read"}, Tenant: "none"})), wedge.NotExist},
		"an operator's scope":  {errOf(zeta.client.NewToken(ctx, api.NewToken{Name: "x", Scopes: []string{control.ScopeOperator}})), wedge.Invalid},
		"a service's admin":    {acmeAdmin(l).client.Revoke(ctx, "shop"), wedge.Denied},
		"a hostile service":    {errOf(zeta.client.Versions(ctx, "../tokens")), wedge.NotExist},
		"a path in a tenant":   {errOf(l.client.Tenant(ctx, "../services/shop")), wedge.NotExist},
		"an empty tenant":      {errOf(l.client.NewTenant(ctx, "", api.NewTenant{})), wedge.Invalid},
		"a quota below zero":   {errOf(l.client.SetQuota(ctx, "acme", "", control.QuotaChange{Services: new(int64(-1))})), wedge.Invalid},
		"a chunk of another's": {zeta.named(acme, shop), wedge.Conflict},
	} {
		if wedge.KindOf(test.err) != test.kind || test.err == nil {
			t.Errorf("%s: %v (%v)", name, test.err, wedge.KindOf(test.err))
		}
	}
	// A name that another has is taken, and nothing is said of whose it is.
	chunks := control.OpenChunks(t.TempDir())
	a, err := control.Pack(shop, nil, chunks.Keep)
	if err != nil {
		t.Fatal(err)
	}
	if n, _, err := zeta.client.Upload(ctx, a, chunks); err != nil || n != len(a.Digests()) {
		t.Errorf("%d chunks were asked for: zeta learns what others have: %v", n, err)
	}
	if n, _, err := acme.client.Upload(ctx, a, chunks); err != nil || n != 0 {
		t.Errorf("%d chunks were asked for again: %v", n, err)
	}
	_, err = zeta.client.NewVersion(ctx, "shop", "", api.NewVersion{Artifact: a})
	if wedge.KindOf(err) != wedge.Exist || strings.Contains(err.Error()+wedge.HintOf(err), "acme") {
		t.Error(err)
	}
	if _, err := l.client.Release(ctx, "shop", "", api.Pick{Version: 1}); err != nil {
		t.Error("an operator's release:", err)
	}
}

// acmeAdmin has a token with all scopes for one service.
func acmeAdmin(l *fleetLab) *fleetLab { return l.as("acme", "shop", "admin:shop") }

// named makes a version of what another has uploaded, without the bytes.
func (l *fleetLab) named(other *fleetLab, v *wedge.Version) error {
	l.t.Helper()
	a, err := control.Pack(v, nil, func(control.Digest, []byte) error { return nil })
	if err != nil {
		l.t.Fatal(err)
	}
	if m, err := other.client.NewVersion(l.t.Context(), v.Service, "", api.NewVersion{Artifact: a}); err != nil {
		l.t.Fatal(m, err)
	}
	return errOf(l.client.NewVersion(l.t.Context(), "stolen", "", api.NewVersion{Artifact: a}))
}

// TestTenantQuotas: the real core lets in what quotas say, and counts what is kept as it lies on the shelf.
func TestTenantQuotas(t *testing.T) {
	l := newFleetLab(t)
	l.tenant("acme", control.QuotaChange{Services: new(int64(1)), Tokens: new(int64(2))})
	acme := l.as("acme", "acme-all", "admin")
	ctx := t.Context()
	made, a, chunks := acme.packed(acme.site(strings.Repeat("one ", 10_000)))
	want := int64(0)
	for _, d := range a.Digests() {
		b, err := chunks.Packed(d)
		if err != nil {
			t.Fatal(err)
		}
		want += int64(len(b))
	}
	got, err := acme.client.Tenant(ctx, "acme")
	if err != nil || got.Used != (control.Use{Services: 1, Versions: 1, Tokens: 1, Bytes: want}) || want >= made.Bytes {
		t.Errorf("%+v %v: it is %d bytes, compressed of %d", got, err, want, made.Bytes)
	}
	refused := func(what string, err error, quota string) {
		t.Helper()
		if wedge.KindOf(err) != wedge.Exhausted || !strings.Contains(err.Error(), "the quota of tenant acme is "+quota) || !strings.Contains(wedge.HintOf(err), "set acme") {
			t.Errorf("%s: %v (%s)", what, err, wedge.HintOf(err))
		}
	}
	second := acme.site("one")
	second.Service = "other"
	b, err := control.Pack(second, nil, chunks.Keep)
	if err == nil {
		_, _, err = acme.client.Upload(ctx, b, chunks)
	}
	if err != nil {
		t.Fatal(err)
	}
	refused("a second service", errOf(acme.client.NewVersion(ctx, "other", "", api.NewVersion{Artifact: b})), "1 service")
	if err := errOf(acme.client.NewVersion(ctx, "third", "", api.NewVersion{Artifact: b})); wedge.KindOf(err) != wedge.Invalid || !strings.Contains(err.Error(), `made for "other"`) {
		t.Error("made for another:", err)
	}
	if _, err := acme.client.NewToken(ctx, api.NewToken{Name: "two", Scopes: []string{"read"}}); err != nil {
		t.Error(err)
	}
	refused("a third token", errOf(acme.client.NewToken(ctx, api.NewToken{Name: "three", Scopes: []string{"read"}})), "2 tokens")
	refused("by an operator", errOf(l.client.NewToken(ctx, api.NewToken{Name: "three", Scopes: []string{"read"}, Tenant: "acme"})), "2 tokens")
	if _, err := l.client.SetQuota(ctx, "acme", "", control.QuotaChange{Bytes: new(want + 10)}); err != nil {
		t.Fatal(err)
	}
	two, err := control.Pack(acme.site("two"), nil, chunks.Keep)
	if err == nil {
		_, _, err = acme.client.Upload(ctx, two, chunks)
	}
	if err != nil {
		t.Fatal(err)
	}
	refused("more bytes", errOf(acme.client.NewVersion(ctx, "shop", "", api.NewVersion{Artifact: two})), fmt.Sprint(want+10, " bytes"))
	if q, err := l.client.SetQuota(ctx, "acme", "", control.QuotaChange{Bytes: new(int64), Versions: new(int64(2))}); err != nil || q.Quota.Services != 1 {
		t.Fatal(q, err)
	}
	if _, err := acme.client.NewVersion(ctx, "shop", "", api.NewVersion{Artifact: two}); err != nil {
		t.Error(err)
	}
	refused("a third version", errOf(acme.client.NewVersion(ctx, "shop", "", api.NewVersion{Artifact: a})), "2 versions an hour")
	if again, err := acme.client.NewVersion(ctx, "shop", "", api.NewVersion{Artifact: two}); err != nil || again.Number != 2 {
		t.Error("the same again is no version:", again, err)
	}
}

// TestHostsOfTenants: a host that another service answers for is refused when it is asked for, by the core, without saying whose it is; when
// the other has given it up it is free.
func TestHostsOfTenants(t *testing.T) {
	l := newFleetLab(t)
	l.tenant("acme", control.QuotaChange{})
	l.tenant("zeta", control.QuotaChange{})
	acme, zeta := l.as("acme", "acme-all", "admin"), l.as("zeta", "zeta-all", "admin")
	ctx := t.Context()
	l.becomes("all are there", 5e9, func() bool { return len(l.Node("lhr").PoPs()) == 3 })
	shop := acme.site("one")
	shop.Hosts = []string{"shop.example", "*.shop.example"}
	acme.version(shop)
	acme.release(1, 0)
	shop.Hosts = []string{"new.example"}
	acme.version(shop)
	for _, host := range []string{"shop.example", "SHOP.example.", "*.shop.example", "pay.shop.example", "*.eu.shop.example", "shop.localhost"} {
		v := zeta.site("mine")
		v.Service, v.Hosts = "copy", []string{"copy.example", host}
		made := zeta.version(v)
		_, err := zeta.client.Release(ctx, "copy", "", api.Pick{Version: made.Number})
		named := strings.TrimSuffix(strings.ToLower(host), ".")
		if wedge.KindOf(err) != wedge.Conflict || !strings.Contains(err.Error(), "answers for the host "+named) || strings.Contains(err.Error()+wedge.HintOf(err), "acme") {
			t.Errorf("%s: %v", host, err)
		}
	}
	if err := errOf(zeta.client.Rollback(ctx, "copy", "", 1)); wedge.KindOf(err) != wedge.Conflict {
		t.Error("by a rollback:", err)
	}
	acme.release(2, 0)
	if _, err := zeta.client.Release(ctx, "copy", "", api.Pick{Version: 1}); err != nil {
		t.Error("it was given up:", err)
	}
	if err := errOf(acme.client.Rollback(ctx, "shop", "", 1)); wedge.KindOf(err) != wedge.Conflict {
		t.Error("back to a host that another has by now:", err)
	}
	bad := zeta.site("bad")
	bad.Service, bad.Hosts = "bad", []string{"http://shop.example/"}
	chunks := control.OpenChunks(t.TempDir())
	a, err := control.Pack(bad, nil, chunks.Keep)
	if err == nil {
		_, _, err = zeta.client.Upload(ctx, a, chunks)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := errOf(zeta.client.NewVersion(ctx, "bad", "", api.NewVersion{Artifact: a})); wedge.KindOf(err) != wedge.Invalid || !strings.Contains(err.Error(), "is not a host name") {
		t.Error(err)
	}
}

// TestReport: what a tenant's services keep may lie where the catalog and the PoPs say, and no other tenant's is in its report.
func TestReport(t *testing.T) {
	l := newFleetLab(t)
	l.tenant("acme", control.QuotaChange{})
	acme := l.as("acme", "acme-all", "admin")
	l.becomes("all are there", 5e9, func() bool { return len(l.Node("lhr").PoPs()) == 3 })
	other := l.site("other")
	other.Service, other.Hosts = "other", []string{"other.example"}
	l.version(other)
	v := acme.site("one")
	v.KVStores = map[string][]wedge.KVSeed{"carts": nil, "here": nil, "all": nil}
	v.Stores = map[string]wedge.Store{"carts": {Jurisdiction: "uk"}, "here": {Scope: wedge.ScopeLocal}}
	v.Sessions = &wedge.Sessions{Jurisdiction: "jp"}
	acme.version(v)
	if r, err := acme.client.Report(t.Context(), "acme"); err != nil || len(r.Classes)+len(r.Cross) != 0 || len(r.PoPs) != 3 {
		t.Errorf("before it is released: %+v %v", r, err)
	}
	acme.release(1, 0)
	r, err := acme.client.Report(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, c := range r.Classes {
		got[c.Class+c.Name] = fmt.Sprint(c.Service, " ", c.Scope, " ", c.Jurisdiction, " ", c.PoPs, " ", c.Core)
	}
	for _, x := range r.Cross {
		got["cross "+x.Class+x.Name] += x.PoP + " "
	}
	want := map[string]string{
		"storecarts": "shop merge uk [lhr] true", "storehere": "shop local  [lhr nrt nyc] false", "storeall": "shop merge  [lhr nrt nyc] true", "sessions": "shop  jp [nrt] false",
		"cache": "shop   [lhr nrt nyc] false", "cross storecarts": "nrt nyc ", "cross sessions": "lhr nyc ",
	}
	if !maps.Equal(got, want) {
		t.Errorf("%v\nnot %v", got, want)
	}
}
