package control

import (
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

// TestRemoval: who may not, and what may not be removed; what is free afterwards, and what is not.
func TestRemoval(t *testing.T) {
	l := &tenantLab{NewState(), t, noon}
	for _, name := range []string{"acme", "zeta"} {
		if err := l.do(l.NewTenant(name, QuotaChange{Services: n(1), Versions: n(3)})); err != nil {
			t.Fatal(err)
		}
	}
	is := func(what string, err error, kind wedge.Kind, text string) {
		t.Helper()
		if err == nil || wedge.KindOf(err) != kind || !strings.Contains(err.Error()+" "+wedge.HintOf(err), text) {
			t.Errorf("%s: %v (%s)", what, err, wedge.HintOf(err))
		}
	}
	well := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	remove := func(by string, force bool) error { return l.do(l.NewRemoval("shop", by, force)) }

	well("a version", l.version("acme", "shop", "1"))
	well("another", l.version("acme", "shop", "2"))
	l.Services["shop"].Versions[0].Hosts = []string{"shop.example"}
	foreign := remove("zeta", true)
	is("another tenant's", foreign, wedge.NotExist, "there is no such service")
	_, none := l.NewRemoval("none", "zeta", true)
	if strings.ReplaceAll(foreign.Error(), "shop", "none") != none.Error() {
		t.Errorf("%v; %v", foreign, none)
	}
	well("a rollout", l.do(l.NewRelease("shop", 1, Plan{})))
	is("on its way", remove("acme", false), wedge.Conflict, "version 1 is being rolled out")
	well("its end", l.do(Event{Kind: EventDone, Service: "shop", Release: 1}, nil))
	is("live", remove("acme", false), wedge.Conflict, "wedge services --force remove shop")
	is("its host", l.hostsFree("release", &Service{Name: "copy"}, []string{"shop.example"}), wedge.Conflict, "shop.example")

	ev, err := l.NewRemoval("shop", "acme", true)
	if ev.Needs < 3 {
		t.Error("a Wedge that knows of no removals would run it on")
	}
	well("by force", l.do(ev, err))
	well("its host is free", l.hostsFree("release", &Service{Name: "copy"}, []string{"shop.example"}))
	if len(l.Kept()) > 0 || l.Gone != 2 || len(l.ChunksOf("acme")) > 0 {
		t.Errorf("%v are kept", l.Kept())
	}
	if use := l.Used("acme", noon); use != (Use{Versions: 2}) {
		t.Errorf("%+v", use)
	}
	is("once more", remove("acme", true), wedge.NotExist, "there is no such service")
	is("back to it", errOf(l.NewRollback("shop", 1)), wedge.NotExist, "there is no such service")
	is("an event that is late", l.Apply(Event{Kind: EventStage, Service: "shop", Release: 1, PoPs: []string{"fra"}}), wedge.Internal, "does not follow")
	if of := l.Of(&Event{Kind: EventSwitch, Service: "shop"}); of != "acme" || l.TenantOf("shop") != "acme" {
		t.Errorf("what was decided about it is %q's, and so are its calls %q's", of, l.TenantOf("shop"))
	}

	is("its name, by another", l.version("zeta", "shop", "1"), wedge.Exist, "the name is taken")
	well("its place in the quota is free", l.version("acme", "other", "1"))
	is("not its versions of this hour", l.version("acme", "other", "3"), wedge.Exhausted, "3 versions an hour")
	well("that goes as well", l.do(l.NewRemoval("other", "", false)))
	l.now = l.now.Add(time.Hour)
	well("anew, by an operator", l.version("", "shop", "1"))
	svc := l.Services["shop"]
	if svc.Tenant != "acme" || svc.Live != 0 || len(svc.Versions) != 1 || svc.Versions[0].Number != 3 || len(svc.Releases) != 0 || !svc.Keeps(3) {
		t.Errorf("%+v", svc)
	}
	is("back to a removed version", errOf(l.NewRollback("shop", 1)), wedge.NotExist, "it has no version 1")
	is("a removed version's release", errOf(l.NewRelease("shop", 2, Plan{})), wedge.NotExist, "it has no version 2")
	is("none", errOf(l.NewRelease("shop", 0, Plan{})), wedge.Invalid, "it says no version")
	if err := l.Apply(Event{Kind: EventSwitch, Service: "shop", Version: 1}); err == nil {
		t.Error("all switch to a removed version")
	}
	well("the next", l.version("acme", "shop", "2"))
	well("is released", l.do(l.NewRelease("shop", 4, Plan{})))
	if use := l.Used("acme", l.now); use != (Use{Services: 1, Versions: 2, Bytes: 200}) {
		t.Errorf("%+v", use)
	}
	for range KeptVersions {
		l.now = l.now.Add(time.Hour)
		well("more", l.version("acme", "shop", "3", time.Time(l.now).String()))
	}
	if svc.Keeps(3) || !svc.Keeps(4) || svc.Version(3) == nil || len(l.Kept()) != KeptVersions+1 {
		t.Errorf("%d are kept", len(l.Kept()))
	}
}

func errOf(_ Event, err error) error { return err }

// TestForget: a version goes by order, with what only it is made of, unless it may run; it is not gone back to, and made of the same it is another.
func TestForget(t *testing.T) {
	l := &tenantLab{NewState(), t, noon}
	do := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	forget := func(version int) error { return l.do(l.NewForget("shop", version)) }
	refused := func(what string, err error, kind wedge.Kind, text string) {
		t.Helper()
		if err == nil || wedge.KindOf(err) != kind || !strings.Contains(err.Error(), text) || !strings.Contains(wedge.HintOf(err), "wedge ") {
			t.Errorf("%s: %v (%s)", what, err, wedge.HintOf(err))
		}
	}
	do("one", l.version("", "shop", "all", "secret"))
	do("its release", l.do(l.NewRelease("shop", 1, Plan{})))
	refused("on its way", forget(1), wedge.Conflict, "version 1 is being rolled out")
	do("its end", l.do(Event{Kind: EventDone, Service: "shop", Release: 1}, nil))
	refused("live", forget(1), wedge.Conflict, "version 1 is live")
	do("two", l.version("", "shop", "all", "clean"))
	do("all run it", l.do(Event{Kind: EventSwitch, Service: "shop", Version: 2}, nil))
	ev, err := l.NewForget("shop", 1)
	if ev.Needs < 3 {
		t.Error("a Wedge that knows of no such order would keep it")
	}
	do("one is forgotten", l.do(ev, err))
	if got := l.Unneeded(); len(got) != 1 || got[0] != DigestOf([]byte("secret")) || l.Gone != 1 {
		t.Errorf("%v is needed no more, %d gone", got, l.Gone)
	}
	if svc := l.Services["shop"]; svc.Keeps(1) || len(svc.Before(2)) > 0 {
		t.Error("it is gone back to")
	}
	if use := l.Used(DefaultTenant, noon); use.Bytes != 200 {
		t.Errorf("%+v", use)
	}
	refused("once more", forget(1), wedge.NotExist, "version 1 was forgotten")
	refused("one that is not", forget(9), wedge.NotExist, "it has no version 9")
	refused("none", forget(0), wedge.NotExist, "it has no version 0")
	refused("back to it", errOf(l.NewRollback("shop", 1)), wedge.NotExist, "version 1 was forgotten")
	refused("back to what was before", errOf(l.NewRollback("shop", 0)), wedge.Conflict, "nothing to go back to")
	for _, e := range []Event{{Version: 1}, {Version: 2}, {Version: 9}} {
		if e.Kind, e.Service = EventForget, "shop"; l.Apply(e) == nil {
			t.Errorf("version %d was forgotten", e.Version)
		}
	}
	do("the newest", l.version("", "shop", "secret"))
	do("is forgotten", forget(3))
	do("and made anew", l.version("", "shop", "secret"))
	if svc := l.Services["shop"]; len(svc.Versions) != 4 || !svc.Keeps(4) || len(l.Unneeded()) > 0 {
		t.Errorf("%d versions, %v is needed no more", len(svc.Versions), l.Unneeded())
	}
}
