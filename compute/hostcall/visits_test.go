package hostcall

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/compute"
)

// loopingGuest is a service whose guest fetches from itself, by a request of its own, until it was visited that often. It
// notes the counts that it was told, and the CDN-Loop that it got.
func loopingGuest(t *testing.T, visits uint32, given ...string) (services, pops []uint32, lines [][]string) {
	v := &wedge.Version{Service: "looping"}
	host := testHost(v)
	host.PoP, host.Loops = "lhr", true
	h := New(Config{Host: host, Run: func(_ context.Context, sb *compute.Sandbox) error {
		g := play(t, sb)
		g.downstream()
		var service, pop uint32
		g.ok("fastly_http_downstream.downstream_visits_this_service", &service)
		g.ok("fastly_http_downstream.downstream_visits_this_pop", &pop)
		services, pops = append(services, service), append(pops, pop)
		if service < visits {
			var resp, body uint32
			g.ok("fastly_http_req.send", g.request("GET", "http://self/", given...), g.newBody(""), "self", &resp, &body)
		}
		return nil
	}})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lines = append(lines, r.Header["Cdn-Loop"])
		h.ServeHTTP(w, r)
	}))
	defer srv.Close()
	v.Backends = []wedge.Backend{staticBackend(t, "self", srv.URL)}
	req, _ := http.NewRequest("GET", srv.URL, nil)
	req.Header["Cdn-Loop"] = []string{"wedge, wedge-guest; pop=lhr; service=another", `cdn.example; note="a, b"`}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return services, pops, lines
}

func TestVisits(t *testing.T) {
	services, pops, lines := loopingGuest(t, 3)
	if !slices.Equal(services, []uint32{0, 1, 2, 3}) || !slices.Equal(pops, []uint32{1, 2, 3, 4}) {
		t.Errorf("visits of the service %v, of the PoP %v", services, pops)
	}
	one := "wedge-guest; service=looping; pop=lhr"
	want := "wedge-guest; service=another; pop=lhr, " + one + ", " + one
	if got := lines[2]; len(got) != 1 || got[0] != want {
		t.Errorf("CDN-Loop %q", got)
	}
}

// TestVisitsAreTheHosts: a guest can neither make visits up nor hide them; what it says of other CDNs goes on.
func TestVisitsAreTheHosts(t *testing.T) {
	services, _, lines := loopingGuest(t, 2, "cdn-loop", "wedge-guest; service=looping; pop=ams", "cdn-loop", `cdn.example; note="a,b"`)
	if !slices.Equal(services, []uint32{0, 1, 2}) {
		t.Errorf("visits %v", services)
	}
	if got := lines[1]; len(got) != 2 || got[0] != `cdn.example; note="a,b"` || strings.Contains(got[1], "ams") {
		t.Errorf("CDN-Loop %q", got)
	}
}

func TestVisitsAreBounded(t *testing.T) {
	in := &incoming{header: http.Header{"Cdn-Loop": {strings.Repeat("wedge-guest; service=s; pop=p,", 1000)}}}
	host := testHost(&wedge.Version{Service: "last"})
	host.PoP, host.Loops = "lhr", true
	visits, others := splitLoop(passOn(host, in, nil))
	if len(visits) != maxVisits || visits[maxVisits-1] != (visit{"last", "lhr"}) || len(others) != 0 {
		t.Errorf("%d visits, the last %v, others %q", len(visits), visits[len(visits)-1], others)
	}
}

func FuzzLoop(f *testing.F) {
	f.Add("wedge, wedge-guest; service=a; pop=b", `x; y="wedge-guest; service=a, b"`)
	f.Add("wedge-guest;service=;pop=,,", "wedge-guest")
	f.Fuzz(func(t *testing.T, a, b string) {
		visits, others := splitLoop([]string{a, b})
		var lines []string
		for _, v := range visits {
			lines = append(lines, v.String())
		}
		again, rest := splitLoop([]string{strings.Join(lines, ", ")})
		if !slices.Equal(again, visits) || len(rest) > 0 && rest[0] != "" {
			t.Errorf("%q, %q: %v became %v and %q", a, b, visits, again, rest)
		}
		for _, o := range others {
			if v, ok := parseVisit(o); ok {
				t.Errorf("%v is left among what others wrote", v)
			}
		}
	})
}
