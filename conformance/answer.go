package conformance

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// reply is what the origin sends for one request, after the script has met the request.
type reply struct {
	status int
	fields []string
	body   string
	bare   bool // no body, whatever the length says
}

// answer writes the scripted answer a to the request s.
func (p *play) answer(w io.Writer, a answer, s *seen) error {
	for _, i := range a.interim {
		line := p.vars.must(i.field)
		p.note("    origin answers %d %s\n", i.status, line)
		fmt.Fprintf(w, "HTTP/1.1 %d %s\r\n%s\r\n\r\n", i.status, http.StatusText(i.status), line)
	}
	if a.cut == nothing {
		p.note("    origin hangs up\n")
		return errHangUp
	}
	r := p.reply(a, s)
	p.note("    origin answers %d\n%s", r.status, "        "+strings.Join(r.fields, "\n        ")+"\n")
	_, err := io.WriteString(w, head(r.status, r.fields)+framed(r, a, p.vars))
	if err == nil && (a.cut != whole || a.length != "") {
		err = errHangUp
	}
	return err
}

func head(status int, fields []string) string {
	text := http.StatusText(status)
	return fmt.Sprintf("HTTP/1.1 %d %s\r\n%s\r\n\r\n", status, text, strings.Join(fields, "\r\n"))
}

// reply decides what goes out: the script as it is, or what a truthful origin makes of it.
func (p *play) reply(a answer, s *seen) reply {
	method, _ := joined(s.fields, ":method")
	r := reply{status: a.status, body: p.c.bodyOf(s.n), bare: method == "HEAD"}
	for _, f := range a.fields {
		r.fields = append(r.fields, p.vars.must(f))
	}
	if a.status == http.StatusNotModified && !s.conditional() {
		// Nobody asked whether it was modified: the answer is the whole, and as long as it is.
		r.status = http.StatusOK
		r.fields = slices.DeleteFunc(r.fields, func(f string) bool { return strings.HasPrefix(f, "Content-Length:") })
	}
	own := parseFields(r.fields)
	if a.validates && notModified(own, s.fields) {
		r.status = http.StatusNotModified
	}
	if a.ranges {
		r.cutRange(own, s.fields)
	}
	if _, n := joined(own, "Date"); n == 0 && !a.noDate {
		r.fields = append(r.fields, "Date: "+time.Now().UTC().Format(http.TimeFormat))
	}
	if r.status == http.StatusNotModified || r.status == http.StatusNoContent {
		r.bare = true
	}
	if r.status != http.StatusNotModified {
		// In a 304 it would replace the stored one.
		r.fields = append(r.fields, "Conf-Answer: "+strconv.Itoa(s.n))
	}
	r.fields = append(r.fields, framing(r, a, own)...)
	return r
}

// framing returns the field that says where the body ends.
func framing(r reply, a answer, own []field) []string {
	_, said := joined(own, "Content-Length")
	_, coded := joined(own, "Transfer-Encoding")
	switch {
	case said+coded > 0, a.length == "none", r.status == http.StatusNoContent, r.status == http.StatusNotModified:
		return nil
	case a.chunked:
		return []string{"Transfer-Encoding: chunked"}
	case a.length != "":
		return []string{"Content-Length: " + a.length}
	}
	return []string{"Content-Length: " + strconv.Itoa(len(r.body))}
}

// framed returns the body as it goes over the wire.
func framed(r reply, a answer, v vars) string {
	if r.bare {
		return ""
	}
	body, end := r.body, a.cut == whole
	if !end {
		body = body[:min(a.cut, len(body))]
	}
	if !a.chunked {
		return body
	}
	var b strings.Builder
	if body != "" {
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(body), body)
	}
	if end {
		b.WriteString("0\r\n")
		for _, t := range a.trailers {
			b.WriteString(v.must(t) + "\r\n")
		}
		b.WriteString("\r\n")
	}
	return b.String()
}

func parseFields(lines []string) []field {
	var fields []field
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ":")
		fields = append(fields, field{name, strings.Trim(value, " \t")})
	}
	return fields
}

// notModified follows RFC 9110 13.2.2, for tags in a simple list.
func notModified(own, asked []field) bool {
	tag, _ := joined(own, "ETag")
	if tags, n := joined(asked, "If-None-Match"); n > 0 {
		for t := range strings.SplitSeq(tags, ",") {
			t = strings.TrimSpace(t)
			if t == "*" || strings.TrimPrefix(t, "W/") == strings.TrimPrefix(tag, "W/") {
				return true
			}
		}
		return false
	}
	since, n := joined(asked, "If-Modified-Since")
	modified, _ := joined(own, "Last-Modified")
	s, err1 := http.ParseTime(since)
	m, err2 := http.ParseTime(modified)
	return n > 0 && err1 == nil && err2 == nil && !m.After(s)
}

// cutRange follows RFC 9110 14.2 for one range; for several it sends the whole.
func (r *reply) cutRange(own, asked []field) {
	r.fields = append(r.fields, "Accept-Ranges: bytes")
	spec, n := joined(asked, "Range")
	if n == 0 || r.status != http.StatusOK || !ifRange(own, asked) {
		return
	}
	first, last, ok := parseRange(spec, len(r.body))
	if !ok {
		return
	}
	if first >= len(r.body) {
		r.fields = append(r.fields, fmt.Sprintf("Content-Range: bytes */%d", len(r.body)))
		r.status, r.body = http.StatusRequestedRangeNotSatisfiable, ""
		return
	}
	r.fields = append(r.fields, fmt.Sprintf("Content-Range: bytes %d-%d/%d", first, last, len(r.body)))
	r.status, r.body = http.StatusPartialContent, r.body[first:last+1]
}

func ifRange(own, asked []field) bool {
	want, n := joined(asked, "If-Range")
	tag, _ := joined(own, "ETag")
	date, _ := joined(own, "Last-Modified")
	return n == 0 || want == tag && !strings.HasPrefix(tag, "W/") || want == date
}

func parseRange(spec string, size int) (first, last int, ok bool) {
	spec, ok = strings.CutPrefix(spec, "bytes=")
	from, to, dash := strings.Cut(spec, "-")
	if !ok || !dash || strings.Contains(spec, ",") {
		return 0, 0, false
	}
	if from == "" {
		n, err := strconv.Atoi(to)
		return max(0, size-n), size - 1, err == nil && n > 0
	}
	first, err := strconv.Atoi(from)
	last = size - 1
	if to != "" && err == nil {
		var n int
		n, err = strconv.Atoi(to)
		last = min(last, n)
	}
	return first, last, err == nil
}
