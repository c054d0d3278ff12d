//go:build unix

package handover

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// firstFile is the number of the first file that a process gets besides its standard ones.
const firstFile = 3

// duplicate returns a listener's socket. It stays non-blocking, unlike with the listener's own File: who waits in Accept
// could not be woken otherwise.
func duplicate(l net.Listener) (*os.File, error) {
	raw, err := l.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var dupErr error
	err = raw.Control(func(own uintptr) { fd, dupErr = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	if err == nil {
		err = dupErr
	}
	if err != nil {
		return nil, fmt.Errorf("duplicate socket: %w", err)
	}
	return os.NewFile(uintptr(fd), l.Addr().String()), nil
}

// spawn starts the command line of this process again, from the binary that has its name now.
func (p *Process) spawn() (*peer, error) {
	path, err := exec.LookPath(os.Args[0])
	if err != nil {
		return nil, err
	}
	fromIt, itsOut, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer itsOut.Close()
	itsIn, toIt, err := os.Pipe()
	if err != nil {
		fromIt.Close()
		return nil, err
	}
	defer itsIn.Close()
	s := newPeer(fromIt, toIt)
	s.cmd = exec.Command(path, os.Args[1:]...)
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	s.cmd.ExtraFiles = []*os.File{itsIn, itsOut}
	p.mu.Lock()
	defer p.mu.Unlock()
	var names []socket
	for key, files := range p.sockets {
		for _, f := range files {
			names = append(names, key)
			s.cmd.ExtraFiles = append(s.cmd.ExtraFiles, f)
		}
	}
	text, err := json.Marshal(names)
	if err != nil { // strings only
		return nil, err
	}
	s.cmd.Env = append(os.Environ(), variable+"="+string(text))
	if err := s.cmd.Start(); err != nil {
		s.close()
		return nil, err
	}
	s.watch()
	return s, nil
}

// inherit takes what the predecessor has passed on, if there is one.
func (p *Process) inherit() error {
	text, ok := os.LookupEnv(variable)
	if !ok {
		p.activate()
		return nil
	}
	os.Unsetenv(variable) // it is not for the commands that build guests
	var names []socket
	if err := json.Unmarshal([]byte(text), &names); err != nil {
		return fmt.Errorf("%s: %w", variable, err)
	}
	file := func(n int, name string) *os.File {
		syscall.CloseOnExec(firstFile + n)
		_ = syscall.SetNonblock(firstFile+n, true)
		return os.NewFile(uintptr(firstFile+n), name)
	}
	p.predecessor = newPeer(file(0, "from predecessor"), file(1, "to predecessor"))
	for i, key := range names {
		p.sockets[key] = append(p.sockets[key], file(2+i, key.Addr))
	}
	return nil
}
