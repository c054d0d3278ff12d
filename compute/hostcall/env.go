package hostcall

import (
	"sort"
	"strconv"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/compute"
)

// environ returns the environment that all sandboxes of a version share; FASTLY_TRACE_ID,
// which each has of its own, is not in it.
func environ(h *compute.Host) []string {
	v := h.Version
	env := []string{
		"FASTLY_CACHE_GENERATION=0",
		"FASTLY_CUSTOMER_ID=wedge",
		"FASTLY_HOSTNAME=" + h.Hostname,
		"FASTLY_IS_STAGING=0",
		"FASTLY_POP=" + h.PoP,
		"FASTLY_REGION=" + h.Region,
		"FASTLY_SERVICE_ID=" + v.Service,
		"FASTLY_SERVICE_VERSION=" + strconv.Itoa(v.Number),
	}
	own := len(env)
	for name, value := range v.Env {
		env = append(env, name+"="+value)
	}
	sort.Strings(env[own:])
	return env
}

// arguments returns a guest's WASI arguments.
func arguments(v *wedge.Version) []string {
	if len(v.Args) > 0 {
		return v.Args
	}
	return []string{"compute-app"}
}
