//go:build wasip1

package abi

// PurgeKey: one key; mask bit 1: soft.
//
//go:wasmimport fastly_purge purge_surrogate_key
//go:noescape
func PurgeKey(key string, mask uint32, options *PurgeOptions) Status
