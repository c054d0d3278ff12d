package node

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/bus"
	"github.com/wedge-cloud/wedge/control"
	"github.com/wedge-cloud/wedge/front"
	"github.com/wedge-cloud/wedge/manifest"
	"github.com/wedge-cloud/wedge/rollout"
	"github.com/wedge-cloud/wedge/seal"
	"github.com/wedge-cloud/wedge/state"
)

// applier makes a PoP run what the catalog says it should. It keeps the catalog and what versions are made of on
// disk, so it needs the core for what is new only.
type applier struct {
	n           *Node
	link        *bus.Link
	pop         string
	catalog     *control.Control // follows, and never decides
	kept        *state.Outbox    // the catalog's entries, as they came
	keeping     sync.Mutex
	unkept      [][]byte // the newest, which the disk had no room for
	chunks      *control.Chunks
	pops        *popMap // forgets those that are members no more
	rings       *rings
	unconfirmed *unconfirmed
	dir         string // of the artifacts' files
	allowances  allowances
	swept       made // when what is needed no more was removed last

	applying sync.Mutex // for one at a time: each swaps a table that it has made of the one before

	mu      sync.Mutex
	running map[string]planned // by service
	failed  map[string]failure // why what is wanted is not run
	figures map[string]map[int]*rollout.Figures
}

// planned is what is to be run of a service, or is run.
type planned struct {
	live   int // the version; 0: none
	beside int // the version that gets some requests; 0: none
	split  split
}

// failure is something wanted that cannot be run here. It is tried again after a while.
type failure struct {
	of    planned
	err   error
	again time.Time
}

const (
	retryPause   = 5 * time.Second
	reportPause  = time.Second
	chunkFetches = 8 // at once
)

func (n *Node) openApplier(f *fleet) (a *applier, err error) {
	a = &applier{n: n, link: f.link, pops: &f.pops, rings: f.rings, unconfirmed: &f.unconfirmed, pop: f.cfg.PoP.Name, catalog: control.New(nil, nil), chunks: control.OpenChunks(filepath.Join(n.cfg.DataDir, "chunks")),
		dir: filepath.Join(n.cfg.DataDir, "artifacts"), running: map[string]planned{}, failed: map[string]failure{}, figures: map[string]map[int]*rollout.Figures{}}
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
				a.n.cfg.Log.Error("the catalog that was kept is not read to its end", "err", err, "hint", wedge.HintOf(err))
				return nil // a newer Wedge has kept it, and will read the rest; this one runs what was decided before
			}
		}
	}
}

// maxUnkept is how many items of the catalog a PoP whose disk is full keeps in memory only.
const maxUnkept = 10_000

// take lets an entry of the catalog be applied, and keeps it. A PoP whose disk is full hears of rollbacks all the same: it keeps
// what comes when there is room, and reads it again if it ends before.
func (a *applier) take(e wedge.Entry) error {
	var items [][]byte
	for _, it := range e.Items {
		items = append(items, append(binary.BigEndian.AppendUint64(nil, e.Seq), it...))
	}
	if n, err := a.keep(); n > maxUnkept {
		return err
	}
	if err := a.catalog.Take(e); err != nil {
		return err
	}
	a.expel()
	if _, err := a.keep(items...); err != nil {
		a.n.cfg.Log.Error("an entry of the catalog is not kept on disk yet", "seq", e.Seq, "err", err)
	}
	return nil
}

// keep writes what is not kept yet, and more, in order. It returns how many items are left, and why.
func (a *applier) keep(more ...[]byte) (left int, err error) {
	a.keeping.Lock()
	defer a.keeping.Unlock()
	if a.unkept = append(a.unkept, more...); len(a.unkept) == 0 {
		return 0, nil
	}
	if _, err = a.kept.Add(a.unkept...); err == nil {
		a.unkept = nil
	}
	return len(a.unkept), err
}

