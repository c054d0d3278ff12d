//go:build !plainmem

package compute

import (
	"bytes"
	"context"
	"math/rand"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
	w "github.com/wedge-cloud/wedge/internal/wasmtest"
	"github.com/wedge-cloud/wedge/wasm"
)

// privatePages counts the pages of the guest's memory that are its own, beyond doubt of what the region noted.
func privatePages(t *testing.T, r *region) (n uint64) {
	t.Helper()
	var found [64]pageRegion
	for at, end := r.base(), r.base()+uintptr(r.high); at < end; {
		k, next, err := dirtyPages(at, end, found[:])
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found[:k] {
			n += (f.end - f.start) / page
		}
		at = next
	}
	return n
}

func newMemory(t *testing.T, img *image) *memory {
	t.Helper()
	reg, err := newRegion(img.max)
	if err != nil {
		t.Fatal(err)
	}
	m := &memory{region: reg}
	t.Cleanup(m.Free)
	if err := m.show(img); err != nil {
		t.Fatal(err)
	}
	return m
}

// scribble changes memory in all the ways that matter to packing.
func scribble(rnd *rand.Rand, mem []byte) {
	for at := 0; at < len(mem); at += page {
		p := mem[at : at+page]
		switch rnd.Intn(8) {
		case 0:
			clear(p)
		case 1:
			p[rnd.Intn(page)]++
		case 2:
			for i := range p {
				p[i] = byte(i >> 4)
			}
		case 3:
			copy(p, bytes.Repeat([]byte("a guest's words "), page/16))
		case 4:
			p[0]++ // a copy that is as the image
			p[0]--
		case 5:
			if rnd.Intn(8) == 0 {
				rnd.Read(p)
			}
		}
	}
}

// TestPackRegion packs and unpacks memory of every kind again and again, and grows it meanwhile.
func TestPackRegion(t *testing.T) {
	rnd := rand.New(rand.NewSource(3))
	for _, img := range []*image{testImage(t, 1, 300_000, 8, 256), testImage(t, 2, 0, 1, 200), testImage(t, 4, 2_000_001, 40, 400)} {
		m := newMemory(t, img)
		var work packing
		for round := range 12 {
			if round%4 == 3 {
				m.Reallocate(min(img.max, m.size+uint64(1+rnd.Intn(30))*wasm.PageSize))
			}
			scribble(rnd, m.bytes())
			want := bytes.Clone(m.bytes())
			if !m.region.pack(img, &work) {
				t.Fatalf("round %d: not packed", round)
			}
			if n := privatePages(t, &m.region); n != 0 {
				t.Fatalf("round %d: %d pages are there still", round, n)
			}
			m.region.unpack(m.image)
			if !bytes.Equal(m.bytes(), want) {
				t.Fatalf("round %d: the memory is not as it was", round)
			}
			if tail := m.region.mem[m.region.high:]; len(bytes.TrimLeft(tail[:min(len(tail), 4<<20)], "\x00")) > 0 {
				t.Fatalf("round %d: packed bytes are left behind", round)
			}
		}
		if work.count != 0 || len(bytes.TrimLeft(work.pages[:], "\x00")) > 0 || len(bytes.TrimLeft(work.coded, "\x00")) > 0 {
			t.Error("the packer keeps a guest's bytes")
		}
		if err := m.reset(); err != nil || privatePages(t, &m.region) != 0 {
			t.Errorf("after reset %d pages are there (%v)", privatePages(t, &m.region), err)
		}
		if want := img.backing.bytes(); !bytes.Equal(m.bytes()[:len(want)], want) {
			t.Error("after reset the memory is not the image")
		}
	}
}

