package node

import (
	"context"
	"net/http"
	"slices"
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
			f.log.Error("this PoP was away for longer than the log of state is kept: it lacks some of what others wrote meanwhile", "pop", f.cfg.PoP.Name, "log", log.Name)
			return nil
		},
		Fresh: func() { f.share.Fresh(scope, f.now()) },
	})
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
			return map[string]http.Handler{stateName: d.state, sessionsName: d.session}[name]
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answerError(w, &wedge.Error{Op: "use state", What: service, Kind: wedge.NotExist})
	})
}

// stateOf returns the state API of a version.
func (n *Node) stateOf(v *wedge.Version) http.Handler {
	a := &stateAPI{stores: n.kv.For(v.Service, v.KVStores, v.KVScopes), pop: n.cfg.pop(), now: n.cfg.Now}
	if n.fleet != nil {
		a.share, a.fresh = n.fleet.share, n.fleet.freshState
	}
	return a
}
