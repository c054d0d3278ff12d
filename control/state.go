package control

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/wedge-cloud/wedge"
)

// An Event is one thing that was decided: an item of the catalog, which is a log. Fields that its kind does not
// need are empty.
type Event struct {
	Kind string    `json:"kind"`
	At   time.Time `json:"at"`
	By   string    `json:"by"`            // whose token it was
	Key  string    `json:"key,omitempty"` // of the request: one that is repeated decides nothing anew

	// Needs is the least Format that a reader must know. Who adds a field without which an event is misunderstood raises
	// Format, and writes the new one here when the field is set. Other new fields may be overlooked.
	Needs int `json:"needs,omitempty"`

	Service  string    `json:"service,omitempty"`
	Version  int       `json:"version,omitempty"`
	Artifact *Artifact `json:"artifact,omitempty"`
	Comment  string    `json:"comment,omitempty"`

	Release int      `json:"release,omitempty"`
	Plan    *Plan    `json:"plan,omitempty"`  // release
	PoPs    []string `json:"pops,omitempty"`  // stage: those that join
	Share   float64  `json:"share,omitempty"` // stage: of requests, in percent, if that changes
	Why     string   `json:"why,omitempty"`   // stage, abort, hold: in a sentence

	PoP    string `json:"pop,omitempty"`    // pop, join, expel
	Public string `json:"public,omitempty"` // join: its public key

	Jurisdictions []string `json:"jurisdictions,omitempty"` // pop: that it may carry

	Tenant string   `json:"tenant,omitempty"` // tenant, quota; token, revoke: whose it is; version: whose the service is, if it is the first and not the default tenant's
	Quota  *Quota   `json:"quota,omitempty"`  // tenant, quota
	Hosts  []string `json:"hosts,omitempty"`  // version: that it answers for, if it names any
	Packed []int64  `json:"packed,omitempty"` // version: sizes of its chunks, compressed, in the order of Artifact.Digests

	Token  string   `json:"token,omitempty"` // its name
	Hash   string   `json:"hash,omitempty"`  // of its secret
	Scopes []string `json:"scopes,omitempty"`
}

// Kinds of events.
const (
	EventVersion = "version" // a version was made
	EventRelease = "release" // it is to be live; a rollout begins
	EventStage   = "stage"   // more PoPs run it
	EventHold    = "hold"    // it has got as far as its plan says, and waits to be promoted
	EventPromote = "promote" // it is to go on, to all
	EventDone    = "done"    // all run it
	EventAbort   = "abort"   // the rollout has ended: all run what they ran before
	EventSwitch  = "switch"  // all run a version at once, as in a rollback
	EventToken   = "token"   // a token was made
	EventRevoke  = "revoke"  // a token is of no use any more
	EventPoP     = "pop"     // a PoP may join, once, with a secret
	EventJoin    = "join"    // it has
	EventExpel   = "expel"   // it is no member any more
	EventTenant  = "tenant"  // there is a tenant
	EventQuota   = "quota"   // what it may use is another
	EventRemove  = "remove"  // there is a service no more
	EventForget  = "forget"  // a version is forgotten, whichever there are besides
)

// Version is one version of a service, as the catalog knows it.
type Version struct {
	Number   int       `json:"number"`
	Digest   Digest    `json:"digest"`
	Bytes    int64     `json:"bytes"`
	Comment  string    `json:"comment,omitempty"`
	By       string    `json:"by"`
	At       time.Time `json:"at"`
	Hosts    []string  `json:"hosts,omitempty"` // that it answers for, if it names any; versions from before that was read have none
	Artifact *Artifact `json:"-"`

	packed []int64 // sizes of its chunks, compressed; none: nobody knows

	Forgotten bool `json:"forgotten,omitempty"` // it cannot be released again: by order, or, as only answers of the API say, since there are newer ones
}

// Release is the decision that a version should be live, and what has become of it.
type Release struct {
	ID       int     `json:"id"` // in its service
	Version  int     `json:"version"`
	Previous int     `json:"previous"` // 0: none
	State    string  `json:"state"`    // running, holding, done, aborted
	Stages   int     `json:"stages"`   // begun
	Share    float64 `json:"share"`    // of requests at PoPs that run it, in percent
	Plan
	PoPs    []string  `json:"pops,omitempty"`
	Why     string    `json:"why,omitempty"`
	By      string    `json:"by"`
	At      time.Time `json:"at"`
	StageAt time.Time `json:"stage_at,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`

	reached map[string]bool
}

// States of a release.
const (
	Running = "running"
	Holding = "holding" // until it is promoted, or rolled back
	Done    = "done"
	Aborted = "aborted"
)

