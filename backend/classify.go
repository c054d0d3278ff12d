package backend

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/textproto"
	"os"
	"strings"
	"syscall"

	"github.com/wedge-cloud/wedge"
)

// A phase is how far a fetch had come when it failed.
type phase int

const (
	phaseResolve phase = iota
	phaseConnect
	phaseTLS
	phaseHead     // request sent, head awaited
	phaseBody     // head seen, body being read
	phaseUpgraded // after a 101
)

func failure(f wedge.FetchFailure, err error) *wedge.FetchError {
	return &wedge.FetchError{Failure: f, Err: err}
}

func asFetchError(err error) *wedge.FetchError {
	if fe, ok := errors.AsType[*wedge.FetchError](err); ok {
		return fe
	}
	return failure(wedge.FailureInternal, err)
}

// classify says why err ended a fetch in the given phase; h2 tells that the connection
// spoke HTTP/2. What an error is counts first; its text only where net/http gives nothing else.
func classify(err error, ph phase, h2 bool) *wedge.FetchError {
	if fe, ok := errors.AsType[*wedge.FetchError](err); ok {
		return fe
	}
	for _, look := range []func(error, phase) *wedge.FetchError{byDNS, byTLS, byStream, bySyscall, byEnd, byTime} {
		if fe := look(err, ph); fe != nil {
			fe.Err = err
			return fe
		}
	}
	return failure(byText(err, ph, h2), err)
}

// RCODEs of RFC 1035 section 4.1.1.
const (
	rcodeServFail = 2
	rcodeNXDomain = 3
)

func byDNS(err error, ph phase) *wedge.FetchError {
	de, ok := errors.AsType[*net.DNSError](err)
	switch {
	case !ok && ph == phaseResolve && isTimeout(err), ok && de.IsTimeout:
		return &wedge.FetchError{Failure: wedge.FailureDNSTimeout}
	case ok && de.IsNotFound:
		return &wedge.FetchError{Failure: wedge.FailureDNS, DNSRcode: rcodeNXDomain}
	case ok && de.IsTemporary:
		return &wedge.FetchError{Failure: wedge.FailureDNS, DNSRcode: rcodeServFail}
	case ok || ph == phaseResolve:
		return &wedge.FetchError{Failure: wedge.FailureDNS}
	}
	return nil
}

// alerts maps crypto/tls's text for an alert to its number: the error that reports a received
// alert has a type of its own that does not tell the number.
var alerts = func() map[string]uint8 {
	m := make(map[string]uint8, 256)
	for i := range 256 {
		m[tls.AlertError(i).Error()] = uint8(i)
	}
	return m
}()

func byTLS(err error, ph phase) *wedge.FetchError {
	if isA[*tls.CertificateVerificationError](err) || isA[x509.HostnameError](err) ||
		isA[x509.UnknownAuthorityError](err) || isA[x509.CertificateInvalidError](err) {
		return &wedge.FetchError{Failure: wedge.FailureCertificate}
	}
	if isA[tls.RecordHeaderError](err) {
		return &wedge.FetchError{Failure: wedge.FailureTLSProtocol}
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		switch op.Op {
		case "remote error":
			return &wedge.FetchError{Failure: wedge.FailureTLSAlert, TLSAlert: alerts[op.Err.Error()]}
		case "local error":
			return &wedge.FetchError{Failure: wedge.FailureTLSProtocol}
		}
	}
	if ph == phaseTLS && strings.HasPrefix(err.Error(), "tls: ") {
		return &wedge.FetchError{Failure: wedge.FailureTLSProtocol}
	}
	return nil
}

// streamError has the shape of golang.org/x/net/http2's, which the copy in net/http lets
// errors.As fill in.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamError) Error() string { return "stream error" }

const (
	frameRSTStream  = 3 // RFC 9113 section 6.4
	h2ProtocolError = 1 // RFC 9113 section 7
	h2RefusedStream = 7
)

func byStream(err error, _ phase) *wedge.FetchError {
	var se streamError
	if !errors.As(err, &se) {
		return nil
	}
	if se.Cause != nil { // found by net/http, not sent by the origin
		if f := byText(se.Cause, phaseHead, true); f != wedge.FailureH2 {
			return &wedge.FetchError{Failure: f}
		}
	}
	return &wedge.FetchError{Failure: wedge.FailureH2, H2Frame: frameRSTStream, H2Code: se.Code}
}

