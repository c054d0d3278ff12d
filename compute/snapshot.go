package compute

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/sys"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/wasm"
)

// Snapshot start. A guest whose own start-up is the cost runs it once per instance, up to
// the hostcall that asks for its request, and is parked there: the host function does not
// return until there is a request. When the request has ended, memory and globals are set back to
// what they were at that point, the native stack is restored, and the guest parks again.
//
// Memory and stack belong together, so all instances of a program must come to that point in
// the same state. They do, because what the first one was told by the host on its way is recorded
// and told to the others again; the result is compared byte by byte before it is trusted.

// parkingPlace is what the instances of one program share when they begin parked.
type parkingPlace struct {
	def   *abi.Def
	f     Func
	calls []recorded // what the host answered before the guest asked for its request
	image *image     // memory and globals at that point
	state any        // of the template's sandbox
}

// recorded is one crossing of the boundary as a later instance is to see it.
type recorded struct {
	def    *abi.Def
	words  []uint64
	result abi.Status
	writes []Write
}

// Heir is a [Sandbox.State] that can begin with what another one had set up: the handles
// opened by a guest before it asked for its request.
type Heir interface {
	Inherit(template any) error
}

// parked is the part of an instance that has to do with parking. Its guest is a coroutine that
// lasts as long as the instance and runs while somebody is in next.
type parked struct {
	next  func() (struct{}, bool) // to the parking place; false: the guest has ended
	stop  func()                  // ends a guest that is parked
	yield func(struct{}) bool
	snap  experimental.Snapshot
	there bool // has been parked once
	uses  int
	err   error // how the last request ended
}

// maxParkedUses bounds how often one instance is restored: wazero makes its native stack 16
// bytes longer each time.
var maxParkedUses = 2048 // tests lower it

// Start-up happens once, not per request, so it has limits of its own.
const (
	startCPU  = 10 * time.Second
	startWall = 30 * time.Second
)

var (
	errUnparked = errors.New("the instance is not needed any more")
	errReset    = errors.New("the instance could not be set back")
)

// recorder notes the crossings of the template.
type recorder struct{ calls []recorded }

func (r *recorder) Called(c *Call, _ time.Duration) {
	r.calls = append(r.calls, recorded{c.Def, slices.Clone(c.words), c.Result, c.Writes})
}

// replayed answers a call from the record.
func (s *Sandbox) replayed(d *abi.Def, mem []byte, words []uint64) abi.Status {
	if len(s.replay) == 0 || s.replay[0].def != d || !sameWords(d, s.replay[0].words, words) {
		panic(fmt.Errorf("start-up took another course at %s than in the first instance", d))
	}
	rec := s.replay[0]
	s.replay = s.replay[1:]
	for _, w := range rec.writes {
		copy(mem[w.Ptr:], w.Bytes) // checked when it was recorded, on a memory of the same size
	}
	return rec.result
}

// sameWords compares argument words: of an i32 the upper half is whatever was in the register.
func sameWords(d *abi.Def, a, b []uint64) bool {
	types, _ := d.Types()
	for i, t := range types {
		if t == abi.I64 && a[i] != b[i] || uint32(a[i]) != uint32(b[i]) {
			return false
		}
	}
	return true
}

// runToPark runs a new instance to its parking place.
func (c *code) runToPark(inst *instance) error {
	p := &parked{}
	inst.park = p
	sb := c.template()
	rec := &recorder{}
	first := c.parking.image == nil
	if first {
		sb.Observer = rec
	} else {
		sb.replay, sb.replaying = c.parking.calls, true
	}
	r := &run{sb: sb, inst: inst, sched: c.engine.sched, queue: &c.starts, base: c.engine.base, node: c.engine.base, start: time.Now()}
	r.limits = wedge.Limits{CPU: startCPU, Wall: startWall}
	sb.run, sb.Limits, inst.ctx.run = r, sb.Limits.WithDefaults(), r
	p.next, p.stop = iter.Pull(func(yield func(struct{}) bool) {
		p.yield = yield
		inst.live()
	})
	if _, there := p.next(); !there {
		return &wedge.Error{Op: "start guest", Kind: wedge.Invalid, Err: p.err, Hint: `The guest must ask for its request by itself; or use start = "fresh".`}
	}
	if first {
		return c.keepSnapshot(inst, sb, rec)
	}
	return c.checkSnapshot(inst)
}

