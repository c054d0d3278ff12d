package world

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/bus"
	"github.com/wedge-cloud/wedge/control"
	"github.com/wedge-cloud/wedge/rollout"
	"github.com/wedge-cloud/wedge/state"
)

// TestFullDisk: a PoP whose disk is full serves, refuses purges rather than lose them, hears what the others purge and decide, keeps
// nothing of that, and has it all when there is room again.
func TestFullDisk(t *testing.T) {
	l := newFleetLab(t)
	every := []string{"lhr", "nyc", "nrt"}
	l.becomes("all are there", 5*time.Second, func() bool { return len(l.Node("lhr").PoPs()) == 3 })
	for _, text := range []string{"one", "two"} {
		v := l.site(text)
		v.APIKeys = []wedge.Secret{wedge.Secret("secret")}
		l.release(l.version(v).Number, 0)
	}
	if err := l.Fill(true, "nrt"); err != nil {
		t.Fatal(err)
	}
	purged := func(pop string) bool {
		body, _ := l.do("PURGE", pop, "/", "Authorization: Bearer secret")
		ok := strings.Contains(body, `"ok"`)
		if !ok && !strings.Contains(body, "the disk is nearly full") {
			t.Fatal(body)
		}
		return ok
	}
	l.becomes("nrt refuses purges", 5*time.Second, func() bool { return !purged("nrt") })
	if !purged("lhr") {
		t.Error("lhr refuses purges, too")
	}
	if _, err := l.client.Rollback(t.Context(), "shop", "", 0); err != nil {
		t.Fatal(err)
	}
	l.becomes("all are rolled back", 5*time.Second, l.all("one", every...))
	three := l.site("three")
	three.APIKeys = []wedge.Secret{wedge.Secret("secret")}
	if r := l.release(l.version(three).Number, 0); r.State == control.Aborted && !strings.Contains(r.Why, "nrt cannot run version 3: ") {
		t.Errorf("%+v", r)
	}
	if err := l.Kill("nrt"); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(t.Context(), "nrt"); err != nil {
		t.Fatal(err)
	}
	services, err := l.client.Services(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	right := func() bool { return l.Node("nrt").Running("shop") == services[0].Live }
	if err := l.Fill(false, "nrt"); err != nil {
		t.Fatal(err)
	}
	l.becomes("nrt takes purges", 5*time.Second, func() bool { return right() && purged("nrt") })
	l.becomes("nrt runs what it should", 10*time.Second, right)
	time.Sleep(2 * time.Second) // it looks each second whether there is room for what it has kept in memory only
	if err := l.Cut("nrt"); err != nil {
		t.Fatal(err)
	}
	if err := l.Kill("nrt"); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(t.Context(), "nrt"); err != nil {
		t.Fatal(err)
	}
	l.becomes("nrt has kept it", 5*time.Second, right)
}

// TestStandIn: a PoP that starts, and cannot get the version that it should run, runs the one before until it can.
func TestStandIn(t *testing.T) {
	l := newFleetLab(t)
	l.becomes("all are there", 5*time.Second, func() bool { return len(l.Node("lhr").PoPs()) == 3 })
	l.version(l.site("one"))
	l.release(1, 0)
	v, a, chunks := l.packed(l.site("two"))
	put := func(right bool) {
		for _, d := range a.Digests() {
			b, err := chunks.Packed(d)
			if err != nil {
				t.Fatal(err)
			}
			if !right {
				b = []byte("damaged")
			}
			if err := l.Core().Link().Put(t.Context(), &bus.Shelf{Name: "CHUNKS"}, string(d), b); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(false)
	if _, err := l.client.Rollback(t.Context(), "shop", "", v.Number); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // until nrt has heard of it
	if err := l.Kill("nrt"); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(t.Context(), "nrt"); err != nil {
		t.Fatal(err)
	}
	l.becomes("nrt runs version 1", 5*time.Second, func() bool { return l.Node("nrt").Running("shop") == 1 })
	put(true)
	l.becomes("all run version 2", 10*time.Second, l.all("two", "lhr", "nyc", "nrt"))
}

// TestClocks: a clock that is wrong, or jumps, makes nothing that is stored younger.
func TestClocks(t *testing.T) {
	l := newLab(t, Config{Flat: true})
	skew := func(d time.Duration) {
		t.Helper()
		if err := l.Skew(d, "nrt"); err != nil {
			t.Fatal(err)
		}
	}
	if first := l.get("nrt", "/a"); first != l.get("nrt", "/a") {
		t.Fatal("not stored") // for an hour
	}
	for _, jump := range []time.Duration{2 * time.Hour, -2 * time.Hour, 0} {
		held := l.get("nrt", "/a")
		skew(jump)
		if l.get("nrt", "/a") == held {
			t.Errorf("after a jump to %v what was stored before is fresh", jump)
		}
	}
	skew(-2 * time.Hour)
	held := l.get("lhr", "/b")
	l.purge("nrt", "/b")
	l.becomes("lhr has purged", 2*time.Second, func() bool { return l.get("lhr", "/b") != held })
	held = l.get("nrt", "/c")
	l.purge("lhr", "/c")
	l.becomes("nrt has purged", 2*time.Second, func() bool { return l.get("nrt", "/c") != held })
}

// TestHostileBus: what is said on the bus and makes no sense, comes again, or is said in another's name changes nothing.
func TestHostileBus(t *testing.T) {
	l := newFleetLab(t)
	every := []string{"lhr", "nyc", "nrt"}
	l.becomes("all are there", 5*time.Second, func() bool { return len(l.Node("lhr").PoPs()) == 3 })
	v := &wedge.Version{Service: "shop", Hosts: []string{"shop.example"}, APIKeys: []wedge.Secret{wedge.Secret("secret")},
		Backends: []wedge.Backend{{Name: "origin", URL: l.originURL(), AllowPrivateAddr: true}}}
	l.release(l.version(v).Number, 0)
	core := l.Core().Link()
	first := make(chan []byte, 100)
	stop, err := core.Hear("now.purge", func(_ string, b []byte) { first <- b })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	before := l.get("nrt", "/a")
	l.purge("lhr", "/a")
	l.becomes("nrt has purged", 2*time.Second, func() bool { return l.get("nrt", "/a") != before })
	again := <-first
	held := map[string]string{}
	for _, p := range every {
		held[p] = l.get(p, "/a")
	}

	report, err := json.Marshal([]rollout.Report{{PoP: "nrt", Service: "shop", Version: 2, Wanted: 2, Failed: "forged"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		for subject, said := range map[string][]byte{
			"now.purge": again, "runs.lhr": report, "runs.xyz": report, "pop.lhr": []byte(`{"name":"nrt","ready":false}`), "pop.xyz": []byte(`{"name":"!"}`),
			"head.PURGE": []byte("18446744073709551615"), "head.CATALOG": []byte("x"), "tail.PURGE.lhr": again, "tail.CATALOG.control": again, "applied.purge.lhr": report,
		} {
			for _, b := range [][]byte{said, said[:len(said)/2], nil, []byte("null"), []byte("[{}]")} {
				if err := core.Say(subject, b); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	v.Env = map[string]string{"N": "2"}
	r := l.release(l.version(v).Number, 0)
	if r.State != control.Done || len(r.PoPs) != 3 {
		t.Errorf("%+v", r)
	}
	if pops, err := l.client.PoPs(t.Context()); err != nil || len(pops) != 3 {
		t.Errorf("%v %v", pops, err)
	}
	for _, p := range every {
		if l.get(p, "/a") != held[p] {
			t.Errorf("%s has purged what was purged before", p)
		}
	}
}

// TestCorruptArtifact: a version of which a chunk is not what it should be stops where it was first tried, and says so.
func TestCorruptArtifact(t *testing.T) {
	l := newFleetLab(t)
	every := []string{"lhr", "nyc", "nrt"}
	l.becomes("all are there", 5*time.Second, func() bool { return len(l.Node("lhr").PoPs()) == 3 })
	l.version(l.site("one"))
	l.release(1, 0)
	v, a, _ := l.packed(l.site("two"))
	for _, d := range a.Digests() {
		if err := l.Core().Link().Put(t.Context(), &bus.Shelf{Name: "CHUNKS"}, string(d), []byte("damaged")); err != nil {
			t.Fatal(err)
		}
	}
	if r := l.release(v.Number, 0); r.State != control.Aborted || r.Stages != 1 || !strings.Contains(r.Why, "its bytes are not those that its name says") {
		t.Errorf("%+v", r)
	}
	l.becomes("all run version 1", time.Second, l.all("one", every...))
}

// TestOldBinary: when the catalog has what only a newer Wedge understands, PoPs and core go on with what was decided before, decide
// nothing, and say what is to be done.
func TestOldBinary(t *testing.T) {
	l := newFleetLab(t)
	l.becomes("all are there", 5*time.Second, func() bool { return len(l.Node("lhr").PoPs()) == 3 })
	l.version(l.site("one"))
	l.release(1, 0)
	l.version(l.site("two"))
	log := &bus.Log{Name: "CATALOG", Core: true}
	last := uint64(0)
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	_ = l.Core().Link().Follow(ctx, log, 1, bus.Follower{CaughtUp: stop, Entry: func(e wedge.Entry) error { last = e.Seq; return nil }})
	for _, item := range []string{`{"kind":"pause","service":"shop"}`, `{"kind":"switch","service":"shop","version":2}`} {
		var err error
		if last, err = l.Core().Link().Append(t.Context(), log, "control", last, []byte(item)); err != nil {
			t.Fatal(err)
		}
	}
	l.becomes("nothing is decided", 5*time.Second, func() bool {
		_, err := l.client.Rollback(t.Context(), "shop", fmt.Sprint(time.Now()), 2)
		return wedge.KindOf(err) == wedge.Unsupported && strings.Contains(wedge.HintOf(err), "upgrade this node")
	})
	for _, p := range []string{"lhr", "nyc"} {
		if err := l.Kill(p); err != nil {
			t.Fatal(err)
		}
		if err := l.Start(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	l.becomes("all run version 1", 5*time.Second, func() bool {
		for _, p := range []string{"lhr", "nyc", "nrt"} {
			if n := l.Node(p).Running("shop"); n > 1 {
				t.Fatalf("%s runs version %d", p, n)
			} else if n == 0 {
				return false
			}
		}
		return true
	})
	if _, h := l.do(http.MethodGet, "lhr", "/"); h == nil {
		t.Error("not served")
	}
}

// TestOlderCore: a PoP does not take decisions of a core whose catalog ends before what it has followed, as one that was restored from an
// older copy. It runs on with what it knows.
func TestOlderCore(t *testing.T) {
	l := newFleetLab(t)
	l.becomes("all are there", 5*time.Second, func() bool { return len(l.Node("lhr").PoPs()) == 3 })
	for _, text := range []string{"one", "two"} {
		l.release(l.version(l.site(text)).Number, 0)
	}
	if err := l.Kill("nrt"); err != nil {
		t.Fatal(err)
	}
	kv, err := state.Open(filepath.Join(l.cfg.Dir, "nrt"), state.Options{PoP: "nrt"})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := kv.Outbox("catalog")
	if err == nil {
		_, err = kept.Add(append(binary.BigEndian.AppendUint64(nil, 1000), `{"kind":"revoke","token":"operator"}`...))
	}
	if err := errors.Join(err, kv.Close()); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(t.Context(), "nrt"); err != nil {
		t.Fatal(err)
	}
	l.becomes("nrt has its link", 10*time.Second, func() bool { return len(l.Node("nrt").PoPs()) == 3 })
	if _, err := l.client.Rollback(t.Context(), "shop", "", 1); err != nil {
		t.Fatal(err)
	}
	l.becomes("the others run version 1", 5*time.Second, l.all("one", "lhr", "nyc"))
	time.Sleep(300 * time.Millisecond) // nrt would have heard of it
	if n := l.Node("nrt").Running("shop"); n != 2 {
		t.Errorf("nrt runs version %d", n)
	}
}
