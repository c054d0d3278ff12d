// Package api is the control API over HTTP, both ends: [Server] puts what package control decides behind tokens, [Client]
// is what the command line speaks with. An error travels as its kind, its text and its hint.
package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/collect"
	"github.com/wedge-cloud/wedge/control"
	"github.com/wedge-cloud/wedge/seal"
)

// Server answers the control API.
type Server struct {
	Control       *control.Control
	PoPs          func() []wedge.PoP                                                                  // those that are there
	Sign          func(pop, public string) (Joined, error)                                            // lets a PoP with this public key in; nil: none can join
	Event         func(ctx context.Context, service string, message []byte) (json.RawMessage, error)  // has a PoP take a message that purges; nil: none can
	Collected     func(collect.Query) collect.Answer                                                  // what clients have reported; nil: nobody adds it up
	State         func(ctx context.Context, service string, want StateRequest) ([]StateAnswer, error) // asks PoPs for what a service keeps; nil: there are none
	SealingKey    func() (seal.Public, error)                                                         // with which who deploys closes secrets; nil: there is none
	Jurisdictions []string                                                                            // that the core lies in

	Log *slog.Logger // of faults whose text clients do not get; nil: slog.Default

	mux     http.ServeMux
	uploads brought
	reading sync.Mutex // a version: it may be large
}

// maxBody bounds what a request may say, but for chunks.
const maxBody = 32 << 20

// NewServer returns a Server for a Control.
func NewServer(c *control.Control, pops func() []wedge.PoP) *Server {
	s := &Server{Control: c, PoPs: pops, Log: slog.Default()}
	for pattern, h := range s.routes() {
		s.mux.Handle(pattern, s.guarded(h))
	}
	s.mux.HandleFunc("GET /v1/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.openAPI())
	})
	return s
}

// Routes for a service that need not be there: one that is to be made, or was removed when somebody asked for that before and heard no answer.
const (
	makeVersion   = "POST /v1/services/{name}/versions"
	removeService = "DELETE /v1/services/{name}"
)

const removeVersion = "DELETE /v1/services/{name}/versions/{version}"

