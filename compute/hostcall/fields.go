package hostcall

import (
	"bytes"

	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

var nul = []byte{0}

// The header calls of requests, responses and trailers differ only in whose headers they
// work on. i is the first argument word after the handle.

// many answers a call that returns several values into one buffer (ABI section 1.4).
type many struct {
	c      *compute.Call
	ptr    uint32
	dst    []byte
	n      int
	index  uint32 // of the next value
	cursor uint32 // index of the first value wanted
	need   int    // size of the value that did not fit; 0: all did
}

// openMany begins an answer into the buffer at words i and i+1, from the cursor at word at.
func openMany(c *compute.Call, i, at int) many {
	return many{c: c, ptr: c.U32(i), dst: c.Writable(c.U32(i), c.U32(i+1)), cursor: c.U32(at)}
}

// add gives one value; it reports false when there is no room for it.
func (m *many) add(s string) bool {
	if m.index < m.cursor {
		m.index++
		return true
	}
	if len(s)+1 > len(m.dst)-m.n {
		m.need = len(s) + 1
		return false
	}
	m.n += copy(m.dst[m.n:], s)
	m.dst[m.n] = 0
	m.n++
	m.index++
	return true
}

// lowerLast puts the value added last into lower case.
func (m *many) lowerLast(n int) {
	if m.index <= m.cursor {
		return
	}
	last := m.dst[m.n-n-1 : m.n-1]
	for i, b := range last {
		last[i] = lower[b]
	}
}

// finish writes the ending cursor and the number of bytes to words end and end+1.
func (m *many) finish(end int) abi.Status {
	if m.need > 0 && m.n == 0 {
		m.c.PutU32(m.c.U32(end+1), uint32(m.need))
		return abi.BufLen
	}
	next := int64(-1)
	if m.need > 0 {
		next = int64(m.index)
	}
	m.c.PutU64(m.c.U32(end), uint64(next))
	m.c.PutU32(m.c.U32(end+1), uint32(m.n))
	m.c.Wrote(m.ptr, uint32(m.n))
	return abi.OK
}

// namesGet: buf, cursor, *ending_cursor, *nwritten.
func namesGet(c *compute.Call, h *headers, i int) abi.Status {
	m := openMany(c, i, i+2)
	for k := range h.list {
		f := &h.list[k]
		if f.again {
			continue
		}
		if !m.add(f.name) {
			break
		}
		m.lowerLast(len(f.name))
	}
	return m.finish(i + 3)
}

// nameArg reads the header name at words i and i+1; the view is valid during the call.
func nameArg(c *compute.Call, i int) ([]byte, abi.Status) {
	name := c.Bytes(i)
	if len(name) > maxName {
		return nil, abi.Inval
	}
	if !validToken(name) {
		return nil, abi.Error
	}
	return name, abi.OK
}

// newField reads the name and value at words i to i+3.
func newField(c *compute.Call, i int) (name, value string, s abi.Status) {
	n, s := nameArg(c, i)
	if s != abi.OK {
		return "", "", s
	}
	v := c.Bytes(i + 2)
	if !validValue(v) {
		return "", "", abi.Error
	}
	if len(v) > ex(c).limits.HeaderBytes {
		return "", "", abi.LimitExceeded
	}
	return headerName(n), string(v), abi.OK
}

// valueGet: name, value buffer, *nwritten.
func valueGet(c *compute.Call, h *headers, i int) abi.Status {
	name, s := nameArg(c, i)
	if s != abi.OK {
		return s
	}
	v, ok := h.get(string(name))
	if !ok {
		return abi.Inval
	}
	return c.PutBuf(i+2, i+4, v)
}

// valuesGet: name, buf, cursor, *ending_cursor, *nwritten.
func valuesGet(c *compute.Call, h *headers, i int) abi.Status {
	name, s := nameArg(c, i)
	if s != abi.OK {
		return s
	}
	m := openMany(c, i+2, i+4)
	for k := h.find(string(name), 0); k >= 0; k = h.find(string(name), k+1) {
		if !m.add(h.list[k].value) {
			break
		}
	}
	return m.finish(i + 5)
}

// valuesSet: name, values. The values end with NUL each; the last may go without.
func valuesSet(c *compute.Call, h *headers, i int) abi.Status {
	n, s := nameArg(c, i)
	if s != abi.OK {
		return s
	}
	name, rest := headerName(n), c.Bytes(i+2)
	l := &ex(c).limits
	if len(rest) > l.HeaderBytes {
		return abi.LimitExceeded
	}
	for v := range bytes.SplitSeq(rest, nul) {
		if !validValue(v) {
			return abi.Error
		}
	}
	h.remove(name)
	for len(rest) > 0 {
		v, after, _ := bytes.Cut(rest, nul)
		if s := h.append(name, string(v), l); s != abi.OK {
			return s
		}
		rest = after
	}
	return abi.OK
}

// fieldInsert: name, value.
func fieldInsert(c *compute.Call, h *headers, i int) abi.Status {
	name, value, s := newField(c, i)
	if s != abi.OK {
		return s
	}
	return h.insert(name, value, &ex(c).limits)
}

// fieldAppend: name, value.
func fieldAppend(c *compute.Call, h *headers, i int) abi.Status {
	name, value, s := newField(c, i)
	if s != abi.OK {
		return s
	}
	return h.append(name, value, &ex(c).limits)
}

// fieldRemove: name.
func fieldRemove(c *compute.Call, h *headers, i int) abi.Status {
	name, s := nameArg(c, i)
	if s != abi.OK {
		return s
	}
	if !h.remove(string(name)) {
		return abi.Inval
	}
	return abi.OK
}
