package state

import (
	"sync"
	"time"
)

// recentShards divide the keys, so that guests that run at once seldom wait for each other.
const recentShards = 64

// recent maps keys of services to values for as long as they are of use. It has room for a number of
// rows in each shard. Times are since some beginning.
type recent[V any] struct {
	room   int
	shards [recentShards]recentShard[V]
}

type recentShard[V any] struct {
	mu     sync.Mutex
	rows   map[rateKey]*row[V]
	queues map[string]*queue[V] // by service
}

// A row is one key's value, in the queue of its service.
type row[V any] struct {
	key          rateKey
	until        time.Duration // when it is of no more use
	older, newer *row[V]
	val          V
}

// A queue has a service's rows by when they were put last.
type queue[V any] struct {
	service        string
	oldest, newest *row[V]
	n              int
}

func (r *recent[V]) shard(key rateKey) *recentShard[V] { return &r.shards[key[0]%recentShards] }

// put lets f change the value of a key, a zero one if there was none, and keeps it until then.
func (r *recent[V]) put(service string, key rateKey, now, until time.Duration, f func(*V)) {
	s := r.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, q := s.rows[key], s.queues[service]
	switch {
	case e == nil:
		e, q = s.insert(service, key, now, r.room)
	case e.until <= now:
		var zero V
		e.val = zero
		fallthrough
	default:
		q.remove(e)
	}
	q.add(e)
	e.until = until
	f(&e.val)
}

// look calls f with the value of a key, if there is one.
func (r *recent[V]) look(key rateKey, now time.Duration, f func(*V)) {
	s := r.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.rows[key]; e != nil && e.until > now {
		f(&e.val)
	}
}

// insert makes a row, in no queue yet, and finds its queue. It clears away more than it makes, so that the rows of
// a flood do not stay; and it makes room if there is none.
func (s *recentShard[V]) insert(service string, key rateKey, now time.Duration, room int) (*row[V], *queue[V]) {
	if s.rows == nil {
		s.rows, s.queues = map[rateKey]*row[V]{}, map[string]*queue[V]{}
	}
	for range 2 {
		if q := s.queues[service]; q != nil && q.oldest.until <= now {
			s.drop(q)
		}
	}
	if len(s.rows) >= room {
		s.drop(s.longest())
	}
	q := s.queues[service]
	if q == nil {
		q = &queue[V]{service: service}
		s.queues[service] = q
	}
	e := &row[V]{key: key}
	s.rows[key] = e
	return e, q
}

// longest returns the queue of the service with the most rows.
func (s *recentShard[V]) longest() (most *queue[V]) {
	for _, q := range s.queues {
		if most == nil || q.n > most.n {
			most = q
		}
	}
	return most
}

// drop forgets a queue's oldest row.
func (s *recentShard[V]) drop(q *queue[V]) {
	delete(s.rows, q.oldest.key)
	q.remove(q.oldest)
	if q.n == 0 {
		delete(s.queues, q.service)
	}
}

func (q *queue[V]) add(e *row[V]) {
	e.older, e.newer = q.newest, nil
	if q.newest != nil {
		q.newest.newer = e
	} else {
		q.oldest = e
	}
	q.newest = e
	q.n++
}

func (q *queue[V]) remove(e *row[V]) {
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
}
