package edge

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestNativeBackend(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Host+" "+r.URL.RequestURI())
	}))
	defer srv.Close()
	t.Setenv("WEDGE_BACKEND_MY_ORIGIN", srv.URL+"/base")
	resp, err := (&http.Client{Transport: Backend("my-origin")}).Get("http://shop.test/x?y=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); string(b) != "shop.test /base/x?y=1" {
		t.Errorf("the origin saw %q", b)
	}
}

func TestNativeStores(t *testing.T) {
	if _, err := OpenKV("x"); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	c := ClientInfo(httptest.NewRequest("GET", "/", nil))
	if c.RequestID() != "" || c.IP().IsValid() || c.JA3() != [16]byte{} || c.Proto() != "" {
		t.Error("a client is known where there is none")
	}
}

func TestForwardNatively(t *testing.T) {
	w := httptest.NewRecorder()
	resp := &http.Response{StatusCode: 418, Header: http.Header{"X-A": {"1"}}, Body: http.NoBody}
	if err := Forward(w, resp); err != nil || w.Code != 418 || w.Header().Get("X-A") != "1" {
		t.Errorf("%v %d %v", err, w.Code, w.Header())
	}
}
