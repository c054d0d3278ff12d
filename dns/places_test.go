package dns

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// database is a file in MaxMind's format (version 2.0): the first half of all IPv4 addresses is at a place, of
// 128.0.0.0/2 there is a record without one, of the rest nothing.
func database(lat, lon float64) []byte {
	text := func(s string) []byte { return append([]byte{2<<5 | byte(len(s))}, s...) }
	number := func(kind byte, v uint32) []byte {
		return append([]byte{kind<<5 | 4}, binary.BigEndian.AppendUint32(nil, v)...)
	}
	short := func(v uint16) []byte { return append([]byte{5<<5 | 2}, binary.BigEndian.AppendUint16(nil, v)...) }
	double := func(v float64) []byte {
		return append([]byte{3<<5 | 8}, binary.BigEndian.AppendUint64(nil, math.Float64bits(v))...)
	}
	dict := func(pairs ...[]byte) []byte {
		return append([]byte{7<<5 | byte(len(pairs)/2)}, slices.Concat(pairs...)...)
	}

	nowhere := dict()
	data := slices.Concat(nowhere, dict(text("location"), dict(text("latitude"), double(lat), text("longitude"), double(lon))))
	const nodes, gap = 2, 16
	record := func(v int) []byte { return []byte{byte(v >> 16), byte(v >> 8), byte(v)} }
	tree := slices.Concat(record(nodes+gap+len(nowhere)), record(1), record(nodes+gap), record(nodes))
	meta := dict(text("binary_format_major_version"), short(2), text("binary_format_minor_version"), short(0), text("build_epoch"), []byte{1, 2, 1},
		text("database_type"), text("Test-City"), text("description"), dict(), text("ip_version"), short(4), text("languages"), []byte{0, 4},
		text("node_count"), number(6, nodes), text("record_size"), short(24))
	return slices.Concat(tree, make([]byte, gap), data, []byte("\xab\xcd\xefMaxMind.com"), meta)
}

// TestDatabase: what the node file says comes first, then the database; what neither knows is somewhere.
func TestDatabase(t *testing.T) {
	file := filepath.Join(t.TempDir(), "places.mmdb")
	if err := os.WriteFile(file, database(35.7, 139.7), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := openPlaces(config().Subnets, file)
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"9.9.9.9":      "8.0.0.0/7 139.7", // up to where the subnets begin
		"100.1.2.3":    "64.0.0.0/2 139.7",
		"10.1.2.3":     "10.0.0.0/12 2.4",
		"130.1.2.3":    "130.1.2.0/24 ?",
		"200.1.2.3":    "200.1.2.0/24 ?",
		"2001:db8:b::": "2001:db8:b::/56 ?",
	} {
		c := p.find(netip.MustParseAddr(addr))
		if got := placed(c); got != want {
			t.Errorf("%s: %s, not %s", addr, got, want)
		}
	}
}

func placed(c *client) string {
	if c.place == nil {
		return c.net.String() + " ?"
	}
	return c.net.String() + " " + strconv.FormatFloat(c.place.Lon, 'g', -1, 64)
}

// FuzzDatabase: a damaged database knows less, and that is all.
func FuzzDatabase(f *testing.F) {
	good := database(1, 2)
	f.Add(good, uint32(1))
	f.Add(bytes.Replace(good, []byte("latitude"), []byte("latitudo"), 1), uint32(1))
	f.Add(database(1000, math.NaN()), uint32(1<<31))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte, addr uint32) {
		file := filepath.Join(dir, "places.mmdb")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := openPlaces(nil, file)
		if err != nil {
			return
		}
		for _, a := range []netip.Addr{netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, addr))), netip.MustParseAddr("2001:db8::1")} {
			c := p.find(a)
			if !c.net.Contains(a) || c.place != nil && (!(math.Abs(c.place.Lat) <= 90) || !(math.Abs(c.place.Lon) <= 180)) {
				t.Fatal(placed(c))
			}
		}
	})
}
