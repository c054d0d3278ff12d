//go:build wasip1

package abi

// SecretOpen: None if there is no such store.
//
//go:wasmimport fastly_secret_store open
//go:noescape
func SecretOpen(name string, h *Handle) Status

// SecretGet: None if absent.
//
//go:wasmimport fastly_secret_store get
//go:noescape
func SecretGet(h Handle, key string, secret *Handle) Status

// SecretPlaintext: buffer as for method_get.
//
//go:wasmimport fastly_secret_store plaintext
//go:noescape
func SecretPlaintext(secret Handle, buf *byte, bufLen uint32, n *uint32) Status

// SecretFromBytes: a secret made by the guest.
//
//go:wasmimport fastly_secret_store from_bytes
//go:noescape
func SecretFromBytes(data *byte, dataLen uint32, secret *Handle) Status
