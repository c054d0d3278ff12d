package dns

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/wedge-cloud/wedge"
)

var (
	lhr = wedge.PoP{Name: "lhr", Lat: 51.5, Lon: -0.1, Addresses: []string{"192.0.2.1", "2001:db8::1"}}
	nyc = wedge.PoP{Name: "nyc", Lat: 40.7, Lon: -74, Addresses: []string{"192.0.2.2"}}
	nrt = wedge.PoP{Name: "nrt", Lat: 35.7, Lon: 139.7, Addresses: []string{"192.0.2.3", "2001:db8::3"}}

	world = []wedge.PoP{lhr, nyc, nrt, {Name: "new"}}
)

func config() Config {
	return Config{
		Zones:       []string{"edge.example", "Apps.Edge.example.", "other.example"},
		NameServers: map[string][]string{"ns1.edge.example": {"198.51.100.1", "2001:db8:1::1"}, "a.ns.edge.example": {"198.51.100.2"}, "ns.elsewhere.example": nil},
		Subnets: []Subnet{
			{netip.MustParsePrefix("10.0.0.0/8"), 48.9, 2.4},        // Paris
			{netip.MustParsePrefix("10.16.0.0/12"), 39, -77},        // Washington
			{netip.MustParsePrefix("10.17.1.0/24"), 34.7, 135.5},    // Osaka
			{netip.MustParsePrefix("2001:db8:a::/48"), 34.7, 135.5}, // Osaka
		},
	}
}

func answerer(t testing.TB, cfg Config) *Answerer {
	t.Helper()
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func question(name string, kind uint16) *dns.Msg { return new(dns.Msg).SetQuestion(name, kind) }

// with adds what a resolver says of its client's network.
func with(q *dns.Msg, subnet string) *dns.Msg {
	net := netip.MustParsePrefix(subnet)
	e := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(net.Bits()), Address: net.Addr().AsSlice()}
	if net.Addr().Is6() {
		e.Family = 2
	}
	q.SetEdns0(4096, false)
	opt := q.IsEdns0()
	opt.Option = append(opt.Option, e)
	return q
}

// values are what an answer's records say, in short.
func values(rrs []dns.RR) string {
	var list []string
	for _, rr := range rrs {
		if rr.Header().Rrtype != dns.TypeOPT {
			fields := strings.Fields(rr.String())
			list = append(list, fields[3]+" "+fields[4])
		}
	}
	return strings.Join(list, ", ")
}

