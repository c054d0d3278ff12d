//go:build wasip1

package abi

// ReqDownstream: the request that started this sandbox, and its body; the same handles each time.
//
//go:wasmimport fastly_http_req body_downstream_get
//go:noescape
func ReqDownstream(req *Handle, body *Handle) Status

// ReqNew: a new request: GET, no headers.
//
//go:wasmimport fastly_http_req new
//go:noescape
func ReqNew(req *Handle) Status

// ReqHeaderNames: names from cursor on, each followed by NUL; next is -1 at the end.
//
//go:wasmimport fastly_http_req header_names_get
//go:noescape
func ReqHeaderNames(h Handle, buf *byte, bufLen uint32, cursor uint32, next *int64, n *uint32) Status

// ReqHeaderValues: values of one name, as above; absent: n = 0.
//
//go:wasmimport fastly_http_req header_values_get
//go:noescape
func ReqHeaderValues(h Handle, name string, buf *byte, bufLen uint32, cursor uint32, next *int64, n *uint32) Status

// ReqHeaderInsert: replaces all values by one.
//
//go:wasmimport fastly_http_req header_insert
//go:noescape
func ReqHeaderInsert(h Handle, name string, value string) Status

// ReqHeaderAppend: adds a value.
//
//go:wasmimport fastly_http_req header_append
//go:noescape
func ReqHeaderAppend(h Handle, name string, value string) Status

// ReqMethodGet: BufLen and the needed length in n if the buffer is short.
//
//go:wasmimport fastly_http_req method_get
//go:noescape
func ReqMethodGet(h Handle, buf *byte, bufLen uint32, n *uint32) Status

// ReqMethodSet: Failed if it is no token.
//
//go:wasmimport fastly_http_req method_set
//go:noescape
func ReqMethodSet(h Handle, method string) Status

// ReqURIGet: absolute URI; buffer as for method_get.
//
//go:wasmimport fastly_http_req uri_get
//go:noescape
func ReqURIGet(h Handle, buf *byte, bufLen uint32, n *uint32) Status

// ReqURISet: Failed if it does not parse.
//
//go:wasmimport fastly_http_req uri_set
//go:noescape
func ReqURISet(h Handle, uri string) Status

// ReqVersionGet: 0 HTTP/0.9, 1 1.0, 2 1.1, 3 2, 4 3.
//
//go:wasmimport fastly_http_req version_get
//go:noescape
func ReqVersionGet(h Handle, version *uint32) Status

// ReqCacheOverride: tag bits: 1 pass, 2 ttl, 4 stale-while-revalidate, 8 pci; seconds; keys separated by spaces.
//
//go:wasmimport fastly_http_req cache_override_v2_set
//go:noescape
func ReqCacheOverride(h Handle, tag uint32, ttl uint32, swr uint32, keys string) Status

// ReqFraming: 1: Content-Length and Transfer-Encoding as set by the guest, if valid.
//
//go:wasmimport fastly_http_req framing_headers_mode_set
//go:noescape
func ReqFraming(h Handle, mode uint32) Status

// ReqAutoDecompress: bit 1: the host decodes gzip.
//
//go:wasmimport fastly_http_req auto_decompress_response_set
//go:noescape
func ReqAutoDecompress(h Handle, encodings uint32) Status

// ReqSendAsync: starts a fetch with a finished body; consumes both handles even if it fails.
//
//go:wasmimport fastly_http_req send_async
//go:noescape
func ReqSendAsync(h Handle, body Handle, backend string, pending *Handle) Status

// ReqSendAsyncStreaming: as send_async, but body stays, for writing.
//
//go:wasmimport fastly_http_req send_async_streaming
//go:noescape
func ReqSendAsyncStreaming(h Handle, body Handle, backend string, pending *Handle) Status

// ReqPendingWait: blocks until the response head is there; consumes pending.
//
//go:wasmimport fastly_http_req pending_req_wait_v2
//go:noescape
func ReqPendingWait(pending Handle, detail *SendErrorDetail, resp *Handle, body *Handle) Status

// ReqRegisterBackend: target is host[:port]; Failed if the name is taken; Unsupported if the service does not allow it.
//
//go:wasmimport fastly_http_req register_dynamic_backend
//go:noescape
func ReqRegisterBackend(name string, target string, mask uint32, config *DynamicBackendConfig) Status

// ReqClose: drops the request.
//
//go:wasmimport fastly_http_req close
//go:noescape
func ReqClose(h Handle) Status

// ReqWebSocket: hands the client connection to the backend; the guest sends no answer after that.
//
//go:wasmimport fastly_http_req redirect_to_websocket_proxy_v2
//go:noescape
func ReqWebSocket(h Handle, backend string) Status

// ReqGRIP: as above, to the GRIP proxy in front of the backend.
//
//go:wasmimport fastly_http_req redirect_to_grip_proxy_v2
//go:noescape
func ReqGRIP(h Handle, backend string) Status
