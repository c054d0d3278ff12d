// Tickets: a hundred seats, sold by every PoP at once, also while none can reach another. Each PoP sells what it holds a claim on, so never
// are more sold than there are. Which seat one gets is decided where one buys; if two PoPs that cannot reach each other give
// the same seat away, one of the buyers gets an apology and another seat.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	edge "github.com/wedge-cloud/wedge/sdk/go"
	"github.com/wedge-cloud/wedge/sdk/go/shared"
)

//go:embed index.html
var page string

//go:embed page.js
var script string

const (
	seats   = 100
	maxName = 60 // bytes
)

func main() { edge.Serve(http.HandlerFunc(serve)) }

func serve(w http.ResponseWriter, r *http.Request) {
	sale := shared.Open("sale")
	switch r.Method + " " + r.URL.Path {
	case "GET /":
		answer(w, "text/html; charset=utf-8", page)
	case "GET /page.js":
		answer(w, "text/javascript; charset=utf-8", script)
	case "GET /api":
		show(w, r, sale)
	case "POST /api/open":
		open(w, r, sale)
	case "POST /api/buy":
		buy(w, r, sale)
	case "POST /sorry":
		shared.Apologies(func(ctx context.Context, a shared.Apology) error { return sorry(ctx, sale, a) }).ServeHTTP(w, r)
	default:
		http.NotFound(w, r)
	}
}

func answer(w http.ResponseWriter, kind, text string) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-cache")
	io.WriteString(w, text)
}

// view is what the page shows.
type view struct {
	PoP   string            `json:"pop"`
	Age   float64           `json:"age"`   // seconds; what others sold since then may be missing. -1: this PoP has not heard of others
	Total int64             `json:"total"` // 0: the sale is not open
	Sold  int64             `json:"sold"`  // as far as is known here
	Left  int64             `json:"left"`  // what this PoP may sell without asking
	Held  map[string]int64  `json:"held"`  // what PoPs hold shares of, by their names
	Plan  map[string]string `json:"plan"`  // who sits where
	Sorry []apology         `json:"sorry"` // the newest first
}

type apology struct {
	Who  string `json:"who"`
	Seat string `json:"seat"`
	Now  string `json:"now"` // who has it instead
	PoP  string `json:"pop"` // which promised it
}

func show(w http.ResponseWriter, r *http.Request, sale *shared.Store) {
	ctx := r.Context()
	v := view{Age: -1, Held: map[string]int64{}, Plan: map[string]string{}, Sorry: []apology{}}
	items, err := sale.List("sorry").Items(ctx)
	if err == nil {
		err = sale.Map("plan").All(ctx, &v.Plan)
	}
	var stock shared.StockState
	if err == nil {
		stock, err = sale.Stock("seats").State(ctx)
	}
	if err != nil {
		fail(w, err)
		return
	}
	at := sale.Last()
	if v.PoP = at.PoP; at.Known {
		v.Age = at.Age.Seconds()
	}
	v.Total, v.Sold, v.Left = stock.Total, stock.Spent, stock.Left
	for _, s := range stock.Shares {
		pop, _, _ := strings.Cut(s.Holder, ".")
		v.Held[pop] += s.Left
	}
	for _, item := range items {
		var a apology
		if json.Unmarshal(item.Value, &a) == nil {
			v.Sorry = append(v.Sorry, a)
		}
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

// open puts the seats up for sale, once.
func open(w http.ResponseWriter, r *http.Request, sale *shared.Store) {
	err := shared.Open("desk").Put(r.Context(), "open", []byte("yes"), &shared.Put{Add: true})
	if err == nil {
		_, err = sale.Stock("seats").Add(r.Context(), seats)
	}
	if err != nil && !errors.Is(err, shared.ErrConflict) { // another has opened it
		fail(w, err)
		return
	}
	show(w, r, sale)
}

// buy sells one seat: the one that is wished for, or the first that is free as far as is known here.
func buy(w http.ResponseWriter, r *http.Request, sale *shared.Store) {
	var want struct {
		Name string `json:"name"`
		Seat int    `json:"seat"` // 0: any
	}
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&want)
	if want.Name = strings.TrimSpace(want.Name); err != nil || want.Name == "" || len(want.Name) > maxName || want.Seat < 0 || want.Seat > seats {
		http.Error(w, "say who you are, and a seat from 1 to 100", http.StatusBadRequest)
		return
	}
	ctx, plan := r.Context(), map[string]string{}
	if err := sale.Map("plan").All(ctx, &plan); err != nil {
		fail(w, err)
		return
	}
	if want.Seat == 0 {
		want.Seat = free(plan)
	}
	seat := strconv.Itoa(want.Seat)
	if by := plan[seat]; by != "" || want.Seat == 0 {
		http.Error(w, "seat "+seat+" is taken", http.StatusConflict)
		return
	}
	if _, err := sale.Stock("seats").Spend(ctx, 1); err != nil { // from here on the buyer has a seat, whichever
		fail(w, err)
		return
	}
	if err := sale.Map("plan").Register(seat).Set(ctx, want.Name, want.Name); err != nil {
		fail(w, err)
		return
	}
	show(w, r, sale)
}

// free returns a seat that nobody is known to have, 0 if there is none.
func free(plan map[string]string) int {
	for n := 1; n <= seats; n++ {
		if plan[strconv.Itoa(n)] == "" {
			return n
		}
	}
	return 0
}

// sorry is told whose seat another has: the buyer gets another one, and the page says so.
func sorry(ctx context.Context, sale *shared.Store, a shared.Apology) error {
	if a.Key != "plan" || len(a.Path) != 1 {
		return nil
	}
	plan := map[string]string{}
	if err := sale.Map("plan").All(ctx, &plan); err != nil {
		return err
	}
	var now string
	_ = json.Unmarshal(a.Instead, &now) // where it is a text it is a name
	if n := free(plan); n > 0 {
		if err := sale.Map("plan").Register(strconv.Itoa(n)).Set(ctx, a.Who, a.Who); err != nil {
			return err
		}
	}
	pop, _, _ := strings.Cut(a.Writer, ".")
	return sale.List("sorry").Prepend(ctx, apology{a.Who, a.Path[0], now, pop}, seats)
}

func fail(w http.ResponseWriter, err error) {
	if errors.Is(err, shared.ErrShort) {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	edge.Log("errors").Write([]byte(err.Error()))
	http.Error(w, err.Error(), http.StatusBadGateway)
}
