package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/wedge-cloud/wedge"
)

// Config says what is answered for, and how.
type Config struct {
	// Zones are the names that the fleet has authority for, such as edge.example. In each the zone's own name and all
	// names below it are every PoP's, but for those of name servers.
	Zones []string

	// NameServers has the name servers' names, the same for all zones, with their addresses. Only a name in one of the
	// zones needs some.
	NameServers map[string][]string

	TTL      time.Duration // of addresses, and of the answer that there are none; 0: 30 s
	PoPs     int           // how many an answer has, 1 to 4; 0: 2
	Subnets  []Subnet      // where clients are, before the database is asked
	Database string        // file in MaxMind's format with locations; "": none
}

// Bounds of a configuration. With them an answer about PoPs fits into 512 bytes.
const (
	maxZones       = 1000
	maxNameServers = 8
	maxPoPs        = 4
	maxRecords     = 8 // addresses in one answer
	maxTTL         = 24 * time.Hour

	defaultTTL  = 30 * time.Second
	defaultPoPs = 2
	serversTTL  = 3600 // of name servers and their addresses, in seconds
)

// zone is what is fixed of a zone. Names are in lower case and end in a dot.
type zone struct {
	name  string
	soa   *dns.SOA
	ns    []dns.RR
	owned map[string][]netip.Addr // names that are not the PoPs': name servers, and the names between them and the zone
}

// what says what a name is in its zone.
type what int

const (
	absent  what = iota // there is no such name
	popName             // it is every PoP's
	ownName             // it has addresses of its own, or none
)

// find says what a name of the zone is. The PoPs' are the apex and a wildcard beside it, of which RFC 4592 says what
// it covers: not what lies below a name that there is.
func (z *zone) find(name string) what {
	if name == z.name {
		return popName
	}
	if _, ok := z.owned[name]; ok {
		return ownName
	}
	for name != z.name {
		_, name, _ = cutLabel(name)
		if _, ok := z.owned[name]; ok {
			return absent
		}
	}
	return popName
}

// cutLabel takes a name's first label off; a dot in a label is escaped.
func cutLabel(name string) (label, rest string, ok bool) {
	i, end := dns.NextLabel(name, 0)
	if end {
		return name, ".", false
	}
	return name[:i], name[i:], true
}

// zoneOf returns the zone that a name is in, the innermost if there are several, nil if it is in none.
func (a *Answerer) zoneOf(name string) *zone {
	for ok := true; ok; _, name, ok = cutLabel(name) {
		if z := a.zones[name]; z != nil {
			return z
		}
	}
	return nil
}

// hostName reads a name from a configuration.
func hostName(text string) (string, error) {
	name := dns.CanonicalName(text)
	if _, ok := dns.IsDomainName(name); !ok || name == "." || strings.ContainsAny(name, "\\* \t/") {
		return "", invalid(text, "not a name", "Write one such as edge.example.")
	}
	return name, nil
}

func invalid(what, why, hint string) error {
	return &wedge.Error{Op: "set up DNS", What: what, Kind: wedge.Invalid, Err: errors.New(why), Hint: hint}
}

// openZones makes the zones of a configuration.
func (a *Answerer) openZones(cfg Config) error {
	servers, err := nameServers(cfg.NameServers)
	if err != nil {
		return err
	}
	if len(cfg.Zones) == 0 || len(cfg.Zones) > maxZones {
		return invalid("", fmt.Sprintf("%d zones", len(cfg.Zones)), "Name the zones that the fleet answers for, up to a thousand.")
	}
	for _, text := range cfg.Zones {
		name, err := hostName(text)
		if err != nil {
			return err
		}
		if len("hostmaster."+name) > 254 {
			return invalid(text, "the name is too long", "")
		}
		a.zones[name] = &zone{name: name, owned: map[string][]netip.Addr{}}
	}
	for _, z := range a.zones {
		a.fill(z, servers)
	}
	for name, addrs := range servers {
		z := a.zoneOf(name)
		if z == nil {
			continue
		}
		if len(addrs) == 0 {
			return invalid(name, "a name server in a zone of its own has no address", "Give it the addresses of the nodes that answer.")
		}
		if name == z.name {
			return invalid(name, "a zone's own name is the PoPs', and no name server's", "Use one below it, such as ns1."+name)
		}
		z.owned[name] = addrs
		for _, up, _ := cutLabel(name); up != z.name; _, up, _ = cutLabel(up) {
			if _, ok := z.owned[up]; !ok {
				z.owned[up] = nil
			}
		}
	}
	return nil
}

// fill makes a zone's own records. Its serial number never changes, for nobody copies the zone.
func (a *Answerer) fill(z *zone, servers map[string][]netip.Addr) {
	names := make([]string, 0, len(servers))
	for name := range servers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		z.ns = append(z.ns, &dns.NS{Hdr: header(z.name, dns.TypeNS, serversTTL), Ns: name})
	}
	z.soa = &dns.SOA{Hdr: header(z.name, dns.TypeSOA, a.ttl), Ns: names[0], Mbox: "hostmaster." + z.name,
		Serial: 1, Refresh: 86400, Retry: 7200, Expire: 3600000, Minttl: a.ttl}
}

func header(name string, kind uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}

func nameServers(of map[string][]string) (map[string][]netip.Addr, error) {
	if len(of) == 0 || len(of) > maxNameServers {
		return nil, invalid("", fmt.Sprintf("%d name servers", len(of)), "Name one to eight, as the zones' parents have them.")
	}
	servers := map[string][]netip.Addr{}
	for text, addrs := range of {
		name, err := hostName(text)
		if err != nil {
			return nil, err
		}
		if len(addrs) > maxRecords/2 {
			return nil, invalid(text, "more than four addresses", "")
		}
		servers[name] = nil
		for _, s := range addrs {
			addr, err := netip.ParseAddr(s)
			if err != nil || addr.Zone() != "" {
				return nil, invalid(text, fmt.Sprintf("%.60q is no IP address", s), "")
			}
			servers[name] = append(servers[name], addr.Unmap())
		}
	}
	return servers, nil
}
