package state

import (
	"bytes"
	"context"
	"errors"
	"hash/maphash"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state/merge"
)

// homes is what a database knows of homes besides the directory.
type homes struct {
	seed  maphash.Seed
	turns [64]sync.RWMutex // by unit: a write holds it for reading, a move for writing

	mu     sync.Mutex
	moving map[Unit]*Share    // whose move has begun, and of which it is not known whether the directory says so; on disk, too
	tokens map[Unit]string    // of the last write that was made from here
	counts map[Unit]*counting // where writes came from, of what is or was at home here
}

// maxUnits bounds what is remembered of units in memory.
const maxUnits = 10_000

// maxOrigins is of how many PoPs it is counted what they write to one unit.
const maxOrigins = 64

// counting counts the writes to a unit by the PoPs that they came from. Older ones count less.
type counting struct {
	at   time.Time
	from map[string]float64
}

func newHomes() homes {
	return homes{seed: maphash.MakeSeed(), moving: map[Unit]*Share{}, tokens: map[Unit]string{}, counts: map[Unit]*counting{}}
}

func (h *homes) turn(u Unit) *sync.RWMutex {
	return &h.turns[maphash.Comparable(h.seed, u)%uint64(len(h.turns))]
}

func (h *homes) moves(u Unit) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.moving[u] != nil
}

// wrote notes a write's token. Those of one writer grow.
func (h *homes) wrote(u Unit, token string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	writer, number, _ := strings.Cut(token, ":")
	had, last, _ := strings.Cut(h.tokens[u], ":")
	n, _ := strconv.ParseUint(number, 10, 64) // another home's means nothing here
	if m, _ := strconv.ParseUint(last, 10, 64); had == writer && m >= n {
		return
	}
	if len(h.tokens) >= maxUnits {
		clear(h.tokens)
	}
	h.tokens[u] = token
}

// came counts a write.
func (h *homes) came(u Unit, from string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.counts[u]
	if c == nil {
		if len(h.counts) >= maxUnits {
			clear(h.counts)
		}
		c = &counting{at: now, from: map[string]float64{}}
		h.counts[u] = c
	}
	if _, ok := c.from[from]; ok || len(c.from) < maxOrigins {
		c.from[from]++
	}
}

// fade has older writes count less: half for each half-life that has gone by.
func (c *counting) fade(now time.Time, halfLife time.Duration) {
	keep := math.Exp2(-max(now.Sub(c.at), 0).Seconds() / halfLife.Seconds())
	c.at = now
	for pop := range c.from {
		if c.from[pop] *= keep; c.from[pop] < 0.01 {
			delete(c.from, pop)
		}
	}
}

