package state

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state/merge"
)

// Share is a PoP's part in stores that PoPs have in common. What is written here goes into its outbox in the same write, and what
// others wrote comes by [Share.Take]. It may be used by many goroutines.
type Share struct {
	kv           *KV
	jurisdiction string
	box          *Outbox
	log          *slog.Logger

	// Sorry is told that there is a new apology of a service, if not nil. It must not wait.
	Sorry func(service string)

	// AskCore has the core decide a write to a store of scope core: what it is asked there [Decide] answers. It must be set.
	AskCore func(ctx context.Context, question []byte) ([]byte, error)

	// AskHome has a PoP decide a write to a store of scope home: what it is asked there [Stores.AnswerHome] answers.
	AskHome func(ctx context.Context, pop, service string, question []byte) ([]byte, error)

	// Gone reports whether a PoP is a member no more, if not nil: then others may be the home of what it was.
	Gone func(pop string) bool

	known chan struct{} // closed when it is known whether the core has what this PoP wrote, or need not be waited for any more
	knows sync.Once

	renewed  chan struct{} // closed when all was here once that the log had: see ready
	renews   sync.Once
	patience chan struct{} // closed when it is not waited for any more

	stats struct{ taken, refused, late, forgotten atomic.Int64 }

	horizon atomic.Pointer[merge.Instant] // nil: none
	swept   merge.Instant                 // the horizon of the last sweep

	mu    sync.Mutex
	heard map[string]uint64 // by writer: the number of its last item that was taken
	at    merge.Instant     // when the log stored the latest of what was taken, or what was declared before
	took  chan struct{}     // closed, and replaced, when something was taken or found to be up to date
	keys  uint64            // how far the log of keys was taken
	wrote uint64            // the last entry of the log of keys that was written from here

	asOf  map[wedge.Scope]time.Time // when nothing was missing here that the core had
	looks uint64                    // how often that was seen of the log of keys
	liars map[merge.Writer]time.Time
}

// shareLane begins the name of the outbox of what is written to stores. The jurisdiction's follows, and the incarnation.
const shareLane = "state"

