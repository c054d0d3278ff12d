package merge

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/wedge-cloud/wedge"
)

// fields is a map. A field is a name with a kind: two who make fields of one name and different kinds, knowing nothing of
// each other, make two fields. A field is there as long as there is anything in it, so whoever drops it drops what he has seen,
// and what others do to it at the same time stays.
type fields struct {
	rows table[field, body]
}

type field struct {
	name string
	kind Kind
}

func (f field) compare(o field) int {
	return cmp.Or(cmp.Compare(f.name, o.name), cmp.Compare(f.kind, o.kind))
}

func (m fields) apply(op *Op, c *change) (body, error) {
	if len(op.Path) == 0 {
		return m.whole(op, c)
	}
	name := op.Path[0]
	if err := checkName(name); err != nil {
		return nil, err
	}
	if c.depth++; c.depth > MaxDepth {
		return nil, refuse(wedge.Invalid, errors.New("the path is too long"), fmt.Sprintf("Maps lie in maps at most %d deep.", MaxDepth))
	}
	inner := *op
	inner.Path = op.Path[1:]
	if len(inner.Path) > 0 {
		inner.Kind = Map
	} else if op.Op == "drop" {
		return m.drop(name, c), nil
	}
	k, err := m.kindOf(name, inner.Kind)
	if err != nil {
		return nil, err
	}
	inner.Kind = op.Kind
	b, ok := m.rows.get(field{name, k})
	if !ok {
		b = k.blank()
	}
	if !ok && len(m.rows) >= MaxRows {
		return nil, full("fields")
	}
	d, err := b.apply(&inner, c)
	if d == nil || err != nil {
		return nil, err
	}
	return one(name, d), nil
}

// one returns the map with one field, and without it if that is empty.
func one(name string, b body) fields {
	if b.empty() {
		return fields{}
	}
	return fields{single(field{name, b.kind()}, b)}
}

// whole is an operation on the map itself.
func (m fields) whole(op *Op, c *change) (body, error) {
	if op.Op == "clear" {
		return clearAll(m, c), nil
	}
	if op.Op != "adopt" {
		return nil, unknownOp(Map, op.Op)
	}
	var out fields
	found := false
	for _, f := range m.rows {
		if k := f.key.kind; k != Grow && k != Counter && k != Map {
			continue
		}
		d, err := f.val.apply(op, c)
		if err != nil {
			return nil, err
		}
		if d != nil {
			out.rows, found = append(out.rows, row[field, body]{f.key, d}), true
		}
	}
	if !found {
		return nil, nil
	}
	return out, nil
}

// named returns the fields of a name.
func (m fields) named(name string) table[field, body] {
	from, _ := m.rows.find(field{name, 0})
	to, _ := m.rows.find(field{name, endKinds})
	return m.rows[from:to]
}

// kindOf returns the kind of the field that an operation means; want is 0 if it does not say.
func (m fields) kindOf(name string, want Kind) (Kind, error) {
	there := m.named(name)
	switch {
	case want == Stock:
		return 0, refuse(wedge.Invalid, errors.New("a stock in a map"), "Give the stock a key of its own: a map that is dropped would forget what was sold.")
	case want == 0 && len(there) == 0:
		return 0, refuse(wedge.NotExist, fmt.Errorf("there is no field %q", name), "Say in the operation of which kind it is to be.")
	case want == 0:
		return there[0].key.kind, nil
	case len(there) == 0 || m.rows.has(field{name, want}):
		return want, nil
	}
	return 0, refuse(wedge.Conflict, fmt.Errorf("the field %q is of kind %v", name, there[0].key.kind), "Use another name, or drop that field first.")
}

func (m fields) drop(name string, c *change) body {
	there := m.named(name)
	for _, f := range there {
		f.val.dots(c.covers)
	}
	if len(there) == 0 {
		return nil
	}
	return fields{}
}

func (m fields) join(o body, j *joining) body {
	return fields{zip(m.rows, o.(fields).rows, func(f field, x, y *body) (body, bool) {
		a, b := f.kind.blank(), f.kind.blank()
		if x != nil {
			a = *x
		}
		if y != nil {
			b = *y
		}
		j.path = append(j.path, f.name)
		out := a.join(b, j)
		j.path = j.path[:len(j.path)-1]
		return out, !out.empty()
	})}
}

func (m fields) collect(before Instant, c *change) {
	for _, r := range m.rows {
		r.val.collect(before, c)
	}
}

func (m fields) kind() Kind  { return Map }
func (m fields) empty() bool { return len(m.rows) == 0 }

func (m fields) dots(f func(dot)) {
	for _, r := range m.rows {
		r.val.dots(f)
	}
}

func (m fields) mentions(f func(Writer)) {
	for _, r := range m.rows {
		r.val.mentions(f)
	}
}

func (m fields) newest() (at Instant) {
	for _, r := range m.rows {
		at = maxInstant(at, r.val.newest())
	}
	return at
}

// render shows a second field of one name as name:kind.
func (m fields) render() any {
	all := make(map[string]any, len(m.rows))
	for _, r := range m.rows {
		name := r.key.name
		if bare(r.val) {
			continue // it keeps only that something was removed
		}
		if _, twice := all[name]; twice {
			name += ":" + r.key.kind.String()
		}
		all[name] = r.val.render()
	}
	return all
}
