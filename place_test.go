package wedge

import (
	"slices"
	"strings"
	"testing"
)

// TestPoPAddresses: what a PoP says of its addresses goes into DNS answers, so nothing else gets through.
func TestPoPAddresses(t *testing.T) {
	for text, good := range map[string]bool{
		"192.0.2.1": true, "2001:db8::1": true, "127.0.0.1": true,
		"": false, "fra1.example": false, "192.0.2.1:80": false, "192.0.2.0/24": false, "0.0.0.0": false, "::": false,
		"224.0.0.1": false, "ff02::1": false, "fe80::1%eth0": false, "::ffff:192.0.2.1": false, "192.0.2.01": false,
	} {
		p := PoP{Name: "fra1", Addresses: []string{"192.0.2.7", text}}
		if err := p.Check(); (err == nil) != good || err != nil && KindOf(err) != Invalid {
			t.Errorf("%q: %v", text, err)
		}
	}
	for n, good := range map[int]bool{0: true, MaxPoPAddresses: true, MaxPoPAddresses + 1: false} {
		p := PoP{Name: "fra1", Addresses: slices.Repeat([]string{"192.0.2.1"}, n)}
		if err := p.Check(); (err == nil) != good {
			t.Errorf("%d: %v", n, err)
		}
	}
}

// TestPoPPeer: what a PoP says of how others reach it is dialed, so nothing else gets through.
func TestPoPPeer(t *testing.T) {
	print := strings.Repeat("0a", 32)
	for addr, good := range map[string]bool{
		"fra1.example:7674": true, "192.0.2.1:7674": true, "[2001:db8::1]:1": true, "127.0.0.1:65535": true,
		"fra1.example": false, ":7674": false, "fra1.example:": false, "fra1.example:0": false, "fra1.example:65536": false, "fra1.example:http": false,
		"0.0.0.0:7674": false, "[::]:7674": false, "[ff02::1]:1": false, "a b:1": false, "a/b:1": false, "a@b:1": false, "[fe80::1%eth0]:1": false,
		strings.Repeat("a", 300) + ":1": false,
	} {
		p := PoP{Name: "fra1", Peer: addr, Print: print}
		if err := p.Check(); (err == nil) != good || err != nil && KindOf(err) != Invalid {
			t.Errorf("%q: %v", addr, err)
		}
	}
	for _, p := range []PoP{{Peer: "a:1"}, {Print: print}, {Peer: "a:1", Print: print[1:]}, {Peer: "a:1", Print: strings.ToUpper(print)}} {
		if p.Name = "fra1"; p.Check() == nil {
			t.Errorf("%+v", p)
		}
	}
}
