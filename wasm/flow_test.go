package wasm_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero/api"

	. "github.com/wedge-cloud/wedge/internal/wasmtest"
	"github.com/wedge-cloud/wedge/wasm"
)

// count is work that counts itself, at address 0.
var count = Seq(I32(0), I32(0), Load(0), I32(1), Add, Store(0))

// cheats are guests made of count and of as much around it as may lead a rewrite to charge too little.
var cheats = map[string]func(m *Module){
	"tight loop":   func(m *Module) { m.Main("i32", For(0, 2_000_000, count)) },
	"nested loops": func(m *Module) { m.Main("i32 i32", For(1, 700_000, For(0, 3, count))) },
	"short loops, one after the other": func(m *Module) {
		m.Main("i32 i32", For(1, 20_000, Times(50, For(0, 2, count))))
	},
	"loops that are left at once": func(m *Module) {
		m.Main("i32", For(0, 50_000, Times(20, Block(Loop(count, I32(1), BrIf(1), Br(0))))))
	},
	"long rounds": func(m *Module) { m.Main("i32", For(0, 2_000, Times(1000, count))) },
	"code in front of a loop": func(m *Module) {
		f := m.Func("", "i32", Times(100, count), For(0, 2))
		m.Main("i32", For(0, 20_000, Call(f)))
	},
	"code in front of many loops": func(m *Module) {
		m.Main("i32 i32", For(0, 2_000, Times(30, Times(30, count), For(1, 1))))
	},
	"a check in an arm that is not taken": func(m *Module) {
		arm := If(I32(0), I32(0), I32(0), MemoryFill)
		m.Main("i32", For(0, 2_000, Times(30, Times(30, count), I32(0), arm)))
	},
	"code behind a loop": func(m *Module) {
		f := m.Func("", "i32", For(0, 2), Times(100, count))
		m.Main("i32", For(0, 20_000, Call(f)))
	},
	"code that branches lead past all checks": func(m *Module) {
		skip := Block(I32(1), BrIf(0), Times(375, Nop)) // 512 bytes with ten counts
		m.Main("i32", For(0, 2_000, Times(100, Times(10, count), skip)))
	},
	"the longer arm": func(m *Module) {
		choose := Seq(Get(0), I32(1), Or, Eqz, Op(0x04, 0x40), Else, Times(30, count), End)
		m.Main("i32", For(0, 2_000, Times(30, choose)))
	},
	"back by br_table": func(m *Module) {
		m.Main("i32", Block(Loop(count, Get(0), I32(1), Add, Tee(0), I32(2_000_000), GeU, Op(0x0e, 1, 0, 1))))
	},
	"recursion by halves": func(m *Module) {
		f := m.Declare("i32")
		m.Define(f, "i32", For(1, 3, count), Get(0), If(Get(0), I32(1), Sub, Call(f), count, Get(0), I32(1), Sub, Call(f)))
		m.Main("", I32(18), Call(f))
	},
	"recursion that never comes back": func(m *Module) {
		f := m.Declare("i32")
		m.Define(f, "", Times(50, count), Get(0), Eqz, If(Return), Get(0), I32(1), Sub, Call(f), Unreachable)
		g := m.Func("", "", I32(0), Call(f))
		m.Main("i32", For(0, 40_000, Call(g)))
	},
	"return_call behind a loop": func(m *Module) {
		f := m.Declare("i32")
		m.Define(f, "i32", For(1, 3, count), Get(0), If(Get(0), I32(1), Sub, ReturnCall(f)))
		m.Main("", I32(700_000), Call(f))
	},
	"calls of short functions": func(m *Module) {
		f := m.Func("", "", Times(4, count))
		m.Main("i32", For(0, 10_000, Times(50, Call(f))))
	},
}

