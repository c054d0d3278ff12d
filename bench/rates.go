package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/node"
	"github.com/wedge-cloud/wedge/world"
)

const (
	ratePoPs  = 10
	rateLimit = 1000
	rateEach  = 200 // requests a second of one key, at all PoPs together
	rateUsers = 30  // below the limit
	userEach  = 200 // requests each of them makes
)

// rated are the rates of the site that is measured.
var rated = []wedge.Rate{
	{Name: "limit", Path: "/limit", Key: []wedge.RateKey{{Kind: wedge.RateHeader, Name: "X-Key"}}, Limit: rateLimit, Window: time.Hour},
	{Name: "plenty", Path: "/plenty", Key: []wedge.RateKey{{Kind: wedge.RateClient}}, Limit: wedge.MaxRateLimit, Window: time.Hour},
}

// rates measures limits that hold at ten PoPs together, with the nodes' own handlers: what a decision costs that is made at the PoP, how many are, and how far a
// limit is passed.
func rates(ctx context.Context, _ *lab) ([]Row, error) {
	w, done, err := ratedWorld(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	time.Sleep(9 * time.Second) // until all are sure of each other, and that others are
	m := &rateMeter{world: w, at: addresses(w)}
	cost, err := m.cost(ctx)
	if err != nil {
		return nil, err
	}
	shared, err := m.shared(ctx)
	if err != nil {
		return nil, err
	}
	users, err := m.users(ctx)
	return []Row{cost, shared, users}, err
}

// ratedWorld starts a world whose PoPs all serve a site with rates, from a directory.
func ratedWorld(ctx context.Context) (w *world.World, done func(), err error) {
	dir, err := os.MkdirTemp("", "wedge-bench-")
	if err != nil {
		return nil, nil, err
	}
	clean := func() { os.RemoveAll(dir) }
	for _, name := range []string{"limit", "plenty", "none"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			clean()
			return nil, nil, err
		}
	}
	v := wedge.Version{Backends: []wedge.Backend{{Name: "site", Dir: dir}}, Rates: rated}
	w, ended, err := startWorld(ctx, world.Fifty[:ratePoPs], v, func(c *node.Config) { c.Ops, c.NoHits = "127.0.0.1:0", true })
	if err != nil {
		clean()
		return nil, nil, err
	}
	return w, func() {
		ended()
		clean()
	}, nil
}

// rateMeter asks the PoPs of a world.
type rateMeter struct {
	world *world.World
	at    map[string]string

	mu   sync.Mutex
	in   int
	took samples
}

// ask makes a request, and notes what came of it.
func (m *rateMeter) ask(ctx context.Context, pop, path, key string) (took time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.at[pop]+path, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("X-Key", key)
	began := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	took = time.Since(began)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch m.took = append(m.took, took); {
	case resp.StatusCode == http.StatusOK:
		m.in++
	case resp.StatusCode != http.StatusTooManyRequests:
		return 0, fmt.Errorf("%s%s: %s", pop, path, resp.Status)
	}
	return took, err
}

// cost compares requests with a rate that is decided here with those that have none.
func (m *rateMeter) cost(ctx context.Context) (Row, error) {
	var with, without samples
	for range 5000 {
		for path, list := range map[string]*samples{"/plenty": &with, "/none": &without} {
			took, err := m.ask(ctx, world.Fifty[0].Name, path, "one")
			if err != nil {
				return Row{}, err
			}
			*list = append(*list, took)
		}
	}
	r := compare("rate-decision", time.Microsecond, with[1000:], without[1000:], "without a rate")
	r.Target, r.Note = "0.90", "a request that a rate lets in without asking another PoP"
	return r, nil
}

// shared asks for three times the limit of one key, at PoPs by chance.
func (m *rateMeter) shared(ctx context.Context) (Row, error) {
	const n = 3 * rateLimit
	r, err := m.load(ctx, "rate-10-pops", n, func() (pop, key string) { return world.Fifty[rand.IntN(ratePoPs)].Name, "shared" })
	r.Target = "<= 5 % over"
	r.Note = fmt.Sprintf("%d let in of %d, the limit is %d: %+.1f %%; %s", m.in, n, rateLimit, 100*float64(m.in-rateLimit)/rateLimit, r.Note)
	return r, err
}

// users asks as users do who stay below the limit: at one PoP, and now and then at the next.
func (m *rateMeter) users(ctx context.Context) (Row, error) {
	r, err := m.load(ctx, "rate-10-pops/users", userEach*rateUsers, func() (pop, key string) {
		user := rand.IntN(rateUsers)
		if pop = world.Fifty[user%ratePoPs].Name; rand.IntN(20) == 0 {
			pop = world.Fifty[(user+1)%ratePoPs].Name
		}
		return pop, fmt.Sprint("user-", user)
	})
	r.Target = ">= 99 % here"
	r.Note += fmt.Sprintf("; %d users, about %d requests each", rateUsers, userEach)
	return r, err
}

// load makes n requests, so many a second, and says how many were decided where they were made.
func (m *rateMeter) load(ctx context.Context, name string, n int, next func() (pop, key string)) (Row, error) {
	local, asked, err := m.decisions(ctx)
	if err != nil {
		return Row{}, err
	}
	m.in, m.took = 0, nil
	var w sync.WaitGroup
	var once sync.Once
	var failed error
	for i, began := 0, time.Now(); i < n; i++ {
		time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / rateEach)))
		pop, key := next()
		w.Go(func() {
			if _, err := m.ask(ctx, pop, "/limit", key); err != nil {
				once.Do(func() { failed = err })
			}
		})
	}
	w.Wait()
	if failed != nil {
		return Row{}, failed
	}
	localAfter, askedAfter, err := m.decisions(ctx)
	local, asked = localAfter-local, askedAfter-asked
	r := compare(name, time.Millisecond, m.took, nil, "")
	r.Note = fmt.Sprintf("%.1f %% decided without waiting for another PoP", 100*local/max(1, local+asked))
	return r, err
}

// decisions adds up what the PoPs say of decisions that they made here, and of all others.
func (m *rateMeter) decisions(ctx context.Context) (local, others float64, err error) {
	for _, p := range world.Fifty[:ratePoPs] {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.world.Node(p.Name).OpsAddr()+"/metrics", nil)
		if err != nil {
			return 0, 0, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, 0, err
		}
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), " ")
			n, _ := strconv.ParseFloat(value, 64)
			switch name {
			case "wedge_rate_decisions_local_total":
				local += n
			case "wedge_rate_decisions_asked_total", "wedge_rate_failed_open_total", "wedge_rate_failed_closed_total":
				others += n
			}
		}
		resp.Body.Close()
	}
	return local, others, nil
}
