package edge

import (
	"io"
	"net/netip"

	"github.com/wedge-cloud/wedge/sdk/go/internal/abi"
	"github.com/wedge-cloud/wedge/sdk/go/store"
)

// What package store offers, under this package's name. Errors match with errors.Is as
// described there.
type (
	KV         = store.KV
	KVValue    = store.Value
	KVPut      = store.Put
	KVList     = store.List
	Config     = store.Config
	Secrets    = store.Secrets
	Secret     = store.Secret
	Place      = store.Place
	DeviceInfo = store.DeviceInfo
)

// Errors that a write to a store can match.
var (
	ErrConflict = store.ErrConflict
	ErrTooLarge = store.ErrTooLarge
	ErrTooMany  = store.ErrTooMany
)

// Modes of a [KVPut].
const (
	Overwrite = store.Overwrite
	Add       = store.Add
	Append    = store.Append
	Prepend   = store.Prepend
)

// OpenKV opens the key-value store that the service binds under name.
func OpenKV(name string) (*KV, error) { return store.OpenKV(name) }

// OpenConfig opens the config store that the service binds under name.
func OpenConfig(name string) (*Config, error) { return store.OpenConfig(name) }

// OpenSecrets opens the secret store that the service binds under name.
func OpenSecrets(name string) (*Secrets, error) { return store.OpenSecrets(name) }

// ACL is an access list: actions for ranges of addresses.
type ACL struct{ list *store.ACL }

// OpenACL opens the access list that the service binds under name.
func OpenACL(name string) (*ACL, error) {
	l, err := store.OpenACL(name)
	return &ACL{l}, err
}

// ACLMatch is the most specific entry for an address.
type ACLMatch struct {
	Prefix netip.Prefix
	Action string // "ALLOW" or "BLOCK"
}

// Lookup returns the entry for ip; the error matches fs.ErrNotExist if there is none.
func (a *ACL) Lookup(ip netip.Addr) (*ACLMatch, error) {
	m, err := a.list.Lookup(ip.AsSlice())
	if err != nil {
		return nil, err
	}
	p, err := netip.ParsePrefix(m.Prefix)
	if err != nil {
		return nil, err
	}
	return &ACLMatch{p, m.Action}, nil
}

// Geo returns what is known of an address; the error matches fs.ErrNotExist if that is nothing.
func Geo(ip netip.Addr) (*Place, error) { return store.Geo(ip.AsSlice()) }

// Device returns what a user agent string tells; the error matches fs.ErrNotExist if that is nothing.
func Device(userAgent string) (*DeviceInfo, error) { return store.Device(userAgent) }

// Log returns a writer to a named log endpoint: each Write is one line, and never waits
// for delivery.
func Log(name string) io.Writer { return store.OpenLog(name) }

// Purge makes cached objects with the surrogate key unusable; if soft is set, stale.
func Purge(key string, soft bool) error { return store.Purge(key, soft) }

// CPUTime returns the milliseconds of CPU that this sandbox has used; 0 if not known.
func CPUTime() (ms uint64) {
	if abi.CPUMillis(&ms) != abi.OK {
		return 0
	}
	return ms
}
