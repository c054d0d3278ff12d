package wedge

import (
	"slices"
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
