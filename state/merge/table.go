package merge

import "slices"

// table is a map whose rows lie in the order of their keys: encoding, decoding and joining go through it once. It is
// never changed, only replaced, so values may share tables.
type table[K ordered[K], V any] []row[K, V]

type row[K, V any] struct {
	key K
	val V
}

type ordered[K any] interface{ compare(K) int }

func single[K ordered[K], V any](k K, v V) table[K, V] { return table[K, V]{{k, v}} }

func (t table[K, V]) find(k K) (int, bool) {
	return slices.BinarySearchFunc(t, k, func(r row[K, V], k K) int { return r.key.compare(k) })
}

func (t table[K, V]) get(k K) (v V, ok bool) {
	i, ok := t.find(k)
	if ok {
		v = t[i].val
	}
	return v, ok
}

func (t table[K, V]) has(k K) bool {
	_, ok := t.find(k)
	return ok
}

// with returns a table that has one row more, or another value in it.
func (t table[K, V]) with(k K, v V) table[K, V] {
	i, ok := t.find(k)
	if ok {
		t = slices.Clone(t)
		t[i].val = v
		return t
	}
	return slices.Insert(slices.Clip(t), i, row[K, V]{k, v})
}

// zip makes a table of what pick keeps of two. Where only one has the key, pick gets nil for the other.
func zip[K ordered[K], V any](a, b table[K, V], pick func(k K, x, y *V) (V, bool)) table[K, V] {
	out := make(table[K, V], 0, max(len(a), len(b)))
	keep := func(k K, x, y *V) {
		if v, ok := pick(k, x, y); ok {
			out = append(out, row[K, V]{k, v})
		}
	}
	for len(a) > 0 && len(b) > 0 {
		switch c := a[0].key.compare(b[0].key); {
		case c < 0:
			keep(a[0].key, &a[0].val, nil)
			a = a[1:]
		case c > 0:
			keep(b[0].key, nil, &b[0].val)
			b = b[1:]
		default:
			keep(a[0].key, &a[0].val, &b[0].val)
			a, b = a[1:], b[1:]
		}
	}
	for i := range a {
		keep(a[i].key, &a[i].val, nil)
	}
	for i := range b {
		keep(b[i].key, nil, &b[i].val)
	}
	return out
}

// joinDots joins what two values have under dots: a row that only one has stays unless the other has seen its dot, and so
// removed it. Where both have it, same says what it is, which is no question unless somebody lies.
func joinDots[V any](a, b table[dot, V], j *joining, same func(x, y V) V) table[dot, V] {
	if len(b) == 0 && !a.any(j.theirs.has) {
		return a // most of a large value is not touched by a delta
	}
	return zip(a, b, func(d dot, x, y *V) (v V, keep bool) {
		switch {
		case y == nil:
			return *x, !j.theirs.has(d)
		case x == nil:
			return *y, !j.mine.has(d)
		}
		return same(*x, *y), true
	})
}

// each calls f with the keys.
func (t table[K, V]) each(f func(K)) {
	for i := range t {
		f(t[i].key)
	}
}

func (t table[K, V]) any(f func(K) bool) bool {
	for i := range t {
		if f(t[i].key) {
			return true
		}
	}
	return false
}