// keepSnapshot makes the first instance's state the one that all begin with.
func (c *code) keepSnapshot(inst *instance, sb *Sandbox, rec *recorder) error {
	img := wasm.Image{Data: bytes.TrimRight(inst.mem.bytes(), "\x00"), MinPages: uint32(inst.mem.size / wasm.PageSize), MaxPages: uint32(inst.mem.image.max / wasm.PageSize)}
	for i, g := range inst.mem.image.globals {
		g.Value = inst.globals[i].Get()
		img.Globals = append(img.Globals, g)
	}
	snap, err := newImage(img, wedge.Limits{Memory: inst.mem.image.max})
	if err != nil {
		return err
	}
	if err := inst.mem.show(snap); err != nil {
		snap.release()
		return err
	}
	c.parking.image, c.parking.calls, c.parking.state = snap, rec.calls, sb.State
	return nil
}

// checkSnapshot compares a later instance with the first.
func (c *code) checkSnapshot(inst *instance) error {
	img := c.parking.image
	same := inst.mem.size == img.size
	if same {
		mem := inst.mem.bytes()
		data := img.backing.bytes()
		n := min(len(data), len(mem))
		same = bytes.Equal(mem[:n], data[:n]) && len(bytes.TrimRight(mem[n:], "\x00")) == 0
	}
	for i, g := range img.globals {
		same = same && inst.globals[i].Get() == g.Value
	}
	if !same {
		return &wedge.Error{Op: "start guest", Kind: wedge.Internal, Err: fmt.Errorf("two instances came to different states before their first request"), Hint: `Use start = "fresh" for this guest.`}
	}
	return inst.mem.show(img)
}

// live is a parked instance's coroutine: one call that lasts as long as the instance.
func (i *instance) live() {
	p := i.park
	i.ctx.run.acquire()
	err := i.entry.CallWithStack(experimental.WithSnapshotter(&i.ctx), nil)
	r := i.ctx.run
	if r == nil { // was not serving: ended by unpark, or not to be used again
		return
	}
	i.leaveRun(r)
	if p.err = err; !p.there && (err == nil || cleanExit(err)) {
		p.err = errors.New("the guest ended before it asked for a request")
	}
}

// leaveRun ends the account of the run that the instance has served.
func (i *instance) leaveRun(r *run) {
	r.release()
	r.finish()
	r.denied = i.mem.denied
	i.ctx.run = nil
}

// parkFunc is the host side of the hostcall at which guests are parked.
func (c *code) parkFunc(ctx context.Context, stack []uint64) {
	inst := instanceOf(ctx)
	p := inst.park
	p.snap = experimental.GetSnapshotter(ctx).Snapshot()
	if !p.there {
		p.there = true
		inst.leaveRun(inst.ctx.run)
	}
	if !p.yield(struct{}{}) {
		panic(errUnparked)
	}
	r := inst.ctx.run
	r.acquire()
	if heir, ok := r.sb.State.(Heir); ok {
		if err := heir.Inherit(c.parking.state); err != nil {
			panic(&limitError{&wedge.Error{Op: "start guest", Kind: wedge.Unsupported, Err: err, Hint: `Use start = "fresh" for this guest.`}})
		}
	}
	stack[0] = uint64(r.sb.Dispatch(c.parking.def, c.parking.f, inst.mem.bytes(), stack))
}

// endParked ends a request of a parked instance with an exit code and goes back to the
// parking place. It does not return.
func (c *code) endParked(inst *instance, code uint32) {
	p := inst.park
	if !p.there {
		panic(sys.NewExitError(code))
	}
	inst.leaveRun(inst.ctx.run)
	p.err = nil
	if code != 0 {
		p.err = sys.NewExitError(code)
	}
	if p.uses++; p.uses >= maxParkedUses || inst.reset() != nil {
		panic(errReset)
	}
	p.snap.Restore([]uint64{wasm.ParkAgain})
}

// exitParked wraps proc_exit for parked programs.
func (c *code) exitParked(f api.GoFunc) api.GoFunc {
	return func(ctx context.Context, stack []uint64) {
		defer func() {
			r := recover()
			if exit, ok := r.(*sys.ExitError); ok {
				c.endParked(instanceOf(ctx), exit.ExitCode())
			}
			if r != nil {
				panic(r)
			}
		}()
		f(ctx, stack)
	}
}

// runParked serves one request with a parked instance and gives it back.
func (c *code) runParked(inst *instance, r *run) error {
	r.inst, inst.ctx.run = inst, r
	_, there := inst.park.next()
	err := inst.park.err
	if there {
		c.put(inst)
	} else {
		c.discard(inst)
	}
	return err
}

// unpark ends the coroutine of a parked instance that is idle.
func (i *instance) unpark() {
	if i.park != nil {
		i.park.stop()
	}
}
