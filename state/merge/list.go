package merge

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/wedge-cloud/wedge"
)

// list is a replicated growable array (RGA): an item says after which other it was put, and stands right behind that one; of
// several with the same place the latest comes first. What is prepended has the beginning as its place. What is appended has
// the end, where the latest comes last. So items of a feed hang on nothing else, and lie in the order of their time.
//
// Items that were removed leave their place in gone, for those who put others behind them and have not seen that.
type list struct {
	items table[dot, item]
	gone  table[dot, Instant] // when they were removed. An item may be gone before it has come
}

type item struct {
	after dot // the zero dot: the beginning; atEnd: the end
	at    Instant
	value string // "" of an item that is gone
}

var atEnd = dot{seq: 1}

func (i item) join(o item) item {
	if c := i.after.compare(o.after); c != 0 || i.at != o.at {
		if c < 0 || c == 0 && i.at.compare(o.at) > 0 {
			return i
		}
		return o
	}
	if i.value < o.value {
		return o
	}
	return i
}

func (l list) apply(op *Op, c *change) (body, error) {
	c.after(l.newest())
	switch op.Op {
	case "clear":
		return clearAll(l, c), nil
	case "append":
		return l.put(atEnd, op, c)
	case "prepend":
		return l.put(dot{}, op, c)
	case "insert", "remove":
	default:
		return nil, unknownOp(List, op.Op)
	}
	d, err := parseDot(op.ID)
	if err != nil {
		return nil, err
	}
	if !l.items.has(d) {
		return nil, refuse(wedge.NotExist, fmt.Errorf("there is no item %q", op.ID), "It may have been removed: read the list again.")
	}
	if op.Op == "insert" {
		return l.put(l.living(d), op, c)
	}
	if l.gone.has(d) {
		return nil, nil
	}
	return list{gone: single(d, c.at)}, nil
}

// living returns an item, or of one that is gone, the last before it that is not: nobody puts anything behind what he knows to be gone, so that can be
// collected.
func (l list) living(d dot) (place dot) {
	if !l.gone.has(d) {
		return d
	}
	for _, i := range l.order() {
		switch key := l.items[i].key; {
		case key == d:
			return place
		case !l.gone.has(key):
			place = key
		}
	}
	return place
}

func (l list) put(after dot, op *Op, c *change) (body, error) {
	v, err := op.canonical()
	if err != nil {
		return nil, err
	}
	if op.Keep < 0 {
		return nil, refuse(wedge.Invalid, fmt.Errorf("keep %d", op.Keep), "Say how many items to keep, or nothing to keep all.")
	}
	delta := list{items: single(c.dot(), item{after, c.at, v})}
	if op.Keep > 0 {
		delta.gone = l.beyond(op.Keep-1, after == dot{}, c)
	}
	if len(l.items) >= MaxRows {
		return nil, full("items")
	}
	return delta, nil
}

// beyond removes items but for so many, from the end or from the beginning.
func (l list) beyond(keep int, fromEnd bool, c *change) (gone table[dot, Instant]) {
	all := l.order()
	all = slices.DeleteFunc(all, func(i int) bool { return l.gone.has(l.items[i].key) })
	if len(all) <= keep {
		return nil
	}
	drop := all[:len(all)-keep]
	if fromEnd {
		drop = all[keep:]
	}
	slices.Sort(drop)
	for _, i := range drop {
		gone = append(gone, row[dot, Instant]{l.items[i].key, c.at})
	}
	return gone
}

func (l list) age(a, b int) int {
	if c := l.items[a].val.at.compare(l.items[b].val.at); c != 0 {
		return c
	}
	return a - b
}

// place returns behind which item another lies, if that is there and older.
func (l list) place(i int) (p int, ok bool) {
	after := l.items[i].val.after
	if after == (dot{}) || after == atEnd {
		return 0, false
	}
	p, ok = l.items.find(after)
	return p, ok && l.age(p, i) < 0
}

