//go:build wasip1

package abi

// KVOpen: Inval if there is no such store.
//
//go:wasmimport fastly_kv_store open
//go:noescape
func KVOpen(name string, store *Handle) Status

// KVLookup: starts a get; Inval for a bad key.
//
//go:wasmimport fastly_kv_store lookup
//go:noescape
func KVLookup(store Handle, key string, mask uint32, config *KVNothing, pending *Handle) Status

// KVLookupWait: blocks; a miss is OK with kvErr KVNotFound.
//
//go:wasmimport fastly_kv_store lookup_wait_v2
//go:noescape
func KVLookupWait(pending Handle, body *Handle, metadata *byte, metadataLen uint32, n *uint32, generation *uint64, kvErr *uint32) Status

// KVInsert: starts a put; consumes body.
//
//go:wasmimport fastly_kv_store insert
//go:noescape
func KVInsert(store Handle, key string, body Handle, mask uint32, config *KVInsertConfig, pending *Handle) Status

// KVInsertWait: blocks; KVPrecondition: exists already (add), or another generation.
//
//go:wasmimport fastly_kv_store insert_wait
//go:noescape
func KVInsertWait(pending Handle, kvErr *uint32) Status

// KVDelete: starts a delete.
//
//go:wasmimport fastly_kv_store delete
//go:noescape
func KVDelete(store Handle, key string, mask uint32, config *KVNothing, pending *Handle) Status

// KVDeleteWait: blocks.
//
//go:wasmimport fastly_kv_store delete_wait
//go:noescape
func KVDeleteWait(pending Handle, kvErr *uint32) Status

// KVList: starts a listing.
//
//go:wasmimport fastly_kv_store list
//go:noescape
func KVList(store Handle, mask uint32, config *KVListConfig, pending *Handle) Status

// KVListWait: blocks; body is JSON.
//
//go:wasmimport fastly_kv_store list_wait
//go:noescape
func KVListWait(pending Handle, body *Handle, kvErr *uint32) Status
