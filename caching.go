package wedge

import (
	"context"
	"sync/atomic"
	"time"
)

// Caching says how the cache is to treat a fetch. It travels with the request, as its
// [Backend] does; a fetch without one is not cached.
type Caching struct {
	Service string       // whose objects these are: nobody else's requests or purges reach them
	Profile CacheProfile // how closely requests and responses are taken at their word

	Pass          bool           // by choice: neither looked up nor stored
	TTL           *time.Duration // instead of what a response below 400 says
	SWR           *time.Duration // stale-while-revalidate, likewise
	Patience      *time.Duration // how long to wait for what another request fetches, before asking for oneself; nil: as long as it takes
	Unsaid        time.Duration  // how long a response is fresh that says nothing about it; 0: not at all
	SurrogateKeys []string       // in addition to those of the response
	Key           string         // instead of the URL, if not empty
	Space         string         // keeps objects with the same key apart; "" for most
	Ahead         bool           // nobody has asked for it yet: hits say so
	Compress      bool           // clients get bodies in a coding that they accept
	Sensitive     bool           // the object holds what must not lie on disk

	// Superseded, if not nil, is set once another version of the service with other backends has come: a response that comes later is not
	// stored, for the other's requests would get it. What was stored before is to be purged then.
	Superseded *atomic.Bool
}

// CacheProfile chooses between what the open internet calls for and the letter of the RFCs.
type CacheProfile uint8

const (
	// CacheSafe is for services on the open internet: clients cannot make the cache fetch or
	// forget, nothing that sets a cookie is shared, and errors that a client may have
	// provoked are not stored.
	CacheSafe CacheProfile = iota
	// CacheStrict is RFC 9111 to the letter, request directives included.
	CacheStrict
)

type cachingKey struct{}

// WithCaching returns ctx saying how the cache is to treat the fetches made with it.
func WithCaching(ctx context.Context, c *Caching) context.Context {
	return context.WithValue(ctx, cachingKey{}, c)
}

// CachingFrom returns what ctx says about caching, or nil.
func CachingFrom(ctx context.Context) *Caching {
	c, _ := ctx.Value(cachingKey{}).(*Caching)
	return c
}
