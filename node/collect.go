package node

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/bus"
	"github.com/wedge-cloud/wedge/collect"
	"github.com/wedge-cloud/wedge/state"
)

// collectLog has what the PoPs have collected, for aggregators that were away.
var collectLog = &bus.Log{Name: "COLLECT", Keep: 72 * time.Hour, Size: 4 << 30}

// collecting adds up what clients report to this PoP. What was answered with 204 is on disk, in a journal of the open windows. When
// a window ends, all that are open go into the outbox, with the number in the journal up to which they have everything: what
// follows that number is all that a restart has to read again. So whenever the process is killed, each event is in one
// item of the outbox, and the core takes each item once.
type collecting struct {
	pop, writer  string
	log          *slog.Logger
	now          func() time.Time
	kv           *state.KV
	journal, box *state.Outbox
	asked        chan *beacon
	looks        chan *own
	sinks        *sinks // nil: there are none
	ended        chan struct{}

	// What follows is run's own.
	open    map[openWindow]*collect.Window
	at      uint64              // in the journal: all before is in open, or was
	ids     map[uint64]struct{} // of events in the open windows
	before  map[uint64]struct{} // in those before them
	flushed time.Time

	sent                           atomic.Uint64 // item of the outbox that the core has
	taken, again, refused, coarser atomic.Int64
}

type openWindow struct {
	kind  string
	start int64
}

// beacon is what one request brought, on its way to the disk.
type beacon struct {
	windows []*collect.Window
	done    chan error
}

const (
	collectTick    = 200 * time.Millisecond // how exactly a window ends
	collectBatch   = 512                    // beacons that share a sync
	collectBacklog = 2000                   // items that the core has not: from there on windows are a minute long
	coarse         = int64(60)              // seconds
	collectItem    = 128 << 10              // bytes
	maxOpen        = 500                    // windows that are open at once
)

func openCollecting(pop, writer string, kv *state.KV, now func() time.Time, log *slog.Logger) (c *collecting, err error) {
	c = &collecting{pop: pop, writer: writer, log: log, now: now, kv: kv, asked: make(chan *beacon, collectBatch), looks: make(chan *own), ended: make(chan struct{}),
		open: map[openWindow]*collect.Window{}, ids: map[uint64]struct{}{}}
	if c.journal, err = kv.Outbox("collecting"); err != nil {
		return nil, err
	}
	if c.box, err = kv.Outbox("collect"); err != nil {
		return nil, err
	}
	return c, c.replay()
}

// replay reads again what was in windows that were open.
func (c *collecting) replay() error {
	if last := c.box.Last(); last > 0 {
		items, err := c.box.Next(last-1, 1)
		if err != nil {
			return err
		}
		c.at, _, _ = collect.Unwrap(items[0])
	}
	for {
		items, err := c.journal.Next(c.at, collectBatch)
		if err != nil || len(items) == 0 {
			return err
		}
		for _, b := range items {
			c.at++
			w, err := collect.Decode(b)
			if err != nil {
				c.log.Error("an event that was kept cannot be read and is left out", "item", c.at, "err", err)
				continue
			}
			c.merge(w)
		}
	}
}

// take keeps what one request brought. When it returns nil that is counted, whatever happens.
func (c *collecting) take(ctx context.Context, windows []*collect.Window) error {
	if len(windows) == 0 {
		return nil
	}
	b := &beacon{windows: windows, done: make(chan error, 1)}
	select {
	case c.asked <- b:
	case <-c.ended:
		return errNotCollecting
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-b.done:
		return err
	case <-c.ended:
		return errNotCollecting
	}
}

var errNotCollecting = &wedge.Error{Op: "collect", Kind: wedge.Unavailable, Err: errors.New("this node is about to stop"), Hint: "Send it again."}

// run does the work until ctx ends.
func (c *collecting) run(ctx context.Context) error {
	defer close(c.ended)
	t := time.NewTicker(collectTick)
	defer t.Stop()
	for {
		select {
		case b := <-c.asked:
			c.commit(b)
		case o := <-c.looks:
			c.look(o)
		case <-t.C:
			c.tick()
		case <-ctx.Done():
			return c.flush()
		}
	}
}

