//go:build unix

package backend

import "syscall"

// pending reports whether bytes have come that nobody has read yet. It waits neither for them nor for who reads.
func pending(c syscall.RawConn) bool {
	n := 0
	_ = c.Control(func(fd uintptr) { n, _ = peek(fd) })
	return n > 0
}

// awaitBytes waits until there are bytes to be read, and leaves them there. It reports false if none will come:
// a Read says why.
func awaitBytes(c syscall.RawConn) bool {
	n := 0
	_ = c.Read(func(fd uintptr) bool {
		var err error
		n, err = peek(fd)
		return err != syscall.EAGAIN
	})
	return n > 0
}

func peek(fd uintptr) (n int, err error) {
	var b [1]byte
	for {
		if n, _, err = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK); err != syscall.EINTR {
			return n, err
		}
	}
}