// refusedStream reports whether the origin said that it did not process the request. Like
// net/http it takes a PROTOCOL_ERROR from the origin for that as well: so answer servers,
// Go's among them, when a stream crosses the SETTINGS that limit streams.
func refusedStream(err error) bool {
	var se streamError
	if errors.As(err, &se) {
		return se.Code == h2RefusedStream ||
			se.Code == h2ProtocolError && se.Cause != nil && se.Cause.Error() == "received from peer"
	}
	return contains(err, "graceful shutdown GOAWAY", "client conn not usable")
}

func bySyscall(err error, ph phase) *wedge.FetchError {
	if errors.Is(err, errEgress) {
		return &wedge.FetchError{Failure: wedge.FailureUnroutable}
	}
	no, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		return nil
	}
	switch no {
	case syscall.ECONNREFUSED:
		return &wedge.FetchError{Failure: wedge.FailureRefused}
	case syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT:
		return &wedge.FetchError{Failure: wedge.FailureUnroutable}
	case syscall.ETIMEDOUT:
		if ph <= phaseTLS {
			return &wedge.FetchError{Failure: wedge.FailureConnectTimeout}
		}
		return &wedge.FetchError{Failure: wedge.FailureResponseTimeout}
	case syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED:
		return &wedge.FetchError{Failure: cut(ph)}
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM:
		return &wedge.FetchError{Failure: wedge.FailureInternal}
	}
	return &wedge.FetchError{Failure: wedge.FailureUnavailable}
}

// cut is the failure for a connection that ended too early.
func cut(ph phase) wedge.FetchFailure {
	if ph == phaseBody {
		return wedge.FailureIncomplete
	}
	return wedge.FailureTerminated
}

func byEnd(err error, ph phase) *wedge.FetchError {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) && ph == phaseHead:
		return &wedge.FetchError{Failure: wedge.FailureIncomplete} // within the head
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, errSurplus):
		return &wedge.FetchError{Failure: cut(ph)}
	}
	return nil
}

func byTime(err error, ph phase) *wedge.FetchError {
	switch {
	case !isTimeout(err):
		return nil
	case ph <= phaseTLS:
		return &wedge.FetchError{Failure: wedge.FailureConnectTimeout}
	}
	return &wedge.FetchError{Failure: wedge.FailureResponseTimeout}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// texts maps what net/http says, where it says it in words only. The first match counts.
var texts = []struct {
	text    string
	failure wedge.FetchFailure
}{
	{"server response headers exceeded", wedge.FailureHeaderTooLarge},
	{"response header list larger", wedge.FailureHeaderTooLarge},
	{"header list too large", wedge.FailureHeaderTooLarge},
	{"malformed HTTP status code", wedge.FailureStatusInvalid},
	{"status pseudo header", wedge.FailureStatusInvalid},
	{"server closed idle connection", wedge.FailureTerminated},
	{"ClientConn closed", wedge.FailureTerminated},
	{"unexpected EOF reading trailer", wedge.FailureIncomplete},
	{"http: invalid Host header", wedge.FailureURI},
	{"control character in Request.URL", wedge.FailureURI},
	{"client conn could not be established", wedge.FailureH2}, // the origin does not speak it
	{"http2: client conn", wedge.FailureTerminated},
	{"http2: ", wedge.FailureH2},
	{"connection error: ", wedge.FailureH2},
}

// byText is the last resort. What is still not known came from reading what the origin
// sent, so it broke the protocol.
func byText(err error, ph phase, h2 bool) wedge.FetchFailure {
	for _, e := range texts {
		if contains(err, e.text) {
			return e.failure
		}
	}
	switch {
	case h2:
		return wedge.FailureH2
	case isA[textproto.ProtocolError](err), ph == phaseHead, ph == phaseBody:
		return wedge.FailureProtocol
	case ph == phaseConnect:
		return wedge.FailureUnavailable
	case ph == phaseTLS:
		return wedge.FailureTLSProtocol
	}
	return wedge.FailureTerminated
}

func contains(err error, any ...string) bool {
	s := err.Error()
	for _, a := range any {
		if strings.Contains(s, a) {
			return true
		}
	}
	return false
}
