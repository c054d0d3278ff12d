package bus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"

	"github.com/wedge-cloud/wedge"
)

func TestMain(m *testing.M) {
	ats.Register() // its ticker must not be started within a bubble, whose time would stand still for it
	os.Exit(m.Run())
}

// box is an outbox in memory.
type box struct {
	mu    sync.Mutex
	items [][]byte
	grown chan struct{}
}

func newBox() *box { return &box{grown: make(chan struct{})} }

func (b *box) add(items ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, it := range items {
		b.items = append(b.items, []byte(it))
	}
	close(b.grown)
	b.grown = make(chan struct{})
}

func (b *box) Next(after uint64, n int) ([][]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rest := b.items[min(after, uint64(len(b.items))):]
	return slices.Clone(rest[:min(n, len(rest))]), nil
}

func (b *box) Last() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return uint64(len(b.items))
}

func (b *box) Grown() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.grown
}

// cable is a way to a core that can be cut.
type cable struct {
	core *Core
	mu   sync.Mutex
	cut  bool
	live []net.Conn
}

var errCut = errors.New("the cable is cut")

func (c *cable) dial(ctx context.Context) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		return nil, errCut
	}
	conn, err := c.core.Dial(ctx)
	if err == nil {
		c.live = append(c.live, conn)
	}
	return conn, err
}

func (c *cable) set(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
	if cut {
		for _, conn := range c.live {
			conn.Close()
		}
		c.live = nil
	}
}

var quiet = slog.New(slog.DiscardHandler)

func openCore(t *testing.T, dir string) *Core {
	t.Helper()
	c, err := OpenCore(CoreConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func connect(t *testing.T, dial func(context.Context) (net.Conn, error)) *Link {
	t.Helper()
	l, err := Connect(LinkConfig{Name: "test", Dial: dial, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// reader collects what it follows.
type reader struct {
	mu    sync.Mutex
	items []string
	seqs  []uint64
	lost  []uint64
}

func (r *reader) follower() Follower {
	return Follower{Entry: func(e wedge.Entry) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.seqs = append(r.seqs, e.Seq)
		for i, it := range e.Items {
			r.items = append(r.items, fmt.Sprintf("%s %d %s", e.Writer, e.First+uint64(i), it))
		}
		return nil
	}, Lost: func(next uint64) error {
		r.lost = append(r.lost, next)
		return nil
	}}
}

func (r *reader) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.items)
}

var ops = &Log{Name: "OPS"}

// TestPartition lets two PoPs write for three hours of which they are cut off for most: afterwards both have read
// everything, once, in each writer's order.
func TestPartition(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		core := openCore(t, dir)
		ctx, stop := context.WithCancel(t.Context())
		own := connect(t, core.Dial)
		if err := own.Keep(ctx, ops, 1); err != nil {
			t.Fatal(err)
		}
		var w sync.WaitGroup
		w.Go(func() { _ = own.Herald(ctx, ops) })
		type pop struct {
			cable *cable
			link  *Link
			box   *box
			read  reader
		}
		pops := map[string]*pop{"lhr": {}, "nrt": {}}
		for name, p := range pops {
			p.cable, p.box = &cable{core: core}, newBox()
			p.link = connect(t, p.cable.dial)
			w.Go(func() { _ = p.link.Pump(ctx, ops, name, p.box, nil) })
			w.Go(func() { _ = p.link.Follow(ctx, ops, 1, p.read.follower()) })
		}
		n := 0
		write := func(times int, every time.Duration) {
			for range times {
				n++
				for _, p := range pops {
					p.box.add(fmt.Sprint(n))
				}
				time.Sleep(every)
			}
		}
		write(100, time.Second)
		for _, p := range pops {
			if p.read.count() != 200 {
				t.Errorf("%d of 200 were read while all was well", p.read.count())
			}
		}
		pops["nrt"].cable.set(true)
		write(1000, 10*time.Second)
		if got := pops["lhr"].read.count(); got != 1200 {
			t.Errorf("lhr has read %d of 1200", got)
		}
		if got := pops["nrt"].read.count(); got != 200 {
			t.Errorf("nrt has read %d while it was cut off", got)
		}
		pops["nrt"].cable.set(false)
		began := time.Now()
		for pops["nrt"].read.count() < 2200 || pops["lhr"].read.count() < 2200 {
			time.Sleep(time.Millisecond)
			if time.Since(began) > time.Minute {
				t.Fatalf("after a minute lhr has %d, nrt %d", pops["lhr"].read.count(), pops["nrt"].read.count())
			}
		}
		if took := time.Since(began); took > mostWait+2*reconnectWait {
			t.Errorf("it took %v to heal", took)
		}
		a, b := &pops["lhr"].read, &pops["nrt"].read
		if !slices.Equal(a.items, b.items) || !slices.Equal(a.seqs, b.seqs) {
			t.Error("they have read different things")
		}
		checkOrder(t, a.items, n, "lhr", "nrt")
		stop()
		w.Wait()
		for _, p := range pops {
			p.link.Close()
		}
		own.Close()
		core.Close()
	})
}

