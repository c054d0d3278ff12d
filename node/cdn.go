package node

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/cache"
	"github.com/wedge-cloud/wedge/front"
)

// cdn answers for a version without a guest: from its backends, through the cache, as its rules say.
type cdn struct {
	version *wedge.Version
	proxy   httputil.ReverseProxy
	cache   *cache.Cache
	caching *wedge.Caching // of requests that no rule says anything about
	balance *balancer
	now     func() time.Time

	prefetching chan struct{} // has room for as many as may be under way
}

// newCDN returns the handler of a version that has no guest.
func newCDN(v *wedge.Version, cache *cache.Cache, b *balancer, now func() time.Time, log *slog.Logger) *cdn {
	c := &cdn{version: v, cache: cache, caching: cachingOf(v), balance: b, now: now, prefetching: make(chan struct{}, prefetchers)}
	c.proxy = httputil.ReverseProxy{
		Transport: hints{cache}, Rewrite: c.rewrite, ModifyResponse: c.edge, ErrorHandler: c.failed,
		FlushInterval: -1, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return c
}

// cachingOf says how fetches of a version are cached.
func cachingOf(v *wedge.Version) *wedge.Caching {
	return &wedge.Caching{Service: v.Service, Profile: v.CacheProfile, Compress: v.Compress, Space: v.CacheSpace, Superseded: v.Superseded}
}

type planKey struct{}

// ServeHTTP implements http.Handler. When a body breaks off, what came of the response is sent
// before the connection is cut, so that the client sees a broken response and not none.
func (c *cdn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			_ = http.NewResponseController(w).Flush()
			panic(p)
		}
	}()
	if loops(r.Header) >= maxLoops {
		c.refuse(w, r, http.StatusLoopDetected, "proxy_loop_detected")
		return
	}
	// The key has the host in its normal form, so nothing else may tell spellings apart: neither rules nor the origin.
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	r.Host = cache.Authority(scheme, r.Host)
	p := planFor(c.version, r)
	if p.redirect != nil {
		edit(w.Header(), p.response)
		w.Header().Set("Location", location(p.redirect, r))
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(p.redirect.Status)
		return
	}
	ctx, h := withHop(r.Context(), c.version, c.now(), r)
	p.caching.Ahead = ctx.Value(aheadKey{}) != nil
	if p.inside = h.marked; p.inside {
		p.response, p.caching.Compress = nil, false // the PoP that asks does that
	}
	w.Header()["Content-Type"] = nil // net/http would guess one where the origin gives none
	c.proxy.ServeHTTP(w, r.WithContext(context.WithValue(ctx, planKey{}, p)))
}

// plainHits reports whether a hit is the same whatever the rules, which bear only on what is fetched, and nobody counts it.
func plainHits(v *wedge.Version) bool {
	for i := range v.Rules {
		r := &v.Rules[i]
		split := slices.ContainsFunc(r.Backends, func(s wedge.Share) bool { return s.Percent > 0 })
		edits := len(r.Request.Remove) + len(r.Request.Set) + len(r.Response.Remove) + len(r.Response.Set)
		if split || edits > 0 || r.Redirect != "" || r.Query != nil || r.Pass {
			return false
		}
	}
	return !v.Compress && len(v.Rates) == 0
}

// hit answers a request that takes nothing but a look into the cache, as ServeHTTP would.
func (c *cdn) hit(r *front.Plain, a *front.Answer) bool {
	if len(r.Lines("cdn-loop")) > 0 || len(r.Lines("wedge-shield")) > 0 {
		return false
	}
	q := cache.Query{Policy: c.caching, Scheme: "http", Host: r.Host, Target: r.Target, Head: r.Head, Directives: r.Directives, Fields: r}
	if r.TLS {
		q.Scheme = "https"
	}
	h := cache.Hit{Head: a.Head, Body: a.Body}
	ok := c.cache.Peek(&q, &h)
	a.Status, a.Head, a.Body = h.Status, h.Head, h.Body
	return ok
}

// Wait and Close have nothing to do: a request is over when ServeHTTP is.
func (c *cdn) Wait(context.Context) error { return nil }

func (c *cdn) Close() {}

// unkeyed are fields that some origins take for parts of the URL. The key does not have them,
// so a client could put one page in another's place with them. Proxy is for what takes fields for
// variables of its environment.
var unkeyed = map[string]bool{"x-original-url": true, "x-original-host": true, "x-rewrite-url": true, "x-host": true, "x-http-host-override": true,
	"x-url-scheme": true, "front-end-https": true, "x-http-method-override": true, "x-http-method": true, "x-method-override": true, "proxy": true}

// isUnkeyed knows them, all that begin with X-Forwarded, and those with other characters for which CGI and its
// heirs read them.
func isUnkeyed(name string) bool {
	name = strings.ToLower(strings.ReplaceAll(name, "_", "-"))
	return unkeyed[name] || strings.HasPrefix(name, "x-forwarded")
}

