package cache

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// index says where records lie. A key is known by its first eight bytes; the record has all of it.
// A slot takes 32 bytes, and its place in the map some 25.
type index struct {
	heads map[uint64]uint32 // number of the first slot for a key, from 1
	slots []slot
	free  uint32 // the first of those that are not used
	live  int
	used  int
}

// A slot is one record. A ghost is one that must not be served, kept to know that its key occurs in
// segments: a purge of it must be remembered for as long as its bytes are there.
type slot struct {
	print   uint64
	at      place
	size    uint32
	variant uint32
	next    uint32
	state   uint8
}

const (
	ghost    uint8 = 1 << iota
	inMemory       // an entry has the object too
	wanted         // it was asked for since it was written
)

func printOf(k key) uint64 { return binary.LittleEndian.Uint64(k[:]) }

// chain calls f for all slots of a key until it returns false.
func (x *index) chain(print uint64, f func(s *slot) bool) {
	for n := x.heads[print]; n != 0; {
		s := &x.slots[n-1]
		n = s.next
		if !f(s) {
			return
		}
	}
}

// known reports whether records of the key are in segments, to be served or not.
func (x *index) known(print uint64) bool { return x.heads[print] != 0 }

// find returns the slot of a variant, or nil.
func (x *index) find(print uint64, variant uint32) (found *slot) {
	x.chain(print, func(s *slot) bool {
		if s.variant == variant && s.state&ghost == 0 {
			found = s
		}
		return found == nil
	})
	return found
}

// put adds a record, the newest of all. It replaces the variant's older one and the key's
// ghosts: it will be there at least as long as they.
func (x *index) put(s slot) {
	variants, oldest := 0, place(0)
	x.weed(s.print, func(old *slot) bool {
		gone := old.variant == s.variant || old.state&ghost != 0
		if !gone {
			variants++
			if oldest == 0 || old.at < oldest {
				oldest = old.at
			}
		}
		return gone
	})
	if variants >= maxVariants {
		x.weed(s.print, func(old *slot) bool { return old.at == oldest })
	}
	n := x.free
	if n == 0 {
		x.slots = append(x.slots, slot{})
		n = uint32(len(x.slots))
	} else {
		x.free = x.slots[n-1].next
	}
	s.next = x.heads[s.print]
	x.slots[n-1] = s
	x.heads[s.print] = n
	x.used++
	if s.state&ghost == 0 {
		x.live++
	}
}

// weed frees the slots of a key that are gone.
func (x *index) weed(print uint64, gone func(s *slot) bool) {
	first := uint32(0)
	last := &first
	for n := x.heads[print]; n != 0; {
		s := &x.slots[n-1]
		next := s.next
		if gone(s) {
			if s.state&ghost == 0 {
				x.live--
			}
			*s = slot{next: x.free}
			x.free = n
			x.used--
		} else {
			*last = n
			last = &s.next
		}
		n = next
	}
	*last = 0
	if first == 0 {
		delete(x.heads, print)
	} else {
		x.heads[print] = first
	}
}

// bury makes ghosts of a key's slots of which f says so.
func (x *index) bury(print uint64, f func(s *slot) bool) {
	x.chain(print, func(s *slot) bool {
		if s.state&ghost == 0 && f(s) {
			s.state = ghost
			x.live--
		}
		return true
	})
}

// cold returns a key's records that memory does not have, the oldest first.
func (x *index) cold(print uint64) (list []slot) {
	x.chain(print, func(s *slot) bool {
		if s.state&(ghost|inMemory) == 0 {
			list = append(list, *s)
		}
		return true
	})
	slices.SortFunc(list, func(a, b slot) int { return cmp.Compare(a.at, b.at) })
	return list
}

// in returns the slots of a segment that are not ghosts, in the order of their places.
func (x *index) in(segment uint32) (list []slot) {
	for _, s := range x.slots {
		if s.at != 0 && s.at.segment() == segment && s.state&ghost == 0 {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b slot) int { return cmp.Compare(a.at, b.at) })
	return list
}

// drop forgets a segment.
func (x *index) drop(segment uint32) (live int) {
	before := x.live
	for i := range x.slots {
		if s := &x.slots[i]; s.at != 0 && s.at.segment() == segment {
			x.weed(s.print, func(s *slot) bool { return s.at.segment() == segment })
		}
	}
	return before - x.live
}

// load adds a slot as a checkpoint has it, where no two of a key disagree.
func (x *index) load(s slot) {
	s.next = x.heads[s.print]
	x.slots = append(x.slots, s)
	x.heads[s.print] = uint32(len(x.slots))
	x.used++
	if s.state&ghost == 0 {
		x.live++
	}
}
