package node

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/control"
)

// allowance is how many guests of one tenant may run at once on this node, and do. A nil one bounds nothing.
type allowance struct {
	tenant      string
	bound, runs atomic.Int64
}

// enter counts a run in, or refuses it.
func (a *allowance) enter() error {
	if a == nil {
		return nil
	}
	n, bound := a.runs.Add(1), a.bound.Load()
	if bound == 0 || n <= bound {
		return nil
	}
	a.leave()
	unit := "runs"
	if bound == 1 {
		unit = "run"
	}
	return &wedge.Error{Op: "run guest", Kind: wedge.Unavailable, Err: fmt.Errorf("the quota of tenant %s is %d %s at once", a.tenant, bound, unit),
		Hint: "Let clients try again, or have an operator raise it: wedge tenants --runs N set " + a.tenant}
}

func (a *allowance) leave() {
	if a != nil {
		a.runs.Add(-1)
	}
}

// allowances are those of all tenants whose services were made ready here.
type allowances struct {
	mu sync.Mutex
	of map[string]*allowance
}

// forTenant returns a tenant's.
func (l *allowances) forTenant(t *control.Tenant) *allowance {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.of[t.Name]
	if a == nil {
		a = &allowance{tenant: t.Name}
		a.bound.Store(t.Quota.Runs)
		if l.of == nil {
			l.of = map[string]*allowance{}
		}
		l.of[t.Name] = a
	}
	return a
}

// set takes the bounds that the catalog has now.
func (l *allowances) set(tenants map[string]*control.Tenant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, a := range l.of {
		if t := tenants[name]; t != nil {
			a.bound.Store(t.Quota.Runs)
		}
	}
}
