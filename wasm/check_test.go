package wasm_test

import (
	"errors"
	"testing"

	"github.com/tetratelabs/wazero/api"

	. "github.com/wedge-cloud/wedge/internal/wasmtest"
	"github.com/wedge-cloud/wedge/wasm"
)

// endless are guests that never end by themselves.
var endless = map[string]func(*Module){
	"loop":             func(m *Module) { m.Main("", Forever) },
	"loop in a block":  func(m *Module) { m.Main("", Block(Block(Forever))) },
	"loop behind if":   func(m *Module) { m.Main("i32", Get(0), Eqz, If(Forever)) },
	"loop behind else": func(m *Module) { m.Main("i32", Get(0), Op(0x04, 0x40), Else, Forever, End) },
	"loop behind br":   func(m *Module) { m.Main("", Block(Br(0), Forever), Forever) },
	"loop behind br_table": func(m *Module) {
		m.Main("i32", Block(Block(Get(0), Op(0x0e, 1, 0, 1), Unreachable), Forever))
	},
	"br_table in a loop": func(m *Module) { m.Main("i32", Loop(Get(0), Op(0x0e, 1, 0, 0))) },
	"br_if in a loop":    func(m *Module) { m.Main("", Loop(I32(1), BrIf(0))) },
	"loop with a result": func(m *Module) { m.Main("", Op(0x03, 0x7f), Br(0), End, Drop) },
	"loop with work":     func(m *Module) { m.Main("i32", Loop(I32(1), Get(0), Store(0), Get(0), I32(4), And, Set(0), Br(0))) },
	"loop in a callee": func(m *Module) {
		f := m.Func("", "", Forever)
		m.Main("", Call(f))
	},
	"recursion by halves": func(m *Module) { // depth 60, 2^60 calls: no loop, no deep stack
		f := m.Declare("i32")
		m.Define(f, "", Get(0), If(Get(0), I32(1), Sub, Call(f), Get(0), I32(1), Sub, Call(f)))
		m.Main("", I32(60), Call(f))
	},
	"mutual recursion": func(m *Module) {
		f, g := m.Declare(""), m.Declare("")
		m.Define(f, "", Call(g), Call(g))
		m.Define(g, "", Call(f), Call(f))
		m.Main("", Call(f))
	},
	"return_call": func(m *Module) {
		f := m.Declare("")
		m.Define(f, "", ReturnCall(f))
		m.Main("", Call(f))
	},
	"mutual return_call": func(m *Module) {
		f, g := m.Declare("i32"), m.Declare("i32")
		m.Define(f, "", Get(0), ReturnCall(g))
		m.Define(g, "", Get(0), I32(1), Add, ReturnCall(f))
		m.Main("", I32(0), Call(f))
	},
	"return_call_indirect": func(m *Module) {
		m.Table("funcref", 1)
		f := m.Declare("")
		m.Define(f, "", I32(0), ReturnCallIndirect(m.Type("")))
		m.Elem(0, f)
		m.Main("", Call(f))
	},
	"call_indirect": func(m *Module) {
		m.Table("funcref", 1)
		f := m.Declare("i32")
		m.Define(f, "", Get(0), If(Get(0), I32(1), Sub, I32(0), CallIndirect(m.Type("i32")), Get(0), I32(1), Sub, I32(0), CallIndirect(m.Type("i32"))))
		m.Elem(0, f)
		m.Main("", I32(60), Call(f))
	},
	"loop after a call": func(m *Module) { // the callee decides: the loop does not stand for the entry
		f := m.Declare("")
		m.Define(f, "", Call(f), Call(f), Forever)
		m.Main("", Call(f))
	},
	"start section": func(m *Module) {
		m.Start(m.Func("", "", Forever))
		m.Main("")
	},
}

