package cache

import "sync"

// storage bounds the bytes of whole objects. What has not been used since it was last looked at
// goes first (SIEVE: a hit costs one store and no lock, and a scan of objects used once pushes
// out nothing that is used twice).
type storage struct {
	mu          sync.Mutex
	limit, used int64
	head, tail  *object // the newest first
	hand        *object
	count       int
}

// add takes an object in and returns what had to go for it. false: it is larger than all there is.
func (s *storage) add(o *object) (out []*object, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.bytes > s.limit {
		return nil, false
	}
	for s.used+o.bytes > s.limit {
		v := s.victim()
		s.unlink(v)
		out = append(out, v)
	}
	o.next = s.head
	if s.head != nil {
		s.head.previous = o
	} else {
		s.tail = o
	}
	s.head = o
	s.used += o.bytes
	s.count++
	return out, true
}

// grow makes an object that is kept larger and returns what had to go for that, perhaps the object itself.
func (s *storage) grow(o *object, n int64) (out []*object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.next == nil && o.previous == nil && s.head != o {
		return nil
	}
	o.bytes += n
	s.used += n
	for s.used > s.limit {
		v := s.victim()
		s.unlink(v)
		out = append(out, v)
	}
	return out
}

// victim returns the object to go next: the hand moves from old to new and spares who was used.
func (s *storage) victim() *object {
	o := s.hand
	for {
		if o == nil {
			o = s.tail
		}
		if !o.is(visited) {
			s.hand = o.previous
			return o
		}
		o.unset(visited)
		o = o.previous
	}
}

// drop gives back the room of objects that are no longer wanted.
func (s *storage) drop(objects ...*object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range objects {
		if o.next != nil || o.previous != nil || s.head == o {
			s.unlink(o)
		}
	}
}

func (s *storage) unlink(o *object) {
	if s.hand == o {
		s.hand = o.previous
	}
	if o.previous != nil {
		o.previous.next = o.next
	} else {
		s.head = o.next
	}
	if o.next != nil {
		o.next.previous = o.previous
	} else {
		s.tail = o.previous
	}
	o.next, o.previous = nil, nil
	s.used -= o.bytes
	s.count--
}
