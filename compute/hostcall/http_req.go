package hostcall

import (
	"net/url"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

var httpReq = calls{
	"body_downstream_get": bodyDownstreamGet,

	"downstream_client_ip_addr":                clientIP(first),
	"downstream_server_ip_addr":                serverIP(first),
	"downstream_client_h2_fingerprint":         textCall(first, h2Fingerprint),
	"downstream_client_request_id":             textCall(first, requestID),
	"downstream_client_oh_fingerprint":         textCall(first, ohFingerprint),
	"downstream_client_ddos_detected":          numberCall(first, no),
	"downstream_tls_cipher_openssl_name":       textCall(first, tlsCipher),
	"downstream_tls_protocol":                  textCall(first, tlsProtocol),
	"downstream_tls_client_hello":              textCall(first, tlsHello),
	"downstream_tls_raw_client_certificate":    textCall(first, tlsCertificate),
	"downstream_tls_client_cert_verify_result": numberCall(first, tlsVerifyResult),
	"downstream_tls_client_servername":         textCall(first, tlsServerName),
	"downstream_tls_ja3_md5":                   ja3(first),
	"downstream_tls_ja4":                       textCall(first, tlsJA4),
	"downstream_compliance_region":             textCall(first, complianceRegion),
	"original_header_names_get":                originalNames(first),
	"original_header_count":                    originalCount(first),
	"fastly_key_is_valid":                      numberCall(first, keyIsValid),

	"new":               requestNew,
	"close":             requestClose,
	"header_names_get":  onRequest(namesGet),
	"header_value_get":  onRequest(valueGet),
	"header_values_get": onRequest(valuesGet),
	"header_values_set": onRequest(valuesSet),
	"header_insert":     onRequest(fieldInsert),
	"header_append":     onRequest(fieldAppend),
	"header_remove":     onRequest(fieldRemove),
	"method_get":        methodGet,
	"method_set":        methodSet,
	"uri_get":           uriGet,
	"uri_set":           uriSet,
	"version_get":       requestVersionGet,
	"version_set":       requestVersionSet,

	"cache_override_set":           cacheOverrideSet,
	"cache_override_v2_set":        cacheOverrideV2Set,
	"cache_override_v3_set":        cacheOverrideV3Set,
	"auto_decompress_response_set": autoDecompressSet,
	"framing_headers_mode_set":     requestFramingSet,

	"send":                 send,
	"send_v2":              sendV2,
	"send_v3":              sendV3,
	"send_async":           sendAsync,
	"send_async_v2":        sendAsyncV2,
	"send_async_streaming": sendAsyncStreaming,

	"pending_req_header_insert": pendingHeaderInsert,
	"pending_req_header_append": pendingHeaderAppend,
	"pending_req_header_remove": pendingHeaderRemove,
	"pending_req_poll":          pendingPoll,
	"pending_req_poll_v2":       pendingPollV2,
	"pending_req_wait":          pendingWait,
	"pending_req_wait_v2":       pendingWaitV2,
	"pending_req_select":        pendingSelect,
	"pending_req_select_v2":     pendingSelectV2,

	"redirect_to_websocket_proxy":    redirectToWebsocket,
	"upgrade_websocket":              redirectToWebsocket,
	"redirect_to_websocket_proxy_v2": redirectToWebsocketV2,
	"register_dynamic_backend":       registerDynamicBackend,
	"inspect":                        inspect,
}

// These bound what a guest may set, in bytes. Of a URI the target has a limit of its own.
const (
	maxAuthority = 4 << 10 // with the scheme
	maxMethod    = 1024
	maxKeys      = 64 << 10 // surrogate keys
)

// onRequest makes a header call of one on the request that word 0 names.
func onRequest(f func(*compute.Call, *headers, int) abi.Status) compute.Func {
	return func(c *compute.Call) abi.Status { return f(c, &getRequest(c, c.U32(0)).headers, 1) }
}

// bodyDownstreamGet opens the handles of the first downstream request at the first call.
func bodyDownstreamGet(c *compute.Call) abi.Status {
	e := ex(c)
	if e.first == nil {
		return abi.Error // the guest serves no request
	}
	c.Read(c.U32(0), 4)
	c.Read(c.U32(1), 4)
	if !e.down.open {
		e.down = openDownstream(c, e.first)
	}
	c.PutU32(c.U32(0), e.down.request)
	c.PutU32(c.U32(1), e.down.body)
	return abi.OK
}

// openDownstream opens handles for a downstream request and its body.
func openDownstream(c *compute.Call, in *incoming) handles {
	r := &request{method: in.method, uri: in.uri, version: in.proto, headers: in.headerLines(), in: in}
	r.url, _ = parseURI(in.uri)
	return handles{true, putRequest(c, r), putBody(c, in.body)}
}

func requestNew(c *compute.Call) abi.Status {
	c.Read(c.U32(0), 4)
	c.PutU32(c.U32(0), putRequest(c, newRequest()))
	return abi.OK
}

func requestClose(c *compute.Call) abi.Status {
	if _, ok := takeRequest(c, c.U32(0)); !ok {
		return abi.BadHandle
	}
	return abi.OK
}

func methodGet(c *compute.Call) abi.Status { return c.PutBuf(1, 3, getRequest(c, c.U32(0)).method) }

func methodSet(c *compute.Call) abi.Status {
	r := getRequest(c, c.U32(0))
	m := c.Bytes(1)
	if !validToken(m) || len(m) > maxMethod {
		return abi.Error
	}
	return r.change(c, func() { r.method = string(m) })
}

func uriGet(c *compute.Call) abi.Status { return c.PutBuf(1, 3, getRequest(c, c.U32(0)).uri) }

func uriSet(c *compute.Call) abi.Status {
	r := getRequest(c, c.U32(0))
	b := c.Bytes(1)
	limit := ex(c).limits.URIBytes
	if len(b) > limit+maxAuthority {
		return abi.LimitExceeded
	}
	u, ok := parseURI(string(b))
	if !ok {
		return abi.Error
	}
	if len(b)-len(u.Scheme)-len("://")-len(u.Host) > limit {
		return abi.LimitExceeded
	}
	return r.change(c, func() { r.uri, r.url = string(b), u })
}

// change applies f, which sets the method, URI or cache override, if the account has room for it.
func (r *request) change(c *compute.Call, f func()) abi.Status {
	old := *r
	f()
	now := len(r.method) + 2*len(r.uri) + len(r.cache.surrogateKeys)
	if !ex(c).account.hold(now - old.held) {
		*r = old
		return abi.LimitExceeded
	}
	r.held = now
	return abi.OK
}

// parseURI reads an absolute http or https URI, or an origin-form one ("/path?query").
func parseURI(s string) (*url.URL, bool) {
	if s == "" {
		return nil, false
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] == 0x7f {
			return nil, false
		}
	}
	u, err := url.Parse(s)
	if err != nil {
		if u, err = url.Parse(escapeStray(s)); err != nil {
			return nil, false
		}
	}
	if u.Opaque != "" || u.Scheme != "" && u.Host == "" || u.User != nil && u.Host == "" {
		return nil, false
	}
	return u, true
}

