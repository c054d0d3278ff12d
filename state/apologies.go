package state

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state/merge"
)

// Apology is what a guest promised at this PoP, by a write that was accepted, and cannot be kept. It stays until it is answered.
type Apology struct {
	Service string `json:"service"`
	Store   string `json:"store"`
	Key     string `json:"key"`
	merge.Apology
	Since time.Time `json:"since"` // when it became known here
}

func apologyPrefix(service string) []byte {
	return append(append([]byte{apologySpace}, service...), 0)
}

// putApology keeps an apology; one that is there already is replaced if this one has more to be sorry for.
func (kv *KV) putApology(b *pebble.Batch, service, store, key string, a merge.Apology) error {
	id := append(apologyPrefix(service), storePrefix(store, key)...)
	id = append(id, a.ID...)
	old, closer, err := kv.db.Get(id)
	if err == nil {
		var was Apology
		known := json.Unmarshal(old, &was) == nil && was.Amount >= a.Amount
		closer.Close()
		if known {
			return nil
		}
	}
	if err != nil && !errors.Is(err, pebble.ErrNotFound) {
		return diskError("keep apology", err)
	}
	text, err := json.Marshal(Apology{service, store, key, shown(a), kv.opts.Now().UTC()})
	if err != nil {
		return err
	}
	if err := b.Set(id, text, nil); err != nil {
		return diskError("keep apology", err)
	}
	return nil
}

// shown makes of a register's writes what guests put.
func shown(a merge.Apology) merge.Apology {
	for _, v := range []*json.RawMessage{&a.Value, &a.Instead} {
		c, _, err := readContent(*v)
		switch {
		case len(*v) == 0 || err != nil || a.Path != nil:
		case c.Gone:
			*v = json.RawMessage("null")
		case c.Digest != "":
			*v, _ = json.Marshal("sha256:" + c.Digest)
		default:
			*v, _ = json.Marshal(string(c.Value))
		}
	}
	return a
}

// Apologies returns up to limit apologies of a service that were not answered yet, "" those of all.
func (kv *KV) Apologies(ctx context.Context, service string, limit int) (all []Apology, err error) {
	if err := kv.enter(ctx, "list apologies", service); err != nil {
		return nil, err
	}
	defer kv.leave()
	prefix := []byte{apologySpace}
	if service != "" {
		prefix = apologyPrefix(service)
	}
	it, err := kv.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: successor(prefix)})
	if err != nil {
		return nil, diskError("list apologies", err)
	}
	for ok := it.First(); ok && len(all) < limit; ok = it.Next() {
		var a Apology
		if json.Unmarshal(bytes.Clone(it.Value()), &a) == nil {
			all = append(all, a)
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return nil, diskError("list apologies", err)
	}
	return all, nil
}

// Answered notes that a service has taken an apology: it is gone then. The error is of kind NotExist if it was gone.
func (kv *KV) Answered(a *Apology) error {
	if err := kv.enter(context.Background(), "answer apology", a.ID); err != nil {
		return err
	}
	defer kv.leave()
	id := append(append(apologyPrefix(a.Service), storePrefix(a.Store, a.Key)...), a.ID...)
	if _, closer, err := kv.db.Get(id); errors.Is(err, pebble.ErrNotFound) {
		return &wedge.Error{Op: "answer apology", What: a.ID, Kind: wedge.NotExist}
	} else if err == nil {
		closer.Close()
	}
	if err := kv.db.Delete(id, pebble.Sync); err != nil {
		return diskError("answer apology", err)
	}
	return nil
}
