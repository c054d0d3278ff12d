package cache

import (
	"io"
	"sync"
)

// small is what is read of a record at once: all of most.
const small = blockSize + 16<<10

var recordBuffers = sync.Pool{New: func() any { b := make([]byte, small); return &b }}

// has reports whether records of the key are there that memory does not have.
func (d *disk) has(k key) (found bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.index.chain(printOf(k), func(s *slot) bool {
		found = s.state&(ghost|inMemory) == 0
		return !found
	})
	return found
}

// begin returns what to read for a key; or, if somebody is reading it, what to wait for.
func (d *disk) begin(k key) (slots []slot, wait chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	print := printOf(k)
	if wait := d.loading[print]; wait != nil {
		return nil, wait
	}
	d.loading[print] = make(chan struct{})
	return d.index.cold(print), nil
}

func (d *disk) loaded(k key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.loading[printOf(k)])
	delete(d.loading, printOf(k))
}

// read returns the object of a record. errGone: it was evicted meanwhile.
func (d *disk) read(sl slot, k key) (*object, error) {
	seg := d.hold(sl.at.segment())
	if seg == nil {
		return nil, errGone
	}
	defer d.release(seg)
	buf := recordBuffers.Get().(*[]byte)
	defer recordBuffers.Put(buf)
	b := (*buf)[:min(int(sl.size), small)]
	if _, err := seg.f.ReadAt(b, sl.at.offset()); err != nil {
		return nil, err
	}
	h, err := parseHead(b, sl.at)
	if err != nil || h.key != k {
		return nil, errDamaged
	}
	end := headSize + h.meta
	if end > len(b) {
		b = make([]byte, end)
		if _, err := seg.f.ReadAt(b, sl.at.offset()); err != nil {
			return nil, err
		}
	}
	return d.build(&h, b[headSize:end], b[end:])
}

// build makes an object of a record whose head has been verified; rest is what there is of the body.
func (d *disk) build(h *head, meta, rest []byte) (*object, error) {
	if checksum(meta) != h.metaSum {
		return nil, errDamaged
	}
	about, trailer, sums, err := parseMeta(meta, h.body)
	if err != nil {
		return nil, errDamaged
	}
	l := &lying{d: d, at: h.bodyAt, size: h.body, sums: sums}
	about.seq = h.seq
	o := about.object(lyingBody(l, trailer))
	if o.variantHash() != h.variant {
		return nil, errDamaged
	}
	o.bytes = o.cost(int64(4 * len(sums)))
	if h.body <= blockSize && len(trailer) == 0 {
		if o.body, err = d.promote(h, l, rest); err != nil {
			return nil, err
		}
		o.bytes += h.body
	} else if seg := d.hold(l.at.segment()); seg == nil { // of a body in an earlier record
		return nil, errGone
	} else {
		d.release(seg)
	}
	return o, nil
}

// promote reads a small body into memory.
func (d *disk) promote(h *head, l *lying, rest []byte) (*spool, error) {
	b := make([]byte, h.body)
	if h.bodyAt == h.own() && len(rest) >= len(b) {
		copy(b, rest)
	} else {
		seg := d.hold(l.at.segment())
		if seg == nil {
			return nil, errGone
		}
		defer d.release(seg)
		if _, err := seg.f.ReadAt(b, l.at.offset()); err != nil && (err != io.EOF || len(b) > 0) {
			return nil, err
		}
	}
	if len(b) > 0 && checksum(b) != l.sums[0] {
		return nil, errDamaged
	}
	return wholeBody(b), nil
}

// bury makes a ghost of a record that is of no use.
func (d *disk) bury(sl slot) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.index.bury(sl.print, func(s *slot) bool { return s.at == sl.at })
}

// remove makes a ghost of a variant.
func (d *disk) remove(k key, variant uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.index.bury(printOf(k), func(s *slot) bool { return s.variant == variant })
}

// warm says that memory has a variant now, for somebody wants it.
func (d *disk) warm(k key, variant uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.index.find(printOf(k), variant); s != nil {
		s.state |= inMemory | wanted
	}
}

// cool says that memory has a variant no longer, and reports whether disk has it.
func (d *disk) cool(k key, variant uint32) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.index.find(printOf(k), variant)
	if s != nil {
		s.state &^= inMemory
	}
	return s != nil
}
