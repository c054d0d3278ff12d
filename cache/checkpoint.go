package cache

import (
	"encoding/binary"
	"errors"
	"io"
)

// A checkpoint is the index as a file, written when the cache is closed, so that the next start need
// not read all segments. It is removed when it is read: after a crash there is none.
const (
	checkpointName  = "index"
	checkpointMagic = "Wdgindx1"
	segmentBytes    = 4 + 8 + 8
	slotBytes       = 8 + 8 + 4 + 4 + 1
)

// encodeCheckpoint returns the index, and the number of the last purge.
func (d *disk) encodeCheckpoint(last uint64) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	le := binary.LittleEndian
	b := make([]byte, 0, 64+segmentBytes*len(d.segs)+slotBytes*d.index.used)
	b = append(b, checkpointMagic...)
	b = le.AppendUint64(b, last)
	b = le.AppendUint32(b, uint32(len(d.segs)))
	b = le.AppendUint32(b, uint32(d.index.used))
	for _, s := range d.segs {
		b = le.AppendUint32(b, s.id)
		b = le.AppendUint64(b, uint64(s.size))
		b = le.AppendUint64(b, s.minSeq)
	}
	for _, s := range d.index.slots {
		if s.at != 0 {
			b = le.AppendUint64(b, s.print)
			b = le.AppendUint64(b, uint64(s.at))
			b = le.AppendUint32(b, s.size)
			b = le.AppendUint32(b, s.variant)
			b = append(b, s.state&^inMemory)
		}
	}
	return le.AppendUint32(b, checksum(b))
}

// parseCheckpoint reads what encodeCheckpoint wrote.
func parseCheckpoint(b []byte) (segs map[uint32]*segment, slots []slot, last uint64, err error) {
	le := binary.LittleEndian
	const fixed = len(checkpointMagic) + 8 + 4 + 4
	if len(b) < fixed+4 || string(b[:8]) != checkpointMagic || le.Uint32(b[len(b)-4:]) != checksum(b[:len(b)-4]) {
		return nil, nil, 0, errDamaged
	}
	last = le.Uint64(b[8:])
	nsegs, nslots := int(le.Uint32(b[16:])), int(le.Uint32(b[20:]))
	if len(b) != fixed+nsegs*segmentBytes+nslots*slotBytes+4 || last > maxSeq {
		return nil, nil, 0, errDamaged
	}
	segs = make(map[uint32]*segment, nsegs)
	for b = b[fixed:]; nsegs > 0; nsegs-- {
		id := le.Uint32(b)
		segs[id] = &segment{id: id, size: int64(le.Uint64(b[4:])), minSeq: le.Uint64(b[12:])}
		b = b[segmentBytes:]
	}
	slots = make([]slot, 0, nslots)
	for ; nslots > 0; nslots-- {
		s := slot{print: le.Uint64(b), at: place(le.Uint64(b[8:])), size: le.Uint32(b[16:]), variant: le.Uint32(b[20:]), state: b[24] & (ghost | wanted)}
		if segs[s.at.segment()] == nil || s.size < headSize {
			return nil, nil, 0, errDamaged
		}
		slots = append(slots, s)
		b = b[slotBytes:]
	}
	return segs, slots, last, nil
}

// readCheckpoint fills the index from the checkpoint and returns what it knows of segments. A bad one
// knows nothing.
func (d *disk) readCheckpoint() (segs map[uint32]*segment, last uint64) {
	f, size, err := d.files.open(checkpointName)
	if err != nil {
		return nil, 0
	}
	defer f.Close()
	if size > max(d.limit, 1<<20) { // an index is a small part of what it is of
		d.alarm("damage", errDamaged)
		return nil, 0
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, size), b); err != nil {
		return nil, 0
	}
	segs, slots, last, err := parseCheckpoint(b)
	if err != nil || d.files.remove(checkpointName) != nil {
		d.alarm("damage", errDamaged)
		return nil, 0
	}
	d.index.heads = make(map[uint64]uint32, len(slots))
	d.index.slots = make([]slot, 0, len(slots)+len(slots)/8)
	for _, s := range slots {
		d.index.load(s)
	}
	return segs, last
}

// close finishes what is being written and writes the checkpoint.
func (d *disk) close(last uint64) error {
	d.mu.Lock()
	again := d.closed
	d.closed = true
	on := d.journal != nil
	d.mu.Unlock()
	if again || !on {
		return nil
	}
	d.wait()
	err := d.writeCheckpoint(d.encodeCheckpoint(last))
	d.forgetAll()
	return err
}

func (d *disk) writeCheckpoint(b []byte) error {
	const fresh = checkpointName + ".new"
	f, err := d.files.create(fresh)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err = errors.Join(err, f.Close()); err == nil {
		err = d.files.rename(fresh, checkpointName)
	}
	if err != nil {
		return errors.Join(err, d.files.remove(fresh))
	}
	return nil
}
