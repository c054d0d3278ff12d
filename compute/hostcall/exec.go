package hostcall

import (
	"context"
	"sync/atomic"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// exec is what the hostcalls keep for one sandbox: its handles and what it has used of its
// limits. Except where a field says otherwise only the guest's goroutine touches it.
type exec struct {
	bindings

	host   *compute.Host
	limits wedge.Limits // defaults filled in
	ctx    context.Context
	cancel context.CancelFunc

	items    table[item] // bodies, pending requests, pending KV operations, lookups in the cache, promises
	requests table[*request]
	answers  table[*response]

	co       *compute.Coroutine
	in       *incoming                 // the request in hand; nil for a guest that serves none
	first    *incoming                 // the sandbox's first request
	down     handles                   // of the first request
	served   int                       // requests taken
	fetches  int                       // started for the request in hand
	passes   int                       // recorded in the cache for the request in hand
	promise  *promise                  // outstanding
	pool     *pool                     // where the sandbox waits for more requests; nil: nowhere
	backends map[string]*wedge.Backend // registered for the request in hand
	older    map[string]*wedge.Backend // for those before: to be used, or to be registered anew

	kvOrder kvOrder
	output  output        // lines not whole yet
	wake    chan struct{} // the guest waits on it for items
	account account
}

// handles are those of a downstream request and its body.
type handles struct {
	open          bool
	request, body uint32
}

// begin gives the sandbox a request to serve.
func (e *exec) begin(in *incoming) {
	if e.in != nil {
		e.ageBackends()
	}
	e.in = in
	e.fetches, e.passes = 0, 0
	e.served++
	if e.first == nil {
		e.first = in
	}
}

// end lets go of everything after the guest ended with err (nil: well). What is on its way
// to the client, or was sent off to a backend, goes on.
func (e *exec) end(err error) {
	e.output.flush(e.host)
	if len(e.kvOrder) > 0 || e.in != nil && len(e.in.replies) == cap(e.in.replies) {
		e.co.Wait()
	}
	if e.in != nil && !e.in.answered {
		e.in.answered = true
		e.in.say(context.Background(), lastWords(err))
	}
	e.items.drain(func(it item) { e.letGo(it, err == nil) })
	if err == nil && len(e.kvOrder) > 0 {
		ctx, stop := context.WithTimeout(e.ctx, lastWish)
		e.kvOrder.finish(ctx)
		stop()
	}
	e.cancel()
}

// letGo drops what the guest left open. After a good end, what it sent off and did not wait for
// goes on: requests for a while, writes to a store until end has waited for them.
func (e *exec) letGo(it item, good bool) {
	switch it := it.(type) {
	case *pending:
		if good {
			it.detach()
			return
		}
	case pendingInsert, pendingDelete:
		if good {
			return
		}
	}
	it.drop()
}

// lastWords is the answer for a guest that ended without one.
func lastWords(err error) reply {
	if err != nil {
		return reply{err: err}
	}
	return reply{response: newResponse(), body: newBody(nil)}
}

// newExec returns the state of a new sandbox; its background work ends with ctx or end.
func newExec(ctx context.Context, host *compute.Host, limits wedge.Limits) *exec {
	e := &exec{host: host, limits: limits.WithDefaults(), wake: make(chan struct{}, 1)}
	e.ctx, e.cancel = context.WithCancel(ctx)
	e.account.limit = int64(min(e.limits.HostcallBytes, 1<<62))
	return e
}

// ex returns the state of the sandbox that makes the call.
func ex(c *compute.Call) *exec { return c.Sandbox.State.(*exec) }

// account counts the bytes that the host keeps for a sandbox. It is safe for concurrent use,
// and a nil account counts nothing.
type account struct {
	limit int64
	used  atomic.Int64
}

// hold adds n bytes; it reports false, and adds nothing, when that would pass the limit.
func (a *account) hold(n int) bool {
	if a == nil {
		return true
	}
	if a.used.Add(int64(n)) > a.limit {
		a.used.Add(-int64(n))
		return false
	}
	return true
}

// release gives n bytes back.
func (a *account) release(n int) {
	if a != nil {
		a.used.Add(-int64(n))
	}
}

// hold accounts n bytes kept for the sandbox, or ends the call with limitexceeded.
func hold(c *compute.Call, n int) {
	if !ex(c).account.hold(n) {
		c.Fail(abi.LimitExceeded)
	}
}