// checkOrder looks for items 1 to n of each writer, once and in order.
func checkOrder(t *testing.T, items []string, n int, writers ...string) {
	t.Helper()
	next := map[string]int{}
	for _, it := range items {
		var writer string
		var number, value int
		if _, err := fmt.Sscanf(it, "%s %d %d", &writer, &number, &value); err != nil {
			t.Fatal(err)
		}
		if next[writer]++; number != next[writer] || value != number {
			t.Fatalf("%q where item %d should be", it, next[writer])
		}
	}
	for _, w := range writers {
		if next[w] != n {
			t.Errorf("%d of %d items of %s", next[w], n, w)
		}
	}
}

// TestFlapping cuts the links all the time, in the middle of everything.
func TestFlapping(t *testing.T) {
	core := openCore(t, t.TempDir())
	defer core.Close()
	ctx, stop := context.WithCancel(t.Context())
	own := connect(t, core.Dial)
	defer own.Close()
	if err := own.Keep(ctx, ops, 1); err != nil {
		t.Fatal(err)
	}
	const n = 3000
	b, r := newBox(), &reader{}
	up, down := &cable{core: core}, &cable{core: core}
	writer, follower := connect(t, up.dial), connect(t, down.dial)
	defer writer.Close()
	defer follower.Close()
	var w sync.WaitGroup
	w.Go(func() { _ = own.Herald(ctx, ops) })
	w.Go(func() { _ = writer.Pump(ctx, ops, "lhr", b, nil) })
	w.Go(func() { _ = follower.Follow(ctx, ops, 1, r.follower()) })
	w.Go(func() {
		for i := range n {
			b.add(fmt.Sprint(i + 1))
			time.Sleep(time.Millisecond / 2)
		}
	})
	w.Go(func() {
		for i := 0; ctx.Err() == nil && i < 30; i++ {
			c := []*cable{up, down}[i%2]
			c.set(true)
			time.Sleep(3 * time.Millisecond)
			c.set(false)
			time.Sleep(60 * time.Millisecond)
		}
	})
	for end := time.Now().Add(30 * time.Second); r.count() < n && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	stop()
	w.Wait()
	checkOrder(t, r.items, n, "lhr")
}

// TestRestart: a core that stops, by kill or otherwise, has after its start what it had acknowledged.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	b := newBox()
	c := &cable{core: openCore(t, dir)}
	l := connect(t, c.dial)
	defer l.Close()
	ctx, stop := context.WithCancel(t.Context())
	if err := l.Keep(ctx, ops, 1); err != nil {
		t.Fatal(err)
	}
	var w sync.WaitGroup
	r := &reader{}
	sent := make(chan uint64, 1<<16)
	w.Go(func() { _ = l.Pump(ctx, ops, "lhr", b, func(item, _ uint64) { sent <- item }) })
	w.Go(func() { _ = l.Follow(ctx, ops, 1, r.follower()) })
	const n = 5
	for i := range n {
		b.add(fmt.Sprint(2*i+1), fmt.Sprint(2*i+2))
		for <-sent < uint64(2*i+2) {
		}
		c.mu.Lock()
		c.core.Close()
		c.core = openCore(t, dir)
		c.mu.Unlock()
	}
	for end := time.Now().Add(20 * time.Second); r.count() < 2*n && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	stop()
	w.Wait()
	checkOrder(t, r.items, 2*n, "lhr")
	if len(r.lost) > 0 {
		t.Errorf("entries are gone up to %v", r.lost)
	}
	c.core.Close()
}

