package recent

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// check holds the queues to the rows.
func (r *Map[V]) check(t *testing.T) {
	t.Helper()
	for i := range r.shards {
		s := &r.shards[i]
		queued := 0
		for name, q := range s.queues {
			n := 0
			for e := q.oldest; e != nil; e = e.newer {
				if n++; e.queue != q || s.rows[e.key] != e {
					t.Fatal("a row is in the wrong queue")
				}
			}
			if queued += n; n != q.n || n == 0 || q.service != name {
				t.Fatalf("queue %s has %d rows and says %d", name, n, q.n)
			}
		}
		if queued != len(s.rows) || len(s.rows) > r.room {
			t.Fatalf("%d rows, %d in queues, room for %d", len(s.rows), queued, r.room)
		}
	}
}

// TestMap puts at random, and compares with a plain map while there is room.
func TestMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, room := range []int{2 * Shards, 1 << 12} {
		m, plain, now := Of[int](room), map[Key]int{}, time.Duration(0)
		for range 5000 {
			var k Key
			n := rnd.IntN(1000)
			binary.LittleEndian.PutUint64(k[:], uint64(n)*0x9e3779b97f4a7c15)
			now += time.Millisecond
			m.Put(fmt.Sprint(rnd.IntN(5)), k, now, now+time.Hour, func(v *int) { *v++ })
			plain[k]++
		}
		m.check(t)
		if room < 1000 {
			if m.Len() != room {
				t.Errorf("%d rows, there is room for %d", m.Len(), room)
			}
			continue
		}
		for k, want := range plain {
			got := 0
			if m.Look(k, now, func(v *int) { got = *v }); got != want {
				t.Fatalf("%d, want %d", got, want)
			}
			if m.Look(k, now+2*time.Hour, func(*int) { t.Error("it is of use no more") }); t.Failed() {
				return
			}
		}
	}
}

// TestFlood: a service that is flooded loses its own keys.
func TestFlood(t *testing.T) {
	m := Of[int](8 * Shards)
	key := func(n uint64) (k Key) {
		binary.LittleEndian.PutUint64(k[:], n*0x9e3779b97f4a7c15)
		return k
	}
	for i := range uint64(Shards) {
		m.Put("quiet", key(i), 0, time.Hour, func(v *int) { *v = 1 })
	}
	for i := range uint64(100_000) {
		m.Put("flood", key(1000+i), 1, time.Hour, func(*int) {})
	}
	m.check(t)
	for i := range uint64(Shards) {
		found := 0
		if m.Look(key(i), 2, func(v *int) { found = *v }); found != 1 {
			t.Errorf("the flood drove key %d of another service out", i)
		}
	}
}

func TestKeyText(t *testing.T) {
	k := Key{1, 2, 254}
	text, _ := k.MarshalText()
	var back Key
	if err := back.UnmarshalText(text); err != nil || back != k {
		t.Error(back, err)
	}
	for _, bad := range []string{"", "00", string(text) + "00", string(text[:31]) + "g"} {
		if back.UnmarshalText([]byte(bad)) == nil {
			t.Errorf("%q is no key", bad)
		}
	}
}
