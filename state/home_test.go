package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state/merge"
)

// homesLab is PoPs that have stores of scope home in common, with goroutines that carry what they write, late, and a network that loses questions and answers.
type homesLab struct {
	t     *testing.T
	keys  *keyLog
	fault atomic.Int64 // of 1000 questions, those that are lost, and as many answers

	mu   sync.Mutex
	log  []wedge.Entry // of state
	kept []wedge.Entry // of keys
	pops []*homePoP
}

type homePoP struct {
	*testPoP
	mu     sync.RWMutex // held for writing while it is closed
	closed bool
	stop   context.CancelFunc
	done   sync.WaitGroup
	keysAt int
	mute   atomic.Bool // what it writes is not carried to the log
}

var errLost = errors.New("lost on the way")

func newHomesLab(t *testing.T, names ...string) *homesLab {
	l := &homesLab{t: t, keys: &keyLog{}}
	for _, name := range names {
		p := &homePoP{testPoP: &testPoP{name: name, dir: t.TempDir()}}
		l.pops = append(l.pops, p)
		l.open(p)
		t.Cleanup(func() { l.close(p) })
	}
	return l
}

func (l *homesLab) open(p *homePoP) {
	var err error
	if p.kv, err = Open(p.dir, Options{PoP: p.name, MinFree: 1}); err == nil {
		p.share, err = p.kv.Share("")
	}
	if err != nil {
		l.t.Error(err)
		return
	}
	p.share.Known()
	p.share.renew()
	p.share.AskCore = func(_ context.Context, question []byte) (answer []byte, err error) {
		return l.lossy(func() []byte { return l.decide(p.name, question) })
	}
	p.share.AskHome = func(ctx context.Context, pop, service string, question []byte) ([]byte, error) {
		to := l.named(pop)
		if to == nil || service != "shop" {
			return nil, errLost
		}
		to.mu.RLock()
		defer to.mu.RUnlock()
		if to.closed {
			return nil, errLost
		}
		return l.lossy(func() []byte { return to.s.AnswerHome(ctx, &wedge.PoP{Name: p.name}, bytes.Clone(question)) })
	}
	p.s = p.kv.For("shop", map[string][]wedge.KVSeed{"s": {{Key: "seed", Value: []byte("planted")}}}, map[string]wedge.Store{"s": {Scope: wedge.ScopeHome, Split: "/"}})
	ctx, stop := context.WithCancel(context.Background())
	p.stop, p.closed = stop, false
	p.done.Go(func() { l.carry(ctx, p) })
}

func (l *homesLab) close(p *homePoP) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	p.stop()
	p.done.Wait()
	p.kv.Close()
}

func (l *homesLab) named(name string) *homePoP {
	for _, p := range l.pops {
		if p.name == name {
			return p
		}
	}
	return nil
}

// lossy loses the question, or the answer, now and then.
func (l *homesLab) lossy(f func() []byte) ([]byte, error) {
	if rand.Int64N(1000) < l.fault.Load() {
		return nil, errLost
	}
	b := f()
	if rand.Int64N(1000) < l.fault.Load() {
		return nil, errLost
	}
	return b, nil
}

func (l *homesLab) decide(pop string, question []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.keys.seq
	answer := Decide(bg, l.keys, pop, bytes.Clone(question), time.Now())
	if l.keys.seq > before {
		for _, e := range l.keys.all {
			if e.Seq == l.keys.seq {
				l.kept = append(l.kept, e)
			}
		}
	}
	return answer
}

// carry brings what a PoP writes to the log, and what is there to the PoP.
func (l *homesLab) carry(ctx context.Context, p *homePoP) {
	for ctx.Err() == nil {
		items, err := p.share.Box().Next(p.sent, 7)
		if err != nil {
			return // it is closed
		}
		l.mu.Lock()
		if len(items) > 0 && !p.mute.Load() {
			l.log = append(l.log, wedge.Entry{Seq: uint64(len(l.log) + 1), Writer: p.share.Writer(), First: p.sent + 1, Items: items, At: time.Now()})
			p.sent += uint64(len(items))
		}
		entries, kept := l.log[p.next:], l.kept[p.keysAt:]
		l.mu.Unlock()
		errs := make(chan error, 2)
		go func() {
			for _, e := range kept {
				if err := p.share.TakeKeys(e); err != nil {
					errs <- err
					return
				}
				p.keysAt++
			}
			p.share.Fresh(wedge.ScopeCore, time.Now())
			p.share.Fresh(wedge.ScopeCore, time.Now())
			errs <- nil
		}()
		go func() {
			for _, e := range entries {
				if err := p.share.Take(e); err != nil {
					errs <- err
					return
				}
				p.next++
			}
			errs <- nil
		}()
		if err := errors.Join(<-errs, <-errs); err != nil && ctx.Err() == nil {
			l.t.Logf("%s takes: %v", p.name, err) // and again
		}
		_ = p.share.SettleHomes(ctx)
		time.Sleep(rand.N(4 * time.Millisecond))
	}
}

