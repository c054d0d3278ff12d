package state

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state/merge"
)

// A PoP that was away for longer than the log is kept, or is new, gets whole values from who has taken all of the log, which the core
// does; and then goes on with the log. Values are joined with what the PoP has: nothing it wrote itself is lost, and it does not matter
// which of the two brings a change.

// Place is how far a snapshot was read: up to an item of a key's. The zero value is its beginning.
type Place struct {
	Key  []byte `json:"key,omitempty"` // as the database has it
	Item int    `json:"item,omitempty"`
	Home bool   `json:"home,omitempty"` // among what homes have decided, which comes last
}

// pageSize is about how many bytes of items one page has. One item may be larger than what is left, but never than a message.
const pageSize = 300 << 10

// snapshotWriter is who snapshots are from: whoever the PoP has asked for one, not who wrote the values. No PoP can be called so.
var snapshotWriter = merge.Writer{PoP: "(snapshot)"}

// Snapshot returns a page of what is in stores of scope merge and home, and where the next one begins; done: it is the last. What changes while
// it is read may be in it or not. What is damaged is left out, and lacks from then on: see Complete.
func (s *Share) Snapshot(at Place) (items [][]byte, next Place, done bool, err error) {
	if err := s.kv.enter(context.Background(), "read snapshot", ""); err != nil {
		return nil, at, false, err
	}
	defer s.kv.leave()
	snap := s.kv.db.NewSnapshot()
	defer snap.Close()
	size := 0
	if !at.Home {
		if items, at, done, err = s.page(snap, at, &size); err != nil || !done {
			return items, at, done, err
		}
		at = Place{Home: true}
	}
	more, at, done, err := s.page(snap, at, &size)
	return append(items, more...), at, done, err
}