// TestPackInVain: memory that does not compress, or has no room for what is packed, stays as it is.
func TestPackInVain(t *testing.T) {
	var work packing
	img := testImage(t, 1, 300_000, 8, 64)
	m := newMemory(t, img)
	rand.New(rand.NewSource(9)).Read(m.bytes())
	full := newMemory(t, testImage(t, 1, 300_000, 8, 8))
	scribble(rand.New(rand.NewSource(2)), full.bytes())
	for _, m := range []*memory{m, full} {
		want, pages := bytes.Clone(m.bytes()), privatePages(t, &m.region)
		if m.region.pack(m.image, &work) {
			t.Error("it was packed")
		}
		if !bytes.Equal(m.bytes(), want) || privatePages(t, &m.region) != pages {
			t.Error("it is not as it was")
		}
		if len(bytes.TrimLeft(m.region.mem[m.region.high:], "\x00")) > 0 {
			t.Error("packed bytes are left behind")
		}
	}
	withScans(t, func(t *testing.T) { // without a page map there is no packing
		m := newMemory(t, img)
		m.bytes()[5] = 9
		_, err := pagemap()
		if got := m.region.pack(img, &work); got != (err == nil) {
			t.Errorf("packed: %v; page map: %v", got, err)
		} else if got {
			m.region.unpack(m.image)
		}
		if m.bytes()[5] != 9 {
			t.Error("the write is lost")
		}
	})
}

const sleeperWords = 4 << 20 / 4

// sleeper is a guest that grows its memory by 4 MiB, fills it by parameter 0, waits as often as parameter 1 says,
// and notes a sum of its memory after each wait; between waits it changes a word in each page.
func sleeper() []byte {
	return program(2, func(m *w.Module, c calls) {
		m.Data(0, "an image")
		addr := w.Seq(w.Get(0), w.I32(2), w.Op(0x74))
		m.Main("i32 i32 i32 i32",
			w.I32(0), w.Call(c.param), w.Set(3),
			w.I32(64), w.MemoryGrow, w.Drop,
			w.For(0, sleeperWords, addr, w.Get(0), w.I32(8), w.Op(0x75), w.Get(3), w.Mul, w.Store(65536)),
			w.Loop(
				w.Call(c.wait), w.Drop,
				w.I32(0), w.Set(2),
				w.For(0, sleeperWords, w.Get(2), w.I32(31), w.Mul, addr, w.Load(65536), w.Add, w.Set(2)),
				c.tell(w.Get(2)),
				w.For(0, sleeperWords/1024, w.Get(0), w.I32(12), w.Op(0x74), w.Get(1), w.Store(65536)),
				w.Get(1), w.I32(1), w.Add, w.Tee(1), w.I32(1), w.Call(c.param), w.LtU, w.BrIf(0)))
	})
}

// sums is what a sleeper notes.
func sums(t *testing.T, m *Module, seed, waits int32) []uint32 {
	t.Helper()
	got, err := serve(m, seed, waits)
	if err != nil || len(got) != int(waits) {
		t.Fatalf("noted %v, %v", got, err)
	}
	return got
}

var sleeperOptions = Options{Limits: wedge.Limits{CPU: time.Minute, Memory: 32 << 20}}

// TestPackedWhileWaiting: the pages of a guest that waits are gone, and it does not notice.
func TestPackedWhileWaiting(t *testing.T) {
	e := newEngine(t, Config{PackAfter: 20 * time.Millisecond})
	m := load(t, e, sleeper(), sleeperOptions)
	want := sums(t, m, 77, 3)
	m.code.mu.Lock()
	inst := m.code.idle[0]
	m.code.mu.Unlock()
	before := e.stats.Packed.Load()
	waits := before
	l := &lab{params: []int32{77, 3}, wait: func(context.Context) {
		waits++
		eventually(t, "packed", func() bool { return e.stats.Packed.Load() >= waits })
		inst.nap.mu.Lock()
		defer inst.nap.mu.Unlock()
		if n := privatePages(t, &inst.mem.region); n > 0 || !inst.nap.packed || inst.mem.region.shelf > 1<<20 {
			t.Errorf("packed: %v, %d private pages, %d packed bytes", inst.nap.packed, n, inst.mem.region.shelf)
		}
	}}
	if err := m.Run(context.Background(), &Sandbox{State: l}); err != nil || !slices.Equal(l.notes, want) {
		t.Fatalf("noted %v (%v), want %v", l.notes, err, want)
	}
	if n := privatePages(t, &inst.mem.region); n > 0 {
		t.Errorf("%d pages are kept for the next request", n)
	}
	if got := sums(t, m, 5, 2); slices.Equal(got, want[:2]) || !slices.Equal(got, sums(t, m, 5, 2)) {
		t.Errorf("later runs note %v", got)
	}
}

