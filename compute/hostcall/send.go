package hostcall

import (
	"context"
	"errors"
	"strings"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// sendKind says what a send does apart from sending.
type sendKind struct {
	cached    bool // through the cache, as all but the newest calls do (ABI section 7.3)
	streaming bool // the guest goes on writing the body
	detailed  bool // a send error detail is wanted
}

// dispatch starts the send that words 0 (request), 1 (body) and 2 (backend name) describe. Its
// handles are used up whatever comes of it; only a streaming body keeps its own, which SDKs close if the send fails.
func dispatch(c *compute.Call, kind sendKind) (*pending, abi.Status) {
	streaming := kind.streaming
	e := ex(c)
	name := c.Text(2)
	req, okReq := takeRequest(c, c.U32(0))
	it, _ := e.items.get(c.U32(1))
	b, okBody := it.(*body)
	if okBody && b.isStreaming() {
		okBody = false
	}
	if okBody && !streaming {
		e.items.take(c.U32(1))
	}
	backend, s := (*wedge.Backend)(nil), abi.BadHandle
	if okReq && okBody {
		backend, s = e.mayFetch(name)
	}
	if s != abi.OK {
		if okBody && !streaming {
			b.leave()
		}
		return nil, s
	}
	if streaming {
		b.makeStreaming()
	}
	return e.fetch(req, b, backend, kind), abi.OK
}

// mayFetch finds the backend and counts the fetch.
func (e *exec) mayFetch(name string) (*wedge.Backend, abi.Status) {
	backend, ok := e.backend(name)
	if !ok {
		return nil, abi.Inval
	}
	if e.fetches >= e.limits.Fetches {
		return nil, abi.LimitExceeded
	}
	e.fetches++
	return backend, abi.OK
}

// deliver opens handles for what a fetch brought, at words i and i+1.
func deliver(c *compute.Call, f fetched, i int) abi.Status {
	if how := f.resp.headers.values("cache-status"); len(how) > 0 {
		c.Note("cache-status", strings.Join(how, ", ")) // which caches had a part in it, and at which PoPs
	}
	c.PutU32(c.U32(i), putResponse(c, f.resp))
	c.PutU32(c.U32(i+1), putBody(c, f.body))
	return abi.OK
}

// noResponse writes invalid handles to words i and i+1.
func noResponse(c *compute.Call, i int) {
	c.PutU32(c.U32(i), abi.InvalidHandle)
	c.PutU32(c.U32(i+1), abi.InvalidHandle)
}

// refusal puts the reason into an error detail for a send that did not even begin.
func refusal(s abi.Status) error {
	switch s {
	case abi.OK:
		return nil
	case abi.Inval:
		return &wedge.FetchError{Failure: wedge.FailureNotFound}
	}
	return &wedge.FetchError{Failure: wedge.FailureInternal, Err: errors.New(s.String())}
}

func send(c *compute.Call) abi.Status { return sendAndWait(c, 4, 0, sendKind{cached: true}) }

func sendV2(c *compute.Call) abi.Status {
	c.Read(c.U32(4), 4)
	return sendAndWait(c, 5, c.U32(4), sendKind{cached: true, detailed: true})
}

func sendV3(c *compute.Call) abi.Status {
	c.Read(c.U32(4), 4)
	return sendAndWait(c, 5, c.U32(4), sendKind{detailed: true})
}

// sendAndWait sends and blocks for the response; its handles go to words i and i+1.
func sendAndWait(c *compute.Call, i int, detail uint32, kind sendKind) abi.Status {
	c.Read(c.U32(i), 4)
	c.Read(c.U32(i+1), 4)
	p, s := dispatch(c, kind)
	if s != abi.OK {
		if kind.detailed {
			putDetail(c, detail, refusal(s))
		}
		return s
	}
	return outcome(c, p, i, detail, kind.detailed)
}

// outcome blocks for p and writes what came of it.
func outcome(c *compute.Call, p *pending, i int, detail uint32, detailed bool) abi.Status {
	e := ex(c)
	if !p.ready() {
		c.Block(func(ctx context.Context) {
			e.sleepOn(ctx, p)
			if ctx.Err() != nil {
				p.drop()
			}
		})
	}
	f, err := p.result()
	if detailed {
		putDetail(c, detail, err)
	}
	if err != nil {
		return fetchStatus(err)
	}
	return deliver(c, f, i)
}

func sendAsync(c *compute.Call) abi.Status { return sendLater(c, 4, sendKind{cached: true}) }
func sendAsyncStreaming(c *compute.Call) abi.Status {
	return sendLater(c, 4, sendKind{cached: true, streaming: true})
}

func sendAsyncV2(c *compute.Call) abi.Status {
	return sendLater(c, 5, sendKind{streaming: c.U32(4) == 1})
}

func sendLater(c *compute.Call, i int, kind sendKind) abi.Status {
	c.Read(c.U32(i), 4)
	p, s := dispatch(c, kind)
	if s != abi.OK {
		return s
	}
	c.PutU32(c.U32(i), putItem(c, p))
	return abi.OK
}

func pendingPoll(c *compute.Call) abi.Status { return poll(c, 1, 0, false) }

func pendingPollV2(c *compute.Call) abi.Status {
	c.Read(c.U32(1), 4)
	return poll(c, 2, c.U32(1), true)
}

// poll writes is_done to word i and the handles to the next two.
func poll(c *compute.Call, i int, detail uint32, detailed bool) abi.Status {
	p := getItem[*pending](c, c.U32(0))
	for k := range 3 {
		c.Read(c.U32(i+k), 4)
	}
	if !p.ready() {
		c.PutU32(c.U32(i), 0)
		noResponse(c, i+1)
		return abi.OK
	}
	ex(c).items.take(c.U32(0))
	c.PutU32(c.U32(i), 1)
	return outcome(c, p, i+1, detail, detailed)
}

func pendingWait(c *compute.Call) abi.Status {
	return outcome(c, takeItem[*pending](c, c.U32(0)), 1, 0, false)
}

func pendingWaitV2(c *compute.Call) abi.Status {
	c.Read(c.U32(1), 4)
	return outcome(c, takeItem[*pending](c, c.U32(0)), 2, c.U32(1), true)
}

func pendingSelect(c *compute.Call) abi.Status { return selectPending(c, 2, 0, false) }

func pendingSelectV2(c *compute.Call) abi.Status {
	c.Read(c.U32(2), 4)
	return selectPending(c, 3, c.U32(2), true)
}

// selectPending writes the index to word i and the handles to the next two. A send that failed
// is a success without handles.
func selectPending(c *compute.Call, i int, detail uint32, detailed bool) abi.Status {
	hs := handleList(c, 0)
	if len(hs) == 0 {
		return abi.Inval
	}
	items := make([]item, len(hs))
	for k, h := range hs {
		items[k] = getItem[*pending](c, h)
	}
	for k := range 3 {
		c.Read(c.U32(i+k), 4)
	}
	index := selectItem(c, items, 0)
	if index == timedOut {
		return abi.Error // only when the sandbox ends
	}
	p := takeItem[*pending](c, hs[index])
	c.PutU32(c.U32(i), index)
	noResponse(c, i+1)
	if s := outcome(c, p, i+1, detail, detailed); s == abi.LimitExceeded {
		return s
	}
	return abi.OK
}
