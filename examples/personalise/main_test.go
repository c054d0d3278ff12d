package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestCompose runs the handler natively, with a server of this process as the origin.
func TestCompose(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/article", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("<h1>News</h1>")) })
	mux.HandleFunc("/api/offers", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("for") == "broken" {
			http.Error(w, "no", http.StatusInternalServerError)
			return
		}
		w.Write([]byte(`[{"title":"Tea & <cake>","price":4.5}]`))
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	t.Setenv("WEDGE_BACKEND_ORIGIN", srv.URL)

	for who, want := range map[string][]string{
		"Ada":    {"Good to see you, <b>Ada</b>", "<h1>News</h1>", "Tea &amp; &lt;cake&gt; <b>€ 4.50</b>"},
		"<i>":    {"<b>&lt;i&gt;</b>"},
		"broken": {"<h1>News</h1>", "not available"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Cookie", "name="+strings.NewReplacer("<", "%3C", ">", "%3E").Replace(who))
		w := httptest.NewRecorder()
		serve(w, r)
		for _, s := range want {
			if !strings.Contains(w.Body.String(), s) {
				t.Errorf("%s: no %q in %s", who, s, w.Body)
			}
		}
	}
}

func TestRename(t *testing.T) {
	r := httptest.NewRequest("POST", "/name", strings.NewReader("name=Zo%C3%AB"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	serve(w, r)
	if w.Code != http.StatusSeeOther || !strings.Contains(w.Header().Get("Set-Cookie"), "name=Zo%C3%AB") {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}
