package hostcall

import "github.com/wedge-cloud/wedge"

// bindings are the handles of a sandbox that name what its version binds, and its
// standard streams.
type bindings struct {
	stdio        stdio
	kvStores     table[string] // by name
	kvTurns      chan struct{} // who runs a KV operation holds one
	configs      table[map[string]string]
	dictionaries table[map[string]string]
	secretStores table[map[string]wedge.Secret]
	secrets      table[wedge.Secret]
	acls         table[[]wedge.ACLEntry]
	endpoints    endpoints
}
