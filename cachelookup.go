package wedge

import (
	"net/http"
	"time"
)

// CacheLookup asks the cache, for a guest that keeps things there itself, what there is under a key.
type CacheLookup struct {
	Service string      // whose things these are
	Key     string      // any bytes
	Header  http.Header // the request's fields, by which variants differ

	// Request asks for the response to it instead, by the rules of HTTP; what its context says of
	// Caching stands for Service and Key, and its own fields for Header.
	Request *http.Request

	Mode   CacheMode
	NoWait bool // rather than wait return nothing
	By     any  // who looks, if not nil: it does not wait for what a lookup by the same is to insert, for it would wait for itself
}

// CacheMode says what a lookup is for.
type CacheMode uint8

const (
	CacheRead        CacheMode = iota // use what is there
	CacheCollapse                     // likewise, and if nothing is, insert it, or wait for who does
	CacheReplace                      // insert whatever is there, and whoever else inserts
	CacheReplaceMiss                  // likewise; until then everybody waits
	CacheReplaceWait                  // likewise, after who inserts already
)

// CacheState says what came of a lookup. The numbers are those of the guest ABI (cache_lookup_state).
type CacheState uint32

// Bits of a CacheState.
const (
	CacheFound         CacheState = 1 << iota
	CacheUsable                   // fresh, or stale by permission
	CacheStale                    // past its freshness
	CacheMustInsert               // it falls to whoever looked to insert, or to update what was found
	CacheUsableIfError            // may stand in for an origin that fails
)

// CacheObject is what the cache knows of a thing it keeps.
type CacheObject struct {
	MaxAge, SWR, SIE time.Duration // fresh until that old, and how much longer usable meanwhile, or after an error
	Age              time.Duration
	Hits             uint64
	Length           int64 // -1: not known yet
	Whole            bool  // all of the body is there
	Metadata         []byte
	Vary             []string // names of the fields by which variants differ
	SurrogateKeys    []string
	Sensitive        bool // must not lie on disk
}

// CacheWrite says how to keep a thing.
type CacheWrite struct {
	MaxAge, InitialAge, SWR, SIE time.Duration
	Vary                         []string
	Header                       http.Header // of the request, if the lookup had none
	SurrogateKeys                []string
	Length                       int64  // -1: not known; a body of another length is not kept
	Metadata                     []byte // of an update nil: as it was
	Sensitive                    bool

	Status   int         // of a response
	Response http.Header // its fields
}

// CacheAction is what to do with a response. The numbers are those of the guest ABI (http_storage_action).
type CacheAction uint32

const (
	CacheInsert     CacheAction = iota
	CacheUpdate                 // freshen what is stored, and keep its body
	CacheDoNotStore             // whoever waits for the same asks for itself, one by one
	CacheRecordPass             // and nobody is to wait for such a response again, for a while
)

// Bounds of what guests keep in the cache.
const (
	MaxCacheKey      = 8192 // what the JavaScript SDK lets through; that of Rust says 4096
	MaxCacheMetadata = 1 << 20
	MaxSurrogateKey  = 1024     // bytes of one
	MaxSurrogateKeys = 16 << 10 // bytes of all
)
