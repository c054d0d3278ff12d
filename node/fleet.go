package node

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/bus"
	"github.com/wedge-cloud/wedge/state"
)

// FleetConfig makes a node a part of a fleet.
type FleetConfig struct {
	PoP  wedge.PoP
	Dial func(context.Context) (net.Conn, error) // to the core; nil: see URLs
	URLs []string                                // of the core's servers; none: where the core said when this PoP joined
	Pass func(public string) (string, error)     // signs a pass, in a core's own process; nil: see Invitation

	Twist func(subject string, pass func()) // see bus.LinkConfig; for tests

	Invitation string // what wedge pops add has printed; of no use once the PoP has joined

	Peers PeerConfig // where other PoPs reach this one

	RuntimeDir string // does not outlast the machine's power: keys for secrets are kept there; "": in memory only
}

// fleet is a node's part in what the PoPs tell each other. What a PoP decides it does here first, writes into its
// outbox, and calls done; the others learn of it when the link to the core allows.
type fleet struct {
	cfg    FleetConfig
	log    *slog.Logger
	link   *bus.Link
	kv     *state.KV
	box    *state.Outbox
	shares []*state.Share
	claims *claims
	homes  *homes
	writer string
	here   func(wedge.Purge) error // purges this PoP's cache
	event  func(subject string, body []byte) []byte
	asked  func(subject string, body []byte) []byte // by an operator, for state
	shown  func(wedge.Purge)
	signed func(wedge.PoP) // told the key with which a PoP signs tokens of sessions
	signs  string          // this one's
	now    func() time.Time
	pace   time.Duration // see Config.DeclarePace

	applier *applier
	rings   *rings // keys for secrets
	collect *collecting
	reads   *collectReads // of what was collected
	sinks   *sinks        // of raw events
	targets *sinkTargets
	peers   *peers // nil: this PoP reaches no other

	unready func() string // why this PoP does not serve, "" if it does
	leaving atomic.Bool

	unsure      atomic.Bool // a restart may bring back what was purged
	pops        popMap      // those heard of
	recent      recentIDs   // purges that were done
	doing       sync.Mutex  // held while one is
	telling     telling
	rating      *rating
	rates       *state.Rates
	runs        func(service string) bool // whether a service runs here
	unconfirmed unconfirmed               // those that shields have not said they did
	purged      atomic.Uint64             // how far in the log of purges this PoP has got
}

// purgeLog has every purge of the last day. Whoever was away for longer revalidates everything.
var purgeLog = &bus.Log{Name: "PURGE", Keep: 24 * time.Hour, Size: 4 << 30}

const (
	beatInterval = time.Second
	popTimeout   = 5 * beatInterval // a PoP of which nothing was heard for so long is away
)

func (n *Node) openFleet(ctx context.Context, cfg FleetConfig) (*fleet, error) {
	if err := cfg.PoP.Check(); err != nil {
		return nil, err
	}
	f := &fleet{unconfirmed: newUnconfirmed(), cfg: cfg, log: n.cfg.Log, kv: n.kv, here: n.cache.Purge, event: n.takeEvent, asked: n.answerState, signed: n.sessions.heard, signs: hex.EncodeToString(n.sessions.signers.keys[cfg.PoP.Name]), shown: n.console.purgedToo, now: n.cfg.Now, pace: n.cfg.DeclarePace, runs: n.runs, unready: n.unready, pops: popMap{seen: map[string]wedge.PoP{}}}
	incarnation, err := n.kv.Incarnation()
	if err != nil {
		return nil, err
	}
	f.writer = cfg.PoP.Name + "." + incarnation
	if f.box, err = n.kv.Outbox("purge"); err != nil {
		return nil, err
	}
	if err := f.openShares(n.kv); err != nil {
		return nil, err
	}
	f.claims, f.homes = newClaims(n), newHomesOf(n)
	cursor, err := f.kv.Cursor(purgeLog.Name)
	if err != nil {
		return nil, err
	}
	f.purged.Store(cursor)
	if f.collect, err = openCollecting(cfg.PoP.Name, f.writer, n.kv, n.cfg.Now, n.cfg.Log); err != nil {
		return nil, err
	}
	if f.link, err = cfg.connect(ctx, f.writer, n.cfg.DataDir, n.cfg.Log); err != nil {
		return nil, err
	}
	f.reads, f.rings = newCollectReads(f), newRings(cfg.PoP.Name, cfg.RuntimeDir)
	if f.targets, err = openSinkTargets(n.calls, n.cfg.Sinks); err != nil {
		f.link.Close()
		return nil, err
	}
	f.sinks = n.openSinks(f)
	f.collect.sinks = f.sinks
	f.unconfirmed.shields, f.unconfirmed.hear, f.unconfirmed.log = n.shieldsOf, f.link.Hear, f.log
	if f.applier, err = n.openApplier(f); err == nil && cfg.Peers.Listen != "" {
		f.peers, err = f.openPeers(http.HandlerFunc(n.servePeer), n.cfg.DataDir, n.cfg.Log)
	}
	if err != nil {
		f.targets.close()
		f.link.Close()
		return nil, err
	}
	return f, nil
}