// TestPackRaces wakes guests at random times around packing.
func TestPackRaces(t *testing.T) {
	e := newEngine(t, Config{PackAfter: 2 * time.Millisecond})
	m := load(t, e, sleeper(), sleeperOptions)
	want := map[int32][]uint32{}
	for seed := range int32(4) {
		want[seed] = sums(t, m, seed, 4)
	}
	end := time.Now().Add(2 * time.Second)
	var all sync.WaitGroup
	for g := range int64(6) {
		all.Go(func() {
			rnd := rand.New(rand.NewSource(g))
			for time.Now().Before(end) && !t.Failed() {
				seed := rnd.Int31n(4)
				l := &lab{params: []int32{seed, 4}, wait: func(context.Context) { time.Sleep(time.Duration(rnd.Intn(6_000_000))) }}
				if err := m.Run(context.Background(), &Sandbox{State: l}); err != nil || !slices.Equal(l.notes, want[seed]) {
					t.Errorf("noted %v (%v), want %v", l.notes, err, want[seed])
				}
			}
		})
	}
	all.Wait()
	if e.stats.Packed.Load() == 0 {
		t.Error("nothing was packed")
	}
}

// TestPackedEnds ends guests while they are packed, in every way.
func TestPackedEnds(t *testing.T) {
	e := newEngine(t, Config{PackAfter: 8 * time.Millisecond})
	opt := sleeperOptions
	opt.Limits.Wall = 2 * time.Second
	m := load(t, e, sleeper(), opt)
	asleep := func(ctx context.Context) (packed chan bool, ended chan error) {
		packed, ended = make(chan bool), make(chan error, 1)
		fell := sync.OnceFunc(func() { close(packed) })
		before := e.stats.Packed.Load()
		l := &lab{params: []int32{1, 1}, wait: func(ctx context.Context) {
			eventually(t, "packed", func() bool { return e.stats.Packed.Load() > before })
			fell()
			<-ctx.Done()
		}}
		go func() {
			defer fell()
			ended <- m.Run(ctx, &Sandbox{State: l})
		}()
		return packed, ended
	}
	packed, ended := asleep(context.Background())
	<-packed
	wantKind(t, <-ended, wedge.Timeout)
	ctx, cancel := context.WithCancel(context.Background())
	packed, ended = asleep(ctx)
	<-packed
	cancel()
	wantKind(t, <-ended, wedge.Unavailable)
	if m.code.liveNow() != 0 {
		t.Errorf("%d instances are left", m.code.liveNow())
	}
	sums(t, m, 1, 1)
	packed, ended = asleep(context.Background())
	<-packed
	e.Interrupt()
	wantKind(t, <-ended, wedge.Unavailable)
	if e.packer.mu.Lock(); len(e.packer.all) != 0 {
		t.Errorf("the packer knows %d instances", len(e.packer.all))
	}
	e.packer.mu.Unlock()
}

