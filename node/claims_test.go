package node

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state"
	"github.com/wedge-cloud/wedge/state/merge"
)

// TestServeClaim: a PoP gets units for itself, and for nobody else.
func TestServeClaim(t *testing.T) {
	kv, err := state.Open("", state.Options{PoP: "lhr", Memory: true, MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	for _, jurisdiction := range []string{"", "eu"} {
		share, err := kv.Share(jurisdiction)
		if err != nil {
			t.Fatal(err)
		}
		share.Known()
		share.Fresh(wedge.ScopeMerge, time.Now())
	}
	n := &Node{kv: kv, cfg: Config{Now: time.Now}, fleet: &fleet{pops: popMap{seen: map[string]wedge.PoP{}}}}
	n.fleet.peers = &peers{pops: &n.fleet.pops}
	n.fleet.claims = newClaims(n)
	v := &wedge.Version{Service: "shop", KVStores: map[string][]wedge.KVSeed{"s": nil, "inner": nil}, Stores: map[string]wedge.Store{"inner": {Jurisdiction: "eu"}}}
	d := &deployment{version: v, state: &stateAPI{service: "shop", stores: kv.For("shop", v.KVStores, v.Stores)}}
	for _, store := range []string{"s", "inner"} {
		if _, err := d.state.stores.Change(t.Context(), store, "seats", merge.Stock, merge.Op{Op: "stock", By: 100}); err != nil {
			t.Fatal(err)
		}
	}
	nrt := merge.Writer{PoP: "nrt", Incarnation: 7}.String()
	for _, c := range []struct {
		what, pop string
		ask       claimAsk
		status    int
	}{
		{"in another's name", "nyc", claimAsk{Store: "s", Key: []byte("seats"), Writer: nrt, Need: 1}, http.StatusForbidden},
		{"in no name", "nrt", claimAsk{Store: "s", Key: []byte("seats"), Need: 1}, http.StatusForbidden},
		{"of what is in a jurisdiction that it does not carry", "nrt", claimAsk{Store: "inner", Key: []byte("seats"), Writer: nrt, Need: 1}, http.StatusForbidden},
		{"of a store that is not there", "nrt", claimAsk{Store: "other", Key: []byte("seats"), Writer: nrt, Need: 1}, http.StatusNotFound},
		{"of a key that is not there", "nrt", claimAsk{Store: "s", Key: []byte("other"), Writer: nrt, Need: 1}, http.StatusNotFound},
		{"with a part that makes no sense", "nrt", claimAsk{Store: "s", Key: []byte("seats"), Writer: nrt, Part: []byte("?"), Need: 1}, http.StatusBadRequest},
		{"fewer than nothing", "nrt", claimAsk{Store: "s", Key: []byte("seats"), Writer: nrt, Need: -1, More: true}, http.StatusBadRequest},
		{"far too many", "nrt", claimAsk{Store: "s", Key: []byte("seats"), Writer: nrt, Need: 1 << 60}, http.StatusOK},
		{"far too many again", "nrt", claimAsk{Store: "s", Key: []byte("seats"), Writer: nrt, Need: 1 << 60}, http.StatusOK},
	} {
		w := httptest.NewRecorder()
		n.serveClaim(&peerWriter{ResponseWriter: w}, httptest.NewRequest("GET", "/", nil), c.pop, d, &c.ask)
		if w.Code != c.status {
			t.Errorf("%s: status %d %s", c.what, w.Code, w.Body)
		}
	}
	value, err := d.state.stores.Value(t.Context(), "s", "seats")
	if err != nil {
		t.Fatal(err)
	}
	if got := d.state.stores.Left(value); got != 50 {
		t.Errorf("%d are left of a hundred", got)
	}
}