// TestEndlessGuestsCallIn lets the third call end the guest: with fuel given each time, for it must
// come without anybody telling it, and with none, so that each check calls. A guest without its
// checks would hang the test.
func TestEndlessGuestsCallIn(t *testing.T) {
	for name, build := range endless {
		t.Run(name+" by itself", func(t *testing.T) {
			m, _ := guest()
			build(m)
			p := mustSplit(t, m.Bytes(), wasm.Options{})
			w := newWorld(t)
			mod := w.split(p)
			w.refill, w.stopAfter = wasm.Fuel, 3
			fuel(mod).Set(wasm.Fuel)
			if err := w.run(p, mod); !errors.Is(err, errStopped) {
				t.Errorf("ended with %v", err)
			}
		})
		t.Run(name, func(t *testing.T) {
			m, _ := guest()
			build(m)
			p := mustSplit(t, m.Bytes(), wasm.Options{})
			if p.Checks == 0 {
				t.Fatal("no checks")
			}
			w := newWorld(t)
			mod := w.split(p)
			ring(mod)
			w.stopAfter = 3
			if err := w.run(p, mod); !errors.Is(err, errStopped) {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

// ring takes a guest's fuel, so that it calls in at each check: the world gives it none.
func ring(mod api.Module) { fuel(mod).Set(0) }

func fuel(mod api.Module) api.MutableGlobal {
	return mod.ExportedGlobal(wasm.FuelGlobal).(api.MutableGlobal)
}

// checksOf runs a guest with no fuel and returns how often it called in.
func checksOf(t *testing.T, src []byte) int {
	t.Helper()
	p := mustSplit(t, src, wasm.Options{})
	w := newWorld(t)
	mod := w.split(p)
	ring(mod)
	if err := w.run(p, mod); err != nil {
		t.Fatal(err)
	}
	return w.checks
}

// TestChecksBoundStretches: between two checks a guest can do little, even without loops.
func TestChecksBoundStretches(t *testing.T) {
	for _, c := range []struct {
		name  string
		build func(*Module)
		least int
		most  int
	}{
		{"short leaf", func(m *Module) { m.Main("i32", I32(1), Set(0)) }, 0, 0},
		{"long leaf", func(m *Module) { m.Main("i32", Times(100, I32(1), Set(0))) }, 1, 1},
		{"straight code", func(m *Module) { m.Main("i32", Times(10_000, I32(1), Set(0))) }, 40_000 / 2100, 40_000/2048 + 2},
		{"calls of short leaves", func(m *Module) {
			f := m.Func("", "", Nop)
			m.Main("", Times(10_000, Call(f)))
		}, 10_000 * 66 / 2200, 10_000*66/2048 + 2},
		{"calls of long leaves", func(m *Module) {
			f := m.Func("", "i32", Times(100, I32(1), Set(0)))
			m.Main("", Times(100, Call(f)))
		}, 100, 110},
		{"memory.fill", func(m *Module) { m.Main("", Times(20, I32(0), I32(0), I32(65536), MemoryFill)) }, 20, 22},
		{"memory.copy", func(m *Module) { m.Main("", Times(20, I32(0), I32(0), I32(65536), MemoryCopy)) }, 20, 22},
		{"a loop stands for the entry", func(m *Module) {
			f := m.Func("", "", Nop)
			m.Main("", Loop(Call(f)))
		}, 1, 1},
		{"a loop behind a branch does not", func(m *Module) {
			f := m.Func("", "", Nop)
			m.Main("", Block(I32(1), BrIf(0), Forever), Call(f))
		}, 1, 1},
	} {
		m, _ := guest()
		c.build(m)
		if n := checksOf(t, m.Bytes()); n < c.least || n > c.most {
			t.Errorf("%s: %d checks, want %d to %d", c.name, n, c.least, c.most)
		}
	}
}

// TestFuelPaysForWork: a guest calls in after a bounded amount of work, whatever the work is.
func TestFuelPaysForWork(t *testing.T) {
	for _, c := range []struct {
		name  string
		build func(*Module)
		units int // of fuel that the whole run is worth, at least
	}{
		{"tight loop", func(m *Module) { m.Main("i32", For(0, 1_000_000)) }, 1_000_000},
		{"loop of long code", func(m *Module) { m.Main("i32", For(0, 10_000, Times(100, I32(1), Drop))) }, 10_000 * 300 / 16},
		{"loop of straight code with checks", func(m *Module) { m.Main("i32", For(0, 1000, Times(1000, I32(1), Drop))) }, 1000 * 3000 / 16},
		{"calls of short leaves", func(m *Module) {
			f := m.Func("", "", Times(10, I32(1), Drop))
			m.Main("i32", For(0, 10_000, Times(100, Call(f))))
		}, 1_000_000 * 30 / 16},
		{"calls of long leaves", func(m *Module) {
			f := m.Func("", "", Times(100, I32(1), Drop))
			m.Main("i32", For(0, 10_000, Times(10, Call(f))))
		}, 100_000 * 300 / 16},
		{"a loop in a callee, entered straight", func(m *Module) {
			f := m.Func("", "i32", Times(15, I32(1), Drop), Loop(Get(0), BrIf(0)))
			m.Main("i32", For(0, 100_000, Call(f)))
		}, 100_000 * 48 / 16},
		{"small memory.copy", func(m *Module) { m.Main("i32", For(0, 100_000, I32(0), I32(0), I32(100), MemoryCopy)) }, 100_000},
		{"large memory.fill", func(m *Module) { m.Main("i32", For(0, 10_000, I32(0), I32(0), I32(65536), MemoryFill)) }, 10_000 * 65536 / 512},
		{"table.fill", func(m *Module) {
			m.Table("funcref", 10000)
			m.Main("i32", For(0, 10_000, I32(0), RefNull("funcref"), I32(10000), Bulk(17, 0)))
		}, 10_000 * 10_000 / 512},
	} {
		m, _ := guest()
		c.build(m)
		p := mustSplit(t, m.Bytes(), wasm.Options{})
		w := newWorld(t)
		mod := w.split(p)
		w.refill = wasm.Fuel
		fuel(mod).Set(wasm.Fuel)
		if err := w.run(p, mod); err != nil {
			t.Fatal(err)
		}
		if used := (w.checks + 1) * wasm.Fuel; used < c.units {
			t.Errorf("%s: %d calls, so at most %d units; it is worth %d", c.name, w.checks, used, c.units)
		}
	}
}

// TestNoChecks: left out for measuring, they are all left out.
func TestNoChecks(t *testing.T) {
	m, put := guest()
	m.Main("i32", For(0, 10, Get(0), Call(put)))
	p := mustSplit(t, m.Bytes(), wasm.Options{NoChecks: true})
	w := newWorld(t)
	mod := w.split(p)
	ring(mod)
	if err := w.run(p, mod); err != nil || w.checks != 0 || p.Checks != 0 || len(w.notes) != 10 {
		t.Errorf("%v, %d checks ran, %d announced, %d notes", err, w.checks, p.Checks, len(w.notes))
	}
}

// TestChecksChangeNothing: guests do the same when each check calls in.
func TestChecksChangeNothing(t *testing.T) {
	for name, build := range programs {
		p := mustSplit(t, build().Bytes(), wasm.Options{})
		quiet, rung := newWorld(t), newWorld(t)
		errA := quiet.run(p, quiet.split(p))
		mod := rung.split(p)
		ring(mod)
		errB := rung.run(p, mod)
		if (errA == nil) != (errB == nil) || len(quiet.notes) != len(rung.notes) {
			t.Errorf("%s: %v and %v, %d and %d notes", name, errA, errB, len(quiet.notes), len(rung.notes))
		}
	}
}
