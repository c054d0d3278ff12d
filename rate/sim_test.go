package rate

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

// sim is a fleet of limiters in virtual time, at places as far from each other as cities are.
type sim struct {
	now     time.Duration
	events  events
	seq     int
	rnd     *rand.Rand
	pops    []wedge.PoP
	names   []string
	limit   []*Limiter
	down    map[int]bool // killed
	cut     map[int]bool
	waiting map[waiter][]func()
	faults  bool // messages are lost, doubled and late
	rule    Rule
	blocked func(i, j int) bool       // between which PoPs nothing passes
	note    func(k Key, window int64) // called for each that is let in

	said                                    int // keys that are half used up
	in, out, local, waits, rounds, fallback int64
	each                                    map[int64]int64 // let in, by window of the true clock
	slowest                                 time.Duration
}

type event struct {
	at  time.Duration
	seq int
	do  func()
}
type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any     { x := (*e)[len(*e)-1]; *e = (*e)[:len(*e)-1]; return x }

var cities = [][2]float64{{52.4, 4.9}, {51.5, -0.1}, {40.4, -3.7}, {59.3, 18.1}, {41, 29}, {30, 31.2}, {6.5, 3.4}, {-26.2, 28}, {19.1, 72.9}, {1.4, 103.8},
	{22.3, 114.2}, {35.7, 139.7}, {-33.9, 151.2}, {-36.8, 174.8}, {40.7, -74}, {41.9, -87.6}, {32.8, -96.8}, {34.1, -118.2}, {-23.5, -46.6}, {-33.4, -70.7}}

const start = 500_000 * time.Hour

func newSim(n int, r Rule) *sim {
	s := &sim{now: start, rnd: rand.New(rand.NewPCG(7, uint64(n))), down: map[int]bool{}, cut: map[int]bool{}, waiting: map[waiter][]func(){}, rule: r, each: map[int64]int64{},
		blocked: func(int, int) bool { return false }, note: func(Key, int64) {}}
	for i := range n {
		c := cities[i%len(cities)]
		s.pops = append(s.pops, wedge.PoP{Lat: c[0] + s.rnd.Float64()*4 - 2, Lon: c[1] + s.rnd.Float64()*4 - 2})
		s.names = append(s.names, fmt.Sprintf("p%03d", i))
		s.limit = append(s.limit, New(s.names[i]))
	}
	s.see()
	s.after(sayPause, s.say)
	return s
}

const sayPause = 500 * time.Millisecond

// say has all PoPs told which keys are half used up, as a node does now and then.
func (s *sim) say() {
	s.after(sayPause, s.say)
	for i, l := range s.limit {
		for _, kept := range l.Kept() {
			s.said++
			for j := range s.limit {
				s.after(s.oneWay(i, j), func() {
					if !s.down[i] && !s.cut[i] && !s.down[j] && !s.cut[j] && !s.blocked(i, j) {
						s.behind(j, s.limit[j].Heard(s.names[i], kept, s.now))
					}
				})
			}
		}
	}
}

// see has all see who is there, as beats would have them within seconds.
func (s *sim) see() {
	var there []string
	for i, name := range s.names {
		if !s.down[i] && !s.cut[i] {
			there = append(there, name)
		}
	}
	for i, l := range s.limit {
		if s.cut[i] {
			l.See(s.names, false, s.now) // it goes by what it heard last
		} else {
			l.See(there, true, s.now)
		}
	}
}

func (s *sim) after(d time.Duration, do func()) {
	s.seq++
	heap.Push(&s.events, event{s.now + d, s.seq, do})
}

func (s *sim) run(until time.Duration) {
	for len(s.events) > 0 && s.events[0].at <= until {
		e := heap.Pop(&s.events).(event)
		s.now = e.at
		e.do()
	}
	s.now = until
}

func (s *sim) oneWay(i, j int) time.Duration {
	d := 500*time.Microsecond + time.Duration(s.pops[i].Distance(&s.pops[j])/200*1.4*float64(time.Millisecond))
	if s.faults {
		d += time.Duration(s.rnd.Int64N(int64(100 * time.Millisecond)))
	}
	return d
}

func (s *sim) index(name string) int {
	var i int
	_, _ = fmt.Sscanf(name, "p%03d", &i)
	return i
}

// send carries an ask and its answer.
func (s *sim) send(from int, out *Sent, done func()) {
	if pause := out.Pause; pause > 0 {
		later := *out
		later.Pause = 0
		s.after(pause, func() { s.send(from, &later, done) })
		return
	}
	to, over := s.index(out.To), false
	end := func(a Answer, ok bool) {
		if !over {
			over = true
			s.behind(from, s.limit[from].Answered(out, a, ok, s.now))
			done()
		}
	}
	s.after(time.Second, func() { end(Answer{}, false) })
	copies := 1
	if s.faults {
		copies = s.rnd.IntN(10) / 4 // lost, once or twice
	}
	for range copies {
		s.after(s.oneWay(from, to), func() {
			if s.down[to] || s.cut[to] || s.cut[from] || s.blocked(from, to) {
				return
			}
			a, more := s.limit[to].Asked(s.names[from], out.Ask, s.now)
			s.behind(to, more)
			s.after(s.oneWay(to, from), func() { end(a, a.Keeper != "" || a.None) })
		})
	}
}

