//go:build !plainmem

package compute

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// backing holds an image's bytes in a memfd, so that instances can map it privately: pages
// that nobody writes exist once, whatever the number of instances.
type backing struct {
	fd     int
	length uint64 // of the file, whole pages
	view   []byte // read-only mapping of it, the source when dirty pages are copied back
}

const page = 4096 // the kernel's; checked at start

func newBacking(data []byte) (b backing, err error) {
	b.fd = -1
	if os.Getpagesize() != page {
		return b, fmt.Errorf("page size is %d, only %d is supported", os.Getpagesize(), page)
	}
	if len(data) == 0 {
		return b, nil
	}
	if b.fd, err = unix.MemfdCreate("wedge-image", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING); err != nil {
		return b, fmt.Errorf("memfd_create: %w", err)
	}
	b.length = (uint64(len(data)) + page - 1) / page * page
	if err = b.fill(data); err != nil {
		b.close()
	}
	return b, err
}

func (b *backing) fill(data []byte) error {
	if err := unix.Ftruncate(b.fd, int64(b.length)); err != nil {
		return fmt.Errorf("ftruncate: %w", err)
	}
	const size = 64 << 10
	for at := 0; at < len(data); at += size {
		chunk := data[at:min(at+size, len(data))]
		if len(bytes.TrimLeft(chunk, "\x00")) == 0 {
			continue // a hole: zeros cost no memory, however far apart a guest puts its data
		}
		if n, err := unix.Pwrite(b.fd, chunk, int64(at)); err != nil || n != len(chunk) {
			return fmt.Errorf("write image: %d of %d bytes: %v", n, len(chunk), err)
		}
	}
	// From here on nothing can change the file under the instances that map it.
	if _, err := unix.FcntlInt(uintptr(b.fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return fmt.Errorf("seal image: %w", err)
	}
	var err error
	b.view, err = unix.Mmap(b.fd, 0, int(b.length), unix.PROT_READ, unix.MAP_PRIVATE)
	return err
}

// bytes returns the image, which may be followed by zeros up to a whole page.
func (b *backing) bytes() []byte { return b.view }

func (b *backing) close() {
	if b.view != nil {
		_ = unix.Munmap(b.view)
		b.view = nil
	}
	if b.fd >= 0 {
		_ = unix.Close(b.fd)
		b.fd = -1
	}
}

// region is address space for one guest memory: the image mapped copy-on-write at its
// start, anonymous zero pages after it. Two mappings per instance: the kernel's bound on
// their number (vm.max_map_count, 65,530 by default) allows some 30,000 instances.
type region struct {
	mem    []byte          // the whole reservation
	mapped uint64          // bytes of image mapped at its start
	found  *[64]pageRegion // where the kernel writes; on the heap, for a stack may move under an ioctl

	high   uint64 // how far the guest's memory has reached since pages were last dropped
	dirty  []span // pages below it that were private copies at the last scan
	faults int64  // the process's page faults before that scan; -1: there was none

	shelf   uint64 // length of packed pages behind high; see pack_linux.go
	drained bool   // pages were packed since they were last dropped
}

// span is a range of addresses from the start of the region, whole pages.
type span struct{ start, end uint64 }

func newRegion(length uint64) (region, error) {
	mem, err := unix.Mmap(-1, 0, int(length), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return region{}, fmt.Errorf("reserve %d bytes of guest memory: %w", length, err)
	}
	// A huge page would make one touched byte cost 2 MiB, and its reset too.
	_ = unix.Madvise(mem, unix.MADV_NOHUGEPAGE)
	return region{mem: mem, found: new([64]pageRegion), faults: -1}, nil
}

func (r *region) bytes() []byte { return r.mem }

func (r *region) capacity() uint64 { return uint64(len(r.mem)) }

func (r *region) grow(size uint64) bool {
	if size > uint64(len(r.mem)) {
		return false
	}
	r.high = max(r.high, size)
	return true
}

func (r *region) close() {
	if r.mem != nil {
		_ = unix.Munmap(r.mem)
		r.mem = nil
	}
}

func (r *region) base() uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(r.mem))) }