// routes is all that the API can do. {name} is a service's.
func (s *Server) routes() map[string]handler {
	return map[string]handler{
		"POST /v1/chunks/missing":                  {control.ScopeDeploy, s.missing, "which of these chunks are to be uploaded", Missing{}, Missing{}},
		"PUT /v1/chunks/{digest}":                  {control.ScopeDeploy, s.keep, "upload a chunk, as zstd", nil, struct{}{}},
		"GET /v1/services":                         {control.ScopeRead, s.services, "all services", nil, []control.Service{}},
		"GET /v1/services/{name}":                  {control.ScopeRead, s.service, "one service", nil, control.Service{}},
		removeService:                              {control.ScopeAdmin, s.removeService, "remove a service; one that is live, or on its way, with force=true in the query", nil, struct{}{}},
		removeVersion:                              {control.ScopeAdmin, s.removeVersion, "forget a version at once, with what only it is made of", nil, struct{}{}},
		makeVersion:                                {control.ScopeDeploy, s.newVersion, "make a version, and the service if there is none", NewVersion{}, control.Version{}},
		"GET /v1/services/{name}/versions":         {control.ScopeRead, s.versions, "its versions", nil, []control.Version{}},
		"POST /v1/services/{name}/releases":        {control.ScopeDeploy, s.release, "begin a rollout", Pick{}, control.Release{}},
		"GET /v1/services/{name}/releases":         {control.ScopeRead, s.releases, "its releases", nil, []control.Release{}},
		"POST /v1/services/{name}/promote":         {control.ScopeDeploy, s.promote, "let a release that holds go on to all PoPs", nil, control.Release{}},
		"POST /v1/services/{name}/rollback":        {control.ScopeDeploy, s.rollback, "make all PoPs run a version at once", Pick{}, control.Release{}},
		"POST /v1/services/{name}/events":          {control.ScopePurge, s.event, "send a message that purges what its events say", map[string]any{}, Event{}},
		"POST /v1/services/{name}/state":           {control.ScopeState, s.state, "ask PoPs for what the service keeps there", StateRequest{}, []StateAnswer{}},
		"GET /v1/collect/{name}/{collection}":      {control.ScopeRead, s.collected, "what clients of a service have reported", nil, collect.Answer{}},
		"GET /v1/collect/{name}/{collection}/live": {control.ScopeRead, s.live, "the same each second, as a line of JSON", nil, collect.Answer{}},
		"GET /v1/pops":                             {control.ScopeRead, s.pops, "the PoPs that are there", nil, []wedge.PoP{}},
		"POST /v1/pops":                            {control.ScopeOperator, s.addPoP, "let a PoP join", NewPoP{}, Secret{}},
		"DELETE /v1/pops/{pop}":                    {control.ScopeOperator, s.removePoP, "let a PoP be a member no more", nil, struct{}{}},
		"POST /v1/join":                            {"", s.join, "join, with a secret that is good for once", Join{}, Joined{}},
		"GET /v1/sealing-key":                      {"", s.sealingKey, "the public key to seal secrets with", nil, seal.Public{}},
		"GET /v1/audit":                            {control.ScopeAdmin, s.audit, "the last decisions", nil, []control.Event{}},
		"GET /v1/tokens":                           {control.ScopeAdmin, s.tokens, "all tokens", nil, []control.Token{}},
		"POST /v1/tokens":                          {control.ScopeAdmin, s.newToken, "make a token", NewToken{}, Secret{}},
		"DELETE /v1/tokens/{token}":                {control.ScopeAdmin, s.revoke, "revoke a token", nil, struct{}{}},
		"GET /v1/tenants":                          {control.ScopeRead, s.tenants, "all tenants, with their quotas and what they have", nil, []Tenant{}},
		"GET /v1/tenants/{tenant}":                 {control.ScopeRead, s.tenant, "one tenant", nil, Tenant{}},
		"GET /v1/tenants/{tenant}/report":          {control.ScopeRead, s.report, "where what a tenant's services keep may lie", nil, control.Report{}},
		"POST /v1/tenants":                         {control.ScopeOperator, s.newTenant, "make a tenant", NewTenant{}, Tenant{}},
		"POST /v1/tenants/{tenant}":                {control.ScopeOperator, s.setTenant, "change a tenant's quota", control.QuotaChange{}, Tenant{}},
	}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if _, pattern := s.mux.Handler(r); pattern == "" {
		s.fail(w, &wedge.Error{Op: r.Method, What: r.URL.Path, Kind: wedge.NotExist, Err: errors.New("the API has no such thing"), Hint: "See /v1/openapi.json."})
		return
	}
	s.mux.ServeHTTP(w, r)
}

// call is one request that may do what it asks for.
type call struct {
	*http.Request
	*control.Token        // that it has
	key            string // Idempotency-Key
}

type handler struct {
	scope    string // that the token has to have
	do       func(*call) (any, error)
	what     string
	question any // nil: none
	answer   any
}

func (s *Server) guarded(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secret, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		by, err := &control.Token{Name: "nobody"}, error(nil)
		if h.scope != "" {
			s.Control.See(func(st *control.State) {
				if by, err = st.Holder(secret, h.scope, r.PathValue("name")); err == nil && r.Pattern != makeVersion && r.Pattern != removeService {
					err = find(st, by, r.PathValue("name"))
				}
			})
		}
		var answer any
		if err == nil {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			answer, err = h.do(&call{r, by, keyOf(by, r)})
		}
		if err != nil {
			s.fail(w, err)
			return
		}
		if f, ok := answer.(stream); ok {
			f(w)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer)
	})
}

// find finds out whether a service is there for a tenant's token. One that is another's is as if it were not.
func find(st *control.State, by *control.Token, service string) error {
	if service == "" || by.Tenant == "" {
		return nil
	}
	if svc := st.Services[service]; svc == nil || !by.Sees(svc.Tenant) {
		return noService(service)
	}
	return nil
}

func noService(name string) error {
	return &wedge.Error{Op: "find service", What: name, Kind: wedge.NotExist, Err: errors.New("there is no such service"), Hint: "See them with: wedge services"}
}

// keyOf names a request that may be repeated, apart from those of others.
func keyOf(by *control.Token, r *http.Request) string {
	key := r.Header.Get("Idempotency-Key")
	if key == "" {
		return ""
	}
	who := by.Name
	if by.Tenant != "" { // or else as before there were tenants: what was asked before an upgrade is not decided again after it
		who = by.Tenant + "\x00" + who
	}
	return string(control.DigestOf([]byte(who + "\x00" + r.Method + "\x00" + r.URL.Path + "\x00" + key)))
}

