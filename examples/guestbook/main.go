// Guestbook: a list of entries and a counter of visits that all PoPs share. Each PoP takes entries at once, whether it can reach
// the others or not; when it can again, all have all of them.
package main

import (
	_ "embed"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	edge "github.com/wedge-cloud/wedge/sdk/go"
	"github.com/wedge-cloud/wedge/sdk/go/shared"
)

//go:embed index.html
var page string

//go:embed page.js
var script string

func main() { edge.Serve(http.HandlerFunc(serve)) }

func serve(w http.ResponseWriter, r *http.Request) {
	book := shared.Open("book")
	switch r.Method + " " + r.URL.Path {
	case "GET /":
		answer(w, "text/html; charset=utf-8", page)
	case "GET /page.js":
		answer(w, "text/javascript; charset=utf-8", script)
	case "GET /api":
		show(w, r, book)
	case "POST /api/visit":
		if _, err := book.Counter("visits").Add(r.Context(), 1); err != nil {
			fail(w, err)
			return
		}
		show(w, r, book)
	case "POST /api/entry":
		sign(w, r, book)
	default:
		http.NotFound(w, r)
	}
}

func answer(w http.ResponseWriter, kind, text string) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-cache")
	io.WriteString(w, text)
}

// entry is what a visitor leaves.
type entry struct {
	Name string    `json:"name"`
	Text string    `json:"text"`
	PoP  string    `json:"pop"` // where it was written
	At   time.Time `json:"at"`
	ID   string    `json:"id"`
}

const (
	maxEntries = 200
	maxName    = 60  // bytes
	maxText    = 600 // bytes
)

// view is what the page shows.
type view struct {
	PoP     string  `json:"pop"`
	Age     float64 `json:"age"` // seconds; what others wrote since then may be missing. -1: this PoP has not heard of others
	Visits  int64   `json:"visits"`
	Entries []entry `json:"entries"` // the newest first
}

func show(w http.ResponseWriter, r *http.Request, book *shared.Store) {
	v := view{Age: -1, Entries: []entry{}}
	items, err := book.List("entries").Items(r.Context())
	if err == nil {
		v.Visits, err = book.Counter("visits").Value(r.Context())
	}
	if err != nil {
		fail(w, err)
		return
	}
	for _, item := range items {
		e := entry{ID: item.ID, At: item.At}
		if json.Unmarshal(item.Value, &e) == nil {
			v.Entries = append(v.Entries, e)
		}
	}
	at := book.Last()
	if v.PoP = at.PoP; at.Known {
		v.Age = at.Age.Seconds()
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

func sign(w http.ResponseWriter, r *http.Request, book *shared.Store) {
	var e entry
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&e); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	e.Name, e.Text = strings.TrimSpace(e.Name), strings.TrimSpace(e.Text)
	if e.Name == "" || e.Text == "" || len(e.Name) > maxName || len(e.Text) > maxText {
		http.Error(w, "an entry needs a name and a text, and neither may be long", http.StatusBadRequest)
		return
	}
	ctx := r.Context()
	if _, err := book.Counter("visits").Value(ctx); err != nil { // it says which PoP this is
		fail(w, err)
		return
	}
	text := map[string]string{"name": e.Name, "text": e.Text, "pop": book.Last().PoP}
	if err := book.List("entries").Prepend(ctx, text, maxEntries); err != nil {
		fail(w, err)
		return
	}
	show(w, r, book)
}

func fail(w http.ResponseWriter, err error) {
	edge.Log("errors").Write([]byte(err.Error()))
	http.Error(w, err.Error(), http.StatusBadGateway)
}
