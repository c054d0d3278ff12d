package cache

import (
	"net/http"
	"path"
	"strings"
)

// Deception armour. An origin that answers /account/x.css with the account's page lets a client have it
// stored, by whoever keeps what looks like a style sheet, and read by others. So what a path's extension
// says and what the response says must agree, or the response is not kept.

// static are extensions of files that are the same for everybody, with what the type must contain.
var static = map[string]string{
	".css": "css", ".js": "javascript", ".mjs": "javascript", ".png": "image", ".jpg": "image", ".jpeg": "image", ".gif": "image",
	".webp": "image", ".avif": "image", ".ico": "image", ".svg": "image", ".bmp": "image", ".woff": "font", ".woff2": "font", ".ttf": "font",
	".otf": "font", ".mp4": "video", ".webm": "video", ".mp3": "audio", ".pdf": "pdf", ".zip": "zip", ".wasm": "wasm",
}

// deceptive reports whether a response is a page or data, and its path says that it is a file of another type.
func deceptive(req *http.Request, h http.Header) bool {
	want, ok := static[strings.ToLower(path.Ext(req.URL.Path))]
	if !ok {
		return false
	}
	kind, _, _ := strings.Cut(strings.ToLower(h.Get("Content-Type")), ";")
	switch kind = strings.TrimSpace(kind); kind {
	case "text/html", "application/json", "text/json", "text/xml", "application/xml":
		return true
	}
	return (strings.HasSuffix(kind, "+json") || strings.HasSuffix(kind, "+xml")) && !strings.Contains(kind, want)
}
