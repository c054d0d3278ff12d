package state

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wedge-cloud/wedge"
)

const childEnv = "WEDGE_STATE_TEST_CHILD"

// TestMain lets the test binary be the process that TestKill kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		writeUntilKilled(dir)
	}
	os.Exit(m.Run())
}

// writeUntilKilled writes from several goroutines and prints "key generation" after each
// write that was acknowledged.
func writeUntilKilled(dir string) {
	kv, err := Open(dir, Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	share, err := kv.Share("")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	share.Known()
	share.renew()
	s := killStores(kv)
	var out sync.Mutex
	for w := range 8 {
		go func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("%d/%d", w, i)
				gen, err := s.Put(context.Background(), "s", wedge.KVPut{Key: key, Value: killValue(key)})
				if err == nil {
					_, err = s.Put(context.Background(), "m", wedge.KVPut{Key: key, Value: killValue(key)})
				}
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				out.Lock()
				fmt.Println(key, gen)
				out.Unlock()
			}
		}()
	}
	time.Sleep(time.Minute) // the parent kills long before
	os.Exit(1)
}

// killStores has a store of its own and one that is shared.
func killStores(kv *KV) *Stores {
	return kv.For("svc", map[string][]wedge.KVSeed{"s": nil, "m": nil}, map[string]wedge.Store{"s": {Scope: wedge.ScopeLocal}})
}

func killValue(key string) []byte {
	return bytes.Repeat([]byte(key), 1+len(key)%3*200) // small and large ones
}

func TestKill(t *testing.T) {
	dir := t.TempDir()
	acked := map[string]uint64{}
	top := uint64(0)
	for round := range 2 {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		child := exec.Command(exe)
		child.Env = append(os.Environ(), childEnv+"="+dir)
		var stderr bytes.Buffer
		child.Stderr = &stderr
		stdout, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		before := len(acked)
		lines, roundTop := bufio.NewScanner(stdout), uint64(0)
		killed := false
		got := 0
		for lines.Scan() {
			key, gen, ok := strings.Cut(lines.Text(), " ")
			var g uint64
			if _, err := fmt.Sscan(gen, &g); !ok || err != nil {
				continue // the line the kill cut
			}
			if g <= top {
				t.Fatalf("generation %d of round %d was handed out before", g, round)
			}
			acked[key], roundTop = g, max(roundTop, g)
			if got++; got == 500 && !killed {
				killed = true
				child.Process.Kill()
			}
		}
		child.Wait()
		if !killed || len(acked) < before {
			t.Fatalf("the child ended by itself: %s", stderr.String())
		}
		top = roundTop
		checkAcked(t, dir, acked)
	}
}

func checkAcked(t *testing.T, dir string, acked map[string]uint64) {
	kv, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	share, err := kv.Share("")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for n := uint64(0); n < share.Box().Last(); {
		items, err := share.Box().Next(n, 512)
		if err != nil {
			t.Fatal(err)
		}
		n += uint64(len(items))
		for _, it := range items {
			c, err := readChange(it[1:])
			if err != nil {
				t.Fatal(err)
			}
			told[c.key] = true
		}
	}
	s := killStores(kv)
	for key, gen := range acked {
		v, err := s.Get(bg, "s", key)
		if err != nil || v.Generation < gen || !bytes.Equal(v.Value, killValue(key)) {
			t.Fatalf("acknowledged write %s at %d: found %d, %v", key, gen, v.Generation, err)
		}
		if v, err := s.Get(bg, "m", key); err != nil || !bytes.Equal(v.Value, killValue(key)) || !told[key] {
			t.Fatalf("acknowledged write %s to the shared store: %v, in the outbox: %v", key, err, told[key])
		}
	}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	open := func() (*KV, *Stores) {
		kv, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return kv, kv.For("svc", map[string][]wedge.KVSeed{"s": nil}, map[string]wedge.Store{"s": {Scope: wedge.ScopeLocal}})
	}
	kv, s := open()
	first := put(t, s, wedge.KVPut{Key: "k", Value: []byte("v")})
	_, err := Open(dir, Options{})
	wantKind(t, err, wedge.Unavailable)
	if wedge.HintOf(err) == "" {
		t.Error("no hint for a directory in use")
	}
	kv.Close()
	kv, s = open()
	want(t, s, "k", "v")
	if again := put(t, s, wedge.KVPut{Key: "k"}); again <= first {
		t.Errorf("generation %d after %d", again, first)
	}
	kv.db.Set(schemaKey, binary.BigEndian.AppendUint64(nil, 99), pebble.Sync)
	kv.Close()
	_, err = Open(dir, Options{})
	wantKind(t, err, wedge.Invalid)
}

func TestRunSweepsUntilCancelled(t *testing.T) {
	kv, err := Open(t.TempDir(), Options{SweepEvery: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	s := kv.For("svc", map[string][]wedge.KVSeed{"s": nil}, nil)
	put(t, s, wedge.KVPut{Key: "k", TTL: time.Nanosecond})
	ctx, cancel := context.WithCancel(bg)
	done := make(chan error)
	go func() { done <- kv.Run(ctx) }()
	for deadline := time.Now().Add(5 * time.Second); countRecords(t, kv, headSpace) > 0; {
		if time.Now().After(deadline) {
			t.Fatal("the expired key was not swept")
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	kv.opts.MinFree = 1 << 62
	kv.watchDisk()
	_, err = s.Put(bg, "s", wedge.KVPut{Key: "k"})
	wantKind(t, err, wedge.Unavailable)
}

func FuzzDecodeHead(f *testing.F) {
	f.Add((&head{generation: 7, metadata: "m", value: []byte("v"), expires: time.Unix(9, 0)}).encode())
	f.Add((&head{tombstone: true}).encode())
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHead(b)
		if err != nil {
			return
		}
		again, err := decodeHead(h.encode())
		if err != nil || again.metadata != h.metadata || !bytes.Equal(again.value, h.value) || again.generation != h.generation || !again.expires.Equal(h.expires) {
			t.Fatalf("%+v reads back as %+v, %v", h, again, err)
		}
	})
}

func BenchmarkPut(b *testing.B) {
	kv, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer kv.Close()
	s := kv.For("svc", map[string][]wedge.KVSeed{"s": nil}, nil)
	value := make([]byte, 200)
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := s.Put(bg, "s", wedge.KVPut{Key: fmt.Sprint(i % 1000), Value: value}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestCloseWaits: who closes a database waits for operations under way, and these for nothing: one that begins another meanwhile is refused.
func TestCloseWaits(t *testing.T) {
	kv, err := Open(t.TempDir(), Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.enter(bg, "test", "outer"); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- kv.Close() }()
	for kv.users.Load() > 0 {
		runtime.Gosched() // until it waits
	}
	if err := kv.enter(bg, "test", "inner"); wedge.KindOf(err) != wedge.Unavailable {
		t.Errorf("an operation within another: %v", err)
	}
	select {
	case err := <-ended:
		t.Fatalf("it is closed under an operation: %v", err)
	default:
	}
	kv.leave()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := kv.Close(); err != nil {
		t.Error(err)
	}
}
