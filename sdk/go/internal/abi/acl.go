//go:build wasip1

package abi

// ACLOpen: None if there is no such list.
//
//go:wasmimport fastly_acl open
//go:noescape
func ACLOpen(name string, h *Handle) Status

// ACLLookup: aclErr 1: body holds the entry as JSON; 2: no entry.
//
//go:wasmimport fastly_acl lookup
//go:noescape
func ACLLookup(h Handle, ip *byte, ipLen uint32, body *Handle, aclErr *uint32) Status