// connect makes a link of its own, named for the core's operator, with the key and the pass in a directory.
func (cfg *FleetConfig) connect(ctx context.Context, name, dir string, log *slog.Logger) (*bus.Link, error) {
	link := bus.LinkConfig{Name: name, PoP: cfg.PoP.Name, Dial: cfg.Dial, Twist: cfg.Twist, Log: log}
	var kept membership
	var err error
	if link.Member, kept, err = cfg.openMember(ctx, dir); err != nil {
		return nil, err
	}
	if cfg.Dial == nil {
		link.URLs, link.Learned = kept.URLs, kept.learned(dir)
		if len(cfg.URLs) > 0 {
			link.URLs, link.Learned = cfg.URLs, nil
		}
		if kept.Print != "" {
			link.TLS = Pinned(kept.Print)
		}
	}
	return bus.Connect(link)
}

// run takes part until ctx ends.
func (f *fleet) run(ctx context.Context) error {
	for subject, hear := range map[string]func(string, []byte){"pop.*": f.heard, nowSubject: f.told} {
		stop, err := f.link.Hear(subject, hear)
		if err != nil {
			return err
		}
		defer stop()
	}
	for subject, answer := range map[string]func(string, []byte) []byte{eventSubject: f.event, stateSubject + f.cfg.PoP.Name: f.asked} {
		stop, err := f.link.Answer(subject, answer)
		if err != nil {
			return err
		}
		defer stop()
	}
	var w sync.WaitGroup
	parts := []func(context.Context) error{
		func(ctx context.Context) error {
			return f.link.Pump(ctx, purgeLog, f.writer, f.box, func(item, _ uint64) { _ = f.box.Trim(item) })
		},
		func(ctx context.Context) error {
			return f.link.Follow(ctx, purgeLog, f.purged.Load()+1, bus.Follower{Entry: f.take, Lost: f.lost})
		},
		func(ctx context.Context) error { return f.collect.pump(ctx, f.link) },
		f.beat, f.sayRates, f.applier.run, f.keepRing, f.claims.run, f.homes.run, f.sinks.run,
	}
	for _, share := range f.shares {
		parts = append(parts, f.shareStores(share)...)
	}
	for _, part := range parts {
		w.Go(func() {
			for err := part(ctx); ctx.Err() == nil; err = part(ctx) {
				f.log.Error("a part of the fleet's work failed", "pop", f.cfg.PoP.Name, "err", err)
				if errors.Is(err, bus.ErrForked) {
					f.log.Error("this PoP's data directory is an older copy of one that has gone on: restart the node, it goes on under another name then", "pop", f.cfg.PoP.Name, "err", f.kv.Fork())
					return
				}
				sleep(ctx, partPause)
			}
		})
	}
	w.Wait()
	f.targets.close()
	f.link.Close()
	return nil
}

