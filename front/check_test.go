package front

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestCheck covers what net/http's HTTP/1.1 never hands on but its HTTP/2 might.
func TestCheck(t *testing.T) {
	cfg := Config{}.withDefaults()
	for _, test := range []struct {
		name   string
		header http.Header
		want   int
	}{
		{"nothing", nil, 0},
		{"same host twice", http.Header{"Host": {"A.example"}}, 0},
		{"two hosts", http.Header{"Host": {"b.example"}}, 400},
		{"length", http.Header{"Content-Length": {"17"}}, 0},
		{"length with sign", http.Header{"Content-Length": {"+17"}}, 400},
		{"length empty", http.Header{"Content-Length": {""}}, 400},
		{"two lengths", http.Header{"Content-Length": {"17", "17"}}, 400},
		{"connection", http.Header{"Connection": {"keep-alive, TE", " Upgrade ,"}}, 0},
		{"connection drops cookie", http.Header{"Connection": {"close, COOKIE"}}, 400},
		{"upgrade", http.Header{"Upgrade": {"websocket, HTTP/2.0"}}, 0},
		{"upgrade malformed", http.Header{"Upgrade": {"web socket"}}, 400},
		{"lines", http.Header{"X": make([]string, 257)}, 431},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host, r.Header = "a.example", test.header
		got := 0
		if no := check(r, &cfg); no != nil {
			got = no.status
		}
		if got != test.want {
			t.Errorf("%s: got %d, want %d", test.name, got, test.want)
		}
	}
}
