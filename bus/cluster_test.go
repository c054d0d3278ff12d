package bus

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

// freeAddrs returns addresses at which nothing listens.
func freeAddrs(t *testing.T, n int) (addrs []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs
}

// TestThreeServers: a core of three goes on when any one of them is gone, and loses nothing that it has
// acknowledged.
func TestThreeServers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys, err := OpenKeys(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	peers := freeAddrs(t, 3)
	var cores [3]*Core
	open := func(i int) {
		t.Helper()
		cores[i], err = OpenCore(CoreConfig{Name: fmt.Sprint("core", i), Dir: filepath.Join(dir, fmt.Sprint(i)), Listen: "127.0.0.1:0",
			Cluster: peers[i], Peers: peers, Keys: keys, Log: quiet})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range cores {
		open(i)
	}
	defer func() {
		for _, c := range cores {
			c.Close()
		}
	}()
	own, err := OpenMember(filepath.Join(dir, "core.nk"))
	if err != nil {
		t.Fatal(err)
	}
	pass, err := keys.CorePass(own.Public())
	if err != nil {
		t.Fatal(err)
	}
	own.Carry(pass)
	var learned sync.Map
	l, err := Connect(LinkConfig{Name: "core", URLs: []string{"nats://" + cores[0].Addr()}, Member: own, Log: quiet,
		Learned: func(urls []string) { learned.Store(len(urls), true) }})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	untilDone(t, ctx, func() error { return l.Keep(ctx, ops, 3) })
	untilDone(t, ctx, func() error { return l.KeepShelf(ctx, things, 3) })

	b, r := newBox(), &reader{}
	var w sync.WaitGroup
	running, end := context.WithCancel(ctx)
	w.Go(func() { _ = l.Pump(running, ops, "lhr.1", b, nil) })
	w.Go(func() { _ = l.Follow(running, ops, 1, r.follower()) })
	n := 0
	for i := range cores {
		for range 20 {
			n++
			b.add(fmt.Sprint(n))
		}
		until(t, ctx, func() bool { return r.count() == n })
		untilDone(t, ctx, func() error { return l.Put(ctx, things, fmt.Sprint(i), []byte("x")) })
		cores[i].Close()
		for range 20 { // while nobody leads, perhaps
			n++
			b.add(fmt.Sprint(n))
		}
		until(t, ctx, func() bool { return r.count() == n })
		untilDone(t, ctx, func() error { _, err := l.Get(ctx, things, fmt.Sprint(i)); return err })
		open(i)
		// Two of three have to have everything before another goes.
		untilDone(t, ctx, func() error {
			if now := l.replicas(ctx, ops); now < 3 {
				return fmt.Errorf("%d copies are current", now)
			}
			return nil
		})
	}
	end()
	w.Wait()
	for i, it := range r.items {
		if it != fmt.Sprintf("lhr.1 %d %[1]d", i+1) {
			t.Fatalf("item %d is %q", i, it)
		}
	}
	if _, ok := learned.Load(3); !ok {
		t.Error("the link did not learn of the other servers")
	}
}

// replicas returns how many of a log's copies are current.
func (l *Link) replicas(ctx context.Context, g *Log) (n int) {
	var info struct {
		Cluster struct {
			Leader   string `json:"leader"`
			Replicas []struct {
				Current bool `json:"current"`
			} `json:"replicas"`
		} `json:"cluster"`
	}
	if err := l.askAPI(ctx, "STREAM.INFO."+g.Name, struct{}{}, &info); err != nil || info.Cluster.Leader == "" {
		return 0
	}
	n = 1
	for _, r := range info.Cluster.Replicas {
		if r.Current {
			n++
		}
	}
	return n
}

func until(t *testing.T, ctx context.Context, ok func() bool) {
	t.Helper()
	untilDone(t, ctx, func() error {
		if !ok() {
			return &wedge.Error{Op: "wait", Kind: wedge.Timeout}
		}
		return nil
	})
}

func untilDone(t *testing.T, ctx context.Context, f func() error) {
	t.Helper()
	for {
		err := f()
		if err == nil {
			return
		}
		if pause(ctx, 50*time.Millisecond) != nil {
			t.Fatal(err)
		}
	}
}
