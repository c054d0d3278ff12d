package dns

import (
	"hash/fnv"
	"net/netip"

	"github.com/wedge-cloud/wedge"
)

// Fleet is the PoPs to answer with, made ready to be chosen from. The zero value has none.
type Fleet struct {
	v4, v6 []site
	size   int
}

// site is a PoP with its addresses of one family.
type site struct {
	pop   wedge.PoP
	addrs []netip.Addr
}

// FleetOf returns these PoPs, without those that have no address.
func FleetOf(pops []wedge.PoP) *Fleet {
	f := &Fleet{}
	for _, p := range pops {
		var v4, v6 []netip.Addr
		for _, text := range p.Addresses {
			switch a, err := netip.ParseAddr(text); {
			case err != nil: // PoP.Check saw to that
			case a.Unmap().Is4():
				v4 = append(v4, a.Unmap())
			default:
				v6 = append(v6, a)
			}
		}
		if v4 != nil {
			f.v4 = append(f.v4, site{p, v4})
		}
		if v6 != nil {
			f.v6 = append(f.v6, site{p, v6})
		}
		if v4 != nil || v6 != nil {
			f.size++
		}
	}
	return f
}

// Size returns how many PoPs there are to answer with.
func (f *Fleet) Size() int { return f.size }

// near returns addresses of the n PoPs that are nearest to a client, of those that have some of the family, the nearest
// one's first. For a client of which nobody knows where it is, chance decides which PoPs are near; it decides the same for
// all of its network, at every node.
func (f *Fleet) near(c *client, v6 bool, n int) (addrs []netip.Addr) {
	sites := f.v4
	if v6 {
		sites = f.v6
	}
	type choice struct {
		far  float64
		site *site
	}
	best := make([]choice, 0, maxPoPs+1) // in order; n is small and sites may be thousands
	for i := range sites {
		s := &sites[i]
		d := c.far(&s.pop)
		at := len(best)
		for at > 0 && (d < best[at-1].far || d == best[at-1].far && s.pop.Name < best[at-1].site.pop.Name) {
			at--
		}
		if at == n {
			continue
		}
		best = append(best, choice{})
		copy(best[at+1:], best[at:])
		best[at] = choice{d, s}
		best = best[:min(n, len(best))]
	}
	for _, b := range best {
		addrs = append(addrs, b.site.addrs...)
	}
	return addrs[:min(maxRecords, len(addrs))]
}

// client is who asks, as far as that matters.
type client struct {
	net   netip.Prefix // all in it get the same answer
	place *wedge.PoP   // only its Lat and Lon count; nil: not known
}

// far returns what PoPs are compared by: kilometres, or chance.
func (c *client) far(p *wedge.PoP) float64 {
	if c.place != nil {
		return c.place.Distance(p)
	}
	h := fnv.New64a()
	b, _ := c.net.MarshalBinary()
	_, _ = h.Write(b)
	_, _ = h.Write([]byte(p.Name))
	x := h.Sum64() // names that differ in their last letter differ in few bits of it
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x)
}
