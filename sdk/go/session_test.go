package edge

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestSession: a session is opened with what the client sent, and saved with what opening it has told.
func TestSession(t *testing.T) {
	held, tag, fail := "", "", 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		if fail != 0 {
			w.WriteHeader(fail)
			io.WriteString(w, `{"error":"the home is away"}`)
			return
		}
		known := r.Header.Get("Wedge-Session") == "token" || r.Header.Get("Cookie") == "x=1; wedge-session=token"
		if r.Method == "GET" && !known {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		if m := r.Header.Get("If-Match"); m != "" && m != tag {
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
		h.Set("Wedge-Session", "token")
		h.Set("Set-Cookie", "wedge-session=token; Path=/")
		h.Set("Wedge-Session-Status", "local")
		switch r.Method {
		case "PUT":
			b, _ := io.ReadAll(r.Body)
			held, tag = string(b), tag+"'"
			fallthrough
		case "DELETE":
			h.Set("Etag", tag)
			w.WriteHeader(http.StatusNoContent)
		default:
			h.Set("Etag", tag)
			io.WriteString(w, held)
		}
	}))
	defer srv.Close()
	t.Setenv("WEDGE_BACKEND_SESSION", srv.URL)

	r := httptest.NewRequest("GET", "/", nil)
	w := httptest.NewRecorder()
	s, err := OpenSession(w, r)
	if err != nil || !s.New || len(s.Data) != 0 || w.Header().Get("Set-Cookie") != "" {
		t.Fatalf("%+v, %v, %v", s, err, w.Header())
	}
	s.Data = []byte("one")
	if err := s.Save(); err != nil || s.New || s.Status != "local" || w.Header().Get("Set-Cookie") != "wedge-session=token; Path=/" {
		t.Fatalf("%+v, %v, %v", s, err, w.Header())
	}
	r.Header.Set("Cookie", "x=1; wedge-session=token")
	again, err := OpenSession(w, r)
	if err != nil || again.New || string(again.Data) != "one" {
		t.Fatalf("%+v, %v", again, err)
	}
	s.Data = []byte("two")
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	if len(w.Header()["Set-Cookie"]) != 1 {
		t.Errorf("%v", w.Header())
	}
	if err := again.Save(); !errors.Is(err, ErrConflict) {
		t.Errorf("saved over what somebody else wrote: %v", err)
	}
	api, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
	api.Header.Set("Wedge-Session", "token")
	if s, err = OpenSession(w, api); err != nil || string(s.Data) != "two" || w.Header().Get("Wedge-Session") != "token" || w.Header().Get("Set-Cookie") != "" {
		t.Fatalf("%+v, %v, %v", s, err, w.Header())
	}
	if err := s.End(); err != nil || !s.New || s.Data != nil {
		t.Errorf("%+v, %v", s, err)
	}
	fail = http.StatusServiceUnavailable
	if _, err := OpenSession(w, r); err == nil || err.Error() != "use session: the home is away" {
		t.Errorf("%v", err)
	}
}
