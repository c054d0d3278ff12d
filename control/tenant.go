package control

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wedge-cloud/wedge"
)

// DefaultTenant is whose a service is that nobody made for another. It always exists.
const DefaultTenant = "default"

// Tenant owns services and tokens.
type Tenant struct {
	Name  string    `json:"name"`
	Quota Quota     `json:"quota"`
	By    string    `json:"by,omitempty"`
	At    time.Time `json:"at,omitzero"`

	versions []time.Time // when versions were made within the last hour, whether or not their service is still there
}

// Quota is what a tenant may use. 0 is no bound.
type Quota struct {
	Services int64 `json:"services,omitempty"`
	Versions int64 `json:"versions,omitempty"` // made within an hour
	Tokens   int64 `json:"tokens,omitempty"`
	Bytes    int64 `json:"bytes,omitempty"` // that kept versions are made of, compressed, each chunk once
	Runs     int64 `json:"runs,omitempty"`  // of guests at once, on each node
}

// QuotaChange says what is to be another in a quota; nil is not.
type QuotaChange struct {
	Services *int64 `json:"services,omitempty"`
	Versions *int64 `json:"versions,omitempty"`
	Tokens   *int64 `json:"tokens,omitempty"`
	Bytes    *int64 `json:"bytes,omitempty"`
	Runs     *int64 `json:"runs,omitempty"`
}

// of returns the quota with the change.
func (c QuotaChange) of(q Quota) Quota {
	for _, f := range []struct{ to, from *int64 }{{&q.Services, c.Services}, {&q.Versions, c.Versions}, {&q.Tokens, c.Tokens}, {&q.Bytes, c.Bytes}, {&q.Runs, c.Runs}} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	return q
}

func (q Quota) sound() bool { return min(q.Services, q.Versions, q.Tokens, q.Bytes, q.Runs) >= 0 }

// NewTenant decides that there is a tenant.
func (s *State) NewTenant(name string, c QuotaChange) (Event, error) {
	if !serviceName.MatchString(name) {
		return Event{}, &wedge.Error{Op: "make tenant", What: fmt.Sprintf("%.70q", name), Kind: wedge.Invalid, Err: errors.New("not a name for a tenant"), Hint: "Use up to 63 lower-case letters, digits and dashes."}
	}
	if s.Tenants[name] != nil {
		return Event{}, &wedge.Error{Op: "make tenant", What: name, Kind: wedge.Exist, Err: errors.New("there is one with this name"), Hint: "Change its quota with: wedge tenants set " + name}
	}
	return quotaEvent("make tenant", EventTenant, name, c.of(Quota{}))
}

// NewQuota decides on what a tenant may use from now on. What it has beyond that it keeps.
func (s *State) NewQuota(name string, c QuotaChange) (Event, error) {
	t, err := s.Tenant(name)
	if err != nil {
		return Event{}, err
	}
	return quotaEvent("change quota", EventQuota, name, c.of(t.Quota))
}

func quotaEvent(op, kind, name string, q Quota) (Event, error) {
	if !q.sound() {
		return Event{}, &wedge.Error{Op: op, What: name, Kind: wedge.Invalid, Err: errors.New("a quota cannot be negative"), Hint: "Write 0 for no bound."}
	}
	return Event{Kind: kind, Tenant: name, Quota: &q}, nil
}

// Tenant returns the tenant of a name, or an error of kind NotExist.
func (s *State) Tenant(name string) (*Tenant, error) {
	if t := s.Tenants[name]; t != nil {
		return t, nil
	}
	return nil, &wedge.Error{Op: "find tenant", What: fmt.Sprintf("%.70s", name), Kind: wedge.NotExist, Err: errors.New("there is no such tenant"), Hint: "See them with: wedge tenants"}
}

// TenantOf returns whose a service is, or was: a PoP may run one that was removed for a moment.
func (s *State) TenantOf(service string) string {
	return cmp.Or(s.owner(service), DefaultTenant)
}

func (s *State) applyTenant(e Event) error {
	t := s.Tenants[e.Tenant]
	switch {
	case e.Quota == nil || !e.Quota.sound():
		return errOutOfOrder
	case e.Kind == EventTenant && t == nil:
		s.Tenants[e.Tenant] = &Tenant{Name: e.Tenant, Quota: *e.Quota, By: e.By, At: e.At}
	case e.Kind == EventQuota && t != nil:
		t.Quota = *e.Quota
	default:
		return errOutOfOrder
	}
	return nil
}

// Of returns whose an event is; "": the operators'.
func (s *State) Of(e *Event) string {
	return cmp.Or(s.owner(e.Service), e.Tenant)
}

// owned returns a tenant's services.
func (s *State) owned(tenant string) (list []*Service) {
	for _, svc := range s.Services {
		if svc.Tenant == tenant {
			list = append(list, svc)
		}
	}
	return list
}

