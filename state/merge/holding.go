package merge

import (
	"slices"
	"time"
)

// What a PoP has to know of a stock to give units to others, to ask for some, and to take back what was not used.

// Holding is what one writer may spend of a stock, as far as the value knows.
type Holding struct {
	Writer Writer
	Own    int64 // in its account: what it may grant shares of
	Held   int64 // in shares that are granted to it: what it may move
}

// Left is what it may spend.
func (h Holding) Left() int64 { return h.Own + h.Held }

// Holdings returns who may spend something of a stock at that moment, in the order of writers. Of other kinds: nil.
func (v *Value) Holdings(at Instant) (all []Holding) {
	s, ok := v.body.(stock)
	if !ok {
		return nil
	}
	claims := s.claims()
	of := func(w Writer) *Holding {
		i, ok := slices.BinarySearchFunc(all, w, func(h Holding, w Writer) int { return h.Writer.compare(w) })
		if !ok {
			all = slices.Insert(all, i, Holding{Writer: w})
		}
		return &all[i]
	}
	for _, r := range s.accounts {
		h := of(r.key.writer)
		h.Own = int64(s.balance(r.key.writer, claims))
	}
	for i := range claims {
		c := &claims[i]
		if c.open(at) {
			of(c.holder).Held += int64(c.left())
		}
		if n := s.balance(c.granter, claims); n > 0 { // its account has not come yet, or is settled
			of(c.granter).Own = int64(n)
		}
	}
	return slices.DeleteFunc(all, func(h Holding) bool { return h.Left() == 0 })
}

// Share is a claim on a stock, with what is left of it as far as the value knows.
type Share struct {
	Granter, Holder Writer
	Left            int64
	Until           time.Time // the holder's clock: it stops
	Free            time.Time // the granter's clock: what is left may be reclaimed, of a holder that was asked from then on
	Forced          bool      // it was reclaimed without the holder having been heard
}

// Shares returns the shares of a stock that are not settled. Of other kinds: nil.
func (v *Value) Shares() (all []Share) {
	s, ok := v.body.(stock)
	if !ok {
		return nil
	}
	for _, c := range s.claims() {
		all = append(all, Share{c.granter, c.holder, int64(c.left()), time.UnixMilli(c.until), time.UnixMilli(c.free), c.forced})
	}
	return all
}

// Part returns what a writer has written of a stock, as a delta that it may send itself: to whoever joins it, it says all that the
// writer did with it. It is nil for other kinds.
func (v *Value) Part(w Writer) *Value {
	s, ok := v.body.(stock)
	if !ok {
		return nil
	}
	part := &Value{body: stock{rowsOf(s.accounts, w), rowsOf(s.shares, w), rowsOf(s.records, w)}}
	if spans := v.seen.of(w); len(spans) > 0 {
		part.seen = seen{{w, spans}}
	}
	return part
}