// follow follows the catalog until ctx ends, or for good if an entry is not for this Wedge to understand.
func (a *applier) follow(ctx context.Context) {
	for ctx.Err() == nil {
		next := uint64(0)
		a.catalog.See(func(s *control.State) { next = s.Seq + 1 })
		err := a.link.Follow(ctx, catalogLog, next, bus.Follower{Entry: a.take, Lost: func(now uint64) error { return older(now, next) }})
		if ctx.Err() != nil {
			return
		}
		a.n.cfg.Log.Error("the catalog is not followed", "err", err, "hint", wedge.HintOf(err))
		if wedge.KindOf(err) == wedge.Conflict {
			sleep(ctx, olderPause)
		}
		if a.catalog.Newer() != nil {
			return
		}
		sleep(ctx, partPause)
	}
}

// olderPause is before a PoP looks again whether the core has its catalog back.
const olderPause = 10 * time.Second

// older is how the following ends if the core's catalog ends before what was followed: it was restored from an older copy. What it decides now
// has numbers that other decisions had, so a PoP that took it would have a state that nobody decided on. It runs on with what it knows.
func older(now, next uint64) error {
	return &wedge.Error{Op: "follow the catalog", Kind: wedge.Conflict, Err: fmt.Errorf("the core's catalog ends at entry %d, and this PoP has followed it to %d", now-1, next-1),
		Hint: "Restore the core from its newest copy. To take what it has now instead, stop this PoP and remove its data directory, or begin a new fleet."}
}

// expel has those forgotten who are members no more.
func (a *applier) expel() {
	var out map[string]bool
	a.catalog.See(func(s *control.State) {
		out = maps.Clone(s.Out)
		a.pops.members(s)
	})
	for name := range out {
		a.unconfirmed.left(name)
	}
}