// TestAnswers: each name and type has the answer that RFC 1034, 2308, 4592 and 8482 say.
func TestAnswers(t *testing.T) {
	a, fleet := answerer(t, config()), FleetOf(world)
	from := netip.MustParseAddr("10.1.2.3") // Paris
	const soa = "SOA a.ns.edge.example."
	for _, c := range []struct {
		name              string
		kind              uint16
		code              int
		answer, authority string
	}{
		{"edge.example.", dns.TypeA, dns.RcodeSuccess, "A 192.0.2.1, A 192.0.2.2", ""},
		{"eDGE.Example.", dns.TypeA, dns.RcodeSuccess, "A 192.0.2.1, A 192.0.2.2", ""},
		{"shop.edge.example.", dns.TypeA, dns.RcodeSuccess, "A 192.0.2.1, A 192.0.2.2", ""},
		{"a.b.shop.edge.example.", dns.TypeAAAA, dns.RcodeSuccess, "AAAA 2001:db8::1, AAAA 2001:db8::3", ""},
		{"other.example.", dns.TypeA, dns.RcodeSuccess, "A 192.0.2.1, A 192.0.2.2", ""},
		{"shop.edge.example.", dns.TypeTXT, dns.RcodeSuccess, "", soa},
		{"shop.edge.example.", dns.TypeNS, dns.RcodeSuccess, "", soa},
		{"shop.edge.example.", dns.TypeSOA, dns.RcodeSuccess, "", soa},
		{"edge.example.", dns.TypeMX, dns.RcodeSuccess, "", soa},
		{"edge.example.", dns.TypeDS, dns.RcodeSuccess, "", soa},
		{"edge.example.", dns.TypeSOA, dns.RcodeSuccess, soa, ""},
		{"edge.example.", dns.TypeNS, dns.RcodeSuccess, "NS a.ns.edge.example., NS ns.elsewhere.example., NS ns1.edge.example.", ""},
		{"shop.edge.example.", dns.TypeANY, dns.RcodeSuccess, `HINFO "RFC8482"`, ""},
		{"ns1.edge.example.", dns.TypeA, dns.RcodeSuccess, "A 198.51.100.1", ""},
		{"ns1.edge.example.", dns.TypeAAAA, dns.RcodeSuccess, "AAAA 2001:db8:1::1", ""},
		{"a.ns.edge.example.", dns.TypeAAAA, dns.RcodeSuccess, "", soa},
		{"ns.edge.example.", dns.TypeA, dns.RcodeSuccess, "", soa}, // between two names that there are
		{"b.ns.edge.example.", dns.TypeA, dns.RcodeNameError, "", soa},
		{"x.ns1.edge.example.", dns.TypeA, dns.RcodeNameError, "", soa},
		{"x.y.a.ns.edge.example.", dns.TypeANY, dns.RcodeNameError, "", soa},
		{"apps.edge.example.", dns.TypeSOA, dns.RcodeSuccess, soa, ""},
		{"ns1.apps.edge.example.", dns.TypeA, dns.RcodeSuccess, "A 192.0.2.1, A 192.0.2.2", ""},
		{"example.", dns.TypeA, dns.RcodeRefused, "", ""},
		{".", dns.TypeNS, dns.RcodeRefused, "", ""},
		{"notedge.example.", dns.TypeA, dns.RcodeRefused, "", ""},
		{`x\.edge.example.`, dns.TypeA, dns.RcodeRefused, "", ""},
		{"edge.example.", dns.TypeAXFR, dns.RcodeRefused, "", ""},
		{"edge.example.", dns.TypeIXFR, dns.RcodeRefused, "", ""},
		{"edge.example.", dns.TypeOPT, dns.RcodeRefused, "", ""},
	} {
		r := a.Answer(question(c.name, c.kind), from, fleet)
		what := c.name + " " + dns.TypeToString[c.kind]
		if r.Rcode != c.code || values(r.Answer) != c.answer || values(r.Ns) != c.authority {
			t.Errorf("%s: %s, %q, %q", what, dns.RcodeToString[r.Rcode], values(r.Answer), values(r.Ns))
		}
		if r.Authoritative != (c.code != dns.RcodeRefused) || !r.Response || r.RecursionAvailable {
			t.Errorf("%s: flags: %v", what, r.MsgHdr)
		}
		for _, rr := range append(slices.Clone(r.Answer), r.Ns...) {
			if name := rr.Header().Name; rr.Header().Rrtype != dns.TypeSOA && name != c.name {
				t.Errorf("%s: a record of %s", what, name)
			}
		}
	}
	r := a.Answer(question("edge.example.", dns.TypeNS), from, fleet)
	if got := values(r.Extra); got != "A 198.51.100.2, A 198.51.100.1, AAAA 2001:db8:1::1" {
		t.Errorf("with the name servers: %q", got)
	}
	r = a.Answer(question("edge.example.", dns.TypeA), from, fleet)
	if ttl := r.Answer[0].Header().Ttl; ttl != 30 {
		t.Errorf("TTL %d", ttl)
	}
	r = a.Answer(question("edge.example.", dns.TypeTXT), from, fleet)
	if s := r.Ns[0].(*dns.SOA); s.Hdr.Ttl != 30 || s.Minttl != 30 || s.Hdr.Name != "edge.example." {
		t.Errorf("%v", s)
	}
}

// TestNoPoPs: while nobody is known, nobody is told that there are no addresses.
func TestNoPoPs(t *testing.T) {
	a := answerer(t, config())
	for _, c := range []struct {
		pops []wedge.PoP
		kind uint16
		code int
	}{
		{nil, dns.TypeA, dns.RcodeServerFailure},
		{[]wedge.PoP{{Name: "new"}}, dns.TypeAAAA, dns.RcodeServerFailure},
		{nil, dns.TypeTXT, dns.RcodeSuccess},
		{[]wedge.PoP{nyc}, dns.TypeAAAA, dns.RcodeSuccess}, // it has none of that kind
	} {
		r := a.Answer(question("shop.edge.example.", c.kind), netip.MustParseAddr("10.1.2.3"), FleetOf(c.pops))
		if r.Rcode != c.code || len(r.Answer) > 0 || len(r.Ns) > 0 != (c.code == dns.RcodeSuccess) {
			t.Errorf("%v: %v", c, r)
		}
	}
}

