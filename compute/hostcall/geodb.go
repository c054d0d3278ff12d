package hostcall

import (
	"net/netip"
	"sync"
	"time"
	_ "time/tzdata" // a machine need not have the time zones

	"github.com/oschwald/maxminddb-golang/v2"
	"golang.org/x/text/language"

	"github.com/wedge-cloud/wedge"
)

// GeoDatabase is a database in MaxMind's format, with records like those of GeoIP2 City, ASN, Connection Type and
// Anonymous IP, or all of these in one.
type GeoDatabase struct {
	db    *maxminddb.Reader
	zones sync.Map // *time.Location by name, of those that there are
}

// OpenGeo opens a database; b must not change afterwards. The error is of kind Invalid.
func OpenGeo(b []byte) (*GeoDatabase, error) {
	db, err := maxminddb.OpenBytes(b)
	if err != nil {
		return nil, &wedge.Error{Op: "open geolocation database", Kind: wedge.Invalid, Err: err, Hint: "It is a file in MaxMind's format, by the name of something.mmdb."}
	}
	return &GeoDatabase{db: db}, nil
}

// Record returns what is known of an address at that time, as the ABI's JSON (section 7.6). ok is false if nothing is.
func (g *GeoDatabase) Record(addr netip.Addr, now time.Time) (record []byte, ok bool) {
	found := g.db.Lookup(addr)
	if !found.Found() {
		return nil, false
	}
	var m maxmindRecord
	if err := found.Decode(&m); err != nil {
		return nil, false
	}
	return marshal(g.describe(&m, now)), true
}

// maxmindRecord is what is read of a record. Databases of one kind have at the top what others have in traits.
type maxmindRecord struct {
	City         place    `maxminddb:"city"`
	Country      place    `maxminddb:"country"`
	Continent    place    `maxminddb:"continent"`
	Subdivisions []place  `maxminddb:"subdivisions"`
	Postal       place    `maxminddb:"postal"`
	Location     location `maxminddb:"location"`
	Traits       traits   `maxminddb:"traits"`

	ASN        uint   `maxminddb:"autonomous_system_number"`
	ASName     string `maxminddb:"autonomous_system_organization"`
	Connection string `maxminddb:"connection_type"`
	VPN        bool   `maxminddb:"is_anonymous_vpn"`
	Tor        bool   `maxminddb:"is_tor_exit_node"`
	Hosting    bool   `maxminddb:"is_hosting_provider"`
	Public     bool   `maxminddb:"is_public_proxy"`
}

type place struct {
	Code    string `maxminddb:"code"`
	ISOCode string `maxminddb:"iso_code"`
	Names   struct {
		English string `maxminddb:"en"`
	} `maxminddb:"names"`
}

type location struct {
	Latitude  float64 `maxminddb:"latitude"`
	Longitude float64 `maxminddb:"longitude"`
	Metro     uint    `maxminddb:"metro_code"`
	Zone      string  `maxminddb:"time_zone"`
}

type traits struct {
	ASN        uint   `maxminddb:"autonomous_system_number"`
	ASName     string `maxminddb:"autonomous_system_organization"`
	Connection string `maxminddb:"connection_type"`
	VPN        bool   `maxminddb:"is_anonymous_vpn"`
	Tor        bool   `maxminddb:"is_tor_exit_node"`
	Hosting    bool   `maxminddb:"is_hosting_provider"`
	Public     bool   `maxminddb:"is_public_proxy"`
}

// traits returns those of the record, wherever they are.
func (m *maxmindRecord) traits() traits {
	top := traits{m.ASN, m.ASName, m.Connection, m.VPN, m.Tor, m.Hosting, m.Public}
	if m.Traits == (traits{}) {
		return top
	}
	return m.Traits
}

// A geoRecord is the JSON that SDKs read.
type geoRecord struct {
	ASName           string  `json:"as_name"`
	ASNumber         uint    `json:"as_number"`
	AreaCode         int     `json:"area_code"` // no database has had it for years
	City             string  `json:"city"`
	ConnSpeed        string  `json:"conn_speed"`
	ConnType         string  `json:"conn_type"`
	Continent        string  `json:"continent"`
	CountryCode      string  `json:"country_code"`
	CountryCode3     string  `json:"country_code3"`
	CountryName      string  `json:"country_name"`
	GMTOffset        int     `json:"gmt_offset"` // hours times 100, plus minutes
	Latitude         float64 `json:"latitude"`
	Longitude        float64 `json:"longitude"`
	MetroCode        uint    `json:"metro_code"`
	PostalCode       string  `json:"postal_code"`
	ProxyDescription string  `json:"proxy_description"`
	ProxyType        string  `json:"proxy_type"`
	Region           string  `json:"region"`
	UTCOffset        int     `json:"utc_offset"` // as gmt_offset
}

func (g *GeoDatabase) describe(m *maxmindRecord, now time.Time) geoRecord {
	t := m.traits()
	r := geoRecord{
		ASName: t.ASName, ASNumber: t.ASN, City: m.City.Names.English, Continent: m.Continent.Code, CountryCode: m.Country.ISOCode,
		CountryCode3: threeLetters(m.Country.ISOCode), CountryName: m.Country.Names.English, Latitude: m.Location.Latitude, Longitude: m.Location.Longitude,
		MetroCode: m.Location.Metro, PostalCode: m.Postal.Code, UTCOffset: g.offset(m.Location.Zone, now),
	}
	if len(m.Subdivisions) > 0 {
		r.Region = m.Subdivisions[0].ISOCode
	}
	r.GMTOffset = r.UTCOffset
	r.ConnSpeed, r.ConnType = connection(t.Connection)
	r.ProxyType, r.ProxyDescription = proxy(t)
	return r
}

// threeLetters returns the ISO 3166 code of three letters for one of two.
func threeLetters(code string) string {
	r, err := language.ParseRegion(code)
	if err != nil || len(code) != 2 {
		return ""
	}
	return r.ISO3()
}

// offset returns how far a time zone is from UTC at that time, -330 for three and a half hours west; 0 if it is not known.
func (g *GeoDatabase) offset(zone string, now time.Time) int {
	at, _ := g.zones.Load(zone)
	if at == nil {
		l, err := time.LoadLocation(zone)
		if err != nil {
			return 0
		}
		g.zones.Store(zone, l)
		at = l
	}
	_, secs := now.In(at.(*time.Location)).Zone()
	return secs/3600*100 + secs%3600/60
}

// unknownGeo is how the ABI writes that a word is not known.
const unknownGeo = "?"

// connection puts MaxMind's words for a connection into the ABI's.
func connection(c string) (speed, kind string) {
	switch c {
	case "Cable/DSL":
		return "broadband", "wired"
	case "Corporate":
		return "t1", "wired"
	case "Cellular":
		return "mobile", "mobile"
	case "Dialup":
		return "dialup", "dialup"
	case "Satellite":
		return "satellite", "satellite"
	}
	return unknownGeo, unknownGeo
}

func proxy(t traits) (kind, description string) {
	switch {
	case t.Tor:
		return "anonymous", "tor-exit"
	case t.VPN:
		return "anonymous", "vpn"
	case t.Hosting:
		return "hosting", "cloud"
	case t.Public:
		return "public", unknownGeo
	}
	return unknownGeo, unknownGeo
}
