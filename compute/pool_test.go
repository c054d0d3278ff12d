package compute

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	w "github.com/wedge-cloud/wedge/internal/wasmtest"
)

func TestInstancesAreReused(t *testing.T) {
	e := newEngine(t, Config{})
	m := load(t, e, canary("x"), Options{Limits: canaryLimits})
	for i := range int32(30) {
		_, err := serve(m, 0, 1<<20, i%3, 0)
		checkEnd(t, i%3, err)
	}
	s := e.Stats()
	if s.Created.Load() != 1 || s.Discarded.Load() != 0 || s.Runs.Load() != 30 {
		t.Errorf("%d created, %d discarded, %d runs", s.Created.Load(), s.Discarded.Load(), s.Runs.Load())
	}
	_, err := serve(m, 0, 1<<20, endTrap, 0)
	wantKind(t, err, wedge.Trap)
	if s.Discarded.Load() != 1 || s.Traps.Load() != 1 || m.code.liveNow() != 0 {
		t.Errorf("after a trap: %d discarded, %d traps, %d live", s.Discarded.Load(), s.Traps.Load(), m.code.liveNow())
	}
}

func TestTrim(t *testing.T) {
	e := newEngine(t, Config{IdleTime: 40 * time.Millisecond})
	m := load(t, e, greedy(), Options{})
	mustServe(t, m, []uint32{1}, 0)
	eventually(t, "the pool is empty", func() bool { return m.code.liveNow() == 0 && m.code.idleNow() == 0 })
	mustServe(t, m, []uint32{1}, 0)
}

// TestReloads loads and closes programs again and again: nothing may add up.
func TestReloads(t *testing.T) {
	e := newEngine(t, Config{})
	reload := func(i int, start wedge.Start) {
		m, err := e.Load(context.Background(), parkable(fmt.Sprint("version ", i), fmt.Sprint(i)), Options{Start: start, Template: template})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := serve(m, 0); err != nil {
			t.Fatal(err)
		}
		m.Close()
	}
	settle := func() {
		eventually(t, "goroutines of instances end", func() bool {
			_, images := mappings()
			return images == 0
		})
		runtime.GC()
		runtime.GC()
	}
	for i := range 20 {
		reload(i, wedge.Start(i%2))
	}
	settle()
	files, goroutines := openFiles(), runtime.NumGoroutine()
	maps, _ := mappings()
	for i := range 200 {
		reload(i, wedge.Start(i%2))
	}
	settle()
	eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines+2 })
	mapsNow, _ := mappings()
	if n := openFiles() - files; n > 2 {
		t.Errorf("%d more open files", n)
	}
	if n := mapsNow - maps; n > 30 {
		t.Errorf("%d more mappings", n)
	}
	if len(e.codes) != 0 {
		t.Errorf("%d codes are left", len(e.codes))
	}
}

func TestSharedCode(t *testing.T) {
	e := newEngine(t, Config{})
	a := load(t, e, canary("a"), Options{Limits: canaryLimits})
	b := load(t, e, canary("b"), Options{Limits: canaryLimits})
	if a.Info.Shared || !b.Info.Shared || a.Info.Digest != b.Info.Digest || e.stats.Compiled.Load() != 1 {
		t.Errorf("shared %v and %v, %d compiled", a.Info.Shared, b.Info.Shared, e.stats.Compiled.Load())
	}
	a.Close()
	a.Close()
	if _, err := serve(b, 0, 1<<20, 0, 0); err != nil {
		t.Error(err)
	}
	_, err := serve(a, 0, 1<<20, 0, 0)
	wantKind(t, err, wedge.Unavailable)
}

func TestConcurrentLoads(t *testing.T) {
	e := newEngine(t, Config{})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			m := load(t, e, canary(fmt.Sprint(i)), Options{Limits: canaryLimits})
			if _, err := serve(m, 0, 1<<20, 0, 0); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := e.stats.Compiled.Load(); n != 1 {
		t.Errorf("%d compiled", n)
	}
}

// TestCloseWhileRunning: what runs ends as it would have, then everything is freed.
func TestCloseWhileRunning(t *testing.T) {
	for _, start := range []wedge.Start{wedge.StartFresh, wedge.StartSnapshot} {
		t.Run(start.String(), func(t *testing.T) {
			e := newEngine(t, Config{})
			m := load(t, e, parkable("x", ""), Options{Start: start, Template: template})
			inside, release, done := make(chan bool), make(chan bool), make(chan error)
			go func() {
				done <- m.Run(context.Background(), &Sandbox{State: &lab{params: []int32{1}, wait: func(context.Context) {
					inside <- true
					<-release
				}}})
			}()
			<-inside
			m.Close()
			_, err := serve(m, 0)
			wantKind(t, err, wedge.Unavailable)
			release <- true
			if err := <-done; err != nil {
				t.Error(err)
			}
			eventually(t, "the code is freed", func() bool {
				m.code.mu.Lock()
				defer m.code.mu.Unlock()
				return m.code.runtime == nil
			})
			if _, images := mappings(); images != 0 {
				t.Errorf("%d mappings of images are left", images)
			}
		})
	}
}