// TestPackSnapshot: guests begun from a snapshot are packed too.
func TestPackSnapshot(t *testing.T) {
	e := newEngine(t, Config{PackAfter: 8 * time.Millisecond})
	m := load(t, e, parkable("x", ""), Options{Start: wedge.StartSnapshot, Template: template, Limits: snapshotLimits})
	want, err := serve(m, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		before := e.stats.Packed.Load()
		l := &lab{params: []int32{1}, wait: func(context.Context) {
			eventually(t, "packed", func() bool { return e.stats.Packed.Load() > before })
		}}
		if err := m.Run(context.Background(), &Sandbox{State: l}); err != nil || !slices.Equal(l.notes, want) {
			t.Fatalf("noted %v (%v), want %v", l.notes, err, want)
		}
		mustServe(t, m, want, 0)
	}
}

// TestNotPacked: memory that the wait itself writes to stays where it is, and so does all with a negative delay.
func TestNotPacked(t *testing.T) {
	funcs := labFuncs()
	funcs[defRandom] = func(c *Call) abi.Status {
		dst := c.Writable(c.U32(0), c.U32(1))
		c.BlockHolding(func(context.Context) {
			time.Sleep(50 * time.Millisecond)
			dst[0] = 42
		})
		return 0
	}
	src := program(1, func(m *w.Module, c calls) {
		m.Main("", w.I32(16), w.I32(4), w.Call(c.random), w.Drop, c.tell(w.I32(16), w.Load(0)), w.Call(c.wait), w.Drop)
	})
	for delay, want := range map[time.Duration]int64{4 * time.Millisecond: 1, -1: 0} {
		e := newEngine(t, Config{PackAfter: delay, Funcs: funcs})
		m := load(t, e, src, Options{})
		l := &lab{wait: func(context.Context) { time.Sleep(200 * time.Millisecond) }}
		if err := m.Run(context.Background(), &Sandbox{State: l}); err != nil || !slices.Equal(l.notes, []uint32{42}) {
			t.Errorf("noted %v (%v)", l.notes, err)
		}
		if n := e.stats.Packed.Load(); n != want {
			t.Errorf("delay %v: packed %d times, want %d", delay, n, want)
		}
	}
}

// TestColdTurn: guests that would have to be unpacked give way, but not for ever.
func TestColdTurn(t *testing.T) {
	q := &queue{}
	for i := range 40 {
		q.add(waiter{since: time.Unix(int64(i), 0)}, []standing{warm, cold}[i/30])
	}
	cold := 0
	for n := 1; !q.empty(); n++ {
		if w := q.next(); w.since.Unix() >= 30 {
			cold++
			if n < 30 && n%coldTurn != 0 {
				t.Errorf("turn %d is a cold one's", n)
			}
		} else if n > 30+30/(coldTurn-1) {
			t.Errorf("turn %d is not a cold one's", n)
		}
	}
	if cold != 10 {
		t.Errorf("%d cold ones had their turn", cold)
	}
}

// BenchmarkPack packs and unpacks 130 pages, every other run of 8 in the image.
func BenchmarkPack(b *testing.B) {
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(i >> 3 * i >> 9)
	}
	img, err := newImage(wasm.Image{Data: data, MinPages: 64, MaxPages: 256}, wedge.Limits{Memory: 16 << 20})
	if err != nil {
		b.Fatal(err)
	}
	defer img.release()
	reg, err := newRegion(img.max)
	if err != nil {
		b.Fatal(err)
	}
	m := &memory{region: reg}
	defer m.Free()
	if err := m.show(img); err != nil {
		b.Fatal(err)
	}
	for i := range 130 {
		at := i / 8 * 16 * page
		if i%2 > 0 {
			at += 2 << 20
		}
		copy(m.bytes()[at+i%8*page:][:page], bytes.Repeat([]byte(time.Duration(i*i).String()), 500))
	}
	var work packing
	var unpacking time.Duration
	for b.Loop() {
		if !m.region.pack(img, &work) {
			b.Fatal("not packed")
		}
		began := time.Now()
		m.region.unpack(m.image)
		unpacking += time.Since(began)
	}
	b.ReportMetric(float64(unpacking.Microseconds())/float64(b.N), "us/unpack")
}