// TestNearest: who asks gets the PoPs near the client, or near its resolver, and is told for whom else that holds.
func TestNearest(t *testing.T) {
	cfg := config()
	cfg.PoPs = 1
	a, fleet := answerer(t, cfg), FleetOf(world)
	at := func(p wedge.PoP) string { return "A " + p.Addresses[0] }
	for _, c := range []struct {
		from, subnet string
		want         string
		scope        int
	}{
		{"10.1.2.3", "", at(lhr), 0},
		{"10.16.2.3", "", at(nyc), 0},
		{"::ffff:10.16.2.3", "", at(nyc), 0},
		{"10.17.1.3", "", at(nrt), 0},
		{"2001:db8:a::5", "", at(nrt), 0},
		{"10.1.2.3", "10.17.1.0/24", at(nrt), 24},
		{"10.1.2.3", "10.17.2.0/24", at(nyc), 23}, // it ends where the /24 beside it begins
		{"10.1.2.3", "10.18.0.0/24", at(nyc), 15},
		{"10.17.1.3", "10.128.0.0/24", at(lhr), 9},
		{"10.17.1.3", "10.16.0.0/16", at(nyc), 16},
		{"10.1.2.3", "2001:db8:a:100::/56", at(nrt), 48},
		{"10.16.2.3", "0.0.0.0/0", at(nyc), 0}, // the client is not to be told apart
		{"10.16.2.3", "::/0", at(nyc), 0},
	} {
		q := question("shop.edge.example.", dns.TypeA)
		if c.subnet != "" {
			with(q, c.subnet)
		}
		r := a.Answer(q, netip.MustParseAddr(c.from), fleet)
		if values(r.Answer) != c.want {
			t.Errorf("%s for %s: %s", c.from, c.subnet, values(r.Answer))
		}
		if c.subnet == "" {
			continue
		}
		got, asked := r.IsEdns0().Option[0].(*dns.EDNS0_SUBNET), q.IsEdns0().Option[0].(*dns.EDNS0_SUBNET)
		if int(got.SourceScope) != c.scope || got.Family != asked.Family || got.SourceNetmask != asked.SourceNetmask || !got.Address.Equal(asked.Address) {
			t.Errorf("%s for %s: %v", c.from, c.subnet, got)
		}
		if asked.SourceScope != 0 {
			t.Error("the question was changed")
		}
	}
}

// TestScopeHolds: whatever else is in the network of an answer's scope gets the same answer.
func TestScopeHolds(t *testing.T) {
	cfg := config()
	cfg.PoPs = 1
	a, fleet := answerer(t, cfg), FleetOf(world)
	for i := range 1 << 14 {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 6), byte(i << 2), 0})
		c := a.places.find(addr)
		first := fleet.near(c, false, 1)
		last := c.net.Addr().As4()
		for bit := c.net.Bits(); bit < 32; bit++ {
			last[bit/8] |= 0x80 >> (bit % 8)
		}
		for _, other := range []netip.Addr{c.net.Addr(), netip.AddrFrom4(last)} {
			if got := fleet.near(a.places.find(other), false, 1); got[0] != first[0] {
				t.Fatalf("%v gets %v, and %v of its network %v gets %v", addr, first, other, c.net, got)
			}
		}
	}
}

// TestSpread: clients of whom nobody knows where they are come to all PoPs, each network always to the same.
func TestSpread(t *testing.T) {
	a, fleet := answerer(t, config()), FleetOf(world)
	count, again := map[netip.Addr]int{}, FleetOf([]wedge.PoP{nrt, lhr, nyc})
	for i := range 3000 {
		addr := netip.AddrFrom4([4]byte{192, byte(i >> 8), byte(i), 7})
		c := a.places.find(addr)
		got := fleet.near(c, false, 2)
		if c.net.Bits() != 24 || len(got) != 2 || !slices.Equal(got, again.near(a.places.find(addr.Next()), false, 2)) {
			t.Fatalf("%v: %v", c.net, got)
		}
		count[got[0]]++
	}
	for addr, n := range count {
		if n < 850 || n > 1150 {
			t.Errorf("%v is the first of %d", addr, n)
		}
	}
}

// TestMany: of many PoPs the nearest are found, and an answer stays small.
func TestMany(t *testing.T) {
	var pops []wedge.PoP
	for i := range 100 {
		p := wedge.PoP{Name: fmt.Sprintf("p%d", i), Lon: float64((i * 37) % 100)}
		for j := range wedge.MaxPoPAddresses {
			p.Addresses = append(p.Addresses, fmt.Sprintf("192.0.%d.%d", int(p.Lon), j))
		}
		pops = append(pops, p)
	}
	fleet := FleetOf(pops)
	got := fleet.near(&client{place: &wedge.PoP{Lon: 42.3}}, false, 4)
	if len(got) != maxRecords || got[0] != netip.MustParseAddr("192.0.42.0") {
		t.Error(got)
	}
	for i := range pops {
		pops[i].Addresses = pops[i].Addresses[:1]
	}
	if got := fmt.Sprint(FleetOf(pops).near(&client{place: &wedge.PoP{Lon: 42.3}}, false, 4)); got != "[192.0.42.0 192.0.43.0 192.0.41.0 192.0.44.0]" {
		t.Error(got)
	}
}

