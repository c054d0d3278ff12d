package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/wedge-cloud/wedge"
)

// TestClientTriesOthers: a request that a server cannot have got goes to the next; one that it may have got only if it may be done twice; what a
// server has decided nobody else is asked for. The one that answered is asked first from then on.
func TestClientTriesOthers(t *testing.T) {
	answering := func(asked *atomic.Int32) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			if b, _ := io.ReadAll(r.Body); r.Method == http.MethodPost && string(b) != "{}" {
				t.Errorf("the body is %q", b)
			}
			_, _ = io.WriteString(w, "[]")
		}))
		t.Cleanup(s.Close)
		return s
	}
	refusing := func(status int, kind string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"kind":%q,"error":"it says no"}`, kind)
		}
	}
	breaking := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	const twice, once = true, false // whether the request may be done twice
	for name, test := range map[string]struct {
		url   string
		first http.HandlerFunc
		kinds map[bool]wedge.Kind // those that fail
	}{
		"nobody listens":       {url: gone.URL},
		"it speaks no TLS":     {url: strings.Replace(answering(new(atomic.Int32)).URL, "http:", "https:", 1)},
		"it is not ready":      {first: refusing(503, "unavailable"), kinds: map[bool]wedge.Kind{once: wedge.Unavailable}},
		"what is before it":    {first: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, kinds: map[bool]wedge.Kind{once: wedge.Internal}},
		"it breaks off":        {first: breaking, kinds: map[bool]wedge.Kind{once: wedge.Unavailable}},
		"it is not there":      {first: refusing(404, "not_exist"), kinds: map[bool]wedge.Kind{once: wedge.NotExist, twice: wedge.NotExist}},
		"it is not allowed":    {first: refusing(403, "denied"), kinds: map[bool]wedge.Kind{once: wedge.Denied, twice: wedge.Denied}},
		"another was first":    {first: refusing(412, "conflict"), kinds: map[bool]wedge.Kind{once: wedge.Conflict, twice: wedge.Conflict}},
		"it is a fault":        {first: refusing(500, "internal"), kinds: map[bool]wedge.Kind{once: wedge.Internal, twice: wedge.Internal}},
		"nonsense":             {first: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(418) }, kinds: map[bool]wedge.Kind{once: wedge.Internal, twice: wedge.Internal}},
		"one that is no URL":   {url: "http://%zz", kinds: nil},
		"one without a scheme": {url: "core.example", kinds: nil},
	} {
		for what, ask := range map[string]struct {
			method, key string
			twice       bool
		}{"reads": {"GET", "", true}, "puts": {"PUT", "", true}, "has a key": {"POST", "k", true}, "deletes with a key": {"DELETE", "k", true}, "decides": {"POST", "", false}, "deletes": {"DELETE", "", false}} {
			url := test.url
			if test.first != nil {
				s := httptest.NewServer(test.first)
				t.Cleanup(s.Close)
				url = s.URL
			}
			var asked atomic.Int32
			second := answering(&asked)
			c := Client{URL: url + ", " + second.URL}
			err := c.do(t.Context(), ask.method, "/v1/x", ask.key, []byte("{}"), nil)
			kind, fails := test.kinds[ask.twice]
			if (err != nil) != fails || fails && wedge.KindOf(err) != kind || (asked.Load() == 0) != fails {
				t.Errorf("%s, and it %s: %v; the second was asked %d times", name, what, err, asked.Load())
			}
			if err = c.do(t.Context(), "DELETE", "/v1/x", "", nil, nil); !fails && (err != nil || asked.Load() != 2) {
				t.Errorf("%s: the next request does not begin with the second: %v", name, err)
			}
		}
	}
}

// TestClientEnds: if no server can be reached the error says so once, and whoever waits no longer is not made to.
func TestClientEnds(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	c := Client{URL: gone.URL + "," + gone.URL}
	_, err := c.Services(t.Context())
	if wedge.KindOf(err) != wedge.Unavailable || !strings.Contains(wedge.HintOf(err), "--api") || strings.Contains(err.Error(), "\n") {
		t.Error(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked++
		stop()
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(s.Close)
	c = Client{URL: s.URL + "," + s.URL}
	if _, err := c.Services(ctx); err == nil || asked != 1 {
		t.Errorf("%v, asked %d times", err, asked)
	}
	if _, err := (&Client{}).Services(t.Context()); err == nil {
		t.Error("there is no server")
	}
}
