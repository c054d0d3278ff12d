package merge

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wedge-cloud/wedge"
)

// ClockError is how far a PoP's clock, as its stamps show it, may be from true time for claims to be safe.
const ClockError = time.Second

// stock is a counter of something scarce. Units belong to writers: whoever stocks them has them in its account, and may spend
// them, or grant a share of them to another writer for a time (a claim), which may then spend those without asking.
//
// Each number is counted up by one writer only: what is in an account by its owner, what became of a share by its
// holder, what was reclaimed of it by its granter. Each of them knows all of its own, and what it does not know yet of
// others' can only give it more. So nothing is spent twice however messages are lost or come again, with one exception:
// reclaiming. A granter may reclaim what is left of a share only when it knows all that became of it. Therefore
//
//	the holder does nothing with it from expiry - ClockError on, by its clock;
//	the granter reclaims what is left of it in a value that has all that the holder did before expiry + ClockError, by the granter's clock.
//
// If both clocks are within ClockError of true time, the first is before expiry and the second after it: the granter has all
// that the holder will ever have done.
type stock struct {
	accounts table[dot, account]
	shares   table[dot, share]
	records  table[dot, record]
}

// account is what its writer has counted so far. Of several rows of one writer the last counts.
type account struct {
	stocked uint64
	spent   uint64
	sold    uint64 // spent on shares that are settled
	out     int64  // what is gone from the account on shares that are settled
}

// share is a claim as it was granted. Its dot is that of who made it: the granter, or a holder that moved a part of its own.
type share struct {
	granter, holder Writer
	amount          uint64
	until           int64 // the holder's clock, ms: it stops
	free            int64 // the granter's clock, ms: what is left may be reclaimed
}

// record is what its writer, the holder or the granter, has done with a share. Of several of one writer the last counts.
type record struct {
	share                             dot
	spent, moved, returned, reclaimed uint64
	forced                            bool // reclaimed without having heard of the holder
}

// used is what is no more in the share.
func (r record) used() uint64 { return r.spent + r.moved + r.returned + r.reclaimed }

// claim is a share with what became of it, as far as is known.
type claim struct {
	id dot
	share
	record        // the holder's and the granter's together
	held, granted record
	rows          []dot // of the records
}

func (c *claim) left() uint64         { return c.amount - min(c.amount, c.used()) }
func (c *claim) over() uint64         { return c.used() - min(c.amount, c.used()) }
func (c *claim) open(at Instant) bool { return at.Wall < c.until && c.left() > 0 }

// claims puts shares and records together.
func (s stock) claims() []claim {
	all := make([]claim, len(s.shares))
	for i, r := range s.shares {
		all[i] = claim{id: r.key, share: r.val}
	}
	for _, r := range s.records {
		i, ok := s.shares.find(r.val.share)
		if !ok {
			continue // it has not come yet, or is settled
		}
		c := &all[i]
		switch r.key.writer { // the rows of a writer are in its order
		case c.holder:
			c.held = r.val
		case c.granter:
			c.granted = r.val
		default:
			continue
		}
		c.rows = append(c.rows, r.key)
	}
	for i := range all {
		c := &all[i]
		c.record = record{c.id, c.held.spent, c.held.moved, c.held.returned, c.granted.reclaimed, c.granted.forced}
	}
	return all
}

// balance is what a writer may spend or grant from its account.
func (s stock) balance(w Writer, claims []claim) uint64 {
	var a account
	for _, r := range rowsOf(s.accounts, w) {
		a = r.val
	}
	have := int64(a.stocked) - int64(a.spent) - a.out
	for i := range claims {
		if c := &claims[i]; c.granter == w {
			have += int64(c.returned+c.reclaimed) - int64(c.over())
			if c.id.writer == w {
				have -= int64(c.amount)
			}
		}
	}
	return uint64(max(have, 0))
}

// Left returns how much of a stock a writer may spend without asking, at that moment by its clock. Of other kinds: 0.
func (v *Value) Left(w Writer, at Instant) int64 {
	s, ok := v.body.(stock)
	if !ok {
		return 0
	}
	claims := s.claims()
	left := s.balance(w, claims)
	for i := range claims {
		if claims[i].holder == w && claims[i].open(at) {
			left += claims[i].left()
		}
	}
	return int64(left)
}

