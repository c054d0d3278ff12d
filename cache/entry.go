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
	flights []*flight // that may be joined
	aloft   int       // all of them
	vary    string    // of the last response: what tells its variants apart, as far as is known
	pass    time.Time
	purged  purgeSeqs // by URL
}

// shard is a part of all entries under one lock.
type shard struct {
	mu      sync.Mutex
	entries map[key]*entry
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

// unlock releases the entry's shard and forgets the entry if it holds nothing.
func (e *entry) unlock(now time.Time) {
	if len(e.objects) == 0 && e.aloft == 0 && !e.pass.After(now) {
		delete(e.shard.entries, e.key)
	}
	e.shard.mu.Unlock()
}

// match returns the newest object that answers a request with these fields; of several the one
// with the latest Date (RFC 9111 section 4). wanted, if set, may be answered from a part.
func (e *entry) match(c *Cache, service string, h http.Header, wanted []byteRange) (best *object) {
	for i := len(e.objects) - 1; i >= 0; i-- {
		o := e.objects[i]
		if !o.matches(h) || o.part != nil && !o.part.covers(wanted) {
			continue
		}
		if c.dead(o, service) || o.body.lost() {
			e.remove(o)
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
func (e *entry) add(o *object) (out []*object) {
	if len(e.objects) >= maxVariants {
		out = append(out, e.objects[0])
		e.remove(e.objects[0])
	}
	o.entry = e
	e.objects = append(e.objects, o)
	if o.part == nil {
		e.vary = o.vary
	}
	return out
}

// supersede takes out what o, which is whole now, replaces: what would have answered its request.
func (e *entry) supersede(o *object, fields http.Header) (out []*object) {
	for _, old := range slices.Clone(e.objects) {
		if old != o && old.matches(fields) && !old.sameParts(o) && !old.asked.After(o.asked) {
			e.remove(old)
			out = append(out, old)
		}
	}
	return out
}

// sameParts reports whether two parts are of the same representation.
func (o *object) sameParts(p *object) bool {
	return o.part != nil && p.part != nil && o.strong && o.header.Get("Etag") == p.header.Get("Etag") &&
		o.part.length == p.part.length && *o.part != *p.part
}

// remove takes o out. Storage learns of it from object.dropped.
func (e *entry) remove(o *object) {
	if i := slices.Index(e.objects, o); i >= 0 {
		e.objects = slices.Delete(e.objects, i, i+1)
	}
	o.dropped = true
	if o.settled {
		e.shard.disk.remove(e.key, o.variantHash())
	}
}

// joinable returns a flight whose response a request with these fields may wait for.
func (e *entry) joinable(c *Cache, service string, h http.Header) *flight {
	for _, f := range e.flights {
		if variant(e.vary, f.fields) == variant(e.vary, h) && !c.outdated(f.seq, e, service) {
			return f
		}
	}
	return nil
}

func (e *entry) land(f *flight) {
	e.aloft--
	if i := slices.Index(e.flights, f); i >= 0 {
		e.flights = slices.Delete(e.flights, i, i+1)
	}
}

// tags returns the entity tags of the objects, but's first, so that one request validates any of them.
func (e *entry) tags(but *object) (tags []string) {
	if but != nil && but.header.Get("Etag") != "" {
		tags = append(tags, but.header.Get("Etag"))
	}
	for _, o := range e.objects {
		if etag := o.header.Get("Etag"); etag != "" && o.part == nil && o.body.whole() && len(tags) < 8 && !slices.Contains(tags, etag) {
			tags = append(tags, etag)
		}
	}
	return tags
}
