package node

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	library "github.com/miekg/dns"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/dns"
)

var (
	london  = wedge.PoP{Name: "lhr", Lat: 51.5, Lon: -0.1, Addresses: []string{"192.0.2.1"}}
	newYork = wedge.PoP{Name: "nyc", Lat: 40.7, Lon: -74, Addresses: []string{"192.0.2.2"}}
)

// dnsConfig answers for clients that are all in Paris.
func dnsConfig(dir string) DNSConfig {
	return DNSConfig{Listen: []string{"127.0.0.1:0"}, Dir: dir, Log: slog.New(slog.DiscardHandler), Names: dns.Config{
		Zones: []string{"edge.example"}, NameServers: map[string][]string{"ns1.edge.example": {"192.0.2.53"}},
		Subnets: []dns.Subnet{{Net: netip.MustParsePrefix("127.0.0.0/8"), Lat: 48.9, Lon: 2.4}}}}
}

// startAt runs a PoP of a core in this process until it serves.
func startAt(t *testing.T, core *Core, p wedge.PoP, cfg Config) (n *Node, end func(why error)) {
	t.Helper()
	cfg.HTTP, cfg.DataDir, cfg.Quiet, cfg.CacheDisk, cfg.DrainTimeout, cfg.Log = []string{"127.0.0.1:0"}, t.TempDir(), true, -1, time.Second, slog.New(slog.DiscardHandler)
	cfg.Fleet = &FleetConfig{PoP: p, Dial: core.Dial, Pass: func(public string) (string, error) { return core.Pass(p.Name, public, nil) }}
	started, ended := make(chan *Node, 1), make(chan error, 1)
	cfg.Started = func(n *Node) { started <- n }
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() {
		ended <- Run(ctx, cfg)
		close(ended)
	}()
	end = func(why error) {
		cancel(why)
		<-ended
	}
	t.Cleanup(func() { end(nil) })
	select {
	case n := <-started:
		return n, end
	case err := <-ended:
		t.Fatal(err)
		return nil, nil
	}
}

// startDNS runs DNS alone until it answers.
func startDNS(t *testing.T, cfg DNSConfig) (addr string, end func()) {
	t.Helper()
	started, ended := make(chan net.Addr, 1), make(chan error, 1)
	cfg.Started = func(a net.Addr) { started <- a }
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		ended <- RunDNS(ctx, cfg)
		close(ended)
	}()
	end = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(end)
	select {
	case a := <-started:
		return a.String(), end
	case err := <-ended:
		t.Fatal(err)
		return "", nil
	}
}

// addresses asks for those of a service.
func addresses(t *testing.T, addr string) string {
	t.Helper()
	r, _, err := (&library.Client{Timeout: 5 * time.Second}).ExchangeContext(t.Context(), new(library.Msg).SetQuestion("shop.edge.example.", library.TypeA), addr)
	if err != nil {
		t.Fatal(err)
	}
	if r.Rcode != library.RcodeSuccess {
		return library.RcodeToString[r.Rcode]
	}
	var list []string
	for _, rr := range r.Answer {
		list = append(list, rr.(*library.A).A.String())
	}
	return strings.Join(list, " ")
}

