package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/seal"
	"github.com/wedge-cloud/wedge/state"
)

// settings are what was written to the config and secret stores of a version while it runs. Secrets lie sealed in the store; those that were
// read are remembered, for to open one takes about as long as an empty request.
type settings struct {
	version *wedge.Version
	stores  *state.Stores
	ring    func() *seal.Ring
	fault   func(error)

	mu     sync.Mutex
	opened map[settingKey]openedSecret
}

type settingKey struct{ store, key string }

type openedSecret struct {
	generation uint64
	secret     []byte
}

// maxOpened bounds how many secrets of a version are remembered.
const maxOpened = 1000

// get implements compute.Host's Setting.
func (s *settings) get(store, key string) (value []byte, ok bool, err error) {
	v, err := s.stores.Get(context.Background(), store, key)
	_, secret := s.version.SecretStores[store]
	switch {
	case err != nil && (wedge.KindOf(err) == wedge.NotExist || wedge.KindOf(err) == wedge.Invalid): // no such key can be
		return nil, false, nil
	case err == nil && secret:
		v.Value, err = s.open(settingKey{store, key}, v)
	}
	if err != nil {
		s.fault(&wedge.Error{Op: "read setting", What: key + " in store " + store, Kind: wedge.KindOf(err), Err: err})
		return nil, false, err
	}
	return v.Value, true, nil
}

// open opens a secret.
func (s *settings) open(k settingKey, v wedge.KVValue) ([]byte, error) {
	s.mu.Lock()
	had, ok := s.opened[k]
	s.mu.Unlock()
	if ok && had.generation == v.Generation {
		return had.secret, nil
	}
	b, err := s.ring().Open(wedge.SecretPlace(s.version.Service, k.store, k.key), v.Value)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened == nil || len(s.opened) >= maxOpened {
		s.opened = map[settingKey]openedSecret{}
	}
	s.opened[k] = openedSecret{v.Generation, b}
	return b, nil
}

// settingsOf returns what is written to a version's config and secret stores; nil if it has none in which something can be.
func (n *Node) settingsOf(v *wedge.Version) *settings {
	for name := range v.Stores {
		if _, ok := v.KVStores[name]; !ok {
			return &settings{version: v, stores: n.kv.For(v.Service, v.Held(), v.Stores), ring: n.ring, fault: func(err error) { n.console.failure("a guest of "+v.Service+" gets no setting", err) }}
		}
	}
	return nil
}

// ring returns the keys for secrets that this node has; nil: none.
func (n *Node) ring() *seal.Ring {
	if n.fleet == nil {
		return nil
	}
	return n.fleet.rings.now.Load()
}

// guardOf returns what refuses, at the state API, what would not do in a config or secret store: secrets are not given back, and come sealed.
func (n *Node) guardOf(v *wedge.Version) func(r *http.Request, store, key string) error {
	return func(r *http.Request, store, key string) error {
		_, kv := v.KVStores[store]
		_, secret := v.SecretStores[store]
		refuse := func(kind wedge.Kind, err error, hint string) error {
			return &wedge.Error{Op: "use state", What: key + " in store " + store, Kind: kind, Err: err, Hint: hint}
		}
		write := "Write it with: wedge secrets put " + v.Service + " " + store + " NAME"
		switch {
		case kv:
		case r.Method == http.MethodGet && secret && key != "":
			return refuse(wedge.Denied, errors.New("secrets are not given back"), write)
		case r.Method == http.MethodPost || r.Method == http.MethodPut && strings.HasSuffix(r.Header.Get(fieldMode), "pend"):
			return refuse(wedge.Invalid, errors.New("config and secrets are written as a whole"), "")
		case r.Method != http.MethodPut:
		case secret:
			body, err := n.secretIn(r, wedge.SecretPlace(v.Service, store, key))
			if r.Body = body; err != nil {
				return refuse(wedge.KindOf(err), err, write)
			}
		default:
			return configIn(r, key, refuse)
		}
		return nil
	}
}

// secretIn finds out whether what is to be written to a secret store is a secret that is sealed for this place, and returns it again.
func (n *Node) secretIn(r *http.Request, where string) (io.ReadCloser, error) {
	b, err := bodyUpTo(r, int64(wedge.MaxSecret+seal.Overhead))
	if err == nil {
		_, err = n.ring().Open(where, b)
	}
	return io.NopCloser(bytes.NewReader(b)), err
}

// configIn finds out whether what is to be written is an item of a config store.
func configIn(r *http.Request, key string, refuse func(wedge.Kind, error, string) error) error {
	b, err := bodyUpTo(r, 4*wedge.MaxConfigValue)
	if err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(b))
	if k, n := utf8.RuneCountInString(key), utf8.RuneCount(b); k == 0 || k > wedge.MaxConfigKey || n > wedge.MaxConfigValue || !utf8.Valid(b) {
		return refuse(wedge.Invalid, fmt.Errorf("a key of %d and a value of %d characters", k, n), fmt.Sprintf("A key of a config store has 1 to %d characters, and its value up to %d, in UTF-8.", wedge.MaxConfigKey, wedge.MaxConfigValue))
	}
	return nil
}
