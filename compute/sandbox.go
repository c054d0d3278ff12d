package compute

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/tetratelabs/wazero/sys"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
)

const wasiModule = "wasi_snapshot_preview1"

// Sandbox is one instance plus everything it may hold while it serves: handles, limits
// and trace. Nothing outlives it. Fill in the exported fields, then give it to [Module.Run];
// they must not change afterwards, and a Sandbox serves one Run.
type Sandbox struct {
	TraceID   string // 32 hex digits, unique per sandbox
	Host      *Host
	Limits    wedge.Limits // of hostcalls; those of CPU, wall time and memory are its Module's. Zero fields: the defaults
	State     any          // what the hostcalls keep: handles and the request in hand
	Observer  Observer     // nil: nobody watches
	Args      []string     // WASI arguments, the program's name first
	Env       []string     // "NAME=value"
	Stdin     Stdin        // nil: empty
	Coroutine *Coroutine   // whose coroutine the guest is; nil: nobody's

	// Stdout takes what the guest prints to stdout instead of Host.Output. It may wait, until
	// Context ends, and must not keep the bytes; its error tells the guest that nobody reads. nil: Host.Output.
	Stdout func([]byte) error

	call      Call
	run       *run
	replay    []recorded // what is left to answer from, when replaying
	replaying bool
}

// Stdin is where a guest's standard input comes from. Read may block until ctx ends.
type Stdin interface {
	Read(ctx context.Context, b []byte) (int, error)
}

// Observer watches a sandbox's crossings of the host boundary, in their order. It is
// called on the guest's goroutine; Call and what it holds are valid until it returns.
type Observer interface {
	Called(c *Call, took time.Duration)
}

// Context ends when the sandbox must: its wall time is up, or the node gives up on it.
func (s *Sandbox) Context() context.Context {
	if s.run == nil {
		return context.Background()
	}
	return s.run.context()
}

func (s *Sandbox) block(wait func(context.Context)) {
	if s.run == nil { // a test calling Dispatch without an instance
		s.Coroutine.Wait()
		wait(context.Background())
		return
	}
	s.run.block(wait)
}

// hold says whether waits may touch the guest's memory.
func (s *Sandbox) hold(held bool) {
	if s.run != nil {
		s.run.inst.nap.held = held
	}
}

// CPU returns the guest time used so far: time spent waiting in hostcalls is left out.
func (s *Sandbox) CPU() time.Duration {
	if s.run == nil {
		return 0
	}
	return s.run.used()
}

// NextRequest says that the sandbox goes on to another request: its limits of CPU and wall
// time, which are per request, begin anew.
func (s *Sandbox) NextRequest() {
	if s.run != nil {
		s.run.nextRequest()
	}
}

// Dispatch makes one crossing of the host boundary: it numbers the call, runs f on the
// guest's memory and argument words, and shows the result to the observer. A sandbox makes
// one crossing at a time, so that the Call can be used again and again.
func (s *Sandbox) Dispatch(d *abi.Def, f Func, mem []byte, words []uint64) abi.Status {
	if s.replaying {
		return s.replayed(d, mem, words)
	}
	c := &s.call
	c.Seq++
	if limit := s.Limits.Hostcalls; limit > 0 && c.Seq > limit {
		panic(&limitError{&wedge.Error{Op: "run guest", Kind: wedge.Exhausted, Err: fmt.Errorf("it made %d hostcalls", limit), Hint: "Look for a loop around a hostcall, or raise limits.hostcalls."}})
	}
	c.Sandbox, c.Def, c.words, c.mem = s, d, words, mem
	if s.Observer == nil {
		c.invoke(f)
		return c.Result
	}
	c.observed, c.Redacted, c.Writes, c.Notes = true, false, nil, nil
	start := time.Now()
	c.invoke(f)
	s.Observer.Called(c, time.Since(start))
	return c.Result
}

// hostFault is how a run ends whose hostcall panicked: a fault of the host, not of the guest.
type hostFault struct {
	def   *abi.Def
	value any
	stack []byte
}

func (e *hostFault) Error() string {
	return fmt.Sprintf("hostcall %s panicked: %v\n%s", e.def, e.value, e.stack)
}

// invoke runs f; a fault becomes the call's result, what is meant to end the guest goes on.
func (c *Call) invoke(f Func) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case fault:
			c.Result = r.status
		case *limitError, *sys.ExitError:
			panic(r)
		default:
			panic(&hostFault{c.Def, r, debug.Stack()})
		}
	}()
	c.Result = f(c)
}
