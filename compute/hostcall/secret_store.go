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

// maxSecret is the largest secret, in bytes, that a guest may make.
const maxSecret = 64 << 10

func secretOpen(c *compute.Call) abi.Status {
	m, ok := c.Sandbox.Host.Version.SecretStores[c.Text(0)]
	if !ok {
		return abi.None
	}
	return putHandle(c, &ex(c).secretStores, 2, m)
}

func secretGet(c *compute.Call) abi.Status {
	m, ok := ex(c).secretStores.get(c.U32(0))
	if !ok {
		return abi.BadHandle
	}
	secret, ok := m[c.Text(1)]
	if !ok {
		return abi.None
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
	if len(b) > maxSecret {
		return abi.Inval
	}
	c.Read(c.U32(2), 4)
	hold(c, len(b))
	return putHandle(c, &ex(c).secrets, 2, wedge.Secret(bytes.Clone(b)))
}