// behind carries an ask for which no request waits, if there is one.
func (s *sim) behind(from int, out *Sent) {
	if out != nil {
		s.send(from, out, func() { s.answered(from, out.Ask.Key) })
	}
}

// waiter is who waits for the ask under way.
type waiter struct {
	at  int
	key Key
}

func (s *sim) answered(at int, k Key) {
	list := s.waiting[waiter{at, k}]
	delete(s.waiting, waiter{at, k})
	for _, again := range list {
		again()
	}
}

// request makes a request of a key at a PoP.
func (s *sim) request(at int, k Key) {
	began, rounds := s.now, int64(0)
	var try func(waited bool)
	try = func(waited bool) {
		d, out := s.limit[at].Take(&s.rule, k, s.now, waited)
		if out != nil {
			s.send(at, out, func() { s.answered(at, k) })
		}
		if d.Wait {
			rounds++
			who := waiter{at, k}
			s.waiting[who] = append(s.waiting[who], func() { try(true) })
			return
		}
		s.slowest = max(s.slowest, s.now-began)
		switch s.rounds = max(s.rounds, rounds); {
		case rounds == 0:
			s.local++
		default:
			s.waits++
		}
		if d.Fallback {
			s.fallback++
		}
		if d.OK {
			s.in++
			window := int64((s.now + phase(k, &s.rule)) / s.rule.Window)
			s.each[window]++
			s.note(k, window)
		} else {
			s.out++
		}
	}
	try(false)
}

func phase(k Key, r *Rule) time.Duration {
	var n uint64
	for i := 7; i >= 0; i-- {
		n = n<<8 | uint64(k[i])
	}
	return time.Duration(n % uint64(r.Window))
}

// load makes so many requests a second of a key for a while, at PoPs chosen by at.
func (s *sim) load(k Key, perSecond float64, d time.Duration, at func() int) {
	for t := time.Duration(0); t < d; t += time.Duration(s.rnd.ExpFloat64() / perSecond * float64(time.Second)) {
		s.after(t, func() { s.request(at(), k) })
	}
}

// most is how many were let in, in the fullest window.
func (s *sim) most() (n int64) {
	for _, c := range s.each {
		n = max(n, c)
	}
	return n
}

var hourly = Rule{Service: "shop", Limit: 1000, Window: time.Hour}

// TestOvershoot: wherever the requests come from, no more than 5 % above the limit are let in, and few less: what
// PoPs were allowed and do not use comes back after seconds.
func TestOvershoot(t *testing.T) {
	for _, c := range []struct {
		pops int
		rate float64
		at   func(s *sim) int
		name string
	}{
		{1, 200, func(*sim) int { return 0 }, "alone"},
		{3, 20, func(s *sim) int { return s.rnd.IntN(3) }, "three PoPs"},
		{10, 200, func(s *sim) int { return s.rnd.IntN(10) }, "ten PoPs"},
		{100, 200, func(s *sim) int { return 5 }, "one of a hundred PoPs"},
		{100, 200, func(s *sim) int { return s.rnd.IntN(100) }, "a hundred PoPs"},
		{100, 2000, func(s *sim) int { return s.rnd.IntN(100) }, "a hundred PoPs, fast"},
		{100, 500, func(s *sim) int { return int(s.now/(time.Second/4)) % 100 }, "one after the other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSim(c.pops, hourly)
			k := Key{1}
			s.load(k, c.rate, time.Duration(3000/c.rate*float64(time.Second)), func() int { return c.at(s) })
			s.run(start + 5*time.Minute)
			total := s.local + s.waits
			t.Logf("%d let in, %d refused; %.1f %% decided here, %d rounds at most, slowest %v", s.in, s.out, 100*float64(s.local)/float64(total), s.rounds, s.slowest)
			if s.most() > 1050 || s.most() < 800 {
				t.Errorf("%d were let in, the limit is 1000", s.most())
			}
		})
	}
}

// TestBound: who knows how it works, and spends at each PoP what that lets in unasked, before or after the others, gains nothing.
func TestBound(t *testing.T) {
	const pops = 100
	free := int(Free(hourly.Limit, pops))
	for _, first := range []bool{true, false} {
		s, k := newSim(pops, hourly), Key{1}
		everywhere := func() {
			for i := range (pops - 1) * free {
				s.request(1+i/free, k)
			}
		}
		if first {
			everywhere()
		} else {
			s.after(11*time.Second, everywhere)
		}
		s.load(k, 100, 20*time.Second, func() int { return 0 })
		s.run(start + time.Minute)
		t.Logf("%d let in, said of %d keys", s.in, s.said)
		if s.in > hourly.Limit*105/100 {
			t.Errorf("%d were let in", s.in)
		}
	}
}

