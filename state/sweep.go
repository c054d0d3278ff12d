package state

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wedge-cloud/wedge"
)

// sweepBatch is how many expired keys one sweep removes, so that a flood of them does not
// take the disk from those who wait for it.
const sweepBatch = 10_000

// watchEvery is how often the disk is looked at: MinFree is to last until the next look.
const watchEvery = time.Second

// Run sweeps expired keys and what was removed, and watches the disk's free space until ctx ends; it then
// returns nil. It must not begin before all shares were opened. Without it all is correct, but expired keys keep their room and a disk may
// run full, which ends the process.
func (kv *KV) Run(ctx context.Context) error {
	sweep, watch := time.NewTicker(kv.opts.SweepEvery), time.NewTicker(watchEvery)
	defer sweep.Stop()
	defer watch.Stop()
	kv.watchDisk()
	for {
		kv.sweepAll(ctx)
		if err := kv.sweepRemovals(ctx); err != nil && ctx.Err() == nil && wedge.KindOf(err) != wedge.Unavailable {
			kv.opts.Log.Error("state: sweep what was removed", "err", err)
		}
		for due := false; !due; {
			select {
			case <-ctx.Done():
				return nil
			case <-watch.C:
				kv.watchDisk()
			case <-sweep.C:
				due = true
			}
		}
	}
}

// sweepAll removes all that has expired.
func (kv *KV) sweepAll(ctx context.Context) {
	for {
		n, err := kv.Sweep(ctx, sweepBatch)
		if err != nil && ctx.Err() == nil && wedge.KindOf(err) != wedge.Unavailable {
			kv.opts.Log.Error("state: sweep expired keys", "err", err)
		}
		if n < sweepBatch || err != nil {
			return
		}
	}
}

// watchDisk notes whether there is room for writes.
func (kv *KV) watchDisk() {
	if kv.opts.Memory {
		return
	}
	usage, err := kv.fs.GetDiskUsage(kv.dir)
	if err != nil {
		return // cannot know; writes then tell by themselves
	}
	full := usage.AvailBytes < kv.opts.MinFree || kv.opts.Full != nil && kv.opts.Full()
	if kv.full.Swap(full) != full {
		kv.opts.Log.Warn("state: disk space changed", "writes_refused", full, "free_bytes", usage.AvailBytes)
	}
}

// Full reports whether the disk has less room than is to be left.
func (kv *KV) Full() bool { return kv.full.Load() }

// roomy refuses a write while the disk is nearly full: a write that pebble cannot finish
// would end the process, and with it the reads.
func (kv *KV) roomy() error {
	if !kv.full.Load() {
		return nil
	}
	return &wedge.Error{Op: "put key", What: kv.dir, Kind: wedge.Unavailable, Err: errors.New("the disk is nearly full"),
		Hint: "Make room on the disk of the state directory; keys can be deleted meanwhile."}
}

// Sweep removes up to limit expired keys and returns how many index entries it dealt with.
func (kv *KV) Sweep(ctx context.Context, limit int) (n int, err error) {
	if err := kv.enter(ctx, "sweep state", kv.dir); err != nil {
		return 0, err
	}
	defer kv.leave()
	now := kv.opts.Now()
	it, err := kv.db.NewIterWithContext(ctx, &pebble.IterOptions{
		LowerBound: []byte{expirySpace},
		UpperBound: expiryKey(now.Add(1), nil),
	})
	if err != nil {
		return 0, diskError("sweep state", err)
	}
	for ok := it.First(); ok && n < limit && err == nil && ctx.Err() == nil; ok = it.Next() {
		n++
		err = kv.expire(it.Key(), now)
	}
	if err := errors.Join(err, it.Error(), it.Close()); err != nil {
		return n, err
	}
	ended, err := kv.sweepSessions(limit)
	return max(n, ended), err
}

// expire removes the key that an index entry names, or leaves a tombstone over its seed. The
// write is not synced: if it is lost the next sweep repeats it.
func (kv *KV) expire(entry []byte, now time.Time) error {
	if len(entry) < 9 {
		return kv.db.Delete(entry, pebble.NoSync)
	}
	at, id := time.Unix(0, int64(binary.BigEndian.Uint64(entry[1:]))), append([]byte(nil), entry[9:]...)
	defer kv.lock(id)()
	h, err := readHead(kv.db, id)
	if err != nil && wedge.KindOf(err) != wedge.Internal {
		return err
	}
	if err != nil || h == nil || !h.expires.Equal(at) || h.live(now) {
		return kv.db.Delete(entry, pebble.NoSync) // the key was written since, or cannot be read
	}
	var next *head
	if h.shadows {
		next = &head{tombstone: true, generation: h.generation}
	}
	b := kv.db.NewBatch()
	defer b.Close()
	err = kv.fill(b, id, h, next)
	if h.kind != 0 && err == nil {
		err = noteExpired(b, id, at)
	}
	if err != nil {
		return diskError("sweep state", err)
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return diskError("sweep state", err)
	}
	return nil
}
