package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestTravel runs the handler natively, with a server of this process in place of the host's sessions.
func TestTravel(t *testing.T) {
	held, how := "", "new; epoch=1"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Wedge-Session", "token")
		w.Header().Set("Set-Cookie", "wedge-session=token")
		w.Header().Set("Wedge-Session-Status", how)
		switch {
		case r.Method == "PUT":
			b, _ := io.ReadAll(r.Body)
			held = string(b)
			w.WriteHeader(http.StatusNoContent)
		case r.Method == "DELETE":
			held = ""
			w.WriteHeader(http.StatusNoContent)
		case held == "":
			w.WriteHeader(http.StatusNotFound)
		default:
			io.WriteString(w, held)
		}
	}))
	defer srv.Close()
	t.Setenv("WEDGE_BACKEND_SESSION", srv.URL)
	visit := func(method, path, pop, status string, want ...string) {
		t.Helper()
		how = status
		t.Setenv("FASTLY_POP", pop)
		r := httptest.NewRequest(method, "http://sessions.localhost:7701"+path, nil)
		w := httptest.NewRecorder()
		serve(w, r)
		for _, s := range want {
			if !strings.Contains(w.Body.String(), s) {
				t.Errorf("%s %s at %s: no %q in %d %s", method, path, pop, s, w.Code, w.Body)
			}
		}
	}
	visit("GET", "/", "ams", "new; epoch=1", "visit 1", `<b class=home>ams</b>`, `class="pop here home"`)
	visit("GET", "/", "nyc", `moved; from="ams"; ms=83.1; epoch=2`, "visit 2", `<b class=home>nyc</b>`, "moved; from=&#34;ams&#34;; ms=83.1", `href="http://sessions.localhost:7703/"`)
	visit("GET", "/", "nrt", `remote; pop="ams"; ms=130.0; epoch=2`, "visit 3", `<b class=home>ams</b>`)
	visit("POST", "/end", "nrt", "local")
	visit("GET", "/", "nrt", "new; epoch=1", "visit 1")
	visit("GET", "/other", "nrt", "", "not found")
}
