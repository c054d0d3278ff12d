package state

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge/internal/recent"
)

// RateNews is what one PoP tells others of a key: that so many were added to its count, or that it is in a penalty box for so long.
type RateNews struct {
	Service string        `json:"s"`
	Key     recent.Key    `json:"k"` // of service, counter or box, and key: nobody can take it for another's
	N       uint32        `json:"n,omitempty"`
	Box     time.Duration `json:"box,omitempty"`
}

const (
	maxNews  = 1 << 12          // keys that wait to be told of, of counters and of boxes each: a service that has the most loses its own
	newsKeep = 10 * time.Second // after which what was added is of no more use
	maxBox   = time.Hour
)

// news gathers what others are to be told. The zero value gathers nothing.
type news struct {
	mu    sync.RWMutex // held for writing while what is there is taken
	adds  *recent.Map[added]
	boxes *recent.Map[RateNews]
}

type added struct {
	RateNews
	since time.Duration
}

// Share has the counters gather what others are to be told: see [Rates.News].
func (r *Rates) Share() {
	r.news.mu.Lock()
	defer r.news.mu.Unlock()
	r.news.adds, r.news.boxes = recent.Of[added](maxNews), recent.Of[RateNews](maxNews)
}

func (w *news) add(service string, key recent.Key, n uint32, now time.Duration) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.adds == nil || n == 0 {
		return
	}
	w.adds.Put(service, key, now, now+newsKeep, func(a *added) {
		if a.N == 0 {
			*a = added{RateNews{Service: service, Key: key}, now}
		}
		a.N += min(n, ^a.N)
	})
}

func (w *news) put(service string, key recent.Key, until, now time.Duration) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.boxes != nil {
		w.boxes.Put(service, key, now, now+newsKeep, func(b *RateNews) { *b = RateNews{Service: service, Key: key, Box: until - now} })
	}
}

// News returns what others are to be told, so many of each kind at most: of what was added the most first. The rest waits for the next time, but not
// for longer than ten seconds.
func (r *Rates) News(most int) (list []RateNews) {
	w, now := &r.news, r.now()
	w.mu.Lock()
	adds, boxes := w.adds, w.boxes
	if adds == nil || adds.Len()+boxes.Len() == 0 {
		w.mu.Unlock()
		return nil
	}
	w.adds, w.boxes = recent.Of[added](maxNews), recent.Of[RateNews](maxNews)
	w.mu.Unlock()

	boxes.Each(now, func(_ recent.Key, b *RateNews) {
		if len(list) < most {
			list = append(list, *b)
			return
		}
		w.put(b.Service, b.Key, now+b.Box, now)
	})
	var counts []added
	adds.Each(now, func(_ recent.Key, a *added) { counts = append(counts, *a) })
	slices.SortFunc(counts, func(a, b added) int { return cmp.Compare(b.N, a.N) })
	for i, a := range counts {
		if i < most {
			list = append(list, a.RateNews)
		} else if now-a.since < newsKeep {
			w.add(a.Service, a.Key, a.N, a.since)
		}
	}
	return list
}

// Hear takes what another PoP tells. It is not told again.
func (r *Rates) Hear(one *RateNews) {
	now := r.now()
	if one.N > 0 {
		r.tally.Put(one.Service, one.Key, now, now+tallyFor, func(t *tally) { t.add(now, one.N) })
	}
	until := now + min(one.Box, maxBox)
	if one.Box <= 0 {
		return
	}
	longer := true
	r.boxes.Look(one.Key, now, func(b *boxed) { longer = b.until < until })
	if longer {
		r.boxes.Put(one.Service, one.Key, now, until, func(b *boxed) { b.until = until })
	}
}
