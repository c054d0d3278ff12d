package node

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/compute"
	"github.com/wedge-cloud/wedge/compute/hostcall"
)

// Shadows. While a release is in its shadow stage, some requests are answered by the live version as ever, and what its guest got from outside
// is recorded. Then the candidate's guest gets the same request, and from its host calls what was recorded; what it wants to do outside is
// compared with what the live one did, and not done. No client waits for that, or sees anything of it.
//
// What cannot be recorded is not compared: long bodies, upgrades, the cache's guest calls. A candidate that fetches what the live version did not
// gets an error, and differs.

const (
	shadowBody   = 1 << 20 // bytes of a request's or response's body that are recorded
	shadowMemory = 8 << 20 // bytes of one record
	shadowsOnce  = 8       // at once, on this node
	shadowTime   = 30 * time.Second
)

// shadower answers with the live version, and now and then has the candidate answer the same.
type shadower struct {
	http.Handler // the live version's
	node         *Node
	live, beside *deployment
	share        float64 // in percent of requests
}

// ServeHTTP implements http.Handler.
func (s *shadower) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if rand.Float64()*100 >= s.share {
		s.Handler.ServeHTTP(w, r)
		return
	}
	select {
	case s.node.shadows <- struct{}{}:
	default:
		s.node.shadowStats.dropped.Add(1)
		s.Handler.ServeHTTP(w, r)
		return
	}
	body, ok := smallBody(r)
	if !ok {
		<-s.node.shadows
		s.node.shadowStats.dropped.Add(1)
		s.Handler.ServeHTTP(w, r)
		return
	}
	s.node.shadowStats.taken.Add(1)
	s.live.calls.Add(1)
	s.beside.calls.Add(1)
	rec := &record{}
	again := r.Clone(context.WithoutCancel(r.Context()))
	answer := &shadowAnswer{ResponseWriter: w}
	h := s.live.handlerWith(rec.of(s.live.host))
	defer func() {
		if recover() != nil { // as when a response is broken off
			rec.skip()
			go s.compare(h, rec, again, body, answer)
			panic(http.ErrAbortHandler)
		}
		go s.compare(h, rec, again, body, answer)
	}()
	h.ServeHTTP(answer, r)
}

// smallBody reads a request's body if it is small, and puts it back.
func smallBody(r *http.Request) ([]byte, bool) {
	if r.Header["Upgrade"] != nil || r.ContentLength < 0 || r.ContentLength > shadowBody || r.Header["Expect"] != nil {
		return nil, false
	}
	if r.ContentLength == 0 {
		return nil, true
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, r.ContentLength))
	rest := r.Body
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(b), rest), rest}
	return b, err == nil
}

// compare has the candidate answer what the live version has, once that has come to its end.
func (s *shadower) compare(h versionHandler, rec *record, r *http.Request, body []byte, live *shadowAnswer) {
	defer func() { <-s.node.shadows }()
	ctx, cancel := context.WithTimeout(context.Background(), shadowTime)
	defer cancel()
	ended := h.Wait(ctx) == nil
	h.Close()
	s.live.calls.Done()
	defer s.beside.calls.Done()
	if !ended || !rec.seal() {
		s.node.shadowStats.dropped.Add(1)
		return
	}
	p := &player{record: rec}
	answer := &shadowAnswer{ResponseWriter: nowhere{}, own: http.Header{}}
	fresh := s.beside.handlerWith(p.of(s.beside.host, s.live.version.Number))
	r.Body = io.NopCloser(bytes.NewReader(body))
	client := wedge.Client{}
	if c := wedge.ClientFrom(r.Context()); c != nil {
		client = *c
	}
	func() {
		defer func() { answer.cut = recover() != nil }()
		fresh.ServeHTTP(answer, r.WithContext(wedge.WithClient(ctx, &client)))
	}()
	ended = fresh.Wait(ctx) == nil
	fresh.Close()
	why := answer.differs(live)
	if why == "" {
		why = p.differs()
	}
	if !ended {
		why = fmt.Sprintf("it does not come to its end within %v", shadowTime)
	}
	if why != "" {
		why = fmt.Sprintf("%s %s: %s", r.Method, r.URL.Path, why)
	}
	s.node.fleet.applier.shadowed(s.beside.version, why)
}

// handlerWith returns a handler of the version whose sandboxes have another host.
func (d *deployment) handlerWith(host *compute.Host) versionHandler {
	cfg := d.guest
	cfg.Host = host
	if d.module.Info.CGI {
		return hostcall.NewCGI(cfg)
	}
	return hostcall.New(cfg)
}

