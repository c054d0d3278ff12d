package node

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/bus"
	"github.com/wedge-cloud/wedge/state"
	"github.com/wedge-cloud/wedge/state/merge"
)

// Stores that PoPs share. What is written at a PoP lies in its outbox with the write itself, a pump carries it to the log of state, and
// every PoP takes from there what the others wrote.

// stateLogs are the logs that stores come by. What is in a jurisdiction has logs of its own, which only PoPs that carry it can follow,
// and only cores that lie in it keep.
func stateLogs(jurisdiction string) map[wedge.Scope]*bus.Log {
	suffix := ""
	if jurisdiction != "" {
		suffix = "_" + strings.ToUpper(jurisdiction)
	}
	return map[wedge.Scope]*bus.Log{
		wedge.ScopeMerge: {Name: "STATE" + suffix, Keep: 72 * time.Hour, Size: 4 << 30}, // longer ago: see snapshots
		wedge.ScopeCore:  {Name: "KEYS" + suffix, Core: true, Newest: true},
	}
}

// logsFor returns all logs of a fleet whose core, or of which a PoP that, carries these jurisdictions.
func logsFor(jurisdictions []string) []*bus.Log {
	logs := []*bus.Log{purgeLog, catalogLog, collectLog}
	for _, j := range append([]string{""}, jurisdictions...) {
		of := stateLogs(j)
		logs = append(logs, of[wedge.ScopeMerge], of[wedge.ScopeCore])
	}
	return logs
}

// openShares has the PoP hold what is in no jurisdiction, and what is in those that it carries.
func (f *fleet) openShares(kv *state.KV) error {
	for _, j := range append([]string{""}, f.cfg.PoP.Jurisdictions...) {
		share, err := kv.Share(j)
		if err != nil {
			return err
		}
		share.AskCore = func(ctx context.Context, question []byte) ([]byte, error) {
			return f.link.Ask(ctx, subjectOf(keysSubject, j, f.cfg.PoP.Name), question)
		}
		share.AskHome, share.Gone = f.askHome, f.pops.expelled
		f.shares = append(f.shares, share)
	}
	return nil
}

// subjectOf is where PoPs ask the core about what is in a jurisdiction.
func subjectOf(prefix, jurisdiction, pop string) string {
	return prefix + cmp.Or(jurisdiction, "-") + "." + pop
}

// What PoPs ask the core: behind it are the jurisdiction and the PoP's name.
const (
	keysSubject     = "keys."     // to write keys
	snapshotSubject = "snapshot." // for a page of a snapshot
)

// shareStores carries what this PoP writes to a share's log, and takes what comes by it, until ctx ends.
func (f *fleet) shareStores(share *state.Share) []func(context.Context) error {
	logs := stateLogs(share.Jurisdiction())
	return []func(context.Context) error{
		func(ctx context.Context) error {
			box := share.Box()
			return f.link.Pump(ctx, logs[wedge.ScopeMerge], share.Writer(), box, func(item, _ uint64) {
				share.Known()
				_ = box.Trim(item)
			})
		},
		func(ctx context.Context) error { return f.takeShared(ctx, share, wedge.ScopeMerge, share.Take) },
		func(ctx context.Context) error { return f.takeShared(ctx, share, wedge.ScopeCore, share.TakeKeys) },
		f.declare(share),
	}
}

func (f *fleet) takeShared(ctx context.Context, share *state.Share, scope wedge.Scope, take func(wedge.Entry) error) error {
	log := stateLogs(share.Jurisdiction())[scope]
	at := cursorOf(share, log)
	cursor, err := f.kv.Cursor(at)
	if err != nil {
		return err
	}
	return f.link.Follow(ctx, log, cursor+1, bus.Follower{
		Entry: func(e wedge.Entry) error {
			if err := take(e); err != nil {
				return err
			}
			cursor = e.Seq
			return f.kv.SetCursor(at, e.Seq)
		},
		Lost: func(next uint64) error {
			if scope == wedge.ScopeCore {
				f.log.Error("the core lacks decisions about keys that this PoP has followed: was it restored from an older copy?", "pop", f.cfg.PoP.Name)
				return nil
			}
			f.log.Warn("this PoP lacks what others wrote before the log of state begins: it gets a snapshot", "pop", f.cfg.PoP.Name)
			if err := f.getSnapshot(ctx, share, next > cursor); err != nil {
				return err
			}
			cursor = next - 1 // of a log that was set back, too: its numbers come again, and this PoP has not followed those
			return f.kv.SetCursor(at, cursor)
		},
		Fresh: func(asOf time.Time) { share.Fresh(scope, asOf) },
	})
}

