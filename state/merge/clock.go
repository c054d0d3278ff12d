package merge

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
)

// Instant is a moment by a hybrid clock: it is near the time of day, and later than every instant that its maker had seen.
type Instant struct {
	Wall  int64 // milliseconds since 1970, at least 0
	Count uint32
}

// Stamp is an instant and who gave it: no two changes of a value have the same.
type Stamp struct {
	Instant
	Writer Writer
	Past   uint64 // see [Clock.Past]
}

// Before reports whether i is earlier than o.
func (i Instant) Before(o Instant) bool { return i.compare(o) < 0 }

// Earlier returns the earlier of two.
func (i Instant) Earlier(o Instant) Instant {
	if i.Before(o) {
		return i
	}
	return o
}

func (i Instant) compare(o Instant) int {
	return cmp.Or(cmp.Compare(i.Wall, o.Wall), cmp.Compare(i.Count, o.Count))
}

func maxInstant(a, b Instant) Instant {
	if a.compare(b) > 0 {
		return a
	}
	return b
}

// next returns the first instant after i.
func (i Instant) next() Instant {
	if i.Count == math.MaxUint32 {
		return Instant{i.Wall + 1, 0}
	}
	return Instant{i.Wall, i.Count + 1}
}

// maxWall is in the year 10889.
const maxWall = 1 << 48

// MaxAhead is how far another's stamp may be ahead of this PoP's own time for its clock to follow.
const MaxAhead = 500 * time.Millisecond

// Clock gives stamps. It has no time of its own: whoever asks says what the time is. It may be used by many goroutines.
//
// A clock that followed a stamp from next year would give stamps of next year from then on, and so would all that see those. So a
// stamp too far ahead is refused and changes nothing. Causality does not suffer: [Value.Apply] stamps a change later than
// what the value holds already, whatever the clock says. (To clamp the stamp itself would be worse: one change
// would have different stamps at different PoPs, and the values would never be equal again.)
type Clock struct {
	writer Writer
	mu     sync.Mutex
	last   Instant
	past   uint64
}

// NewClock returns the clock of a writer.
func NewClock(w Writer) *Clock { return &Clock{writer: w} }

// Now returns a stamp later than all that the clock has given or seen. The time of day may go back; stamps do not.
func (c *Clock) Now(wall time.Time) Stamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := (Instant{Wall: min(max(wall.UnixMilli(), 0), maxWall)}); at.compare(c.last) > 0 {
		c.last = at
	} else {
		c.last = c.last.next()
	}
	return Stamp{c.last, c.writer, c.past}
}

// Past notes that the writer has made up to n changes of a value that it forgets. In a value where it has made none, as far as is known, its changes have
// higher numbers from then on: it may be that one, and others may remember it. It returns the highest n.
func (c *Clock) Past(n uint64) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.past = max(c.past, n)
	return c.past
}

// After makes later stamps later than an instant that the fleet has agreed on, whatever the time of day.
func (c *Clock) After(i Instant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = maxInstant(c.last, i)
}

// See makes later stamps later than that one. A stamp more than [MaxAhead] ahead of wall gives an error of kind Invalid.
func (c *Clock) See(s Instant, wall time.Time) error {
	if s.Wall > wall.Add(MaxAhead).UnixMilli() {
		return tooLate(s, wall)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.compare(c.last) > 0 {
		c.last = s
	}
	return nil
}

func tooLate(s Instant, limit time.Time) error {
	return &wedge.Error{Op: "read stamp", What: time.UnixMilli(s.Wall).UTC().Format(time.RFC3339), Kind: wedge.Invalid,
		Err:  fmt.Errorf("%w of %s", errAhead, limit.UTC().Format(time.RFC3339)),
		Hint: "Set the clock of the PoP that wrote it, and of this one."}
}

var errAhead = errors.New("too far ahead")
