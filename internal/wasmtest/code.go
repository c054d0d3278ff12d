package wasmtest

import "slices"

// Code is a piece of a function's body.
type Code = []byte

// U32 returns v as an unsigned LEB128.
func U32(v uint32) []byte {
	var b []byte
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// S64 returns v as a signed LEB128.
func S64(v int64) []byte {
	var b []byte
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

// Name returns a string with its length before it.
func Name(s string) []byte { return append(U32(uint32(len(s))), s...) }

// Vec returns a vector of u32.
func Vec(v ...uint32) []byte {
	b := U32(uint32(len(v)))
	for _, x := range v {
		b = append(b, U32(x)...)
	}
	return b
}

// Op returns an instruction as its bytes.
func Op(b ...byte) Code { return b }

// op returns an instruction with u32 immediates.
func op(code byte, immediates ...uint32) Code {
	b := Code{code}
	for _, i := range immediates {
		b = append(b, U32(i)...)
	}
	return b
}

// Bulk returns an instruction of the 0xfc family with u32 immediates.
func Bulk(sub uint32, immediates ...uint32) Code {
	return op(0xfc, append([]uint32{sub}, immediates...)...)
}

// Seq joins pieces of code.
func Seq(code ...Code) Code { return slices.Concat(code...) }

// Plain instructions.
var (
	Unreachable = Op(0x00)
	Nop         = Op(0x01)
	Else        = Op(0x05)
	End         = Op(0x0b)
	Return      = Op(0x0f)
	Drop        = Op(0x1a)
	Eqz         = Op(0x45)
	Eq          = Op(0x46)
	Ne          = Op(0x47)
	LtU         = Op(0x49)
	GeU         = Op(0x4f)
	Add         = Op(0x6a)
	Sub         = Op(0x6b)
	Mul         = Op(0x6c)
	DivU        = Op(0x6e)
	And         = Op(0x71)
	Or          = Op(0x72)
	Add64       = Op(0x7c)
	Wrap        = Op(0xa7) // i32.wrap_i64
	MemorySize  = Op(0x3f, 0)
	MemoryGrow  = Op(0x40, 0)
	MemoryCopy  = Bulk(10, 0, 0)
	MemoryFill  = Bulk(11, 0)
)

// I32 pushes a constant.
func I32(v int32) Code { return append(Code{0x41}, S64(int64(v))...) }

// I64 pushes a constant.
func I64(v int64) Code { return append(Code{0x42}, S64(v)...) }

// Call calls a function.
func Call(f uint32) Code { return op(0x10, f) }

// ReturnCall calls a function in place of the present one.
func ReturnCall(f uint32) Code { return op(0x12, f) }

// CallIndirect calls the function in table 0 at the index on the stack.
func CallIndirect(typ uint32) Code { return op(0x11, typ, 0) }

// ReturnCallIndirect does so in place of the present function.
func ReturnCallIndirect(typ uint32) Code { return op(0x13, typ, 0) }

// Get and Set and Tee are for locals.
func Get(local uint32) Code { return op(0x20, local) }

// Set pops into a local.
func Set(local uint32) Code { return op(0x21, local) }

// Tee copies the top of the stack into a local.
func Tee(local uint32) Code { return op(0x22, local) }

// GlobalGet pushes a global.
func GlobalGet(i uint32) Code { return op(0x23, i) }

// GlobalSet pops into a global.
func GlobalSet(i uint32) Code { return op(0x24, i) }

// TableGet pushes an element of a table.
func TableGet(t uint32) Code { return op(0x25, t) }

// TableSet pops into an element of a table.
func TableSet(t uint32) Code { return op(0x26, t) }

// RefFunc pushes a reference to a function.
func RefFunc(f uint32) Code { return op(0xd2, f) }

// RefNull pushes a null of a reference type.
func RefNull(typ string) Code { return Op(0xd0, ValueType(typ)) }

// Load pushes the i32 at the address on the stack plus offset.
func Load(offset uint32) Code { return op(0x28, 2, offset) }

// Load8 pushes the byte there.
func Load8(offset uint32) Code { return op(0x2d, 0, offset) }

// Load64 pushes the i64 there.
func Load64(offset uint32) Code { return op(0x29, 3, offset) }

// Store pops an i32 and puts it to the address below it plus offset.
func Store(offset uint32) Code { return op(0x36, 2, offset) }

// Store8 does so with a byte.
func Store8(offset uint32) Code { return op(0x3a, 0, offset) }

// Store64 does so with an i64.
func Store64(offset uint32) Code { return op(0x37, 3, offset) }

// Br leaves the block that many levels out, or begins that loop again.
func Br(level uint32) Code { return op(0x0c, level) }

// BrIf does so if the i32 on the stack is not 0.
func BrIf(level uint32) Code { return op(0x0d, level) }

// Block runs code that Br 0 leaves.
func Block(body ...Code) Code { return Seq(Op(0x02, 0x40), Seq(body...), End) }

// Loop runs code that Br 0 begins again.
func Loop(body ...Code) Code { return Seq(Op(0x03, 0x40), Seq(body...), End) }

// If runs code if the i32 on the stack is not 0.
func If(body ...Code) Code { return Seq(Op(0x04, 0x40), Seq(body...), End) }

// For runs the body with a local counting from 0 to n-1; n must not be 0.
func For(local uint32, n int32, body ...Code) Code {
	return Seq(I32(0), Set(local), Loop(Seq(body...), Get(local), I32(1), Add, Tee(local), I32(n), LtU, BrIf(0)))
}

// Forever is the shortest loop without end.
var Forever = Loop(Br(0))

// Times repeats code n times.
func Times(n int, code ...Code) Code { return slices.Repeat(Seq(code...), n) }
