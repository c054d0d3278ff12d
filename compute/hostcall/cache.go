package hostcall

import (
	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// The core cache (ABI section 7.5): guests keep bytes under keys of their own.
var cacheCalls = calls{
	"lookup":                   cacheLookup(wedge.CacheRead),
	"transaction_lookup":       cacheLookup(wedge.CacheCollapse),
	"transaction_lookup_async": cacheLookupAsync,
	"cache_busy_handle_wait":   cacheBusyWait,
	"close_busy":               closeCached(busyHandle),

	"insert":                             cacheInsert,
	"transaction_insert":                 onKept(cacheTransactionInsert),
	"transaction_insert_and_stream_back": onKept(cacheInsertAndStreamBack),
	"transaction_update":                 onKept(cacheUpdate),
	"transaction_cancel":                 onKept(cachedCancel),
	"close":                              closeCached(objectHandle),

	"get_state":                     onKept(cachedState),
	"get_user_metadata":             onKept(cachedMetadata),
	"get_body":                      onKept(cachedBody),
	"get_length":                    onKept(cachedLength),
	"get_max_age_ns":                onKept(cachedMaxAge),
	"get_stale_while_revalidate_ns": onKept(cachedSWR),
	"get_age_ns":                    onKept(cachedAge),
	"get_hits":                      onKept(cachedHits),

	"replace":                               cacheReplace,
	"replace_insert":                        onReplaced(cacheReplaceInsert),
	"replace_get_age_ns":                    onReplaced(cachedAge),
	"replace_get_body":                      onReplaced(cachedBody),
	"replace_get_hits":                      onReplaced(cachedHits),
	"replace_get_length":                    onReplaced(cachedLength),
	"replace_get_max_age_ns":                onReplaced(cachedMaxAge),
	"replace_get_stale_while_revalidate_ns": onReplaced(cachedSWR),
	"replace_get_state":                     onReplaced(cachedState),
	"replace_get_user_metadata":             onReplaced(cachedMetadata),
}

// lookSize is what an open lookup counts against the account, without its key and fields.
const lookSize = 1024

// lookup is what a guest looks for, and what that counts.
type lookup struct {
	wedge.CacheLookup
	always bool // ranges are heeded though the length is not known
	size   int
}

// cacheOf returns the cache; without one the call ends with unsupported.
func cacheOf(c *compute.Call) compute.Cache {
	if ex(c).host.Cache == nil {
		c.Fail(abi.Unsupported)
	}
	return ex(c).host.Cache
}

// lookupArgs reads a lookup: key, options mask, options.
func lookupArgs(c *compute.Call, mode wedge.CacheMode) lookup {
	cacheOf(c)
	if c.U32(1) > wedge.MaxCacheKey {
		c.Fail(abi.Inval)
	}
	l := lookup{CacheLookup: wedge.CacheLookup{Service: ex(c).host.Version.Service, Key: c.String(0), Mode: mode}}
	l.size = lookSize + len(l.Key)
	return l
}

// fieldsOf makes a request's fields those of the lookup.
func (l *lookup) fieldsOf(r *request) {
	l.Header = r.headers.toHTTP(nil)
	l.size += 2 * r.headers.size
}

// Bits of cache_lookup_options_mask.
const (
	lookHeaders   = 1 << 1
	lookServiceID = 1 << 2
	lookAlways    = 1 << 3
	lookMask      = 1<<4 - 1
)

func (l *lookup) options(c *compute.Call, mask, at uint32) {
	switch {
	case mask&^lookMask != 0:
		c.Fail(abi.Inval)
	case mask&lookServiceID != 0: // another service's things
		c.Fail(abi.Unsupported)
	case mask&lookHeaders != 0:
		l.fieldsOf(getRequest(c, c.ReadU32(at)))
	}
	l.always = mask&lookAlways != 0
}

func cacheLookup(mode wedge.CacheMode) compute.Func {
	return func(c *compute.Call) abi.Status { return lookByKey(c, mode, objectHandle) }
}

func cacheLookupAsync(c *compute.Call) abi.Status {
	return lookByKey(c, wedge.CacheCollapse, busyHandle)
}

func lookByKey(c *compute.Call, mode wedge.CacheMode, kind cacheKind) abi.Status {
	l := lookupArgs(c, mode)
	l.options(c, c.U32(2), c.U32(3))
	c.Read(c.U32(4), 4)
	c.PutU32(c.U32(4), look(c, &l, kind, nil))
	return abi.OK
}

// cacheBusyWait blocks for a lookup and gives it another handle.
func cacheBusyWait(c *compute.Call) abi.Status {
	d := getCached(c, busyHandle)
	c.Read(c.U32(1), 4)
	if _, err := d.wait(c); err != nil {
		return abi.Error
	}
	ex(c).items.take(c.U32(0))
	d.kind = objectHandle
	c.PutU32(c.U32(1), putItem(c, d))
	return abi.OK
}

// Bits of cache_replace_options_mask, and the strategies.
const (
	replaceStrategy  = 1 << 2
	replaceServiceID = 1 << 3
	replaceAlways    = 1 << 4
	replaceMask      = 1<<5 - 1
)

var strategies = map[uint32]wedge.CacheMode{1: wedge.CacheReplace, 2: wedge.CacheReplaceMiss, 3: wedge.CacheReplaceWait}

func cacheReplace(c *compute.Call) abi.Status {
	l := lookupArgs(c, wedge.CacheReplace)
	mask, at := maskArg(c, 2, replaceMask), c.U32(3)
	if mask&replaceServiceID != 0 {
		return abi.Unsupported
	}
	if mask&lookHeaders != 0 {
		l.fieldsOf(getRequest(c, c.ReadU32(at)))
	}
	if mask&replaceStrategy != 0 {
		mode, ok := strategies[c.ReadU32(at+4)]
		if !ok {
			return abi.Inval
		}
		l.Mode = mode
	}
	l.always = mask&replaceAlways != 0
	c.Read(c.U32(4), 4)
	c.PutU32(c.U32(4), look(c, &l, replaceHandle, nil))
	return abi.OK
}
