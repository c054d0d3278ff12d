package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wedge-cloud/wedge"
)

// A bed is a database under test with a clock that only the test moves.
type bed struct {
	*KV
	t     *testing.T
	now   atomic.Int64
	rules map[string]wedge.Store
}

func (b *bed) pass(d time.Duration) { b.now.Add(int64(d)) }

func (b *bed) forStore(seeds ...wedge.KVSeed) *Stores {
	return b.For("svc", map[string][]wedge.KVSeed{"s": seeds}, b.rules)
}

func newBed(t *testing.T, memory bool) *bed {
	b := &bed{t: t}
	b.now.Store(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	kv, err := Open(t.TempDir(), Options{Memory: memory, MinFree: 1, Now: func() time.Time { return time.Unix(0, b.now.Load()) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kv.Close() })
	b.KV = kv
	return b
}

// largest returns n, or how large a value may be in the scope under test.
func (b *bed) largest(n int) int {
	if scope := b.rules["s"].Scope; scope == wedge.ScopeCore || scope == wedge.ScopeHome {
		return min(n, MaxCoreValue-wedge.MaxKVMetadata)
	}
	return n
}

// keyLog is a core's log of keys.
type keyLog struct {
	mu  sync.Mutex
	seq uint64
	all map[string]wedge.Entry
	end func(writer string) (uint64, bool, error) // nil: no PoP is gone
}

func (l *keyLog) Last(_ context.Context, key string) (wedge.Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all[key], nil
}

func (l *keyLog) Append(_ context.Context, key string, last uint64, item []byte) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all[key].Seq != last {
		return 0, &wedge.Error{Kind: wedge.Conflict}
	}
	if l.all == nil {
		l.all = map[string]wedge.Entry{}
	}
	l.seq++
	l.all[key] = wedge.Entry{Seq: l.seq, Writer: key, Items: [][]byte{item}}
	return l.seq, nil
}

func (l *keyLog) End(_ context.Context, writer string) (uint64, bool, error) {
	if l.end == nil {
		return 0, false, nil
	}
	return l.end(writer)
}

// decides has the database ask a core with that log.
func (b *bed) decides(log *keyLog) {
	share, err := b.Share("")
	if err != nil {
		b.t.Fatal(err)
	}
	share.Known()
	share.renew()
	share.AskCore = func(ctx context.Context, question []byte) ([]byte, error) {
		return Decide(ctx, log, b.opts.PoP, bytes.Clone(question), b.opts.Now()), nil
	}
}

var bg = context.Background()

func put(t *testing.T, s *Stores, p wedge.KVPut) uint64 {
	t.Helper()
	gen, err := s.Put(bg, "s", p)
	if err != nil {
		t.Fatalf("put %q: %v", p.Key, err)
	}
	return gen
}

func want(t *testing.T, s *Stores, key, value string) wedge.KVValue {
	t.Helper()
	v, err := s.Get(bg, "s", key)
	if err != nil || string(v.Value) != value {
		t.Fatalf("get %q: %.40q, %v; want %.40q", key, v.Value, err, value)
	}
	return v
}

func wantKind(t *testing.T, err error, kind wedge.Kind) {
	t.Helper()
	if err == nil || wedge.KindOf(err) != kind {
		t.Fatalf("got %v (%v), want kind %v", err, wedge.KindOf(err), kind)
	}
}

func wantAbsent(t *testing.T, s *Stores, key string) {
	t.Helper()
	_, err := s.Get(bg, "s", key)
	wantKind(t, err, wedge.NotExist)
}

func wantKeys(t *testing.T, s *Stores, l wedge.KVList, more bool, keys ...string) {
	t.Helper()
	got, gotMore, err := s.List(bg, "s", l)
	if err != nil || !slices.Equal(got, keys) || gotMore != more {
		t.Fatalf("list %+v: %q, more %v, %v; want %q, more %v", l, got, gotMore, err, keys, more)
	}
}

// TestConformance runs every case in every scope, on disk and in memory: all must behave alike.
func TestConformance(t *testing.T) {
	cases := []struct {
		name string
		run  func(*testing.T, *bed)
	}{
		{"values", testValues}, {"modes", testModes}, {"generations", testGenerations}, {"expiry", testExpiry},
		{"list", testList}, {"seeds", testSeeds}, {"seed list", testSeedList}, {"tenants", testTenants}, {"limits", testLimits},
		{"contention", testContention}, {"corruption", testCorruption}, {"model", testModel}, {"closed", testClosed},
	}
	notInCore := map[string]bool{"corruption": true} // what a PoP has is the core's to mend in scope core
	for _, memory := range []bool{false, true} {
		for _, scope := range wedge.Scopes {
			for _, c := range cases {
				if notInCore[c.name] && scope == wedge.ScopeCore {
					continue
				}
				t.Run(fmt.Sprintf("%s/memory=%v/%s", c.name, memory, scope), func(t *testing.T) {
					b := newBed(t, memory)
					if scope == wedge.ScopeCore || scope == wedge.ScopeHome {
						b.decides(&keyLog{})
					}
					b.rules = map[string]wedge.Store{"s": {Scope: scope}, "t": {Scope: scope}}
					c.run(t, b)
				})
			}
		}
	}
}

func testValues(t *testing.T, b *bed) {
	s := b.forStore()
	if !s.Has("s") || s.Has("other") {
		t.Error("Has is wrong")
	}
	for _, n := range []int{0, 1, inlineMax, inlineMax + 1, b.largest(3 << 20), 10} { // one key grows and shrinks
		value := strings.Repeat("x", n)
		put(t, s, wedge.KVPut{Key: "k", Value: []byte(value)})
		want(t, s, "k", value)
	}
	meta := "m"
	put(t, s, wedge.KVPut{Key: "\x00\xff", Value: []byte("v"), Metadata: &meta})
	if v := want(t, s, "\x00\xff", "v"); v.Metadata != "m" || !v.Expires.IsZero() {
		t.Errorf("got %+v", v)
	}
	put(t, s, wedge.KVPut{Key: "\x00\xff", Value: []byte("v")})
	if v := want(t, s, "\x00\xff", "v"); v.Metadata != "" {
		t.Error("overwriting must drop the metadata")
	}
	wantAbsent(t, s, "no")
	if err := s.Delete(bg, "s", "k"); err != nil {
		t.Fatal(err)
	}
	wantAbsent(t, s, "k")
	wantKind(t, s.Delete(bg, "s", "k"), wedge.NotExist)
}

func testModes(t *testing.T, b *bed) {
	s := b.forStore()
	m := "first"
	put(t, s, wedge.KVPut{Key: "k", Value: []byte("b"), Mode: wedge.KVAppend, Metadata: &m})
	put(t, s, wedge.KVPut{Key: "k", Value: []byte("c"), Mode: wedge.KVAppend})
	put(t, s, wedge.KVPut{Key: "k", Value: []byte("a"), Mode: wedge.KVPrepend})
	if v := want(t, s, "k", "abc"); v.Metadata != "first" {
		t.Errorf("append must keep the metadata, got %q", v.Metadata)
	}
	m2 := "second"
	big := strings.Repeat("z", 2*inlineMax)
	put(t, s, wedge.KVPut{Key: "k", Value: []byte(big), Mode: wedge.KVAppend, Metadata: &m2})
	put(t, s, wedge.KVPut{Key: "k", Value: []byte("!"), Mode: wedge.KVAppend})
	if v := want(t, s, "k", "abc"+big+"!"); v.Metadata != "second" {
		t.Errorf("got metadata %q", v.Metadata)
	}
	_, err := s.Put(bg, "s", wedge.KVPut{Key: "k", Mode: wedge.KVAdd})
	wantKind(t, err, wedge.Exist)
	put(t, s, wedge.KVPut{Key: "new", Mode: wedge.KVAdd, Value: []byte("1")})
	want(t, s, "new", "1")
	_, err = s.Put(bg, "s", wedge.KVPut{Key: "k", Mode: 9})
	wantKind(t, err, wedge.Invalid)
}

func testGenerations(t *testing.T, b *bed) {
	s := b.forStore()
	seen := map[uint64]bool{0: true}
	last := uint64(0)
	for range 5 {
		last = put(t, s, wedge.KVPut{Key: "k"})
		if seen[last] {
			t.Fatalf("generation %d came twice", last)
		}
		seen[last] = true
		if v := want(t, s, "k", ""); v.Generation != last {
			t.Fatalf("read generation %d, written %d", v.Generation, last)
		}
		if len(seen)%2 == 0 {
			s.Delete(bg, "s", "k")
		}
	}
	put(t, s, wedge.KVPut{Key: "k"})
	_, err := s.Put(bg, "s", wedge.KVPut{Key: "k", IfGeneration: &last})
	wantKind(t, err, wedge.Conflict)
	_, err = s.Put(bg, "s", wedge.KVPut{Key: "absent", IfGeneration: &last})
	wantKind(t, err, wedge.Conflict)
	now := want(t, s, "k", "").Generation
	put(t, s, wedge.KVPut{Key: "k", Value: []byte("won"), IfGeneration: &now})
	want(t, s, "k", "won")
}

func testExpiry(t *testing.T, b *bed) {
	s := b.forStore(wedge.KVSeed{Key: "seeded", Value: []byte("seed")})
	for _, k := range []string{"a", "seeded", "renewed"} {
		put(t, s, wedge.KVPut{Key: k, Value: []byte("v"), TTL: time.Minute})
	}
	put(t, s, wedge.KVPut{Key: "large", Value: make([]byte, 2*inlineMax), TTL: time.Minute})
	put(t, s, wedge.KVPut{Key: "stays", Value: []byte("v"), TTL: time.Hour})
	if v := want(t, s, "a", "v"); !v.Expires.Equal(time.Unix(0, b.now.Load()).Add(time.Minute)) {
		t.Errorf("expires at %v", v.Expires)
	}
	put(t, s, wedge.KVPut{Key: "renewed", Value: []byte("v")})
	if n, err := b.Sweep(bg, 100); n != 0 || err != nil {
		t.Fatalf("swept %d, %v before anything expired", n, err)
	}
	b.pass(time.Minute)
	check := func() {
		t.Helper()
		wantAbsent(t, s, "a")
		wantAbsent(t, s, "seeded") // it was written, so its seed does not come back
		wantAbsent(t, s, "large")
		want(t, s, "renewed", "v")
		wantKeys(t, s, wedge.KVList{}, false, "renewed", "stays")
	}
	check()
	wantKind(t, s.Delete(bg, "s", "a"), wedge.NotExist)
	if n, err := b.Sweep(bg, 2); n != 2 || err != nil {
		t.Fatalf("a bounded sweep dealt with %d, %v", n, err)
	}
	check()
	if n, err := b.Sweep(bg, 100); n != 1 || err != nil {
		t.Fatalf("swept %d, %v", n, err)
	}
	check()
	wanted := 3 // renewed, stays, the tombstone of seeded
	switch b.rules["s"].Scope {
	case wedge.ScopeMerge:
		wanted = 2 // the value's record hides the seed
	case wedge.ScopeHome:
		wanted = 5 + 1 // and the directory has a record
	case wedge.ScopeCore:
		wanted = 5 // what is gone has a tombstone: others' seeds may lie under it
	}
	if got := countRecords(t, b.KV, headSpace); got != wanted {
		t.Errorf("%d heads left, want %d", got, wanted)
	}
	if values, index := countRecords(t, b.KV, valueSpace), countRecords(t, b.KV, expirySpace); values != 0 || index != 1 {
		t.Errorf("%d large values and %d index entries left", values, index)
	}
	put(t, s, wedge.KVPut{Key: "a", Mode: wedge.KVAdd, Value: []byte("again")})
	want(t, s, "a", "again")
	gone := put(t, s, wedge.KVPut{Key: "c", TTL: time.Second})
	b.pass(time.Second)
	_, err := s.Put(bg, "s", wedge.KVPut{Key: "c", IfGeneration: &gone})
	wantKind(t, err, wedge.Conflict)
}

func countRecords(t *testing.T, kv *KV, space byte) (n int) {
	it, err := kv.db.NewIter(&pebble.IterOptions{LowerBound: []byte{space}, UpperBound: []byte{space + 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	return n
}

func testList(t *testing.T, b *bed) {
	s := b.forStore()
	for _, k := range []string{"b", "a", "a/2", "a/1", "\xff\xff", "c"} {
		put(t, s, wedge.KVPut{Key: k})
	}
	wantKeys(t, s, wedge.KVList{}, false, "a", "a/1", "a/2", "b", "c", "\xff\xff")
	wantKeys(t, s, wedge.KVList{Limit: 2}, true, "a", "a/1")
	wantKeys(t, s, wedge.KVList{Limit: 6}, false, "a", "a/1", "a/2", "b", "c", "\xff\xff")
	wantKeys(t, s, wedge.KVList{Limit: 3, After: "a/1"}, true, "a/2", "b", "c")
	wantKeys(t, s, wedge.KVList{Prefix: "a/"}, false, "a/1", "a/2")
	wantKeys(t, s, wedge.KVList{Prefix: "a/", After: "a/1"}, false, "a/2")
	wantKeys(t, s, wedge.KVList{Prefix: "a/", After: "b"}, false)
	wantKeys(t, s, wedge.KVList{Prefix: "\xff"}, false, "\xff\xff")
	wantKeys(t, s, wedge.KVList{Prefix: "zzz"}, false)
	_, _, err := s.List(bg, "s", wedge.KVList{Prefix: strings.Repeat("p", wedge.MaxKVKey+1)})
	wantKind(t, err, wedge.Invalid)
}

func testSeeds(t *testing.T, b *bed) {
	seed := func(k, v string) wedge.KVSeed { return wedge.KVSeed{Key: k, Value: []byte(v), Metadata: "m" + v} }
	v1 := b.forStore(seed("kept", "1"), seed("written", "1"), seed("deleted", "1"), seed("dropped", "1"), seed("twice", "0"), seed("twice", "1"))
	v2 := b.forStore(seed("kept", "2"), seed("written", "2"), seed("deleted", "2"), seed("new", "2"))
	g1 := want(t, v1, "kept", "1").Generation
	if v := want(t, v1, "kept", "1"); v.Metadata != "m1" || v.Generation != g1 || g1 == 0 || g1 >= 1<<53 {
		t.Errorf("got %+v", v)
	}
	want(t, v1, "twice", "1")
	_, err := v1.Put(bg, "s", wedge.KVPut{Key: "written", Mode: wedge.KVAdd})
	wantKind(t, err, wedge.Exist)
	_, err = v1.Put(bg, "s", wedge.KVPut{Key: "written", IfGeneration: new(uint64)})
	wantKind(t, err, wedge.Conflict)
	gen := want(t, v1, "written", "1").Generation
	put(t, v1, wedge.KVPut{Key: "written", Value: []byte("+"), Mode: wedge.KVAppend, IfGeneration: &gen})
	if v := want(t, v1, "written", "1+"); v.Metadata != "m1" {
		t.Errorf("append to a seed lost the metadata: %q", v.Metadata)
	}
	if err := v1.Delete(bg, "s", "deleted"); err != nil {
		t.Fatal(err)
	}
	wantKind(t, v1.Delete(bg, "s", "deleted"), wedge.NotExist)
	wantAbsent(t, v1, "deleted")

	if g2 := want(t, v2, "kept", "2").Generation; g2 == g1 {
		t.Error("a changed seed must change the generation")
	}
	want(t, v2, "written", "1+")
	wantAbsent(t, v2, "deleted")
	wantAbsent(t, v2, "dropped")
	want(t, v2, "new", "2")
	want(t, v1, "kept", "1") // both versions live side by side

	put(t, v2, wedge.KVPut{Key: "deleted", Value: []byte("again"), TTL: time.Second})
	want(t, v2, "deleted", "again")
	b.pass(time.Second)
	wantAbsent(t, v2, "deleted")
	if err := v2.Delete(bg, "s", "written"); err != nil {
		t.Fatal(err)
	}
	wantAbsent(t, v1, "written")
}

func testSeedList(t *testing.T, b *bed) {
	s := b.forStore(wedge.KVSeed{Key: "a"}, wedge.KVSeed{Key: "c"}, wedge.KVSeed{Key: "e"}, wedge.KVSeed{Key: "g"})
	for _, k := range []string{"b", "c", "f"} {
		put(t, s, wedge.KVPut{Key: k})
	}
	s.Delete(bg, "s", "e")
	wantKeys(t, s, wedge.KVList{}, false, "a", "b", "c", "f", "g")
	wantKeys(t, s, wedge.KVList{Limit: 1}, true, "a")
	wantKeys(t, s, wedge.KVList{Limit: 2, After: "b"}, true, "c", "f")
	wantKeys(t, s, wedge.KVList{After: "f"}, false, "g")
	wantKeys(t, s, wedge.KVList{Prefix: "g"}, false, "g")
	wantKeys(t, b.forStore(), wedge.KVList{}, false, "b", "c", "f")
}

func testTenants(t *testing.T, b *bed) {
	bind := func(service string, names ...string) *Stores {
		m := map[string][]wedge.KVSeed{}
		for _, n := range names {
			m[n] = nil
		}
		return b.For(service, m, b.rules)
	}
	// Names that would collide if they were only joined.
	pairs := [][2]string{{"a", "bc"}, {"ab", "c"}, {"a", "b"}, {"", "abc"}, {"a\x00", "b"}, {"a", "\x00b"}, {"a\x01b", ""}}
	for i, p := range pairs {
		if _, err := bind(p[0], p[1]).Put(bg, p[1], wedge.KVPut{Key: "ck", Value: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	for i, p := range pairs {
		s := bind(p[0], p[1])
		v, err := s.Get(bg, p[1], "ck")
		if err != nil || string(v.Value) != fmt.Sprint(i) {
			t.Errorf("%q holds %q, %v", p, v.Value, err)
		}
		if keys, _, _ := s.List(bg, p[1], wedge.KVList{}); len(keys) != 1 {
			t.Errorf("%q lists %q", p, keys)
		}
	}
	_, err := bind("a", "b").Get(bg, "bc", "ck")
	wantKind(t, err, wedge.NotExist) // bound by another version only
}

func testLimits(t *testing.T, b *bed) {
	s := b.forStore()
	long := strings.Repeat("k", wedge.MaxKVKey)
	meta, largest := strings.Repeat("m", wedge.MaxKVMetadata), b.largest(wedge.MaxKVValue)
	put(t, s, wedge.KVPut{Key: long, Value: make([]byte, largest), Metadata: &meta})
	if v, err := s.Get(bg, "s", long); err != nil || len(v.Value) != largest || v.Metadata != meta {
		t.Fatalf("the largest of everything: %d bytes, %v", len(v.Value), err)
	}
	tooMuch := meta + "m"
	for _, c := range []struct {
		put  wedge.KVPut
		kind wedge.Kind
	}{
		{wedge.KVPut{Key: long + "k"}, wedge.Invalid},
		{wedge.KVPut{Key: ""}, wedge.Invalid},
		{wedge.KVPut{Key: "k", Metadata: &tooMuch}, wedge.Invalid},
		{wedge.KVPut{Key: "k", TTL: -1}, wedge.Invalid},
		{wedge.KVPut{Key: "k", Value: make([]byte, wedge.MaxKVValue+1)}, wedge.Exhausted},
		{wedge.KVPut{Key: long, Value: []byte("1"), Mode: wedge.KVAppend}, wedge.Exhausted},
		{wedge.KVPut{Key: long, Value: []byte("1"), Mode: wedge.KVPrepend}, wedge.Exhausted},
	} {
		_, err := s.Put(bg, "s", c.put)
		wantKind(t, err, c.kind)
	}
	_, err := s.Put(bg, "nope", wedge.KVPut{Key: "k"})
	wantKind(t, err, wedge.NotExist)
	b.full.Store(true)
	_, err = s.Put(bg, "s", wedge.KVPut{Key: "k"})
	wantKind(t, err, wedge.Unavailable)
	if b.rules["s"].Scope == wedge.ScopeHome {
		return // others have to be told
	}
	if err := s.Delete(bg, "s", long); err != nil {
		t.Errorf("deleting must work on a full disk: %v", err)
	}
}

// testContention makes many writers add to one key under IfGeneration and by append: no
// addition may be lost.
func testContention(t *testing.T, b *bed) {
	s := b.forStore()
	put(t, s, wedge.KVPut{Key: "cas"})
	const writers, rounds = 8, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range rounds {
				for {
					v, err := s.Get(bg, "s", "cas")
					if err != nil {
						t.Error(err)
						return
					}
					_, err = s.Put(bg, "s", wedge.KVPut{Key: "cas", Value: append(bytes.Clone(v.Value), 'x'), IfGeneration: &v.Generation})
					if err == nil {
						break
					}
					if wedge.KindOf(err) != wedge.Conflict {
						t.Error(err)
						return
					}
				}
				if _, err := s.Put(bg, "s", wedge.KVPut{Key: "app", Value: bytes.Repeat([]byte("y"), 100), Mode: wedge.KVAppend}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	want(t, s, "cas", strings.Repeat("x", writers*rounds))
	want(t, s, "app", strings.Repeat("y", 100*writers*rounds))
}

func testCorruption(t *testing.T, b *bed) {
	s := b.forStore()
	id := s.named["s"].id("k")
	large := (&head{large: true}).encode()
	for i, raw := range [][]byte{{}, {1}, {9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, {1, 0xf0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, {1, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1}, {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, large} {
		if err := b.db.Set(inSpace(headSpace, id), raw, pebble.NoSync); err != nil {
			t.Fatal(err)
		}
		b.lock(id)() // what was read before is not kept ready any more
		_, err := s.Get(bg, "s", "k")
		wantKind(t, err, wedge.Internal)
		if !strings.Contains(err.Error(), "corrupt") || wedge.HintOf(err) == "" {
			t.Errorf("record %d: %v", i, err)
		}
		_, err = s.Put(bg, "s", wedge.KVPut{Key: "k", Value: []byte("x"), Mode: wedge.KVAppend})
		wantKind(t, err, wedge.Internal)
		if i%2 == 0 {
			put(t, s, wedge.KVPut{Key: "k", Value: []byte("mended")})
			want(t, s, "k", "mended")
		} else if err := s.Delete(bg, "s", "k"); err != nil {
			t.Errorf("record %d: delete: %v", i, err)
		} else {
			wantAbsent(t, s, "k")
		}
	}
	b.db.Set(inSpace(headSpace, id), []byte{7}, pebble.NoSync)
	_, _, err := s.List(bg, "s", wedge.KVList{})
	wantKind(t, err, wedge.Internal)
	b.db.Set([]byte{expirySpace, 1}, nil, pebble.NoSync)
	b.db.Set(expiryKey(time.Unix(1, 0), id), nil, pebble.NoSync)
	if n, err := b.Sweep(bg, 10); n != 2 || err != nil {
		t.Errorf("sweep over damaged entries: %d, %v", n, err)
	}
}

// testModel does random things to the stores and to a plain map and compares.
func testModel(t *testing.T, b *bed) {
	type entry struct {
		value   string
		expires int64
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	s := b.forStore(wedge.KVSeed{Key: "k3", Value: []byte("seed")}, wedge.KVSeed{Key: "k30", Value: []byte("seed")})
	model := map[string]entry{"k3": {"seed", 0}, "k30": {"seed", 0}}
	live := func(k string) (string, bool) {
		e, ok := model[k]
		return e.value, ok && (e.expires == 0 || e.expires > b.now.Load())
	}
	for range 600 {
		key := fmt.Sprint("k", rnd.IntN(40))
		old, had := live(key)
		switch rnd.IntN(6) {
		case 0:
			if err := s.Delete(bg, "s", key); (err == nil) != had {
				t.Fatalf("delete %s: %v, had %v", key, err, had)
			}
			delete(model, key)
		case 1:
			b.pass(time.Second)
			if rnd.IntN(3) == 0 {
				b.Sweep(bg, 5)
			}
		default:
			p := wedge.KVPut{Key: key, Mode: wedge.KVMode(rnd.IntN(4)), Value: bytes.Repeat([]byte{byte('a' + rnd.IntN(26))}, rnd.IntN(2*inlineMax))}
			e := entry{value: string(p.Value)}
			if rnd.IntN(3) == 0 {
				p.TTL = time.Duration(1+rnd.IntN(20)) * time.Second
				e.expires = b.now.Load() + int64(p.TTL)
			}
			switch {
			case p.Mode == wedge.KVAppend && had:
				e.value = old + e.value
			case p.Mode == wedge.KVPrepend && had:
				e.value += old
			}
			_, err := s.Put(bg, "s", p)
			if refused := p.Mode == wedge.KVAdd && had; refused != (err != nil) {
				t.Fatalf("put %s mode %d: %v, had %v", key, p.Mode, err, had)
			} else if !refused {
				model[key] = e
			}
		}
		v, err := s.Get(bg, "s", key)
		if value, has := live(key); has != (err == nil) || has && string(v.Value) != value {
			t.Fatalf("%s: has %v, %v", key, has, err)
		}
	}
	var keys []string
	for k := range model {
		if _, ok := live(k); ok {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	wantKeys(t, s, wedge.KVList{}, false, keys...)
	var paged []string
	for after, more := "", true; more; {
		var page []string
		page, more, _ = s.List(bg, "s", wedge.KVList{After: after, Limit: 3})
		paged = append(paged, page...)
		if more {
			after = page[len(page)-1]
		}
	}
	if !slices.Equal(paged, keys) {
		t.Errorf("by pages %q, want %q", paged, keys)
	}
}

func testClosed(t *testing.T, b *bed) {
	s := b.forStore()
	ctx, cancel := context.WithCancelCause(bg)
	cancel(errors.New("gone"))
	_, err := s.Get(ctx, "s", "k")
	wantKind(t, err, wedge.Timeout)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	_, err = s.Get(bg, "s", "k")
	wantKind(t, err, wedge.Unavailable)
	_, err = s.Put(bg, "s", wedge.KVPut{Key: "k"})
	wantKind(t, err, wedge.Unavailable)
	wantKind(t, s.Delete(bg, "s", "k"), wedge.Unavailable)
	_, _, err = s.List(bg, "s", wedge.KVList{})
	wantKind(t, err, wedge.Unavailable)
	_, err = b.Sweep(bg, 1)
	wantKind(t, err, wedge.Unavailable)
}
