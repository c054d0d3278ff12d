//go:build wasip1

package abi

// BodyNew: a new, empty body for writing.
//
//go:wasmimport fastly_http_body new
//go:noescape
func BodyNew(body *Handle) Status

// BodyRead: blocks for at least one byte; n = 0 is the end.
//
//go:wasmimport fastly_http_body read
//go:noescape
func BodyRead(body Handle, buf *byte, bufLen uint32, n *uint32) Status

// BodyWrite: end 0: append; blocks for room; n may be less than given.
//
//go:wasmimport fastly_http_body write
//go:noescape
func BodyWrite(body Handle, data *byte, dataLen uint32, end uint32, n *uint32) Status

// BodyAppend: moves src to the end of dest without passing the guest; consumes src.
//
//go:wasmimport fastly_http_body append
//go:noescape
func BodyAppend(dest Handle, src Handle) Status

// BodyClose: a clean end; consumes body.
//
//go:wasmimport fastly_http_body close
//go:noescape
func BodyClose(body Handle) Status

// BodyAbandon: gives up; the reader sees an incomplete message; consumes body.
//
//go:wasmimport fastly_http_body abandon
//go:noescape
func BodyAbandon(body Handle) Status

// BodyTrailerAppend: adds a trailer, before close.
//
//go:wasmimport fastly_http_body trailer_append
//go:noescape
func BodyTrailerAppend(body Handle, name string, value string) Status

// BodyTrailerNames: Again until the body was read to its end.
//
//go:wasmimport fastly_http_body trailer_names_get
//go:noescape
func BodyTrailerNames(body Handle, buf *byte, bufLen uint32, cursor uint32, next *int64, n *uint32) Status

// BodyTrailerValues: as above.
//
//go:wasmimport fastly_http_body trailer_values_get
//go:noescape
func BodyTrailerValues(body Handle, name string, buf *byte, bufLen uint32, cursor uint32, next *int64, n *uint32) Status

// BodyKnownLength: None if not known.
//
//go:wasmimport fastly_http_body known_length
//go:noescape
func BodyKnownLength(body Handle, length *uint64) Status