// Service is a service as the catalog knows it.
type Service struct {
	Name     string     `json:"name"`
	Tenant   string     `json:"tenant"` // whose it is, for good
	Live     int        `json:"live"`   // the version that all run, but for PoPs that a rollout has reached; 0: none
	Versions []*Version `json:"-"`
	Releases []*Release `json:"-"`

	Earlier int `json:"-"` // versions of services of this name that were removed: the first of this one has the next number
}

// Version returns the one with that number, or nil.
func (s *Service) Version(n int) *Version {
	if i := n - s.Earlier - 1; i >= 0 && i < len(s.Versions) {
		return s.Versions[i]
	}
	return nil
}

// newest returns the number of the newest version.
func (s *Service) newest() int { return s.Earlier + len(s.Versions) }

// KeptVersions is how many of a service's newest versions are kept. Older ones are forgotten: nobody keeps what they are made of, and they
// cannot be released again.
const KeptVersions = 10

// Keeps reports whether a version is kept: it is new enough, or may run, or is the one to go back to. A version that is not will not be again.
func (s *Service) Keeps(n int) bool {
	v := s.Version(n)
	if v == nil || v.Forgotten {
		return false
	}
	if n > s.newest()-KeptVersions || n == s.Live {
		return true
	}
	if len(s.Releases) == 0 {
		return false
	}
	r := s.Releases[len(s.Releases)-1]
	return n == r.Previous || n == r.Version && (r.State == Running || r.State == Holding)
}

// Kept returns the versions that are kept, of all services.
func (s *State) Kept() (list []*Version) {
	for _, svc := range s.Services {
		for _, v := range svc.Versions {
			if svc.Keeps(v.Number) {
				list = append(list, v)
			}
		}
	}
	return list
}

// Needed returns the digests of all that versions are made of.
func Needed(versions []*Version) map[Digest]bool {
	all := map[Digest]bool{}
	for _, v := range versions {
		for _, d := range v.Artifact.Digests() {
			all[d] = true
		}
	}
	return all
}

// Rolling returns the release whose rollout is under way, or holds, or nil.
func (s *Service) Rolling() *Release {
	if n := len(s.Releases); n > 0 && (s.Releases[n-1].State == Running || s.Releases[n-1].State == Holding) {
		return s.Releases[n-1]
	}
	return nil
}

// At returns the version that a PoP is to run, nil for none, and beside it a candidate for some requests, with the release
// that says for which, or nil.
func (s *Service) At(pop string) (v, candidate *Version, r *Release) {
	v = s.Version(s.Live)
	switch r := s.Rolling(); {
	case r == nil || !r.reached[pop]:
	case r.Share == 100:
		return s.Version(r.Version), nil, nil
	default:
		return v, s.Version(r.Version), r
	}
	return v, nil, nil
}

// Before returns the versions that all ran, the latest first, each once, without the one that is given and those forgotten by order.
func (s *Service) Before(version int) (list []*Version) {
	seen := map[int]bool{version: true}
	add := func(n int) {
		if v := s.Version(n); v != nil && !v.Forgotten && !seen[n] {
			seen[n] = true
			list = append(list, v)
		}
	}
	add(s.Live)
	for i := len(s.Releases) - 1; i >= 0; i-- {
		add(s.Releases[i].Previous)
	}
	return list
}

// Token lets its holder use the control API.
type Token struct {
	Name   string    `json:"name"`
	Hash   string    `json:"-"`
	Scopes []string  `json:"scopes"`
	Tenant string    `json:"tenant,omitempty"` // it is good for what is this tenant's; "": for all that is the fleet's
	By     string    `json:"by"`
	At     time.Time `json:"at"`
}

// Member is a PoP that may join, or has.
type Member struct {
	Name   string    `json:"name"`
	Public string    `json:"public,omitempty"` // "": it has not joined yet
	By     string    `json:"by"`
	At     time.Time `json:"at"`

	Jurisdictions []string `json:"jurisdictions,omitempty"` // that it may carry

	hash string // of the secret with which it may join
}

// State is what all events so far come to. It is not safe for concurrent use.
type State struct {
	Seq      uint64 // of the last entry
	Services map[string]*Service
	Removed  map[string]Removed // services that were removed, by name, and not made anew
	Gone     int                // versions that went by order, and not because there are newer ones
	Tenants  map[string]*Tenant
	Tokens   map[string]*Token  // by name
	Members  map[string]*Member // PoPs, by name
	Expelled []string           // public keys of PoPs that are members no more
	Out      map[string]bool    // the names of those that have not joined again
	Audit    []Event            // the latest
	keys     map[string]Event   // the latest requests' keys
	order    []string           // of keys
}