// children returns for each item the items behind it, and those at the beginning and the end, in their order. An item whose
// place is not there (yet), or not older than itself, counts as appended: it is never lost from sight.
func (l list) children() (of map[int][]int, begin, end []int) {
	of = map[int][]int{}
	byAge := make([]int, len(l.items))
	for i := range byAge {
		byAge[i] = i
	}
	slices.SortFunc(byAge, l.age)
	for _, i := range byAge {
		p, ok := l.place(i)
		switch {
		case l.items[i].val.after == dot{}:
			begin = append(begin, i)
		case ok:
			of[p] = append(of[p], i)
		default:
			end = append(end, i)
		}
	}
	slices.Reverse(begin)
	return of, begin, end
}

// order returns the indexes of all items, in the list's order.
func (l list) order() []int {
	of, begin, end := l.children()
	out := make([]int, 0, len(l.items))
	for _, root := range append(begin, end...) {
		for todo := []int{root}; len(todo) > 0; {
			i := todo[len(todo)-1]
			out, todo = append(out, i), append(todo[:len(todo)-1], of[i]...) // the latest is taken first
		}
	}
	return out
}

// join drops the places of what one side has collected: it has seen the item and does not have it.
func (l list) join(o body, j *joining) body {
	p := o.(list)
	out := list{items: joinDots(l.items, p.items, j, item.join)}
	out.gone = zip(l.gone, p.gone, func(d dot, x, y *Instant) (Instant, bool) {
		keep := out.items.has(d) || !j.mine.has(d) && !j.theirs.has(d)
		switch {
		case x == nil:
			return *y, keep
		case y == nil || x.compare(*y) < 0:
			return *x, keep
		}
		return *y, keep
	})
	return out.forget()
}

// forget drops the values of what is gone.
func (l list) forget() list {
	cloned := false
	for _, g := range l.gone {
		i, ok := l.items.find(g.key)
		if !ok || l.items[i].val.value == "" {
			continue
		}
		if !cloned {
			l.items, cloned = slices.Clone(l.items), true
		}
		l.items[i].val.value = ""
	}
	return l
}

// collect takes places behind which there is nothing, or only others that it takes. It is done before each change, so it sorts nothing.
func (l list) collect(before Instant, c *change) {
	if !slices.ContainsFunc(l.gone, func(g row[dot, Instant]) bool { return g.val.compare(before) < 0 }) {
		return
	}
	drop := make([]bool, len(l.items))
	for i, r := range l.items {
		at, gone := l.gone.get(r.key)
		drop[i] = gone && at.compare(before) < 0
	}
	for i, gone := range drop {
		if gone {
			continue
		}
		for p, ok := l.place(i); ok && drop[p]; p, ok = l.place(p) {
			drop[p] = false // something stays behind it
		}
	}
	for i, r := range l.items {
		if drop[i] {
			c.covers(r.key)
		}
	}
}

func (l list) kind() Kind       { return List }
func (l list) empty() bool      { return len(l.items)+len(l.gone) == 0 }
func (l list) dots(f func(dot)) { l.items.each(f) }

func (l list) mentions(f func(Writer)) {
	l.gone.each(func(d dot) { f(d.writer) })
	for _, r := range l.items {
		if r.val.after.writer.PoP != "" {
			f(r.val.after.writer)
		}
	}
}

func (l list) newest() (at Instant) {
	for _, r := range l.items {
		at = maxInstant(at, r.val.at)
	}
	for _, r := range l.gone {
		at = maxInstant(at, r.val)
	}
	return at
}

// shownItem is an item as JSON shows it.
type shownItem struct {
	ID    string          `json:"id"`
	At    time.Time       `json:"at"`
	Value json.RawMessage `json:"value"`
}

func (l list) render() any {
	all := make([]shownItem, 0, len(l.items))
	for _, i := range l.order() {
		r := l.items[i]
		if !l.gone.has(r.key) {
			all = append(all, shownItem{r.key.String(), time.UnixMilli(r.val.at.Wall).UTC(), json.RawMessage(r.val.value)})
		}
	}
	return all
}
