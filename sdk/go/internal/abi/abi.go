// Package abi declares the hostcalls that the SDK imports, one file per hostcall module
// of the host; abi/hostcalls.txt at the root of the repository is their one description,
// and a test here compares every import with it.
//
// Outside of Wasm every call returns [Unsupported], so that guests build, vet and run
// their unit tests natively.
package abi

import "errors"

// Status is what every hostcall returns.
type Status uint32

// Statuses of the ABI.
const (
	OK                Status = 0
	Failed            Status = 1
	Inval             Status = 2
	BadHandle         Status = 3
	BufLen            Status = 4
	Unsupported       Status = 5
	BadAlign          Status = 6
	HTTPInvalid       Status = 7
	HTTPUser          Status = 8
	HTTPIncomplete    Status = 9
	None              Status = 10
	HTTPHeadTooLarge  Status = 11
	HTTPInvalidStatus Status = 12
	LimitExceeded     Status = 13
	Again             Status = 14
)

// A function, not a table: a table of strings would be one more page to write at start.
func (s Status) text() string {
	switch s {
	case OK:
		return "ok"
	case Inval:
		return "invalid argument"
	case BadHandle:
		return "bad handle"
	case BufLen:
		return "buffer too short"
	case Unsupported:
		return "not supported by this host"
	case HTTPInvalid:
		return "invalid http message from the backend"
	case HTTPUser:
		return "invalid http message from the guest"
	case HTTPIncomplete:
		return "http message cut short"
	case None:
		return "no value"
	case HTTPHeadTooLarge:
		return "header section too large"
	case HTTPInvalidStatus:
		return "invalid http status"
	case LimitExceeded:
		return "limit exceeded"
	case Again:
		return "not ready yet"
	}
	return "hostcall failed"
}

// Error describes the status; Status is an error except for OK.
func (s Status) Error() string { return s.text() }

// Is makes Unsupported match errors.ErrUnsupported.
func (s Status) Is(target error) bool {
	return s == Unsupported && target == errors.ErrUnsupported
}

// Err returns nil for OK and s otherwise.
func (s Status) Err() error {
	if s == OK {
		return nil
	}
	return s
}

// Handle names something the host keeps for this sandbox.
type Handle uint32

// Invalid is the handle that names nothing.
const Invalid Handle = 0xFFFFFFFE
