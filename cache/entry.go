package cache

import (
	"hash/maphash"
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
	traffic *traffic // nil: nothing is under way
}

// traffic is what an entry has besides objects, for a while.
type traffic struct {
	flights []*flight
	queued  bool      // in the shard's marked
	active  int       // flights, those included that nobody can join
	pass    time.Time // until then requests do not share responses
	sick    time.Time // until then the origin is spared, see spared
	failure string    // why
	purged  purgeSeqs // by URL, while a flight is under way
}

// shard is a part of all entries under one lock.
type shard struct {
	mu      sync.Mutex
	entries map[uint64]*entry // by a keyed hash of their keys
	odd     map[key]*entry    // those whose hash another has
	marked  []*entry          // those that have nothing but what is remembered for a while, oldest first
	seed    maphash.Seed
	out     []*object // taken out, for storage to learn of when the lock is released
	storage *storage
	disk    *disk // nil: none
}

const shards = 64

// find returns the entry of a key, or nil; the shard is locked.
func (s *shard) find(k *key) *entry {
	if e := s.entries[s.hash(k)]; e != nil && e.key == *k {
		return e
	}
	return s.odd[*k]
}

func (s *shard) hash(k *key) uint64 { return maphash.Bytes(s.seed, k[:]) }

// entry returns the entry of a key, a new one if need be, and its shard locked.
func (c *Cache) entry(k key) *entry {
	s := &c.shards[k[0]%shards]
	s.mu.Lock()
	e := s.find(&k)
	if e == nil {
		e = &entry{shard: s, key: k}
		s.add(e)
	}
	return e
}

func (s *shard) add(e *entry) {
	if h := s.hash(&e.key); s.entries[h] == nil {
		s.entries[h] = e
		return
	}
	if s.odd == nil {
		s.odd = map[key]*entry{}
	}
	s.odd[e.key] = e
}

func (s *shard) remove(e *entry) {
	if h := s.hash(&e.key); s.entries[h] == e {
		delete(s.entries, h)
	} else {
		delete(s.odd, e.key)
	}
}

// unlock releases the entry's shard and forgets what it need not know any more. While a flight is under way
// it must not be forgotten that it was purged.
func (e *entry) unlock(now time.Time) {
	s := e.shard
	if t := e.traffic; t != nil && t.active == 0 && !t.pass.After(now) && !t.sick.After(now) {
		e.traffic = nil
	}
	switch {
	case len(e.objects) > 0:
	case e.traffic == nil:
		s.remove(e)
	case e.traffic.active == 0 && !e.traffic.queued:
		e.traffic.queued = true
		s.marked = append(s.marked, e)
	}
	s.forget(now)
	out := s.out
	s.out = nil
	s.mu.Unlock()
	if len(out) > 0 {
		s.storage.drop(out...)
	}
}

// maxMarked bounds the entries of a shard that have nothing stored: a client can make up any number of keys, and
// nobody need ever ask for them again.
const maxMarked = 512

// forget takes out entries that are remembered no longer, or that are too many. It does so a little at a time.
func (s *shard) forget(now time.Time) {
	for range 2 {
		if len(s.marked) == 0 {
			return
		}
		e := s.marked[0]
		t := e.traffic
		if t != nil && t.queued && len(s.marked) <= maxMarked && (t.pass.After(now) || t.sick.After(now)) {
			return
		}
		s.marked[0] = nil
		s.marked = s.marked[1:]
		if t == nil || !t.queued {
			continue
		}
		t.queued = false
		if t.active == 0 && len(e.objects) == 0 && s.find(&e.key) == e {
			e.traffic = nil
			s.remove(e)
		}
	}
}

// busy returns the entry's traffic, to be changed.
func (e *entry) busy() *traffic {
	if e.traffic == nil {
		e.traffic = new(traffic)
	}
	return e.traffic
}

// passes reports whether requests for the key are known not to share responses.
func (e *entry) passes(now time.Time) bool { return e.traffic != nil && e.traffic.pass.After(now) }

// An origin that just failed is not asked again at once for something that can be served stale: clients would wait for
// it to fail once more, and it has enough to do. How long it is spared depends on how long the failure took.
const (
	leastSick = time.Second
	mostSick  = 10 * time.Second
)

// fails notes that the origin failed, after a time.
func (e *entry) fails(now time.Time, took time.Duration, failure string) {
	t := e.busy()
	t.sick, t.failure = now.Add(min(max(took, leastSick), mostSick)), failure
}