// cursorOf names how far a log of state was followed. Another incarnation begins anew: the one before did not take what it had written itself.
func cursorOf(share *state.Share, log *bus.Log) string { return log.Name + " " + share.Writer() }

// freshState asks the core how far a log has come, and notes it if this PoP has come as far.
func (f *fleet) freshState(ctx context.Context, share *state.Share, scope wedge.Scope) error {
	asked, log := time.Now(), stateLogs(share.Jurisdiction())[scope]
	last, err := f.link.Head(ctx, log)
	if err != nil {
		return err
	}
	if cursor, err := f.kv.Cursor(cursorOf(share, log)); err != nil || cursor < last {
		return err // the rest is on its way
	}
	share.Fresh(scope, asked)
	return nil
}

// coreKeys is a log of keys at the core.
type coreKeys struct {
	link    *bus.Link
	log     *bus.Log
	state   *bus.Log // of what the PoPs write that may write to this one
	archive *archive // of that
	gone    func(pop string) bool
}

// Last implements state.KeyLog.
func (k coreKeys) Last(ctx context.Context, key string) (wedge.Entry, error) {
	return k.link.Last(ctx, k.log, key)
}

// Append implements state.KeyLog.
func (k coreKeys) Append(ctx context.Context, key string, last uint64, item []byte) (uint64, error) {
	return k.link.Append(ctx, k.log, key, last, item)
}

// End implements state.KeyLog.
func (k coreKeys) End(ctx context.Context, writer string) (last uint64, gone bool, err error) {
	w, err := merge.ParseWriter(writer)
	if err != nil || !k.gone(w.PoP) {
		return 0, false, err
	}
	if !k.archive.caught.Load() {
		return 0, false, &wedge.Error{Op: "end writer", What: writer, Kind: wedge.Unavailable, Err: errors.New("the core is still reading the log"), Hint: "Try again."}
	}
	for {
		e, err := k.link.Last(ctx, k.state, writer)
		if err != nil {
			return 0, false, err
		}
		heard := k.archive.share.Heard(writer) // the log may have forgotten its entries
		if n := len(e.Items); n > 0 {
			heard = max(heard, e.First+uint64(n)-1)
		}
		end, last := state.EndOf(heard)
		if heard == end {
			return last, true, nil
		}
		_, err = k.link.AppendItem(ctx, k.state, writer, e.Seq, end, state.EndItem())
		if err == nil || wedge.KindOf(err) != wedge.Conflict {
			return last, err == nil, err
		}
	}
}

// decideTimeout is shorter than a PoP waits.
const decideTimeout = 1500 * time.Millisecond

// snapshotPage is one; the items follow, each with its length before it.
type snapshotPage struct {
	Next state.Place `json:"next"`
	Done bool        `json:"done,omitempty"`

	Horizon merge.Instant `json:"horizon,omitzero"`

	Not string `json:"not,omitempty"` // why there is none
}

// getSnapshot gets what is in a share's stores from the core. What is not there is gone, if all that was followed here is in the log: a core that was set back
// may never have had it.
func (f *fleet) getSnapshot(ctx context.Context, share *state.Share, all bool) error {
	var at state.Place
	for tries := 0; ; {
		page, items, err := f.askSnapshot(ctx, share, at)
		if err == nil {
			if err = share.TakeSnapshot(items); err != nil && wedge.KindOf(err) != wedge.Unavailable && at.Item > 0 {
				at.Item = 0 // it was changed between two pages
			}
		}
		if err == nil && all {
			err = share.DropAbsent(items, at, page.Next, page.Done, page.Horizon)
		}
		switch {
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			if tries++; tries > snapshotTries {
				return err
			}
			sleep(ctx, partPause)
			continue
		case page.Done:
			return share.EndSnapshot()
		}
		at, tries = page.Next, 0
	}
}