// NewState returns the state before all events.
func NewState() *State {
	return &State{Services: map[string]*Service{}, Removed: map[string]Removed{}, Tenants: map[string]*Tenant{DefaultTenant: {Name: DefaultTenant}}, Tokens: map[string]*Token{}, Members: map[string]*Member{}, Out: map[string]bool{}, keys: map[string]Event{}}
}

// What is remembered besides services.
const (
	maxAudit = 10_000
	maxKeys  = 10_000
)

// Apply folds an event in. One that does not follow from what was before is an error, and changes nothing.
func (s *State) Apply(e Event) error {
	if err := s.apply(e); err != nil {
		return fmt.Errorf("%s of %s: %w", e.Kind, cmp.Or(e.Service, e.Token, e.PoP, e.Tenant), err)
	}
	e.Artifact, e.Packed, e.Hosts = nil, nil, nil
	if s.Audit = append(s.Audit, e); len(s.Audit) > 2*maxAudit {
		s.Audit = slices.Clone(s.Audit[maxAudit:])
	}
	if e.Key != "" {
		s.keys[e.Key] = e
		if s.order = append(s.order, e.Key); len(s.order) > maxKeys {
			delete(s.keys, s.order[0])
			s.order = s.order[1:]
		}
	}
	return nil
}

var errOutOfOrder = errors.New("it does not follow from what was before")

func (s *State) apply(e Event) error {
	svc := s.Services[e.Service]
	switch e.Kind {
	case EventVersion:
		return s.applyVersion(svc, e)
	case EventTenant, EventQuota:
		return s.applyTenant(e)
	case EventToken:
		if e.Tenant != "" && s.Tenants[e.Tenant] == nil {
			return errOutOfOrder
		}
		s.Tokens[e.Token] = &Token{Name: e.Token, Hash: e.Hash, Scopes: e.Scopes, Tenant: e.Tenant, By: e.By, At: e.At}
		return nil
	case EventRevoke:
		delete(s.Tokens, e.Token)
		return nil
	case EventPoP, EventJoin, EventExpel:
		return s.applyMember(e)
	}
	if svc == nil {
		return errOutOfOrder
	}
	r := svc.Rolling()
	switch e.Kind {
	case EventRemove:
		s.applyRemoval(svc, e)
		return nil
	case EventForget:
		return s.applyForget(svc, e.Version)
	case EventRelease, EventSwitch:
		if r != nil && e.Kind == EventRelease || svc.Version(e.Version) == nil {
			return errOutOfOrder
		}
		if r != nil {
			r.State, r.Why, r.Ended = Aborted, e.Why, e.At
		}
		next := &Release{ID: len(svc.Releases) + 1, Version: e.Version, Previous: svc.Live, State: Running, By: e.By, At: e.At, Why: e.Why, Share: 100, reached: map[string]bool{}}
		if e.Plan != nil {
			next.Plan = *e.Plan
		}
		if next.splits() {
			next.Share = 0
		}
		svc.Releases = append(svc.Releases, next)
		if e.Kind == EventSwitch {
			next.State, next.Ended, svc.Live = Done, e.At, e.Version
		}
		return nil
	}
	if r == nil || r.ID != e.Release {
		return errOutOfOrder
	}
	switch e.Kind {
	case EventStage:
		r.Stages++
		r.StageAt, r.Why = e.At, e.Why
		if e.Share > 0 && e.Share <= 100 {
			r.Share = e.Share
		}
		for _, p := range e.PoPs {
			if !r.reached[p] {
				r.reached[p] = true
				r.PoPs = append(r.PoPs, p)
			}
		}
	case EventHold:
		r.State, r.Why = Holding, e.Why
	case EventPromote:
		if r.State != Holding {
			return errOutOfOrder
		}
		r.State, r.Why, r.Share, r.StageAt = Running, e.Why, 100, e.At
		r.Where, r.Shares, r.Match, r.Shadow = nil, nil, "", 0
	case EventDone:
		r.State, r.Ended, r.Why, svc.Live = Done, e.At, e.Why, r.Version
	case EventAbort:
		r.State, r.Ended, r.Why = Aborted, e.At, e.Why
	}
	return nil
}

// Format is what this Wedge understands of the catalog.
const Format = 3

// needsTenants is the Format that knows whose services and tokens are. Who did not would let a tenant's token do everything.
const needsTenants = 2

