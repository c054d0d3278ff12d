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

func configOpen(c *compute.Call, t *table[map[string]string]) abi.Status {
	m, ok := c.Sandbox.Host.Version.ConfigStores[c.Text(0)]
	if !ok {
		return abi.BadHandle
	}
	return putHandle(c, t, 2, m)
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

func configGet(c *compute.Call, t *table[map[string]string]) abi.Status {
	m, ok := t.get(c.U32(0))
	if !ok {
		return abi.BadHandle
	}
	v, ok := m[c.Text(1)]
	if !ok {
		return abi.None
	}
	return c.PutBuf(3, 5, v)
}
