package cache

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"slices"
)

// openDisk opens the disk tier if there is to be one. If that fails the cache has memory alone.
func (c *Cache) openDisk() {
	log, f := c.cfg.Log, c.cfg.files
	if log == nil {
		log = slog.Default()
	}
	if f == nil {
		if c.cfg.Dir == "" {
			return
		}
		f = directory(c.cfg.Dir)
	}
	d := newDisk(f, c.cfg.Disk, log, &c.stats)
	if c.cfg.Disk <= 0 { // what is purged from now on is noted nowhere
		if err := d.wipe(); err != nil {
			d.alarm("remove", err)
		}
		return
	}
	c.disk = d
	for i := range c.shards {
		c.shards[i].disk = d
	}
	if err := c.recover(); err != nil {
		d.alarm("open", err)
		d.forgetAll()
		d.stale = true
	}
}

// recover reads what an earlier cache left: first the purges, then the objects.
func (c *Cache) recover() error {
	d := c.disk
	if err := d.files.make(); err != nil {
		return err
	}
	names, err := d.files.list()
	if err != nil {
		return err
	}
	j := &journal{files: d.files, snapshot: c.snapshot}
	if err := j.read(c.remember); err != nil {
		if err := d.distrust(err, names); err != nil {
			return err
		}
		c.purges.floor, c.purges.named, d.keyed, names = 0, map[purgeName]purgeSeqs{}, map[uint64]purgeSeqs{}, nil
		if err := j.compact(); err != nil {
			return err
		}
	}
	d.journal = j
	if err := c.readSegments(names); err != nil {
		return err
	}
	d.prune()
	c.purges.wide.Store(c.purges.last.Load())
	for d.full(0) {
		again, err := d.evict()
		if err != nil {
			return err
		}
		d.restore(again)
	}
	return nil
}

// distrust removes everything, for without a good journal nobody knows what was purged.
func (d *disk) distrust(err error, names []string) error {
	if !errors.Is(err, fs.ErrNotExist) || slices.ContainsFunc(names, func(name string) bool { _, ok := segmentID(name); return ok }) {
		d.alarm("journal", err)
	}
	return d.wipe()
}

// remember takes in a purge of the journal.
func (c *Cache) remember(p *noted) {
	c.number(p.n)
	switch p.kind {
	case notedNames:
		c.purges.set(p.n, p.service, p.keys, p.soft)
	case notedKey:
		seqs := c.disk.keyed[p.print]
		seqs.set(p.n, p.soft)
		c.disk.keyed[p.print] = seqs
	case notedFloor:
		c.purges.floor = max(c.purges.floor, p.n)
	}
}

// number says that n was given away, so that numbers never go back.
func (c *Cache) number(n uint64) {
	if n > c.purges.last.Load() {
		c.purges.last.Store(n)
	}
}

// snapshot returns the purges that still matter, as the journal has them.
func (c *Cache) snapshot() (b []byte) {
	low := c.disk.oldestSeq()
	add := func(p noted) {
		if p.n > low {
			b = append(b, p.frame()...)
		}
	}
	b = append(b, (&noted{kind: notedLast, n: c.purges.last.Load()}).frame()...)
	c.purges.mu.RLock()
	add(noted{kind: notedFloor, n: c.purges.floor})
	for name, seqs := range c.purges.named {
		add(noted{kind: notedNames, n: seqs.hard, service: name.service, keys: []string{name.key}})
		add(noted{kind: notedNames, soft: true, n: seqs.soft, service: name.service, keys: []string{name.key}})
	}
	c.purges.mu.RUnlock()
	c.disk.mu.Lock()
	defer c.disk.mu.Unlock()
	for print, seqs := range c.disk.keyed {
		add(noted{kind: notedKey, n: seqs.hard, print: print})
		add(noted{kind: notedKey, soft: true, n: seqs.soft, print: print})
	}
	return b
}

// readSegments opens the segments among the names and fills the index.
func (c *Cache) readSegments(names []string) error {
	d := c.disk
	var known map[uint32]*segment
	for _, name := range names {
		if name == checkpointName {
			var last uint64
			known, last = d.readCheckpoint()
			c.number(last)
		}
	}
	var ids []uint32
	for _, name := range names {
		if id, ok := segmentID(name); ok {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, cmp.Compare)
	for _, id := range ids {
		d.lastID = id
		if err := c.readSegment(id, known[id]); err != nil {
			return fmt.Errorf("segment %s: %w", segmentName(id), err)
		}
	}
	for id := range known {
		if d.segment(id) == nil {
			d.index.drop(id)
		}
	}
	return nil
}

// readSegment opens a segment; what the checkpoint says of it, if anything, spares reading it.
func (c *Cache) readSegment(id uint32, known *segment) error {
	d := c.disk
	f, size, err := d.files.open(segmentName(id))
	if err != nil {
		return d.abandon(id, err)
	}
	s := &segment{id: id, f: f, minSeq: math.MaxUint64}
	if known != nil && known.size == size {
		s.size, s.minSeq = size, known.minSeq
	} else {
		if known != nil {
			d.index.drop(id)
		}
		err = c.scan(s, size)
		if err == nil && s.size < size {
			err = f.Truncate(s.size)
		}
	}
	if err != nil || s.size == 0 {
		f.Close()
		d.index.drop(id)
		return d.abandon(id, err)
	}
	d.segs = append(d.segs, s)
	d.used += s.size
	return nil
}

// abandon removes a segment that is of no use. Its keys are not known, so it must not come back.
func (d *disk) abandon(id uint32, err error) error {
	if err != nil {
		d.alarm("open", err)
	}
	return d.files.remove(segmentName(id))
}

// scan puts the records of a segment into the index, up to the first that is not whole. There is no
// looking for others behind it: what looks like one there may be part of a body.
func (c *Cache) scan(s *segment, size int64) error {
	d, buf := c.disk, make([]byte, 4<<10)
	have, from := 0, int64(0)
	for s.size+headSize <= size {
		if off := s.size - from; off < 0 || off+headSize > int64(have) {
			from = s.size
			n, err := s.f.ReadAt(buf, from)
			if err != nil && err != io.EOF {
				return err
			}
			have = n
			if have < headSize {
				return nil
			}
		}
		h, err := parseHead(buf[s.size-from:have], placeOf(s.id, s.size))
		if err != nil {
			d.alarm("damage", err)
			return nil
		}
		if s.size+h.size() > size {
			return nil // it was being written when all stopped
		}
		d.index.put(slot{print: printOf(h.key), at: h.at, size: uint32(h.size()), variant: h.variant})
		c.number(h.seq)
		s.minSeq = min(s.minSeq, h.seq)
		s.size += h.size()
	}
	return nil
}
