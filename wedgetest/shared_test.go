package wedgetest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/manifest"
	"github.com/wedge-cloud/wedge/node"
	fleet "github.com/wedge-cloud/wedge/world"
)

// fleetOf is a world that serves an example.
type fleetOf struct {
	*fleet.World
	t *testing.T
}

var everyPoP = []string{"lhr", "nyc", "nrt"}

func serveExample(t *testing.T, name string) fleetOf {
	t.Helper()
	dir := Root("examples", name)
	guest := GoGuest(t, dir)
	quiet := slog.New(slog.DiscardHandler)
	w, err := fleet.Open(t.Context(), fleet.Config{Dir: t.TempDir(), Log: quiet, Flat: true, Node: func(wedge.PoP) node.Config {
		return node.Config{HTTP: []string{"127.0.0.1:0"}, Quiet: true, Log: quiet, DrainTimeout: time.Second, Load: node.One(func(context.Context) (*manifest.App, error) {
			app, err := manifest.Load(filepath.Join(dir, "wedge.toml"))
			if err == nil {
				app.Version.Guest = guest
			}
			return app, err
		})}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return fleetOf{w, t}
}

// ask sends a request to a PoP, and reads the answer into v if that is not nil.
func (f fleetOf) ask(pop, method, path, body string, v any) (status int, text string) {
	f.t.Helper()
	base := ""
	for _, s := range f.Status() {
		if s.PoP.Name == pop {
			base = s.URL
		}
	}
	req, err := http.NewRequestWithContext(f.t.Context(), method, base+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && v != nil && resp.StatusCode == 200 {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func (f fleetOf) becomes(what string, ok func() bool) {
	f.t.Helper()
	for end := time.Now().Add(15 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("%s: not within 15 s", what)
		}
	}
}

// TestGuestbook: what is written at PoPs that cannot reach each other is in both their books, and then in all.
func TestGuestbook(t *testing.T) {
	f := serveExample(t, "guestbook")
	type view struct {
		PoP     string
		Visits  int
		Entries []struct{ Name, Text, PoP string }
	}
	if status, page := f.ask("lhr", "GET", "/", "", nil); status != 200 || !strings.Contains(page, "/page.js") {
		t.Errorf("the page: %d", status)
	}
	if err := f.Cut("nrt"); err != nil {
		t.Fatal(err)
	}
	for _, pop := range everyPoP {
		var v view
		if status, text := f.ask(pop, "POST", "/api/visit", "{}", &v); status != 200 || v.PoP != pop {
			t.Fatalf("%s: %d %s", pop, status, text)
		}
		if status, text := f.ask(pop, "POST", "/api/entry", `{"name":"Ada","text":"from `+pop+`"}`, &v); status != 200 || len(v.Entries) == 0 || v.Entries[0].Text != "from "+pop || v.Entries[0].PoP != pop {
			t.Fatalf("%s: %d %s", pop, status, text)
		}
	}
	if status, _ := f.ask("nrt", "POST", "/api/entry", `{"name":" ","text":"x"}`, nil); status != 400 {
		t.Errorf("an entry without a name: %d", status)
	}
	if err := f.Heal("nrt"); err != nil {
		t.Fatal(err)
	}
	for _, pop := range everyPoP {
		f.becomes("all is in "+pop+"'s book", func() bool {
			var v view
			f.ask(pop, "GET", "/api", "", &v)
			return v.Visits == 3 && len(v.Entries) == 3
		})
	}
}

// TestTickets: PoPs that cannot reach each other sell what they hold; a seat that two gave away is one buyer's, and the other is told and
// has another.
func TestTickets(t *testing.T) {
	f := serveExample(t, "tickets")
	type view struct {
		Total, Sold, Left int
		Plan              map[string]string
		Sorry             []struct{ Who, Seat, Now, PoP string }
	}
	see := func(pop string) (v view) { f.ask(pop, "GET", "/api", "", &v); return v }
	f.becomes("the sale is open", func() bool {
		status, _ := f.ask("lhr", "POST", "/api/open", "{}", nil)
		return status == 200
	})
	f.becomes("nrt opens no second one", func() bool {
		status, _ := f.ask("nrt", "POST", "/api/open", "{}", nil)
		return status == 200 && see("nrt").Total == 100
	})
	buy := func(pop, who string, seat int) int {
		status, _ := f.ask(pop, "POST", "/api/buy", fmt.Sprintf(`{"name":%q,"seat":%d}`, who, seat), nil)
		return status
	}
	for i, pop := range everyPoP {
		f.becomes(pop+" sells", func() bool { return buy(pop, "first at "+pop, 91+i) == 200 })
	}
	f.becomes("all know of three", func() bool {
		return see("lhr").Sold == 3 && see("nyc").Sold == 3 && see("nrt").Sold == 3 && len(see("lhr").Plan) == 3
	})
	if err := f.Cut(everyPoP...); err != nil {
		t.Fatal(err)
	}
	held := map[string]int{}
	for _, pop := range everyPoP {
		held[pop] = see(pop).Left
	}
	if held["nyc"] < 5 || held["nrt"] < 5 || held["lhr"]+held["nyc"]+held["nrt"] != 97 {
		t.Errorf("held: %v", held)
	}
	sold := 0
	for _, pop := range []string{"nyc", "nrt"} {
		if buy(pop, "Ada at "+pop, 7) != 200 || buy(pop, "again", 7) != 409 {
			t.Errorf("cut off, %s does not sell seat 7 once", pop)
		}
		sold++
		for ; see(pop).Left > 0; sold++ {
			if status := buy(pop, pop, 0); status != 200 {
				t.Fatalf("%s has more and does not sell it: status %d", pop, status)
			}
		}
		if status, text := f.ask(pop, "POST", "/api/buy", `{"name":"late"}`, nil); status != 409 || !strings.Contains(text, "which cannot be reached") {
			t.Errorf("%s has sold all it holds: %d %s", pop, status, text)
		}
	}
	if err := f.Heal(everyPoP...); err != nil {
		t.Fatal(err)
	}
	f.becomes("whoever lost a seat has another, and all know", func() bool {
		for _, pop := range everyPoP {
			v := see(pop)
			people := map[string]bool{}
			for _, who := range v.Plan {
				people[who] = true
			}
			if v.Sold != 3+sold || len(v.Sorry) == 0 || !people["Ada at nyc"] || !people["Ada at nrt"] || len(v.Plan) != v.Sold {
				return false
			}
		}
		return true
	})
	if status, _ := f.ask("lhr", "POST", "/sorry", `{"key":"plan","path":["7"],"who":"a thief"}`, nil); status != 404 {
		t.Errorf("a client apologises: status %d", status)
	}
}
