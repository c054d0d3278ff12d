package wasm

import "fmt"

// reader walks over untrusted bytes. Its first error sticks; reads after it return zero.
type reader struct {
	b   []byte
	pos int
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *reader) done() bool { return r.err != nil || r.pos >= len(r.b) }

func (r *reader) byte() byte {
	if r.err != nil || r.pos >= len(r.b) {
		r.fail("unexpected end")
		return 0
	}
	c := r.b[r.pos]
	r.pos++
	return c
}

// bytes returns the next n bytes without copying them.
func (r *reader) bytes(n uint64) []byte {
	if r.err != nil || n > uint64(len(r.b)-r.pos) {
		r.fail("%d bytes announced, %d left", n, len(r.b)-r.pos)
		return nil
	}
	s := r.b[r.pos : r.pos+int(n) : r.pos+int(n)]
	r.pos += int(n)
	return s
}

func (r *reader) skip(n int) { r.bytes(uint64(n)) }

// u32 reads an unsigned LEB128 of at most 5 bytes.
func (r *reader) u32() uint32 {
	if r.pos < len(r.b) && r.b[r.pos] < 0x80 && r.err == nil { // nearly always
		r.pos++
		return uint32(r.b[r.pos-1])
	}
	v := r.leb(5)
	if v > 1<<32-1 {
		r.fail("integer too large")
		return 0
	}
	return uint32(v)
}

// leb reads an unsigned LEB128 of at most max bytes; also used to skip signed ones.
func (r *reader) leb(max int) (v uint64) {
	for i := 0; i < max; i++ {
		c := r.byte()
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return v
		}
	}
	r.fail("integer too long")
	return 0
}

// s32 reads a signed LEB128 of at most 5 bytes, s64 of at most 10.
func (r *reader) s32() int32 { return int32(r.sleb(5)) }
func (r *reader) s64() int64 { return r.sleb(10) }

func (r *reader) sleb(max int) (v int64) {
	for i := 0; i < max; i++ {
		c := r.byte()
		v |= int64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if s := 7 * (i + 1); s < 64 && c&0x40 != 0 {
				v |= -1 << s
			}
			return v
		}
	}
	r.fail("integer too long")
	return 0
}

func (r *reader) name() string { return string(r.bytes(uint64(r.u32()))) }

// count reads a vector's length and checks that so many elements of at least min bytes can follow.
func (r *reader) count(min int) int {
	n := r.u32()
	if uint64(n)*uint64(min) > uint64(len(r.b)-r.pos) {
		r.fail("%d elements announced, %d bytes left", n, len(r.b)-r.pos)
		return 0
	}
	return int(n)
}

func appendU32(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func appendName(b []byte, s string) []byte { return append(appendU32(b, uint32(len(s))), s...) }