// TestCloseRaces: Close and Run at the same moment end in a result or a refusal.
func TestCloseRaces(t *testing.T) {
	e := newEngine(t, Config{})
	for range 30 {
		m := load(t, e, greedy(), Options{})
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 20 {
					if _, err := serve(m, 0); err != nil && wedge.KindOf(err) != wedge.Unavailable {
						t.Error(err)
					}
				}
			})
		}
		all.Go(m.Close)
		all.Wait()
	}
}

func TestEngineCloseEndsGuests(t *testing.T) {
	e := New(Config{Funcs: labFuncs(), ParkAt: defAsk})
	m, err := e.Load(context.Background(), greedy(), Options{Limits: wedge.Limits{CPU: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error)
	for _, how := range []int32{1, 6} {
		go func() {
			errs <- m.Run(context.Background(), &Sandbox{State: &lab{params: []int32{how}, wait: func(ctx context.Context) { <-ctx.Done() }}})
		}()
	}
	eventually(t, "both run", func() bool { return e.stats.Running.Load() == 2 })
	e.Close()
	for range 2 {
		wantKind(t, <-errs, wedge.Unavailable)
	}
	m.Close()
}

func TestUnknownImports(t *testing.T) {
	e := newEngine(t, Config{})
	m := w.New()
	m.Import("env", "emscripten_thing", "i32")
	m.Import("wasi_snapshot_preview1", "fd_frobnicate", "-> i32")
	m.Import("other", "f", "")
	m.Import("__wedge_host", "interrupt", "")
	m.Memory(1)
	m.Main("")
	_, err := e.Load(context.Background(), m.Bytes(), Options{})
	wantKind(t, err, wedge.Unsupported)
	for _, name := range []string{"env.emscripten_thing", "wasi_snapshot_preview1.fd_frobnicate", "other.f", "__wedge_host.interrupt"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not name %s", err, name)
		}
	}
	if len(e.codes) != 0 {
		t.Error("the failed code is kept")
	}
}

// TestStubs: fastly_* calls that nobody implements, or with another signature, answer 5; old names work.
func TestStubs(t *testing.T) {
	funcs := labFuncs()
	funcs[abi.Lookup("fastly_http_req", "new")] = func(c *Call) abi.Status {
		c.PutU32(c.U32(0), 33)
		return abi.OK
	}
	e := newEngine(t, Config{Funcs: funcs})
	m := w.New()
	note := m.Import(wasiModule, "fd_sync", "i32 -> i32")
	unknown := m.Import("fastly_tomorrow", "call", "i64 f32 f64 -> i32")
	silent := m.Import("fastly_tomorrow", "silent", "i32")
	other := m.Import("fastly_http_req", "close", "i64 -> i32")
	missing := m.Import("fastly_http_resp", "new", "i32 -> i32")
	legacy := m.Import("env", "xqd_req_new", "i32 -> i32")
	m.Memory(1)
	tell := func(code ...w.Code) w.Code { return w.Seq(w.Seq(code...), w.Call(note), w.Drop) }
	m.Main("",
		tell(w.I64(1), w.Op(0x43, 0, 0, 0, 0), w.Op(0x44, 0, 0, 0, 0, 0, 0, 0, 0), w.Call(unknown)),
		w.I32(1), w.Call(silent),
		tell(w.I64(1), w.Call(other)), tell(w.I32(0), w.Call(missing)),
		tell(w.I32(0), w.Call(legacy)), tell(w.I32(0), w.Load(0)))
	mod := load(t, e, m.Bytes(), Options{})
	mustServe(t, mod, []uint32{5, 5, 5, 0, 33})
	want := "[fastly_http_req.close fastly_http_resp.new fastly_tomorrow.call fastly_tomorrow.silent]"
	if got := fmt.Sprint(mod.Info.Stubs); got != want || mod.Info.CGI {
		t.Errorf("stubs %s, want %s; CGI %v", got, want, mod.Info.CGI)
	}
}

func TestPlainProgram(t *testing.T) {
	e := newEngine(t, Config{})
	m := w.New()
	m.Import(wasiModule, "fd_sync", "i32 -> i32")
	m.Memory(1)
	m.Main("")
	if mod := load(t, e, m.Bytes(), Options{}); !mod.Info.CGI {
		t.Error("not seen as a plain WASI program")
	}
}

// TestLoadRefusals: whatever is wrong with a module, Load says so and the engine goes on.
func TestLoadRefusals(t *testing.T) {
	e := newEngine(t, Config{})
	type module = *w.Module
	for name, c := range map[string]struct {
		change func(m module)
		kind   wedge.Kind
	}{
		"_start takes a parameter":    {func(m module) { m.Export("_start", w.KindFunc, m.Func("i32", "")) }, wedge.Invalid},
		"_start returns a result":     {func(m module) { m.Export("_start", w.KindFunc, m.Func("-> i32", "", w.I32(1))) }, wedge.Invalid},
		"start section with result":   {func(m module) { m.Main(""); m.Start(m.Func("-> i32", "", w.I32(1))) }, wedge.Invalid},
		"does not validate":           {func(m module) { m.Main("", w.Add) }, wedge.Invalid},
		"function of a missing type":  {func(m module) { m.Main("", w.Call(0)); m.Section(3, []byte{1, 48}) }, wedge.Invalid},
		"exports twice":               {func(m module) { f := m.Main(""); m.Export("_start", w.KindFunc, f) }, wedge.Invalid},
		"imports with odd parameters": {func(m module) { m.Import("fastly_x", "f", "funcref"); m.Main("") }, wedge.Invalid},
	} {
		m := w.New()
		m.Memory(1)
		c.change(m)
		_, err := e.Load(context.Background(), m.Bytes(), Options{Name: "bad"})
		if err == nil || wedge.KindOf(err) != c.kind || wedge.HintOf(err) == "" {
			t.Errorf("%s: %v (%v), hint %q", name, err, wedge.KindOf(err), wedge.HintOf(err))
		}
	}
	if len(e.codes) != 0 {
		t.Errorf("%d codes are left", len(e.codes))
	}
	for _, opt := range []Options{{Start: wedge.StartSnapshot}} {
		_, err := e.Load(context.Background(), greedy(), opt)
		wantKind(t, err, wedge.Unsupported)
	}
}

func TestCodeCache(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		m := load(t, newEngine(t, Config{CacheDir: dir}), greedy(), Options{})
		mustServe(t, m, []uint32{1}, 0)
		m.Close()
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	bad := newEngine(t, Config{CacheDir: filepath.Join(file, "cache")})
	_, err := bad.Load(context.Background(), greedy(), Options{})
	wantKind(t, err, wedge.Unavailable)
}

// seen is an Observer that keeps what it is shown.
type seen struct {
	seqs   []uint64
	names  []string
	writes [][]Write
	result []abi.Status
	hidden []bool
}

func (s *seen) Called(c *Call, took time.Duration) {
	s.seqs, s.names, s.result = append(s.seqs, c.Seq), append(s.names, c.Def.Name), append(s.result, c.Result)
	s.writes, s.hidden = append(s.writes, c.Writes), append(s.hidden, c.Redacted)
}

func TestObserver(t *testing.T) {
	funcs := labFuncs()
	funcs[defRandom] = func(c *Call) abi.Status {
		c.Redact()
		c.Write(c.U32(0), []byte("secret"))
		c.PutU16(100, 0x0102)
		return 0
	}
	e := newEngine(t, Config{Funcs: funcs})
	m := load(t, e, program(1, func(m *w.Module, c calls) {
		m.Main("",
			c.tell(w.I32(7)),
			w.I32(16), w.I32(4), w.Call(c.random), w.Drop,
			w.I32(16), w.I32(0), w.Store(0), // the guest overwrites what it got
			w.I32(0), w.I32(4), w.Call(c.ask), w.Drop,
			c.tell(w.I32(65534), w.I32(0), w.Call(c.ask)), // does not fit: inval
			c.tell(w.I32(-1), w.I32(1), w.Call(c.random)), // does not fit: EFAULT in WASI
		)
	}), Options{})
	for range 2 {
		var s seen
		l := &lab{}
		if err := m.Run(context.Background(), &Sandbox{State: l, Observer: &s}); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(s.seqs, s.names); got != "[1 2 3 4 5 6 7] [fd_sync random_get body_downstream_get body_downstream_get fd_sync random_get fd_sync]" {
			t.Errorf("observed %s", got)
		}
		if got := fmt.Sprint(s.result); got != fmt.Sprint([]abi.Status{0, 0, 0, abi.Inval, 0, abi.EFault, 0}) {
			t.Errorf("results %s", got)
		}
		if got := fmt.Sprint(s.hidden); got != "[false true false false false true false]" {
			t.Errorf("redacted: %s", got)
		}
		if len(s.writes[1]) != 2 || s.writes[1][0].Ptr != 16 || !bytes.Equal(s.writes[1][0].Bytes, []byte("secret")) || !bytes.Equal(s.writes[1][1].Bytes, []byte{2, 1}) {
			t.Errorf("writes %v", s.writes[1])
		}
		if len(s.writes[0]) != 0 || len(s.writes[2]) != 2 || len(s.writes[3]) != 0 {
			t.Errorf("writes %v", s.writes)
		}
		if fmt.Sprint(l.notes) != fmt.Sprint([]uint32{7, uint32(abi.Inval), uint32(abi.EFault)}) {
			t.Errorf("notes %v", l.notes)
		}
	}
}
