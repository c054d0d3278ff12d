package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/manifest"
	"github.com/wedge-cloud/wedge/state/merge"
)

// TestHomeOfRemoved: when a PoP was removed, another becomes the home of what was at home there, with all that the core had of it; what the removed one has
// written since counts nowhere, and it apologises for that if it comes back with the same disk.
func TestHomeOfRemoved(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	core, operator := startCore(t, filepath.Join(dir, "core"))
	run := func(name, invitation string) (*Node, func()) {
		t.Helper()
		app := &manifest.App{Version: wedge.Version{Service: "shop", Hosts: []string{"shop.example"}, Backends: []wedge.Backend{{Name: "none", Dir: dir}},
			KVStores: map[string][]wedge.KVSeed{"log": nil}, Stores: map[string]wedge.Store{"log": {Scope: wedge.ScopeHome}}}}
		n, stop, err := startPoP(t, filepath.Join(dir, name), name, invitation, app)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, name+" is there", func() bool { return n.fleet.link.Up() })
		return n, stop
	}
	start := func(name string) (*Node, func()) {
		t.Helper()
		s, err := operator.AddPoP(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		return run(name, Invitation{Name: name, URL: operator.URL, Print: core.Print(), Secret: s.Secret}.String())
	}
	again := func(name string) (*Node, func()) { return run(name, "") }
	write := func(n *Node, value string) error {
		d, done := n.taken("shop")
		defer done()
		_, err := d.state.stores.Put(ctx, "log", wedge.KVPut{Key: "all", Value: []byte(value), Mode: wedge.KVAppend})
		return err
	}
	holds := func(n *Node, want string) func() bool {
		return func() bool {
			d, done := n.taken("shop")
			defer done()
			v, err := d.state.stores.Get(ctx, "log", "all")
			return err == nil && string(v.Value) == want
		}
	}
	fra, stop := start("fra1")
	ams, _ := start("ams1")
	if err := write(fra, "a"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ams1 has it", holds(ams, "a"))
	if err := operator.RemovePoP(ctx, "fra1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it was let out", func() bool { return !fra.fleet.link.Up() })
	if err := write(fra, "lost"); err != nil {
		t.Fatalf("who was removed does not go on: %v", err)
	}
	eventually(t, "ams1 says that fra1 is gone", func() bool {
		d, done := ams.taken("shop")
		defer done()
		known, err := d.state.stores.Homes(ctx, "log", "", 1, time.Minute)
		if err != nil || len(known) != 1 {
			return false
		}
		api := homesAPI{ams.fleet.homes, "shop", d.state.stores}
		return strings.Contains(api.explain(&known[0], d.state.stores.Share("log")).Why, "fra1 is a member no more")
	})
	eventually(t, "ams1 writes", func() bool { return write(ams, "b") == nil })
	if !holds(ams, "ab")() {
		t.Error("ams1 has not what it had and wrote")
	}
	stop()

	for _, file := range []string{memberKeyFile, membershipFile} { // with the key that it had it is let in no more
		if err := os.Remove(filepath.Join(dir, "fra1", file)); err != nil {
			t.Fatal(err)
		}
	}
	fra, stop = start("fra1")
	eventually(t, "fra1 finds out", fra.kv.Forked)
	stop()
	fra, stop = again("fra1")
	eventually(t, "fra1 apologises", func() bool {
		list, err := fra.kv.Apologies(ctx, "shop", 10)
		return err == nil && len(list) == 1 && list[0].Key == "all" && list[0].Reason == merge.Rewound
	})
	for !holds(fra, "ab")() && fra.kv.Forked() { // it was ended before it had found out all
		stop()
		fra, stop = again("fra1")
	}
	eventually(t, "fra1 has what counts", holds(fra, "ab"))
	if err := write(ams, "c"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "fra1 follows", holds(fra, "abc"))
}
