package node

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/bus"
	"github.com/wedge-cloud/wedge/state"
)

// Stores that PoPs share. What is written at a PoP lies in its outbox with the write itself, a pump carries it to the log of state, and
// every PoP takes from there what the others wrote.

// stateLog has what was written to shared stores in the last three days.
var stateLog = &bus.Log{Name: "STATE", Keep: 72 * time.Hour, Size: 16 << 30}

// keyLog has what each key of a store of scope core holds.
var keyLog = &bus.Log{Name: "KEYS", Core: true, Newest: true}

// stateLogs are the logs that stores come by.
var stateLogs = map[wedge.Scope]*bus.Log{wedge.ScopeMerge: stateLog, wedge.ScopeCore: keyLog}

// carryState carries what this PoP writes to the log, until ctx ends.
func (f *fleet) carryState(ctx context.Context) error {
	box := f.share.Box()
	return f.link.Pump(ctx, stateLog, f.share.Writer(), box, func(item, _ uint64) { _ = box.Trim(item) })
}

// takeState takes what other PoPs wrote, until ctx ends.
func (f *fleet) takeState(ctx context.Context) error {
	return f.takeShared(ctx, wedge.ScopeMerge, f.share.Take)
}

// takeKeys takes what the core decided, until ctx ends.
func (f *fleet) takeKeys(ctx context.Context) error {
	return f.takeShared(ctx, wedge.ScopeCore, f.share.TakeKeys)
}

func (f *fleet) takeShared(ctx context.Context, scope wedge.Scope, take func(wedge.Entry) error) error {
	log := stateLogs[scope]
	cursor, err := f.kv.Cursor(log.Name)
	if err != nil {
		return err
	}
	return f.link.Follow(ctx, log, cursor+1, bus.Follower{
		Entry: func(e wedge.Entry) error {
			if err := take(e); err != nil {
				return err
			}
			return f.kv.SetCursor(log.Name, e.Seq)
		},
		Lost: func(uint64) error {
			if scope == wedge.ScopeCore {
				f.log.Error("the core lacks decisions about keys that this PoP has followed: was it restored from an older copy?", "pop", f.cfg.PoP.Name)
				return nil
			}
			f.log.Warn("this PoP lacks what others wrote before the log of state begins: it gets a snapshot", "pop", f.cfg.PoP.Name)
			return f.getSnapshot(ctx)
		},
		Fresh: func() { f.share.Fresh(scope, f.now()) },
	})
}

// snapshotSubject is where PoPs ask the core for a page of a snapshot: with the PoP's name.
const snapshotSubject = "snapshot."

// snapshotPage is one; the items follow, each with its length before it.
type snapshotPage struct {
	Next state.Place `json:"next"`
	Done bool        `json:"done,omitempty"`
	Not  string      `json:"not,omitempty"` // why there is none
}

// getSnapshot gets what is in shared stores from the core.
func (f *fleet) getSnapshot(ctx context.Context) error {
	var at state.Place
	for tries := 0; ; {
		page, items, err := f.askSnapshot(ctx, at)
		if err == nil {
			if err = f.share.TakeSnapshot(items); err != nil && wedge.KindOf(err) != wedge.Unavailable && at.Item > 0 {
				at.Item = 0 // it was changed between two pages
			}
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
			return f.share.EndSnapshot()
		}
		at, tries = page.Next, 0
	}
}

// snapshotTries is how often a page is asked for before all is begun anew.
const snapshotTries = 30

