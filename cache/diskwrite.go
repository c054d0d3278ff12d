package cache

import (
	"bufio"
	"context"
	"io"
	"math"
	"sync"
	"time"
)

// maxAgain is the largest record that gets a second chance when its segment goes.
const maxAgain = 256 << 10

// record is an object made ready to be written.
type record struct {
	head head
	meta []byte
	sums []uint32
	body *spool
}

// newRecord encodes an object and sums up its body. A body that lies on disk already is referred to
// if that is worth it.
func (d *disk) newRecord(j job) (*record, error) {
	r := &record{head: head{key: j.key, variant: j.o.variantHash(), seq: j.o.seq, body: j.o.body.size}, body: j.o.body}
	var sums []uint32
	if l := d.copyOf(j.o.body); l != nil {
		r.head.bodyAt, sums = l.at, l.sums
	} else {
		var err error
		if sums, err = sumUp(j.o.body); err != nil {
			return nil, err
		}
	}
	r.sums = sums
	r.meta = appendMeta(make([]byte, 0, 1024+4*len(sums)), j.o, j.service, sums)
	if len(r.meta) > maxMeta {
		return nil, errNoRoom
	}
	r.head.meta, r.head.metaSum = len(r.meta), checksum(r.meta)
	return r, nil
}

// copyOf returns where a body lies already, if it is to be referred to: it is large, and will not be
// evicted soon.
func (d *disk) copyOf(s *spool) *lying {
	l := s.copyOnDisk()
	if l == nil || l.size <= blockSize || l.bad.Load() {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if seg := d.segment(l.at.segment()); seg == nil || seg.id < d.segs[len(d.segs)/2].id {
		return nil
	}
	return l
}

func (r *record) refers() bool { return r.head.bodyAt != 0 }

func (r *record) size() int64 {
	n := int64(headSize + len(r.meta))
	if !r.refers() {
		n += r.head.body
	}
	return n
}

// sumUp returns the checksums of a body's blocks.
func sumUp(s *spool) (sums []uint32, err error) {
	r, err := s.open(context.Background(), 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	buf := blockBuffers.Get().(*[]byte)
	defer blockBuffers.Put(buf)
	for left := s.size; left > 0; {
		b := (*buf)[:min(left, blockSize)]
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		sums = append(sums, checksum(b))
		left -= int64(len(b))
	}
	return sums, nil
}

var writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 256<<10) }}

// write puts the record into a segment, at its place in head.
func (r *record) write(s *segment) error {
	at := r.head.at.offset()
	if !r.refers() {
		r.head.bodyAt = r.head.own()
	}
	w := writers.Get().(*bufio.Writer)
	defer writers.Put(w)
	w.Reset(io.NewOffsetWriter(s.f, at))
	var h [headSize]byte
	r.head.put(h[:])
	_, _ = w.Write(h[:])
	_, err := w.Write(r.meta)
	if err == nil && r.head.bodyAt == r.head.own() {
		err = copyBody(w, r.body)
	}
	if err == nil {
		err = w.Flush()
	}
	return err
}

func copyBody(w io.Writer, s *spool) error {
	r, err := s.open(context.Background(), 0, -1)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = r.WriteTo(w)
	return err
}

