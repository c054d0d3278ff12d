package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wedge-cloud/wedge"
)

// Scopes returns of which scopes there is a copy of a key in the share's jurisdiction here, whether or not a version that runs here binds the store. Of
// scope core a PoP has one; the core has it in its log ([KeyIn]).
func (s *Share) Scopes(ctx context.Context, service, store, key string) (list []wedge.Scope, err error) {
	if err := s.kv.enter(ctx, "find key", "store "+store); err != nil {
		return nil, err
	}
	defer s.kv.leave()
	own := within(s.jurisdiction, service)
	homes, err := s.homeServices(own)
	if err != nil {
		return nil, err
	}
	for _, at := range append([]string{own, coreService(own)}, homes...) {
		h, err := readHead(s.kv.db, append(storePrefix(at, store), key...))
		if err != nil {
			return nil, err
		}
		if !h.live(s.kv.opts.Now()) {
			continue
		}
		scope := wedge.ScopeHome
		switch at {
		case own:
			scope = wedge.ScopeMerge
		case coreService(own):
			scope = wedge.ScopeCore
		}
		list = append(list, scope)
	}
	return list, nil
}

// homeServices returns under which names a service has keys of scope home here: one for each way in which its stores are split.
func (s *Share) homeServices(service string) (names []string, err error) {
	it, err := s.kv.db.NewIter(&pebble.IterOptions{LowerBound: []byte{headSpace}, UpperBound: []byte{headSpace + 1}})
	if err != nil {
		return nil, diskError("find key", err)
	}
	defer it.Close()
	for n := range wedge.MaxSplit + 1 {
		like := homeService(strings.Repeat("?", n), service) // as long as the names looked for
		begin := append(binary.AppendUvarint([]byte{headSpace}, uint64(len(like))), "home"...)
		for ok := it.SeekGE(begin); ok && bytes.HasPrefix(it.Key(), begin); {
			name, _, _, err := splitID(it.Key()[1:])
			if err != nil {
				return nil, corrupt(it.Key(), err)
			}
			if strings.HasSuffix(name, "\x00"+service) {
				names = append(names, name)
			}
			ok = it.SeekGE(successor(append(binary.AppendUvarint([]byte{headSpace}, uint64(len(name))), name...)))
		}
	}
	return names, it.Error()
}

// KeyIn reports whether a core's log has a key of scope core.
func KeyIn(ctx context.Context, log KeyLog, service, store, key string, now time.Time) (bool, error) {
	e, err := log.Last(ctx, coreName(service, store, []byte(key)))
	if err != nil || e.Seq == 0 {
		return false, err
	}
	k, err := readCoreKey(e.Items[0])
	return err == nil && k.head(e.Seq).live(now), err
}
