package hostcall

import (
	"context"

	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

var httpResp = calls{
	"new":                         responseNew,
	"close":                       responseClose,
	"header_names_get":            onResponse(namesGet),
	"header_value_get":            onResponse(valueGet),
	"header_values_get":           onResponse(valuesGet),
	"header_values_set":           onResponse(valuesSet),
	"header_insert":               onResponse(fieldInsert),
	"header_append":               onResponse(fieldAppend),
	"header_remove":               onResponse(fieldRemove),
	"version_get":                 responseVersionGet,
	"version_set":                 responseVersionSet,
	"status_get":                  statusGet,
	"status_set":                  statusSet,
	"framing_headers_mode_set":    responseFramingSet,
	"http_keepalive_mode_set":     keepaliveSet,
	"get_addr_dest_ip":            addrDestIP,
	"get_addr_dest_port":          addrDestPort,
	"send_downstream":             sendDownstream,
	"send_downstream_pending":     sendDownstreamPending,
	"send_informational_response": sendInformational,
}

// statusEarlyHints is the one interim status a guest may send.
const statusEarlyHints = 103

func onResponse(f func(*compute.Call, *headers, int) abi.Status) compute.Func {
	return func(c *compute.Call) abi.Status { return f(c, &getResponse(c, c.U32(0)).headers, 1) }
}

func responseNew(c *compute.Call) abi.Status {
	c.Read(c.U32(0), 4)
	c.PutU32(c.U32(0), putResponse(c, newResponse()))
	return abi.OK
}

func responseClose(c *compute.Call) abi.Status {
	if _, ok := takeResponse(c, c.U32(0)); !ok {
		return abi.BadHandle
	}
	return abi.OK
}

func responseVersionGet(c *compute.Call) abi.Status {
	c.PutU32(c.U32(1), getResponse(c, c.U32(0)).version)
	return abi.OK
}

func responseVersionSet(c *compute.Call) abi.Status {
	r := getResponse(c, c.U32(0))
	if c.U32(1) > http3 {
		return abi.Inval
	}
	r.version = c.U32(1)
	return abi.OK
}

func statusGet(c *compute.Call) abi.Status {
	c.PutU16(c.U32(1), uint16(getResponse(c, c.U32(0)).status))
	return abi.OK
}

func statusSet(c *compute.Call) abi.Status {
	r := getResponse(c, c.U32(0))
	if s := c.U32(1); s < 100 || s > 999 {
		return abi.Inval
	}
	r.status = int(c.U32(1))
	return abi.OK
}

func responseFramingSet(c *compute.Call) abi.Status {
	r := getResponse(c, c.U32(0))
	if c.U32(1) > 1 {
		return abi.Inval
	}
	r.manual = c.U32(1) == 1
	return abi.OK
}

func keepaliveSet(c *compute.Call) abi.Status {
	r := getResponse(c, c.U32(0))
	if c.U32(1) > 1 {
		return abi.Inval
	}
	r.closeConn = c.U32(1) == 1
	return abi.OK
}

func addrDestIP(c *compute.Call) abi.Status {
	r := getResponse(c, c.U32(0))
	if !r.peer.IsValid() {
		return abi.None
	}
	return putAddr(c, 1, r.peer.Addr())
}

func addrDestPort(c *compute.Call) abi.Status {
	r := getResponse(c, c.U32(0))
	if !r.peer.IsValid() {
		return abi.None
	}
	c.PutU16(c.U32(1), r.peer.Port())
	return abi.OK
}

// sendDownstream answers the request in hand. An interim answer uses up no handles, so that
// a guest can go on with the same response; nor does a call that fails.
func sendDownstream(c *compute.Call) abi.Status {
	e := ex(c)
	resp, b := getResponse(c, c.U32(0)), getBody(c, c.U32(1))
	streaming := c.U32(2)
	switch {
	case b.isStreaming():
		return abi.BadHandle
	case e.in == nil || e.in.answered:
		return abi.Error
	case resp.status == statusEarlyHints:
		return e.inform(c, resp)
	case resp.status < 200:
		return abi.Inval
	}
	takeResponse(c, c.U32(0))
	if streaming == 1 {
		b.makeStreaming()
	} else {
		e.items.take(c.U32(1))
	}
	e.answer(c, reply{response: resp, body: b})
	if streaming != 1 {
		c.Yield() // the answer is whole: it goes out before the guest tidies up
	}
	return abi.OK
}

func sendInformational(c *compute.Call) abi.Status {
	e := ex(c)
	resp := getResponse(c, c.U32(0))
	switch {
	case c.U32(1) != statusEarlyHints:
		return abi.Inval
	case e.in == nil || e.in.answered:
		return abi.Error
	}
	return e.inform(c, resp)
}

// inform sends the response's headers with status 103.
func (e *exec) inform(c *compute.Call, resp *response) abi.Status {
	e.say(c, reply{interim: &response{status: statusEarlyHints, headers: resp.headers.clone()}})
	return abi.OK
}

func sendDownstreamPending(c *compute.Call) abi.Status {
	e := ex(c)
	p := getItem[*pending](c, c.U32(0))
	if e.in == nil || e.in.answered {
		return abi.Error
	}
	e.items.take(c.U32(0))
	e.answer(c, reply{pending: p})
	return abi.OK
}

// answer gives the final reply to the request in hand. A client that left gets none, which
// the guest learns when it writes to a streaming body.
func (e *exec) answer(c *compute.Call, rep reply) {
	if !e.say(c, rep) {
		rep.discard()
	}
	e.in.answered = true
}

// say hands a reply to the handler, waiting while it is busy.
func (e *exec) say(c *compute.Call, rep reply) (taken bool) {
	if len(e.in.replies) < cap(e.in.replies) {
		return e.in.say(context.Background(), rep) // does not wait: only this goroutine sends
	}
	c.Block(func(ctx context.Context) {
		if taken = e.in.say(ctx, rep); !taken {
			rep.discard() // here, for Block may not return
		}
	})
	return taken
}
