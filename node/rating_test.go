package node

import (
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/rate"
)

// TestRated: requests beyond a rate are refused, whichever way their path is written; others are not counted.
func TestRated(t *testing.T) {
	o := watch(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		io.WriteString(w, "page")
	})
	v := version(t, o.URL)
	v.Rates = []wedge.Rate{
		{Name: "login", Path: "/login*", Methods: []string{"GET"}, Key: []wedge.RateKey{{Kind: wedge.RateClient}, {Kind: wedge.RateHeader, Name: "X-Key"}}, Limit: 3, Window: 24 * time.Hour, Headers: true},
		{Name: "all", Path: "/quiet", Key: []wedge.RateKey{{Kind: wedge.RateCookie, Name: "id"}}, Limit: 1, Window: time.Minute},
	}
	s := serve(t, Config{}, v)
	for i, path := range []string{"/login", "/%6cogin", "/x/..//login;a=b"} {
		got := s.ask(t, get(path))
		if want := `"login";r=` + string(rune('2'-i)) + ";t="; got.status != "200" || !strings.HasPrefix(got.header.Get("Ratelimit"), want) || got.header.Get("Ratelimit-Policy") != `"login";q=3;w=86400` {
			t.Errorf("%s: %s %v", path, got.status, got.header)
		}
	}
	got := s.ask(t, get("/login"))
	if after := got.header.Get("Retry-After"); got.status != "429" || after == "" || !strings.HasPrefix(got.header.Get("Ratelimit"), `"login";r=0;t=`+after) || got.body == "page" {
		t.Errorf("beyond: %s %v %q", got.status, got.header, got.body)
	}
	eventually(t, "the line says so", func() bool {
		s.said.mu.Lock()
		defer s.said.mu.Unlock()
		return strings.Contains(s.said.b.String(), `"refused":"login"`)
	})
	for _, other := range []string{get("/other"), get("/login", "X-Key: mine"), strings.Replace(get("/login"), "GET", "HEAD", 1)} {
		if got := s.ask(t, other); got.status != "200" {
			t.Errorf("%q: %s", other, got.status)
		}
	}
	for _, c := range []struct{ cookie, status, left string }{{"id=a", "200", ""}, {"id=a", "429", `"all";r=0`}, {"id=b", "200", ""}, {"x=y", "200", ""}, {"z=y", "429", `"all";r=0`}} {
		if got := s.ask(t, get("/quiet", "Cookie: "+c.cookie)); got.status != c.status || !strings.HasPrefix(got.header.Get("Ratelimit"), c.left) || c.left == "" && got.header.Get("Ratelimit") != "" {
			t.Errorf("%s: %s %v", c.cookie, got.status, got.header)
		}
	}
	if st := &s.rating.stats; st.refused.Load() != 3 || st.local.Load() != 10 || st.asked.Load() != 0 {
		t.Errorf("%d decided here, %d refused", st.local.Load(), st.refused.Load())
	}
	app := *s.watched()
	app.Version.Rates = []wedge.Rate{{Name: "login", Limit: 1}}
	if _, err := s.prepare(t.Context(), &app); wedge.KindOf(err) != wedge.Invalid {
		t.Errorf("a window of nothing: %v", err)
	}
}

// TestClientNetwork: an address of IPv6 counts as its /64, one of IPv4 however it is written as itself.
func TestClientNetwork(t *testing.T) {
	for addr, want := range map[string]string{"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8::1:2:3:4": "2001:db8::/64", "2001:db8::9": "2001:db8::/64", "fe80::1%eth0": "fe80::/64"} {
		c := &wedge.Client{Remote: netip.AddrPortFrom(netip.MustParseAddr(addr), 1)}
		r, _ := http.NewRequestWithContext(wedge.WithClient(t.Context(), c), "GET", "http://shop.example/", nil)
		if got := clientNetwork(r); got != want {
			t.Errorf("%s: %s", addr, got)
		}
	}
}

// ratedLab has three PoPs with a service that lets in 20 requests a day, and as many where it fails closed.
func ratedLab(t *testing.T) *peerLab {
	l := newPeerLab(t)
	origin, _ := counting(t)
	shop := proxyTo(t, "shop", origin)
	shop.Version.Rates = []wedge.Rate{
		{Name: "open", Path: "/open*", Limit: 20, Window: 24 * time.Hour, Headers: true},
		{Name: "many", Path: "/many*", Limit: 90, Window: 24 * time.Hour},
		{Name: "closed", Path: "/closed*", Limit: 20, Window: 24 * time.Hour, Headers: true, Closed: true},
	}
	for _, name := range []string{"fra1", "lhr1", "nyc1"} {
		shop := shop
		l.start(wedge.PoP{Name: name}, shop)
	}
	l.meet()
	for name, n := range l.nodes {
		eventually(t, name+" counts with the others", func() bool {
			n.rating.see()
			n.rating.mu.Lock()
			defer n.rating.mu.Unlock()
			return len(n.rating.last) == 2
		})
	}
	return l
}

