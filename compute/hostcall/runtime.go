package hostcall

import (
	"strconv"

	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

var computeRuntime = calls{
	"get_vcpu_ms":         runtimeVCPU,
	"get_heap_mib":        runtimeHeap,
	"get_hostname":        func(c *compute.Call) abi.Status { return c.PutBuf(0, 2, c.Sandbox.Host.Hostname) },
	"get_sandbox_id":      func(c *compute.Call) abi.Status { return c.PutBuf(0, 2, c.Sandbox.TraceID) },
	"get_trace_id":        func(c *compute.Call) abi.Status { return c.PutBuf(0, 2, c.Sandbox.TraceID) },
	"get_service_version": runtimeVersion,

	// What a service has bought there: pictures are made here for everybody, and those who inspect are not.
	"has_domain_inspector": runtimeHas(false),
	"has_image_optimizer":  runtimeHas(true),
	"has_origin_inspector": runtimeHas(false),
}

// runtimeVCPU: whole milliseconds of CPU time that the guest has used.
func runtimeVCPU(c *compute.Call) abi.Status {
	c.PutU64(c.U32(0), uint64(c.Sandbox.CPU().Milliseconds()))
	return abi.OK
}

// runtimeHeap: the guest's linear memory in MiB, rounded up.
func runtimeHeap(c *compute.Call) abi.Status {
	c.PutU32(c.U32(0), uint32((c.Memory()+1<<20-1)>>20))
	return abi.OK
}

func runtimeHas(is bool) compute.Func {
	return func(c *compute.Call) abi.Status {
		c.PutU32(c.U32(0), flag(is))
		return abi.OK
	}
}

func runtimeVersion(c *compute.Call) abi.Status {
	return c.PutBuf(0, 2, strconv.Itoa(c.Sandbox.Host.Version.Number))
}
