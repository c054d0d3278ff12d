package hostcall

import (
	"net/netip"
	"net/url"
	"time"

	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// http_version of the ABI.
const (
	http10 = 1
	http11 = 2
	http2  = 3
	http3  = 4
)

// A request is one that a guest received or makes.
type request struct {
	method  string
	uri     string   // as set or received; absolute if received
	url     *url.URL // uri parsed
	version uint32   // http_version
	headers headers

	in         *incoming // set for a downstream request
	manual     bool      // framing headers are the guest's own
	decompress bool      // gzip responses are decoded by the host
	cache      cacheOverride
	held       int // bytes of method, uri and surrogate keys that the account knows
}

// cacheOverride is what the guest wants of the host's cache for a request.
type cacheOverride struct {
	tag           uint32 // cacheOverride bits
	ttl, swr      time.Duration
	surrogateKeys string
	lookupTimeout time.Duration
}

// Bits of cache_override_tag.
const (
	overridePass          = 1 << 0
	overrideTTL           = 1 << 1
	overrideSWR           = 1 << 2
	overridePCI           = 1 << 3
	overrideLookupTimeout = 1 << 4
)

// A response is one that a guest received or makes.
type response struct {
	status  int
	version uint32
	headers headers

	manual    bool           // framing headers are the guest's own
	closeConn bool           // the client's connection ends after it
	peer      netip.AddrPort // of the backend, if it came from one
}

func newRequest() *request {
	return &request{method: "GET", uri: "/", url: &url.URL{Path: "/"}, version: http11}
}

func newResponse() *response { return &response{status: 200, version: http11} }

// getRequest returns the request that h names; otherwise the call ends with badf.
func getRequest(c *compute.Call, h uint32) *request {
	r, ok := ex(c).requests.get(h)
	if !ok {
		c.Fail(abi.BadHandle)
	}
	return r
}

// getResponse returns the response that h names; otherwise the call ends with badf.
func getResponse(c *compute.Call, h uint32) *response {
	r, ok := ex(c).answers.get(h)
	if !ok {
		c.Fail(abi.BadHandle)
	}
	return r
}

// messageSize is what a message without headers counts against the account.
const messageSize = 256

// putRequest opens a handle for r, within the sandbox's account.
func putRequest(c *compute.Call, r *request) uint32 {
	hold(c, messageSize)
	if !r.headers.adopt(&ex(c).account) {
		ex(c).account.release(messageSize)
		c.Fail(abi.LimitExceeded)
	}
	h, ok := ex(c).requests.put(r)
	if !ok {
		r.free(&ex(c).account)
		c.Fail(abi.LimitExceeded)
	}
	return h
}

// putResponse opens a handle for r, within the sandbox's account.
func putResponse(c *compute.Call, r *response) uint32 {
	hold(c, messageSize)
	if !r.headers.adopt(&ex(c).account) {
		ex(c).account.release(messageSize)
		c.Fail(abi.LimitExceeded)
	}
	h, ok := ex(c).answers.put(r)
	if !ok {
		r.free(&ex(c).account)
		c.Fail(abi.LimitExceeded)
	}
	return h
}

func (r *request) free(a *account) {
	r.headers.free()
	a.release(messageSize + r.held)
	r.held = 0
}

func (r *response) free(a *account) {
	r.headers.free()
	a.release(messageSize)
}

// takeRequest closes the handle h and returns its request, which no account knows any more.
func takeRequest(c *compute.Call, h uint32) (*request, bool) {
	r, ok := ex(c).requests.take(h)
	if ok {
		r.free(&ex(c).account)
	}
	return r, ok
}

func takeResponse(c *compute.Call, h uint32) (*response, bool) {
	r, ok := ex(c).answers.take(h)
	if ok {
		r.free(&ex(c).account)
	}
	return r, ok
}
