package state

import (
	"context"
	"sort"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wedge-cloud/wedge"
)

// MaxList is the most keys that one List returns.
const MaxList = 1000

// List returns up to list.Limit keys in byte order (0, or more than MaxList: MaxList) that
// begin with list.Prefix and are greater than list.After; more says that others follow. It sees
// the store as it was at one moment.
func (s *Stores) List(ctx context.Context, name string, list wedge.KVList) (keys []string, more bool, err error) {
	st, err := s.open(ctx, "list keys", name, "")
	if err != nil {
		return nil, false, err
	}
	defer s.kv.leave()
	if list.Limit <= 0 || list.Limit > MaxList {
		list.Limit = MaxList
	}
	if len(list.Prefix) > wedge.MaxKVKey || len(list.After) > wedge.MaxKVKey {
		return nil, false, &wedge.Error{Op: "list keys", What: "store " + name, Kind: wedge.Invalid, Hint: "Prefix and cursor cannot be longer than a key."}
	}
	from := list.Prefix
	if after := list.After + "\x00"; list.After != "" && after > from {
		from = after
	}
	it, err := s.kv.db.NewIterWithContext(ctx, &pebble.IterOptions{
		LowerBound: inSpace(headSpace, st.id(from)),
		UpperBound: successor(inSpace(headSpace, st.id(list.Prefix))),
	})
	if err != nil {
		return nil, false, diskError("list keys", err)
	}
	keys, err = s.merge(ctx, it, st, from, list)
	if closeErr := it.Close(); err == nil && closeErr != nil {
		err = diskError("list keys", closeErr)
	}
	if err != nil {
		return nil, false, err
	}
	if len(keys) > list.Limit {
		return keys[:list.Limit], true, nil
	}
	return keys, false, nil
}

// merge walks written keys and seeds side by side and returns up to one key more than asked.
func (s *Stores) merge(ctx context.Context, it *pebble.Iterator, st *store, from string, list wedge.KVList) ([]string, error) {
	var keys []string
	now := s.kv.opts.Now()
	seeds := st.order[sort.SearchStrings(st.order, from):]
	var failed error
	// seedsBefore takes the seeds that come before limit ("": all of them).
	seedsBefore := func(limit string) {
		for len(seeds) > 0 && len(keys) <= list.Limit && strings.HasPrefix(seeds[0], list.Prefix) && (limit == "" || seeds[0] < limit) {
			if h, err := s.kv.headFor(st, st.id(seeds[0]), seeds[0]); err != nil {
				failed = err
			} else if h == nil {
				keys = append(keys, seeds[0])
			}
			seeds = seeds[1:]
		}
	}
	skip := 1 + len(st.prefix)
	for ok, n := it.First(), 0; ok && len(keys) <= list.Limit; ok, n = it.Next(), n+1 {
		if n%1024 == 1023 && ctx.Err() != nil { // a long run of tombstones must not outlive its reader
			return nil, &wedge.Error{Op: "list keys", Kind: wedge.Timeout, Err: context.Cause(ctx)}
		}
		key := string(it.Key()[skip:])
		b, err := it.ValueAndErr()
		if err != nil {
			return nil, diskError("list keys", err)
		}
		h, err := decodeHead(b)
		if err != nil {
			return nil, corrupt(it.Key(), err)
		}
		seedsBefore(key)
		if len(keys) > list.Limit {
			break
		}
		seeded := len(seeds) > 0 && seeds[0] == key
		if h, err = s.kv.overSeed(st, st.id(key), key, h); err != nil {
			return nil, err
		}
		if h.live(now) || seeded && !h.hides(now) {
			keys = append(keys, key)
		}
		if seeded {
			seeds = seeds[1:]
		}
	}
	if err := it.Error(); err != nil {
		return nil, diskError("list keys", err)
	}
	seedsBefore("")
	return keys, failed
}
