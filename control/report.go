package control

import (
	"cmp"
	"maps"
	"slices"

	"github.com/wedge-cloud/wedge"
)

// Report says where what a tenant's services keep may lie, by the catalog and what PoPs say of themselves.
type Report struct {
	Tenant  string        `json:"tenant"`
	PoPs    []ReportPoP   `json:"pops"`    // all that there are, or are members
	Classes []ReportClass `json:"classes"` // of what is kept
	Cross   []Cross       `json:"crossings"`
	Core    []string      `json:"core"` // jurisdictions that the core lies in
}

// ReportPoP is where a PoP is. Of one that is away only its name and what it may carry is known.
type ReportPoP struct {
	Name          string   `json:"name"`
	City          string   `json:"city,omitempty"`
	Jurisdictions []string `json:"jurisdictions,omitempty"`
	Away          bool     `json:"away,omitempty"`
}

// ReportClass is one kind of what a service keeps, as one of its versions that may run has it.
type ReportClass struct {
	Service      string   `json:"service"`
	Version      int      `json:"version"`
	Class        string   `json:"class"` // store, sessions, logs, collected, cache
	Name         string   `json:"name,omitempty"`
	Scope        string   `json:"scope,omitempty"`
	Jurisdiction string   `json:"jurisdiction,omitempty"` // "": anywhere
	PoPs         []string `json:"pops"`                   // that may hold it
	Core         bool     `json:"core,omitempty"`         // the core may, too
}

// Cross is that what is in a jurisdiction is asked for from a PoP that is not, for its clients: it then passes there, and is not kept.
type Cross struct {
	Service      string `json:"service"`
	Class        string `json:"class"`
	Name         string `json:"name,omitempty"`
	Jurisdiction string `json:"jurisdiction"`
	PoP          string `json:"pop"`
}

// ReportVersion is a version that may run, with what it says.
type ReportVersion struct {
	Service *Service
	*Version
	Says *wedge.Version
}

// Runnable returns the versions of a tenant's services that are live, or on their way; what they say has still to be read.
func (s *State) Runnable(tenant string) (list []ReportVersion) {
	for _, svc := range s.owned(tenant) {
		numbers := []int{svc.Live}
		if r := svc.Rolling(); r != nil {
			numbers = append(numbers, r.Version)
		}
		for _, n := range numbers {
			if v := svc.Version(n); v != nil {
				list = append(list, ReportVersion{Service: svc, Version: v})
			}
		}
	}
	slices.SortFunc(list, func(a, b ReportVersion) int {
		return cmp.Or(cmp.Compare(a.Service.Name, b.Service.Name), a.Number-b.Number)
	})
	return list
}

// Says reads what a version of a service says, without its guest and files.
func (a *Artifact) Says(service string, get func(Digest) ([]byte, error)) (*wedge.Version, error) {
	b, err := a.versionPart(service, get)
	if err != nil {
		return nil, err
	}
	v := new(wedge.Version)
	if err := decode(b, v); err != nil {
		return nil, &wedge.Error{Op: "read version of", What: service, Kind: wedge.Invalid, Err: err, Hint: "If it was made by a newer Wedge, upgrade the core."}
	}
	return v, nil
}

// Report makes the report on a tenant of its versions, as they say, and of the PoPs that are there; core is the jurisdictions that the core lies in.
func (s *State) Report(tenant string, versions []ReportVersion, there []wedge.PoP, core []string) Report {
	r := Report{Tenant: tenant, PoPs: []ReportPoP{}, Classes: []ReportClass{}, Cross: []Cross{}, Core: append([]string{}, core...)}
	known := map[string]bool{}
	for _, p := range there {
		known[p.Name] = true
		r.PoPs = append(r.PoPs, ReportPoP{Name: p.Name, City: p.City, Jurisdictions: p.Jurisdictions})
	}
	for name, m := range s.Members {
		if !known[name] && m.Public != "" {
			r.PoPs = append(r.PoPs, ReportPoP{Name: name, Jurisdictions: m.Jurisdictions, Away: true})
		}
	}
	slices.SortFunc(r.PoPs, func(a, b ReportPoP) int { return cmp.Compare(a.Name, b.Name) })
	for _, v := range versions {
		r.add(v)
	}
	return r
}

// add reports what a version keeps.
func (r *Report) add(v ReportVersion) {
	for _, name := range slices.Sorted(maps.Keys(v.Says.KVStores)) {
		rule := v.Says.Stores[name]
		scope := cmp.Or(rule.Scope, wedge.ScopeMerge)
		r.class(v, ReportClass{Class: "store", Name: name, Scope: string(scope), Jurisdiction: rule.Jurisdiction, Core: scope != wedge.ScopeLocal}, scope != wedge.ScopeLocal)
	}
	if v.Says.Sessions != nil {
		r.class(v, ReportClass{Class: "sessions", Jurisdiction: v.Says.Sessions.Jurisdiction}, true)
	}
	if slices.ContainsFunc(v.Artifact.Parts, func(p Part) bool { return p.Name == "guest" }) {
		r.class(v, ReportClass{Class: "logs"}, false)
	}
	for _, c := range v.Says.Collect {
		r.class(v, ReportClass{Class: "collected", Name: c.Name, Core: true}, false)
	}
	r.class(v, ReportClass{Class: "cache"}, false)
}

// class reports who may hold what a version keeps: all PoPs that carry its jurisdiction, if it comes to PoPs everywhere, else those of
// them that are to run the version.
func (r *Report) class(v ReportVersion, c ReportClass, everywhere bool) {
	c.Service, c.Version, c.PoPs = v.Service.Name, v.Number, []string{}
	c.Core = c.Core && (&wedge.PoP{Jurisdictions: r.Core}).Carries(c.Jurisdiction)
	for _, p := range r.PoPs {
		live, beside, _ := v.Service.At(p.Name)
		runs := live != nil && live.Number == v.Number || beside != nil && beside.Number == v.Number
		carries := (&wedge.PoP{Jurisdictions: p.Jurisdictions}).Carries(c.Jurisdiction)
		switch {
		case carries && (everywhere || runs):
			c.PoPs = append(c.PoPs, p.Name)
		case runs && !carries:
			r.Cross = append(r.Cross, Cross{c.Service, c.Class, c.Name, c.Jurisdiction, p.Name})
		}
	}
	r.Classes = append(r.Classes, c)
}