// Share has the stores of a jurisdiction shared with other PoPs; "": those of none. Once it was called, stores of jurisdictions for which
// it was not called are not held here. It must be called before stores are bound, and once for each.
func (kv *KV) Share(jurisdiction string) (*Share, error) {
	s := &Share{kv: kv, jurisdiction: jurisdiction, log: kv.opts.Log, heard: map[string]uint64{}, asOf: map[wedge.Scope]time.Time{}, took: make(chan struct{}), liars: map[merge.Writer]time.Time{}, known: make(chan struct{}), renewed: make(chan struct{}), patience: make(chan struct{})}
	var err error
	if s.box, err = kv.Outbox(s.lane(kv.writer.Incarnation)); err != nil { // what another incarnation wrote is not this one's to say
		return nil, err
	}
	it, err := kv.db.NewIter(&pebble.IterOptions{LowerBound: s.heardKey(""), UpperBound: successor(s.heardKey(""))})
	if err != nil {
		return nil, diskError("open state", err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		if v := it.Value(); len(v) == 8 {
			s.heard[string(it.Key()[len(s.heardKey("")):])] = binary.BigEndian.Uint64(v)
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return nil, diskError("open state", err)
	}
	if kv.shares == nil {
		kv.shares = map[string]*Share{}
	}
	kv.shares[jurisdiction] = s
	if err := errors.Join(s.recallMoves(), s.recallHorizon(), s.recallRenewed()); err != nil {
		return nil, err
	}
	time.AfterFunc(knowPatience, func() { s.Known(); close(s.patience) })
	return s, nil
}

// lane names the outbox of what an incarnation writes.
func (s *Share) lane(incarnation uint64) string {
	return fmt.Sprintf("%s%s.%016x", shareLane, s.jurisdiction, incarnation)
}

// knowPatience is how long after its start a PoP takes no writes to shared stores unless the core has said that this is the database it knows. A PoP that
// cannot reach the core goes on then: if its database was set back, what it writes until it reaches the core is not merged.
const knowPatience = 2 * time.Second

// Known is told that the core knows this database as it is, or that the database is known to be an older copy.
func (s *Share) Known() { s.knows.Do(func() { close(s.known) }) }

func (s *Share) renewedKey() []byte {
	return []byte("srenewed\x00" + s.jurisdiction + "\x00" + s.Writer())
}

// recallRenewed finds out whether this incarnation has had all once that the log had.
func (s *Share) recallRenewed() error {
	anew, err := s.kv.system(anewKey)
	if err != nil {
		return err
	}
	renewed, err := s.kv.system(s.renewedKey())
	if err == nil && (renewed != 0 || anew != s.kv.writer.Incarnation) { // or it is older than this
		s.renews.Do(func() { close(s.renewed) })
	}
	return err
}

// renew notes that all is here that the log had.
func (s *Share) renew() {
	s.renews.Do(func() {
		if s.kv.enter(context.Background(), "note state", "") == nil {
			_ = s.kv.db.Set(s.renewedKey(), binary.BigEndian.AppendUint64(nil, 1), pebble.NoSync) // or it is found out again
			s.kv.leave()
		}
		close(s.renewed)
	})
}

// ready returns once this PoP may change what is shared. One that is new, or whose database was set back, has not seen yet what all others have forgotten the removal
// of: what it changes before it has come to the end of the log once would not come to the same everywhere. No key's turn may be held: the log needs it.
func (st *store) ready(ctx context.Context) error {
	s := st.share
	if s == nil || st.scope != wedge.ScopeMerge {
		return nil
	}
	select {
	case <-s.renewed:
		return nil
	default:
	}
	select {
	case <-s.renewed:
		return nil
	case <-s.patience:
	case <-ctx.Done():
	}
	return &wedge.Error{Op: "write state", What: "store " + st.name, Kind: wedge.Unavailable, Err: errors.New("this PoP is new, or was set back, and has not yet what the others wrote"),
		Hint: "Try again when the PoP has reached the core and followed the log of state."}
}

func (s *Share) heardKey(writer string) []byte {
	return append([]byte("sheard\x00"+s.jurisdiction+"\x00"), writer...)
}

// Jurisdiction returns what the share is for.
func (s *Share) Jurisdiction() string { return s.jurisdiction }

// Box returns what is to be carried to the log, under the name of Writer.
func (s *Share) Box() *Outbox { return s.box }

// Writer returns who this PoP is in the log.
func (s *Share) Writer() string { return s.kv.writer.String() }

// An item is what one write says to the others. The first byte says what follows; texts have their length before them, as a uvarint.
//
//	1 service store key delta content     a change of a value, and what its register's write holds if that is large and fits
//	2 digest number bytes                 a piece of content, which comes before the change
//	3 service store key digest            a whole value, encoded, whose bytes came in pieces: only in snapshots
//	4 split generation key                what a key of a store of scope home holds
//	5                                     the core's: the writer's PoP is a member no more, and nothing follows
//	6 instant                             the core's: a horizon
//	7 service store key value             a whole value, encoded: only in snapshots
const (
	itemChange = 1
	itemPiece  = 2
	itemWhole  = 3
	itemHome   = 4
	itemEnd    = 5

	itemHorizon = 6
	itemSmall   = 7
)

// pieceSize is how much content one item has.
const pieceSize = 256 << 10

const maxPieces = (wedge.MaxKVValue + pieceSize - 1) / pieceSize

// maxDelta bounds a delta that comes from another PoP.
const maxDelta = 400 << 10

// items makes the items of a change.
func (s *Share) items(st *store, key string, delta *merge.Value, apart *large) (items [][]byte) {
	var with []byte
	if apart != nil {
		with = apart.value
	}
	if len(with) > pieceSize {
		items, with = inPieces(items, apart.digest, with), nil
	}
	b := named(itemChange, st.service, st.name, key)
	d := delta.Encode()
	b = append(binary.AppendUvarint(b, uint64(len(d))), d...)
	return append(items, append(b, with...))
}

// named begins an item.
func named(kind byte, texts ...string) []byte {
	b := []byte{kind}
	for _, text := range texts {
		b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
	}
	return b
}

// inPieces adds the items of a content.
func inPieces(items [][]byte, digest [sha256.Size]byte, content []byte) [][]byte {
	for n := uint64(0); len(content) > 0; n++ {
		size := min(len(content), pieceSize)
		b := append([]byte{itemPiece}, digest[:]...)
		items, content = append(items, append(binary.AppendUvarint(b, n), content[:size]...)), content[size:]
	}
	return items
}

// sharedChange is a change as it came from another PoP.
type sharedChange struct {
	service, store, key string
	delta               *merge.Value
	content             []byte
	whole               bool // a value of a snapshot
}

var errItem = errors.New("the item makes no sense")

// readChange reads an item, which anybody may have made.
func readChange(b []byte) (c sharedChange, err error) {
	if c, b, err = readNames(b); err != nil {
		return c, err
	}
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) || n > maxDelta || len(b)-size-int(n) > pieceSize {
		return c, errItem
	}
	c.content = b[size+int(n):]
	c.delta, err = merge.Decode(b[size : size+int(n)])
	return c, err
}

// readNames reads of which key an item is.
func readNames(b []byte) (c sharedChange, rest []byte, err error) {
	for _, part := range []struct {
		of   *string
		most uint64
	}{{&c.service, maxSharedName}, {&c.store, maxSharedName}, {&c.key, wedge.MaxKVKey}} {
		n, size := binary.Uvarint(b)
		if size <= 0 || n == 0 || n > uint64(len(b)-size) || n > part.most {
			return c, nil, errItem
		}
		*part.of, b = string(b[size:size+int(n)]), b[size+int(n):]
	}
	if !validService(c.service) {
		return c, nil, errItem
	}
	return c, b, nil
}

// validService reports whether that may be a service's name: one that is in no other's place in the database.
func validService(name string) bool { return name != "" && !strings.ContainsAny(name, "\x00\x01") }

// maxSharedName bounds the names of services and stores.
const maxSharedName = 255

// Take does what an entry of the log says. What makes no sense, or what its writer may not say, is left out. An error means that the
// disk does not work.
func (s *Share) Take(e wedge.Entry) error {
	if err := s.kv.enter(context.Background(), "take", e.Writer); err != nil {
		return err
	}
	defer s.kv.leave()
	if err := s.kv.roomy(); err != nil { // the log has it still when there is room again
		return err
	}
	from, err := merge.ParseWriter(e.Writer)
	if err != nil {
		s.refuse(e, 0, err)
		return nil
	}
	last := e.First + uint64(len(e.Items)) - 1
	if from != s.kv.writer {
		for i, item := range e.Items {
			err := s.takeItem(from, item, e.First+uint64(i), e.At)
			switch {
			case err == nil:
				s.stats.taken.Add(1)
			case wedge.KindOf(err) == wedge.Unavailable:
				return err
			default:
				s.refuse(e, i, err)
			}
		}
		if err := s.kv.db.Set(s.heardKey(e.Writer), binary.BigEndian.AppendUint64(nil, last), pebble.NoSync); err != nil {
			return diskError("take", err)
		}
	}
	s.progress(func() {
		s.heard[e.Writer] = last
		if at := (merge.Instant{Wall: e.At.UnixMilli()}); s.at.Before(at) {
			s.at = at
		}
	})
	return nil
}

// progress changes what waits may wait for.
func (s *Share) progress(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.took)
	s.took = make(chan struct{})
}