// escapeStray escapes each % that begins no escape: clients send such paths, and backends
// that want them exist.
func escapeStray(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		b.WriteByte(s[i])
		if s[i] == '%' && !(i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2])) {
			b.WriteString("25")
		}
	}
	return b.String()
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= lower[c] && lower[c] <= 'f'
}

// targetOf returns where a request goes, with a path that begins with a slash.
func targetOf(r *request) *url.URL {
	u := *r.url
	u.Fragment, u.RawFragment = "", ""
	if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path
		if u.RawPath != "" {
			u.RawPath = "/" + u.RawPath
		}
	}
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	return &u
}

func requestVersionGet(c *compute.Call) abi.Status {
	c.PutU32(c.U32(1), getRequest(c, c.U32(0)).version)
	return abi.OK
}

func requestVersionSet(c *compute.Call) abi.Status {
	r := getRequest(c, c.U32(0))
	if c.U32(1) > http3 {
		return abi.Inval
	}
	r.version = c.U32(1)
	return abi.OK
}

func requestFramingSet(c *compute.Call) abi.Status {
	r := getRequest(c, c.U32(0))
	if c.U32(1) > 1 {
		return abi.Inval
	}
	r.manual = c.U32(1) == 1
	return abi.OK
}

func autoDecompressSet(c *compute.Call) abi.Status {
	r := getRequest(c, c.U32(0))
	if c.U32(1)&^1 != 0 {
		return abi.Inval
	}
	r.decompress = c.U32(1) == 1
	return abi.OK
}