// spared returns how the origin failed a moment ago, "" if it did not.
func (e *entry) spared(now time.Time) string {
	if e.traffic == nil || !e.traffic.sick.After(now) {
		return ""
	}
	return e.traffic.failure
}

// purged returns the numbers of purges by URL that concern what is under way.
func (e *entry) purged() purgeSeqs {
	if e.traffic == nil {
		return purgeSeqs{}
	}
	return e.traffic.purged
}

// vary returns what tells the key's variants apart, as far as is known.
func (e *entry) vary() string {
	for _, o := range slices.Backward(e.objects) {
		if o.part() == nil {
			return o.kind.Value().vary
		}
	}
	return ""
}

// match returns the newest object that answers a request with these fields; of several the one
// with the latest Date (RFC 9111 section 4). wanted, if set, may be answered from a part.
func (e *entry) match(c *Cache, service string, h http.Header, wanted []byteRange) (best *object) {
	for i := len(e.objects) - 1; i >= 0; i-- {
		o := e.objects[i]
		if !o.answers(h, wanted) {
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
		if best == nil || best.part() != nil && o.part() == nil || (best.part() == nil) == (o.part() == nil) && best.body.whole() && o.date().After(best.date()) {
			best = o
		}
	}
	return best
}

// answers reports whether o is for a request with these fields that wants these ranges, or all.
func (o *object) answers(h http.Header, wanted []byteRange) bool {
	return o.matches(h) && (o.part() == nil || o.part().covers(wanted))
}

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
		e.remove(e.leastUsed())
	}
	o.entry = e
	e.objects = append(e.objects, o)
}

// leastUsed returns the oldest of the objects that answered fewest: variants that a client makes up must not
// push out those that others ask for.
func (e *entry) leastUsed() *object {
	least := e.objects[0]
	for _, o := range e.objects[1:] {
		if o.hits.Load() < least.hits.Load() {
			least = o
		}
	}
	return least
}

// supersede takes out what o, which is whole now, replaces: what would have answered its request.
func (e *entry) supersede(o *object, fields http.Header) {
	before := true // it came before o, which may have been asked for at the same moment
	for _, old := range slices.Clone(e.objects) {
		if old == o {
			before = false
			continue
		}
		if old.matches(fields) && !old.sameParts(o) && (old.asked() < o.asked() || before && old.asked() == o.asked()) {
			e.remove(old)
		}
	}
}

// sameParts reports whether two parts are of the same representation.
func (o *object) sameParts(p *object) bool {
	a, b := o.part(), p.part()
	return a != nil && b != nil && o.is(strong) && o.fields.get("Etag") == p.fields.get("Etag") && a.length == b.length && *a != *b
}

// remove takes o out.
func (e *entry) remove(o *object) {
	if i := slices.Index(e.objects, o); i >= 0 {
		e.objects = slices.Delete(e.objects, i, i+1)
		e.shard.out = append(e.shard.out, o)
	}
	o.set(dropped)
	if o.is(settled) {
		e.shard.disk.remove(e.key, o.variantHash())
	}
}

// purgedSince reports whether o must not be used any more, not even if the origin says that it is still good.
func (e *entry) purgedSince(c *Cache, o *object, service string) bool {
	return e.purged().hard > o.seq || c.dead(o, service)
}

// joinable returns a flight whose response a request with these fields and ranges may wait for. Whether it was
// purged meanwhile by a surrogate key shows when it lands. One that validates a part brings that part.
func (e *entry) joinable(h http.Header, wanted []byteRange) *flight {
	if e.traffic == nil {
		return nil
	}
	vary := e.vary()
	for _, f := range e.traffic.flights {
		if f.base != nil && f.base.part() != nil && !f.base.part().covers(wanted) {
			continue
		}
		if !f.guest && variant(vary, f.fields) == variant(vary, h) && e.purged().hard <= f.seq {
			return f
		}
	}
	return nil
}

func (e *entry) land(f *flight) {
	if i := slices.Index(e.traffic.flights, f); i >= 0 {
		e.traffic.flights = slices.Delete(e.traffic.flights, i, i+1)
	}
}

// tags returns the entity tags of the objects, but's first, so that one request validates any of them.
func (e *entry) tags(c *Cache, service string, but *object) (tags []string) {
	if but != nil && but.fields.get("Etag") != "" {
		tags = append(tags, but.fields.get("Etag"))
	}
	for _, o := range e.objects {
		if etag := o.fields.get("Etag"); etag != "" && o.part() == nil && o.body.whole() && len(tags) < 8 && !slices.Contains(tags, etag) && !e.purgedSince(c, o, service) {
			tags = append(tags, etag)
		}
	}
	return tags
}
