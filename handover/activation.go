package handover

import (
	"errors"
	"fmt"
	"net"

	"github.com/coreos/go-systemd/v22/activation"
)

// activate takes the sockets that systemd has bound for this process (sd_listen_fds(3)). They stand for the addresses that they are bound to: what
// systemd calls them does not count, so a mistake there opens nothing to the world.
func (p *Process) activate() {
	for _, f := range activation.Files(true) {
		l, err := net.FileListener(f)
		if err == nil && l.Addr().Network() != "tcp" {
			l.Close()
			err = errors.New("it does not listen for TCP")
		}
		if err != nil {
			p.say(fmt.Sprintf("systemd has given the socket %s, which is of no use here: %v", f.Name(), err))
		} else {
			p.activated = append(p.activated, l)
		}
		f.Close()
	}
}

// bound returns what systemd has bound to an address, nil if there is nothing more. Of all addresses of a machine one way to write them is as good as another.
func (p *Process) bound(addr string) net.Listener {
	if len(p.activated) == 0 {
		return nil
	}
	want, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil // binding it will say why
	}
	every := want.IP == nil || want.IP.IsUnspecified()
	found := -1
	for i, l := range p.activated {
		is := l.Addr().(*net.TCPAddr) // see activate
		if is.Port != want.Port {
			continue
		}
		if is.IP.Equal(want.IP) {
			found = i
			break
		}
		if every && is.IP.IsUnspecified() && found < 0 {
			found = i
		}
	}
	if found < 0 {
		return nil
	}
	l := p.activated[found]
	p.activated = append(p.activated[:found:found], p.activated[found+1:]...)
	return l
}

// surplus closes sockets that nobody has asked for: who connects there shall not wait for ever.
func (p *Process) surplus() {
	for _, l := range p.activated {
		p.say(fmt.Sprintf("systemd has given a socket for %s, where nothing is to listen: it is closed", l.Addr()))
		l.Close()
	}
	p.activated = nil
}
