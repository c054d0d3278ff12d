package state

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state/merge"
)

// Writes to a store of scope home are ordered at one PoP, their home: it decides each by what it has itself, and no other does. What it
// decided comes to all PoPs by the log of state, so reads are local everywhere. Which PoP is the home stands in the directory, a store of
// scope core that no guest sees: the first that writes is, and a home gives that to another when it has had all its own writes written
// down. Each home is one epoch. Generations begin with it, so they grow for as long as there is the key, wherever its home is; and what
// somebody writes who is not the home of that epoch is refused by all.

// homesStore is the directory's name in the log of keys. No version can bind a store of that name.
const homesStore = "\x00homes"

const (
	homeBits  = 36 // of a generation that number the writes of a home; the epoch is before them
	maxEpoch  = 1<<(52-homeBits) - 1
	homeTerms = 8   // that a record remembers
	maxPart   = 512 // bytes of a key that say in which range it is

	homePatience = 3 * time.Second // for a write whose home moves meanwhile
	lawPatience  = 5 * time.Second // for the directory to say whose an epoch is
	liarPause    = 10 * time.Second
)

// Unit is keys that have one home: those of a store, or those of a range of it, which is what they begin with up to what splits the store.
type Unit struct{ Service, Store, Split, Part string }

func unitOf(service, store, split, key string) Unit {
	u := Unit{Service: service, Store: store, Split: split}
	if i := strings.Index(key, split); split != "" && i >= 0 {
		u.Part = key[:min(i+len(split), maxPart)]
	}
	return u
}

func (u Unit) String() string {
	if u.Split == "" {
		return "store " + u.Store
	}
	return fmt.Sprintf("the keys %s* of store %s", u.Part, u.Store)
}

// key is where the directory has it.
func (u Unit) key() string { return u.Store + "\x00" + u.Split + "\x00" + u.Part }

// homeRecord says which PoP is the home.
type homeRecord struct {
	Home   string     `json:"home"`            // as who it writes
	Epoch  uint64     `json:"epoch"`           // one more with each home
	Since  int64      `json:"since"`           // ms since 1970, by the clock of who wrote it
	Asked  bool       `json:"asked,omitempty"` // an operator had it written
	Before []homeTerm `json:"before,omitempty"`
}

// homeTerm is what an earlier home wrote.
type homeTerm struct {
	Home  string `json:"home"`
	Epoch uint64 `json:"epoch"`
	Last  uint64 `json:"last"` // number of its last item
}

func readRecord(b []byte) (r homeRecord, err error) {
	if err = json.Unmarshal(b, &r); err != nil {
		return r, err
	}
	if _, err = merge.ParseWriter(r.Home); err == nil && (r.Epoch == 0 || r.Epoch > maxEpoch || len(r.Before) > homeTerms) {
		err = errItem
	}
	return r, err
}

// next is the record of the home that follows, once this one's last item has that number.
func (r *homeRecord) next(home string, last uint64, now time.Time) homeRecord {
	if r == nil {
		return homeRecord{Home: home, Epoch: 1, Since: now.UnixMilli()}
	}
	before := append([]homeTerm{{r.Home, r.Epoch, last}}, r.Before...)
	return homeRecord{Home: home, Epoch: r.Epoch + 1, Since: now.UnixMilli(), Before: before[:min(len(before), homeTerms)]}
}

// pop returns where the home is.
func (r *homeRecord) pop() string {
	w, _ := merge.ParseWriter(r.Home) // it was read so
	return w.PoP
}

// checkHome finds out whether a PoP may write a record: nobody takes a home, its PoP gives it away, unless that is gone; "" is the core itself.
func (w *coreWrite) checkHome(pop string, old *head) error {
	denied := &wedge.Error{Op: "move home", Kind: wedge.Denied, Err: errors.New("only a home gives itself away")}
	next, err := readRecord(w.value)
	if err != nil || w.Delete || w.TTL != 0 || w.Seed != nil || w.Mode == wedge.KVAppend || w.Mode == wedge.KVPrepend {
		return denied
	}
	had := homeRecord{Home: next.Home}
	if old != nil {
		if had, err = readRecord(old.value); err != nil {
			return denied
		}
	}
	if next.Epoch != had.Epoch+1 || pop != "" && had.pop() != pop && !w.taken {
		return denied
	}
	return nil
}

