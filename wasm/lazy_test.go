package wasm_test

import (
	"bytes"
	"fmt"
	"testing"

	. "github.com/wedge-cloud/wedge/internal/wasmtest"
	"github.com/wedge-cloud/wedge/wasm"
)

// tabled is a guest with a table of 300 places, 290 of them with functions that give their number: a gap at
// 100, a place written twice, the same function at two places. What it does is more's.
func tabled(more func(m *Module, put uint32) Code) []byte {
	m, put := guest()
	m.Table("funcref", 300)
	var f []uint32
	for i := range int32(280) {
		f = append(f, m.Func("i32 -> i32", "i64 f32", Get(0), I32(i*7), Add))
	}
	m.Elem(0, f[:100]...)
	m.Elem(110, f[100:]...)
	m.Elem(289, f[5])
	m.Elem(290, f[4], put)
	m.Main("i32 i64 i32", more(m, put))
	return m.Bytes()
}

func callAt(m *Module, at ...Code) Code {
	return Seq(I32(1), Seq(at...), CallIndirect(m.Type("i32 -> i32")))
}

func has(p *wasm.Program, place int32, f uint32) bool { // an active segment of one function
	return bytes.Contains(p.Code, Seq(Op(0), I32(place), End, Vec(f)))
}

// TestLazyTable calls through every place of a table, twice, and compares with the original.
func TestLazyTable(t *testing.T) {
	src := tabled(func(m *Module, put uint32) Code {
		round := func(from, n int32) Code {
			return For(0, n, callAt(m, Get(0), I32(from), Add), Call(put))
		}
		tail := m.Func("i32 i32 -> i32", "", Get(0), Get(1), ReturnCallIndirect(m.Type("i32 -> i32")))
		return Seq(round(0, 100), round(110, 181), round(0, 100), round(110, 181),
			I32(3), I32(290), Call(tail), Call(put),
			I32(77), I32(291), CallIndirect(m.Type("i32")))
	})
	p := sameAsOriginal(t, src)
	if p.Unpooled != "" || has(p, 289, 7) {
		t.Errorf("unpooled: %q; filled at once: %v", p.Unpooled, has(p, 289, 7))
	}
	w := newWorld(t)
	mod := w.split(p)
	for round := range 2 { // an instance is used again with the table as it has become
		if w.notes = nil; w.run(p, mod) != nil || len(w.notes) != 2*281+2 || w.notes[0] != 1 || w.notes[280] != 1+4*7 || w.notes[563] != 77 {
			t.Errorf("round %d notes %v", round, w.notes)
		}
	}
}

// TestLazyTableTraps: a gap, a place beyond the end and a function of another type trap, as ever.
func TestLazyTableTraps(t *testing.T) {
	for _, at := range []int32{100, 109, 291, 292, 299, 300, 1 << 20, -1} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			src := tabled(func(m *Module, put uint32) Code {
				return Seq(callAt(m, I32(5)), Call(put), callAt(m, I32(at)), Call(put))
			})
			sameAsOriginal(t, src)
			w := newWorld(t)
			p := mustSplit(t, src, wasm.Options{})
			if w.run(p, w.split(p)) == nil {
				t.Error("no trap")
			}
		})
	}
}

// TestTablesFilledAtOnce: what looks at its table, or has one that is not worth it, keeps its initialisers.
func TestTablesFilledAtOnce(t *testing.T) {
	for name, more := range map[string]func(m *Module, put uint32) Code{
		"table.get":  func(m *Module, put uint32) Code { return Seq(I32(7), TableGet(0), Op(0xd1), Call(put)) },
		"table.set":  func(m *Module, put uint32) Code { return Seq(I32(7), RefNull("funcref"), TableSet(0)) },
		"table.grow": func(m *Module, put uint32) Code { return Seq(RefNull("funcref"), I32(1), Bulk(15, 0), Call(put)) },
		"segment": func(m *Module, put uint32) Code {
			m.RawElem([]byte{4}, I32(3), End, []byte{1}, RefNull("funcref"), End)
			return callAt(m, I32(5), I32(1), Sub)
		},
	} {
		t.Run(name, func(t *testing.T) {
			src := tabled(func(m *Module, put uint32) Code { return Seq(callAt(m, I32(9)), Call(put), more(m, put)) })
			if name == "segment" {
				src = tabled(func(m *Module, put uint32) Code { return Seq(more(m, put), Call(put)) })
			}
			if p := sameAsOriginal(t, src); !has(p, 289, 7) {
				t.Error("it is filled late")
			}
		})
	}
}
