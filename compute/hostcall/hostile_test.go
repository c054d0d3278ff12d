package hostcall

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/cache"
	"github.com/wedge-cloud/wedge/compute"
	"github.com/wedge-cloud/wedge/state"
)

// instantTransport answers after a millisecond; it reads the request's body to its end.
type instantTransport struct{}

func (instantTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	select {
	case <-time.After(time.Millisecond):
	case <-req.Context().Done():
	}
	if req.Body != nil {
		defer req.Body.Close()
		stop := context.AfterFunc(req.Context(), func() { req.Body.Close() })
		defer stop()
		// A guest may never end its body; the backend would lose patience.
		patience := time.AfterFunc(time.Second, func() { req.Body.Close() })
		defer patience.Stop()
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return nil, &wedge.FetchError{Failure: wedge.FailureIncomplete, Err: err}
		}
	}
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	body := strings.NewReader("a body of a response")
	return &http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"X-Y": {"z"}}, Body: io.NopCloser(body), ContentLength: -1, Request: req}, nil
}

// hostile is a guest that makes any call with any words.
type hostile struct {
	sb     *compute.Sandbox
	mem    []byte
	defs   []*abi.Def
	makers []*abi.Def // calls that open handles
	table  map[*abi.Def]compute.Func

	called map[*abi.Def]map[abi.Status]int
}

// notTried are calls that unwind the guest, or sleep for centuries: the clock of the bubble ends in 2262.
var notTried = []string{"proc_exit", "proc_raise", "poll_oneoff"}

func newHostile(t *testing.T) *hostile {
	v := &wedge.Version{
		Service: "s", DynamicBackend: true,
		Backends:     []wedge.Backend{staticBackend(t, "b", "http://h")},
		ConfigStores: map[string]map[string]string{"b": {"b": "v"}},
		SecretStores: map[string]map[string]wedge.Secret{"b": {"b": wedge.Secret("v")}},
		ACLs:         map[string][]wedge.ACLEntry{"b": nil},
		Limits:       wedge.Limits{HostcallBytes: 1 << 20, Fetches: 10_000, RequestsInReuse: 3},
	}
	h := testHost(v)
	h.Fetch = instantTransport{}
	h.KV = emptyKV{}
	h.Rates = state.NewRates().For(v.Service)
	h.Cache = impatient{guestCache{cache.New(cache.Config{Next: instantTransport{}, Memory: 4 << 20})}}
	h.Purge = func(wedge.Purge) error { return nil }
	h.Log = func(string, []byte) {}
	h.Output = func(int, []byte) {}
	h.Monotonic = func() int64 { return time.Now().UnixNano() }
	e := newExec(context.Background(), h, v.Limits)
	e.pool = &pool{restart: func(*incoming) {}}
	r := httptest.NewRequest("POST", "http://h/x", strings.NewReader(strings.Repeat("request body ", 1000)))
	in := newIncoming(r, func() error { return errors.New("no") }, h.Rand)
	e.begin(in)
	go listen(in)
	x := &hostile{sb: &compute.Sandbox{Host: h, State: e}, mem: make([]byte, 1<<16), table: Table(), called: map[*abi.Def]map[abi.Status]int{}}
	for d := range x.table {
		if !slices.Contains(notTried, d.Name) {
			x.defs = append(x.defs, d)
		}
	}
	slices.SortFunc(x.defs, func(a, b *abi.Def) int { return a.Index - b.Index })
	for _, name := range []string{"fastly_http_req.new", "fastly_http_req.new", "fastly_http_resp.new", "fastly_http_body.new", "fastly_http_body.new",
		"fastly_http_req.send_async", "fastly_http_req.send_async_streaming", "fastly_cache.transaction_lookup", "fastly_cache.transaction_lookup_async", "fastly_cache.replace",
		"fastly_http_cache.transaction_lookup", "fastly_kv_store.lookup", "fastly_kv_store.insert", "fastly_kv_store.list", "fastly_http_cache.get_suggested_backend_request"} {
		module, call, _ := strings.Cut(name, ".")
		x.makers = append(x.makers, abi.Lookup(module, call))
	}
	t.Cleanup(func() {
		e.end(errors.New("over"))
		close(in.gone)
		time.Sleep(time.Minute)
	})
	return x
}

// listen plays the handler.
func listen(in *incoming) {
	for {
		select {
		case rep := <-in.replies:
			if rep.pending != nil {
				rep.pending.drop()
			}
			if rep.body != nil {
				stop := time.AfterFunc(time.Second, rep.body.leave)
				for {
					if _, err := rep.body.next(context.Background(), make([]byte, 100)); err != nil {
						break
					}
				}
				stop.Stop()
				rep.body.leave()
			}
		case <-in.gone:
			return
		}
	}
}