// rewrite makes the request for the origin of the client's.
func (c *cdn) rewrite(p *httputil.ProxyRequest) {
	plan := p.In.Context().Value(planKey{}).(*plan)
	host, _, _ := net.SplitHostPort(p.In.RemoteAddr)
	backend, split := c.balance.choose(c.version, plan.shares, host)
	if split { // they do not say the same
		plan.caching.Space += backend.Name
	}
	ctx := wedge.WithCaching(wedge.WithBackend(p.Out.Context(), backend), &plan.caching)
	*p.Out = *p.Out.WithContext(ctx)
	p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "http", p.In.Host, p.In.Host
	if p.In.TLS != nil {
		p.Out.URL.Scheme = "https"
	}
	p.Out.URL.RawQuery = p.In.URL.RawQuery // byte for byte
	if plan.query != nil {
		p.Out.URL.RawQuery, p.Out.URL.ForceQuery = kept(plan.query, p.In.URL.RawQuery), false
	}
	maps.DeleteFunc(p.Out.Header, func(name string, _ []string) bool { return isUnkeyed(name) })
	p.Out.Header["X-Forwarded-For"] = p.In.Header["X-Forwarded-For"]
	p.SetXForwarded()
	if via := p.In.Header["Via"]; len(via) > 0 {
		p.Out.Header["Via"] = via
	}
	p.Out.Header.Add("Via", strconv.Itoa(p.In.ProtoMajor)+"."+strconv.Itoa(p.In.ProtoMinor)+" wedge")
	p.Out.Header.Add("Cdn-Loop", cdnLoop)
	delete(p.Out.Header, shieldField)
	delete(p.Out.Header, peerField)
	edit(p.Out.Header, plan.request)
}

// edge takes out what is between origin and cache only, and edits what the rules say.
func (c *cdn) edge(resp *http.Response) error {
	p, ok := resp.Request.Context().Value(planKey{}).(*plan)
	if ok && p.inside {
		return nil
	}
	if c.version.Prefetch {
		c.prefetch(resp.Request, resp.Header)
	}
	outward(resp)
	if ok && resp.StatusCode < 400 {
		edit(resp.Header, p.response)
	}
	return nil
}

// failed answers for an origin from which nothing came (RFC 9209 says why).
func (c *cdn) failed(w http.ResponseWriter, r *http.Request, err error) {
	status, why := http.StatusBadGateway, "connection_terminated"
	if fe := (*wedge.FetchError)(nil); errors.As(err, &fe) {
		status, why = fe.Failure.Status(), proxyError(fe.Failure)
	}
	if stale := (*cache.StaleError)(nil); errors.As(err, &stale) {
		status = http.StatusGatewayTimeout
	}
	c.refuse(w, r, status, why)
}

// proxyError returns the word of RFC 9209 section 2.3 for a failure.
func proxyError(f wedge.FetchFailure) string {
	if why := proxyErrors[f]; why != "" {
		return why
	}
	return "proxy_internal_error"
}

func (c *cdn) refuse(w http.ResponseWriter, r *http.Request, status int, why string) {
	refusePage(w, r, c.version, status, why)
}

// refusePage answers in Wedge's own name, with the service's page if it has one.
func refusePage(w http.ResponseWriter, r *http.Request, v *wedge.Version, status int, why string) {
	id := ""
	if c := wedge.ClientFrom(r.Context()); c != nil {
		id = c.RequestID
	}
	h := w.Header()
	page, ok := v.ErrorPages[status]
	if !ok {
		page, ok = v.ErrorPages[0]
	}
	if !ok {
		page = wedge.Page{Type: "text/plain; charset=utf-8", Body: []byte(strconv.Itoa(status) + " " + http.StatusText(status) + "\nrequest " + id + "\n")}
	}
	h.Set("Content-Type", page.Type)
	h.Set("Cache-Control", "no-store")
	h.Set("Proxy-Status", "Wedge; error="+why)
	h.Set("X-Request-Id", id)
	h.Set("Content-Length", strconv.Itoa(len(page.Body)))
	w.WriteHeader(status)
	_, _ = w.Write(page.Body)
}

func parseInt(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n >= 0
}

// proxyErrors are the words of RFC 9209 section 2.3 for failures of a fetch.
var proxyErrors = map[wedge.FetchFailure]string{
	wedge.FailureDNSTimeout: "dns_timeout", wedge.FailureDNS: "dns_error", wedge.FailureNotFound: "destination_not_found",
	wedge.FailureUnavailable: "destination_unavailable", wedge.FailureUnroutable: "destination_ip_unroutable",
	wedge.FailureRefused: "connection_refused", wedge.FailureTerminated: "connection_terminated", wedge.FailureConnectTimeout: "connection_timeout",
	wedge.FailureConnectionLimit: "connection_limit_reached", wedge.FailureCertificate: "tls_certificate_error",
	wedge.FailureTLSProtocol: "tls_protocol_error", wedge.FailureTLSAlert: "tls_alert_received", wedge.FailureIncomplete: "http_response_incomplete",
	wedge.FailureHeaderTooLarge: "http_response_header_section_size", wedge.FailureBodyTooLarge: "http_response_body_size",
	wedge.FailureResponseTimeout: "http_response_timeout", wedge.FailureUpgrade: "http_upgrade_failed", wedge.FailureProtocol: "http_protocol_error",
	wedge.FailureStatusInvalid: "http_protocol_error", wedge.FailureH2: "http_protocol_error",
}
