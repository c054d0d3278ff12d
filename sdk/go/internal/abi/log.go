//go:build wasip1

package abi

// LogEndpoint: Inval for a reserved name.
//
//go:wasmimport fastly_log endpoint_get
//go:noescape
func LogEndpoint(name string, h *Handle) Status

// LogWrite: one line; never blocks.
//
//go:wasmimport fastly_log write
//go:noescape
func LogWrite(h Handle, line string, n *uint32) Status