// homeService keeps the keys that homes decide about apart from those of stores of other scopes, and of stores that are split otherwise.
func homeService(split, service string) string { return "home" + split + "\x00" + service }

// directory is the store that has the records of a service's homes.
func (s *Share) directory(service string) *store {
	return &store{service: service, name: homesStore, scope: wedge.ScopeCore, jurisdiction: s.jurisdiction, share: s, prefix: storePrefix(coreService(within(s.jurisdiction, service)), homesStore)}
}

// home returns what the directory says here, nil if nothing, and the generation of that.
func (s *Share) home(u Unit) (*homeRecord, uint64, error) {
	id := s.directory(u.Service).id(u.key())
	h, err := readHead(s.kv.db, id)
	if err == nil && h != nil {
		err = h.loadValue(s.kv.db, id)
	}
	if err != nil || h == nil {
		return nil, 0, err
	}
	r, err := readRecord(h.value)
	if err != nil {
		return nil, 0, corrupt(id, err)
	}
	return &r, h.generation, nil
}

// setHome has the directory say that another is the home, if it says still what it did.
func (s *Share) setHome(ctx context.Context, u Unit, had uint64, r homeRecord) error {
	if r.Epoch > maxEpoch {
		return &wedge.Error{Op: "move home", What: u.String(), Kind: wedge.Exhausted, Err: errors.New("it has moved too often")}
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	w := coreWrite{Key: []byte(u.key()), Mode: wedge.KVAdd, value: text}
	if had != 0 {
		w.Mode, w.If = wedge.KVOverwrite, &had
	}
	_, err = (&Stores{kv: s.kv}).askCore(ctx, s.directory(u.Service), &w)
	return err
}

// errElsewhere is how a write fails whose home another PoP has become.
var errElsewhere = errors.New("its home is at another PoP")

// askHome has the home of a key decide a write, which may be this PoP, and keeps what it says.
func (s *Stores) askHome(ctx context.Context, st *store, w *coreWrite) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, homePatience)
	defer cancel()
	share, what := st.share, fmt.Sprintf("%q in store %s", w.Key, st.name)
	w.Service, w.Store = st.service, st.name
	w.plant(st)
	unavailable := func(err error) error {
		return &wedge.Error{Op: "write key", What: what, Kind: wedge.Unavailable, Err: err,
			Hint: "Its home decides about this key, and cannot be reached or did not say: look the key up later, or use a store of scope merge."}
	}
	u, told := unitOf(st.service, st.name, st.split, string(w.Key)), homeRecord{}
	for {
		r, _, err := share.home(u)
		if err != nil {
			return 0, err
		}
		if r == nil && told.Epoch == 0 {
			if err := share.claim(ctx, u); err != nil {
				return 0, unavailable(err)
			}
			continue
		}
		if r == nil || r.Epoch < told.Epoch {
			r = &told
		}
		if r.pop() == s.kv.writer.PoP && r.Home != share.Writer() {
			if err := share.Recover(ctx, u); err != nil && wedge.KindOf(err) != wedge.Conflict {
				return 0, unavailable(err)
			}
			if err := share.wait(ctx, u, r.Epoch); err != nil {
				return 0, unavailable(err)
			}
			continue
		}
		if share.gone(r) {
			if err := share.takeOver(ctx, u); err != nil {
				return 0, unavailable(err)
			}
			continue
		}
		var a coreAnswer
		var item []byte
		if r.Home == share.Writer() {
			a, item, err = share.decideHere(ctx, u, w, s.kv.writer.PoP)
		} else {
			a, item, err = share.askThere(ctx, r.pop(), u, w)
		}
		switch {
		case errors.Is(err, errElsewhere) && ctx.Err() == nil:
			if next := (homeRecord{Home: a.Home, Epoch: a.Epoch}); a.Home != "" && a.Epoch > r.Epoch {
				told = next
			} else if err := share.wait(ctx, u, a.Epoch); err != nil {
				return 0, unavailable(err)
			}
			continue
		case err != nil:
			var e *wedge.Error
			if errors.As(err, &e) {
				return 0, &wedge.Error{Op: "write key", What: what, Kind: e.Kind, Err: e.Err, Hint: e.Hint}
			}
			return 0, unavailable(err)
		}
		if r.Home != share.Writer() {
			if err := share.takeAnswered(&a, st.split, item); err != nil {
				return 0, err
			}
		}
		s.kv.homes.wrote(u, a.Token)
		return a.Seq, nil
	}
}

