package hostcall

import (
	"context"
	"io"

	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// The standard streams.
const (
	stdin  = 0
	stdout = 1
	stderr = 2
)

// stdio says which standard stream each of the descriptors 0, 1 and 2 names.
type stdio [3]uint8

// fdClosed marks a closed descriptor; 0 is the descriptor as it began, n+1 one renumbered from stream n.
const fdClosed = 0xff

func stdioOf(c *compute.Call) *stdio {
	if e, ok := c.Sandbox.State.(*exec); ok {
		return &e.stdio
	}
	return new(stdio)
}

// streamOf returns the standard stream that fd names.
func streamOf(c *compute.Call, fd uint32) (stream uint32, ok bool) {
	if fd > stderr {
		return 0, false
	}
	switch to := stdioOf(c)[fd]; to {
	case 0:
		return fd, true
	case fdClosed:
		return 0, false
	default:
		return uint32(to) - 1, true
	}
}

func wasiClose(c *compute.Call) abi.Status {
	if _, ok := streamOf(c, c.U32(0)); !ok {
		return abi.EBadf
	}
	stdioOf(c)[c.U32(0)] = fdClosed
	return abi.ESuccess
}

// wasiRenumber moves a descriptor over another; both must be open.
func wasiRenumber(c *compute.Call) abi.Status {
	from, to := c.U32(0), c.U32(1)
	stream, ok := streamOf(c, from)
	if _, open := streamOf(c, to); !ok || !open {
		return abi.EBadf
	}
	if from != to {
		fds := stdioOf(c)
		fds[to], fds[from] = uint8(stream)+1, fdClosed
	}
	return abi.ESuccess
}

// Rights and the file type of a standard stream. That neither seek nor tell is among the
// rights of a character device is how libc knows a terminal, which it writes to line by line.
const (
	rightRead     = 1 << 1
	rightSetFlags = 1 << 3
	rightWrite    = 1 << 6
	rightFilestat = 1 << 21
	rightPoll     = 1 << 27
	charDevice    = 2
	knownFdflags  = 1<<5 - 1
)

// Layouts of fdstat, filestat and iovec.
const (
	fdstatSize     = 24
	fdstatRights   = 8
	filestatSize   = 64
	filestatType   = 16
	filestatNlink  = 24
	iovecSize      = 8
	iovecLenOffset = 4
)

// Bounds of one read or write; a guest that gets a short count goes on.
const (
	maxIovecs     = 1024 // IOV_MAX elsewhere
	maxStdioBytes = 1 << 20
)

func wasiFdstat(c *compute.Call) abi.Status {
	stream, ok := streamOf(c, c.U32(0))
	if !ok {
		return abi.EBadf
	}
	rights := uint64(rightWrite)
	if stream == stdin {
		rights = rightRead
	}
	ptr := c.U32(1)
	c.Write(ptr, make([]byte, fdstatSize))
	c.PutU8(ptr, charDevice)
	c.PutU64(ptr+fdstatRights, rights|rightSetFlags|rightFilestat|rightPoll)
	return abi.ESuccess
}

// wasiSetFlags takes any flags and changes nothing: writes append by nature, and
// a read that does not block is what poll_oneoff promises anyway.
func wasiSetFlags(c *compute.Call) abi.Status {
	if _, ok := streamOf(c, c.U32(0)); !ok {
		return abi.EBadf
	}
	if c.U32(1)&^knownFdflags != 0 {
		return abi.EInval
	}
	return abi.ESuccess
}

func wasiFilestat(c *compute.Call) abi.Status {
	if _, ok := streamOf(c, c.U32(0)); !ok {
		return abi.EBadf
	}
	ptr := c.U32(1)
	c.Write(ptr, make([]byte, filestatSize))
	c.PutU8(ptr+filestatType, charDevice)
	c.PutU64(ptr+filestatNlink, 1)
	return abi.ESuccess
}

// An iovec is a piece of guest memory to read into or write from.
type iovec struct{ ptr, n uint32 }

// iovecs reads and checks the vectors at words 1 (pointer) and 2 (count). Empty ones are left
// out, and so is what goes beyond maxStdioBytes.
func iovecs(c *compute.Call) (list []iovec, total uint32) {
	count := c.U32(2)
	if count > maxIovecs {
		c.Fail(abi.EInval)
	}
	at := c.U32(1)
	c.Read(at, count*iovecSize)
	for range count {
		v := iovec{c.ReadU32(at), c.ReadU32(at + iovecLenOffset)}
		at += iovecSize
		c.Read(v.ptr, v.n)
		v.n = min(v.n, maxStdioBytes-total)
		total += v.n
		if v.n > 0 {
			list = append(list, v)
		}
	}
	return list, total
}

func wasiRead(c *compute.Call) abi.Status {
	if stream, ok := streamOf(c, c.U32(0)); !ok || stream != stdin {
		return abi.EBadf
	}
	list, _ := iovecs(c)
	c.PutU32(c.U32(3), 0)
	if len(list) == 0 || c.Sandbox.Stdin == nil {
		return abi.ESuccess
	}
	dst := c.Writable(list[0].ptr, list[0].n)
	n, err := 0, error(nil)
	c.BlockHolding(func(ctx context.Context) { n, err = c.Sandbox.Stdin.Read(ctx, dst) })
	if n == 0 && err != nil && err != io.EOF {
		return abi.EIO
	}
	c.Wrote(list[0].ptr, uint32(n))
	c.PutU32(c.U32(3), uint32(n))
	return abi.ESuccess
}

func wasiWrite(c *compute.Call) abi.Status {
	stream, ok := streamOf(c, c.U32(0))
	if !ok || stream == stdin {
		return abi.EBadf
	}
	list, total := iovecs(c)
	c.Read(c.U32(3), 4)
	if total > 0 {
		if s := print(c, stream, gather(c, list, total)); s != abi.ESuccess {
			return s
		}
	}
	c.PutU32(c.U32(3), total)
	return abi.ESuccess
}

// gather joins the pieces, so that what a guest writes at once stays together among the
// output of other sandboxes.
func gather(c *compute.Call, list []iovec, total uint32) []byte {
	if len(list) == 1 {
		return c.Read(list[0].ptr, list[0].n)
	}
	all := make([]byte, 0, total)
	for _, v := range list {
		all = append(all, c.Read(v.ptr, v.n)...)
	}
	return all
}

// print hands bytes to whoever takes the sandbox's output. Only a taker of the sandbox's
// own may make the guest wait or refuse: then its reader is gone.
func print(c *compute.Call, stream uint32, b []byte) abi.Status {
	if take := c.Sandbox.Stdout; stream == stdout && take != nil {
		var err error
		c.BlockHolding(func(context.Context) { err = take(b) })
		if err != nil {
			return abi.EPipe
		}
		return abi.ESuccess
	}
	switch e, ok := c.Sandbox.State.(*exec); {
	case c.Sandbox.Host.Output == nil:
	case ok:
		e.output.print(c.Sandbox.Host, stream, b)
	default:
		c.Sandbox.Host.Output(int(stream), b)
	}
	return abi.ESuccess
}
