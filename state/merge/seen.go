package merge

import "slices"

// seen is the set of dots that a value knows of, whether or not something of theirs is left: what is seen and not there
// was removed, so removal leaves nothing behind. It is sorted and never changed, only replaced. A writer whose changes all
// came takes one span, 1 to n, as in a version vector; each gap costs a span more until it is filled.
type seen []track

type track struct {
	writer Writer
	spans  []span // ascending, with a gap between any two
}

// span is the changes from one number to another, both included.
type span struct{ from, to uint64 }

func (s seen) of(w Writer) []span {
	i, ok := slices.BinarySearchFunc(s, w, func(t track, w Writer) int { return t.writer.compare(w) })
	if !ok {
		return nil
	}
	return s[i].spans
}

func (s seen) has(d dot) bool {
	_, ok := spanOf(s.of(d.writer), d.seq)
	return ok
}

// spanOf returns the span that a number is in.
func spanOf(spans []span, seq uint64) (span, bool) {
	i, ok := slices.BinarySearchFunc(spans, seq, func(p span, n uint64) int {
		switch {
		case p.to < n:
			return -1
		case p.from > n:
			return 1
		}
		return 0
	})
	if !ok {
		return span{}, false
	}
	return spans[i], true
}

// last returns the highest number seen of a writer.
func (s seen) last(w Writer) uint64 {
	if spans := s.of(w); len(spans) > 0 {
		return spans[len(spans)-1].to
	}
	return 0
}

// within reports whether o has all of s, but for what some writers wrote.
func (s seen) within(o seen, but ...Writer) bool {
	for _, t := range s {
		if slices.Contains(but, t.writer) {
			continue
		}
		theirs := o.of(t.writer)
		for _, p := range t.spans {
			if q, ok := spanOf(theirs, p.from); !ok || q.to < p.to {
				return false
			}
		}
	}
	return true
}

// without forgets a writer.
func (s seen) without(w Writer) seen {
	return slices.DeleteFunc(slices.Clone(s), func(t track) bool { return t.writer == w })
}

func (s seen) union(o seen) seen {
	out := make(seen, 0, max(len(s), len(o)))
	for len(s) > 0 && len(o) > 0 {
		switch c := s[0].writer.compare(o[0].writer); {
		case c < 0:
			out, s = append(out, s[0]), s[1:]
		case c > 0:
			out, o = append(out, o[0]), o[1:]
		default:
			out = append(out, track{s[0].writer, joinSpans(s[0].spans, o[0].spans)})
			s, o = s[1:], o[1:]
		}
	}
	return append(append(out, s...), o...)
}

func joinSpans(a, b []span) []span {
	if len(a) == 1 && len(b) == 1 && a[0].from <= b[0].from && a[0].to >= b[0].to {
		return a
	}
	out := make([]span, 0, len(a)+len(b))
	for len(a)+len(b) > 0 {
		if len(a) == 0 || len(b) > 0 && b[0].from < a[0].from {
			a, b = b, a
		}
		next := a[0]
		a = a[1:]
		if n := len(out); n > 0 && next.from <= out[n-1].to+1 {
			out[n-1].to = max(out[n-1].to, next.to)
		} else {
			out = append(out, next)
		}
	}
	return out
}