// emptyKV is a store that forgets everything.
type emptyKV struct{}

func (emptyKV) Has(string) bool { return true }
func (emptyKV) Get(context.Context, string, string) (wedge.KVValue, error) {
	return wedge.KVValue{Value: []byte("v")}, nil
}
func (emptyKV) Put(context.Context, string, wedge.KVPut) (uint64, error) { return 1, nil }
func (emptyKV) Delete(context.Context, string, string) error             { return nil }
func (emptyKV) List(context.Context, string, wedge.KVList) ([]string, bool, error) {
	return []string{"k"}, true, nil
}

// impatient waits a second for what may never come: that a guest waits for itself.
type impatient struct{ guestCache }

func (c impatient) Look(ctx context.Context, l wedge.CacheLookup) (compute.CacheTransaction, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	entry, err := c.guestCache.Look(ctx, l)
	if entry != nil {
		entry = impatientTransaction{entry}
	}
	return entry, err
}

type impatientTransaction struct{ compute.CacheTransaction }

func (e impatientTransaction) Open(ctx context.Context, from, n int64) (io.ReadCloser, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	time.AfterFunc(time.Second, cancel)
	return e.CacheTransaction.Open(ctx, from, n)
}

func (e impatientTransaction) Response(ctx context.Context, asked bool) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	time.AfterFunc(time.Second, cancel)
	return e.CacheTransaction.Response(ctx, asked)
}

func (e impatientTransaction) Insert(w wedge.CacheWrite, body io.ReadCloser, awaited bool) (compute.CacheTransaction, error) {
	entry, err := e.CacheTransaction.Insert(w, body, awaited)
	return impatientTransaction{entry}, err
}

func (e impatientTransaction) Update(w wedge.CacheWrite) (compute.CacheTransaction, error) {
	entry, err := e.CacheTransaction.Update(w)
	return impatientTransaction{entry}, err
}

// run makes the calls that data describes: two bytes choose the call, one whether its words
// are plausible, and each word takes a byte that says of what kind it is and two of value.
func (x *hostile) run(t *testing.T, data []byte) {
	rd := bytes.NewReader(data)
	e := x.sb.State.(*exec)
	for {
		var pick [3]byte
		if _, err := io.ReadFull(rd, pick[:]); err != nil {
			return
		}
		d := x.defs[int(binary.LittleEndian.Uint16(pick[:]))%len(x.defs)]
		if pick[2] >= 128 { // half of the calls make handles for the others
			d = x.makers[int(pick[0])%len(x.makers)]
		}
		var words []uint64
		for _, p := range d.Params {
			words = x.param(rd, words, d, p, pick[2]%4 != 0)
		}
		if d.Name == "select" && words[2] == 0 {
			words[2] = 1 // for ever, for what never comes
		}
		status := x.sb.Dispatch(d, x.table[d], x.mem, words)
		if x.called[d] == nil {
			x.called[d] = map[abi.Status]int{}
		}
		x.called[d][status]++
		if used := e.account.used.Load(); used < 0 || used > e.account.limit {
			t.Fatalf("%s%v: account at %d of %d", d, words, used, e.account.limit)
		}
	}
}

// param appends the words of one parameter of d.
func (x *hostile) param(rd *bytes.Reader, words []uint64, d *abi.Def, p abi.Param, plausible bool) []uint64 {
	v := x.word(rd)
	switch {
	case !plausible:
		if words = append(words, v); p.Words() == 2 {
			words = append(words, x.word(rd))
		}
		return words
	case p.Shape == abi.Value:
		return append(words, x.value(d, p.Name, v))
	case p.Shape == abi.List:
		const at = 1 << 14
		for i := range uint32(3) {
			binary.LittleEndian.PutUint32(x.mem[at+4*i:], uint32(x.value(d, p.Name, v+uint64(i))))
		}
		return append(words, at, v%4)
	case p.Shape == abi.Str && v%4 != 3:
		return append(words, 0, 1) // "b"
	case p.Words() == 2:
		return append(words, 8+v%1000, x.word(rd)%64)
	}
	return append(words, 1<<15+v%(1<<14)) // out of the way of what is read
}

// value returns an open handle of the kind that the parameter wants, if there is one, else a small number.
func (x *hostile) value(d *abi.Def, name string, v uint64) uint64 {
	if fit := x.fitting(d, name); len(fit) > 0 && v%8 != 7 {
		return uint64(fit[len(fit)-1-int(v/8)%min(len(fit), 4)])
	}
	return v % 4
}

