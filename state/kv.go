package state

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state/merge"
)

// Options tune a [KV]. The zero value is good.
type Options struct {
	PoP        string           // whose it is; "": local
	Memory     bool             // keep everything in memory; dir is then only a name
	CacheBytes int64            // for blocks read from disk; 0: 16 MiB
	MinFree    uint64           // bytes of disk below which writes are refused; 0: 64 MiB
	SweepEvery time.Duration    // pause between sweeps for expired keys in Run; 0: 10 s
	Now        func() time.Time // nil: time.Now
	Full       func() bool      // has the disk be full, whatever it says itself; for tests
	Log        *slog.Logger     // nil: slog.Default

	fs vfs.FS // for tests; nil: the machine's, or one in memory
}

func (o Options) withDefaults() Options {
	if o.PoP == "" {
		o.PoP = "local"
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = 16 << 20
	}
	if o.MinFree == 0 {
		o.MinFree = 64 << 20
	}
	if o.SweepEvery <= 0 {
		o.SweepEvery = 10 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return o
}

// KV is the persistent key-value database of a PoP. It may be used by many goroutines.
type KV struct {
	dir  string
	opts Options
	db   *pebble.DB
	fs   vfs.FS
	gens generations

	writer merge.Writer // who this PoP is to mergeable values
	clock  *merge.Clock
	shares map[string]*Share // by jurisdiction; none: there is no other PoP
	askers askers
	homes  homes

	seed    maphash.Seed
	stripes [numStripes]stripe

	past sync.Mutex // see forgets

	forked atomic.Bool // see Fork

	full atomic.Bool // the disk has less than MinFree

	users   atomic.Int64  // operations under way; see closed
	idle    chan struct{} // told when the last has ended, once the database is closed to others
	closing sync.Mutex
}

// Open opens the database in dir, creating both if need be. One process at a time can have
// it open. The errors are of kind Unavailable (in use, disk) or Invalid (written by a newer Wedge).
func Open(dir string, opts Options) (*KV, error) {
	kv := &KV{dir: dir, opts: opts.withDefaults(), fs: vfs.Default, seed: maphash.MakeSeed(), homes: newHomes(), idle: make(chan struct{}, 1)}
	if opts.Memory {
		kv.fs = vfs.NewMem()
	}
	if opts.fs != nil {
		kv.fs = opts.fs
	}
	cache := pebble.NewCache(kv.opts.CacheBytes)
	defer cache.Unref() // the database holds its own reference
	db, err := pebble.Open(dir, &pebble.Options{
		FS:    kv.fs,
		Cache: cache,
		// Pinned, so that a newer pebble does not by itself write files an older Wedge cannot read.
		FormatMajorVersion: pebble.FormatWALSyncChunks,
		Logger:             pebbleLog{kv.opts.Log},
	})
	if err != nil {
		return nil, openError(dir, err)
	}
	kv.db, kv.gens.db = db, db
	if err := kv.start(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return kv, nil
}

func openError(dir string, err error) error {
	return &wedge.Error{Op: "open state", What: dir, Kind: wedge.Unavailable, Err: err,
		Hint: "Only one Wedge process can use a state directory, and it must be able to write there."}
}

// start checks the schema and finds where generations go on.
func (kv *KV) start() error {
	found, err := kv.system(schemaKey)
	if err != nil {
		return err
	}
	if found == 0 {
		if err := kv.db.Set(schemaKey, binary.BigEndian.AppendUint64(nil, schema), pebble.Sync); err != nil {
			return openError(kv.dir, err)
		}
	} else if found != schema {
		return &wedge.Error{Op: "open state", What: kv.dir, Kind: wedge.Invalid,
			Err:  fmt.Errorf("its schema is %d, this Wedge knows %d", found, schema),
			Hint: "Run the Wedge that wrote it, or start with an empty state directory."}
	}
	last, err := kv.system(generationKey)
	kv.gens.last, kv.gens.reserved = last, last
	if err != nil {
		return err
	}
	incarnation, err := kv.Incarnation()
	if err != nil {
		return err
	}
	kv.writer, err = merge.ParseWriter(kv.opts.PoP + "." + incarnation)
	kv.clock = merge.NewClock(kv.writer)
	if err != nil {
		return err
	}
	past, err := kv.system(pastKey)
	kv.clock.Past(past)
	return err
}

// system reads one of the database's own numbers; 0 if it was never written.
func (kv *KV) system(key []byte) (uint64, error) {
	b, closer, err := kv.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, openError(kv.dir, err)
	}
	defer closer.Close()
	if len(b) != 8 {
		return 0, corrupt(key, "a number must have 8 bytes")
	}
	return binary.BigEndian.Uint64(b), nil
}

// Close waits for operations under way and closes the database. Those begun later fail
// with kind Unavailable.
func (kv *KV) Close() error {
	kv.closing.Lock()
	defer kv.closing.Unlock()
	if kv.users.Load() < 0 {
		return nil
	}
	if kv.users.Add(closed) != closed {
		<-kv.idle
	}
	if err := kv.db.Close(); err != nil {
		return &wedge.Error{Op: "close state", What: kv.dir, Kind: wedge.Internal, Err: err}
	}
	return nil
}

// closed is what users is below when the database is closed, or about to be. It is no lock: an operation may begin another, and a lock that is held for
// reading cannot be had again while somebody waits for it.
const closed = -1 << 62

// enter begins an operation; leave must follow if it returns nil.
func (kv *KV) enter(ctx context.Context, op, what string) error {
	if err := ctx.Err(); err != nil {
		return &wedge.Error{Op: op, What: what, Kind: wedge.Timeout, Err: context.Cause(ctx)}
	}
	if kv.users.Add(1) > 0 {
		return nil
	}
	kv.leave()
	return &wedge.Error{Op: op, What: what, Kind: wedge.Unavailable, Err: errors.New("the state is closed"),
		Hint: "The node is shutting down; ask another."}
}

func (kv *KV) leave() {
	if kv.users.Add(-1) != closed {
		return
	}
	select {
	case kv.idle <- struct{}{}:
	default: // it was idle before
	}
}

// generations hands out numbers that never repeat, not even after a crash: it reserves a
// block on disk before it uses the first number of it. A crash wastes the rest of the block.
type generations struct {
	db             *pebble.DB
	mu             sync.Mutex
	last, reserved uint64
}

const generationBlock = 1 << 16

func (g *generations) next() (uint64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.last == g.reserved {
		top := g.reserved + generationBlock
		if err := g.db.Set(generationKey, binary.BigEndian.AppendUint64(nil, top), pebble.Sync); err != nil {
			return 0, err
		}
		g.reserved = top
	}
	g.last++
	return g.last, nil
}

// pebbleLog passes pebble's log on. Its Infof tells of every flush and compaction: debug.
type pebbleLog struct{ log *slog.Logger }

func (l pebbleLog) Infof(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("state: " + fmt.Sprintf(format, args...))
	}
}

func (l pebbleLog) Errorf(format string, args ...any) {
	l.log.Error("state: " + fmt.Sprintf(format, args...))
}

// Fatalf ends the process, as pebble demands: after a failed sync nobody knows what is on
// the disk, and only a fresh start, which reads the log again, finds out.
func (l pebbleLog) Fatalf(format string, args ...any) {
	l.log.Error("state: cannot go on: " + fmt.Sprintf(format, args...))
	os.Exit(wedge.Internal.ExitCode())
}
