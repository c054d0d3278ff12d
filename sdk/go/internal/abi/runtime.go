//go:build wasip1

package abi

// CPUMillis: CPU time this sandbox has used.
//
//go:wasmimport fastly_compute_runtime get_vcpu_ms
//go:noescape
func CPUMillis(ms *uint64) Status
