package hostcall

import (
	"context"
	"io"
	"runtime"

	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

// WASI preview 1 as a guest of the edge finds it: arguments, environment, clocks, random
// bytes, three standard streams, sleep. There is no file system and there are no sockets: what
// asks for one gets the errno that a runtime without preopened directories gives.
var wasiCalls = calls{
	"args_get":          wasiArgsGet,
	"args_sizes_get":    wasiArgsSizes,
	"environ_get":       wasiEnvironGet,
	"environ_sizes_get": wasiEnvironSizes,
	"clock_res_get":     wasiClockRes,
	"clock_time_get":    wasiClockTime,
	"poll_oneoff":       wasiPoll,
	"proc_exit":         wasiExit,
	"proc_raise":        func(*compute.Call) abi.Status { return abi.ENotsup },
	"random_get":        wasiRandom,
	"sched_yield":       wasiYield,

	"fd_advise":             onStream(eSpipe),
	"fd_allocate":           onStream(eSpipe),
	"fd_close":              wasiClose,
	"fd_datasync":           onStream(abi.ESuccess), // the host keeps nothing back
	"fd_fdstat_get":         wasiFdstat,
	"fd_fdstat_set_flags":   wasiSetFlags,
	"fd_fdstat_set_rights":  onStream(abi.ENotsup),
	"fd_filestat_get":       wasiFilestat,
	"fd_filestat_set_size":  onStream(abi.EInval),
	"fd_filestat_set_times": onStream(abi.ENotsup),
	"fd_pread":              onStream(eSpipe),
	"fd_prestat_get":        noFile,
	"fd_prestat_dir_name":   noFile,
	"fd_pwrite":             onStream(eSpipe),
	"fd_read":               wasiRead,
	"fd_readdir":            onStream(eNotdir),
	"fd_renumber":           wasiRenumber,
	"fd_seek":               onStream(eSpipe),
	"fd_sync":               onStream(abi.ESuccess),
	"fd_tell":               onStream(eSpipe),
	"fd_write":              wasiWrite,

	"path_create_directory":   onStream(eNotdir),
	"path_filestat_get":       onStream(eNotdir),
	"path_filestat_set_times": onStream(eNotdir),
	"path_link":               onStream(eNotdir),
	"path_open":               onStream(eNotdir),
	"path_readlink":           onStream(eNotdir),
	"path_remove_directory":   onStream(eNotdir),
	"path_rename":             onStream(eNotdir),
	"path_symlink":            wasiSymlink,
	"path_unlink_file":        onStream(eNotdir),

	"sock_accept":   onStream(eNotsock),
	"sock_recv":     onStream(eNotsock),
	"sock_send":     onStream(eNotsock),
	"sock_shutdown": onStream(eNotsock),
}

// Errnos that only WASI's file calls give.
const (
	eNotdir  abi.Status = 54
	eNotsock abi.Status = 57
	eSpipe              = abi.ESpipe
)

// noFile answers for a descriptor that can only name a file.
func noFile(*compute.Call) abi.Status { return abi.EBadf }

// onStream answers s for a standard stream and EBADF for every other descriptor, which word 0 names.
func onStream(s abi.Status) compute.Func {
	return func(c *compute.Call) abi.Status {
		if _, ok := streamOf(c, c.U32(0)); !ok {
			return abi.EBadf
		}
		return s
	}
}

// wasiSymlink is the one path call whose descriptor is not its first word.
func wasiSymlink(c *compute.Call) abi.Status {
	if _, ok := streamOf(c, c.U32(2)); !ok {
		return abi.EBadf
	}
	return eNotdir
}

func wasiArgsGet(c *compute.Call) abi.Status      { return putStrings(c, c.Sandbox.Args) }
func wasiArgsSizes(c *compute.Call) abi.Status    { return putSizes(c, c.Sandbox.Args) }
func wasiEnvironGet(c *compute.Call) abi.Status   { return putStrings(c, c.Sandbox.Env) }
func wasiEnvironSizes(c *compute.Call) abi.Status { return putSizes(c, c.Sandbox.Env) }

// putStrings writes a pointer to each string to word 0 and the strings, ended by NUL, to word 1.
func putStrings(c *compute.Call, list []string) abi.Status {
	ptr, buf := c.U32(0), c.U32(1)
	for _, s := range list {
		c.PutU32(ptr, buf)
		c.Write(buf, append([]byte(s), 0))
		ptr += 4
		buf += uint32(len(s)) + 1
	}
	return abi.ESuccess
}

func putSizes(c *compute.Call, list []string) abi.Status {
	n := 0
	for _, s := range list {
		n += len(s) + 1
	}
	c.PutU32(c.U32(0), uint32(len(list)))
	c.PutU32(c.U32(1), uint32(n))
	return abi.ESuccess
}

// Clocks of WASI.
const (
	clockRealtime   = 0
	clockMonotonic  = 1
	clockProcessCPU = 2
	clockThreadCPU  = 3
)

// readClock returns the nanoseconds a clock shows.
func readClock(c *compute.Call, id uint32) (ns uint64, ok bool) {
	switch id {
	case clockRealtime:
		return uint64(c.Sandbox.Host.Now().UnixNano()), true
	case clockMonotonic:
		return uint64(c.Sandbox.Host.Monotonic()), true
	case clockProcessCPU, clockThreadCPU:
		return uint64(c.Sandbox.CPU()), true
	}
	return 0, false
}

// wasiClockRes says 1 ns for every clock: that is the unit, and nothing is rounded.
func wasiClockRes(c *compute.Call) abi.Status {
	if c.U32(0) > clockThreadCPU {
		return abi.EInval
	}
	c.PutU64(c.U32(1), 1)
	return abi.ESuccess
}

func wasiClockTime(c *compute.Call) abi.Status {
	ns, ok := readClock(c, c.U32(0))
	if !ok {
		return abi.EInval
	}
	c.PutU64(c.U32(2), ns)
	return abi.ESuccess
}

// randomChunk is how many random bytes are made before others get their turn.
const randomChunk = 256 << 10

func wasiRandom(c *compute.Call) abi.Status {
	dst := c.Writable(c.U32(0), c.U32(1))
	for n := 0; n < len(dst); n += randomChunk {
		if n > 0 {
			c.Block(func(context.Context) {}) // ends here if the sandbox's time is up
		}
		if _, err := io.ReadFull(c.Sandbox.Host.Rand, dst[n:min(n+randomChunk, len(dst))]); err != nil {
			return abi.EIO
		}
	}
	c.Wrote(c.U32(0), uint32(len(dst)))
	return abi.ESuccess
}

func wasiYield(c *compute.Call) abi.Status {
	c.Block(func(context.Context) { runtime.Gosched() })
	return abi.ESuccess
}

func wasiExit(c *compute.Call) abi.Status {
	c.Exit(c.U32(0))
	return abi.ESuccess
}
