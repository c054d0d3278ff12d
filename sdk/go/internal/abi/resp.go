//go:build wasip1

package abi

// RespNew: a new response: 200, no headers.
//
//go:wasmimport fastly_http_resp new
//go:noescape
func RespNew(resp *Handle) Status

// RespHeaderNames: as for requests.
//
//go:wasmimport fastly_http_resp header_names_get
//go:noescape
func RespHeaderNames(h Handle, buf *byte, bufLen uint32, cursor uint32, next *int64, n *uint32) Status

// RespHeaderValues: as for requests.
//
//go:wasmimport fastly_http_resp header_values_get
//go:noescape
func RespHeaderValues(h Handle, name string, buf *byte, bufLen uint32, cursor uint32, next *int64, n *uint32) Status

// RespHeaderInsert: replaces all values by one.
//
//go:wasmimport fastly_http_resp header_insert
//go:noescape
func RespHeaderInsert(h Handle, name string, value string) Status

// RespHeaderAppend: adds a value.
//
//go:wasmimport fastly_http_resp header_append
//go:noescape
func RespHeaderAppend(h Handle, name string, value string) Status

// RespStatusGet: HTTP status, a two-byte write.
//
//go:wasmimport fastly_http_resp status_get
//go:noescape
func RespStatusGet(h Handle, status *uint16) Status

// RespStatusSet: 100 to 999, else Inval.
//
//go:wasmimport fastly_http_resp status_set
//go:noescape
func RespStatusSet(h Handle, status uint32) Status

// RespVersionGet: as for requests.
//
//go:wasmimport fastly_http_resp version_get
//go:noescape
func RespVersionGet(h Handle, version *uint32) Status

// RespFraming: as for requests.
//
//go:wasmimport fastly_http_resp framing_headers_mode_set
//go:noescape
func RespFraming(h Handle, mode uint32) Status

// RespSend: answers the client. 1: body stays, for writing; 0: both consumed, body goes out whole (also one still on its way from a backend). Status 103 is an interim answer.
//
//go:wasmimport fastly_http_resp send_downstream
//go:noescape
func RespSend(h Handle, body Handle, streaming uint32) Status

// RespClose: drops the response.
//
//go:wasmimport fastly_http_resp close
//go:noescape
func RespClose(h Handle) Status
