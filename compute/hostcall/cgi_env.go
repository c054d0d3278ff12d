package hostcall

import (
	"net/http"
	"net/netip"
	"net/url"
	"sort"
	"strconv"
	"strings"
)

// cgiRequest is what a CGI guest is told of its request.
type cgiRequest struct {
	method  string
	path    string // decoded
	query   string
	uri     string // path and query as sent
	common  []string
	content []string // of the body; a redirected request has none
}

func newCGIRequest(r *http.Request, in *incoming, passAuthorization bool) cgiRequest {
	req := cgiRequest{method: r.Method, path: r.URL.Path, query: r.URL.RawQuery, uri: r.URL.RequestURI()}
	https := strings.HasPrefix(in.uri, "https://")
	name, port := serverName(in.host, https)
	req.common = []string{
		"GATEWAY_INTERFACE=CGI/1.1",
		"SERVER_SOFTWARE=wedge",
		"SERVER_PROTOCOL=" + r.Proto,
		"SERVER_NAME=" + name,
		"SERVER_PORT=" + port,
		"SCRIPT_NAME=", // the guest is the root of its host
	}
	if https {
		req.common = append(req.common, "HTTPS=on", "REQUEST_SCHEME=https")
	} else {
		req.common = append(req.common, "REQUEST_SCHEME=http")
	}
	if in.client.Remote.IsValid() {
		addr := in.client.Remote.Addr().Unmap().WithZone("").String()
		req.common = append(req.common, "REMOTE_ADDR="+addr, "REMOTE_HOST="+addr, "REMOTE_PORT="+strconv.Itoa(int(in.client.Remote.Port())))
	}
	req.common = append(req.common, headerVariables(r.Header, in.host, passAuthorization)...)
	if in.source != nil && r.ContentLength >= 0 {
		req.content = append(req.content, "CONTENT_LENGTH="+strconv.FormatInt(r.ContentLength, 10))
	}
	if t := r.Header.Get("Content-Type"); t != "" {
		req.content = append(req.content, "CONTENT_TYPE="+t)
	}
	return req
}

// environ returns the meta-variables of RFC 3875 section 4.1, and REQUEST_URI, REQUEST_SCHEME, REMOTE_PORT
// and HTTPS, which every server gives.
func (r cgiRequest) environ() []string {
	env := []string{"REQUEST_METHOD=" + r.method, "PATH_INFO=" + r.path, "QUERY_STRING=" + r.query, "REQUEST_URI=" + r.uri}
	return append(append(env, r.common...), r.content...)
}

// redirect returns the request that a local redirect to path and query stands for.
func (r cgiRequest) redirect(to string) cgiRequest {
	path, query, _ := strings.Cut(to, "?")
	if decoded, err := url.PathUnescape(path); err == nil && !strings.ContainsRune(decoded, 0) {
		path = decoded
	}
	r.method, r.path, r.query, r.uri, r.content = http.MethodGet, path, query, to, nil
	return r
}

// serverName splits a Host header; the port is the scheme's own if none is given.
func serverName(host string, https bool) (name, port string) {
	u := url.URL{Host: host}
	name, port = u.Hostname(), u.Port()
	if addr, err := netip.ParseAddr(name); err == nil && addr.Is6() {
		name = "[" + name + "]" // RFC 3875 section 4.1.14
	}
	if port == "" && https {
		port = "443"
	} else if port == "" {
		port = "80"
	}
	return name, port
}

// headerVariables returns the protocol's variables, HTTP_*, by name. Left out are Proxy, which programs
// would mistake for their own setting HTTP_PROXY; credentials; what has a variable of its own; and names
// with "_", for such a name could pose as another header's variable.
func headerVariables(h http.Header, host string, passAuthorization bool) []string {
	vars := []string{"HTTP_HOST=" + host}
	for name, values := range h {
		switch name {
		case "Proxy", "Proxy-Authorization", "Content-Type", "Content-Length", "Host", "Connection", "Transfer-Encoding":
			continue
		case "Authorization":
			if !passAuthorization {
				continue
			}
		}
		if strings.ContainsAny(name, "_=") {
			continue
		}
		sep := ", "
		if name == "Cookie" {
			sep = "; "
		}
		vars = append(vars, "HTTP_"+strings.ReplaceAll(strings.ToUpper(name), "-", "_")+"="+strings.Join(values, sep))
	}
	sort.Strings(vars)
	return vars
}
