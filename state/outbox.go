package state

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wedge-cloud/wedge"
)

// Outbox keeps what a PoP has to say to the fleet, in order: each item is on disk before Add returns, and stays for a
// while after the core has it. It may be used by many goroutines.
type Outbox struct {
	kv     *KV
	prefix []byte

	mu      sync.Mutex
	last    uint64 // number of the newest item
	first   uint64 // of the oldest that is kept
	grown   chan struct{}
	next    *outboxBatch // to be written by whoever writes now
	writing bool
}

// outboxBatch is what some who came at the same time have to say. It is written with one sync.
type outboxBatch struct {
	items [][]byte
	along []func(*pebble.Batch) error
	done  chan struct{} // closed when what follows is set
	base  uint64        // number before the first item
	err   error
}

// Trimming costs a range deletion, so it is done for many at once.
const trimEvery = 1 << 12

func outboxPrefix(lane string) []byte { return append(append([]byte{outboxSpace}, lane...), 0) }

// Outbox opens the outbox of a name, which must have no zero byte.
func (kv *KV) Outbox(lane string) (*Outbox, error) {
	if err := kv.enter(context.Background(), "open outbox", lane); err != nil {
		return nil, err
	}
	defer kv.leave()
	o := &Outbox{kv: kv, prefix: outboxPrefix(lane), first: 1, grown: make(chan struct{})}
	it, err := kv.db.NewIter(&pebble.IterOptions{LowerBound: o.key(0), UpperBound: successor(o.prefix)})
	if err != nil {
		return nil, diskError("open outbox", err)
	}
	defer it.Close()
	if it.Last() {
		o.last = o.number(it.Key())
		it.First()
		o.first = o.number(it.Key())
	}
	if err := it.Error(); err != nil {
		return nil, diskError("open outbox", err)
	}
	last, err := kv.system(o.lastKey()) // items may all have been trimmed
	o.last = max(o.last, last)
	if o.first == 1 && !it.Valid() {
		o.first = o.last + 1
	}
	return o, err
}

func (o *Outbox) key(n uint64) []byte {
	return binary.BigEndian.AppendUint64(slices.Clip(o.prefix), n)
}

func (o *Outbox) number(key []byte) uint64 {
	if len(key) != len(o.prefix)+8 || !bytes.HasPrefix(key, o.prefix) {
		return 0
	}
	return binary.BigEndian.Uint64(key[len(o.prefix):])
}

func (o *Outbox) lastKey() []byte { return append([]byte("soutbox\x00"), o.prefix[1:]...) }

// Add puts items in and returns the number of the last one. Writers at the same time share the disk's sync.
func (o *Outbox) Add(items ...[]byte) (uint64, error) { return o.add(nil, items...) }

// add writes along what belongs to the items: both are there after a crash, or neither.
func (o *Outbox) add(along func(*pebble.Batch) error, items ...[]byte) (uint64, error) {
	if err := o.kv.enter(context.Background(), "add to outbox", ""); err != nil {
		return 0, err
	}
	defer o.kv.leave()
	if err := o.kv.roomy(); err != nil {
		return 0, err
	}
	o.mu.Lock()
	if o.next == nil {
		o.next = &outboxBatch{done: make(chan struct{})}
	}
	b := o.next
	b.items = append(b.items, items...)
	if along != nil {
		b.along = append(b.along, along)
	}
	at := uint64(len(b.items))
	if o.writing {
		o.mu.Unlock()
		<-b.done
	} else {
		o.write()
	}
	return b.base + at, b.err
}

// write writes batches until there are none, and unlocks.
func (o *Outbox) write() {
	o.writing = true
	for o.next != nil {
		b := o.next
		o.next, b.base = nil, o.last
		o.mu.Unlock()
		b.err = o.commit(b)
		o.mu.Lock()
		if b.err == nil {
			o.last += uint64(len(b.items))
			close(o.grown)
			o.grown = make(chan struct{})
		}
		close(b.done)
	}
	o.writing = false
	o.mu.Unlock()
}

func (o *Outbox) commit(ob *outboxBatch) error {
	b := o.kv.db.NewBatch()
	defer b.Close()
	for i, it := range ob.items {
		if err := b.Set(o.key(ob.base+uint64(i)+1), it, nil); err != nil {
			return diskError("add to outbox", err)
		}
	}
	for _, fill := range ob.along {
		if err := fill(b); err != nil {
			return diskError("add to outbox", err)
		}
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return diskError("add to outbox", err)
	}
	return nil
}