// run follows the catalog and applies it until ctx ends.
func (a *applier) run(ctx context.Context) error {
	var w sync.WaitGroup
	defer w.Wait()
	w.Go(func() { a.follow(ctx) })
	w.Go(func() { a.report(ctx) })
	retry := time.NewTicker(time.Second)
	defer retry.Stop()
	for {
		changed := a.apply(ctx)
		a.sweep()
		select {
		case <-changed:
		case <-retry.C:
			_, _ = a.keep() // there may be room again
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// made is how many versions there are, how many went by order, and how many run here that are not kept, until what is to be run can.
type made struct{ versions, gone, unkept int }

// sweep removes what versions were made of that are kept no more, once there are some more versions than there were, or some went.
func (a *applier) sweep() {
	a.applying.Lock()
	defer a.applying.Unlock()
	var now made
	needed, dirs := map[control.Digest]bool(nil), map[string]bool{}
	a.catalog.See(func(s *control.State) {
		runs := a.runs(s)
		now.gone = s.Gone
		for _, v := range runs {
			if v.Forgotten {
				now.unkept++
			}
		}
		for _, svc := range s.Services {
			now.versions += len(svc.Versions)
		}
		if now == a.swept {
			return
		}
		kept := s.Kept()
		if len(kept) == now.versions && now.gone == 0 {
			return // nothing was forgotten
		}
		kept = append(kept, runs...) // what is to be run may not have come yet
		needed = control.Needed(kept)
		for _, v := range kept {
			dirs[string(v.Digest)] = true
		}
	})
	if a.swept = now; needed == nil {
		return
	}
	freed, err := a.chunks.Sweep(needed)
	there, _ := os.ReadDir(a.dir) // none: nothing to remove
	for _, d := range there {
		if !dirs[d.Name()] {
			err = errors.Join(err, os.RemoveAll(filepath.Join(a.dir, d.Name())))
		}
	}
	if err != nil {
		a.n.cfg.Log.Warn("what old versions were made of is not all removed", "err", err)
	}
	if freed > 0 {
		a.n.cfg.Log.Info("removed what old versions were made of", "bytes", freed)
	}
}

// runs returns the versions that run here, whether or not they are to.
func (a *applier) runs(s *control.State) (list []*control.Version) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, w := range a.running {
		for _, n := range []int{w.live, w.beside} {
			if svc := s.Services[name]; svc != nil && svc.Version(n) != nil {
				list = append(list, svc.Version(n))
			}
		}
	}
	return list
}

// wantedAt returns what a PoP is to run of a service.
func wantedAt(svc *control.Service, pop string) (w planned, live, beside *control.Version) {
	live, beside, r := svc.At(pop)
	if live != nil {
		w.live = live.Number
	}
	if beside != nil {
		w.beside = beside.Number
		w.split = split{share: r.Share, salt: fmt.Sprint(svc.Name, r.ID)}
		if r.Share == 0 {
			w.split.shadow = r.Shadow
		}
		w.split.match, _ = control.ParseMatch(r.Match) // it was checked when it was decided on
	}
	return w, live, beside
}

// apply makes the difference between what runs and what should; the channel is closed when that changes.
func (a *applier) apply(ctx context.Context) (changed <-chan struct{}) {
	a.applying.Lock()
	defer a.applying.Unlock()
	type pair struct{ live, beside *control.Version }
	all, versions := map[string]planned{}, map[string]pair{}
	a.stopRemoved(ctx)
	changed = a.catalog.See(func(s *control.State) {
		a.allowances.set(s.Tenants)
		for name, svc := range s.Services {
			if w, live, beside := wantedAt(svc, a.pop); live != nil || beside != nil {
				all[name], versions[name] = w, pair{live, beside}
			}
		}
	})
	a.mu.Lock()
	for name := range a.running {
		if _, wanted := all[name]; !wanted {
			all[name] = planned{} // its first release was ended
		}
	}
	a.mu.Unlock()
	for _, name := range stopsFirst(all) {
		w := all[name]
		a.mu.Lock()
		have, failed := a.running[name], a.failed[name]
		a.mu.Unlock()
		if have == w || failed.err != nil && failed.of == w && time.Now().Before(failed.again) {
			continue
		}
		live, beside := versions[name].live, versions[name].beside
		if have == (planned{}) && live != nil && !a.has(live) {
			a.standIn(ctx, name, live)
		}
		err := a.run1(ctx, name, w, live, beside)
		if ctx.Err() != nil {
			return changed
		}
		if err != nil && live != nil {
			a.standIn(ctx, name, live)
		}
		a.mu.Lock()
		delete(a.failed, name)
		if err != nil {
			a.failed[name] = failure{w, err, time.Now().Add(retryPause)}
		} else if a.running[name] = w; w == (planned{}) {
			delete(a.running, name)
		}
		a.mu.Unlock()
		if err != nil {
			a.n.console.failure(fmt.Sprintf("version %d of %s does not run", max(w.live, w.beside), name), err)
		} else {
			a.n.console.say(fmt.Sprintf("%s: %s", name, w))
		}
		a.say(name)
	}
	return changed
}

// again has what could not be run be tried again without waiting.
func (a *applier) again() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, failed := range a.failed {
		failed.again = time.Time{}
		a.failed[name] = failed
	}
}

// stopsFirst returns the services' names, first of those that are to be run no more: others may be waiting for their hosts.
func stopsFirst(all map[string]planned) []string {
	return slices.SortedFunc(maps.Keys(all), func(x, y string) int {
		switch none := (planned{}); {
		case (all[x] == none) == (all[y] == none):
			return strings.Compare(x, y)
		case all[x] == none:
			return -1
		}
		return 1
	})
}

// stopRemoved stops services that were removed, before anything else is looked at: that there is one of the same name again must not keep the
// removed one running until that can be fetched.
func (a *applier) stopRemoved(ctx context.Context) {
	var gone []string
	a.catalog.See(func(s *control.State) {
		a.mu.Lock()
		defer a.mu.Unlock()
		removed := func(name string, versions ...int) bool {
			svc := s.Services[name]
			return svc == nil || slices.ContainsFunc(versions, func(n int) bool { return n > 0 && n <= svc.Earlier })
		}
		for name, have := range a.running {
			if removed(name, have.live, have.beside) {
				gone = append(gone, name)
			}
		}
		maps.DeleteFunc(a.failed, func(name string, f failure) bool { return removed(name, f.of.live, f.of.beside) })
		maps.DeleteFunc(a.figures, func(name string, _ map[int]*rollout.Figures) bool { return removed(name) })
	})
	for _, name := range gone {
		if err := a.run1(ctx, name, planned{}, nil, nil); err != nil {
			a.n.console.failure(name+" was removed, and is not stopped", err) // it is tried again
			continue
		}
		a.mu.Lock()
		delete(a.running, name)
		a.mu.Unlock()
		a.n.console.say(name + ": it was removed, and is stopped")
	}
}

// standIn runs what all ran before a version that cannot be run here now, if nothing of the service runs: a PoP that starts, and cannot
// fetch what was decided last, runs what it has.
func (a *applier) standIn(ctx context.Context, name string, wanted *control.Version) {
	a.mu.Lock()
	have := a.running[name]
	a.mu.Unlock()
	var before []*control.Version
	a.catalog.See(func(s *control.State) {
		if svc := s.Services[name]; svc != nil && have == (planned{}) {
			before = svc.Before(wanted.Number)
		}
	})
	for _, v := range before {
		w := planned{live: v.Number}
		if !a.has(v) || a.run1(ctx, name, w, v, nil) != nil {
			continue
		}
		a.mu.Lock()
		a.running[name] = w
		a.mu.Unlock()
		a.n.console.say(fmt.Sprintf("%s: version %d runs until version %d can", name, v.Number, wanted.Number))
		return
	}
}

// has reports whether all that a version is made of is here.
func (a *applier) has(v *control.Version) bool {
	for _, d := range v.Artifact.Digests() {
		if !a.chunks.Has(d) {
			return false
		}
	}
	return true
}

// String says it to the operator.
func (w planned) String() string {
	if w.live == 0 && w.beside == 0 {
		return "no version is live"
	}
	if w.beside == 0 {
		return fmt.Sprintf("version %d is live", w.live)
	}
	return fmt.Sprintf("version %d is live, version %d gets %s", w.live, w.beside, w.split)
}

// run1 makes what is wanted of a service ready and swaps it in.
func (a *applier) run1(ctx context.Context, name string, w planned, live, beside *control.Version) error {
	a.n.mu.Lock()
	fresh, splits := maps.Clone(a.n.deployed), maps.Clone(a.n.splits)
	a.n.mu.Unlock()
	if fresh == nil {
		fresh = map[string]*deployment{}
	}
	if splits == nil {
		splits = map[string]split{}
	}
	if splits[name] = w.split; w == (planned{}) {
		delete(splits, name)
	}
	var made []*deployment
	discard := func() {
		for _, d := range made {
			d.discard()
		}
	}
	for _, one := range []struct {
		key string
		v   *control.Version
	}{{name, live}, {besideOf(name), beside}} {
		have := fresh[one.key]
		if one.v == nil {
			delete(fresh, one.key)
			continue
		}
		if have != nil && have.version.Number == one.v.Number {
			continue
		}
		if was := fresh[besideOf(name)]; one.key == name && was != nil && was.version.Number == one.v.Number && was.version.CacheSpace == "" {
			fresh[name] = was // it ran beside until now
			delete(fresh, besideOf(name))
			continue
		}
		var live *deployment
		if one.key != name {
			live = fresh[name]
		}
		d, err := a.make(ctx, name, one.v, live)
		if err != nil {
			discard()
			return err
		}
		made = append(made, d)
		if one.key != name && w.split.shadow > 0 && (d.module == nil || live == nil || live.module == nil) {
			discard()
			return &wedge.Error{Op: "shadow requests", What: name, Kind: wedge.Unsupported, Err: errors.New("a version without a guest does nothing that could be compared"), Hint: "Release it by shares instead."}
		}
		fresh[one.key] = d
	}
	if err := a.n.swap(fresh, splits); err != nil {
		discard()
		return err
	}
	return nil
}

// make makes a version ready. If it is to run beside another, responses of other backends than that has are kept apart.
func (a *applier) make(ctx context.Context, name string, v *control.Version, live *deployment) (*deployment, error) {
	if err := a.fetch(ctx, v.Artifact); err != nil {
		return nil, err
	}
	ring := (*seal.Ring)(nil)
	if v.Artifact.Sealed() {
		ring = a.rings.await(ctx)
	}
	made, err := v.Artifact.Unpack(filepath.Join(a.dir, string(v.Digest)), ring, a.chunks.Get)
	if err != nil {
		return nil, err
	}
	if made.Service != name {
		return nil, &wedge.Error{Op: "run version", What: name, Kind: wedge.Invalid, Err: fmt.Errorf("it was made for %s", made.Service)}
	}
	made.Number, made.CacheSpace = v.Number, ""
	if live != nil && origins(made) != origins(live.version) {
		made.CacheSpace = fmt.Sprint("version ", v.Number)
	}
	if a.n.cfg.LocalNames {
		made.Hosts = append(made.Hosts, name+".localhost")
	}
	d, err := a.n.prepare(ctx, &manifest.App{Version: *made})
	if err != nil {
		return nil, err
	}
	a.catalog.See(func(s *control.State) {
		d.allowance = a.allowances.forTenant(s.Tenants[s.TenantOf(name)])
		if svc := s.Services[name]; svc != nil {
			d.earlier = svc.Earlier
		}
	})
	return d, nil
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
		if a.n.kv.Full() { // what room is left is for what must be written
			err = &wedge.Error{Op: "fetch version", What: a.n.cfg.DataDir, Kind: wedge.Unavailable, Err: errors.New("the disk is nearly full"), Hint: "Make room on the disk of the data directory."}
			break
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
	f := a.of(r.Service, r.Version)
	f.Requests++
	if r.Status >= 500 || r.Status == 0 {
		f.Errors++
	}
	f.Latency.Add(r.Duration)
}

// ran counts a run of a version's guest. ended: the guest did not come to its end by itself.
func (a *applier) ran(v *wedge.Version, cpu time.Duration, ended bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f := a.of(v.Service, v.Number)
	f.Runs++
	if ended {
		f.Traps++
	}
	f.CPU.Add(cpu)
}

// shadowed counts a copy of a request that a version has answered to nobody; why says how it did not do as the one before, "" if it did.
func (a *applier) shadowed(v *wedge.Version, why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f := a.of(v.Service, v.Number)
	if f.Shadowed++; why != "" {
		f.Differed++
		f.Example = why[:min(len(why), maxWhy)]
	}
}

// maxWhy bounds what is said of a difference, in bytes.
const maxWhy = 200

// of returns the figures of a version; a.mu is held.
func (a *applier) of(service string, version int) *rollout.Figures {
	f := a.figures[service][version]
	if f == nil {
		if a.figures[service] == nil {
			a.figures[service] = map[int]*rollout.Figures{}
		}
		f = new(rollout.Figures)
		a.figures[service][version] = f
		delete(a.figures[service], version-maxFigures)
	}
	return f
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
			svc := s.Services[name]
			if svc == nil {
				continue // it was removed meanwhile
			}
			r := rollout.Report{PoP: a.pop, Service: name, Figures: map[int]rollout.Figures{}}
			have := a.running[name]
			r.Version, r.Beside, r.Share = have.live, have.beside, have.split.share
			w, _, _ := wantedAt(svc, a.pop)
			if r.Wanted = w.live; w.beside != 0 {
				r.Wanted = w.beside
			}
			if f := a.failed[name]; f.err != nil && f.of == w {
				r.Failed = f.err.Error()
				if rel := svc.Rolling(); rel != nil {
					r.Release = rel.ID
				}
			}
			for v, f := range a.figures[name] {
				r.Figures[v] = f.Clone()
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