// shadowAnswer notes what a version answers.
type shadowAnswer struct {
	http.ResponseWriter
	own    http.Header // of an answer that nobody gets
	status int
	header http.Header
	sum    hash.Hash
	size   int64
	cut    bool
}

// Header implements http.ResponseWriter.
func (a *shadowAnswer) Header() http.Header {
	if a.own != nil {
		return a.own
	}
	return a.ResponseWriter.Header()
}

// Unwrap is for http.ResponseController.
func (a *shadowAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (a *shadowAnswer) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status, a.header, a.sum = status, a.Header().Clone(), sha256.New()
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *shadowAnswer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	a.sum.Write(b)
	a.size += int64(len(b))
	return a.ResponseWriter.Write(b)
}

// unlike are fields that differ from one answer to the next anyway.
var unlike = []string{"Date", "Age", "X-Request-Id", "Cache-Status", "Server-Timing"}

// differs says how the answer differs from the live version's, "" if it does not.
func (a *shadowAnswer) differs(live *shadowAnswer) string {
	if a.cut != live.cut || a.status != live.status {
		return fmt.Sprintf("status %d instead of %d", a.status, live.status)
	}
	for name, values := range live.header {
		if !slices.Contains(unlike, name) && values != nil && !slices.Equal(values, a.header[name]) {
			return "another " + name
		}
	}
	for name, values := range a.header {
		if _, ok := live.header[name]; !ok && values != nil && !slices.Contains(unlike, name) {
			return "a field " + name + " more"
		}
	}
	if a.size != live.size {
		return fmt.Sprintf("a body of %d bytes instead of %d", a.size, live.size)
	}
	if a.sum != nil && live.sum != nil && !bytes.Equal(a.sum.Sum(nil), live.sum.Sum(nil)) {
		return fmt.Sprintf("another body of %d bytes", a.size)
	}
	return ""
}

// record is what a guest got from outside, and did there.
type record struct {
	mu      sync.Mutex
	fetches map[string][]*recorded // by what was asked, in order
	reads   map[string][]read      // of stores and counters
	effects []string
	random  []byte
	times   []time.Time
	size    int64
	sealed  bool
	cannot  bool // something was not recorded
}

type recorded struct {
	resp *http.Response // without its body
	err  error
	body bytes.Buffer
	all  bool // the body has come to its end
}

type read struct {
	value any
	err   error
}

func (c *record) skip() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cannot = true
}

// note records something of so many bytes.
func (c *record) note(size int, f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.size += int64(size); c.size > shadowMemory || c.sealed {
		c.cannot = true
		return
	}
	f()
}

func (c *record) did(effect string) {
	c.note(len(effect), func() { c.effects = append(c.effects, effect) })
}

// seal ends the recording and reports whether it is whole.
func (c *record) seal() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sealed = true
	return !c.cannot
}

// of returns a host that records what goes through it.
func (c *record) of(h *compute.Host) *compute.Host {
	out := *h
	out.Fetch = recordedFetch{c, h.Fetch}
	out.KV, out.Rates = recordedKV{h.KV, c}, recordedRates{h.Rates, c}
	if h.Cache != nil {
		out.Cache = noCache{h.Cache, c.skip}
	}
	out.Purge = func(p wedge.Purge) error {
		c.did(effectOf("purge", p.URL, strings.Join(p.Keys, " "), fmt.Sprint(p.All, p.Soft)))
		return h.Purge(p)
	}
	out.Log = func(endpoint string, line []byte) {
		c.did(effectOf("log", endpoint, string(line)))
		h.Log(endpoint, line)
	}
	out.Now = func() time.Time {
		now := h.Now()
		c.note(24, func() { c.times = append(c.times, now) })
		return now
	}
	out.Rand = recordedRand{h.Rand, c}
	return &out
}

// effectOf names something that a guest does outside; of what is long or secret only a digest is kept.
func effectOf(what string, of ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(of[1:], "\x00")))
	return what + " " + of[0] + " " + hex.EncodeToString(sum[:8])
}

// asked names a fetch.
func asked(req *http.Request) string {
	name := ""
	if b := wedge.BackendFrom(req.Context()); b != nil {
		name = b.Name
	}
	return req.Method + " " + name + " " + req.Host + " " + req.URL.String()
}

