package cache

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
)

// The journal is the file of all purges, in the order in which they came: what was purged before a
// crash must not be found on disk after it. A purge is acknowledged when it is there for good.
// From time to time a new journal takes the old one's place that has only what still matters.
//
// A journal that is missing or damaged cannot say what was purged: then everything on disk goes.
type journal struct {
	files    files
	snapshot func() []byte // frames of all that still matters

	mu     sync.Mutex
	f      file
	size   int64
	base   int64 // size after the last compaction
	round  int64 // number of compactions
	failed error

	flush  sync.Mutex // one flush serves all who wait for it
	synced int64
	in     int64 // the round that synced is about
}

const (
	journalName  = "purges"
	journalMagic = "Wdgpurg1"
	frameHead    = 12
	maxFrame     = 1 << 20
	maxJournal   = 1 << 30 // bytes read at a start: a larger one is taken for damaged
)

// journalSlack is how far a journal grows before it is compacted.
var journalSlack int64 = 4 << 20

// noted is one purge in the journal.
type noted struct {
	kind    uint8
	soft    bool
	n       uint64
	print   uint64 // of a key
	service string
	keys    []string
}

const (
	notedNames uint8 = iota // surrogate keys; "": the service
	notedKey
	notedFloor // all up to n
	notedLast  // n was given away
)

// frame returns p as the journal has it: length and checksum, a checksum of those, and the purge.
func (p *noted) frame() []byte {
	b := make([]byte, frameHead, 64)
	b = append(b, p.kind)
	if p.soft {
		b[frameHead] |= 0x80
	}
	b = binary.AppendUvarint(b, p.n)
	b = binary.LittleEndian.AppendUint64(b, p.print)
	b = putStrings(putString(b, p.service), p.keys)
	if len(b) > maxFrame { // rather too much than too little
		return (&noted{kind: notedFloor, n: p.n}).frame()
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)-frameHead))
	binary.LittleEndian.PutUint32(b[4:], checksum(b[frameHead:]))
	binary.LittleEndian.PutUint32(b[8:], checksum(b[:8]))
	return b
}

// parseJournal calls f for each purge and returns how much of b they are. A torn end is one that
// was being written, and not acknowledged, when all stopped; anything else is damage.
func parseJournal(b []byte, f func(p *noted)) (good int64, err error) {
	if len(b) < len(journalMagic) || string(b[:len(journalMagic)]) != journalMagic {
		return 0, errDamaged
	}
	le := binary.LittleEndian
	for at := len(journalMagic); ; {
		rest := b[at:]
		if len(rest) < frameHead {
			return int64(at), nil
		}
		n := int(le.Uint32(rest))
		if le.Uint32(rest[8:]) != checksum(rest[:8]) || n > maxFrame {
			return 0, errDamaged
		}
		if n > len(rest)-frameHead {
			return int64(at), nil
		}
		p, ok := parseNoted(rest[frameHead : frameHead+n])
		if !ok || le.Uint32(rest[4:]) != checksum(rest[frameHead:frameHead+n]) {
			return 0, errDamaged
		}
		f(p)
		at += frameHead + n
	}
}

func parseNoted(b []byte) (*noted, bool) {
	if len(b) == 0 {
		return nil, false
	}
	p := &noted{kind: b[0] & 0x7f, soft: b[0]&0x80 != 0}
	w := &wire{b: b[1:]}
	p.n = w.uint()
	if len(w.b) < 8 {
		return nil, false
	}
	p.print = binary.LittleEndian.Uint64(w.b)
	w.b = w.b[8:]
	p.service, p.keys = w.string(), w.strings()
	return p, !w.bad && len(w.b) == 0 && p.kind <= notedLast && p.n <= maxSeq
}

// read opens the journal there is and calls f for each purge in it.
func (j *journal) read(f func(p *noted)) error {
	file, size, err := j.files.open(journalName)
	if err != nil {
		return err
	}
	if size > maxJournal {
		file.Close()
		return errDamaged
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(file, 0, size), b); err != nil {
		file.Close()
		return err
	}
	good, err := parseJournal(b, f)
	if err == nil && good < size {
		err = file.Truncate(good)
	}
	if err != nil {
		file.Close()
		return err
	}
	j.f, j.size, j.base = file, good, 0
	return nil
}

// compact begins a journal with what still matters in place of the one there is. j.mu is held, so that
// nothing is noted in between.
func (j *journal) compact() error {
	const fresh = journalName + ".new"
	if err := j.files.sync(); err != nil { // removed segments must not come back without their purges
		return err
	}
	f, err := j.files.create(fresh)
	if err != nil {
		return err
	}
	b := append([]byte(journalMagic), j.snapshot()...)
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = j.files.rename(fresh, journalName)
	}
	if err == nil {
		err = j.files.sync()
	}
	if err != nil {
		f.Close()
		return err
	}
	if j.f != nil {
		j.f.Close()
	}
	j.f, j.size, j.base = f, int64(len(b)), int64(len(b))
	j.round++
	return nil
}

// note writes a frame; with wait it returns when that is on disk for good.
func (j *journal) note(frame []byte, wait bool) error {
	j.mu.Lock()
	if j.failed == nil && j.size > 2*j.base+journalSlack {
		j.failed = j.compact()
	}
	if j.failed == nil {
		_, j.failed = j.f.WriteAt(frame, j.size)
	}
	if j.failed != nil {
		defer j.mu.Unlock()
		return j.failed
	}
	j.size += int64(len(frame))
	round, size := j.round, j.size
	j.mu.Unlock()
	if !wait {
		return nil
	}
	return j.sync(round, size)
}

// sync returns when what was written up to there is on disk for good.
func (j *journal) sync(round, size int64) error {
	j.flush.Lock()
	defer j.flush.Unlock()
	if j.in > round || j.in == round && j.synced >= size {
		return nil
	}
	j.mu.Lock()
	f, now, written, err := j.f, j.round, j.size, j.failed
	j.mu.Unlock()
	if err != nil || now > round { // a compaction has written all there was, and flushed it
		return err
	}
	if err := f.Sync(); err != nil {
		j.mu.Lock()
		defer j.mu.Unlock()
		if j.round > round {
			return nil
		}
		j.failed = err
		return err
	}
	j.in, j.synced = now, written
	return nil
}

var errClosed = errors.New("the cache is closed")

func (j *journal) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed == nil {
		j.failed = errClosed
		j.f.Close()
	}
}
