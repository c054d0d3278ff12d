package hostcall

import (
	"context"

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
	"close_busy":               cacheCloseBusy,

	"insert":                             cacheInsert,
	"transaction_insert":                 itemEntry(cacheTransactionInsert),
	"transaction_insert_and_stream_back": itemEntry(cacheInsertAndStreamBack),
	"transaction_update":                 itemEntry(cacheUpdate),
	"transaction_cancel":                 itemEntry(cachedCancel),
	"close":                              closeCached(itemTable),

	"get_state":                     itemEntry(cachedState),
	"get_user_metadata":             itemEntry(cachedMetadata),
	"get_body":                      itemEntry(cachedBody),
	"get_length":                    itemEntry(cachedLength),
	"get_max_age_ns":                itemEntry(cachedMaxAge),
	"get_stale_while_revalidate_ns": itemEntry(cachedSWR),
	"get_age_ns":                    itemEntry(cachedAge),
	"get_hits":                      itemEntry(cachedHits),

	"replace":                               cacheReplace,
	"replace_insert":                        replaceEntry(cacheReplaceInsert),
	"replace_get_age_ns":                    replaceEntry(cachedAge),
	"replace_get_body":                      replaceEntry(cachedBody),
	"replace_get_hits":                      replaceEntry(cachedHits),
	"replace_get_length":                    replaceEntry(cachedLength),
	"replace_get_max_age_ns":                replaceEntry(cachedMaxAge),
	"replace_get_stale_while_revalidate_ns": replaceEntry(cachedSWR),
	"replace_get_state":                     replaceEntry(cachedState),
	"replace_get_user_metadata":             replaceEntry(cachedMetadata),
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
	return func(c *compute.Call) abi.Status {
		l := lookupArgs(c, mode)
		l.options(c, c.U32(2), c.U32(3))
		c.Read(c.U32(4), 4)
		return putCached(c, itemTable, 4, look(c, &l), &l)
	}
}

// look looks, and blocks while another inserts what is looked for.
func look(c *compute.Call, l *lookup) compute.CacheEntry {
	e, cache := ex(c), cacheOf(c)
	now := l.CacheLookup
	now.NoWait = true
	entry, err := cache.Look(e.ctx, now)
	if entry == nil && err == nil {
		c.Block(func(ctx context.Context) { e.cache.looked, err = cache.Look(ctx, l.CacheLookup) })
		entry, e.cache.looked = e.cache.looked, nil
	}
	if err != nil || entry == nil {
		c.Fail(abi.Error) // only when the sandbox ends
	}
	return entry
}

// A busy is a lookup that waits.
type busy struct {
	future[compute.CacheEntry]
	lookup
	account *account
	dropped bool // mu guards it
}

// settle delivers the entry, or gives it up if nobody wants it any more.
func (b *busy) settle(entry compute.CacheEntry, err error) {
	b.resolve(entry, err)
	b.mu.Lock()
	dropped := b.dropped
	b.mu.Unlock()
	if dropped && entry != nil {
		entry.Close()
	}
}

func (b *busy) drop() {
	b.future.drop()
	b.account.release(b.size)
	b.mu.Lock()
	b.dropped = true
	done, entry := b.done, b.val
	b.mu.Unlock()
	if done && entry != nil {
		entry.Close()
	}
}

func cacheLookupAsync(c *compute.Call) abi.Status {
	e := ex(c)
	l := lookupArgs(c, wedge.CacheCollapse)
	l.options(c, c.U32(2), c.U32(3))
	c.Read(c.U32(4), 4)
	hold(c, l.size)
	b := &busy{lookup: l, account: &e.account}
	now := l.CacheLookup
	now.NoWait = true
	if entry, err := e.host.Cache.Look(e.ctx, now); entry != nil || err != nil {
		b.settle(entry, err)
	} else {
		b.begin(e)
	}
	c.PutU32(c.U32(4), putItem(c, b))
	return abi.OK
}

// begin waits in a goroutine of its own.
func (b *busy) begin(e *exec) {
	ctx, cancel := context.WithCancel(e.ctx)
	b.cancel = cancel
	go func() {
		defer cancel()
		b.settle(e.host.Cache.Look(ctx, b.CacheLookup))
	}()
}

func cacheBusyWait(c *compute.Call) abi.Status {
	b := getItem[*busy](c, c.U32(0))
	c.Read(c.U32(1), 4)
	entry, err := b.wait(c)
	ex(c).items.take(c.U32(0))
	b.account.release(b.size) // the handle counts it from here on
	if err != nil || entry == nil {
		return abi.Error
	}
	return putCached(c, itemTable, 1, entry, &b.lookup)
}

func cacheCloseBusy(c *compute.Call) abi.Status {
	takeItem[*busy](c, c.U32(0)).drop()
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
	return putCached(c, replaceTable, 4, look(c, &l), &l)
}
