package state

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wedge-cloud/wedge"
)

// Each PoP has a key of its own, with which it signs tokens of the sessions that it is home of, and says the public half on the bus. What
// others have said is kept, so that a token can be checked while the PoP that has signed it is down. The own key lies under no name: it is lost
// with the sessions, and no sooner.

// SessionKey returns the key with which this PoP signs tokens; it is made at first.
func (kv *KV) SessionKey() (ed25519.PrivateKey, error) {
	if err := kv.enter(context.Background(), "open state", ""); err != nil {
		return nil, err
	}
	defer kv.leave()
	key := []byte{signerSpace}
	b, closer, err := kv.db.Get(key)
	switch {
	case err == nil && len(b) == ed25519.SeedSize:
		defer closer.Close()
		return ed25519.NewKeyFromSeed(b), nil
	case err == nil:
		return nil, errors.Join(corrupt(key, "it is no key"), closer.Close())
	case !errors.Is(err, pebble.ErrNotFound):
		return nil, diskError("open state", err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, &wedge.Error{Op: "make key", Kind: wedge.Internal, Err: err}
	}
	if err := kv.db.Set(key, private.Seed(), pebble.Sync); err != nil {
		return nil, diskError("open state", err)
	}
	return private, nil
}

// Signers returns the keys of other PoPs, as KeepSigner has kept them.
func (kv *KV) Signers() (map[string][]byte, error) {
	if err := kv.enter(context.Background(), "open state", ""); err != nil {
		return nil, err
	}
	defer kv.leave()
	it, err := kv.db.NewIter(&pebble.IterOptions{LowerBound: []byte{signerSpace, 1}, UpperBound: []byte{signerSpace + 1}})
	if err != nil {
		return nil, diskError("open state", err)
	}
	all := map[string][]byte{}
	for ok := it.First(); ok; ok = it.Next() {
		all[string(it.Key()[1:])] = bytes.Clone(it.Value())
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return nil, diskError("open state", err)
	}
	return all, nil
}

// KeepSigner keeps the keys of another PoP. They are said again, so nothing is synced.
func (kv *KV) KeepSigner(pop string, keys []byte) error {
	if err := kv.enter(context.Background(), "keep signer", pop); err != nil {
		return err
	}
	defer kv.leave()
	if err := kv.roomy(); err != nil {
		return err
	}
	if err := kv.db.Set(inSpace(signerSpace, []byte(pop)), keys, pebble.NoSync); err != nil {
		return diskError("keep signer", err)
	}
	return nil
}
