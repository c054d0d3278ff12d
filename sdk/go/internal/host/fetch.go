package host

import (
	"context"

	"github.com/wedge-cloud/wedge/sdk/go/internal/abi"
)

// NewRequest makes a request to be sent.
func NewRequest(method, uri string) (abi.Handle, error) {
	var h abi.Handle
	if st := abi.ReqNew(&h); st != abi.OK {
		return h, st
	}
	if method != "" && method != "GET" {
		if st := abi.ReqMethodSet(h, method); st != abi.OK {
			abi.ReqClose(h)
			return h, &FetchError{Reason: Internal, Status: st, What: "method"}
		}
	}
	if st := abi.ReqURISet(h, uri); st != abi.OK {
		abi.ReqClose(h)
		return h, &FetchError{Reason: InvalidURI, Status: st}
	}
	return h, nil
}

// Send starts a fetch. It consumes req, and body too unless streaming is set; body is then
// to be written and closed.
func Send(backend string, req, body abi.Handle, streaming bool) (abi.Handle, error) {
	pending := abi.Invalid
	send := abi.ReqSendAsync
	if streaming {
		send = abi.ReqSendAsyncStreaming
	}
	if st := send(req, body, backend, &pending); st != abi.OK {
		return pending, &FetchError{Backend: backend, Reason: reasonOf(st), Status: st}
	}
	return pending, nil
}

// Receive waits for the head of the response. If ctx ends first, the host goes on alone and
// drops the answer when the sandbox ends: the ABI has no call to cancel a fetch.
func Receive(ctx context.Context, backend string, pending abi.Handle) (resp, body abi.Handle, err error) {
	if err := Wait(ctx, pending); err != nil {
		return abi.Invalid, abi.Invalid, err
	}
	detail := abi.SendErrorDetail{Mask: abi.DetailDNSRcode | abi.DetailDNSInfo | abi.DetailTLSAlert | abi.DetailH2}
	resp, body = abi.Invalid, abi.Invalid
	if st := abi.ReqPendingWait(pending, &detail, &resp, &body); st != abi.OK {
		return resp, body, failure(backend, st, &detail)
	}
	return resp, body, nil
}

func failure(backend string, st abi.Status, d *abi.SendErrorDetail) error {
	e := &FetchError{Backend: backend, Reason: Reason(d.Tag), Status: st}
	if e.Reason <= 1 {
		e.Reason = reasonOf(st)
	}
	if d.Mask&abi.DetailDNSRcode != 0 {
		e.DNSRcode = d.DNSRcode
	}
	if d.Mask&abi.DetailTLSAlert != 0 {
		e.TLSAlert = d.TLSAlert
	}
	if d.Mask&abi.DetailH2 != 0 {
		e.H2Error = d.H2ErrorCode
	}
	return e
}

func reasonOf(st abi.Status) Reason {
	switch st {
	case abi.Inval:
		return BackendNotFound
	case abi.HTTPIncomplete:
		return IncompleteResponse
	case abi.HTTPInvalid:
		return ProtocolError
	}
	return Unknown
}

// FetchError reports that no response came from a backend.
type FetchError struct {
	Backend  string
	Reason   Reason
	DNSRcode uint16     // of the DNS answer, with DNSError
	TLSAlert uint8      // number of the alert, with TLSAlert
	H2Error  uint32     // error code of the frame, with HTTP2Error
	What     string     // part of the request that was refused, if it was that
	Status   abi.Status // what the hostcall returned
}

// Error names the backend and the reason.
func (e *FetchError) Error() string {
	s := "fetch"
	if e.Backend != "" {
		s += " from backend " + e.Backend
	}
	if e.What != "" {
		return s + ": bad " + e.What
	}
	if e.Reason == Unknown {
		return s + ": " + e.Status.Error()
	}
	return s + ": " + e.Reason.String()
}

// Unwrap returns the status of the hostcall; it matches errors.ErrUnsupported where that is the cause.
func (e *FetchError) Unwrap() error { return e.Status }

// Timeout reports whether time ran out; with it *FetchError is a net.Error.
func (e *FetchError) Timeout() bool {
	return e.Reason == DNSTimeout || e.Reason == ConnectTimeout || e.Reason == ResponseTimeout
}

// Temporary reports whether trying again may help.
func (e *FetchError) Temporary() bool { return e.Timeout() || e.Reason == ConnectionLimit }

// Reason says why a fetch failed. The numbers are those of the ABI.
type Reason uint8

// Reasons.
const (
	Unknown            Reason = 0
	DNSTimeout         Reason = 2
	DNSError           Reason = 3
	BackendNotFound    Reason = 4
	BackendUnavailable Reason = 5
	AddressUnroutable  Reason = 6
	ConnectionRefused  Reason = 7
	ConnectionClosed   Reason = 8
	ConnectTimeout     Reason = 9
	ConnectionLimit    Reason = 10
	CertificateError   Reason = 11
	TLSConfigError     Reason = 12
	IncompleteResponse Reason = 13
	HeaderTooLarge     Reason = 14
	BodyTooLarge       Reason = 15
	ResponseTimeout    Reason = 16
	InvalidStatus      Reason = 17
	UpgradeFailed      Reason = 18
	ProtocolError      Reason = 19
	InvalidCacheKey    Reason = 20
	InvalidURI         Reason = 21
	Internal           Reason = 22
	TLSAlert           Reason = 23
	TLSProtocolError   Reason = 24
	HTTP2Error         Reason = 25
)

// String returns the reason in words.
func (r Reason) String() string {
	const texts = "unknown\x00ok\x00dns timeout\x00dns error\x00no such backend\x00backend unavailable\x00" +
		"address not routable\x00connection refused\x00connection closed\x00connect timeout\x00" +
		"connection limit reached\x00certificate error\x00tls configuration error\x00incomplete response\x00" +
		"response header section too large\x00response body too large\x00response timeout\x00" +
		"invalid response status\x00upgrade failed\x00http protocol error\x00invalid cache key\x00" +
		"invalid request uri\x00internal error\x00tls alert\x00tls protocol error\x00http/2 error\x00"
	start, piece := 0, Reason(0)
	for i := range len(texts) {
		if texts[i] != 0 {
			continue
		}
		if piece == r {
			return texts[start:i]
		}
		start, piece = i+1, piece+1
	}
	return "unknown"
}
