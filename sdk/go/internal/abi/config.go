//go:build wasip1

package abi

// ConfigOpen: BadHandle if there is no such store.
//
//go:wasmimport fastly_config_store open
//go:noescape
func ConfigOpen(name string, h *Handle) Status

// ConfigGet: None if absent.
//
//go:wasmimport fastly_config_store get
//go:noescape
func ConfigGet(h Handle, key string, buf *byte, bufLen uint32, n *uint32) Status
