package wasm

import (
	"context"
	"fmt"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	. "github.com/wedge-cloud/wedge/internal/wasmtest"
)

// An instruction with its immediates and what must follow it in a body, such as an end.
type instruction struct {
	name string
	code Code
	tail Code
}

func instructions() (all []instruction) {
	add := func(name string, code ...byte) { all = append(all, instruction{name, code, nil}) }
	block := func(name string, code ...byte) { all = append(all, instruction{name, code, End}) }
	memarg := []byte{0, 0x80, 1} // alignment 1, offset 128 in two bytes

	for _, op := range []byte{0x00, 0x01, 0x0f, 0x1a, 0x1b} {
		add(fmt.Sprintf("%#x", op), op)
	}
	for _, op := range []byte{0x02, 0x03, 0x04} {
		for _, typ := range [][]byte{{0x40}, {0x7f}, {0x00}, {0x80, 0x80, 0x00}} {
			if op == 0x04 && typ[0] == 0x7f {
				continue // an if with a result must have an else
			}
			block(fmt.Sprintf("%#x with type %x", op, typ), append([]byte{op}, typ...)...)
		}
	}
	all = append(all, instruction{"if else", Op(0x04, 0x40, 0x05), End})
	add("br", 0x0c, 0)
	add("br_if", 0x0d, 0)
	add("br_table", 0x0e, 3, 0, 0, 0, 0)
	add("br_table of one", 0x0e, 0, 0)
	add("call", 0x10, 0)
	add("call_indirect", 0x11, 0, 0)
	add("call_indirect of table 1", 0x11, 0, 1)
	add("return_call", 0x12, 0)
	add("return_call_indirect", 0x13, 0, 0)
	add("select with a type", 0x1c, 1, 0x7f)
	for op := byte(0x20); op <= 0x24; op++ {
		add(fmt.Sprintf("variable %#x", op), op, 0)
	}
	add("table.get", 0x25, 0)
	add("table.set", 0x26, 0)
	for op := byte(0x28); op <= 0x3e; op++ {
		add(fmt.Sprintf("memory %#x", op), append([]byte{op}, memarg...)...)
	}
	add("memory.size", 0x3f, 0)
	add("memory.grow", 0x40, 0)
	for _, v := range []int64{0, 63, -64, 64, 1<<31 - 1, -1 << 31} {
		add(fmt.Sprint("i32.const ", v), I32(int32(v))...)
	}
	for _, v := range []int64{0, -1, 1<<63 - 1, -1 << 63} {
		add(fmt.Sprint("i64.const ", v), I64(v)...)
	}
	add("f32.const", 0x43, 0xff, 0xff, 0xff, 0xff)
	add("f64.const", 0x44, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	for op := 0x45; op <= 0xc4; op++ {
		add(fmt.Sprintf("numeric %#x", op), byte(op))
	}
	add("ref.null func", 0xd0, 0x70)
	add("ref.null extern", 0xd0, 0x6f)
	add("ref.is_null", 0xd1)
	add("ref.func", 0xd2, 0)

	for sub := uint32(0); sub <= 7; sub++ {
		add(fmt.Sprint("0xfc ", sub), Bulk(sub)...)
	}
	for sub, immediates := range map[uint32][]uint32{8: {0, 0}, 9: {0}, 10: {0, 0}, 11: {0}, 12: {0, 1}, 13: {0}, 14: {0, 1}, 15: {0}, 16: {0}, 17: {0}} {
		add(fmt.Sprint("0xfc ", sub), Bulk(sub, immediates...)...)
	}
	for sub := uint32(0); sub <= 0x113; sub++ {
		code := append([]byte{0xfd}, U32(sub)...)
		switch {
		case sub <= 11, sub == 92, sub == 93:
			code = append(code, memarg...)
		case sub == 12, sub == 13:
			code = append(code, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
		case sub >= 21 && sub <= 34:
			code = append(code, 1)
		case sub >= 84 && sub <= 91:
			code = append(append(code, memarg...), 1)
		}
		add(fmt.Sprintf("0xfd %d", sub), code...)
	}
	return all
}

// notForWazero are instructions that the decoder knows and wazero does not, or that Split refuses later.
func notForWazero() (all []instruction) {
	add := func(name string, code ...byte) { all = append(all, instruction{name, code, nil}) }
	all = append(all, instruction{"if with a result", Op(0x04, 0x7f), Seq(I32(1), Else, I32(2), End)})
	add("throw", 0x08, 0)
	add("throw_ref", 0x0a)
	add("try_table", 0x1f, 0x40, 4, 0, 0, 0, 1, 0, 0, 2, 0, 3, 0)
	add("try_table without catch", 0x1f, 0x40, 0)
	add("ref.eq", 0xd3)
	add("ref.as_non_null", 0xd4)
	add("br_on_null", 0xd5, 0)
	add("call_ref", 0x14, 0)
	add("return_call_ref", 0x15, 0)
	add("ref.null of a type", 0xd0, 0x80, 0x01)
	add("select with a reference", 0x1c, 1, 0x63, 0x80, 0x01)
	add("load from memory 1", 0x28, 0x42, 1, 0)
	add("load at a 64-bit offset", 0x28, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f)
	add("atomic.fence", 0xfe, 3, 0)
	for _, sub := range []byte{0, 1, 2, 0x10, 0x1e, 0x48, 0x4e} {
		add(fmt.Sprintf("atomic %#x", sub), 0xfe, sub, 2, 0)
	}
	return all
}

// decode runs the rewriter over one piece of code, without checks added.
func decode(code Code) (*rewriter, Code) {
	w := &rewriter{functions: 1000, globals: 1000, shift: 1000}
	w.r = reader{b: code}
	w.expression()
	return w, w.out
}

func TestDecodeEveryInstruction(t *testing.T) {
	for _, in := range append(instructions(), notForWazero()...) {
		// A nop after it would be taken for an immediate if the length were wrong; unknown opcodes show a wrong length too.
		code := Seq(in.code, in.tail, Op(0xff))
		if w, _ := decode(code); w.r.err == nil || w.r.pos != len(code) {
			t.Errorf("%s: % x is decoded to byte %d: %v", in.name, in.code, w.r.pos, w.r.err)
		}
		w, out := decode(Seq(in.code, in.tail))
		if w.r.err != nil || string(out) != string(Seq(in.code, in.tail)) {
			t.Errorf("%s: % x becomes % x: %v", in.name, in.code, out, w.r.err)
		}
		if len(in.code) > 1 && in.name != "if else" {
			for n := 1; n < len(in.code); n++ {
				if w, _ := decode(in.code[:n]); w.r.err == nil {
					t.Errorf("%s cut off at %d is accepted", in.name, n)
				}
			}
		}
	}
}

func TestDecodeUnknown(t *testing.T) {
	for _, code := range []Code{{0x06, 0x40}, {0x07, 0}, {0x09, 0}, {0x18, 0}, {0x19}, {0x16}, {0x1d}, {0x27}, {0xc5}, {0xcf}, {0xd7}, {0xe0}, {0xfb, 0}, {0xff}, Bulk(18), Bulk(1000), append(Code{0xfd}, U32(0x114)...)} {
		if w, _ := decode(code); w.r.err == nil {
			t.Errorf("% x is accepted", code)
		}
	}
}

// TestInstructionsStayValid puts each instruction into a function behind unreachable, where operands
// are whatever it wants, and lets wazero validate the module before and after.
func TestInstructionsStayValid(t *testing.T) {
	const features = api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall | experimental.CoreFeaturesExtendedConst
	ctx := context.Background()
	// The interpreter's CompileModule validates in full and compiles little.
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(features))
	defer r.Close(ctx)
	valid := 0
	for _, in := range instructions() {
		m := New()
		m.Type("")
		m.Import("host", "f", "")
		m.Memory(1)
		m.Table("funcref", 1)
		m.Table("funcref", 1)
		m.Global("i32", true, I32(0))
		m.Count = true
		m.PassiveData("x")
		m.RawElem([]byte{1, 0}, Vec(0))
		m.RawElem([]byte{1, 0}, Vec(0))
		m.Main("i32", Unreachable, in.code, Unreachable, in.tail, Unreachable)
		src := m.Bytes()
		if _, err := r.CompileModule(ctx, src); err != nil {
			if in.code[0] != 0xfd || len(in.code) < 3 && in.code[1] < 0x80 {
				t.Errorf("%s: the test's module is not valid: %v", in.name, err)
			}
			continue // a number that SIMD does not use, or relaxed SIMD
		}
		valid++
		for _, opt := range []Options{{}, {NoChecks: true}} {
			p, err := Split(src, opt)
			if err != nil {
				t.Errorf("%s: %v", in.name, err)
				continue
			}
			if _, err := r.CompileModule(ctx, p.Code); err != nil {
				t.Errorf("%s: split with %+v it is not valid: %v", in.name, opt, err)
			}
		}
	}
	if valid < 420 {
		t.Errorf("only %d instructions were valid", valid)
	}
}
