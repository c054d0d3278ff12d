//go:build !wasip1

package edge

import (
	"net/http"
	"net/url"
	"os"
	"strings"
)

// RoundTrip sends r over the network: to the base URL in $WEDGE_BACKEND_<NAME> if that is
// set (name in upper case, '-' as '_'), else to r's own URL.
func (b backend) RoundTrip(r *http.Request) (*http.Response, error) {
	base := os.Getenv("WEDGE_BACKEND_" + strings.ReplaceAll(strings.ToUpper(string(b)), "-", "_"))
	if base == "" {
		return http.DefaultTransport.RoundTrip(r)
	}
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	out := r.Clone(r.Context())
	if out.Host == "" {
		out.Host = r.URL.Host
	}
	out.URL.Scheme, out.URL.Host = u.Scheme, u.Host
	out.URL.Path, out.URL.RawPath = strings.TrimSuffix(u.Path, "/")+r.URL.Path, ""
	return http.DefaultTransport.RoundTrip(out)
}
