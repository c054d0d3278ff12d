package world

import (
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

// shieldedLab is a world whose service has a PoP for its shield.
func shieldedLab(t *testing.T, shield string) *lab {
	l := newLabOf(t, Config{}, func(v *wedge.Version) { v.Backends[0].ShieldPoP = shield })
	for _, p := range Cities {
		l.becomes(p.Name+" knows all", 5*time.Second, func() bool { return len(l.Node(p.Name).PoPs()) == len(Cities) })
	}
	return l
}

// through reports whether a PoP's shield had a part in what it gets.
func (l *lab) through(pop, path, shield string) bool {
	l.t.Helper()
	_, h := l.do("GET", pop, path)
	return strings.Contains(strings.Join(h["Cache-Status"], ","), "Wedge-"+shield+";")
}

// TestPeersAndCuts: PoPs go through their shield as long as they can reach it, and to the origin when not.
func TestPeersAndCuts(t *testing.T) {
	l := shieldedLab(t, "lhr")
	first := l.get("nyc", "/page")
	if l.get("nrt", "/page") != first || l.get("lhr", "/page") != first {
		t.Error("the misses of two PoPs do not meet")
	}
	began := time.Now()
	if !l.through("nrt", "/far", "lhr") {
		t.Error("nrt does not go through lhr")
	}
	if took := time.Since(began); took < 2*oneWay(&Cities[0], &Cities[2]) {
		t.Errorf("from Tokyo to London and back in %v", took)
	}
	for _, cut := range []string{"lhr", "nyc"} {
		if err := l.Cut(cut); err != nil {
			t.Fatal(err)
		}
		if l.through("nyc", "/without-"+cut, "lhr") {
			t.Errorf("with %s cut off, nyc goes through lhr", cut)
		}
		if there := l.through("nrt", "/others-"+cut, "lhr"); there != (cut == "nyc") {
			t.Errorf("with %s cut off, nrt goes through lhr: %v", cut, there)
		}
		if err := l.Heal(cut); err != nil {
			t.Fatal(err)
		}
		n := 0
		l.becomes(cut+" healed", 10*time.Second, func() bool { n++; return l.through("nyc", "/healed-"+cut+strings.Repeat("x", n), "lhr") })
	}
	if err := l.Kill("lhr"); err != nil {
		t.Fatal(err)
	}
	if l.through("nyc", "/killed", "lhr") {
		t.Error("nyc goes through a PoP that is down")
	}
	if err := l.Start(t.Context(), "lhr"); err != nil {
		t.Fatal(err)
	}
	n := 0
	l.becomes("lhr is back", 10*time.Second, func() bool { n++; return l.through("nyc", "/back"+strings.Repeat("x", n), "lhr") })
}

// TestShieldedPurge: whichever PoP hears of a purge last, none has what it named in the end.
func TestShieldedPurge(t *testing.T) {
	l := shieldedLab(t, "nrt")
	pops := []string{"lhr", "nyc", "nrt"}
	if err := l.Delay(100*time.Millisecond, "nrt"); err != nil {
		t.Fatal(err)
	}
	for _, cut := range []string{"", "nrt", "lhr"} {
		old := map[string]string{}
		for _, p := range pops {
			old[p] = l.get(p, "/page")
		}
		if cut != "" {
			if err := l.Cut(cut); err != nil {
				t.Fatal(err)
			}
		}
		l.purge("nyc", "/page")
		if got := l.get("nyc", "/page"); got == old["nyc"] {
			t.Errorf("with %q cut off, nyc has purged %s, and has it again", cut, got)
		}
		for _, p := range pops { // fill them again, from a shield that may not have purged
			l.get(p, "/page")
		}
		if cut != "" {
			if err := l.Heal(cut); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range pops {
			l.becomes(p+" purged", 15*time.Second, func() bool { return l.get(p, "/page") != old["nyc"] && l.get(p, "/page") != old[p] })
		}
	}
}
