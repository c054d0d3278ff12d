//go:build wasip1

package abi

// Select: blocks until one is ready; 0 ms: no limit; index 0xFFFFFFFF: time is up; consumes nothing.
//
//go:wasmimport fastly_async_io select
//go:noescape
func Select(handles *Handle, count uint32, timeoutMs uint32, index *uint32) Status

// IsReady: 0 or 1; consumes nothing.
//
//go:wasmimport fastly_async_io is_ready
//go:noescape
func IsReady(h Handle, ready *uint32) Status
