package hostcall

import (
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// redirectToWebsocket hands the client's connection to a backend with the client's request as
// it is. No other answer is possible afterwards. upgrade_websocket is its name in old programs.
func redirectToWebsocket(c *compute.Call) abi.Status { return redirect(c, c.Text(0), nil) }

// redirectToWebsocketV2 takes method, URI and headers from the request that word 0 names.
func redirectToWebsocketV2(c *compute.Call) abi.Status {
	r := getRequest(c, c.U32(0))
	copied := &request{method: r.method, uri: r.uri, url: r.url, headers: r.headers.clone()}
	return redirect(c, c.Text(1), copied)
}

func redirect(c *compute.Call, name string, req *request) abi.Status {
	e := ex(c)
	if e.in == nil || e.in.answered {
		return abi.Error
	}
	backend, s := e.mayFetch(name)
	if s != abi.OK {
		return s
	}
	e.answer(c, reply{handoff: &handoff{backend, req}})
	return abi.OK
}
