package node

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state"
)

// aloneSessions are those of a node without a fleet.
func aloneSessions(t testing.TB, now func() time.Time) *sessions {
	t.Helper()
	cfg := Config{Now: now, Log: slog.New(slog.DiscardHandler)}
	kv, err := state.Open("mem", state.Options{Memory: true, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kv.Close() })
	s, err := openSessions(kv, &cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSessionAPI: what a guest of a node without a fleet gets.
func TestSessionAPI(t *testing.T) {
	now := time.Now()
	s := aloneSessions(t, func() time.Time { return now })
	api := &sessionAPI{sessions: s, service: "shop", cfg: wedge.Sessions{TTL: time.Hour, Cookie: "sid"}, secure: true}
	token := ""
	ask := func(method, target, body string, lines ...string) *http.Response {
		t.Helper()
		r := httptest.NewRequest(method, target, strings.NewReader(body))
		for _, line := range lines {
			name, value, _ := strings.Cut(line, ": ")
			r.Header.Set(name, value)
		}
		if token != "" {
			r.Header.Set("Wedge-Session", token)
		}
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		return w.Result()
	}
	is := func(resp *http.Response, status int) *http.Response {
		t.Helper()
		if resp.StatusCode != status || resp.Header.Get("Cache-Control") != "private, no-store" {
			t.Fatalf("%d %v, not %d", resp.StatusCode, resp.Header, status)
		}
		return resp
	}
	is(ask("GET", "/", ""), 404)
	is(ask("DELETE", "/", ""), 404)
	is(ask("PUT", "/other", ""), 404)
	is(ask("POST", "/", ""), 405)
	is(ask("PUT", "/", "x", "Wedge-Metadata: "+strings.Repeat("m", wedge.MaxSessionMetadata+1)), 429)
	resp := is(ask("PUT", "/", "one", "Wedge-Metadata: m"), 204)
	token = resp.Header.Get("Wedge-Session")
	if c := resp.Header.Get("Set-Cookie"); c != "sid="+token+"; Path=/; Max-Age=3599; HttpOnly; Secure; SameSite=Lax" && c != "sid="+token+"; Path=/; Max-Age=3600; HttpOnly; Secure; SameSite=Lax" {
		t.Errorf("cookie %s", c)
	}
	resp = is(ask("GET", "/", ""), 200)
	tag := resp.Header.Get("Etag")
	if resp.Header.Get("Wedge-Metadata") != "m" || tag != `"1.1"` || resp.Header.Get("Wedge-Session-Status") != "local; epoch=1" {
		t.Errorf("%v", resp.Header)
	}
	is(ask("PUT", "/", "two", "If-Match: "+tag), 204)
	is(ask("PUT", "/", "three", "If-Match: "+tag), 412)
	is(ask("DELETE", "/", "", "If-Match: "+tag), 412)

	other := &sessionAPI{sessions: s, service: "other"}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Wedge-Session", token)
	w := httptest.NewRecorder()
	if other.ServeHTTP(w, r); w.Code != 403 {
		t.Errorf("another service reads it: %d", w.Code)
	}
	now = now.Add(2 * time.Hour)
	is(ask("GET", "/", ""), 404)
	refused := map[string]int64{"stale": 2, "forged": 1, "expired": 1}
	for _, m := range s.metrics() {
		if m.label != "" && int64(m.value) != refused[m.labelValue] {
			t.Errorf("%s: %v refused", m.labelValue, m.value)
		}
	}
}

// TestSessionSigners: a token is good with the key of the PoP that it names as the home, with the one before as well, and with no other.
func TestSessionSigners(t *testing.T) {
	s := aloneSessions(t, time.Now)
	var keys []ed25519.PrivateKey
	for range 3 {
		_, k, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	say := func(pop string, k ed25519.PrivateKey) {
		s.heard(wedge.PoP{Name: pop, Signs: hex.EncodeToString(k.Public().(ed25519.PublicKey))})
	}
	token := sessionToken{ID: wedge.SessionID{1}, Epoch: 3, Write: 1, Expires: time.Now().Add(time.Hour).Truncate(time.Second), Home: "fra"}
	check := func(k ed25519.PrivateKey) error {
		_, err := s.signers.check("shop", token.sign("shop", k), time.Now())
		return err
	}
	if err := check(keys[0]); err != errTokenUnknown {
		t.Error(err)
	}
	say("fra", keys[0])
	say("lhr", keys[1])
	if a, b := check(keys[0]), check(keys[1]); a != nil || b != errTokenForged {
		t.Errorf("%v, and with another PoP's key %v", a, b)
	}
	say("fra", keys[2])
	say("fra", keys[2])
	if a, b := check(keys[0]), check(keys[2]); a != nil || b != nil {
		t.Errorf("with the key before %v, with the newest %v", a, b)
	}
	say("fra", keys[1])
	if err := check(keys[0]); err != errTokenForged {
		t.Error(err)
	}
	say("local", keys[0]) // nobody speaks for this PoP
	token.Home = "local"
	if err := check(keys[0]); err != errTokenForged {
		t.Error(err)
	}
	token.Home = "fra"
	again, err := openSigners(s.kv, "local", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.check("shop", token.sign("shop", keys[1]), time.Now()); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	again.pops = &popMap{out: map[string]bool{"fra": true}}
	if _, err := again.check("shop", token.sign("shop", keys[1]), time.Now()); err != errTokenForged {
		t.Errorf("of a PoP that is a member no more: %v", err)
	}
}

func FuzzSessionToken(f *testing.F) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	t := sessionToken{ID: wedge.SessionID{1, 2}, Epoch: 70000, Write: 3, Expires: time.Unix(1<<31, 0), Home: "fra1", Standby: "ams", Jurisdiction: "eu"}
	f.Add(t.sign("shop", key))
	f.Add("")
	f.Add(base64.RawURLEncoding.EncodeToString(make([]byte, 90)))
	f.Fuzz(func(t *testing.T, text string) {
		token, payload, signature, err := parseToken(text)
		if err != nil {
			return
		}
		if again := base64.RawURLEncoding.EncodeToString(append(token.encode(), signature...)); again != text || len(payload) == 0 {
			t.Errorf("%s is read as %s", text, again)
		}
	})
}

func FuzzSessionAnswer(f *testing.F) {
	n := &state.Session{Service: "shop", Home: "a", Epoch: 1, Expires: time.Unix(1, 0), Data: []byte("x")}
	for _, a := range []sessionAnswer{{Is: sessionMoved, Home: "b", Epoch: 2}, {Is: sessionGiven, session: n}, {Is: sessionFailed, Kind: "denied", Error: "no"}} {
		b, err := a.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := readSessionAnswer(b)
		if err == nil && (a.Is == sessionGiven || a.Is == sessionDone) && a.session == nil {
			t.Error("there is no session")
		}
	})
}