// TestSmall: of a small limit nobody gets more by going from PoP to PoP, and nobody is left short of it for long.
func TestSmall(t *testing.T) {
	s, k := newSim(3, Rule{Service: "shop", Limit: 20, Window: time.Minute}), Key{1}
	for i := range 60 {
		s.after(time.Duration(i)*500*time.Millisecond, func() { s.request(i/7%3, k) })
	}
	s.run(start + 2*time.Minute)
	t.Logf("by window %v, %d decided here, %d rounds at most", s.each, s.local, s.rounds)
	for n, in := range s.each {
		if in > 20 {
			t.Errorf("%d in window %d", in, n)
		}
	}
	if s.in < 18 {
		t.Errorf("only %d were let in", s.in)
	}
}

// TestOrdinary: users who stay below the limit, at a PoP or two, seldom wait, and never for more than one answer.
func TestOrdinary(t *testing.T) {
	s := newSim(100, hourly)
	for user := range 200 {
		k := Key{byte(user), 1, 2, 3, 4, 5, 6, 7, byte(user), 9, byte(user >> 3)}
		home := s.rnd.IntN(100)
		s.load(k, 0.5, 8*time.Minute, func() int {
			if s.rnd.IntN(20) == 0 {
				return (home + 1) % 100 // a train that is near a border
			}
			return home
		})
	}
	s.run(start + 10*time.Minute)
	total := s.local + s.waits
	t.Logf("%d requests, %.2f %% decided here, %d rounds at most, slowest %v, %d refused, said of %d keys", total, 100*float64(s.local)/float64(total), s.rounds, s.slowest, s.out, s.said)
	if 100*s.local < 99*total || s.out > 0 || s.rounds > 1 {
		t.Error("ordinary users wait too often, for too long, or are refused")
	}
}

// TestCut: a PoP that is cut off lets its part in, and after the cut all is as before.
func TestCut(t *testing.T) {
	for _, closed := range []bool{false, true} {
		r := Rule{Service: "shop", Limit: 300, Window: time.Minute, Closed: closed}
		s, k := newSim(3, r), Key{1}
		s.load(k, 20, 5*time.Minute, func() int { return s.rnd.IntN(3) })
		s.after(90*time.Second, func() { s.cut[2] = true; s.after(5*time.Second, s.see) })
		s.after(200*time.Second, func() { s.cut[2] = false; s.see() })
		s.run(start + 6*time.Minute)
		t.Logf("closed %v: by window %v; %d without the keeper", closed, s.each, s.fallback)
		n := int64((start+phase(k, &r))/r.Window) + 4
		last, before := s.each[n], s.each[n-1] // what was too much then is taken from the last
		if s.fallback == 0 || s.most() > 2*r.Limit || last+before > 2*r.Limit*105/100 || last < r.Limit/2 {
			t.Errorf("%d in the fullest window, %d in the last, %d before", s.most(), last, before)
		}
	}
}

// TestKeeperKilled: another becomes the keeper.
func TestKeeperKilled(t *testing.T) {
	r := Rule{Service: "shop", Limit: 300, Window: time.Minute}
	s, k := newSim(10, r), Key{1}
	s.load(k, 20, 5*time.Minute, func() int {
		at := s.rnd.IntN(10)
		for s.down[at] {
			at = s.rnd.IntN(10)
		}
		return at
	})
	s.after(100*time.Second, func() {
		for i, l := range s.limit {
			l.rows.Look(k, s.now, func(w *row) { s.down[i] = w.keep != nil })
		}
		s.after(5*time.Second, s.see)
	})
	s.run(start + 6*time.Minute)
	keepers := 0
	for i, l := range s.limit {
		l.rows.Look(k, s.now, func(w *row) {
			if w.keep != nil && !s.down[i] {
				keepers++
			}
		})
	}
	t.Logf("by window %v; %d without the keeper", s.each, s.fallback)
	last := s.each[int64((start+phase(k, &r))/r.Window)+4]
	if keepers != 1 || s.most() > 2*r.Limit || last > r.Limit*105/100 {
		t.Errorf("%d keepers, %d in the fullest window, %d in the last", keepers, s.most(), last)
	}
}

// TestFaults: messages that are lost, doubled and late.
func TestFaults(t *testing.T) {
	for seed := range soak(3, 2000) {
		s, k := newSim(10, Rule{Service: "shop", Limit: 300, Window: time.Minute, Closed: true}), Key{1}
		s.rnd, s.faults = rand.New(rand.NewPCG(seed, 1)), true
		s.load(k, 20, 5*time.Minute, func() int { return s.rnd.IntN(10) })
		s.run(start + 6*time.Minute)
		if s.most() > 315 {
			t.Errorf("seed %d: %v", seed, s.each)
		}
	}
}
