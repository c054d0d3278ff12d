package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/state"
	"github.com/wedge-cloud/wedge/world"
)

// states measures shared stores: reads beside a map, writes beside the embedded database's own, and how long a write takes to be seen
// at other PoPs.
func states(ctx context.Context, _ *lab) ([]Row, error) {
	dir, err := os.MkdirTemp("", "wedge-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	kv, err := state.Open(filepath.Join(dir, "state"), state.Options{PoP: "lhr", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	defer kv.Close()
	share, err := kv.Share("")
	if err != nil {
		return nil, err
	}
	share.Known()
	share.Fresh(wedge.ScopeMerge, time.Now()) // it is new, and has all there is
	stores := kv.For("shop", map[string][]wedge.KVSeed{"s": nil}, nil)
	rows, err := stateReads(ctx, stores)
	if err != nil {
		return nil, err
	}
	writes, err := stateWrites(ctx, stores, dir)
	if err != nil {
		return nil, err
	}
	rows = append(rows, writes...)
	for _, n := range []int{3, 30} {
		row, err := stateSeen(ctx, n)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// readBatch is how many reads one sample is the mean of: a clock reading would cost as much as a read.
const readBatch = 100

func stateReads(ctx context.Context, stores *state.Stores) ([]Row, error) {
	const keys = 1000
	var lock sync.RWMutex
	plain := map[string][]byte{}
	for i := range keys {
		key, value := fmt.Sprint("key-", i), bytes.Repeat([]byte{byte(i)}, 1000)
		if _, err := stores.Put(ctx, "s", wedge.KVPut{Key: key, Value: value}); err != nil {
			return nil, err
		}
		plain[key] = value
	}
	var names [keys]string
	for i := range names {
		names[i] = fmt.Sprint("key-", i)
	}
	var ours, theirs samples
	for range 300 {
		began := time.Now()
		for range readBatch {
			if _, err := stores.Get(ctx, "s", names[rand.IntN(keys)]); err != nil {
				return nil, err
			}
		}
		ours = append(ours, time.Since(began)/readBatch)
		began = time.Now()
		for range readBatch {
			lock.RLock()
			value := bytes.Clone(plain[names[rand.IntN(keys)]])
			lock.RUnlock()
			runtime.KeepAlive(value)
		}
		theirs = append(theirs, time.Since(began)/readBatch)
	}
	r := compare("state-read", time.Microsecond, ours, theirs, "a map under lock, and a copy")
	r.Target = "0.33"
	return []Row{r}, nil
}

func stateWrites(ctx context.Context, stores *state.Stores, dir string) ([]Row, error) {
	db, err := pebble.Open(filepath.Join(dir, "plain"), &pebble.Options{Logger: quietLog{}})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	value := bytes.Repeat([]byte("v"), 200)
	var ours, theirs samples
	for i := range 2000 {
		key := fmt.Sprint("write-", i%500)
		began := time.Now()
		if _, err := stores.Put(ctx, "s", wedge.KVPut{Key: key, Value: value}); err != nil {
			return nil, err
		}
		ours = append(ours, time.Since(began))
		began = time.Now()
		if err := db.Set([]byte(key), value, pebble.Sync); err != nil {
			return nil, err
		}
		theirs = append(theirs, time.Since(began))
	}
	one := compare("state-write", time.Microsecond, ours, theirs, "pebble, synced")
	one.Target = "0.77"
	rate := func(write func(key string) error) (float64, error) {
		const writers, each = 64, 1000
		var w sync.WaitGroup
		var failed atomic.Pointer[error]
		began := time.Now()
		for i := range writers {
			w.Go(func() {
				for j := range each {
					if err := write(fmt.Sprint("many-", i, "-", j%100)); err != nil {
						failed.Store(&err)
						return
					}
				}
			})
		}
		w.Wait()
		if err := failed.Load(); err != nil {
			return 0, *err
		}
		return writers * each / time.Since(began).Seconds(), nil
	}
	mine, err := rate(func(key string) error {
		_, err := stores.Put(ctx, "s", wedge.KVPut{Key: key, Value: value})
		return err
	})
	if err != nil {
		return nil, err
	}
	its, err := rate(func(key string) error { return db.Set([]byte(key), value, pebble.Sync) })
	if err != nil {
		return nil, err
	}
	many := Row{Name: "state-writes-64", P50: mine, Unit: "/s", Against: "pebble, synced", AgainstP50: its, Ratio: mine / its, Target: "20000/s"}
	return []Row{one, many}, nil
}

type quietLog struct{}

func (quietLog) Infof(string, ...any)      {}
func (quietLog) Errorf(string, ...any)     {}
func (quietLog) Fatalf(f string, _ ...any) { panic(f) }

// stateSeen measures in a world of so many PoPs how long after its acknowledgement a write is seen at another PoP, beyond the network's own way.
func stateSeen(ctx context.Context, n int) (Row, error) {
	name := fmt.Sprintf("state-seen-%d", n)
	v := wedge.Version{Backends: []wedge.Backend{{Name: "state", URL: at("http://state.wedge.internal")}}, KVStores: map[string][]wedge.KVSeed{"s": nil}}
	w, done, err := startWorld(ctx, world.Fifty[:n], v, nil)
	if err != nil {
		return Row{}, err
	}
	defer done()
	time.Sleep(3 * time.Second) // until all links are up
	urls := addresses(w)
	var total, network, beyond samples
	for i := range 300 {
		from, to := world.Fifty[rand.IntN(n)].Name, world.Fifty[rand.IntN(n)].Name
		if from == to {
			continue
		}
		token, err := stateAsk(ctx, http.MethodPut, urls[from]+fmt.Sprint("/s/key-", i), "")
		if err != nil {
			return Row{}, err
		}
		began := time.Now()
		if _, err := stateAsk(ctx, http.MethodGet, urls[to]+fmt.Sprint("/s/key-", i), token); err != nil {
			return Row{}, err
		}
		took, path := time.Since(began), w.OneWay(from)+w.OneWay(to)
		total, network, beyond = append(total, took), append(network, path), append(beyond, max(0, took-path))
	}
	r := compare(name, time.Millisecond, beyond, network, "the network's own way")
	r.Ratio, r.Target = 0, "20 p50, 150 p99"
	r.Note = fmt.Sprintf("beyond the network's own way; all of it: %.0f ms p50, %.0f p99", total.percentile(.5).Seconds()*1000, total.percentile(.99).Seconds()*1000)
	return r, nil
}

// stateAsk sends a request to the state API, and returns the token of a write.
func stateAsk(ctx context.Context, method, url, token string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader([]byte("value")))
	if err != nil {
		return "", err
	}
	if method == http.MethodGet {
		req.Body, req.ContentLength = http.NoBody, 0
		req.Header.Set("Wedge-At-Least", token)
		req.Header.Set("Wedge-Wait", "10")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s %s", method, url, resp.Status, b)
	}
	return resp.Header.Get("Wedge-State-Token"), err
}