// wait returns soon, or at once if the directory says another home than that of an epoch.
func (s *Share) wait(ctx context.Context, u Unit, epoch uint64) error {
	short, cancel := context.WithTimeout(ctx, homePatience/10)
	defer cancel()
	_ = s.until(short, "", func() bool { r, _, err := s.home(u); return err != nil || r != nil && r.Epoch > epoch })
	return ctx.Err()
}

// claim makes this PoP the home of what has none. That another was first is no error.
func (s *Share) claim(ctx context.Context, u Unit) error {
	err := s.setHome(ctx, u, 0, (*homeRecord)(nil).next(s.Writer(), 0, s.kv.opts.Now()))
	if kind := wedge.KindOf(err); err != nil && kind != wedge.Exist && kind != wedge.Conflict && kind != wedge.Denied {
		return err
	}
	return s.until(ctx, "the directory of homes has not come here", func() bool { r, _, err := s.home(u); return err != nil || r != nil })
}

// askThere asks another PoP, whose home it is or was.
func (s *Share) askThere(ctx context.Context, pop string, u Unit, w *coreWrite) (a coreAnswer, item []byte, err error) {
	if s.AskHome == nil {
		return a, nil, errors.New("this PoP reaches no other")
	}
	question, err := headed(w, w.value, w.seed)
	if err != nil {
		return a, nil, err
	}
	answer, err := s.AskHome(ctx, pop, u.Service, question)
	if err == nil {
		item, err = readHeaded(answer, &a)
	}
	switch {
	case err != nil:
		return a, nil, err
	case a.Home != "":
		if _, err := merge.ParseWriter(a.Home); err != nil {
			return a, nil, err
		}
		return a, nil, errElsewhere
	case a.Error != "":
		return a, nil, &wedge.Error{Op: "write key", Kind: wedge.KindNamed(a.Kind), Err: errors.New(a.Error), Hint: a.Hint}
	}
	return a, item, nil
}

// AnswerHome answers another PoP that has sent what its [Share.AskHome] was given: a write to one of these stores. question is not believed. It never
// fails: what is wrong is in the answer.
func (s *Stores) AnswerHome(ctx context.Context, from *wedge.PoP, question []byte) (answer []byte) {
	a, item, err := s.answerHome(ctx, from, question)
	if err != nil && a.Home == "" {
		a, item = coreAnswer{Kind: wedge.KindOf(err).String(), Error: causeOf(err), Hint: wedge.HintOf(err)}, nil
	}
	answer, _ = headed(a, item) // texts and numbers
	return answer
}

