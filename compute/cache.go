package compute

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/wedge-cloud/wedge"
)

// Cache is what a sandbox needs of the cache, apart from fetching through it, to look things up
// there and insert them itself.
type Cache interface {
	// Look returns what there is. It waits while somebody else has it to insert, until ctx ends; with
	// NoWait it returns nil instead. The entry must be closed.
	Look(ctx context.Context, l wedge.CacheLookup) (CacheTransaction, error)
	// Cacheable reports whether responses to a request may be kept at all.
	Cacheable(req *http.Request) bool
	// RequestKey names what requests for the same resource have in common, in 32 bytes.
	RequestKey(req *http.Request) []byte
}

// CacheTransaction is what one lookup found, and perhaps the obligation to insert what it did not find:
// others wait until it is fulfilled or given up, and then one of them has it. It is for one
// goroutine at a time. What fails for want of the obligation, or of something found, is of kind Conflict.
type CacheTransaction interface {
	State() wedge.CacheState
	// Object describes what was found; false: nothing was that may be used.
	Object() (wedge.CacheObject, bool)
	// Open reads n bytes of its body from an offset; n < 0: all that follow. Bytes still to come are waited for.
	Open(ctx context.Context, from, n int64) (io.ReadCloser, error)

	// Insert begins to keep what body gives, from now on for everybody to read: whole if it ends with
	// io.EOF, else not at all. It returns an entry that has found it. awaited says that this one's body will be read.
	Insert(w wedge.CacheWrite, body io.ReadCloser, awaited bool) (CacheTransaction, error)
	// Update keeps the body of what was found and changes all else.
	Update(w wedge.CacheWrite) (CacheTransaction, error)
	// Cancel gives the obligation up.
	Cancel() error
	// Close gives up all there is.
	Close()

	// What follows is for lookups of responses.

	// BackendRequest is the request to send: for all of the response, or whether the stale one is still good.
	BackendRequest() *http.Request
	// Prepare makes of a backend's response what is to be stored and says what to do with it.
	Prepare(status int, h http.Header) (wedge.CacheAction, int, http.Header)
	// Suggest returns what the fields of a response say about keeping it.
	Suggest(status int, h http.Header) wedge.CacheWrite
	// Response returns what was found; asked: as the request asked for it. Its body is read with ctx.
	Response(ctx context.Context, asked bool) (*http.Response, error)
	// ChooseStale answers this lookup, and whoever waits, with what is stale, for the origin failed.
	ChooseStale() error
	// Pass lets nobody wait for such a response, for a while, 0 being as long as the cache thinks right.
	Pass(maxAge time.Duration) error
}