// TestNobodyCheats counts what guests do between two call-ins: it must have been paid for.
func TestNobodyCheats(t *testing.T) {
	for _, rounds := range []int32{1, 2, 5, 40, 80, 120, 126, 127, 128, 129, 250, 254, 255, 256, 257, 300} {
		cheats[fmt.Sprintf("calls of a loop of %d", rounds)] = func(m *Module) {
			f := m.Func("", "i32", For(0, rounds, count))
			m.Main("i32", For(0, 2_000_000/rounds, Call(f)))
		}
	}
	for name, build := range cheats {
		t.Run(name, func(t *testing.T) {
			m, _ := guest()
			build(m)
			p := mustSplit(t, m.Bytes(), wasm.Options{})
			w := newWorld(t)
			mod := w.split(p)
			before, most := uint32(0), uint32(0)
			w.refill = wasm.Fuel
			w.onCheck = func(mod api.Module) {
				n, _ := mod.ExportedMemory(wasm.MemoryName).ReadUint32Le(0)
				before, most = n, max(most, n-before)
			}
			fuel(mod).Set(wasm.Fuel)
			if err := w.run(p, mod); err != nil {
				t.Fatal(err)
			}
			const slack = 1024 // a check notices late by what it takes itself
			if done := int(most) * len(count) / 16; w.checks < 2 || done > wasm.Fuel+slack {
				t.Errorf("%d calls; between two of them it did work for %d units, was given %d", w.checks, done, wasm.Fuel)
			}
		})
	}
}

// tangle writes guests at random that branch in all directions, and end.
type tangle struct {
	*rand.Rand
	put   uint32
	notes int32
}

// The locals of a tangle.
const (
	steps = iota
	value
)

func (g *tangle) code(depth, size int) (c Code) {
	for range 1 + g.IntN(size) {
		c = append(c, g.statement(depth, size)...)
	}
	return c
}

func (g *tangle) statement(depth, size int) Code {
	label := func() uint32 { return uint32(g.IntN(depth + 1)) }
	bit := Seq(Get(value), I32(1<<g.IntN(8)), And)
	kind := g.IntN(8)
	if kind < 4 && depth > 140 || size < 2 {
		kind = 7
	}
	switch kind {
	case 0:
		return Block(g.code(depth+1, size-1))
	case 1:
		return Seq(bit, If(g.code(depth+1, size-1)))
	case 2:
		return Seq(bit, Op(0x04, 0x40), g.code(depth+1, size-1), Else, g.code(depth+1, size-1), End)
	case 3:
		return Loop(Get(steps), Eqz, If(Return), Get(steps), I32(1), Sub, Set(steps), g.code(depth+1, size-1))
	case 4:
		return Seq(bit, BrIf(label()))
	case 5:
		table := Vec(label(), label(), label())
		return Block(bit, If(Get(value), I32(3), And, Op(0x0e), table, U32(label())))
	case 6:
		return Seq(Times(1+g.IntN(3)*300, Nop), Get(value), I32(5), Mul, I32(g.Int32N(99)), Add, Set(value))
	default:
		g.notes++
		return Seq(I32(g.notes), Call(g.put), Get(value), I32(1), Add, Set(value))
	}
}

// TestLoopsKeepTheirBranches: guests do the same with loops put around their loops.
func TestLoopsKeepTheirBranches(t *testing.T) {
	seeds := uint64(100)
	if os.Getenv("WEDGE_SOAK") != "" {
		seeds = 1000
	}
	for seed := range seeds {
		m, put := guest()
		g := &tangle{Rand: rand.New(rand.NewPCG(seed, 0)), put: put}
		code := g.code(0, 7)
		if seed%10 == 0 { // so deep that labels get longer
			for range 70 {
				code = Loop(Block(code, Br(0)), Get(steps), Eqz, BrIf(0), Br(1))
			}
			code = Block(code)
		}
		m.Main("i32 i32", I32(2000), Set(steps), I32(int32(seed)), Set(value), code)
		p := sameAsOriginal(t, m.Bytes())
		quiet, rung := newWorld(t), newWorld(t)
		_ = quiet.run(p, quiet.split(p))
		mod := rung.split(p)
		ring(mod)
		if err := rung.run(p, mod); err != nil || !slices.Equal(quiet.notes, rung.notes) {
			t.Fatalf("seed %d: %v, noted %d things and %d", seed, err, len(quiet.notes), len(rung.notes))
		}
	}
}

// TestLoopsWithValues: what is on the stack for a loop goes through the one put around it.
func TestLoopsWithValues(t *testing.T) {
	m, put := guest()
	typ := byte(m.Type("i32 -> i32 i32"))
	down := Seq(Op(0x03, typ), I32(1), Sub, Tee(0), Get(0), Get(0), Call(put), BrIf(0), Get(0), End)
	m.Main("i32 i32", For(1, 50, I32(40), down, Call(put), Call(put)))
	p := sameAsOriginal(t, m.Bytes())
	w := newWorld(t)
	mod := w.split(p)
	ring(mod)
	if err := w.run(p, mod); err != nil || w.checks == 0 || len(w.notes) != 50*42 {
		t.Errorf("%v, %d calls, %d notes", err, w.checks, len(w.notes))
	}
}
