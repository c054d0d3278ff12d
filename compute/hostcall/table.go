package hostcall

import (
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// calls are the hostcalls of one ABI module by name.
type calls map[string]compute.Func

// modules lists what is implemented. A hostcall of the ABI that is missing here answers
// unsupported, which SDKs understand as "not offered".
var modules = map[string]calls{
	"fastly_abi":              abiCalls,
	"fastly_compute_runtime":  computeRuntime,
	"fastly_log":              logCalls,
	"fastly_kv_store":         kvStore,
	"fastly_object_store":     objectStore,
	"fastly_config_store":     configStore,
	"fastly_dictionary":       dictionary,
	"fastly_secret_store":     secretStore,
	"fastly_acl":              acl,
	"fastly_geo":              geo,
	"fastly_device_detection": deviceDetection,
	"fastly_uap":              uap,
	"wasi_snapshot_preview1":  wasiCalls,
	"fastly_http_body":        httpBody,
	"fastly_http_req":         httpReq,
	"fastly_http_resp":        httpResp,
	"fastly_http_downstream":  httpDownstream,
	"fastly_backend":          backendCalls,
	"fastly_async_io":         asyncIO,
	"fastly_purge":            purgeCalls,
	"fastly_erl":              erlCalls,
	"fastly_image_optimizer":  imageOptimizer,
	"fastly_cache":            cacheCalls,
	"fastly_http_cache":       httpCache,
	"fastly_shielding":        shielding,
}

// Table returns the implementation of each hostcall this package offers.
func Table() map[*abi.Def]compute.Func {
	t := make(map[*abi.Def]compute.Func)
	for module, calls := range modules {
		for name, f := range calls {
			d := abi.Lookup(module, name)
			if d == nil {
				panic("hostcall: the ABI has no " + module + "." + name)
			}
			t[d] = f
		}
	}
	return t
}