// partPause is before a part of the work that failed is begun again.
const partPause = time.Second

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// heard is told a PoP's beat.
func (f *fleet) heard(subject string, data []byte) {
	f.pops.heard(subject, data)
	name := strings.TrimPrefix(subject, "pop.")
	if p, known := f.pops.named(name); known {
		f.unconfirmed.got(name, p.Purged)
		f.signed(p)
	}
}

// purge makes objects unusable here, and then everywhere.
func (f *fleet) purge(p wedge.Purge) error {
	if err := f.here(p); err != nil {
		return err
	}
	return f.publish(p)
}

// publish has the others do what was done here. When it returns they will, whatever happens to this node.
//
// A purge is told twice: at once to whoever can hear it, which takes no longer than the network does, and by the log,
// which nobody misses. Whoever has done it when the log says it leaves it at that.
func (f *fleet) publish(p wedge.Purge) error {
	item, err := json.Marshal(wireOf(p))
	if err != nil {
		return err
	}
	f.recent.add(p.ID)
	f.unconfirmed.expect(p) // no other PoP has heard of it yet
	if _, err = f.box.Add(item); err == nil {
		_ = f.link.Say(nowSubject, item) // or else the log will
		f.tell(applied{PoP: f.cfg.PoP.Name, IDs: []string{p.ID}, At: time.Now()})
	}
	return err
}

const nowSubject = "now.purge"

// told hears a purge as it is accepted.
func (f *fleet) told(_ string, data []byte) {
	p, err := readPurge(data)
	if err == nil && f.do(p) {
		f.tell(applied{PoP: f.cfg.PoP.Name, IDs: []string{p.ID}, At: f.now()})
	}
}

// do does what another PoP said, and reports whether that had not been done yet. It is heard by several ways at once.
func (f *fleet) do(p wedge.Purge) bool {
	f.doing.Lock()
	defer f.doing.Unlock()
	if f.recent.has(p.ID) {
		return false
	}
	f.unconfirmed.expect(p)
	if err := f.here(p); err != nil { // it is in force: a restart might undo it, and then reads the log again from here on
		f.unsure.Store(true)
		f.log.Error("purge", "id", p.ID, "service", p.Service, "err", err)
	}
	f.recent.add(p.ID)
	f.shown(p)
	return true
}

// saidPause is how long what was done waits for more, if something was told just before: at a thousand purges a second fifty PoPs would
// say fifty thousand things, and all be busy with passing them on.
const saidPause = 5 * time.Millisecond

// telling gathers what was done.
type telling struct {
	mu    sync.Mutex
	last  time.Time
	more  []applied
	armed bool
}

// tell says what was done, for those who look on.
func (f *fleet) tell(a applied) {
	t := &f.telling
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); len(t.more) == 0 && now.Sub(t.last) > saidPause {
		t.last = now
		f.sayApplied(a)
		return
	}
	t.more = append(t.more, a)
	if !t.armed {
		t.armed = true
		time.AfterFunc(saidPause, f.tellMore)
	}
}

func (f *fleet) tellMore() {
	t := &f.telling
	t.mu.Lock()
	more := t.more
	t.more, t.armed, t.last = nil, false, time.Now()
	t.mu.Unlock()
	f.sayApplied(more...)
}

// maxTold bounds what one message says.
const maxTold = 500

func (f *fleet) sayApplied(list ...applied) {
	for part := range slices.Chunk(list, maxTold) {
		a := applied{PoP: f.cfg.PoP.Name, At: part[0].At}
		for _, p := range part {
			for _, id := range p.IDs {
				a.IDs, a.After = append(a.IDs, id), append(a.After, p.At.Sub(a.At).Microseconds())
			}
		}
		if b, err := json.Marshal(a); err == nil {
			_ = f.link.Say(appliedSubject+f.cfg.PoP.Name, b)
		}
	}
}

// recentIDs remembers the last few thousand ids.
type recentIDs struct {
	mu   sync.Mutex
	ids  map[string]struct{}
	ring [1 << 13]string
	next int
}