// TestAppend: of two who write at once one is told so.
func TestAppend(t *testing.T) {
	core := openCore(t, t.TempDir())
	defer core.Close()
	l := connect(t, core.Dial)
	defer l.Close()
	ctx := t.Context()
	if err := l.Keep(ctx, ops, 1); err != nil {
		t.Fatal(err)
	}
	one, err := l.Append(ctx, ops, "catalog", 0, []byte("a"))
	if err != nil || one != 1 {
		t.Fatal(one, err)
	}
	if _, err := l.Append(ctx, ops, "catalog", 0, []byte("b")); wedge.KindOf(err) != wedge.Conflict {
		t.Error(err)
	}
	if two, err := l.Append(ctx, ops, "catalog", one, []byte("b")); err != nil || two != 2 {
		t.Error(two, err)
	}
	if _, err := l.Append(ctx, &Log{Name: "NONE"}, "catalog", 0, []byte("b")); wedge.KindOf(err) != wedge.Unavailable {
		t.Error(err)
	}
}

// TestLost: who was away for longer than the log keeps is told so.
func TestLost(t *testing.T) {
	core := openCore(t, t.TempDir())
	defer core.Close()
	l := connect(t, core.Dial)
	defer l.Close()
	small := &Log{Name: "SMALL", Size: 2000}
	if err := l.Keep(t.Context(), small, 1); err != nil {
		t.Fatal(err)
	}
	last := uint64(0)
	for i := range 50 {
		var err error
		if last, err = l.Append(t.Context(), small, "x", last, []byte(fmt.Sprintf("%0100d", i))); err != nil {
			t.Fatal(err)
		}
	}
	for name, from := range map[string]uint64{"behind": 3, "ahead": 1000} {
		r := &reader{}
		ctx, stop := context.WithCancel(t.Context())
		f := r.follower()
		f.CaughtUp = stop
		_ = l.Follow(ctx, small, from, f)
		if len(r.lost) != 1 || name == "behind" && (r.count() == 0 || r.seqs[0] != r.lost[0] || r.seqs[len(r.seqs)-1] != last) {
			t.Errorf("%s: lost %v, read %v", name, r.lost, r.seqs)
		}
	}
}

// TestForked: an outbox that is an older copy of itself must not go on.
func TestForked(t *testing.T) {
	core := openCore(t, t.TempDir())
	defer core.Close()
	l := connect(t, core.Dial)
	defer l.Close()
	if err := l.Keep(t.Context(), ops, 1); err != nil {
		t.Fatal(err)
	}
	b := newBox()
	b.add("1", "2")
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	_ = l.Pump(ctx, ops, "lhr", b, func(item, _ uint64) {
		if item == 2 {
			stop()
		}
	})
	older := newBox()
	older.add("1")
	if err := l.Pump(t.Context(), ops, "lhr", older, nil); !errors.Is(err, ErrForked) {
		t.Error(err)
	}
}

func FuzzEntry(f *testing.F) {
	m := ops.message("lhr", 7, [][]byte{[]byte("one"), nil, []byte("three")})
	f.Add(m.Header.Get(fieldFirst), m.Data)
	f.Add("1", binary.AppendUvarint(nil, 1<<63))
	f.Fuzz(func(t *testing.T, first string, data []byte) {
		m := ops.message("lhr", 7, nil)
		m.Data = data
		m.Header.Set(fieldFirst, first)
		m.Header.Set(fieldSum, sumOf(data))
		e, err := ops.entry(1, m.Subject, time.Time{}, m.Header, data)
		if err != nil {
			return
		}
		again := ops.message(e.Writer, e.First, e.Items)
		if e2, err := ops.entry(1, again.Subject, time.Time{}, again.Header, again.Data); err != nil || len(e2.Items) != len(e.Items) || e2.First != e.First {
			t.Errorf("%v %v %v", e, e2, err)
		}
	})
}