func (f *fleet) askSnapshot(ctx context.Context, at state.Place) (page snapshotPage, items [][]byte, err error) {
	question, err := json.Marshal(at)
	if err != nil {
		return page, nil, err
	}
	b, err := f.link.Ask(ctx, snapshotSubject+f.cfg.PoP.Name, question)
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

// archive is a core's copy of what is in shared stores, for PoPs that lack what the log does not have any more.
type archive struct {
	kv     *state.KV
	share  *state.Share
	caught atomic.Bool
}

func (c *Core) openArchive(ctx context.Context) error {
	kv, err := state.Open(filepath.Join(c.cfg.Dir, "state"), state.Options{PoP: "core", Log: c.cfg.Log})
	if err != nil {
		return err
	}
	c.archive.kv = kv
	c.work.Go(func() { _ = kv.Run(ctx) })
	c.archive.share, err = kv.Share()
	return err
}

// keepArchive takes all that PoPs write, until ctx ends.
func (c *Core) keepArchive(ctx context.Context) {
	a := &c.archive
	for ctx.Err() == nil {
		cursor, err := a.kv.Cursor(stateLog.Name)
		if err == nil {
			err = c.link.Follow(ctx, stateLog, cursor+1, bus.Follower{
				Entry: func(e wedge.Entry) error {
					if err := a.share.Take(e); err != nil {
						return err
					}
					return a.kv.SetCursor(stateLog.Name, e.Seq)
				},
				Lost: func(uint64) error {
					c.cfg.Log.Error("the core lacks what PoPs wrote before the log of state begins: PoPs that get a snapshot from it lack it, too")
					return nil
				},
				CaughtUp: func() { a.caught.Store(true) },
			})
		}
		if ctx.Err() == nil {
			c.cfg.Log.Error("the archive of state is not kept up", "err", err)
			sleep(ctx, partPause)
		}
	}
}

// giveSnapshot answers a PoP that wants a page.
func (c *Core) giveSnapshot(_ string, question []byte) []byte {
	var at state.Place
	var page snapshotPage
	var items [][]byte
	err := json.Unmarshal(question, &at)
	if err == nil && !c.archive.caught.Load() {
		err = errors.New("the core is still reading the log")
	}
	if err == nil {
		items, page.Next, page.Done, err = c.archive.share.Snapshot(at)
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

// freshState asks the core how far the log has come, and notes it if this PoP has come as far.
func (f *fleet) freshState(ctx context.Context, scope wedge.Scope) error {
	asked := f.now()
	last, err := f.link.Head(ctx, stateLogs[scope])
	if err != nil {
		return err
	}
	if cursor, err := f.kv.Cursor(stateLogs[scope].Name); err != nil || cursor < last {
		return err // the rest is on its way
	}
	f.share.Fresh(scope, asked)
	return nil
}

// keysSubject is where PoPs ask the core to write keys: with the PoP's name.
const keysSubject = "keys."

// askCore has the core decide a write.
func (f *fleet) askCore(ctx context.Context, question []byte) ([]byte, error) {
	return f.link.Ask(ctx, keysSubject+f.cfg.PoP.Name, question)
}

// coreKeys is the log of keys at the core.
type coreKeys struct{ link *bus.Link }

// Last implements state.KeyLog.
func (k coreKeys) Last(ctx context.Context, key string) (wedge.Entry, error) {
	return k.link.Last(ctx, keyLog, key)
}

// Append implements state.KeyLog.
func (k coreKeys) Append(ctx context.Context, key string, last uint64, item []byte) (uint64, error) {
	return k.link.Append(ctx, keyLog, key, last, item)
}

// decideKey answers a PoP that wants a key written.
func (c *Core) decideKey(_ string, question []byte) []byte {
	ctx, cancel := context.WithTimeout(context.Background(), decideTimeout)
	defer cancel()
	return state.Decide(ctx, coreKeys{c.link}, question, time.Now())
}

// decideTimeout is shorter than a PoP waits.
const decideTimeout = 1500 * time.Millisecond

// Names under wedge.internal that are not services'.
const stateName = "state"

// reserved returns what answers at a reserved name for a service, nil if the name is not one.
func (n *Node) reserved(name, service string) http.Handler {
	if !slices.Contains(wedge.ReservedNames, name) {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, key := range []string{service, besideOf(service)} {
		if d := n.deployed[key]; d != nil {
			return d.state
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answerError(w, &wedge.Error{Op: "use state", What: service, Kind: wedge.NotExist})
	})
}

// stateOf returns the state API of a version.
func (n *Node) stateOf(v *wedge.Version) *stateAPI {
	a := &stateAPI{service: v.Service, stores: n.kv.For(v.Service, v.KVStores, v.KVScopes), pop: n.cfg.pop(), now: n.cfg.Now}
	if n.fleet != nil {
		a.share, a.fresh, a.claims = n.fleet.share, n.fleet.freshState, n.fleet.claims
	}
	return a
}