// in is an operation of the history, and out what it has answered.
type homeIn struct{ op, key, value string }

// TestHomeLinearizable: appends, writes and reads of what is newest at any PoP are as if one after the other, each once, while homes move, questions and
// answers are lost, and PoPs are closed and opened again.
func TestHomeLinearizable(t *testing.T) {
	l := newHomesLab(t, "lhr", "nyc", "nrt")
	l.fault.Store(20)
	length := 1500 * time.Millisecond
	if os.Getenv("WEDGE_SOAK") != "" {
		length = time.Minute
	}
	ctx, stop := context.WithTimeout(bg, length)
	defer stop()
	var mu sync.Mutex
	var history []porcupine.Operation
	unknown := map[string]bool{} // values of writes that may have been carried out or not
	began := time.Now()
	var w sync.WaitGroup
	keys := []string{"a/1", "a/2", "b/1", "c"}
	for client := range 6 {
		w.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				p := l.pops[rand.IntN(len(l.pops))]
				in := homeIn{[]string{"append", "append", "put", "get", "get"}[rand.IntN(5)], keys[rand.IntN(len(keys))], fmt.Sprintf("%d.%d,", client, n)}
				call := time.Since(began).Nanoseconds()
				out, done := p.operate(in)
				ret := time.Since(began).Nanoseconds()
				mu.Lock()
				switch {
				case done:
					history = append(history, porcupine.Operation{ClientId: client, Input: in, Output: out, Call: call, Return: ret})
				case in.op != "get": // it may be carried out at any time from now on
					unknown[in.value] = true
					history = append(history, porcupine.Operation{ClientId: 100 + len(history), Input: in, Output: "?", Call: call, Return: 1 << 60})
				}
				mu.Unlock()
				time.Sleep(rand.N(6 * time.Millisecond))
			}
		})
	}
	moves, closes := 0, 0
	w.Go(func() {
		for ctx.Err() == nil {
			time.Sleep(rand.N(20 * time.Millisecond))
			if rand.IntN(20) == 0 {
				p := l.pops[rand.IntN(len(l.pops))]
				l.close(p)
				time.Sleep(rand.N(30 * time.Millisecond))
				p.mu.Lock()
				l.open(p)
				p.mu.Unlock()
				closes++
				continue
			}
			u := unitOf("shop", "s", "/", keys[rand.IntN(len(keys))])
			for _, p := range l.pops {
				to := l.pops[rand.IntN(len(l.pops))].share.kv.writer
				if err := p.share.MoveHome(bg, u, to, false); err == nil {
					moves++
					break
				}
			}
		}
	})
	w.Wait()
	l.fault.Store(0)
	// What was never seen may be left out: the rest of the history must hold with or without it.
	seen := map[string]bool{}
	for _, op := range history {
		for v := range strings.SplitAfterSeq(op.Output.(string), ",") {
			seen[v] = true
		}
	}
	kept := history[:0]
	for _, op := range history {
		if in := op.Input.(homeIn); op.Output != "?" || seen[in.value] {
			kept = append(kept, op)
		}
	}
	result, info := porcupine.CheckOperationsVerbose(homeModel, kept, 60*time.Second)
	if result != porcupine.Ok {
		_ = porcupine.VisualizePath(homeModel, info, t.TempDir()+"/history.html")
		t.Errorf("the history is not linearizable: %v", result)
	}
	t.Logf("%d operations, %d of unknown outcome, %d moves, %d closed", len(kept), len(unknown), moves, closes)
	if len(kept) < 100 || moves < 3 {
		t.Error("too little was done")
	}
	l.agree(keys)
}