type recordedFetch struct {
	rec  *record
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (f recordedFetch) RoundTrip(req *http.Request) (*http.Response, error) {
	what := asked(req)
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		f.rec.did("fetch " + what)
	}
	resp, err := f.next.RoundTrip(req)
	e := &recorded{err: err}
	if resp != nil {
		if resp.StatusCode == http.StatusSwitchingProtocols {
			f.rec.skip()
			return resp, err
		}
		c := *resp
		c.Header, c.Body = resp.Header.Clone(), nil
		e.resp = &c
		resp.Body = &recordedBody{ReadCloser: resp.Body, rec: f.rec, to: e}
	}
	f.rec.note(500, func() {
		if f.rec.fetches == nil {
			f.rec.fetches = map[string][]*recorded{}
		}
		f.rec.fetches[what] = append(f.rec.fetches[what], e)
	})
	return resp, err
}

type recordedBody struct {
	io.ReadCloser
	rec *record
	to  *recorded
}

// Read implements io.Reader.
func (b *recordedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.rec.note(n, func() {
		b.to.body.Write(p[:n])
		b.to.all = b.to.all || err == io.EOF
	})
	return n, err
}

type recordedKV struct {
	compute.KV
	rec *record
}

func (k recordedKV) read(what string, value any, err error, size int) {
	k.rec.note(size+len(what), func() {
		if k.rec.reads == nil {
			k.rec.reads = map[string][]read{}
		}
		k.rec.reads[what] = append(k.rec.reads[what], read{value, err})
	})
}

// Get implements compute.KV.
func (k recordedKV) Get(ctx context.Context, store, key string) (wedge.KVValue, error) {
	v, err := k.KV.Get(ctx, store, key)
	k.read("get "+store+" "+key, v, err, len(v.Value))
	return v, err
}

// Put implements compute.KV.
func (k recordedKV) Put(ctx context.Context, store string, put wedge.KVPut) (uint64, error) {
	k.rec.did(putEffect(store, &put))
	gen, err := k.KV.Put(ctx, store, put)
	k.read("put "+store+" "+put.Key, gen, err, 8)
	return gen, err
}

func putEffect(store string, p *wedge.KVPut) string {
	meta := ""
	if p.Metadata != nil {
		meta = *p.Metadata
	}
	return effectOf("put", store+" "+p.Key, string(p.Value), meta, fmt.Sprint(p.Mode, p.TTL, p.IfGeneration != nil))
}

// Delete implements compute.KV.
func (k recordedKV) Delete(ctx context.Context, store, key string) error {
	k.rec.did("delete " + store + " " + key)
	err := k.KV.Delete(ctx, store, key)
	k.read("delete "+store+" "+key, nil, err, 8)
	return err
}

type listed struct {
	keys []string
	more bool
}

// List implements compute.KV.
func (k recordedKV) List(ctx context.Context, store string, l wedge.KVList) ([]string, bool, error) {
	keys, more, err := k.KV.List(ctx, store, l)
	k.read(listName(store, &l), listed{keys, more}, err, 64*len(keys))
	return keys, more, err
}

func listName(store string, l *wedge.KVList) string {
	return fmt.Sprintf("list %s %q %q %d", store, l.Prefix, l.After, l.Limit)
}

type recordedRates struct {
	compute.Rates
	rec *record
}

// Add implements compute.Rates.
func (r recordedRates) Add(counter, key string, n uint32) {
	r.rec.did(effectOf("count", counter, key, fmt.Sprint(n)))
	r.Rates.Add(counter, key, n)
}

// Over implements compute.Rates.
func (r recordedRates) Over(counter, key string, n uint32, window time.Duration, most uint64) (bool, func(context.Context) bool) {
	r.rec.did(effectOf("count", counter, key, fmt.Sprint(n)))
	read := func(over bool) bool {
		recordedKV{rec: r.rec}.read(overName(counter, key, window, most), over, nil, 8)
		return over
	}
	over, wait := r.Rates.Over(counter, key, n, window, most)
	if wait == nil {
		return read(over), nil
	}
	return false, func(ctx context.Context) bool { return read(wait(ctx)) }
}

func overName(counter, key string, window time.Duration, most uint64) string {
	return fmt.Sprintf("over %s %s %v %d", counter, key, window, most)
}

// Count implements compute.Rates.
func (r recordedRates) Count(counter, key string, window time.Duration) uint64 {
	n := r.Rates.Count(counter, key, window)
	recordedKV{rec: r.rec}.read(fmt.Sprintf("rate %s %s %v", counter, key, window), n, nil, 8)
	return n
}

// Penalize implements compute.Rates.
func (r recordedRates) Penalize(box, key string, d time.Duration) {
	r.rec.did(effectOf("penalize", box, key, d.String()))
	r.Rates.Penalize(box, key, d)
}

