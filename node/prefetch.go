package node

import (
	"context"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
)

// Prefetching. A page may say what will be asked for next (Link: <...>; rel=prefetch or next, RFC 8288),
// and that is then asked for in the background, as if a client had: once for each page that came from the
// origin, a few at a time, one step ahead. What finds no room in the budget is left to whoever asks.

const (
	maxPrefetches = 8 // of one response
	prefetchers   = 4 // at a time, of one version
)

type aheadKey struct{}

// prefetch asks for what a response that has just come says will be wanted.
func (c *cdn) prefetch(req *http.Request, h http.Header) {
	if req.Method != http.MethodGet || req.Context().Value(aheadKey{}) != nil || hitsCache(h) {
		return
	}
	for i, target := range prefetchLinks(req, h) {
		if i == maxPrefetches {
			return
		}
		select {
		case c.prefetching <- struct{}{}:
		default:
			return
		}
		go func() {
			defer func() { <-c.prefetching }()
			defer func() { _ = recover() }() // a body that broke off
			c.ServeHTTP(nowhere{}, ahead(req, target))
		}()
	}
}

// ahead is the request for target that a client who got the page would send.
func ahead(cause *http.Request, target *url.URL) *http.Request {
	ctx := context.WithValue(context.WithoutCancel(cause.Context()), aheadKey{}, true)
	out := (&http.Request{Method: http.MethodGet, URL: &url.URL{Path: target.Path, RawPath: target.RawPath, RawQuery: target.RawQuery},
		Host: cause.Host, Header: http.Header{"Sec-Purpose": {"prefetch"}}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		RemoteAddr: cause.RemoteAddr, TLS: cause.TLS, Body: http.NoBody}).WithContext(ctx)
	for _, name := range []string{"User-Agent", "Accept-Language", "Accept-Encoding"} {
		if v := cause.Header[name]; v != nil {
			out.Header[name] = v
		}
	}
	return out
}

// hitsCache reports whether a response came from the cache here.
func hitsCache(h http.Header) bool {
	status := h.Get("Cache-Status")
	return strings.Contains(status[strings.LastIndexByte(status, ',')+1:], "; hit")
}

// nowhere is an http.ResponseWriter for answers that nobody reads.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) WriteHeader(int)             {}
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) Flush()                      {}

// prefetchLinks returns the resources of the same origin that the response links to with rel=prefetch or next.
func prefetchLinks(req *http.Request, h http.Header) (targets []*url.URL) {
	for _, line := range h["Link"] {
		for {
			_, rest, found := strings.Cut(line, "<")
			ref, params, closed := strings.Cut(rest, ">")
			if !found || !closed {
				break
			}
			params, line = cutLink(params)
			u, err := req.URL.Parse(ref)
			if err != nil || !wanted(params) || u.Host != req.URL.Host || u.Scheme != req.URL.Scheme {
				continue
			}
			targets = append(targets, u)
		}
	}
	return targets
}

// cutLink cuts a link's parameters off what follows its target: they end at a comma outside of quotes.
func cutLink(s string) (params, rest string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ',' && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// wanted reports whether a link's parameters have a relation that is worth fetching ahead.
func wanted(params string) bool {
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(textproto.TrimString(param), "=")
		if !strings.EqualFold(name, "rel") {
			continue
		}
		for rel := range strings.FieldsSeq(strings.Trim(value, `"`)) {
			if strings.EqualFold(rel, "prefetch") || strings.EqualFold(rel, "next") {
				return true
			}
		}
	}
	return false
}
