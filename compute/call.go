package compute

import (
	"context"
	"encoding/binary"
	"unicode/utf8"

	"github.com/tetratelabs/wazero/sys"

	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/trace"
)

// A Func implements one hostcall. It reads its arguments from the Call, writes results
// to guest memory through it and returns the status (for WASI, the errno).
type Func func(*Call) abi.Status

// Call is one crossing of the host boundary. Every read of arguments is checked: a
// pointer outside the guest's memory ends the call with status inval (EFAULT in WASI),
// so a Func needs no checks of its own. A Call is valid until its Func returns.
type Call struct {
	Sandbox *Sandbox
	Def     *abi.Def
	Seq     uint64 // order number within the sandbox, from 1
	Result  abi.Status
	Writes  []Write // what was written to guest memory; kept only when observed

	Redacted bool // arguments and writes hold a secret: observers show lengths only

	Notes []trace.Field // what the guest did not see of it; kept only when observed

	words    []uint64
	mem      []byte
	observed bool
}

// Write is a piece of guest memory that a hostcall changed.
type Write struct {
	Ptr   uint32
	Bytes []byte
}

// fault is what a Call panics with to end itself with a status.
type fault struct{ status abi.Status }

// Fail ends the call at once with the given status.
func (c *Call) Fail(s abi.Status) { panic(fault{s}) }

// Redact marks the call as one that carries a secret.
func (c *Call) Redact() { c.Redacted = true }

// Note adds to what observers show of the call.
func (c *Call) Note(name, value string) {
	if c.observed {
		c.Notes = append(c.Notes, trace.Field{Name: name, Value: trace.Text([]byte(value))})
	}
}

// Memory returns the size of the guest's linear memory in bytes.
func (c *Call) Memory() uint64 { return uint64(len(c.mem)) }

// U32 returns argument word i.
func (c *Call) U32(i int) uint32 { return uint32(c.words[i]) }

// U64 returns argument word i of a 64-bit parameter.
func (c *Call) U64(i int) uint64 { return c.words[i] }

// Read returns a view of n bytes of guest memory at ptr, valid until the call returns.
func (c *Call) Read(ptr, n uint32) []byte {
	end := uint64(ptr) + uint64(n)
	if end > uint64(len(c.mem)) {
		c.badPointer()
	}
	return c.mem[ptr:end:end]
}

func (c *Call) badPointer() {
	if c.Def.Module == wasiModule {
		c.Fail(abi.EFault)
	}
	c.Fail(abi.Inval)
}

// Bytes returns a view of the bytes that words i (pointer) and i+1 (length) name, valid until
// the call returns; copy what is kept.
func (c *Call) Bytes(i int) []byte { return c.Read(c.U32(i), c.U32(i+1)) }

// String returns a copy of the bytes that words i and i+1 name.
func (c *Call) String(i int) string { return string(c.Bytes(i)) }

// Text is String for arguments that must be UTF-8; others end the call with inval.
func (c *Call) Text(i int) string {
	b := c.Bytes(i)
	if !utf8.Valid(b) {
		c.Fail(abi.Inval)
	}
	return string(b)
}

// ReadU16 reads a little-endian u16 at ptr.
func (c *Call) ReadU16(ptr uint32) uint16 { return binary.LittleEndian.Uint16(c.Read(ptr, 2)) }

// ReadU32 reads a little-endian u32 at ptr.
func (c *Call) ReadU32(ptr uint32) uint32 { return binary.LittleEndian.Uint32(c.Read(ptr, 4)) }

// ReadU64 reads a little-endian u64 at ptr.
func (c *Call) ReadU64(ptr uint32) uint64 { return binary.LittleEndian.Uint64(c.Read(ptr, 8)) }

// Write copies b to guest memory at ptr.
func (c *Call) Write(ptr uint32, b []byte) {
	copy(c.Read(ptr, uint32(len(b))), b)
	c.note(ptr, uint32(len(b)))
}

// Writable returns n bytes of guest memory at ptr to be filled in place, for reading
// straight into it; Wrote must follow with the number of bytes filled.
func (c *Call) Writable(ptr, n uint32) []byte { return c.Read(ptr, n) }

// Wrote notes that n bytes at ptr, taken with Writable, were filled.
func (c *Call) Wrote(ptr, n uint32) { c.note(ptr, n) }

func (c *Call) note(ptr, n uint32) {
	if c.observed && n > 0 {
		c.Writes = append(c.Writes, Write{ptr, append([]byte(nil), c.mem[ptr:ptr+n]...)})
	}
}

// PutU8 writes one byte at ptr.
func (c *Call) PutU8(ptr uint32, v uint8) {
	c.Read(ptr, 1)[0] = v
	c.note(ptr, 1)
}

// PutU16 writes a u16 at ptr.
func (c *Call) PutU16(ptr uint32, v uint16) {
	binary.LittleEndian.PutUint16(c.Read(ptr, 2), v)
	c.note(ptr, 2)
}

// PutU32 writes a u32 at ptr.
func (c *Call) PutU32(ptr, v uint32) {
	binary.LittleEndian.PutUint32(c.Read(ptr, 4), v)
	c.note(ptr, 4)
}

// PutU64 writes a u64 at ptr.
func (c *Call) PutU64(ptr uint32, v uint64) {
	binary.LittleEndian.PutUint64(c.Read(ptr, 8), v)
	c.note(ptr, 8)
}

// PutBuf answers a call that returns one value into a buffer (ABI section 1.4): words i and i+1 are
// the buffer, word n points to nwritten. A short buffer gets the needed length and buflen.
func (c *Call) PutBuf(i, n int, value string) abi.Status {
	if uint64(len(value)) > uint64(c.U32(i+1)) {
		c.PutU32(c.U32(n), uint32(len(value)))
		return abi.BufLen
	}
	dst := c.Read(c.U32(i), uint32(len(value)))
	c.PutU32(c.U32(n), uint32(len(value)))
	copy(dst, value)
	c.note(c.U32(i), uint32(len(value)))
	return abi.OK
}

// Block runs wait while the guest waits: its CPU account stands still and another guest may run.
// wait must return soon after its context ends, which happens when the sandbox's time is up;
// then Block does not return but unwinds the guest. wait must not touch the Call, nor any view of
// guest memory: that is packed meanwhile if the wait is long.
func (c *Call) Block(wait func(context.Context)) {
	c.Sandbox.block(wait)
	// The memory cannot have moved meanwhile: only the guest itself grows it.
}

// BlockHolding is Block for a wait that reads or writes guest memory, which stays as it is.
func (c *Call) BlockHolding(wait func(context.Context)) {
	c.Sandbox.hold(true)
	defer c.Sandbox.hold(false)
	c.Block(wait)
}

// Yield lets whoever waits for the guest's answer go on with it before the guest does. The
// guest's CPU account stands still.
func (c *Call) Yield() {
	if r := c.Sandbox.run; r != nil {
		r.yield()
	}
}

// Exit ends the guest with an exit code, as WASI proc_exit does. It does not return.
func (c *Call) Exit(code uint32) { panic(sys.NewExitError(code)) } // wazero returns this one as it is
