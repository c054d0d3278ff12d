package hostcall

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"sync"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/compute"
)

// Config is what a Handler serves with.
type Config struct {
	Host *compute.Host

	// Run runs the guest in sb to its end. Its error says what ended the guest: of kind
	// Timeout for the wall clock, Unavailable when there was no room to start (with a method
	// RetryAfter() time.Duration, that is what the client is told), any other for a trap, a
	// limit or a non-zero exit.
	Run func(ctx context.Context, sb *compute.Sandbox) error

	// OnError, if set, is told why a guest failed while it had the request of that id.
	OnError func(requestID string, err error)

	// Observer, if set, returns who watches a new sandbox; it may return nil.
	Observer func(sb *compute.Sandbox) compute.Observer
}

// Handler is an http.Handler that lets the guest of one version answer. Each request gets a
// sandbox of its own, except that a guest may ask for further requests.
type Handler struct {
	cfg    Config
	random io.Reader
	env    []string
	pool   pool

	base context.Context // ends when running guests must
	kill context.CancelCauseFunc

	mu      sync.Mutex
	running int
	idle    chan struct{} // closed when running falls to 0; nil if nobody waits
}

// New returns a Handler for the version that cfg.Host belongs to.
func New(cfg Config) *Handler {
	h := &Handler{cfg: cfg, random: cfg.Host.Rand, env: environ(cfg.Host)}
	if h.random == nil {
		h.random = rand.Reader
	}
	h.pool.restart = func(in *incoming) { h.launch(in).Leave() }
	h.base, h.kill = context.WithCancelCause(context.Background())
	return h
}

// ServeHTTP gives r to a guest and sends its answer. It returns when the exchange with the
// client is over; the guest may run on.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := newExchange(h, w, r)
	defer x.end()
	if !h.pool.offer(x.in) {
		x.co = h.launch(x.in)
	}
	x.serve()
}

// launch makes a sandbox for in; its guest runs when the caller steps or leaves its coroutine.
func (h *Handler) launch(in *incoming) *compute.Coroutine {
	return h.begin(in.ctx, func(ctx context.Context, co *compute.Coroutine) {
		sb, e := h.sandbox(ctx, in.client.RequestID)
		sb.Coroutine, e.co = co, co
		e.begin(in)
		err := h.run(ctx, sb)
		h.failed(e.in, err)
		e.end(err)
	})
}

// begin returns a coroutine of f, which runs guests until it returns or ctx, ended by Close, does.
func (h *Handler) begin(ctx context.Context, f func(context.Context, *compute.Coroutine)) (co *compute.Coroutine) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(h.base, func() { cancel(context.Cause(h.base)) })
	h.track(1)
	co = compute.NewCoroutine(func() {
		defer h.track(-1)
		defer stop()
		defer cancel(nil)
		f(ctx, co)
	})
	return co
}

// failed tells the author why a guest failed. That there was no room is not the guest's fault.
func (h *Handler) failed(in *incoming, err error) {
	if err != nil && h.cfg.OnError != nil && wedge.KindOf(err) != wedge.Unavailable {
		h.cfg.OnError(in.client.RequestID, err)
	}
}

// sandbox returns a new sandbox and its state. Its id is that of its first request, as guests expect.
func (h *Handler) sandbox(ctx context.Context, id string) (*compute.Sandbox, *exec) {
	v := h.cfg.Host.Version
	e := newExec(ctx, h.cfg.Host, v.Limits)
	e.pool = &h.pool
	sb := &compute.Sandbox{
		TraceID: id, Host: h.cfg.Host, Limits: v.Limits, State: e,
		Args: arguments(v), Env: append(h.env[:len(h.env):len(h.env)], "FASTLY_TRACE_ID="+id),
	}
	if h.cfg.Observer != nil {
		sb.Observer = h.cfg.Observer(sb)
	}
	return sb, e
}

// run runs the guest. A fault of the host must not take other guests with it.
func (h *Handler) run(ctx context.Context, sb *compute.Sandbox) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &wedge.Error{Op: "run guest", What: h.cfg.Host.Version.Service, Kind: wedge.Internal,
				Err: fmt.Errorf("host fault: %v\n%s", r, debug.Stack()), Hint: "Please report this with the log lines around it."}
		}
	}()
	return h.cfg.Run(ctx, sb)
}

func (h *Handler) track(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running += n; h.running == 0 && h.idle != nil {
		close(h.idle)
		h.idle = nil
	}
}

// Running returns how many guests and handed-over connections there are.
func (h *Handler) Running() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.running
}

// Wait drains: sandboxes that wait for another request end, and Wait returns when all guests
// have, or with ctx's error. Requests that still come are served.
func (h *Handler) Wait(ctx context.Context) error {
	h.pool.close()
	for {
		h.mu.Lock()
		if h.running == 0 {
			h.mu.Unlock()
			return nil
		}
		if h.idle == nil {
			h.idle = make(chan struct{})
		}
		idle := h.idle
		h.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close ends every guest that still runs.
func (h *Handler) Close() {
	h.pool.close()
	h.kill(&wedge.Error{Op: "run guest", What: h.cfg.Host.Version.Service, Kind: wedge.Unavailable, Hint: "The version is being taken away; try again."})
}