// snapshotTries is how often a page is asked for before all is begun anew.
const snapshotTries = 30

func (f *fleet) askSnapshot(ctx context.Context, share *state.Share, at state.Place) (page snapshotPage, items [][]byte, err error) {
	question, err := json.Marshal(at)
	if err != nil {
		return page, nil, err
	}
	b, err := f.link.Ask(ctx, subjectOf(snapshotSubject, share.Jurisdiction(), f.cfg.PoP.Name), question)
	if err != nil {
		return page, nil, err
	}
	cut := func() (part []byte) {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			err = errors.New("a page of a snapshot is cut short")
			return nil
		}
		part, b = b[size:size+int(n)], b[size+int(n):]
		return part
	}
	head := cut()
	if err == nil {
		err = json.Unmarshal(head, &page)
	}
	for len(b) > 0 && err == nil {
		items = append(items, cut())
	}
	if err == nil && page.Not != "" {
		err = &wedge.Error{Op: "get snapshot", Kind: wedge.Unavailable, Err: errors.New(page.Not)}
	}
	return page, items, err
}

// archive is a core's copy of what is in a jurisdiction's stores, for PoPs that lack what the log does not have any more.
type archive struct {
	share  *state.Share
	caught atomic.Bool

	agreement state.Agreement
	written   atomic.Int64 // when PoPs have last written to the log, in ms since 1970, or a little later
}

// openArchives has the core answer PoPs about what is in no jurisdiction, and about what is in those that it lies in.
func (c *Core) openArchives(ctx context.Context) (err error) {
	if c.kv, err = state.Open(filepath.Join(c.cfg.Dir, "state"), state.Options{PoP: "core", Log: c.cfg.Log}); err != nil {
		return err
	}
	for _, j := range append([]string{""}, c.cfg.Jurisdictions...) {
		a, logs := &archive{}, stateLogs(j)
		a.written.Store(time.Now().UnixMilli())
		c.archives[j] = a
		if a.share, err = c.kv.Share(j); err != nil {
			return err
		}
		for subject, answer := range map[string]func(string, []byte) []byte{
			subjectOf(keysSubject, j, "*"): func(subject string, question []byte) []byte {
				ctx, cancel := context.WithTimeout(ctx, decideTimeout)
				defer cancel()
				return state.Decide(ctx, coreKeys{c.link, logs[wedge.ScopeCore], logs[wedge.ScopeMerge], a, c.pops.expelled}, subject[strings.LastIndexByte(subject, '.')+1:], question, time.Now())
			},
			subjectOf(snapshotSubject, j, "*"): a.give,
		} {
			if _, err := c.link.Answer(subject, answer); err != nil { // until the link is closed
				return err
			}
		}
		c.work.Go(func() { c.keepArchive(ctx, a, logs[wedge.ScopeMerge], a.share.Take) })
		c.work.Go(func() { c.keepArchive(ctx, a, logs[wedge.ScopeCore], a.share.TakeHomes) })
	}
	c.work.Go(func() { _ = c.kv.Run(ctx) }) // not before the shares are there: a database without any forgets at once what was removed
	return nil
}

// keepArchive takes all that PoPs write, until ctx ends.
func (c *Core) keepArchive(ctx context.Context, a *archive, log *bus.Log, take func(wedge.Entry) error) {
	for ctx.Err() == nil {
		cursor, err := c.kv.Cursor(log.Name)
		if err == nil {
			err = c.link.Follow(ctx, log, cursor+1, bus.Follower{
				Entry: func(e wedge.Entry) error {
					if err := take(e); err != nil {
						return err
					}
					if !log.Newest && e.Writer != state.HorizonWriter {
						a.written.Store(e.At.Add(merge.MaxAhead).UnixMilli())
					}
					return c.kv.SetCursor(log.Name, e.Seq)
				},
				Lost: func(uint64) error {
					if !log.Newest {
						if err := a.share.Lack(); err != nil {
							return err
						}
					}
					c.cfg.Log.Error("the core lacks what PoPs wrote before the log of state begins: PoPs that get a snapshot from it lack it, too", "log", log.Name)
					return nil
				},
				CaughtUp: func() {
					if !log.Newest {
						a.caught.Store(true)
					}
				},
				Fresh: func(asOf time.Time) {
					if log.Newest {
						a.share.Fresh(wedge.ScopeCore, asOf)
					}
				},
			})
		}
		if ctx.Err() == nil {
			c.cfg.Log.Error("the archive of state is not kept up", "log", log.Name, "err", err)
			sleep(ctx, partPause)
		}
	}
}

