package node

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge/handover"
	"github.com/wedge-cloud/wedge/manifest"
)

// How a node follows another one, of the process before, and is followed; see package handover.

const (
	guestGrace = time.Second     // for guests that run on after their answers, before a successor gets the stores
	keptGrace  = 5 * time.Second // for versions to be made ready that ran before
)

func succeeded(ctx context.Context) bool { return context.Cause(ctx) == handover.ErrSucceeded }

// ready does what needs no data directory while a predecessor still serves: what is wrong with the configuration is found
// in time, and little is left to be done when nobody accepts.
func (c *Config) ready(ctx context.Context) error {
	if !c.Term.Follows() {
		return nil
	}
	for _, files := range c.Certificates {
		if err := files.Check(); err != nil {
			return err
		}
	}
	if c.Load != nil {
		if err := c.rehearse(ctx); err != nil {
			return err
		}
	}
	return c.Term.Prepared(ctx)
}

// rehearse makes the apps ready on stores in memory. What was compiled for that is mapped when it counts.
func (c *Config) rehearse(ctx context.Context) error {
	load := c.Load
	apps, err := load(ctx)
	if err != nil {
		return err
	}
	alone := *c
	alone.Ephemeral, alone.Ops, alone.Fleet, alone.Term = true, "", nil, nil
	n, err := open(ctx, alone)
	if err != nil {
		return err
	}
	defer n.close()
	for _, app := range apps {
		d, err := n.prepare(ctx, app)
		if err != nil {
			return err
		}
		d.discard()
	}
	var again atomic.Bool
	c.Load = func(ctx context.Context) ([]*manifest.App, error) {
		if again.Swap(true) {
			return load(ctx)
		}
		return apps, nil
	}
	return nil
}

// letGo closes what a successor needs. Requests that are still under way go on without: bodies that are being sent do, an
// access to a store fails.
func (n *Node) letGo() {
	ctx, stop := context.WithTimeout(context.Background(), guestGrace)
	defer stop()
	n.mu.Lock()
	all := slices.Collect(maps.Values(n.deployed))
	n.mu.Unlock()
	for _, d := range all {
		_ = d.handler.Wait(ctx)
	}
	n.closeStores()
	n.cfg.Term.LetGo()
}

// closeStores closes what is kept on disk. It can be called twice.
func (n *Node) closeStores() {
	if err := n.cache.Close(); err != nil {
		n.cfg.Log.Error("close cache", "err", err)
	}
	if err := n.kv.Close(); err != nil {
		n.cfg.Log.Error("close stores", "err", err)
	}
}

// applyKept makes ready what ran here before, so that no client finds a PoP without services.
func (a *applier) applyKept(ctx context.Context) {
	ctx, stop := context.WithTimeout(ctx, keptGrace)
	defer stop()
	a.apply(ctx)
}
