package world

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/control"
)

// chaosPoP is a PoP under chaos: who talks to it holds the lock for reading, who stops it for writing.
type chaosPoP struct {
	name string
	mu   sync.RWMutex
	down bool
}

// worldChaos purges, deploys and asks, while PoPs are cut off, killed and delayed.
type worldChaos struct {
	*fleetLab
	pops  []*chaosPoP
	paths int

	mu     sync.Mutex
	purged []int64 // by path: what the origin had counted when its last purge began

	asked, purges, releases, kills, cuts atomic.Int64
}

// TestWorldChaosSoak: whatever happens to PoPs and their links, a PoP that has acknowledged a purge serves nothing from before it,
// no request fails that was put to a PoP that is up, and in the end all PoPs have purged everything and run the same version,
// the one that was released last.
func TestWorldChaosSoak(t *testing.T) {
	length := 6 * time.Second
	if os.Getenv("WEDGE_SOAK") != "" {
		length = 10 * time.Minute
	}
	c := &worldChaos{fleetLab: newFleetLab(t), paths: 20}
	c.purged = make([]int64, c.paths)
	for _, p := range c.cfg.PoPs {
		c.pops = append(c.pops, &chaosPoP{name: p.Name})
	}
	c.becomes("all are there", 5*time.Second, func() bool { return len(c.Node("lhr").PoPs()) == 3 })
	c.deploy(0)
	ctx, stop := context.WithTimeout(t.Context(), length)
	defer stop()
	var w sync.WaitGroup
	again := func(pause time.Duration, f func()) {
		w.Go(func() {
			for ctx.Err() == nil && !t.Failed() {
				f()
				time.Sleep(rand.N(2 * pause))
			}
		})
	}
	for range 4 {
		again(2*time.Millisecond, c.ask)
	}
	again(30*time.Millisecond, c.purgeOne)
	again(200*time.Millisecond, c.trouble)
	again(400*time.Millisecond, func() { c.deploy(rand.N(300 * time.Millisecond)) })
	w.Wait()
	c.settle()
	t.Logf("%d requests, %d purges, %d releases; %d cuts, %d kills", c.asked.Load(), c.purges.Load(), c.releases.Load(), c.cuts.Load(), c.kills.Load())
}

// up calls f with a PoP that is up, and stays so for as long.
func (c *worldChaos) up(f func(pop string)) {
	p := c.pops[rand.IntN(len(c.pops))]
	p.mu.RLock()
	defer p.mu.RUnlock()
	if !p.down {
		f(p.name)
	}
}

// send is do that reports instead of ending the test.
func (c *worldChaos) send(method, pop, path string, lines ...string) (int, string) {
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url(pop)+path, nil)
	if err != nil {
		c.t.Error(err)
		return 0, ""
	}
	req.Host = "shop.example"
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Errorf("%s %s at %s: %v", method, path, pop, err)
		return 0, ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Errorf("%s %s at %s: %v", method, path, pop, err)
	}
	return resp.StatusCode, string(b)
}

func pathOf(i int) string { return "/page-" + strconv.Itoa(i) }

func (c *worldChaos) ask() {
	c.up(func(pop string) {
		c.asked.Add(1)
		if status, body := c.send("GET", pop, pathOf(rand.IntN(c.paths))); status != 200 {
			c.t.Errorf("%s answered %d: %.200s", pop, status, body)
		}
	})
}

// purgeOne purges a page at some PoP, and looks there at once.
func (c *worldChaos) purgeOne() {
	i := rand.IntN(c.paths)
	c.up(func(pop string) {
		before := c.n.Load()
		if _, body := c.send("PURGE", pop, pathOf(i), "Authorization: Bearer secret"); !strings.Contains(body, `"ok"`) {
			c.t.Errorf("purge at %s: %.200s", pop, body)
			return
		}
		c.purges.Add(1)
		c.mu.Lock()
		c.purged[i] = max(c.purged[i], before)
		c.mu.Unlock()
		if _, body := c.send("GET", pop, pathOf(i)); number(body) <= before {
			c.t.Errorf("%s has acknowledged a purge at %d and serves %q", pop, before, body)
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

// trouble does something to a PoP or its link.
func (c *worldChaos) trouble() {
	p := c.pops[rand.IntN(len(c.pops))]
	switch rand.IntN(6) {
	case 0:
		c.cuts.Add(1)
		_ = c.Cut(p.name)
	case 1, 2:
		_ = c.Heal(p.name)
	case 3:
		_ = c.Delay(rand.N(100*time.Millisecond), p.name)
	case 4:
		_ = c.Lose(rand.Float64()/4, p.name)
	case 5:
		c.kills.Add(1)
		p.mu.Lock()
		defer p.mu.Unlock()
		if err := c.Kill(p.name); err != nil {
			c.t.Error(err)
		}
		if err := c.Start(c.t.Context(), p.name); err != nil {
			c.t.Error(err)
			p.down = true
			return
		}
		// It has everything it needs on its disk, but not at once.
		for end := time.Now().Add(5 * time.Second); c.Node(p.name).Services() == 0; time.Sleep(2 * time.Millisecond) {
			if time.Now().After(end) {
				c.t.Errorf("%s runs nothing five seconds after its start", p.name)
				return
			}
		}
	}
}

// deploy releases a new version, or rolls back.
func (c *worldChaos) deploy(hold time.Duration) {
	ctx := c.t.Context()
	if c.releases.Load() > 1 && rand.IntN(3) == 0 {
		if _, err := c.client.Rollback(ctx, "shop", "", 0); err != nil && wedge.KindOf(err) != wedge.Conflict {
			c.t.Error(err)
		}
		return
	}
	u := c.originURL()
	v := c.version(&wedge.Version{Service: "shop", Hosts: []string{"shop.example"}, APIKeys: []wedge.Secret{wedge.Secret("secret")},
		Backends: []wedge.Backend{{Name: "origin", URL: u, AllowPrivateAddr: true, ShieldPoP: c.pops[rand.IntN(len(c.pops))].name}}, Env: map[string]string{"N": fmt.Sprint(c.releases.Add(1))}})
	_, err := c.client.Release(ctx, "shop", "", api.Pick{Version: v.Number, HoldMS: hold.Milliseconds()})
	if err != nil && wedge.KindOf(err) != wedge.Conflict {
		c.t.Error(err)
	}
	if hold == 0 {
		c.becomes("the first version is live", 10*time.Second, func() bool {
			for _, p := range c.pops {
				if c.Node(p.name).Services() != 1 {
					return false
				}
			}
			return true
		})
	}
}

// settle heals everything, and waits until all PoPs agree.
func (c *worldChaos) settle() {
	began := time.Now()
	for _, err := range []error{c.Heal(), c.Delay(0), c.Lose(0)} {
		if err != nil {
			c.t.Fatal(err)
		}
	}
	c.becomes("all have purged everything", 10*time.Second, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i, before := range c.purged {
			for _, p := range c.pops {
				if _, body := c.send("GET", p.name, pathOf(i)); number(body) <= before && before > 0 {
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
