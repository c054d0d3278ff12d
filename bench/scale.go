package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/bus"
	"github.com/wedge-cloud/wedge/node"
	"github.com/wedge-cloud/wedge/world"
)

// How a fleet grows, for docs/scale.md: with PoPs, with links to a core, with services and versions, with what a PoP has missed.

const (
	scaleRate     = 20 // purges a second: few, so that one machine that plays all PoPs keeps up
	scaleSeconds  = 5
	scaleServices = 1000
	scaleVersions = 20
	scaleMissed   = 50_000
)

func scale(ctx context.Context, _ *lab) (rows []Row, err error) {
	for _, part := range []func(context.Context) ([]Row, error){
		func(ctx context.Context) ([]Row, error) { return grownFleet(ctx, 10) },
		func(ctx context.Context) ([]Row, error) { return grownFleet(ctx, 50) },
		func(ctx context.Context) ([]Row, error) { return grownFleet(ctx, 100) }, joinStorm, missedPurges, grownCatalog} {
		more, err := part(ctx)
		if err != nil {
			return rows, err
		}
		printTable(os.Stderr, more)
		rows = append(rows, more...)
	}
	return rows, nil
}

// cities returns so many PoPs; from the 51st on a city has several.
func cities(n int) (pops []wedge.PoP) {
	for i := range n {
		p := world.Fifty[i%len(world.Fifty)]
		if i >= len(world.Fifty) {
			p.Name = fmt.Sprint(p.Name, 1+i/len(world.Fifty))
		}
		pops = append(pops, p)
	}
	return pops
}

// grownFleet measures a world of so many PoPs.
func grownFleet(ctx context.Context, n int) ([]Row, error) {
	before, began, pops := taken(), time.Now(), cities(n)
	w, done, err := fleetWorldOf(ctx, pops)
	if err != nil {
		return nil, err
	}
	defer done()
	for len(w.Node(pops[0].Name).PoPs()) < n {
		time.Sleep(10 * time.Millisecond)
	}
	start := time.Since(began)
	time.Sleep(3 * time.Second)
	idle := (taken() - before) / float64(n) / (1 << 20)
	m := &purgeMeter{w: w, accepted: map[string]purgeStart{}, done: map[string]bool{}}
	stop, err := w.Core().Link().Hear("applied.purge.*", m.heard)
	if err != nil {
		return nil, err
	}
	defer stop()
	for i := range scaleRate * scaleSeconds {
		time.Sleep(time.Second / scaleRate)
		p := wedge.Purge{ID: fmt.Sprint("scale-", i), Service: "site", Keys: []string{"key"}, At: time.Now()}
		pop := pops[rand.IntN(n)].Name
		m.mu.Lock()
		m.accepted[p.ID] = purgeStart{time.Now(), pop}
		m.mu.Unlock()
		if err := w.Node(pop).Purge(p); err != nil {
			return nil, err
		}
	}
	time.Sleep(2 * time.Second)
	m.mu.Lock()
	got := len(m.total)
	all := compare(fmt.Sprintf("scale-%d/purge", n), time.Millisecond, m.total, m.network, "the network's part")
	beyond := compare(fmt.Sprintf("scale-%d/purge-beyond-network", n), time.Millisecond, m.beyond, nil, "")
	m.mu.Unlock()
	all.Note = fmt.Sprintf("%d a second, %d of %d applied within two seconds", scaleRate, got, scaleRate*scaleSeconds*(n-1))
	live, err := grownDeploy(ctx, w, n)
	if err != nil {
		return nil, err
	}
	return []Row{{Name: fmt.Sprintf("scale-%d/start", n), P50: start.Seconds(), Unit: "s", Note: "from nothing until one PoP has heard of all"},
		{Name: fmt.Sprintf("scale-%d/idle-pop", n), P50: idle, Unit: "MiB", Note: "resident, with its share of the core"}, all, beyond, live}, nil
}

// serveCore serves a core's API.
func serveCore(c *node.Core) (client api.Client, done func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return client, nil, err
	}
	server := &http.Server{Handler: c}
	go func() { _ = server.Serve(l) }()
	return api.Client{URL: "http://" + l.Addr().String(), Token: c.AdminToken()}, func() { server.Close() }, nil
}

