package api

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/control"
)

// Tenant is a tenant, with what it has of what its quota bounds.
type Tenant struct {
	Name  string        `json:"name"`
	Quota control.Quota `json:"quota"`
	Used  control.Use   `json:"used"`
	By    string        `json:"by,omitempty"` // who made it; "": it has always been there
	At    time.Time     `json:"at,omitzero"`
}

// NewTenant asks for a tenant.
type NewTenant struct {
	Name  string              `json:"name"`
	Quota control.QuotaChange `json:"quota"`
}

func (s *Server) shown(st *control.State, t *control.Tenant) Tenant {
	return Tenant{Name: t.Name, Quota: t.Quota, Used: st.Used(t.Name, s.Control.Now()), By: t.By, At: t.At}
}

func (s *Server) tenants(c *call) (any, error) {
	return s.see(func(st *control.State) any {
		list := []Tenant{}
		for _, name := range slices.Sorted(maps.Keys(st.Tenants)) {
			if c.Sees(name) {
				list = append(list, s.shown(st, st.Tenants[name]))
			}
		}
		return list
	}), nil
}

// tenant shows one. To a tenant there are no others.
func (s *Server) tenant(c *call) (raw any, err error) {
	name := c.PathValue("tenant")
	raw = s.see(func(st *control.State) any {
		known := st
		if !c.Sees(name) {
			known = &control.State{} // where there is none
		}
		t, e := known.Tenant(name)
		if err = e; err != nil {
			return nil
		}
		return s.shown(st, t)
	})
	return raw, err
}

// report reads what all versions say that may run, one after the other.
func (s *Server) report(c *call) (any, error) {
	if _, err := s.tenant(c); err != nil {
		return nil, err
	}
	name, versions := c.PathValue("tenant"), []control.ReportVersion(nil)
	s.Control.See(func(st *control.State) { versions = st.Runnable(name) })
	for i := range versions {
		said, err := s.says(c, &versions[i])
		if err != nil {
			return nil, err
		}
		versions[i].Says = said
	}
	return s.see(func(st *control.State) any { return st.Report(name, versions, s.PoPs(), s.Jurisdictions) }), nil
}

func (s *Server) says(c *call, v *control.ReportVersion) (*wedge.Version, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	return v.Artifact.Says(v.Service.Name, control.GetPacked(func(d control.Digest) ([]byte, error) { return s.Control.Chunks.Get(c.Context(), d) }))
}

func (s *Server) newTenant(c *call) (any, error) {
	var want NewTenant
	if err := c.read(&want); err != nil {
		return nil, err
	}
	return s.decidedTenant(c, func(st *control.State) (control.Event, error) { return st.NewTenant(want.Name, want.Quota) })
}

func (s *Server) setTenant(c *call) (any, error) {
	var want control.QuotaChange
	if err := c.read(&want); err != nil {
		return nil, err
	}
	return s.decidedTenant(c, func(st *control.State) (control.Event, error) { return st.NewQuota(c.PathValue("tenant"), want) })
}

func (s *Server) decidedTenant(c *call, decide func(*control.State) (control.Event, error)) (any, error) {
	ev, err := s.Control.Decide(c.Context(), c.Name, c.key, decide)
	if err != nil {
		return nil, err
	}
	return s.see(func(st *control.State) any { return s.shown(st, st.Tenants[ev.Tenant]) }), nil
}

// Tenants returns all tenants, or the one that the token is of.
func (c *Client) Tenants(ctx context.Context) (list []Tenant, err error) {
	return list, c.do(ctx, http.MethodGet, "/v1/tenants", "", nil, &list)
}

// Tenant returns one tenant.
func (c *Client) Tenant(ctx context.Context, name string) (t Tenant, err error) {
	return t, c.do(ctx, http.MethodGet, "/v1/tenants/"+url.PathEscape(name), "", nil, &t)
}

// Report says where what a tenant's services keep may lie.
func (c *Client) Report(ctx context.Context, tenant string) (r control.Report, err error) {
	return r, c.do(ctx, http.MethodGet, "/v1/tenants/"+url.PathEscape(tenant)+"/report", "", nil, &r)
}

// NewTenant makes a tenant.
func (c *Client) NewTenant(ctx context.Context, key string, want NewTenant) (t Tenant, err error) {
	return t, c.post(ctx, "/v1/tenants", key, want, &t)
}

// SetQuota changes what a tenant may use.
func (c *Client) SetQuota(ctx context.Context, name, key string, want control.QuotaChange) (t Tenant, err error) {
	return t, c.post(ctx, "/v1/tenants/"+url.PathEscape(name), key, want, &t)
}
