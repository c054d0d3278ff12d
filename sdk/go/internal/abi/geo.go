//go:build wasip1

package abi

// GeoLookup: JSON; n = 0 or None if nothing is known.
//
//go:wasmimport fastly_geo lookup
//go:noescape
func GeoLookup(ip *byte, ipLen uint32, buf *byte, bufLen uint32, n *uint32) Status
