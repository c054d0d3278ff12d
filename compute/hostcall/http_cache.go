package hostcall

import (
	"bytes"
	"context"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// The HTTP cache in the guest's hands (ABI section 7.4): the same responses as those of fetches through the
// cache, with the guest between lookup, backend and storage.
var httpCache = calls{
	"is_request_cacheable":    httpIsCacheable,
	"get_suggested_cache_key": httpSuggestedKey,
	"lookup":                  httpLookup(wedge.CacheRead),
	"transaction_lookup":      httpLookup(wedge.CacheCollapse),

	"get_suggested_backend_request": onFetched(httpBackendRequest),
	"prepare_response_for_storage":  onFetched(httpPrepare),
	"get_suggested_cache_options":   onFetched(httpSuggestedOptions),

	"transaction_insert":                  onFetched(httpInsert),
	"transaction_insert_and_stream_back":  onFetched(httpInsertAndStreamBack),
	"transaction_update":                  onFetched(httpUpdate),
	"transaction_update_and_return_fresh": onFetched(httpUpdateAndReturnFresh),
	"transaction_choose_stale":            onFetched(httpChooseStale),
	"transaction_record_not_cacheable":    onFetched(httpRecordPass),
	"transaction_abandon":                 onFetched(cachedCancel),
	"close":                               closeCached(responseHandle),

	"get_found_response":            onFetched(httpFoundResponse),
	"get_state":                     onFetched(cachedState),
	"get_length":                    onFetched(cachedLength),
	"get_max_age_ns":                onFetched(cachedMaxAge),
	"get_stale_while_revalidate_ns": onFetched(cachedSWR),
	"get_stale_if_error_ns":         onFetched(cachedSIE),
	"get_age_ns":                    onFetched(cachedAge),
	"get_hits":                      onFetched(cachedHits),
	"get_sensitive_data":            onFetched(httpSensitive),
	"get_surrogate_keys":            onFetched(httpSurrogateKeys),
	"get_vary_rule":                 onFetched(httpVaryRule),
}

func onFetched(f func(*compute.Call, *cached) abi.Status) compute.Func {
	return on(responseHandle, f)
}

// unsaid is for how long SDKs expect to keep a response that says nothing about it.
const unsaid = time.Hour

// lookedUp returns the request as the cache is asked for its response.
func lookedUp(c *compute.Call, r *request) (*http.Request, *wedge.Caching) {
	pol := r.caching(ex(c).host.Version)
	pol.Unsaid = unsaid
	return r.plain(wedge.WithCaching(context.Background(), pol)), pol
}

func httpIsCacheable(c *compute.Call) abi.Status {
	cache := cacheOf(c)
	req, _ := lookedUp(c, getRequest(c, c.U32(0)))
	c.PutU32(c.U32(1), flag(cache.Cacheable(req)))
	return abi.OK
}

func httpSuggestedKey(c *compute.Call) abi.Status {
	cache := cacheOf(c)
	req, _ := lookedUp(c, getRequest(c, c.U32(0)))
	return c.PutBuf(1, 3, string(cache.RequestKey(req)))
}

// Bits of http_cache_lookup_options_mask.
const (
	httpOverrideKey = 1 << 1
	httpBackendName = 1 << 2
	httpLookMask    = 1<<3 - 1
)

// keySize is that of a key that takes the place of a request's own.
const keySize = 32

func httpLookup(mode wedge.CacheMode) compute.Func {
	return func(c *compute.Call) abi.Status {
		cache := cacheOf(c)
		r := getRequest(c, c.U32(0))
		req, pol := lookedUp(c, r)
		mask, at := maskArg(c, 1, httpLookMask), c.U32(2)
		if mask&httpOverrideKey != 0 {
			key := overrideKey(c, at)
			if !bytes.Equal(key, cache.RequestKey(req)) {
				pol.Key = strings.ToUpper(hex.EncodeToString(key)) // as the field of the same purpose spells it
			}
		}
		c.Read(c.U32(3), 4)
		l := lookup{CacheLookup: wedge.CacheLookup{Request: req, Mode: mode}, size: lookSize + 3*r.headers.size + 3*len(r.uri)}
		kept := &request{method: r.method, uri: r.uri, url: r.url, version: r.version, headers: r.headers.clone(),
			manual: r.manual, decompress: r.decompress, cache: r.cache}
		c.PutU32(c.U32(3), look(c, &l, responseHandle, kept))
		return abi.OK
	}
}

func overrideKey(c *compute.Call, at uint32) []byte {
	if c.ReadU32(at+4) != keySize {
		c.Fail(abi.Inval)
	}
	return bytes.Clone(c.Read(c.ReadU32(at), keySize))
}

// httpBackendRequest opens a handle for the request to send: the one looked up with the fields changed that
// the cache wants otherwise.
func httpBackendRequest(c *compute.Call, d *cached) abi.Status {
	c.Read(c.U32(1), 4)
	want := d.tx.BackendRequest()
	have := d.req.plain(context.Background()).Header
	r := *d.req
	r.headers, r.method = d.req.headers.clone(), want.Method
	for name := range have {
		if _, ok := want.Header[name]; !ok {
			r.headers.remove(name)
		}
	}
	for name, values := range want.Header {
		if !slices.Equal(values, have[name]) {
			r.headers.remove(name)
			r.headers.addAll(name, values)
		}
	}
	c.PutU32(c.U32(1), putRequest(c, &r))
	return abi.OK
}

// httpPrepare opens a handle for what is to be stored of a response, and says what to do with it.
func httpPrepare(c *compute.Call, d *cached) abi.Status {
	resp := getResponse(c, c.U32(1))
	c.Read(c.U32(2), 4)
	c.Read(c.U32(3), 4)
	action, status, h := d.tx.Prepare(resp.status, resp.headers.toHTTP(nil))
	out := &response{status: status, version: resp.version, headers: fromHTTP(h), peer: resp.peer}
	c.PutU32(c.U32(3), putResponse(c, out))
	c.PutU32(c.U32(2), uint32(action))
	return abi.OK
}

// httpFoundResponse opens handles for what was found: 1 for as the client asked for it.
func httpFoundResponse(c *compute.Call, d *cached) abi.Status {
	asked := c.U32(1) != 0
	c.Read(c.U32(2), 4)
	c.Read(c.U32(3), 4)
	ctx, cancel := context.WithCancel(context.Background()) // it may go on when the guest has ended
	resp, err := d.tx.Response(ctx, asked)
	if err != nil {
		cancel()
		return abi.None
	}
	method := http.MethodGet
	if asked {
		method = d.req.method
	}
	f := received(resp, method, false, cancel)
	if n := resp.ContentLength; !f.body.whole(0) && n >= 0 && n <= chunkSize {
		o, _ := d.tx.Object()
		f.body = storedBody(resp.Body, n, o.Whole, cancel)
	}
	return deliver(c, f, 2)
}

func httpChooseStale(_ *compute.Call, d *cached) abi.Status {
	return cacheStatus(d.tx.ChooseStale())
}

func httpSensitive(c *compute.Call, d *cached) abi.Status {
	c.PutU32(c.U32(1), flag(d.found(c).Sensitive))
	return abi.OK
}

func httpSurrogateKeys(c *compute.Call, d *cached) abi.Status {
	return c.PutBuf(1, 3, strings.Join(d.found(c).SurrogateKeys, " "))
}

// httpVaryRule: SDKs put spaces or commas between the fields, and compare what they get back.
func httpVaryRule(c *compute.Call, d *cached) abi.Status {
	rule := strings.Join(d.found(c).Vary, " ")
	if d.rule != "" {
		rule = d.rule
	}
	return c.PutBuf(1, 3, rule)
}
