package hostcall

import (
	"net/netip"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

var acl = calls{
	"open":   aclOpen,
	"lookup": aclLookup,
}

// acl_error of the ABI.
const (
	aclOK        = 1
	aclNoContent = 2
)

func aclOpen(c *compute.Call) abi.Status {
	entries, ok := c.Sandbox.Host.Version.ACLs[c.Text(0)]
	if !ok {
		return abi.None
	}
	return putHandle(c, &ex(c).acls, 2, entries)
}

func aclLookup(c *compute.Call) abi.Status {
	entries, ok := ex(c).acls.get(c.U32(0))
	if !ok {
		return abi.BadHandle
	}
	addr := addrArg(c, 1)
	c.Read(c.U32(3), 4)
	c.Read(c.U32(4), 4)
	e, ok := mostSpecific(entries, addr)
	if !ok {
		c.PutU32(c.U32(4), aclNoContent)
		return abi.OK
	}
	c.PutU32(c.U32(3), putBody(c, newBody(marshal(e))))
	c.PutU32(c.U32(4), aclOK)
	return abi.OK
}

// addrArg reads the 4 or 16 bytes of an address at words i and i+1; another length ends the
// call with inval. An IPv4 address in IPv6 clothes counts as IPv4.
func addrArg(c *compute.Call, i int) netip.Addr {
	addr, ok := netip.AddrFromSlice(c.Bytes(i))
	if !ok {
		c.Fail(abi.Inval)
	}
	return addr.Unmap()
}

// mostSpecific returns the entry with the longest prefix that holds addr, of equals the last.
func mostSpecific(entries []wedge.ACLEntry, addr netip.Addr) (best wedge.ACLEntry, found bool) {
	for _, e := range entries {
		if e.Prefix.Contains(addr) && (!found || e.Prefix.Bits() >= best.Prefix.Bits()) {
			best, found = e, true
		}
	}
	return best, found
}
