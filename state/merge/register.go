package merge

import (
	"encoding/json"
	"slices"
	"time"
)

// register has all writes that nobody has replaced who had seen them: one, unless some were made that knew nothing of each
// other. The others are kept, though a Register shows only the latest: a join that dropped them would not come to
// the same in every order when removals come in between. The next write replaces them all.
type register struct {
	rows  table[dot, write]
	multi bool
}

type write struct {
	at    Instant
	value string
	who   string
}

func (w write) join(o write) write {
	if c := w.at.compare(o.at); c > 0 || c == 0 && w.value+w.who >= o.value+o.who {
		return w
	}
	return o
}

// shown returns the index of the write that a Register shows, -1 if there is none.
func (r register) shown() int {
	best := -1
	for i, w := range r.rows {
		if best < 0 || w.val.at.compare(r.rows[best].val.at) >= 0 {
			best = i // of two at one instant that of the greater writer, as rows are in their order
		}
	}
	return best
}

func (r register) apply(op *Op, c *change) (body, error) {
	if op.Op == "clear" {
		return clearAll(r, c), nil
	}
	if op.Op != "set" {
		return nil, unknownOp(r.kind(), op.Op)
	}
	s, err := op.canonical()
	if err != nil {
		return nil, err
	}
	if err := checkName(op.Who); err != nil {
		return nil, err
	}
	c.after(r.newest())
	r.dots(c.covers)
	return register{single(c.dot(), write{c.at, s, op.Who}), r.multi}, nil
}

func (r register) join(o body, j *joining) body {
	p := o.(register)
	out := register{joinDots(r.rows, p.rows, j, write.join), r.multi}
	if !r.multi && len(out.rows) > 1 {
		out.lost(r, p, j)
		out.lost(p, r, j)
	}
	return out
}

// lost makes an apology for the write that one side showed, if it is shown no more because of one that knew nothing of it.
// If the other side knew both, whoever made that one has apologised.
func (r register) lost(side, other register, j *joining) {
	i, now := side.shown(), r.rows[r.shown()]
	if i < 0 {
		return
	}
	was := side.rows[i]
	if was.key.writer == now.key.writer || !r.rows.has(was.key) || other.rows.has(was.key) {
		return
	}
	j.out = append(j.out, Apology{ID: was.key.String(), Reason: Overwritten, Writer: was.key.writer, Path: slices.Clone(j.path), Who: was.val.who,
		At: time.UnixMilli(was.val.at.Wall).UTC(), Value: json.RawMessage(was.val.value), Instead: json.RawMessage(now.val.value)})
}

func (r register) kind() Kind {
	if r.multi {
		return Multi
	}
	return Register
}

func (r register) empty() bool              { return len(r.rows) == 0 }
func (r register) dots(f func(dot))         { r.rows.each(f) }
func (r register) mentions(func(Writer))    {}
func (r register) collect(Instant, *change) {}

func (r register) newest() (at Instant) {
	if i := r.shown(); i >= 0 {
		at = r.rows[i].val.at
	}
	return at
}

func (r register) render() any {
	if r.multi {
		all := make([]json.RawMessage, len(r.rows))
		for i, w := range r.rows {
			all[i] = json.RawMessage(w.val.value)
		}
		return all
	}
	if i := r.shown(); i >= 0 {
		return json.RawMessage(r.rows[i].val.value)
	}
	return nil
}
