package abi

import "strconv"

// Status is what a hostcall returns (fastly_status). For WASI calls the same type
// carries the errno, see errno.go.
type Status uint32

// Statuses of the Fastly ABI.
const (
	OK                Status = 0
	Error             Status = 1
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

var statusNames = [...]string{"ok", "error", "inval", "badf", "buflen", "unsupported", "badalign", "httpinvalid",
	"httpuser", "httpincomplete", "none", "httpheadtoolarge", "httpinvalidstatus", "limitexceeded", "again"}

// String returns the witx name of the status.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return "status " + strconv.Itoa(int(s))
}

// Errnos of WASI preview 1 that the host returns.
const (
	ESuccess    Status = 0
	EAgain      Status = 6
	EBadf       Status = 8
	EFault      Status = 21
	EInval      Status = 28
	EIO         Status = 29
	ENoent      Status = 44
	ENosys      Status = 52
	ENotsup     Status = 58
	EPipe       Status = 64
	ESpipe      Status = 70
	ENotcapable Status = 76
	EOverflow   Status = 61
)
