package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/manifest"
	"github.com/wedge-cloud/wedge/node"
	"github.com/wedge-cloud/wedge/world"
)

const (
	purgeRate    = 1000 // a second
	purgeSeconds = 5
)

// fleetWorld starts a world of fifty PoPs that serve one site.
func fleetWorld(ctx context.Context) (w *world.World, done func(), err error) {
	dir, err := os.MkdirTemp("", "wedge-bench-")
	if err != nil {
		return nil, nil, err
	}
	site, err := url.Parse("http://127.0.0.1:1")
	if err != nil {
		return nil, nil, err
	}
	quiet := slog.New(slog.DiscardHandler)
	w, err = world.Open(ctx, world.Config{PoPs: world.Fifty, Dir: dir, Log: quiet, Node: func(wedge.PoP) node.Config {
		app := &manifest.App{Version: wedge.Version{Service: "site", Backends: []wedge.Backend{{Name: "site", URL: site, AllowPrivateAddr: true}}}}
		return node.Config{Load: node.One(func(context.Context) (*manifest.App, error) { return app, nil }), HTTP: []string{"127.0.0.1:0"},
			Quiet: true, Log: quiet, CacheDisk: -1, DrainTimeout: time.Second}
	}})
	if err != nil {
		os.RemoveAll(dir)
		return nil, nil, err
	}
	if err := w.Start(ctx); err != nil {
		w.Close()
		os.RemoveAll(dir)
		return nil, nil, err
	}
	return w, func() {
		w.Close()
		os.RemoveAll(dir)
	}, nil
}

// purgeMeter compares when purges are applied with when they were accepted.
type purgeMeter struct {
	mu             sync.Mutex
	w              *world.World
	accepted       map[string]purgeStart
	done           map[string]bool // by PoP and id: one may say so twice
	total, network samples
	beyond         samples // what was not the network's
}

type purgeStart struct {
	at  time.Time
	pop string
}

func (m *purgeMeter) heard(_ string, data []byte) {
	var a struct {
		PoP string
		IDs []string
		At  time.Time
	}
	if json.Unmarshal(data, &a) != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range a.IDs {
		s, ok := m.accepted[id]
		if !ok || m.done[a.PoP+id] {
			continue
		}
		m.done[a.PoP+id] = true
		took, path := a.At.Sub(s.at), m.w.OneWay(s.pop)+m.w.OneWay(a.PoP)
		m.total, m.network, m.beyond = append(m.total, took), append(m.network, path), append(m.beyond, max(0, took-path))
	}
}

// purges measures how long purges take to all of fifty PoPs, at a thousand a second.
func purges(ctx context.Context, _ *lab) ([]Row, error) {
	before := taken()
	w, done, err := fleetWorld(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	time.Sleep(3 * time.Second) // until all links are up
	idle := (taken() - before) / float64(len(world.Fifty)) / (1 << 20)
	m := &purgeMeter{w: w, accepted: map[string]purgeStart{}, done: map[string]bool{}}
	stop, err := w.Core().Link().Hear("applied.purge", m.heard)
	if err != nil {
		return nil, err
	}
	defer stop()
	n := 0
	for began := time.Now(); n < purgeRate*purgeSeconds; n++ {
		time.Sleep(time.Until(began.Add(time.Duration(n) * time.Second / purgeRate)))
		pop := world.Fifty[rand.IntN(len(world.Fifty))].Name
		p := wedge.Purge{ID: fmt.Sprint("bench-", n), Service: "site", Keys: []string{fmt.Sprint("key-", n)}, At: time.Now()}
		m.mu.Lock()
		m.accepted[p.ID] = purgeStart{time.Now(), pop}
		m.mu.Unlock()
		if err := w.Node(pop).Purge(p); err != nil {
			return nil, err
		}
	}
	want := n * (len(world.Fifty) - 1)
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		m.mu.Lock()
		all := len(m.total) >= want
		m.mu.Unlock()
		if all {
			break
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.total) != want {
		return nil, fmt.Errorf("%d of %d purges were applied", len(m.total), want)
	}
	all := compare("purge-50-pops", time.Millisecond, m.total, m.network, "the network's part")
	all.Note = fmt.Sprintf("%d purges, %d a second, from accepted to applied at the %d other PoPs", n, purgeRate, len(world.Fifty)-1)
	beyond := compare("purge-50-pops/beyond-network", time.Millisecond, m.beyond, nil, "")
	beyond.Target, beyond.Note = "<= 20, <= 100", "p50 and p99 of what each took longer than its way"
	memory := Row{Name: "idle-pop", P50: idle, Unit: "MiB", Target: "<= 100", Note: fmt.Sprintf("resident, of %d in one process with the core", len(world.Fifty))}
	return []Row{all, beyond, memory}, nil
}

// taken returns what the process has in memory, in bytes, after a collection.
func taken() float64 {
	runtime.GC()
	own, _, err := resident(os.Getpid())
	if err != nil {
		return 0
	}
	return float64(own)
}
