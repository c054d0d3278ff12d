package state

import (
	"fmt"
	"sync"
	"testing"
)

// TestOutbox: what was added is there in order, whoever added it, also after the database was closed.
func TestOutbox(t *testing.T) {
	dir := t.TempDir()
	kv, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	o, err := kv.Outbox("purge")
	if err != nil {
		t.Fatal(err)
	}
	other, err := kv.Outbox("purge2")
	if err != nil {
		t.Fatal(err)
	}
	grown := o.Grown()
	const writers, each = 8, 100
	said := make([]string, writers*each*2+1)
	var mu sync.Mutex
	var w sync.WaitGroup
	for i := range writers {
		w.Go(func() {
			for j := range each {
				a, b := fmt.Sprint(i, " ", j, " a"), fmt.Sprint(i, " ", j, " b")
				n, err := o.Add([]byte(a), []byte(b))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				said[n-1], said[n] = a, b
				mu.Unlock()
			}
		})
	}
	if _, err := other.Add([]byte("x")); err != nil {
		t.Fatal(err)
	}
	w.Wait()
	select {
	case <-grown:
	default:
		t.Error("nobody was told that it has grown")
	}
	check := func(o *Outbox, after, last uint64) {
		t.Helper()
		if o.Last() != last {
			t.Errorf("the last item is %d, not %d", o.Last(), last)
		}
		for n := after; n < last; {
			items, err := o.Next(n, 37)
			if err != nil || len(items) == 0 {
				t.Fatalf("after %d: %d items, %v", n, len(items), err)
			}
			for _, it := range items {
				if n++; string(it) != said[n] {
					t.Fatalf("item %d is %q, not %q", n, it, said[n])
				}
			}
		}
	}
	const all = writers * each * 2
	check(o, 0, all)
	if err := o.Trim(all - 100); err != nil { // too few to be worth it
		t.Fatal(err)
	}
	check(o, 0, all)
	name, err := kv.Incarnation()
	if err != nil || len(name) != 16 {
		t.Fatal(name, err)
	}
	if err := kv.SetCursor("PURGE", 77); err != nil {
		t.Fatal(err)
	}
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Add(nil); err == nil {
		t.Error("an item was added to what is closed")
	}
	if kv, err = Open(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	if o, err = kv.Outbox("purge"); err != nil {
		t.Fatal(err)
	}
	check(o, 0, all)
	if again, err := kv.Incarnation(); again != name || err != nil {
		t.Error(again, err)
	}
	if n, err := kv.Cursor("PURGE"); n != 77 || err != nil {
		t.Error(n, err)
	}
}

// TestOutboxTrim: numbers go on where they were, also when nothing is left.
func TestOutboxTrim(t *testing.T) {
	dir := t.TempDir()
	kv, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	o, err := kv.Outbox("purge")
	if err != nil {
		t.Fatal(err)
	}
	items := make([][]byte, 2*trimEvery)
	if n, err := o.Add(items...); n != 2*trimEvery || err != nil {
		t.Fatal(n, err)
	}
	if err := o.Trim(2 * trimEvery); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Next(0, 1); err == nil {
		t.Error("what was trimmed is not missed")
	}
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	if kv, err = Open(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	if o, err = kv.Outbox("purge"); err != nil || o.Last() != 2*trimEvery {
		t.Fatal(o.Last(), err)
	}
	if n, err := o.Add([]byte("next")); n != 2*trimEvery+1 || err != nil {
		t.Error(n, err)
	}
}