// agree waits until all PoPs have the same.
func (l *homesLab) agree(keys []string) {
	l.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		same := true
		for _, key := range keys {
			for _, p := range l.pops {
				same = same && p.get(key) == l.pops[0].get(key)
			}
		}
		if same {
			return
		}
		if time.Now().After(end) {
			l.t.Fatal("the PoPs do not come to the same")
		}
	}
}

// operate carries out an operation; not done: its outcome is not known, or it was refused.
func (p *homePoP) operate(in homeIn) (out string, done bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return "", false
	}
	ctx, cancel := context.WithTimeout(bg, time.Second)
	defer cancel()
	switch in.op {
	case "get":
		if elsewhere, err := p.s.AtHome(ctx, "s", in.key); elsewhere != "" || err != nil {
			return "", false
		}
		v, err := p.s.Get(ctx, "s", in.key)
		return string(v.Value), err == nil || wedge.KindOf(err) == wedge.NotExist
	case "append":
		_, err := p.s.Put(ctx, "s", wedge.KVPut{Key: in.key, Value: []byte(in.value), Mode: wedge.KVAppend})
		return "", err == nil
	}
	_, err := p.s.Put(ctx, "s", wedge.KVPut{Key: in.key, Value: []byte(in.value)})
	return "", err == nil
}

var homeModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		by := map[string][]porcupine.Operation{}
		for _, op := range history {
			key := op.Input.(homeIn).key
			by[key] = append(by[key], op)
		}
		var all [][]porcupine.Operation
		for _, ops := range by {
			all = append(all, ops)
		}
		return all
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		have, in := state.(string), input.(homeIn)
		switch in.op {
		case "get":
			return output.(string) == have, have
		case "append":
			return true, have + in.value
		}
		return true, in.value
	},
}

// TestHomeRefuses: nobody takes a home, says what is another's to say, or has an epoch of which the directory does not know.
func TestHomeRefuses(t *testing.T) {
	l := newHomesLab(t, "lhr", "nyc", "nrt")
	lhr, nyc, nrt := l.pops[0], l.pops[1], l.pops[2]
	if _, err := lhr.s.Put(bg, "s", wedge.KVPut{Key: "a/k", Value: []byte("one")}); err != nil {
		t.Fatal(err)
	}
	if _, err := nyc.s.Put(bg, "s", wedge.KVPut{Key: "a/k", Value: []byte("two"), Mode: wedge.KVAppend}); err != nil {
		t.Fatal(err)
	}
	if got := nyc.get("a/k"); got != "onetwo" {
		t.Errorf("who wrote reads %q", got)
	}
	l.agree([]string{"a/k"})
	u := unitOf("shop", "s", "/", "a/k")
	r, seq, err := nyc.share.home(u)
	if err != nil || r.pop() != "lhr" || r.Epoch != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, p := range l.pops {
		if pop, newest := p.s.HomeOf("s", "a/k"); pop != "lhr" || newest != (p == lhr) {
			t.Errorf("at %s the home is %s, and it has the newest: %v", p.name, pop, newest)
		}
	}
	if pop, _ := nyc.s.HomeOf("s", "b/k"); pop != "" {
		t.Errorf("another range has a home, too: %s", pop)
	}
	if err := nyc.share.setHome(bg, u, seq, r.next(nyc.share.Writer(), 0, time.Now())); wedge.KindOf(err) != wedge.Denied {
		t.Errorf("taking a home: %v", err)
	}
	for _, bad := range []homeRecord{{Home: lhr.share.Writer(), Epoch: 3}, {Home: "nobody", Epoch: 2}, {Home: lhr.share.Writer(), Epoch: maxEpoch + 2}} {
		if err := lhr.share.setHome(bg, u, seq, bad); err == nil {
			t.Errorf("the directory takes %+v", bad)
		}
	}
	before := nrt.get("a/k")
	_, refused, _ := nrt.share.Counts()
	forged := func(epoch, n uint64, k coreKey) []byte {
		item, err := headed(k, []byte("forged"))
		if err != nil {
			t.Fatal(err)
		}
		b := named(itemHome, "/")
		return append(binary.AppendUvarint(b, epoch<<homeBits|n), item...)
	}
	k := coreKey{Service: "shop", Store: "s", Key: []byte("a/k")}
	for i, item := range [][]byte{forged(1, 1<<20, k), forged(2, 1, k), forged(0, 1, k), forged(1, 1<<20, coreKey{Service: "shop", Key: []byte("k")}), {itemHome}, {itemHome, 200, 1}, {itemHome, 0, 0xff}} {
		if err := nrt.share.Take(wedge.Entry{Seq: 1000, Writer: nyc.share.Writer(), First: 1000 + uint64(i), Items: [][]byte{item}, At: time.Now()}); err != nil {
			t.Errorf("item %d: %v", i, err)
		}
	}
	if _, now, _ := nrt.share.Counts(); now != refused+7 || nrt.get("a/k") != before {
		t.Errorf("%d items refused, and %q is there", now-refused, nrt.get("a/k"))
	}
}

