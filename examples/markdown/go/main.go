// Markdown at the edge: every key stroke goes to this guest and comes back as HTML,
// before the next frame is drawn.
package main

import (
	_ "embed"
	"errors"
	"io"
	"net/http"

	"github.com/gomarkdown/markdown"
	"github.com/gomarkdown/markdown/ast"
	"github.com/gomarkdown/markdown/html"
	"github.com/gomarkdown/markdown/parser"

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
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Write(toHTML(text))
}

// toHTML renders Markdown without anything that could run: raw HTML is left out, links go to
// http, https and mail only, and a code block's language, which the renderer would copy
// unescaped, is dropped. A fuzz test watches over that; the page's own policy forbids other
// scripts besides.
func toHTML(text []byte) []byte {
	p := parser.NewWithExtensions(parser.NoIntraEmphasis | parser.Tables | parser.FencedCode |
		parser.Autolink | parser.Strikethrough | parser.SpaceHeadings | parser.BackslashLineBreak | parser.NoEmptyLineBeforeBlock)
	return markdown.ToHTML(text, p, html.NewRenderer(html.RendererOptions{
		Flags:          html.SkipHTML | html.Safelink | html.NoreferrerLinks,
		RenderNodeHook: dropLanguage,
	}))
}

func dropLanguage(_ io.Writer, node ast.Node, _ bool) (ast.WalkStatus, bool) {
	if block, ok := node.(*ast.CodeBlock); ok {
		block.Info = nil
	}
	return ast.GoToNext, false
}
