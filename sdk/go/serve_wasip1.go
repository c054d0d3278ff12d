package edge

import (
	"errors"
	"net/http"
	"time"

	"github.com/wedge-cloud/wedge/sdk/go/internal/abi"
)

func serve(h http.Handler, reuse Reuse) {
	if h == nil {
		h = http.DefaultServeMux
	}
	var req, body abi.Handle
	if st := abi.ReqDownstream(&req, &body); st != abi.OK {
		fatal(st)
	}
	for n := 1; ; n++ {
		if err := answer(h, req, body); err != nil {
			fatal(err)
		}
		if n == reuse.Max || !next(reuse.Idle, &req, &body) {
			return
		}
	}
}

func answer(h http.Handler, req, body abi.Handle) error {
	r, err := newRequest(req, body)
	if err != nil {
		return err
	}
	w := &response{head: r.Method == http.MethodHead, header: http.Header{}}
	cut := false
	run(h, w, r, func() { cut = true })
	if cut {
		return w.cut()
	}
	return w.finish()
}

// next asks the host for another request; false: none will come.
func next(idle time.Duration, req, body *abi.Handle) bool {
	var promise abi.Handle
	var mask uint32
	options := abi.NextRequestOptions{TimeoutMs: uint64(idle.Milliseconds())}
	if options.TimeoutMs > 0 {
		mask = abi.NextTimeout
	}
	if st := abi.NextRequest(mask, &options, &promise); st != abi.OK {
		return false // the host does not reuse sandboxes
	}
	switch st := abi.NextRequestWait(promise, req, body); {
	case st == abi.OK:
		return true
	case !errors.Is(st, abi.None):
		fatal(st)
	}
	return false
}
