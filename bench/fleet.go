package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/control"
	"github.com/wedge-cloud/wedge/node"
	"github.com/wedge-cloud/wedge/world"
)

const (
	purgeRate    = 1000 // a second
	purgeSeconds = 5
)

// fleetWorld starts a world of fifty PoPs that serve one site.
func fleetWorld(ctx context.Context) (w *world.World, done func(), err error) {
	return fleetWorldOf(ctx, world.Fifty)
}

func fleetWorldOf(ctx context.Context, pops []wedge.PoP) (w *world.World, done func(), err error) {
	return startWorld(ctx, pops, wedge.Version{Backends: []wedge.Backend{{Name: "site", URL: at("http://127.0.0.1:1"), AllowPrivateAddr: true}}}, nil)
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

		After []int64
	}
	if json.Unmarshal(data, &a) != nil || len(a.After) != len(a.IDs) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, id := range a.IDs {
		s, ok := m.accepted[id]
		if !ok || a.PoP == s.pop || m.done[a.PoP+id] { // who accepted it says so, too
			continue
		}
		m.done[a.PoP+id] = true
		took, path := a.At.Add(time.Duration(a.After[i])*time.Microsecond).Sub(s.at), m.w.OneWay(s.pop)+m.w.OneWay(a.PoP)
		m.total, m.network, m.beyond = append(m.total, took), append(m.network, path), append(m.beyond, max(0, took-path))
	}
}

