package dns

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// serve runs a server on loopback until the test ends.
func serve(t *testing.T, cfg Config) (s *Server, addr string) {
	t.Helper()
	s, err := Listen(answerer(t, cfg), []string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
	return s, s.Addrs()[0].String()
}

func exchange(t *testing.T, network, addr string, q *dns.Msg) *dns.Msg {
	t.Helper()
	r, _, err := (&dns.Client{Net: network, Timeout: 5 * time.Second}).Exchange(q, addr)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestServer: over UDP and TCP the same is answered, what PoPs there are changes it, and what does not fit comes over TCP.
func TestServer(t *testing.T) {
	cfg := config()
	cfg.Subnets = append(cfg.Subnets, Subnet{netip.MustParsePrefix("127.0.0.0/8"), 40, -75})
	cfg.NameServers = map[string][]string{}
	for i := range maxNameServers {
		cfg.NameServers[fmt.Sprintf("%s.%s%d.example", strings.Repeat("long", 15), strings.Repeat("long", 15), i)] = nil
	}
	s, addr := serve(t, cfg)
	for _, network := range []string{"udp", "tcp"} {
		s.Show(nil)
		if r := exchange(t, network, addr, question("shop.edge.example.", dns.TypeA)); r.Rcode != dns.RcodeServerFailure {
			t.Errorf("%s: %v", network, r)
		}
		s.Show(world)
		if r := exchange(t, network, addr, question("shop.edge.example.", dns.TypeA)); values(r.Answer) != "A 192.0.2.2, A 192.0.2.1" {
			t.Errorf("%s: %v", network, r)
		}
		r := exchange(t, network, addr, with(question("shop.edge.example.", dns.TypeA), "10.17.1.0/24"))
		if values(r.Answer)[:11] != "A 192.0.2.3" || r.IsEdns0().Option[0].(*dns.EDNS0_SUBNET).SourceScope != 24 {
			t.Errorf("%s: %v", network, r)
		}
		q := question("edge.example.", dns.TypeNS)
		if r := exchange(t, network, addr, q); r.Truncated != (network == "udp") || (len(r.Answer) == maxNameServers) != (network == "tcp") {
			t.Errorf("%s: %v", network, r)
		}
		q.SetEdns0(1232, false)
		if r := exchange(t, network, addr, q); r.Truncated || len(r.Answer) != maxNameServers {
			t.Errorf("%s: %v", network, r)
		}
	}
	if st := s.Stats(); st.UDP.Load() != 5 || st.TCP.Load() != 5 || st.Truncated.Load() != 1 || st.Answers[dns.RcodeServerFailure].Load() != 2 || st.Answers[0].Load() != 8 {
		t.Errorf("counted %+v", st)
	}
	if s.Size() != 3 {
		t.Error(s.Size())
	}
}

// TestStream: a connection takes question after question, and ends at what is none.
func TestStream(t *testing.T) {
	s, addr := serve(t, config())
	s.Show(world)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	q, err := question("shop.edge.example.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)
	if _, err := c.Write(append(framed, framed...)); err != nil { // two at once
		t.Fatal(err)
	}
	for range 2 {
		head := make([]byte, 2)
		if _, err := io.ReadFull(c, head); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, binary.BigEndian.Uint16(head))
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		var r dns.Msg
		if err := r.Unpack(b); err != nil || len(r.Answer) != 2 {
			t.Fatal(err, r)
		}
	}
	if _, err := c.Write([]byte{0xff, 0xff, 1}); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); err != io.EOF && !strings.Contains(fmt.Sprint(err), "reset") {
		t.Error(n, err)
	}
}

// TestAnyAddress: who listens at all addresses answers from the one that was asked.
func TestAnyAddress(t *testing.T) {
	s, err := Listen(answerer(t, config()), []string{"0.0.0.0:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	defer func() {
		stop()
		<-done
	}()
	s.Show(world)
	_, port, _ := net.SplitHostPort(s.Addrs()[0].String())
	for _, host := range []string{"127.0.0.1", "127.0.0.2"} { // a connected socket hears from there only
		conn, err := net.Dial("udp", net.JoinHostPort(host, port))
		if err != nil {
			if host == "127.0.0.1" {
				t.Fatal(err)
			}
			t.Skip(err) // not every system has more than one loopback address
		}
		defer conn.Close()
		r, _, err := (&dns.Client{Timeout: 5 * time.Second}).ExchangeWithConn(question("shop.edge.example.", dns.TypeA), &dns.Conn{Conn: conn})
		if err != nil || len(r.Answer) != 2 {
			t.Errorf("%s: %v, %v", host, err, r)
		}
	}
}

// TestRate: a network that asks too often over UDP is sent to TCP half of the time and not answered else; others are not touched.
func TestRate(t *testing.T) {
	s := &Server{answerer: answerer(t, config()), rate: rate{seed: maphash.MakeSeed()}}
	s.Show(world)
	q, err := with(question("shop.edge.example.", dns.TypeA), "10.1.2.0/24").Pack()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	ask := func(from string) string {
		b := s.datagram(q, netip.MustParseAddr(from), now)
		if b == nil {
			return "none"
		}
		var r dns.Msg
		if err := r.Unpack(b); err != nil {
			t.Fatal(err)
		}
		switch {
		case !r.Truncated && len(r.Answer) == 2:
			return "whole"
		case r.Truncated && len(r.Answer) == 0 && len(b) <= len(q):
			return "short"
		}
		return r.String()
	}
	got := map[string]int{}
	for i := range rateOfNet + 100 {
		got[ask(fmt.Sprintf("198.51.100.%d", i%256))]++
	}
	if got["whole"] != rateOfNet || got["short"] != 50 || got["none"] != 50 {
		t.Error(got)
	}
	if s.Stats().Limited.Load() != 100 {
		t.Error("counted ", s.Stats().Limited.Load())
	}
	now = now.Add(time.Second / 2)
	clear(got)
	for range rateOfNet {
		got[ask("198.51.100.9")]++
	}
	if got["whole"] != rateOfNet/2 {
		t.Error(got)
	}
	others := 0
	for i := range 20 { // one of them may share a count with it
		if ask(fmt.Sprintf("203.0.%d.1", i)) == "whole" {
			others++
		}
	}
	if others < 18 {
		t.Errorf("%d of 20 others are answered", others)
	}
}

// FuzzDatagram: whatever a packet holds, what comes back is an answer to it, and a small one.
func FuzzDatagram(f *testing.F) {
	s := &Server{answerer: answerer(f, config()), rate: rate{seed: maphash.MakeSeed()}}
	s.Show(world)
	for _, q := range []*dns.Msg{question("shop.edge.example.", dns.TypeA), question("edge.example.", dns.TypeNS), question(".", dns.TypeANY),
		with(question("x.edge.example.", dns.TypeAAAA), "2001:db8::/56"), with(question("x.edge.example.", dns.TypeA), "0.0.0.0/0"), {}} {
		b, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, false)
		f.Add(b, true)
		f.Add(b[:len(b)-1], false)
	}
	now := time.Now()
	f.Fuzz(func(t *testing.T, packet []byte, v6 bool) {
		if len(packet) > maxQuestion {
			return
		}
		from := netip.MustParseAddr("192.0.2.1")
		if v6 {
			from = netip.MustParseAddr("2001:db8::1")
		}
		now = now.Add(time.Second)
		b := s.datagram(packet, from, now)
		if b == nil {
			return
		}
		var r dns.Msg
		if err := r.Unpack(b); err != nil {
			t.Fatalf("%v: %x", err, b)
		}
		if !r.Response || r.Id != binary.BigEndian.Uint16(packet) || len(b) > udpSize || len(r.Answer) > maxRecords {
			t.Fatalf("to %x: %v", packet, &r)
		}
		for _, rr := range append(r.Answer, r.Ns...) {
			if !dns.IsSubDomain("example.", strings.ToLower(rr.Header().Name)) {
				t.Fatalf("to %x: %v", packet, &r)
			}
		}
	})
}
