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

func (c guestCache) Look(ctx context.Context, l wedge.CacheLookup) (compute.CacheTransaction, error) {
	return transactionOf(c.Cache.Look(ctx, l))
}

type transaction struct{ *cache.Transaction }

func (e transaction) Insert(w wedge.CacheWrite, body io.ReadCloser, awaited bool) (compute.CacheTransaction, error) {
	return transactionOf(e.Transaction.Insert(w, body, awaited))
}

func (e transaction) Update(w wedge.CacheWrite) (compute.CacheTransaction, error) {
	return transactionOf(e.Transaction.Update(w))
}

// transactionOf keeps none none.
func transactionOf(t *cache.Transaction, err error) (compute.CacheTransaction, error) {
	if t == nil {
		return nil, err
	}
	return transaction{t}, err
}
