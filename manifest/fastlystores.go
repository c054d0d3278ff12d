package manifest

import (
	"path/filepath"

	"github.com/wedge-cloud/wedge"
)

// contents opens what a table with format and file, or with format and an inline table,
// holds. The inline table is at the key inline; "" if the format must be json.
func (t *table) contents(inline string) (*table, bool) {
	format, hasFormat := t.get("format")
	file, hasFile := t.get("file")
	var body value
	hasBody := false
	if inline != "" {
		body, hasBody = t.get(inline)
	}
	kind, _ := format.v.(string)
	switch {
	case hasFormat && kind != "json" && (kind != "inline-toml" || inline == ""):
		hint := `Write format = "json" with file.`
		if inline != "" {
			hint = `Write format = "inline-toml" with ` + inline + `, or format = "json" with file.`
		}
		format.fail(hint, "unknown format")
	case hasFile && (hasBody || kind == "inline-toml"):
		file.fail("Keep either the file or the inline table.", "a file where an inline table is expected")
	case hasFile:
		return file.jsonFile()
	case hasBody && kind == "json":
		body.fail(`Write format = "inline-toml".`, "an inline table where a file is expected")
	case hasBody:
		return body.table()
	case kind == "inline-toml": // a store may be empty
		return &table{value: t.value, m: map[string]any{}}, true
	default:
		t.fail(`Add file = "PATH".`, "no contents")
	}
	return nil, false
}

func fastlyConfig(ver *wedge.Version, name string, v value) {
	t, ok := v.table()
	if !ok || !v.checkName(name) {
		return
	}
	if c, ok := t.contents("contents"); ok {
		putIn(&ver.ConfigStores, name, configStore(c))
	}
	t.done()
}

// fastlyKV reads an array of seeds, or a table that names a JSON file of them.
func fastlyKV(ver *wedge.Version, name string, v value) {
	if !v.checkName(name) {
		return
	}
	seeds := []wedge.KVSeed{}
	if t, ok := v.v.(map[string]any); ok {
		seeds = fastlyKVFile(&table{value: v, m: t})
	} else if list, ok := v.list(); ok {
		for _, e := range list {
			t, ok := e.table()
			if !ok {
				continue
			}
			s := wedge.KVSeed{Key: t.str("key"), Value: t.textOrFile("data", "path"), Metadata: t.str("metadata")}
			t.done()
			seeds = e.seed(seeds, s)
		}
	}
	putIn(&ver.KVStores, name, seeds)
}

func fastlyKVFile(t *table) []wedge.KVSeed {
	seeds := []wedge.KVSeed{}
	c, ok := t.contents("")
	t.done()
	if !ok {
		return seeds
	}
	c.d.base = filepath.Dir(t.d.file) // as the programs that write such files have it
	c.entries(func(key string, v value) {
		s := wedge.KVSeed{Key: key}
		if text, ok := v.v.(string); ok {
			s.Value = []byte(text)
		} else if e, ok := v.table(); ok {
			s.Value, s.Metadata = e.textOrFile("data", "path"), e.str("metadata")
			e.done()
		}
		seeds = v.seed(seeds, s)
	})
	return seeds
}

// fastlySecrets reads an array of secrets, or a table that names a flat JSON file of them.
func fastlySecrets(ver *wedge.Version, name string, v value) {
	if !v.checkName(name) {
		return
	}
	store := map[string]wedge.Secret{}
	if m, ok := v.v.(map[string]any); ok {
		t := &table{value: v, m: m}
		if c, ok := t.contents(""); ok {
			c.entries(func(key string, v value) {
				v.checkSecretName(key)
				if s, ok := v.str(); ok {
					store[key] = wedge.Secret(s)
				}
			})
		}
		t.done()
	} else if list, ok := v.list(); ok {
		for _, e := range list {
			t, ok := e.table()
			if !ok {
				continue
			}
			key := t.str("key")
			e.checkSecretName(key)
			if s, ok := secretFrom(t, "data"); ok {
				store[key] = s
			}
			t.done()
		}
	}
	putIn(&ver.SecretStores, name, store)
}

// fastlyACL reads "file.json" or { file = "file.json" }.
func fastlyACL(ver *wedge.Version, name string, v value) {
	if !v.checkName(name) {
		return
	}
	file := v
	if m, ok := v.v.(map[string]any); ok {
		t := &table{value: v, m: m}
		f, ok := t.get("file")
		if !ok {
			t.fail(`Add file = "acl.json".`, "no file")
			return
		}
		t.done()
		file = f
	}
	if c, ok := file.jsonFile(); ok {
		putIn(&ver.ACLs, name, aclFile(c))
	}
}

func fastlyGeo(ver *wedge.Version, v value) {
	t, ok := v.table()
	if !ok {
		return
	}
	ver.GeoLoopback = t.bool("use_default_loopback", true)
	if t.has("format") || t.has("file") || t.has("addresses") {
		if c, ok := t.contents("addresses"); ok {
			c.entries(func(addr string, rec value) { geoRecord(ver, addr, rec) })
		}
	}
	t.asked = append(t.asked, "format", "file", "addresses")
	t.done()
}

func fastlyDevices(ver *wedge.Version, v value) {
	t, ok := v.table()
	if !ok {
		return
	}
	if c, ok := t.contents("user_agents"); ok {
		c.entries(func(ua string, rec value) { deviceRecord(ver, ua, rec) })
	}
	t.done()
}
