package compute

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/trace"
)

// Tracer is an [Observer] that turns crossings of the host boundary into steps of a trace.
type Tracer struct{ Trace *trace.Trace }

// Called adds a step for c.
func (t Tracer) Called(c *Call, took time.Duration) {
	s := trace.Step{Seq: c.Seq, At: time.Since(t.Trace.Start) - took, Took: took, Name: c.Def.String(), Result: c.resultText()}
	c.Redacted = c.Redacted || c.namesCredential()
	i := 0
	for _, p := range c.Def.Params {
		f := trace.Field{Name: p.Name}
		switch p.Shape {
		case abi.Value:
			f.Value = handleText(c.U32(i))
		case abi.Value64:
			f.Value = strconv.FormatUint(c.U64(i), 10)
		case abi.Str:
			f.Value = c.inputText(c.U32(i), c.U32(i+1))
		case abi.List:
			f.Value = fmt.Sprintf("[%d]", c.U32(i+1))
		case abi.Buf, abi.Out16, abi.Out:
			if w := c.writeAt(c.U32(i)); w != nil {
				f.Value = c.outputText(p, w)
				s.Out = append(s.Out, f)
			}
			f.Name = ""
		case abi.Struct:
			f.Value = "…"
		}
		if f.Name != "" {
			s.Args = append(s.Args, f)
		}
		i += p.Words()
	}
	s.Out = append(s.Out, c.Notes...)
	t.Trace.Add(s)
}

// credentials are header fields whose values a trace does not show.
var credentials = []string{"authorization", "proxy-authorization", "cookie", "set-cookie", "fastly-key"}

// namesCredential reports whether the call is about a header field that carries one.
func (c *Call) namesCredential() bool {
	i := 0
	for _, p := range c.Def.Params {
		if p.Shape == abi.Str && p.Name == "name" {
			ptr, n := c.U32(i), c.U32(i+1)
			if n > 32 || uint64(ptr)+uint64(n) > uint64(len(c.mem)) {
				return false
			}
			name := string(c.mem[ptr : ptr+n])
			return slices.ContainsFunc(credentials, func(s string) bool { return strings.EqualFold(s, name) })
		}
		i += p.Words()
	}
	return false
}

func (c *Call) resultText() string {
	if c.Def.Module == wasiModule && c.Result != abi.ESuccess {
		return "errno " + strconv.Itoa(int(c.Result))
	}
	return c.Result.String()
}

func handleText(v uint32) string {
	if v == abi.InvalidHandle {
		return "invalid"
	}
	return strconv.FormatUint(uint64(v), 10)
}

func (c *Call) inputText(ptr, n uint32) string {
	if c.Redacted {
		return fmt.Sprintf("[%d bytes]", n)
	}
	if uint64(ptr)+uint64(n) > uint64(len(c.mem)) {
		return fmt.Sprintf("[%d bytes outside memory]", n)
	}
	return trace.Text(c.mem[ptr : ptr+n])
}

func (c *Call) outputText(p abi.Param, w []byte) string {
	if p.Shape == abi.Out && len(w) == p.Width {
		var b [8]byte
		copy(b[:], w)
		v := binary.LittleEndian.Uint64(b[:])
		if p.Width == 4 {
			return handleText(uint32(v))
		}
		return strconv.FormatInt(int64(v), 10)
	}
	if c.Redacted {
		return fmt.Sprintf("[%d bytes]", len(w))
	}
	return trace.Text(w)
}

func (c *Call) writeAt(ptr uint32) []byte {
	for _, w := range c.Writes {
		if w.Ptr == ptr {
			return w.Bytes
		}
	}
	return nil
}
