package node

import (
	"context"
	"io"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/cache"
	"github.com/wedge-cloud/wedge/compute"
)

// guestCache gives guests the cache: what it returns becomes the interface that compute knows.
type guestCache struct{ *cache.Cache }

var _ compute.Cache = guestCache{}

func (c guestCache) Look(ctx context.Context, l wedge.CacheLookup) (compute.CacheEntry, error) {
	return entryOf(c.Cache.Look(ctx, l))
}

type cacheEntry struct{ *cache.Transaction }

func (e cacheEntry) Insert(w wedge.CacheWrite, body io.ReadCloser, awaited bool) (compute.CacheEntry, error) {
	return entryOf(e.Transaction.Insert(w, body, awaited))
}

func (e cacheEntry) Update(w wedge.CacheWrite) (compute.CacheEntry, error) {
	return entryOf(e.Transaction.Update(w))
}

// entryOf keeps none none.
func entryOf(t *cache.Transaction, err error) (compute.CacheEntry, error) {
	if t == nil {
		return nil, err
	}
	return cacheEntry{t}, err
}
