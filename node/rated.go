package node

import (
	"crypto/sha256"
	"encoding/binary"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/internal/recent"
	"github.com/wedge-cloud/wedge/rate"
)

// rated refuses requests beyond a version's rates, and passes all others on.
type rated struct {
	http.Handler
	version *wedge.Version
	rules   []rate.Rule // of each rate
	by      *rating
}

func newRated(h http.Handler, v *wedge.Version, by *rating) *rated {
	d := &rated{Handler: h, version: v, by: by}
	for _, r := range v.Rates {
		d.rules = append(d.rules, rate.Rule{Service: v.Service, Limit: r.Limit, Window: r.Window, Closed: r.Closed})
	}
	return d
}

// ServeHTTP implements http.Handler.
func (h *rated) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	told := &toldWriter{ResponseWriter: w}
	for i := range h.version.Rates {
		one := &h.version.Rates[i]
		if !bearsOn(one, r) {
			continue
		}
		d, waited := h.by.take(&h.rules[i], rateKey(h.version.Service, one, r), false)
		if h.by.note(&d, waited, one.Closed); !d.OK {
			h.refuse(w, r, one, &d)
			return
		}
		if one.Headers {
			told.fields.add(one, &d)
		}
	}
	if told.fields.policy != nil {
		w = told
	}
	h.Handler.ServeHTTP(w, r)
}

// refuse says when to come again. It is status 429 also when the keeper could not be asked: an error of the server would
// count against the version, and have a rollout taken back for a cut.
func (h *rated) refuse(w http.ResponseWriter, r *http.Request, one *wedge.Rate, d *rate.Decision) {
	if c := wedge.ClientFrom(r.Context()); c != nil {
		c.Refused = one.Name
	}
	f := rateFields{}
	f.add(one, d)
	f.put(w.Header())
	after := wholeSeconds(d.Reset)
	if d.Fallback && one.Closed {
		after = 1 // then the keeper is asked again
	}
	w.Header().Set("Retry-After", strconv.FormatInt(max(1, after), 10))
	refusePage(w, r, h.version, http.StatusTooManyRequests, "http_request_denied")
}

// wholeSeconds are whole ones, rounded up.
func wholeSeconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// bearsOn reports whether a rate is about a request. Its path may be any that an origin or a guest may read in what the client wrote:
// nobody is to pass a rate of /login by asking for /%6cogin.
func bearsOn(one *wedge.Rate, r *http.Request) bool {
	if !matches("", one.Hosts, one.Methods, r) {
		return false
	}
	return one.Path == "" || slices.ContainsFunc(pathReadings(r.URL), func(p string) bool { return like(one.Path, p) })
}

func pathReadings(u *url.URL) []string {
	written, decoded := u.EscapedPath(), u.Path
	if written == decoded && hasOneReading(written) {
		return []string{written}
	}
	slashed := "/" + strings.ReplaceAll(decoded, "\\", "/")
	clean := path.Clean(slashed)
	return []string{written, decoded, clean, withoutParameters(clean), path.Clean(withoutParameters(slashed))}
}

// withoutParameters cuts off what follows a semicolon in each segment. Servlets do so before they look at dots: /x/..;/login is /login there.
func withoutParameters(p string) string {
	parts := strings.Split(p, "/")
	for i := range parts {
		parts[i], _, _ = strings.Cut(parts[i], ";")
	}
	return strings.Join(parts, "/")
}

// rateKey stands for what a request is counted as. A rate that is changed counts anew.
func rateKey(service string, one *wedge.Rate, r *http.Request) recent.Key {
	b := make([]byte, 0, 256)
	for _, part := range [...]string{service, one.Name, strconv.FormatInt(one.Limit, 10), one.Window.String()} {
		b = appendPart(b, part)
	}
	for _, k := range one.Key {
		b = appendPart(appendPart(b, k.String()), keyPart(k, r))
	}
	sum := sha256.Sum256(b)
	return recent.Key(sum[:16])
}

func appendPart(b []byte, part string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(part))), part...)
}

// keyPart is what a request has for a key. What it says begins with =, so that no header can be another's address.
func keyPart(k wedge.RateKey, r *http.Request) string {
	switch k.Kind {
	case wedge.RateHost:
		return hostOf(r)
	case wedge.RateHeader:
		if lines := r.Header[k.Name]; len(lines) > 0 {
			return "=" + strings.Join(lines, ",")
		}
	case wedge.RateCookie:
		if c, err := r.Cookie(k.Name); err == nil {
			return "=" + c.Value
		}
	}
	return clientNetwork(r)
}

// clientNetwork is the client's address, or its network: who has one address of IPv6 has all of a /64.
func clientNetwork(r *http.Request) string {
	var a netip.Addr
	if c := wedge.ClientFrom(r.Context()); c != nil {
		a = c.Remote.Addr()
	} else if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		a = at.Addr()
	}
	a = a.Unmap().WithZone("")
	if a.Is6() {
		return netip.PrefixFrom(a, 64).Masked().String()
	}
	return a.String()
}

// hostOf is the host that is asked for, without port and trailing dot, as the front reads it.
func hostOf(r *http.Request) string {
	host := strings.ToLower(r.Host)
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.TrimSuffix(host, ".")
}

// rateFields are RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers): how much is left of which limits.
type rateFields struct{ policy, left httpsfv.List }

func (f *rateFields) add(one *wedge.Rate, d *rate.Decision) {
	policy, left := httpsfv.NewItem(one.Name), httpsfv.NewItem(one.Name)
	policy.Params.Add("q", one.Limit)
	policy.Params.Add("w", wholeSeconds(one.Window))
	left.Params.Add("r", min(d.Left, one.Limit))
	left.Params.Add("t", wholeSeconds(d.Reset))
	if d.Keeper != "" {
		left.Params.Add("wedge-keeper", d.Keeper)
	}
	f.policy, f.left = append(f.policy, policy), append(f.left, left)
}

// put adds the fields to those that an origin may have set.
func (f *rateFields) put(h http.Header) {
	for name, list := range map[string]httpsfv.List{"Ratelimit-Policy": f.policy, "Ratelimit": f.left} {
		if text, err := httpsfv.Marshal(list); err == nil {
			h.Add(name, text)
		}
	}
}

// toldWriter adds the fields to a final response.
type toldWriter struct {
	http.ResponseWriter
	fields rateFields
	told   bool
}

// WriteHeader implements http.ResponseWriter.
func (w *toldWriter) WriteHeader(status int) {
	if !w.told && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.told = true
		w.fields.put(w.Header())
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *toldWriter) Write(b []byte) (int, error) {
	if !w.told {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

// FlushError is what http.ResponseController calls.
func (w *toldWriter) FlushError() error {
	if !w.told {
		w.WriteHeader(http.StatusOK)
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (w *toldWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
