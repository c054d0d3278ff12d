package world

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

// rated asks a PoP once, and returns who counts, as far as it says.
func (l *fleetLab) rated(pop, path string) (in bool, keeper string) {
	req, err := http.NewRequestWithContext(l.t.Context(), http.MethodGet, l.url(pop)+path, nil)
	if err != nil {
		l.t.Error(err)
		return false, ""
	}
	req.Host = "shop.example"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		l.t.Error(err)
		return false, ""
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusTooManyRequests {
		l.t.Errorf("%s%s: %s", pop, path, resp.Status)
	}
	_, after, _ := strings.Cut(resp.Header.Get("RateLimit"), `wedge-keeper="`)
	keeper, _, _ = strings.Cut(after, `"`)
	return resp.StatusCode == http.StatusOK, keeper
}

// spend asks each of some PoPs so often, all at once, and returns how many were let in.
func (l *fleetLab) spend(path string, each int, pops ...string) (n int) {
	var w sync.WaitGroup
	var mu sync.Mutex
	for _, pop := range pops {
		for range each {
			w.Go(func() {
				in, _ := l.rated(pop, path)
				mu.Lock()
				defer mu.Unlock()
				if in {
					n++
				}
			})
		}
	}
	w.Wait()
	return n
}

// TestRates: a limit holds at three PoPs that are asked all at once, within what one answer's time lets through; a PoP that is cut off
// lets in its part, or nothing, as the rate says; and when the PoP that counts is killed another does.
func TestRates(t *testing.T) {
	const limit = 30
	l := newFleetLab(t)
	every := []string{"lhr", "nyc", "nrt"}
	l.becomes("all know all", 5*time.Second, func() bool {
		return !slices.ContainsFunc(every, func(p string) bool { return len(l.Node(p).PoPs()) < 3 })
	})
	v := l.site("page")
	rates := []wedge.Rate{{Name: "all"}, {Name: "open"}, {Name: "closed", Closed: true}, {Name: "killed"}}
	for i := range 8 {
		rates = append(rates, wedge.Rate{Name: fmt.Sprint("healed", i), Closed: true})
	}
	for _, r := range rates {
		r.Path, r.Limit, r.Window, r.Headers = "/"+r.Name, limit, 24*time.Hour, true
		v.Rates = append(v.Rates, r)
		if err := os.WriteFile(filepath.Join(v.Backends[0].Dir, r.Name), []byte(r.Name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l.release(l.version(v).Number, 0)
	for _, path := range []string{"/open", "/closed", "/killed"} {
		l.becomes("lhr counts "+path, 5*time.Second, func() bool { _, keeper := l.rated("lhr", path); return keeper == "lhr" })
	}
	n := l.spend("/all", limit, every...)
	t.Logf("%d of %d let in, asked all at once", n, limit)
	if n < limit*7/10 || n > limit+2*2 {
		t.Errorf("%d were let in, and the limit is %d", n, limit)
	}

	if err := l.Cut("nrt"); err != nil {
		t.Fatal(err)
	}
	open, closed := l.spend("/open", limit, "nrt"), l.spend("/closed", limit, "nrt")
	t.Logf("cut off: %d let in where it fails open, %d where it fails closed", open, closed)
	if open < limit/3 || open > limit/2 || closed > limit/6 {
		t.Errorf("cut off, nrt lets in %d where a rate fails open, %d where it fails closed", open, closed)
	}
	if n := l.spend("/closed", 3, "lhr", "nyc"); n < 4 {
		t.Errorf("the others let in %d of 6", n)
	}
	if err := l.Heal("nrt"); err != nil {
		t.Fatal(err)
	}
	for i := range 8 { // some see nrt again, and others do not yet
		if n := l.spend(fmt.Sprint("/healed", i), limit, every...); n > limit+2*2 {
			t.Errorf("just healed: %d were let in, and the limit is %d", n, limit)
		}
	}
	l.becomes("nrt counts with the others", 15*time.Second, func() bool { in, keeper := l.rated("nrt", "/closed"); return in && keeper == "lhr" })

	before := l.spend("/killed", 2, every...)
	if err := l.Kill("lhr"); err != nil {
		t.Fatal(err)
	}
	keepers := map[string]bool{}
	l.becomes("another counts", 15*time.Second, func() bool {
		in, keeper := l.rated("nyc", "/killed")
		if in {
			before++
		}
		keepers[keeper] = true
		return keeper == "nyc" || keeper == "nrt"
	})
	after := l.spend("/killed", limit, "nyc", "nrt")
	t.Logf("%d let in until another counted (%v), %d then", before, keepers, after)
	if after == 0 || before+after > limit+limit/3 {
		t.Errorf("%d were let in before and %d after the PoP that counted was killed, and the limit is %d", before, after, limit)
	}
}
