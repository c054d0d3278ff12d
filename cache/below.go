package cache

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/wedge-cloud/wedge"
)

// What the cache and its disk tier do together: objects go down to disk, come up again, and purges
// reach both.

// find returns the entry of the request's key, locked, and the object in it that answers the request.
// What memory does not have is looked for on disk, unless that was of no use before.
func (x *exchange) find(now time.Time) (*entry, *object) {
	c := x.c
	for tries := 0; ; tries++ {
		e := c.entry(x.key)
		o := e.match(c, x.pol.Service, x.req.Header, x.ranges)
		if o != nil || c.disk == nil || tries == 3 || x.tries >= maxTries || !c.disk.has(x.key) {
			return e, o
		}
		e.unlock(now)
		c.load(x.req.Context(), x.key, x.pol.Service) // it may be evicted again before this request has it
	}
}

// lift sees to it that memory has what answers a guest's lookup, if disk does.
func (c *Cache) lift(ctx context.Context, k key, service string, fields http.Header) {
	if c.disk == nil || !c.disk.has(k) {
		return
	}
	e := c.entry(k)
	o := e.match(c, service, fields, nil)
	e.unlock(c.cfg.Now())
	if o == nil {
		c.load(ctx, k, service)
	}
}

// load brings the objects of a key into memory, their bodies only if they are small. Who comes
// meanwhile waits for it.
func (c *Cache) load(ctx context.Context, k key, service string) {
	slots, wait := c.disk.begin(k)
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
		}
		return
	}
	defer c.disk.loaded(k)
	for i, s := range slots {
		o, err := c.disk.read(s, k)
		if err == nil && o.kind.Value().service != service {
			err = errDamaged
		}
		if err == nil {
			c.admit(o, k, i)
			continue
		}
		if err != errGone {
			c.disk.alarm("read", err)
		}
		c.disk.bury(s)
	}
}

// admit makes o, from disk, an object of its entry, at the place i among the oldest.
func (c *Cache) admit(o *object, k key, i int) {
	e := c.entry(k)
	purged := c.disk.keyPurges(k)
	if purged.soft > o.seq {
		o.set(stale)
	}
	o.entry = e
	o.set(settled)
	switch {
	case purged.hard > o.seq || c.dead(o, o.kind.Value().service):
		e.remove(o)
	case len(e.objects) >= maxVariants || e.holds(o):
		o.set(dropped)
	default:
		c.disk.warm(k, o.variantHash())
		e.insert(o, i)
		e.tidy()
		c.stats.DiskHits.Add(1)
	}
	in := !o.is(dropped)
	e.unlock(c.cfg.Now())
	if in && !c.keep(o) {
		c.evict(o)
	}
}

// holds reports whether e has an object that o would stand beside.
func (e *entry) holds(o *object) bool {
	for _, other := range e.objects {
		if other.variantHash() == o.variantHash() {
			return true
		}
	}
	return false
}

// insert puts an object in front of those that came later.
func (e *entry) insert(o *object, i int) {
	e.objects = slices.Insert(e.objects, min(i, len(e.objects)), o)
}

// evict takes an object out of memory. Disk keeps what it has of it; if it has nothing, and the
// object was used, it is written now.
func (c *Cache) evict(o *object) {
	e := c.entry(o.entry.key)
	if c.disk == nil {
		e.remove(o)
	} else if !o.is(dropped) {
		on := o.is(settled) && c.disk.cool(e.key, o.variantHash())
		o.unset(settled)
		e.remove(o)
		o.set(evicted)
		if !on && o.hits.Load() > 0 && !o.is(stale) {
			c.enqueue(o, e.key)
		}
	}
	e.unlock(c.cfg.Now())
}

// lose takes out an object whose body can no longer be read. If its segment was evicted there may be a copy of
// the record in another; if it is damaged the record goes.
func (c *Cache) lose(e *entry, o *object) {
	if o.body.lying().gone.Load() {
		c.disk.cool(e.key, o.variantHash())
		o.unset(settled)
	}
	e.remove(o)
}