// purges measures how long purges take to all of fifty PoPs, at a thousand a second.
func purges(ctx context.Context, l *lab) ([]Row, error) {
	before := taken()
	w, done, err := fleetWorld(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	time.Sleep(3 * time.Second) // until all links are up
	idle := (taken() - before) / float64(len(world.Fifty)) / (1 << 20)
	m := &purgeMeter{w: w, accepted: map[string]purgeStart{}, done: map[string]bool{}}
	stop, err := w.Core().Link().Hear("applied.purge.*", m.heard)
	if err != nil {
		return nil, err
	}
	defer stop()
	profiled, err := startProfile(l.profile)
	if err != nil {
		return nil, err
	}
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
	profiled()
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
	debug.FreeOSMemory()
	own, _, err := resident(os.Getpid())
	if err != nil {
		return 0
	}
	return float64(own)
}

const (
	deployRounds = 5
	manyServices = 1000
)

// deploys measures how long a version takes to be live at all of fifty PoPs, a rollback, and healing after a cut; and
// what a thousand services take of one PoP.
func deploys(ctx context.Context, _ *lab) ([]Row, error) {
	many, err := services(ctx) // first: it wants an empty heap
	if err != nil {
		return nil, err
	}
	w, done, err := fleetWorld(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	d := &deployMeter{w: w, runs: map[string]int{}}
	rows, err := d.rows(ctx)
	return append(rows, many...), err
}

// deployMeter follows what PoPs say they run, when they say it: their clocks are one.
type deployMeter struct {
	w      *world.World
	client api.Client
	mu     sync.Mutex
	runs   map[string]int // version by PoP
}

func (d *deployMeter) heard(_ string, data []byte) {
	var list []struct {
		PoP     string
		Service string
		Version int
	}
	if json.Unmarshal(data, &list) != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range list {
		if r.Service == "page" {
			d.runs[r.PoP] = r.Version
		}
	}
}

// all waits until so many PoPs run a version.
func (d *deployMeter) all(ctx context.Context, version, pops int) error {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		n := 0
		d.mu.Lock()
		for _, v := range d.runs {
			if v == version {
				n++
			}
		}
		d.mu.Unlock()
		if n >= pops {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("version %d is not live everywhere after a minute", version)
}

func (d *deployMeter) rows(ctx context.Context) ([]Row, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := http.Server{Handler: d.w.Core()}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	d.client = api.Client{URL: "http://" + l.Addr().String(), Token: d.w.Core().AdminToken()}
	stop, err := d.w.Core().Link().Hear("runs.*", d.heard)
	if err != nil {
		return nil, err
	}
	defer stop()
	time.Sleep(2 * time.Second) // until all PoPs are there
	all := len(world.Fifty)
	var deployed, back, healed samples
	for i := range deployRounds {
		n, err := deployPage(ctx, &d.client, "page", fmt.Sprint("version ", i))
		if err != nil {
			return nil, err
		}
		began := time.Now()
		if _, err := d.client.Release(ctx, "page", "", api.Pick{Version: n}); err != nil {
			return nil, err
		}
		if err := d.all(ctx, n, all); err != nil {
			return nil, err
		}
		deployed = append(deployed, time.Since(began))
		for state := ""; state != control.Done; time.Sleep(10 * time.Millisecond) {
			r, err := d.client.Releases(ctx, "page")
			if err != nil {
				return nil, err
			}
			state = r[len(r)-1].State
		}
		if i == 0 {
			continue // there is nothing to go back to
		}
		began = time.Now()
		if _, err := d.client.Rollback(ctx, "page", "", n-1); err != nil {
			return nil, err
		}
		if err := d.all(ctx, n-1, all); err != nil {
			return nil, err
		}
		back = append(back, time.Since(began))
		if err := d.w.Cut("nrt", "syd", "gru"); err != nil {
			return nil, err
		}
		time.Sleep(2 * time.Second)
		if _, err := d.client.Rollback(ctx, "page", "", n); err != nil {
			return nil, err
		}
		if err := d.all(ctx, n, all-3); err != nil {
			return nil, err
		}
		began = time.Now()
		if err := d.w.Heal(); err != nil {
			return nil, err
		}
		if err := d.all(ctx, n, all); err != nil {
			return nil, err
		}
		healed = append(healed, time.Since(began))
	}
	far := time.Duration(0)
	for _, p := range world.Fifty {
		far = max(far, 2*d.w.OneWay(p.Name))
	}
	trip := samples{far}
	rows := []Row{compare("deploy-50-pops", time.Millisecond, deployed, trip, "longest round trip"),
		compare("rollback-50-pops", time.Millisecond, back, trip, "longest round trip"),
		compare("heal", time.Millisecond, healed, trip, "longest round trip")}
	rows[0].Target, rows[0].Note = "<= 2000 + trip", "from release to live everywhere, as the core hears it: one PoP, then all; a page of static files"
	rows[1].Target, rows[1].Note = "<= 100 + trip", "from the command to live everywhere, as the core hears it"
	rows[2].Target, rows[2].Note = "<= 5000", "from the links' return to the missed version live at three PoPs"
	return rows, nil
}

// deployPage makes a version of a service that is one page.
func deployPage(ctx context.Context, client *api.Client, service, text string) (int, error) {
	dir, err := os.MkdirTemp("", "wedge-bench-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte(text), 0o600); err != nil {
		return 0, err
	}
	chunks := control.OpenChunks(filepath.Join(dir, "chunks"))
	a, err := control.Pack(&wedge.Version{Service: service, Hosts: []string{service + ".example"}, Backends: []wedge.Backend{{Name: "site", Dir: dir}}}, nil, chunks.Keep)
	if err != nil {
		return 0, err
	}
	if _, _, err := client.Upload(ctx, a, chunks); err != nil {
		return 0, err
	}
	v, err := client.NewVersion(ctx, service, "", api.NewVersion{Artifact: a})
	return v.Number, err
}

// services measures a PoP with a thousand services: its start with all on its disk, and what it takes idle.
func services(ctx context.Context) ([]Row, error) {
	dir, err := os.MkdirTemp("", "wedge-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	quiet := slog.New(slog.DiscardHandler)
	w, err := world.Open(ctx, world.Config{PoPs: world.Fifty[:1], Dir: dir, Log: quiet, Flat: true, Node: func(wedge.PoP) node.Config {
		return node.Config{HTTP: []string{"127.0.0.1:0"}, Quiet: true, Log: quiet, CacheDisk: -1, DrainTimeout: time.Second}
	}})
	if err != nil {
		return nil, err
	}
	defer w.Close()
	before := taken()
	if err := w.Start(ctx); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := http.Server{Handler: w.Core()}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	client := api.Client{URL: "http://" + l.Addr().String(), Token: w.Core().AdminToken()}
	for i := range manyServices {
		name := fmt.Sprint("service-", i)
		n, err := deployPage(ctx, &client, name, name)
		if err != nil {
			return nil, err
		}
		if _, err := client.Rollback(ctx, name, "", n); err != nil {
			return nil, err
		}
	}
	pop := world.Fifty[0].Name
	live := func() error {
		for end := time.Now().Add(2 * time.Minute); w.Node(pop).Services() < manyServices; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				return fmt.Errorf("%d of %d services are live", w.Node(pop).Services(), manyServices)
			}
		}
		return nil
	}
	if err := live(); err != nil {
		return nil, err
	}
	if err := w.Stop(); err != nil {
		return nil, err
	}
	began := time.Now()
	if err := w.Start(ctx); err != nil {
		return nil, err
	}
	if err := live(); err != nil {
		return nil, err
	}
	start := Row{Name: "start-1000-services", P50: time.Since(began).Seconds(), Unit: "s", Target: "<= 5", Note: "from start to all live, from its own disk"}
	memory := Row{Name: "idle-1000-services", P50: (taken() - before) / (1 << 20), Unit: "MiB", Target: "<= 400", Note: "resident beyond a core's, the core's part of their catalog included"}
	return []Row{start, memory}, nil
}
