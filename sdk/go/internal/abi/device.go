//go:build wasip1

package abi

// DeviceLookup: JSON; None if nothing is known.
//
//go:wasmimport fastly_device_detection lookup
//go:noescape
func DeviceLookup(userAgent string, buf *byte, bufLen uint32, n *uint32) Status
