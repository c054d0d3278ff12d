package backend

import (
	"context"
	"errors"
	"net/netip"
	"syscall"

	"github.com/wedge-cloud/wedge"
)

// Egress is a node's rules on what backends may reach.
type Egress struct {
	Allow []netip.Prefix // ranges that dynamic backends may reach although they are not public
	Deny  []netip.Prefix // ranges that no backend may reach, static ones included
}

var errEgress = errors.New("the egress rules refuse this address")

// check returns errEgress if b may not connect to addr. It is asked about the address that
// is about to be dialled, so a name that changes its mind between look-ups gains nothing.
func (e *Egress) check(addr netip.Addr, b *wedge.Backend) error {
	addr = addr.Unmap().WithZone("")
	inner := embedded(addr)
	if within(e.Deny, append(inner, addr)...) {
		return errEgress
	}
	if b.AllowPrivateAddr || e.allowed(addr, b) {
		return nil
	}
	for _, a := range inner {
		if !public(a) && !e.allowed(a, b) {
			return errEgress
		}
	}
	if !public(addr) {
		return errEgress
	}
	return nil
}

func (e *Egress) allowed(a netip.Addr, b *wedge.Backend) bool {
	return within(e.Allow, a) || within(b.Egress, a)
}

// control is for net.Dialer.ControlContext: it runs when the socket exists and its peer is
// decided, before connect(2).
func (e *Egress) control(b *wedge.Backend) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, _, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return errEgress
		}
		return e.check(ap.Addr(), b)
	}
}

// within reports whether any of addrs lies in one of list.
func within(list []netip.Prefix, addrs ...netip.Addr) bool {
	for _, p := range list {
		for _, a := range addrs {
			if p.Contains(a) {
				return true
			}
		}
	}
	return false
}

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

var (
	// notPublic4 follows the IANA IPv4 Special-Purpose Address Registry.
	notPublic4 = prefixes(
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8",
		"169.254.0.0/16", // link-local, and the metadata service of most clouds
		"172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
		"198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
		"168.63.129.16/32", // a public number, but Azure's host serves its guests there
	)
	// public6 is all of IPv6 that is given out for use on the Internet; what is not in
	// it (loopback, ULA, link-local, multicast, IPv4-compatible, ...) is not public.
	public6    = netip.MustParsePrefix("2000::/3")
	notPublic6 = prefixes("2001::/23", "2001:db8::/32", "3fff::/20") // 2001::/23 has Teredo
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour  = netip.MustParsePrefix("2002::/16")
)

func public(a netip.Addr) bool {
	if a.Is4() {
		return !within(notPublic4, a)
	}
	return nat64.Contains(a) || public6.Contains(a) && !within(notPublic6, a)
}

// embedded returns the IPv4 addresses that a carries and that traffic for it may end up
// at: NAT64 (RFC 6052), 6to4 (RFC 3056), ISATAP (RFC 5214). One address can carry two.
func embedded(a netip.Addr) (inner []netip.Addr) {
	if !a.Is6() {
		return nil
	}
	b := a.As16()
	isatap := b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe
	if nat64.Contains(a) || isatap {
		inner = append(inner, netip.AddrFrom4([4]byte(b[12:16])))
	}
	if sixToFour.Contains(a) {
		inner = append(inner, netip.AddrFrom4([4]byte(b[2:6])))
	}
	return inner
}
