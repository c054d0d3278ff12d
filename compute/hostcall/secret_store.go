package hostcall

import (
	"bytes"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

var secretStore = calls{
	"open":       secretOpen,
	"get":        secretGet,
	"plaintext":  secretPlaintext,
	"from_bytes": secretFromBytes,
}

func secretOpen(c *compute.Call) abi.Status {
	name := c.Text(0)
	if _, ok := c.Sandbox.Host.Version.SecretStores[name]; !ok {
		return abi.None
	}
	return putHandle(c, &ex(c).secretStores, 2, name)
}

func secretGet(c *compute.Call) abi.Status {
	store, ok := ex(c).secretStores.get(c.U32(0))
	if !ok {
		return abi.BadHandle
	}
	name := c.Text(1)
	written, ok, status := setting(c, store, name)
	if status != abi.OK {
		return status
	}
	secret := wedge.Secret(written)
	if !ok {
		if secret, ok = c.Sandbox.Host.Version.SecretStores[store][name]; !ok {
			return abi.None
		}
	}
	return putHandle(c, &ex(c).secrets, 3, secret)
}

func secretPlaintext(c *compute.Call) abi.Status {
	c.Redact()
	secret, ok := ex(c).secrets.get(c.U32(0))
	if !ok {
		return abi.BadHandle
	}
	return c.PutBuf(1, 3, string(secret))
}

func secretFromBytes(c *compute.Call) abi.Status {
	c.Redact()
	b := c.Bytes(0)
	if len(b) > wedge.MaxSecret {
		return abi.Inval
	}
	c.Read(c.U32(2), 4)
	hold(c, len(b))
	return putHandle(c, &ex(c).secrets, 2, wedge.Secret(bytes.Clone(b)))
}