// Use is what a tenant has of what its quota bounds.
type Use struct {
	Services int64 `json:"services"`
	Versions int64 `json:"versions"` // made within the last hour
	Tokens   int64 `json:"tokens"`
	Bytes    int64 `json:"bytes"`
}

// Used returns what a tenant has. It looks at all that its versions are made of.
func (s *State) Used(tenant string, now time.Time) (u Use) {
	owned := s.owned(tenant)
	u.Services, u.Versions, u.Bytes = int64(len(owned)), s.Tenants[tenant].lately(now), sum(chunksOf(owned))
	u.Tokens = s.tokensOf(tenant)
	return u
}

func (s *State) tokensOf(tenant string) (n int64) {
	for _, t := range s.Tokens {
		if t.Tenant == tenant {
			n++
		}
	}
	return n
}

// made notes that a version was made.
func (t *Tenant) made(at time.Time) {
	t.versions = append(slices.DeleteFunc(t.versions, func(v time.Time) bool { return at.Sub(v).Abs() >= time.Hour }), at)
}

// lately counts versions made within an hour. By a clock that was set back meanwhile it may count too few, and never those of another day.
func (t *Tenant) lately(now time.Time) (n int64) {
	for _, at := range t.versions {
		if now.Sub(at).Abs() < time.Hour {
			n++
		}
	}
	return n
}

// ChunksOf returns the chunks, with their sizes, that a tenant's kept versions are made of.
func (s *State) ChunksOf(tenant string) map[Digest]int64 { return chunksOf(s.owned(tenant)) }

func chunksOf(services []*Service) map[Digest]int64 {
	all := map[Digest]int64{}
	for _, svc := range services {
		for _, v := range svc.Versions[max(0, svc.oldest()-svc.Earlier-1):] {
			if !svc.Keeps(v.Number) {
				continue
			}
			for d, size := range v.chunks() {
				if have, ok := all[d]; !ok || size < have {
					all[d] = size
				}
			}
		}
	}
	return all
}

func sum(chunks map[Digest]int64) (n int64) {
	for _, size := range chunks {
		n += size
	}
	return n
}

// oldest returns the number of the oldest version that may be kept.
func (s *Service) oldest() int {
	n := s.newest() - KeptVersions + 1
	if s.Live > 0 {
		n = min(n, s.Live)
	}
	if len(s.Releases) > 0 {
		r := s.Releases[len(s.Releases)-1]
		n = min(n, r.Version, cmp.Or(r.Previous, r.Version))
	}
	return n
}

// chunks returns what a version is made of, with each chunk's size: compressed, if its event says so.
func (v *Version) chunks() map[Digest]int64 {
	all := map[Digest]int64{}
	for _, p := range v.Artifact.Parts {
		for _, c := range p.Chunks {
			all[c.Digest] = int64(c.Size)
		}
	}
	if digests := v.Artifact.Digests(); len(digests) == len(v.packed) {
		for i, d := range digests {
			all[d] = v.packed[i]
		}
	}
	return all
}

// allows finds out whether a version may be made for a tenant.
func (s *State) allows(tenant string, d *Draft) error {
	t, err := s.Tenant(tenant)
	if err != nil {
		return err
	}
	owned, svc := s.owned(tenant), s.Services[d.Service]
	if svc == nil && t.Quota.Services > 0 && int64(len(owned)) >= t.Quota.Services {
		return t.exhausted("make version", d.Service, "services", t.Quota.Services, "")
	}
	if t.Quota.Versions > 0 && t.lately(d.At) >= t.Quota.Versions {
		return t.exhausted("make version", d.Service, "versions", t.Quota.Versions, "Wait, ")
	}
	if t.Quota.Bytes == 0 {
		return nil
	}
	after := Service{Name: d.Service}
	if svc != nil {
		after = *svc
		owned = slices.DeleteFunc(owned, func(o *Service) bool { return o == svc })
	}
	after.Versions = append(slices.Clone(after.Versions), &Version{Number: after.newest() + 1, Artifact: d.Artifact, packed: d.Packed})
	if n := sum(chunksOf(append(owned, &after))); n > t.Quota.Bytes {
		return t.exhausted("make version", fmt.Sprintf("%s, with which %d bytes would be kept", d.Service, n), "bytes", t.Quota.Bytes, "Leave files out, ")
	}
	return nil
}

// exhausted says that there is no more of what a quota bounds. first is what else can be done.
func (t *Tenant) exhausted(op, what, quota string, bound int64, first string) error {
	unit := quota
	if bound == 1 {
		unit = strings.TrimSuffix(quota, "s")
	}
	if quota == "versions" {
		unit += " an hour"
	}
	hint := first + "or have an operator raise it: wedge tenants --" + quota + " N set " + t.Name
	if first == "" {
		hint = "Have an operator raise it: wedge tenants --" + quota + " N set " + t.Name
	}
	return &wedge.Error{Op: op, What: what, Kind: wedge.Exhausted, Err: fmt.Errorf("the quota of tenant %s is %d %s", t.Name, bound, unit), Hint: hint}
}