// Heard returns the number of the last item that was taken of a writer; of this PoP, of the last it wrote.
func (s *Share) Heard(writer string) uint64 {
	if writer == s.Writer() {
		return s.box.Last()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heard[writer]
}

// MoveHome makes another PoP the home of a unit that is at home here; asked: an operator wants it so. Writes wait meanwhile, and are then decided there. After an error of kind
// Unavailable it is not known which of them is the home: writes fail until [Share.SettleHomes] has found out.
func (s *Share) MoveHome(ctx context.Context, u Unit, to merge.Writer, asked bool) error {
	if err := s.kv.enter(ctx, "move home", u.String()); err != nil {
		return err
	}
	defer s.kv.leave()
	turn := s.kv.homes.turn(u)
	turn.Lock()
	defer turn.Unlock()
	r, seq, err := s.home(u)
	if err != nil {
		return err
	}
	if r == nil || r.Home != s.Writer() || s.kv.homes.moves(u) || to == s.kv.writer {
		return &wedge.Error{Op: "move home", What: u.String(), Kind: wedge.Conflict, Err: errors.New("its home is not here, or is moving")}
	}
	next := r.next(to.String(), s.box.Last(), s.kv.opts.Now())
	next.Asked = asked
	return s.pass(ctx, u, seq, next)
}

// pass writes a record that ends this PoP's epoch. Before, the disk has noted that it may: after a crash nothing is decided here
// until it is known whether the directory has the record.
func (s *Share) pass(ctx context.Context, u Unit, seq uint64, next homeRecord) error {
	if err := s.noteMove(u, true); err != nil {
		return err
	}
	err := s.setHome(ctx, u, seq, next)
	if err != nil && wedge.KindOf(err) != wedge.Conflict && wedge.KindOf(err) != wedge.Denied {
		return err
	}
	if err == nil {
		return s.noteMove(u, false)
	}
	return errors.Join(err, s.movedOn(u, next.Epoch))
}

// movedOn ends a move of which the directory has a record.
func (s *Share) movedOn(u Unit, epoch uint64) error {
	r, _, err := s.home(u)
	if err == nil && r != nil && r.Epoch >= epoch {
		return s.noteMove(u, false)
	}
	return err
}

var movePrefix = []byte("smoving\x00")

func (s *Share) noteMove(u Unit, moves bool) error {
	key := append(bytes.Clone(movePrefix), s.jurisdiction+"\x00"+u.Service+"\x00"+u.Store+"\x00"+u.Split+"\x00"+u.Part...)
	h := &s.kv.homes
	h.mu.Lock()
	defer h.mu.Unlock()
	var err error
	if moves {
		err = s.kv.db.Set(key, nil, pebble.Sync)
	} else {
		err = s.kv.db.Delete(key, pebble.NoSync) // one that comes back is settled again
	}
	if err != nil {
		return diskError("move home", err)
	}
	if delete(h.moving, u); moves {
		h.moving[u] = s
	}
	return nil
}

// recallMoves reads which moves had begun when the database was closed.
func (s *Share) recallMoves() error {
	it, err := s.kv.db.NewIter(&pebble.IterOptions{LowerBound: movePrefix, UpperBound: successor(movePrefix)})
	if err != nil {
		return diskError("open state", err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		if p := strings.SplitN(string(it.Key()[len(movePrefix):]), "\x00", 5); len(p) == 5 && p[0] == s.jurisdiction {
			s.kv.homes.moving[Unit{p[1], p[2], p[3], p[4]}] = s
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return diskError("open state", err)
	}
	return nil
}

// SettleHomes finds out what became of moves of which the core has not said whether it wrote them down: it writes another record, with which the
// home stays here. If that can be written the move was not, and can be no more.
func (s *Share) SettleHomes(ctx context.Context) error {
	if err := s.kv.enter(ctx, "move home", ""); err != nil {
		return err
	}
	defer s.kv.leave()
	h := &s.kv.homes
	h.mu.Lock()
	var list []Unit
	for u, share := range h.moving {
		if share == s {
			list = append(list, u)
		}
	}
	h.mu.Unlock()
	var errs []error
	for _, u := range list {
		errs = append(errs, s.settle(ctx, u))
	}
	return errors.Join(errs...)
}

func (s *Share) settle(ctx context.Context, u Unit) error {
	turn := s.kv.homes.turn(u)
	turn.Lock()
	defer turn.Unlock()
	r, seq, err := s.home(u)
	if err != nil {
		return err
	}
	if r == nil || r.Home != s.Writer() {
		return s.noteMove(u, false)
	}
	return s.pass(ctx, u, seq, r.next(s.Writer(), s.box.Last(), s.kv.opts.Now()))
}

// Recover makes this PoP the home again of what its own earlier database was, which is lost, or an older copy. Whatever came of what that one
// wrote stands; what did not come anywhere is lost with it.
func (s *Share) Recover(ctx context.Context, u Unit) error {
	r, seq, err := s.home(u)
	if err != nil || r == nil || r.pop() != s.kv.writer.PoP || r.Home == s.Writer() {
		return err
	}
	if s.AsOf(wedge.ScopeMerge).IsZero() {
		return &wedge.Error{Op: "move home", What: u.String(), Kind: wedge.Unavailable, Err: errors.New("what others have is not all here yet"), Hint: "Try again."}
	}
	return s.setHome(ctx, u, seq, r.next(s.Writer(), s.Heard(r.Home), s.kv.opts.Now()))
}

// HomeToken says how far writes to the home of a key have come that were made from here; "": none was.
func (s *Stores) HomeToken(name, key string) string {
	st := s.named[name]
	if st == nil || st.scope != wedge.ScopeHome {
		return ""
	}
	h := &s.kv.homes
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tokens[unitOf(st.service, st.name, st.split, key)]
}

// AtHome returns once this PoP, as the home of a key, has all that was ever written to it, so that what is read then is the newest. If another PoP
// is the home it returns its name. An error of kind Unavailable or Timeout means that nobody knows, or not in time.
func (s *Stores) AtHome(ctx context.Context, name, key string) (elsewhere string, err error) {
	st, err := s.open(ctx, "read key", name, key)
	if err != nil {
		return "", err
	}
	defer s.kv.leave()
	if st.scope != wedge.ScopeHome || st.share == nil {
		return "", nil
	}
	u := unitOf(st.service, st.name, st.split, key)
	turn := s.kv.homes.turn(u)
	turn.RLock()
	defer turn.RUnlock()
	r, _, err := st.share.home(u)
	if err == nil && r == nil { // whoever is the home knows that nobody has written
		if err = st.share.claim(ctx, u); err == nil {
			r, _, err = st.share.home(u)
		}
	}
	if err == nil && r.pop() == s.kv.writer.PoP && r.Home != st.share.Writer() {
		if err = st.share.Recover(ctx, u); err == nil {
			r, _, err = st.share.home(u)
		}
	}
	if err == nil && st.share.gone(r) {
		if err = st.share.takeOver(ctx, u); err == nil {
			r, _, err = st.share.home(u)
		}
	}
	if err == nil && r.Home != st.share.Writer() {
		return r.pop(), nil
	}
	if err == nil {
		err = st.share.decides(ctx, u, r)
	}
	return "", err
}

// HomeOf returns the PoP where writes to a key of a store of scope home are ordered, "" if there is none yet, it is no such store, or the key is "" and
// the store is split; newest: it is this PoP, and nothing was ever written that it lacks.
func (s *Stores) HomeOf(name, key string) (pop string, newest bool) {
	st := s.named[name]
	if st == nil || st.scope != wedge.ScopeHome || st.share == nil || key == "" && st.split != "" || s.kv.enter(context.Background(), "read home", "") != nil {
		return "", false
	}
	defer s.kv.leave()
	u := unitOf(st.service, st.name, st.split, key)
	r, _, err := st.share.home(u)
	if err != nil || r == nil {
		return "", false
	}
	return r.pop(), r.Home == st.share.Writer() && st.share.hasAll(u, r)
}

// hasAll reports whether this PoP, the home by that record, can decide at once.
func (s *Share) hasAll(u Unit, r *homeRecord) bool {
	select {
	case <-s.known:
	default:
		return false
	}
	if s.kv.homes.moves(u) || s.kv.Forked() {
		return false
	}
	return len(r.Before) == 0 || r.Before[0].Home == s.Writer() || s.Heard(r.Before[0].Home) >= r.Before[0].Last
}