// Penalized implements compute.Rates.
func (r recordedRates) Penalized(box, key string) bool {
	in := r.Rates.Penalized(box, key)
	recordedKV{rec: r.rec}.read("box "+box+" "+key, in, nil, 8)
	return in
}

type recordedRand struct {
	io.Reader
	rec *record
}

// Read implements io.Reader.
func (r recordedRand) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.rec.note(n, func() { r.rec.random = append(r.rec.random, p[:n]...) })
	return n, err
}

// noCache is a cache whose use by guests makes a shadow worthless.
type noCache struct {
	compute.Cache
	used func()
}

// Look implements compute.Cache.
func (c noCache) Look(ctx context.Context, l wedge.CacheLookup) (compute.CacheTransaction, error) {
	c.used()
	if c.Cache == nil {
		return nil, errShadow
	}
	return c.Cache.Look(ctx, l)
}

// player gives a guest what another got.
type player struct {
	record  *record // sealed
	mu      sync.Mutex
	fetched map[string]int // of each fetch, how many were played
	taken   map[string]int // and of each read
	own     map[string]read
	effects []string
	wrong   string // what was wanted and is not recorded
	random  int
	ticks   int
}

var errShadow = &wedge.Error{Op: "answer from the record", Kind: wedge.Unavailable, Err: errors.New("the version before did not ask for that")}

func (p *player) miss(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrong = cmp.Or(p.wrong, what)
}

func (p *player) did(effect string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.effects = append(p.effects, effect)
}

// differs says how what the guest did differs from what was recorded.
func (p *player) differs() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wrong != "" {
		return p.wrong
	}
	was, now := slices.Clone(p.record.effects), slices.Clone(p.effects)
	slices.Sort(was) // what is done at the same time has no order
	slices.Sort(now)
	for i := 0; i < len(was) || i < len(now); i++ {
		switch {
		case i >= len(now) || i < len(was) && was[i] < now[i]:
			return "it does not " + short(was[i])
		case i >= len(was) || now[i] < was[i]:
			return "it does besides " + short(now[i])
		}
	}
	return ""
}

// short is what is shown of it: a query may have secrets.
func short(s string) string {
	s, _, _ = strings.Cut(s, "?")
	return s[:min(len(s), 80)]
}

// of returns a host that answers from the record, and does nothing. Guests that show their version's number are to show the other's.
func (p *player) of(h *compute.Host, number int) *compute.Host {
	out, v := *h, *h.Version
	v.Number, out.Version = number, &v
	out.Fetch, out.KV, out.Rates = playedFetch{p}, playedKV{h.KV, p}, playedRates{p}
	out.Cache = noCache{nil, func() { p.miss("it uses the cache by its own calls") }}
	out.Purge = func(o wedge.Purge) error {
		p.did(effectOf("purge", o.URL, strings.Join(o.Keys, " "), fmt.Sprint(o.All, o.Soft)))
		return nil
	}
	out.Log = func(endpoint string, line []byte) { p.did(effectOf("log", endpoint, string(line))) }
	out.Output = func(int, []byte) {}
	out.Now = func() time.Time {
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.record.times) == 0 {
			return h.Now()
		}
		p.ticks++
		return p.record.times[min(p.ticks, len(p.record.times))-1]
	}
	out.Rand = playedRand{p, h.Rand}
	return &out
}

type playedFetch struct{ p *player }

// RoundTrip implements http.RoundTripper.
func (f playedFetch) RoundTrip(req *http.Request) (*http.Response, error) {
	what := asked(req)
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		f.p.did("fetch " + what)
	}
	if req.Body != nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(req.Body, shadowBody))
		req.Body.Close()
	}
	f.p.mu.Lock()
	i := f.p.fetched[what]
	if f.p.fetched == nil {
		f.p.fetched = map[string]int{}
	}
	f.p.fetched[what]++
	f.p.mu.Unlock()
	all := f.p.record.fetches[what]
	if i >= len(all) {
		f.p.miss("it fetches " + short(what))
		return nil, &wedge.FetchError{Failure: wedge.FailureUnavailable, Err: errShadow}
	}
	e := all[i]
	if e.err != nil {
		return nil, e.err
	}
	resp := *e.resp
	resp.Header, resp.Request = e.resp.Header.Clone(), req
	var body io.Reader = bytes.NewReader(e.body.Bytes())
	if !e.all && req.Method != http.MethodHead {
		body = io.MultiReader(body, &notRecorded{f.p})
	}
	resp.Body = io.NopCloser(body)
	return &resp, nil
}

// notRecorded is the rest of a body that the version before did not read.
type notRecorded struct{ p *player }

