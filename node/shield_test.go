package node

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

func TestMark(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	keys := []wedge.Secret{wedge.Secret("old"), wedge.Secret("new")}
	req := func(mark string) *http.Request {
		r := httptest.NewRequest("GET", "http://Shop.example/a?b", nil)
		r.Header.Set(shieldField, mark)
		return r
	}
	good := sign(keys[1], now, req(""))
	if !marked(keys, now.Add(maxSkew), req(good)) || !marked(keys, now.Add(-maxSkew), req(good)) {
		t.Error("a good mark is not taken")
	}
	at, mac, _ := strings.Cut(good, ".")
	for _, bad := range []string{"", ".", at, at + ".", "." + mac, at + "." + mac[1:], "9" + good, sign(wedge.Secret("other"), now, req("")), sign(nil, now, req(""))} {
		if marked(keys, now, req(bad)) {
			t.Errorf("%q is taken", bad)
		}
	}
	if marked(keys, now.Add(maxSkew+time.Second), req(good)) || marked(nil, now, req(good)) || marked([]wedge.Secret{nil}, now, req(sign(nil, now, req("")))) {
		t.Error("an old mark, or one without a key, is taken")
	}
	other := httptest.NewRequest("GET", "http://shop.example/b", nil)
	other.Header.Set(shieldField, good)
	if marked(keys, now, other) {
		t.Error("a mark for another page is taken")
	}
}

func TestLoops(t *testing.T) {
	h := http.Header{"Cdn-Loop": {"wedge, other; v=\"1\", wedge;s=x", "wedgewood", "wedge"}}
	if n := loops(h); n != 3 {
		t.Errorf("%d loops", n)
	}
}
