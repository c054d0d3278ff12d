package cache

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge"
)

// Purges are compared with, not carried out. Each gets the next number; an object remembers the
// number current when its fetch began, and is dead if a purge that concerns it has a higher one.
// So a purge costs the same whatever the cache holds, and an object that was on its way while the
// purge came is dead on arrival.

// purgeSeqs are the numbers of the last purges of something.
type purgeSeqs struct{ hard, soft uint64 }

func (p *purgeSeqs) set(n uint64, soft bool) {
	if soft {
		p.soft = max(p.soft, n)
	} else {
		p.hard = max(p.hard, n)
	}
}

// purges holds the numbers by service and surrogate key.
type purges struct {
	last  atomic.Uint64 // number of the last purge of any kind
	wide  atomic.Uint64 // of the last that was not by URL
	mu    sync.RWMutex
	named map[purgeName]purgeSeqs
	floor uint64 // numbers up to here may have been forgotten
}

// purgeName is a service's surrogate key; key "" is all of the service, and of no service all there is.
type purgeName struct{ service, key string }

// maxPurgeNames bounds what is remembered. Beyond it all is forgotten, and with it every
// object fetched before: too much is purged rather than too little.
const maxPurgeNames = 1 << 20

// Purge makes the objects that p names unusable; when it returns no request gets one of them. All of no service is everything.
func (c *Cache) Purge(p wedge.Purge) error {
	if len(p.Keys) > wedge.MaxPurgeKeys {
		return &wedge.Error{Op: "purge", What: p.Service, Kind: wedge.Invalid, Hint: "Name at most 256 surrogate keys in one purge."}
	}
	c.stats.Purges.Add(1)
	if p.URL != "" {
		req, err := http.NewRequest(http.MethodGet, p.URL, nil)
		if err != nil || req.URL.Host == "" {
			return &wedge.Error{Op: "purge", What: p.URL, Kind: wedge.Invalid, Err: err, Hint: "Give an absolute URL, as clients ask for it."}
		}
		err = c.purgeKey(keyOf(req, &wedge.Caching{Service: p.Service}), p.Soft, false)
		return cmp.Or(c.purgeNames(p.Service, []string{urlKey(req)}, p.Soft, true), err)
	}
	names := p.Keys
	if p.All {
		names = []string{""}
	}
	return c.purgeNames(p.Service, names, p.Soft, true)
}

// purgeNames purges by surrogate keys; with wait it returns when no crash can undo that.
func (c *Cache) purgeNames(service string, names []string, soft, wait bool) error {
	n := c.purges.name(service, names, soft)
	return c.note(&noted{kind: notedNames, soft: soft, n: n, service: service, keys: names}, wait)
}

func (p *purges) name(service string, keys []string, soft bool) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.last.Load() + 1
	defer p.last.Store(n) // not before all is set: what begins with this number is younger than the purge
	p.set(n, service, keys, soft)
	return n
}

func (p *purges) set(n uint64, service string, keys []string, soft bool) {
	if len(p.named)+len(keys) > maxPurgeNames {
		clear(p.named)
		p.floor = max(p.floor, n)
	}
	for _, key := range keys {
		seqs := p.named[purgeName{service, key}]
		seqs.set(n, soft)
		p.named[purgeName{service, key}] = seqs
	}
	p.wide.Store(max(n, p.wide.Load()))
}

// purgeKey purges all variants of one key, and what is being fetched for it; wait is as for purgeNames.
func (c *Cache) purgeKey(k key, soft, wait bool) error {
	n, onDisk := c.purgeEntry(k, soft)
	if !onDisk {
		return nil
	}
	return c.note(&noted{kind: notedKey, soft: soft, n: n, print: printOf(k)}, wait)
}

// purgeEntry returns the purge's number, and whether it concerns what lies on disk.
func (c *Cache) purgeEntry(k key, soft bool) (n uint64, onDisk bool) {
	e := c.entry(k)
	defer e.unlock(time.Time{})
	c.purges.mu.Lock()
	n = c.purges.last.Load() + 1
	if e.traffic != nil {
		e.traffic.purged.set(n, soft)
		e.traffic.pass = time.Time{}
	}
	c.purges.last.Store(n)
	c.purges.mu.Unlock()
	for _, o := range slices.Clone(e.objects) {
		if soft {
			o.set(stale)
		} else {
			e.remove(o)
		}
	}
	return n, c.disk != nil && c.disk.purgeKey(k, n, soft)
}

// dead reports whether o was purged, and marks it stale if it was purged softly. Its entry is locked.
func (c *Cache) dead(o *object, service string) bool {
	wide := c.purges.wide.Load()
	if o.checked.Load() == wide {
		return false
	}
	hard, soft := c.purges.since(o.seq, service, o.keys())
	if soft {
		o.set(stale)
	}
	if !hard {
		o.checked.Store(wide)
	}
	return hard
}

// since reports whether a purge with a higher number than seq names one of the keys, or all.
func (p *purges) since(seq uint64, service string, keys []string) (hard, soft bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	hard = p.floor > seq
	note := func(key string) {
		s := p.named[purgeName{service, key}]
		hard, soft = hard || s.hard > seq, soft || s.soft > seq
	}
	note("")
	all := p.named[purgeName{}]
	hard, soft = hard || all.hard > seq, soft || all.soft > seq
	for _, key := range keys {
		note(key)
	}
	return hard, soft
}

// urlKey is the surrogate key of objects whose own key does not follow from their URL, so that a
// purge by URL finds them all the same.
func urlKey(req *http.Request) string { return "\x00url\x00" + resource(req) }

// surrogateKeys returns the keys of a response: those of Surrogate-Key, and the groups of Cache-Groups
// (RFC 9875), which are an origin's own.
func surrogateKeys(h http.Header, req *http.Request, pol *wedge.Caching) (keys []string) {
	keys = append(keys, pol.SurrogateKeys...)
	if pol.Space != "" || pol.Key != "" {
		keys = append(keys, urlKey(req))
	}
	for _, line := range h["Surrogate-Key"] {
		keys = append(keys, strings.Fields(line)...)
	}
	for _, g := range groups(h["Cache-Groups"]) {
		keys = append(keys, groupKey(req, g))
	}
	return keys
}
