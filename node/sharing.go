package node

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/bus"
)

// Stores that PoPs share. What is written at a PoP lies in its outbox with the write itself, a pump carries it to the log of state, and
// every PoP takes from there what the others wrote.

// stateLog has what was written to shared stores in the last three days.
var stateLog = &bus.Log{Name: "STATE", Keep: 72 * time.Hour, Size: 16 << 30}

// share carries what this PoP writes to the log, until ctx ends.
func (f *fleet) carryState(ctx context.Context) error {
	box := f.share.Box()
	return f.link.Pump(ctx, stateLog, f.share.Writer(), box, func(item, _ uint64) { _ = box.Trim(item) })
}

// takeState takes what other PoPs wrote, until ctx ends.
func (f *fleet) takeState(ctx context.Context) error {
	cursor, err := f.kv.Cursor(stateLog.Name)
	if err != nil {
		return err
	}
	return f.link.Follow(ctx, stateLog, cursor+1, bus.Follower{
		Entry: func(e wedge.Entry) error {
			if err := f.share.Take(e); err != nil {
				return err
			}
			return f.kv.SetCursor(stateLog.Name, e.Seq)
		},
		Lost: func(uint64) error {
			f.log.Error("this PoP was away for longer than the log of state is kept: it lacks some of what others wrote meanwhile", "pop", f.cfg.PoP.Name)
			return nil
		},
		Fresh: func() { f.share.Fresh(f.now()) },
	})
}

// freshState asks the core how far the log has come, and returns once this PoP has come as far.
func (f *fleet) freshState(ctx context.Context) error {
	asked := f.now()
	last, err := f.link.Head(ctx, stateLog)
	if err != nil {
		return err
	}
	if cursor, err := f.kv.Cursor(stateLog.Name); err != nil || cursor < last {
		return err // the rest is on its way
	}
	f.share.Fresh(asked)
	return nil
}

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
func (n *Node) stateOf(v *wedge.Version) http.Handler {
	a := &stateAPI{stores: n.kv.For(v.Service, v.KVStores, v.KVScopes), pop: n.cfg.pop(), now: n.cfg.Now}
	if n.fleet != nil {
		a.share, a.fresh = n.fleet.share, n.fleet.freshState
	}
	return a
}
