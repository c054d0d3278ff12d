package node

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/bus"
	"github.com/wedge-cloud/wedge/control"
	"github.com/wedge-cloud/wedge/front"
	"github.com/wedge-cloud/wedge/manifest"
	"github.com/wedge-cloud/wedge/rollout"
	"github.com/wedge-cloud/wedge/state"
)

// applier makes a PoP run what the catalog says it should. It keeps the catalog and what versions are made of on
// disk, so it needs the core for what is new only.
type applier struct {
	n           *Node
	link        *bus.Link
	pops        *popMap // forgets those that are members no more
	unconfirmed *unconfirmed
	pop         string
	catalog     *control.Control // follows, and never decides
	kept        *state.Outbox    // the catalog's entries, as they came
	chunks      *control.Chunks
	dir         string // of the artifacts' files

	mu      sync.Mutex
	running map[string]*control.Version // by service
	failed  map[string]failure          // why what is wanted is not run
	figures map[string]map[int]*rollout.Figures
}

// failure is a version that cannot be run here. It is tried again after a while.
type failure struct {
	version int
	err     error
	again   time.Time
}

const (
	retryPause   = 5 * time.Second
	reportPause  = time.Second
	chunkFetches = 8 // at once
)

func (n *Node) openApplier(f *fleet) (a *applier, err error) {
	a = &applier{n: n, link: f.link, pops: &f.pops, unconfirmed: &f.unconfirmed, pop: f.cfg.PoP.Name, catalog: control.New(nil, nil), chunks: control.OpenChunks(filepath.Join(n.cfg.DataDir, "chunks")),
		dir: filepath.Join(n.cfg.DataDir, "artifacts"), running: map[string]*control.Version{}, failed: map[string]failure{}, figures: map[string]map[int]*rollout.Figures{}}
	a.catalog.Said = n.cfg.Log
	if a.kept, err = n.kv.Outbox("catalog"); err != nil {
		return nil, err
	}
	return a, a.recall()
}

// recall reads what was kept of the catalog.
func (a *applier) recall() error {
	for after := uint64(0); ; {
		items, err := a.kept.Next(after, 256)
		if err != nil || len(items) == 0 {
			a.expel()
			return err
		}
		for _, it := range items {
			after++
			if len(it) < 8 {
				return &wedge.Error{Op: "read catalog", Kind: wedge.Internal, Err: errors.New("an entry that was kept is damaged"), Hint: "Remove the data directory: the core has it all."}
			}
			if err := a.catalog.Take(wedge.Entry{Seq: binary.BigEndian.Uint64(it), Items: [][]byte{it[8:]}}); err != nil {
				return err
			}
		}
	}
}

// take keeps an entry of the catalog, and lets it be applied.
func (a *applier) take(e wedge.Entry) error {
	for _, it := range e.Items {
		if _, err := a.kept.Add(append(binary.BigEndian.AppendUint64(nil, e.Seq), it...)); err != nil {
			return err
		}
	}
	err := a.catalog.Take(e)
	a.expel()
	return err
}

// expel has those forgotten who are members no more.
func (a *applier) expel() {
	var out map[string]bool
	a.catalog.See(func(s *control.State) { out = maps.Clone(s.Out) })
	a.pops.expel(out)
	for name := range out {
		a.unconfirmed.left(name)
	}
}