// Fresh notes that nothing of stores of that scope is missing here that the core had at that time.
func (s *Share) Fresh(scope wedge.Scope, at time.Time) {
	if scope == wedge.ScopeMerge {
		s.renew()
	}
	s.progress(func() {
		if at.After(s.asOf[scope]) {
			s.asOf[scope] = at
		}
		if scope == wedge.ScopeCore {
			s.looks++
		}
	})
}

// AsOf returns since when what the core has of stores of that scope may be missing here; zero: from the start.
func (s *Share) AsOf(scope wedge.Scope) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if scope == wedge.ScopeHome { // it comes by the same log
		scope = wedge.ScopeMerge
	}
	return s.asOf[scope]
}

// coreToken stands for the core in tokens. No PoP is called so: its writers' names have a dot.
const coreToken = "core"

// Token says how far this PoP's writes to stores of that scope have come. Who has it can ask another PoP for a read that has seen them.
func (s *Share) Token(scope wedge.Scope) string {
	if scope != wedge.ScopeCore {
		return s.Writer() + ":" + strconv.FormatUint(s.box.Last(), 10)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return coreToken + ":" + strconv.FormatUint(max(s.wrote, s.keys), 10)
}

// Await returns once what a token stands for has come here, and when ctx ends with an error of kind Timeout. That of a bad token
// is of kind Invalid.
func (s *Share) Await(ctx context.Context, token string) error {
	writer, number, _ := strings.Cut(token, ":")
	n, err := strconv.ParseUint(number, 10, 64)
	if _, err2 := merge.ParseWriter(writer); err != nil || err2 != nil && writer != coreToken {
		return &wedge.Error{Op: "read state", What: "token", Kind: wedge.Invalid, Err: errors.New("not a token"), Hint: "Send what a write answered in Wedge-State-Token."}
	}
	switch writer {
	case coreToken:
		return s.until(ctx, "what the core decided has not come here", func() bool { return s.keys >= n })
	case s.Writer():
		return nil // it was written here before the token was made
	}
	return s.until(ctx, "what another PoP wrote has not come here", func() bool { _, last := EndOf(s.heard[writer]); return last >= n })
}

// AwaitFresh returns once nothing is missing here that the core had at that time.
func (s *Share) AwaitFresh(ctx context.Context, scope wedge.Scope, since time.Time) error {
	return s.until(ctx, "this PoP may not have what others wrote", func() bool { return s.freshSince(scope, since) })
}

// FreshSince reports whether nothing is missing here that the core had at that time, which comes of time.Now. Both of the machine's clocks have to say
// so: the wall clock may be set, and the monotonic one stands still while the machine sleeps.
func (s *Share) FreshSince(scope wedge.Scope, since time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.freshSince(scope, since)
}

func (s *Share) freshSince(scope wedge.Scope, since time.Time) bool {
	if scope == wedge.ScopeHome { // it comes by the same log
		scope = wedge.ScopeMerge
	}
	asOf := s.asOf[scope]
	return !asOf.Before(since) && !asOf.Round(0).Before(since.Round(0))
}

func (s *Share) until(ctx context.Context, why string, is func() bool) error {
	for {
		s.mu.Lock()
		ok, took := is(), s.took
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-took:
		case <-ctx.Done():
			return &wedge.Error{Op: "read state", Kind: wedge.Timeout, Err: errors.New(why), Hint: "Ask again, ask the PoP that wrote, or take what is here."}
		}
	}
}

