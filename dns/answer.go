package dns

import (
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// Answerer answers questions. It is safe for concurrent use.
type Answerer struct {
	zones  map[string]*zone // by name
	places *places
	ttl    uint32 // seconds
	pops   int
}

// New returns what answers for a configuration, whose database it has read. The error is of kind Invalid, or Unavailable.
func New(cfg Config) (*Answerer, error) {
	a := &Answerer{zones: map[string]*zone{}, pops: cfg.PoPs}
	if cfg.PoPs == 0 {
		a.pops = defaultPoPs
	}
	if a.pops < 1 || a.pops > maxPoPs {
		return nil, invalid("", "an answer has one to four PoPs", "")
	}
	if cfg.TTL == 0 {
		cfg.TTL = defaultTTL
	}
	if cfg.TTL < time.Second || cfg.TTL > maxTTL {
		return nil, invalid("", "the TTL is not from a second to a day", "The default, 30s, lets clients leave a PoP that is gone within half a minute.")
	}
	a.ttl = uint32(cfg.TTL / time.Second)
	err := a.openZones(cfg)
	if err == nil {
		a.places, err = openPlaces(cfg.Subnets, cfg.Database)
	}
	return a, err
}

// udpSize is how large an answer over UDP may be, if the client takes it: what passes nearly every path unbroken.
const udpSize = 1232

// Answer answers a question that came from an address. The fleet may have no PoPs: then questions for their addresses
// fail, for an answer that there are none would be kept.
func (a *Answerer) Answer(q *dns.Msg, from netip.Addr, fleet *Fleet) *dns.Msg {
	r := new(dns.Msg).SetReply(q)
	r.Compress = true
	opt, ok := options(q)
	if !ok {
		r.Rcode = dns.RcodeFormatError
		return r
	}
	var subnet *dns.EDNS0_SUBNET
	if opt != nil {
		r.SetEdns0(udpSize, opt.Do())
		if opt.Version() != 0 {
			r.Rcode = dns.RcodeBadVers
			return r
		}
		if subnet, ok = subnetOf(opt); !ok {
			r.Rcode = dns.RcodeFormatError
			return r
		}
	}
	switch {
	case q.Opcode != dns.OpcodeQuery:
		r.Rcode = dns.RcodeNotImplemented
	case len(q.Question) != 1:
		r.Rcode = dns.RcodeFormatError
	default:
		scope := a.answer(r, q.Question[0], from.Unmap(), subnet, fleet)
		if subnet != nil {
			reply := *subnet
			reply.SourceScope = uint8(scope)
			own := r.IsEdns0()
			own.Option = append(own.Option, &reply)
		}
	}
	return r
}

// answer fills in what is answered to a question, and returns how much of the client's address that depends on, in bits.
func (a *Answerer) answer(r *dns.Msg, q dns.Question, from netip.Addr, subnet *dns.EDNS0_SUBNET, fleet *Fleet) (scope int) {
	name := dns.CanonicalName(q.Name)
	z := a.zoneOf(name)
	if z == nil || q.Qclass != dns.ClassINET || transfers(q.Qtype) {
		r.Rcode = dns.RcodeRefused
		return 0
	}
	r.Authoritative = true
	is, v6 := z.find(name), q.Qtype == dns.TypeAAAA
	switch {
	case is == absent:
		r.Rcode = dns.RcodeNameError
	case q.Qtype == dns.TypeANY: // RFC 8482, section 4.2
		r.Answer = []dns.RR{&dns.HINFO{Hdr: header(q.Name, dns.TypeHINFO, serversTTL), Cpu: "RFC8482"}}
	case name == z.name && q.Qtype == dns.TypeSOA:
		r.Answer = []dns.RR{z.soa}
	case name == z.name && q.Qtype == dns.TypeNS:
		a.servers(r, z)
	case q.Qtype != dns.TypeA && !v6:
	case is == ownName:
		r.Answer = addresses(q.Name, z.owned[name], v6, serversTTL)
	case fleet.Size() == 0:
		r.Rcode, r.Authoritative = dns.RcodeServerFailure, false
		return 0
	default:
		c := a.client(from, subnet)
		r.Answer = addresses(q.Name, fleet.near(c, v6, a.pops), v6, a.ttl)
		if len(r.Answer) > 0 {
			return c.net.Bits()
		}
	}
	if len(r.Answer) == 0 { // RFC 2308: how long that may be kept
		r.Ns = []dns.RR{z.soa}
	}
	return 0
}

// transfers tells questions for whole zones, and those for what is no record at all (RFC 6895, section 3.1).
func transfers(kind uint16) bool {
	return kind == dns.TypeOPT || kind >= 128 && kind < 255
}

// servers answers with a zone's name servers, and their addresses where they are in a zone of ours.
func (a *Answerer) servers(r *dns.Msg, z *zone) {
	r.Answer = z.ns
	glue := []dns.RR{}
	for _, rr := range z.ns {
		name := rr.(*dns.NS).Ns
		if in := a.zoneOf(name); in != nil {
			glue = append(glue, addresses(name, in.owned[name], false, serversTTL)...)
			glue = append(glue, addresses(name, in.owned[name], true, serversTTL)...)
		}
	}
	r.Extra = append(glue, r.Extra...)
}

// addresses makes records of the addresses of one family.
func addresses(name string, addrs []netip.Addr, v6 bool, ttl uint32) (rrs []dns.RR) {
	for _, a := range addrs {
		switch {
		case a.Is4() == v6:
		case v6:
			rrs = append(rrs, &dns.AAAA{Hdr: header(name, dns.TypeAAAA, ttl), AAAA: net.IP(a.AsSlice())})
		default:
			rrs = append(rrs, &dns.A{Hdr: header(name, dns.TypeA, ttl), A: net.IP(a.AsSlice())})
		}
	}
	return rrs
}

// client finds out where who asks is: what its resolver says of it, or else the resolver.
func (a *Answerer) client(from netip.Addr, subnet *dns.EDNS0_SUBNET) *client {
	if subnet != nil && subnet.SourceNetmask > 0 {
		if addr, ok := netip.AddrFromSlice(subnet.Address); ok {
			return a.places.find(addr.Unmap())
		}
	}
	c := a.places.find(from)
	if subnet != nil { // the client does not want to be told apart (RFC 7871, section 7.1.2): nothing of its address counted
		c.net = netip.PrefixFrom(c.net.Addr(), 0)
	}
	return c
}

// options returns a question's OPT record, nil if it has none. A second one is an error (RFC 6891, section 6.1.1).
func options(q *dns.Msg) (opt *dns.OPT, ok bool) {
	for _, rr := range q.Extra {
		if o, is := rr.(*dns.OPT); is {
			if opt != nil || o.Hdr.Name != "." {
				return nil, false
			}
			opt = o
		}
	}
	return opt, true
}

// subnetOf returns what a question says of its client's network, nil if nothing. What RFC 7871, section 7.1.1, forbids is an
// error: bits beyond those that count, or a scope.
func subnetOf(opt *dns.OPT) (s *dns.EDNS0_SUBNET, ok bool) {
	for _, o := range opt.Option {
		one, is := o.(*dns.EDNS0_SUBNET)
		if !is {
			continue
		}
		if s != nil || one.SourceScope != 0 {
			return nil, false
		}
		if s = one; s.Family == 0 { // what dig sends for "none"; the library lets it have no bits only
			continue
		}
		addr, valid := netip.AddrFromSlice(s.Address)
		if s.Family == 1 {
			addr = addr.Unmap()
		}
		if net, err := addr.Prefix(int(s.SourceNetmask)); !valid || err != nil || net.Addr() != addr || addr.Is4In6() {
			return nil, false
		}
	}
	return s, true
}
