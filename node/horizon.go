package node

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/bus"
	"github.com/wedge-cloud/wedge/control"
	"github.com/wedge-cloud/wedge/state"
	"github.com/wedge-cloud/wedge/state/merge"
)

// Horizons: PoPs declare to the core how far they have seen what others wrote, and the core writes into the logs of state what need not be kept any more of what
// was removed. See package state.

const (
	declareEvery = 5 * time.Second
	horizonEvery = time.Second
	idleHorizon  = 10 * time.Minute // while nothing is written, what expires still goes
	lateHorizon  = time.Hour        // is said in the core's log
)

// declaration is what a PoP says where it also says what it runs.
type declaration struct {
	Declares *state.Declaration `json:"declares"`
}

// declare says how far this PoP is in a share's log, until ctx ends.
func (f *fleet) declare(share *state.Share) func(context.Context) error {
	log := stateLogs(share.Jurisdiction())[wedge.ScopeMerge]
	return func(ctx context.Context) error {
		t := time.NewTicker(cmp.Or(f.pace, declareEvery))
		defer t.Stop()
		for {
			select {
			case <-t.C:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			cursor, err := f.kv.Cursor(cursorOf(share, log))
			if err != nil {
				return err
			}
			d, err := share.Declare(cursor)
			if err != nil {
				return err
			}
			if b, err := json.Marshal(declaration{&d}); err == nil {
				_ = f.link.Say("runs."+f.cfg.PoP.Name, b) // the next one comes soon
			}
		}
	}
}

// shareMetrics are those of what is shared in a jurisdiction.
func shareMetrics(s *state.Share, now time.Time) []metric {
	taken, refused, forgotten := s.Counts()
	lag := int64(0)
	if h := s.Horizon(); h.Wall > 0 {
		lag = now.UnixMilli() - h.Wall
	}
	all := []metric{
		counter("state_taken_total", "Changes of other PoPs to shared stores.", taken),
		counter("state_refused_total", "Of what other PoPs said, what made no sense or was not theirs to say: each is in the log.", refused),
		counter("state_forgotten_total", "Keys of which nothing is kept any more, since all PoPs have seen that they were deleted, or have expired.", forgotten),
		gauge("state_horizon_age_milliseconds", "How long ago the instant was before which nothing is kept of what was removed; 0: there is none yet.", lag),
	}
	for i := range all {
		all[i].label, all[i].labelValue = "jurisdiction", s.Jurisdiction()
	}
	return all
}

// declared hears how far a PoP is, and reports whether that is what the message says.
func (c *Core) declared(subject string, data []byte) bool {
	var d declaration
	if json.Unmarshal(data, &d) != nil || d.Declares == nil {
		return false
	}
	if a := c.archives[d.Declares.Jurisdiction]; a != nil {
		a.agreement.Heard(strings.TrimPrefix(subject, "runs."), *d.Declares)
	}
	return true
}

// writers returns which PoPs may have written to a share, or may yet without having seen all.
func (c *Core) writers(share *state.Share) []string {
	j, all := share.Jurisdiction(), share.Writers()
	carries := func(list []string) bool { return j == "" || slices.Contains(list, j) }
	for _, p := range c.pops.known() {
		if carries(p.Jurisdictions) {
			all = append(all, p.Name)
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	c.control.See(func(s *control.State) {
		all = slices.DeleteFunc(all, func(name string) bool { return s.Out[name] || s.Members[name] != nil })
		for name, m := range s.Members {
			if m.Public != "" && carries(m.Jurisdictions) { // who is invited only has written nothing
				all = append(all, name)
			}
		}
	})
	slices.Sort(all)
	return all
}

// keepHorizon writes the horizons of an archive's log, until ctx ends.
func (c *Core) keepHorizon(ctx context.Context, a *archive, log *bus.Log) {
	t := time.NewTicker(horizonEvery)
	defer t.Stop()
	for moved := time.Now(); ; {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		cursor, err := c.kv.Cursor(log.Name)
		if err != nil || !a.caught.Load() {
			continue
		}
		now := time.Now()
		h, waits := a.agreement.Next(c.writers(a.share), a.share.Heard, cursor, now)
		if waits == "" {
			moved = now
		} else if now.Sub(moved) > lateHorizon {
			moved = now
			c.cfg.Log.Warn("what was deleted from shared stores is kept until this PoP has seen it", "pop", waits, "jurisdiction", a.share.Jurisdiction(), "hint", "If it will not come back, remove it.")
		}
		if h == (merge.Instant{}) || !a.wants(h, now) {
			continue
		}
		if err := c.appendHorizon(ctx, log, h); err != nil && ctx.Err() == nil && wedge.KindOf(err) != wedge.Conflict {
			c.cfg.Log.Warn("a horizon is not written", "log", log.Name, "err", err)
		}
	}
}

// wants reports whether a horizon is of use: something was written since the one before, or much time has gone by.
func (a *archive) wants(h merge.Instant, now time.Time) bool {
	was := a.share.Horizon()
	return was.Before(h) && (was.Wall <= a.written.Load() || now.UnixMilli()-was.Wall > idleHorizon.Milliseconds())
}

// appendHorizon writes one. Of several servers' one is enough.
func (c *Core) appendHorizon(ctx context.Context, log *bus.Log, h merge.Instant) error {
	e, err := c.link.Last(ctx, log, state.HorizonWriter)
	if err != nil {
		return err
	}
	_, err = c.link.AppendItem(ctx, log, state.HorizonWriter, e.Seq, uint64(h.Wall), state.HorizonItem(h))
	return err
}