func (s *Stores) answerHome(ctx context.Context, from *wedge.PoP, question []byte) (a coreAnswer, item []byte, err error) {
	w, err := readCoreWrite(question)
	if err != nil {
		return a, nil, &wedge.Error{Op: "write key", Kind: wedge.Invalid, Err: err}
	}
	st, err := s.open(ctx, "write key", w.Store, string(w.Key))
	if err != nil {
		return a, nil, err
	}
	defer s.kv.leave()
	if st.scope != wedge.ScopeHome || st.share == nil || w.Service != st.service {
		return a, nil, &wedge.Error{Op: "write key", Kind: wedge.Invalid, Err: errors.New("it is no store of scope home here")}
	}
	if st.jurisdiction != "" && !slices.Contains(from.Jurisdictions, st.jurisdiction) { // it asks by the state API, which answers with less
		return a, nil, &wedge.Error{Op: "write key", Kind: wedge.Denied, Err: errors.New("the PoP does not carry the store's jurisdiction")}
	}
	if err := s.kv.roomy(); err != nil {
		return a, nil, err
	}
	u := unitOf(st.service, st.name, st.split, string(w.Key))
	if a, item, err = st.share.decideHere(ctx, u, &w, from.Name); errors.Is(err, errElsewhere) { // it may have become so just now
		known := uint64(0)
		if r, _, err := st.share.home(u); err == nil && r != nil {
			known = r.Epoch
		}
		if err := st.share.Recover(ctx, u); err != nil && wedge.KindOf(err) != wedge.Conflict { // nobody may write at this PoP itself
			return a, nil, err
		}
		_ = st.share.wait(ctx, u, known)
		if a, item, err = st.share.decideHere(ctx, u, &w, from.Name); errors.Is(err, errElsewhere) {
			if r, _, err := st.share.home(u); err == nil && r != nil {
				a.Home, a.Epoch = r.Home, r.Epoch
			}
		}
	}
	return a, item, err
}

// decideHere decides a write, if this PoP is the home. While it does the home does not move.
func (s *Share) decideHere(ctx context.Context, u Unit, w *coreWrite, from string) (a coreAnswer, item []byte, err error) {
	turn := s.kv.homes.turn(u)
	turn.RLock()
	defer turn.RUnlock()
	r, _, err := s.home(u)
	switch {
	case err != nil:
		return a, nil, err
	case r == nil:
		return a, nil, errElsewhere
	case r.Home != s.Writer():
		return coreAnswer{Epoch: r.Epoch}, nil, errElsewhere
	}
	if err := s.decides(ctx, u, r); err != nil {
		return a, nil, err
	}
	id := append(storePrefix(homeService(u.Split, within(s.jurisdiction, u.Service)), u.Store), w.Key...)
	defer s.kv.lock(id)()
	old, err := readHead(s.kv.db, id)
	mends := w.Delete || w.Mode == wedge.KVOverwrite && w.If == nil
	if err != nil && !(mends && wedge.KindOf(err) == wedge.Internal) {
		return a, nil, err
	}
	if err != nil && w.Delete { // of what is damaged it is not known that it is gone
		old = &head{}
	}
	k, err := w.after(s.kv.db, id, old, s.kv.opts.Now())
	if err != nil {
		return a, nil, err
	}
	n, err := s.kv.gens.next()
	if err != nil {
		return a, nil, diskError("write key", err)
	}
	a.Seq = r.Epoch<<homeBits | n&(1<<homeBits-1)
	if item, err = headed(k, k.value); err != nil {
		return a, nil, err
	}
	b := append(binary.AppendUvarint(named(itemHome, u.Split), a.Seq), item...)
	number, err := s.box.add(func(b *pebble.Batch) error { return s.kv.fill(b, id, old, k.head(a.Seq)) }, b)
	if err != nil {
		return a, nil, err
	}
	a.Token = s.Writer() + ":" + strconv.FormatUint(number, 10)
	s.kv.homes.came(u, from, s.kv.opts.Now())
	return a, item, nil
}

