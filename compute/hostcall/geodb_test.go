package hostcall

import (
	"bytes"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"github.com/wedge-cloud/wedge"
)

// A small database, of addresses that documentation uses: one has everything, one what databases of one kind have, one little.
func geoFile(t testing.TB) []byte {
	w, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "Test-City", IncludeReservedNetworks: true, RecordSize: 24})
	if err != nil {
		t.Fatal(err)
	}
	names := func(en string) mmdbtype.Map {
		return mmdbtype.Map{"names": mmdbtype.Map{"en": mmdbtype.String(en), "fr": mmdbtype.String("?")}}
	}
	delft := mmdbtype.Map{
		"city": names("Delft"), "postal": mmdbtype.Map{"code": mmdbtype.String("2611")},
		"continent":    mmdbtype.Map{"code": mmdbtype.String("EU")},
		"country":      mmdbtype.Map{"iso_code": mmdbtype.String("NL"), "names": mmdbtype.Map{"en": mmdbtype.String("Netherlands")}},
		"subdivisions": mmdbtype.Slice{mmdbtype.Map{"iso_code": mmdbtype.String("ZH")}, mmdbtype.Map{"iso_code": mmdbtype.String("XX")}},
		"location":     mmdbtype.Map{"latitude": mmdbtype.Float64(52.01), "longitude": mmdbtype.Float64(4.36), "metro_code": mmdbtype.Uint16(7), "time_zone": mmdbtype.String("Europe/Amsterdam")},
		"traits": mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(64500), "autonomous_system_organization": mmdbtype.String("Example B.V."),
			"connection_type": mmdbtype.String("Cable/DSL"), "is_hosting_provider": mmdbtype.Bool(true)},
	}
	for prefix, record := range map[string]mmdbtype.Map{
		"198.51.100.0/24": delft, "2001:db8::/32": delft,
		"203.0.113.0/25":   {"autonomous_system_number": mmdbtype.Uint32(64501), "autonomous_system_organization": mmdbtype.String("AS only"), "is_tor_exit_node": mmdbtype.Bool(true), "connection_type": mmdbtype.String("Satellite")},
		"203.0.113.128/25": {"country": mmdbtype.Map{"iso_code": mmdbtype.String("IN")}, "location": mmdbtype.Map{"time_zone": mmdbtype.String("Asia/Kolkata")}},
		"192.0.2.0/24":     {"country": mmdbtype.Map{"iso_code": mmdbtype.String("not a code")}, "location": mmdbtype.Map{"time_zone": mmdbtype.String("../../etc/passwd")}},
	} {
		_, n, _ := net.ParseCIDR(prefix)
		if err := w.Insert(n, record); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const (
	geoDelft = `{"as_name":"Example B.V.","as_number":64500,"area_code":0,"city":"Delft","conn_speed":"broadband","conn_type":"wired","continent":"EU",` +
		`"country_code":"NL","country_code3":"NLD","country_name":"Netherlands","gmt_offset":200,"latitude":52.01,"longitude":4.36,"metro_code":7,"postal_code":"2611",` +
		`"proxy_description":"cloud","proxy_type":"hosting","region":"ZH","utc_offset":200}`
	geoAS = `{"as_name":"AS only","as_number":64501,"area_code":0,"city":"","conn_speed":"satellite","conn_type":"satellite","continent":"",` +
		`"country_code":"","country_code3":"","country_name":"","gmt_offset":0,"latitude":0,"longitude":0,"metro_code":0,"postal_code":"",` +
		`"proxy_description":"tor-exit","proxy_type":"anonymous","region":"","utc_offset":0}`
)

func TestGeoDatabase(t *testing.T) {
	db, err := OpenGeo(geoFile(t))
	if err != nil {
		t.Fatal(err)
	}
	v := &wedge.Version{GeoLoopback: true, Geo: map[netip.Addr]json.RawMessage{netip.MustParseAddr("198.51.100.9"): json.RawMessage(`{"city":"own"}`)}}
	b := stNew(t, v)
	b.sb.Host.Geo = db
	b.sb.Host.Now = func() time.Time { return time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC) } // summer
	look := func(addr string) string {
		t.Helper()
		o, buf := b.out4(), b.buf(1000)
		b.want(0, "fastly_geo", "lookup", netip.MustParseAddr(addr).AsSlice(), buf, o)
		return b.text(buf, o)
	}
	for addr, want := range map[string]string{
		"198.51.100.7": geoDelft, "::ffff:198.51.100.7": geoDelft, "2001:db8::1": geoDelft, "203.0.113.1": geoAS,
		"198.51.100.9": `{"city":"own"}`, "127.0.0.1": geoLoopback, "8.8.8.8": "", "2001:db9::1": "",
	} {
		if got := look(addr); got != want {
			t.Errorf("%s: %s", addr, got)
		}
	}
	var r geoRecord
	if err := json.Unmarshal([]byte(look("203.0.113.200")), &r); err != nil || r.CountryCode3 != "IND" || r.UTCOffset != 530 || r.ConnSpeed != "?" || r.ProxyType != "?" {
		t.Errorf("%+v", r)
	}
	if err := json.Unmarshal([]byte(look("192.0.2.1")), &r); err != nil || r.CountryCode3 != "" || r.UTCOffset != 0 {
		t.Errorf("%+v", r)
	}
	if n := db.offset("America/St_Johns", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)); n != -330 {
		t.Errorf("Newfoundland in winter: %d", n)
	}
}

func TestGeoDatabaseIsNone(t *testing.T) {
	for _, b := range [][]byte{nil, []byte("no database"), geoFile(t)[:100]} {
		if _, err := OpenGeo(b); wedge.KindOf(err) != wedge.Invalid || err == nil {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
}

// TestSampleDatabase sees that the sample's database is one; -update makes it.
func TestSampleDatabase(t *testing.T) {
	const file = "../../manifest/testdata/sample/data/places.mmdb"
	if *updateDoc {
		if err := os.WriteFile(file, geoFile(t), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	db, err := OpenGeo(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := db.Record(netip.MustParseAddr("2001:db8::1"), time.Now()); !ok {
		t.Error("the sample's database does not have the address that it should")
	}
}

// FuzzGeoDatabase opens what may be no database, and looks addresses up in it.
func FuzzGeoDatabase(f *testing.F) {
	f.Add(geoFile(f), []byte{198, 51, 100, 7})
	f.Fuzz(func(t *testing.T, file, addr []byte) {
		db, err := OpenGeo(file)
		if err != nil {
			return
		}
		if a, ok := netip.AddrFromSlice(addr); ok {
			db.Record(a.Unmap(), time.Unix(0, 0))
		}
	})
}

func BenchmarkGeoDatabase(b *testing.B) {
	db, err := OpenGeo(geoFile(b))
	if err != nil {
		b.Fatal(err)
	}
	addr, now := netip.MustParseAddr("198.51.100.7"), time.Now()
	for b.Loop() {
		db.Record(addr, now)
	}
}