// page reads on in one of the two spaces.
func (s *Share) page(snap *pebble.Snapshot, at Place, size *int) (items [][]byte, next Place, done bool, err error) {
	space, belongs, read := byte(mergedSpace), s.has, s.wholeItems
	if at.Home {
		space, read = headSpace, homeItems
		belongs = func(service string) bool {
			rest, ok := strings.CutPrefix(service, "home")
			_, service, split := strings.Cut(rest, "\x00")
			return ok && split && s.has(service)
		}
	}
	it, err := snap.NewIter(&pebble.IterOptions{LowerBound: append([]byte{space}, at.Key...), UpperBound: []byte{space + 1}})
	if err != nil {
		return nil, at, false, diskError("read snapshot", err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		id := bytes.Clone(it.Key()[1:])
		if !bytes.Equal(id, at.Key) {
			at = Place{Key: id, Home: at.Home}
		}
		if service, _, _, err := splitID(id); err != nil || !belongs(service) {
			continue
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, at, false, diskError("read snapshot", err)
		}
		all, err := read(snap, id, bytes.Clone(value))
		if err != nil {
			s.log.Error("a value is left out of a snapshot", "err", err)
			if at.Home {
				continue
			}
			if err := s.lack(); err != nil { // it is not gone
				return nil, at, false, err
			}
			continue
		}
		for at.Item < len(all) {
			item := all[at.Item]
			if *size > 0 && *size+len(item) > pageSize {
				return items, at, false, nil
			}
			items = append(items, item)
			*size += len(item)
			at.Item++
		}
	}
	if err := it.Error(); err != nil {
		return nil, at, false, diskError("read snapshot", err)
	}
	return items, at, true, nil
}

// has reports whether what the database has under the name of a service is in the share's jurisdiction.
func (s *Share) has(service string) bool {
	jurisdiction, _, ok := strings.Cut(service, "\x01")
	return ok && jurisdiction == s.jurisdiction || !ok && s.jurisdiction == ""
}

// wholeItems makes the items of a key's value and of what its writes hold; none if it is forgotten.
func (s *Share) wholeItems(r pebble.Reader, id, encoded []byte) (items [][]byte, err error) {
	service, store, key, err := splitID(id)
	if err != nil {
		return nil, err
	}
	_, name, _ := strings.Cut(service, "\x01") // without the jurisdiction, which is the snapshot's
	service = cmp.Or(name, service)
	v, err := merge.Decode(encoded)
	if err != nil {
		return nil, err
	}
	horizon := s.Horizon()
	if v = v.Collect(horizon); forgettable(v, horizon) {
		return nil, nil
	}
	encoded = v.Encode()
	for _, w := range v.Writes() {
		c, digest, err := readContent(w.Value)
		if err != nil {
			return nil, err
		}
		if c.Digest == "" {
			continue
		}
		b, closer, err := r.Get(contentKey(id, digest))
		if err != nil {
			return nil, fmt.Errorf("content of %q in store %s: %w", key, store, err)
		}
		items = inPieces(items, digest, bytes.Clone(b))
		closer.Close()
	}
	if len(encoded) <= pieceSize {
		small := named(itemSmall, service, store, key)
		return append(items, append(binary.AppendUvarint(small, uint64(len(encoded))), encoded...)), nil
	}
	sum := sha256.Sum256(encoded)
	items = inPieces(items, sum, encoded)
	return append(items, append(named(itemWhole, service, store, key), sum[:]...)), nil
}

// homeItems makes the item of a key of scope home.
func homeItems(r pebble.Reader, id, encoded []byte) ([][]byte, error) {
	service, store, key, err := splitID(id)
	if err != nil {
		return nil, err
	}
	split, service, _ := strings.Cut(strings.TrimPrefix(service, "home"), "\x00")
	_, name, _ := strings.Cut(service, "\x01") // without the jurisdiction, which is the snapshot's
	h, err := decodeHead(encoded)
	if err == nil {
		err = h.loadValue(r, id)
	}
	if err != nil {
		return nil, err
	}
	k := coreKey{Service: cmp.Or(name, service), Store: store, Key: []byte(key), Gone: h.tombstone, Metadata: []byte(h.metadata)}
	if !h.expires.IsZero() {
		k.Expires = h.expires.UnixMilli()
	}
	item, err := headed(k, h.value)
	return [][]byte{append(binary.AppendUvarint(named(itemHome, split), h.generation), item...)}, err
}

// splitID takes the parts of a key as the database has it.
func splitID(id []byte) (service, store, key string, err error) {
	next := func() string {
		n, size := binary.Uvarint(id)
		if size <= 0 || n > uint64(len(id)-size) {
			err = errShort
			return ""
		}
		part := id[size : size+int(n)]
		id = id[size+int(n):]
		return string(part)
	}
	service, store = next(), next()
	return service, store, string(id), err
}

// readWhole reads the item of a whole value, whose bytes have come in pieces.
func (s *Share) readWhole(b []byte) (c sharedChange, err error) {
	if len(b) < sha256.Size {
		return c, errItem
	}
	digest := b[len(b)-sha256.Size:]
	if c, _, err = readNames(b[:len(b)-sha256.Size]); err != nil {
		return c, err
	}
	encoded, err := s.pieces(snapshotWriter, digest)
	if err != nil {
		return c, err
	}
	if sha256.Sum256(encoded) != [sha256.Size]byte(digest) {
		return c, fmt.Errorf("%w: the value is not that of its digest", errItem)
	}
	c.delta, err = merge.Decode(encoded)
	return c, err
}

// TakeSnapshot takes a page. An error of kind Unavailable means that the disk does not work; another, that a value did not come whole, as
// when it was changed between two pages: read its key again from its first item.
func (s *Share) TakeSnapshot(items [][]byte) error {
	if err := s.kv.enter(context.Background(), "take snapshot", ""); err != nil {
		return err
	}
	defer s.kv.leave()
	if err := s.kv.roomy(); err != nil {
		return err
	}
	var failed error
	for _, item := range items {
		if err := s.takeItem(snapshotWriter, item, 0, time.Time{}); wedge.KindOf(err) == wedge.Unavailable && err != nil {
			return err
		} else if err != nil {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// EndSnapshot drops what pieces are left over.
func (s *Share) EndSnapshot() error {
	if err := s.kv.enter(context.Background(), "take snapshot", ""); err != nil {
		return err
	}
	defer s.kv.leave()
	prefix := []byte(string(pieceSpace) + s.jurisdiction + "\x00" + snapshotWriter.String())
	if err := s.kv.db.DeleteRange(prefix, successor(prefix), pebble.NoSync); err != nil {
		return diskError("take snapshot", err)
	}
	return nil
}