func (r *recentIDs) has(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.ids[id]
	return ok
}

func (r *recentIDs) add(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ids == nil {
		r.ids = map[string]struct{}{}
	}
	delete(r.ids, r.ring[r.next])
	r.ids[id], r.ring[r.next] = struct{}{}, id
	r.next = (r.next + 1) % len(r.ring)
}

// wirePurge is a purge on the bus. What is named may be any bytes.
type wirePurge struct {
	ID      string    `json:"id"`
	Service string    `json:"service"`
	URL     []byte    `json:"url,omitempty"`
	Keys    [][]byte  `json:"keys,omitempty"`
	All     bool      `json:"all,omitempty"`
	Soft    bool      `json:"soft,omitempty"`
	At      time.Time `json:"at"`
}

func wireOf(p wedge.Purge) wirePurge {
	w := wirePurge{ID: p.ID, Service: p.Service, URL: []byte(p.URL), All: p.All, Soft: p.Soft, At: p.At}
	for _, k := range p.Keys {
		w.Keys = append(w.Keys, []byte(k))
	}
	return w
}

// readPurge reads a purge from the bus, where anybody may have put it. One with fields that this Wedge does not know comes from
// a newer one, and may mean more than is understood here: all of the service is purged.
func readPurge(b []byte) (p wedge.Purge, err error) {
	var w wirePurge
	strict := json.NewDecoder(bytes.NewReader(b))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&w); err != nil || strict.More() {
		w = wirePurge{}
		if err := json.Unmarshal(b, &w); err != nil {
			return p, err
		}
		w.URL, w.Keys, w.All, w.Soft = nil, nil, true, false
	}
	return w.purge()
}

// idOf returns the id of a purge as it is written here, without reading the rest: of most that the log says it was heard before. "": it has
// to be read.
func idOf(item []byte) string {
	rest, ok := bytes.CutPrefix(item, []byte(`{"id":"`))
	i := bytes.IndexByte(rest, '"')
	if !ok || i < 1 || i > maxPurgeID || bytes.IndexByte(rest[:i], '\\') >= 0 {
		return ""
	}
	return string(rest[:i])
}

// purge checks what came from another PoP.
func (w *wirePurge) purge() (p wedge.Purge, err error) {
	p = wedge.Purge{ID: w.ID, Service: w.Service, URL: string(w.URL), All: w.All, Soft: w.Soft, At: w.At}
	for _, k := range w.Keys {
		p.Keys = append(p.Keys, string(k))
	}
	if what := len(w.URL) > 0; p.ID == "" || len(p.ID) > maxPurgeID || p.Service == "" || len(p.Keys) > wedge.MaxPurgeKeys || !what && len(p.Keys) == 0 && !p.All {
		return p, errors.New("it does not say what to purge")
	}
	if u, err := url.Parse(p.URL); p.URL != "" && (err != nil || u.Host == "") {
		return p, errors.New("its URL is not absolute")
	}
	return p, nil
}

// applied is what a PoP says when it has done what another said.
type applied struct {
	PoP string    `json:"pop"`
	IDs []string  `json:"ids"`
	At  time.Time `json:"at"` // of the first

	After []int64 `json:"after,omitempty"` // of each, how many microseconds later
}

const appliedSubject = "applied.purge." // and the PoP's name

// watch calls f with every PoP that says it has applied the purge of an id, until stop is called. It must be called before
// the purge.
func (f *fleet) watch(id string, each func(applied)) (stop func(), err error) {
	return f.link.Hear(appliedSubject+"*", func(subject string, data []byte) {
		var a applied
		if json.Unmarshal(data, &a) == nil && subject == appliedSubject+a.PoP && slices.Contains(a.IDs, id) {
			each(a)
		}
	})
}

