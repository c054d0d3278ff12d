package hostcall

import (
	"bytes"
	"encoding/json"

	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

var geo = calls{"lookup": geoLookup}

// geoLoopback is what a version with GeoLoopback is told of 127.0.0.1 and ::1, so that a
// guest under development sees a record of the usual shape.
const geoLoopback = `{"as_name":"Fastly, Inc","as_number":54113,"area_code":415,"city":"San Francisco",` +
	`"conn_speed":"broadband","conn_type":"wired","continent":"NA","country_code":"US","country_code3":"USA",` +
	`"country_name":"United States of America","gmt_offset":-700,"latitude":37.77869,"longitude":-122.39557,` +
	`"metro_code":0,"postal_code":"94107","proxy_description":"?","proxy_type":"?","region":"CA","utc_offset":-700}`

// geoLookup gives an unknown address an empty record. What the version says itself counts more than its database.
func geoLookup(c *compute.Call) abi.Status {
	addr := addrArg(c, 0)
	v := c.Sandbox.Host.Version
	record := string(v.Geo[addr])
	if db := c.Sandbox.Host.Geo; record == "" && db != nil {
		b, _ := db.Record(addr, c.Sandbox.Host.Now())
		record = string(b)
	}
	if record == "" && v.GeoLoopback && addr.IsLoopback() {
		record = geoLoopback
	}
	return c.PutBuf(2, 4, record)
}

// marshal returns v as JSON; v is of a type of this package's choice that cannot fail.
func marshal(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("hostcall: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