// decides returns once this PoP, the home by that record, has all that was written before.
func (s *Share) decides(ctx context.Context, u Unit, r *homeRecord) error {
	if s.kv.homes.moves(u) {
		return &wedge.Error{Op: "ask home", Kind: wedge.Unavailable, Err: errors.New("the home may be moving, and the core does not say"), Hint: "Try again."}
	}
	<-s.known
	if s.kv.Forked() {
		return &wedge.Error{Op: "ask home", Kind: wedge.Unavailable, Err: errors.New("the home's database is an older copy"), Hint: "Restart that node."}
	}
	if len(r.Before) == 0 {
		return nil
	}
	t := r.Before[0]
	return s.until(ctx, "what the home before has written has not all come here", func() bool { return t.Home == s.Writer() || s.heard[t.Home] >= t.Last })
}

// takeHome takes what a home decided.
func (s *Share) takeHome(from merge.Writer, number uint64, item []byte) error {
	split, gen, b, err := readHomeItem(item)
	if err != nil {
		return err
	}
	k, err := readCoreKey(b)
	if err != nil {
		return err
	}
	if from != snapshotWriter {
		if err := s.lawful(unitOf(k.Service, k.Store, split, string(k.Key)), from, gen>>homeBits, number); err != nil {
			return err
		}
	}
	if err := s.takeHomed(gen, split, b); err != nil {
		return err
	}
	return s.brought(s.homeID(split, &k), gen, b)
}

// readHomeItem reads an item of a home; what the key holds follows.
func readHomeItem(b []byte) (split string, gen uint64, item []byte, err error) {
	if len(b) == 0 || b[0] != itemHome {
		return "", 0, nil, errItem
	}
	b = b[1:]
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) || n > wedge.MaxSplit {
		return "", 0, nil, errItem
	}
	split, b = string(b[size:size+int(n)]), b[size+int(n):]
	gen, size = binary.Uvarint(b)
	if size <= 0 || gen >= seedBit || gen>>homeBits == 0 {
		return "", 0, nil, errItem
	}
	return split, gen, b[size:], nil
}

// homeID is where the database has a key of scope home.
func (s *Share) homeID(split string, k *coreKey) []byte {
	return append(storePrefix(homeService(split, within(s.jurisdiction, k.Service)), k.Store), k.Key...)
}

// takeHomed keeps what a key holds, unless something later is here.
func (s *Share) takeHomed(gen uint64, split string, item []byte) error {
	k, err := readCoreKey(item)
	if err != nil {
		return err
	}
	return s.keepKey(s.homeID(split, &k), &k, gen)
}

// lawful finds out whether a PoP's item was its own to write: whether it was the home in that epoch. A home's record is in the directory before its first item
// is in the log, so one that is not known here is on its way, or there is none.
func (s *Share) lawful(u Unit, from merge.Writer, epoch, number uint64) error {
	unlawful := fmt.Errorf("%w: its writer is not the home of %v in epoch %d", errItem, u, epoch)
	r, _, err := s.home(u)
	if err != nil {
		return err
	}
	if r == nil || r.Epoch < epoch {
		if s.lied(from, false) {
			return unlawful
		}
		ctx, cancel := context.WithTimeout(context.Background(), lawPatience)
		defer cancel()
		s.mu.Lock()
		looks := s.looks + 2 // the first may have begun before
		s.mu.Unlock()
		err := s.until(ctx, "the directory of homes is not up to date here", func() bool {
			r, _, err = s.home(u)
			return err != nil || r != nil && r.Epoch >= epoch || s.looks >= looks
		})
		if err != nil {
			return &wedge.Error{Op: "take", Kind: wedge.Unavailable, Err: err}
		}
		if r == nil || r.Epoch < epoch {
			s.lied(from, true)
			return unlawful
		}
	}
	if r.Epoch == epoch && r.Home == from.String() {
		return nil
	}
	for _, t := range r.Before {
		if t.Epoch == epoch && t.Home == from.String() && number <= t.Last {
			return nil
		}
	}
	return unlawful
}

// lied reports whether a writer has claimed a moment ago what is not so, and notes that it has.
func (s *Share) lied(w merge.Writer, now bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now {
		if len(s.liars) > 1000 {
			clear(s.liars)
		}
		s.liars[w] = time.Now()
	}
	return time.Since(s.liars[w]) < liarPause
}