// fitting returns the open handles that a call can do something with.
func (x *hostile) fitting(d *abi.Def, name string) []uint32 {
	e, is := x.sb.State.(*exec), strings.Contains
	items := func(ok func(item) bool) []uint32 { return open(&e.items, ok) }
	switch call := d.Module + "." + d.Name + " " + name; {
	case is(call, "body_handle"), is(call, "fastly_http_body."), strings.HasSuffix(call, " b"):
		return items(isA[*body])
	case is(call, "pending_req"), is(call, "send_downstream_pending"):
		return items(isA[*pending])
	case is(call, "req_handle"), is(call, "fastly_http_req."), is(call, "fastly_http_downstream.") && name == "req":
		return open(&e.requests, func(*request) bool { return true })
	case is(call, "resp_handle"), is(call, " response"), is(call, "fastly_http_resp."):
		return open(&e.answers, func(*response) bool { return true })
	case is(call, "next_request"):
		return items(isA[*promise])
	case is(call, "fastly_http_cache."):
		return items(cachedAs(responseHandle))
	case is(call, "busy"):
		return items(cachedAs(busyHandle))
	case is(call, "replace_"):
		return items(cachedAs(replaceHandle))
	case is(call, "fastly_cache."):
		return items(cachedAs(objectHandle))
	case is(call, "lookup_wait"):
		return items(isA[pendingLookup])
	case is(call, "insert_wait"):
		return items(isA[pendingInsert])
	case is(call, "delete_wait"):
		return items(isA[pendingDelete])
	case is(call, "list_wait"):
		return items(isA[pendingList])
	case is(call, "fastly_async_io.") && is(name, "h"):
		return items(func(item) bool { return true })
	}
	return nil
}

func isA[T item](it item) bool { _, ok := it.(T); return ok }

func cachedAs(kind cacheKind) func(item) bool {
	return func(it item) bool { d, ok := it.(*cached); return ok && d.kind == kind }
}

// open returns the numbers of a table's open handles whose values are ok.
func open[T any](t *table[T], ok func(T) bool) (nums []uint32) {
	for _, r := range t.rows {
		if r.open && ok(r.val) {
			nums = append(nums, r.num)
		}
	}
	return nums
}

func (x *hostile) word(rd *bytes.Reader) uint64 {
	var b [3]byte
	rd.Read(b[:])
	v := uint64(binary.LittleEndian.Uint16(b[1:]))
	switch b[0] % 8 {
	case 0, 1, 2:
		return v % 8 // a handle, a flag, a small length
	case 3:
		return v // inside memory
	case 4:
		return uint64(len(x.mem)) - v%32
	case 5:
		return [...]uint64{0xFFFFFFFE, 0xFFFFFFFF, 0x80000000, 1 << 16, 1<<32 - 16}[v%5]
	case 6:
		return v % 1024
	}
	return 1 << (v % 32)
}

// fill puts things into memory that calls may take for names, values and structs.
func (x *hostile) fill(r *rand.Rand) {
	for i := range x.mem {
		x.mem[i] = "b\x00\x01\x02Az/%-: \xff"[r.IntN(12)]
	}
	for i := 0; i+4 < len(x.mem); i += 4 * (1 + r.IntN(8)) {
		binary.LittleEndian.PutUint32(x.mem[i:], uint32(x.word(bytes.NewReader([]byte{byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())}))))
	}
	copy(x.mem, "bbbbbbbb")
}

// TestHostileGuest makes every call many times with every kind of word. Time is not real: a
// call that hangs is a deadlock here.
func TestHostileGuest(t *testing.T) {
	called := map[*abi.Def]map[abi.Status]int{}
	for seed := range uint64(15) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			x := newHostile(t)
			x.fill(r)
			data := make([]byte, 80<<10)
			for i := range data {
				data[i] = byte(r.Uint32())
			}
			x.run(t, data)
			for d, by := range x.called {
				if called[d] == nil {
					called[d] = map[abi.Status]int{}
				}
				for s, n := range by {
					called[d][s] += n
				}
			}
		})
	}
	// Only of an object that is stale by permission can the stale one be chosen: badf for all else is its right answer.
	lucky := append([]string{"transaction_choose_stale"}, notTried...)
	for d := range Table() {
		if n := called[d]; !slices.Contains(lucky, d.Name) && (len(n) == 0 || len(n) == 1 && n[abi.BadHandle] > 0) {
			t.Errorf("%s was not tried beyond its handle: %v", d, n)
		}
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 256<<20 {
		t.Errorf("%d bytes on the heap", m.HeapAlloc)
	}
}

func FuzzCalls(f *testing.F) {
	f.Add([]byte("some calls with some words"), uint64(1))
	f.Add(bytes.Repeat([]byte{7, 0, 3, 0, 1, 0, 2}, 50), uint64(2))
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		if len(data) > 4096 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			x := newHostile(t)
			x.fill(rand.New(rand.NewPCG(seed, 1)))
			x.run(t, data)
		})
	})
}