// reserve returns the segment to write a record of that size and number to, and its place. Old segments
// go for it; what is to be kept of them is returned to be written after.
func (d *disk) reserve(size int64, seq uint64) (s *segment, at place, again []kept, err error) {
	if size > d.limit/2 {
		return nil, 0, nil, errNoRoom
	}
	for d.full(size) {
		more, err := d.evict()
		if err != nil {
			return nil, 0, again, err
		}
		again = append(again, more...)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.journal == nil {
		return nil, 0, again, errClosed
	}
	if n := len(d.segs); n > 0 && (d.segs[n-1].size == 0 || d.segs[n-1].size+size <= d.room) {
		s = d.segs[n-1]
	} else {
		f, err := d.files.create(segmentName(d.lastID + 1))
		if err != nil {
			return nil, 0, again, err
		}
		d.lastID++
		s = &segment{id: d.lastID, f: f, minSeq: math.MaxUint64}
		d.segs = append(d.segs, s)
	}
	s.minSeq = min(s.minSeq, seq) // before purges are looked at: from here on they are kept
	s.refs++
	return s, placeOf(s.id, s.size), again, nil
}

func (d *disk) full(size int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used+size > d.limit || int64(d.index.used) >= max(d.limit/bytesPerSlot, 64)
}

// kept is a record of a segment that goes which was asked for since it was written, or which memory still has.
type kept struct {
	slot    slot
	raw     []byte
	journal *journal // of the time: no other knows what was purged since
}

// evict removes the oldest segment.
func (d *disk) evict() (again []kept, err error) {
	d.mu.Lock()
	if len(d.segs) == 0 {
		d.mu.Unlock()
		return nil, errNoRoom // what takes the room is still being read
	}
	s := d.segs[0]
	slots := d.index.in(s.id)
	d.mu.Unlock()
	again = d.rescue(s, slots)
	if err = d.files.remove(segmentName(s.id)); err == nil {
		err = d.files.sync() // until it is gone for good its purges are kept
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.segs) == 0 || d.segs[0] != s {
		return nil, errNoRoom
	}
	if err != nil {
		s.undead = true
		d.undead++
	}
	d.segs = d.segs[1:]
	s.gone = true
	d.closeUnused(s)
	again = d.claim(s, again)
	d.stats.DiskEvicted.Add(int64(d.index.drop(s.id) - len(again)))
	d.prune()
	return again, nil
}

// claim keeps those records that are wanted still, and their purges.
func (d *disk) claim(s *segment, all []kept) (again []kept) {
	for _, k := range all {
		if sl := d.index.find(k.slot.print, k.slot.variant); sl != nil && sl.at == k.slot.at {
			k.slot.state = sl.state & inMemory
			d.pending[k.slot.print]++
			k.journal = d.journal
			if d.saved == 0 || s.minSeq < d.saved {
				d.saved = s.minSeq
			}
			again = append(again, k)
		}
	}
	return again
}

// prune forgets purges of keys that are no longer on disk.
func (d *disk) prune() {
	if d.undead > 0 {
		return
	}
	for print := range d.keyed {
		if !d.concerned(print) {
			delete(d.keyed, print)
		}
	}
}

// rescue reads the records of a segment that get a second chance: at most a quarter of it.
func (d *disk) rescue(s *segment, slots []slot) (again []kept) {
	left := d.room / 4
	for _, sl := range slots {
		if sl.state&(wanted|inMemory) == 0 || sl.size > maxAgain || int64(sl.size) > left {
			continue
		}
		raw := make([]byte, sl.size)
		if _, err := s.f.ReadAt(raw, sl.at.offset()); err != nil {
			continue
		}
		if h, err := parseHead(raw, sl.at); err != nil || h.size() != int64(len(raw)) || h.bodyAt != h.own() {
			continue
		}
		left -= int64(len(raw))
		again = append(again, kept{slot: sl, raw: raw})
	}
	return again
}

// restore writes rescued records to the newest segment.
func (d *disk) restore(again []kept) {
	for _, k := range again {
		if err := d.rewrite(k); err != nil && err != errClosed {
			d.alarm("write", err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.saved = 0
}

// rewrite writes a rescued record, if it is still wanted.
func (d *disk) rewrite(k kept) error {
	defer d.landed(k.slot.print)
	h, err := parseHead(k.raw, k.slot.at)
	if err != nil || d.full(int64(len(k.raw))) {
		return nil
	}
	s, at, _, err := d.reserve(int64(len(k.raw)), h.seq)
	if err != nil {
		return err
	}
	defer d.release(s)
	if d.keyPurges(h.key).hard > h.seq {
		return nil
	}
	h.at = at
	h.bodyAt = h.own()
	h.put(k.raw)
	if _, err := s.f.WriteAt(k.raw, at.offset()); err != nil {
		return d.spoiled(s, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.gone || k.journal != d.journal || d.index.find(k.slot.print, k.slot.variant) != nil {
		return nil // there is a newer one
	}
	k.slot.at = at
	if d.keyed[k.slot.print].hard > h.seq {
		k.slot.state = ghost
	}
	d.grow(s, int64(len(k.raw)))
	d.index.put(k.slot)
	return nil
}

// landed says that a write of a key is no longer on its way.
func (d *disk) landed(print uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pending[print]--; d.pending[print] <= 0 {
		delete(d.pending, print)
	}
}

func (d *disk) grow(s *segment, n int64) {
	s.size += n
	d.used += n
}

// publish makes a written record one to be found, or one whose purges are remembered.
func (d *disk) publish(s *segment, r *record, state uint8) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.gone {
		return false
	}
	print := printOf(r.head.key)
	if d.keyed[print].hard > r.head.seq {
		state = ghost
	}
	d.grow(s, r.head.size())
	d.index.put(slot{print: print, at: r.head.at, size: uint32(r.head.size()), variant: r.head.variant, state: state})
	if r.head.body > blockSize {
		r.body.alsoAt(&lying{d: d, at: r.head.bodyAt, size: r.head.body, sums: r.sums})
	}
	return state != ghost
}

// pause lets some time pass before the next write.
func (d *disk) pause(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != errNoRoom && err != errClosed {
		d.paused = time.Now().Add(pauseTime)
	}
}

// spoiled deals with a write that failed: what it left is cut off, or nothing is written to that
// segment any more.
func (d *disk) spoiled(s *segment, err error) error {
	cut := s.f.Truncate(s.size)
	d.pause(err)
	d.mu.Lock()
	defer d.mu.Unlock()
	if cut != nil {
		d.grow(s, max(0, d.room-s.size))
	}
	return err
}
