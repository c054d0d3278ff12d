package hostcall

import (
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// Fields of inspect_info (ABI section 5).
const (
	inspectCorp      = 1 << 1
	inspectWorkspace = 1 << 2
	inspectClientIP  = 1 << 3
	inspectMask      = 1<<4 - 1
)

// maxInspectName bounds the names of a corp and a workspace, in bytes.
const maxInspectName = 256

// allowed is the verdict on all requests: nothing here looks for attacks, and a program that asks goes on as it does where nothing was found.
const allowed = `{"waf_response":200,"redirect_url":"","tags":[],"verdict":"allow","decision_ms":0}`

func inspect(c *compute.Call) abi.Status {
	getRequest(c, c.U32(0))
	getBody(c, c.U32(1))
	o := record{c, maskArg(c, 2, inspectMask), c.U32(3)}
	if !o.has(inspectCorp) || !o.has(inspectWorkspace) {
		return abi.Inval
	}
	o.bytes(0, maxInspectName)
	o.bytes(8, maxInspectName)
	if o.has(inspectClientIP) {
		if n := len(o.bytes(16, 16)); n != 4 && n != 16 {
			return abi.Inval
		}
	}
	return c.PutBuf(4, 6, allowed)
}
