package node

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strconv"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/cache"
	"github.com/wedge-cloud/wedge/front"
)

// cdn answers for a version without a guest: from its backend, through the cache.
type cdn struct {
	proxy   httputil.ReverseProxy
	cache   *cache.Cache
	backend *wedge.Backend
	caching *wedge.Caching
}

// newCDN returns the handler of a version that has no guest.
func newCDN(v *wedge.Version, cache *cache.Cache, log *slog.Logger) *cdn {
	c := &cdn{cache: cache, backend: &v.Backends[0], caching: cachingOf(v)}
	c.proxy = httputil.ReverseProxy{
		Transport: cache, Rewrite: c.rewrite, ModifyResponse: edge, ErrorHandler: failed,
		FlushInterval: -1, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return c
}

// cachingOf says how fetches of a version are cached.
func cachingOf(v *wedge.Version) *wedge.Caching {
	return &wedge.Caching{Service: v.Service, Profile: v.CacheProfile}
}

// ServeHTTP implements http.Handler. When a body breaks off, what came of the response is sent
// before the connection is cut, so that the client sees a broken response and not none.
func (c *cdn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			_ = http.NewResponseController(w).Flush()
			panic(p)
		}
	}()
	c.proxy.ServeHTTP(w, r)
}

// hit answers a request that takes nothing but a look into the cache, as ServeHTTP would.
func (c *cdn) hit(r *front.Plain, a *front.Answer) bool {
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
// so a client could put one page in another's place with them.
var unkeyed = []string{"X-Original-Url", "X-Rewrite-Url", "X-Original-Host", "X-Host", "X-Forwarded-Scheme", "X-Forwarded-Port",
	"X-Http-Method-Override", "X-Http-Method", "X-Method-Override"}

// rewrite makes the request for the origin of the client's.
func (c *cdn) rewrite(p *httputil.ProxyRequest) {
	ctx := wedge.WithCaching(wedge.WithBackend(p.Out.Context(), c.backend), c.caching)
	*p.Out = *p.Out.WithContext(ctx)
	p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "http", p.In.Host, p.In.Host
	if p.In.TLS != nil {
		p.Out.URL.Scheme = "https"
	}
	p.Out.URL.RawQuery = p.In.URL.RawQuery // byte for byte
	p.Out.Header["X-Forwarded-For"] = p.In.Header["X-Forwarded-For"]
	p.SetXForwarded()
	for _, name := range unkeyed {
		delete(p.Out.Header, name)
	}
	if via := p.In.Header["Via"]; len(via) > 0 {
		p.Out.Header["Via"] = via
	}
	p.Out.Header.Add("Via", strconv.Itoa(p.In.ProtoMajor)+"."+strconv.Itoa(p.In.ProtoMinor)+" wedge")
}

// hidden are fields between origin and cache only.
var hidden = []string{"Surrogate-Control", "Surrogate-Key"}

// edge takes them out.
func edge(resp *http.Response) error {
	for _, name := range hidden {
		delete(resp.Header, name)
	}
	return nil
}

// failed answers for an origin from which nothing came (RFC 9209 says why).
func failed(w http.ResponseWriter, r *http.Request, err error) {
	status, why := http.StatusBadGateway, "connection_terminated"
	if fe := (*wedge.FetchError)(nil); errors.As(err, &fe) {
		status, why = fe.Failure.Status(), proxyErrors[fe.Failure]
	}
	if stale := (*cache.StaleError)(nil); errors.As(err, &stale) {
		status = http.StatusGatewayTimeout
	}
	if why == "" {
		why = "proxy_internal_error"
	}
	id := ""
	if c := wedge.ClientFrom(r.Context()); c != nil {
		id = c.RequestID
	}
	text := strconv.Itoa(status) + " " + http.StatusText(status) + "\nrequest " + id + "\n"
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Proxy-Status", "Wedge; error="+why)
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
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
