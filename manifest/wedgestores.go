package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/wedge-cloud/wedge"
)

// wedgeBindings reads the stores. In each, a string in place of a table names a JSON file
// with what the table would hold.
func wedgeBindings(t *table, ver *wedge.Version) {
	t.each("config", func(name string, v value) {
		if s, ok := v.tableOrFile(name); ok {
			putIn(&ver.ConfigStores, name, configStore(s))
		}
	})
	t.each("kv", func(name string, v value) {
		if s, ok := v.tableOrFile(name); ok {
			putIn(&ver.KVStores, name, wedgeSeeds(s))
		}
	})
	t.each("secrets", func(name string, v value) {
		if s, ok := v.tableOrFile(name); ok {
			putIn(&ver.SecretStores, name, wedgeSecrets(s))
		}
	})
	t.each("stores", func(name string, v value) {
		if s, ok := v.table(); ok && v.checkName(name) {
			_, config := ver.ConfigStores[name]
			_, secret := ver.SecretStores[name]
			switch _, kv := ver.KVStores[name]; {
			case config && secret || kv && (config || secret):
				v.fail("Give each its own name: what is written while a version runs is kept by the store's name.", "[stores.%s] is for more than one of a KV, a config and a secret store", name)
			case !kv && !config && !secret:
				putIn(&ver.KVStores, name, []wedge.KVSeed{})
			}
			rule := wedge.Store{Scope: wedge.Scope(s.str("scope")), Jurisdiction: s.str("jurisdiction")}
			if s.has("scope") && !slices.Contains(wedge.Scopes, rule.Scope) {
				v.fail("Write \"merge\", \"core\", \"home\" or \"local\".", "unknown scope %q", rule.Scope)
			}
			if rule.Split = s.str("split"); rule.Split != "" && (rule.Scope != wedge.ScopeHome || len(rule.Split) > wedge.MaxSplit || strings.ContainsRune(rule.Split, 0)) {
				v.fail(fmt.Sprintf("It needs scope = \"home\", and has up to %d bytes, such as \"/\".", wedge.MaxSplit), "bad split %q", rule.Split)
			}
			if s.has("jurisdiction") && !nameRule.MatchString(rule.Jurisdiction) {
				v.fail("Write it as the PoPs' own files do, such as \"eu\".", "bad jurisdiction %q", rule.Jurisdiction)
			}
			if (config || secret) && rule.Jurisdiction != "" {
				v.fail("Every PoP that runs the service needs them.", "config and secrets are in no jurisdiction")
			}
			s.done()
			putIn(&ver.Stores, name, rule)
		}
	})
	oneJurisdiction(t, ver)
	t.each("acl", func(name string, v value) {
		s, ok := v.tableOrFile(name)
		switch {
		case !ok:
		case s.has("entries"):
			putIn(&ver.ACLs, name, aclFile(s))
		default:
			acl := []wedge.ACLEntry{}
			s.entries(func(prefix string, action value) {
				key := value{action.d, action.path, prefix}
				acl = addACL(acl, key, action)
			})
			putIn(&ver.ACLs, name, acl)
		}
	})
}

// oneJurisdiction refuses what would let a guest carry things from one jurisdiction into another.
func oneJurisdiction(t *table, ver *wedge.Version) {
	first, of := "", ""
	for _, name := range slices.Sorted(maps.Keys(ver.Stores)) {
		switch j := ver.Stores[name].Jurisdiction; {
		case j == "" || j == first:
		case first == "":
			first, of = j, name
		default:
			t.fail("Make a service of each, and let one call the other by name for what may cross.", "store %s is in jurisdiction %s, and store %s in %s", of, first, name, j)
			return
		}
	}
}

func (v value) tableOrFile(name string) (*table, bool) {
	if !v.checkName(name) {
		return nil, false
	}
	if _, ok := v.v.(string); ok {
		return v.jsonFile()
	}
	return v.table()
}

func wedgeSeeds(t *table) []wedge.KVSeed {
	seeds := []wedge.KVSeed{}
	t.entries(func(key string, v value) {
		s := wedge.KVSeed{Key: key}
		if text, ok := v.v.(string); ok {
			s.Value = []byte(text)
		} else {
			e, ok := v.table()
			if !ok {
				return
			}
			s.Value = e.textOrFile("value")
			s.Metadata = e.str("metadata")
			e.done()
		}
		seeds = v.seed(seeds, s)
	})
	return seeds
}

// textOrFile reads a KV value from the key inline or the file, exactly one of which must
// be there; old are former names for "file".
func (t *table) textOrFile(inline string, old ...string) []byte {
	var out []byte
	n := 0
	if v, ok := t.get(inline); ok {
		s, _ := v.str()
		out = []byte(s)
		n++
	}
	for _, key := range append([]string{"file"}, old...) {
		if v, ok := t.get(key); ok {
			out, _ = v.file(wedge.MaxKVValue)
			n++
		}
	}
	if n != 1 {
		t.fail("Give the value with one of "+inline+" and file.", "%d values, 1 is needed", n)
	}
	return out
}

func wedgeSecrets(t *table) map[string]wedge.Secret {
	store := map[string]wedge.Secret{}
	t.entries(func(name string, v value) {
		v.checkSecretName(name)
		if s, ok := wedgeSecret(v); ok {
			store[name] = s
		}
	})
	return store
}

// wedgeSecret reads { env = NAME }, { file = PATH } or the secret itself, which works but
// does not belong in a file that is committed.
func wedgeSecret(v value) (wedge.Secret, bool) {
	m := map[string]any{"value": v.v}
	if _, ok := v.v.(string); !ok {
		t, ok := v.table()
		if !ok {
			return nil, false
		}
		m = t.m
	}
	t := &table{value: v, m: m}
	s, ok := secretFrom(t, "value")
	t.done()
	if t.has("value") {
		v.warn("the secret itself is in this file; better write { env = \"NAME\" } or { file = \"PATH\" }")
	}
	if t.has("file") {
		s = trimNewline(s)
	}
	return s, ok
}

// wedgeTables reads what the version knows about the world: places, devices, shields.
func wedgeTables(t *table, ver *wedge.Version) {
	ver.GeoLoopback = true
	if v, ok := t.get("geo"); ok {
		if geo, ok := v.tableOrFile("geo"); ok {
			ver.GeoLoopback = geo.bool("loopback", true)
			if v, ok := geo.get("database"); ok {
				ver.GeoDatabase, _ = v.file(wedge.MaxGeoDatabase)
			}
			for _, addr := range geo.names() {
				if addr != "loopback" && addr != "database" {
					rec, _ := geo.get(addr)
					geoRecord(ver, addr, rec)
				}
			}
		}
	}
	if v, ok := t.get("devices"); ok {
		if devices, ok := v.tableOrFile("devices"); ok {
			devices.entries(func(ua string, rec value) { deviceRecord(ver, ua, rec) })
		}
	}
	t.each("shields", func(name string, v value) {
		if v.checkName(name) {
			putIn(&ver.Shields, name, shieldSite(v))
		}
	})
	if v, ok := t.get("api_keys"); ok {
		list, _ := v.list()
		for _, e := range list {
			if s, ok := wedgeSecret(e); ok {
				ver.APIKeys = append(ver.APIKeys, s)
			}
		}
	}
}