// fault is an error as it travels.
type fault struct {
	Kind  string `json:"kind"`
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}

func (s *Server) fail(w http.ResponseWriter, err error) {
	kind := wedge.KindOf(err)
	f := fault{kind.String(), err.Error(), wedge.HintOf(err)}
	if kind == wedge.Internal {
		s.Log.Error("control API", "err", err)
		f.Error = "internal error"
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(kind.Status())
	_ = json.NewEncoder(w).Encode(f)
}

// read reads the body's JSON.
func (c *call) read(v any) error {
	d := json.NewDecoder(c.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return &wedge.Error{Op: "read request", Kind: wedge.Invalid, Err: err, Hint: "See /v1/openapi.json."}
	}
	return nil
}

// NewVersion asks for a version of a service.
type NewVersion struct {
	Artifact *control.Artifact `json:"artifact"`
	Comment  string            `json:"comment,omitempty"`
}

func (s *Server) newVersion(c *call) (any, error) {
	var want NewVersion
	if err := c.read(&want); err != nil {
		return nil, err
	}
	if want.Artifact == nil || len(want.Comment) > maxComment {
		return nil, &wedge.Error{Op: "make version", What: c.PathValue("name"), Kind: wedge.Invalid, Err: fmt.Errorf("it needs an artifact, and a comment of at most %d bytes", maxComment)}
	}
	if err := want.Artifact.Check(); err != nil {
		return nil, err
	}
	packed, err := s.sizes(c, want.Artifact)
	if err != nil {
		return nil, err
	}
	hosts, err := s.hosts(c, want.Artifact)
	if err != nil {
		return nil, err
	}
	ev, err := s.Control.Decide(c.Context(), c.Name, c.key, func(st *control.State) (control.Event, error) {
		return st.NewVersion(control.Draft{Hosts: hosts, Service: c.PathValue("name"), Comment: want.Comment, Artifact: want.Artifact, Packed: packed, Tenant: c.Tenant, At: s.Control.Now()})
	})
	if err != nil && err != control.ErrSame {
		return nil, err
	}
	// What nobody needed may have been dropped since it was looked for. From now on it is needed.
	if missing, err := s.notThere(c.Context(), want.Artifact.Digests()); err != nil || len(missing) > 0 {
		return nil, &wedge.Error{Op: "make version", What: c.PathValue("name"), Kind: wedge.Conflict, Err: errors.Join(err, fmt.Errorf("%d chunks are not here any more", len(missing))), Hint: "Deploy again."}
	}
	return s.about(c, func(svc *control.Service) any { return svc.Version(ev.Version) })
}

const maxComment = 1000

// see returns a copy of what f returns of the state, as JSON.
func (s *Server) see(f func(*control.State) any) (raw json.RawMessage) {
	s.Control.See(func(st *control.State) { raw, _ = json.Marshal(f(st)) }) // plain values only
	return raw
}

func (s *Server) services(c *call) (any, error) {
	return s.see(func(st *control.State) any {
		list := []*control.Service{}
		for _, name := range st.Names() {
			if svc := st.Services[name]; c.Sees(svc.Tenant) {
				list = append(list, svc)
			}
		}
		return list
	}), nil
}

// about returns something of the service that the request names.
func (s *Server) about(c *call, f func(*control.Service) any) (any, error) {
	found := false
	raw := s.see(func(st *control.State) any {
		svc := st.Services[c.PathValue("name")]
		if found = svc != nil; !found {
			return nil
		}
		return f(svc)
	})
	if !found {
		return nil, noService(c.PathValue("name"))
	}
	return raw, nil
}

func (s *Server) service(c *call) (any, error) {
	return s.about(c, func(svc *control.Service) any { return svc })
}

func (s *Server) removeService(c *call) (any, error) {
	force, err := strconv.ParseBool(cmp.Or(c.URL.Query().Get("force"), "false"))
	if err != nil {
		return nil, &wedge.Error{Op: "remove service", What: c.PathValue("name"), Kind: wedge.Invalid, Err: errors.New("force is neither true nor false"), Hint: "See /v1/openapi.json."}
	}
	_, err = s.Control.Decide(c.Context(), c.Name, c.key, func(st *control.State) (control.Event, error) {
		return st.NewRemoval(c.PathValue("name"), c.Tenant, force)
	})
	return struct{}{}, err
}

func (s *Server) removeVersion(c *call) (any, error) {
	number, err := strconv.Atoi(c.PathValue("version"))
	if err != nil {
		return nil, &wedge.Error{Op: "remove version of", What: c.PathValue("name"), Kind: wedge.Invalid, Err: fmt.Errorf("%.70q is not a version", c.PathValue("version")), Hint: "Give its number."}
	}
	_, err = s.Control.Decide(c.Context(), c.Name, c.key, func(st *control.State) (control.Event, error) { return st.NewForget(c.PathValue("name"), number) })
	return struct{}{}, err
}

func (s *Server) versions(c *call) (any, error) {
	return s.about(c, func(svc *control.Service) any {
		list := make([]control.Version, len(svc.Versions))
		for i, v := range svc.Versions {
			list[i] = *v
			list[i].Forgotten = !svc.Keeps(v.Number)
		}
		return list
	})
}

func (s *Server) releases(c *call) (any, error) {
	return s.about(c, func(svc *control.Service) any {
		if svc.Releases == nil {
			return []struct{}{}
		}
		return svc.Releases
	})
}

// Pick names a version, and for a release the plan; for a rollback 0 is the version before.
type Pick struct {
	Version int `json:"version"`
	control.Plan
}

func (s *Server) release(c *call) (any, error) {
	return s.pick(c, func(st *control.State, p Pick) (control.Event, error) {
		return st.NewRelease(c.PathValue("name"), p.Version, p.Plan)
	})
}

// Event is what became of a message that purges.
type Event struct {
	Status string `json:"status"`
	ID     string `json:"id"` // of the purge
}

func (s *Server) event(c *call) (any, error) {
	if s.Event == nil {
		return nil, &wedge.Error{Op: "send event", Kind: wedge.Unsupported, Err: errors.New("this core has no PoPs")}
	}
	b, err := io.ReadAll(io.LimitReader(c.Body, maxEvent+1))
	if err != nil || len(b) > maxEvent {
		return nil, &wedge.Error{Op: "send event", Kind: wedge.Invalid, Err: fmt.Errorf("a message has at most %d bytes", maxEvent)}
	}
	return s.Event(c.Context(), c.PathValue("name"), b)
}

// maxEvent is what the bus takes.
const maxEvent = 500 << 10

func (s *Server) promote(c *call) (any, error) {
	return s.decided(c, func(st *control.State) (control.Event, error) { return st.NewPromotion(c.PathValue("name")) })
}

func (s *Server) rollback(c *call) (any, error) {
	return s.pick(c, func(st *control.State, p Pick) (control.Event, error) {
		return st.NewRollback(c.PathValue("name"), p.Version)
	})
}

// pick decides on a version, and answers with the release that came of it.
func (s *Server) pick(c *call, decide func(*control.State, Pick) (control.Event, error)) (any, error) {
	var p Pick
	if err := c.read(&p); err != nil {
		return nil, err
	}
	return s.decided(c, func(st *control.State) (control.Event, error) { return decide(st, p) })
}

// decided decides about a release, and answers with it.
func (s *Server) decided(c *call, decide func(*control.State) (control.Event, error)) (any, error) {
	if _, err := s.Control.Decide(c.Context(), c.Name, c.key, decide); err != nil {
		return nil, err
	}
	return s.about(c, func(svc *control.Service) any {
		if len(svc.Releases) == 0 { // it was decided about one that was removed since
			return control.Release{}
		}
		return svc.Releases[len(svc.Releases)-1]
	})
}

func (s *Server) sealingKey(*call) (any, error) {
	if s.SealingKey == nil {
		return nil, &wedge.Error{Op: "give sealing key", Kind: wedge.Unsupported, Err: errors.New("this core has none")}
	}
	return s.SealingKey()
}

func (s *Server) pops(c *call) (any, error) {
	list := s.PoPs()
	if list == nil {
		list = []wedge.PoP{}
	}
	for i := range list {
		if p := &list[i]; c.Tenant != "" { // how PoPs reach each other is the operators'
			p.Peer, p.Print, p.Signs, p.Purged = "", "", "", 0
		}
	}
	return list, nil
}

func (s *Server) audit(c *call) (any, error) {
	n, err := strconv.Atoi(c.URL.Query().Get("last"))
	if err != nil || n < 1 || n > 1000 {
		n = 100
	}
	return s.see(func(st *control.State) any {
		list := []control.Event{}
		for i := len(st.Audit) - 1; i >= 0 && len(list) < n; i-- {
			if e := st.Audit[i]; c.Sees(st.Of(&e)) {
				list = append(list, e)
			}
		}
		slices.Reverse(list)
		return list
	}), nil
}

func (s *Server) tokens(c *call) (any, error) {
	return s.see(func(st *control.State) any {
		list := []*control.Token{}
		for _, t := range st.Tokens {
			if c.Sees(t.Tenant) {
				list = append(list, t)
			}
		}
		slices.SortFunc(list, func(a, b *control.Token) int { return strings.Compare(a.Name, b.Name) })
		return list
	}), nil
}

// NewToken asks for a token.
type NewToken struct {
	Name   string   `json:"name"`
	Scopes []string `json:"scopes"`
	Tenant string   `json:"tenant,omitempty"` // whose it is; "": as the token that asks
}

// Secret is a token's secret, which is told once.
type Secret struct {
	Name   string `json:"name"`
	Secret string `json:"secret"`
}

func (s *Server) newToken(c *call) (any, error) {
	var want NewToken
	if err := c.read(&want); err != nil {
		return nil, err
	}
	secret, ev, err := control.NewToken(want.Name, want.Scopes)
	if err != nil {
		return nil, err
	}
	_, err = s.Control.Decide(c.Context(), c.Name, "", func(st *control.State) (control.Event, error) {
		return st.NewToken(ev, want.Tenant, c.Tenant)
	})
	return Secret{want.Name, secret}, err
}

func (s *Server) revoke(c *call) (any, error) {
	_, err := s.Control.Decide(c.Context(), c.Name, c.key, func(st *control.State) (control.Event, error) {
		return st.Revoke(c.PathValue("token"), c.Tenant)
	})
	return struct{}{}, err
}

// NewPoP names a PoP.
type NewPoP struct {
	Name          string   `json:"name"`
	Jurisdictions []string `json:"jurisdictions,omitempty"` // that it may carry
}

func (s *Server) addPoP(c *call) (any, error) {
	var want NewPoP
	if err := c.read(&want); err != nil {
		return nil, err
	}
	secret := control.NewJoinSecret()
	_, err := s.Control.Decide(c.Context(), c.Name, "", func(st *control.State) (control.Event, error) {
		return st.NewMember(want.Name, secret, want.Jurisdictions)
	})
	return Secret{want.Name, secret}, err
}

func (s *Server) removePoP(c *call) (any, error) {
	_, err := s.Control.Decide(c.Context(), c.Name, c.key, func(st *control.State) (control.Event, error) { return st.Expel(c.PathValue("pop")) })
	return struct{}{}, err
}

// Join is what a PoP says that wants to be a member.
type Join struct {
	Name   string `json:"name"`
	Secret string `json:"secret"`
	Public string `json:"public"` // half of a key pair that it has made
}

// Joined is what a member needs.
type Joined struct {
	Pass  string   `json:"pass,omitempty"`
	URLs  []string `json:"urls"`            // of the core's servers, for its link
	Print string   `json:"print,omitempty"` // SHA-256 of their certificate, in hex; "": they are known as others are
}

func (s *Server) join(c *call) (any, error) {
	var want Join
	if err := c.read(&want); err != nil {
		return nil, err
	}
	if s.Sign == nil {
		return nil, &wedge.Error{Op: "join", What: want.Name, Kind: wedge.Unsupported, Err: errors.New("this core has no address for PoPs"), Hint: "Give it one: [core] listen in its node file."}
	}
	answer, err := s.Sign(want.Name, want.Public)
	if err != nil {
		return nil, err
	}
	joined := false
	_, err = s.Control.Decide(c.Context(), want.Name, "", func(st *control.State) (ev control.Event, err error) {
		if ev, joined, err = st.Join(want.Name, want.Secret, want.Public); joined {
			err = errJoined
		}
		return ev, err
	})
	if err != nil && !joined {
		return nil, err
	}
	return answer, nil
}

var errJoined = errors.New("it has joined")
