package wasm_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/wedge-cloud/wedge"
	. "github.com/wedge-cloud/wedge/internal/wasmtest"
	"github.com/wedge-cloud/wedge/wasm"
)

var parkOption = wasm.Options{Park: "host.ask"}

// asker returns a guest that puts what host.ask(1, 2) answers, with more from change.
func asker(change func(m *Module, put, ask uint32)) []byte {
	m := New()
	put := m.Import("host", "put", "i32")
	ask := m.Import("host", "ask", "i32 i32 -> i32")
	m.Memory(1)
	if change != nil {
		change(m, put, ask)
	} else {
		m.Main("", I32(1), I32(2), Call(ask), Call(put))
	}
	return m.Bytes()
}

func TestParkLoops(t *testing.T) {
	for name, c := range map[string]struct {
		change func(m *Module, put, ask uint32)
		notes  []uint64
	}{
		"direct call": {nil, []uint64{5}},
		"through a table": {func(m *Module, put, ask uint32) {
			m.Table("funcref", 1)
			m.Elem(0, ask)
			m.Main("", I32(1), I32(2), I32(0), CallIndirect(m.Type("i32 i32 -> i32")), Call(put))
		}, []uint64{5}},
		"by a tail call": {func(m *Module, put, ask uint32) {
			f := m.Func("-> i32", "", I32(1), I32(2), ReturnCall(ask))
			m.Main("", Call(f), Call(put))
		}, []uint64{5}},
		"start section first": {func(m *Module, put, ask uint32) {
			m.Start(m.Func("", "", I32(3), Call(put)))
			m.Main("", I32(1), I32(2), Call(ask), Call(put))
		}, []uint64{3, 5}},
		"exported, and with functions before and after": {func(m *Module, put, ask uint32) {
			m.Export("ask", KindFunc, ask)
			f := m.Func("i32", "", Get(0), Call(put))
			m.Main("", I32(1), I32(2), Call(ask), Call(f))
			m.Func("", "", Call(f)[:0], Nop)
		}, []uint64{5}},
	} {
		t.Run(name, func(t *testing.T) {
			p := mustSplit(t, asker(c.change), parkOption)
			w := newWorld(t)
			w.parked = []int{-1, -1, 5}
			mod := w.split(p)
			if _, err := mod.ExportedFunction(wasm.EnterFunction).Call(t.Context()); err != nil {
				t.Fatal(err)
			}
			if want := [][]uint64{{1, 2}, {1, 2}, {1, 2}}; !reflect.DeepEqual(w.parkArgs, want) {
				t.Errorf("park was called with %v, want %v", w.parkArgs, want)
			}
			if !reflect.DeepEqual(w.notes, c.notes) || w.ended != 1 {
				t.Errorf("notes %v, want %v; ended %d times", w.notes, c.notes, w.ended)
			}
		})
	}
}

// TestNotParked: without the option nothing of it is there.
func TestNotParked(t *testing.T) {
	p := mustSplit(t, asker(nil), wasm.Options{})
	w := newWorld(t)
	if err := w.run(p, w.split(p)); err != nil {
		t.Fatal(err)
	}
	if w.notes[0] != 77 || w.ended != 0 {
		t.Errorf("notes %v, ended %d times", w.notes, w.ended)
	}
}

func TestParkRefused(t *testing.T) {
	for name, c := range map[string]struct {
		src  []byte
		kind wedge.Kind
		text string
	}{
		"does not import it": {guestWith(func(*Module) {}), wedge.Invalid, "does not import host.ask"},
		"another signature": {func() []byte {
			m := New()
			m.Import("host", "ask", "i64 -> i32")
			m.Memory(1)
			m.Main("")
			return m.Bytes()
		}(), wedge.Unsupported, "signature"},
		"no result": {func() []byte {
			m := New()
			m.Import("host", "ask", "i32")
			m.Memory(1)
			m.Main("")
			return m.Bytes()
		}(), wedge.Unsupported, "signature"},
		"tables that change": {asker(func(m *Module, put, ask uint32) {
			m.Table("funcref", 1)
			m.Main("", I32(0), RefNull("funcref"), TableSet(0), I32(1), I32(2), Call(ask), Drop)
		}), wedge.Unsupported, "table.set"},
		"a mutable reference": {asker(func(m *Module, put, ask uint32) {
			m.Global("funcref", true, RefNull("funcref"))
			m.Main("", I32(1), I32(2), Call(ask), Drop)
		}), wedge.Unsupported, "global 0"},
		// The functions that parking adds stand after the guest's own.
		"calls the shim": {asker(func(m *Module, put, ask uint32) { m.Main("", I32(1), I32(2), Call(3), Drop) }), wedge.Invalid, "function 3"},
		"calls enter":    {asker(func(m *Module, put, ask uint32) { m.Main("", Call(4)) }), wedge.Invalid, "function 4"},
	} {
		_, err := wasm.Split(c.src, parkOption)
		if err == nil || wedge.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %q (%v)", name, err, c.text, c.kind)
		}
	}
}