// Read implements io.Reader.
func (n *notRecorded) Read([]byte) (int, error) {
	n.p.miss("it reads more of a response")
	return 0, &wedge.FetchError{Failure: wedge.FailureIncomplete, Err: errShadow}
}

type playedKV struct {
	compute.KV // for Has
	p          *player
}

// take returns what was read then, or what the guest has written itself since.
func (k playedKV) take(what string) read {
	k.p.mu.Lock()
	if r, ok := k.p.own[what]; ok {
		k.p.mu.Unlock()
		return r
	}
	if k.p.taken == nil {
		k.p.taken = map[string]int{}
	}
	i, all := k.p.taken[what], k.p.record.reads[what]
	k.p.taken[what]++
	k.p.mu.Unlock()
	if len(all) == 0 {
		k.p.miss("it asks for " + short(what))
		return read{nil, errShadow}
	}
	return all[min(i, len(all)-1)]
}

func (k playedKV) wrote(what string, r read) {
	k.p.mu.Lock()
	defer k.p.mu.Unlock()
	if k.p.own == nil {
		k.p.own = map[string]read{}
	}
	k.p.own[what] = r
}

// Get implements compute.KV.
func (k playedKV) Get(_ context.Context, store, key string) (wedge.KVValue, error) {
	r := k.take("get " + store + " " + key)
	v, _ := r.value.(wedge.KVValue)
	return v, r.err
}

// Put implements compute.KV.
func (k playedKV) Put(_ context.Context, store string, put wedge.KVPut) (uint64, error) {
	k.p.did(putEffect(store, &put))
	k.p.mu.Lock()
	known := len(k.p.record.reads["put "+store+" "+put.Key]) > 0
	k.p.mu.Unlock()
	gen := uint64(1)
	if known {
		r := k.take("put " + store + " " + put.Key)
		if r.err != nil {
			return 0, r.err
		}
		gen, _ = r.value.(uint64)
	}
	if put.Mode == wedge.KVOverwrite || put.Mode == wedge.KVAdd {
		v := wedge.KVValue{Value: put.Value, Generation: gen}
		if put.Metadata != nil {
			v.Metadata = *put.Metadata
		}
		k.wrote("get "+store+" "+put.Key, read{v, nil})
	}
	return gen, nil
}

// Delete implements compute.KV.
func (k playedKV) Delete(_ context.Context, store, key string) error {
	k.p.did("delete " + store + " " + key)
	k.wrote("get "+store+" "+key, read{nil, &wedge.Error{Op: "get key", What: key, Kind: wedge.NotExist}})
	if all := k.p.record.reads["delete "+store+" "+key]; len(all) > 0 {
		return all[0].err
	}
	return nil
}

// List implements compute.KV.
func (k playedKV) List(_ context.Context, store string, l wedge.KVList) ([]string, bool, error) {
	r := k.take(listName(store, &l))
	v, _ := r.value.(listed)
	return slices.Clone(v.keys), v.more, r.err
}

type playedRates struct{ p *player }

func (r playedRates) Add(counter, key string, n uint32) {
	r.p.did(effectOf("count", counter, key, fmt.Sprint(n)))
}

func (r playedRates) Over(counter, key string, n uint32, window time.Duration, most uint64) (bool, func(context.Context) bool) {
	r.p.did(effectOf("count", counter, key, fmt.Sprint(n)))
	over, _ := playedKV{p: r.p}.take(overName(counter, key, window, most)).value.(bool)
	return over, nil
}

func (r playedRates) Count(counter, key string, window time.Duration) uint64 {
	n, _ := playedKV{p: r.p}.take(fmt.Sprintf("rate %s %s %v", counter, key, window)).value.(uint64)
	return n
}

func (r playedRates) Penalize(box, key string, d time.Duration) {
	r.p.did(effectOf("penalize", box, key, d.String()))
}

func (r playedRates) Penalized(box, key string) bool {
	in, _ := playedKV{p: r.p}.take("box " + box + " " + key).value.(bool)
	return in
}

type playedRand struct {
	p    *player
	next io.Reader
}

// Read implements io.Reader.
func (r playedRand) Read(b []byte) (int, error) {
	r.p.mu.Lock()
	n := copy(b, r.p.record.random[r.p.random:])
	r.p.random += n
	r.p.mu.Unlock()
	if n < len(b) {
		m, err := r.next.Read(b[n:])
		return n + m, err
	}
	return n, nil
}

// shadowStats counts on a node.
type shadowStats struct{ taken, dropped atomic.Int64 }