var kinds = []string{EventVersion, EventRelease, EventStage, EventHold, EventPromote, EventDone, EventAbort, EventSwitch, EventToken, EventRevoke, EventPoP, EventJoin, EventExpel, EventTenant, EventQuota, EventRemove, EventForget}

// understood finds out whether this Wedge knows what an event means.
func (e *Event) understood() error {
	why := fmt.Errorf("it needs format %d, this Wedge knows %d", e.Needs, Format)
	if e.Needs <= Format {
		if slices.Contains(kinds, e.Kind) {
			return nil
		}
		why = fmt.Errorf("%q is no kind of event that this Wedge knows", e.Kind)
	}
	return &wedge.Error{Op: "read catalog", Kind: wedge.Unsupported, Err: why, Hint: "It was written by a newer Wedge: upgrade this node, which goes on from there."}
}

func (s *State) applyMember(e Event) error {
	m := s.Members[e.PoP]
	switch {
	case e.Kind == EventPoP && m == nil:
		s.Members[e.PoP] = &Member{Name: e.PoP, By: e.By, At: e.At, Jurisdictions: e.Jurisdictions, hash: e.Hash}
	case e.Kind == EventJoin && m != nil && m.Public == "":
		m.Public, m.hash = e.Public, ""
		delete(s.Out, e.PoP)
	case e.Kind == EventExpel && m != nil:
		if m.Public != "" {
			s.Expelled = append(s.Expelled, m.Public)
			s.Out[e.PoP] = true
		}
		delete(s.Members, e.PoP)
	default:
		return errOutOfOrder
	}
	return nil
}

func (s *State) applyVersion(svc *Service, e Event) error {
	tenant := cmp.Or(e.Tenant, DefaultTenant)
	if svc == nil {
		was := s.Removed[e.Service]
		svc = &Service{Name: e.Service, Tenant: cmp.Or(was.Tenant, tenant), Earlier: was.Versions}
	}
	t := s.Tenants[svc.Tenant]
	if t == nil || e.Tenant != "" && svc.Tenant != tenant {
		return errOutOfOrder
	}
	if e.Version != svc.newest()+1 || e.Artifact == nil || e.Artifact.Check() != nil {
		return errOutOfOrder
	}
	svc.Versions = append(svc.Versions, &Version{Number: e.Version, Digest: e.Artifact.Digest(), Bytes: e.Artifact.Size(),
		Comment: e.Comment, By: e.By, At: e.At, Artifact: e.Artifact, Hosts: e.Hosts, packed: e.Packed})
	s.Services[e.Service] = svc
	delete(s.Removed, e.Service)
	t.made(e.At)
	return nil
}

// Names returns the services' names in order.
func (s *State) Names() []string { return slices.Sorted(maps.Keys(s.Services)) }

var serviceName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// ErrSame is how a version is not made that would be the same as the newest.
var ErrSame = errors.New("it is the same as the newest version")

// Draft is what a version is to be made of.
type Draft struct {
	Service, Comment string
	Artifact         *Artifact
	Hosts            []string  // that Artifact.Hosts has read off it
	Packed           []int64   // sizes of its chunks, compressed, in the order of Artifact.Digests
	Tenant           string    // who makes it; "": whose the service is, or the default tenant
	At               time.Time // now
}

// NewVersion decides on a new version of a service. If the newest one is the same, that is the event's, with ErrSame: whoever deploys
// again because the first time failed halfway goes on from there.
func (s *State) NewVersion(d Draft) (Event, error) {
	if !serviceName.MatchString(d.Service) {
		return Event{}, &wedge.Error{Op: "make version", What: fmt.Sprintf("%.70q", d.Service), Kind: wedge.Invalid, Err: errors.New("not a name for a service"), Hint: "Use up to 63 lower-case letters, digits and dashes."}
	}
	if err := d.Artifact.Check(); err != nil {
		return Event{}, err
	}
	owner := s.owner(d.Service)
	n, tenant := s.Removed[d.Service].Versions+1, cmp.Or(d.Tenant, owner, DefaultTenant)
	if owner != "" && tenant != owner {
		return Event{}, &wedge.Error{Op: "make version", What: d.Service, Kind: wedge.Exist, Err: errors.New("the name is taken"), Hint: "Choose another: names of services are the whole fleet's."}
	}
	if svc := s.Services[d.Service]; svc != nil {
		n = svc.newest() + 1
		if newest := svc.Version(n - 1); newest != nil && !newest.Forgotten && newest.Digest == d.Artifact.Digest() {
			return Event{Kind: EventVersion, Service: d.Service, Version: newest.Number}, ErrSame
		}
	}
	if err := s.allows(tenant, &d); err != nil {
		return Event{}, err
	}
	ev := Event{Kind: EventVersion, Service: d.Service, Version: n, Artifact: d.Artifact, Comment: d.Comment, Hosts: d.Hosts, Packed: d.Packed}
	if tenant != DefaultTenant {
		ev.Tenant, ev.Needs = tenant, needsTenants
	}
	return ev, nil
}

