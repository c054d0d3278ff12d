package wedge

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"time"
)

// PoP is a place where Wedge answers clients.
type PoP struct {
	Name          string    `json:"name"` // short and unique in the fleet, such as fra1
	City          string    `json:"city,omitempty"`
	Lat           float64   `json:"lat"` // degrees north
	Lon           float64   `json:"lon"` // degrees east
	Tier          Tier      `json:"tier,omitempty"`
	Provider      string    `json:"provider,omitempty"`
	Jurisdictions []string  `json:"jurisdictions,omitempty"`
	Addresses     []string  `json:"addresses,omitempty"` // IP addresses where clients reach it, for DNS
	Ready         bool      `json:"ready,omitempty"`     // it serves, and is not about to stop; it says so itself
	Seen          time.Time `json:"seen,omitzero"`       // when it was last heard of

	Peer   string `json:"peer,omitempty" toml:"-"`   // host:port where other PoPs reach it; "": they do not
	Print  string `json:"print,omitempty" toml:"-"`  // SHA-256 of the certificate that it has there, in hex
	Signs  string `json:"signs,omitempty" toml:"-"`  // public ed25519 key of the tokens of sessions that it is home of, in hex
	Purged uint64 `json:"purged,omitempty" toml:"-"` // it has applied the log of purges up to this entry
}

// MaxPoPAddresses bounds a PoP's Addresses.
const MaxPoPAddresses = 8

// Tier says where in the pipeline a PoP is: core, metro or far.
type Tier string

// The tiers.
const (
	TierCore  Tier = "core"
	TierMetro Tier = "metro"
	TierFar   Tier = "far"
)

var popName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

// Check finds what is wrong with a PoP; the error is of kind Invalid.
func (p *PoP) Check() error {
	bad := func(why, hint string) error {
		return &Error{Op: "check PoP", What: p.Name, Kind: Invalid, Err: errors.New(why), Hint: hint}
	}
	switch {
	case !popName.MatchString(p.Name):
		return bad("not a name for a PoP", "Use up to 31 lower-case letters, digits and dashes, beginning with a letter, such as fra1.")
	case math.IsNaN(p.Lat) || p.Lat < -90 || p.Lat > 90:
		return bad("its latitude is not from -90 to 90", "")
	case math.IsNaN(p.Lon) || p.Lon < -180 || p.Lon > 180:
		return bad("its longitude is not from -180 to 180", "")
	case p.Tier != "" && p.Tier != TierCore && p.Tier != TierMetro && p.Tier != TierFar:
		return bad("no such tier: "+string(p.Tier), "Use core, metro or far.")
	case len(p.Addresses) > MaxPoPAddresses:
		return bad("it has more than eight addresses", "")
	case (p.Peer == "") != (p.Print == ""):
		return bad("an address for other PoPs and the print of a certificate go together", "")
	case p.Peer != "" && !isHostPort(p.Peer):
		return bad(fmt.Sprintf("%.60q is no address for other PoPs", p.Peer), "Write a host and a port, such as fra1.example:7674.")
	case p.Print != "" && !printForm.MatchString(p.Print):
		return bad("its print is not 64 hexadecimal digits", "")
	case p.Signs != "" && !printForm.MatchString(p.Signs):
		return bad("its key for sessions is not 64 hexadecimal digits", "")
	}
	for _, text := range p.Addresses {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.Is4In6() {
			return bad(fmt.Sprintf("%.60q is no address of a PoP", text), "Write an IP address where clients reach it, such as 192.0.2.1 or 2001:db8::1.")
		}
	}
	return nil
}

var printForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// isHostPort reports whether s is a host, which may be a name or an IP address that others can reach, and a port.
func isHostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || len(s) > 260 || !hostForm.MatchString(host) {
		return false
	}
	if a, err := netip.ParseAddr(host); err == nil && (a.IsUnspecified() || a.IsMulticast()) {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

var hostForm = regexp.MustCompile(`^[0-9A-Za-z.:_-]+$`)

// Distance returns how far two PoPs are from each other on the globe, in kilometres.
func (p *PoP) Distance(q *PoP) float64 {
	const radius, degree = 6371, math.Pi / 180
	sin := func(x float64) float64 { s := math.Sin(x * degree / 2); return s * s }
	a := sin(q.Lat-p.Lat) + math.Cos(p.Lat*degree)*math.Cos(q.Lat*degree)*sin(q.Lon-p.Lon)
	return 2 * radius * math.Asin(math.Sqrt(min(1, a)))
}
