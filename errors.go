package wedge

import (
	"errors"
	"net/http"
	"strings"
)

// Kind classifies an [Error]. The numbers are on the wire: add new kinds at the end.
type Kind uint8

const (
	Internal    Kind = iota // a fault of Wedge itself; its cause is for the log, never for a tenant
	Invalid                 // malformed input: a file, a request, an argument
	Denied                  // known, but not allowed
	NotExist                // the named thing does not exist
	Exist                   // the named thing exists already
	Conflict                // a precondition failed, such as a stale revision
	Exhausted               // a limit or quota is used up
	Timeout                 // the time allowed ran out
	Unavailable             // cannot serve now; trying again later may succeed
	Unsupported             // understood, but this build or place does not offer it
	BadGateway              // a backend failed or answered garbage
	Trap                    // a guest did what Wasm forbids, or ended itself abnormally
	numKinds
)

// A face is what the surfaces of Wedge show of a Kind.
type face struct {
	name   string // log field, metric label, JSON "kind"
	status int    // HTTP status of the front and the control API
	guest  uint32 // hostcall status, see package abi
	exit   int    // exit code of the CLI, after sysexits(3) where it has a word for it
}

// faces is the one place that maps a Kind to what each surface shows.
var faces = [numKinds]face{
	Internal:    {"internal", http.StatusInternalServerError, 1, 70},
	Invalid:     {"invalid", http.StatusBadRequest, 2, 64},
	Denied:      {"denied", http.StatusForbidden, 3, 77},
	NotExist:    {"not_exist", http.StatusNotFound, 10, 66},
	Exist:       {"exist", http.StatusConflict, 1, 73},
	Conflict:    {"conflict", http.StatusPreconditionFailed, 1, 65},
	Exhausted:   {"exhausted", http.StatusTooManyRequests, 13, 71},
	Timeout:     {"timeout", http.StatusGatewayTimeout, 1, 75},
	Unavailable: {"unavailable", http.StatusServiceUnavailable, 1, 69},
	Unsupported: {"unsupported", http.StatusNotImplemented, 5, 76},
	Trap:        {"trap", http.StatusInternalServerError, 1, 134},
	BadGateway:  {"bad_gateway", http.StatusBadGateway, 1, 74},
}

// String returns the kind's name as logs, metrics and JSON show it.
func (k Kind) String() string { return k.face().name }

// KindNamed returns the kind with that name, Internal if there is none.
func KindNamed(name string) Kind {
	for k := range numKinds {
		if faces[k].name == name {
			return k
		}
	}
	return Internal
}

// Status returns the HTTP status that stands for the kind.
func (k Kind) Status() int { return k.face().status }

// Guest returns the hostcall status that stands for the kind.
func (k Kind) Guest() uint32 { return k.face().guest }

// ExitCode returns the exit code of a command that ends with an error of this kind.
func (k Kind) ExitCode() int { return k.face().exit }

func (k Kind) face() face {
	if k >= numKinds {
		k = Internal
	}
	return faces[k]
}

// Error is the one error type of Wedge: what failed, on which thing, of what kind,
// why, and what to do now.
type Error struct {
	Op   string // the operation, lower case: "load guest"
	What string // the thing it was done to: "app.wasm"
	Kind Kind
	Err  error  // the cause, if any
	Hint string // what the reader can do about it, a full sentence
}

// Error joins operation, thing and cause, without the hint: "load guest app.wasm: bad magic".
func (e *Error) Error() string {
	s := strings.TrimSpace(e.Op + " " + e.What)
	if e.Err == nil {
		return s + ": " + e.Kind.String()
	}
	if s == "" {
		return e.Err.Error()
	}
	return s + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the first [*Error] in err's chain, or [Internal].
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// HintOf returns the first hint in err's chain, or "".
func HintOf(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}
