package cache

import (
	"crypto/sha256"
	"net"
	"net/http"
	"strings"

	"github.com/wedge-cloud/wedge"
)

// A key names what requests for the same resource have in common: 192 bits of a SHA-256, with which nobody finds
// two resources of one key.
type key [24]byte

func shortened(sum [sha256.Size]byte) key { return key(sum[:len(key{})]) }

// keyOf returns the key of req for a service: scheme and authority in their normal form, path and
// query byte for byte, for only the origin knows which of their spellings mean the same.
func keyOf(req *http.Request, pol *wedge.Caching) key { return shortened(sumOf(req, pol)) }

func sumOf(req *http.Request, pol *wedge.Caching) [sha256.Size]byte {
	h := make([]byte, 0, 256)
	h = append(append(h, pol.Service...), 0)
	h = append(append(h, pol.Space...), 0)
	if pol.Key != "" {
		return sha256.Sum256(append(append(h, 'k', 0), pol.Key...))
	}
	h = append(append(h, 'u', 0), resource(req)...)
	return sha256.Sum256(h)
}

// resource returns the absolute URL that req is for, normalised.
func resource(req *http.Request) string {
	scheme, host := req.URL.Scheme, req.Host
	if host == "" {
		host = req.URL.Host
	}
	if scheme == "" {
		scheme = "http"
	}
	return scheme + "://" + Authority(scheme, host) + target(req)
}

// Authority returns a host in its normal form: in lower case, without the dot at its end and the port that
// the scheme implies.
func Authority(scheme, host string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if name, port, err := net.SplitHostPort(host); err == nil && (port == "" || scheme == "http" && port == "80" || scheme == "https" && port == "443") {
		host = strings.TrimSuffix(name, ".")
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
	}
	return host
}

// target returns path and query as they were sent.
func target(req *http.Request) string {
	u := req.URL
	if u.Opaque != "" {
		return u.Opaque
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	if u.RawQuery != "" || u.ForceQuery {
		return path + "?" + u.RawQuery
	}
	return path
}
