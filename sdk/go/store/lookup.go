package store

import (
	"context"
	"io"
	"io/fs"
	"strconv"

	"github.com/wedge-cloud/wedge/sdk/go/internal/abi"
	"github.com/wedge-cloud/wedge/sdk/go/internal/host"
	"github.com/wedge-cloud/wedge/sdk/go/internal/jsonscan"
)

// ACL is an access list: actions for ranges of addresses.
type ACL struct {
	name string
	h    abi.Handle
}

// OpenACL opens the access list that the service binds under name.
func OpenACL(name string) (*ACL, error) {
	a := &ACL{name: name}
	return a, fail("open acl", name, abi.ACLOpen(name, &a.h), abi.None)
}

// Match is the most specific entry of an access list for an address.
type Match struct {
	Prefix string // "192.168.0.0/16"
	Action string // "ALLOW" or "BLOCK"
}

// Lookup returns the entry for an address of 4 or 16 bytes; the error matches
// fs.ErrNotExist if there is none.
func (a *ACL) Lookup(ip []byte) (*Match, error) {
	body := abi.Invalid
	var code uint32
	if len(ip) == 0 {
		return nil, &Error{"look up address", a.name, fs.ErrInvalid}
	}
	if err := fail("look up address", a.name, abi.ACLLookup(a.h, &ip[0], uint32(len(ip)), &body, &code)); err != nil {
		return nil, err
	}
	switch code {
	case 1:
	case 2:
		return nil, &Error{"look up address", a.name, fs.ErrNotExist}
	case 3:
		return nil, &Error{"look up address", a.name, ErrTooMany}
	default:
		return nil, &Error{"look up address", a.name, storeCode(code)}
	}
	b := &host.Body{H: body, Ctx: context.Background()}
	defer b.Close()
	text, err := io.ReadAll(b)
	if err != nil {
		return nil, &Error{"look up address", a.name, err}
	}
	m := &Match{}
	err = jsonscan.Scan(text, func(path, value string) {
		switch path {
		case "prefix":
			m.Prefix = value
		case "action":
			m.Action = value
		}
	})
	if err != nil {
		return nil, &Error{"look up address", a.name, err}
	}
	return m, nil
}

// Place is what is known of where an address is and whose it is. Empty fields are not known.
type Place struct {
	City, Region, Country    string // Country: two letters; Region: ISO 3166-2 without the country
	CountryCode3, Name       string // three letters; the country's name in English
	Continent, PostalCode    string
	Latitude, Longitude      float64 // degrees
	MetroCode, AreaCode      int
	UTCOffset                int // hours and minutes as a decimal number: -800 is eight hours behind
	ASNumber                 int
	ASName                   string
	ConnSpeed, ConnType      string
	ProxyType, ProxyDescribe string
}

// Geo returns what is known of an address of 4 or 16 bytes; the error matches
// fs.ErrNotExist if that is nothing.
func Geo(ip []byte) (*Place, error) {
	if len(ip) == 0 {
		return nil, &Error{"locate", "address", fs.ErrInvalid}
	}
	text, err := lookup("locate", "address", func(buf *byte, bufLen uint32, n *uint32) abi.Status {
		return abi.GeoLookup(&ip[0], uint32(len(ip)), buf, bufLen, n)
	})
	if err == nil && len(text) == 0 {
		err = &Error{"locate", "address", fs.ErrNotExist}
	}
	if err != nil {
		return nil, err
	}
	p := &Place{}
	if err := jsonscan.Scan(text, p.set); err != nil {
		return nil, &Error{"locate", "address", err}
	}
	return p, nil
}

func (p *Place) set(path, value string) {
	switch path {
	case "city":
		p.City = value
	case "region":
		p.Region = value
	case "country_code":
		p.Country = value
	case "country_code3":
		p.CountryCode3 = value
	case "country_name":
		p.Name = value
	case "continent":
		p.Continent = value
	case "postal_code":
		p.PostalCode = value
	case "as_name":
		p.ASName = value
	case "conn_speed":
		p.ConnSpeed = value
	case "conn_type":
		p.ConnType = value
	case "proxy_type":
		p.ProxyType = value
	case "proxy_description":
		p.ProxyDescribe = value
	case "latitude":
		p.Latitude, _ = strconv.ParseFloat(value, 64)
	case "longitude":
		p.Longitude, _ = strconv.ParseFloat(value, 64)
	case "metro_code":
		p.MetroCode, _ = strconv.Atoi(value)
	case "area_code":
		p.AreaCode, _ = strconv.Atoi(value)
	case "utc_offset":
		p.UTCOffset, _ = strconv.Atoi(value)
	case "as_number":
		p.ASNumber, _ = strconv.Atoi(value)
	}
}

// DeviceInfo is what a user agent string says of the client's device.
type DeviceInfo struct {
	Name, Brand, Model, HardwareType  string
	Mobile, Tablet, Desktop, Bot      bool
	SmartTV, TVPlayer, GameConsole    bool
	EReader, MediaPlayer, TouchScreen bool
}

// Device returns what is known of a user agent; the error matches fs.ErrNotExist if that is nothing.
func Device(userAgent string) (*DeviceInfo, error) {
	text, err := lookup("detect", "device", func(buf *byte, bufLen uint32, n *uint32) abi.Status {
		return abi.DeviceLookup(userAgent, buf, bufLen, n)
	})
	if err == nil && len(text) == 0 {
		err = &Error{"detect", "device", fs.ErrNotExist}
	}
	if err != nil {
		return nil, err
	}
	d := &DeviceInfo{}
	if err := jsonscan.Scan(text, d.set); err != nil {
		return nil, &Error{"detect", "device", err}
	}
	return d, nil
}

func (d *DeviceInfo) set(path, value string) {
	is := value == "true"
	switch path {
	case "device.name":
		d.Name = value
	case "device.brand":
		d.Brand = value
	case "device.model":
		d.Model = value
	case "device.hwtype":
		d.HardwareType = value
	case "device.is_mobile":
		d.Mobile = is
	case "device.is_tablet":
		d.Tablet = is
	case "device.is_desktop":
		d.Desktop = is
	case "device.is_bot":
		d.Bot = is
	case "device.is_smarttv":
		d.SmartTV = is
	case "device.is_tvplayer":
		d.TVPlayer = is
	case "device.is_gameconsole":
		d.GameConsole = is
	case "device.is_ereader":
		d.EReader = is
	case "device.is_mediaplayer":
		d.MediaPlayer = is
	case "device.is_touchscreen":
		d.TouchScreen = is
	}
}
