package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/control"
	"github.com/wedge-cloud/wedge/seal"
)

// Keys for secrets. The core has the root of them; a PoP asks it for its ring when it starts, and when a PoP was expelled, for then there is a new
// key that the expelled does not get. The ring is in memory only, and, if there is one, in a directory that does not outlast the machine's
// power: the disk of a PoP that was expelled, or stolen, shows no secret to anybody.

const (
	ringSubject = "ring." // behind it is the name of the PoP that asks
	ringFile    = "ring"
	rootFile    = "seal.root"
	ringWait    = 2 * time.Second // how long a PoP that starts waits for its ring, and runs nothing yet that has secrets
)

// openRoot reads the root of all keys from a file, where it is made if it is not there. A core with a server of its own needs none: its
// root comes of the operator's key.
func (c *Core) openRoot(dir string) error {
	if b := c.keys.Derive("secrets"); b != nil {
		copy(c.root[:], b)
		return nil
	}
	file := filepath.Join(dir, rootFile)
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		c.root = seal.NewRoot()
		if err = os.MkdirAll(dir, 0o700); err == nil {
			err = os.WriteFile(file, c.root[:], 0o600)
		}
	} else if copy(c.root[:], b); err == nil && len(b) != seal.RootSize {
		err = errors.New("it is not the root of keys")
	}
	if err != nil {
		return &wedge.Error{Op: "open root of keys", What: file, Kind: wedge.Unavailable, Err: err, Hint: "All servers of a core need the same file."}
	}
	return nil
}

// ring returns the keys up to the newest.
func (c *Core) ring() *seal.Ring {
	epoch := 0
	c.control.See(func(s *control.State) { epoch = len(s.Expelled) })
	return c.root.Ring(epoch)
}

// sealingKey returns the newest public key. Anybody may ask, so it is made once.
func (c *Core) sealingKey() (seal.Public, error) {
	ring := c.ring() // before c.mu is locked: who follows the catalog locks it the other way round
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.public.Key != nil && c.public.Epoch >= ring.Epoch() {
		return c.public, nil
	}
	p, err := ring.Public()
	if err == nil {
		c.public = p
	}
	return p, err
}

// giveRing answers a PoP that asks for its ring.
func (c *Core) giveRing(subject string, question []byte) []byte {
	pop, out := strings.TrimPrefix(subject, ringSubject), false
	c.control.See(func(s *control.State) { out = s.Out[pop] })
	if out {
		return nil
	}
	b, err := c.ring().Answer(pop, question)
	if err != nil {
		c.cfg.Log.Warn("a PoP asks for its keys, and makes no sense", "pop", pop, "err", err)
	}
	return b
}

// rings is a PoP's ring.
type rings struct {
	pop  string
	file string // "": it is kept in memory only
	now  atomic.Pointer[seal.Ring]
	got  chan struct{} // closed when there is one
	last time.Time     // until when who starts waits for it
}

func newRings(pop, dir string) *rings {
	r := &rings{pop: pop, got: make(chan struct{}), last: time.Now().Add(ringWait)}
	if dir == "" {
		return r
	}
	r.file = filepath.Join(dir, ringFile)
	kept := new(seal.Ring)
	if b, err := os.ReadFile(r.file); err == nil && kept.UnmarshalText(b) == nil {
		r.now.Store(kept)
		close(r.got)
	}
	return r
}

// await returns the ring; while the PoP starts it waits for that.
func (r *rings) await(ctx context.Context) *seal.Ring {
	select {
	case <-r.got:
	case <-time.After(time.Until(r.last)):
	case <-ctx.Done():
	}
	return r.now.Load()
}

// set takes a ring, or nil: this PoP is to have none.
func (r *rings) set(ring *seal.Ring) (err error) {
	had := r.now.Swap(ring)
	if had == nil && ring != nil {
		select {
		case <-r.got:
		default:
			close(r.got)
		}
	}
	if r.file == "" {
		return nil
	}
	if ring == nil {
		err = os.Remove(r.file)
	} else if err = os.MkdirAll(filepath.Dir(r.file), 0o700); err == nil {
		err = os.WriteFile(r.file, ring.Text(), 0o600)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return &wedge.Error{Op: "keep keys", What: r.file, Kind: wedge.Unavailable, Err: err}
	}
	return nil
}

// keepRing has this PoP hold the ring that it should, until ctx ends.
func (f *fleet) keepRing(ctx context.Context) error {
	asked := false // since this start: a ring that was kept may be of another fleet
	for said := false; ; {
		epoch, out := 0, false
		changed := f.applier.catalog.See(func(s *control.State) { epoch, out = len(s.Expelled), s.Out[f.rings.pop] })
		if out {
			if err := f.rings.set(nil); err != nil {
				return err
			}
			<-ctx.Done()
			return context.Cause(ctx)
		}
		again, came := (<-chan time.Time)(nil), f.link.Came()
		if !asked || f.rings.now.Load().Epoch() < min(epoch, seal.MaxEpochs) {
			err := f.fetchRing(ctx)
			asked = asked || err == nil
			again = time.After(ringPause)
			if err != nil && f.link.Up() && !said {
				f.log.Warn("this PoP has no keys for secrets yet, and does not run what has some", "err", err, "hint", "If it joined before the core had such keys, have it join anew.")
				said = true
			}
		}
		select {
		case <-changed:
		case <-came:
		case <-again:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// ringPause is before a PoP asks again for its ring.
const ringPause = 5 * time.Second

// fetchRing gets the ring from the core, and has what waits for it tried again.
func (f *fleet) fetchRing(ctx context.Context) error {
	ring, err := f.askRing(ctx)
	if err == nil {
		err = f.rings.set(ring)
	}
	if err == nil {
		f.applier.again()
	}
	return err
}

// askRing asks the core for the ring.
func (f *fleet) askRing(ctx context.Context) (*seal.Ring, error) {
	asker, err := seal.NewAsker()
	if err != nil {
		return nil, err
	}
	b, err := f.link.Ask(ctx, ringSubject+f.rings.pop, asker.Question())
	if err != nil {
		return nil, err
	}
	if len(b) == 0 {
		return nil, &wedge.Error{Op: "ask for keys", What: f.rings.pop, Kind: wedge.Denied, Err: errors.New("the core gives this PoP none"), Hint: "It is a member no more: have it join anew."}
	}
	return asker.Read(f.rings.pop, b)
}
