package abi

import (
	"structs"
	"unsafe"
)

// The structs below lie in memory as the host reads them: 32-bit guest addresses, natural
// alignment. The host touches only fields that the mask given with them names.

// Ptr is a 32-bit guest address.
type Ptr uint32

// PtrTo returns the address of s's bytes. The caller keeps s alive (runtime.KeepAlive)
// until the hostcall is over.
func PtrTo(s string) Ptr {
	onHeap = s // bytes on a stack would move when the stack grows, and Ptr would not follow
	return Ptr(uintptr(unsafe.Pointer(unsafe.StringData(s))))
}

// Storing to a global is what makes the compiler put a value on the heap.
var onHeap string

// SendErrorDetail says why a send failed. Set Mask before the call to the fields wanted.
type SendErrorDetail struct {
	_            structs.HostLayout
	Tag          uint32
	Mask         uint32
	DNSRcode     uint16
	DNSInfoCode  uint16
	TLSAlert     uint8
	H2ErrorFrame uint8
	H2ErrorCode  uint32
}

// Bits of SendErrorDetail.Mask.
const (
	DetailDNSRcode = 0x2
	DetailDNSInfo  = 0x4
	DetailTLSAlert = 0x8
	DetailH2       = 0x10
)

// DynamicBackendConfig holds the options of register_dynamic_backend.
type DynamicBackendConfig struct {
	_                    structs.HostLayout
	HostOverride         Ptr
	HostOverrideLen      uint32
	ConnectTimeoutMs     uint32
	FirstByteTimeoutMs   uint32
	BetweenBytesMs       uint32
	SSLMinVersion        uint32
	SSLMaxVersion        uint32
	CertHostname         Ptr
	CertHostnameLen      uint32
	CACert               Ptr
	CACertLen            uint32
	Ciphers              Ptr
	CiphersLen           uint32
	SNIHostname          Ptr
	SNIHostnameLen       uint32
	ClientCertificate    Ptr
	ClientCertificateLen uint32
	ClientKey            Handle
	HTTPKeepaliveMs      uint32
	TCPKeepaliveEnable   uint32
	TCPKeepaliveInterval uint32
	TCPKeepaliveProbes   uint32
	TCPKeepaliveTime     uint32
	MaxConnections       uint32
	MaxUse               uint32
	MaxLifetimeMs        uint32
	HealthCheck          Ptr
}

// Bits of the mask that goes with DynamicBackendConfig.
const (
	BackendHostOverride = 1 << (iota + 1)
	BackendConnectTimeout
	BackendFirstByteTimeout
	BackendBetweenBytes
	BackendTLS
	BackendTLSMin
	BackendTLSMax
	BackendCertHostname
	BackendCACert
	BackendCiphers
	BackendSNI
	BackendDontPool
	BackendClientCert
	BackendGRPC
	BackendKeepalive
	BackendPoolLimits
	BackendPreferIPv4
)

// KVInsertConfig holds the options of fastly_kv_store.insert.
type KVInsertConfig struct {
	_            structs.HostLayout
	Mode         uint32
	_            uint32
	Metadata     Ptr
	MetadataLen  uint32
	TTLSeconds   uint32
	_            uint32
	IfGeneration uint64
}

// Bits of the mask that goes with KVInsertConfig.
const (
	KVMetadata     = 0x8
	KVTTL          = 0x10
	KVIfGeneration = 0x20
)

// KVListConfig holds the options of fastly_kv_store.list.
type KVListConfig struct {
	_         structs.HostLayout
	Mode      uint32
	Cursor    Ptr
	CursorLen uint32
	Limit     uint32
	Prefix    Ptr
	PrefixLen uint32
}

// Bits of the mask that goes with KVListConfig.
const (
	KVCursor = 0x2
	KVLimit  = 0x4
	KVPrefix = 0x8
)

// KVNothing stands for the empty option structs of look-up and delete.
type KVNothing struct {
	_        structs.HostLayout
	Reserved uint32
}

// KV errors, the second status of the *_wait calls.
const (
	KVUninitialized = iota
	KVOK
	KVBadRequest
	KVNotFound
	KVPrecondition
	KVTooLarge
	KVInternal
	KVTooMany
)

// NextRequestOptions holds the options of next_request.
type NextRequestOptions struct {
	_         structs.HostLayout
	TimeoutMs uint64
}

// NextTimeout is the mask bit of NextRequestOptions.TimeoutMs.
const NextTimeout = 0x2

// PurgeOptions is the option struct of purge_surrogate_key; the SDK uses none of it.
type PurgeOptions struct {
	_         structs.HostLayout
	RetBuf    Ptr
	RetBufLen uint32
	Nwritten  Ptr
}

// PurgeSoft is the mask bit that makes a purge soft.
const PurgeSoft = 0x1