// show maps img over whatever the region held.
func (r *region) show(img *image) error {
	if img.max > uint64(len(r.mem)) || img.backing.length > uint64(len(r.mem)) {
		return fmt.Errorf("image of %d bytes in a region of %d", img.max, len(r.mem))
	}
	if old := r.mapped; old > img.backing.length { // give the tail back to zero pages
		if err := r.mapAt(img.backing.length, old-img.backing.length, -1); err != nil {
			return err
		}
	}
	if err := unix.Madvise(r.mem[img.backing.length:], unix.MADV_DONTNEED); err != nil {
		return fmt.Errorf("drop pages: %w", err)
	}
	r.mapped, r.high = img.backing.length, img.size
	r.dirty, r.faults = r.dirty[:0], -1
	if img.backing.length == 0 {
		return nil
	}
	return r.mapAt(0, img.backing.length, img.backing.fd)
}

func (r *region) mapAt(at, n uint64, fd int) error {
	flags := unix.MAP_PRIVATE | unix.MAP_FIXED | unix.MAP_NORESERVE
	if fd < 0 {
		flags |= unix.MAP_ANON
	}
	_, err := unix.MmapPtr(fd, 0, unsafe.Pointer(&r.mem[at]), uintptr(n), unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		return fmt.Errorf("map image: %w", err)
	}
	return nil
}

// maxCopyBack is how many dirty pages are copied back before dropping them is cheaper: a
// copied page costs about 0.1 us now, a dropped one a page fault of 0.5 us or more in the next
// run, but copying also pays for pages the next run would not touch.
const maxCopyBack = 1024

// reset undoes all writes. Dirty pages are those present and no
// longer the image's; they stay private copies, so the next run writes to them without a fault.
//
// Finding them costs more than copying them back (for a JS hello 15 us against 8 us). But a page
// becomes private by a page fault only, so while the process has had no fault since the last
// scan, that scan's list still holds. The kernel counts a fault before the instruction
// that caused it completes, on whichever thread, so nothing can slip through. Scans go to the
// highest size the memory ever had: a page beyond today's size may be private already, and
// would take the next writes without a fault.
//
// A guest that waited long enough to be packed gives its pages back: there may be
// thousands of them, and not so many requests in a second.
func (r *region) reset(img *image) error {
	if r.drained {
		return r.drop(img)
	}
	if now := pageFaults(); now < 0 || now != r.faults {
		if err := r.scan(); err != nil { // no page map to be had here: slower, and as good
			return r.drop(img)
		}
		r.faults = now
	}
	pages := uint64(0)
	for _, d := range r.dirty {
		pages += (d.end - d.start) / page
	}
	if pages > maxCopyBack {
		return r.drop(img)
	}
	for _, d := range r.dirty {
		r.copyBack(img, d.start, d.end)
	}
	return nil
}

// pageFaults returns how many page faults the process has had, or -1 if the kernel does not say.
func pageFaults() int64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return -1
	}
	return int64(u.Minflt) + int64(u.Majflt)
}

// scan lists the dirty pages.
func (r *region) scan() error {
	r.dirty = r.dirty[:0]
	base, size := r.base(), r.high
	for from := uint64(0); from < size; {
		n, next, err := dirtyPages(base+uintptr(from), base+uintptr(size), r.found[:])
		if err != nil {
			return err
		}
		for _, f := range r.found[:n] {
			r.dirty = append(r.dirty, span{f.start - uint64(base), f.end - uint64(base)})
		}
		from = uint64(next - base)
	}
	return nil
}

func (r *region) drop(img *image) error {
	if err := unix.Madvise(r.mem[:r.high], unix.MADV_DONTNEED); err != nil {
		return fmt.Errorf("drop pages: %w", err)
	}
	r.high, r.dirty, r.faults, r.drained = img.size, r.dirty[:0], -1, false
	return nil
}

