package hostcall

import (
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// Config stores and dictionaries are the same tables under two names; their handles are
// apart.
var (
	configStore = calls{
		"open": func(c *compute.Call) abi.Status { return configOpen(c, &ex(c).configs) },
		"get":  func(c *compute.Call) abi.Status { return configGet(c, &ex(c).configs) },
	}
	dictionary = calls{
		"open": func(c *compute.Call) abi.Status { return configOpen(c, &ex(c).dictionaries) },
		"get":  func(c *compute.Call) abi.Status { return configGet(c, &ex(c).dictionaries) },
	}
)

func configOpen(c *compute.Call, t *table[string]) abi.Status {
	name := c.Text(0)
	if _, ok := c.Sandbox.Host.Version.ConfigStores[name]; !ok {
		return abi.BadHandle
	}
	return putHandle(c, t, 2, name)
}

// setting returns what was written to a key of a config or secret store while the version runs.
func setting(c *compute.Call, store, key string) (value []byte, ok bool, status abi.Status) {
	host := c.Sandbox.Host
	if _, written := host.Version.Stores[store]; !written || host.Setting == nil {
		return nil, false, abi.OK
	}
	value, ok, err := host.Setting(store, key)
	if err != nil {
		return nil, false, abi.Error
	}
	return value, ok, abi.OK
}

// putHandle opens a handle for v in t and writes it to where word n points.
func putHandle[T any](c *compute.Call, t *table[T], n int, v T) abi.Status {
	c.Read(c.U32(n), 4)
	h, ok := t.put(v)
	if !ok {
		return abi.LimitExceeded
	}
	c.PutU32(c.U32(n), h)
	return abi.OK
}

func configGet(c *compute.Call, t *table[string]) abi.Status {
	name, ok := t.get(c.U32(0))
	if !ok {
		return abi.BadHandle
	}
	key := c.Text(1)
	written, ok, status := setting(c, name, key)
	if status != abi.OK {
		return status
	}
	v := string(written)
	if !ok {
		if v, ok = c.Sandbox.Host.Version.ConfigStores[name][key]; !ok {
			return abi.None
		}
	}
	return c.PutBuf(3, 5, v)
}
