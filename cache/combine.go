package cache

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
)

// Parts of one representation, which a strong entity tag tells, are put together (RFC 9111 section 3.4):
// those that touch become one, those that are all become the whole, and for a whole of which the
// beginning is there only the rest is asked for.

// combine joins o, a part that is whole now, with those parts of its entry that touch it.
func (f *flight) combine(o *object) {
	for o != nil && o.part() != nil && o.is(strong) {
		o = f.combineOnce(o)
	}
}

// combineOnce returns the object that o and another part have become, nil if there is no other.
func (f *flight) combineOnce(o *object) (joined *object) {
	e := f.c.entry(f.key)
	e.tidy()
	for _, p := range e.objects {
		if p.part() == nil && p.matches(f.fields) && p.asked() >= o.asked() { // the whole came meanwhile
			e.remove(o)
			e.unlock(f.c.cfg.Now())
			return nil
		}
	}
	for _, p := range e.objects {
		if p != o && p.sameParts(o) && p.body.whole() && p.matches(f.fields) && p.touches(o) && !o.is(dropped) && !e.purgedSince(f.c, p, f.pol.Service) {
			joined = join(o, p)
			e.remove(o)
			e.remove(p)
			e.add(joined)
			break
		}
	}
	e.unlock(f.c.cfg.Now())
	switch {
	case joined == nil:
	case f.c.keep(joined):
		f.c.store(joined)
	default:
		f.c.discard(joined)
	}
	return joined
}

// tidy takes out parts of what is there as a whole, too: disk may have kept both.
func (e *entry) tidy() {
	for _, p := range slices.Clone(e.objects) {
		if p.part() != nil && slices.ContainsFunc(e.objects, func(w *object) bool { return w.contains(p) }) {
			e.remove(p)
		}
	}
}

// contains reports whether o is the whole of which p is a part.
func (o *object) contains(p *object) bool {
	return o.part() == nil && o.is(strong) && o.fields.get("Etag") == p.fields.get("Etag") && o.kind == p.kind &&
		o.body.whole() && o.body.size == p.part().length
}

// touches reports whether two parts leave nothing out between them, and lie in memory.
func (o *object) touches(p *object) bool {
	a, b := o.part(), p.part()
	return a.from <= b.to && b.from <= a.to && o.body.inMemory() && p.body.inMemory()
}

// join makes one object of two parts that touch; what it says of itself is what o, the newer one, says.
func join(o, p *object) *object {
	first, second := o, p
	if p.part().from < o.part().from {
		first, second = p, o
	}
	from, middle, to := first.part().from, first.part().to, max(first.part().to, second.part().to)
	chunks := first.body.kept()
	if second.part().to > middle {
		chunks = append(chunks, beyond(second.body.kept(), middle-second.part().from)...)
	}
	f, older := o.facts(), p.facts()
	f.seq, f.sensitive, f.hits = min(f.seq, older.seq), f.sensitive || older.sensitive, 0
	f.keys = append(slices.Clip(f.keys), older.keys...)
	f.header["Content-Length"] = []string{strconv.FormatInt(to-from, 10)}
	if from == 0 && to == f.part.length {
		delete(f.header, "Content-Range")
		f.status, f.part = http.StatusOK, nil
	} else {
		f.part = &part{from, to, f.part.length}
		f.header["Content-Range"] = []string{f.part.String()}
	}
	j := f.object(wholeBody(chunks...))
	j.bytes = j.cost(to - from)
	return j
}

// beyond returns what follows so many bytes of a body's pieces.
func beyond(chunks [][]byte, skip int64) [][]byte {
	for len(chunks) > 0 && skip >= int64(len(chunks[0])) {
		skip -= int64(len(chunks[0]))
		chunks = chunks[1:]
	}
	if len(chunks) == 0 || skip == 0 {
		return chunks
	}
	return append([][]byte{chunks[0][skip:]}, chunks[1:]...)
}

// beginning returns a stored part from which a request for the whole can go on.
func (e *entry) beginning(c *Cache, service string, h http.Header) *object {
	for _, o := range e.objects {
		if o.part() != nil && o.part().from == 0 && o.is(strong) && o.body.whole() && o.matches(h) && !e.purgedSince(c, o, service) {
			return o
		}
	}
	return nil
}

// theRest returns the request for what is missing of o.
func theRest(req *http.Request, o *object) *http.Request {
	out := conditional(req, nil, "")
	out.Header["Range"] = []string{fmt.Sprintf("bytes=%d-", o.part().to)}
	out.Header["If-Range"] = []string{o.fields.get("Etag")}
	return out
}

// completed makes one response of a stored beginning and a 206 with the rest. Any other response is
// left as it is: it is one for the whole.
func (f *flight) completed(resp *http.Response) *http.Response {
	o := f.prefix
	p, ok := parsePart(resp.Header)
	if o == nil || resp.StatusCode != http.StatusPartialContent || !ok || p.from != o.part().to || p.to != o.part().length || p.length != o.part().length ||
		resp.Header.Get("Etag") != o.fields.get("Etag") || f.gone(o) {
		return resp
	}
	out := *resp
	out.StatusCode, out.Status, out.ContentLength = http.StatusOK, "200 OK", p.length
	out.Header = resp.Header.Clone()
	delete(out.Header, "Content-Range")
	out.Header["Content-Length"] = []string{strconv.FormatInt(p.length, 10)}
	begin, err := o.body.open(f.req.Context(), 0, -1)
	if err != nil {
		return resp
	}
	out.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(begin, resp.Body), closers{begin, resp.Body}}
	return &out
}
