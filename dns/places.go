package dns

import (
	"errors"
	"io"
	"net/netip"
	"os"

	"github.com/oschwald/maxminddb-golang/v2"

	"github.com/wedge-cloud/wedge"
)

// Subnet says where the clients of a network are.
type Subnet struct {
	Net      netip.Prefix
	Lat, Lon float64 // degrees north and east
}

// Bounds of what places are known from.
const (
	maxSubnets  = 1000 // all are looked at for each answer
	maxDatabase = 1 << 30
)

// Networks of which nothing is known are told apart by so many bits, which are also what resolvers send of a client's address
// (RFC 7871, section 11.1).
const (
	blindBits4 = 24
	blindBits6 = 56
)

// places knows where addresses are.
type places struct {
	subnets []Subnet
	base    *maxminddb.Reader // nil: none
}

func openPlaces(subnets []Subnet, file string) (*places, error) {
	if len(subnets) > maxSubnets {
		return nil, invalid("", "more than a thousand subnets", "Use a database.")
	}
	p := &places{}
	for _, s := range subnets {
		at := wedge.PoP{Name: "x", Lat: s.Lat, Lon: s.Lon}
		if err := at.Check(); err != nil || !s.Net.IsValid() || s.Net.Addr().Is4In6() {
			return nil, invalid(s.Net.String(), "not a subnet with a place", "Write an IP network, its latitude from -90 to 90 and its longitude from -180 to 180.")
		}
		s.Net = s.Net.Masked()
		p.subnets = append(p.subnets, s)
	}
	if file == "" {
		return p, nil
	}
	fail := func(kind wedge.Kind, err error) (*places, error) {
		return nil, &wedge.Error{Op: "open database of places", What: file, Kind: kind, Err: err, Hint: "It is to be a file in MaxMind's format (.mmdb) with locations, such as GeoLite2-City."}
	}
	text, err := readFile(file)
	if err != nil {
		return fail(wedge.Unavailable, err)
	}
	if p.base, err = maxminddb.OpenBytes(text); err != nil {
		return fail(wedge.Invalid, err)
	}
	return p, nil
}

// readFile reads a database into memory: of a mapped file that somebody makes shorter, a look would end the process.
func readFile(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxDatabase+1))
	if err == nil && len(b) > maxDatabase {
		err = errors.New("larger than a GiB")
	}
	return b, err
}

// find returns where an address is, and the widest network around it that gets the same answer.
func (p *places) find(addr netip.Addr) *client {
	c := &client{}
	bits, known := 0, -1 // how long the prefix of the answer's network, and of the subnet's that says where it is
	for i := range p.subnets {
		s := &p.subnets[i]
		switch {
		case s.Net.Addr().Is4() != addr.Is4():
		case !s.Net.Contains(addr): // its clients are to get another answer
			bits = max(bits, common(s.Net.Addr(), addr)+1)
		case s.Net.Bits() > known:
			known, c.place = s.Net.Bits(), &wedge.PoP{Lat: s.Lat, Lon: s.Lon}
		}
	}
	bits = max(bits, known)
	if c.place == nil && p.base != nil {
		place, wide := p.look(addr)
		c.place, bits = place, max(bits, wide)
	}
	switch {
	case c.place != nil:
	case addr.Is4():
		bits = max(bits, blindBits4)
	default:
		bits = max(bits, blindBits6)
	}
	c.net = netip.PrefixFrom(addr, bits).Masked()
	return c
}

// look asks the database. What is damaged in it is not known.
func (p *places) look(addr netip.Addr) (at *wedge.PoP, bits int) {
	r := p.base.Lookup(addr)
	if net := r.Prefix(); net.IsValid() && net.Addr().Is4() == addr.Is4() {
		bits = net.Bits()
	}
	var record struct {
		Location struct {
			Lat *float64 `maxminddb:"latitude"`
			Lon *float64 `maxminddb:"longitude"`
		} `maxminddb:"location"`
	}
	if !r.Found() || r.Decode(&record) != nil || record.Location.Lat == nil || record.Location.Lon == nil {
		return nil, bits
	}
	place := wedge.PoP{Name: "x", Lat: *record.Location.Lat, Lon: *record.Location.Lon}
	if place.Check() != nil {
		return nil, bits
	}
	return &place, bits
}

// common returns how many bits two addresses of a family begin with that are the same.
func common(a, b netip.Addr) (n int) {
	x, y := a.AsSlice(), b.AsSlice()
	for i := range x {
		for bit := byte(0x80); bit > 0; bit >>= 1 {
			if (x[i]^y[i])&bit != 0 {
				return n
			}
			n++
		}
	}
	return n
}
