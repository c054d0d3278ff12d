package node

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/bus"
	"github.com/wedge-cloud/wedge/dns"
	"github.com/wedge-cloud/wedge/handover"
)

// DNSConfig has a process answer DNS with the PoPs of its fleet.
type DNSConfig struct {
	Names  dns.Config
	Listen []string // host:port, for UDP and TCP
	Dir    string   // where it is kept who was there last
	Log    *slog.Logger

	// For RunDNS, which is not part of a PoP's node:
	Core    *Core          // in the same process; nil: elsewhere
	Fleet   *FleetConfig   // of a node that is a member on its own account, where Core is nil; of PoP only the name counts
	Ops     string         // address for operators, see ops; "": none
	Started func(net.Addr) // called with the first address when it answers; for tests
}

// dnsAnswers is the DNS of a process. It hears by itself what PoPs say, for what it makes of their silence is its own, see hearing.
type dnsAnswers struct {
	cfg    DNSConfig
	server *dns.Server
	heard  hearing
	kept   []byte // what the file has
}

const (
	showInterval = 250 * time.Millisecond // between looks at who is there
	keepInterval = 10 * time.Second       // between looks at whether that is to be kept
	keptFile     = "dns-pops.json"
	maxKept      = 32 << 20
)

// openDNS takes the addresses.
func openDNS(cfg DNSConfig) (*dnsAnswers, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	answerer, err := dns.New(cfg.Names)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, &wedge.Error{Op: "open directory", What: cfg.Dir, Kind: wedge.Unavailable, Err: err}
	}
	d := &dnsAnswers{cfg: cfg, heard: hearing{pops: popMap{seen: map[string]wedge.PoP{}}}}
	if d.server, err = dns.Listen(answerer, cfg.Listen); err != nil {
		return nil, err
	}
	d.recall()
	d.show()
	return d, nil
}

// show has the server answer with those it can. With nobody for a day it is rather those of yesterday.
func (d *dnsAnswers) show() {
	if list := d.heard.answering(); len(list) > 0 {
		d.server.Show(list)
	}
}

// RunDNS answers DNS until ctx ends, in a process that has no PoP.
func RunDNS(ctx context.Context, cfg DNSConfig) error {
	d, err := openDNS(cfg)
	if err != nil {
		return err
	}
	defer d.server.Close()
	var link *bus.Link
	if cfg.Core != nil {
		link = cfg.Core.link
	} else {
		if link, err = cfg.Fleet.connect(ctx, cfg.Fleet.PoP.Name+".dns", cfg.Dir, d.cfg.Log); err != nil {
			return err
		}
		defer link.Close()
	}
	var w sync.WaitGroup
	defer w.Wait()
	group, stop := context.WithCancel(ctx)
	defer stop()
	if cfg.Ops != "" {
		o, err := listenOps((*handover.Term)(nil).Listen, cfg.Ops, d.metrics, d.unready)
		if err != nil {
			return err
		}
		w.Go(func() { _ = o.run(group) })
	}
	if cfg.Started != nil {
		cfg.Started(d.server.Addrs()[0])
	}
	return d.run(group, link)
}

// run answers until ctx ends.
func (d *dnsAnswers) run(ctx context.Context, link *bus.Link) error {
	stop, err := link.Hear("pop.*", d.heard.hear)
	if err != nil {
		return err
	}
	defer stop()
	var w sync.WaitGroup
	w.Go(func() { d.server.Run(ctx) })
	defer w.Wait()
	show, keep := time.NewTicker(showInterval), time.NewTicker(keepInterval)
	defer show.Stop()
	defer keep.Stop()
	for {
		d.show()
		select {
		case <-show.C:
		case <-keep.C:
			d.keep()
		case <-ctx.Done():
			d.keep()
			return nil
		}
	}
}

// keep writes down who answers, so that after a restart there is an answer also while the core is out of reach.
func (d *dnsAnswers) keep() {
	list := d.heard.answering()
	for i := range list {
		list[i].Seen = time.Time{} // else each time would differ
	}
	b, err := json.Marshal(list)
	if err != nil || len(list) == 0 || slices.Equal(b, d.kept) {
		return
	}
	file := filepath.Join(d.cfg.Dir, keptFile)
	if err = os.WriteFile(file+".new", b, 0o600); err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		d.cfg.Log.Warn("who answers cannot be kept for the next start", "file", file, "err", err)
		return
	}
	d.kept = b
}

