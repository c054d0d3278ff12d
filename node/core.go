package node

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/api"
	"github.com/wedge-cloud/wedge/bus"
	"github.com/wedge-cloud/wedge/control"
	"github.com/wedge-cloud/wedge/rollout"
	"github.com/wedge-cloud/wedge/seal"
	"github.com/wedge-cloud/wedge/state"
)

// CoreConfig is what a core needs.
type CoreConfig struct {
	Dir    string // of the logs, and of what versions are made of
	Listen string // host:port for PoPs; "": those in the process only
	Public string // host:port where PoPs reach Listen; "": Listen
	Log    *slog.Logger

	SweepAge time.Duration // how long chunks stay that nobody needs; 0: an hour

	Jurisdictions []string // that it lies in: it keeps what is in these, and no other

	// A core of several servers: each has its own Name, and all have each other's addresses and the same keys.
	Name    string   // "": core
	Cluster string   // host:port for the others; "": there are none
	Peers   []string // host:port of all of them

	NATS *NATSConfig // one that is run apart from Wedge, instead of a server here
}

// NATSConfig says how a core reaches a NATS that is run apart from Wedge.
type NATSConfig struct {
	URLs    []string
	ForPoPs []string // URLs that PoPs get when they join; none: URLs
	Copies  int      // of logs, up to the number of its servers; 0: 1
	Account string   // file with the seed of its account, or of a signing key of that; "": it lets in who has the URLs
	Issuer  string   // the account's public key, if Account has a signing key
}

// Core keeps a fleet's logs, decides what it should be, and takes releases to its PoPs. PoPs go on without it.
type Core struct {
	cfg     CoreConfig
	server  *bus.Core
	link    *bus.Link
	control *control.Control
	api     *api.Server
	pops    popMap
	keys    *bus.Keys
	cert    tls.Certificate
	kv      *state.KV // of the archives of shared stores

	archives map[string]*archive // by jurisdiction

	root seal.Root // of the keys for secrets
	stop context.CancelFunc
	work sync.WaitGroup

	collected *aggregator

	mu      sync.Mutex
	reports map[string]map[string]rollout.Report // by service and PoP
	public  seal.Public                          // the newest
}

// catalogLog has every decision there ever was.
var catalogLog = &bus.Log{Name: "CATALOG", Core: true}

// catalogWriter is who writes it: any core. Of two who do at once one is refused.
const catalogWriter = "control"

type catalog struct{ link *bus.Link }

// chunkShelf has what versions are made of.
var chunkShelf = &bus.Shelf{Name: "CHUNKS"}

// depot implements control.Depot.
type depot struct {
	link *bus.Link

	mu     sync.Mutex
	wanted map[control.Digest]time.Time // chunks that somebody put, or asked for, of late
	going  map[control.Digest]bool      // chunks that are being dropped
}

// want notes that somebody needs a chunk, and reports whether it is going.
func (d *depot) want(c control.Digest) (going bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wanted[c] = time.Now()
	return d.going[c]
}

func (d *depot) Has(ctx context.Context, c control.Digest) (bool, error) {
	if d.want(c) {
		return false, nil
	}
	return d.link.Has(ctx, chunkShelf, string(c))
}

func (d *depot) Get(ctx context.Context, c control.Digest) ([]byte, error) {
	return d.link.Get(ctx, chunkShelf, string(c))
}

func (d *depot) Put(ctx context.Context, c control.Digest, packed []byte) error {
	d.want(c)
	return d.link.Put(ctx, chunkShelf, string(c), packed)
}

// sweep drops chunks that no version that is kept needs, if they were not needed an age ago either, and nobody has put them or asked for them
// since. idle is since when each was not needed.
func (d *depot) sweep(ctx context.Context, needed map[control.Digest]bool, idle map[control.Digest]time.Time, age time.Duration) (dropped int, err error) {
	now, there := time.Now(), map[control.Digest]bool{}
	if err := d.link.Keys(ctx, chunkShelf, func(key string) { there[control.Digest(key)] = true }); err != nil {
		return 0, err
	}
	d.mu.Lock()
	maps.DeleteFunc(d.wanted, func(_ control.Digest, at time.Time) bool { return now.Sub(at) > age })
	for c := range there {
		if _, wanted := d.wanted[c]; needed[c] || wanted {
			delete(idle, c)
		} else if idle[c].IsZero() {
			idle[c] = now
		}
	}
	d.mu.Unlock()
	maps.DeleteFunc(idle, func(c control.Digest, _ time.Time) bool { return !there[c] })
	for c, since := range idle {
		if now.Sub(since) < age {
			continue
		}
		if err := d.link.Drop(ctx, chunkShelf, string(c)); err != nil {
			return dropped, err
		}
		delete(idle, c)
		dropped++
	}
	return dropped, nil
}

