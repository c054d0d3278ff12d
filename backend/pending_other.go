//go:build !unix

package backend

import "syscall"

// pending would report whether bytes have come that nobody has read yet. Here only a Read can tell.
func pending(syscall.RawConn) bool { return false }

// awaitBytes would wait for bytes and leave them there.
func awaitBytes(syscall.RawConn) bool { return false }
