//go:build !plainmem

package compute

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/klauspost/compress/s2"
	"golang.org/x/sys/unix"
)

// How memory is packed. Of each page that the guest has a copy of its own of, the difference to what the
// image says is taken: pages that are as they were vanish, and those with a few changes compress
// well. Pages that have little in common with the image are taken as they are. Up to a batch of pages are compressed at once. The result lies behind the guest's memory, in
// the address space reserved for it: that is no work for the collector, and no mapping more.
// The guest cannot see it, for its memory ends before, and it is gone before the memory can grow.
//
// A batch is the number of its pages, the length of the compressed bytes, the pages' numbers
// (each 4 bytes), and those bytes. A batch of no pages is the end.

const batchPages = 64

// plainPage marks the number of a page that is not a difference.
const plainPage = 1 << 31

// packing is what a packer needs to work, or a guest that unpacks.
type packing struct {
	pages [batchPages * page]byte // differences
	coded []byte
	index [batchPages]uint32
	count int
}

var packings = sync.Pool{New: func() any { return new(packing) }}

// wipe forgets the guest's bytes.
func (p *packing) wipe() {
	clear(p.pages[:])
	clear(p.coded)
	p.count = 0
}

// shelf is the place of packed bytes.
type shelf struct {
	mem  []byte // free
	used uint64
}

// put adds a batch; it reports false if there is no room.
func (s *shelf) put(p *packing) bool {
	if p.coded == nil {
		p.coded = make([]byte, s2.MaxEncodedLen(len(p.pages)))
	}
	coded := s2.Encode(p.coded, p.pages[:p.count*page])
	need := 8 + 4*p.count + len(coded)
	if need > len(s.mem) {
		return false
	}
	binary.NativeEndian.PutUint32(s.mem, uint32(p.count))
	binary.NativeEndian.PutUint32(s.mem[4:], uint32(len(coded)))
	for i, n := range p.index[:p.count] {
		binary.NativeEndian.PutUint32(s.mem[8+4*i:], n)
	}
	copy(s.mem[8+4*p.count:], coded)
	s.mem, s.used = s.mem[need:], s.used+uint64(need)
	p.count = 0
	return true
}

// pack compresses the dirty pages and drops them. It reports false, and has changed nothing,
// where that cannot be done or is not worth it.
func (r *region) pack(img *image, p *packing) bool {
	if r.scan() != nil {
		return false
	}
	defer p.wipe()
	dirty := uint64(0)
	for _, d := range r.dirty {
		dirty += d.end - d.start
	}
	r.faults = -1
	// What takes more than half the room is not worth the work.
	s := shelf{mem: r.mem[r.high:]}
	s.mem = s.mem[:min(uint64(len(s.mem)), dirty/2)]
	ok := r.shelve(img, p, &s)
	if ok {
		ok = unix.Madvise(r.mem[:r.high], unix.MADV_DONTNEED) == nil
	}
	if !ok {
		r.clearShelf(s.used)
		return false
	}
	r.shelf, r.drained = s.used, true
	return true
}

// shelve puts all dirty pages on the shelf.
func (r *region) shelve(img *image, p *packing, s *shelf) bool {
	for _, d := range r.dirty {
		for at := d.start; at < d.end; at += page {
			if !r.differ(img, at, p) {
				continue
			}
			if p.count == batchPages && !s.put(p) {
				return false
			}
		}
	}
	return p.count == 0 || s.put(p)
}

// differ adds the page at an address to a batch if it is not as the image says.
func (r *region) differ(img *image, at uint64, p *packing) bool {
	to, from := p.pages[p.count*page:][:page], r.mem[at:at+page]
	if at < img.backing.length {
		subtle.XORBytes(to, from, img.backing.view[at:])
	} else {
		copy(to, from)
	}
	if bytes.Equal(to, zeroPage[:]) {
		return false
	}
	p.index[p.count] = uint32(at / page)
	if at >= img.backing.length {
		p.index[p.count] |= plainPage
	} else if bytes.Count(to, zeroPage[:1]) < page/2 {
		copy(to, from)
		p.index[p.count] |= plainPage
	}
	p.count++
	return true
}

var zeroPage [page]byte

// unpack undoes pack. It only writes to the pages: to read them first would be a page fault more for each.
func (r *region) unpack(img *image) {
	p := packings.Get().(*packing)
	defer packings.Put(p)
	defer p.wipe()
	s := r.mem[r.high:][:r.shelf]
	for len(s) > 0 {
		s = r.restore(s, img, p)
	}
	r.clearShelf(r.shelf)
	r.shelf = 0
}

// restore unpacks a batch and returns what follows it.
func (r *region) restore(s []byte, img *image, p *packing) []byte {
	p.count = int(binary.NativeEndian.Uint32(s))
	index, coded := s[8:8+4*p.count], s[8+4*p.count:][:binary.NativeEndian.Uint32(s[4:])]
	diff, err := s2.Decode(p.pages[:], coded)
	if err != nil || len(diff) != p.count*page {
		panic(fmt.Errorf("packed guest memory is damaged: %d bytes for %d pages: %v", len(diff), p.count, err))
	}
	for i := range p.count {
		n := binary.NativeEndian.Uint32(index[4*i:])
		to := r.mem[uint64(n&^plainPage)*page:][:page]
		if n&plainPage != 0 {
			copy(to, diff[i*page:])
			continue
		}
		subtle.XORBytes(to, img.backing.view[uint64(n)*page:][:page], diff[i*page:])
	}
	return s[8+4*p.count+len(coded):]
}

// clearShelf makes the address space behind the memory zeros again, as the guest must find it when it grows.
func (r *region) clearShelf(used uint64) {
	if used == 0 {
		return
	}
	b := r.mem[r.high:][:(used+page-1)/page*page]
	if unix.Madvise(b, unix.MADV_DONTNEED) != nil {
		clear(b)
	}
}