// give answers a PoP that wants a page.
func (a *archive) give(_ string, question []byte) []byte {
	var at state.Place
	var page snapshotPage
	var items [][]byte
	err := json.Unmarshal(question, &at)
	if err == nil && !a.caught.Load() {
		err = errors.New("the core is still reading the log")
	}
	if err == nil {
		page.Horizon = a.share.Complete() // before what it is to hold for is read
		items, page.Next, page.Done, err = a.share.Snapshot(at)
		page.Horizon = page.Horizon.Earlier(a.share.Complete()) // it may have found something damaged
	}
	if err != nil {
		page = snapshotPage{Not: err.Error()}
	}
	head, err := json.Marshal(page)
	if err != nil {
		return nil
	}
	b := append(binary.AppendUvarint(nil, uint64(len(head))), head...)
	for _, it := range items {
		b = append(binary.AppendUvarint(b, uint64(len(it))), it...)
	}
	return b
}

// Names under wedge.internal that are not services'.
const (
	stateName   = "state"
	collectName = "collect"
)

// reserved returns what answers at a reserved name for a service, nil if the name is not one.
func (n *Node) reserved(name, service string) http.Handler {
	if !slices.Contains(wedge.ReservedNames, name) {
		return nil
	}
	if name == collectName {
		return n.collectFor(service)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, key := range []string{service, besideOf(service)} {
		if d := n.deployed[key]; d != nil {
			return map[string]http.Handler{stateName: d.state, sessionsName: d.session}[name]
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answerError(w, &wedge.Error{Op: "use state", What: service, Kind: wedge.NotExist})
	})
}

// stateOf returns the state API of a version.
func (n *Node) stateOf(v *wedge.Version) *stateAPI {
	a := &stateAPI{service: v.Service, stores: n.kv.For(v.Service, v.Held(), v.Stores), guard: n.guardOf(v), pop: n.cfg.pop(), now: n.cfg.Now}
	if n.fleet != nil {
		a.claims = n.fleet.claims
		a.fresh, a.remote = n.fleet.freshState, func(r *http.Request, jurisdiction string) (*http.Response, error) {
			return n.askAway(r, v.Service, jurisdiction)
		}
		a.at = func(r *http.Request, pop string) (*http.Response, error) {
			to, _ := n.fleet.pops.named(pop)
			return n.fleet.peers.call(r, []wedge.PoP{to}, errand{Service: v.Service, State: true})
		}
	}
	return a
}

// askAway has the nearest PoP that carries a jurisdiction and runs the service answer for its state API.
func (n *Node) askAway(r *http.Request, service, jurisdiction string) (*http.Response, error) {
	unavailable := func(err error) error {
		return &wedge.Error{Op: "use state", What: "jurisdiction " + jurisdiction, Kind: wedge.Unavailable, Err: err, Hint: "What is in a store of this jurisdiction is only at PoPs that carry it; none answers."}
	}
	p := n.fleet.peers
	if p == nil {
		return nil, unavailable(errors.New("this PoP reaches no other"))
	}
	near := slices.DeleteFunc(p.near(service, n.fleet.applier.catalog), func(q wedge.PoP) bool { return !slices.Contains(q.Jurisdictions, jurisdiction) })
	resp, err := p.call(r, near, errand{Service: service, State: true})
	if err != nil {
		return nil, unavailable(err)
	}
	return resp, nil
}
