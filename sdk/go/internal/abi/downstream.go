//go:build wasip1

package abi

// NextRequest: asks for another request for this sandbox; one promise at a time.
//
//go:wasmimport fastly_http_downstream next_request
//go:noescape
func NextRequest(mask uint32, options *NextRequestOptions, promise *Handle) Status

// NextRequestWait: blocks; None when no request will come.
//
//go:wasmimport fastly_http_downstream next_request_wait
//go:noescape
func NextRequestWait(promise Handle, req *Handle, body *Handle) Status

// ClientIP: 4 or 16 bytes.
//
//go:wasmimport fastly_http_downstream downstream_client_ip_addr
//go:noescape
func ClientIP(req Handle, octets *[16]byte, n *uint32) Status

// ServerIP: 4 or 16 bytes.
//
//go:wasmimport fastly_http_downstream downstream_server_ip_addr
//go:noescape
func ServerIP(req Handle, octets *[16]byte, n *uint32) Status

// ClientRequestID: 32 hex digits.
//
//go:wasmimport fastly_http_downstream downstream_client_request_id
//go:noescape
func ClientRequestID(req Handle, buf *byte, bufLen uint32, n *uint32) Status

// ClientH2Fingerprint: None if not HTTP/2.
//
//go:wasmimport fastly_http_downstream downstream_client_h2_fingerprint
//go:noescape
func ClientH2Fingerprint(req Handle, buf *byte, bufLen uint32, n *uint32) Status

// ClientOHFingerprint: None if not known.
//
//go:wasmimport fastly_http_downstream downstream_client_oh_fingerprint
//go:noescape
func ClientOHFingerprint(req Handle, buf *byte, bufLen uint32, n *uint32) Status

// ClientHeaderNames: names as received: order, case and repeats kept.
//
//go:wasmimport fastly_http_downstream downstream_original_header_names
//go:noescape
func ClientHeaderNames(req Handle, buf *byte, bufLen uint32, cursor uint32, next *int64, n *uint32) Status

// ClientTLSCipher: None without TLS.
//
//go:wasmimport fastly_http_downstream downstream_tls_cipher_openssl_name
//go:noescape
func ClientTLSCipher(req Handle, buf *byte, bufLen uint32, n *uint32) Status

// ClientTLSProtocol: TLSv1.2 or TLSv1.3; None without TLS.
//
//go:wasmimport fastly_http_downstream downstream_tls_protocol
//go:noescape
func ClientTLSProtocol(req Handle, buf *byte, bufLen uint32, n *uint32) Status

// ClientTLSHello: the ClientHello as received; None without TLS.
//
//go:wasmimport fastly_http_downstream downstream_tls_client_hello
//go:noescape
func ClientTLSHello(req Handle, buf *byte, bufLen uint32, n *uint32) Status

// ClientTLSServerName: SNI; None without TLS.
//
//go:wasmimport fastly_http_downstream downstream_tls_client_servername
//go:noescape
func ClientTLSServerName(req Handle, buf *byte, bufLen uint32, n *uint32) Status

// ClientTLSCertificate: PEM; None if there is none.
//
//go:wasmimport fastly_http_downstream downstream_tls_raw_client_certificate
//go:noescape
func ClientTLSCertificate(req Handle, buf *byte, bufLen uint32, n *uint32) Status

// ClientTLSJA3: 16 raw bytes; None without TLS.
//
//go:wasmimport fastly_http_downstream downstream_tls_ja3_md5
//go:noescape
func ClientTLSJA3(req Handle, md5 *[16]byte, n *uint32) Status

// ClientTLSJA4: None without TLS.
//
//go:wasmimport fastly_http_downstream downstream_tls_ja4
//go:noescape
func ClientTLSJA4(req Handle, buf *byte, bufLen uint32, n *uint32) Status

// ClientCompliance: the jurisdiction the request came in at.
//
//go:wasmimport fastly_http_downstream downstream_compliance_region
//go:noescape
func ClientCompliance(req Handle, buf *byte, bufLen uint32, n *uint32) Status