// Counts returns how many changes of others were taken, how many refused, and how many keys were forgotten.
func (s *Share) Counts() (taken, refused, forgotten int64) {
	return s.stats.taken.Load(), s.stats.refused.Load(), s.stats.forgotten.Load()
}

// Writers returns the PoPs of which something was taken, in no order.
func (s *Share) Writers() (pops []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for writer := range s.heard {
		if w, err := merge.ParseWriter(writer); err == nil && writer != HorizonWriter {
			pops = append(pops, w.PoP)
		}
	}
	return pops
}

func (s *Share) refuse(e wedge.Entry, i int, err error) {
	s.stats.refused.Add(1)
	s.log.Error("a change from another PoP is refused", "writer", e.Writer, "item", e.First+uint64(i), "err", err)
}

func (s *Share) takeItem(from merge.Writer, item []byte, number uint64, at time.Time) error {
	if len(item) == 0 {
		return errItem
	}
	switch item[0] {
	case itemPiece:
		return s.takePiece(from, item[1:])
	case itemChange:
		c, err := readChange(item[1:])
		if err != nil {
			return err
		}
		return s.takeChange(from, &c, at)
	case itemHome:
		return s.takeHome(from, number, item)
	case itemEnd:
		return nil
	case itemHorizon:
		return s.takeHorizon(from, item[1:])
	}
	if whole := item[0] == itemWhole; (whole || item[0] == itemSmall) && from == snapshotWriter {
		read := readChange
		if whole {
			read = s.readWhole
		}
		c, err := read(item[1:])
		if err != nil {
			return err
		}
		c.whole = true
		return s.takeChange(from, &c, at)
	}
	return fmt.Errorf("%w: an item of kind %d, from a newer Wedge", errItem, item[0])
}

func (s *Share) pieceKey(from merge.Writer, digest []byte, n uint64) []byte {
	b := append([]byte{pieceSpace}, s.jurisdiction+"\x00"+from.String()...)
	b = append(append(b, 0), digest...)
	return binary.BigEndian.AppendUint64(b, n)
}

func (s *Share) takePiece(from merge.Writer, b []byte) error {
	if len(b) < sha256.Size {
		return errItem
	}
	digest := b[:sha256.Size]
	n, size := binary.Uvarint(b[sha256.Size:])
	if size <= 0 || n >= maxPieces {
		return errItem
	}
	piece := b[sha256.Size+size:]
	if len(piece) == 0 || len(piece) > pieceSize {
		return errItem
	}
	if err := s.kv.db.Set(s.pieceKey(from, digest, n), piece, pebble.NoSync); err != nil {
		return diskError("take", err)
	}
	return nil
}

