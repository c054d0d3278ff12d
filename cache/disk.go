package cache

import (
	"errors"
	"log/slog"
	"sync"
	"time"
)

// disk is the storage below memory: segments of records, an index of them, and a journal of purges.
// Objects are written behind the client's back and read when memory does not have them. Nothing
// that a file says is believed without its checksum, so it does not matter which writes a crash
// lost: a record is whole or absent. What fails costs hits and is counted; it fails no request.
//
// Locks: a shard's, then disk.mu. Neither is held while files are read or written, but for evictions.
type disk struct {
	files   files
	limit   int64 // bytes of segments, the one being written and those still being read included
	room    int64 // of one segment
	log     *slog.Logger
	stats   *Stats
	journal *journal // nil: the tier is off

	mu      sync.Mutex
	index   index
	segs    []*segment // the oldest first; the last is being written
	lastID  uint32
	used    int64
	undead  int
	saved   uint64               // the least number of a record that was taken out of a segment and is not yet in another; 0: none
	keyed   map[uint64]purgeSeqs // purges by URL of keys that are in segments or on their way
	pending map[uint64]int       // writes on their way
	loading map[uint64]chan struct{}
	queue   []job
	queued  int64
	writing bool
	quiet   *sync.Cond // nothing is being written
	paused  time.Time  // no writes until then
	said    map[string]bool
	closed  bool

	repair sync.Mutex
	stale  bool // the tier is off and what lies in its directory could not be removed
}

// job is an object to be written.
type job struct {
	o       *object
	key     key
	service string
}

const (
	maxQueue      = 1024     // objects on their way to disk
	maxQueueBytes = 32 << 20 // and their bytes; more is not written
	bytesPerSlot  = 2 << 10  // what a record has to be worth on average, or the index would grow too large
	pauseTime     = 10 * time.Second
)

var errNoRoom = errors.New("there is no room")

func newDisk(f files, limit int64, log *slog.Logger, stats *Stats) *disk {
	d := &disk{files: f, limit: limit, room: min(max(limit/16, 64<<10), 64<<20), log: log, stats: stats,
		index: index{heads: map[uint64]uint32{}}, keyed: map[uint64]purgeSeqs{}, pending: map[uint64]int{},
		loading: map[uint64]chan struct{}{}, said: map[string]bool{}}
	d.quiet = sync.NewCond(&d.mu)
	return d
}

// alarm counts what went wrong, and logs the first of its sort.
func (d *disk) alarm(what string, err error) {
	d.stats.DiskErrors.Add(1)
	d.mu.Lock()
	said := d.said[what]
	d.said[what] = true
	d.mu.Unlock()
	if !said {
		d.log.Error("the disk cache failed and goes on with less; later failures of this sort are only counted", "op", what, "err", err)
	}
}

// enqueue takes an object to be written, unless too many are; its shard is locked.
func (d *disk) enqueue(j job) (began bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	size := j.o.body.size
	switch {
	case d.closed || d.journal == nil || size > d.limit/4 || size > maxBody:
		return false
	case len(d.queue) >= maxQueue || d.queued > 0 && d.queued+size > maxQueueBytes || time.Now().Before(d.paused):
		d.stats.DiskDropped.Add(1)
		return false
	}
	d.queue = append(d.queue, j)
	d.queued += size
	d.pending[printOf(j.key)]++
	began = !d.writing
	d.writing = true
	return began
}

// take returns the next object to write; false: there is none, and who asked ends.
func (d *disk) take() (j job, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.queue) == 0 {
		d.writing, d.queue = false, nil
		d.quiet.Broadcast()
		return j, false
	}
	j, d.queue[0] = d.queue[0], job{}
	d.queue = d.queue[1:]
	return j, true
}

// done forgets an object that is written, or will not be.
func (d *disk) done(j job) {
	d.mu.Lock()
	d.queued -= j.o.body.size
	d.mu.Unlock()
	d.landed(printOf(j.key))
}

// wait returns when nothing is on its way to disk.
func (d *disk) wait() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.writing {
		d.quiet.Wait()
	}
}

// purgeKey notes that a key was purged with number n, and reports whether that concerns the disk at all.
func (d *disk) purgeKey(k key, n uint64, soft bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	print := printOf(k)
	if !d.concerned(print) {
		return d.journal == nil
	}
	seqs := d.keyed[print]
	seqs.set(n, soft)
	d.keyed[print] = seqs
	if !soft {
		d.index.bury(print, func(*slot) bool { return true })
	}
	return true
}

// purgeStale notes that what a key holds up to number n was purged softly, and reports whether that was not known.
func (d *disk) purgeStale(k key, n uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	seqs := d.keyed[printOf(k)]
	if seqs.soft >= n {
		return false
	}
	seqs.set(n, true)
	d.keyed[printOf(k)] = seqs
	return true
}

// concerned reports whether records of a key are in segments, or on their way to or from them.
func (d *disk) concerned(print uint64) bool {
	return d.index.known(print) || d.pending[print] > 0 || d.loading[print] != nil
}

// keyPurges returns the numbers of a key's last purges.
func (d *disk) keyPurges(k key) purgeSeqs {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.keyed[printOf(k)]
}

// note writes a purge to the journal. If that fails all that lies on disk goes, so that nothing
// purged can come back; an error means that this failed as well.
func (d *disk) note(p *noted, wait bool) error {
	d.mu.Lock()
	j := d.journal
	d.mu.Unlock()
	if j != nil {
		err := j.note(p.frame(), wait)
		if err == nil {
			return nil
		}
		if err != errClosed {
			d.alarm("journal", err)
		}
	}
	return d.restart(j)
}

// restart removes everything and begins anew; failed is the journal that was no good, if there was one.
func (d *disk) restart(failed *journal) error {
	d.repair.Lock()
	defer d.repair.Unlock()
	d.mu.Lock()
	closed, first := d.closed, failed != nil && d.journal == failed
	d.mu.Unlock()
	if closed {
		return errClosed
	}
	if first {
		d.forgetAll()
		d.stale = true
	}
	if !d.stale { // it has been done already
		return nil
	}
	if err := d.wipe(); err != nil {
		return err
	}
	d.stale = false
	if !first {
		return nil // the tier stays off
	}
	fresh := &journal{files: d.files, snapshot: failed.snapshot}
	if err := fresh.compact(); err != nil {
		err := d.wipe()
		d.stale = err != nil
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.journal = fresh
	return nil
}

// forgetAll turns the tier off and lets its segments go.
func (d *disk) forgetAll() {
	d.mu.Lock()
	j := d.journal
	d.journal = nil
	d.index = index{heads: map[uint64]uint32{}}
	for _, s := range d.segs {
		s.gone = true
		d.closeUnused(s)
	}
	d.segs = nil
	d.mu.Unlock()
	if j != nil {
		j.close()
	}
}

// wipe removes the files: the journal first, for without it no segment counts.
func (d *disk) wipe() error {
	names, err := d.files.list()
	if err != nil || len(names) == 0 {
		return err
	}
	err = d.files.remove(journalName)
	for _, name := range names {
		if _, ok := segmentID(name); ok || name == checkpointName {
			err = errors.Join(err, d.files.remove(name))
		}
	}
	return errors.Join(err, d.files.sync())
}

// DiskUsed returns the bytes that lie on disk, and the objects among them that can be served.
func (c *Cache) DiskUsed() (bytes int64, objects int) {
	if c.disk == nil {
		return 0, 0
	}
	c.disk.mu.Lock()
	defer c.disk.mu.Unlock()
	return c.disk.used, c.disk.index.live
}