// TestHomeRecovers: a PoP whose database was lost is the home again of what it was, with all that had come to others.
func TestHomeRecovers(t *testing.T) {
	l := newHomesLab(t, "lhr", "nyc")
	lhr, nyc := l.pops[0], l.pops[1]
	for _, v := range []string{"a", "b"} {
		if _, err := lhr.s.Put(bg, "s", wedge.KVPut{Key: "k", Value: []byte(v), Mode: wedge.KVAppend}); err != nil {
			t.Fatal(err)
		}
	}
	lose := func() {
		if err := nyc.share.Await(bg, lhr.share.Token(wedge.ScopeHome)); err != nil { // what is only there is lost
			t.Fatal(err)
		}
		l.close(lhr)
		if _, err := nyc.s.Put(bg, "s", wedge.KVPut{Key: "k", Value: []byte("x")}); wedge.KindOf(err) != wedge.Unavailable {
			t.Errorf("a write whose home is away: %v", err)
		}
		lhr.dir, lhr.sent, lhr.next, lhr.keysAt = t.TempDir(), 0, 0, 0
		lhr.mu.Lock()
		l.open(lhr)
		lhr.share.Fresh(wedge.ScopeMerge, time.Now())
		lhr.mu.Unlock()
		l.agree([]string{"k"})
	}
	lose()
	if _, err := nyc.s.Put(bg, "s", wedge.KVPut{Key: "k", Value: []byte("c"), Mode: wedge.KVAppend}); err != nil { // nobody writes at lhr itself
		t.Fatal(err)
	}
	l.agree([]string{"k"})
	if got := nyc.get("k"); got != "abc" {
		t.Errorf("it is %q", got)
	}
	if _, err := merge.ParseWriter(lhr.share.Writer()); err != nil {
		t.Error(err)
	}
	lose()
	if elsewhere, err := lhr.s.AtHome(bg, "s", "k"); elsewhere != "" || err != nil {
		t.Errorf("who wants the newest there: %q, %v", elsewhere, err)
	}
}

// TestHomeSnapshot: who was away for longer than the log is kept gets what homes decided, too.
func TestHomeSnapshot(t *testing.T) {
	l := newHomesLab(t, "lhr", "nyc")
	lhr, nyc := l.pops[0], l.pops[1]
	for i := range 20 {
		if _, err := lhr.s.Put(bg, "s", wedge.KVPut{Key: fmt.Sprint("k/", i), Value: bytes.Repeat([]byte{byte(i)}, 1+i*5000)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := lhr.s.Delete(bg, "s", "seed"); err != nil {
		t.Fatal(err)
	}
	kv, err := Open(t.TempDir(), Options{PoP: "nrt", MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	share, err := kv.Share("")
	if err != nil {
		t.Fatal(err)
	}
	pages := 0
	for at, done := (Place{}), false; !done; pages++ {
		var items [][]byte
		if items, at, done, err = lhr.share.Snapshot(at); err != nil {
			t.Fatal(err)
		}
		if err := share.TakeSnapshot(items); err != nil {
			t.Fatal(err)
		}
	}
	s := kv.For("shop", map[string][]wedge.KVSeed{"s": {{Key: "seed", Value: []byte("planted")}}}, map[string]wedge.Store{"s": {Scope: wedge.ScopeHome, Split: "/"}})
	l.agree([]string{"k/19", "seed"})
	for _, key := range []string{"k/0", "k/7", "k/19", "seed"} {
		v, err := s.Get(bg, "s", key)
		if want := nyc.get(key); string(v.Value) != want && wedge.KindOf(err).String() != want {
			t.Errorf("%s: %d bytes, %v", key, len(v.Value), err)
		}
	}
	if pages < 3 {
		t.Errorf("%d pages", pages)
	}
}
