// Personalise: one page made at the edge of three parts. The head is the guest's own and
// goes out at once, the article is the same for everybody and cached, the offers are
// fetched for this visitor. The origin is as far away as ever; the visitor does not notice.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	edge "github.com/wedge-cloud/wedge/sdk/go"
)

//go:embed head.html
var head string

var origin = &http.Client{Transport: edge.Backend("origin")}

func main() { edge.Serve(http.HandlerFunc(serve)) }

func serve(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/":
		compose(w, r, visitor(r))
	case r.URL.Path == "/name" && r.Method == http.MethodPost:
		rename(w, r)
	default:
		http.NotFound(w, r)
	}
}

// compose starts both fetches, sends the head while they are under way, and then each part
// in the page's order as soon as it is there.
func compose(w http.ResponseWriter, r *http.Request, who string) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	article := later(func() (string, error) { return fetchArticle(ctx) })
	offers := later(func() (string, error) { return fetchOffers(ctx, who) })

	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "private, no-store")
	io.WriteString(w, head)
	io.WriteString(w, "<p class=hello>Good to see you, <b>"+html.EscapeString(who)+"</b>.</p>\n")
	w.(http.Flusher).Flush()
	sent := time.Since(start)

	writePart(w, "article", <-article)
	writePart(w, "aside", <-offers)
	io.WriteString(w, "<footer>head after "+millis(sent)+", whole page after "+millis(time.Since(start))+" in the guest</footer>\n")
}

// part is a piece of the page, or why there is none.
type part struct {
	html string
	err  error
}

// later runs f in a goroutine; the other goroutines go on while it waits for the origin.
func later(f func() (string, error)) <-chan part {
	c := make(chan part, 1)
	go func() {
		s, err := f()
		c <- part{s, err}
	}()
	return c
}

// writePart writes p in an element. A part that failed does not take the page with it.
func writePart(w http.ResponseWriter, element string, p part) {
	if p.err != nil {
		p.html = "<p class=sorry>This part is not available just now.</p>"
		edge.Log("errors").Write([]byte(element + ": " + p.err.Error()))
	}
	io.WriteString(w, "<"+element+">\n"+p.html+"</"+element+">\n")
	w.(http.Flusher).Flush()
}

const maxPart = 256 << 10 // bytes of one answer of the origin that are used

func get(ctx context.Context, target string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://origin.internal"+target, nil)
	if err != nil {
		return nil, err
	}
	resp, err := origin.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, statusError(resp.StatusCode)
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxPart))
}

type statusError int

func (e statusError) Error() string { return "the origin answered " + strconv.Itoa(int(e)) }

// fetchArticle fetches what all visitors share: the cache at the edge keeps it for a minute.
func fetchArticle(ctx context.Context) (string, error) {
	b, err := get(edge.WithCache(ctx, edge.Cache{TTL: time.Minute, SurrogateKeys: "article"}), "/article")
	return string(b), err
}

// fetchOffers fetches what is only for this visitor, and so never cached.
func fetchOffers(ctx context.Context, who string) (string, error) {
	b, err := get(edge.WithCache(ctx, edge.Cache{Pass: true}), "/api/offers?for="+url.QueryEscape(who))
	if err != nil {
		return "", err
	}
	var list []struct {
		Title string  `json:"title"`
		Price float64 `json:"price"`
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return "", err
	}
	out := "<h2>For you</h2>\n<ul>\n"
	for _, o := range list {
		out += "<li>" + html.EscapeString(o.Title) + " <b>€ " + strconv.FormatFloat(o.Price, 'f', 2, 64) + "</b></li>\n"
	}
	return out + "</ul>\n", nil
}

const maxName = 40 // bytes

// visitor returns the name in the visitor's cookie.
func visitor(r *http.Request) string {
	c, err := r.Cookie("name")
	if err != nil {
		return "stranger"
	}
	name, err := url.QueryUnescape(c.Value)
	if err != nil || name == "" || len(name) > maxName {
		return "stranger"
	}
	return name
}

// rename keeps the visitor's name in a cookie.
func rename(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	name := r.PostFormValue("name")
	if len(name) > maxName {
		http.Error(w, "a name has at most 40 bytes", http.StatusBadRequest)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: "name", Value: url.QueryEscape(name), Path: "/", MaxAge: 86400 * 30, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func millis(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', 1, 64) + " ms"
}