// run follows the catalog and applies it until ctx ends.
func (a *applier) run(ctx context.Context) error {
	var w sync.WaitGroup
	defer w.Wait()
	next := uint64(0)
	a.catalog.See(func(s *control.State) { next = s.Seq + 1 })
	w.Go(func() {
		if err := a.link.Follow(ctx, catalogLog, next, bus.Follower{Entry: a.take}); ctx.Err() == nil {
			a.n.cfg.Log.Error("the catalog is no longer followed", "err", err)
		}
	})
	w.Go(func() { a.report(ctx) })
	retry := time.NewTicker(time.Second)
	defer retry.Stop()
	for {
		changed := a.apply(ctx)
		select {
		case <-changed:
		case <-retry.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// apply makes the difference between what runs and what should; the channel is closed when that changes.
func (a *applier) apply(ctx context.Context) (changed <-chan struct{}) {
	wanted := map[string]*control.Version{}
	changed = a.catalog.See(func(s *control.State) {
		for name, svc := range s.Services {
			if v := svc.At(a.pop); v != nil {
				wanted[name] = v
			}
		}
	})
	for name, v := range wanted {
		a.mu.Lock()
		have, failed := a.running[name], a.failed[name]
		a.mu.Unlock()
		if have != nil && have.Number == v.Number || failed.version == v.Number && time.Now().Before(failed.again) {
			continue
		}
		err := a.run1(ctx, name, v)
		if ctx.Err() != nil {
			return changed
		}
		a.mu.Lock()
		delete(a.failed, name)
		if err != nil {
			a.failed[name] = failure{v.Number, err, time.Now().Add(retryPause)}
		} else {
			a.running[name] = v
		}
		a.mu.Unlock()
		if err != nil {
			a.n.console.failure(fmt.Sprintf("version %d of %s does not run", v.Number, name), err)
		} else {
			a.n.console.say(fmt.Sprintf("%s: version %d is live", name, v.Number))
		}
		a.say(name)
	}
	return changed
}

// run1 makes one version ready and swaps it in.
func (a *applier) run1(ctx context.Context, name string, v *control.Version) error {
	if err := a.fetch(ctx, v.Artifact); err != nil {
		return err
	}
	made, err := v.Artifact.Unpack(filepath.Join(a.dir, string(v.Digest)), a.chunks.Get)
	if err != nil {
		return err
	}
	if made.Service != name {
		return &wedge.Error{Op: "run version", What: name, Kind: wedge.Invalid, Err: fmt.Errorf("it was made for %s", made.Service)}
	}
	made.Number = v.Number
	if a.n.cfg.LocalNames {
		made.Hosts = append(made.Hosts, name+".localhost")
	}
	d, err := a.n.prepare(ctx, &manifest.App{Version: *made})
	if err != nil {
		return err
	}
	a.n.mu.Lock()
	fresh := maps.Clone(a.n.deployed)
	a.n.mu.Unlock()
	if fresh == nil {
		fresh = map[string]*deployment{}
	}
	fresh[name] = d
	if err := a.n.swap(fresh); err != nil {
		d.discard()
		return err
	}
	return nil
}

// fetch gets the chunks that are not here.
func (a *applier) fetch(ctx context.Context, art *control.Artifact) (err error) {
	var w sync.WaitGroup
	var mu sync.Mutex
	slots := make(chan struct{}, chunkFetches)
	for _, d := range art.Digests() {
		if a.chunks.Has(d) {
			continue
		}
		slots <- struct{}{}
		w.Go(func() {
			defer func() { <-slots }()
			b, e := a.link.Get(ctx, chunkShelf, string(d))
			if e == nil {
				e = a.chunks.KeepPacked(d, b)
			}
			if e != nil {
				mu.Lock()
				defer mu.Unlock()
				err = e // one is enough
			}
		})
	}
	w.Wait()
	return err
}

// count counts a request of a service.
func (a *applier) count(r front.Access) {
	if r.Service == "" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	f := a.figures[r.Service][r.Version]
	if f == nil {
		if a.figures[r.Service] == nil {
			a.figures[r.Service] = map[int]*rollout.Figures{}
		}
		f = new(rollout.Figures)
		a.figures[r.Service][r.Version] = f
		delete(a.figures[r.Service], r.Version-maxFigures)
	}
	f.Requests++
	if r.Status >= 500 || r.Status == 0 {
		f.Errors++
	}
}

// maxFigures is of how many versions of a service figures are kept.
const maxFigures = 8

// report says what runs, with its figures, while a rollout is under way, and now and then of all.
func (a *applier) report(ctx context.Context) {
	t := time.NewTicker(reportPause)
	defer t.Stop()
	for n := 0; ; n++ {
		var names []string
		a.catalog.See(func(s *control.State) {
			for name, svc := range s.Services {
				if svc.Rolling() != nil || n%30 == 0 {
					names = append(names, name)
				}
			}
		})
		if len(names) > 0 {
			a.say(names...)
		}
		select {
		case <-t.C:
		case <-a.link.Came():
			n = -1
		case <-ctx.Done():
			return
		}
	}
}

// maxSaid is of how many services one message says something.
const maxSaid = 200

// say says what runs of some services.
func (a *applier) say(names ...string) {
	var list []rollout.Report
	a.catalog.See(func(s *control.State) {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, name := range names {
			r := rollout.Report{PoP: a.pop, Service: name, Figures: map[int]rollout.Figures{}}
			if v := a.running[name]; v != nil {
				r.Version = v.Number
			}
			if v := s.Services[name].At(a.pop); v != nil {
				r.Wanted = v.Number
				if f := a.failed[name]; f.version == v.Number {
					r.Failed = f.err.Error()
				}
			}
			for v, f := range a.figures[name] {
				r.Figures[v] = *f
			}
			list = append(list, r)
		}
	})
	for len(list) > 0 {
		n := min(len(list), maxSaid)
		if b, err := json.Marshal(list[:n]); err == nil {
			_ = a.link.Say("runs."+a.pop, b) // it is said again
		}
		list = list[n:]
	}
}
