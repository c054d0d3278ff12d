package hostcall

import "github.com/wedge-cloud/wedge"

// bindings are the handles of a sandbox that name what its version binds, and its
// standard streams.
type bindings struct {
	stdio        stdio
	kvStores     table[string] // by name
	kvTurns      chan struct{} // who runs a KV operation holds one
	configs      table[string] // by name, as the two below
	dictionaries table[string]
	secretStores table[string]
	secrets      table[wedge.Secret]
	acls         table[[]wedge.ACLEntry]
	endpoints    endpoints
}