// store lets a whole object go down to disk.
func (c *Cache) store(o *object) {
	if c.disk == nil || o.entry == nil {
		return
	}
	e := c.entry(o.entry.key)
	if !o.is(dropped) {
		c.enqueue(o, e.key)
	}
	e.unlock(c.cfg.Now())
}

// enqueue has o written behind everybody's back; its shard is locked.
func (c *Cache) enqueue(o *object, k key) {
	service := o.kind.Value().service
	if o.is(sensitive) || service == "" || !o.body.whole() {
		return
	}
	if c.disk.enqueue(job{o, k, service}) {
		go c.writeBehind()
	}
}

// writeBehind writes until nothing is left to write.
func (c *Cache) writeBehind() {
	for {
		j, ok := c.disk.take()
		if !ok {
			return
		}
		switch err := c.write(j); err {
		case nil, errClosed:
		case errNoRoom, errGone: // a body that lay in a segment may have been evicted
			c.stats.DiskDropped.Add(1)
		default:
			c.disk.alarm("write", err)
		}
		c.disk.done(j)
	}
}

// write writes one object, unless it is no longer wanted.
func (c *Cache) write(j job) error {
	d := c.disk
	if !c.wanted(j) {
		return nil
	}
	if err := c.noteStale(j); err != nil {
		return err
	}
	r, err := d.newRecord(j)
	if err != nil {
		return err
	}
	s, at, again, err := d.reserve(r.size(), j.o.seq)
	defer d.restore(again)
	if err != nil {
		d.pause(err)
		return err
	}
	defer d.release(s)
	r.head.at = at
	if !c.wanted(j) { // once more: the segment has its number now, and later purges are kept for it
		return nil
	}
	if err := r.write(s); err != nil {
		return d.spoiled(s, err)
	}
	c.publish(j, s, r)
	return nil
}

// noteStale has the journal remember that an object is stale which was purged softly before the disk had anything of its key: nobody has noted that.
func (c *Cache) noteStale(j job) error {
	d, n := c.disk, j.o.seq+1
	if !j.o.is(stale) || !d.purgeStale(j.key, n) {
		return nil
	}
	return c.note(&noted{kind: notedKey, soft: true, n: n, print: printOf(j.key)}, true)
}

// wanted reports whether an object that is to be written was neither purged nor replaced.
func (c *Cache) wanted(j job) bool {
	e := c.entry(j.key)
	defer e.unlock(c.cfg.Now())
	return (!j.o.is(dropped) || j.o.is(evicted)) && c.disk.keyPurges(j.key).hard <= j.o.seq && !c.dead(j.o, j.service)
}

// publish makes a written record one to be found.
func (c *Cache) publish(j job, s *segment, r *record) {
	e := c.entry(j.key)
	defer e.unlock(c.cfg.Now())
	state := uint8(0)
	switch {
	case j.o.is(dropped) && !j.o.is(evicted):
		state = ghost
	case !j.o.is(dropped):
		state = inMemory
	}
	if c.disk.publish(s, r, state) {
		if state == inMemory {
			j.o.set(settled)
		} else {
			j.o.unset(settled)
		}
		c.stats.DiskWrites.Add(1)
	}
}

// note has the journal remember a purge.
func (c *Cache) note(p *noted, wait bool) error {
	if c.disk == nil {
		return nil
	}
	if err := c.disk.note(p, wait); err != nil {
		return &wedge.Error{Op: "purge", What: p.service, Kind: wedge.Unavailable, Err: err,
			Hint: "Nobody gets the purged objects now, but a restart might bring them back: remove the cache's directory before it."}
	}
	return nil
}

// Close finishes what is being written. The cache goes on without its disk.
func (c *Cache) Close() error {
	if c.disk == nil {
		return nil
	}
	return c.disk.close(c.purges.last.Load())
}
