package cache

import (
	"context"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
)

// A guest that caches responses itself asks at each step what the rules of HTTP say, and may do otherwise.

// maxPass bounds how long a guest can keep requests from waiting for each other.
const maxPass = time.Hour

// BackendRequest returns the request for all of the response, or whether the stale one is still good.
func (t *Transaction) BackendRequest() *http.Request {
	t.asked = t.c.cfg.Now()
	req := (&exchange{req: t.req}).get()
	if o := t.found; o != nil && o.is(validator) && t.state&wedge.CacheStale != 0 {
		var tags []string
		if tag := o.fields.get("Etag"); tag != "" {
			tags = []string{tag}
		}
		return conditional(req, tags, o.fields.get("Last-Modified"))
	}
	return withoutConditions(req)
}

// Prepare makes of a backend's response what is to be stored, or passed on, and says what to do with it.
func (t *Transaction) Prepare(status int, h http.Header) (wedge.CacheAction, int, http.Header) {
	if status == http.StatusNotModified && t.confirmed(h) {
		return wedge.CacheUpdate, t.found.status(), aged(freshened(t.found.fields.header(), h, nil), h)
	}
	v := judge(t.req, status, h, t.asked, t.c.cfg.Now(), t.pol)
	if n, ok := parseOffset(h.Get("Content-Length")); ok && n > t.c.cfg.MaxObject {
		v.store = false
	}
	switch {
	case v.store:
		return wedge.CacheInsert, status, aged(storedFields(h, v.strip), h)
	case status >= 500, v.detail == "authorization", v.detail == "request-no-store": // the next one may be otherwise
		return wedge.CacheDoNotStore, status, aged(storedFields(h, nil), h)
	}
	return wedge.CacheRecordPass, status, aged(storedFields(h, nil), h)
}

// confirmed reports whether a 304 with these fields is about what was found.
func (t *Transaction) confirmed(h http.Header) bool {
	etag := h.Get("Etag")
	return t.found != nil && t.state&wedge.CacheStale != 0 && (etag == "" || etag == t.found.fields.get("Etag"))
}

// aged gives back the age that a response came with, for Suggest to see.
func aged(h, from http.Header) http.Header {
	if v := from["Age"]; v != nil {
		h["Age"] = v
	}
	return h
}

// Suggest returns what the fields of a response say about keeping it. The first surrogate key is made of the
// key in the cache, so that a guest can purge this one alone.
func (t *Transaction) Suggest(status int, h http.Header) wedge.CacheWrite {
	v := judge(t.req, status, h, t.asked, t.c.cfg.Now(), t.pol)
	w := wedge.CacheWrite{MaxAge: v.lifetime, InitialAge: v.age, SWR: v.swr, SIE: v.sie, Length: -1, Sensitive: t.pol.Sensitive}
	if v.noCache {
		w.MaxAge = 0
	}
	if v.noStale {
		w.SWR, w.SIE = 0, 0
	}
	if vary := varies(h); vary != "" {
		w.Vary = strings.Split(vary, ",")
	}
	if n, ok := parseOffset(h.Get("Content-Length")); ok {
		w.Length = n
	}
	w.SurrogateKeys = append([]string{strings.ToUpper(hex.EncodeToString(t.c.RequestKey(t.req)))}, t.pol.SurrogateKeys...)
	for _, line := range h["Surrogate-Key"] {
		w.SurrogateKeys = append(w.SurrogateKeys, strings.Fields(line)...)
	}
	return w
}

// Response returns what was found, as it is stored or as the request asked for it. Its body is read with ctx.
func (t *Transaction) Response(ctx context.Context, asked bool) (*http.Response, error) {
	if t.state&wedge.CacheUsable == 0 {
		return nil, errNoObligation
	}
	defer t.reading()
	x := &exchange{c: t.c, req: t.req.WithContext(ctx), pol: t.pol, key: t.key}
	if !asked {
		return x.raw(t.found)
	}
	if lines := t.req.Header["Range"]; len(lines) > 0 && t.req.Method == http.MethodGet {
		x.ranges, _ = parseRange(lines)
	}
	return x.respond(t.found, t.outcome())
}

// raw answers with all of what is stored, and adds nothing.
func (x *exchange) raw(o *object) (*http.Response, error) {
	resp := &http.Response{StatusCode: o.status(), Status: strconv.Itoa(o.status()) + " " + http.StatusText(o.status()), Proto: "HTTP/1.1",
		ProtoMajor: 1, ProtoMinor: 1, Header: o.fields.header(), Request: x.req, ContentLength: o.length()}
	return x.body(o, resp, 0, -1)
}

// outcome says in Cache-Status where the response is from.
func (t *Transaction) outcome() *outcome {
	if t.mode == 0 && t.asked.IsZero() { // just inserted
		return &outcome{fwd: "miss", stored: true}
	}
	ttl := t.found.lifetime - t.found.ageAt(t.c.cfg.Now())
	return &outcome{hit: true, ttl: &ttl}
}

// ChooseStale answers this lookup, and whoever waits, with what is stale, for the origin failed.
func (t *Transaction) ChooseStale() error {
	if t.state&wedge.CacheUsableIfError == 0 {
		return errNoObligation
	}
	f, err := t.claim()
	if err != nil {
		return err
	}
	t.find(t.found, revalidate)
	f.obj = t.found
	f.land(nil, t.c.cfg.Now())
	return nil
}

// Pass lets nobody wait for such a response, for a while.
func (t *Transaction) Pass(maxAge time.Duration) error {
	f, err := t.claim()
	if err != nil {
		return err
	}
	if maxAge <= 0 {
		maxAge = passTime
	}
	now := t.c.cfg.Now()
	e := t.c.entry(t.key)
	e.busy().pass = now.Add(min(maxAge, maxPass))
	if t.found != nil { // it is no longer what the origin says
		e.remove(t.found)
	}
	e.unlock(now)
	f.land(nil, now)
	return nil
}
