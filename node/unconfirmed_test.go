package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

// gate is on a PoP's way to the core: what comes from there waits before it while it is shut.
type gate struct {
	mu    sync.Mutex
	open  chan struct{} // closed: it is open
	cut   bool
	conns []net.Conn
}

func (l *peerLab) gate(name string) *gate {
	if l.gates[name] == nil {
		l.gates[name] = &gate{open: make(chan struct{})}
		close(l.gates[name].open)
	}
	return l.gates[name]
}

func (g *gate) dialed(dial func(context.Context) (net.Conn, error)) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.cut {
			return nil, errors.New("cut")
		}
		c, err := dial(ctx)
		if err == nil {
			c = &gatedConn{c, g}
			g.conns = append(g.conns, c)
		}
		return c, err
	}
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

func (g *gate) unshut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
}

// lose ends the connections, with all that waits before the gate, and lets none be made until it is heal's turn.
func (g *gate) lose() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cut = true
	for _, c := range g.conns {
		c.Close()
	}
	g.conns = nil
}

func (g *gate) heal() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cut = false
}

type gatedConn struct {
	net.Conn
	g *gate
}

func (c *gatedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.g.mu.Lock()
	open := c.g.open
	c.g.mu.Unlock()
	<-open
	return n, err
}

// shieldLab is a fleet of which fra1 shields the others.
func shieldLab(t *testing.T) *peerLab {
	l := newPeerLab(t)
	origin, _ := counting(t)
	shop := proxyTo(t, "shop", origin)
	shop.Version.Backends[0].ShieldPoP = "fra1"
	shop.Version.APIKeys = []wedge.Secret{wedge.Secret("key")}
	for _, name := range []string{"fra1", "lhr1", "nyc1"} {
		shop := shop
		l.start(wedge.PoP{Name: name}, shop)
	}
	l.meet()
	return l
}

func (l *peerLab) page(pop string) string {
	l.t.Helper()
	_, body, _ := l.get(pop, "shop.example", "/page")
	return body
}

func (l *peerLab) purge(pop string) {
	l.t.Helper()
	plain, _ := l.nodes[pop].Addrs()
	req, err := http.NewRequestWithContext(l.t.Context(), "PURGE", "http://"+plain[0].String()+"/page", nil)
	if err != nil {
		l.t.Fatal(err)
	}
	req.Host = "shop.example"
	req.Header.Set("Fastly-Key", "key")
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != 200 {
		l.t.Fatal(resp, err)
	}
	resp.Body.Close()
}

// size returns how many wait.
func (u *unconfirmed) size() (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, w := range u.waiting {
		n += len(w)
	}
	return n
}

// TestShieldsFirst: what a PoP has purged it does not get back from a shield that has not yet heard of it, however it is with their links.
func TestShieldsFirst(t *testing.T) {
	l := shieldLab(t)
	pops := []string{"lhr1", "nyc1", "fra1"}
	wait := func(pop string, some bool) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s waits for its shield: %v", pop, some), func() bool { return l.nodes[pop].fleet.unconfirmed.size() > 0 == some })
	}
	has := func(text string, pops ...string) {
		t.Helper()
		for _, pop := range pops {
			if got := l.page(pop); got != text {
				t.Errorf("%s has %q, not %q", pop, got, text)
			}
		}
	}
	all := func(text string) {
		t.Helper()
		for _, pop := range pops {
			wait(pop, false)
			eventually(t, pop+" has "+text, func() bool { return l.page(pop) == text })
		}
	}
	all("/page 1")

	// The shield hears of it late.
	l.gate("fra1").shut()
	l.purge("lhr1")
	has("/page 2", "lhr1")
	has("/page 2", "fra1") // the fetch of lhr1 has brought it there
	all("/page 2")
	l.gate("fra1").unshut()
	all("/page 2")

	// It is cut off from the core, not from its peers.
	l.gate("fra1").lose()
	l.purge("nyc1")
	wait("lhr1", true)
	has("/page 3", "lhr1", "nyc1")
	l.gate("fra1").heal()
	all("/page 3")

	// That it has done it an edge does not hear: its beat tells.
	l.gate("fra1").shut()
	l.purge("nyc1")
	wait("lhr1", true)
	l.gate("lhr1").lose()
	l.gate("fra1").unshut()
	wait("nyc1", false)
	has("/page 4", "fra1", "nyc1", "lhr1")
	wait("lhr1", true)
	l.gate("lhr1").heal()
	all("/page 4")

	// It has accepted the purge itself.
	l.purge("fra1")
	all("/page 5")

	// An unsafe request does the same, and what goes there is not brought twice.
	l.gate("fra1").shut()
	plain, _ := l.nodes["lhr1"].Addrs()
	if status, _, _, err := ask(t, "POST", plain[0].String(), "shop.example", "/page", nil); err != nil || status != 200 {
		t.Fatal(status, err)
	}
	has("/page 6", "lhr1")
	all("/page 6")

	// What is too much to bring along makes a PoP go to the origin.
	for range maxCarried + 1 {
		l.purge("lhr1")
	}
	direct := l.nodes["lhr1"].fleet.peers.stats.direct.Load()
	has("/page 7", "lhr1")
	if l.nodes["lhr1"].fleet.peers.stats.direct.Load() == direct {
		t.Error("it went through the shield")
	}
	l.gate("fra1").unshut()
	for _, pop := range pops {
		wait(pop, false)
	}
}

