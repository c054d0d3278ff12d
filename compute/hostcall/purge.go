package hostcall

import (
	"encoding/json"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

var purgeCalls = calls{"purge_surrogate_key": purgeSurrogateKey}

// Bits of purge_options_mask.
const (
	purgeSoft   = 1 << 0
	purgeAnswer = 1 << 1
)

// purgeSurrogateKey makes the service's objects with one surrogate key unusable.
func purgeSurrogateKey(c *compute.Call) abi.Status {
	e, key, mask, options := ex(c), c.String(0), c.U32(2), c.U32(3)
	if mask&^(purgeSoft|purgeAnswer) != 0 || !validSurrogateKey(key) {
		return abi.Inval
	}
	if e.host.Purge == nil {
		return abi.Unsupported
	}
	id := newID(e.host.Rand)
	answer, _ := json.Marshal(map[string]string{"id": id, "status": "ok"})
	if mask&purgeAnswer != 0 {
		if s := putAnswer(c, options, answer); s != abi.OK {
			return s
		}
	}
	p := wedge.Purge{ID: id, Service: e.host.Version.Service, Keys: []string{key}, Soft: mask&purgeSoft != 0, At: e.host.Now()}
	if err := e.host.Purge(p); err != nil {
		return abi.Error
	}
	return abi.OK
}

// putAnswer writes to the buffer that purge_options describe: ptr@0, len@4, nwritten@8.
func putAnswer(c *compute.Call, options uint32, answer []byte) abi.Status {
	ptr, room, nwritten := c.ReadU32(options), c.ReadU32(options+4), c.ReadU32(options+8)
	c.PutU32(nwritten, uint32(len(answer)))
	if int(room) < len(answer) {
		return abi.BufLen
	}
	c.Write(ptr, answer)
	return abi.OK
}

// validSurrogateKey: printable ASCII without spaces, at most 1,024 bytes.
func validSurrogateKey(key string) bool {
	for _, b := range []byte(key) {
		if b < 0x21 || b > 0x7e {
			return false
		}
	}
	return key != "" && len(key) <= 1024
}
