package world

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
)

// TestWhere: the core says of which keys it has a copy, in every scope, and that it has none once they are gone.
func TestWhere(t *testing.T) {
	l := stateLab{newLabOf(t, Config{HomePace: time.Hour}, func(v *wedge.Version) {
		v.Backends = []wedge.Backend{{Name: "state", URL: parsed(t, "http://state.wedge.internal")}}
		v.KVStores = map[string][]wedge.KVSeed{"merged": nil, "split": nil, "whole": nil, "agreed": nil, "british": nil, "own": nil}
		v.Stores = map[string]wedge.Store{"split": {Scope: wedge.ScopeHome, Split: "::"}, "whole": {Scope: wedge.ScopeHome}, "agreed": {Scope: wedge.ScopeCore},
			"british": {Jurisdiction: "uk"}, "own": {Scope: wedge.ScopeLocal}}
	})}
	core := httptest.NewServer(l.Core())
	defer core.Close()
	client := api.Client{URL: core.URL, Token: l.Core().AdminToken()}
	says := func(store, key string) string {
		list, err := client.State(t.Context(), "shop", api.StateRequest{PoP: api.EveryPoP, Method: http.MethodHead, Path: "/" + store + "/" + key, Core: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list {
			if a.PoP == api.CorePoP {
				return a.Header["Wedge-State"] + a.Error
			}
		}
		return "nothing"
	}
	l.becomes("the core answers", 5*time.Second, func() bool { status, _, _ := l.ask("PUT", "lhr", "/agreed/a::b", "x"); return status == 204 })
	for store, want := range map[string]string{"merged": "merge; archive", "split": "home; archive", "whole": "home; archive", "agreed": "core; log", "british": "merge; archive", "own": ""} {
		if status, body, _ := l.ask("PUT", "lhr", "/"+store+"/a::b", "x"); status != 204 {
			t.Fatal(store, status, body)
		}
		l.becomes(store+" is at the core", 5*time.Second, func() bool { return says(store, "a::b") == want })
		if got := says(store, "a::c"); got != "" {
			t.Errorf("%s: a key that was never written: %q", store, got)
		}
		if status, body, _ := l.ask("DELETE", "lhr", "/"+store+"/a::b", ""); status != 204 {
			t.Fatal(store, status, body)
		}
		l.becomes("it is gone", 5*time.Second, func() bool { return says(store, "a::b") == "" })
	}
}