// recall reads what keep wrote. If it is gone or damaged, there is no answer until PoPs are heard of, within a second or so.
func (d *dnsAnswers) recall() {
	f, err := os.Stat(filepath.Join(d.cfg.Dir, keptFile))
	if err != nil || f.Size() > maxKept {
		return
	}
	b, err := os.ReadFile(filepath.Join(d.cfg.Dir, keptFile))
	var list []json.RawMessage
	if err != nil || json.Unmarshal(b, &list) != nil {
		return
	}
	for _, one := range list {
		var p wedge.PoP
		if json.Unmarshal(one, &p) == nil {
			d.heard.pops.heard("pop."+p.Name, one)
		}
	}
}

// unready says why there are no answers yet, "" if there are.
func (d *dnsAnswers) unready() string {
	if d.server.Size() == 0 {
		return "no PoP with an address was heard of yet"
	}
	return ""
}

// metrics names the counters.
func (d *dnsAnswers) metrics() []metric {
	s := d.server.Stats()
	deaf := int64(0)
	if d.heard.deaf() {
		deaf = 1
	}
	all := []metric{
		counter("dns_malformed_total", "Questions that were none.", s.Malformed.Load()),
		counter("dns_limited_total", "Questions of networks that had asked too often.", s.Limited.Load()),
		counter("dns_truncated_total", "Answers that did not fit, and are asked for again over TCP.", s.Truncated.Load()),
		gauge("dns_pops", "PoPs to answer with.", int64(d.server.Size())),
		gauge("dns_deaf", "1 while PoPs' silence is not held against them, for nothing is heard, or was until just now: the alarm.", deaf),
	}
	for _, by := range []struct {
		name  string
		value int64
	}{{"tcp", s.TCP.Load()}, {"udp", s.UDP.Load()}} {
		m := counter("dns_questions_total", "Questions.", by.value)
		m.label, m.labelValue = "over", by.name
		all = append(all, m)
	}
	for i, name := range dns.Codes() {
		m := counter("dns_answers_total", "Answers by response code.", s.Answers[i].Load())
		m.label, m.labelValue = "code", name
		all = append(all, m)
	}
	return all
}

// hearing is what somebody makes of PoPs' words, who must name some of them in any case.
type hearing struct {
	pops popMap

	mu    sync.Mutex
	last  time.Time // when any PoP was heard of
	since time.Time // from when on there was no gap
}

// hearingGap is a silence of all PoPs that says more about who listens than about them.
const hearingGap = 3 * beatInterval

// hear notes what a PoP said.
func (h *hearing) hear(subject string, data []byte) {
	h.pops.heard(subject, data)
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if now.Sub(h.last) > hearingGap {
		h.since = now
	}
	h.last = now
}

// deaf reports whether a PoP's silence means nothing: nobody is heard, or nobody was until a moment ago, and not all have had
// the time to say a word.
func (h *hearing) deaf() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Since(h.last) > hearingGap || time.Since(h.since) < popTimeout
}

// answering returns the PoPs that clients can be sent to, by their names: those that are there and ready. If there are none, or
// it cannot be known, those whose last word was that they are ready; and if there are none of these either, all that were heard
// of within a day.
func (h *hearing) answering() []wedge.PoP {
	known := slices.DeleteFunc(h.pops.known(), func(p wedge.PoP) bool { return len(p.Addresses) == 0 })
	deaf := h.deaf()
	for _, fits := range []func(wedge.PoP) bool{
		func(p wedge.PoP) bool { return p.Ready && !deaf && time.Since(p.Seen) < popTimeout },
		func(p wedge.PoP) bool { return p.Ready },
		func(wedge.PoP) bool { return true },
	} {
		if list := slices.DeleteFunc(slices.Clone(known), func(p wedge.PoP) bool { return !fits(p) }); len(list) > 0 {
			return list
		}
	}
	return nil
}