// TestDNS: a node that does nothing else joins, answers with the PoPs that are ready, nearest first, leaves out who drains
// at once, and goes on with those it knows when nobody is left and the core is gone.
func TestDNS(t *testing.T) {
	dir := t.TempDir()
	core, operator := startCore(t, filepath.Join(dir, "core"))
	secret, err := operator.AddPoP(t.Context(), "ns1")
	if err != nil {
		t.Fatal(err)
	}
	cfg := dnsConfig(filepath.Join(dir, "ns1"))
	cfg.Fleet = &FleetConfig{PoP: wedge.PoP{Name: "ns1"}, Invitation: Invitation{Name: "ns1", URL: operator.URL, Print: core.Print(), Secret: secret.Secret}.String()}
	addr, end := startDNS(t, cfg)
	if got := addresses(t, addr); got != "SERVFAIL" {
		t.Errorf("before there is a PoP: %s", got)
	}
	becomes := func(what, want string) {
		t.Helper()
		began := time.Now()
		eventually(t, what, func() bool { return addresses(t, addr) == want })
		t.Logf("%s: after %v", what, time.Since(began).Round(time.Millisecond))
	}
	_, endNewYork := startAt(t, core, newYork, Config{})
	becomes("one PoP", "192.0.2.2")
	_, endLondon := startAt(t, core, london, Config{})
	becomes("two PoPs", "192.0.2.1 192.0.2.2")
	endLondon(nil)
	becomes("one has drained", "192.0.2.2")
	endNewYork(ErrKilled)
	core.Close()
	end()
	cfg.Fleet.Invitation = ""
	if addr, _ = startDNS(t, cfg); addresses(t, addr) != "192.0.2.2" {
		t.Errorf("without a core: %s", addresses(t, addr))
	}
}

// TestDNSBeside: a core's process and a PoP's answer as one that is alone does.
func TestDNSBeside(t *testing.T) {
	dir := t.TempDir()
	core, _ := startCore(t, filepath.Join(dir, "core"))
	cfg := dnsConfig(filepath.Join(dir, "dns"))
	cfg.Core = core
	beside, _ := startDNS(t, cfg)
	own := dnsConfig(filepath.Join(dir, "dns-lhr"))
	n, _ := startAt(t, core, london, Config{DNS: &own, Ops: "127.0.0.1:0"})
	within := n.dns.server.Addrs()[0].String()
	_, endNewYork := startAt(t, core, newYork, Config{})
	both := func(want string) func() bool {
		return func() bool { return addresses(t, beside) == want && addresses(t, within) == want }
	}
	eventually(t, "both have two PoPs", both("192.0.2.1 192.0.2.2"))
	endNewYork(nil)
	eventually(t, "one has drained", both("192.0.2.1"))

	resp, err := http.Get("http://" + n.OpsAddr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(text), "\nwedge_dns_pops 1\n") || !strings.Contains(string(text), `wedge_dns_questions_total{over="udp"}`) {
		t.Error(err, string(text))
	}
}

// TestHearing: silence is held against a PoP only while others are heard, and somebody is named in any case.
func TestHearing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hearing{pops: popMap{seen: map[string]wedge.PoP{}}}
		say := func(p wedge.PoP, ready bool) {
			p.Ready = ready
			b, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			h.hear("pop."+p.Name, b)
		}
		holds := func(what, want string) {
			t.Helper()
			var names []string
			for _, p := range h.answering() {
				names = append(names, p.Name)
			}
			if got := strings.Join(names, " "); got != want {
				t.Errorf("%s: %q, not %q", what, got, want)
			}
		}
		seconds := func(n int, each func()) {
			for range n {
				each()
				time.Sleep(time.Second)
			}
		}
		holds("nothing", "")
		say(wedge.PoP{Name: "new"}, true)
		holds("a PoP without an address", "")
		say(london, false)
		holds("one that is not ready: better than nothing", "lhr")
		seconds(6, func() { say(london, true); say(newYork, true) })
		holds("two", "lhr nyc")
		seconds(3, func() { say(london, true) })
		holds("one says nothing for a while", "lhr nyc")
		seconds(3, func() { say(london, true) })
		holds("one says nothing for long", "lhr")
		say(newYork, true)
		holds("it is back", "lhr nyc")
		say(newYork, false)
		holds("it drains", "lhr")
		say(newYork, true)
		time.Sleep(time.Hour)
		holds("none says anything: nothing changes", "lhr nyc")
		say(newYork, true)
		holds("one is heard again, the other not yet", "lhr nyc")
		seconds(6, func() { say(newYork, true) })
		holds("the other is not heard again", "nyc")
		say(newYork, false)
		holds("none is ready: who was, by its last word", "lhr")
		time.Sleep(25 * time.Hour)
		holds("a day", "")
	})
}
