package compute

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	w "github.com/wedge-cloud/wedge/internal/wasmtest"
)

// started counts the templates asked for, each for one start-up.
type starts struct {
	mu   sync.Mutex
	labs []*lab
	set  func(*lab)
}

func (s *starts) template() *Sandbox {
	l := &lab{params: []int32{100}, wait: func(context.Context) {}}
	if s.set != nil {
		s.set(l)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.labs = append(s.labs, l)
	return &Sandbox{State: l}
}

func template() *Sandbox { return new(starts).template() }

// parkable is a guest with a start-up: it notes 1, draws a number and keeps it, writes to memory that it
// grew, sets a global, and asks for its request. With the request it notes what it finds, spoils it
// and does what parameter 0 says: 1 wait, 2 trap, 3 exit 7, 4 endless loop, 5 crash, 6 exit 0, 7 grow.
// Some text makes its image, and a name in the code its own.
func parkable(text, name string) []byte {
	return program(2, func(m *w.Module, c calls) {
		m.Data(8, text)
		m.Global("i32", true, w.I32(1))
		choice := func(n int32, body ...w.Code) w.Code {
			return w.Seq(w.I32(0), w.Call(c.param), w.I32(n), w.Eq, w.If(body...))
		}
		f := m.Main("i32 i32",
			c.tell(w.I32(1)),
			w.I32(64), w.I32(4), w.Call(c.random), w.Drop, // kept at 64
			w.I32(1), w.MemoryGrow, w.Drop, w.I32(140000), w.I32(77), w.Store(0),
			w.I32(2), w.GlobalSet(0), w.I32(3), w.Set(0),
			w.I32(32), w.I32(36), w.Call(c.ask), w.Drop,
			c.tell(w.GlobalGet(0)), c.tell(w.Get(0)), c.tell(w.I32(140000), w.Load(0)), c.tell(w.MemorySize),
			c.tell(w.I32(64), w.Load(0)), c.tell(w.I32(32), w.Load(0)), c.tell(w.I32(100), w.Load(0)), c.tell(w.I32(150000), w.Load(0)),
			w.I32(9), w.GlobalSet(0), w.I32(9), w.Set(0),
			w.For(1, 3*65536/4, w.Get(1), w.I32(2), w.Op(0x74), w.I32(-1), w.Store(0)),
			choice(1, w.Call(c.wait), w.Drop),
			choice(2, w.Unreachable),
			choice(3, w.I32(7), w.Call(c.exit)),
			choice(4, w.Forever),
			choice(5, w.I32(0), w.Call(c.crash), w.Drop),
			choice(6, w.I32(0), w.Call(c.exit)),
			choice(7, w.I32(10), w.MemoryGrow, w.Drop, w.I32(200000), w.I32(1), w.Store(0)))
		if name != "" {
			m.Name(f, name)
		}
	})
}

var snapshotLimits = wedge.Limits{CPU: 200 * time.Millisecond, Memory: 4 << 20}

func TestSnapshotStart(t *testing.T) {
	e := newEngine(t, Config{})
	var s starts
	m := load(t, e, parkable("x", ""), Options{Start: wedge.StartSnapshot, Template: s.template, Limits: snapshotLimits})
	first, err := serve(m, 0)
	if err != nil {
		t.Fatal(err)
	}
	drew := first[4]
	want := []uint32{2, 3, 77, 3, drew, 11, 0, 0}
	if !slices.Equal(first, want) {
		t.Fatalf("noted %v, want %v", first, want)
	}
	for round := range 4 {
		for how := range int32(8) {
			got, err := serve(m, how)
			if !slices.Equal(got, want) {
				t.Fatalf("round %d, way %d: noted %v, want %v", round, how, got, want)
			}
			switch how {
			case 2:
				wantKind(t, err, wedge.Trap)
			case 3:
				if err != ExitCode(7) {
					t.Errorf("exit: %v", err)
				}
			case 4:
				wantKind(t, err, wedge.Exhausted)
			case 5:
				wantKind(t, err, wedge.Internal)
			default:
				if err != nil {
					t.Errorf("way %d: %v", how, err)
				}
			}
		}
	}
	// 3 of 8 ways cost the instance; each further one replays the start-up.
	if n := len(s.labs); n < 4 || n > 14 {
		t.Errorf("%d start-ups", n)
	}
	for i, l := range s.labs {
		if want := 1; i == 0 && len(l.notes) != want || i > 0 && len(l.notes) != 0 {
			t.Errorf("start-up %d called the host %d times itself", i, len(l.notes))
		}
	}
	if e.stats.Snapshots.Load() != e.stats.Runs.Load() {
		t.Errorf("%d of %d runs began from the snapshot", e.stats.Snapshots.Load(), e.stats.Runs.Load())
	}
}

func TestSnapshotWallLimit(t *testing.T) {
	e := newEngine(t, Config{})
	m := load(t, e, parkable("x", ""), Options{Start: wedge.StartSnapshot, Template: template, Limits: wedge.Limits{Wall: 40 * time.Millisecond}})
	for range 2 {
		err := m.Run(context.Background(), &Sandbox{State: &lab{params: []int32{1}, wait: func(ctx context.Context) { <-ctx.Done() }}})
		wantKind(t, err, wedge.Timeout)
		if _, err := serve(m, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSnapshotConcurrently: requests that find no idle instance make further ones, in the same state.
func TestSnapshotConcurrently(t *testing.T) {
	e := newEngine(t, Config{})
	var s starts
	m := load(t, e, parkable("x", ""), Options{Start: wedge.StartSnapshot, Template: s.template, Limits: snapshotLimits})
	want, _ := serve(m, 0)
	release := make(chan bool)
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			l := &lab{params: []int32{1}, wait: func(context.Context) { <-release }}
			if err := m.Run(context.Background(), &Sandbox{State: l}); err != nil || !slices.Equal(l.notes, want) {
				t.Errorf("noted %v (%v), want %v", l.notes, err, want)
			}
		})
	}
	eventually(t, "all wait", func() bool { return m.code.liveNow() == 10 && m.code.idleNow() == 0 })
	close(release)
	all.Wait()
	for range 300 {
		all.Go(func() {
			if got, err := serve(m, 0); err != nil || !slices.Equal(got, want) {
				t.Errorf("noted %v (%v), want %v", got, err, want)
			}
		})
	}
	all.Wait()
}

func TestSnapshotRecycling(t *testing.T) {
	defer func(n int) { maxParkedUses = n }(maxParkedUses)
	maxParkedUses = 5
	e := newEngine(t, Config{})
	m := load(t, e, parkable("x", ""), Options{Start: wedge.StartSnapshot, Template: template, Limits: snapshotLimits})
	want, _ := serve(m, 0)
	for range 23 {
		mustServe(t, m, want, 0)
	}
	if n := e.stats.Created.Load(); n < 4 || n > 7 {
		t.Errorf("%d instances for 24 requests, 5 each", n)
	}
	eventually(t, "used-up instances are closed", func() bool { return m.code.liveNow() <= 1 })
}

// TestSnapshotsAreNotShared: what the start-up was told belongs to its service, even if another one has
// the same program.
func TestSnapshotsAreNotShared(t *testing.T) {
	e := newEngine(t, Config{})
	a := load(t, e, parkable("x", ""), Options{Start: wedge.StartSnapshot, Template: template})
	b := load(t, e, parkable("x", ""), Options{Start: wedge.StartSnapshot, Template: template})
	x, _ := serve(a, 0)
	y, _ := serve(b, 0)
	if a.code == b.code || len(x) != len(y) || x[4] == y[4] {
		t.Errorf("two services drew %v and %v", x, y)
	}
}

func TestSnapshotHeir(t *testing.T) {
	e := newEngine(t, Config{})
	var s starts
	m := load(t, e, parkable("x", ""), Options{Start: wedge.StartSnapshot, Template: s.template})
	l := &lab{params: []int32{0}}
	if err := m.Run(context.Background(), &Sandbox{State: l}); err != nil || l.inherited != any(s.labs[0]) {
		t.Errorf("inherited %v (%v)", l.inherited, err)
	}
	refuse := errors.New("cannot be inherited")
	err := m.Run(context.Background(), &Sandbox{State: &lab{params: []int32{0}, refuse: refuse}})
	wantKind(t, err, wedge.Unsupported)
	if !errors.Is(err, refuse) {
		t.Error(err)
	}
	if _, err := serve(m, 0); err != nil {
		t.Error(err)
	}
}

func TestSnapshotTrimAndStart(t *testing.T) {
	e := newEngine(t, Config{IdleTime: 40 * time.Millisecond})
	m := load(t, e, parkable("x", ""), Options{Start: wedge.StartSnapshot, Template: template})
	want, _ := serve(m, 0)
	eventually(t, "the pool is empty", func() bool { return m.code.liveNow() == 0 })
	mustServe(t, m, want, 0)
}

// TestSnapshotRefusals: guests that cannot be started so are refused when loaded.
func TestSnapshotRefusals(t *testing.T) {
	e := newEngine(t, Config{})
	for name, c := range map[string]struct {
		body func(m *w.Module, c calls)
		text string
	}{
		"never asks":  {func(m *w.Module, c calls) { m.Main("", c.tell(w.I32(1))) }, "ended before"},
		"exits first": {func(m *w.Module, c calls) { m.Main("", w.I32(0), w.Call(c.exit)) }, "ended before"},
		"traps first": {func(m *w.Module, c calls) { m.Main("", w.Unreachable) }, "unreachable"},
		"crashes":     {func(m *w.Module, c calls) { m.Main("", w.I32(0), w.Call(c.crash), w.Drop) }, "panicked"},
		"tables": {func(m *w.Module, c calls) {
			m.Table("funcref", 1)
			m.Main("", w.I32(0), w.RefNull("funcref"), w.TableSet(0), w.I32(0), w.I32(4), w.Call(c.ask), w.Drop)
		}, "table.set"},
	} {
		goroutines := e.stats.Running.Load()
		_, err := e.Load(context.Background(), program(1, c.body), Options{Start: wedge.StartSnapshot, Template: template})
		if err == nil || !strings.Contains(err.Error(), c.text) || wedge.HintOf(err) == "" {
			t.Errorf("%s: %v, hint %q; want %q", name, err, wedge.HintOf(err), c.text)
		}
		if e.stats.Running.Load() != goroutines {
			t.Errorf("%s: %d running", name, e.stats.Running.Load())
		}
	}
	if len(e.codes) != 0 {
		t.Errorf("%d codes are left", len(e.codes))
	}
}

// TestSnapshotOtherCourse: a start-up that does not do again what it did is found out.
func TestSnapshotOtherCourse(t *testing.T) {
	e := newEngine(t, Config{})
	first := true
	s := starts{set: func(l *lab) {
		l.params[0] = 1
		if !first {
			l.params[0] = 2
		}
		first = false
	}}
	// The answer of param is replayed, so that a change of it changes nothing.
	m := load(t, e, program(1, func(m *w.Module, c calls) {
		m.Global("i32", true, w.I32(0))
		m.Main("", w.I32(0), w.Call(c.param), w.GlobalSet(0), w.I32(0), w.I32(4), w.Call(c.ask), w.Drop, c.tell(w.GlobalGet(0)),
			w.I32(0), w.Call(c.param), w.I32(5), w.Eq, w.If(w.Unreachable))
	}), Options{Start: wedge.StartSnapshot, Template: s.template})
	mustServe(t, m, []uint32{1}, 0)
	_, err := serve(m, 5)
	wantKind(t, err, wedge.Trap)
	mustServe(t, m, []uint32{1}, 0)
	if len(s.labs) != 2 {
		t.Errorf("%d start-ups", len(s.labs))
	}
}

// TestSnapshotStartUpLimits: a start-up that waits for ever ends when the node gives up.
func TestSnapshotStartUpEnds(t *testing.T) {
	e := newEngine(t, Config{})
	s := starts{set: func(l *lab) { l.wait = func(ctx context.Context) { e.Interrupt(); <-ctx.Done() } }}
	_, err := e.Load(context.Background(), program(1, func(m *w.Module, c calls) {
		m.Main("", w.Call(c.wait), w.Drop, w.I32(0), w.I32(4), w.Call(c.ask), w.Drop)
	}), Options{Start: wedge.StartSnapshot, Template: s.template})
	if err == nil || !strings.Contains(err.Error(), "stopping") {
		t.Error(err)
	}
}
