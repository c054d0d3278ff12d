package cache

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
)

// What a guest inserts is an object of which the guest says how long it is fresh, by which fields
// variants differ and which surrogate keys purge it. All else, from the spool to the purges, it has in
// common with a response that was fetched; if it is one, fetches are answered with it too.

// errLength is how a body ends that is not as long as it was said to be.
var errLength = errors.New("the body is not as long as was said when its insertion began")

// Object describes what was found; false: nothing was.
func (t *Transaction) Object() (i wedge.CacheObject, ok bool) {
	o := t.found
	if o == nil {
		return i, false
	}
	i = wedge.CacheObject{
		MaxAge: o.lifetime, SWR: o.swr.duration(), SIE: o.sie.duration(), Age: o.ageAt(t.c.cfg.Now()), Hits: uint64(o.hits.Load()),
		Length: o.length(), Metadata: o.metadata(), Sensitive: o.is(sensitive),
	}
	i.Whole = i.Length >= 0 && o.body.whole()
	if vary := o.kind.Value().vary; vary != "" {
		i.Vary = strings.Split(vary, ",")
	}
	for _, k := range o.keys() {
		if !strings.HasPrefix(k, "\x00") { // none of a guest's own: see groupKey and urlKey
			i.SurrogateKeys = append(i.SurrogateKeys, k)
		}
	}
	return i, true
}

// Open reads n bytes of the body of what was found, from an offset; n < 0: all that follow.
func (t *Transaction) Open(ctx context.Context, from, n int64) (io.ReadCloser, error) {
	if t.found == nil {
		return nil, errNoObligation
	}
	r, err := t.found.body.open(ctx, from, n)
	t.reading()
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Insert begins to keep what body gives, for everybody to read from now on. It returns a Transaction that
// has found it. awaited: that one's body will be read.
func (t *Transaction) Insert(w wedge.CacheWrite, body io.ReadCloser, awaited bool) (*Transaction, error) {
	f, err := t.claim()
	if err != nil {
		return nil, err
	}
	if w.Header != nil && !f.listed {
		f.fields = w.Header
	}
	now := t.c.cfg.Now()
	about := t.facts(f, &w, now)
	o := about.object(newSpool(awaited))
	f.obj, f.stored = o, true
	f.land(o, now)
	go f.bring(o, body, w.Length)
	return t.holding(o, awaited), nil
}

// holding returns a Transaction that has found o.
func (t *Transaction) holding(o *object, awaited bool) *Transaction {
	h := &Transaction{c: t.c, pol: t.pol, req: t.req, fields: t.fields, key: t.key, found: o, state: wedge.CacheFound | wedge.CacheUsable}
	if awaited {
		h.awaited = o.body
	}
	return h
}

// facts returns what w says of an object.
func (t *Transaction) facts(f *flight, w *wedge.CacheWrite, now time.Time) facts {
	o := facts{
		status: w.Status, header: http.Header{}, asked: now, came: now, age: w.InitialAge, lifetime: w.MaxAge, swr: w.SWR, sie: w.SIE,
		keys: w.SurrogateKeys, seq: f.seq, metadata: w.Metadata, sensitive: w.Sensitive || t.pol.Sensitive, service: t.pol.Service,
	}
	o.vary = varies(http.Header{"Vary": w.Vary})
	o.variant = variant(o.vary, f.fields)
	if t.req != nil {
		t.asResponse(&o, w)
	}
	if delete(o.header, "Content-Length"); w.Length >= 0 {
		o.header["Content-Length"] = []string{strconv.FormatInt(w.Length, 10)}
	}
	return o
}

// bring takes the body in. What proves too large is not kept, and whoever writes it need not know. A body of known
// length is whole when that much has come, for writers forget to end it; if more follows, it is not kept after all.
func (f *flight) bring(o *object, body io.ReadCloser, length int64) {
	defer body.Close()
	src := io.NopCloser(&exactly{body, length})
	err := f.c.fill(o, &http.Response{Body: src, ContentLength: -1}, true)
	if err != nil {
		_, _ = io.Copy(io.Discard, body)
	}
	if err != nil || !f.c.keep(o) {
		f.c.discard(o)
		return
	}
	f.supersede(o)
	f.c.store(o)
	if n, _ := io.CopyN(io.Discard, body, 1); n > 0 {
		f.c.discard(o)
	}
}

// exactly reads a body that must be as long as left says; -1: of any length.
type exactly struct {
	src  io.Reader
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.src.Read(p)
	if e.left < 0 {
		return n, err
	}
	if e.left -= int64(n); e.left < 0 || err == io.EOF && e.left > 0 {
		e.left = 0
		return 0, errLength
	}
	return n, err
}

// Update keeps the body of what was found and changes all else. It returns a Transaction that has found that.
func (t *Transaction) Update(w wedge.CacheWrite) (*Transaction, error) {
	base := t.found
	if base == nil {
		return nil, errNoObligation
	}
	f, err := t.claim()
	if err != nil {
		return nil, err
	}
	now := t.c.cfg.Now()
	w.Length = base.length()
	if w.Metadata == nil {
		w.Metadata = base.metadata()
	}
	if vary := base.kind.Value().vary; w.Vary == nil && vary != "" {
		w.Vary = []string{vary}
	}
	about := t.facts(f, &w, now)
	about.sensitive = about.sensitive || base.is(sensitive) // its body is
	about.part, about.trailer, about.hits = base.part(), base.trailer(), base.hits.Load()
	o := about.object(base.body)
	o.bytes = o.cost(w.Length)
	f.obj, f.stored = o, true
	f.land(o, now)
	if f.c.keep(o) {
		f.supersede(o)
		f.c.store(o)
	}
	return t.holding(o, false), nil
}

// asResponse gives an object what only responses have.
func (t *Transaction) asResponse(o *facts, w *wedge.CacheWrite) {
	v := judge(t.req, w.Status, w.Response, o.asked, o.came, t.pol)
	o.noStale = v.noStale && w.SWR+w.SIE == 0 // whoever says how long it may be stale means it
	o.header = storedFields(w.Response, nil)
	o.keys = slices.Clip(o.keys)
	if t.pol.Space != "" || t.pol.Key != "" {
		o.keys = append(o.keys, urlKey(t.req))
	}
	for _, g := range groups(w.Response["Cache-Groups"]) {
		o.keys = append(o.keys, groupKey(t.req, g))
	}
	o.date()
}
