package hostcall

import (
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// pending_response_kind: which response an edit is for.
const (
	targetAny      = 0
	targetResponse = 1 // a backend's
	targetError    = 2 // the host's own, because none came
)

// maxEdits is how many edits one pending request may have.
const maxEdits = 1024

// edit changes a header of a response that the host forwards for the guest.
type edit struct {
	apply       func(h *headers, name, value string)
	name, value string
	target      uint32
}

func pendingHeaderInsert(c *compute.Call) abi.Status {
	return addEdit(c, 5, func(h *headers, name, value string) {
		h.remove(name)
		h.add(name, value)
	})
}

func pendingHeaderAppend(c *compute.Call) abi.Status { return addEdit(c, 5, (*headers).add) }

func pendingHeaderRemove(c *compute.Call) abi.Status {
	return addEdit(c, 3, func(h *headers, name, _ string) { h.remove(name) })
}

// addEdit records an edit; its target is at word t, and a value is there if t leaves room.
func addEdit(c *compute.Call, t int, apply func(*headers, string, string)) abi.Status {
	p := getItem[*pending](c, c.U32(0))
	name, s := nameArg(c, 1)
	if s != abi.OK {
		return s
	}
	ed := edit{apply: apply, name: headerName(name), target: c.U32(t)}
	if t == 5 {
		v := c.Bytes(3)
		if !validValue(v) {
			return abi.Error
		}
		if len(v) > ex(c).limits.HeaderBytes {
			return abi.LimitExceeded
		}
		ed.value = string(v)
	}
	if ed.target > targetError {
		return abi.Inval
	}
	if len(p.edits) >= maxEdits {
		return abi.LimitExceeded
	}
	hold(c, fieldSize(ed.name, ed.value))
	p.edits = append(p.edits, ed)
	return abi.OK
}

func (p *pending) applyEdits(resp *response, target uint32) {
	for _, ed := range p.edits {
		if ed.target == targetAny || ed.target == target {
			ed.apply(&resp.headers, ed.name, ed.value)
		}
	}
}