// TestExtensions: EDNS as in RFC 6891 and 7871, and questions that are none.
func TestExtensions(t *testing.T) {
	a, fleet := answerer(t, config()), FleetOf(world)
	ask := func(change func(*dns.Msg)) *dns.Msg {
		q := question("shop.edge.example.", dns.TypeA)
		change(q)
		return a.Answer(q, netip.MustParseAddr("10.1.2.3"), fleet)
	}
	subnet := func(family uint16, bits, scope uint8, addr string) func(*dns.Msg) {
		return func(q *dns.Msg) {
			q.SetEdns0(1232, false)
			q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: family, SourceNetmask: bits, SourceScope: scope, Address: net.ParseIP(addr)}}
		}
	}
	for what, c := range map[string]struct {
		change func(*dns.Msg)
		code   int
	}{
		"plain":                {func(*dns.Msg) {}, dns.RcodeSuccess},
		"EDNS":                 {func(q *dns.Msg) { q.SetEdns0(4096, true) }, dns.RcodeSuccess},
		"EDNS 1":               {func(q *dns.Msg) { q.SetEdns0(4096, false); q.IsEdns0().SetVersion(1) }, dns.RcodeBadVers},
		"twice":                {func(q *dns.Msg) { q.SetEdns0(4096, false); q.SetEdns0(4096, false) }, dns.RcodeFormatError},
		"notify":               {func(q *dns.Msg) { q.Opcode = dns.OpcodeNotify }, dns.RcodeNotImplemented},
		"update":               {func(q *dns.Msg) { q.Opcode = dns.OpcodeUpdate }, dns.RcodeNotImplemented},
		"no question":          {func(q *dns.Msg) { q.Question = nil }, dns.RcodeFormatError},
		"two":                  {func(q *dns.Msg) { q.Question = append(q.Question, q.Question[0]) }, dns.RcodeFormatError},
		"chaos":                {func(q *dns.Msg) { q.Question[0].Qclass = dns.ClassCHAOS }, dns.RcodeRefused},
		"a network":            {subnet(1, 24, 0, "10.1.2.0"), dns.RcodeSuccess},
		"no family":            {subnet(0, 0, 0, "0.0.0.0"), dns.RcodeSuccess},
		"bits that are none":   {subnet(1, 24, 0, "10.1.2.3"), dns.RcodeFormatError},
		"bits that are none 6": {subnet(2, 48, 0, "2001:db8::1"), dns.RcodeFormatError},
		"a scope":              {subnet(1, 24, 24, "10.1.2.0"), dns.RcodeFormatError},
		"4 in 6":               {subnet(2, 128, 0, "::ffff:10.1.2.3"), dns.RcodeFormatError},
		"two networks": {func(q *dns.Msg) {
			subnet(1, 24, 0, "10.1.2.0")(q)
			opt := q.IsEdns0()
			opt.Option = append(opt.Option, opt.Option[0])
		}, dns.RcodeFormatError},
	} {
		r := ask(c.change)
		if r.Rcode != c.code || (len(r.Answer) > 0) != (c.code == dns.RcodeSuccess) {
			t.Errorf("%s: %v", what, r)
		}
	}
	if r := ask(func(*dns.Msg) {}); r.IsEdns0() != nil {
		t.Error("EDNS to who has none")
	}
	if opt := ask(func(q *dns.Msg) { q.SetEdns0(4096, true) }).IsEdns0(); opt == nil || opt.UDPSize() != udpSize || !opt.Do() || opt.Version() != 0 || len(opt.Option) > 0 {
		t.Error(opt)
	}
}

// TestConfig: what cannot be answered for is said at the start.
func TestConfig(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"0 zones":                 func(c *Config) { c.Zones = nil },
		"not a name":              func(c *Config) { c.Zones = []string{"edge example"} },
		"not a name ":             func(c *Config) { c.Zones = []string{"."} },
		"too long":                func(c *Config) { c.Zones = []string{strings.Repeat("abcdefgh.", 27) + "abc"} },
		"0 name servers":          func(c *Config) { c.NameServers = nil },
		"has no address":          func(c *Config) { c.NameServers["ns9.edge.example"] = nil },
		"is no IP address":        func(c *Config) { c.NameServers["ns9.edge.example"] = []string{"ns9"} },
		"the PoPs'":               func(c *Config) { c.NameServers["edge.example"] = []string{"192.0.2.1"} },
		"more than four":          func(c *Config) { c.NameServers["x.example"] = make([]string, 5) },
		"one to four PoPs":        func(c *Config) { c.PoPs = 5 },
		"TTL":                     func(c *Config) { c.TTL = 1 },
		"not a subnet":            func(c *Config) { c.Subnets[0].Lat = 91 },
		"not a subnet with":       func(c *Config) { c.Subnets[0].Net = netip.Prefix{} },
		"no such file":            func(c *Config) { c.Database = "testdata/none" },
		"open database of places": func(c *Config) { c.Database = "places.go" },
	} {
		cfg := config()
		change(&cfg)
		_, err := New(cfg)
		if k := wedge.KindOf(err); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) || k != wedge.Invalid && k != wedge.Unavailable {
			t.Errorf("%s: %v", want, err)
		}
	}
}
