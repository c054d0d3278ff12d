package cache

import (
	"maps"
	"net/http"
	"net/textproto"
	"strings"
	"time"
)

// conditions are the fields that make a request conditional or partial (RFC 9110 sections 13.1 and 14.2).
var conditions = []string{"If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since", "If-Range", "Range"}

// withoutConditions returns req for all of the representation.
func withoutConditions(req *http.Request) *http.Request {
	out := req
	for _, name := range conditions {
		if req.Header[name] != nil {
			if out == req {
				out = req.Clone(req.Context())
			}
			delete(out.Header, name)
		}
	}
	return out
}

// conditional returns the request that asks whether one of the objects with these entity tags, or the
// one last modified then, is still good (RFC 9111 section 4.3.1).
func conditional(req *http.Request, tags []string, modified string) *http.Request {
	out := *req
	out.Header = maps.Clone(req.Header)
	if out.Header == nil {
		out.Header = http.Header{}
	}
	for _, name := range conditions {
		delete(out.Header, name)
	}
	if len(tags) > 0 {
		out.Header["If-None-Match"] = []string{strings.Join(tags, ", ")}
	}
	if modified != "" {
		out.Header["If-Modified-Since"] = []string{modified}
	}
	return &out
}

// lookup is what fields can be looked up in.
type lookup interface {
	get(name string) string
	values(name string) []string
}

// mapped is a header as a lookup.
type mapped http.Header

func (m mapped) get(name string) string      { return http.Header(m).Get(name) }
func (m mapped) values(name string) []string { return m[name] }

// notModified reports whether the client's own conditions let a 200 with these fields be answered
// with 304 (RFC 9110 section 13.2.2).
func notModified(req *http.Request, status int, h lookup) bool {
	if status != http.StatusOK {
		return false
	}
	if lines := req.Header["If-None-Match"]; len(lines) > 0 {
		return noneMatch(lines, h.get("Etag"))
	}
	since, ok := parseDate(req.Header["If-Modified-Since"])
	if !ok {
		return false
	}
	modified, ok := parseDate(h.values("Last-Modified"))
	if !ok {
		if modified, ok = parseDate(h.values("Date")); !ok {
			return false
		}
	}
	return !modified.After(since)
}

// noneMatch reports whether a tag of the list is etag, compared weakly.
func noneMatch(lines []string, etag string) bool {
	for _, line := range lines {
		for line != "" {
			var item string
			item, line = nextListItem(line)
			if item == "*" || item != "" && etag != "" && strings.TrimPrefix(item, "W/") == strings.TrimPrefix(etag, "W/") {
				return true
			}
		}
	}
	return false
}

func isStrong(etag string) bool { return etag != "" && !strings.HasPrefix(etag, "W/") }

// freshened returns the stored fields as a 304 updates them (RFC 9111 section 3.2). What describes
// the stored body itself stays.
func freshened(stored, update http.Header, strip []string) http.Header {
	out := maps.Clone(stored)
	for name, values := range storedFields(update, strip) {
		if !aboutBody[name] {
			out[name] = values
		}
	}
	return out
}

var aboutBody = map[string]bool{"Content-Length": true, "Content-Encoding": true, "Content-Range": true, "Content-Type": true}

// notModifiedFields are those that a 304 has (RFC 9110 section 15.4.5).
var notModifiedFields = []string{"Cache-Control", "Content-Location", "Date", "Etag", "Expires", "Vary", "Age", "Cache-Status",
	"Last-Modified", "Cdn-Cache-Control", "Wedge-Cache-Control", "Surrogate-Control", "Surrogate-Key", "Access-Control-Allow-Origin", "Set-Cookie"}

// ifRange reports whether a Range field is to be heeded (RFC 9110 section 13.1.5).
func ifRange(req *http.Request, h lookup) bool {
	v := textproto.TrimString(req.Header.Get("If-Range"))
	if v == "" {
		return true
	}
	if strings.HasPrefix(v, `"`) {
		return v == h.get("Etag")
	}
	since, err := http.ParseTime(v)
	modified, ok := parseDate(h.values("Last-Modified"))
	if err != nil || !ok || !modified.Equal(since) {
		return false
	}
	// A date is a strong validator only once the second it names has passed (section 8.8.2.2).
	date, ok := parseDate(h.values("Date"))
	return ok && date.Sub(modified) >= time.Second
}
