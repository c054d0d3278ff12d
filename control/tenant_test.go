package control

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wedge-cloud/wedge"
)

// madeOf is an artifact of some chunks, each of 1000 bytes, which are 100 bytes compressed.
func madeOf(chunks ...string) (*Artifact, []int64) {
	p, packed := Part{Name: "version"}, []int64(nil)
	for _, c := range chunks {
		p.Chunks = append(p.Chunks, Chunk{DigestOf([]byte(c)), 1000})
		p.Size += 1000
		packed = append(packed, 100)
	}
	return &Artifact{Parts: []Part{p}}, packed
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// tenantLab decides and applies.
type tenantLab struct {
	*State
	t   *testing.T
	now time.Time
}

func (l *tenantLab) do(ev Event, err error) error {
	l.t.Helper()
	if err == nil {
		ev.At = l.now
		b, _ := json.Marshal(ev)
		ev = Event{}
		if err := json.Unmarshal(b, &ev); err != nil {
			l.t.Fatal(err)
		}
		if err := ev.understood(); err != nil {
			l.t.Fatal(err)
		}
		if err := l.Apply(ev); err != nil {
			l.t.Fatal(err)
		}
	}
	return err
}

func (l *tenantLab) version(tenant, service string, chunks ...string) error {
	a, packed := madeOf(chunks...)
	return l.do(l.NewVersion(Draft{Service: service, Tenant: tenant, Artifact: a, Packed: packed, At: l.now}))
}

func (l *tenantLab) token(tenant, by, name string) error {
	return l.do(l.NewToken(Event{Kind: EventToken, Token: name, Scopes: []string{ScopeRead}}, tenant, by))
}

func n(v int64) *int64 { return &v }

// TestQuotas: each quota lets in what it says and no more; what is there stays when it gets less; 0 is no bound.
func TestQuotas(t *testing.T) {
	type step struct {
		what string
		do   func(*tenantLab) error
		kind wedge.Kind
		hint string // part of it
	}
	ok := wedge.Internal // no error
	version := func(service string, chunks ...string) func(*tenantLab) error {
		return func(l *tenantLab) error { return l.version("acme", service, chunks...) }
	}
	token := func(name string) func(*tenantLab) error {
		return func(l *tenantLab) error { return l.token("acme", "", name) }
	}
	set := func(c QuotaChange) func(*tenantLab) error {
		return func(l *tenantLab) error { return l.do(l.NewQuota("acme", c)) }
	}
	for name, test := range map[string]struct {
		quota QuotaChange
		steps []step
	}{
		"none": {QuotaChange{}, []step{{"a", version("a", "1"), ok, ""}, {"b", version("b", "2"), ok, ""}, {"token", token("t"), ok, ""}}},
		"services": {QuotaChange{Services: n(1)}, []step{
			{"one", version("a", "1"), ok, ""}, {"another", version("b", "2"), wedge.Exhausted, "wedge tenants --services N set acme"}, {"of the first", version("a", "2"), ok, ""},
			{"the same again", version("a", "2"), wedge.Internal, "same"}, {"more", set(QuotaChange{Services: n(2)}), ok, ""}, {"another", version("b", "2"), ok, ""},
			{"none any more", set(QuotaChange{Services: n(1)}), ok, ""}, {"of the second", version("b", "3"), ok, ""},
		}},
		"versions": {QuotaChange{Versions: n(2)}, []step{
			{"one", version("a", "1"), ok, ""}, {"two", version("b", "2"), ok, ""}, {"three", version("a", "3"), wedge.Exhausted, "--versions N set acme"},
			{"nearly an hour on", func(l *tenantLab) error {
				l.now = l.now.Add(time.Hour - 1)
				return l.version("acme", "a", "3")
			}, wedge.Exhausted, ""},
			{"an hour on", func(l *tenantLab) error { l.now = l.now.Add(1); return l.version("acme", "a", "3") }, ok, ""},
			{"by a clock set back by days", func(l *tenantLab) error { l.now = l.now.Add(-48 * time.Hour); return l.version("acme", "a", "4") }, ok, ""},
		}},
		"tokens": {QuotaChange{Tokens: n(1)}, []step{
			{"one", token("t"), ok, ""}, {"two", token("u"), wedge.Exhausted, "--tokens N set acme"}, {"twice", token("t"), wedge.Exist, ""},
			{"an operator's", func(l *tenantLab) error { return l.token("", "", "o") }, ok, ""},
			{"revoked", func(l *tenantLab) error { return l.do(l.Revoke("t", "acme")) }, ok, ""}, {"two", token("u"), ok, ""},
		}},
		"bytes": {QuotaChange{Bytes: n(300)}, []step{
			{"two chunks", version("a", "1", "2"), ok, ""}, {"one more, to the edge", version("a", "1", "3"), ok, ""}, {"in another service, nothing new", version("b", "2", "3"), ok, ""},
			{"beyond it", version("b", "4"), wedge.Exhausted, "--bytes N set acme"},
			{"the first forgotten", func(l *tenantLab) error {
				for i := range KeptVersions {
					if err := l.version("acme", "a", "1", "3", fmt.Sprint(2+i%2)); err != nil {
						return err
					}
				}
				return nil
			}, ok, ""},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			l := &tenantLab{NewState(), t, noon}
			if err := l.do(l.NewTenant("acme", test.quota)); err != nil {
				t.Fatal(err)
			}
			for _, s := range test.steps {
				err := s.do(l)
				if s.hint == "same" {
					if err != ErrSame {
						t.Errorf("%s: %v", s.what, err)
					}
					continue
				}
				if wedge.KindOf(err) != s.kind || s.kind == ok && err != nil || !strings.Contains(wedge.HintOf(err), s.hint) {
					t.Errorf("%s: %v (%s)", s.what, err, wedge.HintOf(err))
				}
			}
		})
	}
}

// TestBytesForgotten: what only forgotten versions are made of counts no more, what the live one is made of does.
func TestBytesForgotten(t *testing.T) {
	l := &tenantLab{NewState(), t, noon}
	for i := range KeptVersions + 3 {
		if err := l.version("", "a", "all", fmt.Sprint("own ", i)); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			for _, e := range []Event{{Kind: EventSwitch, Service: "a", Version: 1}} {
				if err := l.Apply(e); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	want := Use{Services: 1, Versions: KeptVersions + 3, Bytes: 100 * (1 + KeptVersions + 1)} // all of them have one, each kept one its own, and so the live one
	if got := l.Used(DefaultTenant, noon); got != want {
		t.Errorf("%+v, not %+v", got, want)
	}
}

// TestForeign: to a tenant what is another's is not there, and a name that another has is taken, no more.
func TestForeign(t *testing.T) {
	l := &tenantLab{NewState(), t, noon}
	for _, name := range []string{"acme", "zeta"} {
		if err := l.do(l.NewTenant(name, QuotaChange{})); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{l.version("acme", "shop", "1"), l.version("", "old", "1"), l.token("acme", "acme", "ci"), l.token("", "", "op")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	_, foreign := l.Revoke("ci", "zeta")
	_, none := l.Revoke("cj", "zeta")
	if strings.ReplaceAll(foreign.Error(), "ci", "cj") != none.Error() {
		t.Errorf("%v; %v", foreign, none)
	}
	_, operators := l.Revoke("op", "zeta")
	for name, test := range map[string]struct {
		err  error
		kind wedge.Kind
	}{
		"a taken name":             {l.version("zeta", "shop", "1"), wedge.Exist},
		"the default tenant's":     {l.version("zeta", "old", "1"), wedge.Exist},
		"a token for another":      {l.token("acme", "zeta", "x"), wedge.NotExist},
		"for one that is not":      {l.token("none", "zeta", "x"), wedge.NotExist},
		"for the default":          {l.token(DefaultTenant, "zeta", "x"), wedge.NotExist},
		"by operators for nobody":  {l.token("none", "", "x"), wedge.NotExist},
		"a taken token":            {l.token("", "zeta", "ci"), wedge.Exist},
		"a foreign token":          {foreign, wedge.NotExist},
		"an operator's token":      {operators, wedge.NotExist},
		"a tenant twice":           {l.do(l.NewTenant("acme", QuotaChange{})), wedge.Exist},
		"default":                  {l.do(l.NewTenant(DefaultTenant, QuotaChange{})), wedge.Exist},
		"no quota of none":         {l.do(l.NewQuota("none", QuotaChange{})), wedge.NotExist},
		"below nothing":            {l.do(l.NewQuota("acme", QuotaChange{Tokens: n(-1)})), wedge.Invalid},
		"empty name":               {l.do(l.NewTenant("", QuotaChange{})), wedge.Invalid},
		"a name with a path":       {l.do(l.NewTenant("../zeta", QuotaChange{})), wedge.Invalid},
		"a name with a line":       {l.do(l.NewTenant("zeta\n", QuotaChange{})), wedge.Invalid},
		"a long name":              {l.do(l.NewTenant(strings.Repeat("a", 64), QuotaChange{})), wedge.Invalid},
		"a capital":                {l.do(l.NewTenant("Acme", QuotaChange{})), wedge.Invalid},
		"a name that looks like a": {l.do(l.NewTenant("аcme", QuotaChange{})), wedge.Invalid},
	} {
		if wedge.KindOf(test.err) != test.kind || test.err == nil || strings.HasPrefix(name, "a taken") && strings.Contains(test.err.Error()+wedge.HintOf(test.err), "acme") {
			t.Errorf("%s: %v", name, test.err)
		}
	}
	if err := l.version("", "shop", "2"); err != nil || l.Services["shop"].Tenant != "acme" || len(l.Services["shop"].Versions) != 2 {
		t.Errorf("an operator's version: %v, %+v", err, l.Services["shop"])
	}
	if err := l.token("", "zeta", "own"); err != nil || l.Tokens["own"].Tenant != "zeta" {
		t.Error(err)
	}
}

// TestTenantsReplay: a catalog from before there were tenants comes to what it came to, all of it the default tenant's; events that do not
// follow change nothing; and a Wedge that knows of no tenants does not overlook whose a service or token is.
func TestTenantsReplay(t *testing.T) {
	a, _ := madeOf("1")
	old := NewState()
	for _, e := range []Event{{Kind: EventToken, Token: "op", Scopes: []string{ScopeAdmin}}, {Kind: EventVersion, Service: "shop", Version: 1, Artifact: a}} {
		if err := old.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	if svc := old.Services["shop"]; svc.Tenant != DefaultTenant || old.Tokens["op"].Tenant != "" || old.Used(DefaultTenant, noon).Bytes != 1000 {
		t.Errorf("%+v %+v", svc, old.Used(DefaultTenant, noon))
	}
	for name, e := range map[string]Event{
		"a version of no tenant": {Kind: EventVersion, Service: "new", Version: 1, Artifact: a, Tenant: "none"}, "another's": {Kind: EventVersion, Service: "shop", Version: 2, Artifact: a, Tenant: "none"},
		"a token of none": {Kind: EventToken, Token: "t", Tenant: "none"}, "the default anew": {Kind: EventTenant, Tenant: DefaultTenant, Quota: &Quota{}},
		"a quota of none": {Kind: EventQuota, Tenant: "none", Quota: &Quota{}}, "no quota": {Kind: EventQuota, Tenant: DefaultTenant}, "below nothing": {Kind: EventTenant, Tenant: "acme", Quota: &Quota{Bytes: -1}},
	} {
		if err := old.Apply(e); err == nil {
			t.Errorf("%s was applied", name)
		}
	}
	if len(old.Services) != 1 || len(old.Tokens) != 1 || len(old.Tenants) != 1 || len(old.Services["shop"].Versions) != 1 {
		t.Error("what made no sense changed something")
	}
	l := &tenantLab{NewState(), t, noon}
	if err := l.do(l.NewTenant("acme", QuotaChange{})); err != nil {
		t.Fatal(err)
	}
	v, err1 := l.NewVersion(Draft{Service: "shop", Tenant: "acme", Artifact: a})
	tok, err2 := l.NewToken(Event{Kind: EventToken, Token: "t"}, "acme", "")
	if err1 != nil || err2 != nil || v.Needs < 2 || tok.Needs < 2 {
		t.Error("a Wedge that knows format 1 would understand it", v.Needs, tok.Needs, err1, err2)
	}
	if v, err := l.NewVersion(Draft{Service: "plain", Artifact: a}); err != nil || v.Needs != 0 || v.Tenant != "" {
		t.Error("without tenants it is as before", v, err)
	}
}
