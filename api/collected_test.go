package api

import (
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/collect"
	"github.com/wedge-cloud/wedge/control"
)

// TestCollectedEver: a name under which something was collected, if not of late, is known, whatever versions say now. Nobody knows of services when
// the catalog has none.
func TestCollectedEver(t *testing.T) {
	c := control.New(nil, nil)
	secret, token, err := control.NewToken("op", []string{control.ScopeAdmin})
	if err != nil {
		t.Fatal(err)
	}
	take := func(seq uint64, ev control.Event) {
		t.Helper()
		item, err := json.Marshal(ev)
		if err == nil {
			err = c.Take(wedge.Entry{Seq: seq, Items: [][]byte{item}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	take(1, token)
	s := NewServer(c, nil)
	s.Collected = func(q collect.Query) (a collect.Answer) {
		if q.Service == "shop" && q.Name == "old" && q.From.Before(time.Now().Add(-time.Hour)) {
			a.Rows = []collect.Row{{}}
		}
		return a
	}
	server := httptest.NewServer(s)
	defer server.Close()
	client := Client{URL: server.URL, Token: secret}
	ask := func(service, name string, want wedge.Kind) {
		t.Helper()
		if _, err := client.Collected(t.Context(), service, name, nil); wedge.KindOf(err) != want || want == wedge.Internal && err != nil {
			t.Errorf("%s of %s: %v", name, service, err)
		}
	}
	const found = wedge.Internal // no error
	ask("shop", "none", found)
	d := control.DigestOf(nil)
	take(2, control.Event{Kind: control.EventVersion, Service: "shop", Version: 1, Artifact: &control.Artifact{Parts: []control.Part{{Name: "version", Size: 1, Chunks: []control.Chunk{{Digest: d, Size: 1}}}}}})
	ask("shop", "none", wedge.NotExist)
	ask("shop", "old", found)
	ask("copy", "old", wedge.NotExist)
}