// TestCarriedPurges: a PoP does what is brought along, once, and only for the service that is asked for.
func TestCarriedPurges(t *testing.T) {
	l := shieldLab(t)
	l.page("fra1")
	good := as(&l.nodes["lhr1"].fleet.peers.cert)
	bring := func(want int, purges ...wirePurge) {
		t.Helper()
		status, _, err := errandTo(t, good, l.nodes["fra1"].PeerAddr(), errand{Service: "shop", Purges: purges})
		if err != nil || status != want {
			t.Errorf("%+v: %d %v", purges, status, err)
		}
	}
	done := l.nodes["fra1"].CacheStats().Purges.Load()
	one := wirePurge{ID: "one", Service: "shop", All: true}
	bring(200, one)
	bring(200, one)
	bring(400, wirePurge{ID: "two", Service: "other", All: true})
	bring(400, wirePurge{Service: "shop", All: true})
	bring(400, wirePurge{ID: "three", Service: "shop", URL: []byte("nowhere")})
	if got := l.nodes["fra1"].CacheStats().Purges.Load() - done; got != 1 {
		t.Errorf("%d purges were done", got)
	}
}

// TestUnconfirmed looks at what waits for how long.
func TestUnconfirmed(t *testing.T) {
	u := newUnconfirmed()
	u.shields = func(string) []string { return []string{"fra1", "ams1"} }
	expect := func(step string, fra, ams int) {
		t.Helper()
		if f, a := len(u.waiting["fra1"]), len(u.waiting["ams1"]); f != fra || a != ams {
			t.Errorf("%s: %d and %d wait", step, f, a)
		}
	}
	p := func(id string) wedge.Purge { return wedge.Purge{ID: id, Service: "shop", URL: "http://shop.example/"} }
	u.applied("fra1", []string{"early"})
	u.expect(p("early"))
	expect("the shield was first", 0, 1)
	u.applied("ams1", []string{"other", "early"})
	expect("the other one was not", 0, 0)

	u.expect(p("one"))
	u.got("fra1", 100)
	expect("it is not in the log yet", 1, 1)
	u.placed("one", 7)
	if got := u.before(9); got != 6 {
		t.Errorf("a restart would begin behind %d", got)
	}
	u.got("fra1", 6)
	expect("not so far", 1, 1)
	u.got("fra1", 7)
	u.got("ams1", 8)
	expect("both are there", 0, 0)
	if got := u.before(9); got != 9 {
		t.Errorf("a restart would begin behind %d", got)
	}
	u.expect(p("two"))
	u.left("fra1")
	expect("one has left", 0, 1)
	if list, ok := u.carry("ams1", "shop"); !ok || len(list) != 1 || list[0].ID != "two" {
		t.Errorf("%+v %v", list, ok)
	}
	if list, ok := u.carry("ams1", "other"); !ok || len(list) != 0 {
		t.Errorf("%+v %v", list, ok)
	}
	u.left("ams1")

	for i := range maxUnconfirmed + 1 {
		id := fmt.Sprint("n", i)
		u.expect(p(id))
		if i < maxUnconfirmed {
			u.placed(id, uint64(10+i))
		}
		if _, ok := u.carry("fra1", "shop"); ok != (i < maxCarried) {
			t.Fatalf("with %d: %v", i+1, ok)
		}
	}
	expect("they are merged", 1, 1)
	last := fmt.Sprint("n", maxUnconfirmed)
	u.applied("fra1", []string{last})
	u.got("fra1", 1<<40)
	expect("the last is not in the log", 1, 1)
	u.placed(last, 5) // by another writer
	u.got("fra1", 5)
	expect("those before it are not done", 1, 1)
	if _, ok := u.carry("fra1", "shop"); ok {
		t.Error("what is forgotten was carried")
	}
	u.got("fra1", 9+maxUnconfirmed)
	expect("all are", 0, 1)

	for _, one := range u.waiting["ams1"] {
		one.since = time.Now().Add(-2 * purgeLog.Keep)
	}
	u.got("ams1", 1)
	expect("nothing waits for ever", 0, 0)

	u.hear = func(string, func(string, []byte)) (func(), error) { return nil, nil }
	u.begin("new1", "shop", 0)
	if _, ok := u.carry("new1", "shop"); !ok {
		t.Error("there is nothing in the log, and a new shield is not used")
	}
	u.begin("new1", "shop", 8)
	if _, ok := u.carry("new1", "shop"); ok {
		t.Error("a new shield may have missed something")
	}
	if got := u.before(9); got != 9 {
		t.Errorf("a new shield has this PoP read from %d again", got)
	}
	u.got("new1", 8)
	if _, ok := u.carry("new1", "shop"); !ok {
		t.Error("it has missed nothing")
	}
}
