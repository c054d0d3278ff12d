package front

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
)

// TestCheckTarget covers targets and methods that only net/http's HTTP/2 hands on.
func TestCheckTarget(t *testing.T) {
	for _, test := range []struct {
		method, target string
		major, want    int
	}{
		{"GET", "/a", 2, 0}, {"PURGE", "/a?b", 2, 0}, {"OPTIONS", "*", 2, 0}, {"GET", "http://a.example/", 1, 0}, {"GET", "/caf\xc3\xa9", 2, 0},
		{"GET", "http://a.example/", 2, 400}, {"GET", "/a b", 2, 400}, {"GET", "/a?b c", 2, 400}, {"GET", "/a?\x7f", 2, 400}, {"GET", "*", 2, 400},
		{"G T", "/", 2, 400}, {"GET\r\n", "/", 2, 400}, {"", "/", 2, 0}, {"G:T", "/", 2, 400},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Method, r.RequestURI, r.Host, r.ProtoMajor = test.method, test.target, "a.example", test.major
		if u, err := url.Parse(test.target); err == nil {
			r.URL = u
		}
		got := 0
		if no := check(r); no != nil {
			got = no.status
		}
		if got != test.want {
			t.Errorf("%q %q in HTTP/%d: got %d", test.method, test.target, test.major, got)
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.ProtoMajor, r.Header["Content-Length"] = 2, []string{"5"}
	if no := check(r); no == nil {
		t.Error("a length without content passes")
	}
}

// TestSpell: a path is the same before and after, but for what must be encoded.
func TestSpell(t *testing.T) {
	for raw, want := range map[string]string{
		"/a": "/a", "/a%2Fb": "/a%2Fb", "/%61": "/%61", "/[a]%2f": "/[a]%2f", "/{%2f%2e}": "/%7B%2f%2e%7D", `/"%00`: "/%22%00", "/\xff%41": "/%FF%41", "/a^b|c`": "/a%5Eb%7Cc%60", `/\%5c`: "/%5C%5c",
	} {
		u, err := url.ParseRequestURI(raw)
		if err != nil {
			t.Fatal(err)
		}
		before := u.Path
		if spell(u); u.EscapedPath() != want || u.Path != before {
			t.Errorf("%q: got %s of %q", raw, u.EscapedPath(), u.Path)
		}
	}
}

// TestCheck covers what net/http's HTTP/1.1 never hands on but its HTTP/2 might.
func TestCheck(t *testing.T) {
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
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host, r.Header = "a.example", test.header
		got := 0
		if no := check(r); no != nil {
			got = no.status
		}
		if got != test.want {
			t.Errorf("%s: got %d, want %d", test.name, got, test.want)
		}
	}
}