// Next returns up to max items that follow number after.
func (o *Outbox) Next(after uint64, max int) (items [][]byte, err error) {
	if err := o.kv.enter(context.Background(), "read outbox", ""); err != nil {
		return nil, err
	}
	defer o.kv.leave()
	if last := o.Last(); after >= last {
		return nil, nil
	}
	it, err := o.kv.db.NewIter(&pebble.IterOptions{LowerBound: o.key(after + 1), UpperBound: successor(o.prefix)})
	if err != nil {
		return nil, diskError("read outbox", err)
	}
	defer it.Close()
	for ok := it.First(); ok && len(items) < max && o.number(it.Key()) == after+uint64(len(items))+1; ok = it.Next() {
		items = append(items, bytes.Clone(it.Value()))
	}
	if err := it.Error(); err != nil {
		return nil, diskError("read outbox", err)
	}
	if len(items) == 0 {
		return nil, &wedge.Error{Op: "read outbox", What: string(o.prefix[1:]), Kind: wedge.Internal,
			Err: fmt.Errorf("item %d is missing", after+1), Hint: "Part of what the PoP had to say is lost: the fleet may have to be told again."}
	}
	return items, nil
}

// Last returns the number of the newest item.
func (o *Outbox) Last() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last
}

// First returns the number of the oldest item that is kept, or will be if there is none.
func (o *Outbox) First() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.first
}

// Grown returns a channel that is closed when there is a new item.
func (o *Outbox) Grown() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.grown
}

// Trim drops items up to a number, once they are many.
func (o *Outbox) Trim(upTo uint64) error {
	if upTo < o.First()+trimEvery {
		return nil
	}
	return o.Cut(upTo)
}

// Cut drops items up to a number.
func (o *Outbox) Cut(upTo uint64) error {
	o.mu.Lock()
	last := o.last
	if upTo > last || upTo < o.first {
		o.mu.Unlock()
		return nil
	}
	o.first = upTo + 1
	o.mu.Unlock()
	if err := o.kv.enter(context.Background(), "trim outbox", ""); err != nil {
		return err
	}
	defer o.kv.leave()
	b := o.kv.db.NewBatch()
	defer b.Close()
	if err := errors.Join(b.Set(o.lastKey(), binary.BigEndian.AppendUint64(nil, last), nil), b.DeleteRange(o.key(0), o.key(upTo+1), nil), b.Commit(pebble.NoSync)); err != nil {
		return diskError("trim outbox", err)
	}
	return nil
}

// Incarnation returns a name that this database has had since it was made, and no other has.
func (kv *KV) Incarnation() (string, error) {
	if err := kv.enter(context.Background(), "open state", ""); err != nil {
		return "", err
	}
	defer kv.leave()
	n, err := kv.system(incarnationKey)
	if err != nil {
		return "", err
	}
	b := make([]byte, 8)
	if n == 0 {
		_, _ = rand.Read(b) // never fails, by contract
		batch := kv.db.NewBatch()
		defer batch.Close()
		if err := errors.Join(batch.Set(incarnationKey, b, nil), batch.Set(anewKey, b, nil), batch.Commit(pebble.Sync)); err != nil {
			return "", diskError("open state", err)
		}
		return hex.EncodeToString(b), nil
	}
	return hex.EncodeToString(binary.BigEndian.AppendUint64(nil, n)), nil
}

// Fork is told that this database is an older copy of one that has gone on: what is written to mergeable values now has names that other writes
// had. So writes to shared stores are refused, until the database is opened anew: as another incarnation.
func (kv *KV) Fork() error {
	if err := kv.enter(context.Background(), "fork state", ""); err != nil {
		return err
	}
	defer kv.leave()
	if kv.forked.Swap(true) {
		return nil
	}
	for _, share := range kv.shares {
		share.Known()
	}
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails, by contract
	batch := kv.db.NewBatch()
	defer batch.Close()
	if err := errors.Join(batch.Set(incarnationKey, b, nil), batch.Set(anewKey, b, nil), batch.Commit(pebble.Sync)); err != nil {
		return diskError("fork state", err)
	}
	return nil
}

// Forked reports whether Fork was called.
func (kv *KV) Forked() bool { return kv.forked.Load() }

// Cursor returns how far a log has been followed; 0: not at all.
func (kv *KV) Cursor(log string) (uint64, error) {
	if err := kv.enter(context.Background(), "read cursor", log); err != nil {
		return 0, err
	}
	defer kv.leave()
	return kv.system(cursorKey(log))
}

// SetCursor notes how far a log has been followed. After a crash it may be an earlier number that was noted; so it may if the disk is
// nearly full, when nothing is written that can be done without.
func (kv *KV) SetCursor(log string, seq uint64) error {
	if err := kv.enter(context.Background(), "note cursor", log); err != nil {
		return err
	}
	defer kv.leave()
	if kv.full.Load() {
		return nil
	}
	if err := kv.db.Set(cursorKey(log), binary.BigEndian.AppendUint64(nil, seq), pebble.NoSync); err != nil {
		return diskError("note cursor", err)
	}
	return nil
}

func cursorKey(log string) []byte { return append([]byte("scursor\x00"), log...) }
