// Package host is the guest's side of the host boundary without any net/http: reading
// and writing headers and bodies, fetching, and waiting for several things at once.
// Packages edge, lean and store are built on it.
//
// It imports little and initialises nothing, because a guest starts anew for every
// request and pays for each package's init each time. There are no locks: a wasm guest
// has one thread, and goroutines change places only where one of them waits.
package host

import (
	"github.com/wedge-cloud/wedge/sdk/go/internal/abi"
)

// scratch receives what hostcalls return; it grows to the largest value seen. Results
// are copied out before anything can yield to another goroutine.
var scratch []byte

func scratchOf(n int) []byte {
	if len(scratch) < n {
		scratch = make([]byte, n)
	}
	return scratch
}

const firstScratch = 2048 // holds a common request's header names, or any one value

// TextCall is a hostcall that returns one value of a handle into a buffer.
type TextCall func(h abi.Handle, buf *byte, bufLen uint32, n *uint32) abi.Status

// Text makes call and returns its value, of any length.
func Text(call TextCall, h abi.Handle) (string, error) {
	b, err := Fill(func(buf *byte, bufLen uint32, n *uint32) abi.Status { return call(h, buf, bufLen, n) })
	return string(b), err
}

// Fill makes a call that writes one value to a buffer, again with a larger one if it was
// short. The bytes are good until the next use of this package: copy them.
func Fill(call func(buf *byte, bufLen uint32, n *uint32) abi.Status) ([]byte, error) {
	buf := scratchOf(firstScratch)
	for {
		var n uint32
		st := call(&buf[0], uint32(len(buf)), &n)
		if st == abi.BufLen && int(n) > len(buf) {
			buf = scratchOf(int(n))
			continue
		}
		if st != abi.OK {
			return nil, st
		}
		return buf[:n], nil
	}
}

// Octets makes a call that returns an IP address as 4 or 16 bytes.
func Octets(call func(abi.Handle, *[16]byte, *uint32) abi.Status, h abi.Handle) ([]byte, error) {
	var addr [16]byte
	var n uint32
	if st := call(h, &addr, &n); st != abi.OK {
		return nil, st
	}
	if n > 16 {
		n = 16
	}
	return append([]byte(nil), addr[:n]...), nil
}
