package world

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/bus"
	"github.com/wedge-cloud/wedge/control"
)

// chaosPoP is a PoP under chaos: who talks to it holds the lock for reading, who kills it for writing.
type chaosPoP struct {
	name, url string
	mu        sync.RWMutex
	down      bool
	leaving   atomic.Bool // it is drained: who comes now may find it gone
	full      atomic.Bool // its disk is, or was a moment ago
	fills     atomic.Int64
}

// worldChaos purges, deploys and asks, while everything happens to PoPs and their links.
type worldChaos struct {
	*fleetLab
	pops    []*chaosPoP
	paths   int
	twisted atomic.Bool // what PoPs hear comes late, twice, in another order, or not at all

	mu      sync.Mutex
	rng     *rand.Rand
	purged  []int64         // by path: what the origin had counted when its last purge began
	ids     map[string]bool // of purges that were acknowledged
	decided map[string]bool // keys of decisions that were
	did     map[string]int  // how often what was done
	late    func()          // a message that comes behind the next
}

// TestWorldChaosSoak: whatever happens to PoPs, their clocks, their disks and what they hear, a PoP that has acknowledged a purge
// serves nothing from before it, and no request fails that was put to a PoP that is up, whatever is deployed or drained; in the end all
// PoPs have purged everything and run the version that was released last, and the logs have each purge and decision that was
// acknowledged. WEDGE_SEED repeats a run, as nearly as that goes.
func TestWorldChaosSoak(t *testing.T) {
	length := 8 * time.Second
	if os.Getenv("WEDGE_SOAK") != "" {
		length = 10 * time.Minute
	}
	if d, err := time.ParseDuration(os.Getenv("WEDGE_SOAK")); err == nil {
		length = d
	}
	seed, err := strconv.ParseUint(os.Getenv("WEDGE_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("WEDGE_SEED=%d", seed)
	c := &worldChaos{paths: 20, rng: rand.New(rand.NewPCG(seed, 0)), ids: map[string]bool{}, decided: map[string]bool{}, did: map[string]int{}}
	c.fleetLab = newTwistedFleet(t, c.twist)
	c.purged = make([]int64, c.paths)
	for _, p := range c.cfg.PoPs {
		c.pops = append(c.pops, &chaosPoP{name: p.Name, url: c.url(p.Name)})
	}
	c.becomes("all are there", 5*time.Second, func() bool { return len(c.Node("lhr").PoPs()) == 3 })
	c.deploy(0)
	c.twisted.Store(true)
	ctx, stop := context.WithTimeout(t.Context(), length)
	defer stop()
	var w sync.WaitGroup
	again := func(pause time.Duration, f func()) {
		w.Go(func() {
			for ctx.Err() == nil && !t.Failed() {
				f()
				time.Sleep(c.upTo(2 * pause))
			}
		})
	}
	for range 4 {
		again(2*time.Millisecond, c.ask)
	}
	again(30*time.Millisecond, c.purgeOne)
	again(200*time.Millisecond, c.trouble)
	again(400*time.Millisecond, func() { c.deploy(c.upTo(300 * time.Millisecond)) })
	w.Wait()
	c.settle()
	c.audited()
	t.Log(c.did)
}

func (c *worldChaos) chance(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rng.IntN(n)
}

func (c *worldChaos) upTo(d time.Duration) time.Duration {
	return time.Duration(c.chance(int(d/time.Microsecond))) * time.Microsecond
}

// count counts what was done, and returns how often it was before.
func (c *worldChaos) count(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.did[what]++
	return c.did[what] - 1
}

// twist has one message of five come otherwise than it was sent.
func (c *worldChaos) twist(_, _ string, pass func()) {
	if !c.twisted.Load() {
		pass()
		return
	}
	switch c.chance(25) {
	case 0: // lost: the bus promises nothing
	case 1:
		pass()
		pass()
	case 2:
		time.AfterFunc(c.upTo(time.Second), pass)
	case 3:
		pass()
		time.AfterFunc(c.upTo(3*time.Second), pass)
	case 4: // behind the next, whosever that is
		c.mu.Lock()
		c.late, pass = pass, c.late
		c.mu.Unlock()
		if pass != nil {
			pass()
		}
	default:
		pass()
	}
}

// up calls f with a PoP that is up, and stays so for as long unless it is drained.
func (c *worldChaos) up(f func(*chaosPoP)) {
	p := c.pops[c.chance(len(c.pops))]
	p.mu.RLock()
	defer p.mu.RUnlock()
	if !p.down && !p.leaving.Load() {
		f(p)
	}
}

// send asks a PoP. That it fails is an error, unless the PoP began to drain before it was reached.
func (c *worldChaos) send(method string, p *chaosPoP, path string) (status int, body string) {
	req, err := http.NewRequestWithContext(c.t.Context(), method, p.url+path, nil)
	if err != nil {
		c.t.Error(err)
		return 0, ""
	}
	req.Host = "shop.example"
	req.Header.Set("Authorization", "Bearer secret")
	req.Header.Set("Idempotency-Key", "any") // net/http tries again on a new connection if a kept one is closed under its hands
	resp, err := http.DefaultClient.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) && p.leaving.Load() {
		return 0, ""
	}
	if err != nil {
		c.t.Errorf("%s %s at %s: %v", method, path, p.name, err)
		return 0, ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if errors.Is(err, io.ErrUnexpectedEOF) { // its shield was cut off or killed meanwhile: then the client is to see that it is not whole
		c.t.Logf("%s %s at %s: broken off", method, path, p.name)
		return 0, ""
	}
	if err != nil {
		c.t.Errorf("%s %s at %s: %v", method, path, p.name, err)
	}
	if resp.StatusCode == http.StatusBadGateway || resp.StatusCode == http.StatusGatewayTimeout {
		c.t.Logf("%s %s at %s: %s, Proxy-Status %q, Cache-Status %q", method, path, p.name, resp.Status, resp.Header["Proxy-Status"], resp.Header["Cache-Status"])
	}
	return resp.StatusCode, string(b)
}

func pathOf(i int) string { return "/page-" + strconv.Itoa(i) }

func (c *worldChaos) ask() {
	c.up(func(p *chaosPoP) {
		c.count("asked")
		if status, body := c.send("GET", p, pathOf(c.chance(c.paths))); status != 200 && status != 0 {
			c.t.Errorf("%s answered %d: %.200s", p.name, status, body)
		}
	})
}

// purgeOne purges a page at some PoP, and looks there at once. A PoP whose disk is full may refuse.
func (c *worldChaos) purgeOne() {
	i := c.chance(c.paths)
	c.up(func(p *chaosPoP) {
		full, before := p.full.Load(), c.n.Load()
		status, body := c.send("PURGE", p, pathOf(i))
		var done struct{ Status, ID string }
		switch err := json.Unmarshal([]byte(body), &done); {
		case status == 0:
			return
		case status == http.StatusServiceUnavailable && (full || p.full.Load()):
			c.count("refused purges")
			return
		case err != nil || done.Status != "ok":
			c.t.Errorf("purge at %s: %d %.200s", p.name, status, body)
			return
		}
		c.count("purges")
		c.mu.Lock()
		c.purged[i] = max(c.purged[i], before)
		c.ids[done.ID] = true
		c.mu.Unlock()
		if status, body := c.send("GET", p, pathOf(i)); status != 0 && number(body) <= before {
			c.t.Errorf("%s has acknowledged a purge at %d and serves %q", p.name, before, body)
		}
	})
}

// number reads a page: the origin's count, which version asked for it does not matter.
func number(body string) int64 {
	n, err := strconv.ParseInt(body, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// trouble does something to a PoP, its link, its clock or its disk.
func (c *worldChaos) trouble() {
	p := c.pops[c.chance(len(c.pops))]
	all := []struct {
		what string
		do   func()
	}{
		{"cuts", func() { _ = c.Cut(p.name) }},
		{"blackholes", func() { _ = c.Blackhole([][]Way{nil, {In}, {Out}}[c.chance(3)], p.name) }},
		{"heals", func() { _ = c.Heal(p.name) }},
		{"heals", func() { _ = c.Heal(p.name) }},
		{"heals", func() { _ = c.Heal(p.name) }},
		{"delays", func() { _ = c.Delay(c.upTo(100*time.Millisecond), p.name) }},
		{"losses", func() { _ = c.Lose(float64(c.chance(100))/400, p.name) }},
		{"bandwidths", func() { _ = c.Bandwidth([]float64{0, 0, 1e4, 1e5, 1e6}[c.chance(5)], p.name) }},
		{"clock jumps", func() { _ = c.Skew(c.upTo(4*time.Hour)-2*time.Hour, p.name) }},
		{"full disks", func() { c.fill(p, true) }},
		{"empty disks", func() { c.fill(p, false) }},
		{"empty disks", func() { c.fill(p, false) }},
		{"kills", func() { c.kill(p) }},
		{"drains", func() { c.drain(p) }},
	}
	t := all[c.chance(len(all))]
	c.count(t.what)
	t.do()
}

func (c *worldChaos) fill(p *chaosPoP, full bool) {
	n := p.fills.Add(1)
	p.full.Store(true)
	_ = c.Fill(full, p.name)
	if !full { // it takes a second until that is noticed, and more on a busy machine
		time.AfterFunc(5*time.Second, func() {
			if p.fills.Load() == n {
				p.full.Store(false)
			}
		})
	}
}

func (c *worldChaos) kill(p *chaosPoP) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := c.Kill(p.name); err != nil {
		c.t.Error(err)
	}
	c.restart(p)
}

// drain stops a PoP while requests are under way, none of which may fail.
func (c *worldChaos) drain(p *chaosPoP) {
	p.leaving.Store(true)
	defer p.leaving.Store(false)
	if err := c.Stop(p.name); err != nil {
		c.t.Error(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c.restart(p)
}

// restart starts a PoP, which has everything it needs on its disk, but not at once.
func (c *worldChaos) restart(p *chaosPoP) {
	if err := c.Start(c.t.Context(), p.name); err != nil {
		c.t.Error(err)
		p.down = true
		return
	}
	for end := time.Now().Add(20 * time.Second); c.Node(p.name).Services() == 0; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Errorf("%s runs nothing 20 s after its start", p.name)
			return
		}
	}
}

// deploy releases a new version, or rolls back.
func (c *worldChaos) deploy(hold time.Duration) {
	ctx := c.t.Context()
	made := c.count("versions") + 1
	key := fmt.Sprint("decision-", made)
	decided := func(do string, err error) {
		if err == nil { // the catalog has the key so
			c.mu.Lock()
			defer c.mu.Unlock()
			c.decided[string(control.DigestOf([]byte("operator\x00POST\x00/v1/services/shop/"+do+"\x00"+key)))] = true
		} else if kind := wedge.KindOf(err); kind != wedge.Conflict && kind != wedge.Exist {
			c.t.Error(err)
		}
	}
	if made > 2 && c.chance(3) == 0 {
		c.count("rollbacks")
		_, err := c.client.Rollback(ctx, "shop", key, 0)
		decided("rollback", err)
		return
	}
	u := c.originURL()
	v := c.version(&wedge.Version{Service: "shop", Hosts: []string{"shop.example"}, APIKeys: []wedge.Secret{wedge.Secret("secret")},
		Backends: []wedge.Backend{{Name: "origin", URL: u, AllowPrivateAddr: true, ShieldPoP: c.pops[rand.IntN(len(c.pops))].name}}, Env: map[string]string{"N": fmt.Sprint(made)}})
	_, err := c.client.Release(ctx, "shop", key, api.Pick{Version: v.Number, Plan: control.Plan{HoldMS: hold.Milliseconds()}})
	decided("releases", err)
	if hold == 0 {
		c.becomes("the first version is live", 10*time.Second, func() bool { // for good: a rollback would leave nothing
			all, err := c.client.Services(ctx)
			return err == nil && len(all) == 1 && all[0].Live == v.Number
		})
	}
}

// audited looks for all that was acknowledged in the logs. What PoPs had to say may still be on its way there.
func (c *worldChaos) audited() {
	for name, want := range map[string]map[string]bool{"PURGE": c.ids, "CATALOG": c.decided} {
		c.becomes(fmt.Sprintf("all of %d that were acknowledged are in the log %s", len(want), name), 20*time.Second, func() bool {
			got := c.logged(name)
			for id := range want {
				if !got[id] {
					return false
				}
			}
			return true
		})
	}
}

// logged reads the ids, or keys, of all that is in a log.
func (c *worldChaos) logged(name string) map[string]bool {
	got := map[string]bool{}
	ctx, stop := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer stop()
	_ = c.Core().Link().Follow(ctx, &bus.Log{Name: name}, 1, bus.Follower{CaughtUp: stop, Entry: func(e wedge.Entry) error {
		for _, item := range e.Items {
			var is struct{ ID, Key string }
			if err := json.Unmarshal(item, &is); err != nil {
				c.t.Errorf("%s %d: %v", name, e.Seq, err)
			}
			got[is.ID+is.Key] = true
		}
		return nil
	}})
	return got
}

// settle heals everything, and waits until all PoPs agree.
func (c *worldChaos) settle() {
	began := time.Now()
	c.twisted.Store(false)
	if err := errors.Join(c.Heal(), c.Delay(0), c.Lose(0), c.Bandwidth(0), c.Fill(false)); err != nil {
		c.t.Fatal(err)
	}
	c.becomes("all have purged everything", 20*time.Second, func() bool {
		for i, before := range c.purged {
			for _, p := range c.pops {
				if _, body := c.send("GET", p, pathOf(i)); number(body) <= before && before > 0 {
					return false
				}
			}
		}
		return true
	})
	c.becomes("no rollout is under way", 90*time.Second, func() bool {
		all, err := c.client.Releases(c.t.Context(), "shop")
		return err == nil && all[len(all)-1].State != control.Running
	})
	services, err := c.client.Services(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	c.becomes(fmt.Sprintf("all run version %d", services[0].Live), 10*time.Second, func() bool {
		for _, p := range c.pops {
			if c.Node(p.name).Running("shop") != services[0].Live {
				return false
			}
		}
		return true
	})
	releases, err := c.client.Releases(c.t.Context(), "shop")
	if err != nil {
		c.t.Fatal(err)
	}
	states := map[string]int{}
	for _, r := range releases {
		states[r.State]++
	}
	c.t.Logf("releases: %v", states)
	c.t.Logf("settled after %v", time.Since(began).Round(time.Millisecond))
}