// held returns what a writer holds and may use now, first what it must use first.
func held(claims []claim, w Writer, at Instant) []*claim {
	var mine []*claim
	for i := range claims {
		if c := &claims[i]; c.holder == w && c.open(at) {
			mine = append(mine, c)
		}
	}
	slices.SortFunc(mine, func(a, b *claim) int { return cmp.Or(cmp.Compare(a.until, b.until), a.id.compare(b.id)) })
	return mine
}

func (s stock) join(o body, j *joining) body {
	p := o.(stock)
	out := stock{
		joinDots(s.accounts, p.accounts, j, account.join),
		joinDots(s.shares, p.shares, j, share.join),
		joinDots(s.records, p.records, j, record.join),
	}
	out.overspent(s, p, j)
	return out
}

// overspent makes apologies for what neither side knew to be overspent.
func (s stock) overspent(a, b stock, j *joining) {
	var known map[dot]uint64
	for _, c := range s.claims() {
		if c.over() == 0 {
			continue
		}
		if known == nil {
			known = map[dot]uint64{}
			for _, c := range append(a.claims(), b.claims()...) {
				known[c.id] = max(known[c.id], c.over())
			}
		}
		if c.over() > known[c.id] {
			j.out = append(j.out, Apology{ID: c.id.String(), Reason: Overspent, Writer: c.holder, Amount: int64(c.over())})
		}
	}
}

func (a account) join(o account) account {
	return account{max(a.stocked, o.stocked), max(a.spent, o.spent), max(a.sold, o.sold), max(a.out, o.out)}
}

func (s share) join(o share) share {
	if cmp.Or(cmp.Compare(s.amount, o.amount), cmp.Compare(s.until, o.until), cmp.Compare(s.free, o.free),
		s.holder.compare(o.holder), s.granter.compare(o.granter)) <= 0 {
		return s
	}
	return o
}

func (r record) join(o record) record {
	if cmp.Or(cmp.Compare(r.used(), o.used()), r.share.compare(o.share), cmp.Compare(r.spent, o.spent), cmp.Compare(r.moved, o.moved),
		cmp.Compare(r.returned, o.returned), cmp.Compare(r.reclaimed, o.reclaimed)) < 0 {
		return o
	}
	r.forced = r.forced || o.forced && r == record{r.share, r.spent, r.moved, r.returned, r.reclaimed, false}
	return r
}

func (s stock) kind() Kind               { return Stock }
func (s stock) empty() bool              { return len(s.accounts)+len(s.shares)+len(s.records) == 0 }
func (s stock) newest() Instant          { return Instant{} }
func (s stock) collect(Instant, *change) {}

func (s stock) dots(f func(dot)) {
	s.accounts.each(f)
	s.shares.each(f)
	s.records.each(f)
}

func (s stock) mentions(f func(Writer)) {
	for _, r := range s.shares {
		f(r.val.granter)
		f(r.val.holder)
	}
	for _, r := range s.records {
		f(r.val.share.writer)
	}
}

// shownStock is a stock as JSON shows it.
type shownStock struct {
	Total  int64        `json:"total"`
	Spent  int64        `json:"spent"` // as far as is known here
	Shares []shownShare `json:"shares"`
}

type shownShare struct {
	ID      string    `json:"id"`
	Granter Writer    `json:"granter"`
	Holder  Writer    `json:"holder"`
	Amount  int64     `json:"amount"`
	Left    int64     `json:"left"`
	Until   time.Time `json:"until"`
}

func (s stock) render() any {
	out := shownStock{Shares: []shownShare{}}
	for a := range lastRows(s.accounts) {
		out.Total += int64(a.stocked)
		out.Spent += int64(a.spent + a.sold)
	}
	for _, c := range s.claims() {
		out.Spent += int64(c.spent)
		if c.left() > 0 {
			out.Shares = append(out.Shares, shownShare{c.id.String(), c.granter, c.holder, int64(c.amount), int64(c.left()), time.UnixMilli(c.until).UTC()})
		}
	}
	return out
}

// ErrScarce is why a writer cannot spend, grant or move so many: it does not have them. The error is of kind Exhausted.
var ErrScarce = errors.New("not so many left")

func scarce(left uint64) error {
	return refuse(wedge.Exhausted, fmt.Errorf("%w: %d", ErrScarce, left), "Ask who has more to grant a share or to move one here, or say that it is sold out.")
}
