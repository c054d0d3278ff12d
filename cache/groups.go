package cache

import (
	"net/http"
	"net/url"

	"github.com/dunglas/httpsfv"

	"github.com/wedge-cloud/wedge"
)

// groups reads a list of strings, as Cache-Groups and Cache-Group-Invalidation are (RFC 9875).
func groups(lines []string) (names []string) {
	if len(lines) == 0 {
		return nil
	}
	list, err := httpsfv.UnmarshalList(lines)
	if err != nil {
		return nil
	}
	for _, member := range list {
		if item, ok := member.(httpsfv.Item); ok {
			if s, ok := item.Value.(string); ok && len(names) < wedge.MaxPurgeKeys {
				names = append(names, s)
			}
		}
	}
	return names
}

// groupKey is the surrogate key that stands for a group of an origin. No Surrogate-Key can spell it.
func groupKey(req *http.Request, group string) string {
	return "\x00" + origin(req) + "\x00" + group
}

// origin returns scheme and authority of req's resource.
func origin(req *http.Request) string {
	scheme, host := req.URL.Scheme, req.Host
	if host == "" {
		host = req.URL.Host
	}
	if scheme == "" {
		scheme = "http"
	}
	return scheme + "://" + Authority(scheme, host)
}

// safeMethods change nothing at the origin (RFC 9110 section 9.2.1).
var safeMethods = map[string]bool{"GET": true, "HEAD": true, "OPTIONS": true, "TRACE": true}

// invalidate forgets what a successful unsafe request has changed (RFC 9111 section 4.4).
func (c *Cache) invalidate(req *http.Request, resp *http.Response, pol *wedge.Caching) {
	if safeMethods[req.Method] || resp.StatusCode >= 400 {
		return
	}
	plain := &wedge.Caching{Service: pol.Service}
	gone := func(req *http.Request) {
		_ = c.purgeKey(keyOf(req, plain), false, false) // what fails is counted
		c.tell(wedge.Purge{Service: pol.Service, URL: resource(req)})
	}
	gone(req)
	base, err := url.Parse(resource(req))
	if err != nil {
		return
	}
	for _, name := range []string{"Location", "Content-Location"} {
		ref, err := url.Parse(resp.Header.Get(name))
		if err != nil || resp.Header.Get(name) == "" {
			continue
		}
		other := &http.Request{URL: base.ResolveReference(ref)}
		if origin(other) == origin(req) {
			gone(other)
		}
	}
	var names []string
	if pol.Space != "" || pol.Key != "" {
		names = append(names, urlKey(req))
	}
	for _, g := range groups(resp.Header["Cache-Group-Invalidation"]) {
		names = append(names, groupKey(req, g))
	}
	if len(names) > 0 {
		_ = c.purgeNames(pol.Service, names, false, false)
		c.tell(wedge.Purge{Service: pol.Service, Keys: names[:min(len(names), wedge.MaxPurgeKeys)]})
	}
}

// tell passes an invalidation on.
func (c *Cache) tell(p wedge.Purge) {
	if c.cfg.Invalidated != nil {
		c.cfg.Invalidated(p)
	}
}