func (r *region) copyBack(img *image, start, end uint64) {
	n := uint64(0)
	if start < img.backing.length {
		n = uint64(copy(r.mem[start:end], img.backing.view[start:]))
	}
	clear(r.mem[start+n : end])
}

// pageRegion is struct page_region of the PAGEMAP_SCAN ioctl (Linux 6.7).
type pageRegion struct{ start, end, categories uint64 }

// scanArg is struct pm_scan_arg.
type scanArg struct {
	size, flags, start, end, walkEnd, vec, vecLen, maxPages uint64
	inverted, mask, anyOf, ret                              uint64
}

const (
	scanRequest = 0xc0606610 // _IOWR('f', 16, struct pm_scan_arg)
	pageFile    = 1 << 2
	pagePresent = 1 << 3
	pageSwapped = 1 << 4
	pageZero    = 1 << 5
)

var pagemap = sync.OnceValues(func() (*os.File, error) { return os.Open("/proc/self/pagemap") })

// scanMissing is set when the kernel does not know PAGEMAP_SCAN.
var scanMissing = sync.OnceValue(func() bool {
	f, err := pagemap()
	if err != nil {
		return true
	}
	r, err := newRegion(page)
	if err != nil {
		return true
	}
	defer r.close()
	_, _, err = pagemapScan(f, r.base(), r.base()+page, r.found[:])
	return err != nil
})

// dirtyPages finds written pages in [start, end): how many regions, and where to go on.
func dirtyPages(start, end uintptr, out []pageRegion) (n int, next uintptr, err error) {
	f, err := pagemap()
	if err != nil {
		return 0, 0, err
	}
	if scanMissing() {
		return readPagemap(f, start, end, out)
	}
	return pagemapScan(f, start, end, out)
}

// pagemapScan asks the kernel for pages that are present or swapped, not of a file and not the shared
// zero page: exactly those that were written.
func pagemapScan(f *os.File, start, end uintptr, out []pageRegion) (int, uintptr, error) {
	arg := scanArg{
		start: uint64(start), end: uint64(end),
		vec: uint64(uintptr(unsafe.Pointer(&out[0]))), vecLen: uint64(len(out)),
		inverted: pageFile | pageZero, mask: pageFile | pageZero,
		anyOf: pagePresent | pageSwapped, ret: pagePresent,
	}
	arg.size = uint64(unsafe.Sizeof(arg))
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), scanRequest, uintptr(unsafe.Pointer(&arg)))
	if errno != 0 {
		return 0, 0, fmt.Errorf("scan page map: %w", errno)
	}
	return int(n), uintptr(arg.walkEnd), nil
}

// readPagemap does the same on older kernels, from the page map's entries. It cannot tell the
// shared zero page from a written one; copying zeros over it is wasteful, not wrong.
func readPagemap(f *os.File, start, end uintptr, out []pageRegion) (n int, next uintptr, err error) {
	var entries [512]uint64
	for start < end {
		count := min(len(entries), int((end-start)/page))
		buf := unsafe.Slice((*byte)(unsafe.Pointer(&entries[0])), count*8)
		if _, err := f.ReadAt(buf, int64(start/page*8)); err != nil {
			return 0, 0, fmt.Errorf("read page map: %w", err)
		}
		for i := range count {
			e := binary.NativeEndian.Uint64(buf[i*8:])
			if present := e>>62 != 0; !present || e>>61&1 != 0 {
				continue
			}
			at := uint64(start) + uint64(i)*page
			if n > 0 && out[n-1].end == at {
				out[n-1].end += page
				continue
			}
			if n == len(out) {
				return n, uintptr(at), nil
			}
			out[n] = pageRegion{start: at, end: at + page}
			n++
		}
		start += uintptr(count) * page
	}
	return n, end, nil
}
