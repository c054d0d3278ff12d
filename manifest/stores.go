package manifest

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/wedge-cloud/wedge"
)

// Limits of names, keys and values, those of Fastly's stores.
const (
	maxName = 255 // bytes of a backend's, store's or secret's name
)

// checkName reports a name that could not be shown or sent.
func (v value) checkName(name string) bool {
	if name == "" || len(name) > maxName || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		v.fail("A name has 1 to 255 bytes and no control characters.", "bad name")
		return false
	}
	return true
}

// configStore reads a flat table of strings.
func configStore(t *table) map[string]string {
	store := map[string]string{}
	t.entries(func(key string, v value) {
		s, ok := v.str()
		if !ok {
			return
		}
		if n := utf8.RuneCountInString(key); n == 0 || n > wedge.MaxConfigKey {
			v.fail("A key of a config store has 1 to 256 characters.", "the key has %d", n)
		}
		if n := utf8.RuneCountInString(s); n > wedge.MaxConfigValue {
			v.fail("A value of a config store has at most 8,000 characters; put larger ones in a KV store.", "the value has %d", n)
		}
		store[key] = s
	})
	return store
}

// badKVKey says what is wrong with a key of a KV store, or "".
func badKVKey(key string) string {
	switch {
	case key == "" || len(key) > wedge.MaxKVKey:
		return "a key has 1 to 1,024 bytes"
	case !utf8.ValidString(key):
		return "a key is UTF-8"
	case strings.HasPrefix(key, ".well-known/acme-challenge"):
		return "a key does not begin with .well-known/acme-challenge"
	case strings.ContainsAny(key, "\r\n#;?^|"):
		return "a key has none of CR LF # ; ? ^ |"
	}
	for _, part := range strings.Split(key, "/") {
		if part == "." || part == ".." {
			return "a key has no . or .. between slashes"
		}
	}
	return ""
}

// seed checks a KV seed and adds it to seeds.
func (v value) seed(seeds []wedge.KVSeed, s wedge.KVSeed) []wedge.KVSeed {
	if why := badKVKey(s.Key); why != "" {
		v.fail("Rename the key: "+why+".", "key %q cannot be used", s.Key)
	}
	if len(s.Value) > wedge.MaxKVValue {
		v.fail("A value has at most 30 MiB.", "the value has %d bytes", len(s.Value))
	}
	if len(s.Metadata) > wedge.MaxKVMetadata {
		v.fail("Metadata has at most 2,000 bytes.", "the metadata has %d", len(s.Metadata))
	}
	if v.d.r.seeds += int64(len(s.Value)); v.d.r.seeds > maxSeeds {
		v.fail("Write large data to the running service instead.", "the seeds of all KV stores have more than %d bytes", maxSeeds)
		return nil
	}
	return append(seeds, s)
}

// secretFrom reads a secret from the value of the key file, env or inline of table t,
// exactly one of which must be there.
func secretFrom(t *table, inline string) (secret wedge.Secret, ok bool) {
	var given []value
	for _, key := range []string{"env", "file", inline} {
		if v, there := t.get(key); there {
			given = append(given, v)
		}
	}
	if len(given) != 1 {
		t.fail("Say where the secret is with one of env, file and "+inline+".", "%d sources, 1 is needed", len(given))
		return nil, false
	}
	v := given[0]
	switch {
	case t.has("env"):
		secret, ok = v.secretEnv()
	case t.has("file"):
		secret, ok = v.file(wedge.MaxSecret)
	default:
		var s string
		s, ok = v.str()
		secret = wedge.Secret(s)
	}
	if ok && (len(secret) == 0 || len(secret) > wedge.MaxSecret) {
		v.fail("A secret has 1 to 65,536 bytes.", "the secret has %d", len(secret))
		ok = false
	}
	return secret, ok
}

func (v value) secretEnv() (wedge.Secret, bool) {
	name, ok := v.str()
	if !ok {
		return nil, false
	}
	s, ok := os.LookupEnv(name)
	if !ok {
		v.fail("Set it before the start: export "+name+"=...", "environment variable %s is not set", name)
	}
	return wedge.Secret(s), ok
}

