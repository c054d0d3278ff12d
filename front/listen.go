package front

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/wedge-cloud/wedge"
)

// handedOver is the listener of an http.Server that gets its connections from admit.
type handedOver struct {
	conns chan net.Conn
	done  <-chan struct{}
}

func (l *handedOver) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *handedOver) Close() error { return nil } // ends when the front does

func (l *handedOver) Addr() net.Addr { return &net.TCPAddr{} }

// hand gives c to the server, or closes it if there is none any more.
func (l *handedOver) hand(c net.Conn) {
	select {
	case l.conns <- c:
	case <-l.done:
		c.Close()
	}
}

// listen binds what the configuration names.
func (f *Front) listen() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	plain, err := f.bind("http", f.cfg.HTTP, f.cfg.HTTPListeners)
	if err == nil {
		f.secure, err = f.bind("https", f.cfg.HTTPS, f.cfg.HTTPSListeners)
	}
	f.plain = plain
	if err == nil && len(f.plain)+len(f.secure) == 0 {
		err = &wedge.Error{Op: "listen", Kind: wedge.Invalid, Err: errors.New("no address"), Hint: "Give the front an address to listen on."}
	}
	return err
}

// bind returns what it bound also when it fails, to be closed.
func (f *Front) bind(name string, addrs []string, given []net.Listener) (all []net.Listener, err error) {
	all = append(all, given...)
	for _, addr := range addrs {
		l, err := f.cfg.Listen(name, addr)
		if err != nil {
			return all, &wedge.Error{Op: "listen", What: addr, Kind: wedge.Unavailable, Err: err,
				Hint: "Check that the address is this machine's, that no other process uses the port, and that this one may bind it."}
		}
		all = append(all, l)
	}
	return all, nil
}

// Addrs returns the bound addresses, each list in the order of the configuration with given
// listeners first. They are known once Ready is closed.
func (f *Front) Addrs() (http, https []net.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.plain {
		http = append(http, l.Addr())
	}
	for _, l := range f.secure {
		https = append(https, l.Addr())
	}
	return http, https
}

func (f *Front) closeListeners() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range append(f.plain[:len(f.plain):len(f.plain)], f.secure...) {
		l.Close()
	}
}

// lastAccept is how long connections are still accepted when a drain begins. The kernel has taken them already, and resets those
// that nobody accepts before a listener is closed.
const lastAccept = 5 * time.Millisecond

// lastAccepts returns when what waited to be accepted is.
func (f *Front) lastAccepts() {
	f.mu.Lock()
	all := append(f.plain[:len(f.plain):len(f.plain)], f.secure...)
	f.mu.Unlock()
	for _, l := range all {
		if d, ok := l.(interface{ SetDeadline(time.Time) error }); !ok || d.SetDeadline(time.Now().Add(lastAccept)) != nil {
			l.Close()
		}
	}
	f.accepting.Wait()
}

// accept takes connections until l is closed. Failures that pass (no file descriptors left,
// a client gone before it was accepted) are waited out.
func (f *Front) accept(l net.Listener, secure bool) error {
	var wait time.Duration
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			wait = 0
			f.take(c, secure)
		case (errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded)) && f.draining.Load():
			l.Close()
			return nil
		case isPassing(err):
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			f.cfg.Log.Warn("accept failed, trying again", "addr", l.Addr().String(), "wait", wait, "err", err)
			time.Sleep(wait)
		default:
			return &wedge.Error{Op: "accept", What: l.Addr().String(), Kind: wedge.Internal, Err: err, Hint: "The listener failed for good; start the node again."}
		}
	}
}

func isPassing(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// take registers a connection and has it admitted.
func (f *Front) take(c net.Conn, secure bool) {
	raw := &rawConn{Conn: c, front: f, accepted: time.Now()}
	raw.info.raw = raw
	raw.info.remote, raw.info.local = addrPort(c.RemoteAddr()), addrPort(c.LocalAddr())
	f.stats.accepted.Add(1)
	if !f.remember(raw) {
		f.stats.refusedConns.Add(1)
		c.Close()
		return
	}
	go f.admit(raw, secure)
}

// admit finds out what a connection speaks and hands it to the server for that.
func (f *Front) admit(raw *rawConn, secure bool) {
	if !secure {
		f.admitPlain(raw)
		return
	}
	conn, err := f.handshake(raw)
	if err != nil {
		f.stats.handshakes.Add(1)
		f.cfg.Log.Debug("TLS handshake failed", "remote", raw.info.remote, "err", err)
		raw.Close()
		return
	}
	if raw.info.tls.State.NegotiatedProtocol == "h2" {
		f.handH2(conn, &raw.info)
		return
	}
	raw.info.h1 = f.newH1(conn, &raw.info)
	f.h1conns.hand(tlsConn{raw.info.h1})
}

func (f *Front) admitPlain(raw *rawConn) {
	c := f.newH1(raw, &raw.info)
	raw.Conn.SetReadDeadline(time.Now().Add(f.cfg.ReadHeaderTimeout))
	h2, err := c.peek()
	if err != nil {
		raw.Close()
		return
	}
	raw.Conn.SetReadDeadline(time.Time{})
	if h2 {
		c.opaque = true
		f.h2conns.hand(&h2Conn{Conn: c, info: &raw.info, sniff: &h2Sniffer{}})
		return
	}
	raw.info.h1 = c
	f.h1conns.hand(c)
}

func (f *Front) newH1(c net.Conn, info *connInfo) *h1Conn {
	return &h1Conn{Conn: c, info: info, hits: !f.cfg.NoHits, frame: framer{maxBytes: f.cfg.MaxHeaderBytes, maxLines: f.cfg.MaxHeaderLines}}
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		p := t.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return netip.AddrPort{}
}
