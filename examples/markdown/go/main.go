// Markdown at the edge: every key stroke goes to this guest and comes back as HTML,
// before the next frame is drawn.
package main

import (
	"bytes"
	_ "embed"
	"errors"
	"io"
	"net/http"

	"github.com/yuin/goldmark"

	edge "github.com/wedge-cloud/wedge/sdk/go"
)

//go:embed index.html
var page string

// maxText bounds what one request may ask to be rendered, in bytes.
const maxText = 256 << 10

func main() { edge.Serve(http.HandlerFunc(serve)) }

func serve(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/" && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, page)
	case r.URL.Path == "/render" && r.Method == http.MethodPost:
		render(w, r)
	default:
		http.NotFound(w, r)
	}
}

func render(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxText))
	if err != nil {
		status := http.StatusBadRequest
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, "cannot read the text: "+err.Error(), status)
		return
	}
	html, err := toHTML(text)
	if err != nil {
		http.Error(w, "cannot render: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Write(html)
}

// renderer leaves raw HTML and links like javascript: out; that is goldmark's default. A
// fuzz test watches over it, and the page's own policy forbids other scripts besides. The
// extensions (tables and more) are left out because the guest would compile their regular
// expressions at each start.
var renderer = goldmark.New()

func toHTML(text []byte) ([]byte, error) {
	var out bytes.Buffer
	err := renderer.Convert(text, &out)
	return out.Bytes(), err
}
