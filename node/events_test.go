package node

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

func TestEventOrder(t *testing.T) {
	events := []wedge.Event{{Keys: []string{"product-{id}", "cat-{cats.slug}", "{a.b}-{cats.slug}"}, Soft: true}}
	for _, test := range []struct{ message, want string }{
		{`{"id": 7}`, "product-7"},
		{`{"id": 1e400}`, "product-1e400"},
		{`{"id": "a", "cats": [{"slug": "x"}, {"slug": "y"}]}`, "cat-x cat-y product-a"},
		{`{"cats": {"slug": "x"}, "a": {"b": [true, 2]}}`, "2-x cat-x true-x"},
		{`[{"id": 1}, {"id": 2}, {"id": 1}]`, "product-1 product-2"},
		{`{"id": "two words", "cats": []}`, "!"},
		{`{"id": {"x": 1}}`, "!"},
		{`{"id": ""}`, "!"},
		{`{"other": 1}`, "!"},
		{`id=7`, "!"},
		{``, "!"},
		{`{"cats": [` + strings.Repeat(`{"slug": "x"},`, 200) + `{"slug": "y"}]}`, "cat-x cat-y"},
		{`[` + strings.TrimSuffix(strings.Repeat(`{"id": 1,"cats":{"slug":2},"a":{"b":3}},`, 2000), ",") + `]`, "!"},
	} {
		order, err := eventOrder("shop", events, []byte(test.message), time.Now())
		got := strings.Join(order.Keys, " ")
		if err != nil {
			got = "!"
			if wedge.KindOf(err) != wedge.Invalid {
				t.Error(err)
			}
		}
		if got != test.want && len(test.message) < 40_000 || err == nil && (!order.Soft || order.Service != "shop" || order.ID == "") {
			t.Errorf("%.60s: %q, not %q (%v)", test.message, got, test.want, err)
		}
	}
}

func FuzzEventOrder(f *testing.F) {
	f.Add("k-{a.b}", `{"a":[{"b":1},{"b":"x"}]}`)
	f.Add("{a}{a}{a}{a}", `[{"a":[1,2,3,4,5,6,7,8,9]}]`)
	f.Fuzz(func(t *testing.T, key, message string) {
		order, err := eventOrder("shop", []wedge.Event{{Keys: []string{key}}}, []byte(message), time.Now())
		if err == nil && (len(order.Keys) > wedge.MaxPurgeKeys || len(order.Keys) == 0 || !slices.IsSorted(order.Keys)) {
			t.Errorf("%d keys", len(order.Keys))
		}
	})
}

// TestWebhook: a message purges if it is signed, or has a key where none is to sign.
func TestWebhook(t *testing.T) {
	var purged []wedge.Purge
	p := &purger{Handler: http.NotFoundHandler(), log: func(wedge.Purge) {}, now: time.Now, purge: func(o wedge.Purge) error { purged = append(purged, o); return nil },
		version: &wedge.Version{Service: "shop", APIKeys: []wedge.Secret{wedge.Secret("key")}, Events: []wedge.Event{
			{Path: "/signed", Secret: wedge.Secret("secret"), Header: "X-Hub-Signature-256", Keys: []string{"p-{id}"}},
			{Path: "/keyed", Header: "X-Hub-Signature-256", Keys: []string{"q-{id}"}}}}}
	sign := func(secret, body string) string {
		m := hmac.New(sha256.New, []byte(secret))
		m.Write([]byte(body))
		return "sha256=" + hex.EncodeToString(m.Sum(nil))
	}
	const body = `{"id":7}`
	for _, test := range []struct {
		method, path, body, header, value string
		status                            int
		keys                              string
	}{
		{"POST", "/signed", body, "X-Hub-Signature-256", sign("secret", body), 200, "p-7"},
		{"POST", "/signed", body, "X-Hub-Signature-256", strings.TrimPrefix(sign("secret", body), "sha256="), 200, "p-7"},
		{"POST", "/signed", `{"id":8}`, "X-Hub-Signature-256", sign("secret", body), 403, ""},
		{"POST", "/signed", body, "X-Hub-Signature-256", sign("other", body), 403, ""},
		{"POST", "/signed", body, "X-Hub-Signature-256", "", 403, ""},
		{"POST", "/signed", body, "Authorization", "Bearer key", 403, ""},
		{"POST", "/keyed", body, "Authorization", "Bearer key", 200, "q-7"},
		{"POST", "/keyed", body, "Fastly-Key", "wrong", 403, ""},
		{"POST", "/keyed", body, "X-Hub-Signature-256", sign("", body), 403, ""},
		{"POST", "/keyed", `[]`, "Fastly-Key", "key", 400, ""},
		{"POST", "/keyed", strings.Repeat(" ", maxEventBody+1), "Fastly-Key", "key", 400, ""},
		{"GET", "/signed", "", "X", "", 404, ""},
		{"POST", "/other", body, "X", "", 404, ""},
	} {
		purged = nil
		r := httptest.NewRequest(test.method, test.path, strings.NewReader(test.body))
		r.Header.Set(test.header, test.value)
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		keys := ""
		for _, o := range purged {
			keys += strings.Join(o.Keys, " ")
		}
		if w.Code != test.status || keys != test.keys {
			t.Errorf("%s %s %s: %d %s, purged %q", test.method, test.path, test.value, w.Code, w.Body, keys)
		}
	}
}
