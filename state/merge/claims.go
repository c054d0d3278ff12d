package merge

import (
	"errors"
	"fmt"
	"time"

	"github.com/wedge-cloud/wedge"
)

// deal is one operation on a stock while it is applied.
type deal struct {
	stock
	claims []claim
	c      *change
	delta  stock
}

func (s stock) apply(op *Op, c *change) (body, error) {
	n, err := op.by()
	if err != nil {
		return nil, err
	}
	d := &deal{stock: s, claims: s.claims(), c: c}
	switch op.Op {
	case "stock":
		err = d.tally(func(a *account) { a.stocked += n })
	case "spend":
		err = d.spend(n)
	case "grant":
		err = d.grant(op, n)
	case "move":
		err = d.move(op.To, n)
	case "return":
		err = d.giveBack(n)
	case "reclaim":
		d.reclaim(op)
	case "settle":
		err = d.settle()
	default:
		err = unknownOp(Stock, op.Op)
	}
	if err != nil || len(c.covered) == 0 {
		return nil, err
	}
	return d.delta, nil
}

// tally changes the writer's own account.
func (d *deal) tally(f func(a *account)) error {
	a := lastOf(d.accounts, d.c.by, d.c)
	if f(&a); max(a.stocked, a.spent, a.sold) > maxSum || max(a.out, -a.out) > maxSum {
		return full("units")
	}
	d.delta.accounts = d.delta.accounts.with(d.c.dot(), a)
	return nil
}

// note changes the writer's own record of a share.
func (d *deal) note(cl *claim, f func(r *record)) {
	r := cl.held
	if d.c.by == cl.granter {
		r = cl.granted
	}
	for _, row := range cl.rows {
		if row.writer == d.c.by {
			d.c.covers(row)
		}
	}
	r.share = cl.id
	f(&r)
	d.delta.records = d.delta.records.with(d.c.dot(), r)
}

// use goes through what the writer holds until n units are used, and returns how many are missing.
func (d *deal) use(n uint64, f func(cl *claim, n uint64)) (missing uint64) {
	for _, cl := range held(d.claims, d.c.by, d.c.at) {
		if n == 0 {
			break
		}
		part := min(n, cl.left())
		f(cl, part)
		n -= part
	}
	return n
}

func (d *deal) spend(n uint64) error {
	balance := d.balance(d.c.by, d.claims)
	missing := d.use(n, func(cl *claim, n uint64) { d.note(cl, func(r *record) { r.spent += n }) })
	if missing > balance {
		return scarce(n - missing + balance)
	}
	if missing == 0 {
		return nil
	}
	return d.tally(func(a *account) { a.spent += missing })
}

// maxShare is the longest that a share is granted for.
const maxShare = 365 * 24 * time.Hour

// grant makes a share from the account, with a margin at its end for the clocks of both sides.
func (d *deal) grant(op *Op, n uint64) error {
	long, margin := time.Duration(op.For)*time.Millisecond, d.c.margin
	switch have := d.balance(d.c.by, d.claims); {
	case op.For <= 0 || op.For > maxShare.Milliseconds() || long <= margin:
		return refuse(wedge.Invalid, fmt.Errorf("a share for %v", long), fmt.Sprintf("Grant it for more than %v, at most a year.", margin))
	case !op.To.valid() || op.To == d.c.by:
		return refuse(wedge.Invalid, errors.New("no other writer to grant a share to"), "")
	case n > have:
		return scarce(have)
	case len(d.shares) >= MaxRows:
		return full("shares")
	}
	expiry := d.c.at.Wall + long.Milliseconds()
	d.delta.shares = d.delta.shares.with(d.c.dot(), share{granter: d.c.by, holder: op.To, amount: n,
		until: expiry - margin.Milliseconds(), free: expiry + margin.Milliseconds()})
	return nil
}

// move hands on a part of what the writer holds, until the same time; the granter need not know. A share never moves to
// its granter: that would be giving it back.
func (d *deal) move(to Writer, n uint64) error {
	if !to.valid() || to == d.c.by || len(d.shares) >= MaxRows {
		return refuse(wedge.Invalid, errors.New("no other writer to move a share to, or too many shares"), "")
	}
	missing := d.use(n, func(cl *claim, n uint64) {
		if cl.granter == to {
			d.note(cl, func(r *record) { r.returned += n })
			return
		}
		d.note(cl, func(r *record) { r.moved += n })
		s := cl.share
		s.holder, s.amount = to, n
		d.delta.shares = d.delta.shares.with(d.c.dot(), s)
	})
	if missing > 0 {
		return scarce(n - missing)
	}
	return nil
}

// giveBack returns a part of what the writer holds to whoever granted it.
func (d *deal) giveBack(n uint64) error {
	if missing := d.use(n, func(cl *claim, n uint64) { d.note(cl, func(r *record) { r.returned += n }) }); missing > 0 {
		return scarce(n - missing)
	}
	return nil
}

// reclaim takes back what is left of expired shares.
func (d *deal) reclaim(op *Op) {
	for i := range d.claims {
		cl := &d.claims[i]
		heard := op.Heard.UnixMilli() >= cl.free
		if cl.granter != d.c.by || cl.holder != op.From || !heard && !op.Force || cl.left() == 0 && (!cl.forced || !heard) {
			continue
		}
		d.note(cl, func(r *record) {
			r.reclaimed += cl.left()
			r.forced = !heard
		})
	}
}

// settle moves what the writer granted and nothing is left of into its account, for shares not to gather.
func (d *deal) settle() error {
	var sold uint64
	var out int64
	for i := range d.claims {
		cl := &d.claims[i]
		if cl.granter != d.c.by || cl.left() > 0 || cl.forced {
			continue
		}
		d.c.covers(cl.id)
		for _, row := range cl.rows {
			d.c.covers(row)
		}
		sold += cl.spent
		if cl.id.writer == d.c.by {
			out += int64(cl.amount)
		}
		out -= int64(cl.returned+cl.reclaimed) - int64(cl.over())
	}
	if len(d.c.covered) == 0 {
		return nil
	}
	return d.tally(func(a *account) { a.sold, a.out = a.sold+sold, a.out+out })
}