// pieces puts content together of what came before, and checks it.
func (s *Share) pieces(from merge.Writer, digest []byte) (value []byte, err error) {
	it, err := s.kv.db.NewIter(&pebble.IterOptions{LowerBound: s.pieceKey(from, digest, 0), UpperBound: s.pieceKey(from, digest, maxPieces)})
	if err != nil {
		return nil, diskError("take", err)
	}
	for ok := it.First(); ok && len(value) <= wedge.MaxKVValue; ok = it.Next() {
		value = append(value, it.Value()...)
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return nil, diskError("take", err)
	}
	return value, nil
}

// takeChange joins a change with what is here.
func (s *Share) takeChange(from merge.Writer, c *sharedChange, at time.Time) error {
	limit := at.Add(merge.MaxAhead)
	id := append(storePrefix(within(s.jurisdiction, c.service), c.store), c.key...)
	defer s.kv.lock(id)()
	old, err := readHead(s.kv.db, id)
	if err != nil && wedge.KindOf(err) != wedge.Internal {
		return err
	}
	v, stored, err := s.kv.base(s, id)
	if err != nil && wedge.KindOf(err) != wedge.Internal {
		return err
	}
	if v == nil { // or it is damaged: then this is at least what the others say from now on
		v = merge.New(c.delta.Kind())
	}
	if err := c.delta.Check(from, limit, nil); err != nil && !c.whole {
		return err
	}
	displaced := (*merge.Value)(nil)
	if kind := c.delta.Kind(); v.Kind() != kind {
		if v.Kind().Outranks(kind) {
			return nil // its PoP hears of this value, too
		}
		displaced, v = v, merge.New(kind)
	}
	next, sorry, err := merge.Join(v, c.delta)
	if err != nil {
		return err
	}
	if displaced != nil && displaced.Has(s.kv.writer) {
		sorry = append(sorry, s.displacedBy(displaced, next))
	}
	if v.Last(s.kv.writer) == 0 && next.Last(s.kv.writer) > 0 { // this PoP has forgotten it, another had not yet
		next = next.Past(s.kv.writer, s.kv.clock.Past(0))
	}
	parts, err := s.contentOf(from, c)
	if err != nil {
		return err
	}
	h, err := headOf(next)
	if err != nil {
		return err
	}
	if err := s.kv.clock.See(c.delta.Newest(), s.kv.opts.Now()); err != nil { // this PoP's own clock may be behind
		s.stats.late.Add(1)
	}
	b := s.kv.db.NewBatch()
	defer b.Close()
	if err := s.kv.fillMerged(b, id, old, h, stored, next, parts...); err != nil {
		return diskError("take", err)
	}
	for _, p := range parts {
		if err := b.DeleteRange(s.pieceKey(from, p.digest[:], 0), s.pieceKey(from, p.digest[:], maxPieces), nil); err != nil && len(c.content) == 0 {
			return diskError("take", err)
		}
	}
	told := false
	for _, a := range sorry {
		if a.Writer != s.kv.writer {
			continue // its own PoP apologises
		}
		if err := s.kv.putApology(b, c.service, c.store, c.key, a); err != nil {
			return err
		}
		told = true
	}
	if err := b.Commit(pebble.NoSync); err != nil { // the log is read again from before it
		return diskError("take", err)
	}
	if told && s.Sorry != nil {
		s.Sorry(c.service)
	}
	return nil
}

// displacedBy is the apology for what this PoP has written to a value that gives way to one of another kind.
func (s *Share) displacedBy(old, next *merge.Value) merge.Apology {
	a := merge.Apology{ID: s.Writer() + ":" + old.Kind().String(), Reason: merge.Displaced, Writer: s.kv.writer, At: s.kv.opts.Now().UTC().Truncate(time.Millisecond)}
	a.Value, _ = old.MarshalJSON() // what was read from disk can be shown
	a.Instead, _ = next.MarshalJSON()
	return a
}

// contentOf returns what the writes of a delta hold, if that is large. All that comes has to be what the digest says.
func (s *Share) contentOf(from merge.Writer, c *sharedChange) (parts []large, err error) {
	for _, w := range c.delta.Writes() {
		said, digest, err := readContent(w.Value)
		if err != nil {
			return nil, err
		}
		if said.Digest == "" {
			continue
		}
		value := c.content
		if len(value) == 0 {
			if value, err = s.pieces(from, digest[:]); err != nil {
				return nil, err
			}
		}
		if len(value) != said.Size || sha256.Sum256(value) != digest {
			return nil, fmt.Errorf("%w: its content is not that of the digest %s", errItem, hex.EncodeToString(digest[:4]))
		}
		parts = append(parts, large{digest, value})
	}
	return parts, nil
}