// forget drops chunks that nobody needs at once. While it does they are said not to be there: who makes a version of some of them after unneeded
// has looked finds them missing, and uploads them again.
func (d *depot) forget(ctx context.Context, unneeded func() []control.Digest) (dropped int, err error) {
	d.mu.Lock()
	for _, c := range unneeded() {
		d.going[c] = true
	}
	going := maps.Clone(d.going)
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		clear(d.going)
	}()
	if len(going) == 0 {
		return 0, nil
	}
	var there []control.Digest
	if err := d.link.Keys(ctx, chunkShelf, func(key string) {
		if going[control.Digest(key)] {
			there = append(there, control.Digest(key))
		}
	}); err != nil {
		return 0, err
	}
	for _, c := range there {
		if err := d.link.Drop(ctx, chunkShelf, string(c)); err != nil {
			return dropped, err
		}
		dropped++
	}
	return dropped, nil
}

// dropForgotten drops at once what versions were made of that are forgotten by order, until ctx ends.
func (c *Core) dropForgotten(ctx context.Context, d *depot) {
	for done := 0; ctx.Err() == nil; {
		gone := 0
		changed := c.control.See(func(s *control.State) { gone = s.Gone })
		if gone != done {
			n, err := d.forget(ctx, func() (list []control.Digest) {
				c.control.See(func(s *control.State) { list = s.Unneeded() })
				return list
			})
			if n > 0 {
				c.cfg.Log.Info("dropped what forgotten versions were made of", "chunks", n)
			}
			if err != nil {
				c.cfg.Log.Warn("what forgotten versions were made of is not all dropped", "err", err)
				sleep(ctx, partPause)
				continue
			}
			done = gone
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// sweepAge is how long a chunk stays that nobody needs: longer than any upload takes.
const sweepAge = time.Hour

// sweepChunks has the shelf hold no more than what is needed, until ctx ends.
func (c *Core) sweepChunks(ctx context.Context, d *depot) {
	age := cmp.Or(c.cfg.SweepAge, sweepAge)
	t := time.NewTicker(age / 6)
	defer t.Stop()
	idle := map[control.Digest]time.Time{}
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		var needed map[control.Digest]bool
		c.control.See(func(s *control.State) { needed = control.Needed(s.Kept()) })
		n, err := d.sweep(ctx, needed, idle, age)
		if err != nil && ctx.Err() == nil {
			c.cfg.Log.Warn("chunks that nobody needs are not all dropped", "err", err)
		}
		if n > 0 {
			c.cfg.Log.Info("dropped chunks that nobody needs", "chunks", n)
		}
	}
}

// Append implements control.Log.
func (c catalog) Append(ctx context.Context, last uint64, item []byte) (uint64, error) {
	return c.link.Append(ctx, catalogLog, catalogWriter, last, item)
}

const (
	runsSubject  = "runs.*" // what PoPs run, and how far they are in logs of state
	rolloutPause = 100 * time.Millisecond
)

// OpenCore starts a core. Its first start makes a token with all scopes, see [Core.AdminToken].
func OpenCore(ctx context.Context, cfg CoreConfig) (c *Core, err error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	c = &Core{cfg: cfg, pops: popMap{seen: map[string]wedge.PoP{}}, archives: map[string]*archive{}, reports: map[string]map[string]rollout.Report{}}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, &wedge.Error{Op: "open core", What: cfg.Dir, Kind: wedge.Unavailable, Err: err}
	}
	background, stop := context.WithCancel(context.Background())
	c.stop = stop
	keys := filepath.Join(cfg.Dir, "keys")
	if err = c.openServer(keys); err == nil {
		err = c.openRoot(keys)
	}
	if err == nil {
		err = c.connect(keys)
	}
	if err == nil {
		err = c.open(ctx, background)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// openServer starts the server, if it is not run apart from Wedge.
func (c *Core) openServer(keys string) (err error) {
	if n := c.cfg.NATS; n != nil {
		if n.Account != "" {
			c.keys, err = bus.AccountKeys(n.Account, n.Issuer)
		}
		if err == nil && c.cfg.Public != "" { // of the API
			c.cert, err = openCertificate(keys, coreCertFile, coreKeyFile, "wedge-core")
		}
		return err
	}
	if c.keys, err = bus.OpenKeys(keys); err != nil {
		return err
	}
	server := bus.CoreConfig{Name: c.cfg.Name, Dir: filepath.Join(c.cfg.Dir, "log"), Listen: c.cfg.Listen, Public: c.cfg.Public, Cluster: c.cfg.Cluster, Peers: c.cfg.Peers, Keys: c.keys}
	if c.cfg.Listen != "" {
		if c.cert, err = openCertificate(keys, coreCertFile, coreKeyFile, "wedge-core"); err != nil {
			return err
		}
		server.TLS = c.TLS()
	}
	if c.cfg.Cluster != "" {
		server.PeersTLS = c.peersTLS()
	}
	c.server, err = bus.OpenCore(server)
	return err
}

// connect makes the core's own link.
func (c *Core) connect(keys string) error {
	link := bus.LinkConfig{Name: cmp.Or(c.cfg.Name, "core"), Log: c.cfg.Log}
	if c.server != nil {
		link.Dial = c.server.Dial
	} else {
		link.URLs = c.cfg.NATS.URLs
	}
	if c.keys != nil {
		own, err := bus.OpenMember(filepath.Join(keys, memberKeyFile))
		if err != nil {
			return err
		}
		pass, err := c.keys.CorePass(own.Public())
		if err != nil {
			return err
		}
		own.Carry(pass)
		link.Member = own
	}
	var err error
	c.link, err = bus.Connect(link)
	return err
}

// peersTLS is how the core's servers know each other: by the certificate that they share.
func (c *Core) peersTLS() *tls.Config {
	t := Pinned(c.Print())
	t.Certificates, t.ClientAuth = []tls.Certificate{c.cert}, tls.RequireAnyClientCert
	return t
}

// copies is how many of the core's servers keep each log.
func (c *Core) copies() int {
	if c.cfg.NATS != nil {
		return max(1, c.cfg.NATS.Copies)
	}
	return max(1, min(3, len(c.cfg.Peers)))
}

// TLS is how the core shows who it is, to PoPs and at its API.
func (c *Core) TLS() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{c.cert}, MinVersion: tls.VersionTLS13}
}

// Print is that of the core's certificate, for invitations; "" if it has none.
func (c *Core) Print() string {
	if len(c.cert.Certificate) == 0 {
		return ""
	}
	return printOf(c.cert.Certificate[0])
}

// Pass signs a pass for a PoP that carries these jurisdictions.
func (c *Core) Pass(pop, public string, jurisdictions []string) (string, error) {
	if c.keys == nil {
		return "", nil
	}
	asks := []string{extractSubject + pop, ringSubject + pop}
	for _, j := range append([]string{""}, jurisdictions...) {
		asks = append(asks, subjectOf(keysSubject, j, pop), subjectOf(snapshotSubject, j, pop))
	}
	return c.keys.Pass(pop, public, logsFor(jurisdictions), []*bus.Shelf{chunkShelf}, asks)
}

// sign answers a PoP that joins. Of a core's servers one address will do: the link learns the others.
func (c *Core) sign(pop, public string) (j api.Joined, err error) {
	if n := c.cfg.NATS; n == nil {
		j.URLs, j.Print = []string{"nats://" + cmp.Or(c.cfg.Public, c.server.Addr())}, c.Print()
	} else if j.URLs = n.ForPoPs; len(j.URLs) == 0 {
		j.URLs = n.URLs
	}
	var jurisdictions []string
	c.control.See(func(s *control.State) {
		if m := s.Members[pop]; m != nil {
			jurisdictions = m.Jurisdictions
		}
	})
	j.Pass, err = c.Pass(pop, public, jurisdictions)
	return j, err
}

// take follows the catalog: whoever was expelled gets out.
func (c *Core) take(e wedge.Entry) error {
	before, after := 0, []string(nil)
	c.control.See(func(s *control.State) { before = len(s.Expelled) })
	if err := c.control.Take(e); err != nil {
		return err
	}
	c.control.See(func(s *control.State) {
		after = slices.Clone(s.Expelled)
		c.pops.members(s)
		c.mu.Lock()
		defer c.mu.Unlock()
		maps.DeleteFunc(c.reports, func(service string, _ map[string]rollout.Report) bool { return s.Services[service] == nil })
	})
	switch {
	case len(after) == before:
	case c.server == nil:
		c.cfg.Log.Warn("a PoP is a member no more; have the NATS that is run apart revoke its key, too", "keys", after[before:])
	default:
		if err := c.server.Expel(after); err != nil {
			c.cfg.Log.Error("expel", "err", err)
		}
	}
	return nil
}

func (c *Core) open(ctx, background context.Context) error {
	if err := c.keep(ctx, logsFor(c.cfg.Jurisdictions)); err != nil {
		return err
	}
	chunks := &depot{link: c.link, wanted: map[control.Digest]time.Time{}, going: map[control.Digest]bool{}}
	c.control = control.New(catalog{c.link}, chunks)
	c.control.Said = c.cfg.Log
	c.api = api.NewServer(c.control, c.pops.here)
	c.api.Log, c.api.Jurisdictions = c.cfg.Log, c.cfg.Jurisdictions
	if c.cfg.Listen != "" || c.cfg.NATS != nil {
		c.api.Sign = c.sign
	}
	c.api.Event, c.api.State = c.event, c.askState
	c.api.SealingKey = c.sealingKey
	if err := c.openArchives(background); err != nil {
		return err
	}
	for subject, hear := range map[string]func(string, []byte){"pop.*": c.pops.heard, runsSubject: c.runs} {
		if _, err := c.link.Hear(subject, hear); err != nil { // until the link is closed
			return err
		}
	}
	if _, err := c.link.Answer(ringSubject+"*", c.giveRing); err != nil { // until the link is closed
		return err
	}
	caught, failed := make(chan struct{}), make(chan error, 1)
	c.work.Go(func() { _ = c.link.Herald(background, logsFor(c.cfg.Jurisdictions)...) })
	c.work.Go(func() {
		err := c.link.Follow(background, catalogLog, 1, bus.Follower{Entry: c.take, CaughtUp: sync.OnceFunc(func() { close(caught) })})
		if failed <- err; background.Err() == nil {
			c.cfg.Log.Error("the catalog is not followed, and nothing decided", "err", err, "hint", wedge.HintOf(err))
		}
	})
	select {
	case <-caught:
	case err := <-failed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := c.firstToken(ctx); err != nil {
		return err
	}
	for j, a := range c.archives { // not before it is known who is a member: a horizon waits for all
		c.work.Go(func() { c.keepHorizon(background, a, stateLogs(j)[wedge.ScopeMerge]) })
	}
	c.work.Go(func() { c.roll(background) })
	c.work.Go(func() { c.sweepChunks(background, chunks) })
	c.work.Go(func() { c.dropForgotten(background, chunks) })
	return c.aggregate(background)
}

// aggregate adds up what the PoPs collect until ctx ends.
func (c *Core) aggregate(ctx context.Context) (err error) {
	if c.collected, err = openAggregator(cmp.Or(c.cfg.Name, "core"), c.cfg.Dir, c.link, c.cfg.Log); err != nil {
		return err
	}
	c.api.Collected = c.collected.ask
	c.work.Go(func() {
		if err := c.collected.run(ctx); ctx.Err() == nil {
			c.cfg.Log.Error("what the PoPs collect is not added up", "err", err)
		}
	})
	return nil
}

// keep has the servers keep what a fleet needs. One that is alone of three waits until another is there.
func (c *Core) keep(ctx context.Context, logs []*bus.Log) error {
	for said := time.Now(); ; {
		err := c.link.KeepShelf(ctx, chunkShelf, c.copies())
		for _, g := range logs {
			if err == nil {
				err = c.link.Keep(ctx, g, c.copies())
			}
		}
		if err == nil || ctx.Err() != nil || c.copies() == 1 && c.server != nil {
			return err
		}
		if time.Since(said) > 5*time.Second {
			said = time.Now()
			c.cfg.Log.Warn("waiting for enough of the core's servers", "copies", c.copies(), "err", err)
		}
		select {
		case <-time.After(rolloutPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// event has one of the PoPs take a message that purges.
func (c *Core) event(ctx context.Context, service string, message []byte) (json.RawMessage, error) {
	raw, err := c.link.Ask(ctx, strings.TrimSuffix(eventSubject, "*")+service, message)
	if err != nil {
		return nil, err
	}
	var refused struct{ Kind, Error, Hint string }
	if json.Unmarshal(raw, &refused) == nil && refused.Error != "" {
		return nil, &wedge.Error{Op: "send event", What: service, Kind: wedge.KindNamed(refused.Kind), Err: errors.New(refused.Error), Hint: refused.Hint}
	}
	return raw, nil
}

const adminFile = "admin-token"

// firstToken makes a token for the operator if there is none at all.
func (c *Core) firstToken(ctx context.Context) error {
	none := false
	c.control.See(func(s *control.State) { none = len(s.Tokens) == 0 })
	if !none {
		return nil
	}
	secret, ev, err := control.NewToken("operator", []string{control.ScopeAdmin})
	if err != nil {
		return err
	}
	file := c.TokenFile()
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		return &wedge.Error{Op: "write token", What: file, Kind: wedge.Unavailable, Err: err}
	}
	_, err = c.control.Decide(ctx, "core", "", func(s *control.State) (control.Event, error) {
		if len(s.Tokens) > 0 {
			return ev, errDecided
		}
		return ev, nil
	})
	if err == errDecided { // another of the core's servers has
		return os.Remove(file)
	}
	return err
}

// TokenFile is where the first start has written the operator's token.
func (c *Core) TokenFile() string { return filepath.Join(c.cfg.Dir, adminFile) }

// AdminToken returns the token that the first start made, "" if its file is gone.
func (c *Core) AdminToken() string {
	b, err := os.ReadFile(c.TokenFile())
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// ServeHTTP answers the control API.
func (c *Core) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.api.ServeHTTP(w, r) }

// Join makes a PoP of this process a member.
func (c *Core) Join(f *FleetConfig) {
	f.Pass = func(public string) (string, error) { return c.Pass(f.PoP.Name, public, f.PoP.Jurisdictions) }
	if c.server != nil {
		f.Dial = c.server.Dial
	} else {
		f.URLs = c.cfg.NATS.URLs
	}
}

// Dial connects a PoP of this process, if the core's server is there, too.
func (c *Core) Dial(ctx context.Context) (net.Conn, error) { return c.server.Dial(ctx) }

// Link returns the core's own link.
func (c *Core) Link() *bus.Link { return c.link }

// Close ends the core.
func (c *Core) Close() {
	c.stop()
	c.work.Wait()
	if c.link != nil {
		c.link.Close()
	}
	if c.server != nil {
		c.server.Close()
	}
	if c.kv != nil {
		_ = c.kv.Close()
	}
}

// runs hears what a PoP runs.
func (c *Core) runs(subject string, data []byte) {
	if c.declared(subject, data) {
		return
	}
	var list []rollout.Report
	if json.Unmarshal(data, &list) != nil {
		return
	}
	list = c.deployed(subject, list)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range list {
		if c.reports[r.Service] == nil {
			c.reports[r.Service] = map[string]rollout.Report{}
		}
		r.At = time.Now()
		c.reports[r.Service][r.PoP] = r
	}
}

// deployed returns the reports that a PoP gives for itself, of services that there are. A PoP that runs one that was removed some time ago has not
// heard of that yet, or its Wedge is older than removals.
func (c *Core) deployed(subject string, list []rollout.Report) []rollout.Report {
	strays := map[string]string{}
	c.control.See(func(s *control.State) {
		list = slices.DeleteFunc(list, func(r rollout.Report) bool {
			if was, removed := s.Removed[r.Service]; removed && r.Version > 0 && r.Version <= was.Versions && time.Since(was.At) > strayAfter {
				strays[r.Service] = r.PoP
			}
			return subject != "runs."+r.PoP || s.Services[r.Service] == nil
		})
	})
	for service, pop := range strays {
		if subject == "runs."+pop {
			c.cfg.Log.Warn("a PoP still runs a service that was removed", "pop", pop, "service", service, "hint", "If this is said again, upgrade Wedge there: it may be older than the core's.")
		}
	}
	return list
}

// strayAfter is how long after a removal a PoP that can speak with the core should have heard of it. What runs is said every 30 s.
const strayAfter = 20 * time.Second

// stage is where a rollout stands, and since when this core knows. How long a stage is watched is measured by each core for
// itself, not read off the time that the catalog has: that another may have written, or this one before its clock was set. A core that
// starts begins anew.
type stage struct {
	release, n int
	seen       time.Time
}

// roll takes rollouts on until ctx ends.
func (c *Core) roll(ctx context.Context) {
	t := time.NewTicker(rolloutPause)
	defer t.Stop()
	stages := map[string]stage{}
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		rolling := map[string]control.Release{}
		c.control.See(func(s *control.State) {
			for name, svc := range s.Services {
				if r := svc.Rolling(); r != nil {
					rolling[name] = *r
				}
			}
		})
		maps.DeleteFunc(stages, func(name string, _ stage) bool { return rolling[name].ID == 0 })
		for name, r := range rolling {
			if s := stages[name]; s.release != r.ID || s.n != r.Stages {
				stages[name] = stage{r.ID, r.Stages, time.Now()}
			}
			r.StageAt = stages[name].seen
			if err := c.step(ctx, name, r); err != nil && ctx.Err() == nil {
				c.cfg.Log.Warn("rollout", "service", name, "version", r.Version, "err", err)
			}
		}
	}
}

// step decides what becomes of a rollout, and writes it down.
func (c *Core) step(ctx context.Context, service string, r control.Release) error {
	c.mu.Lock()
	reports := maps.Clone(c.reports[service])
	c.mu.Unlock()
	d := rollout.Next(&r, rollout.Order(c.pops.here(), service+string(rune(r.ID))), reports, time.Now())
	ev := control.Event{Service: service, Release: r.ID, PoPs: d.Join, Share: d.Share, Why: d.Why}
	switch {
	case d.Abort:
		ev.Kind = control.EventAbort
	case d.Done:
		ev.Kind = control.EventDone
	case d.Hold:
		ev.Kind = control.EventHold
	case len(d.Join) > 0 || d.Share > 0:
		ev.Kind = control.EventStage
	default:
		return nil
	}
	_, err := c.control.Decide(ctx, "rollout", "", func(s *control.State) (control.Event, error) {
		svc := s.Services[service]
		if svc == nil {
			return ev, errDecided // it was removed
		}
		if now := svc.Rolling(); now == nil || now.ID != r.ID || now.Version != r.Version || now.Stages != r.Stages || now.State != r.State {
			return ev, errDecided
		}
		return ev, nil
	})
	if err == errDecided {
		return nil
	}
	return err
}

var errDecided = errors.New("another has decided meanwhile")

// popMap is which PoPs there are, from what they say each second.
type popMap struct {
	mu   sync.Mutex
	seen map[string]wedge.PoP
	out  map[string]bool     // members no more: what they say is nothing
	may  map[string][]string // jurisdictions that members may carry, whatever they say
}

// members forgets PoPs that are members no more, and learns what the others may carry.
func (m *popMap) members(s *control.State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := maps.Clone(s.Out)
	m.out, m.may = out, map[string][]string{}
	for name, member := range s.Members {
		m.may[name] = member.Jurisdictions
	}
	for name := range out {
		delete(m.seen, name)
	}
}

// named returns the PoP of a name, if it was heard of within the last day.
func (m *popMap) named(name string) (p wedge.PoP, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, known = m.seen[name]
	return p, known && time.Since(p.Seen) <= purgeLog.Keep
}

// heard notes that a PoP is there.
func (m *popMap) heard(subject string, data []byte) {
	var p wedge.PoP
	if json.Unmarshal(data, &p) != nil || p.Check() != nil || subject != "pop."+p.Name {
		return
	}
	p.Seen = time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if may, member := m.may[p.Name]; member { // others are of the core's own process
		p.Jurisdictions = slices.DeleteFunc(p.Jurisdictions, func(j string) bool { return !slices.Contains(may, j) })
	}
	if _, known := m.seen[p.Name]; !m.out[p.Name] && (known || len(m.seen) < maxPoPs) {
		m.seen[p.Name] = p
	}
}

// known returns the PoPs that were heard of within the last day.
func (m *popMap) known() (list []wedge.PoP) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, p := range m.seen {
		if time.Since(p.Seen) > purgeLog.Keep {
			delete(m.seen, name)
			continue
		}
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b wedge.PoP) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// here returns those that are there now.
func (m *popMap) here() []wedge.PoP {
	return slices.DeleteFunc(m.known(), func(p wedge.PoP) bool { return time.Since(p.Seen) >= popTimeout })
}