func (s *State) find(op, service string, version int) (*Service, error) {
	svc := s.Services[service]
	if svc == nil {
		return nil, &wedge.Error{Op: op, What: service, Kind: wedge.NotExist, Err: errors.New("there is no such service"), Hint: "See them with: wedge services"}
	}
	if version != 0 && svc.Version(version) == nil {
		return nil, &wedge.Error{Op: op, What: service, Kind: wedge.NotExist, Err: fmt.Errorf("it has no version %d", version), Hint: "See them with: wedge versions " + service}
	}
	if version != 0 && !svc.Keeps(version) {
		hint := fmt.Sprintf("The newest %d versions are kept, and those that run. Deploy it anew from its source.", KeptVersions)
		if svc.Version(version).Forgotten {
			hint = "Somebody has removed it; who did is told by: wedge audit"
		}
		return nil, &wedge.Error{Op: op, What: service, Kind: wedge.NotExist, Err: fmt.Errorf("version %d was forgotten", version), Hint: hint}
	}
	return svc, nil
}

// NewRelease decides that a version is to be live, by a rollout.
func (s *State) NewRelease(service string, version int, plan Plan) (Event, error) {
	svc, err := s.find("release", service, version)
	if err == nil && version == 0 {
		err = &wedge.Error{Op: "release", What: service, Kind: wedge.Invalid, Err: errors.New("it says no version"), Hint: "See them with: wedge versions " + service}
	}
	if err != nil {
		return Event{}, err
	}
	if r := svc.Rolling(); r != nil {
		return Event{}, &wedge.Error{Op: "release", What: service, Kind: wedge.Conflict, Err: fmt.Errorf("version %d is being rolled out", r.Version),
			Hint: "Wait for it, promote it if it holds, or end it with: wedge rollback " + service}
	}
	if svc.Live == version {
		return Event{}, &wedge.Error{Op: "release", What: service, Kind: wedge.Exist, Err: fmt.Errorf("version %d is live", version)}
	}
	if err := plan.check(service); err != nil {
		return Event{}, err
	}
	if plan.splits() && svc.Live == 0 {
		return Event{}, &wedge.Error{Op: "release", What: service, Kind: wedge.Conflict, Err: errors.New("no version is live that could answer the other requests"), Hint: "Release one to all first."}
	}
	if err := s.hostsFree("release", svc, svc.Version(version).Hosts); err != nil {
		return Event{}, err
	}
	return Event{Kind: EventRelease, Service: service, Version: version, Plan: &plan}, nil
}

// NewPromotion decides that a release that holds is to go on to all.
func (s *State) NewPromotion(service string) (Event, error) {
	svc, err := s.find("promote", service, 0)
	if err != nil {
		return Event{}, err
	}
	r := svc.Rolling()
	if r == nil || r.State != Holding {
		return Event{}, &wedge.Error{Op: "promote", What: service, Kind: wedge.Conflict, Err: errors.New("no release of it is holding"), Hint: "See them with: wedge releases " + service}
	}
	return Event{Kind: EventPromote, Service: service, Version: r.Version, Release: r.ID, Why: "it was promoted"}, nil
}

// NewRollback decides that all run another version at once: one that is given, or else what they ran before the last
// release.
func (s *State) NewRollback(service string, version int) (Event, error) {
	svc, err := s.find("roll back", service, version)
	if err != nil {
		return Event{}, err
	}
	r := svc.Rolling()
	if version == 0 && r != nil {
		return Event{Kind: EventAbort, Service: service, Release: r.ID, Why: "it was rolled back"}, nil
	}
	if version == 0 && len(svc.Releases) > 0 {
		version = svc.Releases[len(svc.Releases)-1].Previous
	}
	if !svc.Keeps(version) {
		return Event{}, &wedge.Error{Op: "roll back", What: service, Kind: wedge.Conflict, Err: errors.New("there is nothing to go back to"), Hint: "Name a version; see them with: wedge versions " + service}
	}
	if err := s.hostsFree("roll back", svc, svc.Version(version).Hosts); err != nil {
		return Event{}, err
	}
	return Event{Kind: EventSwitch, Service: service, Version: version, Why: fmt.Sprintf("rolled back to version %d", version)}, nil
}