// spend makes so many requests at each of some PoPs, all at once, and returns how many were let in.
func (l *peerLab) spend(path string, each int, pops ...string) int {
	var w sync.WaitGroup
	var in atomic.Int64
	for _, pop := range pops {
		for range each {
			w.Go(func() {
				if status, _, _ := l.get(pop, "shop.example", path); status == 200 {
					in.Add(1)
				}
			})
		}
	}
	w.Wait()
	return int(in.Load())
}

// TestRatedTogether: PoPs that are asked all at once let in the limit together; who is cut off lets in a part of it, or nothing; who comes
// back counts with the others.
func TestRatedTogether(t *testing.T) {
	l := ratedLab(t)
	all := []string{"fra1", "lhr1", "nyc1"}
	if n := l.spend("/open", 20, all...); n > 20 || n < 14 {
		t.Errorf("%d were let in, the limit is 20", n)
	}
	_, _, h := l.get("fra1", "shop.example", "/open")
	if !strings.Contains(h.Get("Ratelimit"), ";wedge-keeper=\"") {
		t.Errorf("who counts: %v", h)
	}
	status, _, h := l.get("lhr1", "shop.example", "/closed")
	keeper := strings.Split(h.Get("Ratelimit"), "wedge-keeper=")[1]
	if keeper = strings.Trim(keeper, `"`); status != 200 {
		t.Fatal(status, h)
	}
	l.isolate(keeper, true)
	for _, pop := range all {
		n := l.spend("/closed", 10, pop)
		if pop == keeper && n < 9 || pop != keeper && n > 1 {
			t.Errorf("%s lets in %d, %s counts and is cut off", pop, n, keeper)
		}
	}
	closed := int64(0)
	for _, n := range l.nodes {
		closed += n.rating.stats.closed.Load()
	}
	if closed == 0 {
		t.Error("nobody has failed closed")
	}
	l.isolate(keeper, false)
	eventually(t, "they count together again", func() bool {
		for _, pop := range all {
			if pop == keeper {
				continue // which would spend what is left
			}
			if status, _, h := l.get(pop, "shop.example", "/closed"); status == 200 && strings.Contains(h.Get("Ratelimit"), keeper) {
				return true
			}
		}
		return false
	})
}

// TestHalfUsed: what PoPs let in before they ask counts once the key is half used up.
func TestHalfUsed(t *testing.T) {
	l := ratedLab(t)
	free := int(rate.Free(90, 3))
	total := l.spend("/many", free, "lhr1", "nyc1")
	if total != 2*free || l.nodes["lhr1"].rating.stats.asks.Load() > 0 {
		t.Fatalf("%d were let in unasked, want %d", total, 2*free)
	}
	total += l.spend("/many", 50, "fra1")
	eventually(t, "fra1 knows what the others let in", func() bool { return l.nodes["fra1"].rating.stats.served.Load() >= 2 })
	if total += l.spend("/many", 90, "fra1"); total > 90 || total < 80 {
		t.Errorf("%d were let in, the limit is 90", total)
	}
}

// TestRatedAlone: a PoP that no other can ask lets in a third of the limit where it fails open.
func TestRatedAlone(t *testing.T) {
	l := ratedLab(t)
	for name := range l.nodes {
		l.isolate(name, true)
	}
	total := l.spend("/open", 20, "fra1", "lhr1", "nyc1")
	opened := int64(0)
	for _, n := range l.nodes {
		opened += n.rating.stats.open.Load()
	}
	if total < 3*6 || total > 20+2*6 || opened == 0 {
		t.Errorf("%d were let in by three that are alone, %d of them unasked", total, opened)
	}
}

// TestForgedAsks: what makes no sense gets no answer, whoever says it; and a stranger none at all.
func TestForgedAsks(t *testing.T) {
	l := ratedLab(t)
	client := as(&l.nodes["lhr1"].fleet.peers.cert)
	addr := l.nodes["fra1"].PeerAddr()
	for _, a := range []rate.Ask{{Total: -1}, {Want: 1 << 40}, {Epoch: 1 << 60}, {Keeper: strings.Repeat("k", 100)}, {Keep: -1}, {Keep: 1 << 60}} {
		if status, _, err := errandTo(t, client, addr, errand{Service: rateName, Rate: &a}); err != nil || status != 400 {
			t.Errorf("%+v: %d %v", a, status, err)
		}
	}
	good := errand{Service: rateName, Rate: &rate.Ask{Key: rate.Key{1}, Want: 1, Seq: 1, Keep: time.Minute}}
	if status, _, err := errandTo(t, client, addr, good); err != nil || status != 200 {
		t.Errorf("an ask: %d %v", status, err)
	}
	stranger, err := openCertificate(t.TempDir(), "c", "k", "lhr1")
	if err != nil {
		t.Fatal(err)
	}
	if status, _, err := errandTo(t, as(&stranger), addr, good); err == nil {
		t.Errorf("a stranger: %d", status)
	}
}
