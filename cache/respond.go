package cache

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"time"
)

// hit answers with a stored object; detail says what there is to say about that, if anything.
func (x *exchange) hit(o *object, now time.Time, stale bool, detail string) (*http.Response, error) {
	o.hits.Add(1)
	o.set(visited)
	ttl := o.lifetime - o.ageAt(now)
	out := outcome{hit: true, ttl: &ttl, detail: detail}
	switch {
	case detail != "":
	case o.is(ahead):
		out.detail = "prefetched"
	case o.sliced() > 0:
		out.detail = "sliced"
	}
	if stale {
		x.c.stats.Stale.Add(1)
	} else {
		x.c.stats.Hits.Add(1)
	}
	if !o.body.arrived(o.fields.get("Content-Length")) { // it is still on its way: this request shares the fetch
		out = outcome{fwd: "uri-miss", collapsed: true}
		x.c.stats.Collapsed.Add(1)
	}
	return x.respond(o, &out)
}

// whole reports whether the body has come to its end, and did not break off.
func (s *spool) whole() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isWhole()
}

// arrived reports whether all of the body is there. Who has just got the last byte of the announced ones may ask again before
// the writer has seen that no more come: that is a hit as well.
func (s *spool) arrived(announced string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := parseOffset(announced)
	return s.isWhole() || ok && s.size == n && s.long.err == nil
}

// length returns how long the body is, or is said to be; -1: not known.
func (o *object) length() int64 {
	if n := o.sliced(); n > 0 {
		return n
	}
	o.body.mu.Lock()
	whole, size := o.body.isWhole(), o.body.size
	o.body.mu.Unlock()
	if whole {
		return size
	}
	if n, ok := parseOffset(o.fields.get("Content-Length")); ok {
		return n
	}
	return -1
}

// respond makes the response that the request gets of o: all of it, a part, or that it has not changed.
func (x *exchange) respond(o *object, out *outcome) (*http.Response, error) {
	resp := &http.Response{
		StatusCode: o.status(), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: o.fields.header(), Request: x.req, ContentLength: o.length(),
	}
	if resp.ContentLength < 0 || len(o.trailer()) > 0 { // the names of some may come only with them
		resp.Trailer = http.Header{}
		for _, name := range o.trailer() {
			resp.Trailer[name] = nil
		}
	}
	resp.Status = strconv.Itoa(o.status()) + " " + http.StatusText(o.status())
	if age := o.ageAt(x.c.cfg.Now()) / time.Second; out.hit || age > 0 || out.status == http.StatusNotModified || out.collapsed {
		resp.Header["Age"] = []string{strconv.FormatInt(int64(age), 10)}
	}
	out.append(resp.Header, x.c.cfg.Name)
	coded := x.encode(o, resp)
	switch {
	case notModified(x.req, o.status(), &o.fields):
		return x.unmodified(resp), nil
	case x.req.Method == http.MethodHead:
		resp.Body = http.NoBody
		if coded != nil {
			resp.Header["Content-Length"] = []string{strconv.FormatInt(coded.size, 10)}
		}
		return resp, nil
	case coded != nil:
		return x.read(coded, resp, 0, -1)
	case o.sliced() > 0:
		return x.fromSlices(o, resp)
	case len(x.ranges) > 0 && o.status() == http.StatusOK && ifRange(x.req, &o.fields):
		return x.partial(o, resp)
	case o.part() != nil && len(x.ranges) == 1:
		return x.fromPart(o, resp)
	}
	return x.body(o, resp, 0, -1)
}

// unmodified turns a response into a 304.
func (x *exchange) unmodified(resp *http.Response) *http.Response {
	if resp.Body != nil {
		resp.Body.Close()
	}
	h := http.Header{}
	for _, name := range notModifiedFields {
		if v := resp.Header[name]; v != nil {
			h[name] = v
		}
	}
	resp.StatusCode, resp.Status, resp.Header = http.StatusNotModified, "304 Not Modified", h
	resp.Body, resp.ContentLength, resp.Trailer = http.NoBody, 0, nil
	return resp
}

// body adds n bytes of o's body from an offset; n < 0: all that follow.
func (x *exchange) body(o *object, resp *http.Response, from, n int64) (*http.Response, error) {
	return x.read(o.body, resp, from, n)
}

