//go:build wasip1

package abi

// BackendExists: 0 or 1.
//
//go:wasmimport fastly_backend exists
//go:noescape
func BackendExists(backend string, exists *uint32) Status

// BackendHealth: 0 unknown, 1 healthy, 2 unhealthy; Inval for an unknown backend.
//
//go:wasmimport fastly_backend is_healthy
//go:noescape
func BackendHealth(backend string, health *uint32) Status
