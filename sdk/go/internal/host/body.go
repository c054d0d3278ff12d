package host

import (
	"context"
	"io"
	"io/fs"

	"github.com/wedge-cloud/wedge/sdk/go/internal/abi"
)

// Body reads a body that the host holds or is receiving. Nothing is read before Read is called.
type Body struct {
	H      abi.Handle
	Ctx    context.Context // ends waiting reads
	AtEnd  func()          // called once, when the end was read; trailers are known then
	Used   bool            // some of it was read
	closed bool
	end    error
}

// Read reads at least one byte. A body cut short ends with io.ErrUnexpectedEOF.
func (b *Body) Read(p []byte) (int, error) {
	if b.end != nil || len(p) == 0 {
		return 0, b.end
	}
	if err := Wait(b.Ctx, b.H); err != nil {
		return 0, err
	}
	b.Used = true
	var n uint32
	st := abi.BodyRead(b.H, &p[0], uint32(len(p)), &n)
	switch {
	case st == abi.HTTPIncomplete:
		b.end = io.ErrUnexpectedEOF
	case st != abi.OK:
		b.end = st
	case n == 0:
		b.end = io.EOF
		if b.AtEnd != nil {
			b.AtEnd()
		}
	}
	return int(n), b.end
}

// Close drops the rest.
func (b *Body) Close() error {
	if !b.closed {
		b.closed = true
		abi.BodyClose(b.H)
		if b.end == nil {
			b.end = fs.ErrClosed
		}
	}
	return nil
}

// Take gives up the handle if nothing was read yet, so that the host can pass the body on
// by itself; b is then as if closed.
func (b *Body) Take() (abi.Handle, bool) {
	if b.Used || b.closed || b.end != nil {
		return abi.Invalid, false
	}
	b.closed, b.end = true, fs.ErrClosed
	return b.H, true
}

// NewBody makes an empty body for writing.
func NewBody() (abi.Handle, error) {
	h := abi.Invalid
	err := abi.BodyNew(&h).Err()
	return h, err
}

// Write writes all of p to body h. If the body is streaming (its reader is the client or a
// backend) and other goroutines can run, they do so while there is no room.
func Write(h abi.Handle, p []byte, streaming bool) (int, error) {
	done := 0
	for done < len(p) {
		if streaming {
			if err := Wait(context.Background(), h); err != nil {
				return done, err
			}
		}
		var n uint32
		if st := abi.BodyWrite(h, &p[done], uint32(len(p)-done), 0, &n); st != abi.OK {
			return done, st
		}
		if n == 0 {
			return done, io.ErrShortWrite
		}
		done += int(n)
	}
	return done, nil
}

// Trailers returns the trailers of a body that was read to its end.
func Trailers(h abi.Handle) (map[string][]string, error) {
	return Header(abi.BodyTrailerNames, abi.BodyTrailerValues, h)
}
