package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/net/netutil"

	"github.com/wedge-cloud/wedge"
)

// Server answers at addresses, over UDP and TCP. The library's own server starts a goroutine for each packet, as many as come; here
// those that wait lie in the socket's buffer, whose end is the bound.
type Server struct {
	answerer *Answerer
	fleet    atomic.Pointer[Fleet]
	rate     rate
	packets  []*net.UDPConn
	streams  []net.Listener
	stats    Stats
}

// Stats are counters of a server.
type Stats struct {
	UDP, TCP  atomic.Int64                       // questions
	Malformed atomic.Int64                       // of these, those that were none
	Limited   atomic.Int64                       // of these, those of networks that had asked too often
	Truncated atomic.Int64                       // answers that did not fit
	Answers   [dns.RcodeRefused + 2]atomic.Int64 // by response code; the last one: any other
}

// Codes names the response codes that [Stats] tells apart.
func Codes() []string {
	list := make([]string, dns.RcodeRefused+2)
	for i := range list {
		list[i] = dns.RcodeToString[i]
	}
	list[len(list)-1] = "other"
	return list
}

// Bounds of TCP.
const (
	maxConns     = 512
	maxQuestion  = 4 << 10         // bytes
	maxQuestions = 200             // on a connection
	idleTimeout  = 5 * time.Second // for a question to come, and an answer to go
)

// Listen takes addresses, each host:port, for UDP and TCP. Nothing is answered before Run.
func Listen(a *Answerer, addrs []string) (s *Server, err error) {
	s = &Server{answerer: a, rate: rate{seed: maphash.MakeSeed()}}
	s.Show(nil)
	for _, addr := range addrs {
		if err = s.listen(addr); err != nil {
			s.Close()
			return nil, &wedge.Error{Op: "listen", What: addr, Kind: wedge.Unavailable, Err: err, Hint: "Is something else listening there? A port below 1024 needs CAP_NET_BIND_SERVICE."}
		}
	}
	return s, nil
}

func (s *Server) listen(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	s.streams = append(s.streams, netutil.LimitListener(l, maxConns))
	p, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		return err
	}
	c := p.(*net.UDPConn)
	s.packets = append(s.packets, c)
	if c.LocalAddr().(*net.UDPAddr).IP.IsUnspecified() { // an answer comes from the address that was asked, where the system says which
		_ = ipv6.NewPacketConn(c).SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true)
		_ = ipv4.NewPacketConn(c).SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true)
	}
	return nil
}

// Show says which PoPs to answer with from now on.
func (s *Server) Show(pops []wedge.PoP) { s.fleet.Store(FleetOf(pops)) }

// Size returns how many PoPs there are to answer with.
func (s *Server) Size() int { return s.fleet.Load().Size() }

// Stats returns the server's counters.
func (s *Server) Stats() *Stats { return &s.stats }

// Addrs returns where the server listens.
func (s *Server) Addrs() (list []net.Addr) {
	for _, l := range s.streams {
		list = append(list, l.Addr())
	}
	return list
}

// Close stops listening; only who never calls Run needs it.
func (s *Server) Close() {
	for _, c := range s.packets {
		_ = c.Close()
	}
	for _, l := range s.streams {
		_ = l.Close()
	}
}

// Run answers until ctx ends.
func (s *Server) Run(ctx context.Context) {
	var w sync.WaitGroup
	for _, c := range s.packets {
		for range runtime.GOMAXPROCS(0) + 1 {
			w.Go(func() { s.datagrams(c) })
		}
	}
	for _, l := range s.streams {
		w.Go(func() { s.accept(ctx, l, &w) })
	}
	<-ctx.Done()
	s.Close()
	w.Wait()
}

// datagrams answers one question over UDP after the other until the socket is closed.
func (s *Server) datagrams(c *net.UDPConn) {
	buf := make([]byte, maxQuestion)
	for {
		n, session, err := dns.ReadFromSessionUDP(c, buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // what a client's machine said of an earlier answer
			time.Sleep(time.Millisecond)
			continue
		}
		from, _ := netip.AddrFromSlice(session.RemoteAddr().(*net.UDPAddr).IP)
		if out := s.datagram(buf[:n], from.Unmap(), time.Now()); out != nil {
			_, _ = dns.WriteToSessionUDP(c, out, session) // who has not got it asks again
		}
	}
}

// datagram answers a packet, or does not.
func (s *Server) datagram(packet []byte, from netip.Addr, now time.Time) []byte {
	s.stats.UDP.Add(1)
	q, r := s.read(packet)
	if r == nil && q == nil {
		return nil
	}
	size := dns.MinMsgSize
	switch v := s.rate.ask(from, now); {
	case v != whole:
		s.stats.Limited.Add(1)
		if v == none || q == nil {
			return nil
		}
		r = new(dns.Msg).SetReply(q)
		r.Truncated = true
	case r == nil:
		r = s.answerer.Answer(q, from, s.fleet.Load())
		if opt := q.IsEdns0(); opt != nil {
			size = min(max(size, int(opt.UDPSize())), udpSize)
		}
	}
	return s.write(r, size)
}

// read reads a question. It returns the answer if that is no question, and nothing at all if it is not to be answered: what says
// that it is an answer, or is none of DNS.
func (s *Server) read(packet []byte) (q, r *dns.Msg) {
	const head, isAnswer = 12, 0x80
	if len(packet) < head || packet[2]&isAnswer != 0 {
		s.stats.Malformed.Add(1)
		return nil, nil
	}
	q = new(dns.Msg)
	if err := q.Unpack(packet); err != nil {
		s.stats.Malformed.Add(1)
		r = &dns.Msg{MsgHdr: dns.MsgHdr{Id: binary.BigEndian.Uint16(packet), Response: true, Opcode: int(packet[2] >> 3 & 0xf), Rcode: dns.RcodeFormatError}}
		return nil, r
	}
	return q, nil
}

// write packs an answer into so many bytes at most.
func (s *Server) write(r *dns.Msg, size int) []byte {
	limited := r.Truncated
	r.Truncate(size)
	if r.Truncated && !limited {
		s.stats.Truncated.Add(1)
	}
	b, err := r.Pack()
	if err != nil { // a name that can be read and not be written
		s.stats.Malformed.Add(1)
		return nil
	}
	s.stats.Answers[min(r.Rcode, len(s.stats.Answers)-1)].Add(1)
	return b
}

func (s *Server) accept(ctx context.Context, l net.Listener, w *sync.WaitGroup) {
	for ctx.Err() == nil {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, perhaps
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		w.Go(func() {
			stop := context.AfterFunc(ctx, func() { _ = c.Close() })
			defer stop()
			defer c.Close()
			s.stream(c)
		})
	}
}

// stream answers the questions of a connection, one after the other (RFC 7766).
func (s *Server) stream(c net.Conn) {
	from, _ := netip.AddrFromSlice(c.RemoteAddr().(*net.TCPAddr).IP)
	buf := make([]byte, 2+maxQuestion)
	for range maxQuestions {
		_ = c.SetDeadline(time.Now().Add(idleTimeout))
		if _, err := io.ReadFull(c, buf[:2]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(buf))
		if n > maxQuestion {
			return
		}
		if _, err := io.ReadFull(c, buf[2:2+n]); err != nil {
			return
		}
		s.stats.TCP.Add(1)
		q, r := s.read(buf[2 : 2+n])
		if q != nil {
			r = s.answerer.Answer(q, from.Unmap(), s.fleet.Load())
		}
		if r == nil {
			return
		}
		out := s.write(r, dns.MaxMsgSize)
		if out == nil {
			return
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...)); err != nil {
			return
		}
	}
}
