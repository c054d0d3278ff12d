package compute

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"time"

	"github.com/wedge-cloud/wedge"
)

// Host is the list of everything a sandbox can touch. What is not in it cannot be done.
// A Host belongs to one version, is immutable and is shared by all its sandboxes.
type Host struct {
	Version *wedge.Version // static backends, config stores, secrets, tables

	// Fetch sends a request to the backend that wedge.BackendFrom(req.Context()) names.
	// Errors are *wedge.FetchError, also those from reading the response's body.
	Fetch http.RoundTripper
	// Health reports what the health checks say of a backend.
	Health func(*wedge.Backend) wedge.Health

	// Purge makes stored responses of the version's service unusable before it returns. nil: there is no cache.
	Purge func(wedge.Purge) error

	// Shield says whether a name is that of a PoP by which the version's service can be reached, and whether this is the one.
	// nil: there are none.
	Shield func(name string) (here, known bool)

	KV KV // key-value stores

	// Setting returns what was written, while the version runs, to a key of one of its config or secret stores; not ok: nothing, what the
	// version says holds. It does not wait. It is asked for stores that Version.Stores has only, and may be nil if there are none.
	Setting func(store, key string) (value []byte, ok bool, err error)

	Cache Cache // what the guest keeps in the cache itself; nil: there is none
	Geo   Geo   // a database of where addresses are, besides the version's tables; nil: there is none
	Rates Rates // rate counters and penalty boxes; nil: there are none

	// Log takes one line, without its newline, for the named log endpoint. It must not block.
	Log func(endpoint string, line []byte)
	// Output takes what the guest prints: stream 1 is stdout, 2 stderr. It gets whole lines, except
	// that a guest's last one, or a piece of a very long one, may lack its newline. It must not
	// block or keep the bytes.
	Output func(stream int, b []byte)

	Now       func() time.Time // wall clock
	Monotonic func() int64     // nanoseconds from an arbitrary start
	Rand      io.Reader        // secure random bytes

	Hostname, PoP, Region string // for the guest's environment
	Loops                 bool   // fetches say in CDN-Loop (RFC 8586) which services and PoPs a request has been to
}

// Geo is what a sandbox needs of a database of addresses.
type Geo interface {
	// Record returns what is known of an address at that time, as the ABI's JSON.
	Record(addr netip.Addr, now time.Time) (record []byte, ok bool)
}

// Rates is what a sandbox needs of rate counters and penalty boxes. A name that was not used before is a counter
// at 0, or an empty box.
type Rates interface {
	// Over adds n to the count of a key, and reports whether that makes more than most within the last window. If wait is not nil it is not
	// known yet, and wait says so, by another PoP's answer or when its context ends.
	Over(counter, key string, n uint32, window time.Duration, most uint64) (over bool, wait func(context.Context) bool)
	// Add adds n to the count of a key.
	Add(counter, key string, n uint32)
	// Count estimates what was added for a key within the last window, of 1 s to 60 s in whole seconds.
	Count(counter, key string, window time.Duration) uint64
	// Penalize puts a key into a penalty box for that long from now.
	Penalize(box, key string, d time.Duration)
	// Penalized reports whether a key is in a penalty box.
	Penalized(box, key string) bool
}

// KV is what a sandbox needs of a key-value store. Errors are *wedge.Error; their kinds are
// NotExist, Exist (add mode), Conflict (generation), Exhausted (too large, too many), Unavailable.
type KV interface {
	// Has reports whether the version binds a store of that name.
	Has(store string) bool
	Get(ctx context.Context, store, key string) (wedge.KVValue, error)
	Put(ctx context.Context, store string, put wedge.KVPut) (generation uint64, err error)
	Delete(ctx context.Context, store, key string) error
	// List returns keys in byte order; more says that others follow.
	List(ctx context.Context, store string, list wedge.KVList) (keys []string, more bool, err error)
}
