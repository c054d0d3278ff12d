package state

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"time"

	"github.com/wedge-cloud/wedge/internal/recent"
)

// Rates counts what guests tell it, by service, counter and key, over the last minute, and keeps
// which keys are in which penalty box. It is in memory only. What is counted elsewhere it is told ([Rates.Hear]).
//
// It holds 262,144 keys of counters, about 350 bytes each, and as many of penalty boxes. When it is
// full, the service with the most keys loses the one that it has not added to for the longest time.
// So a service that is flooded with keys counts too little, and no other does.
type Rates struct {
	began time.Time
	tally *recent.Map[tally]
	boxes *recent.Map[boxed]
	news  news
}

// boxed says until when a key is in a penalty box, and when others were told so.
type boxed struct{ until, told time.Duration }

// maxRateKeys bounds the keys of all counters, and those of all penalty boxes.
const maxRateKeys = 1 << 18

// NewRates returns counters that are all zero, and empty penalty boxes.
func NewRates() *Rates { return newRates(maxRateKeys) }

func newRates(keys int) *Rates {
	return &Rates{began: time.Now(), tally: recent.Of[tally](keys), boxes: recent.Of[boxed](keys)}
}

// For returns the counters and penalty boxes of a service. They outlive its versions.
func (r *Rates) For(service string) *ServiceRates { return &ServiceRates{r, service} }

// ServiceRates are the counters and penalty boxes of one service. It is safe for concurrent use.
type ServiceRates struct {
	all     *Rates
	service string
}

// Add adds n to the count of a key.
func (s *ServiceRates) Add(counter, key string, n uint32) {
	now, id := s.now(), s.id(counter, key)
	s.all.tally.Put(s.service, id, now, now+tallyFor, func(t *tally) { t.add(now, n) })
	s.all.news.add(s.service, id, n, now)
}

// Over adds n to the count of a key, and reports whether that makes more than most within the last window. There is no waiting.
func (s *ServiceRates) Over(counter, key string, n uint32, window time.Duration, most uint64) (over bool, wait func(context.Context) bool) {
	s.Add(counter, key, n)
	return s.Count(counter, key, window) > most, nil
}

// Count estimates what was added for a key within the last window, of 1 s to 60 s in whole seconds. The estimate
// takes for granted that the second in which the window begins saw its events evenly spread.
func (s *ServiceRates) Count(counter, key string, window time.Duration) (n uint64) {
	now := s.now()
	s.all.tally.Look(s.id(counter, key), now, func(t *tally) { n = t.count(now, window) })
	return n
}

// Penalize puts a key into a penalty box for that long from now.
func (s *ServiceRates) Penalize(box, key string, d time.Duration) {
	now, id, tell := s.now(), s.id(box, key), false
	s.all.boxes.Put(s.service, id, now, now+d, func(b *boxed) {
		if tell = b.until == 0 || now-b.told >= boxPause; tell {
			b.told = now
		}
		b.until = now + d
	})
	if tell {
		s.all.news.put(s.service, id, now+d, now)
	}
}

// boxPause is how long a key that is put into its box again and again is not told of again.
const boxPause = 5 * time.Second

// Penalized reports whether a key is in a penalty box.
func (s *ServiceRates) Penalized(box, key string) (in bool) {
	s.all.boxes.Look(s.id(box, key), s.now(), func(*boxed) { in = true })
	return in
}

// now is monotonic: a clock that is set must not let anybody out of a box.
func (s *ServiceRates) now() time.Duration { return s.all.now() }

func (r *Rates) now() time.Duration { return time.Since(r.began) }

// id stands for service, name and key, the same at all PoPs.
func (s *ServiceRates) id(name, key string) recent.Key {
	b := make([]byte, 0, 256)
	for _, part := range [...]string{s.service, name} {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	sum := sha256.Sum256(append(b, key...))
	return recent.Key(sum[:16])
}

// tallySeconds is one more than the longest window, for the second in which that begins.
const tallySeconds = 61

// tallyFor is how long an added number can be in a window.
const tallyFor = tallySeconds * time.Second

// A tally counts by the second. The counts are a ring.
type tally struct {
	last   int64 // the newest second
	counts [tallySeconds]uint32
}

func (t *tally) add(now time.Duration, n uint32) {
	sec := int64(now / time.Second)
	t.advance(sec)
	c := &t.counts[sec%tallySeconds]
	*c += min(n, math.MaxUint32-*c)
}

// advance empties the seconds that have begun since the last. A caller that was overtaken finds nothing to do.
func (t *tally) advance(sec int64) {
	if sec-t.last >= tallySeconds {
		clear(t.counts[:])
		t.last = sec
	}
	for t.last < sec {
		t.last++
		t.counts[t.last%tallySeconds] = 0
	}
}

func (t *tally) count(now, window time.Duration) (n uint64) {
	sec, w := int64(now/time.Second), int64(window/time.Second)
	t.advance(sec)
	for s := max(0, sec-w+1); s <= sec; s++ {
		n += uint64(t.counts[s%tallySeconds])
	}
	if sec >= w { // the part of the oldest second that is in the window
		left := uint64(time.Second - now%time.Second)
		n += uint64(t.counts[(sec-w)%tallySeconds]) * left / uint64(time.Second)
	}
	return n
}
