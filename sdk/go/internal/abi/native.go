//go:build !wasip1

package abi

// Native twins of the imports: this is no guest, so there is no host to call.

func ReqDownstream(req *Handle, body *Handle) Status { return Unsupported }
func ReqNew(req *Handle) Status                      { return Unsupported }
func ReqHeaderNames(h Handle, buf *byte, bufLen uint32, cursor uint32, next *int64, n *uint32) Status {
	return Unsupported
}
func ReqHeaderValues(h Handle, name string, buf *byte, bufLen uint32, cursor uint32, next *int64, n *uint32) Status {
	return Unsupported
}
func ReqHeaderInsert(h Handle, name string, value string) Status        { return Unsupported }
func ReqHeaderAppend(h Handle, name string, value string) Status        { return Unsupported }
func ReqMethodGet(h Handle, buf *byte, bufLen uint32, n *uint32) Status { return Unsupported }
func ReqMethodSet(h Handle, method string) Status                       { return Unsupported }
func ReqURIGet(h Handle, buf *byte, bufLen uint32, n *uint32) Status    { return Unsupported }
func ReqURISet(h Handle, uri string) Status                             { return Unsupported }
func ReqVersionGet(h Handle, version *uint32) Status                    { return Unsupported }
func ReqCacheOverride(h Handle, tag uint32, ttl uint32, swr uint32, keys string) Status {
	return Unsupported
}
func ReqFraming(h Handle, mode uint32) Status                                    { return Unsupported }
func ReqAutoDecompress(h Handle, encodings uint32) Status                        { return Unsupported }
func ReqSendAsync(h Handle, body Handle, backend string, pending *Handle) Status { return Unsupported }
func ReqSendAsyncStreaming(h Handle, body Handle, backend string, pending *Handle) Status {
	return Unsupported
}
func ReqPendingWait(pending Handle, detail *SendErrorDetail, resp *Handle, body *Handle) Status {
	return Unsupported
}
func ReqRegisterBackend(name string, target string, mask uint32, config *DynamicBackendConfig) Status {
	return Unsupported
}
func ReqClose(h Handle) Status                     { return Unsupported }
func ReqWebSocket(h Handle, backend string) Status { return Unsupported }
func ReqGRIP(h Handle, backend string) Status      { return Unsupported }
func NextRequest(mask uint32, options *NextRequestOptions, promise *Handle) Status {
	return Unsupported
}
func NextRequestWait(promise Handle, req *Handle, body *Handle) Status           { return Unsupported }
func ClientIP(req Handle, octets *[16]byte, n *uint32) Status                    { return Unsupported }
func ServerIP(req Handle, octets *[16]byte, n *uint32) Status                    { return Unsupported }
func ClientRequestID(req Handle, buf *byte, bufLen uint32, n *uint32) Status     { return Unsupported }
func ClientH2Fingerprint(req Handle, buf *byte, bufLen uint32, n *uint32) Status { return Unsupported }
func ClientOHFingerprint(req Handle, buf *byte, bufLen uint32, n *uint32) Status { return Unsupported }
func ClientHeaderNames(req Handle, buf *byte, bufLen uint32, cursor uint32, next *int64, n *uint32) Status {
	return Unsupported
}
func ClientTLSCipher(req Handle, buf *byte, bufLen uint32, n *uint32) Status      { return Unsupported }
func ClientTLSProtocol(req Handle, buf *byte, bufLen uint32, n *uint32) Status    { return Unsupported }
func ClientTLSHello(req Handle, buf *byte, bufLen uint32, n *uint32) Status       { return Unsupported }
func ClientTLSServerName(req Handle, buf *byte, bufLen uint32, n *uint32) Status  { return Unsupported }
func ClientTLSCertificate(req Handle, buf *byte, bufLen uint32, n *uint32) Status { return Unsupported }
func ClientTLSJA3(req Handle, md5 *[16]byte, n *uint32) Status                    { return Unsupported }
func ClientTLSJA4(req Handle, buf *byte, bufLen uint32, n *uint32) Status         { return Unsupported }
func ClientCompliance(req Handle, buf *byte, bufLen uint32, n *uint32) Status     { return Unsupported }
func RespNew(resp *Handle) Status                                                 { return Unsupported }
func RespHeaderNames(h Handle, buf *byte, bufLen uint32, cursor uint32, next *int64, n *uint32) Status {
	return Unsupported
}
func RespHeaderValues(h Handle, name string, buf *byte, bufLen uint32, cursor uint32, next *int64, n *uint32) Status {
	return Unsupported
}
func RespHeaderInsert(h Handle, name string, value string) Status      { return Unsupported }
func RespHeaderAppend(h Handle, name string, value string) Status      { return Unsupported }
func RespStatusGet(h Handle, status *uint16) Status                    { return Unsupported }
func RespStatusSet(h Handle, status uint32) Status                     { return Unsupported }
func RespVersionGet(h Handle, version *uint32) Status                  { return Unsupported }
func RespFraming(h Handle, mode uint32) Status                         { return Unsupported }
func RespSend(h Handle, body Handle, streaming uint32) Status          { return Unsupported }
func RespClose(h Handle) Status                                        { return Unsupported }
func BodyNew(body *Handle) Status                                      { return Unsupported }
func BodyRead(body Handle, buf *byte, bufLen uint32, n *uint32) Status { return Unsupported }
func BodyWrite(body Handle, data *byte, dataLen uint32, end uint32, n *uint32) Status {
	return Unsupported
}
func BodyAppend(dest Handle, src Handle) Status                       { return Unsupported }
func BodyClose(body Handle) Status                                    { return Unsupported }
func BodyAbandon(body Handle) Status                                  { return Unsupported }
func BodyTrailerAppend(body Handle, name string, value string) Status { return Unsupported }
func BodyTrailerNames(body Handle, buf *byte, bufLen uint32, cursor uint32, next *int64, n *uint32) Status {
	return Unsupported
}
func BodyTrailerValues(body Handle, name string, buf *byte, bufLen uint32, cursor uint32, next *int64, n *uint32) Status {
	return Unsupported
}
func BodyKnownLength(body Handle, length *uint64) Status { return Unsupported }
func Select(handles *Handle, count uint32, timeoutMs uint32, index *uint32) Status {
	return Unsupported
}
func IsReady(h Handle, ready *uint32) Status                                     { return Unsupported }
func BackendExists(backend string, exists *uint32) Status                        { return Unsupported }
func BackendHealth(backend string, health *uint32) Status                        { return Unsupported }
func LogEndpoint(name string, h *Handle) Status                                  { return Unsupported }
func LogWrite(h Handle, line string, n *uint32) Status                           { return Unsupported }
func ConfigOpen(name string, h *Handle) Status                                   { return Unsupported }
func ConfigGet(h Handle, key string, buf *byte, bufLen uint32, n *uint32) Status { return Unsupported }
func SecretOpen(name string, h *Handle) Status                                   { return Unsupported }
func SecretGet(h Handle, key string, secret *Handle) Status                      { return Unsupported }
func SecretPlaintext(secret Handle, buf *byte, bufLen uint32, n *uint32) Status  { return Unsupported }
func SecretFromBytes(data *byte, dataLen uint32, secret *Handle) Status          { return Unsupported }
func KVOpen(name string, store *Handle) Status                                   { return Unsupported }
func KVLookup(store Handle, key string, mask uint32, config *KVNothing, pending *Handle) Status {
	return Unsupported
}
func KVLookupWait(pending Handle, body *Handle, metadata *byte, metadataLen uint32, n *uint32, generation *uint64, kvErr *uint32) Status {
	return Unsupported
}
func KVInsert(store Handle, key string, body Handle, mask uint32, config *KVInsertConfig, pending *Handle) Status {
	return Unsupported
}
func KVInsertWait(pending Handle, kvErr *uint32) Status { return Unsupported }
func KVDelete(store Handle, key string, mask uint32, config *KVNothing, pending *Handle) Status {
	return Unsupported
}
func KVDeleteWait(pending Handle, kvErr *uint32) Status { return Unsupported }
func KVList(store Handle, mask uint32, config *KVListConfig, pending *Handle) Status {
	return Unsupported
}
func KVListWait(pending Handle, body *Handle, kvErr *uint32) Status { return Unsupported }
func ACLOpen(name string, h *Handle) Status                         { return Unsupported }
func ACLLookup(h Handle, ip *byte, ipLen uint32, body *Handle, aclErr *uint32) Status {
	return Unsupported
}
func GeoLookup(ip *byte, ipLen uint32, buf *byte, bufLen uint32, n *uint32) Status {
	return Unsupported
}
func DeviceLookup(userAgent string, buf *byte, bufLen uint32, n *uint32) Status { return Unsupported }
func PurgeKey(key string, mask uint32, options *PurgeOptions) Status            { return Unsupported }
func CPUMillis(ms *uint64) Status                                               { return Unsupported }
