// Sessions: a page whose visitor travels between PoPs, and sees where the session is, and what it cost to have it there.
package main

import (
	_ "embed"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	edge "github.com/wedge-cloud/wedge/sdk/go"
)

//go:embed page.html
var page string

//go:embed pops.json
var popsFile []byte

// place is a PoP of the world that the README starts. The first has port 7701, the others follow.
type place struct {
	Name, City    string
	Lat, Lon      float64
	Jurisdictions []string
}

const firstPort = 7701

// trip is what the session holds: the visits so far, the last ones.
type trip struct {
	Visits int     `json:"visits"`
	Last   []visit `json:"last"`
}

type visit struct {
	PoP string `json:"pop"`
	How string `json:"how"` // the session was reached
}

const maxVisits = 12

func main() { edge.Serve(http.HandlerFunc(serve)) }

func serve(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/":
		show(w, r)
	case r.URL.Path == "/end" && r.Method == http.MethodPost:
		end(w, r)
	default:
		http.NotFound(w, r)
	}
}

func show(w http.ResponseWriter, r *http.Request) {
	var t trip
	s, err := edge.OpenSession(w, r)
	if err == nil && !s.New {
		err = json.Unmarshal(s.Data, &t)
	}
	if err != nil {
		away(w, err)
		return
	}
	how := s.Status
	here := os.Getenv("FASTLY_POP")
	t.Visits++
	t.Last = append(t.Last, visit{here, how})
	t.Last = t.Last[max(0, len(t.Last)-maxVisits):]
	if s.Data, err = json.Marshal(t); err == nil {
		err = s.Save()
	}
	if err != nil {
		away(w, err)
		return
	}
	if how == "" {
		how, t.Last[len(t.Last)-1].How = s.Status, s.Status
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "private, no-store")
	io.WriteString(w, render(r.Host, here, how, &t))
}

// end forgets the session.
func end(w http.ResponseWriter, r *http.Request) {
	s, err := edge.OpenSession(w, r)
	if err == nil {
		err = s.End()
	}
	if err != nil {
		away(w, err)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func away(w http.ResponseWriter, err error) {
	w.Header().Set("Retry-After", "1")
	http.Error(w, err.Error(), http.StatusServiceUnavailable)
}

// render makes the page.
func render(host, here, how string, t *trip) string {
	name, _, _ := strings.Cut(host, ":")
	var places []place
	if err := json.Unmarshal(popsFile, &places); err != nil {
		return err.Error()
	}
	at := homeOf(how, here)
	var dots, steps strings.Builder
	for i, p := range places {
		x, y := strconv.FormatFloat(p.Lon+180, 'f', 1, 64), strconv.FormatFloat(90-p.Lat, 'f', 1, 64)
		class := "pop"
		if p.Name == here {
			class += " here"
		}
		if p.Name == at {
			class += " home"
		}
		dots.WriteString(`<a href="http://` + html.EscapeString(name) + ":" + strconv.Itoa(firstPort+i) + `/"><g class="` + class + `" transform="translate(` + x + " " + y +
			`)"><circle r=4 /><text y=-7>` + p.City + `</text><text y=12 class=law>` + strings.Join(p.Jurisdictions, " ") + "</text></g></a>\n")
	}
	for i := len(t.Last) - 1; i >= 0; i-- {
		v := t.Last[i]
		steps.WriteString("<tr><td>" + html.EscapeString(v.PoP) + "<td>" + html.EscapeString(v.How) + "\n")
	}
	other, law := "sessions-eu.localhost", "goes wherever you go"
	if strings.HasPrefix(name, "sessions-eu") {
		other, law = "sessions.localhost", "stays in the EU"
	}
	return strings.NewReplacer("{dots}", dots.String(), "{steps}", steps.String(), "{here}", html.EscapeString(here), "{home}", html.EscapeString(at),
		"{how}", html.EscapeString(how), "{visits}", strconv.Itoa(t.Visits), "{other}", other+":"+strconv.Itoa(firstPort), "{law}", law).Replace(page)
}

// homeOf returns the PoP where the session is now: the one that answered for it, if it was used from afar.
func homeOf(how, here string) string {
	if rest, ok := strings.CutPrefix(how, `remote; pop="`); ok {
		name, _, _ := strings.Cut(rest, `"`)
		return name
	}
	return here
}
