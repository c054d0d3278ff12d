// Package recent keeps values by key for as long as they are of use, within bounds. Keys belong to services: when there
// is no room, the service with the most keys loses the one that it has not put for the longest time. So one that is flooded
// with keys drives out its own, and no other's.
package recent

import (
	"encoding/hex"
	"errors"
	"sync"
	"time"
)

// Shards divide the keys, so that those who use a map at once seldom wait for each other.
const Shards = 64

// Key stands for what a value is about. It is a digest, so that long names take no more room than short ones, and nobody
// can make two of them meet.
type Key [16]byte

// MarshalText implements encoding.TextMarshaler.
func (k Key) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, k[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *Key) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(k)) {
		return errors.New("a key has 32 hexadecimal digits")
	}
	_, err := hex.Decode(k[:], b)
	return err
}

// Map has values by key. It has room for a number of rows in each shard. Times are since some beginning. It is safe for
// concurrent use; make one with [Of].
type Map[V any] struct {
	room   int
	shards [Shards]shard[V]
}

// Of returns a map with room for so many keys, at least one a shard.
func Of[V any](keys int) *Map[V] { return &Map[V]{room: max(1, keys/Shards)} }

type shard[V any] struct {
	mu     sync.Mutex
	rows   map[Key]*row[V]
	queues map[string]*queue[V] // by service
}

// A row is one key's value, in the queue of its service.
type row[V any] struct {
	key          Key
	until        time.Duration // when it is of no more use
	queue        *queue[V]
	older, newer *row[V]
	val          V
}

// A queue has a service's rows by when they were put last.
type queue[V any] struct {
	service        string
	oldest, newest *row[V]
	n              int
}

func (r *Map[V]) shard(key Key) *shard[V] { return &r.shards[key[0]%Shards] }

// Put lets f change the value of a key, a zero one if there was none, and keeps it until then, as the service's.
func (r *Map[V]) Put(service string, key Key, now, until time.Duration, f func(*V)) {
	s := r.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.rows[key]
	if e == nil {
		e = s.insert(service, key, now, r.room)
	} else {
		if e.until <= now {
			var zero V
			e.val = zero
		}
		if q := e.queue; s.remove(e) && q.service != service {
			delete(s.queues, q.service)
		}
	}
	s.queue(service).add(e)
	e.until = until
	f(&e.val)
}

// Look calls f with the value of a key, if there is one.
func (r *Map[V]) Look(key Key, now time.Duration, f func(*V)) {
	s := r.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.rows[key]; e != nil && e.until > now {
		f(&e.val)
	}
}

// Each calls f with each key and its value, those of a shard while none else can use it.
func (r *Map[V]) Each(now time.Duration, f func(Key, *V)) {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		for key, e := range s.rows {
			if e.until > now {
				f(key, &e.val)
			}
		}
		s.mu.Unlock()
	}
}

// Len returns how many keys there are, with those that are of no more use and not cleared away yet.
func (r *Map[V]) Len() (n int) {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		n += len(s.rows)
		s.mu.Unlock()
	}
	return n
}

// insert makes a row, in no queue yet. It clears away more than it makes, so that the rows of a flood do not stay; and it
// makes room if there is none.
func (s *shard[V]) insert(service string, key Key, now time.Duration, room int) *row[V] {
	if s.rows == nil {
		s.rows, s.queues = map[Key]*row[V]{}, map[string]*queue[V]{}
	}
	for range 2 {
		if q := s.queues[service]; q != nil && q.oldest.until <= now {
			s.drop(q.oldest)
		}
	}
	if len(s.rows) >= room {
		s.drop(s.longest().oldest)
	}
	e := &row[V]{key: key}
	s.rows[key] = e
	return e
}

// queue returns that of a service.
func (s *shard[V]) queue(service string) *queue[V] {
	q := s.queues[service]
	if q == nil {
		q = &queue[V]{service: service}
		s.queues[service] = q
	}
	return q
}

// longest returns the queue of the service with the most rows.
func (s *shard[V]) longest() (most *queue[V]) {
	for _, q := range s.queues {
		if most == nil || q.n > most.n {
			most = q
		}
	}
	return most
}

// drop forgets a row.
func (s *shard[V]) drop(e *row[V]) {
	delete(s.rows, e.key)
	if q := e.queue; s.remove(e) {
		delete(s.queues, q.service)
	}
}

func (q *queue[V]) add(e *row[V]) {
	e.queue, e.older, e.newer = q, q.newest, nil
	if q.newest != nil {
		q.newest.newer = e
	} else {
		q.oldest = e
	}
	q.newest = e
	q.n++
}

// remove takes a row out of its queue, and reports whether that is empty now.
func (s *shard[V]) remove(e *row[V]) (empty bool) {
	q := e.queue
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		q.oldest = e.newer
	}
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		q.newest = e.older
	}
	q.n--
	return q.n == 0
}
