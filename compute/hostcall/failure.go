package hostcall

import (
	"errors"
	"net/http"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// failureOf returns why a fetch or a body failed, in the words of the ABI.
func failureOf(err error) *wedge.FetchError {
	var fe *wedge.FetchError
	if errors.As(err, &fe) {
		return fe
	}
	if errors.Is(err, errAbandoned) {
		return &wedge.FetchError{Failure: wedge.FailureTerminated, Err: err}
	}
	return &wedge.FetchError{Failure: wedge.FailureInternal, Err: err}
}

// fetchStatus returns the status of a send, or of reading a body, that failed (ABI section 1.3).
func fetchStatus(err error) abi.Status {
	switch failureOf(err).Failure {
	case wedge.FailureNotFound:
		return abi.Inval
	case wedge.FailureProtocol, wedge.FailureH2, wedge.FailureUpgrade:
		return abi.HTTPInvalid
	case wedge.FailureURI, wedge.FailureCacheKey:
		return abi.HTTPUser
	case wedge.FailureIncomplete, wedge.FailureTerminated:
		return abi.HTTPIncomplete
	case wedge.FailureHeaderTooLarge:
		return abi.HTTPHeadTooLarge
	case wedge.FailureStatusInvalid:
		return abi.HTTPInvalidStatus
	}
	return abi.Error
}

// errClientGone is what reading the request's body gives once the exchange is over.
var errClientGone = &wedge.FetchError{Backend: "(client)", Failure: wedge.FailureTerminated, Err: errors.New("the exchange with the client is over")}

// clientError says that the client did not send its request whole.
func clientError(err error) error {
	failure := wedge.FailureIncomplete
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		failure = wedge.FailureBodyTooLarge
	}
	return &wedge.FetchError{Backend: "(client)", Failure: failure, Err: err}
}

// putDetail fills a send_error_detail (ABI section 5.2): the tag, and of the other fields
// those the guest says it understands.
func putDetail(c *compute.Call, ptr uint32, err error) {
	if err == nil {
		c.PutU32(ptr, 1)
		return
	}
	fe := failureOf(err)
	mask := c.ReadU32(ptr + 4)
	c.PutU32(ptr, uint32(fe.Failure))
	if mask&2 != 0 {
		c.PutU16(ptr+8, fe.DNSRcode)
	}
	if mask&4 != 0 {
		c.PutU16(ptr+10, 0)
	}
	if mask&8 != 0 {
		c.PutU8(ptr+12, fe.TLSAlert)
	}
	if mask&16 != 0 {
		c.PutU8(ptr+13, fe.H2Frame)
		c.PutU32(ptr+16, fe.H2Code)
	}
}
