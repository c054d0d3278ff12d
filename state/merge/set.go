package merge

import (
	"cmp"
	"encoding/json"
)

// set has for each element the dots of its additions, and in a strict one (RemoveWins) also of its removals. An
// addition replaces what it has seen of the element, and so does a removal: in a strict set by a mark that keeps
// additions out which knew nothing of it, until it is collected; in the other by nothing.
type set struct {
	elements table[text, table[dot, mark]]
	strict   bool
}

type text string

func (t text) compare(o text) int { return cmp.Compare(t, o) }

// mark is an addition or a removal.
type mark struct {
	removed bool
	at      Instant // in a strict set
}

func (m mark) join(o mark) mark {
	return mark{m.removed || o.removed, maxInstant(m.at, o.at)}
}

func in(marks table[dot, mark]) bool {
	for _, m := range marks {
		if m.val.removed {
			return false
		}
	}
	return len(marks) > 0
}

func (s set) apply(op *Op, c *change) (body, error) {
	switch op.Op {
	case "clear":
		return s.clear(c), nil
	case "add", "remove":
	default:
		return nil, unknownOp(s.kind(), op.Op)
	}
	v, err := op.canonical()
	if err != nil {
		return nil, err
	}
	marks, has := s.elements.get(text(v))
	switch {
	case op.Op == "remove" && !has && !s.strict:
		return nil, nil
	case !has && len(s.elements) >= MaxRows:
		return nil, full("elements")
	case op.Op == "remove":
		return set{s.remove(nil, text(v), marks, c), s.strict}, nil
	}
	marks.each(c.covers)
	m := mark{}
	if s.strict {
		c.after(newestMark(marks))
		m.at = c.at
	}
	return set{single(text(v), single(c.dot(), m)), s.strict}, nil
}

// remove adds the removal of an element to a delta.
func (s set) remove(delta table[text, table[dot, mark]], v text, marks table[dot, mark], c *change) table[text, table[dot, mark]] {
	marks.each(c.covers)
	if !s.strict {
		return delta
	}
	c.after(newestMark(marks))
	return append(delta, row[text, table[dot, mark]]{v, single(c.dot(), mark{true, c.at})})
}

func (s set) clear(c *change) body {
	if !s.strict || s.empty() {
		return clearAll(s, c)
	}
	d := set{strict: true}
	for _, e := range s.elements {
		if in(e.val) { // what is not there is not removed once more
			d.elements = s.remove(d.elements, e.key, e.val, c)
		}
	}
	if d.empty() {
		return nil
	}
	return d
}

func (s set) join(o body, j *joining) body {
	return set{zip(s.elements, o.(set).elements, func(_ text, x, y *table[dot, mark]) (table[dot, mark], bool) {
		var a, b table[dot, mark]
		if x != nil {
			a = *x
		}
		if y != nil {
			b = *y
		}
		m := joinDots(a, b, j, mark.join)
		return m, len(m) > 0
	}), s.strict}
}

// collect takes elements whose last change was a removal, or an addition that a removal kept out.
func (s set) collect(before Instant, c *change) {
	for _, e := range s.elements {
		if !in(e.val) && newestMark(e.val).compare(before) < 0 {
			e.val.each(c.covers)
		}
	}
}

func newestMark(marks table[dot, mark]) (at Instant) {
	for _, m := range marks {
		at = maxInstant(at, m.val.at)
	}
	return at
}

func (s set) kind() Kind {
	if s.strict {
		return RemoveWins
	}
	return AddWins
}

func (s set) empty() bool           { return len(s.elements) == 0 }
func (s set) mentions(func(Writer)) {}

func (s set) dots(f func(dot)) {
	for _, e := range s.elements {
		e.val.each(f)
	}
}

func (s set) newest() (at Instant) {
	for _, e := range s.elements {
		at = maxInstant(at, newestMark(e.val))
	}
	return at
}

func (s set) render() any {
	all := make([]json.RawMessage, 0, len(s.elements))
	for _, e := range s.elements {
		if in(e.val) {
			all = append(all, json.RawMessage(e.key))
		}
	}
	return all
}