// commit puts what came, and whatever else has come by now, on disk with one sync, and adds it up.
func (c *collecting) commit(first *beacon) {
	batch := []*beacon{first}
	for len(batch) < collectBatch && len(c.asked) > 0 {
		batch = append(batch, <-c.asked)
	}
	var items [][]byte
	var fresh []*collect.Window
	ids := map[uint64]struct{}{}
	for _, b := range batch {
		for _, w := range b.windows {
			if c.seen(w.ID, ids) {
				c.again.Add(1)
				continue
			}
			fresh = append(fresh, w)
			items = append(items, w.Encode(1 << 40)[0])
		}
	}
	var err error
	if len(items) > 0 {
		if len(c.open)+len(fresh) > maxOpen {
			c.coarsen()
		}
		if _, err = c.journal.Add(items...); err == nil {
			c.at = c.journal.Last()
			for _, w := range fresh {
				c.merge(w)
				c.taken.Add(int64(w.Events()))
			}
		} else {
			c.refused.Add(int64(len(batch)))
		}
	}
	for _, b := range batch {
		b.done <- err
	}
}

// seen reports whether an event has been counted, or is in the batch.
func (c *collecting) seen(id uint64, batch map[uint64]struct{}) bool {
	if id == 0 {
		return false
	}
	for _, ids := range []map[uint64]struct{}{c.ids, c.before, batch} {
		if _, ok := ids[id]; ok {
			return true
		}
	}
	batch[id] = struct{}{}
	return false
}

func (c *collecting) merge(w *collect.Window) {
	if w.ID != 0 {
		c.ids[w.ID] = struct{}{}
	}
	at := openWindow{w.Kind(), w.Start}
	if c.open[at] == nil {
		c.open[at] = w.Empty()
	}
	c.open[at].Merge(w)
}

// tick ends windows. If the disk is full, or the core far behind, they go on as windows of a minute: nothing is dropped, and less
// is to be kept.
func (c *collecting) tick() {
	now, over := c.now(), false
	for _, w := range c.open {
		over = over || w.Start+w.Length <= now.Unix()
	}
	if !over {
		return
	}
	if c.kv.Full() || c.box.Last()-min(c.box.Last(), c.sent.Load()) > collectBacklog && now.Sub(c.flushed) < time.Duration(coarse)*time.Second {
		c.coarsen()
		return
	}
	if err := c.flush(); err != nil {
		c.log.Warn("what was collected waits", "err", err)
		c.coarsen()
	}
}

// coarsen makes the open windows a minute long.
func (c *collecting) coarsen() {
	old := c.open
	c.open = map[openWindow]*collect.Window{}
	for _, at := range slices.SortedFunc(maps.Keys(old), func(a, b openWindow) int { return int(a.start - b.start) }) {
		w := old[at]
		if w.Length < coarse {
			c.coarser.Add(1)
		}
		w.Start, w.Length = w.Start/coarse*coarse, max(w.Length, coarse)
		c.merge(w)
	}
}

// flush puts all open windows into the outbox, at once.
func (c *collecting) flush() error {
	var items [][]byte
	for _, w := range c.open {
		for _, piece := range w.Encode(collectItem) {
			items = append(items, collect.Wrap(c.at, piece))
		}
	}
	if len(items) == 0 {
		return nil
	}
	if _, err := c.box.Add(items...); err != nil {
		return err
	}
	c.flushed = c.now()
	c.open = map[openWindow]*collect.Window{}
	c.before, c.ids = c.ids, map[uint64]struct{}{}
	return c.journal.Trim(c.at)
}

// pump carries the outbox to the core. Its newest item stays: a restart reads in it where the journal goes on.
func (c *collecting) pump(ctx context.Context, link *bus.Link) error {
	return link.Pump(ctx, collectLog, c.writer, c.box, func(item, _ uint64) {
		c.sent.Store(item)
		if item > 1 {
			_ = c.box.Trim(item - 1)
		}
	})
}

// collected makes windows of events and keeps them, and the events for their sink.
func (c *collecting) collected(ctx context.Context, service string, rule *wedge.Collect, events []collect.Event) error {
	at, picked := c.now(), collect.Select(rule, events, rand.Float64)
	if err := c.take(ctx, collect.Windows(service, c.pop, rule, picked, at)); err != nil {
		return err
	}
	if rule.Sink.Wanted() && len(picked) > 0 && c.sinks != nil {
		c.sinks.add(service, rule, picked, at)
	}
	return nil
}

func (c *collecting) metrics() []metric {
	return []metric{
		counter("collect_events_total", "Events of clients that were kept, after filters and samples.", c.taken.Load()),
		counter("collect_repeated_total", "Events not counted, for they had been.", c.again.Load()),
		counter("collect_refused_total", "Beacons that could not be kept, and were answered with an error.", c.refused.Load()),
		counter("collect_coarsened_total", "Windows that became a minute long, for the disk was full or the core far behind.", c.coarser.Load()),
		gauge("collect_waiting", "Items that the core does not have yet.", int64(c.box.Last()-min(c.box.Last(), c.sent.Load()))),
	}
}