func cacheOverrideSet(c *compute.Call) abi.Status {
	r := getRequest(c, c.U32(0))
	return r.override(c, cacheOverride{tag: c.U32(1), ttl: seconds(c.U32(2)), swr: seconds(c.U32(3))}, overrideLookupTimeout-1)
}

func cacheOverrideV2Set(c *compute.Call) abi.Status {
	r := getRequest(c, c.U32(0))
	keys, s := surrogateKeys(c.Bytes(4))
	if s != abi.OK {
		return s
	}
	return r.override(c, cacheOverride{c.U32(1), seconds(c.U32(2)), seconds(c.U32(3)), keys, 0}, overrideLookupTimeout-1)
}

// cacheOverrideV3Set reads a record: ttl, swr, surrogate keys (pointer, length), lookup timeout.
func cacheOverrideV3Set(c *compute.Call) abi.Status {
	rec := c.U32(2)
	if rec%4 != 0 {
		return abi.BadAlign
	}
	c.Read(rec, 20)
	o := cacheOverride{tag: c.U32(1), ttl: seconds(c.ReadU32(rec)), swr: seconds(c.ReadU32(rec + 4)),
		lookupTimeout: time.Duration(c.ReadU32(rec+16)) * time.Millisecond}
	keys, s := surrogateKeys(c.Read(c.ReadU32(rec+8), c.ReadU32(rec+12)))
	if s != abi.OK {
		return s
	}
	o.surrogateKeys = keys
	if o.tag&^(2*overrideLookupTimeout-1) != 0 {
		return abi.Inval
	}
	return getRequest(c, c.U32(0)).override(c, o, 2*overrideLookupTimeout-1)
}

func (r *request) override(c *compute.Call, o cacheOverride, known uint32) abi.Status {
	if o.tag&^known != 0 {
		return abi.Inval
	}
	return r.change(c, func() { r.cache = o })
}

// caching says how the cache is to treat the request.
func (r *request) caching(v *wedge.Version) *wedge.Caching {
	o := &r.cache
	c := &wedge.Caching{Service: v.Service, Profile: v.CacheProfile, Space: v.CacheSpace, Superseded: v.Superseded, Pass: o.tag&overridePass != 0,
		SurrogateKeys: strings.Fields(o.surrogateKeys), Sensitive: o.tag&overridePCI != 0}
	if o.tag&overrideTTL != 0 {
		c.TTL = &o.ttl
	}
	if o.tag&overrideSWR != 0 {
		c.SWR = &o.swr
	}
	if o.tag&overrideLookupTimeout != 0 {
		c.Patience = &o.lookupTimeout
	}
	c.Key, _ = r.headers.get(cacheKeyField)
	return c
}

// cacheKeyField is how SDKs give a request another cache key than its URL.
const cacheKeyField = "fastly-xqd-cache-key"

func surrogateKeys(b []byte) (string, abi.Status) {
	if !validValue(b) || len(b) > maxKeys {
		return "", abi.Inval
	}
	return string(b), abi.OK
}

func seconds(n uint32) time.Duration { return time.Duration(n) * time.Second }