// take does what an entry of the purge log says. What this PoP has said itself was done before.
func (f *fleet) take(e wedge.Entry) error {
	done := applied{PoP: f.cfg.PoP.Name}
	for i, item := range e.Items {
		if id := idOf(item); id != "" && f.recent.has(id) {
			f.unconfirmed.placed(id, e.Seq)
			continue
		}
		p, err := readPurge(item)
		if err != nil {
			f.log.Error("a purge from the bus makes no sense and is left out", "writer", e.Writer, "item", e.First+uint64(i), "err", err)
			continue
		}
		if e.Writer != f.writer && f.do(p) {
			done.IDs = append(done.IDs, p.ID)
		}
		f.unconfirmed.placed(p.ID, e.Seq)
	}
	if done.At = f.now(); len(done.IDs) > 0 {
		f.tell(done)
	}
	return f.follows(e.Seq, f.unconfirmed.before(e.Seq))
}

// lost is told that there were purges of which nobody knows any more what they said: everything is to be validated.
func (f *fleet) lost(next uint64) error {
	f.log.Warn("this PoP was away for longer than purges are kept: everything stored is validated before its next use")
	if err := f.here(wedge.Purge{ID: newPurgeID(), All: true, Soft: true, At: f.now()}); err != nil {
		return err
	}
	return f.follows(next-1, next-1)
}

// follows notes how far the log of purges was followed, and from where on to read it after a restart.
func (f *fleet) follows(seq, again uint64) error {
	f.purged.Store(seq)
	if f.unsure.Load() {
		return nil
	}
	return f.kv.SetCursor(purgeLog.Name, again)
}

// beat says every second that this PoP is there, and whether it is ready. One that is not ready goes on saying so, rather than
// nothing: rollouts go to all that are there, and it is by a rollout that a new PoP becomes ready.
func (f *fleet) beat(ctx context.Context) error {
	t := time.NewTicker(beatInterval)
	defer t.Stop()
	for {
		f.say()
		select {
		case <-t.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (f *fleet) say() {
	p := f.cfg.PoP
	if f.peers != nil {
		p = f.peers.own
	}
	p.Purged, p.Signs = f.purged.Load(), f.signs
	p.Ready = !f.leaving.Load() && f.unready() == ""
	if b, err := json.Marshal(p); err == nil {
		_ = f.link.Say("pop."+p.Name, b) // the next one comes soon
	}
}

// leave says at once that this PoP is about to stop, unless it is killed.
func (f *fleet) leave(why error) {
	if why != ErrKilled {
		f.leaving.Store(true)
		f.say()
	}
}

// maxPurgeID bounds what is remembered of a purge.
const maxPurgeID = 64

// maxPoPs bounds what is remembered of what is said.
const maxPoPs = 20_000

// PoPs returns those of the fleet that are there now, as far as this node knows, by their names. Without a fleet there are none.
func (n *Node) PoPs() []wedge.PoP {
	if n.fleet == nil {
		return nil
	}
	return n.fleet.pops.here()
}

// Traffic returns how many bytes of messages this PoP has heard by its link to the core, and said. Without a fleet there are none.
func (n *Node) Traffic() (in, out uint64) {
	if n.fleet == nil {
		return 0, 0
	}
	return n.fleet.link.Traffic()
}

// Purge makes objects unusable here and, in a fleet, everywhere else as soon as it can be reached.
func (n *Node) Purge(p wedge.Purge) error {
	if n.fleet == nil {
		return n.cache.Purge(p)
	}
	return n.fleet.purge(p)
}

// invalidated passes on what an unsafe request has made unusable here.
func (n *Node) invalidated(p wedge.Purge) {
	if n.fleet == nil {
		return
	}
	p.ID, p.At = newPurgeID(), n.cfg.Now()
	if err := n.fleet.publish(p); err != nil {
		n.cfg.Log.Error("pass an invalidation on", "service", p.Service, "err", err)
	}
	if len(n.shieldsOf(p.Service)) == 0 {
		return
	}
	if err := n.cache.Purge(p); err != nil { // once more, for what came from a shield before the purge was to be carried there
		n.cfg.Log.Error("invalidate", "service", p.Service, "err", err)
	}
}
