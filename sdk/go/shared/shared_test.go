package shared

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// host answers as the state API does, and says what it was asked.
func host(t *testing.T, answers map[string]string) (asked chan string) {
	asked = make(chan string, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		line := strings.TrimSpace(r.Method + " " + r.URL.RequestURI() + " " + string(b))
		for _, name := range []string{"Wedge-Max-Staleness", "Wedge-At-Least", "Wedge-Wait", "Wedge-TTL", "If-None-Match"} {
			if v := r.Header.Get(name); v != "" {
				line += " " + name + ": " + v
			}
		}
		asked <- line
		w.Header().Set("Wedge-State", `merge; pop="nrt"; kind=stock; from="lhr"; age=0.250; asked`)
		w.Header().Set("Wedge-Left", "7")
		w.Header().Set("Wedge-State-Token", "nrt.1:2")
		answer := answers[r.URL.Path]
		switch {
		case strings.HasPrefix(answer, "{\"kind\":\"exhausted\""):
			w.WriteHeader(http.StatusTooManyRequests)
		case answer == "":
			w.WriteHeader(http.StatusNotFound)
		}
		io.WriteString(w, answer)
	}))
	t.Cleanup(srv.Close)
	t.Setenv("WEDGE_BACKEND_STATE", srv.URL)
	return asked
}

// TestValues: each method asks what the host understands, and understands its answer.
func TestValues(t *testing.T) {
	asked := host(t, map[string]string{"/b/n": "42", "/b/set": `["a"]`, "/b/l": `[{"id":"x:1","at":"2026-01-02T03:04:05Z","value":{"a":1}}]`, "/b/m": `{"n":3,"in":{"r":"y"}}`,
		"/b/s": `{"total":100,"spent":9,"shares":[{"holder":"lhr.0000000000000001","left":5}]}`, "/b/gone": `{"kind":"exhausted","error":"not so many left: 0 here","hint":"h"}`, "/b/k": "text"})
	ctx, s := t.Context(), Open("b")
	ok := func(err error, want string) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
		if got := <-asked; got != want {
			t.Errorf("asked %s, want %s", got, want)
		}
	}
	n, err := s.Counter("n").Add(ctx, -2)
	ok(err, `POST /b/n?kind=counter {"op":"add","by":-2}`)
	if n != 42 {
		t.Error(n)
	}
	ok(s.Set("set").Add(ctx, "a b"), `POST /b/set?kind=add-wins {"op":"add","value":"a b"}`)
	ok(s.Set("set").Remove(ctx, 1), `POST /b/set?kind=add-wins {"op":"remove","value":1}`)
	var all []string
	ok(s.Set("set").All(ctx, &all), `GET /b/set`)
	ok(s.List("l").Append(ctx, map[string]int{"a": 1}, 50), `POST /b/l?kind=list {"op":"append","value":{"a":1},"keep":50}`)
	ok(s.List("l").Insert(ctx, "x:1", 2), `POST /b/l?kind=list {"op":"insert","value":2,"id":"x:1"}`)
	items, err := s.List("l").Items(ctx)
	ok(err, `GET /b/l`)
	if len(all) != 1 || len(items) != 1 || items[0].ID != "x:1" || items[0].At.IsZero() || string(items[0].Value) != `{"a":1}` {
		t.Errorf("%v %+v", all, items)
	}
	n, err = s.Map("m").Counter("n").Add(ctx, 3)
	ok(err, `POST /b/m?kind=map {"op":"add","path":["n"],"kind":"counter","by":3}`)
	var r string
	ok(s.Map("m").Map("in").Register("r").Get(ctx, &r), `GET /b/m`)
	if n != 3 || r != "y" {
		t.Error(n, r)
	}
	ok(s.Map("m").Register("r").Set(ctx, "y", "ada"), `POST /b/m?kind=map {"op":"set","path":["r"],"kind":"register","value":"y","who":"ada"}`)
	ok(s.Map("m").Map("in").Drop(ctx, "r"), `POST /b/m?kind=map {"op":"drop","path":["in","r"]}`)
	st, err := s.Stock("s").Spend(ctx, 2)
	ok(err, `POST /b/s?kind=stock {"op":"spend","by":2}`)
	if st.Total != 100 || st.Left != 7 || len(st.Shares) != 1 || st.Shares[0].Left != 5 {
		t.Errorf("%+v", st)
	}
	if o := s.Last(); o.PoP != "nrt" || o.From != "lhr" || o.Age != 250*time.Millisecond || !o.Known || !o.Asked || o.Token != "nrt.1:2" {
		t.Errorf("%+v", o)
	}
	_, err = s.Reading(Read{MaxStaleness: 1500 * time.Millisecond, AtLeast: "lhr.1:2", Wait: time.Second}).Get(ctx, "a/k?")
	if got := <-asked; got != "GET /b/a/k%3F Wedge-Max-Staleness: 1.5 Wedge-At-Least: lhr.1:2 Wedge-Wait: 1" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("asked %s: %v", got, err)
	}
	ok(s.Put(ctx, "k", []byte("v"), &Put{Add: true, TTL: time.Minute}), "PUT /b/k v Wedge-TTL: 60 If-None-Match: *")
	_, err = s.Stock("gone").Spend(ctx, 1)
	if <-asked; !errors.Is(err, ErrShort) || errors.Is(err, ErrStale) || err.Error() != "not so many left: 0 here" {
		t.Errorf("none left: %v", err)
	}
	if n, err := s.Counter("new").Value(ctx); n != 0 || err != nil {
		t.Errorf("a counter that is not there: %d %v", n, err)
	}
}

func TestApologies(t *testing.T) {
	var got []Apology
	h := Apologies(func(_ context.Context, a Apology) error {
		if got = append(got, a); a.Who == "nobody" {
			return errors.New("no")
		}
		return nil
	})
	for text, want := range map[string]int{`{"store":"b","key":"seat","reason":"overwritten","who":"ada","value":"x"}`: 204, `{"who":"nobody"}`: 503, `{`: 400} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader(text)))
		if w.Code != want {
			t.Errorf("%s: status %d", text, w.Code)
		}
	}
	if len(got) != 2 {
		t.Errorf("%+v", got)
	}
	if _, err := json.Marshal(got); err != nil {
		t.Error(err)
	}
}