// read adds n bytes of a body from an offset; n < 0: all that follow.
func (x *exchange) read(body *spool, resp *http.Response, from, n int64) (*http.Response, error) {
	r, err := body.open(x.req.Context(), from, n)
	if err != nil {
		return nil, err
	}
	resp.Body, r.trailer = r, resp.Trailer
	if n >= 0 {
		resp.ContentLength = n
	}
	if resp.ContentLength >= 0 {
		resp.Header["Content-Length"] = []string{strconv.FormatInt(resp.ContentLength, 10)}
	}
	return resp, nil
}

// partial answers a request for ranges from a whole representation (RFC 9110 section 15.3.7).
func (x *exchange) partial(o *object, resp *http.Response) (*http.Response, error) {
	length := resp.ContentLength
	if length < 0 {
		return x.body(o, resp, 0, -1) // how long it is nobody knows yet; a server may ignore Range
	}
	var parts []part
	for _, r := range x.ranges {
		if from, to, ok := r.resolve(length); ok {
			parts = append(parts, part{from, to, length})
		}
	}
	switch {
	case len(parts) == 0:
		return unsatisfiable(resp, length), nil
	case len(parts) == 1:
		resp.StatusCode, resp.Status = http.StatusPartialContent, "206 Partial Content"
		resp.Header["Content-Range"] = []string{parts[0].String()}
		return x.body(o, resp, parts[0].from, parts[0].to-parts[0].from)
	case overlapping(parts) || !o.body.whole():
		return x.body(o, resp, 0, -1)
	}
	return x.multipart(o, resp, parts)
}

func overlapping(parts []part) bool {
	for i, a := range parts {
		for _, b := range parts[:i] {
			if a.from < b.to && b.from < a.to {
				return true
			}
		}
	}
	return false
}

func unsatisfiable(resp *http.Response, length int64) *http.Response {
	resp.StatusCode, resp.Status = http.StatusRequestedRangeNotSatisfiable, "416 Range Not Satisfiable"
	for _, name := range []string{"Content-Type", "Content-Encoding", "Etag", "Last-Modified", "Expires", "Cache-Control"} {
		delete(resp.Header, name)
	}
	resp.Header["Content-Range"] = []string{fmt.Sprintf("bytes */%d", length)}
	resp.Header["Content-Length"] = []string{"0"}
	resp.Body, resp.ContentLength = http.NoBody, 0
	return resp
}

// multipart answers with several parts in one body.
func (x *exchange) multipart(o *object, resp *http.Response, parts []part) (*http.Response, error) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	var readers []io.Reader
	var opened closers
	for _, p := range parts {
		h := textproto.MIMEHeader{"Content-Range": {p.String()}}
		if ct := o.fields.get("Content-Type"); ct != "" {
			h.Set("Content-Type", ct)
		}
		if _, err := w.CreatePart(h); err != nil {
			return nil, err
		}
		r, err := o.body.open(x.req.Context(), p.from, p.to-p.from)
		if err != nil {
			opened.Close()
			return nil, err
		}
		opened = append(opened, r)
		readers = append(readers, strings.NewReader(b.String()), r)
		b.Reset()
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	readers = append(readers, strings.NewReader(b.String()))
	length := int64(0)
	for i, r := range readers {
		if s, ok := r.(*strings.Reader); ok {
			length += s.Size()
		} else {
			length += parts[i/2].to - parts[i/2].from
		}
	}
	resp.StatusCode, resp.Status = http.StatusPartialContent, "206 Partial Content"
	resp.Header["Content-Type"] = []string{"multipart/byteranges; boundary=" + w.Boundary()}
	resp.Header["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	resp.Body, resp.ContentLength = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(readers...), opened}, length
	return resp, nil
}

// closers are closed together.
type closers []io.Closer

func (c closers) Close() (err error) {
	for _, r := range c {
		err = r.Close()
	}
	return err
}

// fromPart answers a request for one range from a stored part that covers it.
func (x *exchange) fromPart(o *object, resp *http.Response) (*http.Response, error) {
	p := o.part()
	from, to, ok := x.ranges[0].resolve(p.length)
	if !ok || from < p.from || to > p.to { // it came for just this request
		return x.body(o, resp, 0, -1)
	}
	resp.Header["Content-Range"] = []string{(&part{from, to, p.length}).String()}
	return x.body(o, resp, from-p.from, to-from)
}

// gatewayTimeout answers a request that wanted a stored response or none (RFC 9111 section 5.2.1.7).
func gatewayTimeout(req *http.Request, name string) *http.Response {
	resp := &http.Response{StatusCode: http.StatusGatewayTimeout, Status: "504 Gateway Timeout", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Length": {"0"}}, Body: http.NoBody, Request: req}
	out := outcome{detail: "only-if-cached"}
	out.append(resp.Header, name)
	return resp
}
