package hostcall

import (
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

var abiCalls = calls{"init": abiInit}

// abiInit is the handshake: the guest names the ABI version it was built for.
func abiInit(c *compute.Call) abi.Status {
	if c.U64(0) != abi.Version {
		return abi.Error
	}
	return abi.OK
}
