package cache

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// A segment is a file of records, written from its beginning to its end and then only read.
// Eviction removes whole segments, the oldest first; one that is being read stays open, and
// counts, until its last reader has done. The disk's lock guards all but the file.
type segment struct {
	id     uint32
	f      file
	size   int64
	minSeq uint64 // of the records in it: older purges do not concern it
	refs   int
	gone   bool
	undead bool // gone, and its file could not be removed
}

func segmentName(id uint32) string { return fmt.Sprintf("%08x.segment", id) }

func segmentID(name string) (id uint32, ok bool) {
	hex, found := strings.CutSuffix(name, ".segment")
	n, err := strconv.ParseUint(hex, 16, 32)
	return uint32(n), found && err == nil && n > 0 && segmentName(uint32(n)) == name
}

// segment returns the one of that number, or nil; d.mu is held.
func (d *disk) segment(id uint32) *segment {
	i, found := slices.BinarySearchFunc(d.segs, id, func(s *segment, id uint32) int { return cmp.Compare(s.id, id) })
	if !found {
		return nil
	}
	return d.segs[i]
}

// hold returns a segment that stays open until it is released, or nil if it has gone.
func (d *disk) hold(id uint32) *segment {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.segment(id)
	if s != nil {
		s.refs++
	}
	return s
}

func (d *disk) release(s *segment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s.refs--
	d.closeUnused(s)
}

// closeUnused closes a segment that is no longer the disk's nor anybody's.
func (d *disk) closeUnused(s *segment) {
	if !s.gone || s.refs > 0 {
		return
	}
	s.f.Close()
	d.used -= s.size
	if s.undead && d.files.remove(segmentName(s.id)) == nil { // some systems remove no file that is open
		s.undead = false
		d.undead--
	}
}

// oldestSeq returns the number up to which no purge concerns anything on disk.
func (d *disk) oldestSeq() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.undead > 0 {
		return 0
	}
	low := uint64(math.MaxUint64)
	if d.saved > 0 {
		low = d.saved
	}
	for _, s := range d.segs {
		low = min(low, s.minSeq)
	}
	return low
}

// lying is a body that lies in a segment.
type lying struct {
	d    *disk
	at   place
	size int64
	sums []uint32
	bad  atomic.Bool // it could not be read
	gone atomic.Bool // its segment was evicted
}

var blockBuffers = sync.Pool{New: func() any { b := make([]byte, blockSize); return &b }}

// blockReader reads a lying body, one verified block after the other.
type blockReader struct {
	l     *lying
	seg   *segment
	buf   *[]byte
	block int64 // which one buf has
	have  []byte
}

// open holds the body's segment and reads the block that an offset is in, so that what cannot be
// read is known before the head of a response is sent.
func (l *lying) open(from int64) (*blockReader, error) {
	seg := l.d.hold(l.at.segment())
	if seg == nil {
		l.gone.Store(true)
		return nil, errGone
	}
	r := &blockReader{l: l, seg: seg, buf: blockBuffers.Get().(*[]byte), block: -1}
	if from >= l.size {
		return r, nil
	}
	if err := r.load(from / blockSize); err != nil {
		r.close()
		return nil, errGone
	}
	return r, nil
}

// load reads and verifies a block.
func (r *blockReader) load(n int64) error {
	if n == r.block {
		return nil
	}
	b := (*r.buf)[:min(blockSize, r.l.size-n*blockSize)]
	if _, err := r.seg.f.ReadAt(b, r.l.at.offset()+n*blockSize); err != nil {
		return r.l.broken(err)
	}
	if checksum(b) != r.l.sums[n] {
		return r.l.broken(errDamaged)
	}
	r.block, r.have = n, b
	return nil
}

// broken says that the body must not be used again.
func (l *lying) broken(err error) error {
	l.bad.Store(true)
	l.d.alarm("read", err)
	return err
}

// at returns up to limit bytes from an offset, valid until the next call.
func (r *blockReader) at(off int64, limit int) ([]byte, error) {
	if err := r.load(off / blockSize); err != nil {
		return nil, err
	}
	b := r.have[off%blockSize:]
	return b[:min(len(b), limit)], nil
}

func (r *blockReader) close() {
	if r.buf == nil {
		return
	}
	blockBuffers.Put(r.buf)
	r.buf, r.have = nil, nil
	r.l.d.release(r.seg)
}
