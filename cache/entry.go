package cache

import (
	"net/http"
	"slices"
	"sync"
	"time"
)

// An entry is what the cache has for one key: objects, and fetches under way. Its shard's lock guards it.
type entry struct {
	shard   *shard
	key     key
	objects []*object
	flights []*flight
	active  int    // flights, those included that nobody can join
	vary    string // of the last response: what tells its variants apart, as far as is known
	pass    time.Time
	purged  purgeSeqs // by URL
	out     []*object // taken out, for storage to learn of when the lock is released
	asked   []asked   // for Peek
}

// shard is a part of all entries under one lock.
type shard struct {
	mu      sync.Mutex
	entries map[key]*entry
	storage *storage
	disk    *disk // nil: none
}

const shards = 64

// entry returns the entry of a key, a new one if need be, and its shard locked.
func (c *Cache) entry(k key) *entry {
	s := &c.shards[k[0]%shards]
	s.mu.Lock()
	e := s.entries[k]
	if e == nil {
		e = &entry{shard: s, key: k}
		s.entries[k] = e
	}
	return e
}

// unlock releases the entry's shard and forgets the entry if it holds nothing. While a flight is under way
// it must not be forgotten that it was purged.
func (e *entry) unlock(now time.Time) {
	if len(e.objects) == 0 && e.active == 0 && !e.pass.After(now) {
		delete(e.shard.entries, e.key)
	}
	out := e.out
	e.out = nil
	e.shard.mu.Unlock()
	if len(out) > 0 {
		e.shard.storage.drop(out...)
	}
}

// match returns the newest object that answers a request with these fields; of several the one
// with the latest Date (RFC 9111 section 4). wanted, if set, may be answered from a part.
func (e *entry) match(c *Cache, service string, h http.Header, wanted []byteRange) (best *object) {
	for i := len(e.objects) - 1; i >= 0; i-- {
		o := e.objects[i]
		if !o.matches(h) || o.part != nil && !o.part.covers(wanted) {
			continue
		}
		if c.dead(o, service) {
			e.remove(o)
			continue
		}
		if o.body.lost() {
			c.lose(e, o)
			continue
		}
		if best == nil || best.part != nil && o.part == nil || (best.part == nil) == (o.part == nil) && best.body.whole() && o.date().After(best.date()) {
			best = o
		}
	}
	return best
}

func (o *object) date() time.Time { return dateOf(o.header, o.came) }

// covers reports whether the part holds all of the one range that is wanted.
func (p *part) covers(wanted []byteRange) bool {
	if len(wanted) != 1 {
		return false
	}
	from, to, ok := wanted[0].resolve(p.length)
	return ok && from >= p.from && to <= p.to
}

// maxVariants bounds the objects of one entry, for a client chooses what its fields say.
const maxVariants = 64

// add puts o in. What it supersedes stays until its body is whole.
func (e *entry) add(o *object) {
	if len(e.objects) >= maxVariants {
		e.remove(e.objects[0])
	}
	o.entry = e
	e.objects = append(e.objects, o)
	if o.part == nil {
		e.vary = o.vary
	}
}

// supersede takes out what o, which is whole now, replaces: what would have answered its request.
func (e *entry) supersede(o *object, fields http.Header) {
	for _, old := range slices.Clone(e.objects) {
		if old != o && old.matches(fields) && !old.sameParts(o) && !old.asked.After(o.asked) {
			e.remove(old)
		}
	}
}

// sameParts reports whether two parts are of the same representation.
func (o *object) sameParts(p *object) bool {
	return o.part != nil && p.part != nil && o.strong && o.header.Get("Etag") == p.header.Get("Etag") &&
		o.part.length == p.part.length && *o.part != *p.part
}

// remove takes o out.
func (e *entry) remove(o *object) {
	if i := slices.Index(e.objects, o); i >= 0 {
		e.objects = slices.Delete(e.objects, i, i+1)
		e.out = append(e.out, o)
	}
	o.dropped = true
	if o.settled {
		e.shard.disk.remove(e.key, o.variantHash())
	}
}

// purgedSince reports whether o must not be used any more, not even if the origin says that it is still good.
func (e *entry) purgedSince(c *Cache, o *object, service string) bool {
	return e.purged.hard > o.seq || c.dead(o, service)
}

// joinable returns a flight whose response a request with these fields may wait for. Whether it was
// purged meanwhile by a surrogate key shows when it lands.
func (e *entry) joinable(h http.Header) *flight {
	for _, f := range e.flights {
		if !f.guest && variant(e.vary, f.fields) == variant(e.vary, h) && e.purged.hard <= f.seq {
			return f
		}
	}
	return nil
}

func (e *entry) land(f *flight) {
	if i := slices.Index(e.flights, f); i >= 0 {
		e.flights = slices.Delete(e.flights, i, i+1)
	}
}

// tags returns the entity tags of the objects, but's first, so that one request validates any of them.
func (e *entry) tags(c *Cache, service string, but *object) (tags []string) {
	if but != nil && but.header.Get("Etag") != "" {
		tags = append(tags, but.header.Get("Etag"))
	}
	for _, o := range e.objects {
		if etag := o.header.Get("Etag"); etag != "" && o.part == nil && o.body.whole() && len(tags) < 8 && !slices.Contains(tags, etag) && !e.purgedSince(c, o, service) {
			tags = append(tags, etag)
		}
	}
	return tags
}
