package wedge

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"sync/atomic"
	"time"
)

// Version is an immutable, numbered snapshot of a service: its guest, backends,
// bindings and limits. It is never edited; a new one supersedes it.
type Version struct {
	Service string   // name of the service, unique within its tenant
	Number  int      // 1 and up
	Hosts   []string // host names it answers for; empty: every host no other version names

	Guest []byte   // the guest as uploaded, a core Wasm module; nil: the service has no guest
	Start Start    // how each sandbox begins
	Args  []string // WASI arguments; empty: the ABI's "compute-app"
	Env   map[string]string

	CacheProfile CacheProfile // how the cache takes messages
	CacheSpace   string       // keeps what is fetched for it apart, see Caching.Space; the node's to set
	Superseded   *atomic.Bool // see Caching.Superseded; the node's to set
	Prefetch     bool         // what pages of such a service say is next is fetched ahead
	Compress     bool         // clients of a service without a guest get texts compressed
	Rules        []Rule       // of a service without a guest
	ErrorPages   map[int]Page // by status, 0 for any error: instead of Wedge's own words

	Limits         Limits
	Concurrency    int // sandboxes of this service at once on one node; 0: the node's limit
	Backends       []Backend
	DynamicBackend bool           // whether the guest may register backends
	Egress         []netip.Prefix // private ranges that dynamic backends may reach

	ConfigStores map[string]map[string]string // also served as dictionaries
	KVStores     map[string][]KVSeed
	Stores       map[string]Store // what holds for these; absent: the zero value
	SecretStores map[string]map[string]Secret
	ACLs         map[string][]ACLEntry
	Geo          map[netip.Addr]json.RawMessage // geolocation record by address
	GeoDatabase  []byte                         // in MaxMind's format, asked after Geo; nil: none
	GeoLoopback  bool                           // answer for loopback addresses with a fixed record
	Devices      map[string]json.RawMessage     // device record by User-Agent
	APIKeys      []Secret                       // values of Fastly-Key that count as valid
	Events       []Event                        // messages that purge
	Collect      []Collect                      // events of clients that are added up
	Rates        []Rate                         // how many requests are let in
	Shields      map[string]ShieldSite
	Sessions     *Sessions // of its clients; nil: it keeps none
	Apologies    string    // path where the service takes apologies; "": nowhere, they are kept
	Files        string    // directory served by the service itself; reserved for services without a guest
}

// Held returns the stores of a version in which something can be written while it runs, each with what is in it from the beginning: its
// key-value stores, and those of its config and secret stores that Stores has. What a secret store begins with is not among it.
func (v *Version) Held() map[string][]KVSeed {
	held := maps.Clone(v.KVStores)
	for name := range v.Stores {
		if _, ok := held[name]; ok {
			continue
		}
		if held == nil {
			held = map[string][]KVSeed{}
		}
		held[name] = []KVSeed{}
		for key, value := range v.ConfigStores[name] {
			held[name] = append(held[name], KVSeed{Key: key, Value: []byte(value)})
		}
	}
	return held
}

// SecretPlace says where a secret belongs that is sealed for a secret store.
func SecretPlace(service, store, name string) string {
	return fmt.Sprintf("secret %q of %q of %q", name, store, service)
}

// Backend returns the static backend of that name.
func (v *Version) Backend(name string) (*Backend, bool) {
	for i := range v.Backends {
		if v.Backends[i].Name == name {
			return &v.Backends[i], true
		}
	}
	return nil, false
}

// Page is a page that is given with a version.
type Page struct {
	Type string // Content-Type
	Body []byte
}

// Start says how a sandbox begins.
type Start uint8

const (
	// StartFresh runs the guest's own start-up in every sandbox.
	StartFresh Start = iota
	// StartSnapshot begins every sandbox where the guest first asked for its request.
	// What the guest drew at random or read from the clock before that point is then
	// the same in every request.
	StartSnapshot
)

// ParseStart reads "fresh", "snapshot" or "" (fresh).
func ParseStart(s string) (Start, error) {
	switch s {
	case "", "fresh":
		return StartFresh, nil
	case "snapshot":
		return StartSnapshot, nil
	}
	return 0, &Error{Op: "parse start", What: fmt.Sprintf("%q", s), Kind: Invalid, Hint: `Write start = "fresh" or start = "snapshot".`}
}

// String returns the word used in wedge.toml.
func (s Start) String() string {
	if s == StartSnapshot {
		return "snapshot"
	}
	return "fresh"
}

// ShieldSite is a shielding site's pair of base URLs; both empty: this PoP itself.
type ShieldSite struct{ Unencrypted, Encrypted string }

// ACLEntry gives the action for a range of addresses; the most specific range wins.
type ACLEntry struct {
	Prefix netip.Prefix `json:"prefix"`
	Action string       `json:"action"` // "ALLOW" or "BLOCK"
}

// Scope says who decides what a key of a store holds, and who hears of it.
type Scope string

// The scopes.
const (
	ScopeMerge Scope = "merge" // every PoP by itself, at once; what PoPs wrote at the same time is merged
	ScopeCore  Scope = "core"  // the core, for all PoPs: a condition that held there held everywhere
	ScopeHome  Scope = "home"  // one PoP, for all: writes are ordered there, and it moves to where they come from
	ScopeLocal Scope = "local" // every PoP for itself; no other hears of it
)

// Store says what holds for a key-value store.
type Store struct {
	Scope        Scope  // "": merge
	Jurisdiction string // only PoPs that carry it hold what is in the store, others reach it at one of them; "": anywhere
	Split        string // of scope home: what ends the part of a key up to which keys have a home in common, such as "/"; "": all have
}

// MaxSplit bounds a store's Split, in bytes.
const MaxSplit = 8

// ReservedNames are those under wedge.internal that no service can have.
var ReservedNames = []string{"state", "session", "collect"}

// Scopes are all there are.
var Scopes = []Scope{ScopeMerge, ScopeCore, ScopeHome, ScopeLocal}

// KVSeed is a key a store holds from the start, unless it was written since.
type KVSeed struct {
	Key      string
	Value    []byte
	Metadata string
}

// KVValue is what a key of a store holds.
type KVValue struct {
	Value      []byte
	Metadata   string
	Generation uint64    // changes with each write
	Expires    time.Time // zero: never
}

// KVMode says what a put does with a value that is there already.
type KVMode uint8

// The numbers are those of the guest ABI (kv_insert_mode).
const (
	KVOverwrite KVMode = iota
	KVAdd              // only if absent, else an error of kind Exist
	KVAppend
	KVPrepend
)

// KVPut is one write to a store.
type KVPut struct {
	Key          string
	Value        []byte
	Mode         KVMode
	Metadata     *string       // nil: none (overwrite), or the old one (append, prepend)
	TTL          time.Duration // 0: for ever
	IfGeneration *uint64       // write only if the key is at this generation, else an error of kind Conflict
}

// KVList asks for a page of a store's keys in byte order.
type KVList struct {
	Prefix string
	After  string // keys greater than this; "": from the start
	Limit  int    // 1 to 1,000
}

// MaxGeoDatabase is how large a version's geolocation database may be, in bytes. A node keeps it in memory.
const MaxGeoDatabase = 256 << 20

// Limits of the KV store's interface.
const (
	MaxKVKey      = 1024     // bytes
	MaxKVValue    = 30 << 20 // bytes; what the JavaScript SDK promises
	MaxKVMetadata = 2000     // bytes
)

// Limits of config and secret stores.
const (
	MaxConfigKey   = 256      // characters
	MaxConfigValue = 8000     // characters
	MaxSecret      = 64 << 10 // bytes
)
