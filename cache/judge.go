package cache

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
)

// A verdict says whether a response may be stored, and how long it can be used.
type verdict struct {
	store  bool
	share  bool   // may answer others who wait for the same right now
	detail string // why not, or what about it, in a word for Cache-Status

	age      time.Duration // when it came
	lifetime time.Duration // how old it may get and be fresh
	swr, sie time.Duration // how much longer it may be used meanwhile, or after an error

	noStale bool     // never to be used when stale
	noCache bool     // to be validated before every use
	strip   []string // fields not to be stored
}

// understood are the final statuses whose requirements this cache implements (RFC 9111 section 3).
var understood = map[int]bool{
	200: true, 203: true, 204: true, 206: true, 300: true, 301: true, 302: true, 303: true, 304: true, 307: true, 308: true,
	404: true, 405: true, 410: true, 414: true, 501: true,
}

// heuristic are the statuses that may be stored without being told so (RFC 9110 section 15.1).
var heuristic = map[int]bool{
	200: true, 203: true, 204: true, 206: true, 300: true, 301: true, 308: true,
	404: true, 405: true, 410: true, 414: true, 501: true,
}

// provoked are the errors that a client can bring about by what it sends, and that would then be
// everybody's: with the safe profile they are not stored, for some origins say of all their answers how
// long they are good, nor given to who waits for the same.
var provoked = map[int]bool{400: true, 405: true, 413: true, 414: true, 431: true, 501: true}

// Bounds of heuristic freshness: a tenth of the time since the last change, and at most a day.
const (
	heuristicShare = 10
	maxHeuristic   = 24 * time.Hour
)

// ownError reports whether a status is only for the client that brought it about.
func ownError(pol *wedge.Caching, status int) bool {
	return pol.Profile == wedge.CacheSafe && provoked[status]
}

// judge decides whether the response to req may be stored (RFC 9111 section 3) and for how long
// it is fresh (section 4.2). asked and came are when the request went out and when the response came.
func judge(req *http.Request, status int, h http.Header, asked, came time.Time, pol *wedge.Caching) verdict {
	if status >= 400 && pol.TTL != nil { // what was meant for the page would keep its absence as long
		own := *pol
		own.TTL, own.SWR = nil, nil
		pol = &own
	}
	d, targeted := responseDirectives(h)
	v := verdict{age: initialAge(h, asked, came)}
	v.lifetime = lifetime(status, h, d, targeted, came, pol)
	v.swr, v.sie = max(0, d.swr), max(0, d.sie)
	v.noCache = d.noCache
	v.noStale = d.mustRevalidate || d.proxyReval || d.noCache || d.sMaxAge != absent && (pol.Profile == wedge.CacheStrict || v.swr+v.sie == 0)
	if pol.SWR != nil {
		v.swr = *pol.SWR
	}
	v.detail = unstorable(req, status, h, d, pol)
	v.store = v.detail == ""
	if pol.TTL != nil && v.store {
		v.lifetime, v.age, v.noCache = *pol.TTL, 0, false
	}
	if v.store && v.useless(h) {
		v.store, v.detail = false, "expired"
	}
	v.strip = append(d.noCacheFields, d.privateField...)
	v.share = v.store || status >= 500 && !ownError(pol, status) && h["Set-Cookie"] == nil && req.Header["Authorization"] == nil && !d.private
	return v
}

// unstorable returns why a response must not be stored, "" if it may be.
func unstorable(req *http.Request, status int, h http.Header, d directives, pol *wedge.Caching) string {
	safe := pol.Profile == wedge.CacheSafe
	switch {
	case status < 200 || status == http.StatusNotModified || status == http.StatusRequestedRangeNotSatisfiable:
		return "status"
	case d.noStore && !(d.mustUnderstand && understood[status]):
		return "no-store"
	case d.mustUnderstand && !understood[status]:
		return "must-understand"
	case status == http.StatusPartialContent && !storablePart(h):
		return "partial"
	case d.private:
		return "private"
	case varies(h) == "*":
		return "vary"
	case req.Header["Authorization"] != nil && !d.public && !d.mustRevalidate && d.sMaxAge == absent:
		return "authorization"
	case safe && h["Set-Cookie"] != nil && !slices.Contains(append(d.privateField, d.noCacheFields...), "Set-Cookie"):
		return "set-cookie"
	case safe && status < 300 && deceptive(req, h):
		return "type"
	case !safe && parseDirectives(req.Header["Cache-Control"]).noStore:
		return "request-no-store"
	case pol.TTL != nil:
		return ""
	}
	explicit := d.public || d.maxAge != absent || d.sMaxAge != absent || h["Expires"] != nil
	if !explicit && !heuristic[status] || ownError(pol, status) {
		return "status"
	}
	return ""
}

// useless reports whether there is no way to use the stored response again.
func (v *verdict) useless(h http.Header) bool {
	fresh := v.lifetime > v.age && !v.noCache
	return !fresh && v.swr == 0 && v.sie == 0 && h["Etag"] == nil && h["Last-Modified"] == nil
}

// lifetime is how old a response may get before it is stale (RFC 9111 section 4.2.1).
func lifetime(status int, h http.Header, d directives, targeted bool, came time.Time, pol *wedge.Caching) time.Duration {
	switch {
	case d.sMaxAge != absent:
		return d.sMaxAge
	case d.maxAge != absent:
		return d.maxAge
	}
	if lines := h["Expires"]; !targeted && len(lines) > 0 {
		if t, ok := parseDate(lines); ok {
			return max(0, t.Sub(dateOf(h, came)))
		}
		return 0
	}
	if modified, ok := parseDate(h["Last-Modified"]); ok && (heuristic[status] || d.public) {
		return min(max(0, dateOf(h, came).Sub(modified)/heuristicShare), maxHeuristic)
	}
	if heuristic[status] {
		return pol.Unsaid
	}
	return 0
}

// varies returns the value of all Vary lines: lower-case names in order with commas between, "*" if
// any member is that.
func varies(h http.Header) string {
	lines := h["Vary"]
	if len(lines) == 0 {
		return ""
	}
	var names []string
	for _, line := range lines {
		for name := range strings.SplitSeq(line, ",") {
			switch name = strings.ToLower(textproto.TrimString(name)); name {
			case "":
			case "*":
				return "*"
			default:
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ",")
}

// hopByHop are fields about one connection, which are never stored (RFC 9111 section 3.1).
var hopByHop = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Te": true, "Transfer-Encoding": true, "Upgrade": true, "Trailer": true,
	"Proxy-Connection": true, "Proxy-Authenticate": true, "Proxy-Authentication-Info": true, "Proxy-Authorization": true,
}

// storedFields returns the fields of a response that are kept.
func storedFields(h http.Header, strip []string) http.Header {
	named := map[string]bool{}
	for _, line := range h["Connection"] {
		for _, name := range fieldNames(line) {
			named[name] = true
		}
	}
	out := make(http.Header, len(h)+1)
	for name, values := range h {
		if !hopByHop[name] && !named[name] && !slices.Contains(strip, name) && name != "Age" {
			out[name] = slices.Clone(values)
		}
	}
	return out
}