// checkSecretName follows the rule of Fastly's secret stores.
func (v value) checkSecretName(name string) {
	bad := strings.ContainsFunc(name, func(r rune) bool {
		return !(r == '_' || r == '.' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	})
	if bad || name == "" || len(name) > maxName {
		v.fail("A secret's name has 1 to 255 of A-Z a-z 0-9 _ . -", "bad secret name %q", name)
	}
}

// aclAction reads ALLOW or BLOCK.
func (v value) aclAction() string {
	s, ok := v.str()
	if ok && s != "ALLOW" && s != "BLOCK" {
		v.fail(`Write "ALLOW" or "BLOCK".`, "unknown action %q", s)
	}
	return s
}

// aclFile reads an ACL as Fastly's API takes it: {"entries":[{"op","prefix","action"}]}.
func aclFile(t *table) []wedge.ACLEntry {
	acl := []wedge.ACLEntry{}
	entries, ok := t.get("entries")
	if !ok {
		t.fail(`Write {"entries":[{"op":"create","prefix":"10.0.0.0/8","action":"BLOCK"}]}.`, "no entries")
		return acl
	}
	list, _ := entries.list()
	for _, v := range list {
		e, ok := v.table()
		if !ok {
			continue
		}
		if op := e.str("op"); op != "" && op != "create" && op != "update" {
			v.fail(`Write "op": "create".`, "unknown op %q", op)
		}
		prefix, _ := e.get("prefix")
		action, _ := e.get("action")
		acl = addACL(acl, prefix, action)
		e.done()
	}
	t.done()
	return acl
}

func addACL(acl []wedge.ACLEntry, prefix, action value) []wedge.ACLEntry {
	s, ok := prefix.str()
	if !ok {
		return acl
	}
	if p, ok := prefix.prefix(s); ok {
		acl = append(acl, wedge.ACLEntry{Prefix: p, Action: action.aclAction()})
	}
	return acl
}

// geoKeys are those of a geolocation record (ABI section 7.6).
var geoKeys = strings.Fields(`as_name as_number area_code city conn_speed conn_type continent country_code
	country_code3 country_name gmt_offset latitude longitude metro_code postal_code proxy_description
	proxy_type region utc_offset`)

// geoRecord adds the record for one address to the version. Unknown keys are kept, since
// guests may read them, but warned about, since they are mostly misspelt.
func geoRecord(ver *wedge.Version, addr string, v value) {
	ip, err := netip.ParseAddr(addr)
	if err != nil || ip.Zone() != "" {
		v.fail("Give a single IPv4 or IPv6 address.", "%q is not an address", addr)
		return
	}
	t, ok := v.table()
	if !ok {
		return
	}
	t.asked = geoKeys
	t.unknown(func(v value, key, hint string) { v.warn("not a key of a geolocation record. %s", hint) })
	if rec, ok := v.json(); ok {
		putIn(&ver.Geo, ip.Unmap(), rec)
	}
}

// deviceRecord adds the record for one User-Agent to the version.
func deviceRecord(ver *wedge.Version, ua string, v value) {
	t, ok := v.table()
	if !ok {
		return
	}
	for _, part := range []string{"user_agent", "os", "device"} {
		if p, ok := t.get(part); ok {
			p.table()
		}
	}
	t.done()
	if rec, ok := v.json(); ok {
		putIn(&ver.Devices, ua, rec)
	}
}

// shieldSite reads "local" (this PoP itself) or a pair of base URLs.
func shieldSite(v value) wedge.ShieldSite {
	if s, ok := v.v.(string); ok {
		if !strings.EqualFold(s, "local") {
			v.fail(`Write "local", or a table with unencrypted and encrypted URLs.`, "unknown site %q", s)
		}
		return wedge.ShieldSite{}
	}
	t, ok := v.table()
	if !ok {
		return wedge.ShieldSite{}
	}
	site := wedge.ShieldSite{Unencrypted: siteURL(t, "unencrypted", "http"), Encrypted: siteURL(t, "encrypted", "https")}
	t.done()
	return site
}

func siteURL(t *table, key, scheme string) string {
	v, ok := t.get(key)
	if !ok {
		t.fail("A shielding site needs both unencrypted and encrypted.", "no %s", key)
		return ""
	}
	u := v.originURL()
	if u != nil && u.Scheme != scheme {
		v.fail("Write an "+scheme+":// URL.", "the scheme is %s", u.Scheme)
	}
	s, _ := v.v.(string)
	return s
}

// putIn sets a key of a map that may be nil.
func putIn[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}

// trimNewline drops the line ending that editors put after a secret's text.
func trimNewline(b []byte) []byte { return bytes.TrimRight(b, "\r\n") }

// validHost reports whether s is a host name or address without a port.
func validHost(s string) bool {
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	if net.ParseIP(s) != nil {
		return true
	}
	for _, label := range strings.Split(s, ".") {
		bad := strings.ContainsFunc(label, func(r rune) bool {
			return !(r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z')
		})
		if bad || label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}
