package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/state"
	"github.com/wedge-cloud/wedge/world"
)

const (
	homeWrites = 2000
	awayWrites = 50 // from each other PoP
	homeMoves  = 20
	moveRest   = 200 * time.Millisecond // between two of them
)

// homes measures stores of scope home: a write at the home beside the embedded database's own, one from another PoP beside the network's round trip, and
// how long writes wait when the home moves.
func homes(ctx context.Context, _ *lab) ([]Row, error) {
	here, err := homeHere(ctx)
	if err != nil {
		return nil, err
	}
	v := wedge.Version{Backends: []wedge.Backend{{Name: "state", URL: at("http://state.wedge.internal")}},
		KVStores: map[string][]wedge.KVSeed{"s": nil}, Stores: map[string]wedge.Store{"s": {Scope: wedge.ScopeHome}}}
	w, done, err := startWorld(ctx, world.Cities, v, nil)
	if err != nil {
		return nil, err
	}
	defer done()
	time.Sleep(3 * time.Second) // until all links are up
	m := &homeMeter{world: w, urls: addresses(w)}
	away, err := m.away(ctx)
	if err != nil {
		return nil, err
	}
	moves, err := m.moves(ctx)
	return []Row{here, away, moves}, err
}

// homeHere compares writes at the home with what the disk takes.
func homeHere(ctx context.Context) (Row, error) {
	dir, err := os.MkdirTemp("", "wedge-bench-")
	if err != nil {
		return Row{}, err
	}
	defer os.RemoveAll(dir)
	kv, err := state.Open(filepath.Join(dir, "state"), state.Options{PoP: "lhr", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return Row{}, err
	}
	defer kv.Close()
	share, err := kv.Share("")
	if err != nil {
		return Row{}, err
	}
	share.Known()
	var log oneKey
	share.AskCore = func(ctx context.Context, question []byte) ([]byte, error) {
		return state.Decide(ctx, &log, "lhr", question, time.Now()), nil
	}
	db, err := pebble.Open(filepath.Join(dir, "plain"), &pebble.Options{Logger: quietLog{}})
	if err != nil {
		return Row{}, err
	}
	defer db.Close()
	stores := kv.For("site", map[string][]wedge.KVSeed{"s": nil}, map[string]wedge.Store{"s": {Scope: wedge.ScopeHome}})
	value := bytes.Repeat([]byte("v"), 200)
	var ours, theirs samples
	for i := range homeWrites {
		key := fmt.Sprint("write-", i%500)
		began := time.Now()
		if _, err := stores.Put(ctx, "s", wedge.KVPut{Key: key, Value: value}); err != nil {
			return Row{}, err
		}
		ours = append(ours, time.Since(began))
		began = time.Now()
		if err := db.Set([]byte(key), value, pebble.Sync); err != nil {
			return Row{}, err
		}
		theirs = append(theirs, time.Since(began))
	}
	r := compare("home-write", time.Microsecond, ours[1:], theirs[1:], "pebble, synced") // with the first it became the home
	r.Target = "0.77"
	return r, nil
}

// oneKey is a log of keys in which there is one: the home's record.
type oneKey struct{ e wedge.Entry }

// Last implements state.KeyLog.
func (l *oneKey) Last(context.Context, string) (wedge.Entry, error) { return l.e, nil }

// Append implements state.KeyLog.
func (l *oneKey) Append(_ context.Context, _ string, last uint64, item []byte) (uint64, error) {
	if last != l.e.Seq {
		return 0, &wedge.Error{Op: "append", Kind: wedge.Conflict}
	}
	l.e = wedge.Entry{Seq: last + 1, Items: [][]byte{item}}
	return l.e.Seq, nil
}

// End implements state.KeyLog.
func (l *oneKey) End(context.Context, string) (uint64, bool, error) { return 0, false, nil }

// homeMeter writes at the PoPs of a world, whose first is the home to begin with.
type homeMeter struct {
	world *world.World
	urls  map[string]string
}

func (m *homeMeter) write(ctx context.Context, pop, key string) (time.Duration, error) {
	began := time.Now()
	_, err := stateAsk(ctx, http.MethodPut, m.urls[pop]+"/s/"+key, "")
	return time.Since(began), err
}

// away compares writes from other PoPs with the way to the home and back.
func (m *homeMeter) away(ctx context.Context) (Row, error) {
	home := world.Cities[0].Name
	var ours, network, beyond samples
	for i := range awayWrites {
		for _, p := range world.Cities {
			took, err := m.write(ctx, p.Name, fmt.Sprint("key-", i))
			if err != nil {
				return Row{}, err
			}
			if path := 2 * m.world.Between(p.Name, home); p.Name != home && i > 0 { // the first one connects
				ours, network, beyond = append(ours, took), append(network, path), append(beyond, max(0, took-path))
			}
		}
	}
	r := compare("home-write-away", time.Millisecond, ours, network, "the network's round trip")
	r.Target, r.Note = "0.9", fmt.Sprintf("%.1f ms beyond it, %.1f p99", beyond.percentile(.5).Seconds()*1000, beyond.percentile(.99).Seconds()*1000)
	return r, nil
}

// moves has the home move to and fro while the first PoP writes without a pause, and compares the write that waited longest for each move with
// one of those before it, from as far away.
func (m *homeMeter) moves(ctx context.Context) (Row, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return Row{}, err
	}
	server := http.Server{Handler: m.world.Core()}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	client := api.Client{URL: "http://" + l.Addr().String(), Token: m.world.Core().AdminToken()}
	writer, homes := world.Cities[0].Name, []string{world.Cities[1].Name, world.Cities[0].Name}
	var gaps, usual samples
	for i := range homeMoves {
		took, longest, err := m.during(ctx, writer, func() error { return moveTo(ctx, &client, homes[(i+1)%2], homes[i%2]) })
		if err != nil {
			return Row{}, err
		}
		gaps, usual = append(gaps, longest), append(usual, took...)
	}
	r := compare("home-move", time.Millisecond, gaps, usual, "writes when it does not move")
	r.Ratio, r.Target = 0, "<= 400"
	r.Note = fmt.Sprintf("the write that waited longest for each of %d moves between %s and %s; none failed", homeMoves, homes[1], homes[0])
	return r, nil
}

// during writes all the time before, while and after a home moves, and returns how long writes took before that, and the longest of all.
func (m *homeMeter) during(ctx context.Context, writer string, move func() error) (before samples, longest time.Duration, err error) {
	var w sync.WaitGroup
	var moved error
	done := make(chan struct{})
	for began := time.Now(); time.Since(began) < moveRest; {
		took, err := m.write(ctx, writer, "busy")
		if err != nil {
			return nil, 0, err
		}
		before = append(before, took)
	}
	w.Go(func() {
		defer close(done)
		moved = move()
	})
	for over := false; err == nil && !over; {
		select {
		case <-done:
			over = true
		default:
		}
		var took time.Duration
		took, err = m.write(ctx, writer, "busy")
		longest = max(longest, took)
	}
	w.Wait()
	return before, longest, errors.Join(err, moved)
}

func moveTo(ctx context.Context, client *api.Client, from, to string) error {
	q := url.Values{"store": {"s"}, "to": {to}}
	list, err := client.State(ctx, "site", api.StateRequest{PoP: from, Method: http.MethodPost, Path: api.HomesPath + "?" + q.Encode()})
	if err == nil {
		err = list[0].Fault()
	}
	return err
}