// grownDeploy measures how long a version takes to be live at all.
func grownDeploy(ctx context.Context, w *world.World, pops int) (r Row, err error) {
	d := &deployMeter{w: w, runs: map[string]int{}}
	var done func()
	if d.client, done, err = serveCore(w.Core()); err != nil {
		return r, err
	}
	defer done()
	stop, err := w.Core().Link().Hear("runs.*", d.heard)
	if err != nil {
		return r, err
	}
	defer stop()
	var took samples
	for i := range 3 {
		n, err := deployPage(ctx, &d.client, "page", fmt.Sprint("version ", i))
		if err != nil {
			return r, err
		}
		began := time.Now()
		if _, err := d.client.Release(ctx, "page", "", api.Pick{Version: n}); err != nil {
			return r, err
		}
		if err := d.all(ctx, n, pops); err != nil {
			return r, err
		}
		took = append(took, time.Since(began))
		time.Sleep(2 * time.Second) // until the rollout has ended
	}
	return compare(fmt.Sprintf("scale-%d/deploy", pops), time.Millisecond, took, nil, ""), nil
}

// joinStorm measures a thousand links that come at once.
func joinStorm(ctx context.Context) ([]Row, error) {
	const links = 1000
	dir, err := os.MkdirTemp("", "wedge-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	core, err := bus.OpenCore(bus.CoreConfig{Dir: dir, Listen: "127.0.0.1:0"})
	if err != nil {
		return nil, err
	}
	defer core.Close()
	before, began := taken(), time.Now()
	all := make([]*bus.Link, links)
	var w sync.WaitGroup
	var heard atomic.Int64
	for i := range all {
		w.Go(func() {
			l, err := bus.Connect(bus.LinkConfig{Name: fmt.Sprint(i), URLs: []string{"nats://" + core.Addr()}, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				return
			}
			all[i] = l
			if _, err := l.Hear("now.>", func(string, []byte) { heard.Add(1) }); err != nil {
				return
			}
			for !l.Up() {
				select {
				case <-l.Came():
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
	}
	w.Wait()
	up := time.Since(began)
	if all[0] == nil {
		return nil, errors.New("a link was not made")
	}
	time.Sleep(2 * time.Second) // until the core knows who hears what
	var fan samples
	for i := range 50 {
		began := time.Now()
		heard.Store(0)
		if err := all[i].Say("now.purge", make([]byte, 200)); err != nil {
			return nil, err
		}
		for heard.Load() < links && time.Since(began) < time.Second {
			time.Sleep(100 * time.Microsecond)
		}
		fan = append(fan, time.Since(began))
	}
	each := (taken() - before) / links / (1 << 10)
	for _, l := range all {
		l.Close()
	}
	row := compare("storm-1000-links/fan-out", time.Millisecond, fan, nil, "")
	row.Note = "a message from one link until the last of 1,000 has it, over TCP, all in one process"
	return []Row{{Name: "storm-1000-links", P50: up.Seconds(), Unit: "s", Note: "until all are up, over TCP without TLS"},
		{Name: "storm-1000-links/memory", P50: each, Unit: "KiB", Note: "resident a link, both ends"}, row}, nil
}

// missedPurges measures how fast a PoP that was cut off hears what it missed, and tells what it did.
func missedPurges(ctx context.Context) (rows []Row, err error) {
	pops := cities(2)
	w, done, err := fleetWorldOf(ctx, pops)
	if err != nil {
		return nil, err
	}
	defer done()
	applied := make(chan int, 1<<16)
	m := &countMeter{applied: applied}
	stop, err := w.Core().Link().Hear("applied.purge."+pops[1].Name, m.heard)
	if err != nil {
		return nil, err
	}
	defer stop()
	for _, cut := range []string{pops[1].Name, pops[0].Name} { // who listens, then who says it
		time.Sleep(time.Second)
		if err := w.Cut(cut); err != nil {
			return nil, err
		}
		began := time.Now()
		if err := purgeMany(w.Node(pops[0].Name), cut); err != nil {
			return nil, err
		}
		accepted := time.Since(began)
		time.Sleep(5 * time.Second) // until the log has all that can get there
		began = time.Now()
		if err := w.Heal(); err != nil {
			return nil, err
		}
		for n := 0; n < scaleMissed; {
			select {
			case some := <-applied:
				n += some
			case <-time.After(time.Minute):
				return nil, fmt.Errorf("%d of %d purges were applied", n, scaleMissed)
			}
		}
		rows = append(rows, Row{Name: "missed/" + map[bool]string{true: "heard", false: "said"}[cut == pops[1].Name], P50: scaleMissed / time.Since(began).Seconds(), Unit: "/s",
			Note: fmt.Sprintf("%d purges, from the link's return until the other PoP has applied the last; accepting them took %.1f s", scaleMissed, accepted.Seconds())})
	}
	return rows, nil
}

// countMeter counts what a PoP says it has applied.
type countMeter struct{ applied chan<- int }

func (m *countMeter) heard(_ string, data []byte) {
	var a struct{ IDs []string }
	if json.Unmarshal(data, &a) == nil {
		m.applied <- len(a.IDs)
	}
}

// purgeMany accepts many purges at one PoP, from many at once.
func purgeMany(n *node.Node, name string) error {
	var w sync.WaitGroup
	const writers = 64
	errs := make([]error, writers)
	for i := range writers {
		w.Go(func() {
			for k := i; k < scaleMissed; k += writers {
				if err := n.Purge(wedge.Purge{ID: fmt.Sprint(name, "-", k), Service: "site", Keys: []string{fmt.Sprint("key-", k)}, At: time.Now()}); err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	w.Wait()
	return errors.Join(errs...)
}

// grownCatalog measures a thousand services of twenty versions each.
func grownCatalog(ctx context.Context) ([]Row, error) {
	dir, err := os.MkdirTemp("", "wedge-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	quiet := slog.New(slog.DiscardHandler)
	cfg := world.Config{PoPs: world.Fifty[:2], Dir: dir, Log: quiet, Flat: true, Node: func(wedge.PoP) node.Config {
		return node.Config{HTTP: []string{"127.0.0.1:0"}, Quiet: true, Log: quiet, CacheDisk: -1, DrainTimeout: time.Second}
	}}
	w, err := world.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := fillCatalog(ctx, w.Core()); err != nil {
		w.Close()
		return nil, err
	}
	filled := time.Since(began)
	w.Close()
	size := sizeOf(filepath.Join(dir, "core", "log"), "CATALOG")
	before, began := taken(), time.Now()
	if w, err = world.Open(ctx, cfg); err != nil {
		return nil, err
	}
	defer w.Close()
	core := time.Since(began)
	memory := (taken() - before) / (1 << 20)
	name := cfg.PoPs[0].Name
	start := func() (float64, error) {
		began := time.Now()
		err := w.Start(ctx, name)
		for err == nil && w.Node(name).Services() < scaleServices {
			if time.Sleep(5 * time.Millisecond); time.Since(began) > 5*time.Minute {
				err = fmt.Errorf("%d services are live", w.Node(name).Services())
			}
		}
		return time.Since(began).Seconds(), err
	}
	first, err := start()
	if err != nil {
		return nil, err
	}
	if err := w.Stop(name); err != nil {
		return nil, err
	}
	again, err := start()
	if err != nil {
		return nil, err
	}
	pop := sizeOf(filepath.Join(dir, name), "")
	entries := scaleServices * (scaleVersions + 1)
	return []Row{
		{Name: "catalog/decisions", P50: float64(entries) / filled.Seconds(), Unit: "/s", Note: fmt.Sprintf("%d, one after the other, with packing and upload", entries)},
		{Name: "catalog/size", P50: float64(size) / (1 << 20), Unit: "MiB", Note: "on the core's disk"},
		{Name: "catalog/core-restart", P50: core.Seconds(), Unit: "s", Note: "until it decides"},
		{Name: "catalog/core-memory", P50: memory, Unit: "MiB", Note: "resident beyond the bench"},
		{Name: "catalog/first-start", P50: first, Unit: "s", Note: "of a PoP with an empty disk, until 1,000 services are live"},
		{Name: "catalog/restart", P50: again, Unit: "s", Note: "of that PoP, from its disk"},
		{Name: "catalog/pop-disk", P50: float64(pop) / (1 << 20), Unit: "MiB", Note: "of that PoP"},
	}, nil
}

func fillCatalog(ctx context.Context, core *node.Core) error {
	client, done, err := serveCore(core)
	if err != nil {
		return err
	}
	defer done()
	for i := range scaleServices {
		name, n := fmt.Sprint("service-", i), 0
		for k := range scaleVersions {
			for try := 0; ; try++ { // a disk that others use, too, may take longer than an answer may
				if n, err = deployPage(ctx, &client, name, fmt.Sprint(name, " version ", k)); err == nil {
					break
				}
				if wedge.KindOf(err) != wedge.Unavailable || try == 3 {
					return err
				}
			}
		}
		if _, err := client.Rollback(ctx, name, "", n); err != nil {
			return err
		}
	}
	return nil
}

// sizeOf returns how many bytes the files below a directory have, those only whose path has a part of that name unless it is "".
func sizeOf(dir, part string) (n int64) {
	_ = filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || part != "" && !within(file, part) {
			return nil // what goes away meanwhile is not counted
		}
		if info, err := d.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n
}

func within(file, part string) bool {
	for dir := file; dir != "." && dir != "/"; dir = filepath.Dir(dir) {
		if filepath.Base(dir) == part {
			return true
		}
	}
	return false
}
