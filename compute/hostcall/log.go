package hostcall

import (
	"bytes"
	"strings"

	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

var logCalls = calls{
	"endpoint_get": logEndpointGet,
	"write":        logWrite,
}

// Bounds of what a guest may log.
const (
	maxEndpointName = 1024     // bytes
	maxLogLine      = 64 << 10 // bytes; the rest of a line is cut off
	maxLogMessage   = 1 << 20  // bytes of one write; the rest is dropped
)

// endpoints are the log endpoints a guest asked for; a name has one handle.
type endpoints struct {
	names   table[string]
	handles map[string]uint32
}

func logEndpointGet(c *compute.Call) abi.Status {
	name := c.Text(0)
	if !endpointAllowed(name) {
		return abi.Inval
	}
	e := &ex(c).endpoints
	h, ok := e.handles[name]
	if !ok {
		if h, ok = e.names.put(name); !ok {
			return abi.LimitExceeded
		}
		if e.handles == nil {
			e.handles = make(map[string]uint32)
		}
		e.handles[name] = h
	}
	c.PutU32(c.U32(2), h)
	return abi.OK
}

// endpointAllowed refuses the names that the platform keeps for itself.
func endpointAllowed(name string) bool {
	lower := strings.ToLower(name)
	return name != "" && len(name) <= maxEndpointName &&
		lower != "stdout" && lower != "stderr" && !strings.HasPrefix(lower, "fst_managed_")
}

// logWrite passes a message on line by line, so that no guest can write a line that looks
// like another's. It always takes the whole message.
func logWrite(c *compute.Call) abi.Status {
	name, ok := ex(c).endpoints.names.get(c.U32(0))
	if !ok {
		return abi.BadHandle
	}
	msg := c.Bytes(1)
	c.PutU32(c.U32(3), uint32(len(msg)))
	if log := c.Sandbox.Host.Log; log != nil && len(msg) > 0 {
		msg = bytes.TrimSuffix(msg[:min(len(msg), maxLogMessage)], []byte("\n"))
		for line := range bytes.SplitSeq(msg, []byte("\n")) {
			line = bytes.TrimSuffix(line, []byte("\r"))
			log(name, line[:min(len(line), maxLogLine)])
		}
	}
	return abi.OK
}
